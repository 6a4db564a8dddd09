package vmdk

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/ovation-project/ovation/disk"
)

// findFooter looks for the footer of a streamOptimized file: the sector before
// the end-of-stream marker. Padding behind it, as tools that write to tapes
// and object stores leave it, is passed over.
func findFooter(f disk.File) (*header, error) {
	// Most have it in the last few sectors, and reading may cost.
	for _, reach := range []int64{64 << 10, 1 << 20} {
		if h, err := findFooterIn(f, reach); h != nil || err != nil {
			return h, err
		}
	}
	return nil, nil
}

func findFooterIn(f disk.File, reach int64) (*header, error) {
	size := f.Size()
	from := max(0, size-reach) &^ (sector - 1)
	b := make([]byte, size-from)
	if _, err := f.ReadAt(b, from); err != nil && err != io.EOF {
		return nil, fmt.Errorf("vmdk: read the footer: %w", err)
	}
	for at := (len(b) - 1) &^ (sector - 1); at > 0; at -= sector {
		if !bytes.HasPrefix(b[at:], []byte(sparseMagic)) || len(b)-at < sector {
			continue
		}
		if at < sector || le.Uint32(b[at-sector+12:]) != markerFooter || le.Uint32(b[at-sector+8:]) != 0 {
			continue
		}
		h, err := parseHeader(b[at:])
		if err != nil {
			return nil, err
		}
		if h.gdOffset < 0 {
			return nil, corrupt("the footer gives no grain directory")
		}
		return h, nil
	}
	return nil, nil
}

// scanned is what is found by walking over the markers of a streamOptimized
// file whose tables are missing.
type scanned struct {
	at map[int64]int64 // offsets of grains' markers
}

func (s scanned) perTable() int64 { return defaultGTEs }

func (s scanned) empty(int64) bool { return false }

func (s scanned) metadata(func(int64, int64) bool) {}

func (s scanned) lookup(n int64) (disk.Kind, int64, error) {
	if at, ok := s.at[n]; ok {
		return disk.Data, at, nil
	}
	return disk.Hole, 0, nil
}

// scannedGrain is about what a grain takes in the map of scanned.
const scannedGrain = 48

// scanMarkers finds the grains of a file without a directory, or without the
// footer that says where it is. It reads a sector a grain.
func scanMarkers(ctx context.Context, f disk.File, h *header, mem *memory) (grainMap, error) {
	s := scanned{map[int64]int64{}}
	whole := wholeness{h: h}
	b := make([]byte, sector)
	for at := h.grains; ; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if n, err := f.ReadAt(b, at); n < sector {
			if err != nil && err != io.EOF {
				return nil, err
			}
			if n == 0 && whole.atEOF() {
				return s, nil
			}
			return nil, brokenOff(at + int64(n))
		}
		m := parseMarker(b)
		if m.size == 0 {
			if whole.marker(m, at) {
				return s, nil
			}
			if m.value > uint64(f.Size())/sector {
				return nil, corrupt("a marker at %d, of type %d, of %d sectors", at, m.kind, m.value)
			}
			at += sector + int64(m.value)*sector
			continue
		}
		whole.grain()
		n, err := m.grain(at, h)
		if err != nil {
			return nil, err
		}
		if _, twice := s.at[n]; twice {
			return nil, corrupt("the grain at sector %d comes twice, at %d again", m.value, at)
		}
		if err := mem.take(scannedGrain, "the map of a grain more in a file without a grain directory, another entry"); err != nil {
			return nil, err
		}
		s.at[n] = at
		at += padded(m.size)
	}
}

// brokenOff says that a streamOptimized file is not whole.
func brokenOff(at int64) error {
	return fmt.Errorf("vmdk: the file breaks off at byte %d, before its end-of-stream marker: %w: %w", at, io.ErrUnexpectedEOF, disk.ErrCorrupt)
}

// wholeness tells from the markers of a streamOptimized file, as they pass,
// whether all of it has. The end-of-stream marker alone, which is a sector of
// zeroes, does not say so: a file that was allocated before it was filled has
// these as well. What the header promises must have passed before it: the
// directory, and the footer where that has the directory's place.
type wholeness struct {
	h                       *header
	directory, footer, ends bool
}

// marker takes a marker that is not a grain's, and says whether it ends the
// file.
func (w *wholeness) marker(m marker, at int64) bool {
	w.ends = m.value == 0 && m.kind == markerEOS
	switch {
	case m.kind == markerGD:
		w.directory = true
	case m.kind == markerFooter:
		w.footer = true
	case !w.ends:
	case w.h.gdOffset < 0:
		return w.footer
	default:
		return w.h.gdOffset == 0 || at >= w.h.gdOffset+w.h.tables()*4
	}
	return false
}

func (w *wholeness) grain() { w.ends = false }

// atEOF says whether the file may end: after zeroes that follow the directory.
// There are writers that leave the footer out.
func (w *wholeness) atEOF() bool { return w.ends && w.directory }

// marker is a grain marker (size > 0; value is the grain's first sector) or
// one of another kind (value is the number of sectors that follow).
type marker struct {
	value uint64
	size  uint32
	kind  uint32
}

// markerHead is how many bytes a grain's marker has before its data.
const markerHead = 12

func parseMarker(b []byte) marker {
	return marker{le.Uint64(b), le.Uint32(b[8:]), le.Uint32(b[12:])}
}

// padded is how many bytes a grain of this compressed size takes with its
// marker.
func padded(size uint32) int64 {
	return (markerHead + int64(size) + sector - 1) &^ (sector - 1)
}

// grain checks a grain's marker and gives its number.
func (m marker) grain(at int64, h *header) (int64, error) {
	if m.value >= uint64(h.capacity)/sector {
		return 0, corrupt("the grain marker at %d is for sector %d, past the end of the disk", at, m.value)
	}
	if int64(m.value)*sector%h.grain != 0 {
		return 0, corrupt("the grain marker at %d is for sector %d, within a grain", at, m.value)
	}
	if int64(m.size) > maxStored(h.grain) {
		return 0, corrupt("the grain marker at %d is for %d compressed bytes, more than a grain of %d can take", at, m.size, h.grain)
	}
	return int64(m.value) * sector / h.grain, nil
}
