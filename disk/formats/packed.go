package formats

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/compressed"
)

// within tells the format that a name asks for from the way in which the file
// is compressed.
func within(name string, head []byte) (string, compressed.Method, error) {
	method := compressed.Detect(head)
	inner, asked := compressed.CutEnding(name)
	switch {
	case asked != compressed.None && asked != method:
		return "", method, fmt.Errorf("the file is not compressed by %v: %w", asked, disk.ErrFormat)
	case asked == compressed.None && name == "raw":
		method = compressed.None
	}
	return inner, method, nil
}

// openPacked opens an image in a compressed file.
func openPacked(ctx context.Context, f disk.File, name string, method compressed.Method, opt disk.OpenOptions) (_ disk.Image, err error) {
	if opt.Spool == nil {
		return nil, fmt.Errorf("the file is compressed by %v: unpack it first: %w", method, disk.ErrUnsupported)
	}
	r, err := method.Open(ctx, f, compressed.MaxContent)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	content, err := opt.Spool(ctx, r, fmt.Sprintf("the file is compressed by %v, and is to be read in another order than it comes", method))
	if err != nil {
		return nil, err
	}
	m := &unpacked{method: method, file: content}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.closeFile())
		}
	}()
	head, err := first(content)
	if err != nil {
		return nil, err
	}
	if m.Image, err = openPlain(ctx, content, name, head, opt); err != nil {
		return nil, err
	}
	return m, nil
}

// unpacked is an image that was in a compressed file.
type unpacked struct {
	disk.Image
	method compressed.Method
	file   disk.File
}

// Info is the image's own, and how its file is compressed.
func (u *unpacked) Info() disk.Info { return PackedInfo(u.Image, u.method) }

// PackedInfo is what an image or a stream says of itself, nothing where it says
// nothing, with how its file is compressed as a whole, if it is.
func PackedInfo(of any, method compressed.Method) (info disk.Info) {
	if i, ok := of.(disk.Informer); ok {
		info = i.Info()
	}
	if method != compressed.None {
		info.Packed = method.String()
	}
	return info
}

// Map is the format's.
func (u *unpacked) Map(ctx context.Context, off int64) (disk.Extent, error) {
	return disk.Map(ctx, u.Image, off)
}

// Check is the format's, where it has one.
func (u *unpacked) Check(ctx context.Context, report func(disk.Fault)) error {
	if c, ok := u.Image.(disk.Checker); ok {
		return c.Check(ctx, report)
	}
	return nil
}

func (u *unpacked) closeFile() error {
	if c, ok := u.file.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Close closes the image and the copy that it is in.
func (u *unpacked) Close() error { return errors.Join(u.Image.Close(), u.closeFile()) }

// OpenPacked reads an image in a file that is compressed as a whole, as it is
// unpacked. name is as for Open. It answers disk.ErrFormat for other files, and
// disk.ErrNeedsSeek where the image has to be seeked in: Open can spool it.
//
// Raw disks have to be known in size. Where the file does not tell (gzip,
// bzip2), all of it is unpacked once to count, and note, where it is not nil, is
// told so.
//
// Whoever drops the stream before its end closes it, if it is an io.Closer, or
// ends ctx.
func OpenPacked(ctx context.Context, f disk.File, name string, note func(string)) (disk.Stream, error) {
	head, err := compressed.Head(f)
	if err != nil {
		return nil, err
	}
	name, method, err := within(name, head)
	if err != nil {
		return nil, err
	}
	if method == compressed.None {
		return nil, fmt.Errorf("the file is not compressed: %w", disk.ErrFormat)
	}
	size := func() (int64, error) { return PackedSize(ctx, f, method, note) }
	z, err := method.Open(ctx, f, compressed.MaxContent)
	if err != nil {
		return nil, err
	}
	return openPackedStream(ctx, z, name, method, size)
}

// PackedSize gives how much a compressed file holds: as it says itself, or else
// by unpacking all of it, which note, where it is not nil, is told.
func PackedSize(ctx context.Context, f disk.File, method compressed.Method, note func(string)) (int64, error) {
	n, ok, err := method.Size(ctx, f)
	if err != nil || ok {
		return n, err
	}
	if note != nil {
		note(fmt.Sprintf("the file is unpacked twice: %v does not tell how large the disk is", method))
	}
	return method.Count(ctx, f)
}

// openPackedStream finds the format of what z unpacks, and closes it where there
// is none.
func openPackedStream(ctx context.Context, z io.ReadCloser, name string, method compressed.Method, size func() (int64, error)) (disk.Stream, error) {
	s := &unpackedStream{method: method, z: z}
	head, whole, err := readHead(z)
	if err == nil {
		s.Stream, err = openStream(ctx, head, whole, name, size)
	}
	if err != nil {
		return nil, errors.Join(err, z.Close())
	}
	return s, nil
}

// unpackedStream is an image that comes out of a compressed file.
type unpackedStream struct {
	disk.Stream
	method compressed.Method
	z      io.ReadCloser
	ended  error
}

// Close ends the unpacking.
func (s *unpackedStream) Close() error { return s.z.Close() }

// Info is as unpacked's.
func (s *unpackedStream) Info() disk.Info { return PackedInfo(s.Stream, s.method) }

// maxTail is how much may follow an image in its file: padding.
const maxTail = 16 << 20

// Next gives the image's runs, and its end when the checksums of the compressed
// file have been seen to be right.
func (s *unpackedStream) Next(ctx context.Context) (disk.Run, error) {
	if s.ended != nil {
		return disk.Run{}, s.ended
	}
	r, err := s.Stream.Next(ctx)
	if err != io.EOF {
		return r, err
	}
	n, err := io.Copy(io.Discard, io.LimitReader(s.z, maxTail+1))
	switch {
	case err != nil:
	case n > maxTail, n > 0 && s.Info().Format == "raw":
		err = fmt.Errorf("%v: the file goes on behind the end of the disk of %d bytes: %w", s.method, s.Size(), disk.ErrCorrupt)
	default:
		err = io.EOF
	}
	s.ended = err
	if closing := s.z.Close(); err == io.EOF && closing != nil {
		s.ended = closing
	}
	return disk.Run{}, s.ended
}

// CreatePacked begins an image that is written to w in a file compressed as a
// whole. The format has to be one that is written front to back.
func CreatePacked(ctx context.Context, format disk.Format, w io.Writer, method compressed.Method, opt disk.CreateOptions) (disk.Writer, error) {
	f, ok := format.(disk.StreamCreator)
	if !ok {
		return nil, fmt.Errorf("%s is not written front to back, and cannot be compressed as a whole: %w", format.Name(), disk.ErrUnsupported)
	}
	z, err := method.NewWriter(ctx, w, opt.Level)
	if err != nil {
		return nil, err
	}
	inner, err := f.CreateStream(ctx, z, opt)
	if err != nil {
		return nil, errors.Join(err, z.Close())
	}
	return &packedWriter{Writer: inner, z: z}, nil
}

// packedWriter is an image in a compressed file.
type packedWriter struct {
	disk.Writer
	z io.Closer
}

// Finish writes the rest of the image and of the file.
func (w *packedWriter) Finish(ctx context.Context) error {
	return errors.Join(w.Writer.Finish(ctx), w.z.Close())
}
