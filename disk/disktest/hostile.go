package disktest

import (
	"bytes"
	"context"
	"testing"

	"github.com/ovation-project/ovation/disk"
)

// Hostile opens bytes that anyone may have made, reads and walks over what
// there is of a disk, and wants an end of it: the body of a format's fuzz
// target.
func Hostile(t *testing.T, f disk.Format, b []byte) {
	HostileFiles(t, f, MemFiles{"x": NewMemFile(b)}, "x")
	s, ok := f.(disk.Streamer)
	if !ok {
		return
	}
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
	if m, err := f.Open(ctx, files[name], disk.OpenOptions{Files: files, MaxTableBytes: 4 << 20}); err == nil {
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
