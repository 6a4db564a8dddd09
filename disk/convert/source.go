package convert

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/chunk"
)

// imageSource cuts an image into pieces.
type imageSource struct {
	*run
	pos int64
}

// minClone is the least that the system is asked to copy at once.
const minClone = 1 << 20

func (s *imageSource) next(ctx context.Context, j *job) error {
	if s.pos >= s.disk.Size {
		return io.EOF
	}
	e, end, err := s.disk.Next(ctx, s.pos)
	if err != nil {
		return err
	}
	j.ready, j.stored, j.ops = false, 0, j.ops[:0]
	// What needs no work may be longer than a piece.
	if long := s.disk.Whole(e, end); long != 0 {
		switch {
		case e.Kind == disk.Hole:
			end, j.ready = long, true
		case e.Kind == disk.Zero:
			end, j.ready = long, true
			j.ops = append(j.ops, op{kind: opZero, off: s.pos, length: end - s.pos})
		case e.Kind == disk.Data && s.canClone(e.File) && long-s.pos >= minClone:
			end, j.ready = min(long, s.pos+maxClone), true
			j.stored = end - s.pos
			j.ops = append(j.ops, op{kind: opClone, off: s.pos, length: end - s.pos, from: e})
		}
	}
	j.length = end - s.pos
	j.chunk.Begin(s.pos, j.length)
	s.pos = end
	return nil
}

// maxClone bounds what one piece has the system copy, for progress to move.
const maxClone = 1 << 30

func (s *imageSource) canClone(f disk.File) bool {
	return s.cloner != nil && !s.noClone.Load() && isLocal(f)
}

// isLocal says that the system itself can read a file.
func isLocal(f disk.File) bool {
	l, ok := f.(disk.LocalFile)
	if !ok {
		return false
	}
	file, _ := l.Local()
	return file != nil
}

// streamSource gathers what a stream brings into pieces.
type streamSource struct {
	*run
	stream disk.Stream
	// left is what the last piece had no room for.
	left disk.Run
	have bool
	// high is the end of what was given to the writer.
	high int64
	// partial are the writer's units that were made of less than all of
	// their bytes, as bits: nothing may come for them any more.
	partial map[int64]uint64
}

// maxPartial bounds the memory that partial takes.
const maxPartial = 1 << 20

func (s *streamSource) next(ctx context.Context, j *job) error {
	j.ready, j.stored, j.length, j.ops = false, 0, 0, j.ops[:0]
	j.chunk.Begin(-1, 0)
	for {
		if !s.have {
			r, err := s.stream.Next(ctx)
			if err == io.EOF && len(j.chunk.Segments) > 0 {
				break
			}
			if err != nil {
				return err
			}
			if err := s.judge(r); err != nil {
				return err
			}
			s.left, s.have = r, true
			j.stored += int64(len(r.Stored))
		}
		r := s.left
		if r.Kind == disk.Hole || r.Length == 0 {
			s.have = false
			continue
		}
		first := len(j.chunk.Segments) == 0
		if first && r.Kind == disk.Zero && s.layout.Codec == disk.NoCodec {
			s.have = false
			j.ready, j.length = true, r.Length
			j.chunk.Begin(r.Offset, r.Length)
			j.ops = append(j.ops, op{kind: opZero, off: r.Offset, length: r.Length})
			return s.ordered(r.Offset, r.End())
		}
		begin := alignDown(r.Offset, s.disk.Piece)
		if first {
			length := s.disk.Piece
			if r.Kind == disk.Compressed && r.End() > begin+length {
				return fmt.Errorf("compressed unit of %d bytes at byte %d of the disk: %w", r.Length, r.Offset, disk.ErrUnsupported)
			}
			j.chunk.Begin(begin, min(length, s.disk.Size-begin))
		} else if begin != j.chunk.Offset || s.full(j) {
			break
		}
		if end := j.chunk.End(); r.End() > end {
			head := r
			head.Length = end - r.Offset
			s.left.Offset, s.left.Length = end, r.End()-end
			if r.Kind == disk.Data {
				head.Stored = r.Stored[:head.Length]
				s.left.Stored = r.Stored[head.Length:]
			}
			r = head
		} else {
			s.have = false
		}
		j.chunk.Add(r)
		j.length += r.Length
	}
	return s.close(j)
}

