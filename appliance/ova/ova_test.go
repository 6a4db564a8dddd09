package ova

import (
	"archive/tar"
	"bytes"
	"crypto"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ovation-project/ovation/internal/atomicfile"
	"github.com/ovation-project/ovation/internal/testenv"
)

func TestWriter(t *testing.T) {
	dir := t.TempDir()
	set := atomicfile.New(t.Context(), dir, atomicfile.Options{})
	out, err := set.Create("a.ova")
	if err != nil {
		t.Fatal(err)
	}
	w := New(out, crypto.SHA256, time.Unix(1e9, 0))
	descriptor := []byte("<Envelope/>")
	gap, err := w.Reserve("a.ovf", int64(len(descriptor)))
	if err != nil {
		t.Fatal(err)
	}
	content := make([]byte, 5<<20+77)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range content {
		content[i] = byte(rnd.Uint32())
	}
	for _, name := range []string{"disk1.vmdk", "disk2.vmdk", "empty"} {
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Create("another"); err == nil {
			t.Fatal("two files at once")
		}
		data := content
		if name == "empty" {
			data = nil
		}
		for rest := data; len(rest) > 0; {
			n := min(len(rest), 1+rnd.IntN(300_000))
			if _, err := f.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		size, digest, err := f.Close()
		want := sha256.Sum256(data)
		if err != nil || size != int64(len(data)) || !bytes.Equal(digest, want[:]) {
			t.Fatalf("%s: %d bytes, %x, %v", name, size, digest, err)
		}
	}
	if err := w.Finish(t.Context()); err == nil {
		t.Fatal("finished with a file not filled in")
	}
	if err := gap.Fill([]byte("too long for its room")); err == nil {
		t.Fatal("more than there is room for")
	}
	if err := gap.Fill(descriptor); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := set.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}

	path := filepath.Join(dir, "a.ova")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := tar.NewReader(f)
	for _, want := range []struct {
		name string
		data []byte
	}{{"a.ovf", descriptor}, {"disk1.vmdk", content}, {"disk2.vmdk", content}, {"empty", nil}} {
		h, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || h.Name != want.name || !bytes.Equal(got, want.data) || h.Format != tar.FormatUSTAR || h.ModTime.Unix() != 1e9 {
			t.Errorf("%+v: %d bytes, %v", h, len(got), err)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Error(err)
	}

	list, err := exec.Command(testenv.NeedTool(t, "tar"), "tf", path).CombinedOutput()
	if err != nil || strings.Join(strings.Fields(string(list)), " ") != "a.ovf disk1.vmdk disk2.vmdk empty" {
		t.Errorf("tar: %v\n%s", err, list)
	}
}

func TestLongName(t *testing.T) {
	set := atomicfile.New(t.Context(), t.TempDir(), atomicfile.Options{})
	defer set.Abort()
	out, err := set.Create("a.ova")
	if err != nil {
		t.Fatal(err)
	}
	w := New(out, crypto.SHA256, time.Unix(0, 0))
	f, err := w.Create(strings.Repeat("x", 300))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Close(); err == nil {
		t.Error("a name that no ustar header holds")
	}
}
