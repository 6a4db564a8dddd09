package vmdk

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/cache"
	"github.com/ovation-project/ovation/internal/codec"
)

// cacheBytes is the memory that the cached grain tables of an image, and its
// inflated grains, may take, each.
const cacheBytes = 8 << 20

// memory is what the extents of one image share.
type memory struct {
	left     int64 // of what tables may take
	extents  int
	tables   *cache.Cache[place, []byte]
	inflated *cache.Cache[place, []byte]
}

// place is a table's number, or a grain's offset in the file, within an extent.
type place struct {
	extent int
	n      int64
}

func newMemory(limit int64) *memory {
	size := func(b []byte) int64 { return int64(len(b)) }
	return &memory{left: limit, tables: cache.NewSized[place](cacheBytes, size), inflated: cache.NewSized[place](cacheBytes, size)}
}

// take counts the memory of a table before it is allocated.
func (m *memory) take(n int64, what string) error {
	if n > m.left {
		return unsupported("%s of %d bytes is over what the tables of an image may take", what, n)
	}
	m.left -= n
	return nil
}

// extent gives a number for what is kept of one extent.
func (m *memory) extent() int {
	m.extents++
	return m.extents
}

// grainMap says where the grains of a sparse extent lie. Each on-disk layout
// has its own.
type grainMap interface {
	// perTable gives the number of grains that one table maps.
	perTable() int64
	// lookup gives what grain n is: Hole (as the parent has it), Zero, or
	// Data at an offset of the file.
	lookup(n int64) (disk.Kind, int64, error)
	// empty says whether a whole table is not there.
	empty(table int64) bool
	// metadata gives where the directory and the tables lie.
	metadata(yield func(off, length int64) bool)
}

// sparse is a sparse extent: grains, each stored somewhere in the file or not
// at all.
type sparse struct {
	f          disk.File
	capacity   int64
	grain      int64
	compressed bool
	markers    bool
	grains     grainMap
	mem        *memory
	id         int   // in mem
	front      int64 // the bytes before tables and grains: header, descriptor
}

// openSparse opens a file that begins with a sparse header.
func openSparse(ctx context.Context, f disk.File, head []byte, mem *memory) (*sparse, *header, error) {
	h, err := parseHeader(head)
	if err != nil {
		return nil, nil, err
	}
	s := &sparse{
		f: f, capacity: h.capacity, grain: h.grain, compressed: h.compressed, markers: h.flags&flagMarkers != 0,
		mem: mem, id: mem.extent(), front: max(sector, h.descriptorOffset+h.descriptorSize),
	}
	gd := h.gdOffset
	if gd < 0 {
		footer, err := findFooter(f)
		if err != nil {
			return nil, nil, err
		}
		if footer != nil {
			if footer.grain != h.grain || footer.gtes != h.gtes || footer.capacity != 0 && footer.capacity != h.capacity && h.capacity != 0 {
				return nil, nil, corrupt("the footer describes another disk than the header")
			}
			if h.capacity == 0 {
				s.capacity, h.capacity = footer.capacity, footer.capacity
			}
			gd = footer.gdOffset
		}
	}
	switch {
	case h.capacity == 0:
		s.grains = noGrains{}
	case gd > 0:
		s.grains, err = newTwoLevel(f, gd, h.tables(), h.gtes, h.flags&flagZeroGrain != 0, s.id, mem)
	case s.markers:
		s.grains, err = scanMarkers(ctx, f, h, mem)
	default:
		err = corrupt("there is no grain directory")
	}
	return s, h, err
}

// findFooter looks for the footer of a streamOptimized file: the sector before
// the end-of-stream marker. Padding behind it, as tools that write to tapes
// and object stores leave it, is passed over.
func findFooter(f disk.File) (*header, error) {
	// Most have it in the last few sectors, and reading may cost.
	for _, reach := range []int64{64 << 10, 1 << 20} {
		if h, err := findFooterIn(f, reach); h != nil || err != nil {
			return h, err
		}
	}
	return nil, nil
}

