// Package migrate takes machines from the host that has them to another one, in
// one pass: what their disks hold goes from the one host to the other as it is
// read, and nothing is put down on the way.
//
// It joins two ways that there are: package author/export describes machines of
// a host, and package deploy makes machines of a description. So whatever a
// deployment can choose can be chosen here, all of it is made or nothing, and a
// program that was killed goes on where it was.
//
// What is read of the source's disks has a digest, which is compared with what
// the target has when all is written. The source is only read, until the target
// runs; and it stays then, too, unless its removal was asked for.
package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/ovation-project/ovation/author/export"
	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/environment"
	"github.com/ovation-project/ovation/deploy/history"
	"github.com/ovation-project/ovation/deploy/journal"
	"github.com/ovation-project/ovation/deploy/lifecycle"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/deploy/secrets"
	"github.com/ovation-project/ovation/deploy/stage"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/ovf"
)

// Options say how machines are migrated. The zero value is good for machines
// that are off.
type Options struct {
	// Export says how they are read: Live, Shutdown, Deployed, Note and Warn.
	// Without one of the first two, machines that run are refused.
	Export export.Options
	// Machines are the choices about hardware.
	Machines deploy.Options
	// Name is what they are called at the target; "" is as at the source.
	Name string
	// Pool takes the disks, "" is the target's first; DiskFormat is theirs,
	// Provisioning how a target lays them out that makes them itself.
	Pool, DiskFormat string
	Provisioning     hypervisor.Provisioning
	// Networks say where the machines' networks lead, as plan.ParseNetworks
	// reads them; without it each leads to the one of the same name, or the
	// target's first.
	Networks []string
	// NewMACs and NewUUIDs give the machines other ones; without them they
	// have those of the source, which they replace.
	NewMACs, NewUUIDs bool
	// Properties are values for machines whose descriptor has such, instead of
	// those that they have.
	Properties map[string]string
	// By is who migrates, and from where: alice@workstation.
	By string
	// NoVerify does not read back what was written.
	NoVerify bool
	// KeepOnFailure leaves at the target what was made where the migration
	// fails, so that the same goes on later; a machine that was shut down for it
	// stays off then.
	KeepOnFailure bool
	// Start starts the machines at the target, Wait waits until their guests
	// are ready.
	Start, Wait bool
	// RemoveSource removes the machines and their disks from the source when
	// they run at the target. Start has to be set, and Live must not be.
	RemoveSource bool
	// Store keeps the journals, History what became of deployments; Secrets gives what is secret of a deployment
	// that machines come from, nil where that is not known here.
	Store   journal.Store
	History history.Log
	Secrets func(deployment string) (secrets.Values, error)
	// Task is shown the progress, Told what happens to machines; both may be
	// nil.
	Task func(name string, total int64) stage.Task
	Told func(lifecycle.Event)
	// TempDir is for disks that can't be sent as they are read.
	TempDir string
	// Log gets what is done; nil is nowhere.
	Log *slog.Logger
}

func (o *Options) note(format string, a ...any) {
	if o.Export.Note != nil {
		o.Export.Note(fmt.Sprintf(format, a...))
	}
}

// ErrUsage says that the options contradict each other.
var ErrUsage = errors.New("these can't go together")

func (o *Options) check() error {
	switch {
	case o.Export.Live && o.Export.Shutdown > 0:
		return fmt.Errorf("%w: a machine either goes on or is shut down", ErrUsage)
	case o.RemoveSource && o.Export.Live:
		return fmt.Errorf("%w: what a guest that goes on writes meanwhile is at the source alone, and would be lost with it", ErrUsage)
	case o.RemoveSource && !o.Start:
		return fmt.Errorf("%w: the source is removed only when the machines run at the target", ErrUsage)
	}
	return nil
}

// Migration is what will be done, and does it.
type Migration struct {
	// Plan is what will be made at the target.
	Plan *plan.Plan
	// From is where the machines are, in the order in which they were named.
	From []Origin
	// Changes are what differs between the machines as they are and as they
	// will be.
	Changes []Change
	// Unsaid is what of the machines does not go along.
	Unsaid []string

	opt     Options
	sources []export.Source
	target  hypervisor.Host
}

