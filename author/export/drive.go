package export

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/disk/formats"
	"github.com/ovation-project/ovation/hypervisor"
)

// maxBelow is how many images may be below one another, as elsewhere.
const maxBelow = 32

// ErrTooDeep says that an image is a delta of too many others, or of itself.
var ErrTooDeep = errors.New("too many images below one another")

// Open opens what a drive of a host's holds, with the images below it, as the
// guest sees it: a disk.Image, or a disk.Stream where the host gives it only
// once. close closes all of it, the file as well. The format is the host's
// word: what a guest wrote into a disk is never taken for an image's header.
func Open(ctx context.Context, f *hypervisor.DriveFile) (src convert.Source, closing func() error, err error) {
	if f.At == nil {
		s, err := stream(ctx, f)
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("%s: %w", f.Name, err), f.Close())
		}
		return s, f.Close, nil
	}
	img, closing, err := open(ctx, f, 0)
	if err != nil {
		return nil, nil, err
	}
	return img, closing, nil
}

// headSize is how much of a stream a format is shown first.
const headSize = 64 << 10

func stream(ctx context.Context, f *hypervisor.DriveFile) (disk.Stream, error) {
	format, err := formats.ByName(f.Format)
	if err != nil {
		return nil, err
	}
	s, ok := format.(disk.Streamer)
	if !ok {
		return nil, fmt.Errorf("%s: %w", f.Format, disk.ErrNeedsSeek)
	}
	r := bufio.NewReaderSize(f.Once, headSize)
	head, err := r.Peek(headSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return s.OpenStream(ctx, head, r, f.Size)
}

// section is a drive's bytes as a disk.File.
type section struct {
	io.ReaderAt
	size int64
}

func (s section) Size() int64 { return s.size }

func open(ctx context.Context, f *hypervisor.DriveFile, depth int) (disk.Image, func() error, error) {
	fail := func(err error) (disk.Image, func() error, error) {
		return nil, nil, errors.Join(fmt.Errorf("%s: %w", f.Name, err), f.Close())
	}
	if depth > maxBelow {
		return fail(ErrTooDeep)
	}
	if f.At == nil {
		return fail(errors.New("an image below another one can't be read only once"))
	}
	format, err := formats.ByName(f.Format)
	if err != nil {
		return fail(err)
	}
	file, ok := f.At.(disk.File)
	if !ok || file.Size() != f.Size {
		file = section{f.At, f.Size}
	}
	closing := []func() error{f.Close}
	opt := disk.OpenOptions{}
	if f.Below != nil {
		opt.Backing = func(ctx context.Context, name, format string) (disk.Image, error) {
			b, err := f.Below(ctx, name, format)
			if err != nil {
				return nil, fmt.Errorf("the image below it: %w", err)
			}
			img, end, err := open(ctx, b, depth+1)
			if err == nil {
				closing = append(closing, end)
			}
			return img, err
		}
	}
	end := func() error {
		var errs []error
		for _, c := range closing {
			errs = append(errs, c())
		}
		return errors.Join(errs...)
	}
	img, err := format.Open(ctx, file, opt)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%s: %w", f.Name, err), end())
	}
	if f.Capacity > 0 && img.Size() != f.Capacity {
		err := fmt.Errorf("%s: the image has %d bytes, and the host says %d", f.Name, img.Size(), f.Capacity)
		return nil, nil, errors.Join(err, img.Close(), end())
	}
	return img, func() error { return errors.Join(img.Close(), end()) }, nil
}
