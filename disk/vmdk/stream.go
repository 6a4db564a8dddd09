package vmdk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/ovation-project/ovation/disk"
)

// OpenStream reads a streamOptimized disk as it arrives: grains in whatever
// order, tables passed over, up to the end-of-stream marker. The other
// subformats answer disk.ErrNeedsSeek.
func (Format) OpenStream(_ context.Context, head []byte, r io.Reader, _ int64) (disk.Stream, error) {
	if isDescriptor(head) {
		return nil, fmt.Errorf("vmdk: a descriptor with extents: %w", disk.ErrNeedsSeek)
	}
	if len(head) < sector || string(head[:4]) != sparseMagic {
		return nil, disk.ErrFormat
	}
	h, err := parseHeader(head)
	if err != nil {
		return nil, err
	}
	if !h.compressed || h.flags&flagMarkers == 0 || h.capacity == 0 {
		return nil, fmt.Errorf("vmdk: a sparse file that is not streamOptimized: %w", disk.ErrNeedsSeek)
	}
	if h.capacity/h.grain/8 > disk.DefaultMaxTableBytes {
		return nil, fmt.Errorf("vmdk: a disk of %d bytes in grains of %d is too large to be read as a stream: %w", h.capacity, h.grain, disk.ErrNeedsSeek)
	}
	s := &stream{r: bufio.NewReaderSize(r, 256<<10), h: h, whole: wholeness{h: h}, expected: -1}
	s.seen = make([]uint64, (h.capacity/h.grain+64)/64)
	return s, s.front()
}

// front reads what lies before the grains.
func (s *stream) front() error {
	if s.h.descriptorOffset > 0 && s.h.descriptorSize > 0 {
		text := make([]byte, s.h.descriptorSize)
		if err := s.readFrom(s.h.descriptorOffset, text); err != nil {
			return err
		}
		d, err := parseDescriptor(string(text))
		if err != nil {
			return err
		}
		if d.parentCID != noParent && d.parentCID != "" {
			return fmt.Errorf("vmdk: a delta of another disk (content ID %s): %w", d.parentCID, disk.ErrNeedsSeek)
		}
	}
	if err := s.countGrains(); err != nil {
		return err
	}
	return s.skip(s.h.grains - s.at)
}

// countGrains counts the grains that the tables name, where these stand before
// the grains, as QEMU writes them.
func (s *stream) countGrains() error {
	h := s.h
	n := h.tables()
	if h.gdOffset < s.at || h.gdOffset > h.grains-n*4 || n*4 > cacheBytes {
		return nil
	}
	directory := make([]byte, n*4)
	if err := s.readFrom(h.gdOffset, directory); err != nil {
		return err
	}
	var tables []uint32
	for ; len(directory) > 0; directory = directory[4:] {
		if at := le.Uint32(directory); at != 0 {
			tables = append(tables, at)
		}
	}
	slices.Sort(tables)
	var count int64
	table := make([]byte, h.gtes*4)
	for _, at := range tables {
		at := int64(at) * sector
		if at < s.at || at > h.grains-h.gtes*4 {
			return nil
		}
		if err := s.readFrom(at, table); err != nil {
			return err
		}
		for i := range h.gtes {
			if e := le.Uint32(table[i*4:]); e > 1 || e == 1 && h.flags&flagZeroGrain == 0 {
				count++
			}
		}
	}
	s.expected = count
	return nil
}

// stream walks over the markers.
type stream struct {
	r    *bufio.Reader
	h    *header
	at   int64    // in the file
	seen []uint64 // a bit a grain: none comes twice
	buf  []byte
	// came counts the grains; expected is how many there are, -1 where the
	// front of the file does not tell.
	came, expected int64
	whole          wholeness
	done           bool
}

// Size is the capacity.
func (s *stream) Size() int64 { return s.h.capacity }

// Info tells the grains: whoever converts them wants to make units of the same
// size.
func (s *stream) Info() disk.Info {
	return disk.Info{Format: "vmdk", Subformat: streamOptimized, Unit: s.h.grain, Codec: disk.Zlib}
}

