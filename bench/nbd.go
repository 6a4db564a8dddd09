package main

import (
	"context"
	"fmt"
	"os/exec"

	"github.com/ovation-project/ovation/internal/faultserver"
)

// nbd has nbdcopy read a whole disk from ovation, and from what people serve
// disks with otherwise.
func (b *bench) nbd(ctx context.Context) error {
	if _, err := exec.LookPath("nbdcopy"); err != nil {
		fmt.Printf("\nServing disks over NBD: left out, nbdcopy is not there\n")
		return nil
	}
	server, err := faultserver.Start(b.dir)
	if err != nil {
		return err
	}
	defer server.Kill()
	raw, vmdk, url := b.path("disk.raw"), b.path("disk.vmdk"), server.URL("appliance.ova")
	const read = `nbdcopy "$uri" null:`
	// What serves goes with its client.
	qemuNBD := func(format, source string) string {
		return fmt.Sprintf(`sock=%s && qemu-nbd -r -e 8 -f %s -k "$sock" --fork "%s" && nbdcopy "nbd+unix:///?socket=$sock" null:`, b.path("out", "socket"), format, source)
	}
	ours := func(args ...string) command {
		return append(append(command{b.ovation, "nbd", "-q"}, args...), "--run", read)
	}
	all := []comparison{
		{name: "reading a raw disk over NBD", ours: ours("--format", "raw", raw), memory: nbdMemory, rival: []rival{
			{name: "nbdkit file", steps: []command{{"nbdkit", "-r", "-U", "-", "file", raw, "--run", read}}, most: 1.25},
			{name: "qemu-nbd", steps: []command{{"sh", "-c", qemuNBD("raw", raw)}}, most: 1.25},
		}},
		{name: "reading a VMDK over NBD", ours: ours(vmdk), memory: nbdMemory, rival: []rival{
			{name: "qemu-nbd", steps: []command{{"sh", "-c", qemuNBD("vmdk", vmdk)}}, most: 0.75},
		}},
		{name: "reading a VMDK in an OVA on a server over NBD", ours: ours("--no-cache", url+"#disk1"), memory: nbdMemory, rival: []rival{
			{name: "nbdkit curl --filter=tar, qemu-nbd", most: 0.75,
				steps: []command{{"nbdkit", "-r", "-U", "-", "curl", url, "--filter=tar", "tar-entry=disk.vmdk", "--run", qemuNBD("vmdk", "$uri")}}},
		}},
	}
	for _, c := range all {
		var there []rival
		for _, r := range c.rival {
			if _, err := exec.LookPath("nbdkit"); err != nil && r.steps[0][0] == "nbdkit" {
				fmt.Printf("%s: left out, nbdkit is not there\n", r.name)
				continue
			}
			there = append(there, r)
		}
		if c.rival = there; len(there) == 0 {
			continue
		}
		if err := b.compare(ctx, c); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// nbdMemory is for a server that has 128 MiB on its way, at most, and itself.
const nbdMemory = 192 << 20
