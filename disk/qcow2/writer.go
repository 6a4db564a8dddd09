package qcow2

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/codec"
)

const (
	// appendBuffer is how many bytes of compressed clusters are gathered
	// before they are written.
	appendBuffer = 1 << 20
	// heldTables is the memory that L2 tables may take while the image is
	// written, in bytes; beyond it they are put into the file and read back
	// when they are needed again.
	heldTables = 16 << 20
	// maxL1Size is what QEMU takes, in bytes.
	maxL1Size = 32 << 20
)

// Create begins an image of version 3. With Compress or a Codec its clusters
// are compressed: by disk.Deflate, or by disk.Zstd, which QEMU reads from 5.1
// on. Unit is the size of clusters, 512 bytes to 2 MiB; 0 is 64 KiB.
func (Format) Create(_ context.Context, out disk.Output, opt disk.CreateOptions) (disk.Writer, error) {
	if opt.Subformat != "" && opt.Subformat != "qcow2" {
		return nil, fmt.Errorf("qcow2 subformat %q: %w", opt.Subformat, disk.ErrUnsupported)
	}
	w := &writer{size: opt.Size, clusterBits: defaultClusterBits, level: opt.Level}
	if opt.Unit != 0 {
		w.clusterBits = uint(bits.TrailingZeros64(uint64(opt.Unit)))
		if opt.Unit < 1<<minClusterBits || opt.Unit > 1<<maxClusterBits || opt.Unit != 1<<w.clusterBits {
			return nil, fmt.Errorf("qcow2 clusters of %d bytes: a power of two from 512 to 2097152 is needed: %w", opt.Unit, disk.ErrUnsupported)
		}
	}
	switch {
	case opt.Codec == disk.Deflate || opt.Codec == disk.Zstd:
		w.codec = opt.Codec
	case opt.Codec != disk.NoCodec:
		return nil, fmt.Errorf("qcow2 clusters compressed by %v: %w", opt.Codec, disk.ErrUnsupported)
	case opt.Compress:
		w.codec = disk.Deflate
	}
	if opt.Size < 0 || opt.Size%disk.SectorSize != 0 {
		return nil, fmt.Errorf("a disk of %d bytes: a multiple of %d is needed", opt.Size, disk.SectorSize)
	}
	w.cluster = 1 << w.clusterBits
	w.perTable = w.cluster / 8
	tables := (w.clusters() + w.perTable - 1) / w.perTable
	if tables*8 > maxL1Size {
		return nil, fmt.Errorf("a disk of %d bytes is too large for clusters of %d bytes; use larger ones", opt.Size, w.cluster)
	}
	w.l1 = make([]uint64, tables)
	w.tables = map[int64]*l2Table{}
	f, err := out.Create(opt.Name)
	if err != nil {
		return nil, err
	}
	w.f = f
	w.end = w.cluster // the header's
	w.refs = []uint16{1}
	return w, nil
}

// writer appends clusters and keeps the tables until the end. The header is
// the last that is written, so that an image that is not finished is none.
type writer struct {
	f           disk.OutputFile
	size        int64
	clusterBits uint
	cluster     int64
	perTable    int64 // entries of an L2 table
	codec       disk.Codec
	level       int

	// end is where the next bytes go; what lies before it and is not yet
	// in the file is in pending.
	end     int64
	pending []byte

	l1     []uint64 // offsets of the L2 tables that are in the file
	tables map[int64]*l2Table
	refs   []uint16 // reference counts of the file's clusters
	packed []byte   // room for compressing
}

type l2Table struct {
	entries []uint64
	changed bool
}

func (w *writer) clusters() int64 { return (w.size + w.cluster - 1) / w.cluster }

// Layout says that whole clusters are liked best.
func (w *writer) Layout() disk.Layout { return disk.Layout{Unit: w.cluster, Codec: w.codec} }

// refer counts one more reference to each file cluster of a range.
func (w *writer) refer(offset, n int64) error {
	last := (offset + n - 1) >> w.clusterBits
	for int64(len(w.refs)) <= last {
		w.refs = append(w.refs, 0)
	}
	for c := offset >> w.clusterBits; c <= last; c++ {
		if w.refs[c] == math.MaxUint16 {
			return fmt.Errorf("more references to one cluster than can be counted: %w", disk.ErrUnsupported)
		}
		w.refs[c]++
	}
	return nil
}

// align moves the end up to the next cluster.
func (w *writer) align() error {
	if err := w.flush(); err != nil {
		return err
	}
	w.end = (w.end + w.cluster - 1) &^ (w.cluster - 1)
	return nil
}

func (w *writer) flush() error {
	if len(w.pending) == 0 {
		return nil
	}
	_, err := w.f.WriteAt(w.pending, w.end-int64(len(w.pending)))
	w.pending = w.pending[:0]
	return err
}

