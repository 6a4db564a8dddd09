package appliance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"sync"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/spool"
	"github.com/ovation-project/ovation/internal/workdir"
)

// Place is where the files of one package lie together, of a kind that this
// package does not know: a hypervisor's library of packages. Its methods are
// called by several at once.
type Place interface {
	// List gives the files.
	List(ctx context.Context) ([]Entry, error)
	// Read reads a file from its start.
	Read(ctx context.Context, name string) (io.ReadCloser, error)
	// Close ends the use of the place.
	Close() error
}

// OpenPlace opens the place that a locator names, where it is of a kind that it
// knows; else place is nil. shown is the locator without credentials.
type OpenPlace func(ctx context.Context, locator string) (place Place, shown string, err error)

// openPlace opens the package in a place. Closing the package closes the place,
// and so does an error.
func openPlace(ctx context.Context, place Place, locator string, opt Options) (*Package, error) {
	note := opt.Note
	if note == nil {
		note = func(string) {}
	}
	l := &placed{Place: place, note: note, copies: map[string]*spool.File{}}
	p := &Package{locator: locator, kind: Folder, src: l}
	err := p.openPlaced(ctx, l)
	if err == nil {
		err = p.load(ctx, opt)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", locator, err), p.src.close())
	}
	return p, nil
}

// openPlaced finds out whether there is an archive in the place.
func (p *Package) openPlaced(ctx context.Context, l *placed) error {
	entries, err := l.list(ctx)
	if err != nil || len(entries) != 1 || !hasSuffixFold(entries[0].Name, ".ova") {
		return err
	}
	f, err := l.open(ctx, entries[0])
	if err != nil {
		return err
	}
	p.kind, p.src = Archive, &tarball{f: placedArchive{f, l}}
	return nil
}

// placed is a place as a source.
type placed struct {
	Place
	note func(string)

	mu     sync.Mutex
	copies map[string]*spool.File // of files that had to be seeked in
	ended  bool
}

func (l *placed) list(ctx context.Context) ([]Entry, error) {
	entries, err := l.List(ctx)
	if err != nil {
		return nil, err
	}
	if len(entries) > maxEntries {
		return nil, fmt.Errorf("%w: it holds more than %d files", ErrInvalid, maxEntries)
	}
	return entries, nil
}

// held is a copy, which is closed with the place.
type held struct{ disk.LocalFile }

func (l *placed) open(ctx context.Context, e Entry) (disk.File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.copies[e.Name]; f != nil {
		return held{f}, nil
	}
	r, err := l.Read(ctx, e.Name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	dir := workdir.Base()
	l.note(fmt.Sprintf("%s is copied into %s first: it has to be read in another order than it is given in", path.Base(e.Name), dir))
	f, err := spool.Copy(ctx, dir, r)
	if err != nil {
		return nil, err
	}
	l.copies[e.Name] = f
	return held{f}, nil
}

func (l *placed) reader(ctx context.Context, e Entry, off int64) (io.ReadCloser, error) {
	l.mu.Lock()
	have := l.copies[e.Name]
	l.mu.Unlock()
	if have != nil {
		return sectionOf(held{have}, off), nil
	}
	r, err := l.Read(ctx, e.Name)
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyN(io.Discard, r, off); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (l *placed) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return nil
	}
	l.ended = true
	var errs []error
	for _, f := range l.copies {
		errs = append(errs, f.Close())
	}
	return errors.Join(append(errs, l.Close())...)
}

// readWhole is readSmall of a file that is given from its start.
func (p *Package) readWhole(ctx context.Context, e Entry, most int64) ([]byte, error) {
	r, err := p.src.reader(ctx, e, 0)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%w: it has over %d bytes, which is the limit", ErrInvalid, most)
	}
	if err == nil && e.Size >= 0 && int64(len(b)) != e.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.Name, err)
	}
	return b, nil
}

// placedArchive is an archive in a place.
type placedArchive struct {
	disk.File
	l *placed
}

// Close closes the place.
func (a placedArchive) Close() error { return a.l.close() }

// Whole says whether the package's files are given from their starts only, and
// reading them in another order copies them first.
func (p *Package) Whole() bool {
	_, ok := p.src.(*placed)
	return ok
}
