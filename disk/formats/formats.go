// Package formats is the list of the disk formats that the program knows. A new
// format is one line here.
package formats

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/compressed"
	"github.com/ovation-project/ovation/disk/qcow2"
	"github.com/ovation-project/ovation/disk/raw"
	"github.com/ovation-project/ovation/disk/vdi"
	"github.com/ovation-project/ovation/disk/vhd"
	"github.com/ovation-project/ovation/disk/vhdx"
	"github.com/ovation-project/ovation/disk/vmdk"
)

// All gives the formats in the order in which a file is tried. Raw, which every
// file is, comes last.
func All() []disk.Format {
	return []disk.Format{
		vmdk.Format{},
		qcow2.Format{},
		vdi.Format{},
		vhdx.Format{},
		vhd.Format{},
		raw.Format{},
	}
}

// Names gives the names of all formats.
func Names() []string {
	var names []string
	for _, f := range All() {
		names = append(names, f.Name())
	}
	return names
}

// ByName finds a format by the name that qemu-img uses.
func ByName(name string) (disk.Format, error) {
	for _, f := range All() {
		if f.Name() == name {
			return f, nil
		}
	}
	return nil, fmt.Errorf("disk format %q: %w; known are %s", name, disk.ErrUnsupported, strings.Join(Names(), ", "))
}

// ByURI finds a format by a value of ovf:format. Vendors write the same URI with
// other endings, so that what stands before the fragment counts where the whole
// is not known.
func ByURI(uri string) (disk.Format, bool) {
	uri = strings.ToLower(strings.TrimSpace(uri))
	bare, _, _ := strings.Cut(uri, "#")
	for _, f := range All() {
		for _, u := range f.URIs() {
			if u = strings.ToLower(u); u == uri || u == bare {
				return f, true
			}
		}
	}
	return nil, false
}

// ByExtension finds the format to write to a file of this name.
func ByExtension(name string) (disk.Format, bool) {
	for _, f := range All() {
		for _, e := range f.Extensions() {
			if strings.HasSuffix(strings.ToLower(name), e) {
				return f, true
			}
		}
	}
	return nil, false
}

// others are what files of formats that are not read here begin with. Raw would
// take them, and a guest would find the container where its disk ought to be.
var others = []struct{ magic, name string }{
	{"QED\x00", "QED"},
	{"WithoutFreeSpace", "Parallels"},
	{"WithouFreSpacExt", "Parallels"},
}

// magicSize is that of the longest of them.
const magicSize = 16

// first reads as much of a file as tells what it is not.
func first(f disk.File) ([]byte, error) {
	head := make([]byte, max(compressed.HeadSize, magicSize))
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return head[:n], nil
}

// notRaw says that a file is of a format that is known by its first bytes and
// not read here. Whoever names raw as the format has it as raw all the same.
func notRaw(head []byte) error {
	if m := compressed.Detect(head); m != compressed.None {
		return fmt.Errorf("within the compressed file is another, compressed by %v: unpack it first: %w", m, disk.ErrUnsupported)
	}
	for _, o := range others {
		if strings.HasPrefix(string(head), o.magic) {
			return fmt.Errorf("the file is %s, which is not read here; convert it first, or name the format raw: %w", o.name, disk.ErrUnsupported)
		}
	}
	return nil
}

// maxDepth bounds a chain of backing images.
const maxDepth = 64

// Open opens an image in the format that its bytes show, raw where they show
// none. name, where it is not "", is the format that the image must have.
// Backing images and parents are opened the same way, from opt.Files.
//
// A file that is compressed as a whole (disk/compressed) is unpacked to where
// opt.Spool says. name is the format of what is within then; as "raw" takes
// every file as it is, a compressed raw disk is named "raw.gz", "raw.xz", ….
func Open(ctx context.Context, f disk.File, name string, opt disk.OpenOptions) (disk.Image, error) {
	return open(ctx, f, name, opt, 0)
}