// allocate takes whole clusters at the end of the file.
func (w *writer) allocate(n int64) (offset int64, err error) {
	if err := w.align(); err != nil {
		return 0, err
	}
	offset = w.end
	w.end += n << w.clusterBits
	return offset, w.refer(offset, n<<w.clusterBits)
}

// table gives the L2 table for a cluster of the disk.
func (w *writer) table(cluster int64) (*l2Table, error) {
	i := cluster / w.perTable
	if t := w.tables[i]; t != nil {
		return t, nil
	}
	if int64(len(w.tables)+1)*w.cluster > heldTables {
		if err := w.putTables(); err != nil {
			return nil, err
		}
		clear(w.tables)
	}
	t := &l2Table{entries: make([]uint64, w.perTable)}
	if w.l1[i] != 0 {
		b := make([]byte, w.cluster)
		if _, err := w.f.ReadAt(b, int64(w.l1[i])); err != nil {
			return nil, fmt.Errorf("read back an L2 table: %w", err)
		}
		for j := range t.entries {
			t.entries[j] = be.Uint64(b[j*8:])
		}
	}
	w.tables[i] = t
	return t, nil
}

// putTables writes the L2 tables that have changed.
func (w *writer) putTables() error {
	order := make([]int64, 0, len(w.tables))
	for i, t := range w.tables {
		if t.changed {
			order = append(order, i)
		}
	}
	slices.Sort(order)
	b := make([]byte, w.cluster)
	for _, i := range order {
		t := w.tables[i]
		if w.l1[i] == 0 {
			offset, err := w.allocate(1)
			if err != nil {
				return err
			}
			w.l1[i] = uint64(offset)
		}
		for j, e := range t.entries {
			be.PutUint64(b[j*8:], e)
		}
		if _, err := w.f.WriteAt(b, int64(w.l1[i])); err != nil {
			return err
		}
		t.changed = false
	}
	return nil
}

func (w *writer) check(off, length int64) error {
	if off < 0 || length < 0 || off > w.size || length > w.size-off {
		return fmt.Errorf("a write of %d bytes at %d is outside of the disk of %d bytes", length, off, w.size)
	}
	return nil
}

