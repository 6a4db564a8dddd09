package deploy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/hypervisor"
)

// fit makes a machine one that the target can give, where that changes nothing
// for the guest or the change can be said, and collects the reasons where not.
func (p *Planned) fit(target *hypervisor.Capabilities) {
	m := &p.Machine
	if m.Architecture != target.Architecture {
		p.refuse("architecture", "the guest is %s, and %s here runs %s", m.Architecture, target.Driver, target.Architecture)
	}
	if p.System.Hardware == nil {
		return
	}
	if target.MaxCPUs > 0 && m.CPU.Count > target.MaxCPUs {
		p.refuse("CPUs", "%d are needed, and %d can be had", m.CPU.Count, target.MaxCPUs)
	} else if target.HostCPUs > 0 && m.CPU.Count > target.HostCPUs {
		p.note("CPUs", "%d, on a host with %d", m.CPU.Count, target.HostCPUs)
	}
	if target.MemoryBytes > 0 && m.Memory.Bytes > target.MemoryBytes {
		p.refuse("memory", "%d MiB are needed, and the host has %d MiB; less can be asked for with --memory", m.Memory.Bytes>>20, target.MemoryBytes>>20)
	}
	p.fitCPU(target)
	p.fitFirmware(target)
	p.fitControllers(target)
	p.fitDrives(target)
	p.fitNICs(target)
	if len(m.Serials) > target.MaxSerials {
		p.refuse("serial ports", "%d are needed, and %d can be had", len(m.Serials), target.MaxSerials)
	}
	if _, ok := target.Displays[m.Display]; m.Display != "" && !ok {
		p.differ("display", "%s can't be had; the target's own", m.Display)
		m.Display = ""
	}
	if _, ok := target.Sounds[m.Sound]; m.Sound != "" && !ok {
		p.lack("sound", "%s can't be had", m.Sound)
		m.Sound = ""
	}
	m.USB = slices.DeleteFunc(m.USB, func(u string) bool {
		_, ok := target.USB[u]
		if !ok {
			p.lack("usb "+u, "%s can't be had", u)
		}
		return !ok
	})
	if m.TPM != nil && !slices.Contains(target.TPMs, m.TPM.Version) {
		p.lack("tpm", "a trusted platform module %s can't be had; a software one needs swtpm on the host", m.TPM.Version)
		m.TPM = nil
	}
}

// fitFirmware settles the chipset too: the first that the firmware runs on,
// and that has what the drives need where there is a choice.
func (p *Planned) fitFirmware(target *hypervisor.Capabilities) {
	m := &p.Machine
	find := func(secure bool) (chipsets []hypervisor.Chipset) {
		for _, f := range target.Firmware {
			if f.Kind == m.Firmware.Kind && f.SecureBoot == secure {
				chipsets = append(chipsets, f.Chipsets...)
			}
		}
		return chipsets
	}
	usable := find(m.Firmware.SecureBoot)
	if len(usable) == 0 && m.Firmware.SecureBoot && p.secureBoot {
		p.refuse("firmware", "Secure Boot is required, and no UEFI firmware with keys enrolled is there")
		return
	}
	if len(usable) == 0 && m.Firmware.SecureBoot {
		if usable = find(false); len(usable) > 0 {
			p.differ("firmware", "without Secure Boot: no firmware with keys enrolled is installed")
			m.Firmware.SecureBoot = false
		}
	}
	if len(usable) == 0 {
		p.refuse("firmware", "the machine boots with UEFI, and no UEFI firmware is installed; install the package ovmf (Debian and Ubuntu) or edk2-ovmf (Fedora, RHEL and Arch)")
		return
	}
	if m.Chipset != hypervisor.ChipsetAny && slices.Contains(usable, m.Chipset) {
		return
	}
	for _, c := range target.Chipsets {
		if slices.Contains(usable, c) {
			m.Chipset = c
			return
		}
	}
	m.Chipset = usable[0]
}

func (p *Planned) drivesOn(controller string) (names []string) {
	for _, d := range p.Machine.Drives {
		if d.Controller == controller {
			names = append(names, p.subject(d.ID))
		}
	}
	return names
}

// anyRequired says whether one of the drives on a controller is required.
func (p *Planned) anyRequired(controller string) bool {
	return slices.ContainsFunc(p.Machine.Drives, func(d hypervisor.Drive) bool { return d.Controller == controller && !p.optional[d.ID] })
}

