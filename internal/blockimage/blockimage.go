// Package blockimage is what disk formats of one plan share: a table with an
// entry for each block of the disk, which says where in one file the block lies
// or that it lies nowhere (VDI, VHD, VHDX).
package blockimage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/ovation-project/ovation/disk"
)

// Table says where blocks are.
type Table interface {
	// Lookup gives what a block is: Hole (as the image below has it), Zero,
	// or Data that begins at an offset of the file.
	Lookup(block int64) (disk.Kind, int64, error)
}

// Partial is a Table some of whose blocks are in this image in part only.
type Partial interface {
	// Present says for an offset of the disk, within a block that Lookup
	// calls Data, whether its bytes are in this image, and how many after it
	// are the same.
	Present(off int64) (here bool, run int64, err error)
}

// Image reads blocks. It has all of disk.Image but Info.
type Image struct {
	Name  string // of the format, for errors
	File  disk.File
	Table Table
	// Capacity is the disk's size, Block that of its blocks.
	Capacity, Block int64
	// Below is the image that this one is a delta of, nil for none.
	Below disk.Image
	// Lead is how many bytes stand before a block's data and belong to it;
	// Metadata are the parts of the file that are no block's.
	Lead     int64
	Metadata []Range
}

// Range is a part of the file.
type Range struct{ At, Length int64 }

// Size is the capacity.
func (m *Image) Size() int64 { return m.Capacity }

// Close closes the image below.
func (m *Image) Close() error {
	if m.Below != nil {
		return m.Below.Close()
	}
	return nil
}

// at gives the run of one kind from off on, within its block.
func (m *Image) at(off int64) (kind disk.Kind, host, length int64, err error) {
	block := off / m.Block
	start := block * m.Block
	length = min(start+m.Block, m.Capacity) - off
	kind, host, err = m.Table.Lookup(block)
	if err != nil || kind != disk.Data {
		return kind, 0, length, err
	}
	host += off - start
	p, ok := m.Table.(Partial)
	if !ok || m.Below == nil {
		return kind, host, length, nil
	}
	here, run, err := p.Present(off)
	if !here {
		kind = disk.Hole
	}
	return kind, host, min(length, run), err
}

// ReadAt reads what the guest would.
func (m *Image) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New(m.Name + ": negative offset")
	}
	for done := 0; ; {
		if done == len(b) {
			return done, nil
		}
		at := off + int64(done)
		if at >= m.Capacity {
			return done, io.EOF
		}
		kind, host, length, err := m.at(at)
		if err != nil {
			return done, err
		}
		part := b[done:min(int64(len(b)), int64(done)+length)]
		switch kind {
		case disk.Zero:
			clear(part)
		case disk.Hole:
			err = disk.ReadBelow(m.Below, part, at)
		default:
			var n int
			if n, err = m.File.ReadAt(part, host); n == len(part) {
				err = nil
			} else if err == io.EOF {
				err = m.past(at, host)
			}
		}
		if err != nil {
			return done, err
		}
		done += len(part)
	}
}

func (m *Image) past(at, host int64) error {
	return fmt.Errorf("%s: the block at %d of the disk lies at %d, past the end of the file: %w", m.Name, at, host, disk.ErrCorrupt)
}

// Extent gives the run that begins at off.
func (m *Image) Extent(ctx context.Context, off int64) (disk.Extent, error) {
	if off < 0 || off >= m.Capacity {
		return disk.Extent{}, io.EOF
	}
	kind, host, length, err := m.at(off)
	if err != nil {
		return disk.Extent{}, err
	}
	e := disk.Extent{Offset: off, Length: length, Kind: kind}
	if kind == disk.Data {
		e.File, e.FileOffset = m.File, host
	}
	for n := 0; n < 4096 && e.End() < m.Capacity; n++ {
		next, host, length, err := m.at(e.End())
		if err != nil || next != kind || kind == disk.Data && host != e.FileOffset+e.Length {
			break // an error is found again when the walk gets there
		}
		e.Length += length
	}
	if kind == disk.Data {
		if e.FileLength = e.Length; e.FileOffset > m.File.Size()-e.Length {
			return e, m.past(off, e.FileOffset)
		}
	}
	if kind == disk.Hole && m.Below != nil && off < m.Below.Size() {
		below, err := m.Below.Extent(ctx, off)
		if err != nil {
			return below, err
		}
		return disk.Within(below, e), nil
	}
	return e, nil
}

// placed is where something lies in the file: a block, or what is none (-1).
type placed struct{ from, to, block int64 }

