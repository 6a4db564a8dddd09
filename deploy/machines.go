package deploy

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ovation-project/ovation/deploy/bootprobe"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/ovf"
)

// Options are choices about the machines that the descriptor does not make.
// The zero value takes everything as the descriptor has it.
type Options struct {
	// CPUs and MemoryBytes replace the descriptor's numbers, 0 does not.
	CPUs        int
	MemoryBytes int64
	// DiskBus puts every hard disk on controllers of this model, NIC makes
	// every network card this model; "" is the descriptor's.
	DiskBus hypervisor.ControllerModel
	NIC     hypervisor.NICModel
	// Firmware replaces what the descriptor or the disk says.
	Firmware hypervisor.FirmwareKind
	// Systems are the IDs of the virtual systems to make; none is all.
	Systems []string
	// LeaveOutPhysical leaves out required devices that are a host's own, and
	// would be handed through to the guest; they are reasons otherwise.
	LeaveOutPhysical bool
	// Probe looks at how a disk boots, where the descriptor does not say;
	// nil is not to look.
	Probe func(disk *ovf.ResolvedDisk) (bootprobe.Result, error)
	// Was, where set, gives the machine that a virtual system was on the host
	// that it comes from, for what no descriptor says (architecture, guest,
	// chipset); nil is that it comes from none.
	Was func(s *ovf.System) *hypervisor.Machine
}

