// Package apply carries plans out, and takes them back: everything of a plan is
// made, or nothing of it stays.
//
// Each step is in the deployment's journal before it is done and after. So
// whatever ends a program in between, another one that has the journal finishes
// the deployment (Apply) or takes it back (Undo), and nothing is left that nobody
// knows of.
package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/ovation-project/ovation/deploy/journal"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/deploy/stage"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/hypervisor"
)

// Source gives what volumes are filled with. What it gives is proved when it
// returns without error, or when Options.Settle has. Its methods are called by
// several at once.
type Source interface {
	// CopyDisk writes a disk of the package, by its ovf:diskId, to what create
	// makes when the disk's size is known. It may call create once more, where
	// the first writer could not take the disk as it came.
	CopyDisk(ctx context.Context, id string, create func(context.Context, convert.Source) (disk.Writer, error)) error
	// CopyFile writes a file of the package, by its href.
	CopyFile(ctx context.Context, href string, to io.Writer) error
	// Environment gives the image with a machine's environment document, by
	// the host's name of the machine.
	Environment(ctx context.Context, machine string) ([]byte, error)
}

// Options say how a plan is carried out.
type Options struct {
	Source Source
	// Start starts the machines, where the plan says so.
	Start func(ctx context.Context) error
	// Settle, where set, is for a Source whose content comes once, in an order of
	// its own: all that take of it do so at once. It is called when they have,
	// and before any of it counts as done or anything is made of it; it proves
	// what was given, and gives the plan as it turned out (plan.Plan.Settles).
	Settle func(ctx context.Context) (*plan.Plan, error)
	// Import has the host make what the plan imports, all of it or nothing.
	Import func(ctx context.Context, p *plan.Plan) error
	// Imported, where set, says what the disks hold that Import sent, by their
	// ovf:diskId. VerifyMachine compares a machine that was imported with that.
	Imported      func() map[string]journal.Content
	VerifyMachine func(ctx context.Context, m *plan.Machine, disks map[string]journal.Content) error
	// Parallel is how many volumes are filled at once; 0 chooses.
	Parallel int
	// Digest has the journal keep what disks were filled with, also where the
	// plan does not verify it.
	Digest bool
	// Task, where set, is called for each volume that is verified, with its
	// size.
	Task func(name string, total int64) stage.Task
	// TempDir is where disks are put that can't be sent as they are read; ""
	// is the system's place for large files. Note is told then, where it is
	// set.
	TempDir string
	Note    func(string)
	// Keep leaves what was made where it fails, and the journal: applying it
	// again goes on from there. The error is a KeptError then.
	Keep bool
	// UndoLimit is how long taking back may take after a failure; 0 is
	// DefaultUndoLimit.
	UndoLimit time.Duration
	// Log gets what is done; nil is nowhere.
	Log *slog.Logger
}

// DefaultUndoLimit is for a host that is slow, and not for one that is gone.
const DefaultUndoLimit = 2 * time.Minute

// UndoneError says that a deployment failed, and what became of what had been
// made by then.
type UndoneError struct {
	// Err is why it failed.
	Err error
	// Left is why not all could be taken back, nil where nothing stayed. The
	// journal stays then, and knows what there is.
	Left error
	// Name is the deployment's.
	Name string
}

// Error says both.
func (e *UndoneError) Error() string {
	if e.Left == nil {
		return fmt.Sprintf("%v; what had been made was removed again", e.Err)
	}
	return fmt.Sprintf("%v; what had been made could not be removed again: %v; deploying %s again, or removing it, does that", e.Err, e.Left, e.Name)
}

// Unwrap gives both.
func (e *UndoneError) Unwrap() []error { return []error{e.Err, e.Left} }

// KeptError says that a deployment failed, and that what had been made by then
// stays, as was asked.
type KeptError struct {
	Err error
	// Name is the deployment's.
	Name string
}

