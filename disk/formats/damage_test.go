package formats_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/check"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/disk/formats"
	"github.com/ovation-project/ovation/disk/local"
	"github.com/ovation-project/ovation/internal/atomicfile"
	"github.com/ovation-project/ovation/internal/diskmodel"
)

// stored makes an image of the bytes in a file.
func stored(t *testing.T, raw, format, subformat string, compress bool) []byte {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	src, err := local.Open(raw)
	must(err)
	defer src.Close()
	in, err := formats.Open(t.Context(), src, "raw", disk.OpenOptions{})
	must(err)
	f, err := formats.ByName(format)
	must(err)
	dir := t.TempDir()
	set := atomicfile.New(t.Context(), dir, atomicfile.Options{NoSync: true})
	defer set.Abort()
	w, err := f.Create(t.Context(), set, disk.CreateOptions{Name: "out", Size: in.Size(), Subformat: subformat, Compress: compress})
	must(err)
	_, err = convert.Run(t.Context(), in, w, convert.Options{})
	must(err)
	must(set.Commit(t.Context()))
	b, err := os.ReadFile(filepath.Join(dir, "out"))
	must(err)
	return b
}

// found says whether damage is: the image is refused, or faults are told. Where
// neither is, same says whether the disk is what it was, and bare how much of it has
// no checksum.
func found(t *testing.T, format string, file, want []byte) (found, same bool, bare int64) {
	t.Helper()
	ctx := context.Background()
	img, err := formats.Open(ctx, struct{ *bytes.Reader }{bytes.NewReader(file)}, format, disk.OpenOptions{})
	if err != nil {
		return true, false, 0
	}
	defer img.Close()
	res, err := check.Run(ctx, img, check.Options{Workers: 1}, func(disk.Fault) {})
	if err != nil || res.Faults > 0 {
		return true, false, 0
	}
	if img.Size() != int64(len(want)) {
		return false, false, res.Unproved
	}
	got := make([]byte, len(want))
	if _, err := img.ReadAt(got, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Errorf("%s: no fault is told, and it can't be read: %v", format, err)
	}
	return false, bytes.Equal(got, want), res.Unproved
}

// TestDamage flips bits in what images hold besides plain data, and cuts images
// short: it is found, or the disk is what it was. What can't be found is said to have no checksum, but for
// a state in VHDX's table of blocks, of which there is no second copy.
func TestDamage(t *testing.T) {
	want := make([]byte, 6<<20)
	r := rand.New(rand.NewPCG(1, 2))
	for at := 0; at < len(want); at += 3 << 19 {
		diskmodel.Text(r, want[at:at+1<<20])
	}
	raw := filepath.Join(t.TempDir(), "raw")
	if err := os.WriteFile(raw, want, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		format, subformat string
		compress          bool
	}{
		{"qcow2", "", false}, {"qcow2", "", true}, {"vmdk", "monolithicSparse", false}, {"vmdk", "streamOptimized", true},
		{"vdi", "", false}, {"vpc", "", false}, {"vhdx", "", false},
	} {
		t.Run(cmp.Or(c.subformat, c.format), func(t *testing.T) {
			file := stored(t, raw, c.format, c.subformat, c.compress)
			img, err := formats.Open(t.Context(), struct{ *bytes.Reader }{bytes.NewReader(file)}, c.format, disk.OpenOptions{})
			if err != nil {
				t.Fatal(err)
			}
			whole := append(bytes.Clone(want), make([]byte, img.Size()-int64(len(want)))...)
			plain := make([]bool, len(file))
			for at := int64(0); at < img.Size(); {
				e, err := img.Extent(t.Context(), at)
				if err != nil {
					t.Fatal(err)
				}
				if e.Kind == disk.Data {
					for i := range e.Length {
						plain[e.FileOffset+i] = true
					}
				}
				at = e.End()
			}
			var places []int // of what says something, mostly
			for i, b := range file {
				if !plain[i] && (b != 0 || r.IntN(8192) == 0) {
					places = append(places, i)
				}
			}
			finds := 0
			for range 120 {
				at, bit := places[r.IntN(len(places))], byte(1)<<r.IntN(8)
				file[at] ^= bit
				found, same, bare := found(t, c.format, file, whole)
				if found {
					finds++
				}
				if !found && !same && !(c.compress && bare > 0) && !(c.format == "vhdx" && at >= 1<<20 && at%8 == 0) {
					t.Errorf("bit %#x of byte %d is another (%#x), and nobody finds it", bit, at, file[at])
				}
				file[at] ^= bit
			}
			if finds == 0 {
				t.Error("nothing was found at all")
			}
			for range 40 {
				n := r.IntN(len(file))
				if found, same, _ := found(t, c.format, file[:n], whole); !found && !same {
					t.Errorf("cut to %d of %d bytes, and nobody finds it", n, len(file))
				}
			}
		})
	}
}
