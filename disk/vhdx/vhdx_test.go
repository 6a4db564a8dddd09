package vhdx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/disktest"
	"github.com/ovation-project/ovation/internal/testenv"
)

func TestContract(t *testing.T) {
	disktest.Suite(t,
		disktest.Case{Name: "dynamic", Format: Format{}, Check: true},
		disktest.Case{Name: "fixed", Format: Format{}, Options: disk.CreateOptions{Subformat: "fixed"}, Check: true},
		disktest.Case{Name: "large blocks", Format: Format{}, Options: disk.CreateOptions{Unit: 8 << 20}, Check: true},
	)
}

func TestReadsWhatQEMUMakes(t *testing.T) {
	for _, options := range []string{"subformat=dynamic", "subformat=fixed", "subformat=dynamic,block_size=1M", "subformat=dynamic,block_state_zero=off"} {
		for _, size := range []int64{1 << 20, 3<<20 + 512, 20 << 20} {
			dir := t.TempDir()
			content := disktest.Sample(size)
			if err := os.WriteFile(filepath.Join(dir, "raw"), content, 0o600); err != nil {
				t.Fatal(err)
			}
			disktest.QEMUImg(t, dir, "convert", "-f", "raw", "-O", "vhdx", "-o", options, "raw", "x.vhdx")
			disktest.Opens(t, Format{}, dir, "x.vhdx", content)
		}
	}
}

