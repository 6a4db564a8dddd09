package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/propertyfile"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/term"
	"github.com/ovation-project/ovation/ovf"
)

// hardwareFlags are choices about the hardware of machines, whatever runs them.
type hardwareFlags struct {
	cpus     int
	memory   string
	diskBus  string
	nic      string
	firmware string
}

// machineFlags are choices about the machines of a package.
type machineFlags struct {
	hardwareFlags
	propertyFlags
	option  string
	systems []string
}

// propertyFlags are values of properties.
type propertyFlags struct {
	properties []string
	// propertiesFile names a file of values; --property goes before it.
	propertiesFile string
}

// The words of the flags, and what they mean.
var (
	diskBuses = map[string]hypervisor.ControllerModel{"native": "", "virtio": hypervisor.VirtIOBlk, "virtio-scsi": hypervisor.VirtIOSCSI,
		"ide": hypervisor.IDE, "sata": hypervisor.AHCI, "lsilogic": hypervisor.LSILogic, "lsisas": hypervisor.LSISAS, "pvscsi": hypervisor.PVSCSI, "nvme": hypervisor.NVMe}
	nicModels = map[string]hypervisor.NICModel{"native": "", "virtio": hypervisor.VirtIONet, "e1000": hypervisor.E1000, "e1000e": hypervisor.E1000e,
		"pcnet": hypervisor.PCnet, "vmxnet3": hypervisor.VMXNET3, "rtl8139": hypervisor.RTL8139, "ne2k": hypervisor.NE2000}
	firmwares = map[string]hypervisor.FirmwareKind{"auto": "", "bios": hypervisor.BIOS, "uefi": hypervisor.UEFI}
)

// register adds the flags; instead is whose numbers they replace.
func (f *hardwareFlags) register(c *cobra.Command, instead string) {
	fl := c.Flags()
	fl.IntVar(&f.cpus, "cpus", 0, "number of virtual CPUs, instead of "+instead)
	fl.StringVar(&f.memory, "memory", "", "memory, such as 2GiB, instead of "+instead)
	fl.StringVar(&f.diskBus, "disk-bus", "native", "controller for all disks: "+words(diskBuses))
	fl.StringVar(&f.nic, "nic", "native", "model of all network cards: "+words(nicModels))
	fl.StringVar(&f.firmware, "firmware", "auto", "firmware: "+words(firmwares))
	for name, values := range map[string][]string{"disk-bus": keys(diskBuses), "nic": keys(nicModels), "firmware": keys(firmwares)} {
		completeWith(c, name, values)
	}
}

func (f *machineFlags) register(c *cobra.Command) {
	f.hardwareFlags.register(c, "the descriptor's")
	fl := c.Flags()
	f.propertyFlags.register(c)
	fl.StringVar(&f.option, "option", "", "deployment option, instead of the default one")
	fl.StringArrayVar(&f.systems, "system", nil, "ID of a virtual system to take, instead of all; again for more")
}

// choices turns the flags into what the libraries take.
func (f *machineFlags) choices() (opt deploy.Options, err error) {
	opt, err = f.hardwareFlags.choices()
	opt.Systems = f.systems
	return opt, err
}

func (f *hardwareFlags) choices() (opt deploy.Options, err error) {
	opt.CPUs = f.cpus
	if f.cpus < 0 {
		return opt, usagef("--cpus is a number above 0, not %d", f.cpus)
	}
	if f.memory != "" {
		if opt.MemoryBytes, err = term.ParseSize(f.memory); err != nil || opt.MemoryBytes < 1<<20 {
			return opt, usagef("--memory is a size from 1 MiB on, such as 2GiB, not %q", f.memory)
		}
	}
	if opt.DiskBus, err = word("disk-bus", f.diskBus, diskBuses); err != nil {
		return opt, err
	}
	if opt.NIC, err = word("nic", f.nic, nicModels); err != nil {
		return opt, err
	}
	opt.Firmware, err = word("firmware", f.firmware, firmwares)
	return opt, err
}

// resolveOptions are the choices that the descriptor leaves open.
func (f *machineFlags) resolveOptions() (ovf.ResolveOptions, error) {
	values, err := f.propertyFlags.values()
	return ovf.ResolveOptions{Option: f.option, Properties: values}, err
}

func (f *propertyFlags) register(c *cobra.Command) {
	fl := c.Flags()
	fl.StringArrayVar(&f.properties, "property", nil, "a property's value, as KEY=VALUE; again for more")
	fl.StringVar(&f.propertiesFile, "properties-file", "", "file of properties' values, which may be secret: lines KEY=VALUE, or YAML where its name ends with .yaml or .json")
	_ = c.MarkFlagFilename("properties-file")
}

// values are those of the file and of the command line.
func (f *propertyFlags) values() (map[string]string, error) {
	values := map[string]string{}
	if f.propertiesFile != "" {
		var err error
		if values, err = propertyfile.Read(f.propertiesFile); err != nil {
			return nil, usagef("--properties-file: %w", err)
		}
	}
	for _, p := range f.properties {
		key, value, ok := strings.Cut(p, "=")
		if !ok || key == "" {
			// The value may be a secret: it is not repeated.
			return nil, usagef("--property is KEY=VALUE")
		}
		values[key] = value
	}
	return values, nil
}

// printDevices shows a machine's drives and network cards, with what is in the
// drives and where the cards lead.
func (a *app) printDevices(m hypervisor.Machine, content func(hypervisor.Medium) string, network func(hypervisor.NIC) string) {
	t := term.NewTable("DEVICE", "MODEL", "PLACE", ">SIZE", "CONTENT")
	for _, d := range m.Drives {
		model := ""
		for _, c := range m.Controllers {
			if c.ID == d.Controller {
				model = string(c.Model)
			}
		}
		size, in := "", "empty"
		if d.Capacity > 0 {
			size = term.Size(d.Capacity)
		}
		switch {
		case d.Medium != nil:
			in = content(*d.Medium)
		case d.DiskID != "":
			in = "disk " + d.DiskID
		}
		t.Row(string(d.Kind), model, fmt.Sprintf("%s:%d", d.Controller, d.Unit), size, in)
	}
	for _, n := range m.NICs {
		t.Row("network card", string(n.Model), n.MAC, "", network(n))
	}
	t.Print(a.out)
}
