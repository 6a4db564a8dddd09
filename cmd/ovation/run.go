package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/environment"
	"github.com/ovation-project/ovation/deploy/fit"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/deploy/sequence"
	"github.com/ovation-project/ovation/deploy/stage"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/qemu"
	"github.com/ovation-project/ovation/ovf"
	"github.com/ovation-project/ovation/ovf/ovfenv"
)

// runFlags are what run is told.
type runFlags struct {
	machineFlags
	accel    string
	forwards []string
	isolated bool
	headless bool
	timeout  time.Duration
	grace    time.Duration
	keep     string
	verify   string
	noCache  bool
	dryRun   bool
	eula     bool
	trust    trustFlags
	travel   travelFlags
}

// The words of the flags, and what they mean.
var (
	verifyWhen   = map[string]bool{"before": false, "during": true}
	accelerators = map[string]string{"auto": "auto", "kvm": "kvm", "tcg": "tcg"}
)

func newRunCommand(a *app) *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run LOCATOR",
		Short: "Run an appliance with the QEMU beside you",
		Long: `Run an appliance with the QEMU of this machine: no daemon, no root. Every file is
proved by the manifest while its disk is put in place, and nothing starts from
a package that was altered. The disks go when the guest stops, unless --keep
names a folder for them.

A package on a web server starts at once, while its disks are arriving: what the
guest reads is fetched first, the rest comes in the background and stays in the
cache for the next time (ovation cache). Its files are proved while the guest
runs, which is ended where one was altered (exit code 4); --verify=before waits
until all are proved. - reads an archive from standard input.

The guest's serial console is shown: on a terminal with the keyboard, where
Ctrl-] powers the guest off (twice: at once), else as plain lines, without the
guest's escape sequences. Where there is a desktop the guest's screen has a
window too; --headless leaves out both window and keyboard.

Devices are the descriptor's, where QEMU has them; what differs is said before
anything starts, and what is required and can't be had is named, all at once
(exit code 5).`,
		Example: `  ovation run appliance.ova
  ovation run --forward 2222:22 --memory 2GiB https://example.org/appliance.ova
  ovation run --headless --timeout 5m --property hostname=web1 appliance.ovf
  ovation run --dry-run --json appliance.ova`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.runAppliance(c.Context(), args[0], f) },
	}
	fl := c.Flags()
	f.machineFlags.register(c)
	fl.StringVar(&f.accel, "accel", "auto", "how instructions run: "+words(accelerators)+" (software emulation)")
	fl.StringArrayVar(&f.forwards, "forward", nil, "a port of this host that leads to one of the guest, as [SYSTEM=][tcp:|udp:][ADDRESS:]HOST:GUEST; again for more")
	fl.BoolVar(&f.isolated, "isolated", false, "no network for the guest but the forwarded ports")
	fl.BoolVar(&f.headless, "headless", false, "no window and no keyboard, only what the guest writes to its serial console")
	fl.DurationVar(&f.timeout, "timeout", 0, "the longest that the guest may run, such as 10m; then it is ended, and the exit code is 1")
	fl.DurationVar(&f.grace, "grace", 0, "how long the guest may take to power off when it is asked to, before it is ended (10s; with --keep 90s)")
	fl.StringVar(&f.keep, "keep", "", "folder for the disks, which stay there")
	fl.StringVar(&f.verify, "verify", "during", "when the files of a package on a web server are proved: before the guest starts, or during its run")
	fl.BoolVar(&f.noCache, "no-cache", false, "keep nothing of what is fetched for the next run")
	fl.BoolVar(&f.eula, "accept-eula", false, "accept the licences of the appliance ('ovation inspect --eula' shows them)")
	fl.BoolVar(&f.dryRun, "dry-run", false, "show the machine and QEMU's command line, and start nothing")
	f.trust.register(fl)
	f.travel.register(c)
	for name, values := range map[string][]string{"accel": keys(accelerators), "verify": keys(verifyWhen)} {
		completeWith(c, name, values)
	}
	return c
}

