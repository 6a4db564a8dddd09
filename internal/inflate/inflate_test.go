package inflate

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"
)

// reference is what the standard library makes of a stream: its content up to
// limit bytes, how much of src it took, and whether it is good.
func reference(src []byte, limit int) (content []byte, used int, err error) {
	in := bytes.NewReader(src)
	content, err = io.ReadAll(io.LimitReader(flate.NewReader(in), int64(limit)))
	return content, len(src) - in.Len(), err
}

// agree holds Inflate against the standard library.
func agree(t interface {
	Helper()
	Fatalf(string, ...any)
}, src []byte, size int) {
	t.Helper()
	const guard = 40
	room := bytes.Repeat([]byte{0xa5}, size+guard)
	dst := room[:size:size]
	n, used, err := Inflate(dst, src)
	for i, b := range room[size:] {
		if b != 0xa5 {
			t.Fatalf("byte %d behind dst is written", i)
		}
	}
	if n < 0 || n > size || used < 0 || used > len(src) {
		t.Fatalf("n=%d of %d, used=%d of %d", n, size, used, len(src))
	}
	want, wantUsed, wantErr := reference(src, size+1)
	switch {
	case len(want) > size:
		// It may be good or bad later on; here it is too long.
		if !errors.Is(err, ErrShortBuffer) || n != size {
			t.Fatalf("%v after %d bytes, and the stream has more than %d", err, n, size)
		}
		want = want[:size]
	case wantErr == nil:
		if err != nil || used != wantUsed {
			t.Fatalf("used %d: %v; the library uses %d", used, err, wantUsed)
		}
	default:
		// Which fault shows first depends on how far one looks ahead.
		if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrCorrupt) && !(errors.Is(err, ErrShortBuffer) && n == size) {
			t.Fatalf("%v, and the library says %v", err, wantErr)
		}
		return
	}
	if !bytes.Equal(dst[:n], want) {
		t.Fatalf("content differs")
	}
}

func compress(t testing.TB, level int, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// samples are data of several kinds.
func samples() map[string][]byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 100_000)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	skewed := make([]byte, 100_000)
	for i := range skewed {
		skewed[i] = byte(rnd.ExpFloat64() * 12)
	}
	s := map[string][]byte{
		"empty":  nil,
		"one":    {1},
		"zeroes": make([]byte, 100_000),
		"noise":  noise,
		"skewed": skewed,
		"text":   bytes.Repeat([]byte("what is said twice may as well be said once; "), 2000),
	}
	for d := 1; d <= 40; d++ {
		s[fmt.Sprintf("period %d", d)] = bytes.Repeat(noise[:d], 3000/d)
	}
	var mixed []byte
	for len(mixed) < 200_000 {
		from := rnd.IntN(90_000)
		switch rnd.IntN(4) {
		case 0:
			mixed = append(mixed, noise[from:from+rnd.IntN(3000)]...)
		case 1:
			mixed = append(mixed, skewed[from:from+rnd.IntN(3000)]...)
		default:
			if len(mixed) > 0 {
				from := rnd.IntN(len(mixed))
				mixed = append(mixed, mixed[from:from+rnd.IntN(min(400, len(mixed)-from))]...)
			} else {
				mixed = append(mixed, 7)
			}
		}
	}
	s["mixed"] = mixed
	return s
}

func TestAgrees(t *testing.T) {
	for name, data := range samples() {
		t.Run(name, func(t *testing.T) {
			for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, 1, 6, 9} {
				src := compress(t, level, data)
				agree(t, src, len(data))
				agree(t, src, len(data)+1000)
				agree(t, append(src[:len(src):len(src)], 1, 2, 3, 4, 5, 6, 7, 8, 9), len(data))
				if len(data) > 0 {
					agree(t, src, len(data)-1)
					agree(t, src, len(data)/2)
					agree(t, src, 0)
				}
			}
		})
	}
}

// Cutting a stream anywhere, and changing any of its bits, must end as in the
// library.
func TestDamage(t *testing.T) {
	data := samples()["mixed"][:6000]
	for _, level := range []int{0, 1, 9} {
		src := compress(t, level, data)
		for i := 0; i < len(src); i++ {
			agree(t, src[:i], len(data))
		}
		for i := 0; i < 8*min(len(src), 400); i++ {
			bad := bytes.Clone(src)
			bad[i/8] ^= 1 << (i % 8)
			agree(t, bad, len(data))
			agree(t, bad, 4*len(data))
		}
	}
}

// bitWriter writes bits, the lowest first.
type bitWriter struct {
	b []byte
	n uint
}

func (w *bitWriter) put(v uint64, n uint) {
	for ; n > 0; n-- {
		if w.n%8 == 0 {
			w.b = append(w.b, 0)
		}
		w.b[w.n/8] |= byte(v&1) << (w.n % 8)
		w.n++
		v >>= 1
	}
}

