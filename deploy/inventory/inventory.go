// Package inventory is what was deployed to a host, as its machines' records and
// this machine's journals have it together: what runs, what a program was killed
// at, and what is gone. What is there is started, stopped and removed by it, with
// the secrets that are kept here, and what was done is noted.
package inventory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/ovation-project/ovation/deploy/history"
	"github.com/ovation-project/ovation/deploy/journal"
	"github.com/ovation-project/ovation/deploy/lifecycle"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/hypervisor"
)

// State is what a deployment is.
type State string

// The states.
const (
	// Running is all machines that start by themselves, Off none, Partly some.
	Running State = "running"
	Off     State = "off"
	Partly  State = "partly"
	// Paused is a machine that is.
	Paused State = "paused"
	// Incomplete is one of which the host lacks machines, or has some whose
	// records can't be read.
	Incomplete State = "incomplete"
	// Unfinished is one that a program on this machine was killed at, or could
	// not take back; Busy one that a program on this machine is at.
	Unfinished State = "unfinished"
	Busy       State = "busy"
	// Gone is one of which the host has nothing any more, and this machine's
	// journal knows.
	Gone State = "gone"
)

// Inventory is a host, and where this machine has its journals.
type Inventory struct {
	Host    hypervisor.Host
	Store   journal.Store
	History history.Log
	// By is who asks, and from where: alice@workstation.
	By string
}

// Deployment is one that the host has, or a journal of this machine.
type Deployment struct {
	// Found has no machines where the host has none.
	*lifecycle.Found
	// Target is the host's URI.
	Target string
	State  State
	// States are what the machines are, by their names.
	States map[string]hypervisor.State
	// Journal is what this machine knows of it, nil for nothing.
	Journal *journal.State
}

// Here says that it was deployed by this machine's user, so that the secrets are
// here.
func (d *Deployment) Here() bool { return d.Journal != nil }

// Advice says what to do about it, for people; "" is nothing.
func (d *Deployment) Advice() string {
	switch d.State {
	case Unfinished:
		why := "the program was killed"
		if d.Journal.Failure != "" {
			why = d.Journal.Failure
		}
		if d.Journal.Undoing {
			return fmt.Sprintf("not wholly taken back (%s): remove it", why)
		}
		return fmt.Sprintf("not finished (%s): deploy the same again to go on, or remove it", why)
	case Busy:
		return "another program is deploying or removing it"
	case Incomplete:
		if len(d.Unreadable) > 0 {
			return fmt.Sprintf("the records of %d of its machines can't be read; they may be of a later version of this program", len(d.Unreadable))
		}
		return fmt.Sprintf("%d of its machines are gone: remove it, or go on without them", d.Missing)
	case Gone:
		return "its machines are gone from the host: remove it to forget it"
	}
	return ""
}

// List gives the deployments by name. What of the journals can't be read is the
// error, and the deployments are there all the same.
func (v *Inventory) List(ctx context.Context) ([]*Deployment, error) {
	for try := 1; ; try++ {
		all, changed, err := v.list(ctx)
		if !changed || try == tries {
			return all, err
		}
	}
}

// tries is how often a list is made again that something changed under.
const tries = 3