// choices turns the flags into what the libraries take.
func (f *runFlags) choices() (c fit.Choices, err error) {
	for name, d := range map[string]time.Duration{"timeout": f.timeout, "grace": f.grace} {
		if d < 0 {
			return c, usagef("--%s is a time above 0, not %v", name, d)
		}
	}
	if _, err = word("verify", f.verify, verifyWhen); err != nil {
		return c, err
	}
	if _, err = word("accel", f.accel, accelerators); err != nil {
		return c, err
	}
	if c.Machines, err = f.machineFlags.choices(); err != nil {
		return c, err
	}
	if c.Resolve, err = f.resolveOptions(); err != nil {
		return c, err
	}
	c.AcceptLicences = f.eula
	return c, f.travel.choose(&c)
}

// forward is a port for one of the machines, "" for the only one.
type forward struct {
	system string
	hypervisor.Forward
}

// parseForward reads [SYSTEM=][tcp:|udp:][ADDRESS:]HOST:GUEST.
func parseForward(s string) (forward, error) {
	bad := usagef("--forward is [SYSTEM=][tcp:|udp:][ADDRESS:]HOST:GUEST, such as 2222:22 or udp:0.0.0.0:5353:53, not %q", s)
	f := forward{Forward: hypervisor.Forward{Protocol: "tcp"}}
	rest := s
	if system, after, ok := strings.Cut(s, "="); ok {
		f.system, rest = system, after
	}
	for _, p := range []string{"tcp", "udp"} {
		if after, ok := strings.CutPrefix(rest, p+":"); ok {
			f.Protocol, rest = p, after
			break
		}
	}
	parts := strings.Split(rest, ":")
	if len(parts) == 3 {
		addr, err := netip.ParseAddr(parts[0])
		if err != nil || !addr.Is4() {
			return f, bad
		}
		f.HostAddress, parts = addr, parts[1:]
	}
	if len(parts) != 2 {
		return f, bad
	}
	for i, to := range []*uint16{&f.HostPort, &f.GuestPort} {
		n, err := strconv.ParseUint(parts[i], 10, 16)
		if err != nil || n == 0 {
			return f, bad
		}
		*to = uint16(n)
	}
	return f, nil
}

// free sees whether a port can be had, which QEMU would say too late.
func free(f hypervisor.Forward) error {
	addr := f.HostAddress
	if !addr.IsValid() {
		addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	at := netip.AddrPortFrom(addr, f.HostPort).String()
	var c interface{ Close() error }
	var err error
	if f.Protocol == "udp" {
		c, err = net.ListenPacket("udp", at)
	} else {
		c, err = net.Listen("tcp", at)
	}
	if err != nil {
		return fmt.Errorf("--forward %s: %w", f, err)
	}
	return c.Close()
}

// prepared is a package that is ready to run.
type prepared struct {
	pkg      *appliance.Package
	subject  *fit.Subject
	arriving *arriving // nil where the disks are put in place first
	once     *once     // nil where the package can be read again
	resolved *ovf.Resolved
	caps     *hypervisor.Capabilities
	// planned are the machines in the order in which they start, steps the
	// same with what is waited for.
	planned []*deploy.Planned
	steps   []sequence.Step[*deploy.Planned]
	// byHand are those that are not to start by themselves.
	byHand   []*deploy.Planned
	licences []plan.Licence
	// segments are the networks on which the machines see each other.
	segments *qemu.Segments
	// environments are the documents for the guests, by machine and drive.
	environments map[*deploy.Planned]runEnvironment
}

type runEnvironment struct {
	drive    string
	document *ovfenv.Environment
}

func (a *app) runAppliance(ctx context.Context, locator string, f runFlags) (err error) {
	choices, err := f.choices()
	if err != nil {
		return err
	}
	var forwards []forward
	for _, s := range f.forwards {
		fw, err := parseForward(s)
		if err != nil {
			return err
		}
		forwards = append(forwards, fw)
	}
	policy, store, err := f.trust.resolve()
	if err != nil {
		return err
	}
	for _, fw := range forwards {
		if err := free(fw.Forward); err != nil && !f.dryRun {
			return err
		}
	}
	r := &prepared{}
	dir := &runFolder{app: a, keep: f.keep}
	defer func() { err = errors.Join(err, dir.close()) }()
	closer, err := a.openRun(ctx, locator, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closer()) }()
	if r.subject, err = a.examine(ctx, r.pkg, fit.ExamineOptions{Policy: policy, Store: store}); err != nil {
		return err
	}
	switch {
	case r.once != nil:
		r.subject.LookBy(r.once)
	case f.streams(r.pkg):
		if r.arriving, err = a.newArriving(ctx, r.pkg, f); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, r.arriving.close()) }()
		r.subject.ReadFrom(r.arriving.Stream)
	}
	if err := a.prepareRun(ctx, r, f, choices, forwards); err != nil {
		return err
	}
	if f.dryRun {
		return a.showRun(ctx, r, f)
	}
	if !f.eula {
		if err := a.acceptLicences(ctx, r.licences); err != nil {
			return err
		}
	}
	a.noteRun(r)
	return a.carryOut(ctx, r, f, dir, func() (err error) {
		if r.pkg, r.subject, err = r.once.finish(ctx, policy, store); err != nil {
			return err
		}
		return a.prepareAgain(ctx, r, f, choices, forwards)
	})
}

