// Package plan says what a deployment will make on a host, before anything is
// made: every machine with every choice, every volume by the name that it will
// have, and the steps in their order. A plan is data; what is shown of it is
// what is carried out.
//
// A plan holds no secrets. The values of properties that are passwords are not
// in it, only that they are set: they go to the guest's environment document and
// nowhere else.
package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/lifecycle"
	"github.com/ovation-project/ovation/hypervisor"
)

// APIVersion names the shape of a plan as JSON; docs/plan.schema.json describes
// it.
const APIVersion = "ovation/deploy-plan/v1"

// ErrInvalid says that a plan contradicts itself, so that it can't be carried
// out.
var ErrInvalid = errors.New("the plan is not a plan")

// Plan is one deployment.
type Plan struct {
	APIVersion string `json:"apiVersion"`
	// ID is the deployment's own, chosen at random when it is planned. It is
	// part of the name of every volume, so that no volume of another's has
	// such a name.
	ID string `json:"id"`
	// Name is what people call the deployment on its target.
	Name string `json:"name"`
	// Target is the host's URI, without secrets.
	Target  string    `json:"target"`
	Made    time.Time `json:"made"`
	Package Package   `json:"package"`
	// Option is the deployment option, "" where the package has none.
	Option string `json:"option,omitempty"`
	// Locale is the language that the guests are told, "" for none.
	Locale      string       `json:"locale,omitempty"`
	Properties  []Property   `json:"properties,omitempty"`
	Acceptances []Acceptance `json:"acceptances,omitempty"`
	Networks    []Network    `json:"networks,omitempty"`
	Machines    []Machine    `json:"machines"`
	Volumes     []Volume     `json:"volumes,omitempty"`
	// Import is what a host makes that is given the package as a whole; nil for
	// one that is given volumes and machines.
	Import *hypervisor.ImportPlan `json:"import,omitempty"`
	// Steps are what is done, in order; undoing is the other way round.
	Steps []Step `json:"steps"`
	// Notes are about the package as a whole.
	Notes []deploy.Note `json:"notes,omitempty"`
}

// Package is where the content comes from.
type Package struct {
	// Locator is without credentials.
	Locator string `json:"locator"`
	// Appliance is the product's name and version, for people.
	Appliance string `json:"appliance,omitempty"`
	// Digest is the SHA-256 of the descriptor and the manifest: two packages
	// that have it in common are the same.
	Digest      string `json:"digest"`
	HasManifest bool   `json:"hasManifest"`
	// ManifestToCome says that the plan was made before the manifest had come,
	// if there is one: which package it is nobody knows then.
	ManifestToCome bool `json:"manifestToCome,omitempty"`
	// Trust is the verdict in one word.
	Trust string `json:"trust,omitempty"`
}

// Property is a value that the guests are told.
type Property struct {
	// Key is the full one, class.key.instance.
	Key string `json:"key"`
	// System is the ID of the virtual system or collection that it is of.
	System string `json:"system,omitempty"`
	// Value is "" for a secret.
	Value string `json:"value"`
	// Secret is set for a password: its value goes to the guest's environment
	// document alone.
	Secret bool `json:"secret,omitempty"`
	// Set is false where nobody gave a value.
	Set bool `json:"set"`
}

// Acceptance is a licence that was accepted for a virtual system.
type Acceptance struct {
	// System is the ovf:id.
	System string `json:"system"`
	lifecycle.Acceptance
}

// Network is where a network of the descriptor leads.
type Network struct {
	Name string `json:"name"`
	Host string `json:"host"`
	// Reason says why it is that one, where nobody chose it.
	Reason string `json:"reason,omitempty"`
}

// Machine is one machine as it will be defined. Its Name is the one that the
// host will know it by, and its media name volumes of the plan.
type Machine struct {
	hypervisor.Machine
	// Record is what the host keeps with it.
	Record hypervisor.Record `json:"record"`
	Notes  []deploy.Note     `json:"notes,omitempty"`
}

// Content says what a volume is filled with.
type Content string

// The contents.
const (
	// Disk is a disk of the package, File a file of it as it is (a CD-ROM's
	// image).
	Disk Content = "disk"
	File Content = "file"
	// Blank is a disk that holds nothing yet.
	Blank Content = "blank"
	// Environment is an ISO image with a guest's environment document. It is
	// made anew for each start.
	Environment Content = "environment"
)

// Volume is one volume to make and fill.
type Volume struct {
	hypervisor.VolumeSpec
	Content Content `json:"content"`
	// Disk is the ovf:diskId for a disk, File the href in the package for
	// what comes from one, Machine the host's name of the machine whose
	// environment it is.
	Disk    string `json:"disk,omitempty"`
	File    string `json:"file,omitempty"`
	Machine string `json:"machine,omitempty"`
	// ReadBytes is about how much of the package is read for it.
	ReadBytes int64 `json:"readBytes,omitempty"`
	Uses      []Use `json:"uses"`
}