func (p *Planned) fitControllers(target *hypervisor.Capabilities) {
	m := &p.Machine
	count := map[hypervisor.ControllerModel]int{}
	var keep []hypervisor.Controller
	// Numbers on the bus give the order of controllers of one model.
	slices.SortStableFunc(m.Controllers, func(a, b hypervisor.Controller) int {
		if a.Model != b.Model {
			return 0
		}
		return a.Index - b.Index
	})
	for _, c := range m.Controllers {
		d, ok := target.Controllers[c.Model]
		drives := p.drivesOn(c.ID)
		if !ok {
			if len(drives) == 0 {
				p.note(p.subject(c.ID), "left out: %s has no %s, and nothing is on it", target.Driver, c.Model)
				continue
			}
			text := fmt.Sprintf("%s has no %s controller, which %s needs; --disk-bus puts the disks on another, if the guest has a driver for it",
				target.Driver, c.Model, strings.Join(drives, ", "))
			if p.optional[c.ID] && !p.anyRequired(c.ID) {
				p.differ(p.subject(c.ID), "left out with what is on it, none of which is required: %s", text)
				m.Drives = slices.DeleteFunc(m.Drives, func(d hypervisor.Drive) bool { return d.Controller == c.ID })
				continue
			}
			p.refuse(p.subject(c.ID), "%s", text)
			keep = append(keep, c)
			continue
		}
		wrong := d.Chipsets != nil && !slices.Contains(d.Chipsets, m.Chipset)
		if wrong || d.Max > 0 && count[c.Model] >= d.Max {
			if len(drives) == 0 {
				continue
			}
			if _, ok := target.Controllers[hypervisor.AHCI]; c.Model != hypervisor.IDE || !ok {
				p.refuse(p.subject(c.ID), "%s gives %d of %s on the chipset %s", target.Driver, d.Max, c.Model, m.Chipset)
				continue
			}
			p.differ(p.subject(c.ID), "an AHCI controller stands in for the IDE one, which the chipset %s does not have", m.Chipset)
			c.Model = hypervisor.AHCI
			d = target.Controllers[c.Model]
		}
		count[c.Model]++
		if d.Substitute != "" {
			p.differ(p.subject(c.ID), "%s", d.Substitute)
		}
		keep = append(keep, c)
	}
	m.Controllers = keep
}

// fitDrives gives every drive a place that is free and that there is.
func (p *Planned) fitDrives(target *hypervisor.Capabilities) {
	m := &p.Machine
	model := map[string]hypervisor.ControllerModel{}
	for _, c := range m.Controllers {
		model[c.ID] = c.Model
	}
	taken := map[string]map[int]bool{}
	units := func(id string) int { return target.Controllers[model[id]].Units }
	suits := func(d *hypervisor.Drive, id string) bool {
		dev, ok := target.Controllers[model[id]]
		switch {
		case !ok:
			return false
		case (model[id] == hypervisor.Floppy) != (d.Kind == hypervisor.FloppyDrive):
			return false
		case d.Kind == hypervisor.CDROM && (model[id] == hypervisor.VirtIOBlk || model[id] == hypervisor.NVMe):
			return false
		}
		return dev.Units == 0 || len(taken[id]) < dev.Units
	}
	put := func(d *hypervisor.Drive, id string, unit int) {
		if taken[id] == nil {
			taken[id] = map[int]bool{}
		}
		d.Controller, d.Unit = id, unit
		taken[id][unit] = true
	}
	free := func(id string) int {
		for u := 0; ; u++ {
			if !taken[id][u] {
				return u
			}
		}
	}
	// First those that can be where they say.
	var homeless []*hypervisor.Drive
	for k := range m.Drives {
		d := &m.Drives[k]
		if n := units(d.Controller); d.Unit >= 0 && (n == 0 || d.Unit < n) && !taken[d.Controller][d.Unit] && suits(d, d.Controller) {
			put(d, d.Controller, d.Unit)
		} else {
			homeless = append(homeless, d)
		}
	}
	for _, d := range homeless {
		if _, ok := target.Controllers[model[d.Controller]]; !ok {
			continue // the controller's own reason is there
		}
		from, said := d.Controller, d.Unit
		want := model[from]
		if d.Kind == hypervisor.CDROM && (want == hypervisor.VirtIOBlk || want == hypervisor.NVMe) {
			want = hypervisor.IDE
			if ide, ok := target.Controllers[want]; !ok || ide.Chipsets != nil && !slices.Contains(ide.Chipsets, m.Chipset) {
				want = hypervisor.AHCI
			}
		}
		to := ""
		if suits(d, from) {
			to = from
		}
		n := 0
		for _, c := range m.Controllers {
			if c.Model != want {
				continue
			}
			n++
			if to == "" && suits(d, c.ID) {
				to = c.ID
			}
		}
		if to == "" {
			dev, ok := target.Controllers[want]
			if !ok || dev.Max > 0 && n >= dev.Max {
				p.lack(d.ID, "there is no place left for it: %s gives %d %s controllers of %d places", target.Driver, dev.Max, want, dev.Units)
				continue
			}
			to = p.controller(fmt.Sprintf("added %s %d", want, n), want)
			model[to] = want
		}
		put(d, to, free(to))
		if said >= 0 || to != from {
			p.differ(p.subject(d.ID), "moved to place %d of %s, where there is room", d.Unit, p.subject(to))
		}
	}
	p.fitBoot(target)
}

