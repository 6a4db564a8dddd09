package vmdk

import (
	"context"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/ovation-project/ovation/disk"
)

// sparseWriter writes a sparse extent that is not compressed: both directories
// and all tables at the front, grains behind them.
type sparseWriter struct {
	f      disk.OutputFile
	h      header
	text   string
	rgt    int64 // where the redundant tables begin
	gt     int64
	rgd    int64
	end    int64
	table  []uint32 // the one that is held
	held   int64    // its number, -1 for none
	filled bool     // it has changed
}

// newSparseWriter begins an extent; text is the descriptor that it holds, ""
// for one whose descriptor is elsewhere.
func newSparseWriter(f disk.OutputFile, size, grain int64, text string) (*sparseWriter, error) {
	w := &sparseWriter{f: f, text: text, held: -1, table: make([]uint32, defaultGTEs)}
	w.h = header{version: 1, flags: flagNewlines | flagRedundant, capacity: size, grain: grain, gtes: defaultGTEs}
	at := int64(sector)
	if text != "" {
		w.h.descriptorOffset, w.h.descriptorSize = at, 20*sector
		if int64(len(text)) > w.h.descriptorSize {
			return nil, fmt.Errorf("vmdk: the name is too long for the descriptor")
		}
		at += w.h.descriptorSize
	}
	directory := roundUp(w.h.tables()*4, sector)
	tables := w.h.tables() * defaultGTEs * 4
	w.rgd, w.rgt = at, at+directory
	at = w.rgt + tables
	w.h.gdOffset, w.gt = at, at+directory
	w.end = roundUp(w.gt+tables, grain)
	return w, nil
}

// Layout says that whole grains are liked best.
func (w *sparseWriter) Layout() disk.Layout { return disk.Layout{Unit: w.h.grain} }

// WriteZeroes stores nothing: a grain that is not there reads as zeroes.
func (w *sparseWriter) WriteZeroes(off, length int64) error {
	return inside(off, length, w.h.capacity)
}

// WriteCompressed is not for this kind of disk.
func (w *sparseWriter) WriteCompressed(int64, []byte) error {
	return unsupported("compressed grains in a disk that is not streamOptimized")
}

// hold brings a table into memory.
func (w *sparseWriter) hold(i int64) error {
	if w.held == i {
		return nil
	}
	if err := w.release(); err != nil {
		return err
	}
	clear(w.table)
	b := make([]byte, defaultGTEs*4)
	// Where nothing was written yet there is nothing to read either.
	if n, err := w.f.ReadAt(b, w.gt+i*int64(len(b))); n < len(b) && err != io.EOF {
		return fmt.Errorf("vmdk: read back a grain table: %w", err)
	}
	for j := range w.table {
		w.table[j] = le.Uint32(b[j*4:])
	}
	w.held = i
	return nil
}

func (w *sparseWriter) release() error {
	if !w.filled {
		return nil
	}
	b := make([]byte, defaultGTEs*4)
	for j, e := range w.table {
		le.PutUint32(b[j*4:], e)
	}
	for _, at := range []int64{w.rgt, w.gt} {
		if _, err := w.f.WriteAt(b, at+w.held*int64(len(b))); err != nil {
			return err
		}
	}
	w.filled = false
	return nil
}

// WriteAt stores data.
func (w *sparseWriter) WriteAt(p []byte, off int64) (int, error) {
	if err := w.WriteZeroes(off, int64(len(p))); err != nil {
		return 0, err
	}
	for done := 0; done < len(p); {
		at := off + int64(done)
		n, err := w.writeRun(p[done:], at)
		if err != nil {
			return done, err
		}
		done += n
	}
	return len(p), nil
}

// writeRun writes what lies together in the file.
func (w *sparseWriter) writeRun(p []byte, off int64) (int, error) {
	g := off / w.h.grain
	if err := w.hold(g / w.h.gtes); err != nil {
		return 0, err
	}
	inner := off % w.h.grain
	first := g % w.h.gtes
	host := int64(w.table[first]) * sector
	length := min(int64(len(p)), w.h.grain-inner)
	if host == 0 {
		host = w.end
		for i := first; ; i++ {
			if w.end/sector > math.MaxUint32 {
				return 0, unsupported("a file of more than 2 TiB")
			}
			w.table[i] = uint32(w.end / sector)
			w.end += w.h.grain
			if length == int64(len(p)) || i+1 == w.h.gtes || w.table[i+1] != 0 {
				break
			}
			length = min(int64(len(p)), length+w.h.grain)
		}
		w.filled = true
	}
	_, err := w.f.WriteAt(p[:length], host+inner)
	return int(length), err
}

