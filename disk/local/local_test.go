package local

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/ovation-project/ovation/disk"
)

var (
	_ disk.LocalFile = (*File)(nil)
	_ disk.Files     = (*Folder)(nil)
)

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a"), "12345")
	f, err := Open(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Size() != 5 {
		t.Errorf("size %d", f.Size())
	}
	if _, err := Open(dir); err == nil {
		t.Error("a folder is opened as a file")
	}
	if _, err := Open(filepath.Join(dir, "b")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestFolderKeepsInside(t *testing.T) {
	outer := t.TempDir()
	dir := filepath.Join(outer, "package")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(outer, "secret"), "secret")
	write(t, filepath.Join(dir, "extent"), "extent")
	for link, to := range map[string]string{"up": "../secret", "far": filepath.Join(outer, "secret"), "loop": "loop", "near": "extent"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	d, err := OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, name := range []string{"../secret", filepath.Join(outer, "secret"), "up", "far", "loop", "", ".."} {
		if _, err := d.OpenFile(t.Context(), name); !errors.Is(err, disk.ErrOutside) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"extent", "near", "./extent"} {
		f, err := d.OpenFile(t.Context(), name)
		if err != nil || f.Size() != 6 {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := d.OpenFile(t.Context(), "missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := d.OpenFile(t.Context(), "."); err == nil {
		t.Error("the folder is opened as a file")
	}
}
