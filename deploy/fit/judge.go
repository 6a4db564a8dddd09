package fit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/environment"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/deploy/portability"
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
	// MinLevel is the lowest portability level that will do, 0 is any; Force
	// are the risks that are borne where a package of level 1 is put on what it
	// was not made for.
	MinLevel portability.Level
	Force    []portability.Risk
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
// choice made but the place of their media. The error is as OnHost's.
func (s *Subject) OnLocal(ctx context.Context, l Local, c Choices) (*Judgement, error) {
	j := &Judgement{Target: l.Driver.Name()}
	return s.judge(ctx, j, c, l.Driver.Capabilities, func(j *Judgement, c Choices) error { return s.put(ctx, j, l) })
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
	judge := func(c Choices) (*Judgement, error) {
		return s.sections(ctx, Judgement{Target: j.Target, Capabilities: caps}, c, place)
	}
	if j, err = judge(c); err != nil {
		return nil, err
	}
	if len(j.Reasons) > 0 {
		if j.OptionsThatFit, err = otherOptions(ctx, j, c, judge); err != nil {
			return nil, err
		}
	}
	if j.Reasons = append(slices.Clone(s.reasons), j.Reasons...); len(j.Reasons) > 0 {
		j.Plan, j.Secrets = nil, nil
	}
	return j, nil
}

// otherOptions are the deployment options for which there are no reasons.
func otherOptions(ctx context.Context, j *Judgement, c Choices, judge func(Choices) (*Judgement, error)) (fit []string, err error) {
	for _, o := range j.Resolved.Envelope.Options {
		if o == j.Resolved.Option {
			continue
		}
		c.Resolve.Option, c.Taken = o.ID, nil
		other, err := judge(c)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err == nil && len(other.Reasons) == 0 {
			fit = append(fit, o.ID)
		}
	}
	return fit, nil
}

// option judges one deployment option, with one hardware section for each
// virtual system.
func (s *Subject) option(ctx context.Context, j *Judgement, c Choices, place func(*Judgement, Choices) error) (*Judgement, error) {
	var err error
	if j.Resolved, err = ovf.Resolve(s.pkg.Document().Envelope(), c.Resolve); err != nil {
		return nil, err
	}
	for _, r := range deploy.Sections(j.Resolved) {
		j.Reasons = append(j.Reasons, Reason{Area: Section, Reason: r})
	}
	c.Machines.Probe = s.probe(ctx)
	c.Machines.LeaveOutPhysical = slices.Contains(c.Force, portability.MissingHardware)
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
	s.portability(ctx, j, c)
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
		j.Needs = append(j.Needs, LicenceNeeds(j.Licences)...)
	}
	j.travel(c)
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

