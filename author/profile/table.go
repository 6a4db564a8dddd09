package profile

import (
	"crypto"

	"github.com/ovation-project/ovation/author/descriptor"
	"github.com/ovation-project/ovation/ovf"
)

// models gives the default models with some of them changed.
func models(change func(*descriptor.Models)) descriptor.Models {
	m := descriptor.DefaultModels()
	change(&m)
	return m
}

func vmwareModels(m *descriptor.Models) {
	m.Buses["scsi"] = descriptor.Bus{Type: ovf.SCSIController, SubType: "lsilogic", Units: 16, Skip: 7, Count: 4}
	m.Buses["sata"] = descriptor.Bus{Type: ovf.OtherStorage, SubType: "vmware.sata.ahci", Units: 30, Skip: -1, Count: 4}
	m.Buses["virtio"] = descriptor.Bus{Type: ovf.SCSIController, SubType: "VirtualSCSI", Units: 16, Skip: 7, Count: 4}
	m.NIC = "VmxNet3"
}

func kvmModels(m *descriptor.Models) {
	m.DiskBus, m.NIC, m.CDBus, m.Family = "virtio", "virtio", "sata", "kvm"
}

// toVMware are devices of QEMU's and VirtualBox's that VMware's products do
// not have.
var toVMware = map[string]string{
	"virtioscsi": "VirtualSCSI", "virtio-scsi": "VirtualSCSI", "virtio": "VirtualSCSI", "virtio-blk": "VirtualSCSI",
	"virtio-net": "VmxNet3", "virtionet": "VmxNet3", "rtl8139": "E1000", "ne2k_pci": "E1000",
	"ahci": "vmware.sata.ahci", "nvme": "vmware.nvme.controller",
}

var profiles = []Profile{
	{
		Name: "dmtf", Title: "The standard as it is now, for products that keep to it.",
		Version: "2.1", Family: "vmx-13", Format: "streamOptimized", Hash: crypto.SHA256,
		Models: descriptor.DefaultModels(),
		Reasons: []Reason{
			{"vendors' models", "as they are", "the standard leaves ResourceSubType to products"},
		},
	},
	{
		Name: "vsphere", Title: "VMware vSphere 7 and 8, Workstation and Fusion of the same time, and ovftool.",
		Version: "1", Family: "vmx-13", MaxFamily: 21, Format: "streamOptimized", Hash: crypto.SHA256, Plain: true, OneModel: true,
		Models: models(vmwareModels), SubTypes: toVMware,
	},
	{
		Name: "esxi-6.7", Title: "ESXi and vCenter 6.5 and 6.7.",
		Version: "1", Family: "vmx-13", MaxFamily: 14, Format: "streamOptimized", Hash: crypto.SHA1, Plain: true, OneModel: true,
		Models: models(vmwareModels), SubTypes: toVMware,
	},
	{
		Name: "virtualbox", Title: "Oracle VirtualBox 6 and 7.",
		Version: "1.0", Family: "virtualbox-2.2", Format: "streamOptimized", Hash: crypto.SHA256, Plain: true, OneModel: true,
		Flat: true, MemoryUnits: true,
		Limits: []Limit{
			{Type: ovf.IDEController, Controllers: 2, Units: 4, Skip: -1}, // by itself it writes four on one
			{Type: ovf.SCSIController, Controllers: 1, Units: 16, Skip: 7},
			{Type: ovf.OtherStorage, Models: []string{"AHCI"}, Controllers: 1, Units: 30, Skip: -1},
			{Type: ovf.OtherStorage, Models: []string{"VirtioSCSI"}, Controllers: 1, Units: 16, Skip: -1},
			{Type: ovf.OtherStorage, Models: []string{"NVMe"}, Controllers: 1, Units: 15, Skip: -1},
		},
		Known: []ovf.ResourceType{
			ovf.Processor, ovf.Memory, ovf.IDEController, ovf.SCSIController, ovf.EthernetAdapter, ovf.FloppyDrive, ovf.CDDrive, ovf.DiskDrive,
			ovf.OtherStorage, ovf.USBController, ovf.SoundCard,
		},
		Models: models(func(m *descriptor.Models) {
			m.DiskBus, m.CDBus, m.NIC = "sata", "sata", "E1000"
			m.Buses["nvme"] = descriptor.Bus{Type: ovf.OtherStorage, SubType: "NVMe", Units: 15, Skip: -1, Count: 1}
			m.Buses["virtio"] = descriptor.Bus{Type: ovf.OtherStorage, SubType: "VirtioSCSI", Units: 16, Skip: -1, Count: 1}
		}),
		SubTypes: map[string]string{
			"virtualscsi": "lsilogic", "pvscsi": "lsilogic", "vmware.sata.ahci": "AHCI", "vmware.nvme.controller": "NVMe", "virtio": "VirtioSCSI", "virtio-scsi": "VirtioSCSI",
			"vmxnet3": "E1000", "vmxnet": "E1000", "vmxnet2": "E1000", "flexible": "PCNet32", "e1000e": "E1000", "virtio-net": "VirtioNet", "rtl8139": "E1000", "ne2k_pci": "E1000",
		},
		FirmwareNote: "VirtualBox does not read vmw:Config: switch EFI on by hand after the import",
	},
	{
		Name: "kvm", Title: "virt-v2v, libvirt and QEMU by way of ovation.",
		Version: "1", Family: "kvm", Format: "streamOptimized", Hash: crypto.SHA256, Plain: true, OneModel: true,
		Models:         models(kvmModels),
		CollectionNote: "virt-v2v reads packages of one machine; ovation reads them all",
	},
	{
		Name: "proxmox", Title: "Proxmox VE 8 (qm importovf, and the import of OVAs).",
		Version: "1", Family: "kvm", Format: "streamOptimized", Hash: crypto.SHA256, Plain: true, OneModel: true,
		Models: models(func(m *descriptor.Models) {
			kvmModels(m)
			m.CDBus = "ide"
			m.Buses["sata"] = descriptor.Bus{Type: ovf.OtherStorage, SubType: "AHCI", Units: 6, Skip: -1, Count: 1}
		}),
		Flat: true, MemoryUnits: true, CapacityUnits: true, SafeNames: true,
		Limits: []Limit{
			{Type: ovf.IDEController, Controllers: 1, Units: 4, Skip: -1},
			{Type: ovf.SCSIController, Controllers: 1, Units: 31, Skip: -1},
			{Type: ovf.OtherStorage, Controllers: 1, Units: 6, Skip: -1},
		},
		CollectionNote: "the importer of Proxmox VE reads packages of one machine: take this one apart with ovation edit --remove-machine",
	},
}

