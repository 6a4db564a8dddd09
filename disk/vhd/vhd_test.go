package vhd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf16"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/disktest"
)

func TestContract(t *testing.T) {
	disktest.Suite(t,
		disktest.Case{Name: "dynamic", Format: Format{}},
		disktest.Case{Name: "fixed", Format: Format{}, Options: disk.CreateOptions{Subformat: "fixed"}},
		disktest.Case{Name: "dynamic-aligned", Format: Format{}, Options: disk.CreateOptions{Subformat: "dynamic-aligned"}, Round: 1 << 20},
	)
}

func TestReadsWhatQEMUMakes(t *testing.T) {
	for _, options := range []string{"subformat=dynamic,force_size=on", "subformat=fixed,force_size=on", "subformat=dynamic", "subformat=fixed"} {
		for _, size := range []int64{1 << 20, 3<<20 + 512, 20 << 20} {
			dir := t.TempDir()
			content := disktest.Sample(size)
			if err := os.WriteFile(filepath.Join(dir, "raw"), content, 0o600); err != nil {
				t.Fatal(err)
			}
			disktest.QEMUImg(t, dir, "convert", "-f", "raw", "-O", "vpc", "-o", options, "raw", "x.vhd")
			// Without force_size QEMU makes the disk as large as its
			// geometry: what we see has to be what it sees.
			disktest.QEMUImg(t, dir, "convert", "-f", "vpc", "-O", "raw", "x.vhd", "back")
			seen, err := os.ReadFile(filepath.Join(dir, "back"))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(seen, content[:min(len(seen), len(content))]) {
				t.Fatal("qemu-img does not read what it wrote")
			}
			disktest.Opens(t, Format{}, dir, "x.vhd", seen)
		}
	}
}

func TestAlignedIsRoundedUp(t *testing.T) {
	for _, sub := range []string{"fixed-aligned", "dynamic-aligned"} {
		m := open(t, create(t, sub, disktest.Sample(3<<20+512)), disk.OpenOptions{})
		if m.Size() != 4<<20 {
			t.Errorf("%s: %d bytes", sub, m.Size())
		}
	}
}

