package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/apply"
	"github.com/ovation-project/ovation/deploy/fit"
	"github.com/ovation-project/ovation/deploy/journal"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/deploy/portability"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/qemu"
	"github.com/ovation-project/ovation/internal/term"
	"github.com/ovation-project/ovation/internal/workdir"
)

// localTarget is how the QEMU of this computer is named among targets.
const localTarget = "qemu"

// fitFlags are what fit is told: what deploy and run are told, as far as it
// decides whether a package fits.
type fitFlags struct {
	machineFlags
	to         []string
	name       string
	networks   []string
	pool       string
	diskFormat string
	locale     string
	acceptEULA bool
	start      bool
	verify     bool
	trust      trustFlags
	travel     travelFlags
}

func newFitCommand(a *app) *cobra.Command {
	var f fitFlags
	c := &cobra.Command{
		Use:   "fit LOCATOR --to TARGET...",
		Short: "Say whether an appliance can be deployed to targets, and why not",
		Long: `Judge whether an appliance can be deployed to one or several targets, and say
every reason against it with what would help: hardware, storage, networks, the
trust policy, integrity, licences, required sections; and the portability level
of the package. Several targets are ranked, the best first. Nothing is made.

A target is the URI of a host, as deploy takes it, or ` + localTarget + `: the QEMU of this
computer, which 'ovation run' starts. What fit says is what these two go by, with
the same choices.

The exit code is 0 where a target fits (also where you have to add something
first, such as accepting a licence), 5 where none does, and 4 where the package is
not trusted or not intact. --verify reads all of the package to see that;
otherwise only its descriptor and the beginnings of its disks are looked at, and of
standard input what stands before the disks.`,
		Example: `  ovation fit appliance.ova --to qemu:///system
  ovation fit appliance.ova --to qemu --to qemu:///system --to qemu+ssh://root@host/system
  ovation fit https://example.org/appliance.ova --to qemu:///system --option large --json
  ovation fit appliance.ova --to qemu --min-portability 3
  curl -s https://example.org/appliance.ova | ovation fit - --to qemu:///system`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.fit(c.Context(), args[0], f) },
	}
	fl := c.Flags()
	fl.StringArrayVar(&f.to, "to", nil, "a target: the URI of a host, such as qemu:///system, or "+localTarget+" for the QEMU of this computer; again for more")
	fl.StringVar(&f.name, "name", "", "name of the deployment on the host, instead of the appliance's own")
	fl.StringArrayVar(&f.networks, "network", nil, "where a network of the appliance leads, as 'NAME=HOST NETWORK', or all of them, as 'HOST NETWORK'; again for more")
	fl.StringVar(&f.pool, "pool", "", "storage pool for the disks, instead of the host's first")
	fl.StringVar(&f.diskFormat, "disk-format", "", "format of the disks, such as qcow2 or raw (the pool's best here, raw elsewhere)")
	fl.StringVar(&f.locale, "locale", "", "language of texts, such as de")
	fl.BoolVar(&f.acceptEULA, "accept-eula", false, "take the licences of the appliance to be accepted")
	fl.BoolVar(&f.start, "start", false, "take it that the machines are to be started, too")
	fl.BoolVar(&f.verify, "verify", false, "read all files, and compare them with the manifest")
	f.machineFlags.register(c)
	f.trust.register(fl)
	f.travel.register(c)
	completeWith(c, "to", targetExamples())
	return c
}

// targetExamples are targets as people write them.
func targetExamples() []string {
	targets := []string{localTarget}
	for _, s := range hostSchemes {
		targets = append(targets, s.example)
	}
	return targets
}