// Check finds blocks that lie outside of the file, over each other or over what is
// no block.
func (m *Image) Check(ctx context.Context, report func(disk.Fault)) error {
	blocks := (m.Capacity + m.Block - 1) / m.Block
	var taken []placed
	for _, r := range m.Metadata {
		taken = append(taken, placed{r.At, r.At + r.Length, -1})
	}
	for n := range blocks {
		if n%4096 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		fault := disk.Fault{Offset: n * m.Block, Length: min(m.Block, m.Capacity-n*m.Block)}
		kind, host, err := m.Table.Lookup(n)
		fault.FileOffset = host
		switch {
		case err != nil && !errors.Is(err, disk.ErrCorrupt):
			return err
		case err != nil:
			fault.Text = err.Error()
		case kind != disk.Data:
			continue
		case host > m.File.Size()-fault.Length:
			fault.Text = "the block lies past the end of the file"
		default:
			taken = append(taken, placed{host - m.Lead, host + fault.Length, n})
			continue
		}
		report(fault)
	}
	return m.overlaps(ctx, taken, report)
}

// overlaps finds what lies over something else. Of two blocks the later one is
// said to be lost: which of them is right nobody knows.
func (m *Image) overlaps(ctx context.Context, taken []placed, report func(disk.Fault)) error {
	slices.SortFunc(taken, func(a, b placed) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.block, b.block)) })
	if err := ctx.Err(); err != nil {
		return err
	}
	var last placed // the one that reaches furthest
	for i, p := range taken {
		if i > 0 && p.from < last.to && (p.block >= 0 || last.block >= 0) {
			bad, other := p, last
			if other.block > bad.block {
				bad, other = other, bad
			}
			where := "over what is no block of the disk"
			if other.block >= 0 {
				where = fmt.Sprintf("where that at %d of the disk does", other.block*m.Block)
			}
			report(disk.Fault{Offset: bad.block * m.Block, Length: min(m.Block, m.Capacity-bad.block*m.Block), FileOffset: bad.from + m.Lead, Text: "the block lies " + where})
		}
		if i == 0 || p.to > last.to {
			last = p
		}
	}
	return nil
}

// Writer writes blocks one behind the other as they come.
type Writer struct {
	Name string
	File disk.OutputFile
	// Capacity is the disk's size, Block that of its blocks.
	Capacity, Block int64
	// End is where the next block goes; Lead is how many bytes stand before
	// a block's data (VHD's bitmap), filled with ones.
	End, Lead int64
	// At are the places of the blocks' Lead, -1 for those that are not
	// there.
	At []int64
}

// NewWriter makes a Writer with no block yet.
func NewWriter(name string, f disk.OutputFile, capacity, block, end, lead int64) *Writer {
	w := &Writer{Name: name, File: f, Capacity: capacity, Block: block, End: end, Lead: lead}
	w.At = make([]int64, (capacity+block-1)/block)
	for i := range w.At {
		w.At[i] = -1
	}
	return w
}

// Layout says that whole blocks are liked best.
func (w *Writer) Layout() disk.Layout { return disk.Layout{Unit: w.Block} }

// WriteZeroes stores nothing: a block that is not there reads as zeroes.
func (w *Writer) WriteZeroes(off, length int64) error {
	if off < 0 || length < 0 || off > w.Capacity-length {
		return fmt.Errorf("%s: %d bytes at %d are outside of the disk of %d bytes", w.Name, length, off, w.Capacity)
	}
	return nil
}

// WriteCompressed is not for these formats.
func (w *Writer) WriteCompressed(int64, []byte) error {
	return fmt.Errorf("%s has no compressed blocks: %w", w.Name, disk.ErrUnsupported)
}

// WriteAt stores data.
func (w *Writer) WriteAt(p []byte, off int64) (int, error) {
	if err := w.WriteZeroes(off, int64(len(p))); err != nil {
		return 0, err
	}
	for done := 0; done < len(p); {
		at := off + int64(done)
		n, inner := at/w.Block, at%w.Block
		if w.At[n] < 0 {
			w.At[n] = w.End
			w.End += w.Lead + w.Block
			if w.Lead > 0 {
				ones := make([]byte, w.Lead)
				for i := range ones {
					ones[i] = 0xff
				}
				if _, err := w.File.WriteAt(ones, w.At[n]); err != nil {
					return done, err
				}
			}
		}
		part := p[done:min(int64(len(p)), int64(done)+w.Block-inner)]
		m, err := w.File.WriteAt(part, w.At[n]+w.Lead+inner)
		if done += m; err != nil {
			return done, err
		}
	}
	return len(p), nil
}