// list makes a list, and says whether a deployment came to its end meanwhile.
func (v *Inventory) list(ctx context.Context) (all []*Deployment, changed bool, err error) {
	states, unread := v.Store.List()
	found, err := lifecycle.List(ctx, v.Host)
	if err != nil {
		return nil, false, err
	}
	for _, f := range found {
		d := &Deployment{Found: f, Target: v.Host.URI(), States: map[string]hypervisor.State{}}
		if i := slices.IndexFunc(states, func(s *journal.State) bool { return s.Plan.ID == f.ID }); i >= 0 {
			d.Journal = states[i]
		}
		all = append(all, d)
	}
	for _, s := range states {
		known := slices.ContainsFunc(all, func(d *Deployment) bool { return d.ID == s.Plan.ID })
		if known || s.Removed || s.Plan.Target != v.Host.URI() {
			continue
		}
		all = append(all, &Deployment{Found: planned(s.Plan), Target: s.Plan.Target, Journal: s})
	}
	for _, d := range all {
		moved, err := v.state(ctx, d)
		if err != nil {
			return nil, false, err
		}
		changed = changed || moved
	}
	slices.SortStableFunc(all, func(a, b *Deployment) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return all, changed, unread
}

// planned is what is known of a deployment by its plan alone.
func planned(p *plan.Plan) *lifecycle.Found {
	f := &lifecycle.Found{ID: p.ID, Name: p.Name, Appliance: p.Package.Appliance, Locator: p.Package.Locator, Made: p.Made, Missing: len(p.Machines)}
	for _, m := range p.Machines {
		if data, err := lifecycle.DataOf(&m.Record); err == nil {
			f.By = data.By
		}
	}
	return f
}

// state finds out what it is. changed is set where its journal says another
// thing than a moment ago.
func (v *Inventory) state(ctx context.Context, d *Deployment) (changed bool, err error) {
	running, paused, wanted := 0, 0, 0
	for _, m := range d.Machines {
		state, err := m.State(ctx)
		if errors.Is(err, hypervisor.ErrNotFound) {
			state, err = hypervisor.PoweredOff, nil // removed a moment ago
		}
		if err != nil {
			return false, err
		}
		d.States[m.Name] = state
		switch {
		case state == hypervisor.Running:
			running++
		case state == hypervisor.Paused:
			paused++
		}
		if !m.Data.Start.Manual || state != hypervisor.PoweredOff {
			wanted++
		}
	}
	if d.Journal != nil && d.Journal.Unfinished() {
		now, err := v.Store.Look(d.ID)
		switch {
		case errors.Is(err, journal.ErrBusy):
			d.State = Busy
			return false, nil
		case errors.Is(err, fs.ErrNotExist):
			d.Journal, changed = nil, true
		case err != nil:
			return false, err
		case now.Unfinished():
			d.Journal, d.State = now, Unfinished
			return false, nil
		default:
			d.Journal, changed = now, true
		}
	}
	switch {
	case len(d.Machines) == 0 && len(d.Unreadable) == 0:
		d.State = Gone
	case d.Missing > 0 || len(d.Unreadable) > 0:
		d.State = Incomplete
	case paused > 0:
		d.State = Paused
	case running == 0:
		d.State = Off
	case running == wanted:
		d.State = Running
	default:
		d.State = Partly
	}
	return changed, nil
}

// Find gives the deployment that people mean by a name, as lifecycle.Find does,
// and the machine where the name is that of one of several; "" is all of it.
func (v *Inventory) Find(ctx context.Context, name string) (*Deployment, string, error) {
	all, unread := v.List(ctx)
	var found []*lifecycle.Found
	for _, d := range all {
		found = append(found, d.Found)
	}
	f, err := lifecycle.Match(found, name)
	if err != nil {
		return nil, "", errors.Join(fmt.Errorf("on %s: %w", v.Host.URI(), err), unread)
	}
	d := all[slices.Index(found, f)]
	if m := f.Machine(name); m != nil && m.Name == name && f.Name != name && f.ID != name {
		return d, name, nil
	}
	return d, "", nil
}

// note writes an act down. What it was about is done: that it can't be noted is
// told and no failure.
func (v *Inventory) note(d *Deployment, act history.Act, told func(lifecycle.Event)) {
	err := v.History.Add(history.Line{Deployment: d.ID, Name: d.Name, Target: d.Target, Act: act})
	if err != nil && told != nil {
		told(lifecycle.Event{Kind: lifecycle.Unnoted, Text: err.Error()})
	}
}

// journalOf opens the journal that this machine has of a deployment; nil is
// none.
func (v *Inventory) journalOf(d *Deployment) (*journal.Journal, error) {
	j, err := v.Store.Open(d.ID)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return j, err
}
