package vhdx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"strings"
	"unicode/utf16"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/blockimage"
	"github.com/ovation-project/ovation/internal/cache"
)

type image struct {
	blockimage.Image
	info disk.Info
	// content changes whenever the guest's data does (DataWriteGuid).
	content guid
}

// Info describes the image.
func (m *image) Info() disk.Info { return m.info }

// header is what counts of a header, 2.2.2.
type header struct {
	sequence     uint64
	content, log guid
	logVersion   uint16
	version      uint16
	logLength    int64
	logOffset    uint64
}

// readHeader gives the newer of the two headers that are whole.
func readHeader(f disk.File) (h *header, err error) {
	b := make([]byte, headerSize)
	for _, at := range []int64{header1At, header2At} {
		if n, err := f.ReadAt(b, at); n < len(b) {
			if err == nil || err == io.EOF {
				continue
			}
			return nil, err
		}
		if string(b[:4]) != "head" || !sums(b) {
			continue
		}
		if n := le.Uint64(b[8:]); h == nil || n > h.sequence {
			h = &header{
				sequence: n, content: guid(b[32:48]), log: guid(b[48:64]),
				logVersion: le.Uint16(b[64:]), version: le.Uint16(b[66:]),
				logLength: int64(le.Uint32(b[68:])), logOffset: le.Uint64(b[72:]),
			}
		}
	}
	switch {
	case h == nil:
		return nil, corrupt("neither of the two headers is whole")
	case h.version != 1:
		return nil, unsupported("version %d", h.version)
	case h.log != guid{} && h.logVersion != 0:
		return nil, unsupported("a log of version %d", h.logVersion)
	}
	return h, nil
}

// region is a part of the file.
type region struct{ at, length int64 }

// readRegions gives the two regions that are known, 2.2.3.
func readRegions(f disk.File) (bat, metadata region, err error) {
	b := make([]byte, regionSize)
	whole := false
	for _, at := range []int64{region1At, region2At} {
		if n, err := f.ReadAt(b, at); n < len(b) {
			if err == nil || err == io.EOF {
				continue
			}
			return bat, metadata, err
		}
		if whole = string(b[:4]) == "regi" && sums(b); whole {
			break
		}
	}
	if !whole {
		return bat, metadata, corrupt("neither of the two region tables is whole")
	}
	n := int64(le.Uint32(b[8:]))
	if n > maxEntries {
		return bat, metadata, corrupt("a region table of %d entries", n)
	}
	for i := range n {
		e := b[16+i*entrySize:][:entrySize]
		at, r := le.Uint64(e[16:]), region{length: int64(le.Uint32(e[24:]))}
		id := guid(e[:16])
		into := &bat
		switch id {
		case batRegion:
		case metadataRegion:
			into = &metadata
		default:
			if le.Uint32(e[28:])&1 != 0 {
				return bat, metadata, unsupported("a region %v is required to be understood", id)
			}
			continue
		}
		if at < mib || at%mib != 0 || r.length%mib != 0 || at > uint64(max(0, f.Size()-r.length)) {
			return bat, metadata, corrupt("a region of %d bytes at %d in a file of %d", r.length, at, f.Size())
		}
		r.at = int64(at)
		if into.length != 0 {
			return bat, metadata, corrupt("the region %v is there twice", id)
		}
		*into = r
	}
	if bat.length == 0 || metadata.length == 0 {
		return bat, metadata, corrupt("the block table or the metadata is missing")
	}
	return bat, metadata, nil
}

// readItems gives the metadata items that are known, 2.6.
func readItems(f disk.File, r region) (map[guid][]byte, error) {
	b := make([]byte, regionSize)
	if n, err := f.ReadAt(b, r.at); n < len(b) {
		return nil, fmt.Errorf("vhdx: read the metadata: %w", err)
	}
	n := int64(le.Uint16(b[10:]))
	if string(b[:8]) != "metadata" || n > maxEntries {
		return nil, corrupt("the metadata table at %d is damaged", r.at)
	}
	// The longest that is of use here; locators are paths.
	sizes := map[guid]int64{fileParameters: 8, diskSize: 8, diskID: 16, logicalSector: 4, physicalSector: 4, parentLocator: 256 * kib}
	items := map[guid][]byte{}
	for i := range n {
		e := b[32+i*entrySize:][:entrySize]
		id, at, length, flags := guid(e[:16]), int64(le.Uint32(e[16:])), int64(le.Uint32(e[20:])), le.Uint32(e[24:])
		size, ok := sizes[id]
		switch {
		case flags&1 != 0 || !ok:
			if flags&isRequired != 0 {
				return nil, unsupported("metadata %v is required to be understood", id)
			}
			continue
		case items[id] != nil:
			return nil, corrupt("the metadata %v is there twice", id)
		case at < regionSize || at > r.length-length || length > size || id != parentLocator && length < size:
			return nil, corrupt("the metadata %v has %d bytes at %d", id, length, at)
		}
		item := make([]byte, length)
		if n, err := f.ReadAt(item, r.at+at); n < len(item) {
			return nil, fmt.Errorf("vhdx: read the metadata: %w", err)
		}
		items[id] = item
	}
	for id := range sizes {
		if items[id] == nil && id != parentLocator && id != diskID && id != physicalSector {
			return nil, corrupt("the metadata %v is missing", id)
		}
	}
	return items, nil
}