func findFooterIn(f disk.File, reach int64) (*header, error) {
	size := f.Size()
	from := max(0, size-reach) &^ (sector - 1)
	b := make([]byte, size-from)
	if _, err := f.ReadAt(b, from); err != nil && err != io.EOF {
		return nil, fmt.Errorf("vmdk: read the footer: %w", err)
	}
	for at := (len(b) - 1) &^ (sector - 1); at > 0; at -= sector {
		if !bytes.HasPrefix(b[at:], []byte(sparseMagic)) || len(b)-at < sector {
			continue
		}
		if at < sector || le.Uint32(b[at-sector+12:]) != markerFooter || le.Uint32(b[at-sector+8:]) != 0 {
			continue
		}
		h, err := parseHeader(b[at:])
		if err != nil {
			return nil, err
		}
		if h.gdOffset < 0 {
			return nil, corrupt("the footer gives no grain directory")
		}
		return h, nil
	}
	return nil, nil
}

type noGrains struct{}

func (noGrains) perTable() int64                        { return 1 }
func (noGrains) lookup(int64) (disk.Kind, int64, error) { return disk.Hole, 0, nil }
func (noGrains) empty(int64) bool                       { return true }
func (noGrains) metadata(func(int64, int64) bool)       {}

// twoLevel is a grain directory of tables with entries of 32 bits, which
// count sectors: the sparse header's and COWD's way.
type twoLevel struct {
	f         disk.File
	at        int64 // of the directory
	gtes      int64
	directory []uint32
	zeroGrain bool
	id        int
	mem       *memory
}

// newTwoLevel reads a directory of n tables.
func newTwoLevel(f disk.File, at, n, gtes int64, zeroGrain bool, id int, mem *memory) (*twoLevel, error) {
	t := &twoLevel{f: f, at: at, gtes: gtes, zeroGrain: zeroGrain, id: id, mem: mem}
	if err := mem.take(n*4, "a grain directory"); err != nil {
		return nil, err
	}
	if at > f.Size()-n*4 {
		return nil, corrupt("the grain directory at %d, %d bytes long, reaches past the end of the file", at, n*4)
	}
	t.directory = make([]uint32, n)
	var there int64
	err := readWords(f, at, t.directory, func(e uint32) {
		if e != 0 {
			there++
		}
	})
	if err != nil {
		return nil, fmt.Errorf("vmdk: read the grain directory at %d: %w", at, err)
	}
	// Tables that share their bytes would make a walk over them as long as
	// whoever wrote them likes.
	if there*gtes*4 > f.Size() {
		return nil, corrupt("%d grain tables of %d bytes are more than a file of %d bytes holds", there, gtes*4, f.Size())
	}
	return t, nil
}

// readWords reads 32-bit numbers.
func readWords(f disk.File, at int64, words []uint32, each func(uint32)) error {
	b := make([]byte, min(int64(len(words))*4, 64<<10))
	for len(words) > 0 {
		b = b[:min(len(b), len(words)*4)]
		if n, err := f.ReadAt(b, at); n < len(b) {
			return err
		}
		for i := 0; i < len(b); i += 4 {
			words[i/4] = le.Uint32(b[i:])
			each(words[i/4])
		}
		words = words[len(b)/4:]
		at += int64(len(b))
	}
	return nil
}

func (t *twoLevel) perTable() int64 { return t.gtes }

func (t *twoLevel) empty(table int64) bool { return t.directory[table] == 0 }

func (t *twoLevel) metadata(yield func(off, length int64) bool) {
	if !yield(t.at, int64(len(t.directory))*4) {
		return
	}
	for _, e := range t.directory {
		if e != 0 && !yield(int64(e)*sector, t.gtes*4) {
			return
		}
	}
}

func (t *twoLevel) lookup(n int64) (disk.Kind, int64, error) {
	i := n / t.gtes
	if t.empty(i) {
		return disk.Hole, 0, nil
	}
	b, err := t.mem.tables.Get(place{t.id, i}, func() ([]byte, error) {
		at := int64(t.directory[i]) * sector
		if at > t.f.Size()-t.gtes*4 {
			return nil, corrupt("grain table %d at %d reaches past the end of the file", i, at)
		}
		b := make([]byte, t.gtes*4)
		if got, err := t.f.ReadAt(b, at); got < len(b) {
			return nil, fmt.Errorf("vmdk: read the grain table at %d: %w", at, err)
		}
		return b, nil
	})
	if err != nil {
		return disk.Hole, 0, err
	}
	switch e := le.Uint32(b[n%t.gtes*4:]); {
	case e == 0:
		return disk.Hole, 0, nil
	case e == 1 && t.zeroGrain:
		return disk.Zero, 0, nil
	default:
		return disk.Data, int64(e) * sector, nil
	}
}