// Origin is a machine of the source.
type Origin struct {
	// Host is its host's URI, Name its name there, Machine the name that it
	// will have.
	Host    string `json:"host"`
	Name    string `json:"name"`
	Machine string `json:"machine"`
	// State is what it does now; Deployment is the ID of the deployment that
	// it is of, "" for none.
	State      hypervisor.State `json:"state"`
	Deployment string           `json:"deployment,omitempty"`
}

// prepared is a plan with what it was made of.
type prepared struct {
	plan     *plan.Plan
	from     []Origin
	changes  []Change
	unsaid   []string
	resolved *ovf.Resolved
	caps     *hypervisor.Capabilities
	secrets  secrets.Values
	// sources are the specification's sources of disks, by their ovf:diskId.
	sources map[string]string
	// handed is the description as a target is given it that makes machines of
	// packages itself, with what it was resolved to; nil for another target.
	handed         *description
	handedResolved *ovf.Resolved
}

// Look says what migrating machines to a target would do, and does nothing to
// either. What the target can't give is a *hypervisor.UnfitError with every
// reason.
func Look(ctx context.Context, from []export.Source, target hypervisor.Host, opt Options) (*Migration, error) {
	if err := opt.check(); err != nil {
		return nil, err
	}
	m := &Migration{opt: opt, sources: from, target: target}
	quiet := m.exportOptions()
	quiet.Warn, quiet.Note = nil, nil
	e, err := export.Look(ctx, from, quiet)
	if err != nil {
		return nil, err
	}
	p, err := m.prepare(ctx, e, "")
	if err != nil {
		return nil, err
	}
	m.Plan, m.From, m.Changes, m.Unsaid = p.plan, p.from, p.changes, p.unsaid
	return m, m.free(ctx)
}

