package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/ovf/importer"
	"github.com/vmware/govmomi/simulator"
)

// The simulator's user, and the cluster that is deployed to.
const (
	simulatorUser     = "user"
	simulatorPassword = "pass"
	simulatorCluster  = "DC0_C0"
)

// most CPU of ours as a share of govmomi's own importer, which proves nothing.
const importCPU = 1.3

// vsphere imports the appliance into govmomi's simulator, by ovation and by
// govmomi's own importer, which govc is made of. All three are processes of
// their own.
func (b *bench) vsphere(ctx context.Context) error {
	if err := b.clean(); err != nil {
		return err
	}
	ova, err := b.forVSphere(ctx)
	if err != nil {
		return err
	}
	server := exec.CommandContext(ctx, b.self, "-part", "vsphere")
	server.Stderr = os.Stderr
	in, err := server.StdinPipe()
	if err != nil {
		return err
	}
	out, err := server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := server.Start(); err != nil {
		return err
	}
	defer func() {
		_ = in.Close() // which ends it
		_ = server.Wait()
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the simulator: %w", err)
	}
	address, thumbprint, _ := strings.Cut(strings.TrimSpace(line), " ")
	uri := fmt.Sprintf("vsphere://%s@%s/DC0/host/%s?thumbprint=%s", simulatorUser, address, simulatorCluster, thumbprint)
	env := []string{"OVATION_VSPHERE_PASSWORD=" + simulatorPassword, "XDG_STATE_HOME=" + b.path("out")}
	// both is with what the simulator takes to receive it.
	measure := func(cmd command, env []string) (alone, both usage, err error) {
		before, err := cpuOf(server.Process.Pid)
		if err != nil {
			return alone, both, err
		}
		if alone, err = b.measure(ctx, cmd, env); err != nil {
			return alone, both, err
		}
		after, err := cpuOf(server.Process.Pid)
		both = alone
		both.cpu += after - before
		return alone, both, err
	}
	var ours, theirs, oursBoth, theirsBoth, hashed []usage
	for n := range b.runs {
		u, all, err := measure(command{b.ovation, "deploy", "-q", ova, "--to", uri, "--name", fmt.Sprintf("ours-%d", n)}, env)
		if err != nil {
			return err
		}
		ours, oursBoth = append(ours, u), append(oursBoth, all)
		if u, all, err = measure(command{b.self, "-part", "govmomi", address, ova, fmt.Sprintf("theirs-%d", n)}, nil); err != nil {
			return err
		}
		theirs, theirsBoth = append(theirs, u), append(theirsBoth, all)
		if u, err = b.measure(ctx, command{"openssl", "dgst", "-sha256", ova}, nil); err != nil {
			return err
		}
		hashed = append(hashed, u)
	}
	mine, other, proof := median(ours), median(theirs), median(hashed)
	b.most = max(b.most, mine.memory)
	ratio := mine.cpu / other.cpu
	fmt.Printf("\n%-48s  %8.2f  %8.2f  %7s  %7s  %7d M  %s\n", "OVA into vSphere's simulator, verified", mine.wall, mine.cpu, "", "", mine.memory>>20, b.verdict(mine.memory <= 64<<20))
	fmt.Printf("  %-46s  %8.2f  %8.2f  %7.3f  %7.2f  %7d M  %s\n", "govmomi's importer, which verifies nothing", other.wall, other.cpu, mine.wall/other.wall, ratio, other.memory>>20,
		fmt.Sprintf("goal %.2f of CPU: %s", importCPU, b.verdict(ratio <= importCPU)))
	fmt.Printf("  %-46s  %8.2f  %8.2f  %7s  %7.2f\n", "openssl dgst -sha256 of the package", proof.wall, proof.cpu, "", mine.cpu/proof.cpu)
	mine, other = median(oursBoth), median(theirsBoth)
	fmt.Printf("  %-46s  %8s  %8.2f  %7s  %7.2f\n", "govmomi's, both with the simulator's part", "", other.cpu, "", mine.cpu/other.cpu)
	return nil
}

// cpuOf is the processor time that a process has taken, in seconds (proc(5)).
func cpuOf(pid int) (float64, error) {
	const ticks = 100 // a second, on all that Linux runs on today
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, which is in parentheses, may have blanks.
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", pid, text)
	}
	total := 0.0
	for _, f := range fields[11:13] {
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return 0, err
		}
		total += n / ticks
	}
	return total, nil
}