// Error says how to go on.
func (e *KeptError) Error() string {
	return fmt.Sprintf("%v; what had been made stays: deploying %s again goes on, and removing it takes it back", e.Err, e.Name)
}

// Unwrap gives the cause.
func (e *KeptError) Unwrap() error { return e.Err }

type applier struct {
	host hypervisor.Host
	j    *journal.Journal
	plan *plan.Plan
	opt  Options
	log  *slog.Logger

	mu   sync.Mutex
	made map[hypervisor.VolumeRef]hypervisor.Volume // by this program, to be filled
	// written takes the digests of what volumes are filled with.
	written map[hypervisor.VolumeRef]*watched
	// again are the volumes that may be there already, made by a program that
	// did not come to fill them.
	again map[hypervisor.VolumeRef]bool
	// unsettled are the steps that are done and do not count so before Settle
	// has said so.
	unsettled []journal.Entry
}

// Apply carries out the plan of a journal, from where it stands: one that was
// begun just now, or by a program that was killed. Where it fails, or ctx ends,
// all that was made is removed again, in reverse, and the error is an
// UndoneError, unless opt.Keep is set. Where nothing stays, the deployment's folder is removed. The
// journal is closed in any case.
//
// A plan that is complete is left alone.
func Apply(ctx context.Context, host hypervisor.Host, j *journal.Journal, opt Options) error {
	a := &applier{host: host, j: j, plan: j.Plan(), opt: opt, log: opt.Log,
		made: map[hypervisor.VolumeRef]hypervisor.Volume{}, again: map[hypervisor.VolumeRef]bool{}, written: map[hypervisor.VolumeRef]*watched{}}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.opt.Digest = a.opt.Digest || slices.ContainsFunc(a.plan.Steps, func(s plan.Step) bool { return s.Do == plan.VerifyVolume })
	if a.opt.Parallel < 1 {
		a.opt.Parallel = min(4, runtime.GOMAXPROCS(0))
	}
	state := j.State()
	if state.Complete {
		return j.Close()
	}
	err := errors.New("it was being taken back")
	if !state.Undoing {
		err = a.all(ctx)
	}
	if err == nil {
		err = j.Add(journal.Entry{Kind: journal.Complete})
	}
	if err == nil {
		return j.Close()
	}
	if addErr := j.Add(journal.Entry{Kind: journal.Failed, Text: err.Error()}); addErr != nil {
		a.log.WarnContext(ctx, "the failure is not in the journal", "error", addErr)
	}
	if opt.Keep && !state.Undoing {
		return errors.Join(&KeptError{Err: err, Name: a.plan.Name}, j.Close())
	}
	limit := opt.UndoLimit
	if limit <= 0 {
		limit = DefaultUndoLimit
	}
	// What ended the deployment must not end the taking back.
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	return &UndoneError{Err: err, Left: Undo(undo, host, j), Name: a.plan.Name}
}

// all does the steps that are not done yet.
func (a *applier) all(ctx context.Context) error {
	steps := a.plan.Steps
	state := a.j.State()
	done := state.Done
	defined := false
	for i, s := range steps {
		defined = defined || s.Do == plan.Define && state.Begun[i]
	}
	if a.opt.Settle != nil {
		a.together(state)
	}
	// What another program made and did not fill is made anew: how much of it
	// was filled nobody knows. An environment document may be another now; once
	// machines are there, starting them makes it anew.
	for i, s := range steps {
		if s.Do != plan.CreateVolume || !state.Begun[i] {
			continue
		}
		fill := a.plan.Step(plan.FillVolume, *s.Volume)
		if fill < 0 || done[fill] && (defined || a.plan.Volume(*s.Volume).Content != plan.Environment) {
			continue
		}
		a.again[*s.Volume] = true
		done[i], done[fill] = false, false
		if verify := a.plan.Step(plan.VerifyVolume, *s.Volume); verify >= 0 {
			done[verify] = false
		}
	}
	for i := 0; i < len(steps); {
		if done[i] {
			i++
			continue
		}
		do := steps[i].Do
		if !brings(do) {
			if err := a.settle(ctx); err != nil {
				return err
			}
		}
		if do != plan.FillVolume && do != plan.VerifyVolume {
			if err := a.step(ctx, i); err != nil {
				return err
			}
			i++
			continue
		}
		var together []int
		for ; i < len(steps) && steps[i].Do == do; i++ {
			if !done[i] {
				together = append(together, i)
			}
		}
		if err := a.parallel(ctx, together); err != nil {
			return err
		}
	}
	return a.settle(ctx)
}