func create(t testing.TB, subformat string, content []byte) []byte {
	t.Helper()
	files := disktest.MemFiles{}
	w, err := Format{}.Create(context.Background(), files, disk.CreateOptions{Name: "x", Subformat: subformat, Size: int64(len(content)), Identity: [16]byte{7}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteAt(content, 0); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(context.Background()); err != nil {
		t.Fatal(err)
	}
	return files["x"].Bytes()
}

func open(t *testing.T, b []byte, opt disk.OpenOptions) disk.Image {
	t.Helper()
	m, err := Format{}.Open(context.Background(), disktest.NewMemFile(b), opt)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestDifferencing turns a dynamic disk into one that has every second sector
// of its first block, and the rest from its parent.
func TestDifferencing(t *testing.T) {
	below := disktest.Sample(4 << 20)
	above := bytes.Repeat([]byte{0xaa}, 4<<20)
	parent := open(t, create(t, "dynamic", below), disk.OpenOptions{})
	b := create(t, "dynamic", above)
	bat := footerSize + headerSize
	first := int(be.Uint32(b[bat:])) * disk.SectorSize
	for i := range 512 {
		b[first+i] = 0x55
	}
	be.PutUint32(b[bat+4:], unallocated)
	h := b[footerSize : footerSize+headerSize]
	copy(h[40:], []byte{7}) // the parent's unique ID
	copy(h[64:], "\x00p\x00.\x00v\x00h\x00d")
	be.PutUint32(h[36:], checksum(h, 36))
	for _, foot := range [][]byte{b[:footerSize], b[len(b)-footerSize:]} {
		be.PutUint32(foot[60:], typeDiff)
		be.PutUint32(foot[64:], checksum(foot, 64))
	}
	want := bytes.Clone(below)
	for s := 1; s < block/disk.SectorSize; s += 2 {
		copy(want[s*disk.SectorSize:(s+1)*disk.SectorSize], above)
	}
	m := open(t, b, disk.OpenOptions{Parent: parent})
	if err := disktest.Same(m, want); err != nil {
		t.Error(err)
	}
	if err := disktest.Walk(m, want); err != nil {
		t.Error(err)
	}
	if got := m.(disk.Informer).Info().Parent; got != "p.vhd" {
		t.Errorf("parent %q", got)
	}
	if _, err := (Format{}).Open(context.Background(), disktest.NewMemFile(b), disk.OpenOptions{}); !errors.Is(err, disk.ErrOutside) {
		t.Errorf("without its parent: %v", err)
	}
	asked := ""
	backing := func(_ context.Context, name, _ string) (disk.Image, error) {
		asked = name
		return disk.KeepOpen{Image: parent}, nil
	}
	m = open(t, b, disk.OpenOptions{Backing: backing})
	if err := disktest.Same(m, want); err != nil || asked != "p.vhd" {
		t.Errorf("with the parent beside it, asked for as %q: %v", asked, err)
	}
	h[41] = 9
	be.PutUint32(h[36:], checksum(h, 36))
	for name, opt := range map[string]disk.OpenOptions{"given": {Parent: parent}, "found": {Backing: backing}} {
		if _, err := (Format{}).Open(context.Background(), disktest.NewMemFile(b), opt); !errors.Is(err, disk.ErrCorrupt) {
			t.Errorf("with another parent, %s: %v", name, err)
		}
	}
}

func TestParentNames(t *testing.T) {
	const at = 2048
	for _, c := range []struct{ unicode, relative, want string }{
		{"p.vhd", "", "p.vhd"},
		{`C:\vm\p.vhd`, "", "p.vhd"},
		{"/home/me/p.vhd", "", "p.vhd"},
		{`C:\vm\p.vhd`, `.\p.vhd`, "p.vhd"},
		{"p.vhd", `..\base\q.vhd`, "../base/q.vhd"},
		{"", "", ""},
	} {
		f := make([]byte, 4096)
		h := make([]byte, headerSize)
		for i, u := range utf16.Encode([]rune(c.unicode)) {
			be.PutUint16(h[parentNameAt+2*i:], u)
		}
		if c.relative != "" {
			e := h[locatorsAt+3*locatorSize:]
			copy(e, relativePath)
			be.PutUint32(e[8:], uint32(2*len(c.relative)))
			be.PutUint64(e[16:], at)
			for i, u := range utf16.Encode([]rune(c.relative)) {
				binary.LittleEndian.PutUint16(f[at+2*i:], u)
			}
		}
		if got := parentName(disktest.NewMemFile(f), h); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
	// Locators that lie nowhere are passed over.
	h := make([]byte, headerSize)
	copy(h[parentNameAt:], "\x00p")
	copy(h[locatorsAt:], relativePath)
	be.PutUint32(h[locatorsAt+8:], maxPath)
	for _, at := range []uint64{100, 1 << 40, 1<<64 - 1} {
		be.PutUint64(h[locatorsAt+16:], at)
		if got := parentName(disktest.NewMemFile(make([]byte, 200)), h); got != "p" {
			t.Errorf("at %d: %q", at, got)
		}
	}
}

func TestRefused(t *testing.T) {
	b := create(t, "dynamic", disktest.Sample(1<<20))
	for _, c := range []struct {
		name string
		at   int
		want error
	}{
		{"another format", 0, disk.ErrFormat},
		{"a footer that was altered", 50, disk.ErrCorrupt},
		{"a header that was altered", footerSize + 30, disk.ErrCorrupt},
	} {
		altered := bytes.Clone(b)
		altered[c.at] ^= 1
		if c.at == 0 {
			altered = altered[:len(altered)-footerSize]
		}
		if _, err := (Format{}).Open(context.Background(), disktest.NewMemFile(altered), disk.OpenOptions{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if _, err := (Format{}).Create(context.Background(), disktest.MemFiles{}, disk.CreateOptions{Name: "x", Size: 3 << 40}); !errors.Is(err, disk.ErrUnsupported) {
		t.Errorf("3 TiB: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(create(f, "dynamic", disktest.Sample(1<<20)))
	f.Add(create(f, "fixed", disktest.Sample(64<<10)))
	f.Fuzz(func(t *testing.T, b []byte) { disktest.Hostile(t, Format{}, b) })
}
