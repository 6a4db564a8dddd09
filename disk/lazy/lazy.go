// Package lazy reads a file that lies far away as if it were here: what is read
// is fetched, proved and kept, once, and the rest comes in the background, until
// all is here.
//
// What is not proved can't be read by accident where there is a Prover: blocks
// go through it before anybody gets them.
package lazy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Source is the file that lies far away.
type Source interface {
	Size() int64
	// Fetch reads a range that lies within the file, whole or with an error.
	// It MUST be safe for concurrent use, and bear itself with what may pass
	// (connections that break); what it gives is the end of its patience.
	Fetch(ctx context.Context, b []byte, off int64) error
}

// Store keeps the file's blocks. All methods MUST be safe for concurrent use.
type Store interface {
	io.ReaderAt
	io.WriterAt
	Size() int64
	// Block is the size of blocks, a power of two.
	Block() int64
	// Has says whether a block is here, Add that it is now: its bytes were
	// written before.
	Has(n int64) bool
	Add(n int64)
}

// Prover proves parts of the file by their digests.
type Prover interface {
	// Unit is the size of the parts, in bytes, counted from the file's
	// start; the last may be shorter.
	Unit() int64
	// Prove says nil where the part's bytes are those that they should be.
	Prove(part int64, b []byte) error
}

// Options change how a file is fetched. The zero value is good.
type Options struct {
	// Group is the files whose readers go before the background of all of
	// them; nil is this file alone.
	Group *Group
	// Prover, where set, proves every part before it is given to anybody.
	Prover Prover
	// InFlight is how many ranges the background fetches at once; 0 is 3.
	InFlight int
	// Failed, where set, is called once, with what makes the file useless:
	// bytes that are not those that they should be, a source that gives no
	// more, a store that takes no more. It MUST NOT call Close, which waits
	// for it.
	Failed func(error)
	// Passing says of an error of the source that it may be another one
	// later: the background then waits, and goes on. nil is never.
	Passing func(error) bool
	// Waiting, where set, is told that the background waits for the source,
	// and nil when it has come back.
	Waiting func(error)
	// Pause is how long the background waits then; 0 is 5 seconds.
	Pause time.Duration
}

// Stats count bytes.
type Stats struct {
	// Present are here, of Size.
	Present, Size int64
	// Read were asked for, Demanded fetched because somebody waited for
	// them or was expected to, and Filled by the background.
	Read, Demanded, Filled int64
}

// File is a file that is fetched as it is read. It is a disk.File, safe for
// concurrent use.
type File struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	src    Source
	store  Store
	opt    Options
	size   int64
	block  int64 // of the store
	unit   int64 // fetched at least, a multiple of block
	units  int64

	mu      sync.Mutex
	changed chan struct{} // closed and made anew when anything below changes
	flying  map[int64]bool
	failed  error
	closed  bool
	runs    []run // where reading goes on, used last first
	last    int64 // the unit behind the last demand
	present int64 // units
	low     int64 // all units below are here
	filling int   // ranges that the background has asked for
	// away is when the background tries again after the source failed; zero
	// where it did not.
	away  time.Time
	stats Stats
	wg    sync.WaitGroup
}

// run is reading that goes on.
type run struct {
	next  int64 // the unit that would come next
	taken int64 // units that were read in this run
}

const (
	// maxRuns is how many places are followed where reading goes on.
	maxRuns = 8
	// maxAhead bounds what is fetched ahead of a reader, in bytes.
	maxAhead = 1 << 20
	// fillRange is how much the background asks for at once.
	fillRange = 512 << 10
	// behind is how far the background follows the last demand before it
	// turns to the rest.
	behind = 16 << 20
	// quiet is how long nobody must have waited for the background to be let
	// go once readers have Started, and settled after what time it is let go
	// anyway. Before that it fetches no more than an eighth of what is
	// demanded, or three where it is quiet: the network is the reader's.
	quiet   = 10 * time.Second
	settled = 30 * time.Second
)

// New begins to read a file. Close ends it. The store's blocks that are there
// already are taken for proved.
func New(ctx context.Context, src Source, store Store, opt Options) (*File, error) {
	f := &File{src: src, store: store, opt: opt, size: src.Size(), block: store.Block(), changed: make(chan struct{}),
		flying: map[int64]bool{}}
	if f.opt.Group == nil {
		f.opt.Group = NewGroup()
	}
	if store.Size() != f.size || f.block <= 0 {
		return nil, fmt.Errorf("a file of %d bytes does not fit a store for %d", f.size, store.Size())
	}
	f.unit = f.block
	if opt.Prover != nil {
		if f.unit = opt.Prover.Unit(); f.unit <= 0 || f.unit%f.block != 0 {
			return nil, fmt.Errorf("parts of %d bytes are no blocks of %d", f.unit, f.block)
		}
	}
	f.units = (f.size + f.unit - 1) / f.unit
	for u := range f.units {
		if f.has(u) {
			f.present++
			f.stats.Present += f.length(u)
		}
	}
	f.stats.Size = f.size
	f.ctx, f.cancel = context.WithCancelCause(ctx)
	return f, nil
}

