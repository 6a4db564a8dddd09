package libvirt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/qemudevice"
)

// facts are what a host said of itself for guests of one architecture. They
// hold as long as a connection does: who installs another QEMU restarts the
// daemon.
type facts struct {
	arch      string // libvirt's name
	virt      string // the domain's type: kvm, qemu, xen, test
	slow      string // why it is not kvm
	emulator  string
	version   string
	chipsets  []hypervisor.Chipset
	machines  map[hypervisor.Chipset]string // what to write into the domain
	maxCPUs   int
	hostCPUs  int
	hostHz    int64
	firmware  []hypervisor.FirmwareCapability
	devices   qemudevice.Table
	tpms      []string
	vnc       bool
	passt     bool
	cpuMode   string   // maximum, host-passthrough, host-model; "" is the host's default
	features  []string // of the processors; nil is not known
	noTuning  string   // why shares and limits can't be given
	localPath bool
}

// rhelNICs are the network cards that Red Hat's QEMU is built with. libvirt
// says nothing of cards; the machine types say whose QEMU it is.
var rhelNICs = []hypervisor.NICModel{hypervisor.E1000, hypervisor.E1000e, hypervisor.VirtIONet, hypervisor.RTL8139}

func values(d *libvirtxml.DomainCapsDevice, enum string) []string {
	if d == nil || d.Supported != "yes" {
		return nil
	}
	return enumOf(d.Enums, enum)
}

func enumOf(enums []libvirtxml.DomainCapsEnum, name string) []string {
	for _, e := range enums {
		if e.Name == name {
			return e.Values
		}
	}
	return nil
}

// some is the optional string of the protocol.
func some(s string) golibvirt.OptString {
	if s == "" {
		return nil
	}
	return golibvirt.OptString{s}
}

// learn asks the host, once for each connection and architecture.
func (h *Host) learn(ctx context.Context, arch string) (*facts, error) {
	return ask(ctx, h, func(c *connection) (*facts, error) {
		c.learning.Lock()
		defer c.learning.Unlock()
		if f := c.learned[arch]; f != nil {
			return f, nil
		}
		f, err := h.learnFrom(c, arch)
		if err != nil {
			return nil, fmt.Errorf("what %s can give: %w", h.target, err)
		}
		if c.learned == nil {
			c.learned = map[string]*facts{}
		}
		c.learned[arch] = f
		return f, nil
	})
}

func (h *Host) learnFrom(c *connection, qemuArch string) (*facts, error) {
	text, err := c.ConnectGetCapabilities()
	if err != nil {
		return nil, err
	}
	var caps libvirtxml.Caps
	if err := caps.Unmarshal(text); err != nil {
		return nil, fmt.Errorf("its capabilities: %w", err)
	}
	f := &facts{arch: architecture(qemuArch), machines: map[hypervisor.Chipset]string{}, localPath: h.target.local()}
	if qemuArch == "" && caps.Host.CPU != nil && caps.Host.CPU.Arch != "" {
		f.arch = caps.Host.CPU.Arch
	}
	var guest *libvirtxml.CapsGuest
	var archs []string
	for i, g := range caps.Guests {
		archs = append(archs, architectureOf(g.Arch.Name))
		// Of several for one architecture, Xen's hvm is the one that is a PC.
		if g.Arch.Name == f.arch && (guest == nil || g.OSType == "hvm") {
			guest = &caps.Guests[i]
		}
	}
	if guest == nil {
		if len(archs) == 0 {
			return nil, fmt.Errorf("%w: it runs no guests: is QEMU installed there?", hypervisor.ErrUnavailable)
		}
		slices.Sort(archs)
		return nil, &hypervisor.UnfitError{Target: h.URI(), Reasons: []hypervisor.Reason{{Subject: "architecture",
			Text: fmt.Sprintf("the host runs no guests of %q: it runs %s", architectureOf(f.arch), strings.Join(slices.Compact(archs), ", "))}}}
	}
	f.emulator = guest.Arch.Emulator
	if err := f.node(c); err != nil {
		return nil, err
	}
	if err := h.chooseVirt(f, guest); err != nil {
		return nil, err
	}
	f.version = "libvirt " + versionText(c.version)
	if v, err := c.ConnectGetVersion(); err == nil && v > 0 {
		kind, _ := c.ConnectGetType()
		f.version = kind + " " + versionText(v) + ", " + f.version
	}
	if h.target.session() {
		f.noTuning = "a session's libvirt has no control groups: shares, reservations and limits are for qemu:///system"
	}
	f.devices = qemudevice.All()
	if h.target.driver == "test" {
		// It simulates, and takes whatever it is given.
		f.chipsets = []hypervisor.Chipset{hypervisor.I440FX, hypervisor.Q35}
		f.maxCPUs, f.vnc = 255, true
		f.firmware = []hypervisor.FirmwareCapability{{Kind: hypervisor.BIOS, Chipsets: f.chipsets}}
		return f, nil
	}
	return f, h.askDomain(c, f, guest)
}

