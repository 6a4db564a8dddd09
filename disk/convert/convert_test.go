package convert

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/codec"
	"github.com/ovation-project/ovation/internal/diskmodel"
)

// recorder is a writer that keeps what it is given and holds it against the
// contract.
type recorder struct {
	layout   disk.Layout
	content  []byte
	written  []bool // by sector
	log      []string
	last     int64
	finished bool
}

func newRecorder(size int64, layout disk.Layout) *recorder {
	return &recorder{layout: layout, content: make([]byte, size), written: make([]bool, size/disk.SectorSize)}
}

func (w *recorder) Layout() disk.Layout { return w.layout }

func (w *recorder) take(what string, off, length int64) error {
	w.log = append(w.log, fmt.Sprintf("%s %d+%d", what, off, length))
	if w.finished {
		return errors.New("after Finish")
	}
	if off < 0 || length <= 0 || off+length > int64(len(w.content)) || off%disk.SectorSize != 0 {
		return fmt.Errorf("%s at %d+%d of %d", what, off, length, len(w.content))
	}
	if w.layout.Ordered && off < w.last {
		return fmt.Errorf("%s at %d after %d", what, off, w.last)
	}
	w.last = off + length
	for i := off / disk.SectorSize; i < (off+length)/disk.SectorSize; i++ {
		if w.written[i] {
			return fmt.Errorf("%s at %d: sector %d is written twice", what, off, i)
		}
		w.written[i] = true
	}
	return nil
}

func (w *recorder) WriteAt(b []byte, off int64) (int, error) {
	if w.layout.Codec != disk.NoCodec {
		return 0, errors.New("WriteAt leaves it to the writer to compress")
	}
	if err := w.take("write", off, int64(len(b))); err != nil {
		return 0, err
	}
	return copy(w.content[off:], b), nil
}

// plainRecorder may keep units as they are.
type plainRecorder struct{ *recorder }

func (w plainRecorder) WritePlain(b []byte, off int64) error {
	if off%w.layout.Unit != 0 || int64(len(b)) != min(w.layout.Unit, int64(len(w.content))-off) {
		return fmt.Errorf("WritePlain of %d bytes at %d is no unit", len(b), off)
	}
	if packed, err := codec.Compress(w.layout.Codec, 9, nil, b); err != nil || len(packed) < len(b)*9/10 {
		return errors.New("WritePlain of a unit that can be compressed")
	}
	copy(w.content[off:], b)
	return w.take("plain", off, int64(len(b)))
}

func (w *recorder) WriteZeroes(off, length int64) error { return w.take("zero", off, length) }

func (w *recorder) WriteCompressed(off int64, stored []byte) error {
	if off%w.layout.Unit != 0 {
		return fmt.Errorf("unit at %d", off)
	}
	length := min(w.layout.Unit, int64(len(w.content))-off)
	if err := w.take("compressed", off, length); err != nil {
		return err
	}
	w.log = append(w.log, fmt.Sprintf("%x", sha256.Sum256(stored)))
	b := make([]byte, w.layout.Unit)
	n, used, err := codec.Decompress(w.layout.Codec, b, stored)
	if err != nil || n != len(b) || used != len(stored) {
		return fmt.Errorf("unit at %d gives %d bytes and takes %d of %d: %v", off, n, used, len(stored), err)
	}
	copy(w.content[off:], b)
	return nil
}

func (w *recorder) Finish(context.Context) error {
	if w.finished {
		return errors.New("finished twice")
	}
	w.finished = true
	return nil
}

func drawLayout(t *rapid.T) disk.Layout {
	layout := disk.Layout{
		Unit:  rapid.SampledFrom([]int64{512, 4 << 10, 64 << 10, 2 << 20}).Draw(t, "unit"),
		Codec: rapid.SampledFrom([]disk.Codec{disk.NoCodec, disk.Deflate, disk.Zlib, disk.Zstd}).Draw(t, "codec"),
	}
	if layout.Codec == disk.NoCodec && rapid.Bool().Draw(t, "no unit") {
		layout.Unit = 0
	}
	return layout
}

