// Package check finds what is damaged in a disk image: in its structure, where
// the format can tell, and in the content of every compressed unit.
package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/chunk"
	"github.com/ovation-project/ovation/internal/pipeline"
)

// Options change how Run works. The zero value is good.
type Options struct {
	// Workers is how many pieces are worked on at once; 0 is one a
	// processor.
	Workers int
	// Progress, where set, is called now and then with how many bytes of
	// the virtual disk are done, never concurrently.
	Progress func(done int64)
}

// Result sums up what was looked at.
type Result struct {
	// Faults is how many faults were reported, Lost how many bytes of the
	// virtual disk they cost.
	Faults int
	Lost   int64
	// Units is how many compressed units were decompressed, Stored how many
	// bytes of the file they and the plain data take.
	Units  int
	Stored int64
	// Unproved is how many of the stored bytes have no checksum: plain data,
	// and units of a codec that takes none. That they were altered shows by a
	// digest only, if at all.
	Unproved int64
}

// Run checks an image and reports each fault, in ascending order of the part
// of the disk it costs after those of the structure; neighbouring units with
// the same fault are one. It goes on after a fault. Its error is one that
// keeps it from looking: a cancelled context, a file that cannot be read.
func Run(ctx context.Context, img disk.Image, opt Options, report func(disk.Fault)) (Result, error) {
	c := &checker{disk: chunk.NewDisk(img), img: img, opt: opt, report: report}
	if s, ok := img.(disk.Checker); ok {
		if err := s.Check(ctx, c.add); err != nil {
			return c.result, err
		}
		c.flush()
	}
	workers := opt.Workers
	if workers < 1 {
		workers = runtime.GOMAXPROCS(0)
	}
	slots := min(2*workers+2, max(3, int(memory/(2*c.disk.Piece))))
	err := pipeline.Run(ctx, make([]job, slots), min(workers, slots), c.next, c.work, c.commit)
	c.flush()
	return c.result, err
}

// memory is about what the buffers of one Run may take together.
const memory = 24 << 20

type checker struct {
	disk   chunk.Disk
	img    disk.Image
	opt    Options
	report func(disk.Fault)
	pos    int64
	done   int64
	last   disk.Fault
	have   bool
	result Result
}

type job struct {
	chunk  chunk.Chunk
	unit   []byte
	length int64
	faults []disk.Fault
	units  int
	stored int64
	bare   int64 // of these, what has no checksum
	skip   bool
}

// add takes a fault, and reports the one before unless both are one.
func (c *checker) add(f disk.Fault) {
	if c.have && f.Length > 0 && c.last.Text == f.Text && c.last.Offset+c.last.Length == f.Offset {
		c.last.Length += f.Length
		return
	}
	c.flush()
	c.last, c.have = f, true
}

func (c *checker) flush() {
	if !c.have {
		return
	}
	c.have = false
	c.result.Faults++
	c.result.Lost += c.last.Length
	c.report(c.last)
}

func (c *checker) next(ctx context.Context, j *job) error {
	if c.pos >= c.disk.Size {
		return io.EOF
	}
	j.skip, j.faults, j.units, j.stored, j.bare = false, j.faults[:0], 0, 0, 0
	e, end, err := c.disk.Next(ctx, c.pos)
	if err == nil && e.Kind != disk.Compressed {
		if whole := c.disk.Whole(e, end); whole != 0 {
			end, j.skip = whole, true
			if e.Kind == disk.Data {
				e.Length = end - c.pos
				j.data(e)
			}
		}
	}
	// An extent that cannot be had is the worker's to deal with.
	if err != nil {
		end = min(c.pos&^(c.disk.Piece-1)+c.disk.Piece, c.disk.Size)
	}
	j.length = end - c.pos
	j.chunk.Begin(c.pos, j.length)
	c.pos = end
	return ctx.Err()
}

func (c *checker) commit(j *job) error {
	for _, f := range j.faults {
		c.add(f)
	}
	c.result.Units += j.units
	c.result.Stored += j.stored
	c.result.Unproved += j.bare
	c.done += j.length
	if c.opt.Progress != nil {
		c.opt.Progress(c.done)
	}
	return nil
}

func (j *job) fault(e disk.Extent, text string) {
	j.faults = append(j.faults, disk.Fault{Offset: e.Offset, Length: e.Length, FileOffset: e.FileOffset, Text: text})
}

// data judges a run that is stored as it is: all there is to see is whether
// the file is long enough.
func (j *job) data(e disk.Extent) {
	j.stored += e.Length
	j.bare += e.Length
	if e.File == nil {
		return
	}
	if lost := e.FileOffset + e.Length - e.File.Size(); lost > 0 {
		lost = min(lost, e.Length)
		e.Offset, e.FileOffset = e.End()-lost, e.FileOffset+e.Length-lost
		e.Length = lost
		j.fault(e, "the file ends before this data")
	}
}

func (c *checker) work(ctx context.Context, j *job) error {
	if j.skip {
		return nil
	}
	off, length := j.chunk.Offset, j.chunk.Length
	err := j.chunk.Read(ctx, c.img, off, length)
	if err != nil {
		if err := ctx.Err(); err != nil {
			return err
		}
		return c.apart(ctx, j, off, off+length)
	}
	for i := range j.chunk.Segments {
		c.judge(j, &j.chunk.Segments[i])
	}
	return nil
}

// apart goes extent by extent through a piece that cannot be read at once.
func (c *checker) apart(ctx context.Context, j *job, off, end int64) error {
	for off < end {
		e, err := c.img.Extent(ctx, off)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil && (e.End() <= off || e.Offset > off) {
			err = fmt.Errorf("extent at byte %d of the disk is %d+%d", off, e.Offset, e.Length)
		}
		if err != nil {
			if !errors.Is(err, disk.ErrCorrupt) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, disk.ErrUnsupported) {
				return err
			}
			// Where the next extent begins nobody says.
			lost := min(end-off, max(c.disk.Unit, disk.SectorSize))
			j.fault(disk.Extent{Offset: off, Length: lost}, err.Error())
			off += lost
			continue
		}
		if e.Kind == disk.Compressed && e.File != nil {
			if err := j.chunk.Read(ctx, c.img, off, min(e.End(), end)-off); err != nil {
				if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, disk.ErrCorrupt) && !errors.Is(err, disk.ErrUnsupported) {
					return err
				}
				j.fault(e, err.Error())
			} else {
				c.judge(j, &j.chunk.Segments[0])
			}
		} else {
			e.Length = min(e.End(), end) - e.Offset
			c.judge(j, &chunk.Segment{Extent: e})
		}
		off = e.End()
	}
	return nil
}

func (c *checker) judge(j *job, s *chunk.Segment) {
	switch {
	case s.Kind == disk.Data:
		j.data(s.Extent)
	case s.Kind == disk.Compressed && s.Stored != nil:
		unit := c.disk.UnitOf(s)
		if int64(cap(j.unit)) < unit {
			j.unit = make([]byte, unit)
		}
		j.units++
		j.stored += s.FileLength
		if s.Codec != disk.Zlib {
			j.bare += s.FileLength
		}
		if _, _, err := s.Inflate(j.unit[:unit]); err != nil {
			var f *chunk.FaultError
			if errors.As(err, &f) {
				err = f.Err
			}
			j.fault(s.Extent, err.Error())
		}
	case s.Kind == disk.Compressed:
		j.fault(s.Extent, "the compressed unit has no bytes")
	}
}
