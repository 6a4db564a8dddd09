package vsphere

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/ovation-project/ovation/hypervisor"
)

// machine says a configuration in a Machine's terms as far as that goes, and
// names what can't be said. network gives the name of the network behind a
// distributed port group's key, "" where it is not known.
func machine(c *types.VirtualMachineConfigInfo, network func(portgroup string) string) (hypervisor.Machine, []string) {
	r := &reader{c: c, network: network, m: hypervisor.Machine{Name: unescape(c.Name), UUID: strings.ToLower(c.Uuid)}, ids: map[int32]string{}, count: map[hypervisor.ControllerModel]int{}}
	r.system()
	r.controllers()
	for _, d := range c.Hardware.Device {
		r.device(d)
	}
	r.bootOrder()
	slices.Sort(r.unsaid)
	return r.m, r.unsaid
}

type reader struct {
	c       *types.VirtualMachineConfigInfo
	network func(string) string
	m       hypervisor.Machine
	unsaid  []string

	ids   map[int32]string // of controllers, by their keys
	keys  map[int32]string // of drives and cards
	count map[hypervisor.ControllerModel]int
}

func (r *reader) leave(format string, a ...any) {
	r.unsaid = append(r.unsaid, fmt.Sprintf(format, a...))
}

func (r *reader) system() {
	c, m := r.c, &r.m
	m.Architecture = "x86_64"
	if strings.HasPrefix(strings.ToLower(c.GuestId), "arm") || strings.Contains(strings.ToLower(c.GuestId), "arm64") {
		m.Architecture = "aarch64"
	}
	if strings.HasPrefix(strings.ToLower(c.GuestId), "win") {
		m.OS = "windows"
	}
	m.CPU.Count = int(c.Hardware.NumCPU)
	if n := c.Hardware.NumCoresPerSocket; n != nil {
		m.CPU.CoresPerSocket = int(*n)
	}
	if a := c.CpuAllocation; a != nil {
		m.CPU.ReservationHz, m.CPU.LimitHz, m.CPU.Shares = scaled(a.Reservation, 1e6), scaled(a.Limit, 1e6), shares(a.Shares)
	}
	m.Memory = hypervisor.Memory{Bytes: int64(c.Hardware.MemoryMB) << 20}
	if a := c.MemoryAllocation; a != nil {
		m.Memory.ReservationBytes, m.Memory.LimitBytes, m.Memory.Shares = scaled(a.Reservation, 1<<20), scaled(a.Limit, 1<<20), shares(a.Shares)
	}
	m.Firmware = hypervisor.Firmware{Kind: hypervisor.BIOS, Reason: "the machine's"}
	if c.Firmware == string(types.GuestOsDescriptorFirmwareTypeEfi) {
		m.Firmware.Kind = hypervisor.UEFI
		m.Firmware.SecureBoot = c.BootOptions != nil && c.BootOptions.EfiSecureBootEnabled != nil && *c.BootOptions.EfiSecureBootEnabled
	}
}

// scaled is an allocation in its base unit, 0 for none: -1 is no limit.
func scaled(n *int64, unit int64) int64 {
	if n == nil || *n <= 0 || *n > (1<<62)/unit {
		return 0
	}
	return *n * unit
}

// shares are those that somebody set: normal is 0.
func shares(s *types.SharesInfo) int64 {
	if s == nil || s.Level == types.SharesLevelNormal || s.Level == "" {
		return 0
	}
	return int64(s.Shares)
}

// controllerModel says which one a device is; "" is none of storage.
func controllerModel(d types.BaseVirtualDevice) hypervisor.ControllerModel {
	switch d.(type) {
	case *types.VirtualIDEController:
		return hypervisor.IDE
	case *types.ParaVirtualSCSIController:
		return hypervisor.PVSCSI
	case *types.VirtualLsiLogicSASController:
		return hypervisor.LSISAS
	case *types.VirtualLsiLogicController, *types.VirtualSCSIController:
		return hypervisor.LSILogic
	case *types.VirtualBusLogicController:
		return hypervisor.BusLogic
	case *types.VirtualAHCIController, *types.VirtualSATAController:
		return hypervisor.AHCI
	case *types.VirtualNVMEController:
		return hypervisor.NVMe
	case *types.VirtualSIOController:
		return hypervisor.Floppy
	}
	return ""
}

func busNumber(d types.BaseVirtualDevice) int {
	if c, ok := d.(types.BaseVirtualController); ok {
		return int(c.GetVirtualController().BusNumber)
	}
	return 0
}

