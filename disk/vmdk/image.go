package vmdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"sort"
	"strconv"
	"strings"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/holes"
)

// Image is an open VMDK.
type Image struct {
	size    int64
	extents []extent
	desc    *descriptor
	parent  disk.Image // nil where there is none
	info    disk.Info
}

// extent is a part of the disk: sparse, flat, or zeroes (neither).
type extent struct {
	start, length int64
	sparse        *sparse
	flat          disk.File
	offset        int64 // within flat
}

func (e extent) end() int64 { return e.start + e.length }

// Open opens a disk: a sparse file, or a descriptor with the extents that it
// names, which opt.Files has.
func (Format) Open(ctx context.Context, f disk.File, opt disk.OpenOptions) (disk.Image, error) {
	head := make([]byte, sector)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	limit := opt.MaxTableBytes
	if limit == 0 {
		limit = disk.DefaultMaxTableBytes
	}
	mem := newMemory(limit)
	m := &Image{info: disk.Info{Format: "vmdk", Details: map[string]string{}}}
	switch {
	case n == sector && string(head[:4]) == sparseMagic:
		err = m.openSingle(ctx, f, head, mem)
	case n == sector && (string(head[:4]) == cowdMagic || le.Uint64(head) == seSparseMagic):
		return nil, unsupported("this is one extent of a disk; open the descriptor that names it")
	case isDescriptor(head[:n]):
		err = m.openDescriptor(ctx, f, opt, mem)
	default:
		return nil, disk.ErrFormat
	}
	if err != nil {
		return nil, err
	}
	if err := m.openParent(ctx, opt); err != nil {
		return nil, err
	}
	m.info.Subformat = m.desc.createType
	for k, v := range m.desc.ddb {
		m.info.Details[k] = v
	}
	m.info.Details["cid"] = m.desc.cid
	m.info.Details["parentCID"] = m.desc.parentCID
	m.info.Parent = m.desc.parentHint
	return m, nil
}

// isDescriptor says whether a file begins as a descriptor does: with its
// comment, or with version=1 after others.
func isDescriptor(head []byte) bool {
	for _, line := range strings.Split(string(head), "\n") {
		line = strings.TrimSpace(strings.TrimPrefix(line, "\xef\xbb\xbf"))
		switch {
		case strings.EqualFold(line, "# Disk DescriptorFile"):
			return true
		case line == "" || line[0] == '#':
		default:
			return strings.HasPrefix(strings.ReplaceAll(line, " ", ""), "version=")
		}
	}
	return false
}

func (m *Image) openSingle(ctx context.Context, f disk.File, head []byte, mem *memory) error {
	s, h, err := openSparse(ctx, f, head, mem)
	if err != nil {
		return err
	}
	m.desc = &descriptor{parentCID: noParent, createType: monolithicSparse}
	if h.compressed {
		m.desc.createType = streamOptimized
	}
	if h.descriptorOffset > 0 && h.descriptorSize > 0 {
		b := make([]byte, h.descriptorSize)
		if n, err := f.ReadAt(b, h.descriptorOffset); n < len(b) {
			return corrupt("the descriptor at %d breaks off: %v", h.descriptorOffset, err)
		}
		d, err := parseDescriptor(string(b))
		if err != nil {
			return err
		}
		if len(d.extents) > 1 {
			return unsupported("a sparse file whose descriptor names %d extents", len(d.extents))
		}
		if d.createType == "" {
			d.createType = m.desc.createType
		}
		m.desc = d
	}
	m.info.Details["version"] = strconv.FormatUint(uint64(h.version), 10)
	m.extents = []extent{{length: s.capacity, sparse: s}}
	m.size = s.capacity
	m.describe(s)
	return nil
}

func (m *Image) describe(s *sparse) {
	m.info.Unit = s.grain
	if s.compressed {
		m.info.Codec = disk.Zlib
	}
}