// scanned is what is found by walking over the markers of a streamOptimized
// file whose tables are missing.
type scanned struct {
	at map[int64]int64 // offsets of grains' markers
}

func (s scanned) perTable() int64 { return defaultGTEs }

func (s scanned) empty(int64) bool { return false }

func (s scanned) metadata(func(int64, int64) bool) {}

func (s scanned) lookup(n int64) (disk.Kind, int64, error) {
	if at, ok := s.at[n]; ok {
		return disk.Data, at, nil
	}
	return disk.Hole, 0, nil
}

// scannedGrain is about what a grain takes in the map of scanned.
const scannedGrain = 48

// scanMarkers finds the grains of a file without a directory, or without the
// footer that says where it is. It reads a sector a grain.
func scanMarkers(ctx context.Context, f disk.File, h *header, mem *memory) (grainMap, error) {
	s := scanned{map[int64]int64{}}
	whole := wholeness{h: h}
	b := make([]byte, sector)
	for at := h.grains; ; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if n, err := f.ReadAt(b, at); n < sector {
			if err != nil && err != io.EOF {
				return nil, err
			}
			if n == 0 && whole.atEOF() {
				return s, nil
			}
			return nil, brokenOff(at + int64(n))
		}
		m := parseMarker(b)
		if m.size == 0 {
			if whole.marker(m, at) {
				return s, nil
			}
			if m.value > uint64(f.Size())/sector {
				return nil, corrupt("a marker at %d, of type %d, of %d sectors", at, m.kind, m.value)
			}
			at += sector + int64(m.value)*sector
			continue
		}
		whole.grain()
		n, err := m.grain(at, h)
		if err != nil {
			return nil, err
		}
		if _, twice := s.at[n]; twice {
			return nil, corrupt("the grain at sector %d comes twice, at %d again", m.value, at)
		}
		if err := mem.take(scannedGrain, "the map of a grain more in a file without a grain directory, another entry"); err != nil {
			return nil, err
		}
		s.at[n] = at
		at += padded(m.size)
	}
}

// brokenOff says that a streamOptimized file is not whole.
func brokenOff(at int64) error {
	return fmt.Errorf("vmdk: the file breaks off at byte %d, before its end-of-stream marker: %w: %w", at, io.ErrUnexpectedEOF, disk.ErrCorrupt)
}

// wholeness tells from the markers of a streamOptimized file, as they pass,
// whether all of it has. The end-of-stream marker alone, which is a sector of
// zeroes, does not say so: a file that was allocated before it was filled has
// these as well. What the header promises must have passed before it: the
// directory, and the footer where that has the directory's place.
type wholeness struct {
	h                       *header
	directory, footer, ends bool
}

// marker takes a marker that is not a grain's, and says whether it ends the
// file.
func (w *wholeness) marker(m marker, at int64) bool {
	w.ends = m.value == 0 && m.kind == markerEOS
	switch {
	case m.kind == markerGD:
		w.directory = true
	case m.kind == markerFooter:
		w.footer = true
	case !w.ends:
	case w.h.gdOffset < 0:
		return w.footer
	default:
		return w.h.gdOffset == 0 || at >= w.h.gdOffset+w.h.tables()*4
	}
	return false
}

func (w *wholeness) grain() { w.ends = false }

// atEOF says whether the file may end: after zeroes that follow the directory.
// There are writers that leave the footer out.
func (w *wholeness) atEOF() bool { return w.ends && w.directory }

// marker is a grain marker (size > 0; value is the grain's first sector) or
// one of another kind (value is the number of sectors that follow).
type marker struct {
	value uint64
	size  uint32
	kind  uint32
}

// markerHead is how many bytes a grain's marker has before its data.
const markerHead = 12

func parseMarker(b []byte) marker {
	return marker{le.Uint64(b), le.Uint32(b[8:]), le.Uint32(b[12:])}
}

// padded is how many bytes a grain of this compressed size takes with its
// marker.
func padded(size uint32) int64 {
	return (markerHead + int64(size) + sector - 1) &^ (sector - 1)
}