// full says that a piece has taken enough memory, and may end where it is.
func (s *streamSource) full(j *job) bool {
	if int64(j.chunk.Stored()) < 2*s.disk.Piece {
		return false
	}
	if s.layout.Codec == disk.NoCodec {
		return true
	}
	return s.left.Offset&(s.layout.Unit-1) == 0
}

// judge refuses runs that no format should give.
func (s *streamSource) judge(r disk.Run) error {
	bad := ""
	switch {
	case r.Offset < 0 || r.Length < 0 || r.Length > s.disk.Size-r.Offset:
		bad = "reaches past the disk's end"
	case r.Kind == disk.Data && int64(len(r.Stored)) != r.Length:
		bad = fmt.Sprintf("comes with %d bytes", len(r.Stored))
	case r.Kind == disk.Compressed && (r.Length > chunk.MaxUnit || int64(len(r.Stored)) > chunk.Bound(max(r.Length, s.disk.Unit))):
		bad = fmt.Sprintf("is compressed into %d bytes", len(r.Stored))
	case r.Kind == disk.Compressed && r.Stored == nil:
		bad = "comes without its bytes"
	default:
		return nil
	}
	return fmt.Errorf("run of %d bytes at byte %d of the disk %s: %w", r.Length, r.Offset, bad, disk.ErrCorrupt)
}

// ordered refuses what a writer that goes front to back cannot take.
func (s *streamSource) ordered(off, end int64) error {
	if s.layout.Ordered && off < s.high {
		return fmt.Errorf("byte %d of the disk comes after byte %d: %w", off, s.high, disk.ErrNeedsSeek)
	}
	s.high = max(s.high, end)
	return nil
}

// close makes a piece of what has been gathered: in order, without overlaps,
// no longer than what came.
func (s *streamSource) close(j *job) error {
	segs := j.chunk.Segments
	byOffset := func(a, b chunk.Segment) int { return cmp.Compare(a.Offset, b.Offset) }
	if !slices.IsSortedFunc(segs, byOffset) {
		slices.SortFunc(segs, byOffset)
	}
	for i := 1; i < len(segs); i++ {
		if segs[i].Offset < segs[i-1].End() {
			return fmt.Errorf("byte %d of the disk comes twice: %w", segs[i].Offset, disk.ErrCorrupt)
		}
	}
	off, end := segs[0].Offset, segs[len(segs)-1].End()
	if err := s.ordered(off, end); err != nil {
		return err
	}
	if unit := s.layout.Unit; s.layout.Codec != disk.NoCodec {
		off = alignDown(off, unit)
		end = min(alignDown(end+unit-1, unit), s.disk.Size)
		if err := s.units(segs, off, end); err != nil {
			return err
		}
	}
	j.chunk.Offset, j.chunk.Length = off, end-off
	return nil
}

// units sees to it that no unit of the writer's is made twice.
func (s *streamSource) units(segs []chunk.Segment, off, end int64) error {
	unit := s.layout.Unit
	for ; off < end; off += unit {
		unitEnd := min(off+unit, end)
		var came int64
		for len(segs) > 0 && segs[0].End() <= off {
			segs = segs[1:]
		}
		for i := 0; i < len(segs) && segs[i].Offset < unitEnd; i++ {
			came += min(segs[i].End(), unitEnd) - max(segs[i].Offset, off)
		}
		if came == 0 {
			continue
		}
		n := off / unit
		if s.partial[n/64]>>(n%64)&1 != 0 {
			return fmt.Errorf("the rest of the %d bytes at byte %d of the disk comes too late to be compressed with them: %w", unit, off, disk.ErrNeedsSeek)
		}
		if came < unitEnd-off {
			if s.partial == nil {
				s.partial = map[int64]uint64{}
			}
			if len(s.partial) > maxPartial {
				return fmt.Errorf("too many parts of units: %w", disk.ErrNeedsSeek)
			}
			s.partial[n/64] |= 1 << (n % 64)
		}
	}
	return nil
}
