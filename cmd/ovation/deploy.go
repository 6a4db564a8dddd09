package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/trust"
	"github.com/ovation-project/ovation/appliance/verdict"
	"github.com/ovation-project/ovation/deploy/apply"
	"github.com/ovation-project/ovation/deploy/fit"
	"github.com/ovation-project/ovation/deploy/history"
	"github.com/ovation-project/ovation/deploy/journal"
	"github.com/ovation-project/ovation/deploy/lifecycle"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/deploy/secrets"
	"github.com/ovation-project/ovation/deploy/sequence"
	"github.com/ovation-project/ovation/deploy/stage"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/term"
	"github.com/ovation-project/ovation/internal/workdir"
	"github.com/ovation-project/ovation/ovf"
)

// deployFlags are what deploy is told.
type deployFlags struct {
	machineFlags
	to           string
	name         string
	networks     []string
	pool         string
	diskFormat   string
	provisioning string
	ipAllocation string
	ipProtocol   string
	macs         string
	uuids        string
	locale       string
	acceptEULA   bool
	start        bool
	wait         bool
	dryRun       bool
	noInput      bool
	onFailure    string
	ready        []string
	trust        trustFlags
	travel       travelFlags
}

var uuidChoices = map[string]bool{"keep": true, "new": false}

// onFailure says whether what was made stays where a deployment fails.
var onFailure = map[string]bool{"undo": false, "keep": true}

var macChoices = map[string]plan.MACs{"keep": plan.KeepMACs, "new": plan.NewMACs}

func newDeployCommand(a *app) *cobra.Command {
	var f deployFlags
	c := &cobra.Command{
		Use:   "deploy LOCATOR --to URI",
		Short: "Make an appliance's machines on a host that keeps them",
		Long: `Make the machines of an appliance on a host that keeps them: libvirt, here or
elsewhere. All of it is made, or nothing: what fails, and Ctrl-C, removes what
had been made by then. A program that was killed leaves a journal; deploying the
same again goes on from there, and deploying anything else under that name, or
'ovation rm', removes it first.

Disks go straight into the host's storage pool, without a copy on the way, and
every file is proved by the manifest while that goes on; so they do from standard
input (-), as they come. What is decided for you
is said before anything is made; --dry-run shows the whole plan and makes
nothing. What the host can't give is named, all at once (exit code 5).

On a terminal you are asked for what is missing: which of the host's networks,
values of properties, whether you accept the licences. Elsewhere, and with
--no-input, what has to be given is an error that names the flag (exit code 2).
Who accepted which licence is kept with the machines: the text's digest, the
time and the user.

Deploying again what is deployed already, with the same choices, changes
nothing.`,
		Example: `  ovation deploy appliance.ova --to qemu:///system
  ovation deploy appliance.ova --to qemu+ssh://root@host/system --name web --start
  ovation deploy --dry-run --json --network 'VM Network=default' appliance.ova --to qemu:///system
  ovation deploy https://example.org/appliance.ova --to qemu:///session --property hostname=web1 --accept-eula --start --wait
  curl -s https://example.org/appliance.ova | ovation deploy - --to qemu:///system --accept-eula`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.deploy(c.Context(), args[0], f) },
	}
	fl := c.Flags()
	fl.StringVar(&f.to, "to", "", "the host, such as qemu:///system or qemu+ssh://user@host/system")
	fl.StringVar(&f.name, "name", "", "name of the deployment on the host, instead of the appliance's own")
	fl.StringArrayVar(&f.networks, "network", nil, "where a network of the appliance leads, as 'NAME=HOST NETWORK', or all of them, as 'HOST NETWORK'; again for more")
	fl.StringVar(&f.pool, "pool", "", "storage pool for the disks, instead of the host's first")
	fl.StringVar(&f.diskFormat, "disk-format", "", "format of the disks, such as qcow2 or raw (the pool's best here, raw elsewhere)")
	fl.StringVar(&f.provisioning, "provisioning", "host", "how vSphere lays out disks: "+words(provisionings))
	fl.StringVar(&f.ipAllocation, "ip-allocation", "package", "how vSphere gives guests addresses: "+words(ipAllocations))
	fl.StringVar(&f.ipProtocol, "ip-protocol", "package", "the addresses that vSphere gives them: "+words(ipProtocols))
	fl.StringVar(&f.macs, "mac", "keep", "addresses of network cards: keep the descriptor's, or new ones")
	fl.StringVar(&f.uuids, "uuid", "new", "the UUIDs that guests see: keep the descriptor's, or new ones")
	fl.StringVar(&f.locale, "locale", "", "language of texts, and of the guests, such as de")
	fl.BoolVar(&f.acceptEULA, "accept-eula", false, "accept the licences of the appliance ('ovation inspect' shows them)")
	fl.BoolVar(&f.start, "start", false, "start the machines, in their order")
	fl.BoolVar(&f.wait, "wait", false, "start them, and wait until the guests say that they are ready")
	fl.StringArrayVar(&f.ready, "ready", nil, "how a guest says that it is ready, as [SYSTEM=]agent or [SYSTEM=]ADDRESS:PORT, with ,LIMIT for the longest wait (5m); what starts after it waits; again for more")
	fl.StringVar(&f.onFailure, "on-failure", "undo", "where it fails: undo what was made, or keep it, so that the same command goes on later")
	fl.BoolVar(&f.dryRun, "dry-run", false, "show the plan, and make nothing")
	fl.BoolVar(&f.noInput, "no-input", false, "ask nothing, also where there is a terminal")
	f.machineFlags.register(c)
	f.trust.register(fl)
	f.travel.register(c)
	completeWith(c, "uuid", keys(uuidChoices))
	_ = c.RegisterFlagCompletionFunc("to", completeTargets)
	_ = c.RegisterFlagCompletionFunc("pool", a.completeOf(&f.to, func(ctx context.Context, h hypervisor.Host) (names []string) {
		pools, _ := h.Pools(ctx)
		for _, p := range pools {
			names = append(names, p.Name)
		}
		return names
	}))
	_ = c.RegisterFlagCompletionFunc("network", a.completeOf(&f.to, func(ctx context.Context, h hypervisor.Host) (names []string) {
		networks, _ := h.Networks(ctx)
		for _, n := range networks {
			names = append(names, n.Name)
		}
		return names
	}))
	completeWith(c, "on-failure", keys(onFailure))
	completeWith(c, "ip-allocation", keys(ipAllocations))
	completeWith(c, "ip-protocol", keys(ipProtocols))
	completeWith(c, "mac", keys(macChoices))
	return c
}