// Note is what a person should know of how a machine differs from what the
// descriptor says, or of a choice that was made for it.
type Note struct {
	Machine string `json:"machine"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
	// Differs is set where the guest gets something else than the descriptor
	// says, or not all of it, and nobody chose that.
	Differs bool `json:"differs,omitempty"`
}

// String is the note on one line.
func (n Note) String() string { return fmt.Sprintf("%s: %s: %s", n.Machine, n.Subject, n.Text) }

// Planned is one machine as it will be made, and where it comes from.
type Planned struct {
	Machine hypervisor.Machine
	System  *ovf.System
	// Disks are the disks to be put in place, by the ID of their drive; Files
	// are the package's files that go in as they are, such as CD-ROM images.
	Disks map[string]*ovf.ResolvedDisk
	Files map[string]*ovf.File
	Notes []Note

	reasons  []hypervisor.Reason
	subjects map[string]string // what to call a device, by its ID
	optional map[string]bool   // by its ID
	features []CPUFeature
	// secureBoot says that the descriptor requires Secure Boot, where it asks
	// for it.
	secureBoot bool

	references map[string]*ovf.File // all of the package's, by their ID
}

// Sections are the reasons that a descriptor's sections give, whatever the
// target: those that are required and not understood (DSP0243 1.1.0, 7.3), and
// that the files are encrypted.
func Sections(r *ovf.Resolved) (reasons []hypervisor.Reason) {
	for _, s := range r.Unknown {
		reasons = append(reasons, hypervisor.Reason{Subject: fmt.Sprintf("section %s (line %d)", s.Kind, s.Pos().Line),
			Text: "the descriptor requires it (ovf:required) and it is not understood"})
	}
	for _, s := range r.Envelope.Sections {
		if s.Kind == ovf.EncryptionSection {
			reasons = append(reasons, hypervisor.Reason{Subject: fmt.Sprintf("section %s (line %d)", s.Kind, s.Pos().Line),
				Text: "the package's files are encrypted: decrypt it first ('ovation decrypt')"})
		}
	}
	return reasons
}

// Machines works out the machines of a resolved descriptor for a target. It
// looks at everything before it gives up: the error is a
// *hypervisor.UnfitError with every reason, of all the machines, and then the
// machines are there too as far as they could be worked out. What else keeps a
// package from a target is for package fit, which asks Sections too.
func Machines(r *ovf.Resolved, target *hypervisor.Capabilities, opt Options) ([]*Planned, error) {
	systems, err := chosen(r, opt.Systems)
	if err != nil {
		return nil, err
	}
	var reasons []hypervisor.Reason
	var planned []*Planned
	references := filesByID(r.Envelope)
	for _, s := range systems {
		p := &Planned{System: s, references: references, Disks: map[string]*ovf.ResolvedDisk{}, Files: map[string]*ovf.File{},
			subjects: map[string]string{}, optional: map[string]bool{}}
		if err := p.build(r, target, opt); err != nil {
			return nil, err
		}
		p.fit(target)
		planned = append(planned, p)
		reasons = append(reasons, p.reasons...)
	}
	if len(reasons) > 0 {
		return planned, &hypervisor.UnfitError{Target: target.Driver, Reasons: reasons}
	}
	return planned, nil
}

// UnknownSystemError says that a virtual system was named that the package
// does not have.
type UnknownSystemError struct {
	ID  string
	Has []string
}

// Error names those there are.
func (e *UnknownSystemError) Error() string {
	return fmt.Sprintf("the package has no virtual system %q; it has %s", e.ID, strings.Join(e.Has, ", "))
}

func chosen(r *ovf.Resolved, ids []string) ([]*ovf.System, error) {
	if len(ids) == 0 {
		return r.Systems, nil
	}
	var has []string
	byID := map[string]*ovf.System{}
	for _, s := range r.Systems {
		has = append(has, s.ID)
		byID[s.ID] = s
	}
	for _, id := range ids {
		if byID[id] == nil {
			return nil, &UnknownSystemError{ID: id, Has: has}
		}
	}
	return slices.DeleteFunc(slices.Clone(r.Systems), func(s *ovf.System) bool { return !slices.Contains(ids, s.ID) }), nil
}

func (p *Planned) note(subject, format string, a ...any) {
	p.Notes = append(p.Notes, Note{Machine: p.Machine.ID, Subject: subject, Text: fmt.Sprintf(format, a...)})
}

// differ is a note of what the guest gets otherwise than the descriptor says.
func (p *Planned) differ(subject, format string, a ...any) {
	p.note(subject, format, a...)
	p.Notes[len(p.Notes)-1].Differs = true
}

func (p *Planned) refuse(subject, format string, a ...any) {
	p.reasons = append(p.reasons, hypervisor.Reason{Machine: p.Machine.ID, Subject: subject, Text: fmt.Sprintf(format, a...)})
}

// lack is for what an item asks and can't be had: a reason where the item is
// required, else a note.
func (p *Planned) lack(id, format string, a ...any) {
	if p.optional[id] {
		p.differ(p.subject(id), "left out, it is not required: "+format, a...)
	} else {
		p.refuse(p.subject(id), format, a...)
	}
}

func (p *Planned) subject(id string) string { return cmp.Or(p.subjects[id], id) }

// Defaults for descriptors that do not say.
const (
	defaultCPUs   = 1
	defaultMemory = 512 << 20
)

func (p *Planned) build(r *ovf.Resolved, target *hypervisor.Capabilities, opt Options) error {
	s, m := p.System, &p.Machine
	m.ID, m.Name = s.ID, r.Text(s.Name)
	if m.Name == "" {
		m.Name = s.ID
	}
	m.Architecture, m.OS = guest(s)
	if opt.Was != nil {
		if was := opt.Was(s); was != nil {
			m.Architecture, m.OS, m.Chipset = was.Architecture, cmp.Or(was.OS, m.OS), was.Chipset
		}
	}
	if s.Hardware == nil {
		p.refuse("virtual hardware", "the virtual system has no VirtualHardwareSection")
		return nil
	}
	m.CPU = hypervisor.CPU{Count: cmp.Or(opt.CPUs, s.CPUs), CoresPerSocket: s.CoresPerSocket,
		ReservationHz: max(0, s.CPU.Reservation), LimitHz: max(0, s.CPU.Limit), Shares: max(0, s.CPU.Weight)}
	if m.CPU.Count < 1 {
		m.CPU.Count = defaultCPUs
		p.note("CPUs", "the descriptor does not say how many; %d", defaultCPUs)
	}
	m.Memory = hypervisor.Memory{Bytes: cmp.Or(opt.MemoryBytes, s.MemoryBytes),
		ReservationBytes: max(0, s.Memory.Reservation), LimitBytes: max(0, s.Memory.Limit), Shares: max(0, s.Memory.Weight)}
	if m.Memory.Bytes < 1 {
		m.Memory.Bytes = defaultMemory
		p.note("memory", "the descriptor does not say how much; %d MiB", defaultMemory>>20)
	}
	p.tuning(target)
	p.cpuFeatures()
	m.UUID = uuid(s)
	if v := s.Machine; v != nil {
		if v.TPM != "" && m.TPM == nil {
			m.TPM = &hypervisor.TPM{Version: map[string]string{"v1_2": "1.2"}[v.TPM]}
			m.TPM.Version = cmp.Or(m.TPM.Version, "2.0")
			p.subjects["tpm"], p.optional["tpm"] = "TPM (vbox:Machine)", true
		}
	}
	p.devices(r, target, opt)
	if !importsVMware(target) {
		p.configs()
	}
	if opt.DiskBus != "" {
		p.rebus(opt.DiskBus)
	}
	p.bootOrder()
	return p.firmware(opt)
}

// tuning says what the target can't do of what the machine asks of its
// processors and memory.
func (p *Planned) tuning(target *hypervisor.Capabilities) {
	c, m := p.Machine.CPU, p.Machine.Memory
	var reserved, others []string
	for _, asked := range []struct {
		n    int64
		what string
		in   *[]string
	}{{c.ReservationHz, fmt.Sprintf("%d MHz reserved", c.ReservationHz/1_000_000), &reserved}, {m.ReservationBytes, fmt.Sprintf("%d MiB of memory reserved", m.ReservationBytes>>20), &reserved},
		{c.LimitHz, fmt.Sprintf("at most %d MHz", c.LimitHz/1_000_000), &others}, {m.LimitBytes, fmt.Sprintf("at most %d MiB of the host's memory", m.LimitBytes>>20), &others},
		{c.Shares, fmt.Sprintf("a weight of %d for its processors", c.Shares), &others}} {
		if asked.n > 0 {
			*asked.in = append(*asked.in, asked.what)
		}
	}
	why := target.NoTuning
	if why != "" {
		reserved = append(reserved, others...)
	} else {
		why = target.NoReservations
	}
	if why != "" && len(reserved) > 0 {
		p.note("resources", "left out: %s; %s", strings.Join(reserved, ", "), why)
	}
}

var uuidSyntax = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// uuid is the UUID that the descriptor gives the guest, by vmw:Config or
// vbox:Machine, "" where it gives none that is one.
func uuid(s *ovf.System) string {
	id, _ := s.Hardware.Config("uuid")
	if id == "" && s.Machine != nil {
		id = s.Machine.UUID
	}
	if id = strings.ToLower(strings.Trim(id, "{}")); uuidSyntax.MatchString(id) {
		return id
	}
	return ""
}

// guest tells the architecture and whether it is Windows, whose clock is on
// local time. CIM's numbers of operating systems do not tell the processor.
func guest(s *ovf.System) (architecture, os string) {
	said := instructionSet(s)
	architecture = cmp.Or(said, "x86_64")
	if s.OS == nil {
		return architecture, ""
	}
	vmware, vbox := strings.ToLower(s.OS.VMwareType), strings.ToLower(s.OS.VBoxType)
	if said == "" && (strings.HasPrefix(vmware, "arm") || strings.HasSuffix(vbox, "_arm64")) {
		architecture = "aarch64"
	}
	if strings.HasPrefix(vmware, "win") || strings.HasPrefix(vbox, "windows") ||
		strings.Contains(strings.ToLower(s.OS.Description.Text), "microsoft windows") {
		os = "windows"
	}
	return architecture, os
}

func (p *Planned) devices(r *ovf.Resolved, target *hypervisor.Capabilities, opt Options) {
	m := &p.Machine
	for _, i := range p.System.Items {
		if i.ResourceType == ovf.Processor || i.ResourceType == ovf.Memory {
			continue
		}
		id := i.InstanceID
		p.subjects[id] = fmt.Sprintf("%q (InstanceID %s, line %d)", cmp.Or(i.ElementName, resourceName(i)), id, i.Pos().Line)
		p.optional[id] = !i.Required
		d, ok := p.pick(i, target, opt)
		if !ok {
			continue
		}
		if d.Differs != "" {
			p.differ(p.subject(id), "%s", d.Differs)
		}
		switch {
		case d.Controller != "":
			m.Controllers = append(m.Controllers, hypervisor.Controller{ID: id, Model: d.Controller, Index: number(i.Address, len(m.Controllers))})
		case d.NIC != "":
			p.nic(i, cmp.Or(opt.NIC, d.NIC))
		case d.Drive != "":
			p.drive(r, i, d.Drive)
		case d.Serial:
			m.Serials = append(m.Serials, hypervisor.Serial{ID: id})
		case d.Display != "":
			m.Display = d.Display
		case d.Sound != "":
			m.Sound = d.Sound
			p.subjects["sound"], p.optional["sound"] = p.subject(id), p.optional[id]
		case d.USB != "":
			m.USB = append(m.USB, d.USB)
			p.subjects["usb "+d.USB], p.optional["usb "+d.USB] = p.subject(id), p.optional[id]
		case d.TPM != "":
			m.TPM = &hypervisor.TPM{Version: d.TPM}
			p.subjects["tpm"], p.optional["tpm"] = p.subject(id), p.optional[id]
		}
	}
	p.adopt()
}

// pick takes the first of an item's models that the target has; where it has
// none, the first, so that fitting says what is missing.
func (p *Planned) pick(i *ovf.ResolvedItem, target *hypervisor.Capabilities, opt Options) (Device, bool) {
	found := lookUp(i.ResourceType, i.SubTypes)
	name := strings.Join(i.SubTypes, ", ")
	if importsVMware(target) && (len(found) == 0 || found[0].none() && slices.Contains(found[0].Families, VMware)) {
		return Device{}, false // the host reads the item itself, and says what it makes of it
	}
	if len(found) == 0 {
		if name == "" {
			p.lack(i.InstanceID, "%s is not a device that is known here", resourceName(i))
		} else {
			p.lack(i.InstanceID, "%s of the kind %q is not a device that is known here", resourceName(i), name)
		}
		return Device{}, false
	}
	for _, d := range found {
		if d.none() {
			continue
		}
		_, c := target.Controllers[d.Controller]
		_, n := target.NICs[d.NIC]
		if d.Controller != "" && c || d.NIC != "" && n || d.Controller == "" && d.NIC == "" {
			return d, true
		}
	}
	if d := found[0]; d.none() {
		switch {
		case d.Physical && i.Required && opt.LeaveOutPhysical:
			p.differ(p.subject(i.InstanceID), "left out, as was asked: %s", d.None)
		case d.Physical && i.Required:
			p.refuse(p.subject(i.InstanceID), "only its own platform has %s: %s; --force missing-hardware leaves it out", cmp.Or(name, resourceName(i)), d.None)
		case d.Families == nil:
			p.lack(i.InstanceID, "%s can't be had: %s", resourceName(i), d.None)
		default:
			p.lack(i.InstanceID, "only its own platform has %s: %s", name, d.None)
		}
		return Device{}, false
	}
	return found[0], true
}

// importsVMware says whether a target is given the package itself, and knows what
// VMware's products know.
func importsVMware(target *hypervisor.Capabilities) bool {
	return target.Imports && slices.Contains(FamiliesOf(target.Families), VMware)
}

func resourceName(i *ovf.ResolvedItem) string {
	if i.ResourceType == 0 {
		return "an item without a ResourceType"
	}
	return fmt.Sprintf("resource type %d (%s)", i.ResourceType, i.ResourceType)
}

// number reads a bus number or a place on one.
func number(s string, otherwise int) int {
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil || n < 0 || n > 1<<16 {
		return otherwise
	}
	return n
}

func (p *Planned) nic(i *ovf.ResolvedItem, model hypervisor.NICModel) {
	n := hypervisor.NIC{ID: i.InstanceID, Model: model}
	if len(i.Connections) > 0 {
		n.Network = i.Connections[0]
	}
	if mac, err := net.ParseMAC(strings.TrimSpace(i.Address)); err == nil && len(mac) == 6 && mac[0]&1 == 0 {
		n.MAC = mac.String()
	} else if mac, err := net.ParseMAC(colons(strings.TrimSpace(i.Address))); err == nil && mac[0]&1 == 0 {
		n.MAC = mac.String()
	} else if a := strings.TrimSpace(i.Address); a != "" && strings.ContainsAny(a, ":-") {
		p.note(p.subject(i.InstanceID), "%q is not the address of a card; it gets another", a)
	}
	n.Disconnected = strings.EqualFold(strings.TrimSpace(i.AutomaticAllocation), "false")
	p.Machine.NICs = append(p.Machine.NICs, n)
}

// colons puts them into an address of twelve digits, as VirtualBox writes it.
func colons(s string) string {
	if len(s) != 12 {
		return ""
	}
	var parts []string
	for i := 0; i < len(s); i += 2 {
		parts = append(parts, s[i:i+2])
	}
	return strings.Join(parts, ":")
}

// drive adds a drive where the item says it is; what it can't say is settled
// by adopt and fit.
func (p *Planned) drive(r *ovf.Resolved, i *ovf.ResolvedItem, kind hypervisor.DriveKind) {
	id := i.InstanceID
	d := hypervisor.Drive{ID: id, Kind: kind, Controller: i.Parent, Unit: number(i.AddressOnParent, -1)}
	if at := slices.IndexFunc(i.HostResources, func(s string) bool { return strings.TrimSpace(s) != "" }); at >= 0 {
		host := i.HostResources[at]
		switch what, name := hostResource(host); {
		case what == "disk" && r.Disks[name] != nil:
			disk := r.Disks[name]
			d.DiskID, d.Capacity, d.Shared = name, disk.Capacity, disk.Shared
			p.Disks[id] = disk
		case what == "file" && p.references[name] != nil:
			file := p.references[name]
			p.Files[id] = file
			d.Capacity, d.ReadOnly = max(0, file.Size), kind == hypervisor.CDROM
		case what != "":
			p.refuse(p.subject(id), "the package has no %s %q", what, name)
			return
		case kind == hypervisor.HardDisk:
			p.lack(id, "%q is neither a disk nor a file of the package", host)
			return
		default:
			p.note(p.subject(id), "empty: %q is not a part of the package", host)
		}
	}
	if kind == hypervisor.HardDisk && p.Disks[id] == nil && p.Files[id] == nil {
		p.lack(id, "it has no disk (HostResource)")
		return
	}
	p.Machine.Drives = append(p.Machine.Drives, d)
}

// hostResource reads ovf:/disk/ID and ovf:/file/ID, also without the scheme as
// older tools write it; anything else gives "".
func hostResource(s string) (what, name string) {
	what, name, _ = strings.Cut(strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(s), "ovf:"), "/"), "/")
	if name == "" || what != "disk" && what != "file" {
		return "", ""
	}
	return what, name
}

// filesByID are the References by their ID, of doubles the first.
func filesByID(env *ovf.Envelope) map[string]*ovf.File {
	files := make(map[string]*ovf.File, len(env.References))
	for _, f := range env.References {
		if files[f.ID] == nil {
			files[f.ID] = f
		}
	}
	return files
}

// adopt gives drives without a controller one: floppies theirs, which no
// descriptor names, and others the first there is.
func (p *Planned) adopt() {
	m := &p.Machine
	for k := range m.Drives {
		d := &m.Drives[k]
		if d.Kind == hypervisor.FloppyDrive {
			d.Controller = p.controller("floppy", hypervisor.Floppy)
			continue
		}
		if slices.ContainsFunc(m.Controllers, func(c hypervisor.Controller) bool { return c.ID == d.Controller && c.Model != hypervisor.Floppy }) {
			continue
		}
		if d.Controller != "" {
			p.note(p.subject(d.ID), "its controller %q (Parent) is not in the descriptor", d.Controller)
		}
		d.Unit = -1
		if i := slices.IndexFunc(m.Controllers, func(c hypervisor.Controller) bool { return c.Model != hypervisor.Floppy }); i >= 0 {
			d.Controller = m.Controllers[i].ID
		} else {
			d.Controller = p.controller("added ide", hypervisor.IDE)
		}
		p.note(p.subject(d.ID), "the descriptor does not say where it is; on %s", p.subject(d.Controller))
	}
}

// controller finds one that was added, or adds it.
func (p *Planned) controller(id string, model hypervisor.ControllerModel) string {
	m := &p.Machine
	if !slices.ContainsFunc(m.Controllers, func(c hypervisor.Controller) bool { return c.ID == id }) {
		n := 0
		for _, c := range m.Controllers {
			if c.Model == model {
				n = max(n, c.Index+1)
			}
		}
		m.Controllers = append(m.Controllers, hypervisor.Controller{ID: id, Model: model, Index: n})
		p.subjects[id] = fmt.Sprintf("the %s controller that was added", model)
	}
	return id
}

// rebus puts the hard disks on controllers of one model, in their order.
func (p *Planned) rebus(model hypervisor.ControllerModel) {
	m := &p.Machine
	moved := map[string]bool{}
	for k := range m.Drives {
		d := &m.Drives[k]
		if d.Kind != hypervisor.HardDisk {
			continue
		}
		moved[d.Controller] = true
		d.Controller, d.Unit = p.controller("disk bus", model), -1
	}
	// What held nothing but those disks is of no use any more.
	m.Controllers = slices.DeleteFunc(m.Controllers, func(c hypervisor.Controller) bool {
		return moved[c.ID] && !slices.ContainsFunc(m.Drives, func(d hypervisor.Drive) bool { return d.Controller == c.ID })
	})
	if len(moved) > 0 {
		p.note("disks", "on %s, as was asked, and not as the descriptor says", model)
	}
}

// bootOrder takes the descriptor's, or else disks before CD-ROMs before
// floppies, each kind in the order of the descriptor.
func (p *Planned) bootOrder() {
	m := &p.Machine
	order := 0
	boot := func(k int) {
		d := &m.Drives[k]
		if d.BootOrder == 0 && (p.Disks[d.ID] != nil || p.Files[d.ID] != nil) {
			order++
			d.BootOrder = order
		}
	}
	for _, b := range p.System.BootDevices {
		for _, id := range append([]string{b.InstanceID}, b.Settings...) {
			if k := slices.IndexFunc(m.Drives, func(d hypervisor.Drive) bool { return d.ID == id }); k >= 0 {
				boot(k)
			}
		}
	}
	for _, kind := range []hypervisor.DriveKind{hypervisor.HardDisk, hypervisor.CDROM, hypervisor.FloppyDrive} {
		for k := range m.Drives {
			if m.Drives[k].Kind == kind {
				boot(k)
			}
		}
	}
}

// firmware takes what was asked for, else what the descriptor says, else what
// the disk says, and always says which.
func (p *Planned) firmware(opt Options) error {
	f := &p.Machine.Firmware
	hw, vbox := p.System.Hardware, p.System.Machine
	config := func(key string) string {
		for _, get := range []func(string) (string, bool){hw.Config, hw.ExtraConfig} {
			if v, ok := get(key); ok {
				return strings.ToLower(strings.TrimSpace(v))
			}
		}
		return ""
	}
	secure := config("bootOptions.efiSecureBootEnabled") == "true" || vbox != nil && vbox.SecureBoot
	switch vmw := config("firmware"); {
	case opt.Firmware != "":
		f.Kind, f.Reason = opt.Firmware, "as was asked"
		secure = false
	case vmw == "efi":
		f.Kind, f.Reason = hypervisor.UEFI, "the descriptor says so (vmw:Config firmware)"
	case vmw == "bios":
		f.Kind, f.Reason = hypervisor.BIOS, "the descriptor says so (vmw:Config firmware)"
	case vbox != nil && strings.HasPrefix(strings.ToUpper(vbox.Firmware), "EFI"):
		f.Kind, f.Reason = hypervisor.UEFI, "the descriptor says so (vbox:Machine, Firmware)"
	case vbox != nil && strings.EqualFold(vbox.Firmware, "BIOS"):
		f.Kind, f.Reason = hypervisor.BIOS, "the descriptor says so (vbox:Machine, Firmware)"
	default:
		if vmw != "" {
			p.note("firmware", "%q is neither bios nor efi", vmw)
		}
		if err := p.probe(opt); err != nil {
			return err
		}
	}
	f.SecureBoot = secure && f.Kind == hypervisor.UEFI
	p.secureBoot = slices.ContainsFunc(hw.Configs, func(c ovf.Config) bool {
		return c.Key == "bootOptions.efiSecureBootEnabled" && c.Stated && c.Required
	})
	p.note("firmware", "%s: %s", map[hypervisor.FirmwareKind]string{hypervisor.BIOS: "BIOS", hypervisor.UEFI: "UEFI"}[f.Kind], f.Reason)
	return nil
}

// probe infers the firmware from the disk that boots first.
func (p *Planned) probe(opt Options) error {
	f := &p.Machine.Firmware
	f.Kind, f.Reason = hypervisor.BIOS, "nothing says which"
	if opt.Probe == nil {
		return nil
	}
	drives := slices.Clone(p.Machine.Drives)
	slices.SortStableFunc(drives, func(a, b hypervisor.Drive) int { return a.BootOrder - b.BootOrder })
	for _, d := range drives {
		disk := p.Disks[d.ID]
		if disk == nil || disk.File == nil {
			continue
		}
		r, err := opt.Probe(disk)
		if err != nil {
			return fmt.Errorf("disk %s, looking for how it boots: %w", disk.ID, err)
		}
		if r.Kind != "" {
			f.Kind, f.Reason = r.Kind, "inferred, since the descriptor does not say: "+r.Reason
			return nil
		}
		f.Reason = "nothing says which; " + r.Reason
	}
	return nil
}

// DriveIDs are the drives that get something put into them, in order.
func (p *Planned) DriveIDs() []string {
	ids := slices.Collect(maps.Keys(p.Disks))
	ids = slices.AppendSeq(ids, maps.Keys(p.Files))
	at := make(map[string]int, len(p.Machine.Drives))
	for i, d := range slices.Backward(p.Machine.Drives) {
		at[d.ID] = i
	}
	ids = slices.DeleteFunc(ids, func(id string) bool { _, ok := at[id]; return !ok })
	slices.SortFunc(ids, func(a, b string) int { return at[a] - at[b] })
	return ids
}
