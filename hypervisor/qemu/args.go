package qemu

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/qemudevice"
)

// Host is what Args has to know of where the machine will run: nothing in it
// is the guest's business.
type Host struct {
	// Accel is kvm or tcg.
	Accel string
	// Firmware is the UEFI to boot with; nil where the machine has a BIOS.
	Firmware *Firmware
	// NVRAM is the machine's own copy of the firmware's variables.
	NVRAM string
	// ConsoleFD and MonitorFD are connected sockets that QEMU inherits: the
	// first serial port, and QMP.
	ConsoleFD, MonitorFD int
	// FirmwareFD is another, for what a BIOS says of its work; 0 is none.
	FirmwareFD int
	// Subnets are those of the cards, by their IDs; without one a card has the
	// first. Wires are those of the cards that are not alone on their networks.
	Subnets map[string]Subnet
	Wires   map[string]Wire
	// TPMFD is a connected socket to a software TPM, 0 where there is none.
	TPMFD int
	// Window is the toolkit of a window that shows the guest's screen, gtk or
	// sdl; "" is no window.
	Window string
	// Sandbox forbids QEMU what it does not need.
	Sandbox bool
}

// Args makes QEMU's command line, less the program's name, for a machine that
// starts paused. It is a pure function: the same machine and host give the
// same arguments. Everything that comes from a package goes into QEMU's JSON
// syntax or is quoted, so that no name can add an option.
//
// What QEMU can't make it refuses with a hypervisor.UnfitError that holds every
// reason.
func Args(m hypervisor.Machine, h Host) ([]string, error) {
	b := &builder{m: m, h: h, buses: map[string]bus{}}
	b.system()
	b.firmware()
	b.ports()
	b.screen()
	b.storage()
	b.networks()
	b.extras()
	if b.pci > qemudevice.MaxPCIDevices {
		b.refuse("PCI bus", "the machine needs %d devices and the bus has room for %d; use virtio-scsi or another controller that takes several disks", b.pci, qemudevice.MaxPCIDevices)
	}
	if b.err != nil {
		return nil, b.err
	}
	if len(b.reasons) > 0 {
		return nil, &hypervisor.UnfitError{Target: driverName, Reasons: b.reasons}
	}
	return b.args, nil
}

type builder struct {
	m       hypervisor.Machine
	h       Host
	args    []string
	reasons []hypervisor.Reason
	err     error
	buses   map[string]bus // by the machine's controller ID
	pci     int
	drives  int
}

// bus is where a controller's drives are plugged in.
type bus struct {
	model hypervisor.ControllerModel
	name  string
	taken map[int]bool
}

func (b *builder) add(args ...string) { b.args = append(b.args, args...) }

func (b *builder) refuse(subject, format string, a ...any) {
	b.reasons = append(b.reasons, hypervisor.Reason{Machine: b.m.ID, Subject: subject, Text: fmt.Sprintf(format, a...)})
}

// addJSON adds an option in JSON, whose quoting is exact.
func (b *builder) addJSON(option string, v any) {
	text, err := json.Marshal(v)
	if err != nil && b.err == nil {
		b.err = fmt.Errorf("QEMU option %s: %w", option, err)
	}
	b.add(option, string(text))
}

// props keeps the order in which they are written.
type props []prop

type prop struct {
	key   string
	value any
}

// MarshalJSON writes an object with the properties in their order.
func (p props) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, kv := range p {
		if i > 0 {
			out = append(out, ',')
		}
		k, err := json.Marshal(kv.key)
		if err != nil {
			return nil, err
		}
		v, err := json.Marshal(kv.value)
		if err != nil {
			return nil, err
		}
		out = append(append(append(out, k...), ':'), v...)
	}
	return append(out, '}'), nil
}

func (b *builder) device(driver string, p ...prop) {
	b.addJSON("-device", append(props{{"driver", driver}}, p...))
}

// pciDevice counts the device too. No option ROMs: what boots is the disk, and
// the files may not be installed.
func (b *builder) pciDevice(driver string, p ...prop) {
	b.pci++
	b.device(driver, p...)
}

