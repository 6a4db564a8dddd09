// Package convert copies a virtual disk from any format to any other.
//
// It knows no format. The source is a disk.Image or a disk.Stream, the
// destination a disk.Writer, and between them pieces of the disk are worked on
// in parallel: read, decompressed, looked at for zeroes, compressed. What is
// written, and in which order, depends on the source and the writer only, not
// on the number of workers, so that the same input gives the same bytes.
//
// Where both sides store compressed units of the same size, by codecs of
// which one is a part of the other (VMDK's zlib and qcow2's deflate), the
// units are handed on without being compressed again.
package convert

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/chunk"
	"github.com/ovation-project/ovation/internal/codec"
	"github.com/ovation-project/ovation/internal/pipeline"
)

// Source is a disk.Image or a disk.Stream.
type Source interface {
	// Size is the capacity.
	Size() int64
}

// Options change how Run works. The zero value is good.
type Options struct {
	// Workers is how many pieces are worked on at once; 0 is one a
	// processor. Memory bounds it too.
	Workers int
	// Level is the level at which units are compressed, 1 to 9; 0 is the
	// codec's default.
	Level int
	// Trusted says that the source's bytes are known to be those that its
	// maker wrote (by a digest that is checked on the way, say). Compressed
	// units are then handed on unread; otherwise each is decompressed and
	// checked first.
	Trusted bool
	// Progress, where set, is called now and then, never concurrently.
	Progress func(Progress)
}

// Progress is how far a conversion is.
type Progress struct {
	// Done of Total bytes of the virtual disk are dealt with. Those of a
	// stream may never reach Total, since what does not come is a hole.
	Done, Total int64
	// Stored is how many bytes of the source's files were needed for that.
	Stored int64
}

// Stats says what a conversion did, in bytes of the virtual disk.
type Stats struct {
	// Passed is what was handed on still compressed, Compressed and
	// Written what the writer was given compressed anew and as it is.
	// Cloned is what the system copied from file to file.
	Passed, Compressed, Written, Cloned int64
}

// memory is about what the buffers of one Run may take together.
const memory = 24 << 20

// Run copies src to dst and finishes dst. Parts that read as zeroes are not
// stored, whether src says so or not.
//
// A unit of the source that is damaged ends Run with an error that is
// disk.ErrCorrupt and names the sectors. A stream whose units come in an order
// that dst cannot take gives disk.ErrNeedsSeek.
func Run(ctx context.Context, src Source, dst disk.Writer, opt Options) (Stats, error) {
	r := &run{disk: chunk.NewDisk(src), dst: dst, layout: dst.Layout(), opt: opt}
	if err := r.plan(); err != nil {
		return Stats{}, err
	}
	var produce func(context.Context, *job) error
	switch src := src.(type) {
	case disk.Image:
		produce = (&imageSource{run: r}).next
	case disk.Stream:
		produce = (&streamSource{run: r, stream: src}).next
	default:
		return Stats{}, fmt.Errorf("convert: a source is a disk.Image or a disk.Stream, not %T", src)
	}
	if err := pipeline.Run(ctx, r.jobs, r.workers, produce, r.work, r.commit); err != nil {
		return r.stats, err
	}
	return r.stats, dst.Finish(ctx)
}

// Unit gives the unit that makes handing on possible: CreateOptions.Unit for
// an image of compressed units that is made from src, 0 where src has no
// such units.
func Unit(src Source) int64 { return chunk.UnitSize(src) }

type run struct {
	dst    disk.Writer
	layout disk.Layout
	opt    Options
	// disk's pieces are multiples of both sides' compressed units.
	disk chunk.Disk
	// block is how finely zeroes are looked for.
	block int64

	cloner  disk.RangeWriter // nil where there is none
	plain   disk.PlainWriter // nil where compressed units always are
	noClone atomic.Bool      // cloning was tried and cannot be done
	jobs    []job
	workers int
	stats   Stats
	done    Progress
}

// Zeroes are looked for in blocks of the destination's, where it has any,
// within these bounds: finer costs more calls than it saves space.
const (
	minBlock     = 4 << 10
	defaultBlock = 32 << 10
)

