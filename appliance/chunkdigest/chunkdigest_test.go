package chunkdigest_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ovation-project/ovation/appliance/chunkdigest"
)

func content(size int64) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

func listOf(files map[string][]byte, names ...string) *chunkdigest.List {
	l := &chunkdigest.List{}
	for _, name := range names {
		h := chunkdigest.NewHasher(name)
		for b := files[name]; len(b) > 0; {
			n := min(len(b), 70001)
			_, _ = h.Write(b[:n])
			b = b[n:]
		}
		l.Files = append(l.Files, h.File())
	}
	return l
}

func TestWrittenAndReadIsTheSame(t *testing.T) {
	files := map[string][]byte{"a b.vmdk": content(3<<20 + 1), "empty": nil, "whole": content(2 << 20), "small": content(1)}
	l := listOf(files, "a b.vmdk", "empty", "whole", "small")
	data := l.Marshal()
	if got, want := int64(len(data)), chunkdigest.Size([]string{"a b.vmdk", "empty", "whole", "small"}, []int64{3<<20 + 1, 0, 2 << 20, 1}); got != want {
		t.Errorf("%d bytes, and Size says %d", got, want)
	}
	back, err := chunkdigest.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(l, back); d != "" {
		t.Error(d)
	}
	for name, b := range files {
		f := back.Lookup(name)
		for i := int64(0); i*chunkdigest.Unit < int64(len(b)); i++ {
			if err := f.Prove(i, b[i<<20:min(int64(len(b)), (i+1)<<20)]); err != nil {
				t.Error(err)
			}
		}
	}
	if back.Lookup("none") != nil {
		t.Error("a file that is not there was found")
	}
}

// TestEveryFlippedBitIsFoundInItsChunk flips a bit at each of 1,000 places.
func TestEveryFlippedBitIsFoundInItsChunk(t *testing.T) {
	b := content(5<<20 + 4711)
	f := listOf(map[string][]byte{"d": b}, "d").Lookup("d")
	r := rand.New(rand.NewPCG(7, 7))
	for range 1000 {
		at := r.Int64N(int64(len(b)))
		was := b[at]
		b[at] ^= 1 << r.IntN(8)
		chunk := at / chunkdigest.Unit
		first := chunk * chunkdigest.Unit
		err := f.Prove(chunk, b[first:min(int64(len(b)), first+chunkdigest.Unit)])
		var m *chunkdigest.MismatchError
		if !errors.As(err, &m) || m.Chunk != chunk || at < m.First || at > m.Last {
			t.Fatalf("a bit of byte %d is not found: %v", at, err)
		}
		b[at] = was
	}
}

func TestParseRefuses(t *testing.T) {
	head := "ovation-chunks 1 SHA256 1048576\n"
	sum := strings.Repeat("0a", 32) + "\n"
	for name, text := range map[string]string{
		"empty":          "",
		"other":          "SHA256(x)= 00\n",
		"later version":  "ovation-chunks 2 SHA256 1048576\n",
		"too few":        head + "file 1048577 a\n" + sum,
		"too many":       head + "file 1 a\n" + sum + sum,
		"short digest":   head + "file 1 a\n" + sum[:60] + "\n",
		"upper case":     head + "file 1 a\n" + strings.ToUpper(sum),
		"not hex":        head + "file 1 a\n" + strings.Replace(sum, "0a", "zz", 1),
		"no name":        head + "file 0 \n",
		"negative":       head + "file -1 a\n",
		"sign":           head + "file +1 a\n" + sum,
		"twice":          head + "file 0 a\nfile 0 a\n",
		"size of an EiB": head + fmt.Sprintf("file %d a\n", int64(1)<<60),
		"largest size":   head + "file 9223372036854775807 a\n" + sum,
		"carriage":       head + "file 0 a\r\n",
	} {
		if l, err := chunkdigest.Parse([]byte(text)); !errors.Is(err, chunkdigest.ErrFormat) {
			t.Errorf("%s: %v, %v", name, l, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(listOf(map[string][]byte{"a": content(5), "b": content(1<<20 + 1)}, "a", "b").Marshal())
	f.Add([]byte("ovation-chunks 1 SHA256 1048576\nfile 9223372036854775807 a\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := chunkdigest.Parse(data)
		if err != nil {
			return
		}
		if again := l.Marshal(); !bytes.Equal(bytes.TrimSuffix(again, []byte("\n")), bytes.TrimSuffix(data, []byte("\n"))) {
			t.Errorf("%q was read, and is written as %q", data, again)
		}
	})
}

func ExampleFile_Prove() {
	h := chunkdigest.NewHasher("disk.raw")
	_, _ = h.Write([]byte("what the disk holds"))
	f := h.File()
	fmt.Println(f.Prove(0, []byte("what the disk holds")))
	fmt.Println(f.Prove(0, []byte("what the disk h0lds")))
	// Output:
	// <nil>
	// disk.raw: chunk 0 (bytes 0 to 18) is not what its digest says
}
