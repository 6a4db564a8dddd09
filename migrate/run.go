package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ovation-project/ovation/author/export"
	"github.com/ovation-project/ovation/deploy/apply"
	"github.com/ovation-project/ovation/deploy/journal"
	"github.com/ovation-project/ovation/deploy/lifecycle"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/deploy/secrets"
	"github.com/ovation-project/ovation/deploy/sequence"
	"github.com/ovation-project/ovation/deploy/stage"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/ovf"
)

// Result is what was done.
type Result struct {
	// Plan is what there is now at the target.
	Plan *plan.Plan
	// Existed says that it was there before, and nothing was sent.
	Existed bool
	// Disks are those that were taken along.
	Disks []Disk
	// Verified says that the target was read and has what the source had.
	Verified bool
	Started  bool
	// Removed are the names of the machines that are gone from the source,
	// Stays what of them is still there, and why.
	Removed []string
	Stays   []string
}

// Disk is a disk that was taken along.
type Disk struct {
	// ID is its ovf:diskId, Volume where it is at the target; nil is that the
	// target makes its machines itself.
	ID     string
	Volume *hypervisor.VolumeRef
	// Content is what was read of the source, nil where that is not known.
	Content *journal.Content
	// Kept says that a program that was killed had sent it, and that it was not
	// sent again.
	Kept bool
}

// Run does what Look said. Where it fails, or ctx ends, nothing of it stays at
// the target, and the source is as it was: machines that were shut down for it
// run again. KeepOnFailure changes that.
//
// A machine that runs is hypervisor.ErrRunning unless the options say what to
// do. Machines that are not as Look found them are ErrOther. An error that is
// sequence.ErrNotReady comes with a result: the machines run at the target and
// are not ready, and the source stays.
func (m *Migration) Run(ctx context.Context) (r *Result, err error) {
	if err := m.running(); err != nil {
		return nil, err
	}
	var stopped []export.Source
	if m.opt.Export.Shutdown > 0 {
		for i, o := range m.From {
			if o.State != hypervisor.PoweredOff {
				stopped = append(stopped, m.sources[i])
			}
		}
	}
	defer func() {
		if err != nil && r == nil && !errors.As(err, new(*apply.KeptError)) {
			err = errors.Join(err, m.startAgain(context.WithoutCancel(ctx), stopped))
		}
	}()
	opt := m.exportOptions()
	opt.Warn = nil
	e, err := export.Begin(ctx, m.sources, opt)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close(context.WithoutCancel(ctx))) }()
	p, err := m.prepare(ctx, e, m.Plan.ID)
	if err != nil {
		return nil, err
	}
	if !p.plan.Same(m.Plan) {
		return nil, fmt.Errorf("%w: begin again to see what would be made of them now", ErrOther)
	}
	run := &runner{Migration: m, p: p, e: e, sent: map[string]*watched{}}
	there, err := run.existing(ctx)
	if err != nil {
		return nil, err
	}
	if there != nil {
		r = &Result{Plan: there.Plan, Existed: true}
		r.contents(there, nil)
		if m.opt.Start {
			err = run.start(ctx, r)
		}
	} else if r, err = run.make(ctx); r == nil {
		return nil, err
	}
	if err == nil && m.opt.RemoveSource {
		err = run.removeSource(ctx, r)
	}
	return r, err
}

// ErrOther says that machines are not as they were when it was planned what to do
// with them.
var ErrOther = errors.New("the machines, or what the target has, changed meanwhile")

// running refuses machines that run, unless it is said what to do with them.
func (m *Migration) running() error {
	if m.opt.Export.Live || m.opt.Export.Shutdown > 0 {
		return nil
	}
	for _, o := range m.From {
		if o.State != hypervisor.PoweredOff {
			return fmt.Errorf("machine %s: %w", o.Name, hypervisor.ErrRunning)
		}
	}
	return nil
}

// startLimit is for starting machines of the source again.
const startLimit = 2 * time.Minute

// startAgain has machines run that were shut down for nothing.
func (m *Migration) startAgain(ctx context.Context, stopped []export.Source) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	var errs []error
	for _, s := range stopped {
		k, err := s.Host.Lookup(ctx, s.Name)
		var state hypervisor.State
		if err == nil {
			state, err = k.State(ctx)
		}
		if err == nil && state == hypervisor.PoweredOff {
			if err = k.Start(ctx); err == nil {
				m.opt.note("%s runs again where it was", s.Name)
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("machine %s was shut down and does not run again: %w", s.Name, err))
		}
	}
	return errors.Join(errs...)
}

// runner carries a migration out.
type runner struct {
	*Migration
	p *prepared
	e *export.Export

	mu   sync.Mutex
	sent map[string]*watched // imported disks, by their ovf:diskId
}

