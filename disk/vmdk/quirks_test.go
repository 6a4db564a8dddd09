package vmdk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/disktest"
	"github.com/ovation-project/ovation/internal/codec"
)

// foreign makes streamOptimized files as other programs do, piece by piece.
type foreign struct {
	grain, gtes int64
	version     uint32
	// tables, directory, footer and eos say what of a whole file is there.
	tables, directory, footer, eos bool
	// order gives the grains' order; nil is rising.
	order func(n int) []int
	// between is what lies before the footer, after what follows the end.
	between, after []byte
	level          int
	descriptor     string
	zeroGrains     bool // grains of zeroes are stored as entry 1
	capacity       int64
}

func whole() foreign {
	return foreign{
		grain: 64 << 10, gtes: 512, version: 3, tables: true, directory: true, footer: true, eos: true,
		descriptor: "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"streamOptimized\"\nRDONLY 4 SPARSE \"call-me-stream.vmdk\"\n",
	}
}

func (w foreign) make(t testing.TB, content []byte) []byte {
	t.Helper()
	h := header{
		version: w.version, flags: flagNewlines | flagCompressed | flagMarkers, capacity: int64(len(content)), grain: w.grain,
		gtes: w.gtes, gdOffset: -1, compressed: true, descriptorOffset: sector, descriptorSize: 20 * sector,
	}
	if w.zeroGrains {
		h.flags |= flagZeroGrain
	}
	if !w.footer && !w.directory {
		h.gdOffset = 0
	}
	var b bytes.Buffer
	sectors := func(p []byte) {
		b.Write(p)
		b.Write(make([]byte, (sector-b.Len()%sector)%sector))
	}
	mark := func(kind uint32, n int) {
		var m [sector]byte
		le.PutUint64(m[:], uint64(n))
		le.PutUint32(m[12:], kind)
		b.Write(m[:])
	}
	front := h
	front.capacity -= w.capacity
	sectors(putHeader(front, 0, overhead))
	sectors([]byte(w.descriptor))
	b.Write(make([]byte, overhead-b.Len()))
	n := int((h.capacity + w.grain - 1) / w.grain)
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	if w.order != nil {
		order = w.order(n)
	}
	tables := make([][]uint32, h.tables())
	for _, i := range order {
		unit := make([]byte, w.grain)
		copy(unit, content[int64(i)*w.grain:])
		t64 := int64(i) / w.gtes
		entry := uint32(b.Len() / sector)
		if bytes.Count(unit, []byte{0}) == len(unit) {
			if !w.zeroGrains {
				continue
			}
			entry = 1
		}
		if tables[t64] == nil {
			tables[t64] = make([]uint32, w.gtes)
		}
		tables[t64][int64(i)%w.gtes] = entry
		if entry == 1 {
			continue
		}
		var packed []byte
		var err error
		if w.level < 0 {
			packed = storedZlib(unit)
		} else if packed, err = codec.Compress(disk.Zlib, w.level, nil, unit); err != nil {
			t.Fatal(err)
		}
		var m [markerHead]byte
		le.PutUint64(m[:], uint64(int64(i)*w.grain/sector))
		le.PutUint32(m[8:], uint32(len(packed)))
		b.Write(m[:])
		sectors(packed)
	}
	words := func(kind uint32, v []uint32) uint32 {
		p := make([]byte, (len(v)*4+sector-1)/sector*sector)
		for i, e := range v {
			le.PutUint32(p[i*4:], e)
		}
		mark(kind, len(p)/sector)
		at := b.Len() / sector
		b.Write(p)
		return uint32(at)
	}
	gd := make([]uint32, len(tables))
	if w.tables {
		for i, t := range tables {
			if t != nil {
				gd[i] = words(markerGT, t)
			}
		}
	}
	if w.directory {
		h.gdOffset = int64(words(markerGD, gd)) * sector
	}
	b.Write(w.between)
	if w.footer {
		mark(markerFooter, 1)
		sectors(putHeader(h, 0, overhead))
	}
	if w.eos {
		mark(markerEOS, 0)
	}
	b.Write(w.after)
	return b.Bytes()
}

// storedZlib is zlib without compression, which is longer than what it holds.
func storedZlib(unit []byte) []byte {
	b := []byte{0x78, 0x01}
	for at := 0; at < len(unit); {
		n := min(len(unit)-at, 100)
		last := byte(0)
		if at+n == len(unit) {
			last = 1
		}
		b = append(b, last, byte(n), byte(n>>8), ^byte(n), ^byte(n>>8))
		b = append(b, unit[at:at+n]...)
		at += n
	}
	z, _ := codec.Compress(disk.Zlib, 1, nil, unit)
	return append(b, z[len(z)-4:]...)
}

