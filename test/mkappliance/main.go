// Command mkappliance builds the test appliance and prints where it lies.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/ovation-project/ovation/test/appliance"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "mkappliance:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var spec appliance.Spec
	boot := flag.String("boot", "bios", "boot disk: bios, efi or both")
	nics := flag.String("nics", "E1000", "network cards, by ResourceSubType, with commas between")
	data := flag.Int64("data", 8, "size of the data disk in MiB, 0 for none")
	flag.StringVar(&spec.Name, "name", "appliance", "name of the package")
	flag.StringVar(&spec.Firmware, "firmware", "", "firmware that the descriptor names: bios, efi or nothing")
	flag.StringVar(&spec.Controller, "controller", "ide", "storage controller: "+strings.Join(appliance.Controllers(), ", "))
	flag.IntVar(&spec.CPUs, "cpus", 1, "number of CPUs")
	flag.Int64Var(&spec.MemoryMiB, "memory", 256, "memory in MiB")
	flag.StringVar(&spec.Digest, "digest", "SHA256", "manifest: SHA1, SHA256, SHA384, SHA512 or none")
	flag.BoolVar(&spec.CDROM, "cdrom", false, "add a CD-ROM drive")
	flag.IntVar(&spec.Linger, "linger", 0, "seconds to stay up after the report, with an HTTP server")
	flag.BoolVar(&spec.KernelLog, "kernel-log", false, "let the kernel write to the serial port too")
	flag.Parse()
	spec.Boot = appliance.Boot(*boot)
	for model := range strings.SplitSeq(*nics, ",") {
		if model != "" {
			spec.NICs = append(spec.NICs, appliance.NIC{Model: model})
		}
	}
	if *data > 0 {
		spec.Disks = []appliance.Disk{{Size: *data << 20, Seed: 1}}
	}
	b, err := appliance.New(ctx)
	if err != nil {
		return err
	}
	p, err := b.Build(ctx, spec)
	if err != nil {
		return err
	}
	fmt.Println(p.OVA)
	return nil
}
