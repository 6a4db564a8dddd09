// Command demo shows what the program does, from an empty machine: it builds
// an appliance, serves it over HTTP on the loopback address, inspects, verifies
// and runs it from there, and ends with what the guest reported.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ovation-project/ovation/test/appliance"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	program := flag.String("program", "bin/ovation", "the program to show")
	flag.Parse()
	if err := run(ctx, *program); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, program string) error {
	say("Building an appliance: a Linux guest out of Debian's packages, packed as an OVA.")
	builder, err := appliance.New(ctx)
	if err != nil {
		return err
	}
	p, err := builder.Build(ctx, appliance.Spec{
		Name: "first-light", Boot: appliance.BootBIOS, Controller: "pvscsi",
		CPUs: 2, MemoryMiB: 256,
		Disks: []appliance.Disk{{Size: 8 << 20, Seed: 1}},
		NICs:  []appliance.NIC{{Model: "VmxNet3", MAC: "00:50:56:00:00:01"}},
	})
	if err != nil {
		return err
	}
	info, err := os.Stat(p.OVA)
	if err != nil {
		return err
	}
	fmt.Printf("%s, %.1f MiB\n", p.OVA, float64(info.Size())/(1<<20))

	url, shut, err := serve(filepath.Dir(p.OVA))
	if err != nil {
		return err
	}
	defer shut()
	url += "/" + filepath.Base(p.OVA)
	say("Serving it at " + url)

	var console bytes.Buffer
	for _, step := range []struct {
		why  string
		args []string
		out  io.Writer
	}{
		{"What is in it? Only the ranges that are needed are read.", []string{"inspect", url}, os.Stdout},
		{"Is every file what the manifest says?", []string{"verify", url}, os.Stdout},
		{"Run it, from there. What comes now is the guest's serial console.", []string{"run", "--headless", "--timeout", "5m", url}, io.MultiWriter(os.Stdout, &console)},
	} {
		say(step.why)
		fmt.Printf("$ ovation %s\n", strings.Join(step.args, " "))
		cmd := exec.CommandContext(ctx, program, step.args...)
		cmd.Stdout, cmd.Stderr = step.out, os.Stderr
		// The program cleans up when it is asked to stop.
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		cmd.WaitDelay = 15 * time.Second
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("ovation %s: %w", step.args[0], err)
		}
	}

	report, err := appliance.ParseReport(&console)
	if err != nil {
		return err
	}
	say("What the guest found, beside what the package says:")
	return compare(p, report)
}

// compare prints the guest's report beside the package, and fails where they
// differ.
func compare(p *appliance.Package, r *appliance.Report) error {
	differ := false
	row := func(what, said, found string) {
		mark := "ok"
		if said != found {
			mark, differ = "DIFFERENT", true
		}
		fmt.Printf("  %-14s %-34s %-34s %s\n", what, said, found, mark)
	}
	fmt.Printf("  %-14s %-34s %s\n", "", "package", "guest")
	row("CPUs", fmt.Sprint(p.Spec.CPUs), fmt.Sprint(r.CPUs))
	row("memory", fmt.Sprint(p.Spec.MemoryMiB, " MiB"), fmt.Sprint(r.MemoryMiB, " MiB"))
	row("disks", fmt.Sprint(len(p.Disks)), fmt.Sprint(len(r.Disks)))
	for i, d := range p.Disks {
		found := "none"
		if i < len(r.Disks) {
			found = fmt.Sprintf("%d MiB, sha256 %.12s…", r.Disks[i].Size>>20, r.Disks[i].SHA256)
		}
		row(fmt.Sprintf("disk %d", i+1), fmt.Sprintf("%d MiB, sha256 %.12s…", d.Capacity>>20, d.SHA256), found)
	}
	row("network cards", fmt.Sprint(len(p.Spec.NICs)), fmt.Sprint(len(r.NICs)))
	for i, n := range p.Spec.NICs {
		found := "none"
		if i < len(r.NICs) {
			found = r.NICs[i].MAC
		}
		row(n.Model, n.MAC, found)
	}
	fmt.Printf("\nLinux %s, %s firmware", r.Kernel, strings.ToUpper(r.Firmware))
	for _, d := range r.Disks {
		fmt.Printf("; %s by %s", d.Name, d.Driver)
	}
	for _, n := range r.NICs {
		fmt.Printf("; %s by %s", n.Name, n.Driver)
	}
	fmt.Println()
	if differ {
		return errors.New("the guest found another machine than the package describes")
	}
	fmt.Println("The guest found exactly the machine that the package describes.")
	return nil
}

// serve serves the folder's files on the loopback address.
func serve(dir string) (url string, shut func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	s := &http.Server{Handler: http.FileServer(http.Dir(dir)), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.Serve(l) }() // ends when the server is shut
	return "http://" + l.Addr().String(), func() { _ = s.Close() }, nil
}

func say(what string) { fmt.Printf("\n=== %s\n\n", what) }
