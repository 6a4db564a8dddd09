package portability

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/ovf"
)

// system gives the families that a virtual system can run on; some is false
// where nothing limits them. Of several hardware sections a target takes the one
// that suits it: those that bind the system least count.
func (a *assessor) system(c *ovf.Content) (families []deploy.Family, some bool) {
	var sections []*section
	best := Level(0)
	for _, h := range c.Hardware {
		s := a.section(c, h)
		sections = append(sections, s)
		best = max(best, s.level)
	}
	sections = slices.DeleteFunc(sections, func(s *section) bool { return s.level < best })
	some = len(sections) > 0
	for _, s := range sections {
		some = some && s.limited
		for _, f := range s.families {
			if !slices.Contains(families, f) {
				families = append(families, f)
			}
		}
	}
	for _, s := range sections {
		for _, r := range s.reasons {
			a.add(r)
		}
		if some && len(families) < 2 {
			for _, r := range s.ofFamily {
				a.add(r)
			}
		}
	}
	if !some {
		return nil, false
	}
	return families, true
}

// section is what a hardware section says.
type section struct {
	machine string
	// families are those that it names, less those that lack what it requires;
	// limited is false where it names none and requires nothing special.
	families       []deploy.Family
	named, limited bool
	// reasons hold whichever family it is, ofFamily where there is only one.
	reasons, ofFamily []Reason
	// level is what the reasons leave, those of the family aside.
	level Level
}

func (s *section) add(level Level, subject, text, raise string, risk Risk) {
	s.reasons = append(s.reasons, Reason{Level: level, Machine: s.machine, Subject: subject, Text: text, Raise: raise, Risk: risk})
	s.level = min(s.level, level)
}

// doWithout is how what is required, and need not be, is given up.
const doWithout = `say ovf:required="false", if the guest does without`

func (a *assessor) section(c *ovf.Content, h *ovf.Hardware) *section {
	s := &section{machine: c.ID, families: deploy.FamiliesOf(h.SystemTypes), level: ManyFamilies}
	s.named = len(s.families) > 0
	s.limited = s.named
	if len(s.families) == 1 {
		s.ofFamily = append(s.ofFamily, Reason{Level: OneFamily, Machine: c.ID, Subject: "VirtualSystemType",
			Text:  fmt.Sprintf("%s is one family, %s, and no other is named", strings.Join(h.SystemTypes, " "), s.families[0]),
			Raise: "try the guest on another family, and name that too: in VirtualSystemType, or with a VirtualHardwareSection of its own"})
	}
	for _, i := range h.Items {
		if len(i.Configurations) == 0 || slices.Contains(i.Configurations, a.opt.Option) {
			s.item(i)
		}
	}
	s.settings("vmw:Config", h.Configs, h.Extra)
	if asked, required := deploy.NestedVirtualization(h); asked && required {
		s.add(OneFamily, "CPU features", "the guest is to run guests of its own", doWithout, "")
	}
	if len(h.Transports) > 0 && !slices.Contains(h.Transports, "iso") {
		s.add(OneFamily, "transport", fmt.Sprintf("the guest looks for its environment in %s only", strings.Join(h.Transports, ", ")),
			"have the guest read it from a CD-ROM as well, and name the transport iso", "")
	}
	return s
}

// item sees which families have a device that is required.
func (s *section) item(i *ovf.Item) {
	subject := fmt.Sprintf("%q (InstanceID %s, line %d)", cmp.Or(i.ElementName, i.ResourceType.String()), i.InstanceID, i.Pos().Line)
	s.settings(subject, i.Configs, i.Extra)
	for _, f := range deploy.CPUFeatures([]*ovf.Item{i}) {
		if f.Required {
			s.add(OneFamily, "CPU features", fmt.Sprintf("%s (line %d) is required of the processors", f.Says, f.Item.Pos().Line), doWithout, "")
		}
	}
	if !i.Required {
		return
	}
	have, physical, any := devicesOf(i)
	name := cmp.Or(strings.Join(i.SubTypes, ", "), i.ResourceType.String())
	if physical {
		s.add(OneProduct, subject, name+" is a device of one host, handed through to the guest", doWithout, MissingHardware)
	}
	if any {
		return
	}
	if len(have) > 1 && s.named {
		return // who names families knows what they have
	}
	if len(have) == 1 && !physical {
		r := Reason{Level: OneFamily, Machine: s.machine, Subject: subject, Text: fmt.Sprintf("only %s has %s", have[0], name),
			Raise: "take a device that others have too, or name one as an alternative in ResourceSubType"}
		if s.limited && !slices.Contains(s.families, have[0]) {
			s.reasons, s.level = append(s.reasons, r), min(s.level, OneFamily) // none that is left has it
		} else {
			s.ofFamily = append(s.ofFamily, r)
		}
	}
	s.families, s.limited = common(s.families, s.limited, have), true
}

// settings are those of VMware's that are required.
func (s *section) settings(subject string, all ...[]ovf.Config) {
	for _, configs := range all {
		for _, c := range configs {
			if c.Stated && c.Required {
				s.add(OneFamily, subject, fmt.Sprintf("the setting %s (line %d) is VMware's own, and required", c.Key, c.Pos().Line), doWithout, "")
			}
		}
	}
}

// common are the families that are in both; where there are none, those before.
func common(families []deploy.Family, limited bool, have []deploy.Family) []deploy.Family {
	if !limited {
		return slices.Clone(have)
	}
	var both []deploy.Family
	for _, f := range families {
		if slices.Contains(have, f) {
			both = append(both, f)
		}
	}
	if len(both) == 0 {
		return families
	}
	return both
}

// devicesOf gives the families that have one of an item's alternatives, whether
// it is a device of a host's own, and whether all families have it.
func devicesOf(i *ovf.Item) (have []deploy.Family, physical, any bool) {
	found := deploy.LookUp(i.ResourceType, i.SubTypes)
	if len(found) == 0 {
		return nil, false, true // not in the table: nobody knows
	}
	physical = true
	for _, d := range found {
		physical = physical && d.Physical
		if d.Families == nil {
			any = true
		}
		for _, f := range d.Families {
			if !slices.Contains(have, f) {
				have = append(have, f)
			}
		}
	}
	return have, physical, any
}