// brings says that a step has to do with bringing content to the host.
func brings(do plan.Action) bool {
	return do == plan.CreateVolume || do == plan.FillVolume || do == plan.Import
}

// parallel does steps that do not depend on each other. The first that fails
// ends the others, and is the error.
func (a *applier) parallel(ctx context.Context, steps []int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var wg sync.WaitGroup
	most := a.opt.Parallel
	if a.opt.Settle != nil && a.plan.Steps[steps[0]].Do == plan.FillVolume {
		most = len(steps) // which comes first nobody knows
	}
	for range min(most, len(steps)) {
		wg.Go(func() {
			for i := range next {
				if err := a.step(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, i := range steps {
		select {
		case next <- i:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(next)
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// step does one step, and writes so down before and after.
func (a *applier) step(ctx context.Context, i int) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	s := a.plan.Steps[i]
	if err := a.j.Add(journal.Entry{Kind: journal.Doing, Step: i}); err != nil {
		return err
	}
	a.log.DebugContext(ctx, "step", "step", s.String())
	var err error
	switch s.Do {
	case plan.CreateVolume:
		err = a.create(ctx, a.plan.Volume(*s.Volume))
	case plan.FillVolume:
		err = a.fill(ctx, a.plan.Volume(*s.Volume))
	case plan.VerifyVolume:
		err = a.verify(ctx, a.plan.Volume(*s.Volume))
	case plan.Define:
		err = a.define(ctx, a.plan.Machine(s.Machine))
	case plan.Import:
		err = a.imports(ctx)
	case plan.VerifyMachine:
		if a.opt.VerifyMachine == nil {
			err = errors.New("nothing verifies machines here")
		} else {
			err = a.opt.VerifyMachine(ctx, a.plan.Machine(s.Machine), a.j.State().Disks)
		}
	case plan.Start:
		if a.opt.Start == nil {
			err = errors.New("nothing starts machines here")
		} else {
			err = a.opt.Start(ctx)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	done := journal.Entry{Kind: journal.Done, Step: i}
	switch {
	case s.Do == plan.FillVolume:
		done.Content = a.contentOf(*s.Volume)
	case s.Do == plan.Import && a.opt.Imported != nil:
		done.Disks = a.opt.Imported()
	}
	if a.opt.Settle != nil && a.takes(s) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.unsettled = append(a.unsettled, done)
		return nil
	}
	return a.j.Add(done)
}

// imports has the host make the machines. What a program was killed at that
// did so before is taken away first: how far it came nobody knows.
func (a *applier) imports(ctx context.Context) error {
	host, ok := a.host.(hypervisor.Importer)
	if !ok || a.opt.Import == nil {
		return errors.New("nothing imports packages here")
	}
	if err := host.UndoImport(ctx, *a.plan.Import, a.plan.ID); err != nil {
		return err
	}
	return a.opt.Import(ctx, a.plan)
}

// create makes a volume.
func (a *applier) create(ctx context.Context, v *plan.Volume) error {
	if a.again[v.VolumeRef] {
		if err := a.host.RemoveVolume(ctx, v.VolumeRef); err != nil {
			return err
		}
	}
	made, err := a.host.CreateVolume(ctx, v.VolumeSpec)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.made[v.VolumeRef] = made
	return nil
}

func (a *applier) volume(ref hypervisor.VolumeRef) hypervisor.Volume {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.made[ref]
}

// define defines a machine. A name that is taken by a machine of the same
// deployment is one that another program defined.
func (a *applier) define(ctx context.Context, m *plan.Machine) error {
	_, err := a.host.Define(ctx, m.Machine, m.Record)
	if !errors.Is(err, hypervisor.ErrExists) {
		return err
	}
	kept, lookErr := a.host.Lookup(ctx, m.Name)
	if lookErr == nil && kept.Record != nil && kept.Record.Deployment == a.plan.ID {
		return nil
	}
	return errors.Join(err, ignore(lookErr, hypervisor.ErrNotFound))
}

func ignore(err, which error) error {
	if errors.Is(err, which) {
		return nil
	}
	return err
}

// Undo takes back all that a deployment may have made, in reverse, and removes
// its folder when nothing is left. What it was not the deployment that made
// stays, whatever its name. It goes on where something can't be removed, and
// says all of it. The journal is closed in any case.
func Undo(ctx context.Context, host hypervisor.Host, j *journal.Journal) error {
	p := j.Plan()
	if p == nil {
		return j.Remove()
	}
	begun, sure := j.State().Begun, j.State().Done
	var errs []error
	for i := len(begun) - 1; i >= 0; i-- {
		if !begun[i] {
			continue
		}
		s := p.Steps[i]
		// That nothing can be written down must not keep things from being
		// removed.
		noted := j.Add(journal.Entry{Kind: journal.Undoing, Step: i})
		if err := undo(ctx, host, p, s); err != nil {
			errs = append(errs, fmt.Errorf("undo %s: %w", s, err))
			continue
		}
		if noted == nil {
			noted = j.Add(journal.Entry{Kind: journal.Undone, Step: i})
		}
		if noted != nil {
			errs = append(errs, noted)
		}
	}
	// What the host was told to make when the program died, it may have made
	// only after it was looked for.
	for i, s := range p.Steps {
		if begun[i] && !sure[i] && len(errs) == 0 {
			if err := undo(ctx, host, p, s); err != nil {
				errs = append(errs, fmt.Errorf("undo %s: %w", s, err))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return errors.Join(err, j.Close())
	}
	return errors.Join(j.Add(journal.Entry{Kind: journal.Removed}), j.Remove())
}

// undo takes one step back. Doing so again is no error.
func undo(ctx context.Context, host hypervisor.Host, p *plan.Plan, s plan.Step) error {
	switch s.Do {
	case plan.CreateVolume:
		return host.RemoveVolume(ctx, *s.Volume)
	case plan.Import:
		importer, ok := host.(hypervisor.Importer)
		if !ok {
			return errors.New("the host takes no packages any more")
		}
		return importer.UndoImport(ctx, *p.Import, p.ID)
	case plan.Define:
		kept, err := host.Lookup(ctx, s.Machine)
		if errors.Is(err, hypervisor.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if kept.Record == nil || kept.Record.Deployment != p.ID {
			return nil // somebody else's
		}
		return kept.Remove(ctx)
	}
	// A volume goes with its content, a machine that runs is ended with it.
	return nil
}

// Recover takes back the deployments of a name at a host that were begun and
// neither finished nor taken back, and says which.
func Recover(ctx context.Context, host hypervisor.Host, store journal.Store, name string) ([]*plan.Plan, error) {
	journals, err := store.Claim(host.URI(), name)
	if err != nil {
		return nil, err
	}
	var undone []*plan.Plan
	var errs []error
	for _, j := range journals {
		p := j.Plan()
		if err := Undo(ctx, host, j); err != nil {
			errs = append(errs, err)
			continue
		}
		undone = append(undone, p)
	}
	return undone, errors.Join(errs...)
}
