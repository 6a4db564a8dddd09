package libvirt

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"libvirt.org/go/libvirtxml"

	"github.com/ovation-project/ovation/hypervisor"
)

// machine says a domain in a Machine's terms as far as that goes, and names
// what can't be said. find gives the volume at a path of the host, ok false
// where it is in no pool.
func machine(d *libvirtxml.Domain, find func(path string) (hypervisor.VolumeRef, bool)) (hypervisor.Machine, []string) {
	r := &reader{d: d, find: find, m: hypervisor.Machine{Name: d.Name, UUID: d.UUID}}
	r.system()
	if d.Devices != nil {
		r.storage()
		r.networks()
		r.others()
	}
	return r.m, r.unsaid
}

type reader struct {
	d      *libvirtxml.Domain
	find   func(string) (hypervisor.VolumeRef, bool)
	m      hypervisor.Machine
	unsaid []string
}

func (r *reader) leave(format string, a ...any) {
	r.unsaid = append(r.unsaid, fmt.Sprintf(format, a...))
}

// units are libvirt's units of memory (virScaleInteger).
var units = map[string]int64{
	"b": 1, "bytes": 1, "KB": 1000, "k": 1 << 10, "KiB": 1 << 10, "": 1 << 10, "MB": 1e6, "M": 1 << 20, "MiB": 1 << 20,
	"GB": 1e9, "G": 1 << 30, "GiB": 1 << 30, "TB": 1e12, "T": 1 << 40, "TiB": 1 << 40,
}

// inBytes scales, 0 for what is no amount of memory.
func inBytes(value uint64, unit string) int64 {
	scale := units[unit]
	if scale == 0 || value > uint64((1<<62)/scale) {
		return 0
	}
	return int64(value) * scale
}

func (r *reader) system() {
	d, m := r.d, &r.m
	if d.Memory != nil {
		m.Memory.Bytes = inBytes(uint64(d.Memory.Value), d.Memory.Unit)
	}
	if d.VCPU != nil {
		m.CPU.Count = int(cmp.Or(d.VCPU.Current, d.VCPU.Value))
	}
	m.Firmware.Kind = hypervisor.BIOS
	if d.OS != nil {
		if d.OS.Type != nil {
			m.Architecture = architectureOf(d.OS.Type.Arch)
			m.Chipset = chipsetOf(d.OS.Type.Machine)
			if m.Chipset == hypervisor.ChipsetAny && d.OS.Type.Machine != "" {
				r.leave("machine type %s", d.OS.Type.Machine)
			}
		}
		r.firmware()
		if d.OS.Kernel != "" {
			r.leave("kernel %s, which the host starts directly", d.OS.Kernel)
		}
	}
	if c := d.CPU; c != nil {
		if c.Topology != nil {
			m.CPU.CoresPerSocket = max(1, c.Topology.Cores) * max(1, c.Topology.Dies) * max(1, c.Topology.Threads)
		}
		names := inverse(featureNames)
		for _, f := range c.Features {
			if f.Policy == "require" || f.Policy == "force" {
				m.CPU.Features = append(m.CPU.Features, cmp.Or(names[f.Name], f.Name))
			}
		}
		if c.Mode == "custom" && c.Model != nil {
			r.leave("CPU model %s", c.Model.Value)
		}
		if c.Numa != nil {
			r.leave("NUMA cells")
		}
	}
	if t := d.CPUTune; t != nil {
		if t.Shares != nil {
			m.CPU.Shares = int64(t.Shares.Value)
		}
		if t.Quota != nil && t.Quota.Value > 0 {
			r.leave("CPU quota of %d microseconds, which depends on the host's speed", t.Quota.Value)
		}
	}
	if t := d.MemoryTune; t != nil && t.HardLimit != nil {
		if n := inBytes(t.HardLimit.Value, t.HardLimit.Unit); n > memoryOverhead {
			m.Memory.LimitBytes = n - memoryOverhead
		}
	}
	if c := d.Clock; c != nil && c.Offset == "localtime" {
		m.OS = "win"
	}
}

// chipsetOf knows the machine types by their families: pc-i440fx-7.2, pc-q35-8.1.
func chipsetOf(machine string) hypervisor.Chipset {
	switch {
	case machine == "pc", strings.HasPrefix(machine, "pc-i440fx"), machine == "xenfv":
		return hypervisor.I440FX
	case machine == "q35", strings.HasPrefix(machine, "pc-q35"):
		return hypervisor.Q35
	}
	return hypervisor.ChipsetAny
}

func (r *reader) firmware() {
	os, w := r.d.OS, &r.m.Firmware
	w.Reason = "the domain's"
	if os.Firmware == string(hypervisor.UEFI) || os.Loader != nil && os.Loader.Type == "pflash" {
		w.Kind = hypervisor.UEFI
	}
	if os.Loader != nil && os.Loader.Secure == "yes" {
		w.SecureBoot = true
	}
	if os.FirmwareInfo != nil {
		for _, f := range os.FirmwareInfo.Features {
			if f.Name == "enrolled-keys" {
				w.SecureBoot = f.Enabled == "yes"
			}
		}
	}
	if os.NVRam != nil {
		w.NVRAM = os.NVRam.NVRam
	}
}

