package vdi

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
		disktest.Case{Name: "dynamic", Format: Format{}, Check: true},
		disktest.Case{Name: "fixed", Format: Format{}, Options: disk.CreateOptions{Subformat: "fixed"}, Check: true},
	)
}

func TestReadsWhatQEMUMakes(t *testing.T) {
	for _, options := range []string{"static=off", "static=on"} {
		for _, size := range []int64{1 << 20, 3<<20 + 512, 20 << 20} {
			dir := t.TempDir()
			content := disktest.Sample(size)
			if err := os.WriteFile(filepath.Join(dir, "raw"), content, 0o600); err != nil {
				t.Fatal(err)
			}
			disktest.QEMUImg(t, dir, "convert", "-f", "raw", "-O", "vdi", "-o", options, "raw", "x.vdi")
			disktest.Opens(t, Format{}, dir, "x.vdi", content)
		}
	}
}

func sample(t testing.TB) []byte {
	t.Helper()
	files := disktest.MemFiles{}
	w, err := Format{}.Create(context.Background(), files, disk.CreateOptions{Name: "x", Size: 2 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteAt([]byte("data"), 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(context.Background()); err != nil {
		t.Fatal(err)
	}
	return files["x"].Bytes()
}

func TestRefused(t *testing.T) {
	b := sample(t)
	for _, c := range []struct {
		name string
		at   int
		to   byte
		want error
	}{
		{"another format", 64, 0, disk.ErrFormat},
		{"version 2", 70, 2, disk.ErrUnsupported},
		{"type 9", 76, 9, disk.ErrUnsupported},
		{"a delta without its parent", 76, 4, disk.ErrOutside},
		{"a map past the end", 342, 0xff, disk.ErrCorrupt},
		{"more than the blocks hold", 373, 1, disk.ErrCorrupt},
		{"odd blocks", 376, 1, disk.ErrCorrupt},
		{"too many blocks", 387, 0x7f, disk.ErrUnsupported},
	} {
		altered := bytes.Clone(b)
		altered[c.at] = c.to
		if _, err := (Format{}).Open(context.Background(), disktest.NewMemFile(altered), disk.OpenOptions{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// TestDelta has a block of its own, one that is zeroes, and one from its parent.
func TestDelta(t *testing.T) {
	const size = 3 << 20
	below := bytes.Repeat([]byte("below "), size/6+1)[:size]
	above := bytes.Repeat([]byte("above "), size/6+1)[:size]
	images := map[string][]byte{}
	for name, content := range map[string][]byte{"below": below, "above": above} {
		files := disktest.MemFiles{}
		w, err := Format{}.Create(t.Context(), files, disk.CreateOptions{Name: "x", Size: size, Identity: [16]byte{name[0]}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.WriteAt(content, 0); err != nil {
			t.Fatal(err)
		}
		if err := w.Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
		images[name] = files["x"].Bytes()
	}
	open := func(b []byte, parent disk.Image) (disk.Image, error) {
		return Format{}.Open(t.Context(), disktest.NewMemFile(b), disk.OpenOptions{Parent: parent})
	}
	parent, err := open(images["below"], nil)
	if err != nil {
		t.Fatal(err)
	}
	delta := images["above"]
	le.PutUint32(delta[76:], typeDelta)
	copy(delta[424:], images["below"][392:408])
	copy(delta[440:], images["below"][408:424])
	le.PutUint32(delta[headerSize+4:], free)
	le.PutUint32(delta[headerSize+8:], discarded)
	m, err := open(delta, disk.KeepOpen{Image: parent})
	if err != nil {
		t.Fatal(err)
	}
	want := append(bytes.Clone(above[:1<<20]), below[1<<20:2<<20]...)
	want = append(want, make([]byte, 1<<20)...)
	if err := disktest.Same(m, want); err != nil {
		t.Error(err)
	}
	if err := disktest.Walk(m, want); err != nil {
		t.Error(err)
	}
	if got := m.(disk.Informer).Info().Subformat; got != "differencing" {
		t.Error(got)
	}
	for name, at := range map[string]int{"another parent": 424, "one that was written to": 440} {
		b := bytes.Clone(delta)
		b[at]++
		if _, err := open(b, parent); !errors.Is(err, disk.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(sample(f))
	f.Fuzz(func(t *testing.T, b []byte) { disktest.Hostile(t, Format{}, b) })
}
