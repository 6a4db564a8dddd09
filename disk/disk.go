// Package disk is the contract that every virtual-disk format meets: random
// access to what the guest sees, a walk over what is stored and how, bytes
// that arrive once and in file order, and writing.
//
// The package knows no format and does no I/O of its own. A format is a
// package below this one (disk/vmdk, disk/qcow2, …) that offers a Format; the
// list of them is in disk/formats. The contract's own tests, which every
// format runs, are in disk/disktest.
//
// All offsets and lengths are in bytes unless a name says otherwise. A
// disk's capacity is what the guest sees; a file's size is what it takes to
// store it.
package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// SectorSize is the unit in which virtual disks count: 512 bytes.
const SectorSize = 512

// Errors that callers act on. Formats wrap them with what, where and what to
// do.
var (
	// ErrFormat says that the bytes are not of the format that was asked:
	// probing goes on to the next one.
	ErrFormat = errors.New("not this disk format")
	// ErrCorrupt says that the image is of the format and is damaged.
	ErrCorrupt = errors.New("disk image is corrupt")
	// ErrUnsupported says that the image is sound and needs something that
	// is not implemented (encryption, say).
	ErrUnsupported = errors.New("not supported")
	// ErrNeedsSeek says that this image cannot be read as a stream: the
	// caller may spool it to a file and open that.
	ErrNeedsSeek = errors.New("the image cannot be read as a stream")
	// ErrOutside says that an image names a file that its package does not
	// hold, or that lies outside of it.
	ErrOutside = errors.New("the image names a file outside its package")
)

// File is the bytes of one stored file. ReadAt MUST be safe for concurrent
// use. Whoever opened it closes it.
type File interface {
	io.ReaderAt
	Size() int64
}

// LocalFile is a File whose bytes lie in an open file of the operating
// system, from some offset on: those that the kernel can copy by itself.
type LocalFile interface {
	File
	// Local gives the file and where in it this File's first byte lies.
	Local() (f *os.File, offset int64)
}

// Files opens the other files that an image is made of (VMDK extents, backing
// files) by the name the image gives. An implementation MUST open nothing but
// what the package holds, and answer ErrOutside for everything else: an image
// comes from a stranger. The files it gave are closed by it, not by the
// image.
type Files interface {
	OpenFile(ctx context.Context, name string) (File, error)
}

// NoFiles is the Files of an image that may name no other file.
type NoFiles struct{}

// OpenFile refuses.
func (NoFiles) OpenFile(_ context.Context, name string) (File, error) {
	return nil, fmt.Errorf("%q: %w", name, ErrOutside)
}

// Kind says what an extent is.
type Kind uint8

// The kinds of extent.
const (
	// Hole is not stored anywhere; it reads as zeroes.
	Hole Kind = iota
	// Zero is recorded as zeroes.
	Zero
	// Data is stored as it is.
	Data
	// Compressed is one unit (a grain, a cluster) that is stored
	// compressed, by the extent's Codec.
	Compressed
)

