// Package workdir makes private folders for what lives only as long as the
// program: each is removed when its work is done, and what a program left that
// was killed is removed by the next one.
package workdir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/ovation-project/ovation/internal/filelock"
)

const (
	prefix   = "work-"
	lockFile = "lock"
)

// Base is where large temporary files belong: TMPDIR where that is set, else
// /var/tmp, which unlike /tmp is seldom kept in memory.
func Base() string {
	if os.Getenv("TMPDIR") == "" {
		if info, err := os.Stat("/var/tmp"); err == nil && info.IsDir() {
			return "/var/tmp"
		}
	}
	return os.TempDir()
}

// Dir is one private folder.
type Dir struct {
	path string
	lock *os.File

	once sync.Once
	err  error
}

// New makes a folder below base, which must exist ("" is Base), that only this
// user can open. Folders of the same user that a program left behind are
// removed first; removed tells their paths.
func New(base string) (dir *Dir, removed []string, err error) {
	if base == "" {
		base = Base()
	}
	home := filepath.Join(base, "ovation-"+strconv.Itoa(os.Getuid()))
	// One program at a time makes and removes folders, so that a new one is
	// never taken for one that was left.
	all, err := hold(home)
	if err != nil {
		return nil, nil, err
	}
	defer all.Close()
	removed = sweep(home)
	path, err := os.MkdirTemp(home, prefix)
	if err != nil {
		return nil, removed, err
	}
	d := &Dir{path: path}
	if d.lock, err = os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR|os.O_CREATE, 0o600); err == nil {
		err = filelock.Try(d.lock, filelock.Exclusive)
	}
	if err != nil {
		return nil, removed, errors.Join(err, d.remove())
	}
	return d, removed, nil
}

// Sweep removes the folders below base ("" is Base) that programs of this user
// left behind, and tells their paths.
func Sweep(base string) ([]string, error) {
	if base == "" {
		base = Base()
	}
	home := filepath.Join(base, "ovation-"+strconv.Itoa(os.Getuid()))
	if _, err := os.Lstat(home); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	all, err := hold(home)
	if err != nil {
		return nil, err
	}
	defer all.Close()
	removed := sweep(home)
	leave(home, all)
	return removed, nil
}

// leave takes the folder of all folders away when there is none in it; all is
// its lock, which is held.
func leave(home string, all *os.File) {
	if entries, err := os.ReadDir(home); err == nil && len(entries) == 1 {
		_ = os.Remove(all.Name())
		_ = os.Remove(home)
	}
}

// hold makes the folder of all folders where it is not there, and locks it.
func hold(home string) (*os.File, error) {
	for {
		if err := private(home); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(filepath.Join(home, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
		if errors.Is(err, os.ErrNotExist) {
			continue // removed just now by the last one that left
		}
		if err != nil {
			return nil, err
		}
		if err := filelock.Lock(f, filelock.Exclusive); err != nil {
			f.Close()
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		mine, err1 := f.Stat()
		there, err2 := os.Stat(f.Name())
		if err1 == nil && err2 == nil && os.SameFile(mine, there) {
			return f, nil
		}
		f.Close()
	}
}

// private makes a folder of this user's, or sees that it is one: in a folder
// that others write to, somebody else may have made it, or a link.
func private(path string) error {
	var info os.FileInfo
	for {
		err := os.Mkdir(path, 0o700)
		if err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		info, err = os.Lstat(path)
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		// It was there and is not any more: the last one that left took
		// it along.
	}
	if !info.IsDir() || info.Mode().Perm()&0o077 != 0 || !owned(info) {
		return fmt.Errorf("%s is not a private folder of this user; remove it, or set TMPDIR", path)
	}
	return nil
}

// sweep removes the folders that nobody holds any more.
func sweep(home string) []string {
	entries, err := os.ReadDir(home)
	if err != nil {
		return nil
	}
	var removed []string
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		path := filepath.Join(home, e.Name())
		f, err := os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR, 0)
		switch {
		case errors.Is(err, os.ErrNotExist): // killed before it had one, or while removing
		case err != nil:
			continue
		default:
			err = filelock.Try(f, filelock.Exclusive)
			f.Close()
			if err != nil {
				continue
			}
		}
		if os.RemoveAll(path) == nil {
			removed = append(removed, path)
		}
	}
	return removed
}

// Path is the folder's.
func (d *Dir) Path() string { return d.path }

// Remove removes the folder with all that it holds. Again it does nothing.
func (d *Dir) Remove() error {
	d.once.Do(func() {
		home := filepath.Dir(d.path)
		all, err := hold(home)
		if err != nil {
			d.err = err
			return
		}
		defer all.Close()
		d.err = d.remove()
		leave(home, all)
	})
	return d.err
}

// remove is for who holds the lock of all.
func (d *Dir) remove() error {
	err := os.RemoveAll(d.path)
	if d.lock != nil {
		d.lock.Close()
	}
	return err
}