// deployment is what a deploy is decided from, and what was decided.
type deployment struct {
	flags    deployFlags
	policy   verdict.Policy
	store    *trust.Store
	choices  fit.Choices
	host     hypervisor.Host
	asked    fit.Host // the same, of which everything is judged by the same answers
	caps     *hypervisor.Capabilities
	pkg      *appliance.Package
	once     *once // nil where the package can be read again
	subject  *fit.Subject
	resolved *ovf.Resolved
	plan     *plan.Plan
	secrets  secrets.Values
	keep     bool // what was made, where it fails
}

func (a *app) deploy(ctx context.Context, locator string, f deployFlags) (err error) {
	defer littleGarbage()()
	d := &deployment{flags: f}
	if err := d.choose(); err != nil {
		return err
	}
	if d.host, err = a.openHost(ctx, f.to); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.host.Close()) }()
	d.asked = fit.Asked(d.host)
	closer, err := a.openDeploy(ctx, locator, d)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closer()) }()
	if err := a.planDeploy(ctx, d); err != nil {
		return err
	}
	if f.dryRun {
		return a.showPlan(d.plan)
	}
	return a.applyDeploy(ctx, d)
}

// choose reads the flags.
func (d *deployment) choose() (err error) {
	f := &d.flags
	if f.to == "" {
		return usagef("--to names the host, such as qemu:///system")
	}
	f.start = f.start || f.wait
	c := &d.choices
	if c.Machines, err = f.machineFlags.choices(); err != nil {
		return err
	}
	if c.Resolve, err = f.resolveOptions(); err != nil {
		return err
	}
	c.Resolve.Locale = f.locale
	if f.name != "" {
		if err := plan.CheckName(f.name); err != nil {
			return usagef("--name: %w", err)
		}
	}
	c.Networks, c.Pool, c.AcceptLicences = f.networks, f.pool, f.acceptEULA
	c.Plan = plan.Options{Name: f.name, DiskFormat: f.diskFormat, Locale: f.locale, By: deployer(), Start: f.start}
	if c.Plan.KeepUUIDs, err = word("uuid", f.uuids, uuidChoices); err != nil {
		return err
	}
	if c.Plan.MACs, err = word("mac", f.macs, macChoices); err != nil {
		return err
	}
	if c.Plan.IPAllocation, err = word("ip-allocation", f.ipAllocation, ipAllocations); err != nil {
		return err
	}
	if c.Plan.IPProtocol, err = word("ip-protocol", f.ipProtocol, ipProtocols); err != nil {
		return err
	}
	if c.Plan.Provisioning, err = word("provisioning", f.provisioning, provisionings); err != nil {
		return err
	}
	if err := f.travel.choose(c); err != nil {
		return err
	}
	if d.keep, err = word("on-failure", f.onFailure, onFailure); err != nil {
		return err
	}
	d.policy, d.store, err = f.trust.resolve()
	return err
}

