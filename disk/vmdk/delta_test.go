package vmdk

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/ovation-project/ovation/disk/disktest"
)

// Nothing here or in QEMU writes the layouts of VMware's deltas: the disks are
// put together by hand, and QEMU, which reads both, has to see the same.

// cowdFiles is a vmfsSparse disk of so many sectors, with grains of some of
// them: those whose bit is set in a pattern, in an order that the seed gives.
func cowdFiles(sectors int, seed uint64) (files disktest.MemFiles, content []byte) {
	const gtes, grains = 4096, 8 // sectors a grain
	r := rand.New(rand.NewPCG(seed, 1))
	content = make([]byte, sectors*sector)
	n := (sectors + grains - 1) / grains
	tables := (n + gtes - 1) / gtes
	directory := 4
	front := directory + (tables*4+sector-1)/sector
	end := front + tables*gtes*4/sector
	b := make([]byte, (end+n*grains)*sector)
	copy(b, cowdMagic)
	le.PutUint32(b[4:], 1)
	le.PutUint32(b[8:], 3)
	le.PutUint32(b[12:], uint32(sectors))
	le.PutUint32(b[16:], grains)
	le.PutUint32(b[20:], uint32(directory))
	le.PutUint32(b[24:], uint32(tables))
	for i := range tables {
		if i != 1 { // the second one is not there
			le.PutUint32(b[directory*sector+i*4:], uint32(front+i*gtes*4/sector))
		}
	}
	for _, g := range r.Perm(n) {
		if g/gtes == 1 || r.IntN(3) > 0 {
			continue
		}
		le.PutUint32(b[front*sector+g*4:], uint32(end))
		copy(b[end*sector:], bytes.Repeat(fmt.Appendf(nil, "grain %d ", g), grains*sector/8)[:grains*sector])
		copy(content[g*grains*sector:], b[end*sector:(end+grains)*sector])
		end += grains
	}
	text := fmt.Sprintf("# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"vmfsSparse\"\nRW %d VMFSSPARSE \"e.vmdk\"\n", sectors)
	return disktest.MemFiles{"x": disktest.NewMemFile([]byte(text)), "e.vmdk": disktest.NewMemFile(b[:end*sector])}, content
}

// seSparseFiles is a seSparse disk of so many sectors. A directory's table is
// not where its entry is, nor are grains.
func seSparseFiles(sectors int, seed uint64) (files disktest.MemFiles, content []byte) {
	const perGrain, perTable, tableSectors = 8, seSparseTable, seSparseTable * 8 / sector
	r := rand.New(rand.NewPCG(seed, 2))
	content = make([]byte, sectors*sector)
	n := (sectors + perGrain - 1) / perGrain
	tables := (n + perTable - 1) / perTable
	// QEMU wants each part of a whole number of grains' size.
	parts := []struct{ field, sectors int }{
		{8, 8}, {10, 8}, {12, 64}, {14, 64}, {16, tables * tableSectors}, {18, 64}, {20, 64}, {22, n * perGrain},
	}
	at, place := 8, map[int]int{}
	head := make([]byte, sector)
	put := func(i, v int) { le.PutUint64(head[16+8*i:], uint64(v)) }
	le.PutUint64(head, seSparseMagic)
	le.PutUint64(head[8:], 0x200000001)
	put(0, sectors)
	put(1, perGrain)
	put(2, tableSectors)
	for _, p := range parts {
		put(p.field, at)
		put(p.field+1, p.sectors)
		place[p.field] = at
		at += p.sectors
	}
	b := make([]byte, at*sector)
	copy(b, head)
	le.PutUint64(b[place[8]*sector:], seSparseVolatileMagic)
	for i := range tables {
		if i != 1 {
			le.PutUint64(b[place[14]*sector+i*8:], 0x1000000000000000|uint64(tables-1-i))
		}
	}
	next := uint64(0)
	for _, g := range r.Perm(n) {
		if g/perTable == 1 {
			continue
		}
		table := b[(place[16]+(tables-1-g/perTable)*tableSectors)*sector:]
		entry := uint64(0)
		switch r.IntN(5) {
		case 0:
			entry = 0x1000000000000000
		case 1:
			entry = 0x2000000000000000
		case 2, 3:
			// The lower 12 bits of a grain's number come before the upper ones.
			entry = 0x3000000000000000 | next&0xfff<<48 | next>>12
			data := b[(place[22]+int(next)*perGrain)*sector:][:perGrain*sector]
			copy(data, bytes.Repeat(fmt.Appendf(nil, "grain %d ", g), len(data)/8))
			copy(content[g*perGrain*sector:], data)
			next++
		}
		le.PutUint64(table[g%perTable*8:], entry)
	}
	text := fmt.Sprintf("# Disk DescriptorFile\nversion=3\nCID=1\nparentCID=ffffffff\ncreateType=\"seSparse\"\nRW %d SESPARSE \"e.vmdk\"\n", sectors)
	return disktest.MemFiles{"x": disktest.NewMemFile([]byte(text)), "e.vmdk": disktest.NewMemFile(b)}, content
}

func TestDeltasOfVMware(t *testing.T) {
	for name, build := range map[string]func(int, uint64) (disktest.MemFiles, []byte){"vmfsSparse": cowdFiles, "seSparse": seSparseFiles} {
		for _, sectors := range []int{8, 1000 * 8, 3*4096*8 + 16} {
			t.Run(fmt.Sprint(name, " of ", sectors), func(t *testing.T) {
				files, want := build(sectors, 7)
				m, err := open(files, "x", nil)
				if err != nil {
					t.Fatal(err)
				}
				if err := disktest.Same(m, want); err != nil {
					t.Error(err)
				}
				if err := disktest.Walk(m, want); err != nil {
					t.Error(err)
				}
				if got := faults(t, m); len(got) > 0 {
					t.Errorf("faults %v", got)
				}
				dir := t.TempDir()
				for name, f := range files {
					if err := os.WriteFile(filepath.Join(dir, name), f.Bytes(), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				disktest.QEMUImg(t, dir, "convert", "-f", "vmdk", "-O", "raw", "x", "raw")
				theirs, err := os.ReadFile(filepath.Join(dir, "raw"))
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(theirs, want) {
					t.Error("QEMU reads another disk")
				}
			})
		}
	}
}

// TestDeltasOfVMwareWithParents has what is in no grain come from below.
func TestDeltasOfVMwareWithParents(t *testing.T) {
	const sectors = 1000 * 8
	base := bytes.Repeat([]byte("below it "), sectors*sector/9+1)[:sectors*sector]
	below, err := open(create(t, monolithicSparse, base, "b"), "b", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, build := range map[string]func(int, uint64) (disktest.MemFiles, []byte){"vmfsSparse": cowdFiles, "seSparse": seSparseFiles} {
		files, _ := build(sectors, 9)
		alone, err := open(files, "x", nil)
		if err != nil {
			t.Fatal(err)
		}
		m, err := open(files, "x", below)
		if err != nil {
			t.Fatal(err)
		}
		want := bytes.Clone(base)
		s := alone.(*Image).extents[0].sparse
		for g := int64(0); g < sectors/8; g++ {
			kind, host, err := s.grains.lookup(g)
			if err != nil {
				t.Fatal(err)
			}
			part := want[g*s.grain:][:s.grain]
			switch kind.String() {
			case "zero":
				clear(part)
			case "data":
				copy(part, files["e.vmdk"].Bytes()[host:])
			}
		}
		if err := disktest.Same(m, want); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := disktest.Walk(m, want); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