var errClosed = errors.New("the file is closed")

// Close ends all fetching. The store is its owner's.
func (f *File) Close() error {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.cancel(errClosed)
	f.wg.Wait()
	return nil
}

// Size is the file's.
func (f *File) Size() int64 { return f.size }

// Stats says how far it is.
func (f *File) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stats
}

// Complete says whether all is here.
func (f *File) Complete() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.present == f.units
}

// has says whether a whole unit is here.
func (f *File) has(u int64) bool {
	for b := u * f.unit / f.block; b*f.block < min((u+1)*f.unit, f.size); b++ {
		if !f.store.Has(b) {
			return false
		}
	}
	return true
}

func (f *File) length(u int64) int64 { return min(f.unit, f.size-u*f.unit) }

// ReadAt reads, and waits for what has to come first.
func (f *File) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	if off >= f.size {
		if len(b) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	n := min(int64(len(b)), f.size-off)
	if n == 0 {
		return 0, nil
	}
	if err := f.need(off/f.unit, (off+n-1)/f.unit, n); err != nil {
		return 0, err
	}
	got, err := f.store.ReadAt(b[:n], off)
	if int64(got) == n {
		if err = nil; n < int64(len(b)) {
			err = io.EOF
		}
	}
	return got, err
}

// need waits until the units from first to last are here.
func (f *File) need(first, last, bytes int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stats.Read += bytes
	waited := false
	for {
		if f.failed != nil {
			return f.failed
		}
		missing := false
		for u := first; u <= last; u++ {
			if f.has(u) {
				continue
			}
			missing = true
			if f.flying[u] {
				continue
			}
			// As much at once as is missing in a row.
			end := u + 1
			for end <= last && !f.flying[end] && !f.has(end) {
				end++
			}
			f.launch(u, end, demanded)
			u = end - 1
		}
		if !waited {
			f.last = last + 1
			f.ahead(first, last)
		}
		if !missing {
			return nil
		}
		if !waited {
			waited = true
			f.opt.Group.wait(1)
			defer f.opt.Group.wait(-1)
		}
		if err := f.wait(f.ctx); err != nil {
			return err
		}
	}
}