// controllers come first: drives refer to them. Those of one model are numbered
// in the order of their buses.
func (r *reader) controllers() {
	var all []types.BaseVirtualDevice
	for _, d := range r.c.Hardware.Device {
		if controllerModel(d) != "" {
			all = append(all, d)
		}
	}
	slices.SortStableFunc(all, func(a, b types.BaseVirtualDevice) int { return busNumber(a) - busNumber(b) })
	for _, d := range all {
		model := controllerModel(d)
		n := r.count[model]
		r.count[model]++
		c := hypervisor.Controller{ID: fmt.Sprintf("%s%d", model, n), Model: model, Index: n}
		r.ids[d.GetVirtualDevice().Key] = c.ID
		if used := r.used(d.GetVirtualDevice().Key); model == hypervisor.Floppy && !used || model == hypervisor.IDE && !used {
			continue // every machine has those
		}
		r.m.Controllers = append(r.m.Controllers, c)
	}
	slices.SortStableFunc(r.m.Controllers, func(a, b hypervisor.Controller) int {
		return cmp.Or(cmp.Compare(a.Model, b.Model), cmp.Compare(a.Index, b.Index))
	})
}

// used says whether a drive is on a controller.
func (r *reader) used(key int32) bool {
	return slices.ContainsFunc(r.c.Hardware.Device, func(d types.BaseVirtualDevice) bool {
		switch d.(type) {
		case *types.VirtualDisk, *types.VirtualCdrom, *types.VirtualFloppy:
			return d.GetVirtualDevice().ControllerKey == key
		}
		return false
	})
}

func (r *reader) device(d types.BaseVirtualDevice) {
	v := d.GetVirtualDevice()
	if r.keys == nil {
		r.keys = map[int32]string{}
	}
	switch x := d.(type) {
	case *types.VirtualDisk:
		r.disk(x)
	case *types.VirtualCdrom:
		r.removable(v, hypervisor.CDROM)
	case *types.VirtualFloppy:
		r.removable(v, hypervisor.FloppyDrive)
	case types.BaseVirtualEthernetCard:
		r.card(d, x.GetVirtualEthernetCard())
	case *types.VirtualSerialPort:
		r.m.Serials = append(r.m.Serials, hypervisor.Serial{ID: fmt.Sprintf("serial%d", len(r.m.Serials))})
	case *types.VirtualUSBController:
		r.m.USB = append(r.m.USB, "uhci")
		if x.EhciEnabled != nil && *x.EhciEnabled {
			r.m.USB[len(r.m.USB)-1] = "ehci"
		}
	case *types.VirtualUSBXHCIController:
		r.m.USB = append(r.m.USB, "xhci")
	case *types.VirtualTPM:
		r.m.TPM = &hypervisor.TPM{Version: "2.0"}
	case *types.VirtualEnsoniq1371:
		r.m.Sound = "ens1370"
	case *types.VirtualHdAudioCard:
		r.m.Sound = "ich6"
	case *types.VirtualSoundBlaster16:
		r.m.Sound = "sb16"
	case *types.VirtualMachineVideoCard:
		r.m.Display = "vmvga"
	case *types.VirtualKeyboard, *types.VirtualPointingDevice, *types.VirtualPCIController, *types.VirtualPS2Controller, *types.VirtualMachineVMCIDevice:
	default:
		if controllerModel(d) == "" {
			r.leave("%s", strings.TrimPrefix(fmt.Sprintf("%T", d), "*types.Virtual"))
		}
	}
}

// at is where a drive is.
func (r *reader) at(v *types.VirtualDevice, kind hypervisor.DriveKind) (d hypervisor.Drive, ok bool) {
	d = hypervisor.Drive{Kind: kind, Controller: r.ids[v.ControllerKey]}
	if d.Controller == "" {
		r.leave("the %s %d, on a controller that is not known", kind, v.Key)
		return d, false
	}
	if v.UnitNumber != nil {
		d.Unit = int(*v.UnitNumber)
	}
	d.ID = fmt.Sprintf("%s:%d", d.Controller, d.Unit)
	r.keys[v.Key] = d.ID
	return d, true
}

