// Package stream opens the disks of a package on a web server so that they can be
// used at once: what is read of them is fetched then, the rest comes in the
// background, and all is kept for the next time.
//
// How far that can be trusted depends on the package. Where it has digests of
// parts, nothing that was not proved is ever read. Where the manifest has only
// digests of whole files, these are computed as the files arrive, and what was
// read before the last byte came was not proved yet: the user of a Stream is
// told when a file turns out to be another (Options.Failed), and has to undo what
// was done with it.
package stream

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/cache"
	"github.com/ovation-project/ovation/appliance/disks"
	"github.com/ovation-project/ovation/appliance/manifest"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/compressed"
	"github.com/ovation-project/ovation/disk/lazy"
	"github.com/ovation-project/ovation/internal/freespace"
	"github.com/ovation-project/ovation/ovf"
)

// ErrPacked says that a file is compressed as a whole: it has to be unpacked from
// its start, and cannot be read here and there.
var ErrPacked = errors.New("the file is compressed as a whole")

// Options change how a package is streamed. The zero value is good.
type Options struct {
	// Cache keeps what was fetched for the next time; nil keeps nothing.
	Cache *cache.Cache
	// TempDir is where the bytes are that Cache does not keep; "" is the
	// system's.
	TempDir string
	// Prover, where set, gives what proves the parts of a stored file, nil
	// where it has no digests of parts.
	Prover func(name string, size int64) (lazy.Prover, error)
	// Failed, where set, is called when a file turns out to be useless: it
	// is not the manifest's (appliance.ErrAltered), has changed on the server
	// (appliance.ErrChanged), or can't be had any more.
	Failed func(error)
	// Note, where set, is called with what a person should know.
	Note func(string)
	// Log gets what is done; nil is nowhere.
	Log *slog.Logger
}

// block is the least that is fetched at once, unless parts are larger.
const block = 64 << 10

// Stream is a package whose files are fetched as they are read. It is a
// disk.Files. Its methods are safe for concurrent use.
type Stream struct {
	ctx    context.Context
	cancel context.CancelFunc
	pkg    *appliance.Package
	opt    Options
	group  *lazy.Group

	mu     sync.Mutex
	byHref map[string]disk.File
	byName map[string]*file
	files  []*file // in the order in which they were opened
	failed bool
}

// file is one stored file.
type file struct {
	*lazy.File
	name   string
	entry  *cache.Entry
	digest *manifest.Digest
	proved bool // part by part
	drop   bool
}

// New begins to stream a package. ctx bounds all fetching.
func New(ctx context.Context, pkg *appliance.Package, opt Options) *Stream {
	s := &Stream{pkg: pkg, opt: opt, group: lazy.NewGroup(), byName: map[string]*file{}, byHref: map[string]disk.File{}}
	s.ctx, s.cancel = context.WithCancel(ctx)
	if s.opt.Log == nil {
		s.opt.Log = slog.New(slog.DiscardHandler)
	}
	return s
}

func (s *Stream) note(format string, args ...any) {
	if s.opt.Note != nil {
		s.opt.Note(fmt.Sprintf(format, args...))
	}
}

// Close ends the fetching. What was fetched stays in the cache unless it is
// known to be wrong.
func (s *Stream) Close() error {
	s.cancel()
	s.mu.Lock()
	files := s.files
	s.files, s.byName, s.byHref = nil, map[string]*file{}, map[string]disk.File{}
	s.mu.Unlock()
	var errs []error
	for _, f := range files {
		// Behind it nobody fetches or complains any more.
		errs = append(errs, f.Close())
		if f.drop {
			errs = append(errs, f.entry.Drop())
		} else {
			errs = append(errs, f.entry.Close())
		}
	}
	return errors.Join(errs...)
}

// OpenFile opens a file by the href that the descriptor has for it; chunks are
// put together. A file that is compressed as a whole gives ErrPacked, a package
// that is not on a web server appliance.ErrLocal.
func (s *Stream) OpenFile(ctx context.Context, href string) (disk.File, error) {
	s.mu.Lock()
	known := s.byHref[href]
	s.mu.Unlock()
	if known != nil {
		return known, nil
	}
	f, err := s.open(ctx, href)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byHref[href] = f
	return f, nil
}

