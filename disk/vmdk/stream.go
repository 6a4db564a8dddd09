package vmdk

import (
	"bufio"
	"context"
	"fmt"
	"io"

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
		return nil, unsupported("a disk of %d bytes in grains of %d is too large to be read as a stream", h.capacity, h.grain)
	}
	s := &stream{r: bufio.NewReaderSize(r, 256<<10), h: h}
	s.seen = make([]uint64, (h.capacity/h.grain+64)/64)
	if h.grains > disk.DefaultMaxTableBytes {
		return nil, unsupported("%d bytes before the first grain", h.grains)
	}
	front := make([]byte, h.grains)
	if err := s.read(front); err != nil {
		return nil, err
	}
	if end := h.descriptorOffset + h.descriptorSize; h.descriptorOffset > 0 && end <= h.grains {
		d, err := parseDescriptor(string(front[h.descriptorOffset:end]))
		if err != nil {
			return nil, err
		}
		if d.parentCID != noParent && d.parentCID != "" {
			return nil, fmt.Errorf("vmdk: a delta of another disk (content ID %s): %w", d.parentCID, disk.ErrNeedsSeek)
		}
	}
	s.expected = h.countGrains(front)
	return s, nil
}

// countGrains counts the grains that the tables name, where these stand before
// the grains, as QEMU writes them; -1 where they do not.
func (h *header) countGrains(front []byte) int64 {
	n := h.tables()
	if h.gdOffset <= 0 || h.gdOffset > h.grains-n*4 {
		return -1
	}
	count := int64(0)
	for i := range n {
		at := int64(le.Uint32(front[h.gdOffset+i*4:])) * sector
		if at == 0 {
			continue
		}
		if at > h.grains-h.gtes*4 {
			return -1
		}
		for j := range h.gtes {
			if e := le.Uint32(front[at+j*4:]); e > 1 || e == 1 && h.flags&flagZeroGrain == 0 {
				count++
			}
		}
	}
	return count
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
	// footer is set once it has passed: the end comes after it.
	footer, done bool
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

func (s *stream) broken(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("vmdk: the file breaks off at byte %d, before its end-of-stream marker: %w", s.at, io.ErrUnexpectedEOF)
	}
	return err
}

// Next gives the next grain.
func (s *stream) Next(ctx context.Context) (disk.Run, error) {
	if s.done {
		return disk.Run{}, io.EOF
	}
	for {
		if err := ctx.Err(); err != nil {
			return disk.Run{}, err
		}
		head, err := s.r.Peek(sector)
		if err == io.EOF && s.came == s.expected {
			return s.end() // QEMU writes no end-of-stream marker
		}
		if err != nil {
			if err == io.EOF {
				s.at += int64(len(head))
			}
			return disk.Run{}, s.broken(err)
		}
		m, at := parseMarker(head), s.at
		if m.size > 0 {
			return s.grain(m, at)
		}
		if err := s.skip(sector); err != nil {
			return disk.Run{}, err
		}
		if m.kind == markerEOS && m.value == 0 {
			if s.h.gdOffset < 0 && !s.footer {
				continue // zeroes between the grains and the footer
			}
			return s.end()
		}
		s.footer = s.footer || m.kind == markerFooter
		if m.kind == markerEOS || m.kind > markerFooter || m.value > uint64(s.h.tables()*s.h.gtes*4/sector+64) {
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
		return disk.Run{}, corrupt("the file ends at byte %d after %d grains, and its tables name %d", s.at, s.came, s.expected)
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
	total := int(padded(m.size))
	if cap(s.buf) < total {
		s.buf = make([]byte, total, total+total/2)
	}
	s.buf = s.buf[:total]
	if err := s.read(s.buf); err != nil {
		return disk.Run{}, err
	}
	start := n * s.h.grain
	return disk.Run{
		Extent: disk.Extent{
			Offset: start, Length: min(s.h.grain, s.h.capacity-start), Kind: disk.Compressed, Codec: disk.Zlib,
			FileOffset: at + markerHead, FileLength: int64(m.size),
		},
		Stored: s.buf[markerHead : markerHead+int(m.size)],
	}, nil
}
