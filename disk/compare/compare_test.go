package compare

import (
	"context"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/diskmodel"
)

// plain is a disk that is stored as it is.
func plain(content []byte) *diskmodel.Model {
	m := &diskmodel.Model{Content: content, File: content}
	if len(content) > 0 {
		m.Extents = []disk.Extent{{Length: m.Size(), Kind: disk.Data, File: m.AsFile(), FileLength: m.Size()}}
	}
	return m
}

func TestRun(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := diskmodel.Draw(t)
		content := append([]byte(nil), m.Content...)
		extra := rapid.IntRange(0, 3000).Draw(t, "longer") * disk.SectorSize
		content = append(content, make([]byte, extra)...)
		want := Result{Equal: true}
		if len(content) > 0 && rapid.Bool().Draw(t, "change") {
			at := rapid.IntRange(0, len(content)-1).Draw(t, "at")
			content[at] ^= 1
			want = Result{Offset: int64(at)}
			if rapid.Bool().Draw(t, "change another") {
				content[rapid.IntRange(at, len(content)-1).Draw(t, "another")] ^= 2
			}
		}
		a, b := disk.Image(m), disk.Image(plain(content))
		if rapid.Bool().Draw(t, "swap") {
			a, b = b, a
		}
		got, err := Run(context.Background(), a, b, Options{Workers: rapid.IntRange(1, 3).Draw(t, "workers")})
		if err != nil || got != want {
			t.Fatalf("%+v, %v; want %+v", got, err, want)
		}
		got, err = Run(context.Background(), a, b, Options{Strict: true})
		if extra > 0 {
			want = Result{Offset: m.Size()}
		}
		if err != nil || got != want {
			t.Fatalf("strict: %+v, %v; want %+v", got, err, want)
		}
	})
}

func TestDamage(t *testing.T) {
	m := diskmodel.Units(t, 20, disk.Zlib)
	same := plain(m.Content)
	m.File[m.Extents[11].FileOffset+50] ^= 4
	if _, err := Run(t.Context(), m, same, Options{}); !errors.Is(err, disk.ErrCorrupt) {
		t.Error(err)
	}
}

// vast is a disk of nothing.
type vast int64

func (v vast) Size() int64                       { return int64(v) }
func (v vast) Close() error                      { return nil }
func (v vast) ReadAt([]byte, int64) (int, error) { return 0, errors.New("no reading") }
func (v vast) Extent(_ context.Context, off int64) (disk.Extent, error) {
	return disk.Extent{Offset: off, Length: int64(v) - off}, nil
}

// Where neither disk stores anything, its size must not count.
func TestVast(t *testing.T) {
	calls := 0
	got, err := Run(t.Context(), vast(1<<50), vast(1<<50-512), Options{Progress: func(int64) { calls++ }})
	if err != nil || !got.Equal || calls > 3 {
		t.Errorf("%+v, %v after %d steps", got, err, calls)
	}
}