// chooseVirt picks hardware acceleration where the host has it.
func (h *Host) chooseVirt(f *facts, guest *libvirtxml.CapsGuest) error {
	var types []string
	for _, d := range guest.Arch.Domains {
		types = append(types, d.Type)
		if d.Emulator != "" && f.emulator == "" {
			f.emulator = d.Emulator
		}
	}
	has := func(t string) bool { return slices.Contains(types, t) }
	switch {
	case h.target.driver == "xen" && has("xen"):
		f.virt = "xen"
	case h.target.driver == "test" && has("test"):
		f.virt = "test"
	case h.opt.Accel == "kvm" && !has("kvm"):
		return fmt.Errorf("%w: KVM was asked for, and the host has none for %s guests", hypervisor.ErrUnavailable, f.arch)
	case has("kvm") && h.opt.Accel != "tcg":
		f.virt = "kvm"
	case has("qemu"):
		f.virt, f.slow = "qemu", "the host's libvirt has no KVM for "+f.arch+" guests (/dev/kvm is absent or not for its user)"
		if h.opt.Accel == "tcg" {
			f.slow = "software emulation was asked for"
		}
	default:
		return fmt.Errorf("%w: the host runs %s guests of the types %v only", hypervisor.ErrUnavailable, f.arch, types)
	}
	return nil
}

// node is the host's own size.
func (f *facts) node(c *connection) error {
	_, _, cpus, mhz, _, _, _, _, err := c.NodeGetInfo()
	if err != nil {
		return err
	}
	f.hostCPUs, f.hostHz = int(cpus), int64(mhz)*1_000_000
	return nil
}

