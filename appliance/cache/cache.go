// Package cache keeps files of packages that lie elsewhere: what was fetched of
// them, block by block, for the next time.
//
// An entry is a folder that holds the file's bytes, with holes where they have
// not come, and a list of the blocks that have. The list never tells of a block
// that is not on the disk, whenever the program or the machine stops: a block
// is listed only after it is safely stored. An entry is locked as long as it is
// in use, by one program alone until it is whole and by any number after that.
package cache

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ovation-project/ovation/internal/filelock"
)

// ErrBusy says that another program fetches the file just now.
var ErrBusy = errors.New("the cached file is in use")

// The files of an entry.
const (
	dataName   = "data"
	blocksName = "blocks"
	aboutName  = "about.json"
	lockName   = "lock"
)

// Dir is where the cache is unless someone says otherwise:
// $XDG_CACHE_HOME/ovation, or the system's counterpart.
func Dir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("the cache: %w", err)
	}
	return filepath.Join(base, "ovation"), nil
}

// Cache is a folder of entries.
type Cache struct{ dir string }

// Open opens the cache in a folder, which is made when the first entry is.
func Open(dir string) *Cache { return &Cache{filepath.Join(dir, "files")} }

// File says which file an entry is of.
type File struct {
	// Content are words that only files with the same bytes have in common:
	// the manifest's digest and the file's name, or, where there is no
	// manifest, the address and the server's name for the version.
	Content []string `json:"-"`
	// Source are words for where the bytes come from. Blocks that nothing
	// proved are taken again only from the same source.
	Source []string `json:"-"`
	// Name and Locator are for people.
	Name    string `json:"name"`
	Locator string `json:"locator"`
	// Size is the file's, in bytes; Block is the size of blocks, a power of
	// two.
	Size  int64 `json:"size"`
	Block int64 `json:"-"`
}

func sum(words []string) [sha256.Size]byte {
	h := sha256.New()
	for _, w := range words {
		fmt.Fprintf(h, "%d:%s,", len(w), w)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// Entry opens a file's entry, and makes it where there is none. It gives
// ErrBusy where another program has it and it is not whole yet.
func (c *Cache) Entry(f File) (*Entry, error) {
	key := sum(f.Content)
	dir := filepath.Join(c.dir, fmt.Sprintf("%x", key))
	for tries := 0; ; tries++ {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("the cache: %w", err)
		}
		e, err := c.entry(dir, f)
		switch {
		case errors.Is(err, errGone):
		case errors.Is(err, ErrBusy) && tries < 5:
			// It may be that somebody only looks at it.
			time.Sleep(10 * time.Millisecond)
		case err != nil:
			return nil, fmt.Errorf("the cache: %s: %w", dir, err)
		default:
			return e, nil
		}
	}
}

// errGone says that an entry was pruned before it could be locked.
var errGone = errors.New("the entry is gone")

func (c *Cache) entry(dir string, f File) (e *Entry, err error) {
	lock, err := openLock(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errGone
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	shared := false
	if err := filelock.Try(lock, filelock.Exclusive); err != nil {
		if !errors.Is(err, filelock.ErrHeld) {
			return nil, err
		}
		if filelock.Try(lock, filelock.Shared) != nil {
			return nil, ErrBusy
		}
		shared = true
	}
	mine, err1 := lock.Stat()
	there, err2 := os.Stat(lock.Name())
	if err1 != nil || err2 != nil || !os.SameFile(mine, there) {
		return nil, errGone
	}
	e, err = openEntry(dir, f, !shared)
	if err != nil {
		return nil, err
	}
	e.lock = lock
	if shared && !e.Verified() {
		e.lock = nil
		return nil, errors.Join(ErrBusy, e.Close())
	}
	if e.Verified() && !shared {
		// Others may have it too.
		if err := filelock.Try(lock, filelock.Shared); err != nil {
			e.lock = nil
			return nil, errors.Join(ErrBusy, e.Close())
		}
	}
	now := time.Now()
	_ = os.Chtimes(lock.Name(), now, now) // for prune, which can do without
	return e, nil
}

// openLock opens the lock file of an entry; one that was pruned meanwhile is
// made anew.
func openLock(dir string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
}

// Info is what is known of an entry.
type Info struct {
	Key     string `json:"key"`
	Name    string `json:"name"`
	Locator string `json:"locator"`
	// Size is the file's, Present how many bytes of it are here.
	Size    int64 `json:"size"`
	Present int64 `json:"present"`
	// Verified says that the whole file was compared with its digest, or
	// block by block.
	Verified bool      `json:"verified"`
	Used     time.Time `json:"used"`
	InUse    bool      `json:"inUse"`
}

// List gives the entries, those used last first.
func (c *Cache) List(ctx context.Context) ([]Info, error) {
	dirs, err := os.ReadDir(c.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the cache: %w", err)
	}
	var all []Info
	for _, d := range dirs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !d.IsDir() || !isKey(d.Name()) {
			continue
		}
		if i, ok := c.info(d.Name()); ok {
			all = append(all, i)
		}
	}
	slices.SortFunc(all, func(a, b Info) int {
		if n := b.Used.Compare(a.Used); n != 0 {
			return n
		}
		return strings.Compare(a.Key, b.Key)
	})
	return all, nil
}

func isKey(name string) bool {
	return len(name) == 2*sha256.Size && strings.Trim(name, "0123456789abcdef") == ""
}

func (c *Cache) info(key string) (Info, bool) {
	i := Info{Key: key}
	dir := filepath.Join(c.dir, key)
	st, err := os.Stat(filepath.Join(dir, lockName))
	if err != nil {
		// It is being made or removed, or was half removed.
		if st, err = os.Stat(dir); err != nil {
			return i, false
		}
	}
	i.Used = st.ModTime()
	if b, err := readSmall(filepath.Join(dir, aboutName)); err == nil {
		var f File
		if json.Unmarshal(b, &f) == nil {
			i.Name, i.Locator = f.Name, f.Locator
		}
	}
	if l, err := readList(filepath.Join(dir, blocksName)); err == nil {
		i.Size, i.Present, i.Verified = l.size, l.present(), l.verified
	}
	if lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR, 0); err == nil {
		i.InUse = filelock.Try(lock, filelock.Exclusive) != nil
		lock.Close()
	}
	return i, true
}

