// Package portability tells how far a package can travel: its portability level,
// by the three definitions of the standard's own guide (DSP2017, Portability).
//
//   - Level 1 runs on one product, CPU architecture or selection of virtual
//     hardware: most often because a machine was packed with its run-time state,
//     suspended or in a snapshot of a running one.
//   - Level 2 runs on a family of virtual hardware.
//   - Level 3 runs on several families.
//
// The level is computed from the descriptor and what is known of the package's
// files, with every reason that keeps it from being higher and what would raise
// it. A descriptor can say too little:
// a guest without the drivers for what its descriptor names is not found out
// here. So a level is the highest that the package can have.
package portability

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/ovf"
)

// Level is a portability level, 1 to 3.
type Level int

// The levels.
const (
	// OneProduct runs on one product, CPU architecture or selection of virtual
	// hardware.
	OneProduct Level = 1
	// OneFamily runs on a family of virtual hardware.
	OneFamily Level = 2
	// ManyFamilies runs on several families.
	ManyFamilies Level = 3
)

// String is the definition in a few words.
func (l Level) String() string {
	switch l {
	case OneProduct:
		return "1, runs on one product, CPU architecture or selection of virtual hardware"
	case OneFamily:
		return "2, runs on one family of virtual hardware"
	case ManyFamilies:
		return "3, runs on several families of virtual hardware"
	}
	return fmt.Sprint(int(l))
}

// Risk is what may go wrong where a package of level 1 is put on what it was not
// made for. Whoever does that names it.
type Risk string

// The risks.
const (
	// LostState: what the guest had in memory is not there any more. It boots
	// from its disks as after a power cut, with all that was not written lost.
	LostState Risk = "lost-state"
	// MissingHardware: a device that the package requires, and that is one
	// host's own, is left out.
	MissingHardware Risk = "missing-hardware"
)

// Risks are all of them.
func Risks() []Risk { return []Risk{LostState, MissingHardware} }

// Describe says what may go wrong.
func (r Risk) Describe() string {
	switch r {
	case LostState:
		return "what the guest had in memory is lost: it boots from its disks as after a power cut"
	case MissingHardware:
		return "a required device of the host's own is left out"
	}
	return string(r)
}