func (m *Image) openDescriptor(ctx context.Context, f disk.File, opt disk.OpenOptions, mem *memory) error {
	if f.Size() > maxDescriptor {
		return unsupported("a descriptor of %d bytes", f.Size())
	}
	b := make([]byte, f.Size())
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return fmt.Errorf("vmdk: read the descriptor: %w", err)
	}
	d, err := parseDescriptor(string(b))
	if err != nil {
		return err
	}
	m.desc = d
	if len(d.extents) == 0 {
		return corrupt("the descriptor names no extents")
	}
	files := opt.Files
	if files == nil {
		files = disk.NoFiles{}
	}
	for _, line := range d.extents {
		e, err := openExtent(ctx, files, line, mem)
		if err != nil {
			return fmt.Errorf("extent %q: %w", line.name, err)
		}
		if e.sparse != nil {
			m.describe(e.sparse)
		}
		if line.name != "" {
			m.info.Files = append(m.info.Files, line.name)
		}
		if e.length > maxCapacity*sector-m.size {
			return corrupt("the extents come to more than a disk can have")
		}
		e.start = m.size
		m.size += e.length
		if e.length > 0 {
			m.extents = append(m.extents, e)
		}
	}
	return nil
}

func openExtent(ctx context.Context, files disk.Files, line extentLine, mem *memory) (extent, error) {
	e := extent{length: line.sectors * sector}
	kind := strings.ToUpper(line.kind)
	switch {
	case kind == "ZERO":
		return e, nil
	case line.access == "NOACCESS":
		return e, unsupported("access is NOACCESS")
	case line.name == "":
		return e, corrupt("no file is named")
	}
	f, err := files.OpenFile(ctx, line.name)
	if err != nil {
		return e, err
	}
	switch kind {
	case "FLAT", "VMFS":
		e.flat, e.offset = f, line.offset*sector
		if e.offset > f.Size() || f.Size()-e.offset < e.length {
			return e, corrupt("the file has %d bytes, and %d from %d on are needed", f.Size(), e.length, e.offset)
		}
		return e, nil
	case "SPARSE", "VMFSSPARSE", "SESPARSE":
	default:
		return e, unsupported("extents of type %s", line.kind)
	}
	head := make([]byte, sector)
	if n, err := f.ReadAt(head, 0); n < sector {
		return e, corrupt("the header breaks off: %v", err)
	}
	switch {
	case string(head[:4]) == sparseMagic:
		e.sparse, _, err = openSparse(ctx, f, head, mem)
	case string(head[:4]) == cowdMagic:
		e.sparse, err = openCOWD(f, head, mem)
	case le.Uint64(head) == seSparseMagic:
		e.sparse, err = openSESparse(f, head, mem)
	default:
		err = corrupt("the file is not a sparse extent")
	}
	if err == nil && e.sparse.capacity < e.length {
		err = corrupt("the extent has %d bytes, and the descriptor says %d", e.sparse.capacity, e.length)
	}
	return e, err
}

// openParent finds the disk that this one is a delta of, and sees that it is
// the one it was made from. A parent that the package gives is used even where
// the image itself names none; only one that is no VMDK has no content ID to
// compare.
func (m *Image) openParent(ctx context.Context, opt disk.OpenOptions) error {
	want := m.desc.parentCID
	if want == "" {
		want = noParent
	}
	if opt.Parent == nil && want == noParent {
		return nil
	}
	var err error
	if m.parent, err = opt.Below(ctx, "vmdk", besides(m.desc.parentHint), "vmdk"); err != nil {
		return fmt.Errorf("a delta of content ID %s: %w", want, err)
	}
	if have, ok := contentID(m.parent); ok && want != noParent && have != want {
		return errors.Join(
			corrupt("the disk is a delta of content ID %s, and its parent has %q: the parent was changed, or is another disk", want, have),
			m.parent.Close())
	}
	return nil
}

// besides gives the name under which a parent would be beside its delta: the
// last part of a path that only makes sense on the machine where the disk was
// made. Whether it is the right one its content ID tells.
func besides(hint string) string {
	if strings.HasPrefix(hint, "/") || strings.HasPrefix(hint, `\\`) || len(hint) > 2 && hint[1] == ':' && strings.ContainsAny(hint[2:3], `\/`) {
		return hint[strings.LastIndexAny(hint, `\/`)+1:]
	}
	return hint
}

