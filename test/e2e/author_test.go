package e2e

import (
	"crypto/sha256"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	pkg "github.com/ovation-project/ovation/appliance"
	author "github.com/ovation-project/ovation/author/build"
	"github.com/ovation-project/ovation/author/descriptor"
	"github.com/ovation-project/ovation/author/diff"
	"github.com/ovation-project/ovation/author/pack"
	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/internal/testenv"
	"github.com/ovation-project/ovation/ovf"
	"github.com/ovation-project/ovation/test/appliance"
)

// TestAuthored builds a package from disks, and boots it, and what other
// consumers and the way over a specification make of it: the guest is to find
// the same machine each time.
func TestAuthored(t *testing.T) {
	t.Parallel()
	testenv.NeedTool(t, "qemu-system-x86_64")
	testenv.NeedTool(t, "qemu-img")
	machine := appliance.Spec{Name: "authored", Boot: appliance.BootBIOS, Controller: "ahci", CPUs: 2, MemoryMiB: 320,
		Disks: []appliance.Disk{{Size: 4 << 20, Seed: 31, Controller: "lsilogic"}}, NICs: []appliance.NIC{{Model: "E1000", MAC: mac(31)}}, CDROM: true}
	p := build(t, machine)
	u := newUser(t)
	u.write("appliance.yaml", fmt.Appendf(nil, `
name: authored
networks: [VM Network]
disks:
  - {id: boot, source: %q}
  - {id: data, source: data.qcow2}
machine:
  id: authored
  hardware:
    cpus: 2
    memory: 320MiB
    disks: [{disk: boot, controller: sata}, {disk: data, controller: scsi}]
    cdroms: [{controller: ide}]
    cards: [{network: VM Network, model: E1000, mac: %q}]
`, p.Disks[0].Raw, mac(31)))
	qemuImg(t, "convert", "-O", "qcow2", p.Disks[1].Raw, filepath.Join(u.work, "data.qcow2"))

	u.succeed("build")
	u.succeed("lint", "authored.ova")
	u.succeed("verify", "authored.ova")
	checkReport(t, p, boot(t, u, "authored.ova"), "bios", "ahci")

	// Other people's tools read it.
	if out, err := exec.Command(testenv.NeedTool(t, "tar"), "-C", u.work, "-xf", filepath.Join(u.work, "authored.ova")).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	for i, id := range []string{"boot", "data"} {
		vmdk := filepath.Join(u.work, "authored-"+id+".vmdk")
		qemuImg(t, "check", vmdk)
		qemuImg(t, "compare", "-f", "vmdk", "-F", "raw", vmdk, p.Disks[i].Raw)
	}
	sums, err := exec.Command(testenv.NeedTool(t, "openssl"), "dgst", "-sha256", filepath.Join(u.work, "authored-boot.vmdk")).Output()
	if err != nil {
		t.Fatal(err)
	}
	digest := strings.TrimSpace(string(sums[strings.LastIndexByte(string(sums), ' ')+1:]))
	if m := string(read(t, filepath.Join(u.work, "authored.mf"))); !strings.Contains(m, "SHA256(authored-boot.vmdk)= "+digest) {
		t.Errorf("openssl gives the digest %s, and the manifest is\n%s", digest, m)
	}

	// The same machine after a way through a specification and a profile.
	u.succeed("spec", "authored.ova", "-o", "back.yaml")
	u.succeed("build", "back.yaml", "-o", "back.ova", "--format", "qcow2")
	u.succeed("diff", "authored.ova", "back.ova")
	u.succeed("convert", "back.ova", "-o", "standard", "--for", "dmtf")
	u.succeed("lint", "standard")
	checkReport(t, p, boot(t, u, "standard"), "bios", "ahci")
}

// v2vSpec is a machine of which virt-v2v tells all that it reads.
const v2vSpec = `name: v2v
networks: [LAN, "Storage & Backup"]
disks:
  - {id: d, source: disk.raw}
  - {id: e, source: disk.raw}
machine:
  id: v2v
  name: A machine
  hardware:
    firmware: efi
    cpus: 4
    coresPerSocket: 2
    memory: 1536MiB
    disks: [{disk: d, controller: scsi}, {disk: e, controller: sata}]
    cdroms: [{controller: ide}]
    cards: [{network: LAN, model: E1000}, {network: "Storage & Backup", model: E1000}]
`

