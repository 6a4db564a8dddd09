// Package machine describes a virtual machine as a specification: the way back
// from what a hypervisor has to a descriptor.
//
// It knows no hypervisor. Whoever exports gives a hypervisor.Machine, and the
// disks to build.Options.Disks by the sources that are named here.
package machine

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/ovf"
)

// model is what a device is in a descriptor.
type model struct {
	typ     ovf.ResourceType
	subType string
}

var controllers = map[hypervisor.ControllerModel]model{
	hypervisor.IDE: {ovf.IDEController, ""}, hypervisor.AHCI: {ovf.OtherStorage, "AHCI"}, hypervisor.LSILogic: {ovf.SCSIController, "lsilogic"},
	hypervisor.LSISAS: {ovf.SCSIController, "lsilogicsas"}, hypervisor.BusLogic: {ovf.SCSIController, "buslogic"},
	hypervisor.PVSCSI: {ovf.SCSIController, "VirtualSCSI"}, hypervisor.VirtIOBlk: {ovf.SCSIController, "virtio"},
	hypervisor.VirtIOSCSI: {ovf.SCSIController, "VirtioSCSI"}, hypervisor.NVMe: {ovf.OtherStorage, "vmware.nvme.controller"},
}

var cards = map[hypervisor.NICModel]string{
	hypervisor.E1000: "E1000", hypervisor.E1000e: "E1000e", hypervisor.PCnet: "PCNet32", hypervisor.VMXNET3: "VmxNet3",
	hypervisor.VirtIONet: "virtio", hypervisor.RTL8139: "rtl8139", hypervisor.NE2000: "ne2k_pci",
}

var usb = map[string]string{"ehci": "vmware.usb.ehci", "xhci": "vmware.usb.xhci"}

var displays = map[string]string{"vmvga": "vmware.svga", "virtio": "virtio", "qxl": "qxl"}

var sounds = map[string]string{"ac97": "AC97", "ich6": "ich6", "ich9": "ich9", "sb16": "SB16", "ens1370": "ensoniq1371"}

// Options change how a machine is described.
type Options struct {
	// KeepMAC keeps the addresses of network cards; without it they are
	// assigned at deployment.
	KeepMAC bool
	// KeepUUID keeps the UUID that the guest sees; without it, each
	// deployment gets its own.
	KeepUUID bool
	// Family is the virtual hardware family; "" is the profile's, or the
	// default.
	Family string
	// Native is what the host says besides, nil for nothing. Settings are
	// patterns (path.Match) of those of its settings that are written down.
	Native   *hypervisor.Native
	Settings []string
}

// Description is a machine as parts of a specification: an appliance of one
// machine has them as its machine, disks and networks; several machines are
// members of a collection, and the others are joined.
type Description struct {
	Machine  *spec.Content
	Disks    []spec.Disk
	Networks []spec.Network
	// Notes say what a descriptor does not tell.
	Notes []string
}

// Describe describes a machine. Disks with a medium have MACHINE/DRIVE as their
// source, by the IDs; those without begin empty.
func Describe(m *hypervisor.Machine, opt Options) *Description {
	d := &describer{m: m, opt: opt, out: &Description{}, ids: map[string]string{}}
	no := false
	h := spec.Hardware{Firmware: string(m.Firmware.Kind)}
	if opt.Family != "" {
		h.Family = spec.Strings{opt.Family}
	}
	if m.Firmware.Kind == hypervisor.UEFI {
		h.SecureBoot = &m.Firmware.SecureBoot
	}
	if opt.KeepUUID && m.UUID != "" {
		h.Configs = append(h.Configs, spec.Config{Key: "uuid", Value: m.UUID})
	}
	if m.Architecture != "x86_64" && m.Architecture != "i386" {
		d.note("a descriptor does not say that the machine's processor is %s", m.Architecture)
	}
	d.processors()
	d.controllers()
	d.drives()
	d.cards()
	for range m.Serials {
		d.add(spec.Device{Type: spec.DeviceTypeName(ovf.SerialPort), Required: &no}, "Serial port")
	}
	for _, u := range m.USB {
		d.add(withModel(spec.Device{Type: spec.DeviceTypeName(ovf.USBController), Required: &no}, cmp.Or(usb[u], u)), "USB controller")
	}
	if m.Display != "" {
		d.add(withModel(spec.Device{Type: spec.DeviceTypeName(ovf.GraphicsController), Required: &no}, displays[m.Display]), "Display")
	}
	if m.Sound != "" {
		d.add(withModel(spec.Device{Type: spec.DeviceTypeName(ovf.SoundCard), Required: &no}, sounds[m.Sound]), "Sound card")
	}
	if m.TPM != nil {
		if m.TPM.Version != "2.0" {
			d.note("a TPM of version %s is described as one of version 2.0", m.TPM.Version)
		}
		d.add(withModel(spec.Device{Type: spec.DeviceTypeName(ovf.Other)}, "vmware.vtpm"), "TPM")
	}
	if len(m.CPU.Features) > 0 {
		d.note("the CPU features that the machine wants, %v, are not described", m.CPU.Features)
	}
	h.Devices = d.devices
	d.out.Machine = &spec.Content{
		ID: m.ID, Name: spec.Text{Text: cmp.Or(m.Name, m.ID)}, Hardware: []spec.Hardware{h},
		OS: &spec.OperatingSystem{ID: operatingSystem(m), Description: spec.Text{Text: cmp.Or(m.OS, "Unknown")}},
	}
	if opt.Native != nil {
		d.native(opt.Native)
	}
	return d.out
}