// quoted is for QEMU's key=value syntax, where a comma in a value is doubled.
func quoted(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r == '\uFFFD' {
			return -1
		}
		return r
	}, s)
	return strings.ReplaceAll(s, ",", ",,")
}

var (
	uuidSyntax    = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	featureSyntax = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,40}$`)
)

const (
	minMemory = 1 << 20
	maxMemory = 4 << 40
	maxCPUs   = 255
)

func (b *builder) system() {
	m := b.m
	if _, ok := architectures[m.Architecture]; !ok {
		b.refuse("architecture", "%q is not one that this driver makes: x86_64 and i386 are", m.Architecture)
	}
	name := m.Name
	if name == "" {
		name = m.ID
	}
	b.add("-name", "guest="+quoted(name))
	b.add("-no-user-config", "-nodefaults", "-S")

	machine := string(chipset(m))
	switch chipset(m) {
	case hypervisor.I440FX, hypervisor.Q35:
	default:
		b.refuse("chipset", "%q is neither pc nor q35", m.Chipset)
	}
	if f := b.h.Firmware; f != nil {
		if f.SMM {
			machine += ",smm=on"
		}
		machine += ",pflash0=firmware,pflash1=nvram"
	}
	b.add("-machine", machine+",vmport=off")

	// max under emulation is all that QEMU can do, so that guests built for
	// newer processors start; five-level page tables only slow it down.
	cpu := "max,la57=off"
	if b.h.Accel == "kvm" {
		cpu = "host"
	}
	for _, f := range m.CPU.Features {
		if !featureSyntax.MatchString(f) {
			b.refuse("CPU", "%q is not the name of a CPU feature", f)
			continue
		}
		cpu += "," + f + "=on"
	}
	b.add("-accel", b.h.Accel, "-cpu", cpu)

	n, cores := m.CPU.Count, m.CPU.CoresPerSocket
	if n < 1 || n > maxCPUs {
		b.refuse("CPU", "%d virtual CPUs: a PC has 1 to %d", n, maxCPUs)
	}
	if cores < 1 || n%cores != 0 {
		cores = 1
	}
	b.add("-smp", fmt.Sprintf("cpus=%d,sockets=%d,cores=%d,threads=1", n, n/cores, cores))

	if m.Memory.Bytes < minMemory || m.Memory.Bytes > maxMemory {
		b.refuse("memory", "%d bytes: from 1 MiB to 4 TiB can be had", m.Memory.Bytes)
	}
	b.add("-m", fmt.Sprintf("size=%dk", m.Memory.Bytes>>10))

	if m.UUID != "" {
		if !uuidSyntax.MatchString(m.UUID) {
			b.refuse("UUID", "%q is not a UUID", m.UUID)
		}
		b.add("-uuid", m.UUID)
	}
	clock := "utc"
	if strings.HasPrefix(m.OS, "win") {
		clock = "localtime"
	}
	b.add("-rtc", "base="+clock, "-boot", "menu=off,strict=on")
	if b.h.Sandbox {
		b.add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")
	}
}

// chipset is the machine's, or the one that has everything a machine names:
// the older one, which has parallel ATA and a floppy controller on board and
// which every guest knows; Secure Boot needs the newer.
func chipset(m hypervisor.Machine) hypervisor.Chipset {
	if m.Chipset != hypervisor.ChipsetAny {
		return m.Chipset
	}
	if m.Firmware.SecureBoot {
		return hypervisor.Q35
	}
	return hypervisor.I440FX
}

func (b *builder) firmware() {
	f := b.h.Firmware
	switch b.m.Firmware.Kind {
	case hypervisor.BIOS:
		if f != nil {
			b.err = fmt.Errorf("%s: the machine has a BIOS and the host gives UEFI", b.m.ID)
		}
		return
	case hypervisor.UEFI:
	default:
		b.refuse("firmware", "%q is neither bios nor efi", b.m.Firmware.Kind)
		return
	}
	if f == nil {
		with := "UEFI"
		if b.m.Firmware.SecureBoot {
			with = "UEFI and Secure Boot"
		}
		b.refuse("firmware", "the machine boots with %s, and no such firmware for the chipset %s is installed; %s", with, chipset(b.m), installUEFI)
		return
	}
	flash := func(node string, file string, format string, ro bool) {
		b.addJSON("-blockdev", props{{"driver", format}, {"node-name", node}, {"read-only", ro},
			{"file", props{{"driver", "file"}, {"filename", file}, {"read-only", ro}}}})
	}
	flash("firmware", f.Code, f.CodeFormat, true)
	flash("nvram", b.h.NVRAM, f.VarsFormat, false)
	if f.SMM {
		b.add("-global", "driver=cfi.pflash01,property=secure,value=on")
	}
}

// ports are the monitor and the serial ports.
func (b *builder) ports() {
	b.add("-chardev", fmt.Sprintf("socket,id=monitor,fd=%d", b.h.MonitorFD), "-mon", "chardev=monitor,mode=control")
	for i := range b.m.Serials {
		chardev := fmt.Sprintf("serial%d", i)
		if i == 0 {
			b.add("-chardev", fmt.Sprintf("socket,id=%s,fd=%d", chardev, b.h.ConsoleFD))
		} else {
			b.add("-chardev", "null,id="+chardev)
		}
		b.device("isa-serial", prop{"id", "port" + chardev}, prop{"chardev", chardev}, prop{"index", i})
	}
	if len(b.m.Serials) > qemudevice.MaxSerials {
		b.refuse("serial ports", "%d: a PC has %d", len(b.m.Serials), qemudevice.MaxSerials)
	}
	if b.h.FirmwareFD != 0 {
		b.add("-chardev", fmt.Sprintf("socket,id=firmwarelog,fd=%d", b.h.FirmwareFD))
		b.device("isa-debugcon", prop{"chardev", "firmwarelog"}, prop{"iobase", 0x402})
	}
}

func (b *builder) screen() {
	b.add("-display", cmp.Or(b.h.Window, "none"))
	model := b.m.Display
	if model == "" {
		model = qemudevice.DefaultDisplay
	}
	d, ok := displays[model]
	if !ok {
		b.refuse("display", "%q is not a graphics card that QEMU has", model)
		return
	}
	b.pciDevice(d.Name, prop{"id", "video0"})
}

func (b *builder) storage() {
	count := map[hypervisor.ControllerModel]int{}
	for _, c := range b.m.Controllers {
		d, ok := controllers[c.Model]
		if !ok {
			b.refuse(subject("controller", c.ID), "QEMU has no %s", c.Model)
			continue
		}
		if _, twice := b.buses[c.ID]; twice {
			b.err = fmt.Errorf("%s: two controllers are called %q", b.m.ID, c.ID)
			return
		}
		n := count[c.Model]
		count[c.Model]++
		if d.Max > 0 && n >= d.Max {
			b.refuse(subject("controller", c.ID), "a machine can have %d of %s", d.Max, c.Model)
			continue
		}
		if d.Chipsets != nil && !slices.Contains(d.Chipsets, chipset(b.m)) {
			b.refuse(subject("controller", c.ID), "the chipset %s has no %s", chipset(b.m), c.Model)
			continue
		}
		bus := bus{model: c.Model, taken: map[int]bool{}}
		switch c.Model {
		case hypervisor.IDE:
			bus.name = fmt.Sprintf("ide.%d", n)
		case hypervisor.VirtIOBlk:
		case hypervisor.Floppy:
			bus.name = "floppy0.0"
			if chipset(b.m) == hypervisor.Q35 {
				b.device(d.Name, prop{"id", "floppy0"})
			}
		case hypervisor.NVMe:
			bus.name = fmt.Sprintf("nvme%d", n)
			b.pciDevice(d.Name, prop{"id", bus.name}, prop{"serial", fmt.Sprintf("OVATION-%d", n)})
		default:
			id := fmt.Sprintf("%s%d", busPrefix[c.Model], n)
			bus.name = id + ".0"
			if c.Model == hypervisor.AHCI {
				bus.name = id
			}
			p := []prop{{"id", id}}
			b.pciDevice(d.Name, p...)
		}
		b.buses[c.ID] = bus
	}
	for _, d := range b.m.Drives {
		b.drive(d)
	}
}

var busPrefix = map[hypervisor.ControllerModel]string{
	hypervisor.AHCI: "sata", hypervisor.LSILogic: "lsi", hypervisor.LSISAS: "sas",
	hypervisor.PVSCSI: "pvscsi", hypervisor.VirtIOSCSI: "vscsi",
}

func subject(kind, id string) string { return kind + " " + id }

func (b *builder) drive(d hypervisor.Drive) {
	what := subject("drive", d.ID)
	bus, ok := b.buses[d.Controller]
	if !ok {
		if !slices.ContainsFunc(b.m.Controllers, func(c hypervisor.Controller) bool { return c.ID == d.Controller }) {
			b.refuse(what, "is on a controller %q that the machine does not have", d.Controller)
		}
		return // the controller's own reason is there
	}
	if units := controllers[bus.model].Units; d.Unit < 0 || units > 0 && d.Unit >= units {
		b.refuse(what, "is at %d of a controller with %d places", d.Unit, units)
		return
	}
	if bus.model != hypervisor.VirtIOBlk && bus.taken[d.Unit] {
		b.refuse(what, "is at %d of %s, which is taken", d.Unit, d.Controller)
		return
	}
	bus.taken[d.Unit] = true
	if (bus.model == hypervisor.Floppy) != (d.Kind == hypervisor.FloppyDrive) {
		b.refuse(what, "a %s can't be on a %s controller", d.Kind, bus.model)
		return
	}
	if d.Kind == hypervisor.HardDisk && d.Medium == nil {
		b.refuse(what, "the disk has no image")
		return
	}
	id := fmt.Sprintf("drive%d", b.drives)
	b.drives++
	p := []prop{{"id", id}}
	if d.Medium != nil {
		node := "node-" + id
		b.medium(what, node, d)
		p = append(p, prop{"drive", node})
	}
	if d.BootOrder > 0 && d.Kind != hypervisor.FloppyDrive {
		p = append(p, prop{"bootindex", d.BootOrder})
	}
	cd := d.Kind == hypervisor.CDROM
	pick := func(disk, cdrom string) string {
		if cd {
			return cdrom
		}
		return disk
	}
	switch bus.model {
	case hypervisor.IDE:
		b.device(pick("ide-hd", "ide-cd"), append(p, prop{"bus", bus.name}, prop{"unit", d.Unit})...)
	case hypervisor.AHCI:
		b.device(pick("ide-hd", "ide-cd"), append(p, prop{"bus", fmt.Sprintf("%s.%d", bus.name, d.Unit)})...)
	case hypervisor.LSILogic, hypervisor.LSISAS, hypervisor.PVSCSI, hypervisor.VirtIOSCSI:
		if bus.model == hypervisor.LSISAS {
			// Linux passes over SAS devices that have no address.
			p = append(p, prop{"wwn", sasAddress(b.drives)})
		}
		b.device(pick("scsi-hd", "scsi-cd"), append(p, prop{"bus", bus.name}, prop{"scsi-id", d.Unit}, prop{"lun", 0})...)
	case hypervisor.VirtIOBlk, hypervisor.NVMe:
		if cd {
			b.refuse(what, "a CD-ROM can't be on a %s controller", bus.model)
			return
		}
		if bus.model == hypervisor.NVMe {
			b.device("nvme-ns", append(p, prop{"bus", bus.name}, prop{"nsid", d.Unit + 1})...)
		} else {
			b.pciDevice("virtio-blk-pci", p...)
		}
	case hypervisor.Floppy:
		if d.BootOrder > 0 {
			b.add("-global", fmt.Sprintf("driver=isa-fdc,property=bootindex%c,value=%d", 'A'+rune(d.Unit), d.BootOrder))
		}
		if chipset(b.m) == hypervisor.Q35 {
			p = append(p, prop{"bus", bus.name})
		}
		b.device("floppy", append(p, prop{"unit", d.Unit})...)
	}
}

// sasAddress gives the n-th drive a SAS address that no other has: locally
// assigned (NAA 3), and nobody's company.
func sasAddress(n int) uint64 { return 0x3000_0000_0000_0000 + uint64(n) }

func (b *builder) medium(what, node string, d hypervisor.Drive) {
	ro := d.ReadOnly || d.Kind == hypervisor.CDROM
	if options := b.image(what, d.Medium, ro, 0); options != nil {
		b.addJSON("-blockdev", append(props{options[0], {"node-name", node}}, options[1:]...))
	}
}

// maxBelow bounds a chain of deltas.
const maxBelow = 8

// image makes the options for a medium and those below it; nil where it was
// refused.
func (b *builder) image(what string, m *hypervisor.Medium, ro bool, depth int) props {
	if !slices.Contains(formats, m.Format) {
		b.refuse(what, "QEMU is not to open images of the format %q here: %s are", m.Format, strings.Join(formats, " and "))
		return nil
	}
	var file props
	switch {
	case m.Socket != "":
		file = props{{"driver", "nbd"}, {"server", props{{"type", "unix"}, {"path", m.Socket}}}, {"export", m.Export}}
	case m.Path != "":
		file = props{{"driver", "file"}, {"filename", m.Path}}
	default:
		b.refuse(what, "the image is neither a file nor a socket")
		return nil
	}
	cache := props{{"no-flush", m.Volatile}}
	options := props{{"driver", m.Format}, {"read-only", ro}, {"discard", "unmap"}, {"cache", cache},
		{"file", append(file, prop{"read-only", ro}, prop{"discard", "unmap"}, prop{"cache", cache})}}
	if m.Below == nil {
		return options
	}
	if depth == maxBelow || m.Format != "qcow2" {
		b.refuse(what, "an image of the format %q can't be a delta of another here, or there are more than %d below one another", m.Format, maxBelow)
		return nil
	}
	below := b.image(what, m.Below, true, depth+1)
	if below == nil {
		return nil
	}
	return append(options, prop{"backing", below})
}

func (b *builder) networks() {
	for i, n := range b.m.NICs {
		what := subject("network card", n.ID)
		d, ok := nics[n.Model]
		if !ok {
			b.refuse(what, "QEMU has no %s", n.Model)
			continue
		}
		p := []prop{{"id", fmt.Sprintf("nic%d", i)}, {"netdev", ""}, {"romfile", ""}}
		if n.MAC != "" {
			mac, err := net.ParseMAC(n.MAC)
			if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
				b.refuse(what, "%q is not the MAC address of a card", n.MAC)
				continue
			}
			p = append(p, prop{"mac", mac.String()})
		}
		options := b.h.Subnets[n.ID].addresses()
		switch n.HostNetwork {
		case "", NetworkUser:
		case NetworkIsolated:
			options += ",restrict=on"
		default:
			b.refuse(what, "the host has no network %q: there are %s and %s", n.HostNetwork, NetworkUser, NetworkIsolated)
			continue
		}
		for _, f := range n.Forwards {
			if f.Protocol != "tcp" && f.Protocol != "udp" || f.HostPort == 0 || f.GuestPort == 0 {
				b.refuse(what, "%s is not a forward", f)
				continue
			}
			addr := f.HostAddress
			if !addr.IsValid() {
				addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
			}
			if !addr.Is4() {
				b.refuse(what, "%s: QEMU forwards from IPv4 addresses only", f)
				continue
			}
			options += fmt.Sprintf(",hostfwd=%s:%s:%d-:%d", f.Protocol, addr, f.HostPort, f.GuestPort)
		}
		p[1].value = b.network(i, n, options)
		b.pciDevice(d.Name, p...)
	}
}

func (b *builder) extras() {
	if s := b.m.Sound; s != "" {
		d, ok := sounds[s]
		if !ok {
			b.refuse("sound card", "QEMU has no %q", s)
		} else {
			b.add("-audiodev", "none,id=audio0")
			if codec := withCodec[s]; codec != "" {
				b.pciDevice(d.Name, prop{"id", "sound0"})
				b.device(codec, prop{"bus", "sound0.0"}, prop{"audiodev", "audio0"})
			} else {
				b.pciDevice(d.Name, prop{"id", "sound0"}, prop{"audiodev", "audio0"})
			}
		}
	}
	for i, u := range b.m.USB {
		d, ok := usbs[u]
		if !ok {
			b.refuse("USB controller", "QEMU has no %q", u)
			continue
		}
		b.pciDevice(d.Name, prop{"id", fmt.Sprintf("usb%d", i)})
	}
	b.tpm()
}
