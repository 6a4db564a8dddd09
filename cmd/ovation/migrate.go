package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/author/export"
	"github.com/ovation-project/ovation/deploy/apply"
	"github.com/ovation-project/ovation/deploy/history"
	"github.com/ovation-project/ovation/deploy/journal"
	"github.com/ovation-project/ovation/deploy/lifecycle"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/deploy/secrets"
	"github.com/ovation-project/ovation/deploy/stage"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/term"
	"github.com/ovation-project/ovation/internal/workdir"
	"github.com/ovation-project/ovation/migrate"
)

type migrateFlags struct {
	hardwareFlags
	propertyFlags
	name       string
	networks   []string
	pool       string
	diskFormat string
	provision  string
	mac        string
	uuid       string
	live       bool
	shutdown   bool
	grace      time.Duration
	start      bool
	wait       bool
	remove     bool
	noVerify   bool
	onFailure  string
	dryRun     bool
}

func newMigrateCommand(a *app) *cobra.Command {
	var f migrateFlags
	c := &cobra.Command{
		Use:   "migrate FROM TO",
		Short: "Take machines from the host that has them to another one",
		Long: `Take a machine from the host that has it to another one, in one pass: what its
disks hold goes from host to host as it is read, without a package in between.
FROM is a machine behind the URI of its host, or what 'ovation deploy' made there:
all of its machines then, with their order, properties and licences; or the folder
in which 'ovation run --keep' left machines. TO is the URI of a host.

What will be another at the target is said first; --dry-run shows the whole plan
and does nothing to either host. All of it is made, or nothing. What was read has
a digest, and the target is read back and compared with it.

A machine that runs is refused, unless --shutdown has it power off first (it runs
again where it was if the migration fails), or --live takes its disks by a
snapshot and lets it go on. The source is only read; --remove-source removes it
when the machines run at the target. The same command later goes on with that.

A program that was killed leaves a journal: the same command again goes on, and
disks that are whole at the target, and at the source still the same, are not
sent again.`,
		Example: `  ovation migrate qemu:///system/web qemu+ssh://root@host/system --dry-run
  ovation migrate qemu:///system/web qemu+ssh://root@host/system --shutdown --start
  ovation migrate qemu+ssh://old/system/shop qemu+ssh://new/system --shutdown --wait --remove-source --network 'LAN=br0'
  ovation migrate ./kept qemu:///system --start --remove-source
  ovation migrate qemu:///system/web qemu:///session --live --name web-copy --mac new --uuid new`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error { return a.migrate(c.Context(), args[0], args[1], &f) },
	}
	fl := c.Flags()
	fl.BoolVar(&f.shutdown, "shutdown", false, "ask machines that run to power off first")
	fl.BoolVar(&f.live, "live", false, "take machines that run by a snapshot of their disks, and let them go on")
	fl.DurationVar(&f.grace, "grace", 5*time.Minute, "for how long to wait until they have powered off")
	fl.StringVar(&f.name, "name", "", "name at the target, instead of the one at the source")
	fl.StringArrayVar(&f.networks, "network", nil, "where a network of the source leads, as 'NAME=HOST NETWORK', or all of them, as 'HOST NETWORK'; again for more")
	fl.StringVar(&f.pool, "pool", "", "storage pool for the disks, instead of the target's first")
	fl.StringVar(&f.diskFormat, "disk-format", "", "format of the disks, such as qcow2 or raw (the pool's best here, raw elsewhere)")
	fl.StringVar(&f.provision, "provisioning", "host", "how vSphere lays out disks: "+words(provisionings))
	fl.StringVar(&f.mac, "mac", "keep", "addresses of network cards: keep those that they have, or new ones")
	fl.StringVar(&f.uuid, "uuid", "keep", "the UUIDs that guests see: keep those that they have, or new ones")
	fl.BoolVar(&f.start, "start", false, "start the machines at the target")
	fl.BoolVar(&f.wait, "wait", false, "start them, and wait until the guests say that they are ready")
	fl.BoolVar(&f.remove, "remove-source", false, "remove the machines and their disks from the source when they run at the target (with --start or --wait)")
	fl.BoolVar(&f.noVerify, "no-verify", false, "do not read back what was written")
	fl.StringVar(&f.onFailure, "on-failure", "undo", "where it fails: undo what was made, or keep it, so that the same command goes on later")
	fl.BoolVar(&f.dryRun, "dry-run", false, "show the plan, and do nothing")
	f.hardwareFlags.register(c, "the machine's own")
	f.propertyFlags.register(c)
	completeWith(c, "on-failure", keys(onFailure))
	completeWith(c, "provisioning", keys(provisionings))
	for _, name := range []string{"mac", "uuid"} {
		completeWith(c, name, keys(macChoices))
	}
	return c
}

