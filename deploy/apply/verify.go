package apply

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ovation-project/ovation/deploy/journal"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/disk/digest"
	"github.com/ovation-project/ovation/disk/formats"
	"github.com/ovation-project/ovation/hypervisor"
)

// ErrDiffers says that a volume, read back, does not hold what it was filled
// with.
var ErrDiffers = errors.New("the volume does not hold what was written to it")

// watched is a disk whose digest is taken while it is written.
type watched struct {
	*digest.Writer
	size int64
}

// watch takes the digest of what is written to a volume, where somebody wants
// it. Of a volume that is begun anew the last counts.
func (a *applier) watch(v *plan.Volume, src convert.Source, w disk.Writer) disk.Writer {
	if !a.opt.Digest || w == nil {
		return w
	}
	d := &watched{digest.NewWriter(w, src.Size()), src.Size()}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.written[v.VolumeRef] = d
	return d
}

// contentOf is what a volume was filled with, nil where that is not known: it is
// no disk, or its parts came in an order that no digest can be taken in.
func (a *applier) contentOf(ref hypervisor.VolumeRef) *journal.Content {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.written[ref]
	if w == nil {
		return nil
	}
	delete(a.written, ref)
	sum, ok := w.Sum()
	if !ok {
		return nil
	}
	return &journal.Content{Bytes: w.size, Digest: sum.String()}
}

// verify reads a volume back from the host.
func (a *applier) verify(ctx context.Context, v *plan.Volume) (err error) {
	want, ok := a.j.State().Contents[a.plan.Step(plan.FillVolume, v.VolumeRef)]
	if !ok {
		return errors.New("what it was filled with came in no order, and there is no digest of it to compare with")
	}
	r, err := a.host.OpenVolume(ctx, v.VolumeRef)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	format, err := formats.ByName(v.Format)
	if err != nil {
		return err
	}
	img, err := format.Open(ctx, r, disk.OpenOptions{})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDiffers, err)
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	var progress func(int64)
	if a.opt.Task != nil {
		task := a.opt.Task("verify "+v.Name, want.Bytes)
		progress = task.Set
		defer func() { task.Done(err) }()
	}
	if err := tail(img, want.Bytes); err != nil {
		return err
	}
	got, err := digest.Of(ctx, part{img, want.Bytes}, progress)
	if err != nil {
		return err
	}
	if got.String() != want.Digest {
		return fmt.Errorf("%w: its digest is %s, and %s was written", ErrDiffers, got, want.Digest)
	}
	return nil
}

// part is the beginning of an image.
type part struct {
	disk.Image
	size int64
}

// Size is the part's.
func (p part) Size() int64 { return p.size }

// Extent ends with the part.
func (p part) Extent(ctx context.Context, off int64) (disk.Extent, error) {
	e, err := p.Image.Extent(ctx, off)
	if err == nil && e.End() > p.size {
		e.Length = p.size - e.Offset
	}
	return e, err
}

// mostTail is how much larger a volume may be than what it holds: hosts round
// up.
const mostTail = 1 << 20

// tail sees that an image has a size, and nothing but zeroes behind it.
func tail(img disk.Image, size int64) error {
	more := img.Size() - size
	if more < 0 || more > mostTail {
		return fmt.Errorf("%w: it has %d bytes, and %d were written", ErrDiffers, img.Size(), size)
	}
	b := make([]byte, more)
	if _, err := img.ReadAt(b, size); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for _, x := range b {
		if x != 0 {
			return fmt.Errorf("%w: there is something behind its end", ErrDiffers)
		}
	}
	return nil
}
