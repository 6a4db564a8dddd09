// Package vhd reads and writes virtual hard disks as the "Virtual Hard Disk
// Image Format Specification" of Microsoft describes them: fixed and dynamic,
// and differencing ones for reading. qemu-img calls the format vpc.
package vhd

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/bits"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/blockimage"
	"github.com/ovation-project/ovation/internal/cache"
)

var be = binary.BigEndian

const (
	cookie     = "conectix"
	dynCookie  = "cxsparse"
	footerSize = 512
	headerSize = 1024
	block      = 2 << 20

	typeFixed   = 2
	typeDynamic = 3
	typeDiff    = 4

	unallocated = 0xffffffff
	noOffset    = math.MaxUint64
	// align is what "-aligned" subformats round the capacity up to: Azure
	// takes no others.
	align = 1 << 20
	// maxSize is what the format's users can cope with: 2040 GiB.
	maxSize = 2040 << 30
)

// Format is the VHD format.
type Format struct{}

// Name is "vpc", as qemu-img has it.
func (Format) Name() string { return "vpc" }

// Subformats are dynamic and fixed, and the same with a capacity that is rounded
// up to a whole MiB, as Azure wants it.
func (Format) Subformats() []string {
	return []string{"dynamic", "fixed", "dynamic-aligned", "fixed-aligned"}
}

// Extensions is .vhd.
func (Format) Extensions() []string { return []string{".vhd"} }

// URIs are the values of ovf:format in use for VHD.
func (Format) URIs() []string {
	return []string{
		"http://technet.microsoft.com/en-us/virtualserver/bb676673.aspx",
		"http://go.microsoft.com/fwlink/?LinkId=137171",
	}
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("vhd: %s: %w", fmt.Sprintf(format, args...), disk.ErrCorrupt)
}

// checksum is the one's complement of the sum of all bytes, those of the field
// itself left out.
func checksum(b []byte, field int) uint32 {
	var sum uint32
	for i, c := range b {
		if i < field || i >= field+4 {
			sum += uint32(c)
		}
	}
	return ^sum
}

type footer struct {
	dataOffset uint64
	size       int64
	kind       uint32
	uuid       [16]byte
}

func parseFooter(b []byte) (*footer, error) {
	if string(b[:8]) != cookie {
		return nil, disk.ErrFormat
	}
	if be.Uint32(b[64:]) != checksum(b, 64) {
		return nil, corrupt("the footer's checksum is wrong")
	}
	f := &footer{dataOffset: be.Uint64(b[16:]), kind: be.Uint32(b[60:])}
	copy(f.uuid[:], b[68:])
	size := be.Uint64(b[48:])
	// Virtual PC's guests see what the geometry comes to, and QEMU does as
	// they do for images of these makers.
	creator := string(b[28:32])
	cylinders, heads, sectors := uint64(be.Uint16(b[56:])), uint64(b[58]), uint64(b[59])
	chs := cylinders * heads * sectors * disk.SectorSize
	if (creator == "vpc " || creator == "vs  " || creator == "qemu") && chs > 0 && chs != 65535*16*255*disk.SectorSize && chs < size {
		size = chs
	}
	if size > math.MaxInt64/2 || size%disk.SectorSize != 0 {
		return nil, corrupt("a disk of %d bytes", size)
	}
	f.size = int64(size)
	return f, nil
}

type image struct {
	blockimage.Image
	info disk.Info
	// uuid is the image's unique ID, by which a delta knows its parent.
	uuid [16]byte
}

// Open opens an image.
func (Format) Open(ctx context.Context, f disk.File, opt disk.OpenOptions) (disk.Image, error) {
	b := make([]byte, footerSize)
	at := f.Size() - footerSize
	if at < 0 {
		return nil, disk.ErrFormat
	}
	// Dynamic images begin with a copy of the footer, by which they are told
	// where the end is cut off.
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return nil, err
	}
	if string(b[:8]) != cookie {
		if n, err := f.ReadAt(b, at); n < len(b) {
			return nil, err
		}
	}
	foot, err := parseFooter(b)
	if err != nil {
		return nil, err
	}
	m := &image{info: disk.Info{Format: "vpc"}, uuid: foot.uuid}
	switch foot.kind {
	case typeFixed:
		if foot.size > at {
			return nil, corrupt("a fixed disk of %d bytes in a file of %d", foot.size, f.Size())
		}
		m.info.Subformat = "fixed"
		m.Image = blockimage.Image{Name: "vhd", File: f, Table: whole{}, Capacity: foot.size, Block: max(disk.SectorSize, foot.size)}
		return m, nil
	case typeDynamic, typeDiff:
		return m, m.openDynamic(ctx, f, foot, opt)
	}
	return nil, fmt.Errorf("vhd: an image of type %d: %w", foot.kind, disk.ErrUnsupported)
}

// whole is the table of a fixed disk, which is one block.
type whole struct{}

func (whole) Lookup(int64) (disk.Kind, int64, error) { return disk.Data, 0, nil }