func (f *fitFlags) choices() (c fit.Choices, err error) {
	if len(f.to) == 0 {
		return c, usagef("--to names a target: %s", strings.Join(targetExamples(), " or "))
	}
	if c.Machines, err = f.machineFlags.choices(); err != nil {
		return c, err
	}
	if c.Resolve, err = f.resolveOptions(); err != nil {
		return c, err
	}
	c.Resolve.Locale = f.locale
	if f.name != "" {
		if err := plan.CheckName(f.name); err != nil {
			return c, usagef("--name: %w", err)
		}
	}
	c.Networks, c.Pool, c.AcceptLicences = f.networks, f.pool, f.acceptEULA
	c.Plan = plan.Options{Name: f.name, DiskFormat: f.diskFormat, Locale: f.locale, By: deployer(), Start: f.start}
	return c, f.travel.choose(&c)
}

func (a *app) fit(ctx context.Context, locator string, f fitFlags) (err error) {
	choices, err := f.choices()
	if err != nil {
		return err
	}
	policy, store, err := f.trust.resolve()
	if err != nil {
		return err
	}
	subject, closer, err := a.openFit(ctx, locator, fit.ExamineOptions{Policy: policy, Store: store, Verify: f.verify})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closer()) }()
	judged, err := a.judgeAll(ctx, subject, f.to, choices)
	if err != nil {
		return err
	}
	fit.Rank(judged)
	if err := a.showFit(subject, judged, f.verify); err != nil {
		return err
	}
	switch fit.Best(judged) {
	case fit.Fits, fit.Needs:
		return nil
	}
	var refused error
	for _, j := range judged {
		refused = errors.Join(refused, j.Err())
	}
	return reportedError{refused}
}

// openFit opens the package and examines it. What can be read once only is examined
// by what stands before its files, or all of it where it is to be verified.
func (a *app) openFit(ctx context.Context, locator string, opt fit.ExamineOptions) (_ *fit.Subject, closer func() error, err error) {
	pkg, in, err := a.openOnce(ctx, locator)
	if err != nil {
		return nil, nil, err
	}
	if in == nil {
		s, err := a.examineAll(ctx, pkg, opt)
		if err != nil {
			return nil, nil, errors.Join(err, pkg.Close())
		}
		return s, pkg.Close, nil
	}
	o, err := a.begin(ctx, locator, in, "fit - --to URI")
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.Close())
		}
	}()
	if opt.Verify {
		o.progress = a.newProgress()
		defer o.progress.Wait()
		o.Expect(nil, nil)
		_, s, err := o.finish(ctx, opt.Policy, opt.Store)
		return s, o.Close, err
	}
	s, err := fit.Examine(ctx, o.Package(), opt)
	if err == nil {
		s.LookBy(o)
	}
	return s, o.Close, err
}

// examineAll looks at a package, with progress where all of it is read.
func (a *app) examineAll(ctx context.Context, pkg *appliance.Package, opt fit.ExamineOptions) (*fit.Subject, error) {
	if !opt.Verify {
		return fit.Examine(ctx, pkg, opt)
	}
	progress := a.newProgress()
	defer progress.Wait()
	task := progress.Track(pkg.Locator(), pkg.Size())
	opt.Progress = task.Add
	s, err := fit.Examine(ctx, pkg, opt)
	task.Done(err)
	return s, err
}

// judgeAll judges for every target. A choice that can't be is an error; a target
// that can't be asked is said in its judgement.
func (a *app) judgeAll(ctx context.Context, subject *fit.Subject, targets []string, c fit.Choices) ([]*fit.Judgement, error) {
	judged := make([]*fit.Judgement, len(targets))
	var g errgroup.Group
	g.SetLimit(4)
	var mu sync.Mutex
	var wrong []error
	for i, to := range targets {
		g.Go(func() error {
			j, err := a.judgeTarget(ctx, subject, to, c)
			if err != nil {
				err = judgeError(err)
				j = &fit.Judgement{Target: withoutSecrets(to), Unreachable: err}
			}
			if code := exitCode(err); err != nil && (code == exitUsage || code == exitInvalid) {
				mu.Lock()
				defer mu.Unlock()
				wrong = append(wrong, err)
			}
			judged[i] = j
			return nil
		})
	}
	if err := errors.Join(g.Wait(), ctx.Err()); err != nil {
		return nil, err
	}
	if len(wrong) > 0 {
		return nil, wrong[0]
	}
	return judged, nil
}

