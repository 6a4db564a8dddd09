package disks

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/disk/formats"
	"github.com/ovation-project/ovation/internal/replay"
	"github.com/ovation-project/ovation/internal/spool"
	"github.com/ovation-project/ovation/ovf"
)

// OpenArriving is OpenSource for an archive that comes once, front to back: the
// disk is converted as it arrives, what is before it is passed over, and Convert
// reads what is behind it, since the manifest may come last. Convert gives
// appliance.ErrAltered where any file of the archive is not the manifest's, and
// Verified is not known before. A disk that has to be seeked in is copied first,
// which is said. A disk in chunks, and a delta, is an error: disk.ErrNeedsSeek.
func OpenArriving(ctx context.Context, r io.Reader, name string, opt Options) (*Source, error) {
	a := &arrival{judge: opt.Judge, found: make(chan found), release: make(chan struct{}), done: make(chan struct{})}
	ctx, a.cancel = context.WithCancel(ctx)
	go a.receive(ctx, r, name)
	var f found
	select {
	case f = <-a.found:
	case <-a.done:
		defer a.cancel()
		if a.err == nil {
			a.err = fmt.Errorf("%w: the archive holds no file for disk %q", appliance.ErrIncomplete, name)
		}
		return nil, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx) // what it reads from may never answer
	}
	s, err := a.open(ctx, f, opt)
	if err != nil {
		a.cancel()
		return nil, fmt.Errorf("%s: %w", f.ref.File.Href, err)
	}
	return s, nil
}

type found struct {
	env  *ovf.Envelope
	ref  Ref
	file *appliance.StreamFile
}

// arrival is an archive of which one file is being used.
type arrival struct {
	cancel  context.CancelFunc
	found   chan found
	release chan struct{} // closed when the file was used
	done    chan struct{} // closed behind the archive, when what follows is known
	report  *appliance.Report
	err     error
	judge   func(*appliance.Report) error // may be nil
}

func (a *arrival) receive(ctx context.Context, r io.Reader, name string) {
	defer close(a.done)
	seen := false
	_, a.report, a.err = appliance.Receive(ctx, r, appliance.ReceiveOptions{File: func(ctx context.Context, doc *ovf.Document, f *appliance.StreamFile) error {
		ref, err := Find(doc.Envelope(), name)
		if err != nil {
			return err
		}
		if ref.File.ChunkSize > 0 || ref.Disk != nil && ref.Disk.ParentRef != "" {
			return fmt.Errorf("%s is in several pieces: %w; save the archive to a file", ref.File.Href, disk.ErrNeedsSeek)
		}
		if seen || f.Name != ref.File.Href {
			return nil
		}
		seen = true
		select {
		case a.found <- found{doc.Envelope(), ref, f}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		select {
		case <-a.release:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}})
}

func (a *arrival) open(ctx context.Context, f found, opt Options) (*Source, error) {
	opt.Capacity = capacity(f.env, f.ref.Disk)
	d, close, err := Arriving(ctx, f.env, f.ref, f.file, f.file.Size, opt)
	if err != nil {
		return nil, err
	}
	return &Source{Disk: d, finish: a.finish, close: func() error { a.cancel(); return close() }}, nil
}

// Arriving opens a disk whose file comes once, front to back, of a size in bytes
// (-1 where it is not known): as a disk.Stream where its format allows that, else
// as a disk.Image of a copy in opt.TempDir, which is said. Whoever gets it closes
// it before r is gone.
func Arriving(ctx context.Context, env *ovf.Envelope, ref Ref, r io.Reader, size int64, opt Options) (src convert.Source, closing func() error, err error) {
	if err := readable(ref.File); err != nil {
		return nil, nil, err
	}
	content, packed, err := appliance.Expand(ref.File, r)
	if err != nil {
		return nil, nil, err
	}
	if packed {
		size, content = -1, Bound(env, ref.File.Href, content)
	}
	again := replay.New(content)
	if opt.Format == "" {
		s, err := formats.OpenStreamAs(ctx, again, "", func() (int64, error) {
			if size < 0 && opt.Capacity > 0 {
				return 0, errUnsized
			}
			return size, nil
		})
		if errors.Is(err, errUnsized) {
			return &unsized{r: again.Again(), size: opt.Capacity, href: ref.File.Href}, func() error { return nil }, nil
		}
		if err == nil {
			again.Forget()
			return s, func() error { return nil }, nil
		}
		if !errors.Is(err, disk.ErrNeedsSeek) {
			return nil, nil, err
		}
	}
	c, err := opt.copy(ctx, ref.File, again.Again())
	if err != nil {
		return nil, nil, err
	}
	img, err := openImage(ctx, c, ref, disk.OpenOptions{}, opt)
	if err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	return img, func() error { return errors.Join(img.Close(), c.Close()) }, nil
}

// Keep copies what a disk's file that comes once holds into opt.TempDir, unpacked,
// and says so: a disk that is a delta, or below one, is put together of several.
func Keep(ctx context.Context, env *ovf.Envelope, f *ovf.File, r io.Reader, opt Options) (*spool.File, error) {
	if err := readable(f); err != nil {
		return nil, err
	}
	content, packed, err := appliance.Expand(f, r)
	if err != nil {
		return nil, err
	}
	if packed {
		content = Bound(env, f.Href, content)
	}
	return opt.copy(ctx, f, content)
}

func (o *Options) copy(ctx context.Context, f *ovf.File, content io.Reader) (*spool.File, error) {
	o.note("%s is copied to %s first: it has to be read in another order than it comes", f.Href, o.tempDir())
	return spool.Copy(ctx, o.tempDir(), content)
}

// finish reads the rest of the archive, and says whether all of it is what the
// manifest says.
func (a *arrival) finish(ctx context.Context) error {
	close(a.release)
	select {
	case <-a.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if a.err != nil {
		return a.err
	}
	err := a.report.Err()
	if err == nil && a.judge != nil {
		err = a.judge(a.report)
	}
	return err
}