// wait gives the lock up until something has changed.
func (f *File) wait(ctx context.Context) error {
	changed := f.changed
	f.mu.Unlock()
	defer f.mu.Lock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (f *File) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// ahead fetches what a reader that goes on is expected to want: no more than
// half of what it has taken, so that little is in vain where it stops.
func (f *File) ahead(first, last int64) {
	i := 0
	for ; i < len(f.runs); i++ {
		if n := f.runs[i].next; first == n || first == n-1 {
			break
		}
	}
	switch {
	case i < len(f.runs):
		r := f.runs[i]
		r.taken += max(0, last+1-r.next)
		r.next = max(r.next, last+1)
		copy(f.runs[1:], f.runs[:i])
		f.runs[0] = r
	default:
		if len(f.runs) < maxRuns {
			f.runs = append(f.runs, run{})
		}
		copy(f.runs[1:], f.runs)
		f.runs[0] = run{next: last + 1, taken: last + 1 - first}
		return
	}
	window := min(f.runs[0].taken/2, maxAhead/f.unit)
	end := min(f.runs[0].next+window, f.units)
	// In pieces of half the window, as the reader goes on.
	for u := f.runs[0].next; u < end; u++ {
		if f.has(u) || f.flying[u] {
			continue
		}
		if u > f.runs[0].next && end-u < (window+1)/2 && end < f.units {
			return // not worth a request yet
		}
		to := u + 1
		for to < end && !f.flying[to] && !f.has(to) {
			to++
		}
		f.launch(u, to, expected)
		u = to - 1
	}
}

// why something is fetched.
type why uint8

const (
	demanded why = iota // somebody waits for it
	expected            // somebody will
	filled              // the background
)

// launch begins to fetch units that nobody fetches.
func (f *File) launch(from, end int64, reason why) {
	if f.closed {
		return
	}
	for u := from; u < end; u++ {
		f.flying[u] = true
	}
	n := min(end*f.unit, f.size) - from*f.unit
	if reason == filled {
		f.stats.Filled += n
		f.filling++
		f.opt.Group.count(0, n)
	} else {
		f.stats.Demanded += n
		f.opt.Group.count(n, 0)
	}
	f.wg.Go(func() {
		passing, err := f.fetch(from, n)
		f.mu.Lock()
		defer f.mu.Unlock()
		for u := from; u < end; u++ {
			delete(f.flying, u)
		}
		if reason == filled {
			f.filling--
		}
		switch {
		case err == nil:
			f.present += end - from
			f.stats.Present += n
			f.back()
		case reason != demanded && passing:
			// Whoever waits for it asks again.
			f.gone(err)
		case reason == expected:
			// Nobody may ever want it. Who does is told.
		default:
			f.fail(err)
		}
		f.wake()
	})
}

// gone makes the background wait.
func (f *File) gone(err error) {
	if f.away.IsZero() && f.opt.Waiting != nil && f.ctx.Err() == nil {
		f.wg.Go(func() { f.opt.Waiting(err) })
	}
	pause := f.opt.Pause
	if pause <= 0 {
		pause = 5 * time.Second
	}
	f.away = time.Now().Add(pause)
}

// back lets it go on.
func (f *File) back() {
	if !f.away.IsZero() && f.opt.Waiting != nil {
		f.wg.Go(func() { f.opt.Waiting(nil) })
	}
	f.away = time.Time{}
}

// fail makes the file useless.
func (f *File) fail(err error) {
	if f.failed != nil || f.ctx.Err() != nil {
		return
	}
	f.failed = err
	if f.opt.Failed != nil {
		f.wg.Go(func() { f.opt.Failed(err) })
	}
}

// maxFetch bounds the memory of one range.
const maxFetch = 4 << 20

// fetch gets a range, proves it and stores it. passing says of an error that it
// may be another one later: no proof and no store is.
func (f *File) fetch(from, n int64) (passing bool, err error) {
	at, end := from*f.unit, from*f.unit+n
	piece := max(f.unit, maxFetch/f.unit*f.unit)
	b := make([]byte, min(n, piece))
	for at < end {
		b := b[:min(int64(len(b)), end-at)]
		if err := f.src.Fetch(f.ctx, b, at); err != nil {
			return f.opt.Passing != nil && f.opt.Passing(err), err
		}
		if p := f.opt.Prover; p != nil {
			for u := at / f.unit; u*f.unit < at+int64(len(b)); u++ {
				if err := p.Prove(u, b[u*f.unit-at:u*f.unit-at+f.length(u)]); err != nil {
					return false, err
				}
			}
		}
		if _, err := f.store.WriteAt(b, at); err != nil {
			return false, fmt.Errorf("keep what was fetched: %w", err)
		}
		for n := at / f.block; n*f.block < at+int64(len(b)); n++ {
			f.store.Add(n)
		}
		at += int64(len(b))
	}
	return false, nil
}

// Hurry is that of the file's Group.
func (f *File) Hurry() {
	f.opt.Group.Hurry()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wake()
}

// Fill fetches in the background what nobody has asked for, until all is here:
// what follows the last demand first, then the rest from the start on. Readers
// go first. Where the source does not answer for a while it waits, and goes on.
func (f *File) Fill(ctx context.Context) error {
	inFlight := f.opt.InFlight
	if inFlight <= 0 {
		inFlight = 3
	}
	ticks := time.NewTicker(200 * time.Millisecond)
	defer ticks.Stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		switch {
		case f.failed != nil:
			return f.failed
		case f.present == f.units:
			return nil
		case f.closed:
			return errClosed
		}
		if f.free() && f.filling < inFlight {
			if from, end := f.next(); end > from {
				f.launch(from, end, filled)
				continue
			}
		}
		if err := f.waitOr(ctx, ticks.C); err != nil {
			return err
		}
	}
}

// waitOr waits for a change, or for time to pass.
func (f *File) waitOr(ctx context.Context, tick <-chan time.Time) error {
	changed := f.changed
	f.mu.Unlock()
	defer f.mu.Lock()
	select {
	case <-changed:
	case <-tick:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-f.ctx.Done():
		return context.Cause(f.ctx)
	}
	return nil
}

// free says whether the background may ask for more now.
func (f *File) free() bool {
	if !f.away.IsZero() && (f.filling > 0 || time.Now().Before(f.away)) {
		return false // one at a time tries whether it has come back
	}
	return f.opt.Group.free()
}

// next gives the units that the background fetches next, none where all that
// is missing is on its way.
func (f *File) next() (from, end int64) {
	wanted := func(u int64) bool { return !f.flying[u] && !f.has(u) }
	pick := func(from, to int64) (int64, int64) {
		for ; from < to && !wanted(from); from++ {
		}
		end := from
		for end < to && end-from < max(1, fillRange/f.unit) && wanted(end) {
			end++
		}
		return from, end
	}
	if f.last > 0 {
		if from, end = pick(f.last, min(f.units, f.last+max(1, behind/f.unit))); end > from {
			return from, end
		}
	}
	for f.low < f.units && f.has(f.low) {
		f.low++
	}
	return pick(f.low, f.units)
}

// Prefix waits until the byte at off is here, and says up to where all from
// there on is.
func (f *File) Prefix(ctx context.Context, off int64) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		u := off / f.unit
		if off >= f.size {
			return f.size, nil
		}
		if f.failed != nil {
			return 0, f.failed
		}
		if f.has(u) {
			for u < f.units && f.has(u) && u*f.unit < off+maxFetch {
				u++
			}
			return min(u*f.unit, f.size), nil
		}
		if err := f.waitOr(ctx, nil); err != nil {
			return 0, err
		}
	}
}