// Finish writes the directories and, last, the header.
func (w *sparseWriter) Finish(ctx context.Context) error {
	if err := w.release(); err != nil {
		return err
	}
	for _, d := range []struct{ at, tables int64 }{{w.rgd, w.rgt}, {w.h.gdOffset, w.gt}} {
		b := make([]byte, w.h.tables()*4)
		for i := range w.h.tables() {
			le.PutUint32(b[i*4:], uint32((d.tables+i*defaultGTEs*4)/sector))
		}
		if _, err := w.f.WriteAt(b, d.at); err != nil {
			return err
		}
	}
	if w.text != "" {
		if _, err := w.f.WriteAt([]byte(w.text), w.h.descriptorOffset); err != nil {
			return err
		}
	}
	if err := w.f.Truncate(w.end); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := w.f.WriteAt(putHeader(w.h, w.rgd, roundUp(w.gt+w.h.tables()*defaultGTEs*4, w.h.grain)), 0)
	return err
}

// splitWriter writes a disk whose descriptor is a file of its own: one extent,
// or one for each 2 GiB less a MiB.
type splitWriter struct {
	descriptor disk.OutputFile
	text       string
	size       int64
	unit       int64
	span       int64 // of an extent
	sparse     []*sparseWriter
	flat       []disk.OutputFile
}

func newSplitWriter(out disk.Output, opt disk.CreateOptions) (*splitWriter, error) {
	w := &splitWriter{size: opt.Size, span: max(opt.Size, sector)}
	kind, infix := "FLAT", "-flat"
	switch opt.Subformat {
	case vmfs:
		kind = "VMFS"
	case twoGbMaxExtentFlat:
		infix, w.span = "-f%03d", twoGbExtent
	case twoGbMaxExtentSparse:
		kind, infix, w.span, w.unit = "SPARSE", "-s%03d", twoGbExtent, opt.Unit
	}
	if opt.Size/w.span >= maxExtents {
		return nil, unsupported("a disk of %d bytes in extents of 2 GiB", opt.Size)
	}
	f, err := out.Create(opt.Name)
	if err != nil {
		return nil, err
	}
	w.descriptor = f
	var lines []extentLine
	for start := int64(0); start < opt.Size || len(lines) == 0; start += w.span {
		suffix := infix
		if strings.Contains(infix, "%") {
			suffix = fmt.Sprintf(infix, len(lines)+1)
		}
		line := extentLine{access: "RW", kind: kind, name: base(opt.Name) + suffix + ".vmdk", sectors: min(w.span, opt.Size-start) / sector}
		f, err := out.Create(line.name)
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
		if kind != "SPARSE" {
			w.flat = append(w.flat, f)
			continue
		}
		s, err := newSparseWriter(f, line.sectors*sector, opt.Unit, "")
		if err != nil {
			return nil, err
		}
		w.sparse = append(w.sparse, s)
	}
	w.text = newDescriptor(opt, lines...)
	return w, nil
}

// Layout says how the extents are stored.
func (w *splitWriter) Layout() disk.Layout { return disk.Layout{Unit: w.unit} }

// WriteCompressed is not for this kind of disk.
func (w *splitWriter) WriteCompressed(int64, []byte) error {
	return unsupported("compressed grains in a disk that is not streamOptimized")
}

// WriteZeroes stores nothing: what is not written reads as zeroes.
func (w *splitWriter) WriteZeroes(off, length int64) error {
	return inside(off, length, w.size)
}

// WriteAt stores data in the extents that it falls into.
func (w *splitWriter) WriteAt(p []byte, off int64) (int, error) {
	if err := w.WriteZeroes(off, int64(len(p))); err != nil {
		return 0, err
	}
	for done := 0; done < len(p); {
		i, inner := (off+int64(done))/w.span, (off+int64(done))%w.span
		part := p[done:min(int64(len(p)), int64(done)+w.span-inner)]
		var n int
		var err error
		if w.sparse != nil {
			n, err = w.sparse[i].WriteAt(part, inner)
		} else {
			n, err = w.flat[i].WriteAt(part, inner)
		}
		if done += n; err != nil {
			return done, err
		}
	}
	return len(p), nil
}

// Finish ends the extents and writes the descriptor.
func (w *splitWriter) Finish(ctx context.Context) error {
	for _, s := range w.sparse {
		if err := s.Finish(ctx); err != nil {
			return err
		}
	}
	for i, f := range w.flat {
		if err := f.Truncate(min(w.span, w.size-int64(i)*w.span)); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := w.descriptor.WriteAt([]byte(w.text), 0)
	return err
}

// WriteRange has the data copied without it passing through the program, where
// the extent is a flat file that can have that done.
func (w *splitWriter) WriteRange(off int64, f disk.File, fileOffset, length int64) error {
	if err := inside(off, length, w.size); err != nil {
		return err
	}
	for done := int64(0); done < length; {
		i, inner := (off+done)/w.span, (off+done)%w.span
		n := min(length-done, w.span-inner)
		var r disk.RangeWriter
		if w.sparse == nil {
			r, _ = w.flat[i].(disk.RangeWriter)
		}
		if r == nil {
			return disk.ErrUnsupported
		}
		if err := r.WriteRange(inner, f, fileOffset+done, n); err != nil {
			return err
		}
		done += n
	}
	return nil
}