func TestRun(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := diskmodel.Draw(t)
		layout := drawLayout(t)
		layout.Ordered = rapid.Bool().Draw(t, "ordered")
		stream := rapid.Bool().Draw(t, "stream")
		trusted := rapid.Bool().Draw(t, "trusted")
		plain := rapid.Bool().Draw(t, "plain")
		var first *recorder
		for _, workers := range []int{1, 3} {
			var src Source = m
			if stream {
				src = m.Stream()
			}
			w := newRecorder(m.Size(), layout)
			var dst disk.Writer = w
			if plain && layout.Codec != disk.NoCodec {
				dst = plainRecorder{w}
			}
			var last Progress
			stats, err := Run(context.Background(), src, dst, Options{
				Workers: workers, Level: 1, Trusted: trusted,
				Progress: func(p Progress) { last = p },
			})
			if err != nil {
				t.Fatal(err)
			}
			if !w.finished {
				t.Fatal("not finished")
			}
			if !bytes.Equal(w.content, m.Content) {
				t.Fatal("content differs")
			}
			if !stream && last.Done != m.Size() || last.Done > m.Size() {
				t.Fatalf("progress ends at %d of %d", last.Done, m.Size())
			}
			if layout.Codec == disk.NoCodec && stats.Passed+stats.Compressed != 0 {
				t.Fatalf("%+v for %+v", stats, layout)
			}
			if first == nil {
				first = w
			} else if !slices.Equal(first.log, w.log) {
				t.Fatalf("other calls with %d workers:\n%.2000s", workers, cmp.Diff(first.log, w.log))
			}
		}
	})
}

// A stream's runs may come in any order where the writer takes them so.
func TestShuffledStream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := diskmodel.Draw(t)
		layout := drawLayout(t)
		s := m.Stream()
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "shuffle"), 2))
		rnd.Shuffle(len(s.Runs), func(i, j int) { s.Runs[i], s.Runs[j] = s.Runs[j], s.Runs[i] })
		w := newRecorder(m.Size(), layout)
		_, err := Run(context.Background(), s, w, Options{Workers: 2, Level: 1})
		if layout.Codec != disk.NoCodec && errors.Is(err, disk.ErrNeedsSeek) {
			return // parts of one unit far from each other
		}
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(w.content, m.Content) {
			t.Fatal("content differs")
		}
	})
}

func TestPassThrough(t *testing.T) {
	m := diskmodel.Units(t, 40, disk.Zlib)
	for _, trusted := range []bool{true, false} {
		for name, src := range map[string]Source{"image": m, "stream": m.Stream()} {
			w := newRecorder(m.Size(), disk.Layout{Unit: Unit(src), Codec: disk.Deflate})
			stats, err := Run(t.Context(), src, w, Options{Trusted: trusted})
			if err != nil {
				t.Fatal(name, err)
			}
			if want := (Stats{Passed: m.Size()}); stats != want {
				t.Errorf("%s, trusted %v: %+v, want %+v", name, trusted, stats, want)
			}
			if !bytes.Equal(w.content, m.Content) {
				t.Errorf("%s: content differs", name)
			}
		}
	}
}

func TestDamagedUnit(t *testing.T) {
	m := diskmodel.Units(t, 40, disk.Zlib)
	e := m.Extents[17]
	m.File[e.FileOffset+e.FileLength/2] ^= 0x10
	for _, layout := range []disk.Layout{{}, {Unit: 64 << 10, Codec: disk.Deflate}, {Unit: 64 << 10, Codec: disk.Zstd}} {
		for name, src := range map[string]Source{"image": m, "stream": m.Stream()} {
			w := newRecorder(m.Size(), layout)
			_, err := Run(t.Context(), src, w, Options{})
			if !errors.Is(err, disk.ErrCorrupt) || w.finished {
				t.Errorf("%s to %+v: %v", name, layout, err)
				continue
			}
			if want := "sectors 2176 to 2303"; !bytes.Contains([]byte(err.Error()), []byte(want)) {
				t.Errorf("%s: %q does not name %s", name, err, want)
			}
		}
	}
}