func (m *image) openDynamic(ctx context.Context, f disk.File, foot *footer, opt disk.OpenOptions) error {
	if foot.dataOffset > uint64(max(0, f.Size()-headerSize)) {
		return corrupt("the dynamic header at %d lies past the end of the file", foot.dataOffset)
	}
	h := make([]byte, headerSize)
	if n, err := f.ReadAt(h, int64(foot.dataOffset)); n < len(h) {
		return fmt.Errorf("vhd: read the dynamic header: %w", err)
	}
	if string(h[:8]) != dynCookie || be.Uint32(h[36:]) != checksum(h, 36) {
		return corrupt("the dynamic header at %d is damaged", foot.dataOffset)
	}
	tableAt, entries, size := be.Uint64(h[16:]), int64(be.Uint32(h[28:])), int64(be.Uint32(h[32:]))
	maxTables := opt.TableLimit()
	switch {
	case size < 8*disk.SectorSize || size > 256<<20 || bits.OnesCount64(uint64(size)) != 1:
		return corrupt("blocks of %d bytes", size)
	case entries*size < foot.size:
		return corrupt("a disk of %d bytes in %d blocks of %d", foot.size, entries, size)
	case entries*4 > maxTables:
		return fmt.Errorf("vhd: a table of %d entries is over the limit of %d bytes: %w", entries, maxTables, disk.ErrUnsupported)
	case tableAt > uint64(max(0, f.Size()-entries*4)):
		return corrupt("the block table at %d reaches past the end of the file", tableAt)
	}
	raw := make([]byte, entries*4)
	if n, err := f.ReadAt(raw, int64(tableAt)); n < len(raw) {
		return fmt.Errorf("vhd: read the block table: %w", err)
	}
	t := &table{f: f, block: size, bitmap: bitmapSize(size), entries: make([]uint32, entries)}
	for i := range t.entries {
		t.entries[i] = be.Uint32(raw[i*4:])
	}
	t.bitmaps = cache.New[int64, []byte](64)
	m.Image = blockimage.Image{Name: "vhd", File: f, Table: t, Capacity: foot.size, Block: size, Lead: t.bitmap, Metadata: []blockimage.Range{
		{At: 0, Length: footerSize}, {At: int64(foot.dataOffset), Length: headerSize}, {At: int64(tableAt), Length: entries * 4}}}
	m.info.Subformat, m.info.Unit = "dynamic", size
	if foot.kind == typeDiff {
		m.info.Subformat, m.info.Parent = "differencing", parentName(f, h)
		return m.openParent(ctx, h, opt)
	}
	return nil
}

// Info describes the image.
func (m *image) Info() disk.Info { return m.info }

// bitmapSize is how many bytes the bitmap before a block takes.
func bitmapSize(block int64) int64 {
	n := block / disk.SectorSize / 8
	return (n + disk.SectorSize - 1) / disk.SectorSize * disk.SectorSize
}

// table is the block allocation table.
type table struct {
	f             disk.File
	block, bitmap int64
	entries       []uint32
	bitmaps       *cache.Cache[int64, []byte]
}

func (t *table) Lookup(n int64) (disk.Kind, int64, error) {
	e := t.entries[n]
	if e == unallocated {
		return disk.Hole, 0, nil
	}
	return disk.Data, int64(e)*disk.SectorSize + t.bitmap, nil
}

// Present looks into a block's bitmap, which has a bit a sector, the highest
// first. It is asked of differencing disks only; in others all of a block
// counts, as in QEMU.
func (t *table) Present(off int64) (bool, int64, error) {
	n := off / t.block
	bm, err := t.bitmaps.Get(n, func() ([]byte, error) {
		b := make([]byte, t.bitmap)
		at := int64(t.entries[n]) * disk.SectorSize
		if got, err := t.f.ReadAt(b, at); got < len(b) {
			if err == io.EOF {
				err = corrupt("the bitmap of the block at %d of the disk, at %d, reaches past the end of the file", n*t.block, at)
			}
			return nil, err
		}
		return b, nil
	})
	if err != nil {
		return false, 0, err
	}
	first := off % t.block / disk.SectorSize
	bit := func(i int64) bool { return bm[i/8]>>(7-i%8)&1 != 0 }
	here := bit(first)
	i := first + 1
	for i < t.block/disk.SectorSize && bit(i) == here {
		i++
	}
	return here, i*disk.SectorSize - off%t.block, nil
}

