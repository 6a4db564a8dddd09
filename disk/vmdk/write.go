package vmdk

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"math/bits"
	"strings"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/chunk"
	"github.com/ovation-project/ovation/internal/codec"
)

// Create begins a disk of one of the Subformats. streamOptimized is compressed,
// the others are not. Unit is the size of grains of the sparse ones, 0 is
// 64 KiB.
func (Format) Create(_ context.Context, out disk.Output, opt disk.CreateOptions) (disk.Writer, error) {
	if err := checkCreate(&opt); err != nil {
		return nil, err
	}
	switch opt.Subformat {
	case streamOptimized:
		f, err := out.Create(opt.Name)
		if err != nil {
			return nil, err
		}
		return newStreamWriter(&appender{f: f}, f, opt)
	case monolithicSparse:
		f, err := out.Create(opt.Name)
		if err != nil {
			return nil, err
		}
		d := newDescriptor(opt, extentLine{access: "RW", sectors: opt.Size / sector, kind: "SPARSE", name: opt.Name})
		return newSparseWriter(f, opt.Size, opt.Unit, d)
	}
	return newSplitWriter(out, opt)
}

// CreateStream begins a streamOptimized disk that is written front to back.
func (Format) CreateStream(_ context.Context, w io.Writer, opt disk.CreateOptions) (disk.Writer, error) {
	if err := checkCreate(&opt); err != nil {
		return nil, err
	}
	if opt.Subformat != streamOptimized {
		return nil, unsupported("%s cannot be written to what cannot seek; streamOptimized can", opt.Subformat)
	}
	return newStreamWriter(bufio.NewWriterSize(w, 256<<10), nil, opt)
}

func checkCreate(opt *disk.CreateOptions) error {
	if opt.Subformat == "" {
		opt.Subformat = streamOptimized
	}
	if opt.Unit == 0 {
		opt.Unit = defaultGrain
	}
	switch opt.Subformat {
	case streamOptimized:
		if opt.Codec != disk.NoCodec && opt.Codec != disk.Zlib {
			return unsupported("grains compressed by %v", opt.Codec)
		}
	case monolithicSparse, monolithicFlat, twoGbMaxExtentSparse, twoGbMaxExtentFlat, vmfs:
		if opt.Compress || opt.Codec != disk.NoCodec {
			return unsupported("%s is not compressed; streamOptimized is", opt.Subformat)
		}
	default:
		return unsupported("subformat %q; %s are written", opt.Subformat, strings.Join(Format{}.Subformats(), ", "))
	}
	if opt.Unit < 8*sector || opt.Unit > maxGrain || bits.OnesCount64(uint64(opt.Unit)) != 1 {
		return unsupported("grains of %d bytes: a power of two from 4096 to %d is needed", opt.Unit, maxGrain)
	}
	if opt.Size < 0 || opt.Size%sector != 0 || opt.Size > maxCapacity*sector {
		return fmt.Errorf("vmdk: a disk of %d bytes: a multiple of %d is needed", opt.Size, sector)
	}
	if n := (&header{capacity: opt.Size, grain: opt.Unit, gtes: defaultGTEs}).tables() * 4; n > disk.DefaultMaxTableBytes && isSparse(opt.Subformat) {
		return unsupported("a grain directory of %d bytes for a disk of %d", n, opt.Size)
	}
	if strings.ContainsAny(opt.Name, "\"\r\n") || opt.Name == "" {
		return fmt.Errorf("vmdk: the name %q cannot stand in a descriptor", opt.Name)
	}
	return nil
}

func isSparse(subformat string) bool {
	switch subformat {
	case streamOptimized, monolithicSparse, twoGbMaxExtentSparse:
		return true
	}
	return false
}

// inside refuses what is not a part of the disk.
func inside(off, length, size int64) error {
	if off < 0 || length < 0 || off > size-length {
		return fmt.Errorf("vmdk: %d bytes at %d are outside of the disk of %d bytes", length, off, size)
	}
	return nil
}

// newDescriptor gives the text of a descriptor.
func newDescriptor(opt disk.CreateOptions, extents ...extentLine) string {
	var b strings.Builder
	id := le.Uint32(opt.Identity[:])
	if id == 0 || id >= 0xfffffffe {
		id = 1 // these have meanings of their own
	}
	fmt.Fprintf(&b, "# Disk DescriptorFile\nversion=1\nCID=%08x\nparentCID=%s\ncreateType=\"%s\"\n\n# Extent description\n", id, noParent, opt.Subformat)
	for _, e := range extents {
		fmt.Fprintf(&b, "%s %d %s \"%s\"", e.access, e.sectors, e.kind, e.name)
		if e.kind == "FLAT" {
			fmt.Fprintf(&b, " %d", e.offset)
		}
		b.WriteByte('\n')
	}
	sectors := opt.Size / sector
	cylinders := min(65535, max(1, sectors/(255*63)))
	fmt.Fprintf(&b, `
# The Disk Data Base
#DDB

ddb.virtualHWVersion = "4"
ddb.geometry.cylinders = "%d"
ddb.geometry.heads = "255"
ddb.geometry.sectors = "63"
ddb.adapterType = "lsilogic"
ddb.longContentID = "%x%08x"
`, cylinders, opt.Identity[4:], id)
	return b.String()
}

