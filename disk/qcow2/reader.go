package qcow2

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/cache"
	"github.com/ovation-project/ovation/internal/codec"
)

// cacheBytes is the memory that cached tables and inflated clusters may take,
// each.
const cacheBytes = 8 << 20

// Image is an open qcow2 image.
type Image struct {
	f       disk.File
	data    disk.File // where plain clusters lie: f, or an external file
	h       header
	cluster int64
	perL2   int64 // entries of an L2 table
	entry   int64 // bytes of an L2 entry
	l1      []uint64
	backing disk.Image // nil where there is none

	tables   *cache.Cache[int64, []byte]
	inflated *cache.Cache[uint64, []byte] // by L2 entry
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("qcow2: %s: %w", fmt.Sprintf(format, args...), disk.ErrCorrupt)
}

func unsupported(format string, args ...any) error {
	return fmt.Errorf("qcow2: %s: %w", fmt.Sprintf(format, args...), disk.ErrUnsupported)
}

// Open opens an image, its external data file and its backing images.
func (Format) Open(ctx context.Context, f disk.File, opt disk.OpenOptions) (disk.Image, error) {
	h, err := readHeader(f)
	if err != nil {
		return nil, err
	}
	maxTables := opt.TableLimit()
	m := &Image{f: f, data: f, h: *h, cluster: 1 << h.clusterBits, entry: 8}
	if h.incompatible&featureExtendedL2 != 0 {
		m.entry = 16
	}
	m.perL2 = m.cluster / m.entry
	if err := m.readL1(maxTables); err != nil {
		return nil, err
	}
	m.tables = cache.New[int64, []byte](int(cacheBytes >> h.clusterBits))
	m.inflated = cache.New[uint64, []byte](int(cacheBytes >> h.clusterBits))
	if err := m.openOthers(ctx, opt); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *Image) readL1(maxTables int64) error {
	perTable := m.perL2 << m.h.clusterBits
	need := (m.h.size + perTable - 1) / perTable
	if m.h.l1Size < need {
		return corrupt("an L1 table of %d entries for a disk that needs %d", m.h.l1Size, need)
	}
	if need*8 > min(maxTables, maxL1Size) {
		return fmt.Errorf("qcow2: an L1 table of %d bytes is over the limit of %d: %w", need*8, min(maxTables, maxL1Size), disk.ErrUnsupported)
	}
	if m.h.l1Offset < 0 || m.h.l1Offset%m.cluster != 0 || m.h.l1Offset > m.f.Size()-need*8 {
		return corrupt("the L1 table at %d lies outside of the file", uint64(m.h.l1Offset))
	}
	b := make([]byte, need*8)
	if _, err := m.f.ReadAt(b, m.h.l1Offset); err != nil && (err != io.EOF || need > 0) {
		return fmt.Errorf("qcow2: read the L1 table: %w", err)
	}
	m.l1 = make([]uint64, need)
	for i := range m.l1 {
		m.l1[i] = be.Uint64(b[i*8:])
	}
	return nil
}

func (m *Image) openOthers(ctx context.Context, opt disk.OpenOptions) error {
	if m.h.incompatible&featureExternalData != 0 {
		files := opt.Files
		if files == nil {
			files = disk.NoFiles{}
		}
		data, err := files.OpenFile(ctx, m.h.dataFile)
		if err != nil {
			return fmt.Errorf("qcow2: external data file: %w", err)
		}
		m.data = data
	}
	if opt.Parent == nil && m.h.backingOffset == 0 {
		return nil
	}
	var err error
	m.backing, err = opt.Below(ctx, "qcow2", m.h.backingName, m.h.backingFormat)
	return err
}

// Size is the capacity.
func (m *Image) Size() int64 { return m.h.size }

// Close closes the backing image.
func (m *Image) Close() error {
	if m.backing != nil {
		return m.backing.Close()
	}
	return nil
}

// table gives the bytes of an L2 table, nil where there is none.
func (m *Image) table(l1 int64) ([]byte, error) {
	offset := int64(m.l1[l1] & offsetMask)
	if offset == 0 {
		return nil, nil
	}
	return m.tables.Get(l1, func() ([]byte, error) {
		if offset%m.cluster != 0 || offset > m.f.Size()-m.cluster {
			return nil, corrupt("the L2 table of entry %d, at %d, lies outside of the file", l1, offset)
		}
		b := make([]byte, m.cluster)
		if _, err := m.f.ReadAt(b, offset); err != nil && err != io.EOF {
			return nil, fmt.Errorf("qcow2: read an L2 table at %d: %w", offset, err)
		}
		return b, nil
	})
}