// grain checks a grain's marker and gives its number.
func (m marker) grain(at int64, h *header) (int64, error) {
	if m.value >= uint64(h.capacity)/sector {
		return 0, corrupt("the grain marker at %d is for sector %d, past the end of the disk", at, m.value)
	}
	if int64(m.value)*sector%h.grain != 0 {
		return 0, corrupt("the grain marker at %d is for sector %d, within a grain", at, m.value)
	}
	if int64(m.size) > maxStored(h.grain) {
		return 0, corrupt("the grain marker at %d is for %d compressed bytes, more than a grain of %d can take", at, m.size, h.grain)
	}
	return int64(m.value) * sector / h.grain, nil
}

// maxStored is the most that a compressed grain may take: zlib's bound, with
// room to spare for writers that do not compress well.
func maxStored(grain int64) int64 { return grain + grain/8 + 4096 }

// at gives what the grain that holds off is.
func (s *sparse) at(off int64) (kind disk.Kind, start, host int64, err error) {
	n := off / s.grain
	kind, host, err = s.grains.lookup(n)
	return kind, n * s.grain, host, err
}

// readAt reads within the extent. What the parent has to give is read from it.
func (s *sparse) readAt(b []byte, off int64, parent func([]byte, int64) error) error {
	for len(b) > 0 {
		kind, start, host, err := s.at(off)
		if err != nil {
			return err
		}
		part := b[:min(int64(len(b)), start+s.grain-off)]
		switch {
		case kind == disk.Zero:
			clear(part)
		case kind == disk.Hole:
			err = parent(part, off)
		case s.compressed:
			var g []byte
			if g, err = s.inflate(start, host); err == nil {
				copy(part, g[off-start:])
			}
		default:
			var n int
			if n, err = s.f.ReadAt(part, host+off-start); n == len(part) {
				err = nil
			} else if err == io.EOF {
				err = corrupt("the grain at sector %d lies at %d, past the end of the file", start/sector, host)
			}
		}
		if err != nil {
			return err
		}
		b = b[len(part):]
		off += int64(len(part))
	}
	return nil
}

// stored gives where a compressed grain's bytes lie. A grain without a marker
// (embedded LBA) gives its size in the first four bytes.
func (s *sparse) stored(start, host int64) (at, n int64, err error) {
	var b [markerHead]byte
	if got, err := s.f.ReadAt(b[:], host); got < len(b) {
		if err == io.EOF {
			err = corrupt("the grain at sector %d lies at %d, past the end of the file", start/sector, host)
		}
		return 0, 0, err
	}
	at = host + markerHead
	size := le.Uint32(b[8:])
	if !s.markers {
		at, size = host+4, le.Uint32(b[:])
	} else if lba := le.Uint64(b[:]); lba != uint64(start/sector) {
		return 0, 0, corrupt("the grain at %d is that of sector %d, and the table says sector %d", host, lba, start/sector)
	}
	if size == 0 || int64(size) > maxStored(s.grain) || at > s.f.Size()-int64(size) {
		return 0, 0, corrupt("the grain of sector %d, at %d, is said to have %d compressed bytes", start/sector, host, size)
	}
	return at, int64(size), nil
}

func (s *sparse) inflate(start, host int64) ([]byte, error) {
	return s.mem.inflated.Get(place{s.id, host}, func() ([]byte, error) {
		at, n, err := s.stored(start, host)
		if err != nil {
			return nil, err
		}
		packed := make([]byte, n)
		if got, err := s.f.ReadAt(packed, at); int64(got) < n {
			return nil, fmt.Errorf("vmdk: read the grain at %d: %w", at, err)
		}
		g := make([]byte, s.grain)
		got, _, err := codec.Decompress(disk.Zlib, g, packed)
		if err == nil && int64(got) < min(s.grain, s.capacity-start) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, corrupt("the grain of sector %d, at %d: %v", start/sector, host, err)
		}
		return g, nil
	})
}

// extent gives the run that holds off, with offsets within this extent. Hole means
// as the parent has it.
func (s *sparse) extent(off int64) (disk.Extent, error) {
	kind, start, host, err := s.at(off)
	if err != nil || kind != disk.Data || !s.compressed {
		return s.sketch(off)
	}
	at, n, err := s.stored(start, host)
	return disk.Extent{
		Offset: start, Length: min(s.grain, s.capacity-start), Kind: disk.Compressed, Codec: disk.Zlib,
		File: s.f, FileOffset: at, FileLength: n,
	}, err
}

