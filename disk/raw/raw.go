// Package raw reads and writes disks as they are: the bytes that the guest
// sees, with holes where the file has them.
package raw

import (
	"context"
	"fmt"
	"io"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/holes"
)

// Format is the raw format. Every file is one: whoever probes asks it last, or
// only where a person says so.
type Format struct{}

// Name is "raw".
func (Format) Name() string { return "raw" }

// Subformats is none but the format itself.
func (Format) Subformats() []string { return []string{"raw"} }

// Extensions are .img and .raw.
func (Format) Extensions() []string { return []string{".img", ".raw"} }

// URIs are the values of ovf:format in use for raw disks and, since it is
// raw as well, ISO 9660 images.
func (Format) URIs() []string {
	return []string{"http://www.ovation-project.org/formats/raw", "http://www.ecma-international.org/publications/standards/Ecma-119.htm"}
}

type image struct{ f disk.File }

// Open opens any file.
func (Format) Open(_ context.Context, f disk.File, opt disk.OpenOptions) (disk.Image, error) {
	if opt.Parent != nil {
		return nil, fmt.Errorf("a raw disk that is a delta of another: %w", disk.ErrUnsupported)
	}
	return &image{f}, nil
}

func (i *image) Size() int64 { return i.f.Size() }

func (i *image) Close() error { return nil }

func (i *image) Info() disk.Info { return disk.Info{Format: "raw"} }

func (i *image) ReadAt(p []byte, off int64) (int, error) { return i.f.ReadAt(p, off) }

// Extent asks the file system for holes where the file is a local one.
func (i *image) Extent(_ context.Context, off int64) (disk.Extent, error) {
	size := i.f.Size()
	if off < 0 || off >= size {
		return disk.Extent{}, io.EOF
	}
	n, hole := holes.Run(i.f, off, size-off)
	if hole {
		return disk.Extent{Offset: off, Length: n}, nil
	}
	return disk.Extent{Offset: off, Length: n, Kind: disk.Data, File: i.f, FileOffset: off, FileLength: n}, nil
}

// Create begins a file.
func (Format) Create(_ context.Context, out disk.Output, opt disk.CreateOptions) (disk.Writer, error) {
	if err := check(opt); err != nil {
		return nil, err
	}
	f, err := out.Create(opt.Name)
	if err != nil {
		return nil, err
	}
	return &writer{f: f, size: opt.Size}, nil
}

func check(opt disk.CreateOptions) error {
	switch {
	case opt.Subformat != "" && opt.Subformat != "raw":
		return fmt.Errorf("raw subformat %q: %w", opt.Subformat, disk.ErrUnsupported)
	case opt.Compress || opt.Codec != disk.NoCodec:
		return fmt.Errorf("a raw disk has no compressed parts: %w", disk.ErrUnsupported)
	case opt.Size < 0:
		return fmt.Errorf("a disk of %d bytes", opt.Size)
	}
	return nil
}

func inside(off, length, size int64) error {
	if off < 0 || length < 0 || off > size-length {
		return fmt.Errorf("raw: %d bytes at %d are outside of the disk of %d bytes", length, off, size)
	}
	return nil
}

type writer struct {
	f    disk.OutputFile
	size int64
}

func (w *writer) Layout() disk.Layout { return disk.Layout{} }

func (w *writer) WriteAt(p []byte, off int64) (int, error) {
	if err := inside(off, int64(len(p)), w.size); err != nil {
		return 0, err
	}
	return w.f.WriteAt(p, off)
}

func (w *writer) WriteZeroes(off, length int64) error { return inside(off, length, w.size) }

func (w *writer) WriteCompressed(int64, []byte) error { return disk.ErrUnsupported }

// WriteRange copies within the kernel where the file below can.
func (w *writer) WriteRange(off int64, f disk.File, fileOffset, length int64) error {
	r, ok := w.f.(disk.RangeWriter)
	if !ok {
		return disk.ErrUnsupported
	}
	if err := inside(off, length, w.size); err != nil {
		return err
	}
	return r.WriteRange(off, f, fileOffset, length)
}

func (w *writer) Finish(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return w.f.Truncate(w.size)
}

// Skipper is a place for a stream that can leave bytes out, which read as
// zeroes then.
type Skipper interface {
	Skip(n int64) error
}

// CreateStream begins a disk that is written front to back, zeroes and all: what
// is a Skipper is told of them instead.
func (Format) CreateStream(_ context.Context, w io.Writer, opt disk.CreateOptions) (disk.Writer, error) {
	if err := check(opt); err != nil {
		return nil, err
	}
	return &streamWriter{w: w, size: opt.Size}, nil
}

type streamWriter struct {
	w        io.Writer
	at, size int64
}

func (w *streamWriter) Layout() disk.Layout { return disk.Layout{Ordered: true} }

func (w *streamWriter) fill(to int64) error {
	if s, ok := w.w.(Skipper); ok && w.at < to {
		if err := s.Skip(to - w.at); err != nil {
			return err
		}
		w.at = to
	}
	n, err := holes.Write(w.w, to-w.at)
	w.at += n
	return err
}

func (w *streamWriter) WriteAt(p []byte, off int64) (int, error) {
	if err := inside(off, int64(len(p)), w.size); err != nil {
		return 0, err
	}
	if off < w.at {
		return 0, fmt.Errorf("raw: a write at %d after %d: %w", off, w.at, disk.ErrNeedsSeek)
	}
	if err := w.fill(off); err != nil {
		return 0, err
	}
	n, err := w.w.Write(p)
	w.at += int64(n)
	return n, err
}

func (w *streamWriter) WriteZeroes(off, length int64) error {
	if err := inside(off, length, w.size); err != nil {
		return err
	}
	return w.fill(off + length)
}

func (w *streamWriter) WriteCompressed(int64, []byte) error { return disk.ErrUnsupported }

func (w *streamWriter) Finish(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return w.fill(w.size)
}

// OpenStream reads any file of a known size as it arrives.
func (Format) OpenStream(_ context.Context, _ []byte, r io.Reader, size int64) (disk.Stream, error) {
	if size < 0 {
		return nil, fmt.Errorf("a raw disk whose size is not known: %w", disk.ErrNeedsSeek)
	}
	return &stream{r: r, size: size}, nil
}

type stream struct {
	r        io.Reader
	at, size int64
	buf      []byte
}

func (s *stream) Size() int64 { return s.size }

func (s *stream) Info() disk.Info { return disk.Info{Format: "raw"} }

func (s *stream) Next(ctx context.Context) (disk.Run, error) {
	if err := ctx.Err(); err != nil {
		return disk.Run{}, err
	}
	if s.at >= s.size {
		return disk.Run{}, io.EOF
	}
	if s.buf == nil {
		s.buf = make([]byte, 1<<20)
	}
	b := s.buf[:min(s.size-s.at, int64(len(s.buf)))]
	n, err := io.ReadFull(s.r, b)
	if n < len(b) {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			err = fmt.Errorf("raw: the disk breaks off at byte %d of %d: %w: %w", s.at+int64(n), s.size, io.ErrUnexpectedEOF, disk.ErrCorrupt)
		}
		return disk.Run{}, err
	}
	run := disk.Run{Extent: disk.Extent{Offset: s.at, Length: int64(n), Kind: disk.Data, FileOffset: s.at, FileLength: int64(n)}, Stored: b}
	s.at += int64(n)
	return run, nil
}