// operatingSystem is CIM's number: nobody but the guest knows more.
func operatingSystem(m *hypervisor.Machine) int {
	const linux64, other = 101, 1
	if m.Architecture == "x86_64" && slices.Contains([]string{"linux", "debian", "ubuntu", "fedora", "rhel", "alpinelinux"}, letters(m.OS)) {
		return linux64
	}
	return other
}

// letters are those that a name such as debian12 begins with.
func letters(s string) string {
	for i, r := range s {
		if r < 'a' || r > 'z' {
			return s[:i]
		}
	}
	return s
}

func withModel(d spec.Device, name string) spec.Device {
	if name != "" {
		d.SubTypes = []string{name}
	}
	return d
}

type describer struct {
	m       *hypervisor.Machine
	opt     Options
	out     *Description
	devices []spec.Device
	ids     map[string]string // a controller's InstanceID by its own ID
}

func (d *describer) note(format string, args ...any) {
	d.out.Notes = append(d.out.Notes, fmt.Sprintf("%s: %s", d.m.ID, fmt.Sprintf(format, args...)))
}

// add adds a device and gives its InstanceID.
func (d *describer) add(x spec.Device, name string) string {
	x.ID = strconv.Itoa(len(d.devices) + 1)
	x.Name = &name
	d.devices = append(d.devices, x)
	return x.ID
}

func number(n int64) string {
	if n <= 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

func (d *describer) processors() {
	c := d.m.CPU
	x := spec.Device{Type: spec.DeviceTypeName(ovf.Processor), Quantity: strconv.Itoa(c.Count), Units: "hertz * 10^6", Weight: number(c.Shares), Cores: number(int64(c.CoresPerSocket))}
	if c.ReservationHz%1e6 != 0 || c.LimitHz%1e6 != 0 {
		x.Units, x.Reservation, x.Limit = "hertz", number(c.ReservationHz), number(c.LimitHz)
	} else {
		x.Reservation, x.Limit = number(c.ReservationHz/1e6), number(c.LimitHz/1e6)
	}
	d.add(x, fmt.Sprintf("%d virtual CPU(s)", c.Count))

	m := d.m.Memory
	units, unit, name := "byte * 2^20", int64(1<<20), fmt.Sprintf("%dMB of memory", m.Bytes>>20)
	if m.Bytes%unit != 0 || m.ReservationBytes%unit != 0 || m.LimitBytes%unit != 0 {
		units, unit, name = "byte", 1, fmt.Sprintf("%d bytes of memory", m.Bytes)
	}
	d.add(spec.Device{
		Type: spec.DeviceTypeName(ovf.Memory), Quantity: number(m.Bytes / unit), Units: units, Weight: number(m.Shares),
		Reservation: number(m.ReservationBytes / unit), Limit: number(m.LimitBytes / unit),
	}, name)
}

func (d *describer) controllers() {
	for _, c := range d.m.Controllers {
		is, ok := controllers[c.Model]
		if !ok {
			if c.Model != hypervisor.Floppy {
				d.note("controller %s, %s, is not described, and drives on it are on a SATA controller", c.ID, c.Model)
				is = controllers[hypervisor.AHCI]
			} else {
				continue
			}
		}
		x := withModel(spec.Device{Type: spec.DeviceTypeName(is.typ), Address: strconv.Itoa(c.Index)}, is.subType)
		d.ids[c.ID] = d.add(x, fmt.Sprintf("Controller %s", c.ID))
	}
}

func (d *describer) drives() {
	for _, v := range d.m.Drives {
		x := spec.Device{Parent: d.ids[v.Controller], Slot: strconv.Itoa(v.Unit)}
		switch v.Kind {
		case hypervisor.CDROM, hypervisor.FloppyDrive:
			x.Type, x.Automatic = spec.DeviceTypeName(ovf.CDDrive), "false"
			if v.Kind == hypervisor.FloppyDrive {
				x.Type = spec.DeviceTypeName(ovf.FloppyDrive)
			}
			d.add(x, string(v.Kind)+" "+v.ID)
		default:
			disk := spec.Disk{ID: cmp.Or(v.DiskID, d.m.ID+"-"+v.ID)}
			if v.Medium != nil {
				disk.Source = d.m.ID + "/" + v.ID
			} else {
				disk.Capacity = strconv.FormatInt(v.Capacity, 10)
			}
			d.out.Disks = append(d.out.Disks, disk)
			x.Type, x.Disk = spec.DeviceTypeName(ovf.DiskDrive), disk.ID
			d.add(x, "Hard disk "+v.ID)
		}
	}
}

func (d *describer) cards() {
	for i, n := range d.m.NICs {
		name := cmp.Or(n.Network, n.HostNetwork, "network")
		if !slices.ContainsFunc(d.out.Networks, func(x spec.Network) bool { return x.Name == name }) {
			d.out.Networks = append(d.out.Networks, spec.Network{Name: name})
		}
		x := withModel(spec.Device{
			Type: spec.DeviceTypeName(ovf.EthernetAdapter), Connections: []string{name}, Slot: strconv.Itoa(i),
			Automatic: strconv.FormatBool(!n.Disconnected),
		}, cmp.Or(cards[n.Model], string(n.Model)))
		if d.opt.KeepMAC {
			x.Address = n.MAC
		}
		d.add(x, fmt.Sprintf("Network adapter %d", i+1))
	}
}
