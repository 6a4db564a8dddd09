package deflate

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ovation-project/ovation/internal/inflate"
)

// check compresses src, takes the stream apart by the standard library and by our
// own package, and says how long it is.
func check(t *testing.T, src []byte) int {
	t.Helper()
	const before = "before"
	stream := Append([]byte(before), src)
	if !bytes.HasPrefix(stream, []byte(before)) {
		t.Fatal("what was there before is gone")
	}
	stream = stream[len(before):]
	if len(stream) > MaxLen(len(src)) {
		t.Fatalf("%d bytes became %d, more than %d", len(src), len(stream), MaxLen(len(src)))
	}
	r := bytes.NewReader(stream)
	got, err := io.ReadAll(flate.NewReader(r))
	if err != nil {
		t.Fatalf("%d bytes: the standard library says: %v", len(src), err)
	}
	if !bytes.Equal(got, src) {
		t.Fatalf("%d bytes came back as other %d", len(src), len(got))
	}
	if r.Len() != 0 {
		t.Fatalf("%d bytes follow the stream", r.Len())
	}
	got = make([]byte, len(src))
	if n, used, err := inflate.Inflate(got, stream); err != nil || n != len(src) || used != len(stream) || !bytes.Equal(got, src) {
		t.Fatalf("our own inflater: %d of %d bytes, %d of %d of the stream, %v", n, len(src), used, len(stream), err)
	}
	return len(stream)
}

// contents are kinds of content, of any length.
var contents = map[string]func(r *rand.Rand, b []byte){
	"zero":   func(_ *rand.Rand, b []byte) { clear(b) },
	"random": func(r *rand.Rand, b []byte) { alphabet(r, b, 256) },
	"two":    func(r *rand.Rand, b []byte) { alphabet(r, b, 2) },
	"base64": func(r *rand.Rand, b []byte) { alphabet(r, b, 64) },
	"words": func(r *rand.Rand, b []byte) {
		const text = "the quick brown fox jumps over the lazy dog and back again "
		for len(b) > 0 {
			n := r.IntN(len(text))
			b = b[copy(b, text[n:n+r.IntN(len(text)-n)+1]):]
		}
	},
	"rare": func(r *rand.Rand, b []byte) { // Fibonacci-like, for codes that are too long
		for i := range b {
			for b[i] = 0; b[i] < 40 && r.IntN(8) < 3; b[i]++ {
			}
		}
	},
	"parts": func(r *rand.Rand, b []byte) { // of which each wants codes of its own
		for i := 0; len(b) > 0; i++ {
			n := min(len(b), 1000+r.IntN(30000))
			alphabet(r, b[:n], 1+r.IntN(255))
			b = b[n:]
		}
	},
	"far": func(r *rand.Rand, b []byte) { // repeats at the edge of the window
		alphabet(r, b, 256)
		for i := window - 4; i+600 < len(b); i += 600 + r.IntN(600) {
			n := 3 + r.IntN(300)
			from := max(0, i-window-2+r.IntN(5))
			copy(b[i:i+n], b[from:])
		}
	},
}

func alphabet(r *rand.Rand, b []byte, n int) {
	for i := range b {
		b[i] = byte(r.IntN(n))
	}
}

func TestRoundTrip(t *testing.T) {
	lengths := []int{0, 1, 2, 3, 4, 7, 8, 9, 11, 12, 15, 100, 257, 258, 259, 300, 512, 4095, 4096, 8191, 8192, 8193, 32767, 32768, 32769,
		65534, 65535, 65536, 65537, 65536 + 258}
	if !testing.Short() {
		lengths = append(lengths, 131072, 200001, 1<<20)
	}
	for name, fill := range contents {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(1, 2))
			for _, n := range lengths {
				b := make([]byte, n)
				fill(r, b)
				check(t, b)
			}
		})
	}
}

// TestSize holds the size against that of the standard library's default level.
func TestSize(t *testing.T) {
	if testing.Short() {
		t.Skip("sizes are compared without -short")
	}
	r := rand.New(rand.NewPCG(3, 4))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string][]byte{"program": program[:min(len(program), 3<<20)]}
	for name, fill := range contents {
		b := make([]byte, 1<<20)
		fill(r, b)
		kinds[name] = b
	}
	// The standard library searches longer, which pays where all is made of a few
	// symbols or words, as real content is not.
	most := map[string]float64{"words": 1.2, "two": 1.25, "far": 1.06, "rare": 1.15, "parts": 1.05, "program": 1.05}
	for name, b := range kinds {
		ours, theirs := 0, 0
		for part := range slices.Chunk(b, 1<<16) {
			ours += check(t, part)
			var out bytes.Buffer
			w, err := flate.NewWriter(&out, flate.DefaultCompression)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = w.Write(part)
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			theirs += out.Len()
		}
		limit := most[name]
		if limit == 0 {
			limit = 1.01
		}
		ratio := float64(ours) / float64(theirs)
		t.Logf("%s: %.3f", name, ratio)
		if ratio > limit {
			t.Errorf("%s: %d bytes, %.3f of the standard library's %d; %.2f is the limit", name, ours, ratio, theirs, limit)
		}
	}
}