func (a *app) judgeTarget(ctx context.Context, subject *fit.Subject, to string, c fit.Choices) (_ *fit.Judgement, err error) {
	if to == localTarget {
		return subject.OnLocal(ctx, fit.Local{Driver: qemu.New(qemu.Options{Log: a.log}), Network: qemu.NetworkUser, Dir: workdir.Base()}, c)
	}
	host, err := a.openHost(ctx, to)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	store, err := journal.Default()
	if err != nil {
		return nil, err
	}
	c.Prepare = a.prepareImport(&deployment{host: host, pkg: subject.Package()})
	c.Taken = func(ctx context.Context, p *plan.Plan) ([]string, error) { return apply.Taken(ctx, host, store, p) }
	return subject.OnHost(ctx, host, c)
}

// fitReport is what --json prints.
type fitReport struct {
	APIVersion string `json:"apiVersion"`
	Locator    string `json:"locator"`
	// Trust is the verdict on the package in words; unless Verified is set, it
	// is the one that it has if its files are what the manifest says.
	Trust    string `json:"trust"`
	Verified bool   `json:"verified"`
	// Portability is the level for the deployment option and the virtual
	// systems that were judged.
	Portability *portability.Assessment `json:"portability,omitempty"`
	// Option is the deployment option, "" where the package has none.
	Option string `json:"option,omitempty"`
	// Targets are ranked, the best first.
	Targets []fitTarget `json:"targets"`
}

type fitTarget struct {
	Target  string      `json:"target"`
	Verdict fit.Verdict `json:"verdict"`
	// Error is why the target could not be asked.
	Error        string                   `json:"error,omitempty"`
	Driver       string                   `json:"driver,omitempty"`
	Version      string                   `json:"version,omitempty"`
	Acceleration *hypervisor.Acceleration `json:"acceleration,omitempty"`
	// Families are those of virtual hardware that the target is of; MadeFor
	// says that the package can run on one of them by what its descriptor says.
	Families []deploy.Family `json:"families"`
	MadeFor  bool            `json:"madeFor"`
	// Differences counts the notes that say how a guest's hardware differs.
	Differences int          `json:"differences"`
	Reasons     []fit.Reason `json:"reasons"`
	Needs       []fit.Need   `json:"needs"`
	// Notes are those of the machines too.
	Notes          []deploy.Note  `json:"notes"`
	OptionsThatFit []string       `json:"optionsThatFit,omitempty"`
	Pool           string         `json:"pool,omitempty"`
	Networks       []plan.Network `json:"networks,omitempty"`
}

func (a *app) showFit(s *fit.Subject, judged []*fit.Judgement, verified bool) error {
	report := fitReport{APIVersion: "ovation/fit/v1", Locator: s.Package().Locator(), Trust: s.Trust().String(), Verified: verified}
	for _, j := range judged {
		if report.Portability == nil {
			report.Portability = j.Portability
		}
		if j.Resolved != nil && j.Resolved.Option != nil {
			report.Option = j.Resolved.Option.ID
		}
		report.Targets = append(report.Targets, fitTargetOf(j))
	}
	if a.json {
		return a.printJSON(report)
	}
	trust := report.Trust
	if !verified && s.Package().Manifest() != nil {
		trust += ", if its files are what the manifest says (--verify sees to that)"
	}
	facts(a.out, 0, [][2]string{{"Package", report.Locator}, {"Trust", trust}, {"Option", report.Option}})
	if report.Portability != nil {
		printPortability(a.out, report.Portability)
	}
	a.out.Printf("\n")
	t := term.NewTable("TARGET", "VERDICT", "HYPERVISOR", ">DIFFERENCES", ">REASONS")
	for _, x := range report.Targets {
		hypervisor := strings.TrimSpace(x.Driver + " " + x.Version)
		if x.Acceleration != nil {
			hypervisor += " (" + x.Acceleration.Kind + ")"
		}
		if x.Error != "" {
			t.Row(x.Target, verdictWords[x.Verdict])
			continue
		}
		t.Row(x.Target, verdictWords[x.Verdict], hypervisor, fmt.Sprint(x.Differences), fmt.Sprint(len(x.Reasons)))
	}
	t.Print(a.out)
	for _, x := range report.Targets {
		a.printTarget(x, report.Portability)
	}
	return nil
}

