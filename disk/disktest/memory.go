// Package disktest checks any disk format against the contract of package disk.
// A new format is done when Suite passes.
package disktest

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/ovation-project/ovation/disk"
)

// MemFile is a file in memory: a disk.File and a disk.OutputFile.
type MemFile struct {
	mu sync.RWMutex
	b  []byte
}

// NewMemFile makes a file with this content.
func NewMemFile(b []byte) *MemFile { return &MemFile{b: b} }

// Bytes is the content.
func (f *MemFile) Bytes() []byte {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.b
}

// Size is the file's size.
func (f *MemFile) Size() int64 { return int64(len(f.Bytes())) }

// ReadAt is io.ReaderAt's.
func (f *MemFile) ReadAt(p []byte, off int64) (int, error) {
	b := f.Bytes()
	if off < 0 {
		return 0, fmt.Errorf("negative offset %d", off)
	}
	if off >= int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// maxMemFile keeps a test that goes wrong from taking all memory.
const maxMemFile = 1 << 30

// WriteAt is io.WriterAt's; the file grows with zeroes.
func (f *MemFile) WriteAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if off < 0 || off+int64(len(p)) > maxMemFile {
		return 0, fmt.Errorf("a write of %d bytes at %d", len(p), off)
	}
	f.grow(off + int64(len(p)))
	return copy(f.b[off:], p), nil
}

func (f *MemFile) grow(size int64) {
	if n := size - int64(len(f.b)); n > 0 {
		f.b = append(f.b, make([]byte, n)...)
	}
}

// Truncate sets the size.
func (f *MemFile) Truncate(size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if size < 0 || size > maxMemFile {
		return fmt.Errorf("truncate to %d", size)
	}
	f.grow(size)
	f.b = f.b[:size]
	return nil
}

// MemFiles is a folder in memory: a disk.Output and a disk.Files.
type MemFiles map[string]*MemFile

// Create makes an empty file.
func (m MemFiles) Create(name string) (disk.OutputFile, error) {
	if m[name] != nil {
		return nil, fmt.Errorf("%q is created twice", name)
	}
	m[name] = &MemFile{}
	return m[name], nil
}

// OpenFile gives a file that is there.
func (m MemFiles) OpenFile(_ context.Context, name string) (disk.File, error) {
	if f := m[name]; f != nil {
		return f, nil
	}
	return nil, fmt.Errorf("%q: %w", name, disk.ErrOutside)
}

// OSFile is a file of the operating system.
type OSFile struct{ *os.File }

// Size is the file's size.
func (f OSFile) Size() int64 {
	st, err := f.Stat()
	if err != nil {
		return 0
	}
	return st.Size()
}

// Dir is a folder of the operating system: a disk.Output and a disk.Files. Its
// files are closed with the test.
type Dir struct {
	T    testing.TB
	Path string
}

// Create makes an empty file.
func (d Dir) Create(name string) (disk.OutputFile, error) {
	f, err := os.OpenFile(filepath.Join(d.Path, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	d.T.Cleanup(func() { f.Close() })
	return f, nil
}

// OpenFile opens a file.
func (d Dir) OpenFile(_ context.Context, name string) (disk.File, error) {
	if filepath.Base(name) != name {
		return nil, fmt.Errorf("%q: %w", name, disk.ErrOutside)
	}
	f, err := os.Open(filepath.Join(d.Path, name))
	if err != nil {
		return nil, err
	}
	d.T.Cleanup(func() { f.Close() })
	return OSFile{f}, nil
}
