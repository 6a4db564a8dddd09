package qcow2

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/disktest"
)

func TestContract(t *testing.T) {
	disktest.Suite(t,
		disktest.Case{Name: "plain", Format: Format{}, Check: true},
		disktest.Case{Name: "plain-512", Format: Format{}, Options: disk.CreateOptions{Unit: 512}, Check: true},
		disktest.Case{Name: "plain-2M", Format: Format{}, Options: disk.CreateOptions{Unit: 2 << 20}, Check: true},
		disktest.Case{Name: "zlib", Format: Format{}, Options: disk.CreateOptions{Compress: true}, Check: true},
		disktest.Case{Name: "zlib-4K", Format: Format{}, Options: disk.CreateOptions{Codec: disk.Deflate, Unit: 4096}, Check: true},
		disktest.Case{Name: "zstd", Format: Format{}, Options: disk.CreateOptions{Codec: disk.Zstd}, Check: true},
	)
}

func TestReadsWhatQEMUMakes(t *testing.T) {
	for _, c := range []struct{ name, options, compress string }{
		{name: "v2", options: "compat=0.10"},
		{name: "v3", options: "compat=1.1"},
		{name: "512", options: "cluster_size=512"},
		{name: "2M", options: "cluster_size=2M"},
		{name: "refcount1", options: "refcount_bits=1"},
		{name: "refcount64", options: "refcount_bits=64"},
		{name: "extended", options: "extended_l2=on,cluster_size=128k"},
		{name: "zlib", options: "compat=0.10", compress: "-c"},
		{name: "zstd", options: "compression_type=zstd", compress: "-c"},
		{name: "preallocated", options: "preallocation=metadata"},
		{name: "datafile", options: "data_file=data.raw"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int64{1 << 20, 3<<20 + 512, 20 << 20} {
				dir := t.TempDir()
				content := disktest.Sample(size)
				if err := os.WriteFile(filepath.Join(dir, "raw"), content, 0o600); err != nil {
					t.Fatal(err)
				}
				args := []string{"convert", "-f", "raw", "-O", "qcow2", "-o", c.options}
				if c.compress != "" {
					args = append(args, c.compress)
				}
				disktest.QEMUImg(t, dir, append(args, "raw", "x.qcow2")...)
				disktest.Opens(t, Format{}, dir, "x.qcow2", content)
			}
		})
	}
}

func open(t *testing.T, dir, name string, opt disk.OpenOptions) (disk.Image, error) {
	t.Helper()
	f, err := disktest.Dir{T: t, Path: dir}.OpenFile(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	return Format{}.Open(context.Background(), f, opt)
}

func TestBackingImages(t *testing.T) {
	dir := t.TempDir()
	content := disktest.Sample(2 << 20)
	if err := os.WriteFile(filepath.Join(dir, "raw"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	disktest.QEMUImg(t, dir, "convert", "-f", "raw", "-O", "qcow2", "-c", "raw", "base.qcow2")
	disktest.QEMUImg(t, dir, "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2", "3M")
	want := append(bytes.Clone(content), make([]byte, 1<<20)...)
	if _, err := open(t, dir, "top.qcow2", disk.OpenOptions{}); !errors.Is(err, disk.ErrOutside) {
		t.Errorf("a backing file that may not be opened: %v", err)
	}
	asked := ""
	top, err := open(t, dir, "top.qcow2", disk.OpenOptions{Backing: func(_ context.Context, name, format string) (disk.Image, error) {
		asked = name + " " + format
		return open(t, dir, name, disk.OpenOptions{})
	}})
	if err != nil {
		t.Fatal(err)
	}
	if asked != "base.qcow2 qcow2" {
		t.Errorf("asked for %q", asked)
	}
	if err := disktest.Same(top, want); err != nil {
		t.Error(err)
	}
	if err := disktest.Walk(top, want); err != nil {
		t.Error(err)
	}
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	disktest.QEMUImg(t, dir, "create", "-q", "-f", "qcow2", "--object", "secret,id=s,data=abc", "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", "locked.qcow2", "1M")
	if _, err := open(t, dir, "locked.qcow2", disk.OpenOptions{}); !errors.Is(err, disk.ErrUnsupported) {
		t.Errorf("an encrypted image: %v", err)
	}
	disktest.QEMUImg(t, dir, "create", "-q", "-f", "qcow2", "x.qcow2", "1M")
	b, err := os.ReadFile(filepath.Join(dir, "x.qcow2"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		at   int
		to   byte
		want error
	}{
		{"an unknown feature", 72, 0x80, disk.ErrUnsupported},
		{"tiny clusters", 23, 8, disk.ErrCorrupt},
		{"huge clusters", 23, 22, disk.ErrCorrupt},
		{"a negative size", 24, 0xff, disk.ErrCorrupt},
		{"a size beyond the L1 table", 26, 0xff, disk.ErrCorrupt},
		{"an L1 table past the end", 42, 0xff, disk.ErrCorrupt},
		{"version 9", 7, 9, disk.ErrUnsupported},
		{"another format", 0, 'X', disk.ErrFormat},
	} {
		altered := bytes.Clone(b)
		altered[c.at] = c.to
		if _, err := (Format{}).Open(context.Background(), disktest.NewMemFile(altered), disk.OpenOptions{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestCheckFindsDamage(t *testing.T) {
	files := disktest.MemFiles{}
	w, err := (Format{}).Create(context.Background(), files, disk.CreateOptions{Name: "x", Size: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteAt(disktest.Sample(1<<20), 0); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(context.Background()); err != nil {
		t.Fatal(err)
	}
	// Two clusters of the disk at one of the file.
	m, err := (Format{}).Open(context.Background(), files["x"], disk.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	table := int64(m.(*Image).l1[0] & offsetMask)
	b := files["x"].Bytes()
	copy(b[table:table+8], b[table+8:table+16])
	m, err = (Format{}).Open(context.Background(), files["x"], disk.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var found []disk.Fault
	if err := m.(disk.Checker).Check(context.Background(), func(f disk.Fault) { found = append(found, f) }); err != nil {
		t.Fatal(err)
	}
	if len(found) != 2 {
		t.Errorf("found %+v, want a cluster used twice and one that leaks", found)
	}
}

func FuzzOpen(f *testing.F) {
	for _, opt := range []disk.CreateOptions{{}, {Compress: true, Unit: 4096}, {Codec: disk.Zstd}} {
		files := disktest.MemFiles{}
		opt.Name, opt.Size = "x", 256<<10
		w, err := Format{}.Create(context.Background(), files, opt)
		if err != nil {
			f.Fatal(err)
		}
		if _, err := w.WriteAt(disktest.Sample(256<<10), 0); err != nil {
			f.Fatal(err)
		}
		if err := w.Finish(context.Background()); err != nil {
			f.Fatal(err)
		}
		f.Add(files["x"].Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		disktest.Hostile(t, Format{}, b)
		if img, err := (Format{}).Open(t.Context(), bytes.NewReader(b), disk.OpenOptions{}); err == nil {
			if n, _ := img.(disk.StateHolder).SavedStates(); n < 0 || n > maxSnapshots {
				t.Errorf("%d snapshots of running machines", n)
			}
			_ = img.Close()
		}
	})
}