func shuffled(n int) []int { return rand.New(rand.NewPCG(1, 1)).Perm(n) }

// streamed reads a file as a stream.
func streamed(file []byte) ([]byte, error) {
	s, err := Format{}.OpenStream(context.Background(), file[:min(len(file), 64<<10)], bytes.NewReader(file), int64(len(file)))
	if err != nil {
		return nil, err
	}
	return disktest.ReadStream(s)
}

func TestFilesOfOtherPrograms(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*foreign)
		stream error // what reading it as a stream ends with
	}{
		"VMware":                      {func(*foreign) {}, nil},
		"VirtualBox":                  {func(w *foreign) { w.version = 1 }, nil},
		"version 2":                   {func(w *foreign) { w.version = 2 }, nil},
		"grains in any order":         {func(w *foreign) { w.order = shuffled }, nil},
		"small grains":                {func(w *foreign) { w.grain = 4096 }, nil},
		"tiny grains":                 {func(w *foreign) { w.grain = 512 }, nil},
		"large grains":                {func(w *foreign) { w.grain = 1 << 20 }, nil},
		"grains larger than the disk": {func(w *foreign) { w.grain = 16 << 20 }, nil},
		"small tables":                {func(w *foreign) { w.gtes = 4 }, nil},
		"odd tables":                  {func(w *foreign) { w.gtes = 7 }, nil},
		"grains of zeroes":            {func(w *foreign) { w.zeroGrains, w.gtes = true, 8 }, nil},
		"padding at the end":          {func(w *foreign) { w.after = make([]byte, 100*sector) }, nil},
		"padding of an odd size":      {func(w *foreign) { w.after = make([]byte, 777) }, nil},
		"padding before the footer":   {func(w *foreign) { w.between = make([]byte, 200*sector) }, nil},
		"grains longer than grains":   {func(w *foreign) { w.level = -1 }, nil},
		"no descriptor":               {func(w *foreign) { w.descriptor = "" }, nil},
		"no footer":                   {func(w *foreign) { w.footer = false }, nil},
		"no tables at all":            {func(w *foreign) { w.footer, w.directory, w.tables = false, false, false }, nil},
		"capacity in the footer only": {func(w *foreign) { w.capacity = 3<<20 + 5*sector }, disk.ErrNeedsSeek},
	} {
		t.Run(name, func(t *testing.T) {
			content := disktest.Sample(3<<20 + 5*sector)
			w := whole()
			c.change(&w)
			file := w.make(t, content)
			files := disktest.MemFiles{"x": disktest.NewMemFile(file)}
			m, err := open(files, "x", nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := disktest.Same(m, content); err != nil {
				t.Error(err)
			}
			if err := disktest.Walk(m, content); err != nil {
				t.Error(err)
			}
			if got := faults(t, m); len(got) > 0 {
				t.Errorf("faults %v", got)
			}
			got, err := streamed(file)
			if !errors.Is(err, c.stream) {
				t.Fatalf("as a stream: %v, want %v", err, c.stream)
			}
			if err == nil && !bytes.Equal(got, content) {
				t.Error("as a stream it has other content")
			}
		})
	}
}

func faults(t *testing.T, m disk.Image) []disk.Fault {
	t.Helper()
	var got []disk.Fault
	if err := m.(disk.Checker).Check(context.Background(), func(f disk.Fault) { got = append(got, f) }); err != nil {
		t.Fatal(err)
	}
	return got
}

// TestFilesThatBreakOff cuts files, and fills up with zeroes what is missing, as
// programs do that allocate a file before they fetch it: neither may pass for
// whole.
func TestFilesThatBreakOff(t *testing.T) {
	content := disktest.Sample(2 << 20)
	file := whole().make(t, content)
	for at := sector; at < len(file)-sector; at += 7 * sector / 2 {
		for name, b := range map[string][]byte{
			"cut":    file[:at],
			"zeroed": append(bytes.Clone(file[:at]), make([]byte, len(file)-at)...),
		} {
			got, err := streamed(b)
			if err == nil && !bytes.Equal(got, content) {
				t.Fatalf("%s at %d: other content as a stream, and no error", name, at)
			}
			if err == io.EOF || err != nil && name == "cut" && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%s at %d: as a stream: %v", name, at, err)
			}
			m, err := open(disktest.MemFiles{"x": disktest.NewMemFile(b)}, "x", nil)
			if err != nil {
				if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, disk.ErrCorrupt) {
					t.Fatalf("%s at %d: %v", name, at, err)
				}
				continue
			}
			if err := disktest.Same(m, content); err != nil {
				t.Fatalf("%s at %d: other content, and no error: %v", name, at, err)
			}
		}
	}
}

