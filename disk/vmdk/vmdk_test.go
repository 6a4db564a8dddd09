package vmdk

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/disktest"
)

func TestContract(t *testing.T) {
	disktest.Suite(t,
		disktest.Case{Name: streamOptimized, Format: Format{}},
		disktest.Case{Name: "small-grains", Format: Format{}, Options: disk.CreateOptions{Subformat: streamOptimized, Unit: 4096}},
		disktest.Case{Name: monolithicSparse, Format: Format{}, Options: disk.CreateOptions{Subformat: monolithicSparse}, Check: true},
		disktest.Case{Name: monolithicFlat, Format: Format{}, Options: disk.CreateOptions{Subformat: monolithicFlat}},
		disktest.Case{Name: twoGbMaxExtentSparse, Format: Format{}, Options: disk.CreateOptions{Subformat: twoGbMaxExtentSparse}},
		disktest.Case{Name: twoGbMaxExtentFlat, Format: Format{}, Options: disk.CreateOptions{Subformat: twoGbMaxExtentFlat}},
		disktest.Case{Name: vmfs, Format: Format{}, Options: disk.CreateOptions{Subformat: vmfs}},
	)
}

func TestReadsWhatQEMUMakes(t *testing.T) {
	for _, c := range []struct{ name, options string }{
		{streamOptimized, "subformat=streamOptimized"},
		{monolithicSparse, "subformat=monolithicSparse"},
		{"zeroed grains", "subformat=monolithicSparse,zeroed_grain=on"},
		{monolithicFlat, "subformat=monolithicFlat"},
		{twoGbMaxExtentSparse, "subformat=twoGbMaxExtentSparse"},
		{twoGbMaxExtentFlat, "subformat=twoGbMaxExtentFlat"},
		{"version 6", "compat6=on"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int64{1 << 20, 3<<20 + 512, 40 << 20} {
				dir := t.TempDir()
				content := disktest.Sample(size)
				if err := os.WriteFile(filepath.Join(dir, "raw"), content, 0o600); err != nil {
					t.Fatal(err)
				}
				disktest.QEMUImg(t, dir, "convert", "-f", "raw", "-O", "vmdk", "-o", c.options, "raw", "x.vmdk")
				disktest.Opens(t, Format{}, dir, "x.vmdk", content)
			}
		})
	}
}