// openDeploy opens the package and judges it. Of what can be read once only, that
// is what stands before its files: those go into their places as they come.
func (a *app) openDeploy(ctx context.Context, locator string, d *deployment) (closer func() error, err error) {
	pkg, in, err := a.openOnce(ctx, locator)
	if err != nil {
		return nil, err
	}
	closer = func() error { return d.pkg.Close() }
	if in != nil {
		if d.once, err = a.begin(ctx, locator, in, "deploy - --to URI"); err != nil {
			return nil, err
		}
		pkg, closer = d.once.Package(), d.once.Close
		// What is decided again when all has come is decided for the same moment.
		d.choices.Plan.Made = time.Now()
	}
	d.pkg = pkg
	if d.subject, err = a.examine(ctx, pkg, fit.ExamineOptions{Policy: d.policy, Store: d.store}); err != nil {
		return nil, errors.Join(err, closer())
	}
	if d.once != nil {
		d.subject.LookBy(d.once)
	}
	return closer, nil
}

func (a *app) stageOptions(dir string, progress *term.Progress) stage.Options {
	return stage.Options{Dir: dir, Log: a.log,
		Note: func(s string) { a.note("%s", s) },
		Task: func(name string, total int64) stage.Task { return progress.Track(name, total) }}
}

// planDeploy decides everything, and makes nothing. What is missing is asked for
// where there is somebody to ask.
func (a *app) planDeploy(ctx context.Context, d *deployment) error {
	d.choices.Prepare = a.prepareImport(d)
	_, imports := d.host.(hypervisor.Importer)
	if !imports && (d.choices.Plan.IPAllocation != "" || d.choices.Plan.IPProtocol != "") {
		return usagef("--ip-allocation and --ip-protocol are for vSphere, which gives guests addresses; elsewhere the network does, or a property")
	}
	if imports && (d.choices.Machines.DiskBus != "" || d.choices.Machines.NIC != "") {
		return usagef("--disk-bus and --nic are not for a host that makes machines of packages itself: 'ovation edit' or 'ovation convert' changes the package")
	}
	j, err := a.judge(ctx, d)
	if err != nil {
		return err
	}
	if d.choices.Plan.Ready, err = probes(d.flags.ready, j); err != nil {
		return err
	}
	asked := false
	if !d.flags.noInput {
		if asked, err = a.askMissing(ctx, d, j); err != nil {
			return err
		}
	}
	if asked || len(d.choices.Plan.Ready) > 0 {
		if j, err = a.judge(ctx, d); err != nil {
			return err
		}
	}
	if len(j.Needs) > 0 {
		return needError(j.Needs)
	}
	d.resolved, d.caps, d.plan, d.secrets = j.Resolved, j.Capabilities, j.Plan, j.Secrets
	return nil
}

// probes reads how guests are asked whether they are ready, by the IDs of their
// virtual systems.
func probes(words []string, j *fit.Judgement) (map[string]lifecycle.Probe, error) {
	var ids []string
	for _, m := range j.Machines {
		ids = append(ids, m.System.ID)
	}
	all := map[string]lifecycle.Probe{}
	for _, word := range words {
		id, probe, named := strings.Cut(word, "=")
		switch {
		case !named && len(ids) > 1:
			return nil, usagef("--ready: %q is to name one of the virtual systems %s, as in %s=%s", word, strings.Join(ids, ", "), ids[0], word)
		case !named:
			id, probe = ids[0], word
		case !slices.Contains(ids, id):
			return nil, usagef("--ready: there is no virtual system %q among %s", id, strings.Join(ids, ", "))
		}
		p, err := lifecycle.ParseProbe(probe)
		if err != nil {
			return nil, usagef("--ready: %w", err)
		}
		all[id] = p
	}
	return all, nil
}