// options turns the flags into options.
func (f *migrateFlags) options() (opt migrate.Options, err error) {
	if opt.Machines, err = f.hardwareFlags.choices(); err != nil {
		return opt, err
	}
	if opt.Properties, err = f.propertyFlags.values(); err != nil {
		return opt, err
	}
	for _, p := range []struct {
		flag, value string
		other       *bool
	}{{"mac", f.mac, &opt.NewMACs}, {"uuid", f.uuid, &opt.NewUUIDs}} {
		choice, err := word(p.flag, p.value, macChoices)
		if err != nil {
			return opt, err
		}
		*p.other = choice == plan.NewMACs
	}
	if opt.Provisioning, err = word("provisioning", f.provision, provisionings); err != nil {
		return opt, err
	}
	if opt.KeepOnFailure, err = word("on-failure", f.onFailure, onFailure); err != nil {
		return opt, err
	}
	f.start = f.start || f.wait
	switch {
	case f.live && f.shutdown:
		return opt, usagef("--live and --shutdown: machines either go on or power off")
	case f.grace <= 0:
		return opt, usagef("--grace is a time such as 5m, not %v", f.grace)
	case f.remove && f.live:
		return opt, usagef("--remove-source and --live: what the guest that goes on writes meanwhile is at the source alone, and would be lost with it")
	case f.remove && !f.start:
		return opt, usagef("--remove-source is for when the machines run at the target: --start or --wait starts them")
	}
	if f.name != "" {
		if err := plan.CheckName(f.name); err != nil {
			return opt, usagef("--name: %w", err)
		}
	}
	if opt.Store, err = journal.Default(); err != nil {
		return opt, err
	}
	if opt.History, err = history.Default(); err != nil {
		return opt, err
	}
	opt.Name, opt.Networks, opt.Pool, opt.DiskFormat, opt.By = f.name, f.networks, f.pool, f.diskFormat, deployer()
	opt.Start, opt.Wait, opt.RemoveSource, opt.NoVerify = f.start, f.wait, f.remove, f.noVerify
	opt.Export = export.Options{Live: f.live, Deployed: deployed}
	if f.shutdown {
		opt.Export.Shutdown = f.grace
	}
	opt.Secrets = func(deployment string) (secrets.Values, error) { return secrets.Read(opt.Store.Folder(deployment)) }
	return opt, nil
}

