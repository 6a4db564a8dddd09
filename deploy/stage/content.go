package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/disks"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/ovf"
)

// Create begins what a disk is written to, when it is known what is to be
// written: a disk.Image or a disk.Stream, whose size is the disk's capacity.
type Create = func(ctx context.Context, src convert.Source) (disk.Writer, error)

// Content gives what a package's disks and files hold, to whoever has a place
// for it. Each file is compared with its digest in the manifest while it is read;
// one that was altered is an appliance.ErrAltered, and what was written of it is
// to be thrown away, as with every error.
type Content struct{ s *stager }

// NewContent is for a package that can be read again. Of the options it takes
// Dir, as the place for copies of files that have to be seeked in and cannot be,
// Task, Note and Log.
func NewContent(pkg *appliance.Package, opt Options) *Content { return &Content{newStager(pkg, opt)} }

// CopyDisk reads a disk of the package once and writes it to what create makes. A
// disk that has no content is written as one that holds nothing.
func (c *Content) CopyDisk(ctx context.Context, d *ovf.ResolvedDisk, create Create) error {
	return c.s.copyDisk(ctx, d, create)
}

// CopyFile reads a file of the package once, and unpacks it where the package
// has it compressed.
func (c *Content) CopyFile(ctx context.Context, f *ovf.File, to io.Writer) error {
	return c.s.copyFile(ctx, f, to)
}

// stager reads a package.
type stager struct {
	pkg *appliance.Package
	opt Options
	log *slog.Logger
}

func newStager(pkg *appliance.Package, opt Options) *stager {
	s := &stager{pkg: pkg, opt: opt, log: opt.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s
}

// Begin begins to show progress by begin, which may be nil.
func Begin(begin func(name string, total int64) Task, name string, total int64) Task {
	if begin == nil {
		return silent{}
	}
	return begin(name, total)
}

// Follow tells a task how much was read of r.
func Follow(r io.Reader, task Task) io.Reader {
	if _, nobody := task.(silent); nobody {
		return r
	}
	return &counted{r: r, task: task}
}

type silent struct{}

func (silent) Set(int64)  {}
func (silent) Done(error) {}

// open begins to read a file of the package, and sees that it has the size
// that the descriptor says.
func (s *stager) open(ctx context.Context, f *ovf.File) (*appliance.Reader, error) {
	r, err := s.pkg.OpenReader(ctx, f.Href)
	if err != nil {
		return nil, err
	}
	if f.Size >= 0 && r.Size() >= 0 && f.Size != r.Size() {
		r.Close()
		return nil, fmt.Errorf("%s has %d bytes, and the descriptor says %d: %w", f.Href, r.Size(), f.Size, appliance.ErrAltered)
	}
	return r, nil
}

// A CD-ROM has 2 KiB sectors; nobody's is larger than this.
const mostFile = 64 << 30

// copyFile copies a file as it is: a CD-ROM's image.
func (s *stager) copyFile(ctx context.Context, f *ovf.File, to io.Writer) (err error) {
	r, err := s.open(ctx, f)
	if err != nil {
		return err
	}
	defer r.Close()
	task := Begin(s.opt.Task, f.Href, r.Size())
	defer func() { task.Done(err) }()
	content, _, err := appliance.Expand(f, Follow(r, task))
	if err != nil {
		return err
	}
	if err := CopyBounded(to, content, f.Href); err != nil {
		return err
	}
	return r.Drain()
}

// CopyBounded copies what a CD-ROM's image, or another file that goes into a drive
// as it is, holds: no more than such a file can have.
func CopyBounded(to io.Writer, from io.Reader, name string) error {
	n, err := io.Copy(onlyWriter{to}, io.LimitReader(from, mostFile+1))
	if err == nil && n > mostFile {
		err = fmt.Errorf("%s: more than %d GiB: %w", name, mostFile>>30, disk.ErrUnsupported)
	}
	return err
}

// counted tells a task how much was read.
type counted struct {
	r    io.Reader
	task Task
	n    int64
}

// Read passes bytes on.
func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	c.task.Set(c.n)
	return n, err
}

// copyDisk copies a disk.
func (s *stager) copyDisk(ctx context.Context, d *ovf.ResolvedDisk, create Create) (err error) {
	if d.File == nil && d.Parent == nil {
		w, err := create(ctx, Blank(d.Capacity))
		if err != nil {
			return err
		}
		return w.Finish(ctx)
	}
	if d.File != nil {
		// Before anything is written, the file is there and of the right size.
		r, err := s.open(ctx, d.File)
		if err != nil {
			return err
		}
		r.Close()
	}
	src, err := disks.OpenSource(ctx, s.pkg, d.ID, disks.Options{TempDir: s.opt.Dir, Note: s.opt.Note})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	if src.Disk.Size() != d.Capacity {
		s.log.WarnContext(ctx, "the image has another capacity than the descriptor says", "disk", d.ID, "image", src.Disk.Size(), "descriptor", d.Capacity)
	}
	w, err := create(ctx, src.Disk)
	if err != nil {
		return err
	}
	task := Begin(s.opt.Task, label(d), src.Disk.Size())
	stats, err := src.Convert(ctx, w, convert.Options{Progress: func(p convert.Progress) { task.Set(p.Done) }})
	task.Done(err)
	if err != nil {
		return err
	}
	s.log.InfoContext(ctx, "made an image", "disk", d.ID, "verified", src.Verified,
		"passed", stats.Passed, "compressed", stats.Compressed, "written", stats.Written, "cloned", stats.Cloned)
	return nil
}

// label is what people know a disk by.
func label(d *ovf.ResolvedDisk) string {
	if d.File != nil {
		return d.File.Href
	}
	return d.ID
}

// Blank is a disk that holds nothing: its capacity in bytes.
type Blank int64

// Size is the capacity.
func (b Blank) Size() int64 { return int64(b) }
