package libvirt

import (
	"bytes"
	"cmp"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"libvirt.org/go/libvirtxml"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/qemudevice"
)

// recordNamespace is that of what this program keeps in a domain's metadata.
const (
	recordNamespace = "https://github.com/ovation-project/ovation/xmlns/libvirt/1.0"
	recordPrefix    = "ovation"
)

// agentChannel is where QEMU's guest agent listens.
const agentChannel = "org.qemu.guest_agent.0"

// place is where the host finds a volume.
type place struct {
	path string
	kind string // file, block, or volume where there is no path
}

// setting is what a domain depends on besides the machine.
type setting struct {
	facts    *facts
	target   string
	networks []hypervisor.Network
	volumes  map[hypervisor.VolumeRef]place
	// logs gives the path of a serial port's log, "" for none.
	logs func(port int) string
}

// domain makes the domain of a machine, or an UnfitError with every reason.
func domain(m hypervisor.Machine, r hypervisor.Record, s setting) (*libvirtxml.Domain, error) {
	b := &builder{m: m, s: s, f: s.facts, buses: map[string]bus{}, letters: map[string]int{}}
	b.d = &libvirtxml.Domain{Type: b.f.virt, Name: m.Name, UUID: m.UUID, Devices: &libvirtxml.DomainDeviceList{Emulator: b.f.emulator}}
	b.system()
	b.cpu()
	b.tuning()
	b.firmware()
	b.storage()
	b.networks()
	b.ports()
	b.screen()
	b.extras()
	b.metadata(r)
	if b.err != nil {
		return nil, b.err
	}
	if len(b.reasons) > 0 {
		return nil, &hypervisor.UnfitError{Target: s.target, Reasons: b.reasons}
	}
	return b.d, nil
}

type builder struct {
	m       hypervisor.Machine
	s       setting
	f       *facts
	d       *libvirtxml.Domain
	reasons []hypervisor.Reason
	err     error
	buses   map[string]bus // by the machine's controller ID
	letters map[string]int // drives so far, by the beginning of their names
	drives  int
}

// bus is where a controller's drives are plugged in.
type bus struct {
	model hypervisor.ControllerModel
	index uint
	taken map[int]bool
}

func (b *builder) refuse(subject, format string, a ...any) {
	b.reasons = append(b.reasons, hypervisor.Reason{Machine: b.m.ID, Subject: subject, Text: fmt.Sprintf(format, a...)})
}

