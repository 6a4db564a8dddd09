package digest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/disk/digest"
	"github.com/ovation-project/ovation/disk/formats"
	"github.com/ovation-project/ovation/internal/diskmodel"
)

// plain is the digest as the package's text has it.
func plain(b []byte) digest.Sum {
	h := sha256.New()
	number := func(n int) { _ = binary.Write(h, binary.BigEndian, uint64(n)) }
	number(len(b))
	for i := 0; i*digest.Block < len(b); i++ {
		block := b[i*digest.Block : min(len(b), (i+1)*digest.Block)]
		if !bytes.Equal(block, make([]byte, len(block))) {
			number(i)
			h.Write(block)
		}
	}
	return digest.Sum(h.Sum(nil))
}

// file is a file in memory.
type file struct{ b []byte }

func (f *file) ReadAt(b []byte, off int64) (int, error) { return bytes.NewReader(f.b).ReadAt(b, off) }
func (f *file) Size() int64                             { return int64(len(f.b)) }
func (f *file) Truncate(n int64) error {
	f.b = append(f.b, make([]byte, max(0, n-int64(len(f.b))))...)[:n]
	return nil
}
func (f *file) WriteAt(b []byte, off int64) (int, error) {
	if need := off + int64(len(b)) - int64(len(f.b)); need > 0 {
		f.b = append(f.b, make([]byte, need)...)
	}
	return copy(f.b[off:], b), nil
}

// Create makes it the only file.
func (f *file) Create(string) (disk.OutputFile, error) { return f, nil }

// TestAnyFormat writes contents in several formats: the digest does not depend
// on that, nor on whether it is taken of what was written or meanwhile.
func TestAnyFormat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(1, 9000).Draw(t, "sectors") * disk.SectorSize
		content := make([]byte, size)
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		for range rapid.IntRange(0, 5).Draw(t, "runs") {
			at := rapid.Int64Range(0, size-1).Draw(t, "at")
			diskmodel.Text(rnd, content[at:min(size, at+rapid.Int64Range(1, 2<<20).Draw(t, "length"))])
		}
		want := plain(content)
		raw, err := formats.ByName("raw")
		if err != nil {
			t.Fatal(err)
		}
		src, err := raw.Open(context.Background(), &file{content}, disk.OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		name := rapid.SampledFrom([]string{"raw", "qcow2", "vmdk"}).Draw(t, "format")
		format, err := formats.ByName(name)
		if err != nil {
			t.Fatal(err)
		}
		out := &file{}
		w, err := format.Create(context.Background(), out, disk.CreateOptions{Name: "disk", Size: size, Compress: name == "qcow2" && rapid.Bool().Draw(t, "compress")})
		if err != nil {
			t.Fatal(err)
		}
		dw := digest.NewWriter(w, size)
		if _, err := convert.Run(context.Background(), src, dw, convert.Options{Workers: 2}); err != nil {
			t.Fatal(err)
		}
		if got, ok := dw.Sum(); !ok || got != want {
			t.Errorf("while %s was written: %v, %v, want %v", name, got, ok, want)
		}
		img, err := format.Open(context.Background(), out, disk.OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := digest.Of(context.Background(), img, nil); err != nil || got != want {
			t.Errorf("of %s: %v, %v, want %v", name, got, err, want)
		}
		// Another byte is another digest.
		content[rapid.Int64Range(0, size-1).Draw(t, "other")] ^= 0x10
		if got, err := digest.Of(context.Background(), src, nil); err != nil || got == want {
			t.Errorf("of another content: %v, %v", got, err)
		}
	})
}

// nothing is a writer that keeps nothing.
type nothing struct{ disk.Writer }

func (nothing) Layout() disk.Layout                    { return disk.Layout{} }
func (nothing) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }
func (nothing) WriteZeroes(int64, int64) error         { return nil }

// TestOrders writes blocks in orders that can and can't be kept up with.
func TestOrders(t *testing.T) {
	const blocks = 100
	content := make([]byte, blocks*digest.Block)
	for i := range content {
		content[i] = byte(i>>20 + 1)
	}
	half := digest.Block / 2
	write := func(order []int) (digest.Sum, bool) {
		w := digest.NewWriter(nothing{}, int64(len(content)))
		for _, i := range order {
			if _, err := w.WriteAt(content[i*half:(i+1)*half], int64(i*half)); err != nil {
				t.Fatal(err)
			}
		}
		return w.Sum()
	}
	near := make([]int, 0, 2*blocks)
	for i := 0; i < 2*blocks; i += 20 { // backwards within ten blocks
		for j := 19; j >= 0; j-- {
			near = append(near, i+j)
		}
	}
	if got, ok := write(near); !ok || got != plain(content) {
		t.Errorf("nearly in order: %v, %v", got, ok)
	}
	far := append([]int{2*blocks - 1}, near[:2*blocks-20]...)
	far = append(far, 1)
	if _, ok := write(far); ok {
		t.Error("what came far too late is in the digest")
	}
}

// vast is a disk without end that holds nothing.
type vast struct{ disk.Image }

func (vast) Size() int64 { return 1 << 60 }
func (vast) Extent(_ context.Context, off int64) (disk.Extent, error) {
	if off >= 1<<60 {
		return disk.Extent{}, io.EOF
	}
	return disk.Extent{Offset: off, Length: 1<<60 - off}, nil
}

func TestVast(t *testing.T) {
	if _, err := digest.Of(t.Context(), vast{}, nil); err != nil {
		t.Error(err)
	}
}
