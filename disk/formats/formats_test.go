package formats_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/disktest"
	"github.com/ovation-project/ovation/disk/formats"
)

func TestProbing(t *testing.T) {
	for _, f := range formats.All() {
		files := disktest.MemFiles{}
		w, err := f.Create(context.Background(), files, disk.CreateOptions{Name: "x", Size: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Finish(context.Background()); err != nil {
			t.Fatal(err)
		}
		m, err := formats.Open(context.Background(), files["x"], "", disk.OpenOptions{Files: files})
		if err != nil {
			t.Fatalf("%s: %v", f.Name(), err)
		}
		if got := m.(disk.Informer).Info().Format; got != f.Name() || m.Size() != 1<<20 {
			t.Errorf("%s is taken for %s of %d bytes", f.Name(), got, m.Size())
		}
		for _, other := range formats.All() { // each tells the others' images from its own
			if other.Name() == f.Name() || other.Name() == "raw" {
				continue
			}
			if _, err := formats.Open(context.Background(), files["x"], other.Name(), disk.OpenOptions{Files: files}); !errors.Is(err, disk.ErrFormat) {
				t.Errorf("%s as %s: %v", f.Name(), other.Name(), err)
			}
		}
	}
}

func TestNamesAndURIs(t *testing.T) {
	for uri, want := range map[string]string{
		"http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized": "vmdk",
		"http://www.vmware.com/interfaces/specifications/vmdk.html#somethingNew":    "vmdk",
		"http://www.vmware.com/specifications/VMDK.html#sparse":                     "vmdk",
		"http://www.gnome.org/~markmc/qcow-image-format.html":                       "qcow2",
		"http://www.ecma-international.org/publications/standards/Ecma-119.htm":     "raw",
	} {
		if f, ok := formats.ByURI(uri); !ok || f.Name() != want {
			t.Errorf("ByURI(%q): %v", uri, ok)
		}
	}
	if _, ok := formats.ByURI("http://example.com/"); ok {
		t.Error("an unknown URI has a format")
	}
	if f, ok := formats.ByExtension("A.VMDK"); !ok || f.Name() != "vmdk" {
		t.Error(".VMDK is not known")
	}
	if _, err := formats.ByName("floppy"); !errors.Is(err, disk.ErrUnsupported) {
		t.Errorf("ByName: %v", err)
	}
}

// TestBackingChain has a qcow2 image over a VMDK: neither knows the other.
func TestBackingChain(t *testing.T) {
	dir := t.TempDir()
	content := disktest.Sample(1 << 20)
	if err := os.WriteFile(filepath.Join(dir, "raw"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	disktest.QEMUImg(t, dir, "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", "raw", "base.vmdk")
	disktest.QEMUImg(t, dir, "create", "-q", "-f", "qcow2", "-b", "base.vmdk", "-F", "vmdk", "top.qcow2")
	d := disktest.Dir{T: t, Path: dir}
	f, err := d.OpenFile(context.Background(), "top.qcow2")
	if err != nil {
		t.Fatal(err)
	}
	m, err := formats.Open(context.Background(), f, "", disk.OpenOptions{Files: d})
	if err != nil {
		t.Fatal(err)
	}
	if err := disktest.Same(m, content); err != nil {
		t.Error(err)
	}
	if _, err := formats.Open(context.Background(), f, "", disk.OpenOptions{}); !errors.Is(err, disk.ErrOutside) {
		t.Errorf("without files: %v", err)
	}
}

func TestABackingFileThatIsTheImageItself(t *testing.T) {
	dir := t.TempDir()
	disktest.QEMUImg(t, dir, "create", "-q", "-f", "qcow2", "a.qcow2", "1M")
	disktest.QEMUImg(t, dir, "rebase", "-u", "-f", "qcow2", "-b", "a.qcow2", "-F", "qcow2", "a.qcow2")
	d := disktest.Dir{T: t, Path: dir}
	f, err := d.OpenFile(context.Background(), "a.qcow2")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := formats.Open(context.Background(), f, "", disk.OpenOptions{Files: d}); !errors.Is(err, disk.ErrUnsupported) {
		t.Errorf("a loop of backing images: %v", err)
	}
}

func TestStreams(t *testing.T) {
	files := disktest.MemFiles{}
	f, err := formats.ByName("qcow2")
	if err != nil {
		t.Fatal(err)
	}
	w, err := f.Create(context.Background(), files, disk.CreateOptions{Name: "x", Size: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(context.Background()); err != nil {
		t.Fatal(err)
	}
	b := files["x"].Bytes()
	if _, err := formats.OpenStream(context.Background(), bytes.NewReader(b), int64(len(b))); !errors.Is(err, disk.ErrNeedsSeek) {
		t.Errorf("qcow2 as a stream: %v", err)
	}
	s, err := formats.OpenStream(context.Background(), bytes.NewReader(make([]byte, 1000)), 1000)
	if err != nil || s.Size() != 1000 {
		t.Errorf("raw as a stream: %v", err)
	}
}

func TestWhatIsNotReadIsNotTakenForRaw(t *testing.T) {
	for _, magic := range []string{"WithoutFreeSpace", "QED\x00"} {
		b := make([]byte, 4096)
		copy(b, magic)
		if _, err := formats.Open(context.Background(), disktest.NewMemFile(b), "", disk.OpenOptions{}); !errors.Is(err, disk.ErrUnsupported) {
			t.Errorf("%q: %v", magic, err)
		}
		if _, err := formats.OpenStream(context.Background(), bytes.NewReader(b), int64(len(b))); !errors.Is(err, disk.ErrUnsupported) {
			t.Errorf("%q as a stream: %v", magic, err)
		}
		if m, err := formats.Open(context.Background(), disktest.NewMemFile(b), "raw", disk.OpenOptions{}); err != nil || m.Size() != int64(len(b)) {
			t.Errorf("%q named raw: %v", magic, err)
		}
	}
}