// TestVirtV2V has virt-v2v read packages that are built: it parses the
// descriptor, proves the manifest and has a program of its own open the disk in
// the archive, at the place that it finds it at. It then wants to look inside
// by an appliance of its own with a kernel of this machine's, which is of no
// concern here.
func TestVirtV2V(t *testing.T) {
	t.Parallel()
	v2v := testenv.NeedTool(t, "virt-v2v")
	testenv.NeedTool(t, "qemu-nbd")
	u := newUser(t)
	u.write("disk.raw", append([]byte("a disk"), make([]byte, 4<<20-6)...))
	u.write("appliance.yaml", []byte(v2vSpec))
	run := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), v2v, args...).CombinedOutput()
		return string(out), err
	}
	for _, c := range []struct {
		output string
		flags  []string
	}{
		{"kvm.ova", []string{"--for", "kvm"}},
		{"proxmox", []string{"--for", "proxmox"}},
		{"vsphere.ova", []string{"--for", "vsphere"}},
		{"esxi.ova", []string{"--for", "esxi-6.7"}},
		{"virtualbox.ova", []string{"--for", "virtualbox"}},
		{"gzip.ova", []string{"--gzip", "--manifest", "sha1"}},
	} {
		u.succeed(append([]string{"build", "-q", "-o", c.output}, c.flags...)...)
		path := filepath.Join(u.work, c.output)
		out, err := run("-i", "ova", path, "--print-source")
		if err != nil || strings.Contains(out, "warning") {
			t.Errorf("%s: %v\n%s", c.output, err, out)
			continue
		}
		got := strings.Join(strings.Fields(out), " ")
		for _, want := range []string{
			"source name: A machine", "memory: 1610612736 (bytes)", "nr vCPUs: 4", "CPU topology: sockets: 2 cores/socket: 2",
			"firmware: uefi", "disks: 0 [scsi] 1 [sata]", "removable media: CD-ROM [ide]", `Bridge "LAN" [e1000] Bridge "Storage & Backup" [e1000]`,
		} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: virt-v2v does not read %q:\n%s", c.output, want, out)
			}
		}
	}
	for _, name := range []string{"kvm.ova", "gzip.ova", "proxmox"} {
		out, err := run("-v", "-x", "-i", "ova", filepath.Join(u.work, name), "-o", "null")
		for _, word := range []string{"processing manifest", "running qemu-nbd", "Opening the source"} {
			if !strings.Contains(out, word) {
				t.Errorf("virt-v2v of %s: %v; it does not come to %q:\n%s", name, err, word, tail(out))
			}
		}
	}
}

// turned are the packages that thereAndBack has seen.
var turned sync.Map

// thereAndBack turns an appliance of the tests into its specification and builds
// that: an equal package has to come of it, of the same descriptor's sense and of
// the same files.
func thereAndBack(t *testing.T, p *appliance.Package) {
	t.Helper()
	if _, seen := turned.LoadOrStore(p.OVA, true); seen {
		return
	}
	open := func(path string) *pkg.Package {
		q, err := pkg.Open(t.Context(), path, pkg.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { q.Close() })
		return q
	}
	first := open(p.OVA)
	s, report, err := descriptor.Read(first.Document(), descriptor.ReadOptions{Source: func(f *ovf.File) string { return p.OVA + "#" + f.Href }})
	if err != nil || len(report.Lost)+len(report.Raw) > 0 {
		t.Fatalf("%s: %v, %+v", p.OVA, err, report)
	}
	text, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if s, err = spec.Parse("appliance.yaml", text); err != nil {
		t.Fatal(err)
	}
	again := filepath.Join(t.TempDir(), "again")
	if _, err := author.Run(t.Context(), s, author.ToFile(again, pack.Options{NoSync: true}), author.Options{}); err != nil {
		t.Fatalf("%s: %v\n%s", p.OVA, err, text)
	}
	second := open(again)
	changes, err := diff.Descriptors(first.Document(), second.Document(), diff.Options{All: true})
	if err != nil || len(changes) > 0 {
		t.Errorf("%s: by way of its specification it is another: %v, %+v", p.OVA, err, changes)
	}
	for _, f := range first.Document().Envelope().References {
		if sum := fmt.Sprintf("%x", sha256.Sum256(read(t, filepath.Join(again, f.Href)))); sum != fmt.Sprintf("%x", sha256.Sum256(read(t, filepath.Join(p.Dir, f.Href)))) {
			t.Errorf("%s: by way of its specification, %s is another", p.OVA, f.Href)
		}
	}
}
