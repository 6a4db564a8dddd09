package convert_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
)

// fake is an image of which each MiB is as a letter says: H, Z, D (data), d
// (data that is zeroes), C (compressed to 100 KiB).
type fake string

func (f fake) Size() int64  { return int64(len(f)) << 20 }
func (f fake) Close() error { return nil }

func (f fake) ReadAt(b []byte, off int64) (int, error) {
	for i := range b {
		b[i] = 0
		if f[(off+int64(i))>>20] == 'D' {
			b[i] = 1
		}
	}
	return len(b), nil
}

func (f fake) Extent(_ context.Context, off int64) (disk.Extent, error) {
	if off >= f.Size() {
		return disk.Extent{}, io.EOF
	}
	e := disk.Extent{Offset: off &^ (1<<20 - 1), Length: 1 << 20}
	switch f[off>>20] {
	case 'Z':
		e.Kind = disk.Zero
	case 'D', 'd':
		e.Kind = disk.Data
	case 'C':
		e.Kind, e.Codec, e.FileLength = disk.Compressed, disk.Zlib, 100<<10
	}
	return e, nil
}

func (f fake) Info() disk.Info { return disk.Info{Unit: 1 << 20, Codec: disk.Zlib} }

// sink is a writer of which only the layout is asked.
type sink struct {
	disk.Writer
	layout disk.Layout
}

func (s sink) Layout() disk.Layout { return s.layout }

func TestNeeds(t *testing.T) {
	plain := sink{layout: disk.Layout{Unit: 64 << 10}}
	packed := sink{layout: disk.Layout{Unit: 1 << 20, Codec: disk.Deflate}}
	other := sink{layout: disk.Layout{Unit: 64 << 10, Codec: disk.Deflate}}
	long := make([]byte, 1000)
	for i := range long {
		long[i] = "DdH"[i%3]
	}
	for _, c := range []struct {
		src      fake
		dst      sink
		from, to int64 // in KiB
	}{
		{"", plain, 0, 0},
		{"HHZZ", plain, 0, 0},
		{"DDDD", plain, 4 << 10, 4 << 10},
		{"DHDZD", plain, 3 << 10, 3 << 10},
		{"dddd", plain, 0, 0},
		{"CCHC", plain, 3 << 10, 3 << 10},
		{"CCHC", packed, 3*100 - 2, 300},
		{"CCHC", other, 0, 0},
		{"DDDD", packed, 0, 0},
		{"DCdH", plain, 1<<10 + 500, 2<<10 + 100},
		{fake(long), plain, 180 << 10, 334 << 10},
	} {
		s, err := convert.Needs(t.Context(), c.src, c.dst)
		if err != nil || s.Cloned != 0 || s.Stored>>10 < c.from || s.Stored > c.to<<10 {
			t.Errorf("%.20s to units of %d by %v: %+v, %v; want %d to %d KiB", c.src, c.dst.layout.Unit, c.dst.layout.Codec, s, err, c.from, c.to)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := convert.Needs(ctx, fake("D"), plain); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
