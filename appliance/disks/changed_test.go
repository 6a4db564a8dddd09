package disks

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/disk/formats"
	"github.com/ovation-project/ovation/internal/atomicfile"
	"github.com/ovation-project/ovation/internal/filestamp"
)

// folderOf unpacks an archive.
func folderOf(t *testing.T, ova string) string {
	t.Helper()
	f, err := os.Open(ova)
	check(t, err)
	defer f.Close()
	dir := t.TempDir()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			return dir
		}
		check(t, err)
		b, err := io.ReadAll(r)
		check(t, err)
		write(t, filepath.Join(dir, h.Name), b)
	}
}

// touched does something with a file until the system takes it for another.
func touched(t *testing.T, path string, do func()) {
	t.Helper()
	before, err := os.Stat(path)
	check(t, err)
	for {
		do()
		now, err := os.Stat(path)
		check(t, err)
		if filestamp.Of(now) != filestamp.Of(before) {
			return
		}
	}
}

// TestChangedBetweenProofAndUse has somebody change a disk's file while it is
// converted, and put back what it was, with its times, before it is looked for:
// what was read of it may not be what was proved.
func TestChangedBetweenProofAndUse(t *testing.T) {
	ova := pack(t, "", "http://www.example.com/raw", []entry{{"disk.img", content()}}, true)
	dir := folderOf(t, ova)
	there := func(path string, at int64) func() {
		return func() {
			info, err := os.Stat(path)
			check(t, err)
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			check(t, err)
			defer f.Close()
			var b [1]byte
			_, err = f.ReadAt(b[:], at)
			check(t, err)
			_, err = f.WriteAt([]byte{b[0] ^ 1}, at)
			check(t, err)
			_, err = f.WriteAt(b[:], at)
			check(t, err)
			check(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
		}
	}
	archive, err := os.ReadFile(ova)
	check(t, err)
	for name, c := range map[string]struct {
		locator, path string
		change        func()
	}{
		"archive":  {ova, ova, there(ova, int64(bytes.Index(archive, content()[100_000:101_000])))},
		"folder":   {dir, filepath.Join(dir, "disk.img"), there(filepath.Join(dir, "disk.img"), 100_000)},
		"replaced": {dir, filepath.Join(dir, "disk.img"), func() { replace(t, filepath.Join(dir, "disk.img")) }},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := appliance.Open(t.Context(), c.locator, appliance.Options{})
			check(t, err)
			defer p.Close()
			src, err := OpenSource(t.Context(), p, "disk1", Options{})
			check(t, err)
			touched(t, c.path, c.change)
			set := atomicfile.New(t.Context(), t.TempDir(), atomicfile.Options{})
			defer set.Abort()
			f, err := formats.ByName("raw")
			check(t, err)
			w, err := f.Create(t.Context(), set, disk.CreateOptions{Name: "out", Size: src.Disk.Size()})
			check(t, err)
			_, err = src.Convert(t.Context(), w, convert.Options{})
			if !errors.Is(err, appliance.ErrAltered) {
				t.Errorf("got %v", err)
			}
			check(t, src.Close())
			if c.locator == dir {
				if _, err := OpenSource(t.Context(), p, "disk1", Options{}); !errors.Is(err, appliance.ErrAltered) {
					t.Errorf("opened again: %v", err)
				}
			}
		})
	}
}

// replace puts another file of the same bytes in a file's place.
func replace(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	check(t, err)
	write(t, path+".new", b)
	check(t, os.Rename(path+".new", path))
}
