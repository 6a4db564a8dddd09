package migrate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/hypervisor"
)

// Change is one thing that will not be as it was.
type Change struct {
	// Machine is the name at the target, Subject what of it: "memory",
	// "network card 1", "disk sda".
	Machine string `json:"machine"`
	Subject string `json:"subject"`
	// From and To are for people; "none" is that there is none.
	From string `json:"from"`
	To   string `json:"to"`
}

// String is the change on one line.
func (c Change) String() string {
	return fmt.Sprintf("%s: %s: %s → %s", c.Machine, c.Subject, c.From, c.To)
}

const (
	none  = "none"
	other = "a new one"
	own   = "the target's own"
)

// changes compares a machine as it is with what will be made of it.
func changes(was *hypervisor.Machine, will *plan.Machine) []Change {
	var out []Change
	add := func(subject, from, to string) {
		if from != to {
			out = append(out, Change{will.Name, subject, from, to})
		}
	}
	add("name", was.Name, will.Name)
	add("architecture", was.Architecture, will.Architecture)
	add("CPUs", fmt.Sprint(was.CPU.Count), fmt.Sprint(will.CPU.Count))
	add("memory", megabytes(was.Memory.Bytes), megabytes(will.Memory.Bytes))
	add("firmware", firmware(was.Firmware), firmware(will.Firmware))
	if was.Chipset != "" {
		add("chipset", string(was.Chipset), cmp.Or(string(will.Chipset), own))
	}
	if was.UUID != "" {
		add("UUID", strings.ToLower(was.UUID), cmp.Or(strings.ToLower(will.UUID), other))
	}
	add("TPM", tpm(was.TPM), tpm(will.TPM))
	add("display", cmp.Or(was.Display, own), cmp.Or(will.Display, own))
	add("sound", cmp.Or(was.Sound, none), cmp.Or(will.Sound, none))
	add("USB", list(was.USB), list(will.USB))
	add("serial ports", fmt.Sprint(len(was.Serials)), fmt.Sprint(len(will.Serials)))
	add("CPU features", list(was.CPU.Features), list(will.CPU.Features))
	drives(was, &will.Machine, add)
	cards(was, &will.Machine, add)
	return out
}

func megabytes(n int64) string {
	if n%(1<<20) != 0 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

func firmware(f hypervisor.Firmware) string {
	s := strings.ToUpper(string(f.Kind))
	if f.Kind == hypervisor.UEFI {
		s = "UEFI"
	}
	if f.SecureBoot {
		s += " with Secure Boot"
	}
	return s
}

func tpm(t *hypervisor.TPM) string {
	if t == nil {
		return none
	}
	return t.Version
}

func list(names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	return cmp.Or(strings.Join(names, ", "), none)
}

func hard(m *hypervisor.Machine) []hypervisor.Drive {
	return slices.DeleteFunc(slices.Clone(m.Drives), func(d hypervisor.Drive) bool { return d.Kind != hypervisor.HardDisk })
}

// drives compares disks in their order, which stays, and the numbers of other
// drives.
func drives(was, will *hypervisor.Machine, add func(subject, from, to string)) {
	before, after := hard(was), hard(will)
	for i := range max(len(before), len(after)) {
		from, to, name := none, none, ""
		if i < len(after) {
			to, name = plugged(will, after[i]), after[i].ID
		}
		if i < len(before) {
			from, name = plugged(was, before[i]), before[i].ID
		}
		add("disk "+name, from, to)
	}
	if n, m := count(was, hypervisor.CDROM), count(will, hypervisor.CDROM); n != m {
		add("CD-ROM drives", fmt.Sprint(n), fmt.Sprint(m))
	}
	if n, m := count(was, hypervisor.FloppyDrive), count(will, hypervisor.FloppyDrive); n != m {
		add("floppy drives", fmt.Sprint(n), fmt.Sprint(m))
	}
}

func count(m *hypervisor.Machine, kind hypervisor.DriveKind) (n int) {
	for _, d := range m.Drives {
		if d.Kind == kind {
			n++
		}
	}
	return n
}

// plugged is what the guest and the host know one by: where it is plugged in, and
// in which pool in which format.
func plugged(m *hypervisor.Machine, d hypervisor.Drive) string {
	model, index := hypervisor.ControllerModel("?"), 0
	for _, c := range m.Controllers {
		if c.ID == d.Controller {
			model, index = c.Model, c.Index
		}
	}
	at := fmt.Sprintf("%s %d:%d", model, index, d.Unit)
	switch x := d.Medium; {
	case x == nil:
		return at + ", empty"
	case x.Volume != nil:
		return fmt.Sprintf("%s, %s in pool %s", at, x.Format, x.Volume.Pool)
	default:
		return fmt.Sprintf("%s, %s in %s", at, x.Format, cmp.Or(x.Path, "a socket"))
	}
}

// cards compares network cards in their order, which stays.
func cards(was, will *hypervisor.Machine, add func(subject, from, to string)) {
	before, after := was.NICs, will.NICs
	for i := range max(len(before), len(after)) {
		from, to := none, none
		if i < len(before) {
			from = card(before[i])
		}
		if i < len(after) {
			to = card(after[i])
		}
		add(fmt.Sprintf("network card %d", i+1), from, to)
	}
}

func card(n hypervisor.NIC) string {
	s := fmt.Sprintf("%s, %s, on %s", n.Model, cmp.Or(strings.ToLower(n.MAC), other), cmp.Or(n.HostNetwork, n.Network, none))
	if n.Disconnected {
		s += ", unplugged"
	}
	return s
}
