// Package lifecycle is what becomes of machines after they were deployed to a
// host: they are found again by what the host keeps with them, started and
// stopped in their order, told their environment, and removed.
//
// All that this takes is in the machines' records (hypervisor.Record), but for
// secrets: so a deployment can be run from any machine that reaches the host.
package lifecycle

import (
	"bytes"
	"cmp"
	"compress/flate"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/environment"
	"github.com/ovation-project/ovation/deploy/history"
	"github.com/ovation-project/ovation/deploy/secrets"
	"github.com/ovation-project/ovation/deploy/sequence"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/xmldoc"
	"github.com/ovation-project/ovation/ovf"
	"github.com/ovation-project/ovation/ovf/ovfenv"
)

// APIVersion is what Data says that this package writes and reads.
const APIVersion = "ovation/machine/v1"

// ErrRecord says that a machine's record can't be read, or is of a later
// version of this program.
var ErrRecord = errors.New("the machine's record can't be read")

// Data is what the record of a deployed machine holds (Record.Data), as JSON.
// There are no secrets in it.
type Data struct {
	APIVersion string `json:"apiVersion"`
	// Name is the deployment's, as people call it; Machines is how many
	// machines it has.
	Name     string `json:"name"`
	Machines int    `json:"machines"`
	// By is who deployed it, and from where: alice@workstation.
	By string `json:"by,omitempty"`
	// Option is the deployment option's ID, "" for none; Locale the language
	// that was asked for.
	Option string `json:"option,omitempty"`
	Locale string `json:"locale,omitempty"`

	Start StartPlace `json:"start"`
	Stop  StopManner `json:"stop"`
	// Environment is nil where the guest is not told of one.
	Environment *Environment `json:"environment,omitempty"`
	// Volumes are those that were made for the machine, and go with it. One
	// that several machines share is listed by each.
	Volumes []hypervisor.VolumeRef `json:"volumes,omitempty"`
	// Accepted are the licences that were accepted for the machine.
	Accepted []Acceptance `json:"accepted,omitempty"`
	// Descriptor is that of the package.
	Descriptor *Descriptor `json:"descriptor,omitempty"`
	// History is what was done with the machine since, the oldest first, as
	// far as it is kept.
	History []history.Act `json:"history,omitempty"`
}

// StartPlace is a machine's place in the order of its deployment, which has the
// nested collections in it already. What holds for a step is said by each of
// its machines.
type StartPlace struct {
	// Manual is set for a machine that starts only when it is named
	// (startAction "none").
	Manual bool `json:"manual,omitempty"`
	// Step counts from 0.
	Step int `json:"step"`
	// DelaySeconds is between the step and the next one.
	DelaySeconds int `json:"delaySeconds,omitempty"`
	// WaitIn is the number, from 1, of the step after which the machine's
	// guest is waited for; 0 is that it is not.
	WaitIn int `json:"waitIn,omitempty"`
	// Ready is how its guest is asked whether it is ready.
	Ready Probe `json:"ready,omitzero"`
}

// Probe is how a guest is asked whether it is ready. The zero value asks the
// agent within the guest.
type Probe struct {
	// TCP is an address and a port (192.0.2.7:443, [2001:db8::1]:22) that is
	// reachable, from where this program runs, when the guest is ready.
	TCP string `json:"tcp,omitempty"`
	// LimitSeconds is the longest to wait where the step has no delay; 0 is
	// five minutes.
	LimitSeconds int `json:"limitSeconds,omitempty"`
}

// StopManner is how a machine stops.
type StopManner struct {
	Action StopAction `json:"action,omitempty"`
	// DelaySeconds is how long to wait before the step before is stopped; 0
	// is until the guest has ended.
	DelaySeconds int `json:"delaySeconds,omitempty"`
}

// StopAction is how a machine is stopped when its deployment is.
type StopAction string

// The actions, by the standard's names. Where a descriptor does not say, the
// guest is asked, and powered off when it does not end in time: the standard
// would have it powered off at once.
const (
	StopDefault   StopAction = ""
	PowerOff      StopAction = "powerOff"
	GuestShutdown StopAction = "guestShutdown"
	// LeaveRunning leaves the machine as it is.
	LeaveRunning StopAction = "none"
)

// Environment is what a guest is told and by what.
type Environment struct {
	// Transports are those that the descriptor names.
	Transports []string `json:"transports"`
	// Drive is the ID of the machine's CD-ROM drive, Volume the medium in it;
	// a host that has other means gives it none.
	Drive  string               `json:"drive,omitempty"`
	Volume hypervisor.VolumeRef `json:"volume,omitzero"`
	// Document is what the guest is told, but for the values of passwords,
	// which are "" here; Secrets are their keys. The platform is the host's at
	// each start.
	Document ovfenv.Environment `json:"document"`
	Secrets  []string           `json:"secrets,omitempty"`
}