// sketch gives the run from off on as the tables have it: compressed grains that
// follow each other as one, and not where they lie.
func (s *sparse) sketch(off int64) (disk.Extent, error) {
	span := s.grains.perTable() * s.grain
	// As many tables as can be looked at in no time: what is above or below
	// may cut the hole short, and ask for its rest again.
	t := off / span
	for first := t; t < first+64 && t*span < s.capacity && s.grains.empty(t); t++ {
	}
	if end := min(t*span, s.capacity); end > off {
		return disk.Extent{Offset: off, Length: end - off}, nil
	}
	kind, start, host, err := s.at(off)
	if err != nil {
		return disk.Extent{}, err
	}
	e := disk.Extent{Offset: off, Length: min(start+s.grain, s.capacity) - off, Kind: kind}
	if kind == disk.Data && !s.compressed {
		e.File, e.FileOffset = s.f, host+off-start
	}
	limit := off + max(1<<20, span)
	for e.End() < s.capacity && e.End() < limit {
		next, start, host, err := s.at(e.End())
		if err != nil || next != kind || e.File != nil && host != e.FileOffset+e.Length {
			break // an error is found again when the walk gets there
		}
		e.Length = min(start+s.grain, s.capacity) - off
	}
	switch {
	case e.File != nil:
		e.FileLength = e.Length
		if e.FileOffset > s.f.Size()-e.Length {
			return e, corrupt("the grain at sector %d lies at %d, past the end of the file", off/sector, e.FileOffset)
		}
	case kind == disk.Data:
		e.Kind, e.Codec = disk.Compressed, disk.Zlib
	}
	return e, nil
}

// openCOWD opens a vmfsSparse extent.
func openCOWD(f disk.File, b []byte, mem *memory) (*sparse, error) {
	sectors, grain := int64(le.Uint32(b[12:])), int64(le.Uint32(b[16:]))
	gd, n := int64(le.Uint32(b[20:]))*sector, int64(le.Uint32(b[24:]))
	const gtes = 4096
	if v := le.Uint32(b[4:]); v != 1 {
		return nil, unsupported("version %d of a vmfsSparse extent", v)
	}
	if grain == 0 || grain > maxGrain/sector {
		return nil, corrupt("grains of %d sectors", grain)
	}
	span := grain * gtes
	if need := (sectors + span - 1) / span; n < need {
		return nil, corrupt("a grain directory of %d entries for a disk that needs %d", n, need)
	} else {
		n = need
	}
	s := &sparse{f: f, capacity: sectors * sector, grain: grain * sector, mem: mem, id: mem.extent(), front: cowdHeader}
	t, err := newTwoLevel(f, gd, n, gtes, false, s.id, mem)
	s.grains = t
	return s, err
}

// cowdHeader is the size of COWD's header.
const cowdHeader = 4 * sector

// seSparse is the layout of VMware's space-efficient disks, whose tables have
// entries of 64 bits.
type seSparse struct {
	f           disk.File
	directory   []uint64
	directoryAt int64
	tablesAt    int64
	tablesSize  int64
	grainsAt    int64
	grain       int64
	id          int
	mem         *memory
}

// seSparseTable is the number of entries, of 8 bytes, in a table.
const seSparseTable = 4096