// WriteAt stores data, compressing it where the image is compressed.
func (w *writer) WriteAt(p []byte, off int64) (int, error) {
	if err := w.check(off, int64(len(p))); err != nil {
		return 0, err
	}
	if w.codec != disk.NoCodec {
		return w.writeUnits(p, off)
	}
	done := 0
	for done < len(p) {
		n, err := w.writePlain(p[done:], off+int64(done))
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// writePlain writes as much of p as goes into one L2 table and lies together
// in the file.
func (w *writer) writePlain(p []byte, off int64) (int, error) {
	first := off >> w.clusterBits
	t, err := w.table(first)
	if err != nil {
		return 0, err
	}
	inner := off & (w.cluster - 1)
	last := (off + int64(len(p)) - 1) >> w.clusterBits
	last = min(last, first-first%w.perTable+w.perTable-1)
	slot := first % w.perTable
	n := int64(1)
	host := int64(t.entries[slot] & offsetMask)
	if host == 0 {
		// The clusters after it that are new as well are put beside it.
		for first+n <= last && t.entries[slot+n] == 0 {
			n++
		}
		if host, err = w.allocate(n); err != nil {
			return 0, err
		}
		for i := range n {
			t.entries[slot+i] = uint64(host+i<<w.clusterBits) | flagCopied
		}
		t.changed = true
	}
	length := min(int64(len(p)), n<<w.clusterBits-inner)
	_, err = w.f.WriteAt(p[:length], host+inner)
	return int(length), err
}

// writeUnits compresses whole units. A unit that does not get smaller is stored
// as it is.
func (w *writer) writeUnits(p []byte, off int64) (int, error) {
	if off%w.cluster != 0 {
		return 0, fmt.Errorf("a write at %d into a compressed image does not begin at a cluster of %d bytes", off, w.cluster)
	}
	for done := int64(0); done < int64(len(p)); done += w.cluster {
		unit := p[done:min(int64(len(p)), done+w.cluster)]
		if int64(len(unit)) < w.cluster {
			if off+done+int64(len(unit)) != w.size {
				return int(done), fmt.Errorf("a write into a compressed image ends at %d, within a cluster", off+done+int64(len(unit)))
			}
			unit = append(make([]byte, 0, w.cluster), unit...)[:w.cluster]
		}
		var err error
		if w.packed, err = codec.Compress(w.codec, w.level, w.packed[:0], unit); err != nil {
			return int(done), err
		}
		if int64(len(w.packed)) < w.cluster {
			err = w.WriteCompressed(off+done, w.packed)
		} else {
			err = w.WritePlain(unit, off+done)
		}
		if err != nil {
			return int(done), err
		}
	}
	return len(p), nil
}

// WritePlain stores a cluster of a compressed image as it is.
func (w *writer) WritePlain(unit []byte, off int64) error {
	if err := w.check(off, min(int64(len(unit)), w.size-off)); err != nil {
		return err
	}
	if w.codec == disk.NoCodec || off%w.cluster != 0 || len(unit) == 0 || int64(len(unit)) > w.cluster {
		return fmt.Errorf("%d bytes cannot be a cluster at %d: %w", len(unit), off, disk.ErrUnsupported)
	}
	_, err := w.writePlain(unit, off)
	return err
}

// WriteZeroes does nothing: what is not written reads as zeroes.
func (w *writer) WriteZeroes(off, length int64) error { return w.check(off, length) }

// WriteCompressed stores a cluster that is compressed already, right behind the
// last one.
func (w *writer) WriteCompressed(off int64, stored []byte) error {
	if err := w.check(off, 1); err != nil {
		return err
	}
	if w.codec == disk.NoCodec || off%w.cluster != 0 || len(stored) == 0 || int64(len(stored)) > 2*w.cluster-disk.SectorSize {
		return fmt.Errorf("%d compressed bytes cannot be a cluster at %d: %w", len(stored), off, disk.ErrUnsupported)
	}
	t, err := w.table(off >> w.clusterBits)
	if err != nil {
		return err
	}
	if err := w.refer(w.end, int64(len(stored))); err != nil {
		return err
	}
	slot := (off >> w.clusterBits) % w.perTable
	t.entries[slot] = compressedEntry(w.clusterBits, w.end, int64(len(stored)))
	t.changed = true
	if w.pending == nil {
		w.pending = make([]byte, 0, appendBuffer+2*w.cluster)
	}
	w.pending = append(w.pending, stored...)
	w.end += int64(len(stored))
	if len(w.pending) >= appendBuffer {
		return w.flush()
	}
	return nil
}

// Finish writes the tables, the reference counts and, last, the header.
func (w *writer) Finish(ctx context.Context) error {
	if err := w.putTables(); err != nil {
		return err
	}
	l1Clusters := (int64(len(w.l1))*8 + w.cluster - 1) >> w.clusterBits // none of an empty disk
	l1Offset, err := w.allocate(l1Clusters)
	if err != nil {
		return err
	}
	b := make([]byte, len(w.l1)*8)
	for i, e := range w.l1 {
		if e != 0 {
			e |= flagCopied
		}
		be.PutUint64(b[i*8:], e)
	}
	if _, err := w.f.WriteAt(b, l1Offset); err != nil {
		return err
	}
	tableOffset, tableClusters, err := w.putRefcounts()
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := w.f.Truncate(w.end); err != nil {
		return err
	}
	_, err = w.f.WriteAt(w.header(l1Offset, tableOffset, tableClusters), 0)
	return err
}

// putRefcounts writes the counts, which count themselves too.
func (w *writer) putRefcounts() (tableOffset, tableClusters int64, err error) {
	perBlock := w.cluster / 2
	used := w.end >> w.clusterBits
	blocks := int64(0)
	for {
		needBlocks := (used + blocks + tableClusters + perBlock - 1) / perBlock
		needTable := (needBlocks*8 + w.cluster - 1) >> w.clusterBits
		if needBlocks == blocks && needTable == tableClusters {
			break
		}
		blocks, tableClusters = needBlocks, needTable
	}
	offset, err := w.allocate(blocks + tableClusters)
	if err != nil {
		return 0, 0, err
	}
	tableOffset = offset + blocks<<w.clusterBits
	b := make([]byte, w.cluster)
	for i := range blocks {
		clear(b)
		from := i * perBlock
		for j, n := range w.refs[from:min(int64(len(w.refs)), from+perBlock)] {
			be.PutUint16(b[j*2:], n)
		}
		if _, err := w.f.WriteAt(b, offset+i<<w.clusterBits); err != nil {
			return 0, 0, err
		}
	}
	table := make([]byte, tableClusters<<w.clusterBits)
	for i := range blocks {
		be.PutUint64(table[i*8:], uint64(offset+i<<w.clusterBits))
	}
	_, err = w.f.WriteAt(table, tableOffset)
	return tableOffset, tableClusters, err
}

func (w *writer) header(l1Offset, tableOffset, tableClusters int64) []byte {
	h := make([]byte, headerSizeCompression+8) // and the end of extensions
	copy(h, magic)
	be.PutUint32(h[4:], 3)
	be.PutUint32(h[20:], uint32(w.clusterBits))
	be.PutUint64(h[24:], uint64(w.size))
	be.PutUint32(h[36:], uint32(len(w.l1)))
	be.PutUint64(h[40:], uint64(l1Offset))
	be.PutUint64(h[48:], uint64(tableOffset))
	be.PutUint32(h[56:], uint32(tableClusters))
	be.PutUint32(h[96:], 4) // counts of 16 bits
	be.PutUint32(h[100:], headerSizeCompression)
	if w.codec == disk.Zstd {
		be.PutUint64(h[72:], featureCompression)
		h[104] = 1
	}
	return h
}
