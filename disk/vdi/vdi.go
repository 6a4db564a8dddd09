// Package vdi reads and writes VirtualBox's disk images, version 1.1, fixed and
// dynamic. Images that are deltas of others name their parent by a UUID only,
// and are read where the caller hands the parent over.
package vdi

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/blockimage"
)

var le = binary.LittleEndian

const (
	signature  = 0xbeda107f
	version11  = 0x00010001
	headerSize = 512
	block      = 1 << 20

	typeDynamic = 1
	typeFixed   = 2
	typeDelta   = 4

	free      = 0xffffffff // not stored
	discarded = 0xfffffffe // zero
)

// Format is the VDI format.
type Format struct{}

// Name is "vdi".
func (Format) Name() string { return "vdi" }

// Subformats are dynamic and fixed.
func (Format) Subformats() []string { return []string{"dynamic", "fixed"} }

// Extensions is .vdi.
func (Format) Extensions() []string { return []string{".vdi"} }

// URIs are the values of ovf:format in use for VDI.
func (Format) URIs() []string { return []string{"http://www.virtualbox.org/ovf/machine/vdi"} }

func corrupt(format string, args ...any) error {
	return fmt.Errorf("vdi: %s: %w", fmt.Sprintf(format, args...), disk.ErrCorrupt)
}

// uuid identifies an image, or its content.
type uuid [16]byte

type image struct {
	blockimage.Image
	kind uint32
	// created is the image's own identifier; modified changes when it is
	// written to.
	created, modified uuid
	table             *table
	used              uint32 // blocks that are there, by the header
}

// Check is blockimage's, and compares the header with the map.
func (m *image) Check(ctx context.Context, report func(disk.Fault)) error {
	if need := (m.Capacity + m.Block - 1) / m.Block; need != int64(len(m.table.entries)) {
		report(disk.Fault{FileOffset: 368, Text: fmt.Sprintf("the header says that the disk has %d bytes, which are %d blocks, and that there are %d", m.Capacity, need, len(m.table.entries))})
	}
	used := uint32(0)
	for _, e := range m.table.entries {
		if e < discarded {
			used++
		}
	}
	if used != m.used {
		report(disk.Fault{FileOffset: 388, Text: fmt.Sprintf("the map has %d blocks that are there, and the header says %d", used, m.used)})
	}
	return m.Image.Check(ctx, report)
}

// table is the block map.
type table struct {
	entries []uint32
	data    int64
	block   int64 // with what stands before its data
	lead    int64
}

func (t *table) Lookup(n int64) (disk.Kind, int64, error) {
	switch e := t.entries[n]; e {
	case free:
		return disk.Hole, 0, nil
	case discarded:
		return disk.Zero, 0, nil
	default:
		return disk.Data, t.data + int64(e)*t.block + t.lead, nil
	}
}