// Create begins an image. An -aligned one has zeroes behind the disk up to a
// whole MiB.
func (Format) Create(_ context.Context, out disk.Output, opt disk.CreateOptions) (disk.Writer, error) {
	size := opt.Size
	fixed := false
	switch opt.Subformat {
	case "", "dynamic":
	case "fixed":
		fixed = true
	case "fixed-aligned", "dynamic-aligned":
		fixed = opt.Subformat == "fixed-aligned"
		size = (size + align - 1) / align * align
	default:
		return nil, fmt.Errorf("vhd subformat %q: %w", opt.Subformat, disk.ErrUnsupported)
	}
	switch {
	case opt.Compress || opt.Codec != disk.NoCodec || opt.Unit != 0 && opt.Unit != block:
		return nil, fmt.Errorf("vhd blocks are of 2 MiB and not compressed: %w", disk.ErrUnsupported)
	case opt.Size < 0 || opt.Size%disk.SectorSize != 0:
		return nil, fmt.Errorf("vhd: a disk of %d bytes: a multiple of %d is needed", opt.Size, disk.SectorSize)
	case size > maxSize:
		return nil, fmt.Errorf("vhd: a disk of %d bytes; the format goes up to %d: %w", size, int64(maxSize), disk.ErrUnsupported)
	}
	f, err := out.Create(opt.Name)
	if err != nil {
		return nil, err
	}
	if fixed {
		w := blockimage.NewWriter("vhd", f, size, max(size, disk.SectorSize), 0, 0)
		for i := range w.At {
			w.At[i] = 0
		}
		return &fixedWriter{w, opt}, nil
	}
	entries := (size + block - 1) / block
	end := footerSize + headerSize + (entries*4+disk.SectorSize-1)/disk.SectorSize*disk.SectorSize
	return &dynamicWriter{blockimage.NewWriter("vhd", f, size, block, end, bitmapSize(block)), opt}, nil
}

// geometry is the specification's way from a size to cylinders, heads and
// sectors a track.
func geometry(size int64) (cylinders uint16, heads, sectors uint8) {
	total := min(size/disk.SectorSize, 65535*16*255)
	var spt, h, ch int64
	if total >= 65535*16*63 {
		spt, h = 255, 16
		ch = total / spt
	} else {
		spt = 17
		ch = total / spt
		if h = max(4, (ch+1023)/1024); ch >= h*1024 || h > 16 {
			spt, h = 31, 16
			ch = total / spt
		}
		if ch >= h*1024 {
			spt, h = 63, 16
			ch = total / spt
		}
	}
	return uint16(ch / h), uint8(h), uint8(spt)
}

func makeFooter(size int64, kind uint32, identity [16]byte) []byte {
	b := make([]byte, footerSize)
	copy(b, cookie)
	be.PutUint32(b[8:], 2)
	be.PutUint32(b[12:], 0x00010000)
	be.PutUint64(b[16:], noOffset)
	if kind != typeFixed {
		be.PutUint64(b[16:], footerSize)
	}
	// The time stamp stays 0, for the same input to give the same bytes. The
	// creator is Windows's, by which readers know that the size counts and
	// not the geometry.
	copy(b[28:], "win ")
	be.PutUint32(b[32:], 0x00060001)
	copy(b[36:], "Wi2k")
	be.PutUint64(b[40:], uint64(size))
	be.PutUint64(b[48:], uint64(size))
	cylinders, heads, sectors := geometry(size)
	be.PutUint16(b[56:], cylinders)
	b[58], b[59] = heads, sectors
	be.PutUint32(b[60:], kind)
	copy(b[68:], identity[:])
	be.PutUint32(b[64:], checksum(b, 64))
	return b
}

type fixedWriter struct {
	*blockimage.Writer
	opt disk.CreateOptions
}

// Layout says that there are no blocks.
func (w *fixedWriter) Layout() disk.Layout { return disk.Layout{} }

// Finish writes the footer.
func (w *fixedWriter) Finish(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := w.File.Truncate(w.Capacity); err != nil {
		return err
	}
	_, err := w.File.WriteAt(makeFooter(w.Capacity, typeFixed, w.opt.Identity), w.Capacity)
	return err
}

type dynamicWriter struct {
	*blockimage.Writer
	opt disk.CreateOptions
}

// Finish writes the table, the headers and the footer.
func (w *dynamicWriter) Finish(ctx context.Context) error {
	const tableAt = footerSize + headerSize
	raw := bytes.Repeat([]byte{0xff}, (len(w.At)*4+disk.SectorSize-1)/disk.SectorSize*disk.SectorSize)
	for i, at := range w.At {
		if at >= 0 {
			be.PutUint32(raw[i*4:], uint32(at/disk.SectorSize))
		}
	}
	if _, err := w.File.WriteAt(raw, tableAt); err != nil {
		return err
	}
	h := make([]byte, headerSize)
	copy(h, dynCookie)
	be.PutUint64(h[8:], noOffset)
	be.PutUint64(h[16:], tableAt)
	be.PutUint32(h[24:], 0x00010000)
	be.PutUint32(h[28:], uint32(len(w.At)))
	be.PutUint32(h[32:], block)
	be.PutUint32(h[36:], checksum(h, 36))
	if _, err := w.File.WriteAt(h, footerSize); err != nil {
		return err
	}
	if err := w.File.Truncate(w.End); err != nil {
		return err
	}
	foot := makeFooter(w.Capacity, typeDynamic, w.opt.Identity)
	if _, err := w.File.WriteAt(foot, w.End); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := w.File.WriteAt(foot, 0)
	return err
}
