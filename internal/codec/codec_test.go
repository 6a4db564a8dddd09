package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/ovation-project/ovation/disk"
)

var codecs = []disk.Codec{disk.NoCodec, disk.Deflate, disk.Zlib, disk.Zstd}

// unit draws a buffer that compresses somewhat.
func unit(t *rapid.T) []byte {
	words := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 1, 40), 1, 20).Draw(t, "words")
	var b []byte
	for _, i := range rapid.SliceOfN(rapid.IntRange(0, len(words)-1), 0, 400).Draw(t, "order") {
		b = append(b, words[i]...)
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.SampledFrom(codecs).Draw(t, "codec")
		level := rapid.IntRange(0, 9).Draw(t, "level")
		data := unit(t)
		prefix := []byte("before")
		stored, err := Compress(c, level, bytes.Clone(prefix), data)
		if err != nil {
			t.Fatal(err)
		}
		stored, ok := bytes.CutPrefix(stored, prefix)
		if !ok {
			t.Fatal("what was in dst is lost")
		}
		again, err := Compress(c, level, nil, data)
		if err != nil || !bytes.Equal(stored, again) {
			t.Fatalf("the second time gives other bytes (%v)", err)
		}

		padded := stored
		if c != disk.NoCodec {
			padded = append(bytes.Clone(stored), rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "padding")...)
		}
		dst := make([]byte, len(data)+rapid.IntRange(0, 300).Draw(t, "room"))
		n, used, err := Decompress(c, dst, padded)
		if err != nil || used != len(stored) || !bytes.Equal(dst[:n], data) {
			t.Fatalf("gives %d bytes of %d, used %d of %d: %v", n, len(data), used, len(stored), err)
		}

		if len(data) > 0 {
			short := make([]byte, rapid.IntRange(0, len(data)-1).Draw(t, "short"))
			if _, _, err := Decompress(c, short, stored); !errors.Is(err, ErrTooLong) {
				t.Fatalf("%d bytes into %d: %v", len(data), len(short), err)
			}
		}
		if c != disk.NoCodec {
			cut := rapid.IntRange(0, len(stored)-1).Draw(t, "cut")
			if _, _, err := Decompress(c, dst, stored[:cut]); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("cut to %d of %d bytes: %v", cut, len(stored), err)
			}
		}
	})
}

func TestTranscode(t *testing.T) {
	data := bytes.Repeat([]byte("a grain of a disk "), 1000)
	z, err := Compress(disk.Zlib, 6, nil, data)
	if err != nil {
		t.Fatal(err)
	}
	raw, ok := Transcode(disk.Zlib, disk.Deflate, z)
	if !ok {
		t.Fatal("zlib to deflate is refused")
	}
	got := make([]byte, len(data))
	if n, used, err := Decompress(disk.Deflate, got, raw); err != nil || n != len(data) || used != len(raw) {
		t.Fatalf("%d bytes, used %d of %d: %v", n, used, len(raw), err)
	}
	if !bytes.Equal(got, data) {
		t.Error("content differs")
	}
	for _, test := range []struct {
		from, to disk.Codec
		stored   []byte
		ok       bool
	}{
		{disk.Zlib, disk.Zlib, z, true},
		{disk.Zstd, disk.Zstd, z, true},
		{disk.Deflate, disk.Zlib, raw, false},
		{disk.Zlib, disk.Zstd, z, false},
		{disk.NoCodec, disk.NoCodec, data, false},
		{disk.Zlib, disk.Deflate, raw, false},
		{disk.Zlib, disk.Deflate, z[:6], false},
	} {
		if _, ok := Transcode(test.from, test.to, test.stored); ok != test.ok {
			t.Errorf("%v to %v: %v, want %v", test.from, test.to, ok, test.ok)
		}
	}
}

