package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/internal/testenv"
	"github.com/ovation-project/ovation/test/appliance"
)

// TestAuthored builds a package from disks, and boots it, and what other
// consumers and the way over a specification make of it: the guest is to find
// the same machine each time.
func TestAuthored(t *testing.T) {
	t.Parallel()
	testenv.NeedTool(t, "qemu-system-x86_64")
	testenv.NeedTool(t, "qemu-img")
	spec := appliance.Spec{Name: "authored", Boot: appliance.BootBIOS, Controller: "ahci", CPUs: 2, MemoryMiB: 320,
		Disks: []appliance.Disk{{Size: 4 << 20, Seed: 31, Controller: "lsilogic"}}, NICs: []appliance.NIC{{Model: "E1000", MAC: mac(31)}}, CDROM: true}
	p := build(t, spec)
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

// TestVirtV2V has virt-v2v read packages that are built: it parses the
// descriptor, proves the manifest and opens the disk in the archive. It then
// wants libguestfs, which may be there or not. virt-v2v is too large to be
// installed for this alone, so that the test runs where it is.
func TestVirtV2V(t *testing.T) {
	t.Parallel()
	v2v, err := exec.LookPath("virt-v2v")
	if err != nil {
		t.Skip("virt-v2v is not installed")
	}
	u := newUser(t)
	u.write("disk.raw", append([]byte("a disk"), make([]byte, 4<<20-6)...))
	u.write("appliance.yaml", []byte("name: v2v\nnetworks: [LAN]\ndisks: [{id: d, source: disk.raw}]\nmachine:\n  id: v2v\n  hardware: {cpus: 1, memory: 1GiB, disks: [d], cards: [LAN]}\n"))
	for name, flags := range map[string][]string{
		"plain.ova": nil, "kvm.ova": {"--for", "kvm"}, "vsphere.ova": {"--for", "vsphere"}, "sha1.ova": {"--manifest", "sha1"}, "gzip.ova": {"--gzip"}, "folder": nil,
	} {
		u.succeed(append([]string{"build", "-o", name}, flags...)...)
		out, err := exec.Command(v2v, "-v", "-x", "-i", "ova", filepath.Join(u.work, name), "-o", "null").CombinedOutput()
		for _, word := range []string{"processing manifest", "Opening the source"} {
			if !strings.Contains(string(out), word) {
				t.Errorf("virt-v2v of %s: %v; it does not come to %q:\n%s", name, err, word, tail(string(out)))
			}
		}
	}
}