func (s *Stream) open(ctx context.Context, href string) (disk.File, error) {
	names, err := s.pkg.StoredNames(ctx, href)
	if err != nil {
		return nil, err
	}
	var parts []disk.File
	for _, name := range names {
		f, err := s.stored(ctx, name)
		if err != nil {
			return nil, err
		}
		parts = append(parts, f)
	}
	whole := appliance.Join(parts)
	var ref *ovf.File
	for _, f := range s.pkg.Document().Envelope().References {
		if f.Href == href {
			ref = f
			break
		}
	}
	if ref != nil && ref.Size > 0 && ref.Size != whole.Size() {
		return nil, fmt.Errorf("%s has %d bytes, and the descriptor says %d: %w", href, whole.Size(), ref.Size, appliance.ErrAltered)
	}
	head, err := compressed.Head(whole)
	if err != nil {
		return nil, err
	}
	if compressed.Detect(head) != compressed.None {
		return nil, fmt.Errorf("%s: %w", href, ErrPacked)
	}
	_, _, err = appliance.Expand(ref, bytes.NewReader(head))
	return whole, err
}

// Disk opens a disk by its ovf:diskId, with what is below it.
func (s *Stream) Disk(ctx context.Context, id string) (*disks.Image, error) {
	return disks.OpenFrom(ctx, s.pkg, id, s, disks.Options{})
}

// stored opens one stored file.
func (s *Stream) stored(ctx context.Context, name string) (*file, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.byName[name]; f != nil {
		return f, nil
	}
	if err := s.ctx.Err(); err != nil {
		return nil, err
	}
	r, err := s.pkg.OpenRemote(ctx, name)
	if err != nil {
		return nil, err
	}
	f := &file{name: name}
	if m := s.pkg.Manifest(); m != nil {
		if d, ok := m.Lookup(name); ok {
			f.digest = &d
		}
	}
	var prover lazy.Prover
	if s.opt.Prover != nil {
		if prover, err = s.opt.Prover(name, r.Size()); err != nil {
			return nil, err
		}
		f.proved = prover != nil
	}
	if f.entry, err = s.keep(r, f); err != nil {
		return nil, err
	}
	f.File, err = lazy.New(s.ctx, r, store{f.entry}, lazy.Options{
		Group: s.group, Prover: prover, Passing: appliance.Passing, Failed: func(err error) { s.fail(f, err) },
		Waiting: func(err error) {
			if err != nil {
				s.note("%s: %v; what is here goes on, and the rest is asked for again", name, err)
			} else {
				s.note("%s: the server answers again", name)
			}
		},
	})
	if err != nil {
		return nil, errors.Join(err, f.entry.Close())
	}
	s.opt.Log.Info("streaming", "file", name, "size", r.Size(), "present", f.entry.Present(), "verified", f.entry.Verified(), "kept", f.entry.Kept())
	s.files, s.byName[name] = append(s.files, f), f
	return f, nil
}

// store brings the list of blocks up to date now and then.
type store struct{ *cache.Entry }

// Add counts a block.
func (s store) Add(n int64) {
	s.Entry.Add(n)
	// Where it fails, blocks are fetched again the next time.
	_ = s.FlushSometimes()
}

// keep opens the place for a file's bytes: in the cache, where that is possible.
func (s *Stream) keep(r *appliance.Remote, f *file) (*cache.Entry, error) {
	identity, versioned := r.Identity()
	of := cache.File{Name: f.name, Locator: s.pkg.Locator(), Size: r.Size(), Block: block, Source: identity}
	switch _, mf := s.pkg.ManifestBytes(); {
	case f.digest != nil:
		of.Content = []string{"manifest", fmt.Sprintf("%x", sha256.Sum256(mf)), f.name, fmt.Sprint(f.proved)}
	default:
		of.Content = append([]string{"address", f.name}, identity...)
	}
	temporary := func() (*cache.Entry, error) {
		dir := s.opt.TempDir
		if dir == "" {
			dir = os.TempDir()
		}
		if err := freespace.Check(dir, of.Size); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		return cache.Temporary(dir, of)
	}
	if s.opt.Cache == nil || f.digest == nil && !versioned {
		return temporary()
	}
	e, err := s.opt.Cache.Entry(of)
	if errors.Is(err, cache.ErrBusy) {
		s.note("%s is being fetched by another run just now: this one fetches it for itself, and keeps nothing", f.name)
		return temporary()
	}
	if err != nil {
		s.note("%v; nothing of %s is kept", err, f.name)
		return temporary()
	}
	if err := freespace.Check(e.Dir(), of.Size-e.Present()); err != nil {
		s.note("the cache: %s: %v; nothing of it is kept (ovation cache prune makes room)", f.name, err)
		gone := e.Close
		if e.Present() == 0 {
			gone = e.Drop
		}
		if err := gone(); err != nil {
			return nil, err
		}
		return temporary()
	}
	return e, nil
}