// contentID gives a VMDK's.
func contentID(m disk.Image) (string, bool) {
	i, ok := disk.Unwrap(m).(disk.Informer)
	if !ok {
		return "", false
	}
	info := i.Info()
	return info.Details["cid"], info.Format == "vmdk"
}

// Size is the capacity.
func (m *Image) Size() int64 { return m.size }

// Close closes the parent that the image opened.
func (m *Image) Close() error {
	if m.parent != nil {
		return m.parent.Close()
	}
	return nil
}

// Info describes the image.
func (m *Image) Info() disk.Info {
	i := m.info
	i.Details = maps.Clone(i.Details)
	return i
}

// find gives the extent that holds off.
func (m *Image) find(off int64) extent {
	i := sort.Search(len(m.extents), func(i int) bool { return m.extents[i].end() > off })
	return m.extents[i]
}

// ReadAt reads what the guest would.
func (m *Image) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("vmdk: negative offset")
	}
	done := 0
	for done < len(b) {
		at := off + int64(done)
		if at >= m.size {
			return done, io.EOF
		}
		e := m.find(at)
		part := b[done:min(int64(len(b)), int64(done)+e.end()-at)]
		if err := m.readExtent(e, part, at); err != nil {
			return done, err
		}
		done += len(part)
	}
	return done, nil
}

func (m *Image) readExtent(e extent, b []byte, at int64) error {
	switch {
	case e.sparse != nil:
		return e.sparse.readAt(b, at-e.start, func(b []byte, off int64) error { return disk.ReadBelow(m.parent, b, e.start+off) })
	case e.flat != nil:
		if n, err := e.flat.ReadAt(b, e.offset+at-e.start); n < len(b) {
			return fmt.Errorf("vmdk: read at %d: %w", e.offset+at-e.start+int64(n), err)
		}
	default:
		clear(b)
	}
	return nil
}

// Extent gives the run that holds off.
func (m *Image) Extent(ctx context.Context, off int64) (disk.Extent, error) {
	return m.run(ctx, off, (*sparse).extent, m.below)
}

// Map gives the run from off on without looking at the compressed grains, each of
// which has its size beside it.
func (m *Image) Map(ctx context.Context, off int64) (disk.Extent, error) {
	return m.run(ctx, off, (*sparse).sketch, m.mapBelow)
}

func (m *Image) below(ctx context.Context, off int64) (disk.Extent, error) {
	return m.parent.Extent(ctx, off)
}

func (m *Image) mapBelow(ctx context.Context, off int64) (disk.Extent, error) {
	return disk.Map(ctx, m.parent, off)
}

// run gives the run that holds off, as of and below give it of a sparse extent and
// of the parent.
func (m *Image) run(ctx context.Context, off int64, of func(s *sparse, off int64) (disk.Extent, error), below func(ctx context.Context, off int64) (disk.Extent, error)) (disk.Extent, error) {
	if off < 0 || off >= m.size {
		return disk.Extent{}, io.EOF
	}
	e := m.find(off)
	if e.sparse == nil {
		run := disk.Extent{Offset: off, Length: e.end() - off, Kind: disk.Zero}
		if e.flat == nil {
			return run, nil
		}
		at, hole := e.offset+off-e.start, false
		if run.Length, hole = holes.Run(e.flat, at, run.Length); !hole {
			run.Kind, run.File, run.FileOffset, run.FileLength = disk.Data, e.flat, at, run.Length
		}
		return run, nil
	}
	run, err := of(e.sparse, off-e.start)
	if err != nil {
		return run, err
	}
	run.Offset += e.start
	if run.End() > e.end() { // the descriptor cuts the extent short
		run.Length = e.end() - run.Offset
		if run.Kind == disk.Data {
			run.FileLength = run.Length
		}
	}
	if run.Kind == disk.Hole && m.parent != nil && off < m.parent.Size() {
		shows, err := below(ctx, off)
		if err != nil {
			return shows, err
		}
		return disk.Within(shows, run), nil
	}
	return run, nil
}

// base gives a file's name without its ending.
func base(name string) string { return strings.TrimSuffix(name, path.Ext(name)) }