// make makes the machines at the target. r is nil where nothing of them is there.
func (r *runner) make(ctx context.Context) (*Result, error) {
	j, kept, err := r.begin(ctx)
	if err != nil {
		return nil, err
	}
	id := j.Plan().ID
	if err := secrets.Keep(j.Folder(), r.p.secrets); err != nil {
		return nil, errors.Join(err, apply.Undo(ctx, r.target, j))
	}
	out := &Result{Plan: j.Plan(), Started: r.opt.Start}
	var notReady error
	err = apply.Apply(ctx, r.target, j, apply.Options{
		Source: apply.PackageSource(j.Plan(), r.p.resolved, r.p.caps, r),
		Start: func(ctx context.Context) error {
			// From here on the source is not needed any more, and was not
			// written to.
			if err := errors.Join(r.e.Unchanged(ctx), r.e.Close(ctx)); err != nil {
				return err
			}
			err := r.startMachines(ctx, id)
			if errors.Is(err, sequence.ErrNotReady) && ctx.Err() == nil {
				notReady, err = err, nil
			}
			return err
		},
		Import:        r.importAll,
		Imported:      r.imported,
		VerifyMachine: r.verifyMachine,

		Keep:    r.opt.KeepOnFailure,
		Digest:  true,
		Task:    r.opt.Task,
		TempDir: r.opt.TempDir,
		Note:    r.opt.Export.Note,
		Log:     r.opt.Log,
	})
	if err != nil {
		return nil, err
	}
	// The journal says what was sent, by this program and others.
	states, err := r.opt.Store.List()
	if err != nil {
		return out, err
	}
	for _, s := range states {
		if s.Plan.ID == id {
			out.contents(s, kept)
		}
	}
	return out, notReady
}

func (r *runner) startMachines(ctx context.Context, id string) error {
	return lifecycle.Start(ctx, r.target, id, lifecycle.Options{Secrets: r.p.secrets, Wait: r.opt.Wait, Told: r.opt.Told})
}

// start starts what was there before.
func (r *runner) start(ctx context.Context, out *Result) error {
	if err := r.e.Close(ctx); err != nil {
		return err
	}
	err := r.startMachines(ctx, out.Plan.ID)
	out.Started = err == nil
	return err
}

// contents takes what a journal says of the disks; kept are the IDs of those
// that were there before.
func (r *Result) contents(s *journal.State, kept []string) {
	r.Disks, r.Verified = nil, true
	for i, step := range s.Plan.Steps {
		if step.Do == plan.VerifyMachine {
			r.Verified = r.Verified && s.Done[i]
		}
	}
	add := func(id string, v *hypervisor.VolumeRef, c journal.Content, known bool) {
		d := Disk{ID: id, Volume: v, Kept: slices.Contains(kept, id)}
		if known {
			d.Content = &c
		}
		r.Disks = append(r.Disks, d)
	}
	if s.Plan.Import != nil {
		for _, id := range slices.Sorted(maps.Keys(s.Disks)) {
			add(id, nil, s.Disks[id], true)
		}
		r.Verified = r.Verified && slices.ContainsFunc(s.Plan.Steps, func(x plan.Step) bool { return x.Do == plan.VerifyMachine })
		return
	}
	for k := range s.Plan.Volumes {
		v := &s.Plan.Volumes[k]
		if v.Content != plan.Disk {
			continue
		}
		c, ok := s.Contents[s.Plan.Step(plan.FillVolume, v.VolumeRef)]
		add(v.Disk, &v.VolumeRef, c, ok)
		verify := s.Plan.Step(plan.VerifyVolume, v.VolumeRef)
		r.Verified = r.Verified && ok && verify >= 0 && s.Done[verify]
	}
}

// CopyDisk sends a disk as it is read; it makes the runner the content of the
// package that there is none of.
func (r *runner) CopyDisk(ctx context.Context, d *ovf.ResolvedDisk, create stage.Create) (err error) {
	source, ok := r.p.sources[d.ID]
	if !ok { // one that holds nothing yet
		w, err := create(ctx, blank(d.Capacity))
		if err != nil {
			return err
		}
		return w.Finish(ctx)
	}
	src, closing, err := r.e.OpenDisk(ctx, source)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closing()) }()
	if src.Size() != d.Capacity {
		return fmt.Errorf("disk %s is of %d bytes, and was of %d: %w", source, src.Size(), d.Capacity, hypervisor.ErrChanged)
	}
	w, err := create(ctx, src)
	if err != nil {
		return err
	}
	if r.p.handed != nil {
		w = r.watch(d.ID, src, w)
	}
	if err := r.copy(ctx, source, src, w); err != nil {
		return err
	}
	return r.e.Unchanged(ctx)
}

func (r *runner) copy(ctx context.Context, name string, src convert.Source, w disk.Writer) (err error) {
	opt := convert.Options{}
	if r.opt.Task != nil {
		task := r.opt.Task(name, src.Size())
		opt.Progress = func(p convert.Progress) { task.Set(p.Done) }
		defer func() { task.Done(err) }()
	}
	_, err = convert.Run(ctx, src, w, opt)
	return err
}

// blank is a disk that holds nothing.
type blank int64

// Size is the capacity.
func (b blank) Size() int64 { return int64(b) }

// CopyFile is not asked for: a host has no files but disks.
func (r *runner) CopyFile(_ context.Context, f *ovf.File, _ io.Writer) error {
	return fmt.Errorf("file %s is of no disk", f.Href)
}
