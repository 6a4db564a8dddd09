package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/diskmodel"
)

func faults(t interface{ Fatal(...any) }, img disk.Image, workers int) ([]disk.Fault, Result) {
	var list []disk.Fault
	res, err := Run(context.Background(), img, Options{Workers: workers}, func(f disk.Fault) { list = append(list, f) })
	if err != nil {
		t.Fatal(err)
	}
	return list, res
}

func TestSound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := diskmodel.Draw(t)
		list, res := faults(t, m, 2)
		if len(list) != 0 || res.Faults != 0 || res.Lost != 0 {
			t.Fatalf("%v, %+v", list, res)
		}
		units := 0
		for _, e := range m.Extents {
			if e.Kind == disk.Compressed {
				units++
			}
		}
		if res.Units != units {
			t.Fatalf("%d units, want %d", res.Units, units)
		}
	})
}

func TestDamagedUnits(t *testing.T) {
	m := diskmodel.Units(t, 50, disk.Zlib)
	flip := func(unit int, at int64) {
		e := m.Extents[unit]
		m.File[e.FileOffset+e.FileLength+at] ^= 1
	}
	for _, unit := range []int{7, 8, 30} {
		m.File[m.Extents[unit].FileOffset] = 0 // the zlib header
	}
	flip(40, -1)
	var want []disk.Fault
	for workers := range 3 {
		got, res := faults(t, m, workers+1)
		if len(got) != 3 || got[0].Offset != 7<<16 || got[0].Length != 2<<16 || got[1].Offset != 30<<16 || got[1].Length != 1<<16 ||
			got[2].Offset != 40<<16 || got[2].FileOffset != m.Extents[40].FileOffset {
			t.Fatalf("%+v", got)
		}
		if res.Faults != 3 || res.Lost != 4<<16 || res.Units != 50 {
			t.Errorf("%+v", res)
		}
		if want == nil {
			want = got
		} else if d := cmp.Diff(want, got); d != "" {
			t.Errorf("with %d workers: %s", workers+1, d)
		}
	}
}

func TestFileTooShort(t *testing.T) {
	m := diskmodel.Units(t, 50, disk.Zlib)
	m.File = m.File[:m.Extents[48].FileOffset+3]
	got, _ := faults(t, m, 2)
	if len(got) == 0 || got[0].Offset != 48<<16 || got[len(got)-1].Offset+got[len(got)-1].Length != m.Size() {
		t.Errorf("%+v", got)
	}

	plain := &diskmodel.Model{
		Content: make([]byte, 3<<20),
		Extents: []disk.Extent{{Length: 3 << 20, Kind: disk.Data, FileLength: 3 << 20}},
		File:    make([]byte, 2<<20),
	}
	plain.Extents[0].File = plain.AsFile()
	got, _ = faults(t, plain, 2)
	if len(got) != 1 || got[0].Offset != 2<<20 || got[0].Length != 1<<20 {
		t.Errorf("%+v", got)
	}
}

// tables is an image some of whose tables are damaged.
type tables struct {
	*diskmodel.Model
	bad    []int64
	report []disk.Fault
}

func (t tables) Extent(ctx context.Context, off int64) (disk.Extent, error) {
	if slices.Contains(t.bad, off>>16) {
		return disk.Extent{}, fmt.Errorf("table entry %d: %w", off>>16, disk.ErrCorrupt)
	}
	return t.Model.Extent(ctx, off)
}

func (t tables) Check(_ context.Context, report func(disk.Fault)) error {
	for _, f := range t.report {
		report(f)
	}
	return nil
}

func TestDamagedTables(t *testing.T) {
	m := diskmodel.Units(t, 50, disk.Zlib)
	leak := disk.Fault{FileOffset: 77, Text: "leaked"}
	img := tables{m, []int64{0, 16, 49}, []disk.Fault{leak, leak}}
	got, res := faults(t, img, 2)
	if len(got) != 5 || got[0] != leak || got[2].Offset != 0 || got[3].Offset != 16<<16 || got[4].Offset != 49<<16 || res.Lost != 3<<16 {
		t.Errorf("%+v %+v", got, res)
	}
	if res.Units != 47 {
		t.Errorf("%d units", res.Units)
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	m := diskmodel.Units(t, 100, disk.Zlib)
	_, err := Run(ctx, m, Options{Progress: func(int64) { cancel() }}, func(disk.Fault) {})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// broken is an image whose file cannot be read.
type broken struct{ *diskmodel.Model }

var errIO = errors.New("input/output error")

func (b broken) Extent(ctx context.Context, off int64) (disk.Extent, error) {
	e, err := b.Model.Extent(ctx, off)
	e.File = brokenFile{}
	return e, err
}

type brokenFile struct{}

func (brokenFile) ReadAt([]byte, int64) (int, error) { return 0, errIO }
func (brokenFile) Size() int64                       { return 1 << 40 }

func TestUnreadableIsNoFault(t *testing.T) {
	img := broken{diskmodel.Units(t, 3, disk.Zlib)}
	_, err := Run(t.Context(), img, Options{}, func(f disk.Fault) { t.Errorf("%+v", f) })
	if !errors.Is(err, errIO) {
		t.Error(err)
	}
}
