package disktest

import (
	"bytes"
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ovation-project/ovation/disk"
)

// What an image may make its reader do, whatever it says of itself: there are a
// few hundred calls, and tables of 4 MiB are granted.
const (
	hostileTables = 4 << 20
	hostileMemory = 256 << 20 // allocated in all, most of it by large blocks
	hostileReads  = 300_000
	hostileTime   = time.Minute // to end what does not end by itself
)

// Hostile opens bytes that anyone may have made, reads and walks over what
// there is of a disk, and wants an end of it, within what little is granted:
// the body of a format's fuzz target.
func Hostile(t *testing.T, f disk.Format, b []byte) {
	HostileFiles(t, f, MemFiles{"x": NewMemFile(b)}, "x")
	s, ok := f.(disk.Streamer)
	if !ok {
		return
	}
	defer granted(t)()
	st, err := s.OpenStream(context.Background(), b[:min(len(b), 64<<10)], bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return
	}
	for range len(b)/512 + 2 {
		run, err := st.Next(context.Background())
		if err != nil {
			return
		}
		if run.Offset < 0 || run.Length <= 0 || run.End() > st.Size() {
			t.Fatalf("run %+v of a disk of %d", run.Extent, st.Size())
		}
	}
	if _, err := st.Next(context.Background()); err == nil {
		t.Fatal("more runs than the file has sectors")
	}
}

// HostileFiles is Hostile for an image of several files, and without a stream.
func HostileFiles(t *testing.T, f disk.Format, files MemFiles, name string) {
	ctx := context.Background()
	defer granted(t)()
	counted := &reads{t: t, files: files}
	file, err := counted.OpenFile(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := f.Open(ctx, file, disk.OpenOptions{Files: counted, MaxTableBytes: hostileTables}); err == nil {
		if m.Size() < 0 {
			t.Fatalf("a disk of %d bytes", m.Size())
		}
		steps := 0
		for off := int64(0); off < m.Size() && steps < 500; steps++ {
			e, err := m.Extent(ctx, off)
			if err != nil {
				break
			}
			if e.End() <= off || e.Offset > off || e.End() > m.Size() {
				t.Fatalf("Extent(%d) = %+v of a disk of %d", off, e, m.Size())
			}
			off = e.End()
		}
		buf := make([]byte, 256<<10)
		_, _ = m.ReadAt(buf, 0)
		_, _ = m.ReadAt(buf, max(0, m.Size()-100<<10))
		if i, ok := m.(disk.Informer); ok {
			i.Info()
		}
		if c, ok := m.(disk.Checker); ok && m.Size() < 1<<28 {
			_ = c.Check(ctx, func(disk.Fault) {})
		}
		_ = m.Close()
	}
}

// granted begins to watch what is taken, and gives what ends that.
func granted(t *testing.T) func() {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	watchdog := time.AfterFunc(hostileTime, func() { panic("the image keeps its reader busy without an end") })
	return func() {
		t.Helper()
		watchdog.Stop()
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > hostileMemory {
			t.Errorf("%d MiB of memory were taken", n>>20)
		}
	}
}

// reads are files of which each read is counted.
type reads struct {
	t     *testing.T
	files MemFiles
	n     atomic.Int64
}

func (r *reads) OpenFile(ctx context.Context, name string) (disk.File, error) {
	f, err := r.files.OpenFile(ctx, name)
	if err != nil {
		return nil, err
	}
	return countedFile{f, r}, nil
}

type countedFile struct {
	disk.File
	reads *reads
}

func (f countedFile) ReadAt(p []byte, off int64) (int, error) {
	if f.reads.n.Add(1) == hostileReads {
		f.reads.t.Errorf("more than %d reads", hostileReads)
	}
	return f.File.ReadAt(p, off)
}
