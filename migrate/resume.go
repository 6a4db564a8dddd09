package migrate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ovation-project/ovation/deploy/apply"
	"github.com/ovation-project/ovation/deploy/journal"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/disk/digest"
	"github.com/ovation-project/ovation/hypervisor"
)

// existing finds the same migration, complete; nil where there is none. One that
// was made of the machines as they were, and not as they are, is a
// hypervisor.ErrExists.
func (r *runner) existing(ctx context.Context) (*journal.State, error) {
	states, err := r.opt.Store.List()
	if err != nil {
		return nil, err
	}
	for _, s := range slices.Backward(states) {
		if !s.Complete || s.Removed || !r.same(s.Plan) {
			continue
		}
		whole := true
		for _, m := range s.Plan.Machines {
			k, err := r.target.Lookup(ctx, m.Name)
			if err != nil && !errors.Is(err, hypervisor.ErrNotFound) {
				return nil, err
			}
			whole = whole && err == nil && k.Record != nil && k.Record.Deployment == s.Plan.ID
		}
		if !whole {
			continue
		}
		for _, v := range s.Plan.Volumes {
			same, err := r.holds(ctx, s, &v)
			if err != nil {
				return nil, err
			}
			if !same {
				return nil, fmt.Errorf("%s was migrated to %s at %s, and its disks have changed since: remove it there to migrate it again, or give this one another name: %w",
					s.Plan.Name, s.Plan.Target, s.Plan.Made.Local().Format(time.DateTime), hypervisor.ErrExists)
			}
		}
		return s, nil
	}
	return nil, nil
}

// same says whether a plan makes the same as this migration's, be it that one
// starts the machines and the other does not.
func (r *runner) same(p *plan.Plan) bool {
	without := func(p *plan.Plan) *plan.Plan {
		c := *p
		c.Steps = slices.DeleteFunc(slices.Clone(p.Steps), func(s plan.Step) bool { return s.Do == plan.Start || s.Do == plan.VerifyVolume })
		for i := range c.Machines {
			c.Machines[i].Notes = nil
		}
		return &c
	}
	return without(p).Same(without(r.p.plan))
}

// holds says whether what a volume was filled with is what the source has.
// Volumes that are filled with something else are as they are to be.
func (r *runner) holds(ctx context.Context, s *journal.State, v *plan.Volume) (bool, error) {
	source, ok := r.p.sources[v.Disk]
	if v.Content != plan.Disk || !ok {
		return true, nil
	}
	want, ok := s.Contents[s.Plan.Step(plan.FillVolume, v.VolumeRef)]
	if !ok {
		return false, nil
	}
	got, size, err := r.read(ctx, source)
	if err != nil {
		return false, err
	}
	return want == journal.Content{Bytes: size, Digest: got.String()}, nil
}

// read takes the digest of a disk of the source.
func (r *runner) read(ctx context.Context, source string) (sum digest.Sum, size int64, err error) {
	src, closing, err := r.e.OpenDisk(ctx, source)
	if err != nil {
		return sum, 0, err
	}
	defer func() { err = errors.Join(err, closing()) }()
	size = src.Size()
	if img, ok := src.(disk.Image); ok {
		var progress func(int64)
		if r.opt.Task != nil {
			task := r.opt.Task("compare "+source, size)
			progress = task.Set
			defer func() { task.Done(err) }()
		}
		sum, err = digest.Of(ctx, img, progress)
	} else {
		w := digest.NewWriter(nowhere{}, size)
		if err = r.copy(ctx, "compare "+source, src, w); err == nil {
			if sum, ok = w.Sum(); !ok {
				err = fmt.Errorf("disk %s: its parts come in no order, and no digest can be taken", source)
			}
		}
	}
	return sum, size, errors.Join(err, r.e.Unchanged(ctx))
}

// nowhere takes a disk in any order and keeps nothing.
type nowhere struct{}

func (nowhere) WriteAt(b []byte, _ int64) (int, error)  { return len(b), nil }
func (nowhere) WriteZeroes(int64, int64) error          { return nil }
func (nowhere) WriteCompressed(_ int64, _ []byte) error { return disk.ErrUnsupported }
func (nowhere) Layout() disk.Layout                     { return disk.Layout{} }
func (nowhere) Finish(context.Context) error            { return nil }

var _ convert.Source = blank(0)

// begin opens the journal: a new one, or that of the same migration, which a
// program was killed at. What that one had sent stays where the source still has
// the same.
func (r *runner) begin(ctx context.Context) (j *journal.Journal, kept []hypervisor.VolumeRef, err error) {
	note := func(s string) { r.opt.note("%s", s) }
	for {
		if j, err = apply.Begin(ctx, r.target, r.opt.Store, r.p.plan, note); err != nil {
			return nil, nil, err
		}
		var fits bool
		if kept, fits, err = r.keep(ctx, j); err != nil {
			return nil, nil, errors.Join(err, j.Close())
		}
		if fits {
			return j, kept, nil
		}
		r.opt.note("the source has changed since machines were made of it at the target: they are removed again")
		if err := apply.Undo(ctx, r.target, j); err != nil {
			return nil, nil, err
		}
	}
}

// keep sees which volumes of a journal hold what the source has, and has the
// others filled again. fits is false where that can't be done any more: there
// are machines that have them.
func (r *runner) keep(ctx context.Context, j *journal.Journal) (kept []hypervisor.VolumeRef, fits bool, err error) {
	s := j.State()
	defined := false
	for i, step := range s.Plan.Steps {
		defined = defined || step.Do == plan.Define && s.Begun[i]
	}
	for i := range s.Plan.Volumes {
		v := &s.Plan.Volumes[i]
		fill := s.Plan.Step(plan.FillVolume, v.VolumeRef)
		if fill < 0 || !s.Done[fill] || v.Content != plan.Disk {
			continue
		}
		same, err := r.holds(ctx, &s, v)
		if err != nil {
			return nil, false, err
		}
		switch {
		case same:
			kept = append(kept, v.VolumeRef)
			r.opt.note("disk %s is at the target already", v.Disk)
		case defined:
			return nil, false, nil
		default:
			r.opt.note("disk %s has changed since it was sent, and is sent again", v.Disk)
			if err := j.Add(journal.Entry{Kind: journal.Doing, Step: fill}); err != nil {
				return nil, false, err
			}
		}
	}
	return kept, true, nil
}
