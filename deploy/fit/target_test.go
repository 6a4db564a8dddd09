package fit_test

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/drivertest"
	"github.com/ovation-project/ovation/hypervisor/qemudevice"
)

var (
	bothChipsets = []hypervisor.Chipset{hypervisor.I440FX, hypervisor.Q35}
	onlyQ35      = bothChipsets[1:]
)

func firmware(kinds ...hypervisor.FirmwareKind) (all []hypervisor.FirmwareCapability) {
	for _, k := range kinds {
		all = append(all, hypervisor.FirmwareCapability{Kind: k, Chipsets: bothChipsets})
	}
	return all
}

// roomy is a KVM host that has everything.
func roomy() *hypervisor.Capabilities {
	d := qemudevice.All()
	return &hypervisor.Capabilities{Driver: "libvirt", Version: "10", Architecture: "x86_64", Acceleration: hypervisor.Acceleration{Kind: "kvm"},
		MaxCPUs: 255, HostCPUs: 64, MemoryBytes: 256 << 30, CPUFeatures: []string{"aes", "avx2", "pni", "sse4-1", "vmx"}, Chipsets: bothChipsets,
		Firmware:    append(firmware(hypervisor.BIOS, hypervisor.UEFI), hypervisor.FirmwareCapability{Kind: hypervisor.UEFI, SecureBoot: true, Chipsets: onlyQ35}),
		Controllers: d.Controllers, NICs: d.NICs, Displays: d.Displays, Sounds: d.Sounds, USB: d.USB, TPMs: []string{"1.2", "2.0"},
		MaxSerials: 4, Formats: []string{"qcow2", "raw"}, Families: []string{"kvm", "qemu", "libvirt"}}
}

// small is an emulated host with little of anything.
func small() *hypervisor.Capabilities {
	c := roomy()
	c.Acceleration = hypervisor.Acceleration{Kind: "tcg", Reason: "there is no /dev/kvm"}
	c.MaxCPUs, c.HostCPUs, c.MemoryBytes, c.CPUFeatures, c.TPMs = 2, 1, 128<<20, []string{"pni"}, nil
	c.Firmware, c.Families = firmware(hypervisor.BIOS), []string{"qemu", "libvirt"}
	return c
}

// rhel is a KVM that a distributor built without the old devices.
func rhel() *hypervisor.Capabilities {
	c := roomy()
	c.Chipsets = onlyQ35
	c.Firmware = []hypervisor.FirmwareCapability{{Kind: hypervisor.BIOS, Chipsets: onlyQ35}, {Kind: hypervisor.UEFI, Chipsets: onlyQ35}}
	maps.DeleteFunc(c.Controllers, func(m hypervisor.ControllerModel, _ hypervisor.Device) bool {
		return !slices.Contains([]hypervisor.ControllerModel{hypervisor.AHCI, hypervisor.VirtIOBlk, hypervisor.VirtIOSCSI, hypervisor.NVMe}, m)
	})
	maps.DeleteFunc(c.NICs, func(m hypervisor.NICModel, _ hypervisor.Device) bool {
		return !slices.Contains([]hypervisor.NICModel{hypervisor.E1000, hypervisor.E1000e, hypervisor.VirtIONet, hypervisor.RTL8139}, m)
	})
	return c
}

// xen has the devices of Xen's own model.
func xen() *hypervisor.Capabilities {
	c := roomy()
	c.Chipsets, c.Firmware, c.CPUFeatures, c.TPMs = bothChipsets[:1], firmware(hypervisor.BIOS), nil, nil
	c.Acceleration.Kind, c.Families = "xen", []string{"xen", "libvirt"}
	maps.DeleteFunc(c.Controllers, func(m hypervisor.ControllerModel, _ hypervisor.Device) bool { return m != hypervisor.IDE })
	maps.DeleteFunc(c.NICs, func(m hypervisor.NICModel, _ hypervisor.Device) bool {
		return !slices.Contains([]hypervisor.NICModel{hypervisor.E1000, hypervisor.RTL8139, hypervisor.VirtIONet}, m)
	})
	return c
}

