// Package chunk takes a virtual disk in by pieces: the extents of a piece
// with their stored bytes, read with as few calls as there can be.
package chunk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/codec"
)

// Size is the usual length of a piece.
const Size = 1 << 20

// MaxUnit bounds the compressed units that are dealt with: memory is taken for
// several of them at once.
const MaxUnit = 32 << 20

// maxGap is the most that is read and thrown away between two compressed units
// to spare a call.
const maxGap = 16 << 10

// Segment is a part of a piece.
type Segment struct {
	// Extent is as the image gives it, save that Hole, Zero and Data end
	// where the piece does. A Compressed one may begin before the piece
	// and end after it.
	disk.Extent
	// Stored is what a Compressed segment's unit is stored as, padding
	// included; nil where the bytes lie nowhere as they are.
	Stored []byte
}

// Disk is what pieces are taken of.
type Disk struct {
	// Image is nil for a stream.
	Image disk.Image
	Size  int64
	// Unit is the size of the compressed units, 0 where not known.
	Unit int64
	// Piece is how long pieces are: a power of two that no unit reaches
	// over.
	Piece int64
}

// NewDisk describes a disk.Image or a disk.Stream.
func NewDisk(src interface{ Size() int64 }) Disk {
	d := Disk{Size: src.Size(), Unit: UnitSize(src)}
	d.Image, _ = src.(disk.Image)
	d.Piece = max(Size, d.Unit)
	return d
}

// Next gives the extent at off and where the piece that off is in ends.
func (d *Disk) Next(ctx context.Context, off int64) (e disk.Extent, end int64, err error) {
	e, err = d.Image.Extent(ctx, off)
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return e, 0, fmt.Errorf("extent at byte %d of the disk: %w", off, err)
	}
	return e, min(off&^(d.Piece-1)+d.Piece, d.Size), nil
}

// Whole gives how far an extent that goes on from a piece's beginning to its
// end or beyond reaches over whole pieces; 0 where it is shorter.
func (d *Disk) Whole(e disk.Extent, end int64) int64 {
	to := e.End() &^ (d.Piece - 1)
	if e.End() >= d.Size {
		to = d.Size
	}
	if to < end {
		return 0
	}
	return to
}

// Chunk is a piece of an image. Its memory is used again by the next Read.
type Chunk struct {
	Offset, Length int64
	Segments       []Segment

	stored []byte
	order  []int
	spare  []byte
}

// End is the offset just past the piece.
func (c *Chunk) End() int64 { return c.Offset + c.Length }

// Read takes in the piece of length bytes at off: the extents, and what the
// compressed ones are stored as.
func (c *Chunk) Read(ctx context.Context, img disk.Image, off, length int64) error {
	c.Begin(off, length)
	for pos := off; pos < off+length; {
		e, err := img.Extent(ctx, pos)
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("extent at byte %d of the disk: %w", pos, err)
		}
		if e.Offset > pos || e.End() <= pos || e.Kind != disk.Compressed && e.Offset != pos {
			return fmt.Errorf("extent at byte %d of the disk is %d+%d", pos, e.Offset, e.Length)
		}
		if e.Kind != disk.Compressed {
			e.Length = min(e.Length, off+length-pos)
			if e.FileLength != 0 {
				e.FileLength = e.Length
			}
		}
		c.Segments = append(c.Segments, Segment{Extent: e})
		pos = e.End()
	}
	return c.readStored()
}

// Begin empties the piece and gives it a place.
func (c *Chunk) Begin(off, length int64) {
	c.Offset, c.Length = off, length
	c.Segments = c.Segments[:0]
	c.stored = c.stored[:0]
}

// Add appends a run that came from a stream; its bytes are copied.
func (c *Chunk) Add(r disk.Run) {
	s := Segment{Extent: r.Extent}
	if r.Stored != nil {
		n := len(c.stored)
		// What segments hold of a smaller array stays good, and keeps that
		// array: there are to be few.
		if need := n + len(r.Stored); need > cap(c.stored) {
			c.stored = slices.Grow(c.stored, max(need, min(2*cap(c.stored), int(c.Length+c.Length/8)))-n)
		}
		c.stored = append(c.stored, r.Stored...)
		s.Stored = c.stored[n:len(c.stored):len(c.stored)]
	}
	c.Segments = append(c.Segments, s)
}

// Stored is how many bytes the segments that were added take.
func (c *Chunk) Stored() int { return len(c.stored) }

// readStored reads what the compressed segments are stored as; those that lie
// side by side in the file are read at once.
func (c *Chunk) readStored() error {
	c.order = c.order[:0]
	var total int64
	for i := range c.Segments {
		e := &c.Segments[i].Extent
		if e.Kind != disk.Compressed || e.File == nil {
			continue
		}
		if e.Length > MaxUnit {
			return fmt.Errorf("compressed unit of %d bytes: %w", e.Length, disk.ErrUnsupported)
		}
		// No codec makes a unit much longer, and where more may be read
		// it is padding.
		e.FileLength = min(e.FileLength, Bound(e.Length), max(0, e.File.Size()-e.FileOffset))
		total += e.FileLength
		c.order = append(c.order, i)
	}
	slices.SortFunc(c.order, func(a, b int) int {
		return cmp.Compare(c.Segments[a].FileOffset, c.Segments[b].FileOffset)
	})
	c.stored = c.stored[:0]
	for i := 0; i < len(c.order); {
		first := &c.Segments[c.order[i]]
		from, to := first.FileOffset, first.FileOffset+first.FileLength
		j := i + 1
		for ; j < len(c.order); j++ {
			s := &c.Segments[c.order[j]]
			if s.File != first.File || s.FileOffset > to+maxGap {
				break
			}
			to = max(to, s.FileOffset+s.FileLength)
		}
		n := len(c.stored)
		// Units that share their bytes make total an estimate only.
		c.stored = slices.Grow(c.stored, max(int(to-from), int(total)))[:n+int(to-from)]
		buf := c.stored[n:]
		if err := ReadFull(first.File, buf, from); err != nil {
			return err
		}
		for _, k := range c.order[i:j] {
			s := &c.Segments[k]
			at := int(s.FileOffset - from)
			s.Stored = buf[at : at+int(s.FileLength) : at+int(s.FileLength)]
		}
		i = j
	}
	return nil
}

