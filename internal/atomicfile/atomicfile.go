// Package atomicfile writes files that appear under their names only when
// they are complete.
//
// Where the file system allows, a file has no name at all until then, so that
// nothing is left even of a program that is killed; elsewhere it has a hidden
// name in the same folder, and Abort removes it.
package atomicfile

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/filelock"
)

// Options change how a Set behaves.
type Options struct {
	// Replace allows files of the same names to be replaced. Without it
	// they are an error that is fs.ErrExist.
	Replace bool
	// NoSync leaves out waiting for the disk before the files get their
	// names: for files that need not outlive a crash of the machine.
	NoSync bool
}

// Set is one or several files of one folder that appear together. It is the
// disk.Output of a local image. Its methods are called from one goroutine;
// the files that it gives may be used from several.
type Set struct {
	ctx   context.Context
	dir   string
	opt   Options
	files []*File
	// removed are names of files that go when the others come.
	removed []string
	done    bool
	reached func(step string) // for tests, nil else
}

// New begins a set of files in a folder, which must exist. When ctx is
// cancelled, writes to the files and Commit fail with its error. The caller
// calls Commit or Abort; Abort after Commit does nothing, and so may be
// deferred.
func New(ctx context.Context, dir string, opt Options) *Set {
	return &Set{ctx: ctx, dir: dir, opt: opt}
}

// File is one file of a set. It is a disk.OutputFile, and a disk.RangeWriter
// where the system can copy between files by itself.
type File struct {
	*os.File
	ctx  context.Context
	path string // the final one
	temp string // the hidden one, "" where the file has no name yet
	// early is nil where nobody waits for the disk.
	early *earlyWriter
	// noClone says that sharing blocks was tried and cannot be.
	noClone atomic.Bool
}

// earlyWriter has the system begin to write to the disk what was written to a
// file, so that there is little left to wait for at the end.
type earlyWriter struct {
	mu sync.Mutex
	// written is how many bytes between from and to are new.
	from, to, written int64
	busy              bool
}

// earlyStep is how many bytes make it worth the while. They go on from one
// another, holes left out.
const earlyStep = 16 << 20

// wrote notes a write, and sets off what has gathered.
func (e *earlyWriter) wrote(f *os.File, off int64, n int) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if off < e.to {
		e.from, e.written = off, 0
	}
	e.to = off + int64(n)
	if e.written += int64(n); e.busy || e.written < earlyStep {
		return
	}
	from, length := e.from, e.to-e.from
	e.from, e.written, e.busy = e.to, 0, true
	go func() {
		startWriteback(f, from, length)
		e.mu.Lock()
		defer e.mu.Unlock()
		e.busy = false
	}()
}

// Create begins a file, empty, as disk.Output says.
func (s *Set) Create(name string) (disk.OutputFile, error) { return s.CreateFile(name) }

// CreateFile is Create for callers that write front to back. name is a base
// name.
func (s *Set) CreateFile(name string) (*File, error) {
	if s.done {
		return nil, fmt.Errorf("create %q: %w", name, fs.ErrClosed)
	}
	if name == "" || name == "." || name == ".." || name != filepath.Base(name) {
		return nil, fmt.Errorf("%q is no file name: %w", name, fs.ErrInvalid)
	}
	path := filepath.Join(s.dir, name)
	for _, f := range s.files {
		if f.path == path {
			return nil, fmt.Errorf("%s is written twice: %w", path, fs.ErrExist)
		}
	}
	// To be told now is better than after an hour; what counts is the
	// check when the file gets its name.
	if st, err := os.Lstat(path); err == nil {
		if !s.opt.Replace || !st.Mode().IsRegular() && st.Mode()&fs.ModeSymlink == 0 {
			return nil, &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
		}
	}
	f, err := createUnnamed(s.dir, path)
	if errors.Is(err, errors.ErrUnsupported) {
		f, err = createHidden(s.dir, path)
	}
	if err != nil {
		return nil, err
	}
	f.ctx = s.ctx
	if !s.opt.NoSync {
		f.early = &earlyWriter{}
	}
	s.files = append(s.files, f)
	return f, nil
}

// Existing opens a file that somebody else made, to be written anew in its
// place: it keeps its owner and its name, and is empty. It is for files that
// nobody takes for complete before they are told so. The caller calls Sync and
// Close.
func Existing(ctx context.Context, path string) (*File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_TRUNC, 0)
	if err != nil {
		return nil, err
	}
	return &File{File: f, ctx: ctx, path: path, early: &earlyWriter{}}, nil
}

