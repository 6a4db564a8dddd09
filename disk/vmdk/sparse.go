package vmdk

import (
	"context"
	"fmt"
	"io"

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
	redundant  int64 // where the copy of the grain directory is, 0 for none
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
		redundant: h.rgdOffset,
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
