// Package qemudevice is the table of the device models that QEMU emulates for
// the models that a machine names, whoever starts the QEMU.
package qemudevice

import (
	"maps"

	"github.com/ovation-project/ovation/hypervisor"
)

// Table is what a QEMU gives that was built with everything, by the names that
// machines use. A device's Name is QEMU's (-device NAME).
type Table struct {
	Controllers map[hypervisor.ControllerModel]hypervisor.Device
	NICs        map[hypervisor.NICModel]hypervisor.Device
	Displays    map[string]hypervisor.Device
	Sounds      map[string]hypervisor.Device
	USB         map[string]hypervisor.Device
}

// All gives the table. It is the caller's to change.
func All() Table {
	return Table{maps.Clone(controllers), maps.Clone(nics), maps.Clone(displays), maps.Clone(sounds), maps.Clone(usbs)}
}

// Without gives the table less the devices that are missing, asked by QEMU's
// names.
func (t Table) Without(missing func(name string) bool) Table {
	return Table{without(t.Controllers, missing), without(t.NICs, missing), without(t.Displays, missing), without(t.Sounds, missing), without(t.USB, missing)}
}

func without[K comparable](table map[K]hypervisor.Device, missing func(string) bool) map[K]hypervisor.Device {
	out := maps.Clone(table)
	maps.DeleteFunc(out, func(_ K, d hypervisor.Device) bool { return missing(d.Name) })
	return out
}

// MaxSerials is the number of serial ports of a PC.
const MaxSerials = 4

// MaxPCIDevices is how many devices a machine may have on its PCI bus beside
// the chipset's own.
const MaxPCIDevices = 28

// DefaultDisplay is for machines that say nothing: a guest without any screen
// is rare, and many boot loaders stop without one.
const DefaultDisplay = "vga"

var (
	onPC     = []hypervisor.Chipset{hypervisor.I440FX}
	onlyBIOS = []hypervisor.FirmwareKind{hypervisor.BIOS}
)

var controllers = map[hypervisor.ControllerModel]hypervisor.Device{
	// The PIIX3's own two channels; a second chip would want the same ports.
	hypervisor.IDE: {Name: "piix3-ide", GuestDriver: "ata_piix", Max: 2, Units: 2, Chipsets: onPC},
	// Beside the one that Q35 has on board, so that both chipsets are alike.
	hypervisor.AHCI: {Name: "ich9-ahci", GuestDriver: "ahci", Units: 6},
	// The UEFI that distributions build has no drivers for these three: edk2
	// leaves LsiScsi out, and MptScsi and PvScsi as well since July 2022. The
	// guest's own drivers see their disks all the same.
	//
	// The seventh target is the adapter itself.
	hypervisor.LSILogic: {Name: "lsi53c895a", GuestDriver: "sym53c8xx", Units: 7, BootsWith: onlyBIOS,
		Substitute: "QEMU has no LSI 53C1030; the guest sees an LSI 53C895A and needs the driver sym53c8xx instead of mptspi"},
	// SeaBIOS looks at seven of the eight.
	hypervisor.LSISAS:     {Name: "mptsas1068", GuestDriver: "mptsas", Units: 7, BootsWith: onlyBIOS},
	hypervisor.PVSCSI:     {Name: "pvscsi", GuestDriver: "vmw_pvscsi", Units: 64, BootsWith: onlyBIOS},
	hypervisor.VirtIOSCSI: {Name: "virtio-scsi-pci", GuestDriver: "virtio_scsi", Units: 256},
	hypervisor.VirtIOBlk:  {Name: "virtio-blk-pci", GuestDriver: "virtio_blk"},
	hypervisor.NVMe:       {Name: "nvme", GuestDriver: "nvme", Units: 15},
	hypervisor.Floppy:     {Name: "isa-fdc", GuestDriver: "floppy", Max: 1, Units: 2, BootsWith: onlyBIOS},
}

var nics = map[hypervisor.NICModel]hypervisor.Device{
	hypervisor.E1000:     {Name: "e1000", GuestDriver: "e1000"},
	hypervisor.E1000e:    {Name: "e1000e", GuestDriver: "e1000e"},
	hypervisor.PCnet:     {Name: "pcnet", GuestDriver: "pcnet32"},
	hypervisor.VMXNET3:   {Name: "vmxnet3", GuestDriver: "vmxnet3"},
	hypervisor.VirtIONet: {Name: "virtio-net-pci", GuestDriver: "virtio_net"},
	hypervisor.RTL8139:   {Name: "rtl8139", GuestDriver: "8139cp"},
	hypervisor.NE2000:    {Name: "ne2k_pci", GuestDriver: "ne2k-pci"},
}

var displays = map[string]hypervisor.Device{
	"vga":    {Name: "VGA", GuestDriver: "bochs"},
	"virtio": {Name: "virtio-vga", GuestDriver: "virtio-gpu"},
	"qxl":    {Name: "qxl-vga", GuestDriver: "qxl"},
	"vmvga":  {Name: "vmware-svga", GuestDriver: "vmwgfx"},
}

var sounds = map[string]hypervisor.Device{
	"ac97":    {Name: "AC97", GuestDriver: "snd_intel8x0"},
	"ich6":    {Name: "intel-hda", GuestDriver: "snd_hda_intel"},
	"ich9":    {Name: "ich9-intel-hda", GuestDriver: "snd_hda_intel"},
	"sb16":    {Name: "sb16", GuestDriver: "snd_sb16"},
	"ens1370": {Name: "ES1370", GuestDriver: "snd_ens1370"},
}

var usbs = map[string]hypervisor.Device{
	"uhci": {Name: "piix3-usb-uhci", GuestDriver: "uhci_hcd"},
	"ohci": {Name: "pci-ohci", GuestDriver: "ohci_pci"},
	"ehci": {Name: "usb-ehci", GuestDriver: "ehci_pci"},
	"xhci": {Name: "qemu-xhci", GuestDriver: "xhci_pci"},
}