// piece is a part of the disk of one kind: a cluster, or one of its 32
// subclusters.
type piece struct {
	kind   disk.Kind // Hole means: as the backing image has it
	host   int64     // of Data: where it lies
	entry  uint64    // of Compressed
	offset int64     // on the disk
	length int64
}

func (p piece) end() int64 { return p.offset + p.length }

// at finds the piece that holds off. For an L2 table that is not there the
// piece is all that it would map.
func (m *Image) at(off int64) (piece, error) {
	cluster := off >> m.h.clusterBits
	l1 := cluster / m.perL2
	t, err := m.table(l1)
	if err != nil {
		return piece{}, err
	}
	if t == nil {
		span := m.perL2 << m.h.clusterBits
		return piece{kind: disk.Hole, offset: l1 * span, length: min(span, m.h.size-l1*span)}, nil
	}
	slot := cluster % m.perL2
	p, err := m.classify(t[slot*m.entry:], cluster<<m.h.clusterBits, off)
	if err != nil {
		return p, err
	}
	p.length = min(p.length, m.h.size-p.offset)
	return p, nil
}

func (m *Image) classify(raw []byte, clusterOffset, off int64) (piece, error) {
	e := be.Uint64(raw)
	p := piece{kind: disk.Data, offset: clusterOffset, length: m.cluster, entry: e}
	if e&flagCompressed != 0 {
		p.kind = disk.Compressed
		return p, nil
	}
	p.host = int64(e & offsetMask)
	if p.host%m.cluster != 0 {
		return p, corrupt("the cluster at %d of the disk is at %d of the file, within a cluster", clusterOffset, p.host)
	}
	if m.entry == 16 {
		bitmap := be.Uint64(raw[8:])
		sub := m.cluster / 32
		i := uint((off - clusterOffset) / sub)
		p.offset += int64(i) * sub
		p.length = sub
		alloc, zero := bitmap>>i&1 != 0, bitmap>>(32+i)&1 != 0
		switch {
		case alloc && zero:
			return p, corrupt("the subcluster at %d is both data and zero", p.offset)
		case zero:
			p.kind = disk.Zero
		case !alloc:
			p.kind = disk.Hole
		case p.host == 0 && m.data == m.f:
			return p, corrupt("the subcluster at %d is nowhere in the file", p.offset)
		}
		p.host += int64(i) * sub
		return p, nil
	}
	switch {
	case e&flagZero != 0 && m.h.version == 3:
		p.kind = disk.Zero
	case p.host == 0 && (m.data == m.f || e&flagCopied == 0):
		p.kind = disk.Hole
	}
	return p, nil
}

// ReadAt reads what the guest would.
func (m *Image) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("qcow2: negative offset")
	}
	done := 0
	for done < len(b) {
		at := off + int64(done)
		if at >= m.h.size {
			return done, io.EOF
		}
		p, err := m.at(at)
		if err != nil {
			return done, err
		}
		part := b[done:min(len(b), done+int(min(p.end()-at, int64(len(b)))))]
		if err := m.readPiece(part, p, at); err != nil {
			return done, err
		}
		done += len(part)
	}
	return done, nil
}

func (m *Image) readPiece(b []byte, p piece, at int64) error {
	switch p.kind {
	case disk.Zero:
		clear(b)
		return nil
	case disk.Hole:
		return disk.ReadBelow(m.backing, b, at)
	case disk.Compressed:
		c, err := m.inflate(p)
		if err != nil {
			return err
		}
		copy(b, c[at-p.offset:])
		return nil
	}
	from := p.host + at - p.offset
	if from > m.data.Size() {
		return corrupt("the cluster at %d of the disk lies at %d, past the end of the file", p.offset, p.host)
	}
	n, err := m.data.ReadAt(b, from)
	if n < len(b) {
		if err != io.EOF {
			return fmt.Errorf("qcow2: read at %d: %w", from, err)
		}
		clear(b[n:]) // QEMU does not always fill up the last cluster
	}
	return nil
}

func (m *Image) inflate(p piece) ([]byte, error) {
	return m.inflated.Get(p.entry, func() ([]byte, error) {
		at, n, err := m.stored(p)
		if err != nil {
			return nil, err
		}
		packed := make([]byte, n)
		if _, err := m.f.ReadAt(packed, at); err != nil && err != io.EOF {
			return nil, fmt.Errorf("qcow2: read at %d: %w", at, err)
		}
		c := make([]byte, m.cluster)
		got, _, err := codec.Decompress(m.h.codec, c, packed)
		if err == nil && int64(got) < min(m.cluster, m.h.size-p.offset) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && !errors.Is(err, codec.ErrTooLong) {
			return nil, corrupt("the compressed cluster at %d of the disk, at %d of the file: %v", p.offset, at, err)
		}
		return c, nil
	})
}

