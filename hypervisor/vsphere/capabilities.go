package vsphere

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/ovation-project/ovation/hypervisor"
)

// facts are what where new machines go said of itself.
type facts struct {
	option      *types.VirtualMachineConfigOption
	versions    []string // of virtual hardware, such as vmx-19, the latest first
	evc         string
	cpus        int // logical processors of the largest host
	memoryBytes int64
}

// learn asks the host, once.
func (h *Host) learn(ctx context.Context) (*facts, error) {
	d, err := h.destination(ctx)
	if err != nil {
		return nil, err
	}
	return h.learned.get(func() (*facts, error) { return h.ask(ctx, d) })
}

func (h *Host) ask(ctx context.Context, d *destination) (_ *facts, err error) {
	f := &facts{}
	var c mo.ComputeResource
	if err := h.get(ctx, d.compute, &c, "environmentBrowser", "host"); err != nil {
		return nil, err
	}
	hosts := c.Host
	if d.host != nil {
		hosts = []ref{*d.host}
	}
	if d.compute.Type == "ClusterComputeResource" {
		var cluster mo.ClusterComputeResource
		if err := h.get(ctx, d.compute, &cluster, "summary"); err != nil {
			return nil, err
		}
		if s, ok := cluster.Summary.(*types.ClusterComputeResourceSummary); ok {
			f.evc = s.CurrentEVCModeKey
		}
	}
	if len(hosts) > 0 {
		var all []mo.HostSystem
		if err := property.DefaultCollector(h.client).Retrieve(ctx, hosts, []string{"summary.hardware"}, &all); err != nil {
			return nil, known(err)
		}
		for _, e := range all {
			if hw := e.Summary.Hardware; hw != nil {
				f.cpus, f.memoryBytes = max(f.cpus, int(hw.NumCpuThreads)), max(f.memoryBytes, hw.MemorySize)
			}
		}
	}
	if c.EnvironmentBrowser == nil {
		return nil, fmt.Errorf("%s: it does not say what machines it takes: %w", h.target, hypervisor.ErrUnavailable)
	}
	browser := object.NewEnvironmentBrowser(h.client, *c.EnvironmentBrowser)
	if f.option, err = browser.QueryConfigOption(ctx, nil); err != nil {
		return nil, known(err)
	}
	descriptors, err := browser.QueryConfigOptionDescriptor(ctx)
	if err != nil {
		return nil, known(err)
	}
	for _, x := range descriptors {
		if x.CreateSupported {
			f.versions = append(f.versions, x.Key)
		}
	}
	slices.SortFunc(f.versions, func(a, b string) int { return versionNumber(b) - versionNumber(a) })
	return f, nil
}

func versionNumber(s string) int {
	var n int
	_, _ = fmt.Sscanf(s, "vmx-%d", &n)
	return n
}

// deviceOption names the options of a host for the devices that it gives.
var (
	controllerOptions = map[hypervisor.ControllerModel]string{
		hypervisor.IDE: "VirtualIDEControllerOption", hypervisor.AHCI: "VirtualAHCIControllerOption", hypervisor.LSILogic: "VirtualLsiLogicControllerOption",
		hypervisor.LSISAS: "VirtualLsiLogicSASControllerOption", hypervisor.BusLogic: "VirtualBusLogicControllerOption",
		hypervisor.PVSCSI: "ParaVirtualSCSIControllerOption", hypervisor.NVMe: "VirtualNVMEControllerOption", hypervisor.Floppy: "VirtualSIOControllerOption",
	}
	cardOptions = map[hypervisor.NICModel]string{
		hypervisor.E1000: "VirtualE1000Option", hypervisor.E1000e: "VirtualE1000eOption", hypervisor.PCnet: "VirtualPCNet32Option", hypervisor.VMXNET3: "VirtualVmxnet3Option",
	}
)

// What the platform allows of each controller (VMware's configuration maximums)
// and what a Linux guest drives it by. SCSI controllers are themselves at place
// 7 of 16.
var controllers = map[hypervisor.ControllerModel]hypervisor.Device{
	hypervisor.IDE:      {Name: "VirtualIDEController", GuestDriver: "ata_piix", Max: 2, Units: 2},
	hypervisor.AHCI:     {Name: "VirtualAHCIController", GuestDriver: "ahci", Max: 4, Units: 30},
	hypervisor.LSILogic: {Name: "VirtualLsiLogicController", GuestDriver: "mptspi", Max: 4, Units: 16},
	hypervisor.LSISAS:   {Name: "VirtualLsiLogicSASController", GuestDriver: "mptsas", Max: 4, Units: 16},
	hypervisor.BusLogic: {Name: "VirtualBusLogicController", GuestDriver: "BusLogic", Max: 4, Units: 16},
	hypervisor.PVSCSI:   {Name: "ParaVirtualSCSIController", GuestDriver: "vmw_pvscsi", Max: 4, Units: 16},
	hypervisor.NVMe:     {Name: "VirtualNVMEController", GuestDriver: "nvme", Max: 4, Units: 15},
	hypervisor.Floppy:   {Name: "VirtualSIOController", GuestDriver: "floppy", Max: 1, Units: 2},
}

