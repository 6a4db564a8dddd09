// Package compare says whether two disk images hold the same disk, whatever
// their formats.
package compare

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"slices"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/chunk"
	"github.com/ovation-project/ovation/internal/pipeline"
)

// Options change how Run works. The zero value is good.
type Options struct {
	// Strict wants the capacities to be equal too; otherwise what one disk
	// has more must read as zeroes.
	Strict bool
	// Workers is how many pieces are compared at once; 0 is one a
	// processor.
	Workers int
	// Progress, where set, is called now and then with how many bytes of
	// the larger disk are done, never concurrently.
	Progress func(done int64)
}

// Result is where two disks begin to differ.
type Result struct {
	Equal bool
	// Offset is the first byte that differs; where only the capacities do,
	// it is the smaller one.
	Offset int64
}

// Run compares what a guest would see of a and of b. Parts that neither
// stores are not read.
func Run(ctx context.Context, a, b disk.Image, opt Options) (Result, error) {
	c := &comparison{a: chunk.NewDisk(a), b: chunk.NewDisk(b), opt: opt}
	if opt.Strict && c.a.Size != c.b.Size {
		return Result{Offset: min(c.a.Size, c.b.Size)}, nil
	}
	c.size = max(c.a.Size, c.b.Size)
	piece := max(c.a.Piece, c.b.Piece)
	c.a.Piece, c.b.Piece = piece, piece
	workers := opt.Workers
	if workers < 1 {
		workers = runtime.GOMAXPROCS(0)
	}
	slots := min(2*workers+2, max(3, int(memory/(4*piece))))
	err := pipeline.Run(ctx, make([]job, slots), min(workers, slots), c.next, c.work, c.commit)
	if err == errFound {
		return Result{Offset: c.found}, nil
	}
	return Result{Equal: err == nil}, err
}

// memory is about what the buffers of one Run may take together.
const memory = 32 << 20

// errFound ends the work at the first difference.
var errFound = errors.New("compare: the disks differ")

type comparison struct {
	a, b  chunk.Disk
	opt   Options
	size  int64
	pos   int64
	done  int64
	found int64
}

type side struct {
	chunk chunk.Chunk
	plain []byte
}

type job struct {
	a, b        side
	off, length int64
	skip        bool
	differs     int64 // -1 for nowhere
}

func (c *comparison) next(ctx context.Context, j *job) error {
	if c.pos >= c.size {
		return io.EOF
	}
	end := min(c.pos&^(c.a.Piece-1)+c.a.Piece, c.size)
	j.skip, j.differs = false, -1
	if za, err := nothing(ctx, &c.a, c.pos, c.size); err != nil {
		return err
	} else if za >= end {
		zb, err := nothing(ctx, &c.b, c.pos, c.size)
		if err != nil {
			return err
		}
		if both := min(za, zb); both >= end {
			end, j.skip = both, true
		}
	}
	j.off, j.length = c.pos, end-c.pos
	c.pos = end
	return nil
}

// nothing gives how far from off on a disk stores nothing, in whole pieces;
// it is off where it does.
func nothing(ctx context.Context, d *chunk.Disk, off, size int64) (int64, error) {
	if off >= d.Size {
		return size, nil
	}
	e, end, err := d.Next(ctx, off)
	if err != nil {
		return 0, err
	}
	if e.Kind != disk.Hole && e.Kind != disk.Zero {
		return off, nil
	}
	if e.End() >= d.Size {
		// Past its end a disk reads as zeroes, up to the piece's end at
		// least.
		return min(max(end, (d.Size+d.Piece-1)&^(d.Piece-1)), size), nil
	}
	return max(d.Whole(e, end), off), nil
}

func (c *comparison) work(ctx context.Context, j *job) error {
	if j.skip {
		return nil
	}
	if err := j.a.read(ctx, &c.a, j.off, j.length); err != nil {
		return err
	}
	if err := j.b.read(ctx, &c.b, j.off, j.length); err != nil {
		return err
	}
	if bytes.Equal(j.a.plain, j.b.plain) {
		return nil
	}
	for i := range j.a.plain {
		if j.a.plain[i] != j.b.plain[i] {
			j.differs = j.off + int64(i)
			break
		}
	}
	return nil
}

// read takes in what a guest sees; past the disk's end that is zeroes.
func (s *side) read(ctx context.Context, d *chunk.Disk, off, length int64) error {
	s.plain = slices.Grow(s.plain[:0], int(length))[:length]
	n := min(length, max(0, d.Size-off))
	clear(s.plain[n:])
	if n == 0 {
		return nil
	}
	if err := s.chunk.Read(ctx, d.Image, off, n); err != nil {
		return err
	}
	return s.chunk.Fill(d, s.plain, off, off+n)
}

func (c *comparison) commit(j *job) error {
	if j.differs >= 0 {
		c.found = j.differs
		return errFound
	}
	c.done += j.length
	if c.opt.Progress != nil {
		c.opt.Progress(c.done)
	}
	return nil
}
