package fit

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/portability"
	"github.com/ovation-project/ovation/ovf"
)

// portability assesses the package, and holds it to the level that is asked for.
func (s *Subject) portability(ctx context.Context, j *Judgement, c Choices) {
	opt := portability.Options{Systems: c.Machines.Systems}
	if j.Resolved.Option != nil {
		opt.Option = j.Resolved.Option.ID
	}
	for _, e := range s.pkg.Entries() {
		opt.Files = append(opt.Files, e.Name)
	}
	for _, m := range j.Machines {
		for _, id := range m.DriveIDs() {
			d := m.Disks[id]
			if d != nil && d.File != nil && !slices.Contains(opt.Saved, d.ID) && s.disk(ctx, d).SavedStates > 0 {
				opt.Saved = append(opt.Saved, d.ID)
			}
		}
	}
	j.Portability = portability.Of(j.Resolved.Envelope, opt)
	j.MadeFor = j.Portability.MadeFor(deploy.FamiliesOf(j.Capabilities.Families))
	if j.Portability.Level >= c.MinLevel {
		return
	}
	var why []string
	for _, r := range j.Portability.Reasons {
		if r.Level < c.MinLevel {
			why = append(why, r.String())
		}
	}
	j.refuse(Portability, "portability level", "it is %d, and %d is asked for (--min-portability): %s", j.Portability.Level, c.MinLevel, strings.Join(why, "; "))
}

// travel refuses a package of level 1 on what it was not made for, unless the
// risk is named that this bears. Devices of a host's own are among the machines'
// reasons.
func (j *Judgement) travel(c Choices) {
	if j.Portability.Level > portability.OneProduct {
		return
	}
	for _, r := range j.Portability.Reasons {
		if r.Level != portability.OneProduct || r.Risk == portability.MissingHardware {
			continue
		}
		switch {
		case slices.Contains(c.Force, r.Risk):
			j.tell(r, "%s; as was asked (--force %s), %s", r.Text, r.Risk, r.Risk.Describe())
		case j.MadeFor:
			j.tell(r, "%s, which is not taken over: %s", r.Text, r.Risk.Describe())
		default:
			j.refuse(Portability, r.Subject, "%s: the package runs on what it was made for (portability level 1), which %s is not; with --force %s it is taken all the same, and %s",
				r.Text, j.Target, r.Risk, r.Risk.Describe())
			j.Reasons[len(j.Reasons)-1].Machine = r.Machine
		}
	}
}

// tell notes for the machine, or for all of them, what it does not get.
func (j *Judgement) tell(r portability.Reason, format string, a ...any) {
	for _, m := range j.Machines {
		if r.Machine == "" || r.Machine == m.Machine.ID {
			m.Notes = append(m.Notes, deploy.Note{Machine: m.Machine.ID, Subject: r.Subject, Text: fmt.Sprintf(format, a...), Differs: true})
		}
	}
}

// mostSections bounds how many choices of hardware sections are tried.
const mostSections = 16

// sections judges with the hardware sections that suit the target best (DSP0243
// 1.1.0, 8.1: of several, one is to be chosen): those for its own family, and
// where something speaks against those, the others, in their order.
func (s *Subject) sections(ctx context.Context, j Judgement, c Choices, place func(*Judgement, Choices) error) (*Judgement, error) {
	types := systemTypes(s.pkg.Document().Envelope(), c.Machines.Systems)
	own := preferred(types, j.Capabilities.Families)
	if c.Resolve.Families == nil {
		c.Resolve.Families = own
	}
	first := j
	best, err := s.option(ctx, &first, c, place)
	if err != nil {
		return nil, err
	}
	for _, t := range types[:min(len(types), mostSections)] {
		if len(best.Reasons) == 0 {
			break
		}
		other := c
		other.Resolve.Families = append([]string{t}, own...)
		next := j
		k, err := s.option(ctx, &next, other, place)
		if err != nil {
			return nil, err
		}
		if len(k.Reasons) < len(best.Reasons) {
			best = k
		}
	}
	for _, m := range best.Machines {
		if n := len(m.System.Content.Hardware); n > 1 {
			m.Notes = append(m.Notes, deploy.Note{Machine: m.Machine.ID, Subject: "virtual hardware", Text: fmt.Sprintf(
				"of %d sections the one in line %d, for %s", n, m.System.Hardware.Pos().Line, strings.Join(m.System.Hardware.SystemTypes, " "))})
		}
	}
	return best, nil
}

// systemTypes are the VirtualSystemTypes of systems that have several hardware
// sections, each once; none where no system has.
func systemTypes(env *ovf.Envelope, systems []string) (types []string) {
	for _, c := range env.Content.Systems() {
		if len(c.Hardware) < 2 || len(systems) > 0 && !slices.Contains(systems, c.ID) {
			continue
		}
		for _, h := range c.Hardware {
			for _, t := range h.SystemTypes {
				if !slices.Contains(types, t) {
					types = append(types, t)
				}
			}
		}
	}
	return types
}

// preferred are those types that a target is itself, then those of its families.
func preferred(types, target []string) (own []string) {
	families := deploy.FamiliesOf(target)
	for _, same := range []func(string) bool{
		func(t string) bool {
			return slices.ContainsFunc(target, func(f string) bool { return strings.EqualFold(f, t) })
		},
		func(t string) bool { return slices.Contains(families, deploy.FamilyOf(t)) },
	} {
		for _, t := range types {
			if same(t) && !slices.Contains(own, t) {
				own = append(own, t)
			}
		}
	}
	return own
}