var cards = map[hypervisor.NICModel]hypervisor.Device{
	hypervisor.E1000:   {Name: "VirtualE1000", GuestDriver: "e1000"},
	hypervisor.E1000e:  {Name: "VirtualE1000e", GuestDriver: "e1000e"},
	hypervisor.PCnet:   {Name: "VirtualPCNet32", GuestDriver: "pcnet32"},
	hypervisor.VMXNET3: {Name: "VirtualVmxnet3", GuestDriver: "vmxnet3"},
}

var (
	displays = map[string]hypervisor.Device{"vga": {Name: "VirtualMachineVideoCard"}, "vmvga": {Name: "VirtualMachineVideoCard", GuestDriver: "vmwgfx"}}
	sounds   = map[string]hypervisor.Device{"ens1370": {Name: "VirtualEnsoniq1371"}, "ich6": {Name: "VirtualHdAudioCard"}, "sb16": {Name: "VirtualSoundBlaster16"}}
	usbs     = map[string]hypervisor.Device{"uhci": {Name: "VirtualUSBController"}, "ehci": {Name: "VirtualUSBController"}, "xhci": {Name: "VirtualUSBXHCIController"}}
)

// Models is what vSphere gives, by its own types of the devices: for tables,
// where no host is asked. Only the devices are set.
func Models() *hypervisor.Capabilities {
	return &hypervisor.Capabilities{Driver: driverName, Architecture: "x86_64", Controllers: maps.Clone(controllers), NICs: maps.Clone(cards),
		Displays: maps.Clone(displays), Sounds: maps.Clone(sounds), USB: maps.Clone(usbs), TPMs: []string{"2.0"}, MaxSerials: maxSerials, Imports: true}
}

// maxSerials is vSphere's.
const maxSerials = 32

// Capabilities says what machines can be made where new ones go.
func (h *Host) Capabilities(ctx context.Context, architecture string) (*hypervisor.Capabilities, error) {
	const own = "x86_64"
	switch architecture {
	case "", own, "i386":
	default:
		return nil, h.unfit("architecture", "vSphere runs no guests of %q: it runs %s", architecture, own)
	}
	f, err := h.learn(ctx)
	if err != nil {
		return nil, fmt.Errorf("what %s can give: %w", h.target, err)
	}
	networks, err := h.Networks(ctx)
	if err != nil {
		return nil, err
	}
	pc := []hypervisor.Chipset{hypervisor.I440FX}
	about := h.client.ServiceContent.About
	c := &hypervisor.Capabilities{
		Driver: driverName, Version: about.Version, Architecture: own,
		Acceleration: hypervisor.Acceleration{Kind: "esxi"}, HostCPUs: f.cpus, MemoryBytes: f.memoryBytes, CPUBaseline: f.evc,
		Chipsets:    pc,
		Firmware:    []hypervisor.FirmwareCapability{{Kind: hypervisor.BIOS, Chipsets: pc}, {Kind: hypervisor.UEFI, Chipsets: pc}, {Kind: hypervisor.UEFI, SecureBoot: true, Chipsets: pc}},
		Controllers: map[hypervisor.ControllerModel]hypervisor.Device{}, NICs: map[hypervisor.NICModel]hypervisor.Device{},
		Displays:   maps.Clone(displays),
		Sounds:     maps.Clone(sounds),
		USB:        maps.Clone(usbs),
		TPMs:       []string{"2.0"},
		MaxSerials: maxSerials, Formats: []string{"vmdk"}, Families: f.versions, GuestInfo: true, Imports: true, GivesEnvironment: h.vCenter(),
	}
	for _, n := range networks {
		c.Networks = append(c.Networks, n.Name)
	}
	offered := f.offered()
	for model, d := range controllers {
		if offered == nil || offered[controllerOptions[model]] {
			c.Controllers[model] = d
		}
	}
	for model, d := range cards {
		if offered == nil || offered[cardOptions[model]] {
			c.NICs[model] = d
		}
	}
	for _, g := range f.option.GuestOSDescriptor {
		c.GuestOSes = append(c.GuestOSes, g.Id)
	}
	if n := f.option.HardwareOptions.NumCPU; len(n) > 0 {
		c.MaxCPUs = int(slices.Max(n))
	}
	if c.MaxCPUs == 0 {
		c.MaxCPUs = f.cpus
	}
	policies, err := h.policies(ctx)
	if err != nil {
		// Reading them takes a privilege of its own.
		h.log.DebugContext(ctx, "the storage policies are not known", "error", err)
	}
	for name := range policies {
		c.StoragePolicies = append(c.StoragePolicies, name)
	}
	slices.Sort(c.StoragePolicies)
	return c, nil
}

// offered are the types of devices that the host says it has; nil where it does
// not say.
func (f *facts) offered() map[string]bool {
	all := f.option.HardwareOptions.VirtualDeviceOption
	if len(all) == 0 {
		return nil
	}
	m := map[string]bool{}
	for _, o := range all {
		m[strings.TrimPrefix(reflect.TypeOf(o).String(), "*types.")] = true
	}
	return m
}