// Open opens an image.
func (Format) Open(ctx context.Context, f disk.File, opt disk.OpenOptions) (disk.Image, error) {
	b := make([]byte, len(magic))
	if n, err := f.ReadAt(b, 0); n < len(b) && err != nil && err != io.EOF {
		return nil, err
	}
	if string(b) != magic {
		return nil, disk.ErrFormat
	}
	h, err := readHeader(f)
	if err != nil {
		return nil, err
	}
	m := &image{content: h.content, info: disk.Info{Format: "vhdx", Subformat: "dynamic", Details: map[string]string{}}}
	if h.log != (guid{}) {
		if h.logOffset > uint64(f.Size()) {
			return nil, corrupt("the log at %d lies past the end of the file", h.logOffset)
		}
		if f, err = replay(f, int64(h.logOffset), h.logLength, h.log); err != nil {
			return nil, err
		}
		m.info.Notes = append(m.info.Notes, "the image was not closed: its log is replayed in memory")
	}
	bat, metadata, err := readRegions(f)
	if err != nil {
		return nil, err
	}
	items, err := readItems(f, metadata)
	if err != nil {
		return nil, err
	}
	l := layout{block: int64(le.Uint32(items[fileParameters])), sector: int64(le.Uint32(items[logicalSector]))}
	flags, size := le.Uint32(items[fileParameters][4:]), le.Uint64(items[diskSize])
	switch {
	case l.block < mib || l.block > 256*mib || bits.OnesCount64(uint64(l.block)) != 1:
		return nil, corrupt("blocks of %d bytes", l.block)
	case l.sector != 512 && l.sector != 4096:
		return nil, corrupt("sectors of %d bytes", l.sector)
	case size > maxCapacity || size%uint64(l.sector) != 0:
		return nil, corrupt("a disk of %d bytes, with sectors of %d", size, l.sector)
	}
	l.capacity = int64(size)
	m.info.Unit = l.block
	m.info.Details["logical sector"] = fmt.Sprint(l.sector)
	if p := items[physicalSector]; p != nil {
		m.info.Details["physical sector"] = fmt.Sprint(le.Uint32(p))
	}
	differencing := flags&hasParent != 0
	length := l.entries(differencing) * 8
	switch {
	case length > bat.length:
		return nil, corrupt("a disk of %d bytes in blocks of %d, and a table of %d bytes", l.capacity, l.block, bat.length)
	case length > opt.TableLimit():
		return nil, unsupported("a table of %d bytes is over the limit of %d", length, opt.TableLimit())
	}
	t := &table{f: f, layout: l, entries: make([]byte, length), differencing: differencing, bitmaps: cache.New[int64, []byte](64)}
	if n, err := f.ReadAt(t.entries, bat.at); n < len(t.entries) {
		return nil, fmt.Errorf("vhdx: read the block table: %w", err)
	}
	m.Image = blockimage.Image{Name: "vhdx", File: f, Table: t, Capacity: l.capacity, Block: l.block,
		Metadata: []blockimage.Range{{At: 0, Length: mib}, {At: bat.at, Length: bat.length}, {At: metadata.at, Length: metadata.length}}}
	if h.logOffset <= uint64(f.Size()) {
		m.Metadata = append(m.Metadata, blockimage.Range{At: int64(h.logOffset), Length: h.logLength})
	}
	switch {
	case differencing:
		m.info.Subformat = "differencing"
		return m, m.openParent(ctx, items[parentLocator], opt)
	case flags&leaveAllocated != 0:
		m.info.Subformat = "fixed"
	}
	return m, nil
}

// locator reads the keys and values of a parent locator, 2.6.2.6.
func locator(b []byte) (map[string]string, error) {
	if len(b) < 20 {
		return nil, corrupt("the disk is a delta of another one that it does not name")
	}
	if id := guid(b[:16]); id != vhdxLocator {
		return nil, unsupported("a parent that is named in the way %v", id)
	}
	text := func(off, n int64) (string, bool) {
		if off > int64(len(b))-n || n%2 != 0 {
			return "", false
		}
		units := make([]uint16, n/2)
		for i := range units {
			units[i] = le.Uint16(b[off+int64(i)*2:])
		}
		return string(utf16.Decode(units)), true
	}
	pairs := map[string]string{}
	n := int64(le.Uint16(b[18:]))
	// Six keys have a meaning; a locator with many long values that lie on
	// each other would take more memory than it has bytes.
	if n > 64 || 20+n*12 > int64(len(b)) {
		return nil, corrupt("a parent locator of %d entries in %d bytes", n, len(b))
	}
	for i := range n {
		e := b[20+i*12:][:12]
		key, ok := text(int64(le.Uint32(e)), int64(le.Uint16(e[8:])))
		value, ok2 := text(int64(le.Uint32(e[4:])), int64(le.Uint16(e[10:])))
		if !ok || !ok2 {
			return nil, corrupt("an entry of the parent locator lies outside of it")
		}
		pairs[key] = value
	}
	return pairs, nil
}

