package vhdx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"unicode/utf16"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/disktest"
)

// locatorOf makes a parent locator.
func locatorOf(pairs ...string) []byte {
	b := make([]byte, 20+len(pairs)/2*12)
	copy(b, vhdxLocator[:])
	le.PutUint16(b[18:], uint16(len(pairs)/2))
	for i, s := range pairs {
		e := 20 + i/2*12
		units := utf16.Encode([]rune(s))
		le.PutUint32(b[e+i%2*4:], uint32(len(b)))
		le.PutUint16(b[e+8+i%2*2:], uint16(len(units)*2))
		for _, u := range units {
			b = le.AppendUint16(b, u)
		}
	}
	return b
}

// delta makes an image made here a differencing one.
func delta(b, locator []byte) []byte {
	b = bytes.Clone(b)
	b[blockAt+4] = hasParent
	const at = itemsAt + 1024
	copy(b[at:], locator)
	le.PutUint16(b[metadataAt+10:], 6)
	e := b[metaTable+5*entrySize:]
	copy(e, parentLocator[:])
	le.PutUint32(e[16:], at-metadataAt)
	le.PutUint32(e[20:], uint32(len(locator)))
	le.PutUint32(e[24:], isRequired)
	return b
}

// contentOf is what a delta of an image made here names it by.
func contentOf(b []byte) string { return guid(b[header1At+32 : header1At+48]).String() }