// judge judges by the choices so far. It fails where something speaks against
// deploying, whatever else is chosen.
func (a *app) judge(ctx context.Context, d *deployment) (*fit.Judgement, error) {
	j, err := d.subject.OnHost(ctx, d.asked, d.choices)
	if err != nil {
		return nil, judgeError(err)
	}
	return j, j.Err()
}

// deployer is who deploys, and where.
func deployer() string {
	name := ""
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

func (a *app) showPlan(p *plan.Plan) error {
	if a.json {
		return a.printJSON(p)
	}
	a.notePlan(p)
	for _, m := range p.Machines {
		a.out.Heading(m.Name)
		a.out.Printf("%d CPUs, %s of memory, %s firmware\n", m.CPU.Count, term.Size(m.Memory.Bytes), m.Firmware.Kind)
		a.printDevices(m.Machine, func(d hypervisor.Medium) string { return d.Volume.Pool + "/" + d.Volume.Name },
			func(n hypervisor.NIC) string {
				return fmt.Sprintf("%s on %s", cmp.Or(n.Network, "none"), cmp.Or(n.HostNetwork, "the host's own"))
			})
		a.out.Printf("\n")
	}
	if p.Import != nil {
		a.showImport(p.Import)
		return a.showSteps(p)
	}
	t := term.NewTable("VOLUME", "FORMAT", ">SIZE", "CONTENT", "USED BY")
	for _, v := range p.Volumes {
		content := string(v.Content)
		if name := cmp.Or(v.File, v.Disk); name != "" {
			content = name
		}
		var uses []string
		for _, u := range v.Uses {
			uses = append(uses, u.Machine)
		}
		t.Row(v.Pool+"/"+v.Name, v.Format, term.Size(v.CapacityBytes), content, strings.Join(uses, ", "))
	}
	t.Print(a.out)
	a.out.Printf("\n")
	return a.showSteps(p)
}

func (a *app) showSteps(p *plan.Plan) error {
	a.out.Heading("Steps")
	for i, s := range p.Steps {
		a.out.Printf("%2d. %s\n", i+1, term.Clean(s.String()))
	}
	return nil
}

// notePlan says what a person should know before anything is made.
func (a *app) notePlan(p *plan.Plan) {
	for _, n := range p.Notes {
		a.note("%s: %s", n.Subject, n.Text)
	}
	for _, n := range p.Networks {
		if n.Reason != "" {
			a.note("network %s is connected to %s: %s; --network chooses another", cmp.Or(n.Name, "(unnamed)"), n.Host, n.Reason)
		}
	}
	for _, m := range p.Machines {
		for _, n := range m.Notes {
			a.note("%s", n)
		}
	}
}

// deployResult is what was made; it is what --json prints.
type deployResult struct {
	APIVersion string   `json:"apiVersion"`
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	Target     string   `json:"target"`
	Machines   []string `json:"machines"`
	// Existed says that it was there already, and nothing was changed.
	Existed bool `json:"existed,omitempty"`
	Started bool `json:"started,omitempty"`
}

// applyDeploy makes what was planned.
func (a *app) applyDeploy(ctx context.Context, d *deployment) error {
	store, err := journal.Default()
	if err != nil {
		return err
	}
	there, err := d.existing(ctx, store)
	if err != nil {
		return err
	}
	if there != nil {
		a.note("%s is deployed already, with the same choices: nothing is changed", there.Name)
		return a.showDeployed(there, true)
	}
	a.notePlan(d.plan)
	if _, err := workdir.Sweep(""); err != nil {
		return err
	}
	before, err := store.List()
	if err != nil {
		return err
	}
	j, err := apply.Begin(ctx, d.host, store, d.plan, func(s string) { a.note("%s", s) })
	a.noteUndone(store, before)
	if err != nil {
		return err
	}
	d.plan = j.Plan()
	if err := secrets.Keep(j.Folder(), d.secrets); err != nil {
		return errors.Join(err, apply.Undo(ctx, d.host, j))
	}
	progress := a.newProgress()
	var content apply.Content = stage.NewContent(d.pkg, a.stageOptions(workdir.Base(), progress))
	var settle func(context.Context) (*plan.Plan, error)
	if d.once != nil {
		defer boundedMemory()()
		d.once.progress = progress
		content, settle = d.once, func(ctx context.Context) (*plan.Plan, error) { return a.settle(ctx, d) }
		d.expect()
	}
	var notReady error
	err = apply.Apply(ctx, d.host, j, apply.Options{
		Source: apply.PackageSource(d.plan, d.resolved, d.caps, content),
		Settle: settle,
		Start: func(ctx context.Context) error {
			progress.Wait()
			err := lifecycle.Start(ctx, d.host, d.plan.ID, lifecycle.Options{Secrets: d.secrets, Wait: d.flags.wait, Told: a.tellEvent})
			if errors.Is(err, sequence.ErrNotReady) && ctx.Err() == nil {
				// It runs, and whoever deploys may see why it is not ready.
				notReady, err = err, nil
			}
			return err
		},
		Import: a.runImport(d, progress),
		Keep:   d.keep,
		Note:   func(s string) { a.note("%s", s) },
		Log:    a.log,
	})
	progress.Wait()
	a.noteDeployed(d.plan, err)
	undone, kept := (*apply.UndoneError)(nil), (*apply.KeptError)(nil)
	if errors.As(err, &undone) && undone.Left != nil || errors.As(err, &kept) && ctx.Err() != nil {
		return errors.New(err.Error()) // whatever it was, something is left
	}
	if err != nil {
		return err
	}
	return errors.Join(a.showDeployed(d.plan, false), notReady)
}

// noteDeployed writes into the history that a plan was carried out, or why not.
func (a *app) noteDeployed(p *plan.Plan, failed error) {
	act := history.Act{What: history.Deployed}
	if failed != nil {
		act.What, act.Text = history.Failed, failed.Error()
	}
	a.noteAct(p, act)
}

// noteUndone writes into the history which unfinished deployments are gone.
func (a *app) noteUndone(store journal.Store, before []*journal.State) {
	for _, s := range before {
		if !s.Unfinished() {
			continue
		}
		if _, err := store.Look(s.Plan.ID); errors.Is(err, fs.ErrNotExist) {
			a.noteAct(s.Plan, history.Act{What: history.Undone})
		}
	}
}

func (a *app) noteAct(p *plan.Plan, act history.Act) {
	act.Time, act.By = time.Now().UTC(), deployer()
	log, err := history.Default()
	if err == nil {
		err = log.Add(history.Line{Deployment: p.ID, Name: p.Name, Target: p.Target, Act: act})
	}
	if err != nil {
		a.warn("the history does not have it: %v", err)
	}
}

// existing finds the same deployment, complete; nil where there is none.
func (d *deployment) existing(ctx context.Context, store journal.Store) (*plan.Plan, error) {
	states, err := store.List()
	if err != nil {
		return nil, err
	}
	for _, s := range states {
		if !s.Complete || s.Removed || !s.Same(d.plan) && !d.alike(s) {
			continue
		}
		whole := true
		for _, m := range s.Plan.Machines {
			kept, err := d.host.Lookup(ctx, m.Name)
			if err != nil && !errors.Is(err, hypervisor.ErrNotFound) {
				return nil, err
			}
			whole = whole && err == nil && kept.Record != nil && kept.Record.Deployment == s.Plan.ID
		}
		if whole && !s.Same(d.plan) {
			if err := d.sameContent(ctx, s.Plan); err != nil {
				return nil, err
			}
		}
		if whole {
			return s.Plan, nil
		}
	}
	return nil, nil
}

// showDeployed says what there is now.
func (a *app) showDeployed(p *plan.Plan, existed bool) error {
	r := deployResult{APIVersion: "ovation/deployment/v1", ID: p.ID, Name: p.Name, Target: p.Target, Existed: existed}
	for _, m := range p.Machines {
		r.Machines = append(r.Machines, m.Name)
	}
	for _, s := range p.Steps {
		r.Started = r.Started || s.Do == plan.Start
	}
	if a.json {
		return a.printJSON(r)
	}
	if existed {
		return nil
	}
	a.out.Printf("%s is deployed to %s: %s\n", term.Clean(p.Name), term.Clean(p.Target), term.Clean(strings.Join(r.Machines, ", ")))
	if !r.Started {
		a.note("ovation start %s starts it", p.Name)
	}
	return nil
}