// String gives the kind's name as qemu-img map would.
func (k Kind) String() string {
	switch k {
	case Hole:
		return "hole"
	case Zero:
		return "zero"
	case Data:
		return "data"
	case Compressed:
		return "compressed"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Codec says how a compressed unit is stored.
type Codec uint8

// The codecs of the formats that are known here.
const (
	// NoCodec is for bytes stored as they are.
	NoCodec Codec = iota
	// Deflate is a raw deflate stream (RFC 1951): qcow2.
	Deflate
	// Zlib is a deflate stream with a two-byte header and an Adler-32
	// trailer (RFC 1950): VMDK.
	Zlib
	// Zstd is one Zstandard frame (RFC 8878): qcow2 version 3.
	Zstd
)

// String gives the codec's name.
func (c Codec) String() string {
	switch c {
	case NoCodec:
		return "none"
	case Deflate:
		return "deflate"
	case Zlib:
		return "zlib"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("Codec(%d)", uint8(c))
}

// Extent is a run of the virtual disk of one kind.
type Extent struct {
	// Offset and Length are the run's place on the virtual disk.
	Offset, Length int64
	Kind           Kind
	// Codec is how a Compressed extent is stored.
	Codec Codec
	// File, FileOffset and FileLength are where the run's bytes lie: for
	// Data, FileLength equals Length; for Compressed it is the number of
	// bytes that may be read to get the whole compressed unit (the stream
	// itself may end earlier: qcow2 counts in sectors). File is nil for
	// holes and zeroes, and where the bytes lie nowhere as they are.
	File                   File
	FileOffset, FileLength int64
}

// End is the offset just past the extent.
func (e Extent) End() int64 { return e.Offset + e.Length }

// Within gives what of an extent shows through a hole of an image that is above
// it: no more than the hole has. A Compressed extent, other than a Mapper's, of which only a part shows
// has to be read, and is Data that lies nowhere.
func Within(e, hole Extent) Extent {
	if e.Kind == Compressed && e.File != nil {
		if e.Offset >= hole.Offset && e.End() <= hole.End() {
			return e
		}
		from := max(e.Offset, hole.Offset)
		return Extent{Offset: from, Length: min(e.End(), hole.End()) - from, Kind: Data}
	}
	if e.Length > hole.Length {
		e.Length = hole.Length
		if e.Kind == Data && e.File != nil {
			e.FileLength = e.Length
		}
	}
	return e
}

// ReadBelow reads what the image below another one, a backing image or parent,
// gives at an offset: zeroes past its end, and everywhere where there is none
// (nil).
func ReadBelow(below Image, b []byte, off int64) error {
	if below == nil || off >= below.Size() {
		clear(b)
		return nil
	}
	n := min(int64(len(b)), below.Size()-off)
	clear(b[n:])
	if got, err := below.ReadAt(b[:n], off); int64(got) < n {
		return fmt.Errorf("read the image below at %d: %w", off+int64(got), err)
	}
	return nil
}

// KeepOpen is an image that is someone else's to close.
type KeepOpen struct{ Image }

// Close does nothing.
func (KeepOpen) Close() error { return nil }

// Unwrap gives the image of the format itself, for what only that can tell of
// it.
func Unwrap(m Image) Image {
	for {
		k, ok := m.(KeepOpen)
		if !ok {
			return m
		}
		m = k.Image
	}
}

// Image is random access to a virtual disk. ReadAt and Extent MUST be safe
// for concurrent use.
type Image interface {
	// ReadAt reads what the guest would. Reads past Size give io.EOF.
	io.ReaderAt
	// Size is the capacity.
	Size() int64
	// Extent gives the run that holds the byte at off. For Hole, Zero and
	// Data it begins at off; a Compressed one begins where its unit does,
	// which may be before off. It MUST hold off, MUST NOT reach past Size
	// (a last unit that is cut by the disk's end is given shortened), and
	// SHOULD be as long as is known without much reading. At Size and past
	// it, it gives io.EOF. The work for a walk over the whole disk MUST be
	// linear in its tables, whatever the tables say.
	Extent(ctx context.Context, off int64) (Extent, error)
	// Close frees what the image holds. It does not close the files that
	// the image was opened on.
	io.Closer
}

// Mapper is an Image that has to read at each compressed unit to give its Extent,
// and whose tables alone say what is stored: of use where reading is dear, as on a
// web server.
type Mapper interface {
	// Map is as Extent, save that a Compressed run begins at off, may be of many
	// units, and has no File.
	Map(ctx context.Context, off int64) (Extent, error)
}

// Map is the image's own, where it is a Mapper, and its Extent where not.
func Map(ctx context.Context, img Image, off int64) (Extent, error) {
	if m, ok := img.(Mapper); ok {
		return m.Map(ctx, off)
	}
	return img.Extent(ctx, off)
}

// Run is an extent with its bytes, as they lie in the file: as they are for
// Data, still compressed for Compressed, nil for Hole and Zero.
type Run struct {
	Extent
	Stored []byte
}

// Stream is a virtual disk that arrives once, in file order.
type Stream interface {
	// Size is the capacity; it is known from the start.
	Size() int64
	// Next gives the next run, in whatever order the file holds them; no
	// part of the disk comes twice, and what never comes is a hole. Stored
	// is good until the next call. At the end, which is reached only when
	// the file is seen to be whole, it gives io.EOF; a file that breaks
	// off gives io.ErrUnexpectedEOF and ErrCorrupt, wrapped. Whoever hashes the file
	// reads what is left of it after that.
	Next(ctx context.Context) (Run, error)
}

// Writer makes an image. The calls are made one at a time, never concurrently.
// Parts that are never written read as zeroes. Offsets may come in any order,
// except where Layout says otherwise; no part is written twice.
type Writer interface {
	// WriteAt writes data at an offset of the virtual disk.
	io.WriterAt
	// WriteZeroes records zeroes; nothing is stored for them.
	WriteZeroes(off, length int64) error
	// WriteCompressed takes one whole unit as Layout says, already
	// compressed by Layout's codec. It is called only where Layout names a
	// codec.
	WriteCompressed(off int64, stored []byte) error
	// Layout says what the writer would like best.
	Layout() Layout
	// Finish writes what is left (tables, headers, footers). The Output's
	// owner makes the files appear after that. A Writer is of no use after
	// Finish; dropping one without Finish frees nothing but memory.
	Finish(ctx context.Context) error
}

// PlainWriter is a Writer of compressed units that may store one as it is,
// where that is smaller.
type PlainWriter interface {
	// WritePlain takes one whole unit as Layout says, the last one cut by
	// the disk's end, and does not try to compress it.
	WritePlain(unit []byte, off int64) error
}

// Layout is what a Writer says of the image it makes.
type Layout struct {
	// Unit is the size of the blocks the image is stored in (a grain, a
	// cluster, a block): a power of two, or 0 where there is none. Writes
	// of whole units at multiples of it are the fast ones; every writer
	// takes others as well, unless Codec is set, in which case each unit is
	// written whole and once (the last may be cut by the disk's end).
	Unit int64
	// Codec is how units are stored compressed, or NoCodec where data is
	// stored as it is. With a codec, data given to WriteAt is compressed
	// by the writer itself; the engine rather compresses in parallel and
	// calls WriteCompressed.
	Codec Codec
	// Ordered says that offsets must not go down.
	Ordered bool
}

// Output is where a Writer puts the files of the image. Names are base names;
// the owner decides where they lie and lets them appear under their names
// only when all is finished.
type Output interface {
	Create(name string) (OutputFile, error)
}

// OutputFile is one file being written. Bytes never written read as zeroes.
type OutputFile interface {
	io.WriterAt
	io.ReaderAt
	Truncate(size int64) error
}

// RangeWriter is a Writer, or the OutputFile below it, that may take data
// from another file without it passing through the program (copy_file_range,
// shared blocks where the file system has them).
type RangeWriter interface {
	// WriteRange does what WriteAt at off does with length bytes of f from
	// fileOffset on. It answers ErrUnsupported where that cannot be done
	// for this pair of files, and the caller then uses WriteAt for the same
	// range.
	WriteRange(off int64, f File, fileOffset, length int64) error
}

// OpenOptions are what a format may need to open an image.
type OpenOptions struct {
	// Files opens the other files that the image is made of; nil is
	// NoFiles.
	Files Files
	// Parent is the disk below a delta (OVF's ovf:parentRef, a VHD or VHDX
	// differencing disk, a VMDK with a parent), where the package says so
	// and the image does not name it itself.
	Parent Image
	// Backing opens the image in another file that this one is a delta of,
	// by the name and the format ("" where it is not said) that this image
	// gives; whoever knows all formats sets it. nil means that the image may
	// not have one. The image that it gives is closed with this one.
	Backing func(ctx context.Context, name, format string) (Image, error)
	// Spool keeps what r gives where it can be seeked in: the content of a
	// file that is compressed as a whole, as why says for people. Whoever
	// has a place for such copies sets it; nil means that such files are
	// refused. A File that it gives and that is an io.Closer is closed with
	// the image.
	Spool func(ctx context.Context, r io.Reader, why string) (File, error)
	// MaxTableBytes bounds the memory that tables may take, counted before
	// it is allocated; 0 is DefaultMaxTableBytes.
	MaxTableBytes int64
}

// Below gives the image that another one, of the format of, is a delta of: Parent, which stays its owner's to close, or the one that Backing
// finds by the name and format that the image gives. Without either it answers
// ErrOutside.
func (o OpenOptions) Below(ctx context.Context, of, name, format string) (Image, error) {
	switch {
	case o.Parent != nil:
		return KeepOpen{o.Parent}, nil
	case o.Backing == nil || name == "":
		return nil, fmt.Errorf("%s: the disk is a delta of %q, which is not to be had: %w", of, name, ErrOutside)
	}
	m, err := o.Backing(ctx, name, format)
	if err != nil {
		return nil, fmt.Errorf("%s: parent %q: %w", of, name, err)
	}
	return m, nil
}

// DefaultMaxTableBytes is the memory that the tables of one image may take
// unless OpenOptions says otherwise.
const DefaultMaxTableBytes = 64 << 20

// TableLimit is MaxTableBytes, or the default.
func (o OpenOptions) TableLimit() int64 {
	if o.MaxTableBytes > 0 {
		return o.MaxTableBytes
	}
	return DefaultMaxTableBytes
}

// CreateOptions say what image to make.
type CreateOptions struct {
	// Name is the file's base name; other files' names are made from it.
	Name string
	// Size is the capacity, a multiple of SectorSize.
	Size int64
	// Subformat is one of the Format's Subformats; "" is the first.
	Subformat string
	// Compress asks for compressed units where the format has a choice.
	// Codec says which; NoCodec is the format's own first choice.
	Compress bool
	Codec    Codec
	// Unit asks for a grain, cluster or block size; 0 is the format's own.
	Unit int64
	// Level is the compression level, 1 to 9; 0 is the default.
	Level int
	// Identity seeds the identifiers that a format writes (VMDK content
	// ID, VHD and VDI UUIDs), so that the same input gives the same bytes.
	Identity [16]byte
}

// Info is what a format says of an image besides its size, for people.
type Info struct {
	Format    string // the Format's Name
	Subformat string // "" where there is one only
	// Unit is the block size, 0 where there is none.
	Unit int64
	// Codec is how units are stored, where they are compressed.
	Codec Codec
	// Packed is how the file is compressed as a whole ("gzip", "xz", …), ""
	// where it is not.
	Packed string
	// Parent is the name of the backing or parent file that the image
	// gives, "" for none.
	Parent string
	// Files are the names of the other files that hold the disk's data.
	Files []string
	// Details are further facts by their usual names (cid, version, …).
	Details map[string]string
	// Notes are what whoever uses the image should be told: what of it is
	// passed over, or was not as it should be.
	Notes []string
}

// StateHolder is an Image that may hold the run-time state of a guest besides
// the disk, in snapshots that were taken while the guest ran.
type StateHolder interface {
	// SavedStates is how many such snapshots there are.
	SavedStates() (int, error)
}

// Informer is an Image that can describe itself.
type Informer interface {
	Info() Info
}

// Format is one disk format.
type Format interface {
	// Name is the name that qemu-img uses: vmdk, qcow2, vpc, vhdx, vdi,
	// raw.
	Name() string
	// Subformats are the names that Create takes; the first is the
	// default. They are qemu-img's where it has them.
	Subformats() []string
	// Extensions are the file name endings, with the dot; the first is the
	// one to write.
	Extensions() []string
	// URIs are the values of ovf:format that mean this format; the first
	// is the one to write.
	URIs() []string
	// Open opens an image. It answers ErrFormat, having read no more than
	// a header, where f is not of this format.
	Open(ctx context.Context, f File, opt OpenOptions) (Image, error)
	// Create begins a new image.
	Create(ctx context.Context, out Output, opt CreateOptions) (Writer, error)
}

// Streamer is a Format some of whose images can be read as they arrive.
type Streamer interface {
	// OpenStream answers ErrFormat where head, the file's first bytes (at
	// least 64 KiB unless the file is shorter), is not of this format, and
	// ErrNeedsSeek where it is but must be seeked in. r gives the file from
	// its start, head included. size is the file's, -1 where not known.
	OpenStream(ctx context.Context, head []byte, r io.Reader, size int64) (Stream, error)
}

// StreamCreator is a Format that can be written to what cannot seek.
type StreamCreator interface {
	// CreateStream begins an image that is written to w front to back. The
	// Writer's Layout has Ordered set. It answers ErrUnsupported for
	// options that need seeking.
	CreateStream(ctx context.Context, w io.Writer, opt CreateOptions) (Writer, error)
}

// Fault is damage found in an image, with what it costs the guest.
type Fault struct {
	// Offset and Length are the range of the virtual disk that is lost;
	// Length is 0 where the fault costs nothing (a leak).
	Offset, Length int64
	// FileOffset is where in the file the fault lies.
	FileOffset int64
	// Text says what is wrong.
	Text string
}

// Checker is an Image that can check its own structure: overlaps, tables that
// point past the end, reference counts. The check of every compressed unit's
// content is not its work but that of disk/check, which needs Extent only.
type Checker interface {
	Check(ctx context.Context, report func(Fault)) error
}
