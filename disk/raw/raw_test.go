package raw

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/disktest"
)

func TestContract(t *testing.T) {
	disktest.Suite(t, disktest.Case{Name: "raw", Format: Format{}})
}

// local is a file that tells where it lies, from an offset on.
type local struct {
	*os.File
	from, size int64
}

func (l local) Size() int64 { return l.size }
func (l local) ReadAt(p []byte, off int64) (int, error) {
	return io.NewSectionReader(l.File, l.from, l.size).ReadAt(p, off)
}
func (l local) Local() (f *os.File, offset int64) { return l.File, l.from }

func TestHolesOfTheFileSystem(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/x")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	content := make([]byte, 8<<20)
	copy(content[3<<20:], bytes.Repeat([]byte("data"), 1000))
	if err := f.Truncate(9 << 20); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(content[3<<20:3<<20+4000], 4<<20); err != nil {
		t.Fatal(err)
	}
	m, err := Format{}.Open(context.Background(), local{f, 1 << 20, 8 << 20}, disk.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := disktest.Walk(m, content); err != nil {
		t.Error(err)
	}
	e, err := m.Extent(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if e.Kind == disk.Data {
		t.Skip("this file system does not tell holes")
	}
	if e.Length > 3<<20 {
		t.Errorf("the hole %+v reaches over data", e)
	}
}

func TestWrittenToAPipe(t *testing.T) {
	var b bytes.Buffer
	w, err := Format{}.CreateStream(context.Background(), &b, disk.CreateOptions{Size: 200 << 10})
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 200<<10)
	copy(want[70<<10:], "here")
	if _, err := w.WriteAt([]byte("here"), 70<<10); err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteAt([]byte("back"), 10); !errors.Is(err, disk.ErrNeedsSeek) {
		t.Errorf("a write backwards: %v", err)
	}
	if err := w.WriteZeroes(100<<10, 5); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(context.Background()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Error("the pipe got other bytes")
	}
}