// TestTheLastGrainOfOldQEMU has no padding behind it.
func TestTheLastGrainOfOldQEMU(t *testing.T) {
	content := disktest.Sample(1 << 20)
	dir := t.TempDir()
	file := qemuStream(t, dir, content)
	file = bytes.TrimRight(file, "\x00")
	got, err := streamed(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, content) {
		t.Error("other content")
	}
	for _, cut := range []int{1, 5, 600} {
		if _, err := streamed(file[:len(file)-cut]); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes less: %v", cut, err)
		}
	}
}

// TestGrainsTwice has a grain come twice, and the tables of the same file read
// otherwise than its markers.
func TestGrainsTwice(t *testing.T) {
	content := bytes.Repeat([]byte("twice "), 60000)[:256<<10]
	w := whole()
	w.order = func(int) []int { return []int{0, 1, 1, 2, 3} }
	if _, err := streamed(w.make(t, content)); !errors.Is(err, disk.ErrCorrupt) {
		t.Errorf("a grain that comes twice: %v", err)
	}
}

// TestCheckFindsWhatLiesOverEachOther gives two grains the same place, then one
// the place of the table.
func TestCheckFindsWhatLiesOverEachOther(t *testing.T) {
	content := bytes.Repeat([]byte("over each other "), 64<<10)
	for name, c := range map[string]struct {
		subformat string
		second    func(first, table uint32) uint32 // the second entry of the table
	}{
		"two grains":           {monolithicSparse, func(first, _ uint32) uint32 { return first }},
		"the descriptor":       {monolithicSparse, func(_, _ uint32) uint32 { return 2 }},
		"a table":              {monolithicSparse, func(_, table uint32) uint32 { return table }},
		"past the end":         {monolithicSparse, func(_, _ uint32) uint32 { return 0xfffffff0 }},
		"two packed grains":    {streamOptimized, func(first, _ uint32) uint32 { return first }},
		"a place with no mark": {streamOptimized, func(_, _ uint32) uint32 { return 3 }},
	} {
		t.Run(name, func(t *testing.T) {
			files := create(t, c.subformat, content, "x")
			b := files["x"].Bytes()
			h, err := parseHeader(b)
			if err != nil {
				t.Fatal(err)
			}
			if h.gdOffset < 0 {
				if h, err = findFooter(files["x"]); err != nil {
					t.Fatal(err)
				}
			}
			table := le.Uint32(b[h.gdOffset:])
			entries := b[int64(table)*sector:]
			le.PutUint32(entries[4:], c.second(le.Uint32(entries), table))
			m, err := open(files, "x", nil)
			if err != nil {
				t.Fatal(err)
			}
			got := faults(t, m)
			if len(got) != 1 || got[0].Offset != 64<<10 || got[0].Length != 64<<10 {
				t.Errorf("faults %+v", got)
			}
		})
	}
}

// TestTablesThatShareTheirBytes has a directory whose entries all name the same
// table: a walk over it must not take forever.
func TestTablesThatShareTheirBytes(t *testing.T) {
	b := make([]byte, 1<<20)
	h := header{version: 1, grain: 4096, gtes: 1 << 12, gdOffset: 64 * sector}
	h.capacity = h.grain * h.gtes * (100 << 10)
	copy(b, putHeader(h, 0, 64*sector))
	for i := range h.tables() {
		le.PutUint32(b[h.gdOffset+i*4:], 1024)
	}
	if _, err := open(disktest.MemFiles{"x": disktest.NewMemFile(b)}, "x", nil); !errors.Is(err, disk.ErrCorrupt) {
		t.Errorf("%v", err)
	}
}

// TestManyExtentsShareTheLimitOfTables names the same large directory again and again.
func TestManyExtentsShareTheLimitOfTables(t *testing.T) {
	e := make([]byte, 1<<20)
	h := header{version: 1, grain: 4096, gtes: 512, gdOffset: sector}
	h.capacity = h.grain * h.gtes * (200 << 10)
	copy(e, putHeader(h, 0, sector))
	var text strings.Builder
	text.WriteString("# Disk DescriptorFile\nCID=1\nparentCID=ffffffff\n")
	for range 1000 {
		fmt.Fprintf(&text, "RW %d SPARSE \"e\"\n", h.capacity/sector)
	}
	files := disktest.MemFiles{"x": disktest.NewMemFile([]byte(text.String())), "e": disktest.NewMemFile(e)}
	if _, err := open(files, "x", nil); !errors.Is(err, disk.ErrUnsupported) {
		t.Errorf("%v", err)
	}
}