// Open opens an image.
func (Format) Open(_ context.Context, f disk.File, opt disk.OpenOptions) (disk.Image, error) {
	h := make([]byte, headerSize)
	n, err := f.ReadAt(h, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if n < headerSize || le.Uint32(h[64:]) != signature {
		return nil, disk.ErrFormat
	}
	if v := le.Uint32(h[68:]); v != version11 {
		return nil, fmt.Errorf("vdi: version %#x: %w", v, disk.ErrUnsupported)
	}
	m := &image{kind: le.Uint32(h[76:]), created: uuid(h[392:]), modified: uuid(h[408:])}
	mapAt, dataAt := int64(le.Uint32(h[340:])), int64(le.Uint32(h[344:]))
	size, blockSize, lead, blocks := le.Uint64(h[368:]), int64(le.Uint32(h[376:])), int64(le.Uint32(h[380:])), int64(le.Uint32(h[384:]))
	switch {
	case m.kind != typeDynamic && m.kind != typeFixed && m.kind != typeDelta:
		return nil, fmt.Errorf("vdi: an image of type %d: %w", m.kind, disk.ErrUnsupported)
	case m.kind == typeDelta && opt.Parent == nil:
		return nil, fmt.Errorf("vdi: the image is a delta of the one with UUID %x, which is not to be had: %w", h[424:440], disk.ErrOutside)
	case blockSize < disk.SectorSize || blockSize > 256<<20 || blockSize&(blockSize-1) != 0 || lead > 1<<20:
		return nil, corrupt("blocks of %d bytes, %d before each", blockSize, lead)
	case size > math.MaxInt64 || int64(size) > blocks*blockSize:
		return nil, corrupt("a disk of %d bytes in %d blocks of %d", size, blocks, blockSize)
	case blocks*4 > opt.TableLimit():
		return nil, fmt.Errorf("vdi: a map of %d blocks is over the limit of %d bytes: %w", blocks, opt.TableLimit(), disk.ErrUnsupported)
	case mapAt > f.Size()-blocks*4:
		return nil, corrupt("the map at %d reaches past the end of the file", mapAt)
	}
	raw := make([]byte, blocks*4)
	if got, err := f.ReadAt(raw, mapAt); got < len(raw) {
		return nil, fmt.Errorf("vdi: read the map: %w", err)
	}
	t := &table{entries: make([]uint32, blocks), data: dataAt, block: blockSize + lead, lead: lead}
	for i := range t.entries {
		t.entries[i] = le.Uint32(raw[i*4:])
	}
	m.Image = blockimage.Image{Name: "vdi", File: f, Table: t, Capacity: int64(size), Block: blockSize, Lead: lead,
		Metadata: []blockimage.Range{{At: 0, Length: headerSize}, {At: mapAt, Length: blocks * 4}}}
	m.table, m.used = t, le.Uint32(h[388:])
	if opt.Parent != nil {
		if err := isParent(opt.Parent, uuid(h[424:]), uuid(h[440:])); m.kind == typeDelta && err != nil {
			return nil, err
		}
		m.Below = disk.KeepOpen{Image: opt.Parent}
	}
	return m, nil
}

// isParent says whether a parent is the one that the delta was made on, and has
// not been written to since.
func isParent(parent disk.Image, created, modified uuid) error {
	p, ok := disk.Unwrap(parent).(*image)
	switch {
	case !ok: // of another format it has no such identifiers
	case p.created != created:
		return corrupt("the disk is a delta of the image with UUID %x, and its parent is %x", created, p.created)
	case p.modified != modified && modified != uuid{}:
		return corrupt("the parent with UUID %x was written to after the disk was made on it", created)
	}
	return nil
}

// Info describes the image.
func (m *image) Info() disk.Info {
	kinds := map[uint32]string{typeDynamic: "dynamic", typeFixed: "fixed", typeDelta: "differencing"}
	return disk.Info{Format: "vdi", Subformat: kinds[m.kind], Unit: m.Block}
}

// Create begins an image. In a fixed one every block is there.
func (Format) Create(_ context.Context, out disk.Output, opt disk.CreateOptions) (disk.Writer, error) {
	switch {
	case opt.Subformat != "" && opt.Subformat != "dynamic" && opt.Subformat != "fixed":
		return nil, fmt.Errorf("vdi subformat %q: %w", opt.Subformat, disk.ErrUnsupported)
	case opt.Compress || opt.Codec != disk.NoCodec || opt.Unit != 0 && opt.Unit != block:
		return nil, fmt.Errorf("vdi blocks are of 1 MiB and not compressed: %w", disk.ErrUnsupported)
	case opt.Size < 0 || opt.Size%disk.SectorSize != 0 || opt.Size > block*(math.MaxUint32-2)/4:
		return nil, fmt.Errorf("vdi: a disk of %d bytes: %w", opt.Size, disk.ErrUnsupported)
	}
	f, err := out.Create(opt.Name)
	if err != nil {
		return nil, err
	}
	blocks := (opt.Size + block - 1) / block
	data := headerSize + (blocks*4+disk.SectorSize-1)/disk.SectorSize*disk.SectorSize
	w := &writer{Writer: blockimage.NewWriter("vdi", f, opt.Size, block, data, 0), data: data, opt: opt}
	if opt.Subformat == "fixed" {
		for i := range w.At {
			w.At[i] = data + int64(i)*block
		}
		w.End = data + blocks*block
	}
	return w, nil
}

type writer struct {
	*blockimage.Writer
	data int64
	opt  disk.CreateOptions
}

// Finish writes the map and, last, the header.
func (w *writer) Finish(ctx context.Context) error {
	used := uint32(0)
	raw := make([]byte, len(w.At)*4)
	for i, at := range w.At {
		e := uint32(free)
		if at >= 0 {
			e = uint32((at - w.data) / block)
			used++
		}
		le.PutUint32(raw[i*4:], e)
	}
	if _, err := w.File.WriteAt(raw, headerSize); err != nil {
		return err
	}
	if err := w.File.Truncate(w.End); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	h := make([]byte, headerSize)
	copy(h, "<<< Oracle VM VirtualBox Disk Image >>>\n")
	le.PutUint32(h[64:], signature)
	le.PutUint32(h[68:], version11)
	le.PutUint32(h[72:], 400)
	le.PutUint32(h[76:], typeDynamic)
	if w.opt.Subformat == "fixed" {
		le.PutUint32(h[76:], typeFixed)
	}
	le.PutUint32(h[340:], headerSize)
	le.PutUint32(h[344:], uint32(w.data))
	le.PutUint32(h[360:], disk.SectorSize)
	le.PutUint64(h[368:], uint64(w.opt.Size))
	le.PutUint32(h[376:], block)
	le.PutUint32(h[384:], uint32(len(w.At)))
	le.PutUint32(h[388:], used)
	copy(h[392:], w.opt.Identity[:])
	for i, c := range w.opt.Identity { // the last snapshot is another thing
		h[408+i] = ^c
	}
	_, err := w.File.WriteAt(h, 0)
	return err
}
