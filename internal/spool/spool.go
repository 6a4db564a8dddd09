// Package spool keeps what can be read once only in a temporary file, to be
// seeked in.
package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/ovation-project/ovation/internal/atomicfile"
	"github.com/ovation-project/ovation/internal/chunk"
)

// File is a disk.LocalFile that goes when it is closed, or with the program.
type File struct {
	f    *atomicfile.File
	set  *atomicfile.Set
	size int64
}

// block is how much is looked at for zeroes, which are not stored.
const block = 64 << 10

// Copy reads r to its end and keeps it in a file of a folder. The caller closes
// the File; where Copy fails nothing is left.
func Copy(ctx context.Context, dir string, r io.Reader) (*File, error) {
	set := atomicfile.New(ctx, dir, atomicfile.Options{NoSync: true})
	f, err := set.CreateFile("copy")
	if err != nil {
		return nil, err
	}
	s := &File{f: f, set: set}
	if err := s.fill(ctx, r); err != nil {
		if errors.Is(err, syscall.ENOSPC) {
			err = fmt.Errorf("a copy of %d bytes and more does not fit into %s: %w", s.size, dir, err)
		}
		return nil, errors.Join(err, set.Abort())
	}
	return s, nil
}

func (s *File) fill(ctx context.Context, r io.Reader) error {
	buf := make([]byte, block)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		// io.ReadFull would not tell an end within a block from what breaks
		// off.
		n, err := 0, error(nil)
		for n < len(buf) && err == nil {
			var m int
			m, err = r.Read(buf[n:])
			n += m
		}
		if !chunk.IsZero(buf[:n]) {
			if _, err := s.f.WriteAt(buf[:n], s.size); err != nil {
				return err
			}
		}
		s.size += int64(n)
		if err == io.EOF {
			return s.f.Truncate(s.size)
		}
		if err != nil {
			return err
		}
	}
}

// ReadAt reads the copy.
func (s *File) ReadAt(b []byte, off int64) (int, error) { return s.f.ReadAt(b, off) }

// Size is how much was copied.
func (s *File) Size() int64 { return s.size }

// Local is the file itself.
func (s *File) Local() (*os.File, int64) { return s.f.File, 0 }

// Close drops the copy.
func (s *File) Close() error { return s.set.Abort() }