// stored gives where a compressed cluster's bytes lie, cut at the file's end.
func (m *Image) stored(p piece) (at, n int64, err error) {
	at, n = splitCompressed(m.h.clusterBits, p.entry)
	if at >= m.f.Size() {
		return 0, 0, corrupt("the compressed cluster at %d of the disk lies at %d, past the end of the file", p.offset, at)
	}
	return at, min(n, m.f.Size()-at), nil
}

// Extent gives the run that holds off.
func (m *Image) Extent(ctx context.Context, off int64) (disk.Extent, error) {
	if off < 0 || off >= m.h.size {
		return disk.Extent{}, io.EOF
	}
	p, err := m.at(off)
	if err != nil {
		return disk.Extent{}, err
	}
	if p.kind == disk.Compressed {
		at, n, err := m.stored(p)
		return disk.Extent{
			Offset: p.offset, Length: p.length, Kind: disk.Compressed, Codec: m.h.codec,
			File: m.f, FileOffset: at, FileLength: n,
		}, err
	}
	e := disk.Extent{Offset: off, Length: p.end() - off, Kind: p.kind}
	if p.kind == disk.Data {
		e.File, e.FileOffset = m.data, p.host+off-p.offset
	}
	// Go on as long as the same follows, within one table's reach.
	limit := off + m.perL2<<m.h.clusterBits
	for e.End() < m.h.size && e.End() < limit {
		next, err := m.at(e.End())
		if err != nil || next.kind != p.kind || p.kind == disk.Data && next.host != e.FileOffset+e.Length {
			break // the error is found again when the walk gets there
		}
		e.Length = next.end() - off
	}
	if p.kind == disk.Hole && m.backing != nil && off < m.backing.Size() {
		below, err := m.backing.Extent(ctx, off)
		if err != nil {
			return below, err
		}
		return disk.Within(below, e), nil
	}
	if p.kind == disk.Data {
		return m.dataExtent(e)
	}
	return e, nil
}

// dataExtent cuts a run of data where the file ends.
func (m *Image) dataExtent(e disk.Extent) (disk.Extent, error) {
	left := m.data.Size() - e.FileOffset
	switch {
	case left >= e.Length:
	case left <= 0 && e.FileOffset > m.data.Size():
		return e, corrupt("the cluster at %d of the disk lies at %d, past the end of the file", e.Offset, e.FileOffset)
	case left == 0:
		e.Kind, e.File, e.FileOffset = disk.Zero, nil, 0
	default:
		e.Length = left
	}
	if e.Kind == disk.Data {
		e.FileLength = e.Length
	}
	return e, nil
}

// Info describes the image.
func (m *Image) Info() disk.Info {
	i := disk.Info{
		Format: "qcow2", Unit: m.cluster, Codec: disk.NoCodec, Parent: m.h.backingName,
		Details: map[string]string{"version": fmt.Sprint(m.h.version), "refcount bits": fmt.Sprint(1 << m.h.refcountOrder)},
	}
	if m.hasCompressed() {
		i.Codec = m.h.codec
	}
	if m.h.dataFile != "" {
		i.Files = []string{m.h.dataFile}
	}
	if m.h.incompatible&featureExtendedL2 != 0 {
		i.Details["extended L2"] = "yes"
	}
	if n := m.h.snapshots; n > 0 {
		i.Details["snapshots"] = fmt.Sprint(n)
		i.Notes = append(i.Notes, fmt.Sprintf("%d internal snapshots are passed over: the disk is what it is now", n))
	}
	if m.h.autoclear&1 != 0 {
		i.Notes = append(i.Notes, "its bitmaps of what was written are passed over")
	}
	if m.h.incompatible&featureDirty != 0 {
		i.Notes = append(i.Notes, "the image was not closed: its reference counts may be out of date")
	}
	if m.h.incompatible&featureCorrupt != 0 {
		i.Notes = append(i.Notes, "QEMU has marked the image as damaged")
	}
	return i
}

// hasCompressed looks into the first table for a compressed cluster.
func (m *Image) hasCompressed() bool {
	for i := range m.l1 {
		if t, err := m.table(int64(i)); err == nil && t != nil {
			for j := int64(0); j < m.perL2; j++ {
				if be.Uint64(t[j*m.entry:])&flagCompressed != 0 {
					return true
				}
			}
			return false
		}
	}
	return false
}
