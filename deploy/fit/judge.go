package fit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/environment"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/deploy/stage"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/ovf"
)

// architecture is that of the guests that hosts are asked about. Those of
// another are refused, with the reason.
const architecture = "x86_64"

// Choices are what the user chose, for every target alike. The zero value leaves
// everything to the descriptor and the target.
type Choices struct {
	Resolve ovf.ResolveOptions
	// Machines are the choices about machines; Probe is the subject's own.
	Machines deploy.Options
	// AcceptLicences accepts the licences of the machines, in the name of
	// Plan.By.
	AcceptLicences bool

	// Networks say where networks lead, as plan.ParseNetworks reads them; Pool
	// names the pool, "" is the host's first.
	Networks []string
	Pool     string
	// Plan are the other choices of a plan: Name, DiskFormat, MACs, Locale, By,
	// Start, ID and Made. The rest is found out.
	Plan plan.Options
	// Prepare, where set, has a host that is given packages as a whole judge
	// the package, and completes the plan with what it would make.
	Prepare func(ctx context.Context, r *ovf.Resolved, p *plan.Plan) error
	// Taken, where set, gives the names of the planned machines that the host
	// has already. Who deploys at once need not ask: beginning does.
	Taken func(ctx context.Context, p *plan.Plan) ([]string, error)
}

// Host is what keeps machines: what is asked of a hypervisor.Host.
type Host interface {
	URI() string
	Capabilities(ctx context.Context, architecture string) (*hypervisor.Capabilities, error)
	Pools(ctx context.Context) ([]hypervisor.Pool, error)
	Networks(ctx context.Context) ([]hypervisor.Network, error)
}

// Local is a driver that runs machines on this computer and keeps none.
type Local struct {
	Driver hypervisor.Driver
	// Network is the driver's network for every card.
	Network string
	// Dir is the folder in which the disks would be; "" is not to ask whether
	// they fit.
	Dir string
}

// OnHost judges for a host, and makes the plan. The error means that a choice
// can't be (an ovf.ResolveError without a place, a deploy.UnknownSystemError, a
// plan.UnknownNetworkError), that the descriptor can't be resolved, or that the
// package or the host could not be read; what speaks against deploying is in the
// Judgement.
func (s *Subject) OnHost(ctx context.Context, h Host, c Choices) (*Judgement, error) {
	j := &Judgement{Target: h.URI()}
	return s.judge(ctx, j, c, h.Capabilities, func(j *Judgement, c Choices) error { return s.place(ctx, j, h, c) })
}

// OnLocal judges for a driver. There is no plan then: the machines have every
// choice made but the place of their media. Licences are not asked for. The
// error is as OnHost's.
func (s *Subject) OnLocal(ctx context.Context, l Local, c Choices) (*Judgement, error) {
	j := &Judgement{Target: l.Driver.Name()}
	c.AcceptLicences = true
	return s.judge(ctx, j, c, l.Driver.Capabilities, func(j *Judgement, c Choices) error { return s.put(j, l) })
}

