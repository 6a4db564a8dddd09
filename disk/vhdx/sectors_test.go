package vhdx

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/disktest"
)

// sectors4K gives an image made here as one whose guest sees sectors of 4 KiB.
func sectors4K(b []byte) []byte {
	b = bytes.Clone(b)
	le.PutUint32(b[sectorAt:], 4096)
	return b
}

// TestSectorsOf4K has a delta that says for each sector of 4 KiB whether it has
// it, and a disk whose chunks are eight times as long.
func TestSectorsOf4K(t *testing.T) {
	ctx := context.Background()
	const size, sectors = 3 << 20, 3 << 20 / 4096
	r := rand.New(rand.NewPCG(4, 4)) // #nosec G404
	contents, images := [2][]byte{}, [2][]byte{}
	for i := range images {
		contents[i] = make([]byte, size)
		for j := range contents[i] {
			contents[i][j] = byte(r.Uint32())
		}
		files := disktest.MemFiles{}
		w, err := Format{}.Create(ctx, files, disk.CreateOptions{Name: "x", Size: size, Identity: [16]byte{byte(i)}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.WriteAt(contents[i], 0); err != nil {
			t.Fatal(err)
		}
		if err := w.Finish(ctx); err != nil {
			t.Fatal(err)
		}
		images[i] = sectors4K(files["x"].Bytes())
	}
	parent, err := opened(images[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := disktest.Same(parent, contents[0]); err != nil {
		t.Error(err)
	}
	if got := parent.(disk.Informer).Info().Details["logical sector"]; got != "4096" {
		t.Errorf("sectors of %s", got)
	}
	// All blocks are in a chunk of 32768, whose bitmap has a bit for each 4 KiB.
	b := delta(images[1], locatorOf("parent_linkage", contentOf(images[0])))
	want := bytes.Clone(contents[0])
	bitmap := make([]byte, bitmapSize)
	for s := range sectors {
		if r.IntN(3) == 0 {
			bitmap[s/8] |= 1 << (s % 8)
			copy(want[s*4096:(s+1)*4096], contents[1][s*4096:])
		}
	}
	for block := range 3 {
		e := b[batAt+block*8:]
		le.PutUint64(e, le.Uint64(e)&^7|partiallyPresent)
	}
	const entry = sectorsPerChunk * 4096 / mib
	le.PutUint64(b[batAt+entry*8:], uint64(len(b))|bitmapPresent)
	b = append(b, bitmap...)
	m, err := Format{}.Open(ctx, disktest.NewMemFile(b), disk.OpenOptions{Parent: parent})
	if err != nil {
		t.Fatal(err)
	}
	if err := disktest.Same(m, want); err != nil {
		t.Error(err)
	}
	if err := disktest.Walk(m, want); err != nil {
		t.Error(err)
	}
	odd := sectors4K(makeImage(t, disk.CreateOptions{Size: 3<<20 + 512}))
	if _, err := opened(odd); err == nil {
		t.Error("a disk of half a sector more is opened")
	}
}

// TestAllBlockSizes writes each, to places in the first block, within the last
// one and over a border, and has QEMU read them.
func TestAllBlockSizes(t *testing.T) {
	for block := int64(mib); block <= 256*mib; block *= 2 {
		dir := t.TempDir()
		d := disktest.Dir{T: t, Path: dir}
		size := 2*block + 5*disk.SectorSize
		w, err := Format{}.Create(t.Context(), d, disk.CreateOptions{Name: "x", Size: size, Unit: block})
		if err != nil {
			t.Fatal(err)
		}
		data := bytes.Repeat([]byte{7}, 4096)
		for _, off := range []int64{512, 2*block - 2048, size - 512} {
			if _, err := w.WriteAt(data[:min(4096, size-off)], off); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
		disktest.QEMUImg(t, dir, "check", "-q", "-f", "vhdx", "x")
		f, err := d.OpenFile(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		m, err := Format{}.Open(t.Context(), f, disk.OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := m.(disk.Informer).Info().Unit; got != block {
			t.Errorf("blocks of %d, want %d", got, block)
		}
		qemuIO(t, dir, "x", "read -P 0 0 512")
		for _, off := range []int64{512, 2*block - 2048} {
			got := make([]byte, 4096)
			if _, err := m.ReadAt(got, off); err != nil || !bytes.Equal(got, data) {
				t.Errorf("blocks of %d: at %d: %v", block, off, err)
			}
		}
		for off, n := range map[int64]int{512: 4096, 2*block - 2048: 4096, size - 512: 512} {
			qemuIO(t, dir, "x", "read -P 7 "+fmt.Sprint(off)+" "+fmt.Sprint(n))
		}
	}
}