// prepareRun decides everything, and starts and writes nothing.
func (a *app) prepareRun(ctx context.Context, r *prepared, f runFlags, c fit.Choices, forwards []forward) error {
	target := fit.Local{Driver: a.qemu(f, r, ""), Network: qemu.NetworkUser}
	if f.isolated {
		target.Network = qemu.NetworkIsolated
	}
	j, err := r.subject.OnLocal(ctx, target, c)
	if err != nil {
		return judgeError(err)
	}
	if err := j.Err(); err != nil {
		return err
	}
	r.licences = j.Licences
	r.resolved, r.caps, r.planned = j.Resolved, j.Capabilities, j.Machines
	r.order(len(c.Machines.Systems) > 0)
	r.environments = map[*deploy.Planned]runEnvironment{}
	for _, p := range r.planned {
		if drive := j.Environments[p]; drive != "" {
			r.environment(p, drive)
		}
	}
	r.segments = qemu.NewSegments(r.machines())
	return r.forward(forwards)
}

func (r *prepared) machines() []hypervisor.Machine {
	var list []hypervisor.Machine
	for _, p := range r.planned {
		list = append(list, p.Machine)
	}
	return list
}

// order puts the machines into the order in which they start. Those that start
// only when they are named are left out, unless they are.
func (r *prepared) order(named bool) {
	of := map[*ovf.System]*deploy.Planned{}
	for _, p := range r.planned {
		of[p.System] = p
	}
	r.steps = sequence.Of(r.resolved.StartOrder(), func(s *ovf.System) (*deploy.Planned, bool) { p, ok := of[s]; return p, ok })
	started := map[*deploy.Planned]bool{}
	var ordered []*deploy.Planned
	for _, s := range r.steps {
		for _, p := range s.Members {
			started[p] = true
			ordered = append(ordered, p)
		}
	}
	if rest := slices.DeleteFunc(r.planned, func(p *deploy.Planned) bool { return started[p] }); len(rest) > 0 && (named || len(ordered) == 0) {
		r.steps = append(r.steps, sequence.Step[*deploy.Planned]{Members: rest})
		ordered = append(ordered, rest...)
	} else {
		r.byHand = rest
	}
	r.planned = ordered
}

// environment makes the environment document that goes into a drive.
func (r *prepared) environment(p *deploy.Planned, id string) {
	r.environments[p] = runEnvironment{drive: id, document: environment.Document(r.resolved, p.System, r.caps, "")}
	for k := range p.Machine.Drives {
		if p.Machine.Drives[k].ID == id {
			// Where it will be is said now, so that a plan is complete.
			p.Machine.Drives[k].Medium = &hypervisor.Medium{Format: environment.Format, Path: environmentFile(p), Volatile: true}
		}
	}
}