// vsphere is what VMware's own hosts have.
func vsphere() *hypervisor.Capabilities {
	c := roomy()
	c.Driver, c.Chipsets, c.Formats, c.CPUFeatures = "vsphere", []hypervisor.Chipset{hypervisor.I440FX}, []string{"vmdk"}, nil
	c.Firmware = append(firmware(hypervisor.BIOS, hypervisor.UEFI), hypervisor.FirmwareCapability{Kind: hypervisor.UEFI, SecureBoot: true, Chipsets: c.Chipsets})
	c.Families, c.GuestInfo, c.TPMs = []string{"vmx-19", "vmx-13", "vmx-10"}, true, []string{"2.0"}
	c.Controllers = map[hypervisor.ControllerModel]hypervisor.Device{}
	for _, m := range []hypervisor.ControllerModel{hypervisor.IDE, hypervisor.AHCI, hypervisor.LSILogic, hypervisor.LSISAS, hypervisor.BusLogic, hypervisor.PVSCSI, hypervisor.NVMe, hypervisor.Floppy} {
		c.Controllers[m] = hypervisor.Device{Name: string(m), Units: 15, Max: 4}
	}
	c.NICs = map[hypervisor.NICModel]hypervisor.Device{}
	for _, m := range []hypervisor.NICModel{hypervisor.E1000, hypervisor.E1000e, hypervisor.PCnet, hypervisor.VMXNET3} {
		c.NICs[m] = hypervisor.Device{Name: string(m), Max: 10}
	}
	return c
}

// arm runs other guests.
func arm() *hypervisor.Capabilities {
	c := roomy()
	c.Architecture = "aarch64"
	return c
}

// host is a host in memory that gives what caps says.
func host(name string, caps *hypervisor.Capabilities) *drivertest.Memory {
	h := drivertest.NewMemory()
	h.Name, h.Gives = name, caps
	return h
}

// targets are several kinds of host, by name.
func targets() map[string]*drivertest.Memory {
	all := map[string]*drivertest.Memory{"kvm": host("kvm", roomy()), "small": host("small", small()), "rhel": host("rhel", rhel()), "xen": host("xen", xen()),
		"vsphere": host("vsphere", vsphere()), "arm": host("arm", arm()), "bare": host("bare", roomy())}
	all["small"].PoolList[0].AvailableBytes = 4 << 20
	all["vsphere"].PoolList[0].Formats = []string{"vmdk", "raw"}
	all["vsphere"].NetworkList = []hypervisor.Network{{Name: "VM Network", Kind: "portgroup", Active: true}}
	all["bare"].PoolList, all["bare"].NetworkList = nil, []hypervisor.Network{{Name: "off", Kind: "network"}}
	return all
}

// unchecked is a host that can't be asked whether it could make a machine.
type unchecked struct{ h *drivertest.Memory }

func (u unchecked) URI() string { return u.h.URI() }
func (u unchecked) Capabilities(ctx context.Context, arch string) (*hypervisor.Capabilities, error) {
	return u.h.Capabilities(ctx, arch)
}
func (u unchecked) Pools(ctx context.Context) ([]hypervisor.Pool, error) { return u.h.Pools(ctx) }
func (u unchecked) Networks(ctx context.Context) ([]hypervisor.Network, error) {
	return u.h.Networks(ctx)
}

// tables is a driver that answers by its tables, and makes nothing.
type tables struct{ gives *hypervisor.Capabilities }

func (tables) Name() string { return "qemu" }
func (d tables) Capabilities(context.Context, string) (*hypervisor.Capabilities, error) {
	return d.gives, nil
}
func (tables) Create(context.Context, hypervisor.Machine) (hypervisor.Guest, error) {
	return nil, errors.ErrUnsupported
}

// refusing finds something in every machine.
type refusing struct{ tables }

func (refusing) Check(_ context.Context, m hypervisor.Machine) error {
	return &hypervisor.UnfitError{Target: "qemu", Reasons: []hypervisor.Reason{{Machine: m.ID, Subject: "machine", Text: "on second thoughts, no"}}}
}