var (
	uuidSyntax    = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	featureSyntax = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,40}$`)
)

const (
	minMemory = 1 << 20
	maxMemory = 4 << 40
)

// checkName says why libvirt would not take a name for a domain or a volume.
func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("%q is no name", name)
	case strings.ContainsAny(name, "/\x00") || strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '\uFFFD' }):
		return fmt.Errorf("%q has a slash or a control character", name)
	case len(name) > 200:
		return fmt.Errorf("a name of %d bytes is too long for the files that bear it", len(name))
	}
	return nil
}

// chipset is the machine's, or the one that has everything a machine names:
// the older one, which has parallel ATA and a floppy controller on board and
// which every guest knows, unless only the newer can be had or has what is
// needed.
func (b *builder) chipset() hypervisor.Chipset {
	if b.m.Chipset != hypervisor.ChipsetAny {
		return b.m.Chipset
	}
	if b.m.Firmware.SecureBoot || !slices.Contains(b.f.chipsets, hypervisor.I440FX) {
		return hypervisor.Q35
	}
	return hypervisor.I440FX
}

func (b *builder) system() {
	m, d := b.m, b.d
	if err := checkName(m.Name); err != nil {
		b.refuse("name", "%v", err)
	}
	if m.UUID != "" && !uuidSyntax.MatchString(m.UUID) {
		b.refuse("UUID", "%q is not a UUID", m.UUID)
	}
	if !slices.Contains(b.f.chipsets, b.chipset()) {
		b.refuse("chipset", "the host has no machine type %s: it has %v", b.chipset(), b.f.chipsets)
	}
	if m.Memory.Bytes < minMemory || m.Memory.Bytes > maxMemory {
		b.refuse("memory", "%d bytes: from 1 MiB to 4 TiB can be had", m.Memory.Bytes)
	}
	d.Memory = &libvirtxml.DomainMemory{Value: uint(max(0, m.Memory.Bytes) >> 10), Unit: "KiB"}
	d.OS = &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Arch: b.f.arch, Machine: b.f.machines[b.chipset()], Type: "hvm"}}
	d.Features = &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}, APIC: &libvirtxml.DomainFeatureAPIC{}, PAE: &libvirtxml.DomainFeature{}}
	if b.qemu() {
		d.OS.BootMenu = &libvirtxml.DomainBootMenu{Enable: "no"}
		// VMware's own port would make guests take the host for VMware's.
		d.Features.VMPort = &libvirtxml.DomainFeatureState{State: "off"}
	}
	d.Clock = &libvirtxml.DomainClock{Offset: "utc"}
	if strings.HasPrefix(m.OS, "win") {
		d.Clock.Offset = "localtime"
	}
	d.OnPoweroff, d.OnReboot, d.OnCrash = "destroy", "restart", "destroy"
}

// qemu says that QEMU runs the domain, with or without KVM.
func (b *builder) qemu() bool { return b.f.virt == "kvm" || b.f.virt == "qemu" }

func (b *builder) cpu() {
	c := b.m.CPU
	limit := b.f.maxCPUs
	if c.Count < 1 || limit > 0 && c.Count > limit {
		b.refuse("CPU", "%d virtual CPUs: the host gives 1 to %d", c.Count, limit)
	}
	b.d.VCPU = &libvirtxml.DomainVCPU{Placement: "static", Value: uint(max(0, c.Count))}
	cores := c.CoresPerSocket
	if cores < 1 || c.Count%cores != 0 {
		cores = 1
	}
	b.d.CPU = &libvirtxml.DomainCPU{Mode: b.f.cpuMode, Topology: &libvirtxml.DomainCPUTopology{Sockets: max(1, c.Count/cores), Cores: cores, Threads: 1}}
	if b.f.cpuMode != "" {
		b.d.CPU.Check = "none"
	}
	if b.f.virt == "qemu" && b.f.cpuMode == "maximum" {
		// Five-level page tables only slow emulation down.
		b.d.CPU.Features = append(b.d.CPU.Features, libvirtxml.DomainCPUFeature{Policy: "disable", Name: "la57"})
	}
	for _, name := range c.Features {
		if !featureSyntax.MatchString(name) {
			b.refuse("CPU", "%q is not the name of a CPU feature", name)
			continue
		}
		if b.f.cpuMode == "" {
			b.refuse("CPU", "the host does not let a machine ask for the feature %s", name)
			continue
		}
		b.d.CPU.Features = slices.DeleteFunc(b.d.CPU.Features, func(f libvirtxml.DomainCPUFeature) bool { return f.Name == name })
		b.d.CPU.Features = append(b.d.CPU.Features, libvirtxml.DomainCPUFeature{Policy: "require", Name: cmp.Or(featureNames[name], name)})
	}
}

// Bounds of the kernel's scheduler, as libvirt checks them.
const (
	quotaPeriod = 100_000 // microseconds
	minQuota    = 1_000
	minShares   = 2
	maxShares   = 262_144
)

// memoryOverhead is what QEMU itself may take beside the guest's memory before
// a limit ends it: libvirt's documentation warns of limits that are too close.
const memoryOverhead = 512 << 20

// tuning is shares and limits. KVM has no reservations: of them the record
// tells.
func (b *builder) tuning() {
	if b.f.noTuning != "" || !b.qemu() {
		return
	}
	var t libvirtxml.DomainCPUTune
	c := b.m.CPU
	if c.Shares > 0 {
		t.Shares = &libvirtxml.DomainCPUTuneShares{Value: uint(min(max(c.Shares, minShares), maxShares))}
	}
	switch {
	case c.LimitHz <= 0 || c.Count < 1:
	case b.f.hostHz == 0:
		b.refuse("CPU", "a limit of %d Hz can't be given: the host does not say how fast its processors are", c.LimitHz)
	case c.LimitHz < b.f.hostHz*int64(c.Count):
		// The part of each virtual CPU's time.
		quota := max(minQuota, int64(float64(c.LimitHz)/float64(b.f.hostHz)/float64(c.Count)*quotaPeriod))
		t.Period, t.Quota = &libvirtxml.DomainCPUTunePeriod{Value: quotaPeriod}, &libvirtxml.DomainCPUTuneQuota{Value: quota}
	}
	if t.Shares != nil || t.Quota != nil {
		b.d.CPUTune = &t
	}
	if limit := b.m.Memory.LimitBytes; limit > 0 && limit < maxMemory {
		b.d.MemoryTune = &libvirtxml.DomainMemoryTune{HardLimit: &libvirtxml.DomainMemoryTuneLimit{Value: uint64(limit+memoryOverhead) >> 10, Unit: "KiB"}}
	}
}

func (b *builder) firmware() {
	w := b.m.Firmware
	fits := slices.ContainsFunc(b.f.firmware, func(f hypervisor.FirmwareCapability) bool {
		return f.Kind == w.Kind && f.SecureBoot == w.SecureBoot && slices.Contains(f.Chipsets, b.chipset())
	})
	switch {
	case w.Kind != hypervisor.BIOS && w.Kind != hypervisor.UEFI:
		b.refuse("firmware", "%q is neither bios nor efi", w.Kind)
		return
	case !fits && w.SecureBoot:
		b.refuse("firmware", "the host has no UEFI with Secure Boot for the chipset %s; install ovmf (Debian and Ubuntu) or edk2-ovmf (Fedora and RHEL) there", b.chipset())
		return
	case !fits:
		b.refuse("firmware", "the host has no %s for the chipset %s; install ovmf (Debian and Ubuntu) or edk2-ovmf (Fedora and RHEL) there", w.Kind, b.chipset())
		return
	case w.Kind == hypervisor.BIOS:
		return
	}
	feature := func(name string, on bool) {
		enabled := "no"
		if on {
			enabled = "yes"
		}
		b.d.OS.FirmwareInfo.Features = append(b.d.OS.FirmwareInfo.Features, libvirtxml.DomainOSFirmwareFeature{Enabled: enabled, Name: name})
	}
	b.d.OS.Firmware, b.d.OS.FirmwareInfo = string(hypervisor.UEFI), &libvirtxml.DomainOSFirmwareInfo{}
	feature("enrolled-keys", w.SecureBoot)
	if w.SecureBoot {
		feature("secure-boot", true)
		b.d.OS.Loader = &libvirtxml.DomainLoader{Secure: "yes"}
		b.d.Features.SMM = &libvirtxml.DomainFeatureSMM{State: "on"}
	}
	if w.NVRAM != "" {
		b.d.OS.NVRam = &libvirtxml.DomainNVRam{Template: w.NVRAM}
	}
}

func subject(kind, id string) string { return kind + " " + id }

func number(n uint) *uint { return &n }

func (b *builder) storage() {
	count := map[hypervisor.ControllerModel]int{}
	indexes := map[string]uint{} // by libvirt's type
	for _, c := range b.m.Controllers {
		what := subject("controller", c.ID)
		device, ok := b.f.devices.Controllers[c.Model]
		if !ok {
			text := "the host has no %s"
			if c.Model == hypervisor.NVMe {
				text += "; libvirt has it since 11.5"
			}
			b.refuse(what, text, c.Model)
			continue
		}
		if _, twice := b.buses[c.ID]; twice {
			b.err = fmt.Errorf("%s: two controllers are called %q", b.m.ID, c.ID)
			return
		}
		n := count[c.Model]
		count[c.Model]++
		if device.Max > 0 && n >= device.Max {
			b.refuse(what, "a machine can have %d of %s", device.Max, c.Model)
			continue
		}
		if device.Chipsets != nil && !slices.Contains(device.Chipsets, b.chipset()) {
			b.refuse(what, "the chipset %s has no %s", b.chipset(), c.Model)
			continue
		}
		bus := bus{model: c.Model, taken: map[int]bool{}}
		kind := busOf[c.Model].bus
		switch c.Model {
		case hypervisor.IDE:
			// One controller of libvirt's has both channels.
			bus.index = uint(n)
		case hypervisor.VirtIOBlk:
		default:
			bus.index = indexes[kind]
			indexes[kind]++
			b.d.Devices.Controllers = append(b.d.Devices.Controllers, libvirtxml.DomainController{Type: kind, Index: number(bus.index), Model: scsiModels[c.Model]})
		}
		b.buses[c.ID] = bus
	}
	order := b.bootOrder()
	for i, d := range b.m.Drives {
		b.drive(d, order[i])
	}
}

// bootOrder numbers the drives that boot from 1, as libvirt wants it.
func (b *builder) bootOrder() map[int]uint {
	var boots []int
	for i, d := range b.m.Drives {
		if d.BootOrder > 0 {
			boots = append(boots, i)
		}
	}
	slices.SortStableFunc(boots, func(x, y int) int { return cmp.Compare(b.m.Drives[x].BootOrder, b.m.Drives[y].BootOrder) })
	order := map[int]uint{}
	for n, i := range boots {
		order[i] = uint(n + 1)
	}
	return order
}

// letter is the n-th name of a drive: a to z, then aa.
func letter(n int) string {
	s := ""
	for n++; n > 0; n = (n - 1) / 26 {
		s = string(rune('a'+(n-1)%26)) + s
	}
	return s
}

func (b *builder) drive(d hypervisor.Drive, boot uint) {
	what := subject("drive", d.ID)
	on, ok := b.buses[d.Controller]
	if !ok {
		if !slices.ContainsFunc(b.m.Controllers, func(c hypervisor.Controller) bool { return c.ID == d.Controller }) {
			b.refuse(what, "is on a controller %q that the machine does not have", d.Controller)
		}
		return // the controller's own reason is there
	}
	if units := b.f.devices.Controllers[on.model].Units; d.Unit < 0 || units > 0 && d.Unit >= units {
		b.refuse(what, "is at %d of a controller with %d places", d.Unit, units)
		return
	}
	if on.model != hypervisor.VirtIOBlk && on.taken[d.Unit] {
		b.refuse(what, "is at %d of %s, which is taken", d.Unit, d.Controller)
		return
	}
	on.taken[d.Unit] = true
	if !slices.Contains([]hypervisor.DriveKind{hypervisor.HardDisk, hypervisor.CDROM, hypervisor.FloppyDrive}, d.Kind) {
		b.refuse(what, "%q is no kind of drive", d.Kind)
		return
	}
	if (on.model == hypervisor.Floppy) != (d.Kind == hypervisor.FloppyDrive) || d.Kind == hypervisor.CDROM && (on.model == hypervisor.VirtIOBlk || on.model == hypervisor.NVMe) {
		b.refuse(what, "a %s can't be on a %s controller", d.Kind, on.model)
		return
	}
	if d.Kind == hypervisor.HardDisk && d.Medium == nil {
		b.refuse(what, "the disk has no image")
		return
	}
	name := busOf[on.model]
	x := libvirtxml.DomainDisk{Device: string(d.Kind), Target: &libvirtxml.DomainDiskTarget{Bus: name.bus}}
	n := b.letters[name.prefix]
	b.letters[name.prefix]++
	if on.model == hypervisor.NVMe {
		x.Target.Dev = fmt.Sprintf("nvme%dn%d", on.index, d.Unit+1)
	} else {
		x.Target.Dev = name.prefix + letter(n)
	}
	if boot > 0 {
		x.Boot = &libvirtxml.DomainDeviceBoot{Order: boot}
	}
	if d.ReadOnly || d.Kind == hypervisor.CDROM {
		x.ReadOnly = &libvirtxml.DomainDiskReadOnly{}
	}
	if d.Shared {
		if d.Medium != nil && d.Medium.Format != "raw" {
			b.refuse(what, "a disk that several machines write is raw, and this one is %s", d.Medium.Format)
		}
		x.Shareable = &libvirtxml.DomainDiskShareable{}
	}
	at := &libvirtxml.DomainAddressDrive{Controller: number(on.index), Bus: number(0), Target: number(0), Unit: number(uint(d.Unit))}
	switch on.model {
	case hypervisor.IDE:
		*at.Controller, *at.Bus = 0, on.index
	case hypervisor.LSISAS:
		// Linux passes over SAS devices that have no address.
		x.WWN = fmt.Sprintf("%016x", sasAddress(b.drives+1))
		*at.Target, *at.Unit = uint(d.Unit), 0
	case hypervisor.PVSCSI, hypervisor.VirtIOSCSI:
		*at.Target, *at.Unit = uint(d.Unit), 0
	case hypervisor.VirtIOBlk:
		at = nil
	}
	b.drives++
	if at != nil {
		x.Address = &libvirtxml.DomainAddress{Drive: at}
	}
	if d.Medium != nil {
		b.medium(what, &x, d)
	}
	b.d.Devices.Disks = append(b.d.Devices.Disks, x)
}

// sasAddress gives the n-th drive a SAS address that no other has: locally
// assigned (NAA 3), and nobody's company.
func sasAddress(n int) uint64 { return 0x3000_0000_0000_0000 + uint64(n) }

func (b *builder) medium(what string, x *libvirtxml.DomainDisk, d hypervisor.Drive) {
	m := d.Medium
	if m.Format != "raw" && m.Format != "qcow2" {
		b.refuse(what, "libvirt is not to open images of the format %q here: raw and qcow2 are", m.Format)
		return
	}
	if b.qemu() {
		x.Driver = &libvirtxml.DomainDiskDriver{Name: "qemu", Type: m.Format}
		if d.Kind == hypervisor.HardDisk && x.ReadOnly == nil {
			x.Driver.Discard = "unmap"
		}
		if m.Volatile {
			x.Driver.Cache = "unsafe"
		}
	}
	file := func(path string) {
		x.Source = &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path}}
	}
	switch {
	case m.Volume != nil:
		v := b.s.volumes[*m.Volume]
		switch v.kind {
		case "block":
			x.Source = &libvirtxml.DomainDiskSource{Block: &libvirtxml.DomainDiskSourceBlock{Dev: v.path}}
		case "volume":
			x.Source = &libvirtxml.DomainDiskSource{Volume: &libvirtxml.DomainDiskSourceVolume{Pool: m.Volume.Pool, Volume: m.Volume.Name}}
		default:
			file(v.path)
		}
	case m.Socket != "":
		x.Source = &libvirtxml.DomainDiskSource{Network: &libvirtxml.DomainDiskSourceNetwork{Protocol: "nbd", Name: m.Export,
			Hosts: []libvirtxml.DomainDiskSourceHost{{Transport: "unix", Socket: m.Socket}}}}
	case m.Path != "":
		file(m.Path)
	default:
		b.refuse(what, "the image is neither a volume nor a file nor a socket")
	}
}

// bridgePrefix names a bridge of the host that it may not have told of.
const bridgePrefix = "bridge:"

func (b *builder) networks() {
	for _, n := range b.m.NICs {
		what := subject("network card", n.ID)
		if _, ok := b.f.devices.NICs[n.Model]; !ok {
			b.refuse(what, "the host has no %s", n.Model)
			continue
		}
		x := libvirtxml.DomainInterface{Model: &libvirtxml.DomainInterfaceModel{Type: nicModels[n.Model]}}
		if b.qemu() {
			// What boots is the disk.
			x.ROM = &libvirtxml.DomainROM{Enabled: "no"}
		}
		if n.MAC != "" {
			mac, err := net.ParseMAC(n.MAC)
			if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
				b.refuse(what, "%q is not the MAC address of a card", n.MAC)
				continue
			}
			x.MAC = &libvirtxml.DomainInterfaceMAC{Address: mac.String()}
		}
		if n.Disconnected {
			x.Link = &libvirtxml.DomainInterfaceLink{State: "down"}
		}
		if !b.connect(what, &x, n) {
			continue
		}
		b.d.Devices.Interfaces = append(b.d.Devices.Interfaces, x)
	}
}

// connect plugs a card in.
func (b *builder) connect(what string, x *libvirtxml.DomainInterface, n hypervisor.NIC) bool {
	i := slices.IndexFunc(b.s.networks, func(h hypervisor.Network) bool { return h.Name == n.HostNetwork })
	bridge, named := strings.CutPrefix(n.HostNetwork, bridgePrefix)
	switch {
	case i >= 0 && b.s.networks[i].Kind == "network":
		x.Source = &libvirtxml.DomainInterfaceSource{Network: &libvirtxml.DomainInterfaceSourceNetwork{Network: n.HostNetwork}}
	case i >= 0 && b.s.networks[i].Kind == "bridge":
		x.Source = &libvirtxml.DomainInterfaceSource{Bridge: &libvirtxml.DomainInterfaceSourceBridge{Bridge: n.HostNetwork}}
	case i < 0 && named && bridge != "":
		x.Source = &libvirtxml.DomainInterfaceSource{Bridge: &libvirtxml.DomainInterfaceSourceBridge{Bridge: bridge}}
	case n.HostNetwork == "" || n.HostNetwork == NetworkUser:
		x.Source = &libvirtxml.DomainInterfaceSource{User: &libvirtxml.DomainInterfaceSourceUser{}}
	default:
		var names []string
		for _, h := range b.s.networks {
			names = append(names, h.Name)
		}
		b.refuse(what, "the host has no network %q: it has %s; a bridge of its is named %sNAME", n.HostNetwork, cmp.Or(strings.Join(names, ", "), "none"), bridgePrefix)
		return false
	}
	if len(n.Forwards) == 0 {
		return true
	}
	switch {
	case x.Source.User == nil:
		b.refuse(what, "forwards of ports are for the network %s: guests on %s are reached by their own addresses", NetworkUser, n.HostNetwork)
		return false
	case !b.f.passt:
		b.refuse(what, "forwards of ports need the program passt on the host, and libvirt 9.2 or newer")
		return false
	}
	x.Backend = &libvirtxml.DomainInterfaceBackend{Type: "passt"}
	for _, f := range n.Forwards {
		if f.Protocol != "tcp" && f.Protocol != "udp" || f.HostPort == 0 || f.GuestPort == 0 {
			b.refuse(what, "%s is not a forward", f)
			continue
		}
		addr := f.HostAddress
		if !addr.IsValid() {
			addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		r := libvirtxml.DomainInterfaceSourcePortForwardRange{Start: uint(f.HostPort)}
		if f.GuestPort != f.HostPort {
			r.To = uint(f.GuestPort)
		}
		x.PortForward = append(x.PortForward, libvirtxml.DomainInterfaceSourcePortForward{Proto: f.Protocol, Address: addr.String(),
			Ranges: []libvirtxml.DomainInterfaceSourcePortForwardRange{r}})
	}
	return true
}

// ports are the serial ports, and the guest agent's channel.
func (b *builder) ports() {
	if n := len(b.m.Serials); n > qemudevice.MaxSerials {
		b.refuse("serial ports", "%d: a PC has %d", n, qemudevice.MaxSerials)
	}
	for i := range b.m.Serials {
		x := libvirtxml.DomainSerial{Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}},
			Target: &libvirtxml.DomainSerialTarget{Port: number(uint(i))}}
		if b.s.logs != nil {
			if path := b.s.logs(i); path != "" {
				x.Log = &libvirtxml.DomainChardevLog{File: path, Append: "off"}
			}
		}
		b.d.Devices.Serials = append(b.d.Devices.Serials, x)
	}
	if b.qemu() {
		b.d.Devices.Channels = []libvirtxml.DomainChannel{{Source: &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{}},
			Target: &libvirtxml.DomainChannelTarget{VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: agentChannel}}}}
	}
}

func (b *builder) screen() {
	model := cmp.Or(b.m.Display, qemudevice.DefaultDisplay)
	if _, ok := b.f.devices.Displays[model]; !ok {
		b.refuse("display", "the host has no graphics card %q", model)
		return
	}
	b.d.Devices.Videos = []libvirtxml.DomainVideo{{Model: libvirtxml.DomainVideoModel{Type: videoModels[model], Heads: 1, Primary: "yes"}}}
	if b.f.vnc {
		const loopback = "127.0.0.1"
		b.d.Devices.Graphics = []libvirtxml.DomainGraphic{{VNC: &libvirtxml.DomainGraphicVNC{Port: -1, AutoPort: "yes", Listen: loopback,
			Listeners: []libvirtxml.DomainGraphicListener{{Address: &libvirtxml.DomainGraphicListenerAddress{Address: loopback}}}}}}
	}
}

func (b *builder) extras() {
	d := b.d.Devices
	if s := b.m.Sound; s != "" {
		if _, ok := b.f.devices.Sounds[s]; !ok {
			b.refuse("sound card", "the host has no %q", s)
		} else {
			d.Sounds = []libvirtxml.DomainSound{{Model: soundModels[s]}}
		}
	}
	for i, u := range b.m.USB {
		if _, ok := b.f.devices.USB[u]; !ok {
			b.refuse("USB controller", "the host has no %q", u)
			continue
		}
		d.Controllers = append(d.Controllers, libvirtxml.DomainController{Type: "usb", Index: number(uint(i)), Model: usbModels[u]})
	}
	if len(b.m.USB) == 0 && b.qemu() {
		d.Controllers = append(d.Controllers, libvirtxml.DomainController{Type: "usb", Index: number(0), Model: "none"})
	}
	if t := b.m.TPM; t != nil {
		switch {
		case len(b.f.tpms) == 0:
			b.refuse("TPM "+t.Version, "the host has no software TPM; install swtpm and swtpm-tools there")
		case !slices.Contains(b.f.tpms, t.Version):
			b.refuse("TPM "+t.Version, "the host has the versions %s", strings.Join(b.f.tpms, " and "))
		}
		model := "tpm-crb"
		if t.Version == "1.2" {
			model = "tpm-tis"
		}
		d.TPMs = []libvirtxml.DomainTPM{{Model: model, Backend: &libvirtxml.DomainTPMBackend{Emulator: &libvirtxml.DomainTPMBackendEmulator{Version: t.Version}}}}
	}
	if b.qemu() {
		d.MemBalloon = &libvirtxml.DomainMemBalloon{Model: "none"}
	}
}

// metadata is the record, and something for people.
func (b *builder) metadata(r hypervisor.Record) {
	text, err := recordXML(r)
	if err != nil && b.err == nil {
		b.err = err
	}
	b.d.Metadata = &libvirtxml.DomainMetadata{XML: text}
	about := r.Appliance
	if r.Locator != "" {
		about = strings.TrimSpace(about + " from " + r.Locator)
	}
	b.d.Description = about
}

// recordXML is the element that a domain's metadata holds: the record in JSON.
func recordXML(r hypervisor.Record) (string, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("the machine's record: %w", err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<%s:record xmlns:%s="%s">`, recordPrefix, recordPrefix, recordNamespace)
	if err := xml.EscapeText(&b, text); err != nil {
		return "", err
	}
	fmt.Fprintf(&b, `</%s:record>`, recordPrefix)
	return b.String(), nil
}

// recordOf finds the record in a domain's metadata; nil is none.
func recordOf(metadata string) (*hypervisor.Record, error) {
	dec := xml.NewDecoder(strings.NewReader("<metadata>" + metadata + "</metadata>"))
	for {
		token, err := dec.Token()
		if err != nil {
			return nil, nil //nolint:nilerr // metadata of somebody else's, or its end
		}
		start, ok := token.(xml.StartElement)
		if !ok || start.Name.Space != recordNamespace || start.Name.Local != "record" {
			continue
		}
		var text string
		if err := dec.DecodeElement(&text, &start); err != nil {
			return nil, errors.New("the record in the metadata is cut off")
		}
		r := &hypervisor.Record{}
		if err := json.Unmarshal([]byte(text), r); err != nil {
			return nil, fmt.Errorf("the record in the metadata: %w", err)
		}
		return r, nil
	}
}