func (r *run) plan() error {
	if r.disk.Size < 0 {
		return fmt.Errorf("convert: a disk of %d bytes", r.disk.Size)
	}
	if r.layout.Codec != disk.NoCodec {
		if r.layout.Unit < disk.SectorSize || r.layout.Unit&(r.layout.Unit-1) != 0 || r.layout.Unit > chunk.MaxUnit {
			return fmt.Errorf("convert: compressed units of %d bytes: %w", r.layout.Unit, disk.ErrUnsupported)
		}
		r.disk.Piece = max(r.disk.Piece, r.layout.Unit)
		r.plain, _ = r.dst.(disk.PlainWriter)
	} else if w, ok := r.dst.(disk.RangeWriter); ok {
		r.cloner = w
	}
	r.block = defaultBlock
	if r.layout.Unit > 0 {
		r.block = min(max(r.layout.Unit, minBlock), r.disk.Piece)
	}
	r.workers = r.opt.Workers
	if r.workers < 1 {
		r.workers = runtime.GOMAXPROCS(0)
	}
	// A piece takes its plain bytes, what they were stored as, and what
	// they are stored as anew.
	each := 2 * r.disk.Piece
	if r.layout.Codec != disk.NoCodec {
		each += r.disk.Piece / 2
	}
	slots := min(max(3, int(memory/each)), 2*r.workers+2)
	r.workers = min(r.workers, slots)
	r.jobs = make([]job, slots)
	return nil
}

// job is one piece on its way.
type job struct {
	chunk chunk.Chunk
	ops   []op
	// plain is the piece as the guest sees it, packed what was compressed,
	// spare a unit that reaches past the piece.
	plain, packed, spare []byte
	// filled is how far plain has been filled.
	filled int64
	// length is how much of the virtual disk the piece deals with, stored
	// how many bytes of the file.
	length, stored int64
	// ready says that ops are made already: there is no content to look at.
	ready bool
}

type opKind uint8

const (
	opWrite opKind = iota
	opZero
	opPassed
	opCompressed
	opPlain
	opClone
)

// op is one call of the writer.
type op struct {
	kind        opKind
	off, length int64
	data        []byte
	from        disk.Extent // of opClone
}

// commit gives the writer what was made of a piece.
func (r *run) commit(j *job) error {
	for i := range j.ops {
		o := &j.ops[i]
		var err error
		switch o.kind {
		case opWrite:
			_, err = r.dst.WriteAt(o.data, o.off)
			r.stats.Written += o.length
		case opZero:
			err = r.dst.WriteZeroes(o.off, o.length)
		case opPassed:
			err = r.dst.WriteCompressed(o.off, o.data)
			r.stats.Passed += o.length
		case opCompressed:
			err = r.dst.WriteCompressed(o.off, o.data)
			r.stats.Compressed += o.length
		case opPlain:
			err = r.plain.WritePlain(o.data, o.off)
			r.stats.Written += o.length
		case opClone:
			err = r.clone(j, o)
		}
		if err != nil {
			return fmt.Errorf("write at byte %d of the disk: %w", o.off, err)
		}
	}
	r.done.Done += j.length
	r.done.Total = r.disk.Size
	r.done.Stored += j.stored
	if r.opt.Progress != nil {
		r.opt.Progress(r.done)
	}
	return nil
}

// clone has the system copy a range, or does what it would do.
func (r *run) clone(j *job, o *op) error {
	if !r.noClone.Load() {
		err := r.cloner.WriteRange(o.off, o.from.File, o.from.FileOffset, o.length)
		if err == nil {
			r.stats.Cloned += o.length
			return nil
		}
		if !errors.Is(err, disk.ErrUnsupported) {
			return err
		}
		r.noClone.Store(true)
	}
	for done := int64(0); done < o.length; {
		n := min(r.disk.Piece, o.length-done)
		buf := j.buffer(n)
		if err := chunk.ReadFull(o.from.File, buf, o.from.FileOffset+done); err != nil {
			return err
		}
		for at := int64(0); at < n; {
			end := min(at+r.block, n)
			zero := chunk.IsZero(buf[at:end])
			for end < n && chunk.IsZero(buf[end:min(end+r.block, n)]) == zero {
				end = min(end+r.block, n)
			}
			if !zero {
				if _, err := r.dst.WriteAt(buf[at:end], o.off+done+at); err != nil {
					return err
				}
				r.stats.Written += end - at
			}
			at = end
		}
		done += n
	}
	return nil
}

