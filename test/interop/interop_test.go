// Package interop holds Ovation's disk formats against QEMU's: every format and
// subformat that both know, both ways, on images that QEMU itself has written
// to here and there.
//
// "go test" takes a part of the matrix; with OVATION_SOAK=1 (make soak) it
// takes all of it, and large disks.
package interop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/check"
	"github.com/ovation-project/ovation/disk/compare"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/disk/formats"
	"github.com/ovation-project/ovation/disk/local"
	"github.com/ovation-project/ovation/internal/atomicfile"
	"github.com/ovation-project/ovation/internal/testenv"
)

var soak = os.Getenv("OVATION_SOAK") != ""

// run runs a program in a folder; it must succeed.
func run(t testing.TB, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testenv.NeedTool(t, name), args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	// qemu-io says some failures and exits with 0 all the same.
	if err != nil || bytes.Contains(out, []byte("failed")) {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// writes has QEMU write to an image: data of three kinds, zeroes and holes, at
// places and in an order that only the seed knows, over each other too.
func writes(t testing.TB, dir, name, format string, size int64, r *rand.Rand, count int) {
	t.Helper()
	args := []string{"-f", format}
	for range count {
		length := (1 + r.Int64N(400)) * disk.SectorSize
		off := r.Int64N(size/disk.SectorSize) * disk.SectorSize
		if r.IntN(8) == 0 {
			off = size/disk.SectorSize*disk.SectorSize - length // up to the end
		}
		off = max(0, min(off, size-length)) / disk.SectorSize * disk.SectorSize
		length = min(length, size/disk.SectorSize*disk.SectorSize)
		what := "write -s noise"
		switch r.IntN(8) {
		case 0:
			what = "write -z"
		case 1:
			what = "write -z -u"
		case 2:
			what = "discard"
		case 3, 4:
			what = fmt.Sprintf("write -P %d", 1+r.IntN(255))
		case 5:
			what = "write -s text"
		}
		args = append(args, "-c", fmt.Sprintf("%s %d %d", what, off, length))
	}
	run(t, dir, "qemu-io", append(args, name)...)
}

// patterns writes the files that writes takes data from.
func patterns(t testing.TB, dir string, r *rand.Rand) {
	t.Helper()
	noise := make([]byte, 100_000)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	text := bytes.Repeat([]byte("what compresses well, and not into one byte; "), 2000)
	for name, b := range map[string][]byte{"noise": noise, "text": text} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// original is an image that QEMU made, and what it holds as QEMU reads it.
type original struct {
	dir, name string
	format    string
	raw       string // in dir
}

// make has QEMU make an image of a disk of size bytes.
func (v theirs) make(t testing.TB, size int64, seed uint64) original {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, uint64(size)))
	o := original{dir: t.TempDir(), name: "theirs" + v.ending(), format: v.format, raw: "truth.raw"}
	patterns(t, o.dir, r)
	create := []string{"create", "-q", "-f", v.format}
	if v.options != "" {
		create = append(create, "-o", v.options)
	}
	switch {
	case v.packed || v.convert:
		run(t, o.dir, "qemu-img", "create", "-q", "-f", "raw", "before.raw", fmt.Sprint(size))
		writes(t, o.dir, "before.raw", "raw", size, r, 25)
		args := []string{"convert", "-f", "raw", "-O", v.format}
		if v.packed {
			args = append(args, "-c")
		}
		if v.options != "" {
			args = append(args, "-o", v.options)
		}
		run(t, o.dir, "qemu-img", append(args, "before.raw", o.name)...)
		if v.packed { // some clusters are written over
			writes(t, o.dir, o.name, v.format, size, r, 3)
		}
	case v.below != "":
		below, smaller := "below."+v.below, max(1, size*2/3/disk.SectorSize)*disk.SectorSize
		run(t, o.dir, "qemu-img", "create", "-q", "-f", v.below, below, fmt.Sprint(smaller))
		writes(t, o.dir, below, v.below, smaller, r, 15)
		create = append(create, "-b", below, "-F", v.below, o.name)
		if v.format != "vmdk" { // whose deltas are as large as what is below
			create = append(create, fmt.Sprint(size))
		} else {
			size = smaller
		}
		run(t, o.dir, "qemu-img", create...)
		writes(t, o.dir, o.name, v.format, size, r, 10)
	default:
		run(t, o.dir, "qemu-img", append(create, o.name, fmt.Sprint(size))...)
		writes(t, o.dir, o.name, v.format, o.size(t), r, 25)
	}
	run(t, o.dir, "qemu-img", "convert", "-f", v.format, "-O", "raw", o.name, o.raw)
	return o
}

// size is what QEMU made of a size that was asked for: VHD rounds up to its
// geometry.
func (o original) size(t testing.TB) int64 {
	m, done := o.open(t, o.name, o.format)
	defer done()
	return m.Size()
}

// open opens an image of the folder.
func (o original) open(t testing.TB, name, format string) (disk.Image, func()) {
	t.Helper()
	files, err := local.OpenFolder(o.dir)
	if err != nil {
		t.Fatal(err)
	}
	f, err := files.OpenFile(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if format != "raw" {
		format = "" // which its bytes have to show
	}
	m, err := formats.Open(t.Context(), f, format, disk.OpenOptions{Files: files})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return m, func() {
		if err := errors.Join(m.Close(), files.Close()); err != nil {
			t.Error(err)
		}
	}
}

// same holds an image against what QEMU reads of the original.
func (o original) same(t testing.TB, m disk.Image, strict bool) {
	t.Helper()
	truth, done := o.open(t, o.raw, "raw")
	defer done()
	r, err := compare.Run(t.Context(), m, truth, compare.Options{Strict: strict})
	if err != nil || !r.Equal {
		t.Fatalf("another disk than QEMU reads, from byte %d on (%d bytes, %d in truth): %v", r.Offset, m.Size(), truth.Size(), err)
	}
}

// sound checks an image in every block.
func sound(t testing.TB, m disk.Image) {
	t.Helper()
	_, err := check.Run(t.Context(), m, check.Options{}, func(f disk.Fault) { t.Errorf("a fault in a sound image: %+v", f) })
	if err != nil {
		t.Fatal(err)
	}
}

// make converts an image, and gives the path of the result.
func (v ours) make(t testing.TB, m disk.Image, dir string, workers int) string {
	t.Helper()
	f, err := formats.ByName(v.format)
	if err != nil {
		t.Fatal(err)
	}
	opt := disk.CreateOptions{Name: v.file(), Subformat: v.subformat, Unit: v.unit, Compress: v.compress, Identity: [16]byte{1, 2, 3}}
	if v.zstd {
		opt.Codec = disk.Zstd
	}
	set := atomicfile.New(t.Context(), dir, atomicfile.Options{NoSync: true})
	defer set.Abort()
	w, err := f.Create(t.Context(), set, convert.Suit(t.Context(), f, m, opt, true))
	if err != nil {
		t.Fatalf("%s: %v", v.name, err)
	}
	if _, err := convert.Run(t.Context(), m, w, convert.Options{Workers: workers}); err != nil {
		t.Fatalf("%s: %v", v.name, err)
	}
	if err := set.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, v.file())
}

// digests are those of all files of a folder.
func digests(t testing.TB, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = fmt.Sprintf("%x", h.Sum(nil))
	}
	return all
}