func (s *Stream) fail(f *file, err error) {
	s.mu.Lock()
	first := !s.failed
	s.failed = true
	// What does not prove leaves the cache; what only could not be had stays.
	if errors.Is(err, appliance.ErrAltered) {
		f.drop = true
	}
	s.mu.Unlock()
	if !first || s.opt.Failed == nil {
		return
	}
	var altered *appliance.AlteredError
	if !errors.As(err, &altered) { // which names the file itself
		err = fmt.Errorf("%s: %w", f.name, err)
	}
	s.opt.Failed(err)
}

// Proved says what is known of the files that were opened: Parts that each part
// is proved before it is read, Whole that each was proved as a whole already or
// will be by Fill. Neither is true of a package without a manifest.
func (s *Stream) Proved() (parts, whole bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	parts, whole = true, true
	for _, f := range s.files {
		parts = parts && (f.proved || f.entry.Verified())
		whole = whole && (f.proved || f.digest != nil)
	}
	return parts, whole
}

// Hurry lets Fill take all of the network, rather than leave it to readers for
// the first time.
func (s *Stream) Hurry() { s.group.Hurry() }

// Started says that whoever uses the disks has got through what it begins with:
// Fill takes the network from now on where nobody has waited for it for a while.
func (s *Stream) Started() { s.group.Started() }

// Stats are those of all the files that were opened.
func (s *Stream) Stats() lazy.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	var sum lazy.Stats
	for _, f := range s.files {
		one := f.Stats()
		sum.Present += one.Present
		sum.Size += one.Size
		sum.Read += one.Read
		sum.Demanded += one.Demanded
		sum.Filled += one.Filled
	}
	return sum
}

// Fill fetches all the files that were opened before, in their order, and proves
// them. When it has ended without error they are here, and are the manifest's
// where that has digests for them.
func (s *Stream) Fill(ctx context.Context) error {
	s.mu.Lock()
	files := append([]*file(nil), s.files...)
	s.mu.Unlock()
	for _, f := range files {
		if err := s.fill(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

func (s *Stream) fill(ctx context.Context, f *file) error {
	if f.entry.Verified() {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sum := make(chan error, 1)
	go func() { sum <- s.prove(ctx, f) }()
	err := f.Fill(ctx)
	if err != nil {
		cancel()
		<-sum
		return err
	}
	if err := <-sum; err != nil {
		if ctx.Err() == nil {
			s.fail(f, err)
		}
		return err
	}
	if err := f.entry.Flush(); err != nil {
		return fmt.Errorf("keep what was fetched: %w", err)
	}
	if f.digest == nil && !f.proved {
		return nil
	}
	return f.entry.SetVerified()
}

// prove computes a file's digest as it arrives.
func (s *Stream) prove(ctx context.Context, f *file) error {
	if f.digest == nil || f.proved {
		return nil
	}
	h := f.digest.Hash.New()
	b := make([]byte, 256<<10)
	for at := int64(0); at < f.Size(); {
		end, err := f.Prefix(ctx, at)
		if err != nil {
			return err
		}
		for at < end {
			n, err := f.entry.ReadAt(b[:min(int64(len(b)), end-at)], at)
			if err != nil && err != io.EOF || n == 0 {
				return fmt.Errorf("read what was fetched: %w", errors.Join(err, io.ErrUnexpectedEOF))
			}
			h.Write(b[:n])
			at += int64(n)
		}
	}
	if got := h.Sum(nil); !bytes.Equal(got, f.digest.Sum) {
		return &appliance.AlteredError{Name: f.name, Algorithm: manifest.Name(f.digest.Hash), Want: f.digest.Sum, Got: got}
	}
	return nil
}
