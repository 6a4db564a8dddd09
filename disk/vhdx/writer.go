package vhdx

import (
	"context"
	"math/bits"
	"unicode/utf16"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/blockimage"
)

// Where an image that is made here has its parts.
const (
	logAt      = 1 * mib
	logLength  = 1 * mib
	metadataAt = 2 * mib
	batAt      = 3 * mib
	// manyBlocks is how many blocks a disk has at most before they are made
	// larger: 8 MiB of table.
	manyBlocks = 1 << 20
)

// defaultBlock is 1 MiB as long as that makes no large table: the smaller a
// block, the less is stored around what is in use.
func defaultBlock(capacity int64) int64 {
	block := int64(mib)
	for block < 256*mib && capacity/block > manyBlocks {
		block *= 2
	}
	return block
}

// Create begins an image. In a fixed one every block is there.
func (Format) Create(_ context.Context, out disk.Output, opt disk.CreateOptions) (disk.Writer, error) {
	l := layout{capacity: opt.Size, block: opt.Unit, sector: disk.SectorSize}
	if l.block == 0 {
		l.block = defaultBlock(opt.Size)
	}
	switch {
	case opt.Subformat != "" && opt.Subformat != "dynamic" && opt.Subformat != "fixed":
		return nil, unsupported("subformat %q", opt.Subformat)
	case opt.Compress || opt.Codec != disk.NoCodec:
		return nil, unsupported("blocks are not compressed")
	case l.block < mib || l.block > 256*mib || bits.OnesCount64(uint64(l.block)) != 1:
		return nil, unsupported("blocks of %d bytes; they are of 1 to 256 MiB, by powers of two", l.block)
	case opt.Size < 0 || opt.Size%disk.SectorSize != 0 || opt.Size > maxCapacity:
		return nil, unsupported("a disk of %d bytes", opt.Size)
	}
	f, err := out.Create(opt.Name)
	if err != nil {
		return nil, err
	}
	data := batAt + max(mib, (l.entries(false)*8+mib-1)/mib*mib)
	w := &writer{Writer: blockimage.NewWriter("vhdx", f, opt.Size, l.block, data, 0), layout: l, opt: opt, batLength: data - batAt}
	if opt.Subformat == "fixed" {
		for i := range w.At {
			w.At[i] = data + int64(i)*l.block
		}
		w.End = data + int64(len(w.At))*l.block
	}
	return w, nil
}

type writer struct {
	*blockimage.Writer
	layout    layout
	opt       disk.CreateOptions
	batLength int64
}

// guid makes one of the file's identifiers from its identity.
func (w *writer) guid(which byte) guid {
	g := guid(w.opt.Identity)
	g[0] ^= which
	g[7] = g[7]&0x0f | 0x40 // as a random one is marked
	g[8] = g[8]&0x3f | 0x80
	return g
}

// Finish writes the tables and, last, what the file is told by.
func (w *writer) Finish(ctx context.Context) error {
	bat := make([]byte, w.layout.entries(false)*8)
	for i, at := range w.At {
		if at >= 0 {
			le.PutUint64(bat[w.layout.entry(int64(i))*8:], uint64(at)|fullyPresent)
		}
	}
	if err := w.File.Truncate(w.End); err != nil {
		return err
	}
	regions := w.regions()
	for _, part := range []struct {
		at int64
		b  []byte
	}{{batAt, bat}, {metadataAt, w.metadata()}, {region1At, regions}, {region2At, regions}, {header1At, w.header(1)}, {header2At, w.header(2)}} {
		if _, err := w.File.WriteAt(part.b, part.at); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	id := []byte(magic)
	for _, u := range utf16.Encode([]rune("ovation")) {
		id = le.AppendUint16(id, u)
	}
	_, err := w.File.WriteAt(id, 0)
	return err
}

func (w *writer) header(sequence uint64) []byte {
	b := make([]byte, headerSize)
	copy(b, "head")
	le.PutUint64(b[8:], sequence)
	file, content := w.guid(1), w.guid(2)
	copy(b[16:], file[:])
	copy(b[32:], content[:])
	le.PutUint16(b[66:], 1)
	le.PutUint32(b[68:], logLength)
	le.PutUint64(b[72:], logAt)
	sign(b)
	return b
}

func (w *writer) regions() []byte {
	b := make([]byte, regionSize)
	copy(b, "regi")
	le.PutUint32(b[8:], 2)
	for i, r := range []struct {
		id         guid
		at, length int64
	}{{batRegion, batAt, w.batLength}, {metadataRegion, metadataAt, mib}} {
		e := b[16+i*entrySize:]
		copy(e, r.id[:])
		le.PutUint64(e[16:], uint64(r.at))
		le.PutUint32(e[24:], uint32(r.length)) // at most 512 MiB for 64 TiB
		le.PutUint32(e[28:], 1)
	}
	sign(b)
	return b
}

func (w *writer) metadata() []byte {
	parameters := le.AppendUint32(nil, uint32(w.layout.block))
	if w.opt.Subformat == "fixed" {
		parameters = le.AppendUint32(parameters, leaveAllocated)
	} else {
		parameters = le.AppendUint32(parameters, 0)
	}
	id := w.guid(3)
	items := []struct {
		id    guid
		flags uint32
		b     []byte
	}{
		{fileParameters, isRequired, parameters},
		{diskSize, isRequired | isVirtualDisk, le.AppendUint64(nil, uint64(w.opt.Size))},
		{diskID, isRequired | isVirtualDisk, id[:]},
		{logicalSector, isRequired | isVirtualDisk, le.AppendUint32(nil, uint32(w.layout.sector))},
		{physicalSector, isRequired | isVirtualDisk, le.AppendUint32(nil, 4096)},
	}
	b := make([]byte, regionSize)
	copy(b, "metadata")
	le.PutUint16(b[10:], uint16(len(items)))
	for i, item := range items {
		e := b[32+i*entrySize:]
		copy(e, item.id[:])
		le.PutUint32(e[16:], uint32(len(b)))
		le.PutUint32(e[20:], uint32(len(item.b)))
		le.PutUint32(e[24:], item.flags)
		b = append(b, item.b...)
	}
	return b
}