// whys are the reasons by what is chosen and the profile.
var whys = map[string]string{
	"version dmtf":       "the current version",
	"version vsphere":    "these products refuse OVF 2 and its StorageItem and EthernetPortItem; what leaves the minor version open is read by all of them",
	"version esxi-6.7":   "these products refuse OVF 2",
	"version virtualbox": "VirtualBox reads 0.9, 1 and 2, by the namespace; 1.0 is what it writes itself, and other products read it as well",
	"version kvm":        "virt-v2v looks for the elements of OVF 1",
	"version proxmox":    "the importer looks for the elements of OVF 1",

	"family dmtf":       "the descriptor's own where it has one",
	"family vsphere":    "vmx-13 is known to all since 6.5; one that the descriptor says stays, up to the latest that these products know",
	"family esxi-6.7":   "vmx-14 is the latest that 6.7 knows",
	"family virtualbox": "the only family that VirtualBox writes; it reads others as well",
	"family kvm":        "not looked at by the importers",
	"family proxmox":    "not looked at by the importer",

	"format dmtf":       "what every reader of OVF knows, and it can be read as it arrives",
	"format vsphere":    "the only format that is taken on upload",
	"format esxi-6.7":   "the only format that is taken on upload",
	"format virtualbox": "what VirtualBox writes itself",
	"format kvm":        "virt-v2v and qemu-img read it",
	"format proxmox":    "qemu-img, which the importer calls, reads it",

	"manifest dmtf":       "the standard's algorithm since 2.0, spelt as there",
	"manifest vsphere":    "known since 6.5; spelt SHA256, since SHA2-256 as OpenSSL 3 writes it is refused, and so is a space behind it",
	"manifest esxi-6.7":   "taken by all clients of that time: the Windows client and PowerCLI refuse SHA256; without a space behind it, which is refused",
	"manifest virtualbox": "VirtualBox knows it, and SHA1",
	"manifest kvm":        "virt-v2v knows SHA1 and SHA256, and passes over others with a warning",
	"manifest proxmox":    "for whoever verifies the package",

	"files dmtf":       "the standard has both",
	"files vsphere":    "not all of these products unpack files",
	"files esxi-6.7":   "not all of these products unpack files",
	"files virtualbox": "what VirtualBox writes itself",
	"files kvm":        "nothing needs to be unpacked first",
	"files proxmox":    "nothing needs to be unpacked first",

	"models dmtf":       "the standard has a list, best first",
	"models vsphere":    "what is built on govmomi reads one",
	"models esxi-6.7":   "what is built on govmomi reads one",
	"models virtualbox": "it compares the field with the names that it knows",
	"models kvm":        "virt-v2v compares the field with the names that it knows",
	"models proxmox":    "for other readers; the importer does not look at it",

	"deployment options virtualbox": "VirtualBox reads no ovf:configuration and no ovf:bound: of several items the last one counts, and all drives and cards are there",
	"deployment options proxmox":    "the importer reads no ovf:configuration and no ovf:bound, and puts the digits of several items behind one another",
	"controllers virtualbox":        "VirtualBox takes no more of a kind, and then does not find where a drive is",
	"controllers proxmox":           "a disk becomes scsi0 by the kind of its controller and its AddressOnParent, so that two controllers of a kind would clash",
	"other devices virtualbox":      "VirtualBox refuses a package with a type of device that it does not know, unless it is optional",
	"memory virtualbox":             "VirtualBox refuses other units than MiB and GiB",
	"memory proxmox":                "the importer takes the number as MiB, whatever the units are",
	"capacities proxmox":            "the importer knows the size of a disk in an OVA only by units that are written so",
	"IDs and names proxmox":         "the importer leaves disks out whose ID has other letters, and refuses such file names",

	"bus dmtf":       "known to most guests",
	"bus vsphere":    "known to most guests without further drivers",
	"bus esxi-6.7":   "known to most guests without further drivers",
	"bus virtualbox": "what VirtualBox gives new machines",
	"bus kvm":        "the fastest; say controller: sata for guests without VirtIO drivers",
	"bus proxmox":    "what Proxmox VE gives new machines",

	"nic dmtf":       "known to most guests",
	"nic vsphere":    "the fastest; guests without the driver need E1000",
	"nic esxi-6.7":   "the fastest; guests without the driver need E1000",
	"nic virtualbox": "known to most guests",
	"nic kvm":        "the fastest; guests without VirtIO drivers need E1000",
	"nic proxmox":    "the fastest; guests without VirtIO drivers need E1000",
}