func (r *reader) disk(x *types.VirtualDisk) {
	d, ok := r.at(&x.VirtualDevice, hypervisor.HardDisk)
	if !ok {
		return
	}
	d.Capacity = cmp.Or(x.CapacityInBytes, x.CapacityInKB<<10)
	switch b := x.Backing.(type) {
	case *types.VirtualDiskFlatVer2BackingInfo:
		d.Shared = b.Sharing == string(types.VirtualDiskSharingSharingMultiWriter)
	case *types.VirtualDiskRawDiskMappingVer1BackingInfo, *types.VirtualDiskRawDiskVer2BackingInfo:
		r.leave("that the disk %s is one of the storage system's, mapped", d.ID)
	}
	if b, ok := x.Backing.(types.BaseVirtualDeviceFileBackingInfo); ok {
		d.Medium = medium(b.GetVirtualDeviceFileBackingInfo().FileName, "vmdk")
	}
	r.m.Drives = append(r.m.Drives, d)
}

func (r *reader) removable(v *types.VirtualDevice, kind hypervisor.DriveKind) {
	d, ok := r.at(v, kind)
	if !ok {
		return
	}
	d.ReadOnly = kind == hypervisor.CDROM
	if b, ok := v.Backing.(types.BaseVirtualDeviceFileBackingInfo); ok {
		d.Medium = medium(b.GetVirtualDeviceFileBackingInfo().FileName, "raw")
	}
	r.m.Drives = append(r.m.Drives, d)
}

// medium is a file of a datastore, whose name is "[DATASTORE] PATH".
func medium(name, format string) *hypervisor.Medium {
	var p object.DatastorePath
	if name == "" || !p.FromString(name) {
		return nil
	}
	return &hypervisor.Medium{Format: format, Volume: &hypervisor.VolumeRef{Pool: unescape(p.Datastore), Name: p.Path}}
}

func (r *reader) card(d types.BaseVirtualDevice, x *types.VirtualEthernetCard) {
	n := hypervisor.NIC{ID: fmt.Sprintf("nic%d", len(r.m.NICs)), MAC: strings.ToLower(x.MacAddress)}
	r.keys[x.Key] = n.ID
	switch d.(type) {
	case *types.VirtualE1000:
		n.Model = hypervisor.E1000
	case *types.VirtualE1000e:
		n.Model = hypervisor.E1000e
	case *types.VirtualPCNet32:
		n.Model = hypervisor.PCnet
	case *types.VirtualVmxnet3, *types.VirtualVmxnet3Vrdma:
		n.Model = hypervisor.VMXNET3
	default:
		n.Model = hypervisor.E1000
		r.leave("that the network card %s is a %s", n.MAC, strings.TrimPrefix(fmt.Sprintf("%T", d), "*types.Virtual"))
	}
	switch b := x.Backing.(type) {
	case *types.VirtualEthernetCardNetworkBackingInfo:
		n.HostNetwork = unescape(b.DeviceName)
	case *types.VirtualEthernetCardDistributedVirtualPortBackingInfo:
		n.HostNetwork = r.network(b.Port.PortgroupKey)
	case *types.VirtualEthernetCardOpaqueNetworkBackingInfo:
		n.HostNetwork = b.OpaqueNetworkId
	}
	if n.HostNetwork == "" {
		r.leave("what network card %s is connected to", n.MAC)
	}
	n.Network = n.HostNetwork
	n.Disconnected = x.Connectable != nil && !x.Connectable.StartConnected
	r.m.NICs = append(r.m.NICs, n)
}

// bootOrder is what somebody set; vSphere's own is the first disk.
func (r *reader) bootOrder() {
	next := 1
	give := func(match func(*hypervisor.Drive) bool) {
		for i := range r.m.Drives {
			if d := &r.m.Drives[i]; d.BootOrder == 0 && match(d) {
				d.BootOrder = next
				next++
				return
			}
		}
	}
	if o := r.c.BootOptions; o != nil {
		for _, b := range o.BootOrder {
			switch x := b.(type) {
			case *types.VirtualMachineBootOptionsBootableDiskDevice:
				give(func(d *hypervisor.Drive) bool { return d.ID == r.keys[x.DeviceKey] })
			case *types.VirtualMachineBootOptionsBootableCdromDevice:
				give(func(d *hypervisor.Drive) bool { return d.Kind == hypervisor.CDROM })
			case *types.VirtualMachineBootOptionsBootableFloppyDevice:
				give(func(d *hypervisor.Drive) bool { return d.Kind == hypervisor.FloppyDrive })
			case *types.VirtualMachineBootOptionsBootableEthernetDevice:
				r.leave("that network card %s is tried for booting", r.keys[x.DeviceKey])
			}
		}
	}
	if next == 1 {
		give(func(d *hypervisor.Drive) bool { return d.Kind == hypervisor.HardDisk })
	}
}