// hiddenName is a name beside the final one that nobody else has.
func hiddenName(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+randomText()+".partial")
}

func randomText() string { return rand.Text()[:8] }

// hold shows others that the file is being written.
func hold(f *os.File) { _ = filelock.Try(f, filelock.Exclusive) }

func createHidden(_, path string) (*File, error) {
	temp := hiddenName(path)
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}
	hold(f)
	return &File{File: f, path: path, temp: temp}, nil
}

// Commit waits until the files are on the disk and gives them their names,
// the one that was created first last. If that fails half way, those that are
// there already are taken away again, save where they replaced another. Where
// files are replaced, and there are several, a program that is killed meanwhile
// leaves what Recover finishes.
func (s *Set) Commit(ctx context.Context) (err error) {
	if s.done {
		return fs.ErrClosed
	}
	defer func() {
		if err != nil {
			s.Abort()
		}
	}()
	for _, f := range s.files {
		if err := errors.Join(context.Cause(ctx), context.Cause(s.ctx)); err != nil {
			return err
		}
		if s.opt.NoSync {
			continue
		}
		if err := f.Sync(); err != nil {
			return fmt.Errorf("write %s to the disk: %w", f.path, err)
		}
	}
	if s.together() {
		if err := s.replaceAll(); err != nil {
			return err
		}
		return s.finished()
	}
	for i := len(s.files) - 1; i >= 0; i-- {
		if err := s.files[i].publish(s.opt.Replace); err != nil {
			if !s.opt.Replace {
				for _, f := range s.files[i+1:] {
					os.Remove(f.path)
				}
			}
			return err
		}
	}
	return s.finished()
}

func (s *Set) finished() error {
	s.done = true
	for _, f := range s.files {
		if err := f.Close(); err != nil {
			return err
		}
	}
	return s.syncDir()
}

// hide gives a file that has no name a hidden one.
func (f *File) hide() error {
	if f.temp != "" {
		return nil
	}
	temp := hiddenName(f.path)
	hold(f.File)
	if err := linkUnnamed(f.File, temp); err != nil {
		return err
	}
	f.temp = temp
	return nil
}

// drop closes a file that has no name yet, and leaves nothing of it.
func (f *File) drop() error {
	f.Close()
	if f.temp == "" {
		return nil
	}
	return os.Remove(f.temp)
}

// publish gives the file its name.
func (f *File) publish(replace bool) error {
	if f.temp == "" {
		err := linkUnnamed(f.File, f.path)
		if err == nil || !replace || !errors.Is(err, fs.ErrExist) {
			return err
		}
		// A link replaces nothing, a rename does.
		if err := f.hide(); err != nil {
			return err
		}
	}
	if !replace {
		// A link fails where the name is taken, and a rename would not.
		err := os.Link(f.temp, f.path)
		if err == nil || errors.Is(err, fs.ErrExist) {
			if err == nil {
				err = os.Remove(f.temp)
				f.temp = ""
			}
			return err
		}
		if _, err := os.Lstat(f.path); err == nil {
			return &fs.PathError{Op: "create", Path: f.path, Err: fs.ErrExist}
		}
	}
	if err := os.Rename(f.temp, f.path); err != nil {
		return err
	}
	f.temp = ""
	return nil
}

// Abort drops the files that have no name yet. It does nothing after Commit.
func (s *Set) Abort() error {
	if s.done {
		return nil
	}
	s.done = true
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.drop())
	}
	return errors.Join(errs...)
}

// WriteAt is os.File's, until the set's context is cancelled.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	if err := context.Cause(f.ctx); err != nil {
		return 0, err
	}
	n, err := f.File.WriteAt(p, off)
	f.early.wrote(f.File, off, n)
	return n, err
}

// Write is os.File's, until the set's context is cancelled.
func (f *File) Write(p []byte) (int, error) {
	if err := context.Cause(f.ctx); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

// Size is the file's present size.
func (f *File) Size() int64 {
	st, err := f.Stat()
	if err != nil {
		return 0
	}
	return st.Size()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	// Some file systems have no such thing for a folder.
	if err := d.Sync(); err != nil && !errors.Is(err, fs.ErrInvalid) {
		return fmt.Errorf("write folder %s to the disk: %w", dir, err)
	}
	return nil
}
