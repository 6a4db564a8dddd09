package vmdk

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ovation-project/ovation/disk"
)

// Check finds tables and grains that lie where they cannot, or over each other.
func (m *Image) Check(ctx context.Context, report func(disk.Fault)) error {
	for _, e := range m.extents {
		if e.sparse == nil {
			continue
		}
		// The descriptor may take less than the extent has.
		c := checker{s: e.sparse, length: min(e.length, e.sparse.capacity), base: e.start, report: report}
		if err := c.run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// windowBytes is the memory for a bit each sector of the file: what is not in
// there gets its turn later.
const windowBytes = 16 << 20

// checker checks one sparse extent.
type checker struct {
	s            *sparse
	length, base int64
	report       func(disk.Fault)
	used         sectors
	bad          map[int64]bool // grain tables that have faults
}

func (c *checker) run(ctx context.Context) error {
	end := (c.s.f.Size() + sector - 1) / sector
	span := min(end, windowBytes*8)
	c.used.bits = make([]uint64, (span+63)/64)
	for from := int64(0); from < end; from += span {
		c.used.begin(from)
		c.used.take(0, c.s.front)
		for off, length := range c.s.grains.metadata {
			if c.used.take(off, length) {
				c.report(disk.Fault{FileOffset: off, Text: fmt.Sprintf("vmdk: the %d bytes of the grain directory or a grain table at %d lie over something else", length, off)})
			}
		}
		if err := c.grains(ctx, from == 0); err != nil {
			return err
		}
	}
	return c.copies(ctx)
}

// copies compares the grain tables with their redundant copies, which say of the
// same grains where they are.
func (c *checker) copies(ctx context.Context) error {
	t, ok := c.s.grains.(*twoLevel)
	if !ok || c.s.redundant == 0 || c.s.redundant == t.at {
		return nil
	}
	other, err := newTwoLevel(c.s.f, c.s.redundant, int64(len(t.directory)), t.gtes, t.zeroGrain, c.s.mem.extent(), c.s.mem)
	if err != nil {
		return c.fault(0, 0, c.s.redundant, err)
	}
	one, two := make([]byte, t.gtes*4), make([]byte, t.gtes*4)
	for i := range t.directory {
		if err := ctx.Err(); err != nil {
			return err
		}
		at := [2]int64{int64(t.directory[i]) * sector, int64(other.directory[i]) * sector}
		first, last := int64(0), t.gtes-1
		if at[0] != 0 && at[1] != 0 {
			for k, b := range [][]byte{one, two} {
				if at[k] > c.s.f.Size()-int64(len(b)) {
					clear(b) // which the grains find out
					continue
				}
				if _, err := c.s.f.ReadAt(b, at[k]); err != nil && err != io.EOF {
					return err
				}
			}
			first, last = differ(one, two)
		}
		if at[0] == 0 && at[1] == 0 || first < 0 || c.bad[int64(i)] {
			continue // the sectors of one that has faults are lost already
		}
		start := (int64(i)*t.gtes + first) * c.s.grain
		if start >= c.length {
			continue
		}
		length := min((last-first+1)*c.s.grain, c.length-start)
		if err := c.fault(start, length, at[0], corrupt("grain table %d, at %d, and its redundant copy, at %d, say different things of the sectors from %d on", i, at[0], at[1], start/sector)); err != nil {
			return err
		}
	}
	return nil
}

// differ gives the first and the last entry in which two tables differ, -1 where
// there is none.
func differ(a, b []byte) (first, last int64) {
	first, last = -1, -1
	for i := 0; i+4 <= len(a); i += 4 {
		if le.Uint32(a[i:]) != le.Uint32(b[i:]) {
			if first < 0 {
				first = int64(i / 4)
			}
			last = int64(i / 4)
		}
	}
	return first, last
}

// grains goes over all grains; first tells to report those that are bad by
// themselves.
func (c *checker) grains(ctx context.Context, first bool) error {
	s := c.s
	per := s.grains.perTable()
	for n := int64(0); n*s.grain < c.length; n++ {
		if n%per == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			if s.grains.empty(n / per) {
				n += per - 1
				continue
			}
		}
		start := n * s.grain
		kind, host, err := s.grains.lookup(n)
		if err != nil {
			n += per - 1 - n%per // the whole table cannot be read
			if !first {
				continue
			}
			if err := c.fault(start, min((n+1)*s.grain, c.length)-start, 0, err); err != nil {
				return err
			}
			continue
		}
		if kind != disk.Data || !first && !c.used.within(host, maxStored(s.grain)) {
			continue
		}
		length := min(s.grain, c.length-start)
		size, err := c.size(start, length, host)
		if err == nil && c.used.take(host, size) {
			err = corrupt("the grain of sector %d, at %d, lies over another one or over a table", start/sector, host)
		} else if err == nil || !first {
			continue
		}
		if err := c.fault(start, length, host, err); err != nil {
			return err
		}
	}
	return nil
}

// size is how many bytes of the file a grain takes.
func (c *checker) size(start, length, host int64) (int64, error) {
	if !c.s.compressed {
		if host > c.s.f.Size()-length {
			return 0, corrupt("the grain of sector %d lies at %d, past the end of the file", start/sector, host)
		}
		return c.s.grain, nil
	}
	at, n, err := c.s.stored(start, host)
	return at + n - host, err
}

// fault reports damage, and gives back what is none.
func (c *checker) fault(start, length, host int64, err error) error {
	if !errors.Is(err, disk.ErrCorrupt) {
		return err
	}
	if c.bad == nil {
		c.bad = map[int64]bool{}
	}
	c.bad[start/c.s.grain/c.s.grains.perTable()] = true
	c.report(disk.Fault{Offset: c.base + start, Length: length, FileOffset: host, Text: err.Error()})
	return nil
}

// sectors are those of a part of a file, the window, that are in use.
type sectors struct {
	from int64
	bits []uint64
}

func (s *sectors) begin(from int64) {
	s.from = from
	clear(s.bits)
}

// within says whether something at off, length bytes long at most, may reach
// into the window.
func (s *sectors) within(off, length int64) bool {
	return (off+length)/sector >= s.from && off/sector < s.from+int64(len(s.bits))*64
}

// take marks a range, and says whether a part of it was taken before.
func (s *sectors) take(off, length int64) bool {
	first := max(off/sector-s.from, 0)
	end := min((off+length+sector-1)/sector-s.from, int64(len(s.bits))*64)
	taken := false
	for first < end {
		n := min(64-first%64, end-first)
		mask := (^uint64(0) >> (64 - n)) << (first % 64)
		w := &s.bits[first/64]
		taken = taken || *w&mask != 0
		*w |= mask
		first += n
	}
	return taken
}
