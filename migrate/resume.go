package migrate

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
		for _, id := range r.diskIDs() {
			same, err := r.holds(ctx, s, id)
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
		c.Steps = slices.DeleteFunc(slices.Clone(p.Steps), func(s plan.Step) bool {
			return s.Do == plan.Start || s.Do == plan.VerifyVolume || s.Do == plan.VerifyMachine
		})
		for i := range c.Machines {
			c.Machines[i].Notes = nil
		}
		return &c
	}
	return without(p).Same(without(r.p.plan))
}

// diskIDs are those of the disks that have something in them.
func (r *runner) diskIDs() []string { return slices.Sorted(maps.Keys(r.p.sources)) }

// holds says whether what was sent of a disk, as a journal has it, is what the
// source has.
func (r *runner) holds(ctx context.Context, s *journal.State, id string) (bool, error) {
	want, ok := s.Disks[id]
	if s.Plan.Import == nil {
		i := slices.IndexFunc(s.Plan.Volumes, func(v plan.Volume) bool { return v.Content == plan.Disk && v.Disk == id })
		if i < 0 {
			return false, nil
		}
		want, ok = s.Contents[s.Plan.Step(plan.FillVolume, s.Plan.Volumes[i].VolumeRef)]
	}
	if !ok {
		return false, nil
	}
	got, size, err := r.read(ctx, r.p.sources[id])
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
	sum, err = r.digest(ctx, "compare "+source, src, size)
	return sum, size, errors.Join(err, r.e.Unchanged(ctx))
}

// digest takes that of the first bytes of a disk, behind which there is nothing.
func (r *runner) digest(ctx context.Context, name string, src convert.Source, size int64) (sum digest.Sum, err error) {
	if img, ok := src.(disk.Image); ok && img.Size() == size {
		var progress func(int64)
		if r.opt.Task != nil {
			task := r.opt.Task(name, size)
			progress = task.Set
			defer func() { task.Done(err) }()
		}
		return digest.Of(ctx, img, progress)
	}
	w := digest.NewWriter(nowhere{}, size)
	if err := r.copy(ctx, name, src, cut{w, size}); err != nil {
		return sum, err
	}
	sum, ok := w.Sum()
	if !ok {
		err = fmt.Errorf("%s: its parts come in no order, and no digest can be taken", name)
	}
	return sum, err
}

// cut takes the beginning of a disk, and only zeroes behind it.
type cut struct {
	*digest.Writer
	size int64
}

// errBehind says that a disk is larger than it ought to be.
var errBehind = errors.New("there is something behind its end")

// WriteAt leaves out zeroes behind the end.
func (c cut) WriteAt(b []byte, off int64) (int, error) {
	n := int(max(0, min(int64(len(b)), c.size-off)))
	for _, x := range b[n:] {
		if x != 0 {
			return 0, errBehind
		}
	}
	if n > 0 {
		if _, err := c.Writer.WriteAt(b[:n], off); err != nil {
			return 0, err
		}
	}
	return len(b), nil
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
func (r *runner) begin(ctx context.Context) (j *journal.Journal, kept []string, err error) {
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

// keep sees which disks of a journal are as the source has them, by their IDs, and
// has the others sent again. fits is false where that can't be done any more:
// there are machines that have them.
func (r *runner) keep(ctx context.Context, j *journal.Journal) (kept []string, fits bool, err error) {
	s := j.State()
	made := false
	for i, step := range s.Plan.Steps {
		made = made || s.Begun[i] && step.Do == plan.Define || s.Done[i] && step.Do == plan.Import
	}
	for _, id := range r.diskIDs() {
		fill := -1
		for i := range s.Plan.Volumes {
			if v := &s.Plan.Volumes[i]; v.Content == plan.Disk && v.Disk == id {
				fill = s.Plan.Step(plan.FillVolume, v.VolumeRef)
			}
		}
		if fill >= 0 && !s.Done[fill] || fill < 0 && !made {
			continue
		}
		same, err := r.holds(ctx, &s, id)
		if err != nil {
			return nil, false, err
		}
		switch {
		case same:
			kept = append(kept, id)
			r.opt.note("disk %s is at the target already", id)
		case made:
			return nil, false, nil
		default:
			r.opt.note("disk %s has changed since it was sent, and is sent again", id)
			if err := j.Add(journal.Entry{Kind: journal.Doing, Step: fill}); err != nil {
				return nil, false, err
			}
		}
	}
	return kept, true, nil
}