// TestSame says that what was compressed before does not matter.
func TestSame(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var inputs, want [][]byte
	for _, fill := range contents {
		for _, n := range []int{10, 5000, 1 << 16, 100000} {
			b := make([]byte, n)
			fill(r, b)
			inputs = append(inputs, b)
			want = append(want, Append(nil, b))
		}
	}
	var wg sync.WaitGroup
	for range 4 {
		order := r.Perm(len(inputs))
		wg.Go(func() {
			for _, i := range order {
				if got := Append(nil, inputs[i]); !bytes.Equal(got, want[i]) {
					t.Errorf("input %d gives other bytes than before", i)
				}
			}
		})
	}
	wg.Wait()
}

// TestCapacity says that what is behind dst is not written to, save where dst's
// own capacity reaches.
func TestCapacity(t *testing.T) {
	src := []byte(strings.Repeat("hello, world. ", 50))
	for extra := range 60 {
		whole := bytes.Repeat([]byte{0xee}, 200)
		got := Append(whole[:10:10+extra], src)
		if !bytes.Equal(got[10:], Append(nil, src)) {
			t.Fatalf("with a capacity of %d more the stream is another one", extra)
		}
		if i := bytes.IndexFunc(whole[10+extra:], func(c rune) bool { return c != 0xee && c != 0xfffd }); i >= 0 {
			t.Fatalf("with a capacity of %d more byte %d behind it has changed", extra, i)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	src := make([]byte, 1<<16)
	contents["words"](rand.New(rand.NewPCG(7, 8)), src)
	dst := make([]byte, 0, MaxLen(len(src))+flushLen)
	c := new(compressor)
	c.append(dst, src)
	if n := testing.AllocsPerRun(20, func() { c.append(dst, src) }); n >= 1 {
		t.Errorf("%v allocations", n)
	}
}

// TestCodeLengths says that codes are complete, within their limit, and shorter for
// what is more frequent.
func TestCodeLengths(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	var h huffman
	for range 2000 {
		freq := make([]uint32, 2+r.IntN(numLitLen-1))
		used := 0
		a, b := uint32(1), uint32(1)
		for i := range freq {
			switch r.IntN(3) {
			case 0:
				freq[i] = uint32(r.IntN(600))
			case 1:
				if b < 1<<20 {
					freq[i] = a
					a, b = b, a+b
				}
			}
			if freq[i] != 0 {
				used++
			}
		}
		limit := maxCodeBits
		if len(freq) <= numPrecode {
			limit = maxPrecodeBits
		}
		lens := make([]uint8, len(freq))
		h.lengths(lens, freq, limit)
		sum := 0
		for i, n := range lens {
			if int(n) > limit {
				t.Fatalf("a code of %d bits, more than %d: %v", n, limit, freq)
			}
			if freq[i] != 0 && n == 0 {
				t.Fatalf("symbol %d has no code: %v", i, freq)
			}
			if n != 0 {
				sum += 1 << (limit - int(n))
			}
			for j, m := range lens {
				if freq[i] > freq[j] && freq[j] > 0 && n > m {
					t.Fatalf("symbol %d is more frequent than %d and has a longer code: %v", i, j, freq)
				}
			}
		}
		if sum != 1<<limit {
			t.Fatalf("the code of %d symbols fills %d of %d: %v", used, sum, 1<<limit, freq)
		}
	}
}

// TestAlphabets holds the tables against the specification's (RFC 1951 section 3.2.5).
func TestAlphabets(t *testing.T) {
	lengths := map[int]int{3: 257, 4: 258, 10: 264, 11: 265, 12: 265, 13: 266, 18: 268, 19: 269, 22: 269, 23: 270, 34: 272, 35: 273, 66: 276, 67: 277,
		114: 279, 115: 280, 130: 280, 131: 281, 226: 283, 227: 284, 257: 284, 258: 285}
	for length, symbol := range lengths {
		if got := firstLength + int(lengthSlot[length]); got != symbol {
			t.Errorf("length %d has symbol %d instead of %d", length, got, symbol)
		}
	}
	first := []int{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	for slot, d := range first {
		last := window
		if slot+1 < len(first) {
			last = first[slot+1] - 1
		}
		if a, b := distSlot(uint16(d)), distSlot(uint16(last)); int(a) != slot || int(b) != slot {
			t.Errorf("distances %d to %d have symbols %d and %d instead of %d", d, last, a, b, slot)
		}
		if int(distBase[slot]) != d || 1<<distExtra[slot] != last-d+1 {
			t.Errorf("symbol %d begins at %d with %d bits", slot, distBase[slot], distExtra[slot])
		}
	}
}

func FuzzAppend(f *testing.F) {
	f.Add([]byte("hello, hello, hello"), uint(1), uint8(0))
	f.Add([]byte{0}, uint(70000), uint8(1))
	r := rand.New(rand.NewPCG(11, 12))
	for _, fill := range contents {
		b := make([]byte, 300)
		fill(r, b)
		f.Add(b, uint(300), uint8(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, times uint, change uint8) {
		// Repeated, with a byte that is another one each time.
		src := slices.Clone(b)
		for i := 0; len(src) > 0 && i < int(times%300) && len(src) < 1<<17; i++ {
			src = append(src, b...)
			src[len(src)-1-i%len(b)] += change
		}
		check(t, src)
	})
}

func ExampleAppend() {
	stream := Append(nil, []byte(strings.Repeat("so on and ", 1000)))
	fmt.Println(len(stream) < 100)
	// Output: true
}