// Acceptance is a licence that somebody accepted.
type Acceptance struct {
	// Section is the Info of the EulaSection, or another name of the licence.
	Section string `json:"section,omitempty"`
	// SHA256 is of the text as it was shown, in hexadecimal.
	SHA256 string    `json:"sha256"`
	Locale string    `json:"locale,omitempty"`
	At     time.Time `json:"at"`
	By     string    `json:"by,omitempty"`
}

// Descriptor is the text of a package's descriptor, without the values of
// passwords.
type Descriptor struct {
	Name string `json:"name"`
	// SHA256 is of the text as it was in the package, in hexadecimal; Size is
	// the bytes of the text that is kept.
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size,omitempty"`
	// Deflate is the text, compressed (RFC 1951). It is nil where that would
	// have been more than fits a host's record.
	Deflate []byte `json:"deflate,omitempty"`
}

// Limits of what a record holds of a descriptor. libvirt takes 4 MiB for a
// domain with all that is in it.
const (
	maxDeflated   = 512 << 10
	maxDescriptor = 64 << 20
)

// Text is the descriptor's text, or nil where it was not kept.
func (d *Descriptor) Text() ([]byte, error) {
	if d == nil || d.Deflate == nil {
		return nil, nil
	}
	if d.Size < 0 || d.Size > maxDescriptor {
		return nil, fmt.Errorf("%w: a descriptor of %d bytes", ErrRecord, d.Size)
	}
	r := flate.NewReader(bytes.NewReader(d.Deflate))
	text, err := io.ReadAll(io.LimitReader(r, d.Size+1))
	if err == nil && int64(len(text)) != d.Size {
		err = fmt.Errorf("%d bytes and more instead of %d", len(text), d.Size)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: descriptor: %w", ErrRecord, err)
	}
	return text, nil
}

// NewDescriptor makes what is kept of a descriptor.
func NewDescriptor(name string, doc *ovf.Document) (*Descriptor, error) {
	sum := sha256.Sum256(doc.Bytes())
	d := &Descriptor{Name: name, SHA256: hex.EncodeToString(sum[:])}
	text, err := withoutPasswords(doc)
	if err != nil || int64(len(text)) > maxDescriptor {
		return d, err
	}
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err = w.Write(text); err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, err
	}
	if b.Len() <= maxDeflated {
		d.Size, d.Deflate = int64(len(text)), b.Bytes()
	}
	return d, nil
}

// withoutPasswords gives the text with the values of passwords taken out.
func withoutPasswords(doc *ovf.Document) ([]byte, error) {
	var edits []xmldoc.Edit
	if content := doc.Envelope().Content; content != nil {
		content.Walk(func(c *ovf.Content) {
			for _, product := range c.Products {
				for _, p := range product.Properties {
					if p.Password {
						edits = append(edits, valueless(p.Element())...)
					}
				}
			}
		})
	}
	if len(edits) == 0 {
		return doc.Bytes(), nil
	}
	after, err := doc.Tree().Apply(edits...)
	if err != nil {
		return nil, fmt.Errorf("the descriptor without its passwords: %w", err)
	}
	return after.Bytes(), nil
}

// valueless takes the values from a property, those for deployment options too.
func valueless(property *xmldoc.Element) (edits []xmldoc.Edit) {
	for i := range property.Attrs {
		if a := &property.Attrs[i]; a.Local == "value" {
			edits = append(edits, property.RemoveAttr(a.Space, a.Local))
		}
	}
	for _, child := range property.Children {
		if child.Local == "Value" {
			edits = append(edits, child.Remove())
		}
	}
	return edits
}

// Deployment says what records are made from, besides the machines.
type Deployment struct {
	// ID is the deployment's, which nothing else on the host has; Name is what
	// people call it.
	ID, Name string
	// Appliance is the product's name and version, Locator where the package
	// came from, without credentials.
	Appliance, Locator string
	Made               time.Time
	By                 string
	Locale             string
	// Target is what the host can give, as its Capabilities says.
	Target *hypervisor.Capabilities
	// Accepted are the licences that were accepted, by the ID of the virtual
	// system.
	Accepted map[string][]Acceptance
	// Descriptor is of the package; nil where it is not to be kept.
	Descriptor *Descriptor
	// Ready says how guests are asked whether they are ready, by the ID of the
	// virtual system; those that it does not name have agents. Naming one has
	// it waited for, whether or not the descriptor says so.
	Ready map[string]Probe
	// Environments are the drives that carry the environment document, by the
	// ID of the virtual system, as environment.AddDrive gave them.
	Environments map[string]string
}