// openSESparse opens a seSparse extent: a header that does not change, one that
// does, a journal, a directory of one run of tables, and grains.
func openSESparse(f disk.File, b []byte, mem *memory) (*sparse, error) {
	if v := le.Uint64(b[8:]); v != 0x200000001 {
		return nil, unsupported("version %#x of a seSparse extent", v)
	}
	field := func(i int) int64 { return int64(min(le.Uint64(b[16+8*i:]), math.MaxInt64>>1)) }
	capacity, grain, tableSize := field(0), field(1), field(2)
	volatileAt := field(8)
	gdAt, gdSize, tablesAt, tablesSize, grainsAt := field(14), field(15), field(16), field(17), field(22)
	if grain != 8 || tableSize != seSparseTable*8/sector {
		return nil, unsupported("seSparse grains of %d sectors, tables of %d", grain, tableSize)
	}
	if capacity > maxCapacity {
		return nil, corrupt("a disk of %d sectors", uint64(capacity))
	}
	for _, at := range []int64{volatileAt, gdAt, gdSize, tablesAt, tablesSize, grainsAt} {
		if at > f.Size()/sector {
			return nil, corrupt("a part of a seSparse extent at sector %d, past the end of the file", uint64(at))
		}
	}
	volatile := make([]byte, sector)
	if n, err := f.ReadAt(volatile, volatileAt*sector); n < len(volatile) {
		return nil, corrupt("the volatile header at %d breaks off: %v", volatileAt*sector, err)
	}
	if magic := le.Uint64(volatile); magic != seSparseVolatileMagic {
		return nil, corrupt("the volatile header at %d begins with %#x", volatileAt*sector, magic)
	}
	if volatile[24] != 0 {
		return nil, unsupported("a seSparse extent that was not closed: its journal has to be replayed by VMware first")
	}
	s := &seSparse{
		f: f, directoryAt: gdAt * sector, tablesAt: tablesAt * sector, tablesSize: tablesSize * sector,
		grainsAt: grainsAt * sector, grain: grain * sector, id: mem.extent(), mem: mem,
	}
	n := (capacity + grain*seSparseTable - 1) / (grain * seSparseTable)
	if n > gdSize*sector/8 {
		return nil, corrupt("a grain directory of %d bytes for a disk of %d sectors", gdSize*sector, capacity)
	}
	if err := mem.take(2*n*8, "a grain directory"); err != nil {
		return nil, err
	}
	raw := make([]byte, n*8)
	if got, err := f.ReadAt(raw, gdAt*sector); got < len(raw) {
		return nil, fmt.Errorf("vmdk: read the grain directory at %d: %w", gdAt*sector, err)
	}
	s.directory = make([]uint64, n)
	var there int64
	for i := range s.directory {
		if s.directory[i] = le.Uint64(raw[i*8:]); s.directory[i] != 0 {
			there++
		}
	}
	if there*seSparseTable*8 > s.tablesSize {
		return nil, corrupt("%d grain tables are more than the %d bytes for them hold", there, s.tablesSize)
	}
	return &sparse{f: f, capacity: capacity * sector, grain: s.grain, grains: s, mem: mem, id: s.id, front: sector}, nil
}

func (s *seSparse) perTable() int64 { return seSparseTable }

func (s *seSparse) empty(table int64) bool { return s.directory[table] == 0 }

// metadata gives the directory and all of the tables, which lie in one run.
func (s *seSparse) metadata(yield func(off, length int64) bool) {
	if yield(s.directoryAt, int64(len(s.directory))*8) {
		yield(s.tablesAt, s.tablesSize)
	}
}

func (s *seSparse) lookup(n int64) (disk.Kind, int64, error) {
	i := n / seSparseTable
	e := s.directory[i]
	if e == 0 {
		return disk.Hole, 0, nil
	}
	if e>>32 != 0x10000000 {
		return disk.Hole, 0, corrupt("entry %d of the grain directory is %#x", i, e)
	}
	b, err := s.mem.tables.Get(place{s.id, i}, func() ([]byte, error) {
		in := int64(uint32(e)) * seSparseTable * 8
		if in > s.tablesSize-seSparseTable*8 {
			return nil, corrupt("grain table %d lies outside of the tables", i)
		}
		b := make([]byte, seSparseTable*8)
		if got, err := s.f.ReadAt(b, s.tablesAt+in); got < len(b) {
			return nil, fmt.Errorf("vmdk: read the grain table at %d: %w", s.tablesAt+in, err)
		}
		return b, nil
	})
	if err != nil {
		return disk.Hole, 0, err
	}
	switch e := le.Uint64(b[n%seSparseTable*8:]); e >> 60 {
	case 0: // never written
		return disk.Hole, 0, nil
	case 1, 2: // unmapped, and zero
		return disk.Zero, 0, nil
	case 3:
		k := e&0x0fff000000000000>>48 | e&0x0000ffffffffffff<<12
		if k > uint64(s.f.Size()/s.grain) {
			return disk.Hole, 0, corrupt("the grain of sector %d lies past the end of the file", n*s.grain/sector)
		}
		return disk.Data, s.grainsAt + int64(k)*s.grain, nil
	default:
		return disk.Hole, 0, corrupt("the table's entry for sector %d is %#x", n*s.grain/sector, e)
	}
}