// Use is a drive that a volume is in. A disk that machines share has several.
type Use struct {
	Machine string `json:"machine"`
	Drive   string `json:"drive"`
}

// Action is what a step does.
type Action string

// The actions.
const (
	CreateVolume Action = "create-volume"
	FillVolume   Action = "fill-volume"
	// VerifyVolume reads a volume back and compares it with what it was filled
	// with.
	VerifyVolume Action = "verify-volume"
	Define       Action = "define"
	// VerifyMachine reads the disks of a machine that was imported back and
	// compares them with what was sent.
	VerifyMachine Action = "verify-machine"
	// Import has the host make all machines of the package, with their disks.
	Import Action = "import"
	// Start starts the machines of the deployment in their order.
	Start Action = "start"
)

// Step is one thing that is done.
type Step struct {
	Do     Action                `json:"do"`
	Volume *hypervisor.VolumeRef `json:"volume,omitempty"`
	// Machine is the host's name of one.
	Machine string `json:"machine,omitempty"`
}

// String is the step for people: create-volume default/web-disk1.
func (s Step) String() string {
	switch {
	case s.Volume != nil:
		return fmt.Sprintf("%s %s/%s", s.Do, s.Volume.Pool, s.Volume.Name)
	case s.Machine != "":
		return fmt.Sprintf("%s %s", s.Do, s.Machine)
	}
	return string(s.Do)
}

// Volume finds a volume by its name.
func (p *Plan) Volume(ref hypervisor.VolumeRef) *Volume {
	i := slices.IndexFunc(p.Volumes, func(v Volume) bool { return v.VolumeRef == ref })
	if i < 0 {
		return nil
	}
	return &p.Volumes[i]
}

// Step finds the step that does something to a volume, -1 where there is none.
func (p *Plan) Step(do Action, ref hypervisor.VolumeRef) int {
	return slices.IndexFunc(p.Steps, func(s Step) bool { return s.Do == do && s.Volume != nil && *s.Volume == ref })
}

// Machine finds a machine by the host's name of it.
func (p *Plan) Machine(name string) *Machine {
	i := slices.IndexFunc(p.Machines, func(m Machine) bool { return m.Name == name })
	if i < 0 {
		return nil
	}
	return &p.Machines[i]
}

// steps puts the steps in order: all volumes are there and filled, and verified
// where that is wanted, before the first machine is defined.
func (p *Plan) steps(verify, start bool) {
	p.Steps = nil
	if p.Import != nil {
		p.Steps = append(p.Steps, Step{Do: Import})
	}
	for _, do := range []Action{CreateVolume, FillVolume, VerifyVolume} {
		for k := range p.Volumes {
			if do == VerifyVolume && (!verify || p.Volumes[k].Content != Disk) {
				continue
			}
			p.Steps = append(p.Steps, Step{Do: do, Volume: &p.Volumes[k].VolumeRef})
		}
	}
	for _, m := range p.Machines {
		switch {
		case p.Import == nil:
			p.Steps = append(p.Steps, Step{Do: Define, Machine: m.Name})
		case verify:
			p.Steps = append(p.Steps, Step{Do: VerifyMachine, Machine: m.Name})
		}
	}
	if start {
		p.Steps = append(p.Steps, Step{Do: Start})
	}
}