// Records makes the records of a deployment's machines, in their order, and
// what is secret of it, for secrets.Keep. The machines' drives have the
// volumes that they will have: all of them belong to the deployment.
func Records(d Deployment, r *ovf.Resolved, planned []*deploy.Planned) ([]hypervisor.Record, secrets.Values, error) {
	data := order(r, planned, d.Ready)
	kept := secrets.Values{}
	records := make([]hypervisor.Record, len(planned))
	for i, p := range planned {
		x := data[i]
		x.APIVersion, x.Name, x.Machines, x.By, x.Locale = APIVersion, d.Name, len(planned), d.By, d.Locale
		if r.Option != nil {
			x.Option = r.Option.ID
		}
		x.Volumes = volumes(&p.Machine)
		x.Accepted, x.Descriptor = d.Accepted[p.System.ID], d.Descriptor
		if environment.Wanted(p.System) && !d.Target.GivesEnvironment {
			var values map[string]string
			x.Environment, values = environmentOf(d, r, p)
			if len(values) > 0 {
				kept[p.System.ID] = values
			}
		}
		raw, err := json.Marshal(x)
		if err != nil {
			return nil, nil, fmt.Errorf("machine %s: its record: %w", p.Machine.Name, err)
		}
		records[i] = hypervisor.Record{Deployment: d.ID, System: p.System.ID, Appliance: d.Appliance, Locator: d.Locator, Made: d.Made, Data: raw}
	}
	return records, kept, nil
}

// order gives each machine its place.
func order(r *ovf.Resolved, planned []*deploy.Planned, ready map[string]Probe) []Data {
	data := make([]Data, len(planned))
	at := map[*ovf.System]int{}
	for i, p := range planned {
		at[p.System] = i
		x := &data[i]
		x.Start.Manual = true // until a step has it
		x.Start.Ready = ready[p.System.ID]
		if s := p.System.Startup; s != nil {
			x.Stop = StopManner{Action: stopAction(s.StopAction), DelaySeconds: max(0, s.StopDelay)}
		}
	}
	steps := sequence.Of(r.StartOrder(), func(s *ovf.System) (int, bool) { i, ok := at[s]; return i, ok })
	for n, s := range steps {
		for _, i := range s.Members {
			start := &data[i].Start
			start.Manual, start.Step, start.DelaySeconds = false, n, int(s.Delay/time.Second)
			if _, named := ready[planned[i].System.ID]; named {
				start.WaitIn = n + 1
			}
		}
		for _, i := range s.WaitFor {
			data[i].Start.WaitIn = max(data[i].Start.WaitIn, n+1)
		}
	}
	for i := range data {
		if data[i].Start.Manual {
			// Last to start is first to stop.
			data[i].Start.Step = len(steps)
		}
	}
	return data
}

func stopAction(s string) StopAction {
	switch a := StopAction(s); a {
	case PowerOff, GuestShutdown, LeaveRunning:
		return a
	}
	return StopDefault
}

// volumes are all that a machine's drives have, those below deltas too.
func volumes(m *hypervisor.Machine) (all []hypervisor.VolumeRef) {
	for _, d := range m.Drives {
		for medium := d.Medium; medium != nil; medium = medium.Below {
			if v := medium.Volume; v != nil && !slices.Contains(all, *v) {
				all = append(all, *v)
			}
		}
	}
	return all
}

// environmentOf gives what a guest is to be told, and the secrets of it by key.
func environmentOf(d Deployment, r *ovf.Resolved, p *deploy.Planned) (*Environment, map[string]string) {
	e := &Environment{Transports: p.System.Hardware.Transports, Drive: d.Environments[p.System.ID]}
	for _, have := range p.Machine.Drives {
		if have.ID == e.Drive && have.Medium != nil && have.Medium.Volume != nil {
			e.Volume = *have.Medium.Volume
		}
	}
	password := map[string]bool{}
	for _, q := range p.System.Properties {
		password[q.FullKey] = password[q.FullKey] || q.Password
	}
	e.Document = *environment.Document(r, p.System, d.Target, d.Locale)
	values := map[string]string{}
	for i := range e.Document.Properties {
		q := &e.Document.Properties[i]
		if password[q.Key] {
			values[q.Key], q.Value = q.Value, ""
			e.Secrets = append(e.Secrets, q.Key)
		}
	}
	return e, values
}

// DataOf reads what a machine's record holds. What can't be read is an
// ErrRecord.
func DataOf(r *hypervisor.Record) (*Data, error) {
	if r == nil || len(r.Data) == 0 {
		return nil, fmt.Errorf("%w: it has none of a deployment", ErrRecord)
	}
	var x Data
	if err := json.Unmarshal(r.Data, &x); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if x.APIVersion != APIVersion {
		return nil, fmt.Errorf("%w: it is %s, and this program knows %s", ErrRecord, cmp.Or(x.APIVersion, "of no version"), APIVersion)
	}
	return &x, nil
}