// askDomain learns what domains may have.
func (h *Host) askDomain(c *connection, f *facts, guest *libvirtxml.CapsGuest) error {
	machines := guest.Arch.Machines
	for _, d := range guest.Arch.Domains {
		if d.Type == f.virt && len(d.Machines) > 0 {
			machines = append(slices.Clone(d.Machines), machines...)
		}
	}
	rhel := false
	for _, m := range machines {
		rhel = rhel || strings.Contains(m.Name, "-rhel") || strings.Contains(m.Canonical, "-rhel")
	}
	var last error
	uefi := map[bool][]hypervisor.Chipset{} // by Secure Boot
	for _, chipset := range []hypervisor.Chipset{hypervisor.I440FX, hypervisor.Q35} {
		name := string(chipset)
		if f.virt == "xen" {
			if chipset == hypervisor.Q35 {
				continue
			}
			name = "xenfv"
		} else if !slices.ContainsFunc(machines, func(m libvirtxml.CapsGuestMachine) bool { return m.Name == name || m.Canonical == name }) {
			continue
		}
		text, err := c.ConnectGetDomainCapabilities(some(f.emulator), some(f.arch), some(name), some(f.virt), 0)
		if err != nil {
			last = err
			continue
		}
		var dc libvirtxml.DomainCaps
		if err := dc.Unmarshal(text); err != nil {
			return fmt.Errorf("its domain capabilities: %w", err)
		}
		f.chipsets = append(f.chipsets, chipset)
		f.machines[chipset] = name
		f.domain(&dc, chipset, uefi)
		if dc.CPU != nil && f.features == nil {
			f.features = f.cpuFeatures(c, name, dc.CPU.Modes)
		}
	}
	if len(f.chipsets) == 0 {
		return errors.Join(fmt.Errorf("%w: the host has neither of the machine types pc and q35 for %s guests", hypervisor.ErrUnavailable, f.arch), last)
	}
	f.firmware = []hypervisor.FirmwareCapability{{Kind: hypervisor.BIOS, Chipsets: f.chipsets}}
	for _, secure := range []bool{false, true} {
		if len(uefi[secure]) > 0 {
			f.firmware = append(f.firmware, hypervisor.FirmwareCapability{Kind: hypervisor.UEFI, SecureBoot: secure, Chipsets: uefi[secure]})
		}
	}
	if rhel {
		for model := range f.devices.NICs {
			if !slices.Contains(rhelNICs, model) {
				delete(f.devices.NICs, model)
			}
		}
	}
	if f.virt == "xen" {
		f.xenDevices()
	} else {
		f.probe(c)
	}
	// passt is listed by newer libvirts; of older ones only that on this
	// machine can be asked.
	if f.localPath && !f.passt && c.version >= 9_002_000 {
		_, err := exec.LookPath("passt")
		f.passt = err == nil
	}
	return nil
}

// domain takes what the host says for one chipset.
func (f *facts) domain(dc *libvirtxml.DomainCaps, chipset hypervisor.Chipset, uefi map[bool][]hypervisor.Chipset) {
	if dc.VCPU != nil && dc.VCPU.Max > 0 && (f.maxCPUs == 0 || int(dc.VCPU.Max) < f.maxCPUs) {
		f.maxCPUs = int(dc.VCPU.Max)
	}
	if os := dc.OS; os != nil && slices.Contains(enumOf(os.Enums, "firmware"), "efi") {
		uefi[false] = append(uefi[false], chipset)
		if os.Loader != nil && slices.Contains(enumOf(os.Loader.Enums, "secure"), "yes") && chipset == hypervisor.Q35 {
			uefi[true] = append(uefi[true], chipset)
		}
	}
	if dc.CPU != nil && f.cpuMode == "" {
		modes := map[string]bool{}
		for _, m := range dc.CPU.Modes {
			modes[m.Name] = m.Supported == "yes"
		}
		order := []string{"maximum", "host-model"}
		if f.virt == "kvm" {
			order = []string{"host-passthrough", "maximum", "host-model"}
		}
		for _, mode := range order {
			if modes[mode] {
				f.cpuMode = mode
				break
			}
		}
	}
	d := dc.Devices
	if d == nil {
		return
	}
	f.vnc = f.vnc || slices.Contains(values(d.Graphics, "type"), "vnc")
	f.passt = f.passt || slices.Contains(values(d.Interface, "backendType"), "passt")
	if slices.Contains(values(d.TPM, "backendModel"), "emulator") && len(f.tpms) == 0 {
		f.tpms = values(d.TPM, "backendVersion")
		if len(f.tpms) == 0 {
			f.tpms = []string{"1.2", "2.0"} // an older libvirt, which does not say
		}
	}
	if models := values(d.Video, "modelType"); models != nil {
		for name := range f.devices.Displays {
			if !slices.Contains(models, videoModels[name]) {
				delete(f.devices.Displays, name)
			}
		}
	}
	buses := values(d.Disk, "bus")
	if !slices.Contains(buses, "nvme") {
		delete(f.devices.Controllers, hypervisor.NVMe)
	}
	if buses != nil && chipset == hypervisor.I440FX {
		for model, bus := range map[hypervisor.ControllerModel]string{hypervisor.IDE: "ide", hypervisor.Floppy: "fdc",
			hypervisor.AHCI: "sata", hypervisor.VirtIOBlk: "virtio"} {
			if !slices.Contains(buses, bus) {
				delete(f.devices.Controllers, model)
			}
		}
	}
}