// someLengths makes the lengths of a code, a good one more often than not.
func someLengths(rnd *rand.Rand, n, longest int) []uint8 {
	lens := make([]uint8, n)
	if rnd.IntN(10) == 0 {
		for i := range lens {
			lens[i] = uint8(rnd.IntN(longest + 1))
		}
		return lens
	}
	// Splitting a word in two keeps a code complete. A code may be flat or
	// have a few long words.
	words := []uint8{0}
	deep := rnd.IntN(3) == 0
	for range rnd.IntN(n) {
		i := rnd.IntN(len(words))
		if deep {
			i = len(words) - 1
		}
		if int(words[i]) == longest {
			continue
		}
		words[i]++
		words = append(words, words[i])
	}
	if len(words) == 1 {
		words[0] = uint8(rnd.IntN(3))
	}
	switch rnd.IntN(12) {
	case 0:
		words = words[1:]
	case 1:
		words[0] = min(words[0]+1, uint8(longest))
	case 2:
		words[0] -= min(words[0], 1)
	}
	for i, at := range rnd.Perm(n)[:len(words)] {
		lens[at] = words[i]
	}
	return lens
}

// Blocks with codes of every shape, followed by whatever: incomplete and
// over-subscribed codes, codes of one word or none, words of every length.
func TestCodes(t *testing.T) {
	good := 0
	for seed := range uint64(6000) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		var w bitWriter
		w.put(uint64(rnd.IntN(2)), 1)
		w.put(2, 2)
		numLit, numDist := 257+rnd.IntN(30), 1+rnd.IntN(30)
		if rnd.IntN(20) == 0 {
			numLit, numDist = 257+rnd.IntN(32), 1+rnd.IntN(32)
		}
		w.put(uint64(numLit-257), 5)
		w.put(uint64(numDist-1), 5)
		w.put(15, 4)
		if rnd.IntN(4) == 0 {
			pre := someLengths(rnd, numPrecode, 7)
			for _, sym := range order {
				w.put(uint64(pre[sym]), 3)
			}
		} else {
			// Sixteen words of four bits for the lengths as they are.
			for _, sym := range order {
				if sym < 16 {
					w.put(4, 3)
				} else {
					w.put(0, 3)
				}
			}
			for _, l := range append(someLengths(rnd, numLit, 15), someLengths(rnd, numDist, 15)...) {
				for bit := 3; bit >= 0; bit-- {
					w.put(uint64(l>>bit&1), 1)
				}
			}
		}
		for range rnd.IntN(300) {
			w.put(rnd.Uint64(), 8)
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) { agree(t, w.b, []int{0, 10, 1000, 70_000}[rnd.IntN(4)]) })
		if _, _, err := reference(w.b, 1<<20); err == nil {
			good++
		}
	}
	if good < 50 {
		t.Errorf("only %d of the streams are good", good)
	}
}

func FuzzInflate(f *testing.F) {
	for _, data := range samples() {
		for _, level := range []int{flate.HuffmanOnly, 0, 1, 9} {
			if src := compress(f, level, data); len(src) < 4000 {
				f.Add(src, len(data))
			}
		}
	}
	f.Add([]byte{0x05, 0xe0, 0x81, 0x08, 0, 0, 0, 0, 0x20, 0x7f, 0xeb, 0x0b, 0, 0}, 10)
	f.Fuzz(func(t *testing.T, src []byte, size int) {
		if size < 0 || size > 1<<17 {
			return
		}
		agree(t, src, size)
	})
}

// BenchmarkInflate takes the test's own program in units of 64 KiB.
func BenchmarkInflate(b *testing.B) {
	const unit = 64 << 10
	name, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		b.Fatal(err)
	}
	var units [][]byte
	for ; len(data) >= unit; data = data[unit:] {
		units = append(units, compress(b, 6, data[:unit]))
	}
	dst := make([]byte, unit)
	b.Run("one-shot", func(b *testing.B) {
		b.SetBytes(int64(len(units)) * unit)
		for b.Loop() {
			for _, src := range units {
				if _, _, err := Inflate(dst, src); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("library", func(b *testing.B) {
		b.SetBytes(int64(len(units)) * unit)
		in := bytes.NewReader(nil)
		r := flate.NewReader(in)
		for b.Loop() {
			for _, src := range units {
				in.Reset(src)
				if err := r.(flate.Resetter).Reset(in, nil); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(r, dst); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

func ExampleInflate() {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, 6)
	fmt.Fprint(w, "a grain")
	w.Close()
	dst := make([]byte, 64<<10)
	n, used, err := Inflate(dst, b.Bytes())
	fmt.Println(string(dst[:n]), used == b.Len(), err)
	// Output: a grain true <nil>
}
