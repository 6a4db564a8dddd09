package stage

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/disks"
	"github.com/ovation-project/ovation/appliance/stream"
	"github.com/ovation-project/ovation/deploy/bootprobe"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/ovf"
)

// Seen is what can be seen of a disk before it is read.
type Seen struct {
	// Boot is how it boots.
	Boot bootprobe.Result
	// Size is what the guest sees by the image's own word, in bytes; -1 where
	// the file is compressed as a whole, and only unpacking it would tell.
	Size int64
	// SavedStates is how many snapshots in the image hold the run-time state of
	// a guest.
	SavedStates int
}

// Look looks at a disk that has a file: whether the file and those below it are
// there, of the size that the descriptor says and in a format that is read, and
// at its first sectors. Nothing is proved. from, where it is not nil, gives the
// package's files; the error is the one that putting the disk in place would
// end with.
func Look(ctx context.Context, pkg *appliance.Package, from disk.Files, d *ovf.ResolvedDisk) (seen Seen, err error) {
	packed := Seen{Boot: bootprobe.Result{Reason: "the disk's file is compressed as a whole"}, Size: -1}
	var img *disks.Image
	if from != nil {
		if img, err = disks.OpenFrom(ctx, pkg, d.ID, from, disks.Options{}); errors.Is(err, stream.ErrPacked) {
			return packed, nil
		}
	} else {
		s := newStager(pkg, Options{})
		if pkg.Whole() && d.Parent == nil {
			if err := s.there(ctx, d.File); err != nil {
				return seen, err
			}
			if seen, ok, err := lookArriving(ctx, pkg, d); ok || err != nil {
				return seen, err
			}
		}
		for up, n := d, 0; up != nil && n < maxParents; up, n = up.Parent, n+1 {
			if up.File == nil {
				continue
			}
			if err := s.there(ctx, up.File); err != nil {
				return seen, err
			}
			yes, err := compressed(ctx, pkg, up.File)
			if err != nil || yes {
				return packed, err
			}
		}
		img, err = disks.Open(ctx, pkg, d.ID, disks.Options{})
	}
	if err != nil {
		return seen, err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	return See(img.Image)
}

// See looks at an image.
func See(img disk.Image) (seen Seen, err error) {
	seen.Size = img.Size()
	if h, ok := img.(disk.StateHolder); ok {
		if seen.SavedStates, err = h.SavedStates(); err != nil {
			// They are passed over, and keep nobody from reading the disk.
			seen.SavedStates, err = 0, nil
		}
	}
	if seen.Boot, err = bootprobe.Probe(img, img.Size()); err != nil {
		return seen, fmt.Errorf("looking for how it boots: %w", err)
	}
	return seen, nil
}

// LookFile is Look for a file that goes into a drive as it is.
func LookFile(ctx context.Context, pkg *appliance.Package, from disk.Files, f *ovf.File) error {
	if from != nil {
		_, err := from.OpenFile(ctx, f.Href)
		return err
	}
	return newStager(pkg, Options{}).there(ctx, f)
}

// there sees that a file is there and has the size that the descriptor says.
func (s *stager) there(ctx context.Context, f *ovf.File) error {
	r, err := s.open(ctx, f)
	if err != nil {
		return err
	}
	return r.Close()
}

// compressed says whether a file has to be unpacked to be looked into.
func compressed(ctx context.Context, pkg *appliance.Package, f *ovf.File) (bool, error) {
	files := pkg.Unverified()
	defer files.Close()
	file, err := files.OpenFile(ctx, f.Href)
	if err != nil {
		return false, err
	}
	_, more, err := appliance.Expand(f, io.NewSectionReader(file, 0, file.Size()))
	return more, err
}

// lookArriving is Look for a disk whose file is given from its start only: it is
// read as far as it takes. ok is false where its format does not come in order.
func lookArriving(ctx context.Context, pkg *appliance.Package, d *ovf.ResolvedDisk) (seen Seen, ok bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	src, err := disks.OpenSource(ctx, pkg, d.ID, disks.Options{})
	if err != nil {
		return seen, false, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	s, ok := src.Disk.(disk.Stream)
	if !ok {
		return seen, false, nil
	}
	w := &firstBytes{bootprobe.NewBeginning(s.Size())}
	if _, err := convert.Run(ctx, s, w, convert.Options{}); err != nil && !errors.Is(err, errEnough) {
		return seen, true, err
	}
	seen.Size = s.Size()
	seen.Boot, err = w.Probe()
	return seen, true, err
}

// errEnough ends the reading of a disk of which enough was seen.
var errEnough = errors.New("enough was seen")

// firstBytes keeps the beginning of a disk.
type firstBytes struct{ *bootprobe.Beginning }

// WriteAt keeps what is of the beginning.
func (f *firstBytes) WriteAt(b []byte, off int64) (int, error) {
	if !f.Wants(off) {
		return 0, errEnough
	}
	f.Take(b, off)
	return len(b), nil
}

// WriteZeroes has nothing to do but to see where it is.
func (f *firstBytes) WriteZeroes(off, _ int64) error {
	if !f.Wants(off) {
		return errEnough
	}
	return nil
}

// WriteCompressed is not called: Layout names no codec.
func (f *firstBytes) WriteCompressed(int64, []byte) error { return disk.ErrUnsupported }

// Layout wants the disk in its order.
func (f *firstBytes) Layout() disk.Layout { return disk.Layout{Ordered: true} }

// Finish has nothing to do.
func (f *firstBytes) Finish(context.Context) error { return nil }
