package libvirt

import (
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/qemudevice"
)

// NetworkUser is the host network of a card that QEMU itself leads out: for
// hosts without networks of their own, and users without privileges.
const NetworkUser = "user"

// libvirt's names of the device models that machines name. Which of them a host
// has it says itself.

var scsiModels = map[hypervisor.ControllerModel]string{
	hypervisor.LSILogic: "lsilogic", hypervisor.LSISAS: "lsisas1068", hypervisor.PVSCSI: "vmpvscsi", hypervisor.VirtIOSCSI: "virtio-scsi",
}

var nicModels = map[hypervisor.NICModel]string{
	hypervisor.E1000: "e1000", hypervisor.E1000e: "e1000e", hypervisor.PCnet: "pcnet", hypervisor.VMXNET3: "vmxnet3",
	hypervisor.VirtIONet: "virtio", hypervisor.RTL8139: "rtl8139", hypervisor.NE2000: "ne2k_pci",
}

var videoModels = map[string]string{"vga": "vga", "virtio": "virtio", "qxl": "qxl", "vmvga": "vmvga"}

var soundModels = map[string]string{"ac97": "ac97", "ich6": "ich6", "ich9": "ich9", "sb16": "sb16", "ens1370": "es1370"}

var usbModels = map[string]string{"uhci": "piix3-uhci", "ohci": "pci-ohci", "ehci": "ehci", "xhci": "qemu-xhci"}

// busOf is where a controller's drives are plugged in, and how their names
// begin.
var busOf = map[hypervisor.ControllerModel]struct{ bus, prefix string }{
	hypervisor.IDE: {"ide", "hd"}, hypervisor.AHCI: {"sata", "sd"}, hypervisor.Floppy: {"fdc", "fd"},
	hypervisor.LSILogic: {"scsi", "sd"}, hypervisor.LSISAS: {"scsi", "sd"}, hypervisor.PVSCSI: {"scsi", "sd"}, hypervisor.VirtIOSCSI: {"scsi", "sd"},
	hypervisor.VirtIOBlk: {"virtio", "vd"}, hypervisor.NVMe: {"nvme", "nvme"},
}

// featureNames are the CPU features that libvirt calls by another name than
// QEMU.
var featureNames = map[string]string{
	"cmp-legacy": "cmp_legacy", "ds-cpl": "ds_cpl", "fxsr-opt": "fxsr_opt", "lahf-lm": "lahf_lm", "nodeid-msr": "nodeid_msr",
	"pclmulqdq": "pclmuldq", "perfctr-core": "perfctr_core", "perfctr-nb": "perfctr_nb", "tsc-adjust": "tsc_adjust",
	"sse4-1": "sse4.1", "sse4-2": "sse4.2",
}

// inverse turns a table of names round.
func inverse[A, B comparable](m map[A]B) map[B]A {
	out := make(map[B]A, len(m))
	for a, b := range m {
		out[b] = a
	}
	return out
}

// Models is what a libvirt gives whose QEMU was built with everything, or, with
// xen, what a Xen does, by the names that libvirt's domains have for the
// devices: for tables, where no host is asked. Only the devices are set.
func Models(xen bool) *hypervisor.Capabilities {
	f := &facts{devices: qemudevice.All()}
	if xen {
		f.xenDevices()
	}
	d := f.devices
	c := &hypervisor.Capabilities{Driver: driverName, Architecture: "x86_64", Controllers: d.Controllers, NICs: d.NICs, Displays: d.Displays,
		Sounds: d.Sounds, USB: d.USB, MaxSerials: qemudevice.MaxSerials, TPMs: []string{"1.2", "2.0"}}
	for model, device := range c.Controllers {
		device.Name = busOf[model].bus
		if scsi := scsiModels[model]; scsi != "" {
			device.Name = "scsi, " + scsi
		}
		c.Controllers[model] = device
	}
	rename(c.NICs, nicModels)
	rename(c.Displays, videoModels)
	rename(c.Sounds, soundModels)
	rename(c.USB, usbModels)
	return c
}

func rename[K comparable](devices map[K]hypervisor.Device, names map[K]string) {
	for k, d := range devices {
		d.Name = names[k]
		devices[k] = d
	}
}