func open(ctx context.Context, f disk.File, name string, opt disk.OpenOptions, depth int) (disk.Image, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("a chain of more than %d backing images: %w", maxDepth, disk.ErrUnsupported)
	}
	if opt.Backing == nil && opt.Files != nil {
		opt.Backing = func(ctx context.Context, file, format string) (disk.Image, error) {
			below, err := opt.Files.OpenFile(ctx, file)
			if err != nil {
				return nil, err
			}
			next := opt
			next.Parent, next.Backing = nil, nil
			return open(ctx, below, format, next, depth+1)
		}
	}
	head, err := first(f)
	if err != nil {
		return nil, err
	}
	name, method, err := within(name, head)
	if err != nil {
		return nil, err
	}
	if method != compressed.None {
		return openPacked(ctx, f, name, method, opt)
	}
	return openPlain(ctx, f, name, head, opt)
}

// openPlain opens an image that is not in a compressed file.
func openPlain(ctx context.Context, f disk.File, name string, head []byte, opt disk.OpenOptions) (disk.Image, error) {
	all, err := candidates(name)
	if err != nil {
		return nil, err
	}
	for _, format := range all {
		if format.Name() == "raw" && name == "" {
			if err := notRaw(head); err != nil {
				return nil, err
			}
		}
		m, err := format.Open(ctx, f, opt)
		if errors.Is(err, disk.ErrFormat) {
			if name != "" {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			continue
		}
		return m, err
	}
	return nil, disk.ErrFormat
}

// candidates are the formats to try: all of them, or the one of this name.
func candidates(name string) ([]disk.Format, error) {
	if name == "" {
		return All(), nil
	}
	format, err := ByName(name)
	if err != nil {
		return nil, err
	}
	return []disk.Format{format}, nil
}

// headSize is how much of a stream is looked at to tell its format.
const headSize = 64 << 10

// OpenStream reads an image as it arrives, in the format that its first bytes
// show, raw where they show none; it is unpacked on the way where the file is
// compressed as a whole. size is the file's, -1 where it is not known; raw needs
// it. It answers disk.ErrNeedsSeek for images that have to be seeked in; what
// was read of r is lost then.
func OpenStream(ctx context.Context, r io.Reader, size int64) (disk.Stream, error) {
	return OpenStreamAs(ctx, r, "", func() (int64, error) { return size, nil })
}

// OpenStreamAs is OpenStream of an image in the format of this name, as for
// Open, and for whoever has some work to tell the size: it is asked only where
// it is needed.
func OpenStreamAs(ctx context.Context, r io.Reader, name string, size func() (int64, error)) (disk.Stream, error) {
	head, whole, err := readHead(r)
	if err != nil {
		return nil, err
	}
	name, method, err := within(name, head)
	if err != nil {
		return nil, err
	}
	if method != compressed.None {
		z, err := method.NewReader(whole, compressed.MaxContent)
		if err != nil {
			return nil, err
		}
		return openPackedStream(ctx, z, name, method, func() (int64, error) { return -1, nil })
	}
	return openStream(ctx, head, whole, name, size)
}

func readHead(r io.Reader) (head []byte, whole io.Reader, err error) {
	head = make([]byte, headSize)
	n, err := io.ReadFull(r, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, nil, err
	}
	head = head[:n]
	return head, io.MultiReader(bytes.NewReader(head), r), nil
}

// openStream finds the format of a stream that begins with head. size is asked
// for the number of its bytes where that is needed.
func openStream(ctx context.Context, head []byte, whole io.Reader, name string, size func() (int64, error)) (disk.Stream, error) {
	all, err := candidates(name)
	if err != nil {
		return nil, err
	}
	for _, format := range all {
		s, ok := format.(disk.Streamer)
		if !ok {
			if _, err := format.Open(ctx, prefix(head), disk.OpenOptions{}); !errors.Is(err, disk.ErrFormat) {
				return nil, fmt.Errorf("%s: %w", format.Name(), disk.ErrNeedsSeek)
			}
			continue
		}
		length := int64(-1)
		if format.Name() == "raw" {
			if name == "" {
				if err := notRaw(head); err != nil {
					return nil, err
				}
			}
			if length, err = size(); err != nil {
				return nil, err
			}
		}
		stream, err := s.OpenStream(ctx, head, whole, length)
		if !errors.Is(err, disk.ErrFormat) {
			return stream, err
		}
	}
	return nil, disk.ErrFormat
}

// prefix is the beginning of a file of which no more is there.
type prefix []byte

func (p prefix) Size() int64 { return int64(len(p)) }

func (p prefix) ReadAt(b []byte, off int64) (int, error) {
	return bytes.NewReader(p).ReadAt(b, off)
}