// putHeader fills in a sparse header.
func putHeader(h header, rgd, overhead int64) []byte {
	b := make([]byte, sector)
	copy(b, sparseMagic)
	le.PutUint32(b[4:], h.version)
	le.PutUint32(b[8:], h.flags)
	le.PutUint64(b[12:], uint64(h.capacity/sector))
	le.PutUint64(b[20:], uint64(h.grain/sector))
	le.PutUint64(b[28:], uint64(h.descriptorOffset/sector))
	le.PutUint64(b[36:], uint64(h.descriptorSize/sector))
	le.PutUint32(b[44:], uint32(h.gtes))
	le.PutUint64(b[48:], uint64(rgd/sector))
	le.PutUint64(b[56:], uint64(h.gdOffset/sector))
	if h.gdOffset < 0 {
		le.PutUint64(b[56:], gdAtEnd)
	}
	le.PutUint64(b[64:], uint64(overhead/sector))
	copy(b[73:], "\n \r\n")
	if h.compressed {
		le.PutUint16(b[77:], compressDeflate)
	}
	return b
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }

// appender writes to a file front to back, in large pieces.
type appender struct {
	f   disk.OutputFile
	at  int64
	buf []byte
}

const appendBuffer = 1 << 20

func (a *appender) Write(p []byte) (int, error) {
	if a.buf == nil {
		a.buf = make([]byte, 0, appendBuffer+128<<10)
	}
	a.buf = append(a.buf, p...)
	if len(a.buf) < appendBuffer {
		return len(p), nil
	}
	return len(p), a.Flush()
}

func (a *appender) Flush() error {
	n, err := a.f.WriteAt(a.buf, a.at)
	a.at += int64(n)
	a.buf = a.buf[:0]
	return err
}

// streamWriter writes streamOptimized: each grain behind a marker, a table when
// all of its grains are there, the directory and the footer at the end.
type streamWriter struct {
	w       flusher
	f       disk.OutputFile // nil where w cannot seek
	h       header
	level   int
	at      int64
	tables  map[int64]*openTable
	gd      []uint32
	last    int64 // the grain written last, for what cannot seek
	packed  []byte
	padding [sector]byte
}

// flusher gathers what is written.
type flusher interface {
	io.Writer
	Flush() error
}

type openTable struct {
	entries []uint32
	used    int
}

// overhead is where the grains begin, as in VMware's own files.
const overhead = 128 * sector

func newStreamWriter(w flusher, f disk.OutputFile, opt disk.CreateOptions) (*streamWriter, error) {
	s := &streamWriter{w: w, f: f, level: opt.Level, last: -1, tables: map[int64]*openTable{}}
	s.h = header{
		version: 3, flags: flagNewlines | flagCompressed | flagMarkers, capacity: opt.Size, grain: opt.Unit,
		descriptorOffset: sector, descriptorSize: 20 * sector, gtes: defaultGTEs, gdOffset: -1, compressed: true,
	}
	s.gd = make([]uint32, s.h.tables())
	text := newDescriptor(opt, extentLine{access: "RW", sectors: opt.Size / sector, kind: "SPARSE", name: opt.Name})
	if int64(len(text)) > s.h.descriptorSize {
		return nil, fmt.Errorf("vmdk: the name %.20q… is too long for the descriptor", opt.Name)
	}
	head := make([]byte, overhead)
	if f == nil {
		copy(head, putHeader(s.h, 0, overhead))
	} // else the header is written last, so that a file that is not finished is no disk
	copy(head[s.h.descriptorOffset:], text)
	return s, s.write(head)
}

func (s *streamWriter) write(p []byte) error {
	n, err := s.w.Write(p)
	s.at += int64(n)
	return err
}

// pad fills up the sector.
func (s *streamWriter) pad() error {
	if rest := s.at % sector; rest != 0 {
		return s.write(s.padding[rest:])
	}
	return nil
}

// Layout says that grains are to be compressed by zlib.
func (s *streamWriter) Layout() disk.Layout {
	return disk.Layout{Unit: s.h.grain, Codec: disk.Zlib, Ordered: s.f == nil}
}

// WriteZeroes stores nothing: a grain that is not there reads as zeroes.
func (s *streamWriter) WriteZeroes(off, length int64) error {
	return inside(off, length, s.h.capacity)
}