// xenDevices are those of Xen's own device model.
func (f *facts) xenDevices() {
	keep := map[hypervisor.ControllerModel]bool{hypervisor.IDE: true}
	for model := range f.devices.Controllers {
		if !keep[model] {
			delete(f.devices.Controllers, model)
		}
	}
	for model := range f.devices.NICs {
		if model != hypervisor.E1000 && model != hypervisor.RTL8139 && model != hypervisor.VirtIONet {
			delete(f.devices.NICs, model)
		}
	}
	f.cpuMode, f.features = "", nil
}

// has asks whether the host's QEMU has a device of which libvirt's capabilities
// do not tell: libvirt refuses to translate a domain with a device that QEMU
// lacks.
func (f *facts) has(c *connection, device any) bool {
	d := &libvirtxml.Domain{Type: f.virt, Name: "ovation-asks", Memory: &libvirtxml.DomainMemory{Value: 64, Unit: "MiB"},
		VCPU:    &libvirtxml.DomainVCPU{Value: 1},
		OS:      &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Arch: f.arch, Machine: f.machines[f.chipsets[0]], Type: "hvm"}},
		Devices: &libvirtxml.DomainDeviceList{Emulator: f.emulator, MemBalloon: &libvirtxml.DomainMemBalloon{Model: "none"}}}
	switch v := device.(type) {
	case libvirtxml.DomainController:
		d.Devices.Controllers = []libvirtxml.DomainController{v}
	case libvirtxml.DomainSound:
		d.Devices.Sounds = []libvirtxml.DomainSound{v}
	}
	text, err := d.Marshal()
	if err != nil {
		return false
	}
	_, err = c.ConnectDomainXMLToNative("qemu-argv", text, 0)
	// Only what libvirt says of the device counts, and not that it can't
	// translate at all.
	return !is(err, golibvirt.ErrConfigUnsupported)
}

// probe leaves out what the host lacks.
func (f *facts) probe(c *connection) {
	zero := uint(0)
	for model, name := range scsiModels {
		if !f.has(c, libvirtxml.DomainController{Type: "scsi", Index: &zero, Model: name}) {
			delete(f.devices.Controllers, model)
		}
	}
	for name, model := range usbModels {
		if !f.has(c, libvirtxml.DomainController{Type: "usb", Index: &zero, Model: model}) {
			delete(f.devices.USB, name)
		}
	}
	for name, model := range soundModels {
		if !f.has(c, libvirtxml.DomainSound{Model: model}) {
			delete(f.devices.Sounds, name)
		}
	}
}