var verdictWords = map[fit.Verdict]string{fit.Fits: "fits", fit.Needs: "fits, and needs something of you", fit.Unfit: "does not fit", fit.Unknown: "could not be asked"}

func fitTargetOf(j *fit.Judgement) fitTarget {
	x := fitTarget{Target: j.Target, Verdict: j.Verdict(), MadeFor: j.MadeFor, Differences: j.Differences(), Reasons: append([]fit.Reason{}, j.Reasons...),
		Needs: append([]fit.Need{}, j.Needs...), Notes: append([]deploy.Note{}, j.Notes...), OptionsThatFit: j.OptionsThatFit, Pool: j.Pool, Networks: j.Networks}
	if j.Unreachable != nil {
		x.Error = j.Unreachable.Error()
	}
	if c := j.Capabilities; c != nil {
		x.Driver, x.Version, x.Acceleration, x.Families = c.Driver, c.Version, &c.Acceleration, deploy.FamiliesOf(c.Families)
	}
	for _, m := range j.Machines {
		x.Notes = append(x.Notes, m.Notes...)
	}
	return x
}

// printTarget shows what there is to say of one target.
func (a *app) printTarget(x fitTarget, p *portability.Assessment) {
	section(a.out, x.Target+": "+verdictWords[x.Verdict])
	line := func(mark, text string) { a.out.Printf("  %s %s\n", mark, term.CleanText(text)) }
	if x.Error != "" {
		line(a.out.Styled(term.Red, "error:"), x.Error)
	}
	for _, r := range x.Reasons {
		line(a.out.Styled(term.Red, string(r.Area)+":"), r.String())
	}
	if len(x.OptionsThatFit) > 0 {
		line("option:", "with --option it would fit: "+strings.Join(x.OptionsThatFit, ", "))
	}
	for _, n := range x.Needs {
		line(a.out.Styled(term.Yellow, string(n.Area)+":"), n.String()+" ("+n.Flag+")")
	}
	if p != nil && len(p.Families) > 0 && !x.MadeFor && len(x.Families) > 0 {
		line("family:", fmt.Sprintf("the package is for %s, and this is %s: its devices are given one by one", familyNames(p.Families), familyNames(x.Families)))
	}
	if x.Pool != "" {
		line("pool:", x.Pool)
	}
	for _, n := range x.Networks {
		line("network:", fmt.Sprintf("%s leads to %s", cmp.Or(n.Name, "(unnamed)"), cmp.Or(n.Host, "the host's own")))
	}
	for _, n := range x.Notes {
		mark := "note:"
		if n.Differs {
			mark = "differs:"
		}
		line(mark, strings.TrimPrefix(n.String(), ": "))
	}
}

// printPortability shows the level with its reasons.
func printPortability(p *term.Printer, a *portability.Assessment) {
	level := a.Level.String()
	if len(a.Families) > 0 {
		level += " (" + familyNames(a.Families) + ")"
	}
	facts(p, 0, [][2]string{{"Portability", level}})
	for _, r := range a.Reasons {
		p.Printf("  at most %d: %s\n", r.Level, term.CleanText(r.String()))
		p.Printf("    to raise it: %s\n", term.CleanText(r.Raise))
	}
}

func familyNames(families []deploy.Family) string {
	var names []string
	for _, f := range families {
		names = append(names, f.String())
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