// judge judges for the deployment option that was chosen, and where that does
// not fit for the others.
func (s *Subject) judge(ctx context.Context, j *Judgement, c Choices,
	capabilities func(context.Context, string) (*hypervisor.Capabilities, error), place func(*Judgement, Choices) error) (*Judgement, error) {
	caps, err := capabilities(ctx, architecture)
	if unfit := (*hypervisor.UnfitError)(nil); errors.As(err, &unfit) {
		j.Reasons = append(slices.Clone(s.reasons), areas(Hardware, unfit)...)
		return j, nil
	}
	if err != nil {
		return nil, err
	}
	j.Capabilities = caps
	target := j.Target
	if j, err = s.option(ctx, &Judgement{Target: target, Capabilities: caps}, c, place); err != nil {
		return nil, err
	}
	j.Reasons = append(slices.Clone(s.reasons), j.Reasons...)
	if len(j.Reasons) == 0 {
		return j, nil
	}
	j.Plan, j.Secrets = nil, nil
	for _, o := range j.Resolved.Envelope.Options {
		if o == j.Resolved.Option {
			continue
		}
		other := c
		other.Resolve.Option, other.Taken = o.ID, nil
		k, err := s.option(ctx, &Judgement{Target: target, Capabilities: caps}, other, place)
		if err == nil && len(k.Reasons) == 0 {
			j.OptionsThatFit = append(j.OptionsThatFit, o.ID)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return j, nil
}

// option judges one deployment option.
func (s *Subject) option(ctx context.Context, j *Judgement, c Choices, place func(*Judgement, Choices) error) (*Judgement, error) {
	var err error
	if j.Resolved, err = ovf.Resolve(s.pkg.Document().Envelope(), c.Resolve); err != nil {
		return nil, err
	}
	for _, r := range deploy.Sections(j.Resolved) {
		j.Reasons = append(j.Reasons, Reason{Area: Section, Reason: r})
	}
	c.Machines.Probe = s.probe(ctx)
	j.Machines, err = deploy.Machines(j.Resolved, j.Capabilities, c.Machines)
	if err := j.unfit(Hardware, err); err != nil {
		return nil, err
	}
	if len(j.Machines) == 0 {
		return nil, fmt.Errorf("%s: %w: there is no virtual system in it", s.pkg.Locator(), appliance.ErrInvalid)
	}
	if err := s.content(ctx, j); err != nil {
		return nil, err
	}
	j.Environments = map[*deploy.Planned]string{}
	for _, m := range j.Machines {
		drive, err := environment.AddDrive(m, j.Capabilities)
		if err := j.unfit(Hardware, err); err != nil {
			return nil, err
		}
		if drive != "" {
			j.Environments[m] = drive
		}
	}
	j.Licences = plan.Licences(j.Resolved, c.Machines.Systems)
	if !c.AcceptLicences {
		j.licences()
	}
	if err := place(j, c); err != nil {
		return nil, err
	}
	return j, nil
}

// areas are the reasons of an error, in an area.
func areas(area Area, e *hypervisor.UnfitError) (reasons []Reason) {
	for _, r := range e.Reasons {
		reasons = append(reasons, Reason{Area: area, Reason: r})
	}
	return reasons
}

// unfit takes the reasons of an error that has some, and gives every other
// error back.
func (j *Judgement) unfit(area Area, err error) error {
	if unfit := (*hypervisor.UnfitError)(nil); errors.As(err, &unfit) {
		j.Reasons = append(j.Reasons, areas(area, unfit)...)
		return nil
	}
	return err
}

func (j *Judgement) refuse(area Area, subject, format string, a ...any) {
	j.Reasons = append(j.Reasons, Reason{Area: area, Reason: hypervisor.Reason{Subject: subject, Text: fmt.Sprintf(format, a...)}})
}

// licences are needs, each text once.
func (j *Judgement) licences() {
	said := map[*ovf.EULA]bool{}
	for _, l := range j.Licences {
		if said[l.EULA] {
			continue
		}
		said[l.EULA] = true
		j.Needs = append(j.Needs, Need{Area: Licence, Flag: "--accept-eula",
			Reason: hypervisor.Reason{Subject: l.Title(), Text: fmt.Sprintf("it has to be accepted (descriptor, line %d)", l.EULA.Pos().Line)}})
	}
}

// properties are needs where a guest can't be told of one without a value.
func (j *Judgement) properties() {
	for _, p := range j.Unset() {
		if p.Required() {
			j.Needs = append(j.Needs, Need{Area: Property, Flag: "--property " + p.FullKey + "=VALUE",
				Reason: hypervisor.Reason{Subject: "property " + p.FullKey, Text: fmt.Sprintf("it has no value, and has to have one: %s (descriptor, line %d)", p.Expects(), p.Pos().Line)}})
		}
	}
}

// Unset are the properties of the machines that users set and that have no
// value.
func (j *Judgement) Unset() (all []*ovf.ResolvedProperty) {
	said := map[*ovf.Property]bool{}
	for _, m := range j.Machines {
		for _, p := range m.System.Properties {
			if p.UserConfigurable && !p.Set && !said[p.Property] {
				said[p.Property] = true
				all = append(all, p)
			}
		}
	}
	return all
}

// put sees that the disks fit a folder of this computer, and settles what a
// local driver leaves no choice in.
func (s *Subject) put(j *Judgement, l Local) error {
	for _, m := range j.Machines {
		if len(m.Machine.Serials) == 0 {
			m.Machine.Serials = []hypervisor.Serial{{ID: "console"}}
		}
		for k := range m.Machine.NICs {
			m.Machine.NICs[k].HostNetwork = l.Network
		}
	}
	if l.Dir == "" {
		return nil
	}
	if err := stage.Space(l.Dir, j.Machines); err != nil {
		j.refuse(Storage, "folder "+l.Dir, "%v", err)
	}
	return nil
}

// place chooses networks and pool, and makes the plan.
func (s *Subject) place(ctx context.Context, j *Judgement, h Host, c Choices) error {
	j.properties()
	if err := s.connect(ctx, j, h, c); err != nil {
		return err
	}
	pool, err := plan.ChoosePool(ctx, h, c.Pool)
	if err := j.unfit(Storage, err); err != nil {
		return err
	}
	if err != nil {
		return nil // it has its reason; without a pool there is no plan
	}
	j.Pool = pool.Name
	opt := c.Plan
	opt.Pool, opt.Networks, opt.Environments, opt.Trust = pool, j.Networks, j.Environments, string(s.trust.Answer)
	for m := range j.Environments {
		if image, err := environment.Image(environment.Document(j.Resolved, m.System, j.Capabilities, opt.Locale), time.Now()); err == nil {
			opt.EnvironmentBytes = max(opt.EnvironmentBytes, int64(len(image)))
		}
	}
	if c.AcceptLicences {
		opt.Acceptances = nil
		for _, l := range j.Licences {
			opt.Acceptances = append(opt.Acceptances, l.Accept(opt.Locale, opt.By, time.Now()))
		}
	}
	unfit := len(j.Reasons) > 0
	j.Plan, j.Secrets, err = plan.New(s.pkg, j.Resolved, j.Machines, h.URI(), j.Capabilities, opt)
	if err = j.unfit(Storage, err); unfit {
		return nil // machines that can't be made make no plan, which is said
	}
	if err != nil || j.Plan == nil {
		return err
	}
	if j.Capabilities.Imports && c.Prepare != nil {
		if err := j.unfit(Hardware, c.Prepare(ctx, j.Resolved, j.Plan)); err != nil {
			return err
		}
	}
	if c.Taken == nil {
		return nil
	}
	names, err := c.Taken(ctx, j.Plan)
	if err != nil {
		return err
	}
	for _, name := range names {
		j.Needs = append(j.Needs, Need{Area: Name, Flag: "--name",
			Reason: hypervisor.Reason{Subject: "name " + name, Text: "the host has a machine of that name already: another name has to be chosen"}})
	}
	return nil
}

// connect leads the networks to the host's.
func (s *Subject) connect(ctx context.Context, j *Judgement, h Host, c Choices) error {
	names := plan.NetworkNames(j.Machines)
	chosen, rest, err := plan.ParseNetworks(c.Networks, names)
	if err != nil || len(names) == 0 {
		return err
	}
	have, err := h.Networks(ctx)
	if err != nil {
		return err
	}
	j.Networks = plan.Connect(names, have, chosen, rest)
	return nil
}