func (a *app) migrate(ctx context.Context, from, to string, f *migrateFlags) (err error) {
	defer littleGarbage()()
	opt, err := f.options()
	if err != nil {
		return err
	}
	sources, closing, err := a.machines(ctx, []string{from})
	defer closing()
	if err != nil {
		return err
	}
	target, err := a.openHost(ctx, to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	progress := a.newProgress()
	defer progress.Wait()
	opt.Export.Note = func(s string) { a.note("%s", s) }
	opt.Told = func(e lifecycle.Event) { // when all is sent
		progress.Wait()
		a.tellEvent(e)
	}
	opt.Task = func(name string, total int64) stage.Task { return progress.Track(name, total) }
	opt.TempDir, opt.Log = workdir.Base(), a.log
	m, err := migrate.Look(ctx, sources, target, opt)
	if err != nil {
		return migrateError(err)
	}
	if f.dryRun {
		return a.showMigration(m, f)
	}
	a.tellMigration(m)
	r, err := m.Run(ctx)
	progress.Wait()
	if r == nil {
		if errors.As(err, new(*apply.UndoneError)) || errors.As(err, new(*apply.KeptError)) {
			a.noteDeployed(m.Plan, err)
		}
		return migrateError(err)
	}
	if !r.Existed {
		a.noteDeployed(r.Plan, nil)
	}
	return errors.Join(a.showMigrated(m, r, f), migrateError(err))
}

// migrateError says what would help.
func migrateError(err error) error {
	var stays *apply.KeptError
	switch undone := (*apply.UndoneError)(nil); {
	case errors.As(err, &stays):
		return fmt.Errorf("%w; what had been made stays: migrating %s again goes on, and 'ovation rm' takes it back", stays.Err, stays.Name)
	case errors.As(err, &undone) && undone.Left != nil:
		return errors.New(strings.Replace(err.Error(), "deploying "+undone.Name, "migrating "+undone.Name, 1)) // whatever it was, something is left
	case errors.Is(err, hypervisor.ErrRunning) && !strings.Contains(err.Error(), "asked to power off"):
		return fmt.Errorf("%w; --shutdown has it power off first, --live lets it go on", err)
	}
	return judgeError(err)
}

// migrationPlan is what --dry-run prints as JSON.
type migrationPlan struct {
	APIVersion string           `json:"apiVersion"`
	From       []migrate.Origin `json:"from"`
	// Source is what happens to machines of the source that run: refused,
	// shutdown or live; RemoveSource that they are removed at the end.
	Source       string           `json:"source"`
	RemoveSource bool             `json:"removeSource,omitempty"`
	Changes      []migrate.Change `json:"changes"`
	Unsaid       []string         `json:"unsaid"`
	Plan         *plan.Plan       `json:"plan"`
}

// showMigration says what would be done.
func (a *app) showMigration(m *migrate.Migration, f *migrateFlags) error {
	source := "refused"
	switch {
	case f.live:
		source = "live"
	case f.shutdown:
		source = "shutdown"
	}
	if a.json {
		return a.printJSON(migrationPlan{"ovation/migration-plan/v1", m.From, source, f.remove,
			append([]migrate.Change{}, m.Changes...), append([]string{}, m.Unsaid...), m.Plan})
	}
	for _, u := range m.Unsaid {
		a.warn("%s", u)
	}
	for _, o := range m.From {
		what := ""
		if o.State != hypervisor.PoweredOff {
			what = map[string]string{"refused": "; it would be refused: --shutdown has it power off first, --live lets it go on",
				"live": ", and goes on: its disks are taken by a snapshot", "shutdown": ", and is asked to power off"}[source]
		}
		a.out.Printf("%s on %s is %s%s\n", term.Clean(o.Name), term.Clean(o.Host), o.State, what)
	}
	a.out.Printf("\n")
	a.out.Heading("What changes")
	if len(m.Changes) == 0 {
		a.out.Printf("nothing\n")
	}
	t := term.NewTable("MACHINE", "WHAT", "FROM", "TO")
	for _, c := range m.Changes {
		t.Row(c.Machine, c.Subject, c.From, c.To)
	}
	if len(m.Changes) > 0 {
		t.Print(a.out)
	}
	a.out.Printf("\n")
	if err := a.showPlan(m.Plan); err != nil {
		return err
	}
	if f.remove {
		a.out.Printf("and then, when they run there, the source is removed\n")
	}
	return nil
}

// tellMigration says what people should know before it begins.
func (a *app) tellMigration(m *migrate.Migration) {
	for _, u := range m.Unsaid {
		a.warn("%s", u)
	}
	for _, c := range m.Changes {
		a.note("%s", c)
	}
	a.notePlan(m.Plan)
}

// migrated is what was done; it is what --json prints.
type migrated struct {
	APIVersion string           `json:"apiVersion"`
	ID         string           `json:"id"`
	Name       string           `json:"name"`
	From       []migrate.Origin `json:"from"`
	Target     string           `json:"target"`
	Machines   []string         `json:"machines"`
	Disks      []migratedDisk   `json:"disks"`
	Changes    []migrate.Change `json:"changes"`
	Unsaid     []string         `json:"unsaid"`
	// Existed says that it was there before, and nothing was sent.
	Existed bool `json:"existed,omitempty"`
	// Verified says that the target was read and has what the source had.
	Verified bool `json:"verified"`
	Started  bool `json:"started,omitempty"`
	// Removed are machines that are gone from the source, Stays is what of
	// them is not, and why.
	Removed []string `json:"removed,omitempty"`
	Stays   []string `json:"stays,omitempty"`
}

type migratedDisk struct {
	// The volume is there where the target has such.
	*hypervisor.VolumeRef
	Disk string `json:"disk"`
	// Kept says that a program that was killed had sent it before.
	Kept bool `json:"kept,omitempty"`
	*journal.Content
}

func (a *app) showMigrated(m *migrate.Migration, r *migrate.Result, f *migrateFlags) error {
	out := migrated{APIVersion: "ovation/migration/v1", ID: r.Plan.ID, Name: r.Plan.Name, From: m.From, Target: r.Plan.Target, Disks: []migratedDisk{},
		Changes: append([]migrate.Change{}, m.Changes...), Unsaid: append([]string{}, m.Unsaid...),
		Existed: r.Existed, Verified: r.Verified, Started: r.Started, Removed: r.Removed, Stays: r.Stays}
	for _, x := range r.Plan.Machines {
		out.Machines = append(out.Machines, x.Name)
	}
	for _, x := range r.Disks {
		out.Disks = append(out.Disks, migratedDisk{x.Volume, x.ID, x.Kept, x.Content})
	}
	if a.json {
		return a.printJSON(out)
	}
	did := "is migrated to"
	if r.Existed {
		did = "was migrated before, and nothing was sent, to"
	}
	a.out.Printf("%s %s %s: %s\n", term.Clean(out.Name), did, term.Clean(out.Target), term.Clean(strings.Join(out.Machines, ", ")))
	if r.Verified {
		a.out.Printf("verified: its disks hold what was read from the source\n")
	}
	for _, name := range r.Removed {
		a.out.Printf("%s is removed from the source\n", term.Clean(name))
	}
	for _, s := range r.Stays {
		a.warn("stays at the source: %s", s)
	}
	if !r.Started {
		a.note("ovation start %s --on %s starts it", cmp.Or(out.Name, out.ID), out.Target)
	}
	return nil
}