// TestALargeEmptyDiskIsWalkedInNoTime has a map of 32 Ki tables.
func TestALargeEmptyDiskIsWalkedInNoTime(t *testing.T) {
	files := disktest.MemFiles{}
	const size = 1 << 40
	w, err := Format{}.Create(context.Background(), files, disk.CreateOptions{Name: "x", Size: size})
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, 1 << 39, size - 64<<10} {
		if _, err := w.WriteAt(bytes.Repeat([]byte("x"), 64<<10), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Finish(context.Background()); err != nil {
		t.Fatal(err)
	}
	m, err := open(files, "x", nil)
	if err != nil {
		t.Fatal(err)
	}
	extents, packed := 0, 0
	for off := int64(0); off < size; extents++ {
		e, err := m.Extent(context.Background(), off)
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == disk.Compressed {
			packed++
		}
		off = e.End()
	}
	if packed != 3 || extents > 1000 {
		t.Errorf("%d extents, %d of them compressed", extents, packed)
	}
}

// TestParentThatThePackageNames is below a disk that says of itself that it has
// none.
func TestParentThatThePackageNames(t *testing.T) {
	content := disktest.Sample(1 << 20)
	below, err := open(create(t, monolithicSparse, content, "b"), "b", nil)
	if err != nil {
		t.Fatal(err)
	}
	files := disktest.MemFiles{}
	w, err := Format{}.Create(context.Background(), files, disk.CreateOptions{Name: "x", Size: 2 << 20})
	if err != nil {
		t.Fatal(err)
	}
	top := bytes.Repeat([]byte("on top "), 10000)[:64<<10]
	if _, err := w.WriteAt(top, 128<<10); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(context.Background()); err != nil {
		t.Fatal(err)
	}
	m, err := open(files, "x", below)
	if err != nil {
		t.Fatal(err)
	}
	want := append(bytes.Clone(content), make([]byte, 1<<20)...)
	copy(want[128<<10:], top)
	if err := disktest.Same(m, want); err != nil {
		t.Error(err)
	}
	if err := disktest.Walk(m, want); err != nil {
		t.Error(err)
	}
}

// TestContentIDOfAWrappedParent is compared too.
func TestContentIDOfAWrappedParent(t *testing.T) {
	content := disktest.Sample(1 << 20)
	below, err := open(create(t, monolithicSparse, content, "b"), "b", nil)
	if err != nil {
		t.Fatal(err)
	}
	w := whole()
	w.descriptor = strings.Replace(w.descriptor, noParent, "00000077", 1)
	files := disktest.MemFiles{"x": disktest.NewMemFile(w.make(t, content))}
	if _, err := open(files, "x", disk.KeepOpen{Image: below}); !errors.Is(err, disk.ErrCorrupt) {
		t.Errorf("%v", err)
	}
	if _, err := streamed(files["x"].Bytes()); !errors.Is(err, disk.ErrNeedsSeek) {
		t.Errorf("a delta as a stream: %v", err)
	}
}

func TestASESparseExtentThatWasNotClosed(t *testing.T) {
	files, _ := seSparseFiles(64, 1)
	files["e.vmdk"].Bytes()[8*sector+24] = 1
	if _, err := open(files, "x", nil); !errors.Is(err, disk.ErrUnsupported) || !strings.Contains(err.Error(), "journal") {
		t.Errorf("%v", err)
	}
}

// TestZeroGrainsAreNotStored has the writers leave them out by themselves.
func TestZeroGrainsAreNotStored(t *testing.T) {
	files := create(t, streamOptimized, make([]byte, 1<<20), "x")
	if n := files["x"].Size(); n > 100<<10 {
		t.Errorf("a disk of zeroes takes %d bytes", n)
	}
}

func TestSizesThatNoTablesFit(t *testing.T) {
	for _, sub := range []string{streamOptimized, monolithicSparse} {
		_, err := Format{}.Create(context.Background(), disktest.MemFiles{}, disk.CreateOptions{Name: "x", Subformat: sub, Size: 1 << 61})
		if !errors.Is(err, disk.ErrUnsupported) {
			t.Errorf("%s of 2 EiB: %v", sub, err)
		}
	}
}

// FuzzExtents opens extents of the kinds that a descriptor has to name.
func FuzzExtents(f *testing.F) {
	cowd, _ := cowdFiles(64, 1)
	seSparse, _ := seSparseFiles(64, 1)
	f.Add(uint8(0), cowd["e.vmdk"].Bytes())
	f.Add(uint8(1), seSparse["e.vmdk"].Bytes())
	f.Add(uint8(2), create(f, monolithicSparse, disktest.Sample(64<<10), "x")["x"].Bytes())
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		text := "# Disk DescriptorFile\nCID=1\nparentCID=ffffffff\nRW 64 " + []string{"VMFSSPARSE", "SESPARSE", "SPARSE", "FLAT"}[kind%4] + " \"e\"\n"
		disktest.HostileFiles(t, Format{}, disktest.MemFiles{"x": disktest.NewMemFile([]byte(text)), "e": disktest.NewMemFile(b)}, "x")
	})
}