// controllerOf names the controller that a disk hangs on, and its place there.
func (r *reader) controllerOf(x *libvirtxml.DomainDisk, virtio *int) (model hypervisor.ControllerModel, index, unit int) {
	bus := ""
	if x.Target != nil {
		bus = x.Target.Bus
	}
	var at libvirtxml.DomainAddressDrive
	if x.Address != nil && x.Address.Drive != nil {
		at = *x.Address.Drive
	}
	n := func(p *uint) int {
		if p == nil || *p > 1<<20 {
			return 0
		}
		return int(*p)
	}
	switch bus {
	case "ide":
		return hypervisor.IDE, n(at.Controller)*2 + n(at.Bus), n(at.Unit)
	case "sata":
		return hypervisor.AHCI, n(at.Controller), n(at.Unit)
	case "fdc":
		return hypervisor.Floppy, n(at.Controller), n(at.Unit)
	case "nvme":
		return hypervisor.NVMe, n(at.Controller), n(at.Unit)
	case "virtio":
		*virtio++
		return hypervisor.VirtIOBlk, 0, *virtio - 1
	case "scsi":
		model := hypervisor.VirtIOSCSI
		for _, c := range r.d.Devices.Controllers {
			if c.Type == "scsi" && n(c.Index) == n(at.Controller) {
				model = scsiModel(c.Model)
			}
		}
		if model == hypervisor.LSILogic {
			return model, n(at.Controller), n(at.Unit)
		}
		if n(at.Unit) != 0 {
			r.leave("the LUN %d of %s", n(at.Unit), x.Target.Dev)
		}
		return model, n(at.Controller), n(at.Target)
	}
	return "", 0, 0
}

func scsiModel(name string) hypervisor.ControllerModel {
	switch name {
	case "", "auto", "lsilogic":
		return hypervisor.LSILogic
	case "virtio-transitional", "virtio-non-transitional":
		return hypervisor.VirtIOSCSI
	case "buslogic":
		return hypervisor.BusLogic
	case "lsisas1078":
		return hypervisor.LSISAS
	}
	return cmp.Or(inverse(scsiModels)[name], hypervisor.VirtIOSCSI)
}

func (r *reader) storage() {
	virtio := 0
	controllers := map[string]hypervisor.Controller{}
	for i := range r.d.Devices.Disks {
		x := &r.d.Devices.Disks[i]
		dev := ""
		if x.Target != nil {
			dev = x.Target.Dev
		}
		kind := hypervisor.DriveKind(cmp.Or(x.Device, string(hypervisor.HardDisk)))
		model, index, unit := r.controllerOf(x, &virtio)
		if model == "" || !slices.Contains([]hypervisor.DriveKind{hypervisor.HardDisk, hypervisor.CDROM, hypervisor.FloppyDrive}, kind) {
			r.leave("the %s %s", kind, dev)
			continue
		}
		c := hypervisor.Controller{ID: fmt.Sprintf("%s%d", model, index), Model: model, Index: index}
		controllers[c.ID] = c
		d := hypervisor.Drive{ID: cmp.Or(dev, fmt.Sprintf("drive%d", i)), Kind: kind, Controller: c.ID, Unit: unit,
			ReadOnly: x.ReadOnly != nil, Shared: x.Shareable != nil}
		if x.Boot != nil && x.Boot.Order < 1<<16 {
			d.BootOrder = int(x.Boot.Order)
		}
		d.Medium = r.medium(x, d.ID)
		r.m.Drives = append(r.m.Drives, d)
	}
	for _, c := range controllers {
		r.m.Controllers = append(r.m.Controllers, c)
	}
	slices.SortFunc(r.m.Controllers, func(a, b hypervisor.Controller) int {
		return cmp.Or(cmp.Compare(a.Model, b.Model), cmp.Compare(a.Index, b.Index))
	})
	r.legacyBoot()
}

// legacyBoot is the order of kinds that a domain may have instead of one for
// each drive.
func (r *reader) legacyBoot() {
	if r.d.OS == nil || slices.ContainsFunc(r.m.Drives, func(d hypervisor.Drive) bool { return d.BootOrder > 0 }) {
		return
	}
	kinds := map[string]hypervisor.DriveKind{"hd": hypervisor.HardDisk, "cdrom": hypervisor.CDROM, "fd": hypervisor.FloppyDrive}
	next := 1
	for _, b := range r.d.OS.BootDevices {
		for i := range r.m.Drives {
			if d := &r.m.Drives[i]; d.Kind == kinds[b.Dev] && d.BootOrder == 0 {
				d.BootOrder = next
				next++
				break
			}
		}
	}
}

