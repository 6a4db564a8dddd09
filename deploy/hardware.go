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

	// One of these is set, or none where no driver makes it.
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
	// None says why no driver makes it, for rows of which nothing is set.
	None string
	// Families are those whose products have the device; nil is all.
	Families []Family
	// Physical is set for a device of one host, which is handed through to the
	// guest.
	Physical bool
}

// The families that have a device in common.
var (
	onVMware  = []Family{VMware}
	onQEMU    = []Family{QEMU}
	onPCs     = []Family{VMware, VirtualBox, QEMU}
	notVMware = []Family{VirtualBox, QEMU}
	notVBox   = []Family{VMware, QEMU}
	notQEMU   = []Family{VMware, VirtualBox}
	onE1000   = []Family{VMware, VirtualBox, QEMU, Xen}
	onRTL     = []Family{QEMU, Xen}
)

// What no driver makes.
const (
	noHBA     = "disks are on controllers of the guest's own here, and no host bus adapter of the host's is handed through"
	handed    = "a device of the host's own, which is not handed through"
	notDevice = "it is no device that a guest sees; it is for those who manage hosts"
	noBus     = "no driver makes it, and no guest is known that needs it"
)

// devices is the table. Of several rows for a type, the one without subtypes
// is for items that name none.
var devices = []Device{
	{Type: ovf.IDEController, Controller: hypervisor.IDE},
	{Type: ovf.IDEController, SubTypes: []string{"PIIX3", "PIIX4", "ICH6", "ide"}, Controller: hypervisor.IDE},
	{Type: ovf.IDEController, SubTypes: []string{"virtio", "virtio-blk"}, Controller: hypervisor.VirtIOBlk, Families: onQEMU},

	{Type: ovf.SCSIController, Controller: hypervisor.LSILogic},
	{Type: ovf.SCSIController, SubTypes: []string{"lsilogic", "lsi", "scsi"}, Controller: hypervisor.LSILogic, Families: onPCs},
	{Type: ovf.SCSIController, SubTypes: []string{"lsilogicsas", "lsisas1068", "mptsas1068"}, Controller: hypervisor.LSISAS, Families: onPCs},
	{Type: ovf.SCSIController, SubTypes: []string{"VirtualSCSI", "pvscsi", "ParaVirtualSCSI"}, Controller: hypervisor.PVSCSI, Families: notVBox},
	{Type: ovf.SCSIController, SubTypes: []string{"buslogic"}, Controller: hypervisor.BusLogic, Families: notQEMU},
	{Type: ovf.SCSIController, SubTypes: []string{"virtio-scsi", "VirtioSCSI", "virtioscsi"}, Controller: hypervisor.VirtIOSCSI, Families: notVMware},
	{Type: ovf.SCSIController, SubTypes: []string{"virtio", "virtio-blk"}, Controller: hypervisor.VirtIOBlk, Families: onQEMU},

	{Type: ovf.OtherStorage, Controller: hypervisor.AHCI, Differs: "the item does not say which controller it is"},
	{Type: ovf.OtherStorage, SubTypes: []string{"AHCI", "vmware.sata.ahci", "sata"}, Controller: hypervisor.AHCI, Families: onPCs},
	{Type: ovf.OtherStorage, SubTypes: []string{"vmware.nvme.controller", "nvme", "NVMe"}, Controller: hypervisor.NVMe, Families: onPCs},
	{Type: ovf.OtherStorage, SubTypes: []string{"virtio-scsi", "VirtioSCSI"}, Controller: hypervisor.VirtIOSCSI, Families: notVMware},
	{Type: ovf.OtherStorage, SubTypes: []string{"virtio", "virtio-blk"}, Controller: hypervisor.VirtIOBlk, Families: onQEMU},
	{Type: ovf.OtherStorage, SubTypes: []string{"lsilogicsas", "LsiLogicSas"}, Controller: hypervisor.LSISAS, Families: onPCs},
	{Type: ovf.OtherStorage, SubTypes: []string{"vmware.nvdimm.controller", "vmware.nvdimm.device"}, None: "memory that keeps what it holds", Families: onVMware},

	{Type: ovf.EthernetAdapter, NIC: hypervisor.E1000, Differs: "the item does not say which card it is"},
	{Type: ovf.EthernetAdapter, SubTypes: []string{"E1000", "82540EM", "82543GC", "82545EM"}, NIC: hypervisor.E1000, Families: onE1000},
	{Type: ovf.EthernetAdapter, SubTypes: []string{"E1000e", "82574L"}, NIC: hypervisor.E1000e, Families: notVBox},
	{Type: ovf.EthernetAdapter, SubTypes: []string{"PCNet32", "pcnet", "vlance", "Am79C970A", "Am79C973"}, NIC: hypervisor.PCnet, Families: onPCs},
	{Type: ovf.EthernetAdapter, SubTypes: []string{"Flexible"}, NIC: hypervisor.PCnet, Families: onVMware},
	{Type: ovf.EthernetAdapter, SubTypes: []string{"VmxNet3"}, NIC: hypervisor.VMXNET3, Families: notVBox},
	{Type: ovf.EthernetAdapter, SubTypes: []string{"Vmxnet", "Vmxnet2"}, NIC: hypervisor.E1000, Families: onVMware,
		Differs: "nothing but VMware's own platform has the first VMXNET cards; the guest sees an E1000, which is what most of such guests know besides"},
	{Type: ovf.EthernetAdapter, SubTypes: []string{"virtio", "virtio-net", "VirtioNet"}, NIC: hypervisor.VirtIONet, Families: notVMware},
	{Type: ovf.EthernetAdapter, SubTypes: []string{"rtl8139"}, NIC: hypervisor.RTL8139, Families: onRTL},
	{Type: ovf.EthernetAdapter, SubTypes: []string{"ne2k_pci", "ne2000"}, NIC: hypervisor.NE2000, Families: onRTL},
	{Type: ovf.EthernetAdapter, SubTypes: []string{"SriovEthernetCard"}, None: handed, Families: onVMware, Physical: true},

	{Type: ovf.DiskDrive, Drive: hypervisor.HardDisk},
	{Type: ovf.LogicalDisk, Drive: hypervisor.HardDisk},
	{Type: ovf.CDDrive, Drive: hypervisor.CDROM},
	{Type: ovf.DVDDrive, Drive: hypervisor.CDROM},
	{Type: ovf.FloppyDrive, Drive: hypervisor.FloppyDrive},

	{Type: ovf.SerialPort, Serial: true},

	{Type: ovf.USBController, USB: "uhci"},
	{Type: ovf.USBController, SubTypes: []string{"uhci"}, USB: "uhci"},
	{Type: ovf.USBController, SubTypes: []string{"ohci"}, USB: "ohci", Families: notVMware},
	{Type: ovf.USBController, SubTypes: []string{"vmware.usb.ehci", "ehci"}, USB: "ehci", Families: onPCs},
	{Type: ovf.USBController, SubTypes: []string{"vmware.usb.xhci", "xhci"}, USB: "xhci", Families: onPCs},

	{Type: ovf.GraphicsController, Display: "vga"},
	{Type: ovf.GraphicsController, SubTypes: []string{"vga", "VBoxVGA", "VBoxSVGA", "cirrus"}, Display: "vga"},
	{Type: ovf.GraphicsController, SubTypes: []string{"vmvga", "vmware.svga", "VMSVGA"}, Display: "vmvga", Families: onPCs},
	{Type: ovf.GraphicsController, SubTypes: []string{"virtio", "virtio-vga"}, Display: "virtio", Families: onQEMU},
	{Type: ovf.GraphicsController, SubTypes: []string{"qxl"}, Display: "qxl", Families: onQEMU},

	{Type: ovf.SoundCard, Sound: "ens1370", Differs: "the item does not say which card it is"},
	{Type: ovf.SoundCard, SubTypes: []string{"ensoniq1371", "vmware.soundcard.ensoniq1371"}, Sound: "ens1370", Families: onVMware, Differs: "an Ensoniq ES1370 stands in for the ES1371"},
	{Type: ovf.SoundCard, SubTypes: []string{"hdaudio", "vmware.soundcard.hdaudio", "HDA", "ich6"}, Sound: "ich6", Families: onPCs},
	{Type: ovf.SoundCard, SubTypes: []string{"ich9"}, Sound: "ich9", Families: onQEMU},
	{Type: ovf.SoundCard, SubTypes: []string{"AC97"}, Sound: "ac97", Families: notVMware},
	{Type: ovf.SoundCard, SubTypes: []string{"SB16", "sb16"}, Sound: "sb16", Families: onPCs},

	{Type: ovf.Other, SubTypes: []string{"vmware.soundcard.ensoniq1371"}, Sound: "ens1370", Families: onVMware, Differs: "an Ensoniq ES1370 stands in for the ES1371"},
	{Type: ovf.Other, SubTypes: []string{"vmware.soundcard.hdaudio"}, Sound: "ich6", Families: onPCs},
	{Type: ovf.Other, SubTypes: []string{"vmware.vtpm"}, TPM: "2.0", Families: onPCs},
	{Type: ovf.Other, SubTypes: []string{"vmware.vmci"}, None: "VMware's own way between guests and host", Families: onVMware},
	{Type: ovf.Other, SubTypes: []string{"vmware.pci.passthrough", "vmware.pci.passthrough-ah"}, None: handed, Families: onVMware, Physical: true},
	{Type: ovf.Other, None: "the item does not say what it is"},

	{Type: ovf.ComputerSystem, None: notDevice},
	{Type: ovf.FCHBA, None: noHBA, Physical: true},
	{Type: ovf.ISCSIHBA, None: noHBA, Physical: true},
	{Type: ovf.IBHCA, None: handed, Physical: true},
	{Type: ovf.OtherNetwork, None: "it does not say which card it is, and is no Ethernet adapter"},
	{Type: ovf.IOSlot, None: handed, Physical: true},
	{Type: ovf.IODevice, None: handed, Physical: true},
	{Type: ovf.TapeDrive, None: noBus},
	{Type: ovf.StorageExtent, None: "a part of a disk of the host's: the package's own disks are of the types 17 and 31"},
	{Type: ovf.ParallelPort, None: noBus},
	{Type: ovf.IEEE1394Controller, None: noBus},
	{Type: ovf.PartitionableUnit, None: notDevice},
	{Type: ovf.BasePartitionable, None: notDevice},
	{Type: ovf.Power, None: notDevice},
	{Type: ovf.Cooling, None: notDevice},
	{Type: ovf.EthernetSwitchPort, None: notDevice},
	{Type: ovf.StorageVolume, None: "a volume of the host's: the package's own disks are of the types 17 and 31"},
	{Type: ovf.EthernetConnection, None: notDevice},
	{Type: ovf.GPU, None: handed, Physical: true},
}

// Devices is the table that hardware items are looked up in.
func Devices() []Device { return slices.Clone(devices) }

// LookUp finds the rows for an item: the first is what it becomes where the
// target has that, the others are what its author would take as well.
func LookUp(t ovf.ResourceType, subTypes []string) []Device { return lookUp(t, subTypes) }

// none says that no driver makes it.
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
			if d.Type == t && len(d.SubTypes) == 0 && (len(subTypes) == 0 || d.Drive != "" || d.Serial || d.Display != "" || d.none() && t != ovf.Other) {
				found = append(found, d)
			}
		}
	}
	return found
}