func environmentFile(p *deploy.Planned) string {
	return stage.FileName(p.Machine.ID, "ovf-env") + ".iso"
}

// forward leads the ports to the machines' first cards.
func (r *prepared) forward(forwards []forward) error {
	for _, fw := range forwards {
		i := slices.IndexFunc(r.planned, func(p *deploy.Planned) bool { return p.Machine.ID == fw.system })
		switch {
		case fw.system == "" && len(r.planned) == 1:
			i = 0
		case fw.system == "":
			return usagef("--forward %s: the package has several virtual systems; say which, as SYSTEM=%s", fw.Forward, fw.Forward)
		case i < 0:
			return usagef("--forward: no virtual system %q is to run", fw.system)
		}
		m := &r.planned[i].Machine
		if len(m.NICs) == 0 {
			return usagef("--forward %s: %s has no network card", fw.Forward, m.ID)
		}
		m.NICs[0].Forwards = append(m.NICs[0].Forwards, fw.Forward)
	}
	return nil
}

// qemu is the driver for a machine whose own files lie in dir.
func (a *app) qemu(f runFlags, r *prepared, dir string) *qemu.Driver {
	desktop := os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != ""
	return qemu.New(qemu.Options{Dir: dir, Keep: f.keep != "", Accel: f.accel, Window: desktop && !f.headless, Segments: r.segments, Log: a.log})
}

// put says in which folder the media of all the machines are, and in which their
// environment documents, which may hold secrets.
func (r *prepared) put(dir, secret string, volatile bool) {
	stage.Place(r.planned, dir, volatile)
	for p, e := range r.environments {
		for k := range p.Machine.Drives {
			if p.Machine.Drives[k].ID == e.drive {
				p.Machine.Drives[k].Medium.Path = filepath.Join(secret, environmentFile(p))
			}
		}
	}
}

// carryOut puts the disks in place and runs the guests to their end. Of a package
// that comes once, again decides anew when all has come.
func (a *app) carryOut(ctx context.Context, r *prepared, f runFlags, folder *runFolder, again func() error) (err error) {
	dir, err := folder.path()
	if err != nil {
		return err
	}
	secret := dir
	if len(r.environments) > 0 {
		if secret, err = folder.secret(); err != nil {
			return err
		}
	}
	r.put(dir, secret, f.keep == "")
	progress := a.newProgress()
	sopt := stage.Options{Dir: dir, Volatile: f.keep == "", Log: a.log,
		Note: func(s string) { a.note("%s", s) },
		Task: func(name string, total int64) stage.Task { return progress.Track(name, total) }}
	switch {
	case r.arriving != nil:
		err = r.arriving.place(ctx, r.planned, sopt)
	case r.once != nil:
		r.once.progress = progress
		if err = r.takeIn(ctx, sopt); err == nil {
			err = again()
		}
		if err == nil {
			r.put(dir, secret, f.keep == "")
		}
	default:
		err = stage.All(ctx, r.pkg, r.planned, sopt)
	}
	progress.Wait()
	if err != nil {
		return err
	}
	if r.arriving != nil {
		if err := r.arriving.begin(ctx, f.verify == "before"); err != nil {
			return err
		}
	}
	for p, e := range r.environments {
		image, err := environment.Image(e.document, time.Now())
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(secret, environmentFile(p)), image, 0o600); err != nil {
			return err
		}
	}
	keeper, err := r.keepMachines(f, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, keeper.Close()) }()
	var guests []*runningGuest
	defer r.segments.Close()
	defer func() {
		for _, g := range guests {
			err = errors.Join(err, g.Remove(context.WithoutCancel(ctx)))
		}
	}()
	for _, p := range r.planned {
		own := ownFolder(dir, p)
		if err := os.MkdirAll(own, 0o700); err != nil {
			return err
		}
		g, err := a.qemu(f, r, own).Create(ctx, p.Machine)
		if err != nil {
			return err
		}
		guests = append(guests, &runningGuest{Guest: g, planned: p})
	}
	folder.started = true
	return errors.Join(a.runGuests(ctx, guests, r.steps, f, r.arriving), r.arriving.end())
}