func (r *reader) medium(x *libvirtxml.DomainDisk, id string) *hypervisor.Medium {
	s := x.Source
	if s == nil {
		return nil
	}
	m := &hypervisor.Medium{Format: "raw"}
	if x.Driver != nil {
		m.Format = cmp.Or(x.Driver.Type, m.Format)
		m.Volatile = x.Driver.Cache == "unsafe"
	}
	at := func(path string) *hypervisor.Medium {
		if path == "" {
			return nil
		}
		if ref, ok := r.find(path); ok {
			m.Volume = &ref
		} else {
			m.Path = path
		}
		return m
	}
	switch {
	case s.File != nil:
		return at(s.File.File)
	case s.Block != nil:
		return at(s.Block.Dev)
	case s.Volume != nil:
		m.Volume = &hypervisor.VolumeRef{Pool: s.Volume.Pool, Name: s.Volume.Volume}
		return m
	case s.Network != nil && s.Network.Protocol == "nbd" && len(s.Network.Hosts) == 1 && s.Network.Hosts[0].Transport == "unix":
		m.Socket, m.Export = s.Network.Hosts[0].Socket, s.Network.Name
		return m
	}
	r.leave("the source of %s, which is neither a file nor a volume", id)
	return nil
}

func (r *reader) networks() {
	names := inverse(nicModels)
	for i, x := range r.d.Devices.Interfaces {
		n := hypervisor.NIC{ID: fmt.Sprintf("nic%d", i)}
		if x.MAC != nil {
			n.MAC = x.MAC.Address
		}
		n.Model = hypervisor.RTL8139 // libvirt's, where a domain names none
		if x.Model != nil {
			if name := strings.TrimSuffix(strings.TrimSuffix(x.Model.Type, "-transitional"), "-non"); name == "virtio" {
				n.Model = hypervisor.VirtIONet
			} else if known, ok := names[x.Model.Type]; ok {
				n.Model = known
			} else {
				r.leave("the model %s of network card %s", x.Model.Type, n.MAC)
				n.Model = hypervisor.NICModel(x.Model.Type)
			}
		}
		n.Disconnected = x.Link != nil && x.Link.State == "down"
		switch s := x.Source; {
		case s == nil:
			r.leave("what network card %s is connected to", n.MAC)
		case s.Network != nil:
			n.HostNetwork = s.Network.Network
		case s.Bridge != nil:
			n.HostNetwork = bridgePrefix + s.Bridge.Bridge
		case s.User != nil:
			n.HostNetwork = NetworkUser
		default:
			r.leave("what network card %s is connected to", n.MAC)
		}
		n.Network = n.HostNetwork
		r.m.NICs = append(r.m.NICs, n)
	}
}

func (r *reader) others() {
	d, m := r.d.Devices, &r.m
	for i, s := range d.Serials {
		port := uint(i)
		if s.Target != nil && s.Target.Port != nil {
			port = *s.Target.Port
		}
		m.Serials = append(m.Serials, hypervisor.Serial{ID: fmt.Sprintf("serial%d", port)})
	}
	for _, t := range d.TPMs {
		switch {
		case t.Backend != nil && t.Backend.Emulator != nil:
			m.TPM = &hypervisor.TPM{Version: cmp.Or(t.Backend.Emulator.Version, "2.0")}
		default:
			r.leave("the host's own TPM")
		}
	}
	if len(d.Videos) > 0 {
		model := d.Videos[0].Model.Type
		if m.Display = inverse(videoModels)[model]; m.Display == "" && model != "none" {
			r.leave("the graphics card %s", model)
		}
	}
	if len(d.Sounds) > 0 {
		if m.Sound = inverse(soundModels)[d.Sounds[0].Model]; m.Sound == "" {
			r.leave("the sound card %s", d.Sounds[0].Model)
		}
	}
	usb := inverse(usbModels)
	for _, c := range d.Controllers {
		if c.Type != "usb" || c.Model == "none" {
			continue
		}
		switch {
		case usb[c.Model] != "":
			m.USB = append(m.USB, usb[c.Model])
		case c.Model == "" || c.Model == "piix4-uhci":
			m.USB = append(m.USB, "uhci")
		case c.Model == "ich9-ehci1":
			m.USB = append(m.USB, "ehci")
		case c.Model == "nec-xhci":
			m.USB = append(m.USB, "xhci")
		case strings.HasPrefix(c.Model, "ich9-uhci"):
			// The companions of an EHCI controller.
		default:
			r.leave("the USB controller %s", c.Model)
		}
	}
	for _, x := range []struct {
		n    int
		what string
	}{{len(d.Hostdevs), "devices of the host"}, {len(d.Filesystems), "folders of the host"},
		{len(d.Shmems), "memory shared with the host"}, {len(d.RedirDevs), "redirected USB devices"}} {
		if x.n > 0 {
			r.leave("%s", x.what)
		}
	}
	slices.Sort(r.unsaid)
}
