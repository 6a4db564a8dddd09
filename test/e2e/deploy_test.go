package e2e

import (
	order "cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ovation-project/ovation/deploy/journal"
	"github.com/ovation-project/ovation/deploy/lifecycle"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/libvirt"
	"github.com/ovation-project/ovation/internal/jsonschema"
	"github.com/ovation-project/ovation/internal/testenv"
	"github.com/ovation-project/ovation/internal/testlibvirt"
	"github.com/ovation-project/ovation/test/appliance"
)

// libvirtHost is a host of the test's own.
type libvirtHost struct {
	t *testing.T
	*testlibvirt.Daemon
	host hypervisor.Host
}

func startLibvirt(t *testing.T) *libvirtHost {
	t.Helper()
	d := testlibvirt.Start(t, testlibvirt.Options{})
	h, err := libvirt.Open(t.Context(), d.URI, libvirt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return &libvirtHost{t, d, h}
}

// names are all that the host has: its machines and the files in its pool.
func (h *libvirtHost) names() []string {
	h.t.Helper()
	names := filesBelow(h.t, h.PoolDir)
	all, err := h.host.List(h.t.Context(), true)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, m := range all {
		names = append(names, "machine "+m.Name)
	}
	slices.Sort(names)
	return names
}

// planned is what a dry run says as JSON.
func (u *user) planned(args ...string) *plan.Plan {
	u.t.Helper()
	r := u.succeed(append([]string{"deploy", "--dry-run", "--json"}, args...)...)
	p := &plan.Plan{}
	d := json.NewDecoder(strings.NewReader(r.stdout))
	d.DisallowUnknownFields()
	if err := d.Decode(p); err != nil {
		u.t.Fatalf("%v\n%s", err, r.stdout)
	}
	if err := p.Check(); err != nil {
		u.t.Error(err)
	}
	if err := jsonschema.Check(read(u.t, "../../docs/plan.schema.json"), []byte(r.stdout)); err != nil {
		u.t.Errorf("the plan is not what its schema says: %v\n%s", err, r.stdout)
	}
	return p
}

// validXML has libvirt's own schema look at a machine.
func (h *libvirtHost) validXML(machine string) {
	h.t.Helper()
	tool := testenv.NeedTool(h.t, "virt-xml-validate")
	path := filepath.Join(h.t.TempDir(), "domain.xml")
	write(h.t, path, h.Virsh(h.t, "dumpxml", "--inactive", machine))
	if out, err := exec.CommandContext(h.t.Context(), tool, path, "domain").CombinedOutput(); err != nil {
		h.t.Errorf("virt-xml-validate %s: %v\n%s", machine, err, out)
	}
}

// TestDeploy deploys to a libvirt host, over its socket and over TCP, looks at
// what is there, deploys again and removes it.
func TestDeploy(t *testing.T) {
	t.Parallel()
	testenv.NeedTool(t, "qemu-img")
	h := startLibvirt(t)
	p := build(t, appliance.Spec{Disks: []appliance.Disk{data(31, "ahci")}, NICs: []appliance.NIC{{Model: "VmxNet3", MAC: mac(31)}},
		Properties: []appliance.Property{{Key: "hostname", Value: "web1"}, {Key: "secret", Value: "hunter2", Password: true}}, CPUs: 2})
	for _, test := range []struct {
		name, uri, format string
		flags             []string
	}{
		{"socket", h.URI, "qcow2", nil},
		{"socket raw", h.URI, "raw", []string{"--disk-format", "raw"}},
		{"TCP", h.TCP, "raw", nil},
		{"TCP qcow2", h.TCP, "qcow2", []string{"--disk-format", "qcow2", "--disk-bus", "virtio", "--mac", "new"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			u := newUser(t)
			args := append([]string{p.OVA, "--to", test.uri, "--name", "web"}, test.flags...)
			want := u.planned(args...)
			if left := h.names(); len(left) > 0 {
				t.Fatalf("the dry run made %q", left)
			}
			r := u.succeed(append([]string{"deploy"}, args...)...)
			if strings.Contains(r.stdout+r.stderr, "hunter2") {
				t.Errorf("a password is in what is said:\n%s%s", r.stdout, r.stderr)
			}
			// What was made is what was shown.
			kept, err := h.host.Lookup(t.Context(), "web")
			if err != nil {
				t.Fatal(err)
			}
			id := kept.Record.Deployment
			u.applied(want, id)
			asPlanned(t, want, id, kept)
			var names []string
			for _, v := range want.Volumes {
				names = append(names, strings.ReplaceAll(v.Name, want.ID, id))
			}
			names = append(names, "machine web")
			slices.Sort(names)
			if d := cmp.Diff(names, h.names()); d != "" {
				t.Error("planned, made:", d)
			}
			for i, disk := range p.Disks {
				v := want.Volumes[i]
				if v.Format != test.format {
					t.Errorf("disk %d is planned as %s", i, v.Format)
				}
				path := filepath.Join(h.PoolDir, strings.ReplaceAll(v.Name, want.ID, id))
				qemuImg(t, "compare", "-f", v.Format, "-F", "raw", path, disk.Raw)
			}
			h.validXML("web")
			// Once more changes nothing.
			before := h.names()
			u.succeed(append([]string{"deploy"}, args...)...)
			if d := cmp.Diff(before, h.names()); d != "" {
				t.Error("deployed again:", d)
			}
			// Other choices are another deployment, and the name is taken.
			u.fail(exitFailed, []string{"web", "--name"}, append([]string{"deploy", "--memory", "300MiB"}, args...)...)
			if err := lifecycle.Remove(t.Context(), h.host, id, lifecycle.Options{}); err != nil {
				t.Fatal(err)
			}
			if left := h.names(); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
			u.onlyLeft()
		})
	}
}

// firmwareSpec is a machine with all that a host keeps something beside the
// machine for: the UEFI's variables, a TPM, logs of serial ports.
const firmwareSpec = `
version: 1
name: fw
disks: [{id: system, source: BOOT, format: streamOptimized}]
files: [{id: tools, source: TOOLS, name: tools.iso}]
machine:
  id: fw
  hardware:
    firmware: efi
    cpus: 1
    memory: 256MiB
    disks: [{disk: system, controller: sata}]
    cdroms: [{file: tools, controller: sata}]
    devices:
      - {type: other, subtypes: [vmware.vtpm], name: TPM}
      - {type: serial}
      - {type: serial}
      - {type: usb, subtypes: [vmware.usb.ehci]}
`

// TestDeployFirmware starts a machine with UEFI, a TPM, several serial ports and
// a CD, and removes it: nothing of it is left in any of the daemon's
// folders.
func TestDeployFirmware(t *testing.T) {
	t.Parallel()
	testenv.NeedTool(t, "swtpm")
	testenv.NeedTool(t, "xorriso")
	h := startLibvirt(t)
	boot := build(t, appliance.Spec{Boot: appliance.BootEFI, Firmware: "efi", Controller: "ahci"})
	u := newUser(t)
	tools := filepath.Join(t.TempDir(), "tools.iso")
	if out, err := exec.CommandContext(t.Context(), "xorriso", "-as", "mkisofs", "-quiet", "-o", tools, "-V", "TOOLS", boot.Descriptor).CombinedOutput(); err != nil {
		t.Fatalf("xorriso: %v\n%s", err, out)
	}
	spec := u.write("fw.yaml", []byte(strings.NewReplacer("BOOT", boot.Disks[0].Raw, "TOOLS", tools).Replace(firmwareSpec)))
	u.succeed("build", spec, "-o", "fw.ova")
	before := h.kept()
	u.planned("fw.ova", "--to", h.TCP)
	u.succeed("deploy", "fw.ova", "--to", h.TCP, "--start")
	h.validXML("fw")
	eventually(t, "the guest's end", func() bool { return u.ps("fw").Deployments[0].State == "off" })
	said := u.succeed("logs", "fw").stdout
	r, err := appliance.ParseReport(strings.NewReader(said))
	if err != nil {
		t.Fatalf("%v\n%s", err, tail(said))
	}
	if r.Firmware != "efi" || len(r.CDROMs) != 1 || len(r.Disks) != 1 || r.Disks[0].SHA256 != boot.Disks[0].SHA256 {
		t.Errorf("the guest found %+v", r)
	}
	u.fail(exitFailed, []string{"port 2"}, "logs", "fw", "--port", "3")
	if len(h.kept()) <= len(before) {
		t.Errorf("nothing was kept: %q", h.kept())
	}
	u.succeed("rm", "fw")
	if d := cmp.Diff(before, h.kept()); d != "" {
		t.Errorf("the daemon's folders had, have:\n%s", d)
	}
	if left := h.names(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// kept are the files and folders that the daemon keeps of its machines: without
// its own logs of them, and the authority that swtpm makes once for all TPMs.
func (h *libvirtHost) kept() []string {
	h.t.Helper()
	return slices.DeleteFunc(filesBelow(h.t, h.Dir), func(name string) bool {
		if name == "c/libvirt/qemu/swtpm" || strings.HasPrefix(name, "c/swtpm") || strings.HasPrefix(name, "c/var") {
			return true
		}
		return name == "log" || strings.HasPrefix(name, "run/") || strings.HasPrefix(name, "cache/") && !strings.Contains(name, "serial")
	})
}

// applied sees that the plan that was carried out is the one that was shown.
func (u *user) applied(shown *plan.Plan, id string) {
	u.t.Helper()
	store := journal.Store{Dir: filepath.Join(u.root, "home", ".local", "state", "ovation", "deployments")}
	state, err := store.Look(id)
	if err != nil {
		u.t.Fatal(err)
	}
	if !state.Complete || !state.Plan.Same(shown) {
		u.t.Errorf("another plan was carried out than was shown (complete: %v):\n%s", state.Complete, cmp.Diff(shown, state.Plan))
	}
}

// asPlanned compares the hardware of a machine as the host has it with the plan.
func asPlanned(t *testing.T, shown *plan.Plan, id string, kept *hypervisor.Kept) {
	t.Helper()
	want := shown.Machine(kept.Name)
	if want == nil {
		t.Fatalf("no machine %s was planned", kept.Name)
	}
	text, err := json.Marshal(want.Machine)
	if err != nil {
		t.Fatal(err)
	}
	var m hypervisor.Machine
	if err := json.Unmarshal([]byte(strings.ReplaceAll(string(text), shown.ID, id)), &m); err != nil {
		t.Fatal(err)
	}
	got := kept.Machine
	for k := range m.NICs {
		if m.NICs[k].MAC == "" {
			got.NICs[k].MAC = "" // the host's choice
		}
	}
	if d := cmp.Diff(unnamed(m), unnamed(got)); d != "" {
		t.Errorf("planned, made:\n%s", d)
	}
	if len(kept.Unsaid) > 0 {
		t.Errorf("it has what was not planned: %q", kept.Unsaid)
	}
}

// unnamed is a machine without what hosts do not keep: the plan's own names of
// parts, the descriptor's of networks and disks, and why something was chosen.
// Parts are named by their places.
func unnamed(m hypervisor.Machine) hypervisor.Machine {
	m.UUID, m.OS, m.Firmware.Reason = "", "", ""
	m.CPU.CoresPerSocket = max(1, m.CPU.CoresPerSocket)
	m.Display = order.Or(m.Display, "vga")
	controllers := map[string]string{}
	m.Controllers, m.Drives = slices.Clone(m.Controllers), slices.Clone(m.Drives)
	m.NICs, m.Serials = slices.Clone(m.NICs), slices.Clone(m.Serials)
	for i := range m.Controllers {
		c := &m.Controllers[i]
		name := fmt.Sprint(c.Model, c.Index)
		controllers[c.ID], c.ID = name, name
	}
	slices.SortFunc(m.Controllers, func(a, b hypervisor.Controller) int { return strings.Compare(a.ID, b.ID) })
	for i := range m.Drives {
		d := &m.Drives[i]
		d.ID, d.DiskID, d.Capacity, d.Stored, d.Controller = "", "", 0, 0, controllers[d.Controller]
	}
	slices.SortFunc(m.Drives, func(a, b hypervisor.Drive) int {
		return order.Or(strings.Compare(a.Controller, b.Controller), order.Compare(a.Unit, b.Unit))
	})
	for i := range m.NICs {
		m.NICs[i].ID, m.NICs[i].Network = "", ""
	}
	for i := range m.Serials {
		m.Serials[i].ID = ""
	}
	return m
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
