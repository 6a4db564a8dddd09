// Package local opens disk images that lie on this machine: files and block
// devices, and the other files of an image in the same folder.
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/ovation-project/ovation/disk"
)

// File is a disk.File, and a disk.LocalFile that begins at byte 0.
type File struct {
	*os.File
	size int64
}

// Open opens a file or a block device for reading.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return open(f)
}

func open(f *os.File) (*File, error) {
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	size := st.Size()
	switch {
	case st.Mode().IsRegular():
	case st.Mode()&fs.ModeDevice != 0 && st.Mode()&fs.ModeCharDevice == 0:
		if size, err = f.Seek(0, io.SeekEnd); err != nil {
			f.Close()
			return nil, err
		}
	default:
		f.Close()
		return nil, fmt.Errorf("%s is neither a file nor a block device", f.Name())
	}
	return &File{f, size}, nil
}

// Size is the file's size when it was opened.
func (f *File) Size() int64 { return f.size }

// Local is the file itself.
func (f *File) Local() (*os.File, int64) { return f.File, 0 }

// Folder is the disk.Files of an image whose other files lie beside it: it
// opens nothing outside of its folder, by whatever name or link.
type Folder struct {
	root *os.Root

	mu    sync.Mutex
	files []*File
}

// OpenFolder opens a folder. Close closes the files that came from it.
func OpenFolder(path string) (*Folder, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &Folder{root: root}, nil
}

// OpenFile opens a file of the folder, as disk.Files says.
func (d *Folder) OpenFile(ctx context.Context, name string) (disk.File, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !filepath.IsLocal(name) {
		return nil, fmt.Errorf("%q is not in the folder of the image: %w", name, disk.ErrOutside)
	}
	// Opening a pipe must not wait for somebody to write to it.
	osFile, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil, err
		}
		// A link that leads out is an error that has no name.
		return nil, fmt.Errorf("%w: %w", err, disk.ErrOutside)
	}
	f, err := open(osFile)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files = append(d.files, f)
	return f, nil
}

// Close closes the folder and the files that came from it.
func (d *Folder) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	errs := []error{d.root.Close()}
	for _, f := range d.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