// TestManyChunks has a disk with sector bitmap entries among those of its
// blocks, which large disks have.
func TestManyChunks(t *testing.T) {
	dir := t.TempDir()
	const size = 9 << 40
	w, err := Format{}.Create(t.Context(), disktest.Dir{T: t, Path: dir}, disk.CreateOptions{Name: "x.vhdx", Size: size})
	if err != nil {
		t.Fatal(err)
	}
	if got := w.Layout().Unit; got != 16<<20 {
		t.Errorf("blocks of %d", got)
	}
	places := []int64{0, 4 << 30, 8<<40 + 12345*512, size - 4096}
	for i, off := range places {
		if _, err := w.WriteAt(bytes.Repeat([]byte{byte(i + 1)}, 4096), off); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Not with convert: QEMU reads all of a disk in this format.
	disktest.QEMUImg(t, dir, "check", "-f", "vhdx", "x.vhdx")
	disktest.QEMUImg(t, dir, "create", "-f", "vhdx", "theirs.vhdx", fmt.Sprint(int64(size)))
	for i, off := range places {
		qemuIO(t, dir, "x.vhdx", fmt.Sprintf("read -P %d %d 4096", i+1, off))
		qemuIO(t, dir, "theirs.vhdx", fmt.Sprintf("write -P %d %d 4096", i+1, off))
	}
	for _, name := range []string{"x.vhdx", "theirs.vhdx"} {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		m, err := Format{}.Open(t.Context(), disktest.OSFile{File: f}, disk.OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i, off := range places {
			b := make([]byte, 4096)
			if _, err := m.ReadAt(b, off); err != nil || !bytes.Equal(b, bytes.Repeat([]byte{byte(i + 1)}, 4096)) {
				t.Errorf("%s: at %d: % x…, %v", name, off, b[:4], err)
			}
		}
	}
}

func qemuIO(t testing.TB, dir, name, command string) {
	t.Helper()
	testenv.NeedTool(t, "qemu-io")
	c := exec.CommandContext(t.Context(), "qemu-io", "-f", "vhdx", "-c", command, name) // #nosec G204
	c.Dir = dir
	out, err := c.CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("an't open")) || bytes.Contains(out, []byte("erification failed")) {
		t.Fatalf("qemu-io %s: %v: %s", command, err, out)
	}
}

// makeImage makes an image in memory with "data" at 1 MiB.
func makeImage(t testing.TB, opt disk.CreateOptions) []byte {
	t.Helper()
	files := disktest.MemFiles{}
	opt.Name = "x"
	w, err := Format{}.Create(context.Background(), files, opt)
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

func small(t testing.TB) []byte { return makeImage(t, disk.CreateOptions{Size: 3 << 20}) }

// resign sets the checksums of headers and region tables anew.
func resign(b []byte) {
	for _, at := range []int{header1At, header2At} {
		sign(b[at : at+headerSize])
	}
	for _, at := range []int{region1At, region2At} {
		sign(b[at : at+regionSize])
	}
}

// both alters the two copies of a header or region table.
func both(off int, v ...byte) func([]byte) {
	other := off + header2At - header1At
	return func(b []byte) {
		copy(b[off:], v)
		copy(b[other:], v)
		resign(b)
	}
}

func set(off int, v ...byte) func([]byte) { return func(b []byte) { copy(b[off:], v) } }

// item gives where in a file made here a metadata item lies.
const (
	itemsAt    = metadataAt + regionSize
	blockAt    = itemsAt
	sizeAt     = itemsAt + 8
	sectorAt   = itemsAt + 32
	metaTable  = metadataAt + 32
	firstEntry = batAt
)

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		alter func([]byte)
		want  error
	}{
		{"another format", set(0, 'x'), disk.ErrFormat},
		{"no header", func(b []byte) { b[header1At+100]++; b[header2At+100]++ }, disk.ErrCorrupt},
		{"version 2", both(header1At+66, 2), disk.ErrUnsupported},
		{"no region table", func(b []byte) { b[region1At+100]++; b[region2At+100]++ }, disk.ErrCorrupt},
		{"an unknown region", both(region1At+16, 1), disk.ErrUnsupported},
		{"no block table", func(b []byte) { both(region1At+16, 1)(b); both(region1At+16+28, 0)(b) }, disk.ErrCorrupt},
		{"a region past the end", both(region1At+16+21, 1), disk.ErrCorrupt},
		{"a region in the headers", both(region1At+16+16, 0, 0, 0, 0), disk.ErrCorrupt},
		{"a region twice", func(b []byte) { both(region1At+48, b[region1At+16:region1At+32]...)(b) }, disk.ErrCorrupt},
		{"too many regions", both(region1At+8, 0, 8), disk.ErrCorrupt},
		{"no metadata", set(metadataAt, 'x'), disk.ErrCorrupt},
		{"unknown metadata", set(metaTable, 1), disk.ErrUnsupported},
		{"metadata past its region", set(metaTable+19, 0x80), disk.ErrCorrupt},
		{"short metadata", set(metaTable+20, 4), disk.ErrCorrupt},
		{"no size", func(b []byte) { b[metaTable+32]++; b[metaTable+32+24] = 0 }, disk.ErrCorrupt},
		{"odd blocks", set(blockAt, 1), disk.ErrCorrupt},
		{"tiny blocks", set(blockAt, 0, 0, 8), disk.ErrCorrupt},
		{"odd sectors", set(sectorAt, 0, 1), disk.ErrCorrupt},
		{"an odd size", set(sizeAt, 1), disk.ErrCorrupt},
		{"more than the table holds", set(sizeAt+5, 1), disk.ErrCorrupt},
		{"more than the format has", set(sizeAt+6, 0x80), disk.ErrCorrupt},
		{"a delta without a name", set(blockAt+4, hasParent), disk.ErrCorrupt},
		{"a log that is not whole", both(header1At+48, 1), disk.ErrCorrupt},
		{"a log in the headers", func(b []byte) { both(header1At+48, 1)(b); both(header1At+74, 0)(b) }, disk.ErrCorrupt},
		{"a log past the end", func(b []byte) { both(header1At+48, 1)(b); both(header1At+79, 1)(b) }, disk.ErrCorrupt},
		{"a huge log", func(b []byte) { both(header1At+48, 1)(b); both(header1At+71, 8)(b) }, disk.ErrUnsupported},
	} {
		b := small(t)
		c.alter(b)
		if _, err := (Format{}).Open(t.Context(), disktest.NewMemFile(b), disk.OpenOptions{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestOneOfTwoIsEnough(t *testing.T) {
	b := small(t)
	b[header2At+100]++
	b[region1At+100]++
	m, err := Format{}.Open(t.Context(), disktest.NewMemFile(b), disk.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if p := make([]byte, 4); m.Size() != 3<<20 {
		t.Error(m.Size())
	} else if _, err := m.ReadAt(p, 1<<20); err != nil || string(p) != "data" {
		t.Errorf("%q, %v", p, err)
	}
}

func TestBadBlocks(t *testing.T) {
	for _, c := range []struct {
		name string
		v    []byte
	}{
		{"a state that there is not", []byte{4}},
		{"in a parent", []byte{partiallyPresent}},
		{"in the headers", []byte{fullyPresent, 0, 0, 0, 0, 0, 0, 0}},
		{"past the end", []byte{fullyPresent, 0, 0, 0, 1, 0, 0, 0}},
		{"far past the end", []byte{fullyPresent, 0, 0xf0, 0xff, 0xff, 0xff, 0xff, 0xff}},
	} {
		b := small(t)
		copy(b[firstEntry+8:], c.v)
		m, err := Format{}.Open(t.Context(), disktest.NewMemFile(b), disk.OpenOptions{})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if _, err := m.ReadAt(make([]byte, 10), 1<<20); !errors.Is(err, disk.ErrCorrupt) {
			t.Errorf("%s: %v", c.name, err)
		}
		var faults []disk.Fault
		if err := m.(disk.Checker).Check(t.Context(), func(f disk.Fault) { faults = append(faults, f) }); err != nil || len(faults) != 1 || faults[0].Offset != 1<<20 {
			t.Errorf("%s: faults %+v, %v", c.name, faults, err)
		}
	}
}

func TestGUID(t *testing.T) {
	const s = "{83ed0ec3-24c8-49a6-a959-5e4bf1288bfb}"
	g, ok := parseGUID(s)
	if !ok || g.String() != s || g[0] != 0xc3 || g[15] != 0xfb {
		t.Errorf("%v %v", g, ok)
	}
	for _, bad := range []string{"", "{}", "83ed0ec3-24c8-49a6-a959-5e4bf1288bf", "83ed0ec3-24c8-49a6-a959-5e4bf1288bfbb", "83ed0ec324c8-49a6-a959-5e4bf1288bfb-", "{83ed0ec3-24c8-49a6-a959-5e4bf1288bfx}"} {
		if _, ok := parseGUID(bad); ok {
			t.Errorf("%q is taken", bad)
		}
	}
}