// fitBoot moves the disk that boots first to where the firmware can boot from.
func (p *Planned) fitBoot(target *hypervisor.Capabilities) {
	m := &p.Machine
	k := slices.IndexFunc(m.Drives, func(d hypervisor.Drive) bool { return d.BootOrder == 1 })
	if k < 0 {
		return
	}
	boots := func(model hypervisor.ControllerModel) bool {
		with := target.Controllers[model].BootsWith
		return with == nil || slices.Contains(with, m.Firmware.Kind)
	}
	from := p.modelOf(m.Drives[k].Controller)
	if boots(from) || m.Drives[k].Kind != hypervisor.HardDisk {
		return
	}
	const to = hypervisor.AHCI
	if d, ok := target.Controllers[to]; !ok || !boots(to) {
		p.refuse(p.subject(m.Drives[k].ID), "%s can't boot from a %s controller with %s", target.Driver, from, m.Firmware.Kind)
		return
	} else {
		p.differ(p.subject(m.Drives[k].ID), "%s here can't boot from a %s controller: the disk is on an AHCI one, which the guest needs the driver %s for; --disk-bus puts it elsewhere",
			strings.ToUpper(string(m.Firmware.Kind)), from, d.GuestDriver)
	}
	m.Drives[k].Controller, m.Drives[k].Unit = p.controller("added for booting", to), 0
}

func (p *Planned) modelOf(controller string) hypervisor.ControllerModel {
	for _, c := range p.Machine.Controllers {
		if c.ID == controller {
			return c.Model
		}
	}
	return ""
}

// AddCDROM puts one more CD-ROM drive into a machine, or takes one that is
// empty, and gives its ID. It fails as Machines does where there is no place.
func (p *Planned) AddCDROM(target *hypervisor.Capabilities, id, subject string) (string, error) {
	m := &p.Machine
	for _, d := range m.Drives {
		if d.Kind == hypervisor.CDROM && d.Medium == nil && p.Files[d.ID] == nil && p.Disks[d.ID] == nil {
			p.note(subject, "in the drive %s", p.subject(d.ID))
			return d.ID, nil
		}
	}
	model := hypervisor.IDE
	if d := target.Controllers[model]; d.Name == "" || d.Chipsets != nil && !slices.Contains(d.Chipsets, m.Chipset) {
		model = hypervisor.AHCI
	}
	places := 0
	for _, c := range m.Controllers {
		if c.Model == model {
			places += target.Controllers[model].Units
		}
	}
	for _, d := range m.Drives {
		if p.modelOf(d.Controller) == model {
			places--
		}
	}
	if d := target.Controllers[model]; model == hypervisor.IDE && places < 1 && len(p.controllersOf(model)) >= d.Max {
		model = hypervisor.AHCI
	}
	on := ""
	if all := p.controllersOf(model); len(all) > 0 {
		on = all[0]
	} else {
		on = p.controller("added for "+id, model)
	}
	p.subjects[id] = subject
	m.Drives = append(m.Drives, hypervisor.Drive{ID: id, Kind: hypervisor.CDROM, Controller: on, Unit: -1, ReadOnly: true})
	before := len(p.reasons)
	p.fitDrives(target)
	if len(p.reasons) > before {
		return "", &hypervisor.UnfitError{Target: target.Driver, Reasons: p.reasons[before:]}
	}
	p.note(subject, "in a CD-ROM drive that was added")
	return id, nil
}

func (p *Planned) controllersOf(model hypervisor.ControllerModel) (ids []string) {
	for _, c := range p.Machine.Controllers {
		if c.Model == model {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

func (p *Planned) fitNICs(target *hypervisor.Capabilities) {
	for _, n := range p.Machine.NICs {
		d, ok := target.NICs[n.Model]
		switch {
		case !ok:
			p.lack(n.ID, "%s has no %s network card; --nic gives another, if the guest has a driver for it", target.Driver, n.Model)
		case d.Substitute != "":
			p.differ(p.subject(n.ID), "%s", d.Substitute)
		}
	}
	p.Machine.NICs = slices.DeleteFunc(p.Machine.NICs, func(n hypervisor.NIC) bool {
		_, ok := target.NICs[n.Model]
		return !ok
	})
}
