package disktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/codec"
	"github.com/ovation-project/ovation/internal/testenv"
)

// Case is one way of making images of a format.
type Case struct {
	Name    string
	Format  disk.Format
	Options disk.CreateOptions // without Name and Size
	// Round is what sizes are a multiple of; 0 is a sector.
	Round int64
	// Check asks "qemu-img check" too, which does not know every format.
	Check bool
}

// Suite checks the cases against the contract, by models and against qemu-img.
func Suite(t *testing.T, cases ...Case) {
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			t.Run("Model", func(t *testing.T) { testModel(t, c) })
			t.Run("Deterministic", func(t *testing.T) { testDeterministic(t, c) })
			t.Run("Edges", func(t *testing.T) { testEdges(t, c) })
			t.Run("Pipe", func(t *testing.T) { testPipe(t, c) })
			t.Run("Damage", func(t *testing.T) { testDamage(t, c) })
			t.Run("QEMU", func(t *testing.T) { testQEMU(t, c) })
		})
	}
}

const fileName = "disk.img"

// drawContent gives a disk of a few units: data, zeroes and holes.
func drawContent(t *rapid.T, c Case) []byte {
	round := max(c.Round, disk.SectorSize)
	// Up to 2.4 MiB, or a few units where those are large.
	most := max(3, min(4800, 2400<<10/round))
	size := round * rapid.Int64Range(1, most).Draw(t, "size")
	content := make([]byte, size)
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	for range rapid.IntRange(0, 6).Draw(t, "runs") {
		off := rapid.Int64Range(0, size-1).Draw(t, "off")
		length := rapid.Int64Range(1, min(size-off, 200<<10)).Draw(t, "length")
		fill(content[off:off+length], r, rapid.IntRange(0, 2).Draw(t, "kind"))
	}
	return content
}

// fill writes bytes that do not compress, that do, or zeroes.
func fill(b []byte, r *rand.Rand, kind int) {
	switch kind {
	case 0:
		for i := range b {
			b[i] = byte(r.Uint32())
		}
	case 1:
		for i := range b {
			b[i] = "a virtual appliance, packed "[i%28] + byte(r.Uint32()%17/16)
		}
	default:
		clear(b)
	}
}

