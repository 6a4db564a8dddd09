package atomicfile

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/ovation-project/ovation/disk"
)

var _ disk.RangeWriter = (*File)(nil)

// section is a disk.LocalFile: a file from an offset on.
type section struct {
	*io.SectionReader
	f    *os.File
	base int64
}

func (s section) Local() (*os.File, int64) { return s.f, s.base }

func TestWriteRange(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	data := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	src, err := os.Create(filepath.Join(dir, "src"))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if _, err := src.Write(data); err != nil {
		t.Fatal(err)
	}
	s := New(ctx, dir, Options{})
	f, err := s.CreateFile("dst")
	if err != nil {
		t.Fatal(err)
	}
	file := section{io.NewSectionReader(src, 5, 1000), src, 5}
	err = f.WriteRange(100, file, 7, 500)
	if errors.Is(err, disk.ErrUnsupported) {
		t.Skip("not on this file system:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 600)
	if _, err := f.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[100:], data[12:512]) || !bytes.Equal(got[:100], make([]byte, 100)) {
		t.Error("the bytes are not those of the range")
	}
	if err := f.WriteRange(0, file, int64(len(data)), 1); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("past the end: %v", err)
	}
	if err := f.WriteRange(0, plain{}, 0, 1); !errors.Is(err, disk.ErrUnsupported) {
		t.Errorf("a file that is not local: %v", err)
	}
	// Places that a file system could share blocks at, and an end that it
	// could not.
	whole := section{io.NewSectionReader(src, 0, int64(len(data))), src, 0}
	if err := f.WriteRange(8<<10, whole, 4<<10, 20<<10+100); err != nil {
		t.Fatal(err)
	}
	got = make([]byte, 20<<10+100)
	if _, err := f.ReadAt(got, 8<<10); err != nil || !bytes.Equal(got, data[4<<10:][:len(got)]) {
		t.Errorf("not the bytes of the range (%v)", err)
	}
	if err := s.Abort(); err != nil {
		t.Fatal(err)
	}
}

type plain struct{ disk.File }