// buffer gives the piece's plain bytes, whatever is in them.
func (j *job) buffer(n int64) []byte {
	j.plain = slices.Grow(j.plain[:0], int(n))[:n]
	return j.plain
}

// work makes a piece's ops.
func (r *run) work(ctx context.Context, j *job) error {
	if j.ready {
		return nil
	}
	j.ops, j.packed = j.ops[:0], j.packed[:0]
	if r.disk.Image != nil {
		if err := j.chunk.Read(ctx, r.disk.Image, j.chunk.Offset, j.chunk.Length); err != nil {
			return err
		}
		for i := range j.chunk.Segments {
			j.stored += j.chunk.Segments[i].FileLength
		}
	}
	if r.layout.Codec != disk.NoCodec {
		return r.compress(j)
	}
	return r.expand(j)
}

// expand makes ops for a writer that stores data as it is.
func (r *run) expand(j *job) error {
	content := false
	for i := range j.chunk.Segments {
		s := &j.chunk.Segments[i]
		if s.Kind == disk.Data || s.Kind == disk.Compressed {
			content = true
		}
	}
	if content {
		j.buffer(j.chunk.Length)
		if err := j.chunk.Fill(&r.disk, j.plain, j.chunk.Offset, j.chunk.End()); err != nil {
			return err
		}
	}
	// Blocks that hold anything but zeroes are written, neighbours at once.
	segs := j.chunk.Segments
	for off := j.chunk.Offset; off < j.chunk.End(); {
		end := min(alignDown(off, r.block)+r.block, j.chunk.End())
		if r.disk.Image == nil {
			end = edge(segs, off, end)
		}
		kind := kindOf(segs, off, end)
		if kind == disk.Data && chunk.IsZero(j.at(off, end)) {
			kind = disk.Hole
		}
		switch kind {
		case disk.Zero:
			j.extend(op{kind: opZero, off: off, length: end - off})
		case disk.Data:
			j.extend(op{kind: opWrite, off: off, length: end - off})
		}
		off = end
	}
	for i := range j.ops {
		if o := &j.ops[i]; o.kind == opWrite {
			o.data = j.at(o.off, o.off+o.length)
		}
	}
	return nil
}

// edge is where, between off and end, what a stream brought begins or ends:
// the rest of a block may still come and must not be written over.
func edge(segs []chunk.Segment, off, end int64) int64 {
	pos := off
	for i := range segs {
		s := &segs[i]
		switch {
		case s.End() <= pos:
		case s.Offset > pos && pos == off:
			return min(s.Offset, end)
		case s.Offset > pos:
			return min(pos, end)
		default:
			pos = s.End()
		}
	}
	if pos == off {
		return end
	}
	return min(pos, end)
}

func alignDown(off, unit int64) int64 { return off &^ (unit - 1) }

// at is a part of the piece's plain bytes.
func (j *job) at(off, end int64) []byte {
	return j.plain[off-j.chunk.Offset : end-j.chunk.Offset]
}

// extend adds an op, or lets the last one reach further.
func (j *job) extend(o op) {
	if n := len(j.ops); n > 0 {
		if last := &j.ops[n-1]; last.kind == o.kind && last.off+last.length == o.off {
			last.length += o.length
			return
		}
	}
	j.ops = append(j.ops, o)
}

// kindOf says what a range is: Hole or Zero where it is that throughout, else
// Data. Ranges that are holes and recorded zeroes are Hole.
func kindOf(segs []chunk.Segment, off, end int64) disk.Kind {
	zeroes := int64(0)
	for i := range segs {
		s := &segs[i]
		n := min(s.End(), end) - max(s.Offset, off)
		if n <= 0 {
			continue
		}
		switch s.Kind {
		case disk.Data, disk.Compressed:
			return disk.Data
		case disk.Zero:
			zeroes += n
		}
	}
	if zeroes == end-off {
		return disk.Zero
	}
	return disk.Hole
}