// write makes an image of content, in the order that next gives units in.
func write(w disk.Writer, content []byte, shuffle *rand.Rand) error {
	l := w.Layout()
	unit := l.Unit
	if unit == 0 {
		unit = 64 << 10
	}
	var units []int64
	for off := int64(0); off < int64(len(content)); off += unit {
		units = append(units, off)
	}
	if shuffle != nil && !l.Ordered {
		shuffle.Shuffle(len(units), func(i, j int) { units[i], units[j] = units[j], units[i] })
	}
	for n, off := range units {
		part := content[off:min(int64(len(content)), off+unit)]
		var err error
		switch {
		case isZero(part):
			if n%2 == 0 {
				err = w.WriteZeroes(off, int64(len(part)))
			}
		case l.Codec != disk.NoCodec && n%3 != 0 && int64(len(part)) == unit:
			var packed []byte
			if packed, err = codec.Compress(l.Codec, 0, nil, part); err == nil && int64(len(packed)) < unit {
				err = w.WriteCompressed(off, packed)
			} else if p, ok := w.(disk.PlainWriter); ok && err == nil {
				err = p.WritePlain(part, off)
			} else if err == nil {
				_, err = w.WriteAt(part, off)
			}
		case l.Codec == disk.NoCodec && n%3 == 0 && len(part) > 1024:
			// In two pieces, which are no whole units.
			if _, err = w.WriteAt(part[:1000], off); err == nil {
				_, err = w.WriteAt(part[1000:], off+1000)
			}
		default:
			_, err = w.WriteAt(part, off)
		}
		if err != nil {
			return fmt.Errorf("write at %d: %w", off, err)
		}
	}
	return w.Finish(context.Background())
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func create(c Case, out disk.Output, content []byte, shuffle *rand.Rand) error {
	opt := c.Options
	opt.Name, opt.Size = fileName, int64(len(content))
	w, err := c.Format.Create(context.Background(), out, opt)
	if err != nil {
		return err
	}
	return write(w, content, shuffle)
}

func testModel(t *testing.T, c Case) {
	rapid.Check(t, func(t *rapid.T) {
		content := drawContent(t, c)
		files := MemFiles{}
		var shuffle *rand.Rand
		if rapid.Bool().Draw(t, "shuffled") {
			shuffle = rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "order"), 2))
		}
		if err := create(c, files, content, shuffle); err != nil {
			t.Fatal(err)
		}
		m, err := c.Format.Open(context.Background(), files[fileName], disk.OpenOptions{Files: files})
		if err != nil {
			t.Fatal(err)
		}
		if err := Same(m, content); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			off := rapid.Int64Range(0, int64(len(content))).Draw(t, "read")
			b := make([]byte, rapid.IntRange(0, 100<<10).Draw(t, "n"))
			n, err := m.ReadAt(b, off)
			want := content[off:min(int64(len(content)), off+int64(len(b)))]
			if !bytes.Equal(b[:n], want) || n < len(b) && err != io.EOF || err != nil && err != io.EOF {
				t.Fatalf("ReadAt(%d bytes, %d) = %d, %v", len(b), off, n, err)
			}
		}
		if err := Walk(m, content); err != nil {
			t.Fatal(err)
		}
		if err := faults(m); err != nil {
			t.Fatal(err)
		}
		if s, ok := c.Format.(disk.Streamer); ok {
			streams(t, s, files[fileName].Bytes(), content)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// Same says where an image differs from content.
func Same(m disk.Image, content []byte) error {
	if m.Size() != int64(len(content)) {
		return fmt.Errorf("the image has %d bytes, want %d", m.Size(), len(content))
	}
	got := make([]byte, len(content))
	if n, err := m.ReadAt(got, 0); n < len(got) {
		return fmt.Errorf("read %d of %d bytes: %w", n, len(got), err)
	}
	return differ(got, content)
}

func differ(got, want []byte) error {
	for i := range want {
		if got[i] != want[i] {
			return fmt.Errorf("byte %d is %#x, want %#x", i, got[i], want[i])
		}
	}
	return nil
}

// Walk goes over all extents, and says where they are not what the contract
// says, or disagree with content.
func Walk(m disk.Image, content []byte) error {
	ctx := context.Background()
	size := m.Size()
	for off := int64(0); off < size; {
		e, err := m.Extent(ctx, off)
		if err != nil {
			return fmt.Errorf("extent at %d: %w", off, err)
		}
		if e.Length <= 0 || e.Offset > off || e.End() <= off || e.End() > size || e.Kind != disk.Compressed && e.Offset != off {
			return fmt.Errorf("extent %+v at %d of a disk of %d", e, off, size)
		}
		if e.Kind == disk.Compressed && e.Offset != off {
			return fmt.Errorf("a walk from unit to unit gets into the middle of %+v", e)
		}
		want := content[e.Offset:e.End()]
		switch {
		case e.Kind == disk.Hole || e.Kind == disk.Zero:
			if !isZero(want) {
				return fmt.Errorf("%v at %d is not zero", e.Kind, off)
			}
		case e.Kind == disk.Compressed:
			packed := make([]byte, e.FileLength)
			if n, err := e.File.ReadAt(packed, e.FileOffset); int64(n) < e.FileLength {
				return fmt.Errorf("read the stored bytes of %+v: %w", e, err)
			}
			unit, err := decompress(e.Codec, packed, want)
			if err != nil {
				return fmt.Errorf("decompress %+v: %w", e, err)
			}
			if err := differ(unit, want); err != nil {
				return fmt.Errorf("%+v decompressed: %w", e, err)
			}
		case e.File != nil:
			if e.FileLength != e.Length {
				return fmt.Errorf("data of %d bytes lies in %d", e.Length, e.FileLength)
			}
			b := make([]byte, e.Length)
			if n, err := e.File.ReadAt(b, e.FileOffset); n < len(b) {
				return fmt.Errorf("read the stored bytes of %+v: %w", e, err)
			}
			if err := differ(b, want); err != nil {
				return fmt.Errorf("%+v: %w", e, err)
			}
		}
		off = e.End()
	}
	if _, err := m.Extent(ctx, size); err != io.EOF {
		return fmt.Errorf("extent at the end: %v, want EOF", err)
	}
	if mapper, ok := m.(disk.Mapper); ok {
		return sketched(m, mapper)
	}
	return nil
}

// sketched says where a map disagrees with the extents.
func sketched(m disk.Image, mapper disk.Mapper) error {
	ctx := context.Background()
	for off := int64(0); off < m.Size(); {
		run, err := mapper.Map(ctx, off)
		if err != nil {
			return fmt.Errorf("map at %d: %w", off, err)
		}
		if run.Offset != off || run.Length <= 0 || run.End() > m.Size() {
			return fmt.Errorf("map gives %+v at %d of a disk of %d", run, off, m.Size())
		}
		for off < run.End() {
			e, err := m.Extent(ctx, off)
			if err != nil {
				return fmt.Errorf("extent at %d: %w", off, err)
			}
			if e.Kind != run.Kind || e.Codec != run.Codec {
				return fmt.Errorf("at %d is %v, and the map has %+v", off, e.Kind, run)
			}
			off = min(e.End(), run.End())
		}
	}
	if _, err := mapper.Map(ctx, m.Size()); err != io.EOF {
		return fmt.Errorf("map at the end: %v, want EOF", err)
	}
	return nil
}

func faults(m disk.Image) error {
	c, ok := m.(disk.Checker)
	if !ok {
		return nil
	}
	var found []string
	err := c.Check(context.Background(), func(f disk.Fault) { found = append(found, fmt.Sprintf("%+v", f)) })
	if err != nil || len(found) > 0 {
		return fmt.Errorf("check of a sound image: %v %w", found, err)
	}
	return nil
}

type failer interface {
	Fatalf(format string, args ...any)
	Helper()
}

// ReadStream puts a disk together from what a stream gives.
func ReadStream(s disk.Stream) ([]byte, error) {
	content := make([]byte, s.Size())
	came := make([]bool, (s.Size()+disk.SectorSize-1)/disk.SectorSize)
	for {
		run, err := s.Next(context.Background())
		if err == io.EOF {
			if _, again := s.Next(context.Background()); again != io.EOF {
				return nil, fmt.Errorf("after the end: %w, want EOF again", again)
			}
			return content, nil
		}
		if err != nil {
			return nil, err
		}
		if run.Offset < 0 || run.Length <= 0 || run.End() > s.Size() {
			return nil, fmt.Errorf("run %+v of a disk of %d", run.Extent, s.Size())
		}
		for i := run.Offset / disk.SectorSize; i*disk.SectorSize < run.End(); i++ {
			if came[i] {
				return nil, fmt.Errorf("sector %d comes twice", i)
			}
			came[i] = true
		}
		part := content[run.Offset:run.End()]
		switch run.Kind {
		case disk.Data:
			if len(run.Stored) != len(part) {
				return nil, fmt.Errorf("%d bytes for %d", len(run.Stored), len(part))
			}
			copy(part, run.Stored)
		case disk.Compressed:
			unit, err := decompress(run.Codec, run.Stored, part)
			if err != nil {
				return nil, fmt.Errorf("run at %d: %w", run.Offset, err)
			}
			copy(part, unit)
		}
	}
}

// maxUnit is the largest compressed unit that the tests look into.
const maxUnit = 32 << 20

// decompress gives a unit of which part shows on the disk.
func decompress(c disk.Codec, stored, part []byte) ([]byte, error) {
	for size := max(len(part), 4<<10); ; size *= 2 {
		unit := make([]byte, size)
		n, _, err := codec.Decompress(c, unit, stored)
		switch {
		case errors.Is(err, codec.ErrTooLong) && size < maxUnit:
			continue
		case err == nil && n < len(part):
			err = fmt.Errorf("%d bytes of %d", n, len(part))
		}
		return unit, err
	}
}

// streams reads an image as a stream, whole and cut off.
func streams(t failer, s disk.Streamer, file, content []byte) {
	t.Helper()
	read := func(file []byte, size int64) ([]byte, error) {
		head := file[:min(len(file), 64<<10)]
		st, err := s.OpenStream(context.Background(), head, bytes.NewReader(file), size)
		if err != nil {
			return nil, err
		}
		return ReadStream(st)
	}
	got, err := read(file, int64(len(file)))
	if errors.Is(err, disk.ErrNeedsSeek) {
		return
	}
	if err != nil {
		t.Fatalf("as a stream: %v", err)
	}
	if len(got) != len(content) {
		t.Fatalf("as a stream it has %d bytes, want %d", len(got), len(content))
	}
	if err := differ(got, content); err != nil {
		t.Fatalf("as a stream: %v", err)
	}
	for _, cut := range []int{1, 513, len(file) / 3, len(file) / 2, len(file) - 1000} {
		if cut >= len(file) || cut < 0 {
			continue
		}
		switch got, err := read(file[:len(file)-cut], int64(len(file))); {
		case err == nil && bytes.Equal(got, content): // padding may go
		case err == nil:
			t.Fatalf("as a stream that lacks its last %d bytes: no error, and other content", cut)
		case !errors.Is(err, io.ErrUnexpectedEOF):
			t.Fatalf("as a stream that lacks its last %d bytes: %v, want ErrUnexpectedEOF", cut, err)
		}
	}
}

// sample is a disk of 3 MiB and a half sector short of nothing in particular.
func sample(c Case, size int64) []byte {
	round := max(c.Round, disk.SectorSize)
	content := make([]byte, (size+round-1)/round*round)
	r := rand.New(rand.NewPCG(7, 7))
	for i := int64(0); i < int64(len(content)); i += 150 << 10 {
		fill(content[i:min(int64(len(content)), i+70<<10)], r, int(i/(150<<10))%3)
	}
	fill(content[max(0, len(content)-700):], r, 0)
	return content
}

func testDeterministic(t *testing.T, c Case) {
	content := sample(c, 3<<20)
	one, two := MemFiles{}, MemFiles{}
	for _, files := range []MemFiles{one, two} {
		if err := create(c, files, content, nil); err != nil {
			t.Fatal(err)
		}
	}
	for name, f := range one {
		if !bytes.Equal(f.Bytes(), two[name].Bytes()) {
			t.Errorf("%s differs between two runs", name)
		}
	}
}

// testEdges reads and writes at and over the ends of a disk.
func testEdges(t *testing.T, c Case) {
	content := sample(c, 1<<20)
	files := MemFiles{}
	opt := c.Options
	opt.Name, opt.Size = fileName, int64(len(content))
	w, err := c.Format.Create(context.Background(), files, opt)
	if err != nil {
		t.Fatal(err)
	}
	unit := max(w.Layout().Unit, disk.SectorSize)
	block := make([]byte, unit)
	block[0] = 1
	for _, off := range []int64{-unit, opt.Size, (opt.Size/unit + 1) * unit} {
		if _, err := w.WriteAt(block, off); err == nil {
			t.Errorf("WriteAt(%d bytes, %d) of a disk of %d is no error", unit, off, opt.Size)
		}
		if err := w.WriteZeroes(off, unit); err == nil {
			t.Errorf("WriteZeroes(%d, %d) of a disk of %d is no error", off, unit, opt.Size)
		}
	}
	if err := w.WriteZeroes(0, -1); err == nil {
		t.Error("WriteZeroes of less than nothing is no error")
	}
	if w.Layout().Codec == disk.NoCodec {
		if err := w.WriteCompressed(0, []byte("x")); err == nil {
			t.Error("WriteCompressed without a codec is no error")
		}
	}
	if err := write(w, content, nil); err != nil {
		t.Fatalf("after errors: %v", err)
	}
	m, err := c.Format.Open(context.Background(), files[fileName], disk.OpenOptions{Files: files})
	if err != nil {
		t.Fatal(err)
	}
	if err := Same(m, content); err != nil {
		t.Fatalf("after errors: %v", err)
	}
	b := make([]byte, 1000)
	if n, err := m.ReadAt(b, -1); n != 0 || err == nil || err == io.EOF {
		t.Errorf("ReadAt(-1) = %d, %v", n, err)
	}
	for off, want := range map[int64]int{m.Size(): 0, m.Size() + 5: 0, m.Size() - 300: 300} {
		if n, err := m.ReadAt(b, off); n != want || err != io.EOF {
			t.Errorf("ReadAt(%d) of a disk of %d = %d, %v; want %d, EOF", off, m.Size(), n, err, want)
		}
	}
	if n, err := m.ReadAt(nil, 10); n != 0 || err != nil {
		t.Errorf("ReadAt of nothing = %d, %v", n, err)
	}
	for _, off := range []int64{m.Size(), m.Size() + 5} {
		if _, err := m.Extent(context.Background(), off); err != io.EOF {
			t.Errorf("Extent(%d) of a disk of %d: %v, want EOF", off, m.Size(), err)
		}
	}
	bad := opt
	bad.Subformat = "no such subformat"
	if _, err := c.Format.Create(context.Background(), MemFiles{}, bad); !errors.Is(err, disk.ErrUnsupported) {
		t.Errorf("an unknown subformat: %v, want ErrUnsupported", err)
	}
}

// testPipe writes to what cannot seek.
func testPipe(t *testing.T, c Case) {
	f, ok := c.Format.(disk.StreamCreator)
	if !ok {
		t.Skip("the format is not written to what cannot seek")
	}
	content := sample(c, 3<<20)
	opt := c.Options
	opt.Name, opt.Size = fileName, int64(len(content))
	var b bytes.Buffer
	w, err := f.CreateStream(context.Background(), &b, opt)
	if errors.Is(err, disk.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !w.Layout().Ordered {
		t.Error("the layout is not Ordered")
	}
	if err := write(w, content, nil); err != nil {
		t.Fatal(err)
	}
	files := MemFiles{fileName: NewMemFile(b.Bytes())}
	m, err := c.Format.Open(context.Background(), files[fileName], disk.OpenOptions{Files: files})
	if err != nil {
		t.Fatal(err)
	}
	if err := Same(m, content); err != nil {
		t.Error(err)
	}
	if err := Walk(m, content); err != nil {
		t.Error(err)
	}
	if err := faults(m); err != nil {
		t.Error(err)
	}
	if s, ok := c.Format.(disk.Streamer); ok {
		streams(t, s, b.Bytes(), content)
	}
	if _, err := exec.LookPath("qemu-img"); err == nil {
		dir := t.TempDir()
		for name, b := range map[string][]byte{fileName: b.Bytes(), "raw": content} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		QEMUImg(t, dir, "compare", "-f", c.Format.Name(), "-F", "raw", fileName, "raw")
	}
	// And backwards, which cannot be.
	if w, err = f.CreateStream(context.Background(), io.Discard, opt); err != nil {
		t.Fatal(err)
	}
	unit := max(w.Layout().Unit, 64<<10)
	block := bytes.Repeat([]byte("back"), int(unit/4))
	if _, err := w.WriteAt(block, 2*unit); err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteAt(block, 0); !errors.Is(err, disk.ErrNeedsSeek) {
		t.Errorf("a write backwards: %v, want ErrNeedsSeek", err)
	}
}

// testDamage alters and cuts images: whatever comes of it, it ends, in an error
// or in other data, and several readers at once do not disturb each other.
func testDamage(t *testing.T, c Case) {
	content := sample(c, 1<<20)
	whole := MemFiles{}
	if err := create(c, whole, content, nil); err != nil {
		t.Fatal(err)
	}
	names := make([]string, 0, len(whole))
	for name := range whole {
		names = append(names, name)
	}
	slices.Sort(names)
	r := rand.New(rand.NewPCG(3, 3))
	for range 100 {
		files := MemFiles{}
		for _, name := range names {
			b := bytes.Clone(whole[name].Bytes())
			for range r.IntN(3) {
				at := r.IntN(len(b))
				if r.IntN(2) == 0 {
					at = r.IntN(min(len(b), 1024)) // where the headers are
				}
				b[at] = byte(r.Uint32())
			}
			if r.IntN(4) == 0 {
				b = b[:r.IntN(len(b)+1)]
			}
			files[name] = NewMemFile(b)
		}
		m, err := c.Format.Open(context.Background(), files[fileName], disk.OpenOptions{Files: files, MaxTableBytes: 8 << 20})
		if err != nil {
			continue
		}
		steps := 0
		for off := int64(0); off < m.Size() && steps < 500; steps++ {
			e, err := m.Extent(context.Background(), off)
			if err != nil {
				break
			}
			if e.End() <= off || e.Offset > off {
				t.Fatalf("Extent(%d) = %+v", off, e)
			}
			off = e.End()
		}
		_, _ = m.ReadAt(make([]byte, min(m.Size(), 2<<20)), 0)
		if ch, ok := m.(disk.Checker); ok && m.Size() < 1<<30 {
			_ = ch.Check(context.Background(), func(disk.Fault) {})
		}
	}
	m, err := c.Format.Open(context.Background(), whole[fileName], disk.OpenOptions{Files: whole})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := Same(m, content); err != nil {
				t.Error(err)
			}
			if err := Walk(m, content); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// testQEMU has qemu-img read what we write, and write what we read.
func testQEMU(t *testing.T, c Case) {
	testenv.NeedTool(t, "qemu-img")
	for _, size := range []int64{disk.SectorSize, 1 << 20, 3<<20 + 5*disk.SectorSize, 40 << 20} {
		content := sample(c, size)
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "raw"), content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := create(c, Dir{t, dir}, content, nil); err != nil {
			t.Fatal(err)
		}
		QEMUImg(t, dir, "compare", "-f", c.Format.Name(), "-F", "raw", fileName, "raw")
		if c.Check {
			QEMUImg(t, dir, "check", "-f", c.Format.Name(), fileName)
		}
	}
}

// Opens checks that an image that another tool made reads as content.
func Opens(t *testing.T, f disk.Format, dir, name string, content []byte) {
	t.Helper()
	d := Dir{t, dir}
	file, err := d.OpenFile(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	m, err := f.Open(context.Background(), file, disk.OpenOptions{Files: d})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := Same(m, content); err != nil {
		t.Error(err)
	}
	if err := Walk(m, content); err != nil {
		t.Error(err)
	}
	if err := faults(m); err != nil {
		t.Error(err)
	}
	if s, ok := f.(disk.Streamer); ok {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		streams(t, s, b, content)
	}
}

// Sample is a disk of about this size with data, zeroes and holes in it.
func Sample(size int64) []byte { return sample(Case{}, size) }

// QEMUImg runs qemu-img in a folder and gives what it printed.
func QEMUImg(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command(testenv.NeedTool(t, "qemu-img"), args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-img %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
