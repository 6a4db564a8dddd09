package vmdk

import (
	"fmt"
	"math"

	"github.com/ovation-project/ovation/disk"
)

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
