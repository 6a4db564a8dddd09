package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ovation-project/ovation/deploy/lifecycle"
	"github.com/ovation-project/ovation/internal/testenv"
	"github.com/ovation-project/ovation/ovf/ovfenv"
	"github.com/ovation-project/ovation/test/appliance"
)

// report starts a machine of the host, and gives what its guest reported when
// it has powered off.
func (h *libvirtHost) report(name string) *appliance.Report {
	h.t.Helper()
	kept, err := h.host.Lookup(h.t.Context(), name)
	if err != nil {
		h.t.Fatal(err)
	}
	console, err := kept.Console()
	if err != nil {
		h.t.Fatal(err)
	}
	defer console.Close()
	if err := kept.Start(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	report, err := appliance.ParseReport(console)
	if err != nil {
		h.t.Fatalf("%v\n%s", err, strings.Join(report.Lines, "\n"))
	}
	if _, err := kept.Wait(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	return report
}

// remove removes a deployment by the name of its machine.
func (h *libvirtHost) remove(name string) {
	h.t.Helper()
	kept, err := h.host.Lookup(h.t.Context(), name)
	if err == nil {
		err = lifecycle.Remove(h.t.Context(), h.host, kept.Record.Deployment, lifecycle.Options{})
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// sight is what a guest saw of its machine, and what it was told.
func sight(t *testing.T, r *appliance.Report) (lines, told []string) {
	t.Helper()
	for _, l := range r.Lines {
		key, _, _ := strings.Cut(l, "=")
		// The kernel names disks in the order in which they answer, what it has
		// left of the memory is never quite the same, and it is later each time.
		if key != "environment" && key != "memory.usable.kib" && !strings.HasPrefix(key, "disk.") && !strings.HasPrefix(key, "clock.") {
			lines = append(lines, l)
		}
	}
	for _, d := range r.Disks {
		lines = append(lines, fmt.Sprint(d.PCI, " ", d.Address, " ", d.Driver, " ", d.Size, " ", d.SHA256))
	}
	env, err := ovfenv.Parse(r.Environment)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range env.Properties {
		told = append(told, x.Key+"="+x.Value)
	}
	return lines, told
}

// TestRoundTrip builds a package, deploys it, exports what was deployed and
// deploys that: the guest reports the same machine at both ends, and what the
// descriptor said for people is still there.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	testenv.NeedTool(t, "qemu-system-x86_64")
	h := startLibvirt(t)
	p := build(t, appliance.Spec{Name: "trip", Boot: appliance.BootBIOS, Controller: "ahci", CPUs: 2, CoresPerSocket: 2, MemoryMiB: 320,
		Disks: []appliance.Disk{{Size: 4 << 20, Seed: 41, Controller: "virtio-blk"}},
		NICs:  []appliance.NIC{{Model: "E1000", MAC: mac(41)}, {Model: "virtio", MAC: mac(42)}}})
	u := newUser(t)
	u.write("LICENSE.txt", []byte("You may.\n"))
	u.write("appliance.yaml", fmt.Appendf(nil, `
name: trip
networks: [LAN, WAN]
disks:
  - {id: boot, source: %q}
  - {id: data, source: %q}
options:
  - {id: small, label: Small, default: true}
  - {id: large, label: Large}
machine:
  id: trip
  name: Round trip
  os: {id: 96, description: Debian}
  hardware:
    cpus: 2
    coresPerSocket: 2
    memory: 320MiB
    transport: iso
    perOption: [{option: large, memory: 512MiB}]
    disks: [{disk: boot, controller: sata}, {disk: data, controller: virtio}]
    cards: [{network: LAN, model: E1000, mac: %q}, {network: WAN, model: virtio, mac: %q}]
    devices: [{type: serial, required: false}]
  products:
    - product: Round trip
      vendor: Example
      version: "1.2"
      properties:
        - {key: hostname, userConfigurable: true, default: appliance}
  eulas:
    - license: {file: LICENSE.txt}
  annotations: Goes there and back
`, p.Disks[0].Raw, p.Disks[1].Raw, mac(41), mac(42)))
	u.succeed("build")
	u.succeed("deploy", "trip.ova", "--to", h.URI, "--name", "trip", "--accept-eula", "--uuid", "keep", "--property", "hostname=web1")
	first := h.report("trip")

	u.succeed("export", "qemu+unix:///session/trip?socket="+h.Socket, "-o", "back.ova", "--mac", "keep", "--uuid", "keep")
	u.succeed("lint", "back.ova")
	u.succeed("verify", "back.ova")
	for i, id := range []string{"boot", "data"} {
		u.succeed("disk", "compare", "back.ova#"+id, p.Disks[i].Raw)
	}
	h.remove("trip")
	if left := h.names(); len(left) > 0 {
		t.Fatalf("left: %q", left)
	}
	u.succeed("deploy", "back.ova", "--to", h.URI, "--name", "trip", "--accept-eula", "--uuid", "keep", "--property", "hostname=web1")
	second := h.report("trip")

	// The guests saw the same machine, and were told the same.
	a, told := sight(t, first)
	b, toldAgain := sight(t, second)
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("the guest found another machine the second time:\n%s", diff)
	}
	if diff := cmp.Diff(told, toldAgain); diff != "" || !slices.Contains(told, "hostname=web1") {
		t.Errorf("the guest was told something else the second time:\n%s", diff)
	}
	if len(first.Disks) != 2 || first.Disks[0].SHA256 == first.Disks[1].SHA256 || first.CPUs != 2 || first.MemoryMiB != 320 || len(first.NICs) != 2 {
		t.Errorf("the guest found another machine than was built:\n%s", strings.Join(first.Lines, "\n"))
	}

	// What the package says besides its hardware.
	r := u.ovation("diff", "trip.ova", "back.ova")
	for _, path := range []string{"machine.name", "machine.os", "machine.products", "machine.eulas", "machine.annotations", "machine.hardware[0].transport", "networks"} {
		for line := range strings.Lines(r.stdout) {
			if _, rest, _ := strings.Cut(line, " "); strings.HasPrefix(rest, path) {
				t.Errorf("export has changed %s", line)
			}
		}
	}
	if !strings.Contains(r.stdout, "- options[large]") {
		t.Errorf("the option that was not chosen is still there:\n%s", r.stdout)
	}
	h.remove("trip")
	u.onlyLeft("LICENSE.txt", "appliance.yaml", "back.ova", "trip.ova")
}
