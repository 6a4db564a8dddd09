package codec

import (
	"bytes"
	stdadler "hash/adler32"
	"math/rand/v2"
	"testing"
)

func TestAdler32(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 3<<20)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	ones := bytes.Repeat([]byte{0xff}, len(noise))
	for _, n := range []int{0, 1, 7, 8, 175, 176, 177, 352, 5551, 5552, 5553, 65535, 65536, 176 << 10, 176<<10 + 1, len(noise)} {
		for _, b := range [][]byte{noise[:n], ones[:n], make([]byte, n)} {
			if got, want := adler32(b), stdadler.Checksum(b); got != want {
				t.Fatalf("%d bytes: %08x, want %08x", n, got, want)
			}
		}
	}
}

func BenchmarkAdler32(b *testing.B) {
	data := make([]byte, 64<<10)
	b.SetBytes(int64(len(data)))
	b.Run("own", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			adler32(data)
		}
	})
	b.Run("library", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			stdadler.Checksum(data)
		}
	})
}