// compress makes ops for a writer of compressed units.
func (r *run) compress(j *job) error {
	unit := r.layout.Unit
	j.buffer(j.chunk.Length)
	j.filled = j.chunk.Offset
	segs := j.chunk.Segments
	for off := j.chunk.Offset; off < j.chunk.End(); {
		end := min(alignDown(off, unit)+unit, j.chunk.End())
		for len(segs) > 0 && segs[0].End() <= off {
			segs = segs[1:]
		}
		switch kindOf(segs, off, end) {
		case disk.Zero:
			j.extend(op{kind: opZero, off: off, length: end - off})
		case disk.Data:
			passed, err := r.pass(j, segs, off, end)
			if err != nil {
				return err
			}
			if !passed {
				if err := r.pack(j, segs, off, end); err != nil {
					return err
				}
			}
		}
		off = end
	}
	return nil
}

// pass hands a unit on as it is stored, where it can be.
func (r *run) pass(j *job, segs []chunk.Segment, off, end int64) (bool, error) {
	s := &segs[0]
	if s.Kind != disk.Compressed || s.Offset != off || s.End() != end || s.Stored == nil ||
		!codec.CanTranscode(s.Codec, r.layout.Codec) {
		return false, nil
	}
	unit := r.layout.Unit
	whole := end-off == unit
	if s.End() >= r.disk.Size && r.disk.Unit != unit {
		// What the disk's end cuts may be of another size than it seems.
		return false, nil
	}
	stored := s.Stored
	// Zlib's units say how long they are; others may be padded, and that
	// shows only when they are decompressed.
	if !r.opt.Trusted || !whole || s.Codec != disk.Zlib {
		j.spare = slices.Grow(j.spare[:0], int(unit))[:unit]
		n, used, err := s.Inflate(j.spare)
		if err != nil {
			return false, err
		}
		if int64(n) != unit || chunk.IsZero(j.spare) {
			return false, nil
		}
		stored = stored[:used]
	}
	data, ok := codec.Transcode(s.Codec, r.layout.Codec, stored)
	if !ok || r.grew(data) {
		return false, nil
	}
	j.ops = append(j.ops, op{kind: opPassed, off: off, length: end - off, data: data})
	return true, nil
}

// grew says that a unit is better left as it is, where the writer can do that.
func (r *run) grew(packed []byte) bool {
	return r.plain != nil && int64(len(packed)) >= r.layout.Unit
}

// pack compresses one unit, unless it is all zeroes.
func (r *run) pack(j *job, segs []chunk.Segment, off, end int64) error {
	if from := max(off, j.filled); from < end {
		// A source unit that is larger is decompressed once, not for each
		// of the units that are made of it.
		j.filled = end
		for i := range segs {
			if segs[i].Offset >= end {
				break
			}
			j.filled = max(j.filled, min(segs[i].End(), j.chunk.End()))
		}
		if err := j.chunk.Fill(&r.disk, j.plain, from, j.filled); err != nil {
			return err
		}
	}
	data := j.at(off, end)
	if chunk.IsZero(data) {
		return nil
	}
	if unit := r.layout.Unit; end-off < unit {
		// The disk ends within the unit; readers want it whole.
		j.spare = append(j.spare[:0], data...)
		j.spare = append(j.spare, make([]byte, unit-(end-off))...)
		data = j.spare
	}
	n := len(j.packed)
	packed, err := codec.Compress(r.layout.Codec, r.opt.Level, j.packed, data)
	if err != nil {
		return err
	}
	if r.grew(packed[n:]) {
		j.ops = append(j.ops, op{kind: opPlain, off: off, length: end - off, data: j.at(off, end)})
		return nil
	}
	j.packed = packed
	j.ops = append(j.ops, op{kind: opCompressed, off: off, length: end - off, data: packed[n:len(packed):len(packed)]})
	return nil
}
