// Package deploy takes a resolved descriptor to a target: it works out which
// machines are to be made, and whether the target can give what they need.
package deploy

import (
	"slices"
	"strings"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/ovf"
)

// Device is what one kind of hardware item becomes.
type Device struct {
	// Type and SubTypes are the item's ResourceType and ResourceSubType; case
	// does not count. No subtype is an item that names none.
	Type     ovf.ResourceType
	SubTypes []string

	// One of these is set, or none for what only its own vendor's platform
	// has.
	Controller hypervisor.ControllerModel
	NIC        hypervisor.NICModel
	Sound      string
	USB        string
	Display    string
	Drive      hypervisor.DriveKind
	Serial     bool
	TPM        string

	// Differs says what is not as the item says, "" where it is.
	Differs string
}

// devices is the table. Of several rows for a type, the one without subtypes
// is for items that name none.
var devices = []Device{
	{Type: ovf.IDEController, Controller: hypervisor.IDE},
	{Type: ovf.IDEController, SubTypes: []string{"PIIX3", "PIIX4", "ICH6", "ide"}, Controller: hypervisor.IDE},
	{Type: ovf.IDEController, SubTypes: []string{"virtio", "virtio-blk"}, Controller: hypervisor.VirtIOBlk},

	{Type: ovf.SCSIController, Controller: hypervisor.LSILogic},
	{Type: ovf.SCSIController, SubTypes: []string{"lsilogic", "lsi", "scsi"}, Controller: hypervisor.LSILogic},
	{Type: ovf.SCSIController, SubTypes: []string{"lsilogicsas", "lsisas1068", "mptsas1068"}, Controller: hypervisor.LSISAS},
	{Type: ovf.SCSIController, SubTypes: []string{"VirtualSCSI", "pvscsi", "ParaVirtualSCSI"}, Controller: hypervisor.PVSCSI},
	{Type: ovf.SCSIController, SubTypes: []string{"buslogic"}, Controller: hypervisor.BusLogic},
	{Type: ovf.SCSIController, SubTypes: []string{"virtio-scsi", "VirtioSCSI", "virtioscsi"}, Controller: hypervisor.VirtIOSCSI},
	{Type: ovf.SCSIController, SubTypes: []string{"virtio", "virtio-blk"}, Controller: hypervisor.VirtIOBlk},

	{Type: ovf.OtherStorage, Controller: hypervisor.AHCI, Differs: "the item does not say which controller it is"},
	{Type: ovf.OtherStorage, SubTypes: []string{"AHCI", "vmware.sata.ahci", "sata"}, Controller: hypervisor.AHCI},
	{Type: ovf.OtherStorage, SubTypes: []string{"vmware.nvme.controller", "nvme", "NVMe"}, Controller: hypervisor.NVMe},
	{Type: ovf.OtherStorage, SubTypes: []string{"virtio-scsi", "VirtioSCSI"}, Controller: hypervisor.VirtIOSCSI},
	{Type: ovf.OtherStorage, SubTypes: []string{"virtio", "virtio-blk"}, Controller: hypervisor.VirtIOBlk},
	{Type: ovf.OtherStorage, SubTypes: []string{"lsilogicsas", "LsiLogicSas"}, Controller: hypervisor.LSISAS},
	{Type: ovf.OtherStorage, SubTypes: []string{"vmware.nvdimm.controller", "vmware.nvdimm.device"}},

	{Type: ovf.EthernetAdapter, NIC: hypervisor.E1000, Differs: "the item does not say which card it is"},
	{Type: ovf.EthernetAdapter, SubTypes: []string{"E1000", "82540EM", "82543GC", "82545EM"}, NIC: hypervisor.E1000},
	{Type: ovf.EthernetAdapter, SubTypes: []string{"E1000e", "82574L"}, NIC: hypervisor.E1000e},
	{Type: ovf.EthernetAdapter, SubTypes: []string{"PCNet32", "pcnet", "vlance", "Am79C970A", "Am79C973"}, NIC: hypervisor.PCnet},
	{Type: ovf.EthernetAdapter, SubTypes: []string{"Flexible"}, NIC: hypervisor.PCnet},
	{Type: ovf.EthernetAdapter, SubTypes: []string{"VmxNet3"}, NIC: hypervisor.VMXNET3},
	{Type: ovf.EthernetAdapter, SubTypes: []string{"Vmxnet", "Vmxnet2"}, NIC: hypervisor.E1000,
		Differs: "nothing but VMware's own platform has the first VMXNET cards; the guest sees an E1000, which is what most of such guests know besides"},
	{Type: ovf.EthernetAdapter, SubTypes: []string{"virtio", "virtio-net", "VirtioNet"}, NIC: hypervisor.VirtIONet},
	{Type: ovf.EthernetAdapter, SubTypes: []string{"rtl8139"}, NIC: hypervisor.RTL8139},
	{Type: ovf.EthernetAdapter, SubTypes: []string{"ne2k_pci", "ne2000"}, NIC: hypervisor.NE2000},
	{Type: ovf.EthernetAdapter, SubTypes: []string{"SriovEthernetCard"}},

	{Type: ovf.DiskDrive, Drive: hypervisor.HardDisk},
	{Type: ovf.LogicalDisk, Drive: hypervisor.HardDisk},
	{Type: ovf.CDDrive, Drive: hypervisor.CDROM},
	{Type: ovf.DVDDrive, Drive: hypervisor.CDROM},
	{Type: ovf.FloppyDrive, Drive: hypervisor.FloppyDrive},

	{Type: ovf.SerialPort, Serial: true},

	{Type: ovf.USBController, USB: "uhci"},
	{Type: ovf.USBController, SubTypes: []string{"uhci"}, USB: "uhci"},
	{Type: ovf.USBController, SubTypes: []string{"ohci"}, USB: "ohci"},
	{Type: ovf.USBController, SubTypes: []string{"vmware.usb.ehci", "ehci"}, USB: "ehci"},
	{Type: ovf.USBController, SubTypes: []string{"vmware.usb.xhci", "xhci"}, USB: "xhci"},

	{Type: ovf.GraphicsController, Display: "vga"},
	{Type: ovf.GraphicsController, SubTypes: []string{"vga", "VBoxVGA", "VBoxSVGA", "cirrus"}, Display: "vga"},
	{Type: ovf.GraphicsController, SubTypes: []string{"vmvga", "vmware.svga", "VMSVGA"}, Display: "vmvga"},
	{Type: ovf.GraphicsController, SubTypes: []string{"virtio", "virtio-vga"}, Display: "virtio"},
	{Type: ovf.GraphicsController, SubTypes: []string{"qxl"}, Display: "qxl"},

	{Type: ovf.SoundCard, Sound: "ens1370", Differs: "the item does not say which card it is"},
	{Type: ovf.SoundCard, SubTypes: []string{"ensoniq1371", "vmware.soundcard.ensoniq1371"}, Sound: "ens1370", Differs: "an Ensoniq ES1370 stands in for the ES1371"},
	{Type: ovf.SoundCard, SubTypes: []string{"hdaudio", "vmware.soundcard.hdaudio", "HDA", "ich6"}, Sound: "ich6"},
	{Type: ovf.SoundCard, SubTypes: []string{"ich9"}, Sound: "ich9"},
	{Type: ovf.SoundCard, SubTypes: []string{"AC97"}, Sound: "ac97"},
	{Type: ovf.SoundCard, SubTypes: []string{"SB16", "sb16"}, Sound: "sb16"},

	{Type: ovf.Other, SubTypes: []string{"vmware.soundcard.ensoniq1371"}, Sound: "ens1370", Differs: "an Ensoniq ES1370 stands in for the ES1371"},
	{Type: ovf.Other, SubTypes: []string{"vmware.soundcard.hdaudio"}, Sound: "ich6"},
	{Type: ovf.Other, SubTypes: []string{"vmware.vtpm"}, TPM: "2.0"},
	{Type: ovf.Other, SubTypes: []string{"vmware.vmci", "vmware.pci.passthrough", "vmware.pci.passthrough-ah"}},
}

// Devices is the table that hardware items are looked up in.
func Devices() []Device { return slices.Clone(devices) }

// none says that the row is for what only its vendor's platform has.
func (d Device) none() bool {
	return d.Controller == "" && d.NIC == "" && d.Sound == "" && d.USB == "" && d.Display == "" && d.Drive == "" && !d.Serial && d.TPM == ""
}

// lookUp finds the rows for an item, in the order of its subtypes: each is a
// model that the package's author would take.
func lookUp(t ovf.ResourceType, subTypes []string) []Device {
	var found []Device
	for _, s := range subTypes {
		for _, d := range devices {
			if d.Type == t && slices.ContainsFunc(d.SubTypes, func(name string) bool { return strings.EqualFold(name, s) }) {
				found = append(found, d)
			}
		}
	}
	// Drives and ports are what they are, whatever their subtype says of
	// where their content comes from.
	if len(found) == 0 {
		for _, d := range devices {
			if d.Type == t && len(d.SubTypes) == 0 && (len(subTypes) == 0 || d.Drive != "" || d.Serial || d.Display != "") {
				found = append(found, d)
			}
		}
	}
	return found
}