// LicenceNeeds says that licences are to be accepted, each text once.
func LicenceNeeds(licences []plan.Licence) (needs []Need) {
	for _, l := range plan.Distinct(licences) {
		needs = append(needs, Need{Area: Licence, Flag: "--accept-eula",
			Reason: hypervisor.Reason{Subject: l.Title(), Text: fmt.Sprintf("it has to be accepted (descriptor, line %d)", l.EULA.Pos().Line)}})
	}
	return needs
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
func (s *Subject) put(ctx context.Context, j *Judgement, l Local) error {
	for _, m := range j.Machines {
		if len(m.Machine.Serials) == 0 {
			m.Machine.Serials = []hypervisor.Serial{{ID: "console"}}
		}
		for k := range m.Machine.NICs {
			m.Machine.NICs[k].HostNetwork = l.Network
		}
	}
	if l.Dir != "" {
		if err := stage.Space(l.Dir, j.Machines); err != nil {
			j.refuse(Storage, "folder "+l.Dir, "%v", err)
		}
	}
	var machines []hypervisor.Machine
	for _, m := range j.Machines {
		x := m.Machine
		x.Drives = slices.Clone(x.Drives)
		for k := range x.Drives {
			if d := &x.Drives[k]; d.Medium == nil && (m.Disks[d.ID] != nil || m.Files[d.ID] != nil) {
				d.Medium = &hypervisor.Medium{Format: "raw", Path: "/" + d.ID} // which is made later
			}
		}
		machines = append(machines, x)
	}
	return j.check(ctx, l.Driver, machines)
}

// check asks a target whether it could make the machines, where it can be asked
// and there is no reason yet why not.
func (j *Judgement) check(ctx context.Context, target any, machines []hypervisor.Machine) error {
	c, ok := target.(hypervisor.Checker)
	if !ok || len(j.Reasons) > 0 {
		return nil
	}
	for _, m := range machines {
		if err := j.unfit(Hardware, c.Check(ctx, m)); err != nil {
			return err
		}
	}
	return nil
}

// place chooses networks and pool, and makes the plan.
func (s *Subject) place(ctx context.Context, j *Judgement, h Host, c Choices) error {
	j.properties()
	if j.Capabilities.Imports && (c.Machines.DiskBus != "" || c.Machines.NIC != "") {
		j.refuse(Hardware, "devices", "the host makes machines of packages itself: --disk-bus and --nic are not for it; 'ovation edit' or 'ovation convert' changes the package")
	}
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
	opt.Stored = s.stored(j.Machines)
	for m := range j.Environments {
		if image, err := environment.Image(environment.Document(j.Resolved, m.System, j.Capabilities, opt.Locale), time.Now()); err == nil {
			opt.EnvironmentBytes = max(opt.EnvironmentBytes, int64(len(image)))
		}
	}
	if c.AcceptLicences {
		opt.Acceptances = nil
		at := opt.Made // where it was chosen, it is when they were accepted
		if at.IsZero() {
			at = time.Now()
		}
		for _, l := range j.Licences {
			opt.Acceptances = append(opt.Acceptances, l.Accept(opt.Locale, opt.By, at))
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
	j.Plan.Notes = append(j.Plan.Notes, j.Notes...)
	if j.Capabilities.Imports && c.Prepare != nil {
		if err := j.unfit(Hardware, c.Prepare(ctx, j.Resolved, j.Plan)); err != nil {
			return err
		}
	}
	var machines []hypervisor.Machine
	for _, m := range j.Plan.Machines {
		machines = append(machines, m.Machine)
	}
	if err := j.check(ctx, h, machines); err != nil || c.Taken == nil {
		return err
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

// stored is how many bytes the disks take in the package, as far as it is known.
func (s *Subject) stored(machines []*deploy.Planned) map[string]int64 {
	sizes := map[string]int64{}
	for _, m := range machines {
		for _, d := range m.Disks {
			if d.File != nil && sizes[d.ID] == 0 {
				sizes[d.ID] = max(0, s.pkg.StoredSize(d.File.Href))
			}
		}
	}
	return sizes
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
	_, asked := h.(hypervisor.Checker)
	for _, n := range j.Networks {
		subject := "network " + cmp.Or(n.Name, "(unnamed)")
		i := slices.IndexFunc(have, func(h hypervisor.Network) bool { return h.Name == n.Host })
		switch {
		case i < 0 && n.Host != "" && !asked: // else the host says it, which knows other names too
			var has []string
			for _, h := range have {
				has = append(has, h.Name)
			}
			j.refuse(Network, subject, "the host has no network %q (--network); it has %s", n.Host, cmp.Or(strings.Join(has, ", "), "none"))
		case i >= 0 && !have[i].Active && c.Plan.Start:
			j.refuse(Network, subject, "it would lead to %s, which is not active, so that no machine on it can start; --network chooses another", n.Host)
		case i >= 0 && !have[i].Active:
			j.note(subject, "it leads to %s, which is not active: no machine on it can start before that is", n.Host)
		}
	}
	return nil
}

func (j *Judgement) note(subject, format string, a ...any) {
	j.Notes = append(j.Notes, deploy.Note{Subject: subject, Text: fmt.Sprintf(format, a...)})
}