// parentName gives the parent's name as a package would have it: relative, with
// slashes, or the last part of a path that only makes sense where the disk was
// made.
func parentName(pairs map[string]string) string {
	if p := pairs["relative_path"]; p != "" {
		return strings.TrimPrefix(strings.ReplaceAll(p, `\`, "/"), "./")
	}
	for _, key := range []string{"volume_path", "absolute_win32_path"} {
		if p := pairs[key]; p != "" {
			return p[strings.LastIndexByte(p, '\\')+1:]
		}
	}
	return ""
}

func (m *image) openParent(ctx context.Context, item []byte, opt disk.OpenOptions) error {
	pairs, err := locator(item)
	if err != nil {
		return err
	}
	m.info.Parent = parentName(pairs)
	parent, err := opt.Below(ctx, "vhdx", m.info.Parent, "")
	if err != nil {
		return err
	}
	if err := isParent(parent, pairs); err != nil {
		return errors.Join(err, parent.Close())
	}
	m.Below = parent
	return nil
}

// isParent says whether a parent is the one that the disk was made on, in the
// state that it had then.
func isParent(parent disk.Image, pairs map[string]string) error {
	p, ok := disk.Unwrap(parent).(*image)
	if !ok {
		return nil // of another format: it has no such identifier
	}
	for _, key := range []string{"parent_linkage", "parent_linkage2"} {
		if g, ok := parseGUID(pairs[key]); ok && g == p.content {
			return nil
		}
	}
	return corrupt("the parent is not the disk that this one is a delta of, or was written to since: its content is %v, and %s was wanted", p.content, pairs["parent_linkage"])
}

// table is the block allocation table, 2.5.
type table struct {
	layout
	f            disk.File
	entries      []byte
	differencing bool
	bitmaps      *cache.Cache[int64, []byte]
}

func (t *table) at(entry int64) (state, offset int64) {
	e := le.Uint64(t.entries[entry*8:])
	return int64(e & 7), int64(e>>20) * mib // at most 2^63 - 2^20
}

func (t *table) Lookup(n int64) (disk.Kind, int64, error) {
	state, offset := t.at(t.entry(n))
	switch state {
	case notPresent:
		return disk.Hole, 0, nil
	case zero, undefined, unmapped, unmappedDraft:
		return disk.Zero, 0, nil
	case partiallyPresent:
		if !t.differencing {
			return 0, 0, corrupt("the block at %d of the disk is in a parent in part, and there is no parent", n*t.block)
		}
		fallthrough
	case fullyPresent:
		if offset < mib {
			return 0, 0, corrupt("the block at %d of the disk lies at %d, in the headers", n*t.block, offset)
		}
		if offset > t.f.Size()-min(t.block, t.capacity-n*t.block) {
			return 0, 0, corrupt("the block at %d of the disk lies at %d, past the end of the file", n*t.block, offset)
		}
		return disk.Data, offset, nil
	}
	return 0, 0, corrupt("the block at %d of the disk is in state %d", n*t.block, state)
}

// Present looks into the sector bitmap, which has a bit a sector, the lowest
// first.
func (t *table) Present(off int64) (bool, int64, error) {
	n, inner := off/t.block, off%t.block
	if state, _ := t.at(t.entry(n)); state == fullyPresent {
		return true, t.block - inner, nil
	}
	bm, err := t.bitmaps.Get(n, func() ([]byte, error) {
		state, at := t.at(t.bitmap(n))
		b := make([]byte, t.block/t.sector/8)
		at += n % t.ratio() * int64(len(b))
		if state != bitmapPresent || at < mib || at > t.f.Size()-int64(len(b)) {
			return nil, corrupt("which sectors of the block at %d of the disk are in this file is not to be had (state %d, at %d)", n*t.block, state, at)
		}
		if got, err := t.f.ReadAt(b, at); got < len(b) {
			return nil, err
		}
		return b, nil
	})
	if err != nil {
		return false, 0, err
	}
	first := inner / t.sector
	i := first/8*8 + 8
	here := bm[first/8]>>(first%8)&1 != 0
	for j := first + 1; j < i; j++ {
		if bm[j/8]>>(j%8)&1 != 0 != here {
			return here, j*t.sector - inner, nil
		}
	}
	// Whole bytes at once, then the last one's bits.
	var same byte
	if here {
		same = 0xff
	}
	for k, b := range bm[i/8:] {
		if b != same {
			i += int64(k) * 8
			return here, (i+int64(bits.TrailingZeros8(b^same)))*t.sector - inner, nil
		}
	}
	return here, t.block - inner, nil
}