// Bound is the most that a compressed unit of so many bytes is read of.
func Bound(unit int64) int64 { return 2*unit + 4<<10 }

// ReadFull reads all of b at off.
func ReadFull(f io.ReaderAt, b []byte, off int64) error {
	n, err := f.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %d bytes at byte %d: %w", len(b), off, err)
}

// UnitSize is the size of an image's or a stream's compressed units as it
// says itself, else 0.
func UnitSize(src any) int64 {
	i, ok := src.(disk.Informer)
	if !ok {
		return 0
	}
	info := i.Info()
	if info.Codec == disk.NoCodec || info.Unit <= 0 || info.Unit > MaxUnit || bits.OnesCount64(uint64(info.Unit)) != 1 {
		return 0
	}
	return info.Unit
}

// FaultError is a part of the virtual disk that cannot be had.
type FaultError struct {
	disk.Extent
	Err error
}

// Error names the sectors that are lost.
func (e *FaultError) Error() string {
	return fmt.Sprintf("sectors %d to %d of the disk (byte %d of the file): %v",
		e.Offset/disk.SectorSize, (e.End()-1)/disk.SectorSize, e.FileOffset, e.Err)
}

// Unwrap gives the cause.
func (e *FaultError) Unwrap() []error { return []error{e.Err, disk.ErrCorrupt} }

// readFault makes a fault of a file that is too short, and leaves other errors
// as they are: they are not the image's.
func readFault(e disk.Extent, err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return &FaultError{e, err}
	}
	return err
}

// Inflate decompresses a segment's unit into dst, which has the unit's full
// size even where the disk ends before, and says how many bytes the unit gave
// and how many bytes of Stored it took. A unit that gives less than what the
// disk needs of it is an error.
func (s *Segment) Inflate(dst []byte) (n, consumed int, err error) {
	n, consumed, err = codec.Decompress(s.Codec, dst, s.Stored)
	if s.Codec == disk.Deflate && n == len(dst) && (errors.Is(err, codec.ErrTooLong) || errors.Is(err, io.ErrUnexpectedEOF)) {
		// QEMU asks no more of a qcow2 cluster than that it be filled.
		consumed, err = len(s.Stored), nil
	}
	if err == nil && int64(n) < s.Length {
		err = fmt.Errorf("the unit ends after %d bytes of %d", n, s.Length)
	}
	if err != nil {
		return n, consumed, &FaultError{s.Extent, err}
	}
	return n, consumed, nil
}

// Fill puts what the guest sees from off to end into plain, which begins where
// the piece does.
func (c *Chunk) Fill(d *Disk, plain []byte, off, end int64) error {
	at := func(from, to int64) []byte { return plain[from-c.Offset : to-c.Offset] }
	pos := off
	for i := range c.Segments {
		s := &c.Segments[i]
		from, to := max(s.Offset, off), min(s.End(), end)
		if from >= to {
			continue
		}
		clear(at(pos, from))
		pos = to
		dst := at(from, to)
		switch {
		case s.Kind == disk.Hole || s.Kind == disk.Zero:
			clear(dst)
		case s.Kind == disk.Data && s.Stored != nil:
			copy(dst, s.Stored[from-s.Offset:])
		case s.Kind == disk.Data && s.File != nil:
			if err := ReadFull(s.File, dst, s.FileOffset+from-s.Offset); err != nil {
				return readFault(s.Extent, err)
			}
		case s.Kind == disk.Compressed && s.Stored != nil:
			if err := c.inflate(d, s, dst, from); err != nil {
				return err
			}
		case d.Image == nil:
			return fmt.Errorf("run at byte %d of the disk has no bytes", s.Offset)
		default:
			if err := ReadFull(d.Image, dst, from); err != nil {
				return readFault(s.Extent, err)
			}
		}
	}
	clear(at(pos, end))
	return nil
}

// UnitOf is how long a segment's unit may be, which is more than its length
// where the disk ends within it.
func (d *Disk) UnitOf(s *Segment) int64 {
	unit := max(d.Unit, s.Length)
	if d.Unit == 0 && s.End() >= d.Size {
		// Nobody says how large units are.
		unit = max(unit, d.Piece)
	}
	return unit
}

// inflate decompresses what dst, at from, needs of a segment's unit: right
// there where that is the whole unit.
func (c *Chunk) inflate(d *Disk, s *Segment, dst []byte, from int64) error {
	unit := d.UnitOf(s)
	if int64(len(dst)) == unit {
		n, _, err := s.Inflate(dst)
		clear(dst[n:])
		return err
	}
	c.spare = slices.Grow(c.spare[:0], int(unit))[:unit]
	n, _, err := s.Inflate(c.spare)
	if err != nil {
		return err
	}
	copy(dst, c.spare[min(from-s.Offset, int64(n)):n])
	return nil
}

// IsZero says whether b is all zeroes.
func IsZero(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	// Each byte equals the next one and the first is zero; comparing is
	// what the library does fastest.
	return b[0] == 0 && string(b[1:]) == string(b[:len(b)-1])
}