// free sees that the names at the target are, or are those of an earlier
// migration of the same, before anything happens to the source.
func (m *Migration) free(ctx context.Context) error {
	for _, x := range m.Plan.Machines {
		k, err := m.target.Lookup(ctx, x.Name)
		if errors.Is(err, hypervisor.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if k.Record == nil || k.Record.Locator != x.Record.Locator {
			return fmt.Errorf("%s has a machine called %s already: %w; --name gives this one another name", m.target.URI(), x.Name, hypervisor.ErrExists)
		}
	}
	return nil
}

// prepare makes the plan; id is its ID, "" chooses one.
func (m *Migration) prepare(ctx context.Context, e *export.Export, id string) (*prepared, error) {
	p := &prepared{unsaid: slices.Clone(e.Unsaid)}
	kept := e.Kept()
	d, err := m.describe(ctx, e)
	if err != nil {
		return nil, err
	}
	p.sources = d.sources
	properties := m.properties(d.doc, kept, p)
	if p.resolved, err = ovf.Resolve(d.doc.Envelope(), ovf.ResolveOptions{Properties: properties}); err != nil {
		return nil, err
	}
	if p.caps, err = m.target.Capabilities(ctx, cmp.Or(e.Machines[0].Architecture, "x86_64")); err != nil {
		return nil, err
	}
	machines, err := m.machines(e, p)
	if err != nil {
		return nil, err
	}
	opt := plan.Options{ID: id, Name: cmp.Or(m.opt.Name, d.name), DiskFormat: m.opt.DiskFormat, MACs: plan.KeepMACs, KeepUUIDs: !m.opt.NewUUIDs,
		Environments: map[*deploy.Planned]string{}, Stored: d.stored, Provisioning: m.opt.Provisioning, By: m.opt.By, Acceptances: acceptances(kept), Ready: probes(kept), Verify: !m.opt.NoVerify, Start: m.opt.Start}
	if m.opt.NewMACs {
		opt.MACs = plan.NewMACs
	}
	if p.caps.Imports {
		for _, x := range machines {
			x.Machine.Serials = nil // where they lead a descriptor does not say
		}
	}
	name := cmp.Or(opt.Name, plan.DefaultName(p.resolved, machines))
	if err := m.identities(ctx, machines, name, d.locator); err != nil {
		return nil, err
	}
	for _, x := range machines {
		drive, err := environment.AddDrive(x, p.caps)
		if err != nil {
			return nil, m.plainly(err)
		}
		if drive == "" {
			continue
		}
		opt.Environments[x] = drive
		if image, err := environment.Image(environment.Document(p.resolved, x.System, p.caps, ""), time.Now()); err == nil {
			opt.EnvironmentBytes = max(opt.EnvironmentBytes, int64(len(image)))
		}
	}
	if opt.Networks, err = m.connect(ctx, machines); err != nil {
		return nil, err
	}
	if opt.Pool, err = plan.ChoosePool(ctx, m.target, m.opt.Pool); err != nil {
		return nil, err
	}
	if p.plan, p.secrets, err = plan.New(d, p.resolved, machines, m.target.URI(), p.caps, opt); err != nil {
		return nil, m.plainly(err)
	}
	p.plan.Notes = nil // about lines of a descriptor that nobody has
	if p.caps.Imports {
		if err := m.prepareImport(ctx, e, d, machines, properties, p); err != nil {
			return nil, m.plainly(err)
		}
	}
	for i := range p.plan.Machines {
		p.plan.Machines[i].Notes = plainNotes(p.plan.Machines[i].Notes)
	}
	return p, m.compare(ctx, e, p)
}

func (m *Migration) connect(ctx context.Context, machines []*deploy.Planned) ([]plan.Network, error) {
	names := plan.NetworkNames(machines)
	chosen, rest, err := plan.ParseNetworks(m.opt.Networks, names)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	have, err := m.target.Networks(ctx)
	if err != nil {
		return nil, err
	}
	return plan.Connect(names, have, chosen, rest), nil
}

// machines works out the hardware.
func (m *Migration) machines(e *export.Export, p *prepared) ([]*deploy.Planned, error) {
	opt := m.opt.Machines
	opt.Was = func(s *ovf.System) *hypervisor.Machine {
		i := slices.IndexFunc(e.Machines, func(x hypervisor.Machine) bool { return x.ID == s.ID })
		if i < 0 {
			return nil
		}
		return &e.Machines[i]
	}
	machines, err := deploy.Machines(p.resolved, p.caps, opt)
	return machines, m.plainly(err)
}

// compare says where the machines come from and what changes.
func (m *Migration) compare(ctx context.Context, e *export.Export, p *prepared) error {
	for i, k := range e.Kept() {
		at := slices.IndexFunc(p.plan.Machines, func(x plan.Machine) bool { return x.ID == e.Machines[i].ID })
		if at < 0 {
			return fmt.Errorf("machine %s is not in the plan that was made for it", k.Name)
		}
		will := &p.plan.Machines[at]
		o := Origin{Host: m.sources[i].Host.URI(), Name: k.Name, Machine: will.Name}
		var err error
		if o.State, err = k.State(ctx); err != nil {
			return err
		}
		if k.Record != nil {
			o.Deployment = k.Record.Deployment
		}
		p.from = append(p.from, o)
		p.changes = append(p.changes, changes(&e.Machines[i], will)...)
	}
	return nil
}

// identities sees that no machine of the target has what the guests are known
// by. Those that an earlier migration of the same made there are they themselves.
func (m *Migration) identities(ctx context.Context, machines []*deploy.Planned, name, locator string) error {
	if m.opt.NewMACs && m.opt.NewUUIDs {
		return nil
	}
	all, err := m.target.List(ctx, true)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(k *hypervisor.Kept) bool {
		data, err := lifecycle.DataOf(k.Record)
		return err == nil && k.Record.Locator == locator && data.Name == name
	})
	for _, x := range machines {
		note := func(subject, format string, a ...any) {
			x.Notes = append(x.Notes, deploy.Note{Machine: x.Machine.ID, Subject: subject, Text: fmt.Sprintf(format, a...)})
		}
		for _, k := range all {
			if x.Machine.UUID != "" && !m.opt.NewUUIDs && strings.EqualFold(k.Machine.UUID, x.Machine.UUID) {
				note("UUID", "a new one: %s is that of %s at the target", x.Machine.UUID, k.Name)
				x.Machine.UUID = ""
			}
			for _, n := range x.Machine.NICs {
				if n.MAC != "" && !m.opt.NewMACs && slices.ContainsFunc(k.Machine.NICs, func(o hypervisor.NIC) bool { return strings.EqualFold(o.MAC, n.MAC) }) {
					note("network card "+n.MAC, "%s at the target has the same address: on one network the two disturb each other", k.Name)
				}
			}
		}
	}
	return nil
}