// Check sees that the plan is one that can be carried out and undone: that
// names are there and differ, that each step names what the plan has, and that
// nothing of it is used before it is made.
func (p *Plan) Check() error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, a...))
	}
	if p.APIVersion != APIVersion {
		return bad("apiVersion is %q, not %q", p.APIVersion, APIVersion)
	}
	if !ValidID(p.ID) {
		return bad("%q is not the ID of a deployment", p.ID)
	}
	if p.Name == "" || p.Target == "" {
		return bad("it has no name or no target")
	}
	volumes, machines := map[hypervisor.VolumeRef]bool{}, map[string]bool{}
	for _, v := range p.Volumes {
		if _, twice := volumes[v.VolumeRef]; twice || v.Name == "" || v.Pool == "" {
			return bad("volume %s/%s has no name, or another one's", v.Pool, v.Name)
		}
		if !strings.Contains(v.Name, p.ID) {
			// Without it, undoing could remove another's.
			return bad("volume %s/%s does not have the deployment's ID in its name", v.Pool, v.Name)
		}
		volumes[v.VolumeRef] = false
	}
	for _, m := range p.Machines {
		if _, twice := machines[m.Name]; twice || m.Name == "" {
			return bad("machine %q has no name, or another one's", m.Name)
		}
		if m.Record.Deployment != p.ID {
			return bad("machine %s has the record of another deployment, %q", m.Name, m.Record.Deployment)
		}
		machines[m.Name] = false
	}
	filled, verified := map[hypervisor.VolumeRef]bool{}, map[hypervisor.VolumeRef]bool{}
	for _, s := range p.Steps {
		switch s.Do {
		case VerifyVolume:
			if s.Volume == nil || !filled[*s.Volume] || verified[*s.Volume] {
				return bad("step %q: there is nothing to verify then", s)
			}
			verified[*s.Volume] = true
		case CreateVolume, FillVolume:
			if s.Volume == nil {
				return bad("step %s names no volume", s.Do)
			}
			made, known := volumes[*s.Volume]
			if !known || made == (s.Do == CreateVolume) || filled[*s.Volume] {
				return bad("step %q: there is no such volume then", s)
			}
			volumes[*s.Volume] = true
			filled[*s.Volume] = s.Do == FillVolume
		case Define:
			m := p.Machine(s.Machine)
			if m == nil || machines[s.Machine] {
				return bad("step %q: there is no such machine, or it is defined already", s)
			}
			machines[s.Machine] = true
			for _, d := range m.Drives {
				if d.Medium != nil && d.Medium.Volume != nil && !filled[*d.Medium.Volume] {
					return bad("machine %s, drive %s: the volume %s/%s is not filled by then", m.Name, d.ID, d.Medium.Volume.Pool, d.Medium.Volume.Name)
				}
			}
		case Import:
			if p.Import == nil || len(p.Import.Machines) != len(p.Machines) {
				return bad("step %q: it does not say what is imported", s)
			}
			for i, m := range p.Import.Machines {
				if m.Name != p.Machines[i].Name || machines[m.Name] {
					return bad("step %q: machine %q is none of the plan's, or defined already", s, m.Name)
				}
				machines[m.Name] = true
			}
		case VerifyMachine:
			if p.Import == nil || !machines[s.Machine] {
				return bad("step %q: there is no such machine then", s)
			}
		case Start:
		default:
			return bad("%q is not a step", s.Do)
		}
	}
	return nil
}

// Settles says whether a plan is what became of this one when more was known of
// the package: the same deployment, with the same volumes and machines and the
// same steps.
func (p *Plan) Settles(first *Plan) bool {
	return p.ID == first.ID && p.Name == first.Name && p.Target == first.Target && p.Made.Equal(first.Made) &&
		slices.EqualFunc(p.Volumes, first.Volumes, func(a, b Volume) bool {
			return a.VolumeSpec == b.VolumeSpec && a.Content == b.Content && a.Disk == b.Disk && a.File == b.File
		}) &&
		slices.EqualFunc(p.Machines, first.Machines, func(a, b Machine) bool { return a.ID == b.ID && a.Name == b.Name }) &&
		slices.EqualFunc(p.Steps, first.Steps, func(a, b Step) bool { return a.String() == b.String() })
}

// Same says whether two plans make the same: all but the ID, the names that have
// it in them, when they were made, and how much is about to be read. Plans for
// packages of which the manifest is still to come are the same as none.
func (p *Plan) Same(other *Plan) bool {
	return !p.Package.ManifestToCome && !other.Package.ManifestToCome && p.Alike(other)
}

// Alike is Same for packages whose manifests are still to come: they may be the
// same.
func (p *Plan) Alike(other *Plan) bool {
	a, err1 := p.canonical()
	b, err2 := other.canonical()
	return err1 == nil && err2 == nil && a == b
}

func (p *Plan) canonical() (string, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return "", err
	}
	var c Plan
	if err := json.Unmarshal(text, &c); err != nil {
		return "", err
	}
	c.Made = time.Time{}
	for k := range c.Volumes {
		c.Volumes[k].ReadBytes = 0 // an estimate
	}
	for k := range c.Machines {
		r := &c.Machines[k].Record
		r.Made = time.Time{}
		data, err := lifecycle.DataOf(r)
		if err != nil {
			continue // somebody else's, compared as it is
		}
		for i := range data.Accepted {
			data.Accepted[i].At = time.Time{}
		}
		if r.Data, err = json.Marshal(data); err != nil {
			return "", err
		}
	}
	for k := range c.Acceptances {
		c.Acceptances[k].At = time.Time{}
	}
	if text, err = json.Marshal(&c); err != nil {
		return "", err
	}
	return strings.ReplaceAll(string(text), p.ID, "ID"), nil
}