// forVSphere makes an archive of the disk for the simulator, which knows no SATA
// and wants a family of hardware and a file's digest in the manifest.
func (b *bench) forVSphere(ctx context.Context) (string, error) {
	size, err := sizeOf(b.path("disk.vmdk"))
	if err != nil {
		return "", err
	}
	text := string(descriptor("disk.vmdk", size, b.capacity))
	for _, r := range [][2]string{
		{"<rasd:ResourceSubType>AHCI</rasd:ResourceSubType><rasd:ResourceType>20<", "<rasd:ResourceSubType>lsilogic</rasd:ResourceSubType><rasd:ResourceType>6<"},
		{"<Info>One processor, one disk</Info>", "<Info>One processor, one disk</Info><System><vssd:ElementName>Family</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID><vssd:VirtualSystemType>vmx-13</vssd:VirtualSystemType></System>"},
	} {
		if !strings.Contains(text, r[0]) {
			return "", fmt.Errorf("the descriptor has no %q", r[0])
		}
		text = strings.Replace(text, r[0], r[1], 1)
	}
	if err := os.WriteFile(b.path("out", "appliance.ovf"), []byte(text), 0o666); err != nil {
		return "", err
	}
	digest, err := sha256File(b.path("disk.vmdk"))
	if err != nil {
		return "", err
	}
	manifest := fmt.Sprintf("SHA256(appliance.ovf)= %x\nSHA256(disk.vmdk)= %s\n", sha256.Sum256([]byte(text)), digest)
	if err := os.WriteFile(b.path("out", "appliance.mf"), []byte(manifest), 0o666); err != nil {
		return "", err
	}
	if err := os.Link(b.path("disk.vmdk"), b.path("out", "disk.vmdk")); err != nil {
		return "", err
	}
	ova := b.path("out", "vsphere.ova")
	tar := exec.CommandContext(ctx, "tar", "--format=ustar", "-C", b.path("out"), "-cf", ova, "appliance.ovf", "appliance.mf", "disk.vmdk")
	if out, err := tar.CombinedOutput(); err != nil {
		return "", fmt.Errorf("tar: %w\n%s", err, out)
	}
	return ova, nil
}

// simulate runs govmomi's simulator until its input ends. It prints its address
// and the SHA-256 of its certificate.
func simulate() error {
	model := simulator.VPX()
	model.Machine = 0
	if err := model.Create(); err != nil {
		return err
	}
	defer model.Remove()
	model.Service.TLS = new(tls.Config)
	model.Service.Listen = &url.URL{User: url.UserPassword(simulatorUser, simulatorPassword)}
	s := model.Service.NewServer()
	defer s.Close()
	sum := sha256.Sum256(s.Certificate().Raw)
	fmt.Printf("%s %s\n", s.URL.Host, hex.EncodeToString(sum[:]))
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// govmomiImport is what govc's import.ova does, without asking anything.
func govmomiImport(ctx context.Context, address, ova, name string) (err error) {
	u := &url.URL{Scheme: "https", Host: address, Path: "/sdk", User: url.UserPassword(simulatorUser, simulatorPassword)}
	c, err := govmomi.NewClient(ctx, u, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Logout(ctx)) }()
	f := find.NewFinder(c.Client)
	i := importer.Importer{Log: func(string) (int, error) { return 0, nil }, Name: name, Client: c.Client, Finder: f,
		Archive: &importer.TapeArchive{Path: ova, Opener: importer.Opener{Client: c.Client}}}
	if i.Datacenter, err = f.Datacenter(ctx, "DC0"); err != nil {
		return err
	}
	f.SetDatacenter(i.Datacenter)
	if i.Datastore, err = f.DefaultDatastore(ctx); err != nil {
		return err
	}
	if i.ResourcePool, err = f.ResourcePool(ctx, simulatorCluster+"/Resources"); err != nil {
		return err
	}
	folders, err := i.Datacenter.Folders(ctx)
	if err != nil {
		return err
	}
	i.Folder = folders.VmFolder
	i.Host = (*object.HostSystem)(nil)
	_, err = i.Import(ctx, "*.ovf", importer.Options{Name: &name})
	return err
}