// WriteAt compresses whole grains. Those that are zero are not stored.
func (s *streamWriter) WriteAt(p []byte, off int64) (int, error) {
	if err := inside(off, int64(len(p)), s.h.capacity); err != nil {
		return 0, err
	}
	for done := 0; done < len(p); {
		n := min(int64(len(p)-done), s.h.grain)
		at := off + int64(done)
		if n < s.h.grain && at+n != s.h.capacity {
			return done, fmt.Errorf("vmdk: a write of %d bytes at %d is not of whole grains", len(p), off)
		}
		unit := p[done : done+int(n)]
		if chunk.IsZero(unit) {
			done += int(n)
			continue
		}
		if n < s.h.grain { // consumers expect a whole grain
			unit = append(make([]byte, 0, s.h.grain), unit...)[:s.h.grain]
		}
		var err error
		if s.packed, err = codec.Compress(disk.Zlib, s.level, s.packed[:0], unit); err != nil {
			return done, err
		}
		if err := s.WriteCompressed(at, s.packed); err != nil {
			return done, err
		}
		done += int(n)
	}
	return len(p), nil
}

// WriteCompressed stores a grain that is a zlib stream already.
func (s *streamWriter) WriteCompressed(off int64, stored []byte) error {
	n := off / s.h.grain
	switch {
	case off < 0 || off >= s.h.capacity || off%s.h.grain != 0:
		return fmt.Errorf("vmdk: no grain of %d bytes begins at %d of the disk", s.h.grain, off)
	case len(stored) == 0 || int64(len(stored)) > maxStored(s.h.grain):
		return fmt.Errorf("vmdk: %d bytes are no compressed grain", len(stored))
	case s.f == nil && n <= s.last:
		return fmt.Errorf("vmdk: the grain at %d comes after that at %d: %w", off, s.last*s.h.grain, disk.ErrNeedsSeek)
	case s.at/sector > math.MaxUint32:
		return unsupported("a file of more than 2 TiB")
	}
	if s.f == nil && s.last >= 0 && n/s.h.gtes != s.last/s.h.gtes {
		if err := s.putTable(s.last / s.h.gtes); err != nil {
			return err
		}
	}
	s.last = n
	t := s.tables[n/s.h.gtes]
	if t == nil {
		if s.gd[n/s.h.gtes] != 0 {
			return fmt.Errorf("vmdk: the grain at %d is written twice", off)
		}
		t = &openTable{entries: make([]uint32, s.h.gtes)}
		s.tables[n/s.h.gtes] = t
	}
	if t.entries[n%s.h.gtes] != 0 {
		return fmt.Errorf("vmdk: the grain at %d is written twice", off)
	}
	t.entries[n%s.h.gtes] = uint32(s.at / sector)
	t.used++
	var head [markerHead]byte
	le.PutUint64(head[:], uint64(off/sector))
	le.PutUint32(head[8:], uint32(len(stored)))
	if err := s.write(head[:]); err != nil {
		return err
	}
	if err := s.write(stored); err != nil {
		return err
	}
	if err := s.pad(); err != nil {
		return err
	}
	if t.used == len(t.entries) {
		return s.putTable(n / s.h.gtes)
	}
	return nil
}

// marker writes a marker of another kind than a grain's; sectors follow it.
func (s *streamWriter) marker(kind uint32, sectors int64) error {
	var b [sector]byte
	le.PutUint64(b[:], uint64(sectors))
	le.PutUint32(b[12:], kind)
	return s.write(b[:])
}

func (s *streamWriter) putTable(i int64) error {
	t := s.tables[i]
	if t == nil {
		return nil
	}
	delete(s.tables, i)
	if err := s.marker(markerGT, s.h.gtes*4/sector); err != nil {
		return err
	}
	s.gd[i] = uint32(s.at / sector)
	return s.putEntries(t.entries)
}

func (s *streamWriter) putEntries(entries []uint32) error {
	b := make([]byte, roundUp(int64(len(entries))*4, sector))
	for i, e := range entries {
		le.PutUint32(b[i*4:], e)
	}
	return s.write(b)
}

// Finish writes the tables that are not full, the directory, the footer and the
// end-of-stream marker.
func (s *streamWriter) Finish(ctx context.Context) error {
	for i := range s.h.tables() {
		if err := s.putTable(i); err != nil {
			return err
		}
	}
	if err := s.marker(markerGD, roundUp(int64(len(s.gd))*4, sector)/sector); err != nil {
		return err
	}
	footer := s.h
	footer.gdOffset = s.at
	if s.at/sector > math.MaxUint32 {
		return unsupported("a file of more than 2 TiB")
	}
	if err := s.putEntries(s.gd); err != nil {
		return err
	}
	if err := s.marker(markerFooter, 1); err != nil {
		return err
	}
	if err := s.write(putHeader(footer, 0, overhead)); err != nil {
		return err
	}
	if err := s.marker(markerEOS, 0); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.w.Flush(); err != nil || s.f == nil {
		return err
	}
	_, err := s.f.WriteAt(putHeader(s.h, 0, overhead), 0)
	return err
}