// brokenStream gives runs that no format should.
type brokenStream struct {
	runs []disk.Run
}

func (s *brokenStream) Size() int64 { return 1 << 20 }

func (s *brokenStream) Next(context.Context) (disk.Run, error) {
	if len(s.runs) == 0 {
		return disk.Run{}, io.EOF
	}
	r := s.runs[0]
	s.runs = s.runs[1:]
	return r, nil
}

func TestBadRuns(t *testing.T) {
	data := func(off, length, stored int64) disk.Run {
		return disk.Run{Extent: disk.Extent{Kind: disk.Data, Offset: off, Length: length}, Stored: bytes.Repeat([]byte{1}, int(stored))}
	}
	for name, runs := range map[string][]disk.Run{
		"past the end":  {data(1<<20-512, 1024, 1024)},
		"negative":      {data(-512, 1024, 1024)},
		"overflow":      {data(512, 1<<62, 1024)},
		"too few bytes": {data(0, 1024, 512)},
		"overlap":       {data(0, 1024, 1024), data(512, 1024, 1024)},
		"no bytes":      {{Extent: disk.Extent{Kind: disk.Compressed, Codec: disk.Zlib, Length: 512}}},
		"huge unit":     {{Extent: disk.Extent{Kind: disk.Compressed, Codec: disk.Zlib, Length: 512}, Stored: make([]byte, 1<<20)}},
	} {
		w := newRecorder(1<<20, disk.Layout{})
		if _, err := Run(t.Context(), &brokenStream{runs}, w, Options{}); !errors.Is(err, disk.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOrderedWriterRefusesDescendingStream(t *testing.T) {
	m := diskmodel.Units(t, 40, disk.Zlib)
	s := m.Stream()
	slices.Reverse(s.Runs)
	w := newRecorder(m.Size(), disk.Layout{Unit: 64 << 10, Codec: disk.Zlib, Ordered: true})
	if _, err := Run(t.Context(), s, w, Options{}); !errors.Is(err, disk.ErrNeedsSeek) {
		t.Error(err)
	}
}

func TestCancel(t *testing.T) {
	m := diskmodel.Units(t, 200, disk.Zlib)
	ctx, cancel := context.WithCancel(t.Context())
	w := newRecorder(m.Size(), disk.Layout{})
	_, err := Run(ctx, m, w, Options{Progress: func(Progress) { cancel() }})
	if !errors.Is(err, context.Canceled) || w.finished {
		t.Error(err)
	}
}

// vast is a disk of 1 PiB of nothing: the time and the calls it takes must
// not grow with that.
type vast struct{}

func (vast) Size() int64                       { return 1 << 50 }
func (vast) Close() error                      { return nil }
func (vast) ReadAt([]byte, int64) (int, error) { return 0, errors.New("no reading") }
func (vast) Extent(_ context.Context, off int64) (disk.Extent, error) {
	return disk.Extent{Offset: off, Length: 1<<50 - off, Kind: disk.Zero}, nil
}

func TestVast(t *testing.T) {
	w := &zeroes{}
	if _, err := Run(t.Context(), vast{}, w, Options{}); err != nil || w.calls != 1 {
		t.Error(w.calls, err)
	}
}

type zeroes struct {
	recorder
	calls int
}

func (w *zeroes) WriteZeroes(int64, int64) error { w.calls++; return nil }

func ExampleRun() {
	src := &diskmodel.Model{
		Content: make([]byte, 4096),
		Extents: []disk.Extent{{Length: 4096}},
	}
	dst := newRecorder(src.Size(), disk.Layout{Unit: 64 << 10})
	stats, err := Run(context.Background(), src, dst, Options{})
	fmt.Println(stats.Written, err)
	// Output: 0 <nil>
}