func TestDifferencing(t *testing.T) {
	ctx := context.Background()
	const size = 5 << 20
	r := rand.New(rand.NewPCG(1, 2)) // #nosec G404
	below, above := make([]byte, size), make([]byte, size)
	for i := range below {
		below[i], above[i] = byte(r.Uint32()), byte(r.Uint32())
	}
	files := disktest.MemFiles{}
	for name, content := range map[string][]byte{"below.vhdx": below, "above.vhdx": above} {
		w, err := Format{}.Create(ctx, files, disk.CreateOptions{Name: name, Size: size, Identity: [16]byte{name[0]}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.WriteAt(content, 0); err != nil {
			t.Fatal(err)
		}
		if err := w.Finish(ctx); err != nil {
			t.Fatal(err)
		}
	}
	parent := files["below.vhdx"].Bytes()
	linkage := contentOf(parent)
	pairs := []string{"parent_linkage", linkage, "relative_path", `.\below.vhdx`, "absolute_win32_path", `C:\vm\below.vhdx`}

	// Block 0 is here whole, 1 and 2 in part, 3 is zeroes, 4 is the parent's.
	b := delta(files["above.vhdx"].Bytes(), locatorOf(pairs...))
	want := bytes.Clone(below)
	copy(want, above[:1<<20])
	bitmap := make([]byte, bitmapSize)
	for _, here := range [][2]int{{2048, 2048 + 13}, {2048 + 100, 2048 + 1000}, {4096 - 3, 4096 + 40}, {6144 - 9, 6144}} {
		for s := here[0]; s < here[1]; s++ {
			bitmap[s/8] |= 1 << (s % 8)
			copy(want[s*512:], above[s*512:s*512+512])
		}
	}
	clear(want[3<<20 : 4<<20])
	for block, state := range []uint64{fullyPresent, partiallyPresent, partiallyPresent, zero, notPresent} {
		e := b[batAt+block*8:]
		le.PutUint64(e, le.Uint64(e)&^7|state)
	}
	// The bitmap's entry stands behind the 4096 blocks that it is for.
	le.PutUint64(b[batAt+4096*8:], uint64(len(b))|bitmapPresent)
	b = append(b, bitmap...)

	open := func(b []byte, opt disk.OpenOptions) (disk.Image, error) {
		return Format{}.Open(ctx, disktest.NewMemFile(b), opt)
	}
	below1, err := open(parent, disk.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	asked := ""
	backing := func(_ context.Context, name, _ string) (disk.Image, error) {
		asked = name
		return open(parent, disk.OpenOptions{})
	}
	for name, opt := range map[string]disk.OpenOptions{"given": {Parent: below1}, "named": {Backing: backing}} {
		m, err := open(b, opt)
		if err != nil {
			t.Fatal(name, err)
		}
		got := make([]byte, size)
		if _, err := m.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: not what is written here over what the parent has: %v", name, err)
		}
		if err := disktest.Walk(m, want); err != nil {
			t.Error(name, err)
		}
		for range 200 {
			off := r.Int64N(size)
			part := make([]byte, r.Int64N(min(3<<20, size-off))+1)
			if _, err := m.ReadAt(part, off); err != nil || !bytes.Equal(part, want[off:off+int64(len(part))]) {
				t.Fatalf("%s: %d bytes at %d: %v", name, len(part), off, err)
			}
		}
		info := m.(disk.Informer).Info()
		if info.Subformat != "differencing" || info.Parent != "below.vhdx" {
			t.Errorf("%+v", info)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	if asked != "below.vhdx" {
		t.Errorf("the parent was asked for as %q", asked)
	}

	if _, err := open(b, disk.OpenOptions{}); !errors.Is(err, disk.ErrOutside) {
		t.Errorf("without its parent: %v", err)
	}
	if _, err := open(b, disk.OpenOptions{Backing: func(context.Context, string, string) (disk.Image, error) { return nil, disk.ErrOutside }}); !errors.Is(err, disk.ErrOutside) {
		t.Errorf("with a parent outside of the package: %v", err)
	}
	other, err := open(files["above.vhdx"].Bytes(), disk.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(b, disk.OpenOptions{Parent: other}); !errors.Is(err, disk.ErrCorrupt) {
		t.Errorf("with another parent: %v", err)
	}
	none := bytes.Clone(b)
	le.PutUint64(none[batAt+4096*8:], 0)
	m, err := open(none, disk.OpenOptions{Parent: below1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.ReadAt(make([]byte, 512), 1<<20); !errors.Is(err, disk.ErrCorrupt) {
		t.Errorf("without a sector bitmap: %v", err)
	}
}

func TestLocator(t *testing.T) {
	b := small(t)
	content := contentOf(b)
	parent, err := opened(b)
	if err != nil {
		t.Fatal(err)
	}
	foreign := locatorOf("parent_linkage", content)
	foreign[0]++
	outside := locatorOf("parent_linkage", content)
	outside[20+3] = 1
	odd := locatorOf("parent_linkage", content)
	odd[20+8]--
	many := locatorOf("parent_linkage", content)
	many[18] = 65
	for _, c := range []struct {
		name    string
		locator []byte
		parent  string
		want    error
	}{
		{"relative", locatorOf("parent_linkage", content, "relative_path", `..\a\b.vhdx`), "../a/b.vhdx", nil},
		{"a volume's", locatorOf("parent_linkage", content, "volume_path", `\\?\Volume{26A21BDA}\a\b.vhdx`), "b.vhdx", nil},
		{"absolute", locatorOf("parent_linkage", content, "absolute_win32_path", `\\?\d:\c.vhdx`), "c.vhdx", nil},
		{"the second name", locatorOf("parent_linkage", guid{1}.String(), "parent_linkage2", content), "", nil},
		{"no name", locatorOf("relative_path", `x`), "", disk.ErrCorrupt},
		{"another way to name it", foreign, "", disk.ErrUnsupported},
		{"outside of it", outside, "", disk.ErrCorrupt},
		{"half a character", odd, "", disk.ErrCorrupt},
		{"too many", many, "", disk.ErrCorrupt},
		{"short", make([]byte, 19), "", disk.ErrCorrupt},
	} {
		m, err := Format{}.Open(context.Background(), disktest.NewMemFile(delta(b, c.locator)), disk.OpenOptions{Parent: parent})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		} else if c.want == nil {
			if got := m.(disk.Informer).Info().Parent; got != c.parent {
				t.Errorf("%s: %q, want %q", c.name, got, c.parent)
			}
		}
	}
}

// FuzzOpen alters an image in a few places, as whoever knows the checksums
// can: a file of some MiB is too much to alter by itself.
func FuzzOpen(f *testing.F) {
	b := small(f)
	at, size := payload(b), len(b)
	bases := [][]byte{
		b,
		unclosed(b, 0, entryOf(9, 0, size, dataAt(at, "one")), entryOf(10, 0, size, zeroes(at, 8192))),
		delta(b, locatorOf("parent_linkage", contentOf(b), "relative_path", "x")),
	}
	f.Add(uint8(0), []byte{})
	f.Add(uint8(1), patch(logAt+24, 0xff))
	f.Add(uint8(1), patch(logAt+64+16, 0, 0, 0, 0, 1))
	f.Add(uint8(2), patch(batAt, partiallyPresent))
	f.Add(uint8(0), append(patch(blockAt, 0, 0, 0, 16), patch(sizeAt+5, 40)...))
	f.Fuzz(func(t *testing.T, base uint8, patches []byte) {
		b := bytes.Clone(bases[int(base)%len(bases)])
		for len(patches) >= 6 {
			off := int(le.Uint32(patches)) % len(b)
			n := min(int(patches[4])%64+1, len(patches)-5)
			copy(b[off:], patches[5:5+n])
			patches = patches[5+n:]
		}
		resign(b)
		for at := logAt; at < logAt+8*logSector; at += logSector {
			if n := int(le.Uint32(b[at+8:])); string(b[at:at+4]) == "loge" && n >= logSector && n <= logLength && at+n <= len(b) {
				sign(b[at : at+n])
			}
		}
		disktest.Hostile(t, Format{}, b)
	})
}

func patch(off int, v ...byte) []byte {
	if len(v) == 0 || len(v) > 64 {
		panic(fmt.Sprint(len(v)))
	}
	return append(append(le.AppendUint32(nil, uint32(off)), byte(len(v)-1)), v...)
}