// Capabilities is what the host says of itself. Of network cards libvirt does
// not tell which it has: those are what QEMU's builders include.
func (h *Host) Capabilities(ctx context.Context, qemuArch string) (*hypervisor.Capabilities, error) {
	f, err := h.learn(ctx, qemuArch)
	if err != nil {
		return nil, err
	}
	c := &hypervisor.Capabilities{
		Driver: driverName, Version: f.version, Architecture: architectureOf(f.arch),
		Acceleration: hypervisor.Acceleration{Kind: map[string]string{"kvm": "kvm", "qemu": "tcg"}[f.virt], Reason: f.slow},
		MaxCPUs:      f.maxCPUs, HostCPUs: f.hostCPUs, CPUFeatures: slices.Clone(f.features),
		Chipsets: slices.Clone(f.chipsets), Firmware: slices.Clone(f.firmware),
		TPMs: slices.Clone(f.tpms), MaxSerials: qemudevice.MaxSerials, Formats: []string{"qcow2", "raw"},
		Families: []string{f.virt, driverName},
		NoTuning: f.noTuning, NoReservations: "QEMU's machines take what is free: the host can give shares and limits, and not set aside processors or memory",
	}
	c.Acceleration.Kind = cmp.Or(c.Acceleration.Kind, f.virt)
	if f.virt == "kvm" {
		c.Families = []string{"kvm", "qemu", driverName}
	}
	d := f.devices.Without(func(string) bool { return false }) // a copy
	c.Controllers, c.NICs, c.Displays, c.Sounds, c.USB = d.Controllers, d.NICs, d.Displays, d.Sounds, d.USB
	if c.MemoryBytes, err = h.freeMemory(ctx); err != nil {
		h.log.DebugContext(ctx, "the host does not say how much memory it has", "error", err)
	}
	networks, err := h.Networks(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range networks {
		c.Networks = append(c.Networks, n.Name)
	}
	return c, nil
}

// freeMemory is what is free or can be freed at once.
func (h *Host) freeMemory(ctx context.Context) (int64, error) {
	return ask(ctx, h, func(c *connection) (int64, error) {
		const allCells = -1
		_, n, err := c.NodeGetMemoryStats(0, allCells, 0)
		if err != nil || n <= 0 {
			free, err := c.NodeGetFreeMemory()
			return int64(free), err
		}
		stats, _, err := c.NodeGetMemoryStats(n, allCells, 0)
		if err != nil {
			return 0, err
		}
		var kib uint64
		for _, s := range stats {
			switch s.Field {
			case "free", "buffers", "cached":
				kib += s.Value
			}
		}
		return int64(kib << 10), nil
	})
}

// Networks are libvirt's own, the one called default first, then the host's
// bridges, then QEMU's own network, which needs no privileges, and last what is
// not active.
func (h *Host) Networks(ctx context.Context) ([]hypervisor.Network, error) {
	return ask(ctx, h, func(c *connection) ([]hypervisor.Network, error) {
		var out []hypervisor.Network
		nets, _, err := c.ConnectListAllNetworks(1, 0)
		switch {
		case is(err, golibvirt.ErrNoSupport) || errors.Is(err, golibvirt.ErrUnsupported):
		case err != nil:
			return nil, err
		}
		own := map[string]bool{} // bridges that belong to networks
		for _, n := range nets {
			active, err := c.NetworkIsActive(n)
			if is(err, golibvirt.ErrNoNetwork) {
				continue // removed a moment ago
			}
			if err != nil {
				return nil, err
			}
			out = append(out, hypervisor.Network{Name: n.Name, Kind: "network", Active: active != 0})
			if bridge, err := c.NetworkGetBridgeName(n); err == nil {
				own[bridge] = true
			}
		}
		// Not every libvirt can list the host's interfaces.
		interfaces, _, err := c.ConnectListAllInterfaces(1, golibvirt.ConnectListInterfacesActive)
		if err != nil {
			interfaces = nil
		}
		for _, i := range interfaces {
			text, err := c.InterfaceGetXMLDesc(i, 0)
			if err != nil || own[i.Name] {
				continue
			}
			var x libvirtxml.Interface
			if x.Unmarshal(text) == nil && x.Bridge != nil && !slices.ContainsFunc(out, func(n hypervisor.Network) bool { return n.Name == i.Name }) {
				out = append(out, hypervisor.Network{Name: i.Name, Kind: "bridge", Active: true})
			}
		}
		if h.target.driver == "qemu" {
			out = append(out, hypervisor.Network{Name: NetworkUser, Kind: "user", Active: true})
		}
		slices.SortStableFunc(out, func(a, b hypervisor.Network) int {
			rank := func(n hypervisor.Network) int {
				switch {
				case !n.Active:
					return 4
				case n.Kind == "network" && n.Name == "default":
					return 0
				case n.Kind == "network":
					return 1
				case n.Kind == "bridge":
					return 2
				}
				return 3
			}
			return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name, b.Name))
		})
		return out, nil
	})
}