// Reason is one thing that keeps a package from a higher level.
type Reason struct {
	// Level is the highest that the package can have because of it.
	Level Level `json:"level"`
	// Machine is the virtual system's ovf:id, "" for the whole package.
	Machine string `json:"machine,omitempty"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
	// Raise is what would take the reason away.
	Raise string `json:"raise"`
	// Risk is what has to be borne where a reason of level 1 is passed over, ""
	// for the other levels.
	Risk Risk `json:"risk,omitempty"`
}

// String is the reason on one line.
func (r Reason) String() string {
	s := r.Subject + ": " + r.Text
	if r.Machine != "" {
		s = r.Machine + ": " + s
	}
	return s
}

// Assessment is a package's level and why.
type Assessment struct {
	Level Level `json:"level"`
	// Families are those that the package can run on, by what its descriptor
	// says; nil is any.
	Families []deploy.Family `json:"families"`
	// Reasons are what keeps it from being higher, the strongest first; none
	// for the highest level.
	Reasons []Reason `json:"reasons"`
}

// MadeFor says whether a target is one that the package was made for: of a
// family that it names.
func (a *Assessment) MadeFor(target []deploy.Family) bool {
	return slices.ContainsFunc(a.Families, func(f deploy.Family) bool { return slices.Contains(target, f) })
}

// Options say which part of a descriptor is meant.
type Options struct {
	// Option is the deployment option, as it was resolved; "" is none.
	Option string
	// Systems are the IDs of the virtual systems, none is all.
	Systems []string
	// Files are the names of the package's files, where they are known: those
	// that the descriptor does not refer to tell something too.
	Files []string
	// Saved are the ovf:diskIds of disks whose images hold the run-time state of
	// a guest, in snapshots that were taken while it ran, as far as that was
	// looked at.
	Saved []string
}

// Of assesses a descriptor.
func Of(env *ovf.Envelope, opt Options) *Assessment {
	a := &assessor{env: env, opt: opt, reasons: []Reason{}}
	a.files()
	a.sections("", env.Sections)
	var families []deploy.Family
	limited := false
	env.Content.Walk(func(c *ovf.Content) {
		if len(opt.Systems) > 0 && c.Kind == ovf.VirtualSystem && !slices.Contains(opt.Systems, c.ID) {
			return
		}
		a.sections(c.ID, c.Sections)
		if c.Kind != ovf.VirtualSystem {
			return
		}
		a.state(c)
		own, some := a.system(c)
		switch {
		case !some:
		case !limited:
			families, limited = slices.Clone(own), true
		default:
			// The machines run together.
			families = slices.DeleteFunc(families, func(f deploy.Family) bool { return !slices.Contains(own, f) })
		}
	})
	if limited && len(families) < 2 && a.level() > OneFamily {
		text := "there is no family that runs all of them"
		if len(families) == 1 {
			text = fmt.Sprintf("only %s runs all of them", families[0])
		}
		a.add(Reason{Level: OneFamily, Subject: "virtual systems", Text: text, Raise: "name the same families for all virtual systems (VirtualSystemType)"})
	}
	out := &Assessment{Level: a.level(), Reasons: a.reasons}
	if limited {
		slices.Sort(families)
		out.Families = families
	}
	slices.SortStableFunc(out.Reasons, func(x, y Reason) int { return int(x.Level) - int(y.Level) })
	return out
}

type assessor struct {
	env     *ovf.Envelope
	opt     Options
	reasons []Reason
	said    map[string]bool
}

// level is what the reasons so far leave.
func (a *assessor) level() Level {
	level := ManyFamilies
	for _, r := range a.reasons {
		level = min(level, r.Level)
	}
	return level
}

func (a *assessor) add(r Reason) {
	key := fmt.Sprint(r.Machine, "\x00", r.Subject, "\x00", r.Text)
	if a.said[key] {
		return
	}
	if a.said == nil {
		a.said = map[string]bool{}
	}
	a.said[key] = true
	a.reasons = append(a.reasons, r)
}

// stateFiles are the endings of files with the run-time state of a machine, and
// whose they are.
var stateFiles = map[string]string{
	".vmss": "VMware's suspended machines", ".vmsn": "VMware's snapshots of running machines", ".vmem": "the memory of VMware's machines",
	".sav": "VirtualBox's saved machines", ".vmrs": "Hyper-V's saved machines", ".vsv": "Hyper-V's saved machines", ".save": "libvirt's saved machines",
}

const shutDown = "shut the guest down, and pack it again without its run-time state"

func (a *assessor) files() {
	names := slices.Clone(a.opt.Files)
	for _, f := range a.env.References {
		names = append(names, f.Href)
	}
	for _, name := range names {
		if whose, ok := stateFiles[strings.ToLower(path.Ext(name))]; ok {
			a.add(Reason{Level: OneProduct, Subject: "file " + name, Text: "it is the run-time state of a guest, as in " + whose, Raise: shutDown, Risk: LostState})
		}
	}
	for _, id := range a.opt.Saved {
		a.add(Reason{Level: OneProduct, Subject: "disk " + id, Text: "its image holds a snapshot of the guest as it ran", Raise: "delete the image's snapshots, and pack it again", Risk: LostState})
	}
}

// state looks for a machine that was packed as it ran.
func (a *assessor) state(c *ovf.Content) {
	const subject = "run-time state"
	if m := c.Machine; m != nil && m.StateFile != "" {
		a.add(Reason{Level: OneProduct, Machine: c.ID, Subject: subject, Text: fmt.Sprintf("the machine was saved while it ran (vbox:Machine stateFile %s)", m.StateFile),
			Raise: shutDown, Risk: LostState})
	}
	for _, h := range c.Hardware {
		for _, key := range []string{"checkpoint.vmState", "vmState"} {
			if v, ok := h.ExtraConfig(key); ok && strings.TrimSpace(v) != "" {
				a.add(Reason{Level: OneProduct, Machine: c.ID, Subject: subject, Text: fmt.Sprintf("the machine was suspended (vmw:ExtraConfig %s is %s)", key, v),
					Raise: shutDown, Risk: LostState})
			}
		}
	}
}

// sections are those of vendors that are required.
func (a *assessor) sections(machine string, all []*ovf.Section) {
	for _, s := range all {
		if !s.Required || s.Space == ovf.NS09 || s.Space == ovf.NS1 || s.Space == ovf.NS2 {
			continue
		}
		whose := "only those products know it that its vendor wrote it for"
		if f := familyOfSpace(s.Space); f != "" {
			whose = fmt.Sprintf("only %s knows it", f)
		}
		a.add(Reason{Level: OneFamily, Machine: machine, Subject: fmt.Sprintf("section %s (line %d)", s.Kind, s.Pos().Line),
			Text: "it is a vendor's own, and required: " + whose, Raise: `say ovf:required="false", if the guest does without`})
	}
}

func familyOfSpace(space string) deploy.Family {
	switch space {
	case ovf.NSVMware:
		return deploy.VMware
	case ovf.NSVBox:
		return deploy.VirtualBox
	}
	return ""
}