// readSmall reads a file that has to be small.
func readSmall(path string) ([]byte, error) {
	const most = 1 << 16
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > most {
		return nil, fmt.Errorf("%s: it has %d bytes", path, st.Size())
	}
	return os.ReadFile(path)
}

// PruneOptions say which entries go; those in use stay.
type PruneOptions struct {
	// Unused is how long ago the entries were used that go; 0 leaves age out.
	Unused time.Duration
	// Keep is how many bytes the rest may take; those that were used longest
	// ago go first. Less than 0 leaves size out.
	Keep int64
	// DryRun removes nothing.
	DryRun bool
}

// Prune removes entries, and tells which.
func (c *Cache) Prune(ctx context.Context, opt PruneOptions) ([]Info, error) {
	all, err := c.List(ctx)
	if err != nil {
		return nil, err
	}
	var removed []Info
	var kept int64
	for _, i := range all {
		old := opt.Unused > 0 && time.Since(i.Used) > opt.Unused
		big := opt.Keep >= 0 && kept+max(1, i.Present) > opt.Keep
		if !old && !big || i.InUse {
			kept += i.Present
			continue
		}
		if !opt.DryRun {
			gone, err := c.remove(i.Key)
			if err != nil {
				return removed, fmt.Errorf("the cache: %w", err)
			}
			if !gone {
				kept += i.Present
				continue
			}
		}
		removed = append(removed, i)
	}
	return removed, nil
}

// remove takes an entry away unless it is in use.
func (c *Cache) remove(key string) (bool, error) {
	dir := filepath.Join(c.dir, key)
	lock, err := openLock(dir)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // somebody else was faster
	}
	if err != nil {
		return false, err
	}
	defer lock.Close()
	if err := filelock.Try(lock, filelock.Exclusive); err != nil {
		if errors.Is(err, filelock.ErrHeld) {
			return false, nil
		}
		return false, err
	}
	return true, removeEntry(dir)
}

// removeEntry removes the list first: what is left behind where this stops is
// an entry without a block.
func removeEntry(dir string) error {
	if err := os.Remove(filepath.Join(dir, blocksName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.RemoveAll(dir)
}
