// Package diskmodel makes disks in memory for tests: images and streams whose
// extents are chosen by hand or drawn at random.
package diskmodel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/codec"
)

// file is a model's bytes as a disk.File.
type file struct{ m *Model }

func (f file) ReadAt(b []byte, off int64) (int, error) {
	return bytes.NewReader(f.m.File).ReadAt(b, off)
}
func (f file) Size() int64 { return int64(len(f.m.File)) }

// Model is a disk.Image in memory.
type Model struct {
	// Content is what a guest sees.
	Content []byte
	// Extents are in order and cover Content.
	Extents []disk.Extent
	// File is where the extents' bytes lie.
	File []byte
	// Unit and Codec are what Info says of the compressed extents, unless
	// Silent is set.
	Unit   int64
	Codec  disk.Codec
	Silent bool
}

// Size is the capacity.
func (m *Model) Size() int64 { return int64(len(m.Content)) }

// Close does nothing.
func (m *Model) Close() error { return nil }

// Info tells the units.
func (m *Model) Info() disk.Info {
	if m.Silent {
		return disk.Info{}
	}
	return disk.Info{Unit: m.Unit, Codec: m.Codec}
}

// ReadAt reads Content.
func (m *Model) ReadAt(b []byte, off int64) (int, error) {
	return bytes.NewReader(m.Content).ReadAt(b, off)
}

// Extent looks up Extents.
func (m *Model) Extent(_ context.Context, off int64) (disk.Extent, error) {
	if off >= m.Size() {
		return disk.Extent{}, io.EOF
	}
	i, ok := slices.BinarySearchFunc(m.Extents, off, func(e disk.Extent, off int64) int {
		switch {
		case e.End() <= off:
			return -1
		case e.Offset > off:
			return 1
		}
		return 0
	})
	if !ok {
		return disk.Extent{}, errors.New("model has a gap")
	}
	e := m.Extents[i]
	if e.Kind != disk.Compressed {
		cut := off - e.Offset
		e.Offset, e.Length = off, e.Length-cut
		if e.Kind == disk.Data {
			e.FileOffset, e.FileLength = e.FileOffset+cut, e.FileLength-cut
		}
	}
	if e.File != nil {
		e.File = file{m}
	}
	return e, nil
}

// Stream gives a model's extents one by one. Tests may change their order.
type Stream struct {
	m    *Model
	Runs []disk.Extent
}

// Stream gives the model as a disk.Stream.
func (m *Model) Stream() *Stream { return &Stream{m, slices.Clone(m.Extents)} }

// Size is the model's.
func (s *Stream) Size() int64 { return s.m.Size() }

// Info is the model's.
func (s *Stream) Info() disk.Info { return s.m.Info() }

// Next gives the first of Runs.
func (s *Stream) Next(context.Context) (disk.Run, error) {
	if len(s.Runs) == 0 {
		return disk.Run{}, io.EOF
	}
	e := s.Runs[0]
	s.Runs = s.Runs[1:]
	r := disk.Run{Extent: e}
	if e.File != nil {
		// Good until the next call only.
		r.Stored = bytes.Clone(s.m.File[e.FileOffset:][:e.FileLength])
	}
	r.File = nil
	return r, nil
}

// Draw draws a disk. Compressed units are of one size, everything else
// lies on sectors, as in real images.
func Draw(t *rapid.T) *Model {
	m := &Model{
		Unit:   rapid.SampledFrom([]int64{4 << 10, 64 << 10, 128 << 10, 2 << 20}).Draw(t, "source unit"),
		Codec:  rapid.SampledFrom([]disk.Codec{disk.Zlib, disk.Deflate, disk.Zstd}).Draw(t, "source codec"),
		Silent: rapid.Bool().Draw(t, "silent"),
	}
	m.Silent = m.Silent && m.Unit < 1<<20
	size := rapid.Int64Range(0, 3<<20/disk.SectorSize).Draw(t, "sectors") * disk.SectorSize
	rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	m.Content = make([]byte, size)
	zeroish := rnd.IntN(3)
	for pos := int64(0); pos < size; {
		e := disk.Extent{Offset: pos, Kind: disk.Kind(rnd.IntN(4))}
		e.Length = min(m.Unit, size-pos)
		if pos%m.Unit != 0 {
			e.Length = min(m.Unit-pos%m.Unit, size-pos)
			if e.Kind == disk.Compressed {
				e.Kind = disk.Data
			}
		}
		if e.Kind != disk.Compressed && rnd.IntN(2) == 0 {
			if n := e.Length / disk.SectorSize; n > 1 {
				e.Length = (1 + rnd.Int64N(n)) * disk.SectorSize
			}
		} else if e.Kind != disk.Compressed && rnd.IntN(3) == 0 {
			e.Length = min(e.Length+rnd.Int64N(4)*m.Unit, size-pos)
		}
		part := m.Content[pos:][:e.Length]
		if e.Kind == disk.Data || e.Kind == disk.Compressed {
			for at := 0; at < len(part); at += 4096 {
				if rnd.IntN(3) < zeroish {
					continue
				}
				block := part[at:min(at+4096, len(part))]
				if Text(rnd, block); rnd.IntN(5) == 0 {
					for i := range block {
						block[i] = byte(rnd.Uint32())
					}
				}
			}
			e.File = file{m}
			e.FileOffset = int64(len(m.File))
			if e.Kind == disk.Data {
				m.File = append(m.File, part...)
			} else {
				e.Codec = m.Codec
				whole := part
				if int64(len(part)) < m.Unit && !m.Silent {
					whole = append(bytes.Clone(part), make([]byte, m.Unit-int64(len(part)))...)
				}
				var err error
				if m.File, err = codec.Compress(m.Codec, 1, m.File, whole); err != nil {
					t.Fatal(err)
				}
				if m.Codec != disk.Zlib {
					m.File = append(m.File, make([]byte, rnd.IntN(512))...)
				}
			}
			e.FileLength = int64(len(m.File)) - e.FileOffset
			m.File = append(m.File, make([]byte, rnd.IntN(2)*rnd.IntN(40000))...)
		}
		m.Extents = append(m.Extents, e)
		pos = e.End()
	}
	return m
}

// Text fills b with what compresses somewhat.
func Text(rnd *rand.Rand, b []byte) {
	word := fmt.Appendf(nil, "%x and %x, ", rnd.Uint64(), rnd.Uint64())
	for len(b) > 0 {
		n := copy(b, word[rnd.IntN(len(word)):])
		b = b[n:]
	}
}

// Units makes a disk of n whole compressed units.
func Units(t testing.TB, n int, c disk.Codec) *Model {
	t.Helper()
	const unit = 64 << 10
	m := &Model{Unit: unit, Codec: c, Content: make([]byte, n*unit)}
	rnd := rand.New(rand.NewPCG(1, 2))
	Text(rnd, m.Content)
	for i := range n {
		e := disk.Extent{Offset: int64(i) * unit, Length: unit, Kind: disk.Compressed, Codec: c, File: file{m}, FileOffset: int64(len(m.File))}
		var err error
		if m.File, err = codec.Compress(c, 6, m.File, m.Content[i*unit:][:unit]); err != nil {
			t.Fatal(err)
		}
		e.FileLength = int64(len(m.File)) - e.FileOffset
		m.Extents = append(m.Extents, e)
	}
	return m
}

// AsFile gives File as extents want it.
func (m *Model) AsFile() disk.File { return file{m} }