// there converts an original to one of our images, with few workers and with
// many, which must not make a difference, and has QEMU judge it.
func (o original) there(t testing.TB, v ours) {
	t.Helper()
	m, done := o.open(t, o.name, o.format)
	defer done()
	one, many := t.TempDir(), t.TempDir()
	path := v.make(t, m, one, 1)
	v.make(t, m, many, 5)
	if a, b := digests(t, one), digests(t, many); !mapsEqual(a, b) {
		t.Errorf("%s: with one worker %v, with five %v", v.name, a, b)
	}
	run(t, o.dir, "qemu-img", "compare", "-f", v.format, "-F", "raw", path, o.raw)
	if v.checked {
		run(t, o.dir, "qemu-img", "check", "-q", "-f", v.format, path)
	}
	made := original{dir: one, name: v.file(), format: v.format}
	back, close := made.open(t, made.name, made.format)
	defer close()
	sound(t, back)
	o.same(t, back, false)
}

func mapsEqual(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

// sizes are odd: a partial cluster, grain or block at the end in all formats,
// or a single sector.
func sizes() []int64 {
	if !soak {
		return []int64{5<<20 + 3*disk.SectorSize}
	}
	return []int64{disk.SectorSize, 5<<20 + 3*disk.SectorSize, 64<<20 + disk.SectorSize}
}

// TestTheirs reads what QEMU makes, in all its variants, and converts it to
// what Ovation makes: to all, or to a few that change from one variant to the
// next, so that each has its turn.
func TestTheirs(t *testing.T) {
	testenv.NeedTool(t, "qemu-io")
	targets := made()
	for i, v := range all() {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			for j, size := range sizes() {
				o := v.make(t, size, uint64(i)+1)
				m, done := o.open(t, o.name, o.format)
				o.same(t, m, true)
				sound(t, m)
				done()
				some := targets
				if !soak {
					some = nil
					for k := range 2 {
						some = append(some, targets[(i*2+j+k)%len(targets)])
					}
				}
				for _, target := range some {
					o.there(t, target)
				}
			}
		})
	}
}

// TestBack has QEMU convert what Ovation makes to each of its own variants, and
// reads that.
func TestBack(t *testing.T) {
	testenv.NeedTool(t, "qemu-io")
	variants := slices.DeleteFunc(all(), func(v theirs) bool { return v.below != "" })
	for i, v := range made() {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			for j, size := range sizes() {
				o := theirs{format: "raw"}.make(t, size, uint64(100+i))
				m, done := o.open(t, o.name, "raw")
				path := v.make(t, m, t.TempDir(), 0)
				done()
				some := variants
				if !soak {
					some = nil
					for k := range 2 {
						some = append(some, variants[(i*2+j+k)%len(variants)])
					}
				}
				for _, their := range some {
					args := []string{"convert", "-f", v.format, "-O", their.format}
					if their.packed {
						args = append(args, "-c")
					}
					if their.options != "" {
						args = append(args, "-o", their.options)
					}
					back := original{dir: t.TempDir(), name: "back" + their.ending(), format: their.format}
					run(t, back.dir, "qemu-img", append(args, path, back.name)...)
					m, done := back.open(t, back.name, back.format)
					sound(t, m)
					o.same(t, m, false)
					done()
				}
			}
		})
	}
}

// TestRefused has images of formats that only QEMU knows: they are refused by
// name, and not taken for raw disks.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	for _, format := range []string{"qcow", "qed", "parallels"} {
		run(t, dir, "qemu-img", "create", "-q", "-f", format, "x."+format, "4M")
		f, err := local.Open(filepath.Join(dir, "x."+format))
		if err != nil {
			t.Fatal(err)
		}
		_, err = formats.Open(context.Background(), f, "", disk.OpenOptions{})
		if !errors.Is(err, disk.ErrUnsupported) {
			t.Errorf("%s: %v", format, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}