func (s *stream) read(b []byte) error {
	n, err := io.ReadFull(s.r, b)
	s.at += int64(n)
	return s.broken(err)
}

func (s *stream) skip(n int64) error {
	got, err := io.CopyN(io.Discard, s.r, n)
	s.at += got
	return s.broken(err)
}

// readFrom reads from a place in the file that is still to come.
func (s *stream) readFrom(at int64, b []byte) error {
	if err := s.skip(at - s.at); err != nil {
		return err
	}
	return s.read(b)
}

func (s *stream) broken(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return brokenOff(s.at)
	}
	return err
}

// maxZeroes bounds the padding that is passed over: there are readers of
// zeroes that never end.
const maxZeroes = 64 << 20

// Next gives the next grain.
func (s *stream) Next(ctx context.Context) (disk.Run, error) {
	if s.done {
		return disk.Run{}, io.EOF
	}
	for padding := 0; ; padding += sector {
		if err := ctx.Err(); err != nil {
			return disk.Run{}, err
		}
		head, err := s.r.Peek(sector)
		switch {
		case err == io.EOF && len(head) == 0 && (s.came == s.expected || s.whole.atEOF()):
			return s.end() // QEMU writes no end-of-stream marker
		case err == io.EOF && len(head) > markerHead:
			// The last grain of old versions of QEMU is not padded.
			head = append(make([]byte, 0, sector), head...)[:sector]
		case err != nil:
			s.at += int64(len(head))
			return disk.Run{}, s.broken(err)
		}
		m, at := parseMarker(head), s.at
		if m.size > 0 {
			s.whole.grain()
			return s.grain(m, at)
		}
		if err := s.skip(sector); err != nil {
			return disk.Run{}, err
		}
		switch {
		case s.whole.marker(m, at):
			return s.end()
		case s.whole.ends: // padding
			if padding > maxZeroes {
				return disk.Run{}, corrupt("more than %d bytes of zeroes up to byte %d", maxZeroes, at)
			}
			continue
		case m.kind == markerEOS || m.kind > markerFooter || m.value > uint64(s.h.tables()*s.h.gtes*4/sector+64):
			return disk.Run{}, corrupt("a marker at %d, of type %d, of %d sectors", at, m.kind, m.value)
		}
		if err := s.skip(int64(m.value) * sector); err != nil {
			return disk.Run{}, err
		}
	}
}

// end is reached where nothing more is to come, and wants to have seen all.
func (s *stream) end() (disk.Run, error) {
	if s.expected >= 0 && s.came != s.expected {
		return disk.Run{}, fmt.Errorf("vmdk: the grains end at byte %d after %d of them, and the tables name %d: %w: %w", s.at, s.came, s.expected, io.ErrUnexpectedEOF, disk.ErrCorrupt)
	}
	s.done = true
	return disk.Run{}, io.EOF
}

func (s *stream) grain(m marker, at int64) (disk.Run, error) {
	n, err := m.grain(at, s.h)
	if err != nil {
		return disk.Run{}, err
	}
	if s.seen[n/64]>>(n%64)&1 != 0 {
		return disk.Run{}, corrupt("the grain at sector %d comes twice, at %d again", m.value, at)
	}
	s.seen[n/64] |= 1 << (n % 64)
	s.came++
	used := markerHead + int(m.size)
	if cap(s.buf) < used {
		s.buf = make([]byte, used, used+used/2)
	}
	s.buf = s.buf[:used]
	if err := s.read(s.buf); err != nil {
		return disk.Run{}, err
	}
	if err := s.skip(padded(m.size) - int64(used)); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return disk.Run{}, err
	} // that the file ends here is found again by the next call
	start := n * s.h.grain
	return disk.Run{
		Extent: disk.Extent{
			Offset: start, Length: min(s.h.grain, s.h.capacity-start), Kind: disk.Compressed, Codec: disk.Zlib,
			FileOffset: at + markerHead, FileLength: int64(m.size),
		},
		Stored: s.buf[markerHead:],
	}, nil
}