// create makes a disk of content in memory.
func create(t testing.TB, subformat string, content []byte, name string) disktest.MemFiles {
	t.Helper()
	files := disktest.MemFiles{}
	w, err := Format{}.Create(context.Background(), files, disk.CreateOptions{Name: name, Subformat: subformat, Size: int64(len(content))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteAt(content, 0); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(context.Background()); err != nil {
		t.Fatal(err)
	}
	return files
}

func open(files disktest.MemFiles, name string, parent disk.Image) (disk.Image, error) {
	return Format{}.Open(context.Background(), files[name], disk.OpenOptions{Files: files, Parent: parent})
}

// qemuStream gives a streamOptimized disk of content as QEMU makes it.
func qemuStream(t *testing.T, dir string, content []byte) []byte {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "raw"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	disktest.QEMUImg(t, dir, "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", "raw", "x.vmdk")
	b, err := os.ReadFile(filepath.Join(dir, "x.vmdk"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestExtentsOver2GiB(t *testing.T) {
	const size = 5 << 30
	dir := t.TempDir()
	out := disktest.Dir{T: t, Path: dir}
	w, err := Format{}.Create(context.Background(), out, disk.CreateOptions{Name: "x.vmdk", Subformat: twoGbMaxExtentSparse, Size: size})
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("across the border "), 1000)
	for _, at := range []int64{0, twoGbExtent - 5000, 2*twoGbExtent - 512, size - int64(len(data))} {
		if _, err := w.WriteAt(data, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Finish(context.Background()); err != nil {
		t.Fatal(err)
	}
	disktest.QEMUImg(t, dir, "convert", "-f", "vmdk", "-O", "raw", "x.vmdk", "y.raw")
	f, err := out.OpenFile(context.Background(), "x.vmdk")
	if err != nil {
		t.Fatal(err)
	}
	m, err := Format{}.Open(context.Background(), f, disk.OpenOptions{Files: out})
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.Open(filepath.Join(dir, "y.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	for _, at := range []int64{0, twoGbExtent - 5000, 2*twoGbExtent - 512, size - int64(len(data))} {
		a, b := make([]byte, len(data)), make([]byte, len(data))
		if _, err := m.ReadAt(a, at); err != nil {
			t.Fatal(err)
		}
		if _, err := theirs.ReadAt(b, at); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, data) || !bytes.Equal(b, data) {
			t.Errorf("at %d: we read it right: %v, QEMU: %v", at, bytes.Equal(a, data), bytes.Equal(b, data))
		}
	}
	if len(m.(disk.Informer).Info().Files) != 3 {
		t.Errorf("extents %v", m.(disk.Informer).Info().Files)
	}
}

func TestParentsAreChecked(t *testing.T) {
	dir := t.TempDir()
	content := disktest.Sample(2 << 20)
	if err := os.WriteFile(filepath.Join(dir, "raw"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	disktest.QEMUImg(t, dir, "convert", "-f", "raw", "-O", "vmdk", "raw", "base.vmdk")
	disktest.QEMUImg(t, dir, "create", "-q", "-f", "vmdk", "-b", "base.vmdk", "-F", "vmdk", "top.vmdk")
	d := disktest.Dir{T: t, Path: dir}
	openAt := func(name string, opt disk.OpenOptions) (disk.Image, error) {
		f, err := d.OpenFile(context.Background(), name)
		if err != nil {
			t.Fatal(err)
		}
		opt.Files = d
		return Format{}.Open(context.Background(), f, opt)
	}
	below, err := openAt("base.vmdk", disk.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openAt("top.vmdk", disk.OpenOptions{}); !errors.Is(err, disk.ErrOutside) {
		t.Errorf("a delta without its parent: %v", err)
	}
	top, err := openAt("top.vmdk", disk.OpenOptions{Parent: below})
	if err != nil {
		t.Fatal(err)
	}
	if err := disktest.Same(top, content); err != nil {
		t.Error(err)
	}
	if err := disktest.Walk(top, content); err != nil {
		t.Error(err)
	}
	other, err := open(create(t, monolithicSparse, content, "o.vmdk"), "o.vmdk", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openAt("top.vmdk", disk.OpenOptions{Parent: other}); !errors.Is(err, disk.ErrCorrupt) || !strings.Contains(err.Error(), "content ID") {
		t.Errorf("a delta of another disk: %v", err)
	}
}

// TestParentsOfAnotherMachine are looked for beside the delta, by the last part
// of the path that they had there.
func TestParentsOfAnotherMachine(t *testing.T) {
	for hint, want := range map[string]string{
		"base.vmdk":                        "base.vmdk",
		"../base/base.vmdk":                "../base/base.vmdk",
		"/vmfs/volumes/4f8c/vm/base.vmdk":  "base.vmdk",
		`C:\Virtual Machines\vm\base.vmdk`: "base.vmdk",
		`\\server\share\base.vmdk`:         "base.vmdk",
		"a:b":                              "a:b",
	} {
		asked := ""
		text := "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=00000002\ncreateType=\"monolithicFlat\"\nparentFileNameHint=\"" + hint + "\"\nRW 1 ZERO\n"
		_, err := Format{}.Open(t.Context(), disktest.NewMemFile([]byte(text)), disk.OpenOptions{Backing: func(_ context.Context, name, _ string) (disk.Image, error) {
			asked = name
			return nil, disk.ErrOutside
		}})
		if asked != want || !errors.Is(err, disk.ErrOutside) {
			t.Errorf("%s: asked for %q, %v", hint, asked, err)
		}
	}
}

func TestDescriptorsThatPointOutside(t *testing.T) {
	for _, name := range []string{"/etc/passwd", "../x", "http://example.com/x", "nbd:localhost:1"} {
		text := "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\nRW 1 FLAT \"" + name + "\" 0\n"
		files := disktest.MemFiles{"x": disktest.NewMemFile([]byte(text))}
		if _, err := open(files, "x", nil); !errors.Is(err, disk.ErrOutside) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	for _, sub := range []string{streamOptimized, monolithicSparse} {
		f.Add(create(f, sub, disktest.Sample(256<<10), "x")["x"].Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) { disktest.Hostile(t, Format{}, b) })
}

func FuzzDescriptor(f *testing.F) {
	f.Add("# Disk DescriptorFile\nversion=1\nCID=12\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\nRW 4 FLAT \"x-flat.vmdk\" 0\nddb.adapterType = \"ide\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parseDescriptor(text)
		if err != nil {
			if !errors.Is(err, disk.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		for _, e := range d.extents {
			if e.sectors < 0 || e.offset < 0 {
				t.Fatalf("extent %+v", e)
			}
		}
	})
}

// counting counts what is read of a file.
type counting struct {
	disk.File
	bytes int64
}

func (c *counting) ReadAt(b []byte, off int64) (int, error) {
	c.bytes += int64(len(b))
	return c.File.ReadAt(b, off)
}

// TestMapReadsTablesOnly says that a map of a disk that is far away needs nothing
// of its grains.
func TestMapReadsTablesOnly(t *testing.T) {
	const grain, grains = 64 << 10, 300
	content := make([]byte, 2*grains*grain)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range grains {
		for k := range grain {
			content[2*i*grain+k] = byte(r.Uint32())
		}
	}
	f := &counting{File: create(t, streamOptimized, content, "x.vmdk")["x.vmdk"]}
	img, err := Format{}.Open(t.Context(), f, disk.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	compressed := int64(0)
	for off := int64(0); off < img.Size(); {
		e, err := disk.Map(t.Context(), img, off)
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == disk.Compressed {
			compressed += e.Length
		}
		off = e.End()
	}
	if compressed != grains*grain {
		t.Errorf("%d bytes are compressed, of %d", compressed, grains*grain)
	}
	if most := int64(512 << 10); f.bytes > most {
		t.Errorf("%d bytes of %d were read, more than %d", f.bytes, f.Size(), most)
	}
}