func TestZlibFaults(t *testing.T) {
	data := []byte("some text, some more text")
	z, err := Compress(disk.Zlib, 6, nil, data)
	if err != nil {
		t.Fatal(err)
	}
	sum := bytes.Clone(z)
	sum[len(sum)-1] ^= 1
	dict := bytes.Clone(z)
	binary.BigEndian.PutUint16(dict, 0x7800|0x20|(31-(0x7800|0x20)%31))
	for name, stored := range map[string][]byte{
		"checksum":   sum,
		"header":     append([]byte{0x79, 0x9c}, z[2:]...),
		"dictionary": dict,
		"block type": {0x78, 0x9c, 0x07, 0, 0, 0, 0, 0, 0, 0},
	} {
		if _, _, err := Decompress(disk.Zlib, make([]byte, len(data)), stored); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
	}
}

func TestLevels(t *testing.T) {
	for _, c := range []disk.Codec{disk.Deflate, disk.Zlib, disk.Zstd} {
		for _, level := range []int{-1, 10} {
			if _, err := Compress(c, level, nil, nil); err == nil {
				t.Errorf("%v takes level %d", c, level)
			}
		}
	}
}

func FuzzDecompress(f *testing.F) {
	for _, c := range codecs {
		stored, err := Compress(c, 6, nil, bytes.Repeat([]byte("seed "), 100))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(c), stored)
		f.Add(uint8(c), append(stored, make([]byte, 30)...))
	}
	f.Fuzz(func(t *testing.T, c uint8, stored []byte) {
		dst := make([]byte, 64<<10)
		n, used, err := Decompress(disk.Codec(c), dst, stored)
		if n < 0 || n > len(dst) || used < 0 || used > len(stored) {
			t.Fatalf("n=%d used=%d: %v", n, used, err)
		}
		if err != nil {
			return
		}
		// A stream is what it is without its padding.
		again := make([]byte, n)
		m, used2, err := Decompress(disk.Codec(c), again, stored[:used])
		if err != nil || m != n || used2 != used || !bytes.Equal(again, dst[:n]) {
			t.Fatalf("without padding: n=%d used=%d: %v, not n=%d used=%d", m, used2, err, n, used)
		}
	})
}

func ExampleDecompress() {
	stored, _ := Compress(disk.Zlib, 6, nil, []byte("a grain"))
	dst := make([]byte, 64<<10)
	n, used, err := Decompress(disk.Zlib, dst, append(stored, 0, 0, 0))
	fmt.Println(string(dst[:n]), used == len(stored), err)
	// Output: a grain true <nil>
}

// What can get smaller does, random or not.
func TestRandomUnits(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, 64<<10)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	text := bytes.Repeat([]byte("neither random nor the same; "), 3000)[:64<<10]
	mixed := append(bytes.Clone(random[:32<<10]), text[:32<<10]...)
	letters := bytes.Clone(random)
	for i := range letters {
		letters[i] = 'a' + letters[i]%26
	}
	base64 := bytes.Clone(random)
	for i := range base64 {
		base64[i] = 'A' + base64[i]%64
	}
	for name, c := range map[string]struct {
		data []byte
		most int // packed, in bytes
	}{
		"random":          {random, 64<<10 + 100},
		"repeated random": {bytes.Repeat(random[:8<<10], 8), 12 << 10},
		"text":            {text, 2 << 10},
		"half":            {mixed, 37 << 10},
		"letters":         {letters, 40 << 10},
		"base64":          {base64, 49 << 10},
		"zeroes":          {make([]byte, 64<<10), 1 << 10},
		"short":           {random[:4<<10], 5 << 10},
		"nothing":         {nil, 20},
	} {
		for _, level := range []int{0, 1, 4, 6, 9} {
			packed, err := Compress(disk.Deflate, level, []byte("before"), c.data)
			if err != nil || len(packed) > c.most || !bytes.HasPrefix(packed, []byte("before")) {
				t.Errorf("%s, level %d: %d bytes of %d, %v", name, level, len(packed), len(c.data), err)
				continue
			}
			got := make([]byte, len(c.data))
			if n, used, err := Decompress(disk.Deflate, got, packed[6:]); n != len(got) || used != len(packed)-6 || err != nil || !bytes.Equal(got, c.data) {
				t.Errorf("%s, level %d: back come %d bytes, %v", name, level, n, err)
			}
		}
	}
}
