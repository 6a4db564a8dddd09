// Package arrival gives the disks and files of an archive that comes once, front
// to back, to whoever waits for them, as they come: nothing of the archive is
// stored but disks that have to be read in another order, which is said.
//
// What the descriptor says is known before the first of its files is taken, and
// everything can be decided from it but what a disk itself tells: how it boots,
// and whether it holds more than a disk. That is seen while the disk passes by
// (Arrival.LookDisk). Nothing of what was given is proved before Finish has
// returned without error.
package arrival

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/deploy/stage"
	"github.com/ovation-project/ovation/internal/readahead"
	"github.com/ovation-project/ovation/internal/spool"
	"github.com/ovation-project/ovation/ovf"
)

// ErrPassed says that something was asked for that has passed by.
var ErrPassed = errors.New("it has passed by, and can be read once only")

// errClosed ends what goes on when an Arrival is closed.
var errClosed = errors.New("nobody waits for the package any more")

// Options say how an archive is taken in. The zero value is good.
type Options struct {
	// TempDir is where disks are put that have to be read in another order than
	// they come; "" is the system's place for large files.
	TempDir string
	// Task, where set, is called for each file that is taken, with its size, -1
	// where that is not known.
	Task func(name string, total int64) stage.Task
	// Note, where set, is called with what a person should know of how it is
	// done.
	Note func(string)
	// Log gets what is done; nil is nowhere.
	Log *slog.Logger
}

// Arrival is an archive that is coming. Its methods are called by several at
// once.
type Arrival struct {
	opt    Options
	log    *slog.Logger
	known  *appliance.Package
	cancel context.CancelCauseFunc
	begin  chan struct{} // closed by Expect
	done   chan struct{} // closed when nothing comes any more

	// These are good when done is closed.
	pkg    *appliance.Package
	report *appliance.Report
	err    error

	// one keeps several from converting at once: each takes memory.
	one sync.Mutex

	mu    sync.Mutex
	wants map[string]*want      // by href
	seen  map[string]stage.Seen // by the disk's ID
}

// Begin reads an archive up to the first of its files, and no further before
// Expect is called. ctx is for all of it. The caller closes the Arrival.
func Begin(ctx context.Context, r io.Reader, opt Options) (*Arrival, error) {
	a := &Arrival{opt: opt, log: opt.Log, begin: make(chan struct{}), done: make(chan struct{}),
		wants: map[string]*want{}, seen: map[string]stage.Seen{}}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	ctx, a.cancel = context.WithCancelCause(ctx)
	head := make(chan *appliance.Package, 1)
	go a.receive(ctx, r, head)
	select {
	case a.known = <-head:
		return a, nil
	case <-a.done:
		a.cancel(nil)
		return nil, a.err
	}
}

// blocks and blockSize are how far the archive is read ahead, so that nobody
// waits for a reader that may never answer.
const (
	blocks    = 4
	blockSize = 256 << 10
)

// receive takes all of the archive in.
func (a *Arrival) receive(ctx context.Context, r io.Reader, head chan<- *appliance.Package) {
	defer close(a.done)
	in := readahead.New(ctx, r, blocks, blockSize)
	a.pkg, a.report, a.err = appliance.Receive(ctx, in, appliance.ReceiveOptions{
		Head: func(ctx context.Context, p *appliance.Package) error {
			head <- p
			select {
			case <-a.begin:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		},
		Whole: a.take,
	})
	if a.err == nil {
		a.err = a.report.Err()
	}
	if a.err != nil && ctx.Err() != nil {
		a.err = context.Cause(ctx)
	}
}

// Package is what is known of the package before its files come: the descriptor,
// and the manifest and the certificate where they came first.
func (a *Arrival) Package() *appliance.Package { return a.known }

// Finish waits until all has come, and gives the whole package, which knows what
// was in the archive, and what proving it found. Where something is not the
// manifest's, it is appliance.ErrAltered.
func (a *Arrival) Finish(ctx context.Context) (*appliance.Package, *appliance.Report, error) {
	select {
	case <-a.done:
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	if a.err != nil {
		return nil, nil, a.err
	}
	return a.pkg, a.report, nil
}

// Close ends the arrival, whatever has come, and removes what was kept of it.
func (a *Arrival) Close() error {
	a.cancel(errClosed)
	<-a.done
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for _, w := range a.wants {
		errs = append(errs, w.drop())
	}
	return errors.Join(errs...)
}

// gone is why a file does not come any more.
func (a *Arrival) gone(href string) error {
	if a.err != nil {
		return a.err
	}
	return fmt.Errorf("%w: %q did not come", appliance.ErrIncomplete, href)
}

// want is a file that somebody will take.
type want struct {
	ref *ovf.File
	// disk says that it is a disk's, and no file that goes into a drive as it is.
	disk bool
	// takers are those that take it as it comes, count of them; asked is how
	// many have come.
	takers       chan *taker
	count, asked int
	// keep has it kept whole, for as many as need it then; kept is closed when
	// it is there.
	keep  bool
	users int
	kept  chan struct{}
	file  *spool.File
}

// drop frees what is kept.
func (w *want) drop() error {
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.file = nil
	return err
}

// Expect says what will be taken, each disk and file as often as it will be, and
// lets the archive come. What is not expected is passed over. It is called once.
func (a *Arrival) Expect(disks []*ovf.ResolvedDisk, files []*ovf.File) {
	a.mu.Lock()
	defer a.mu.Unlock()
	get := func(f *ovf.File, disk bool) *want {
		w := a.wants[f.Href]
		if w == nil {
			w = &want{ref: f, disk: disk, kept: make(chan struct{})}
			a.wants[f.Href] = w
		}
		w.keep = w.keep || w.disk != disk
		return w
	}
	for _, d := range disks {
		switch {
		case d.Parent != nil:
			for _, f := range chain(d) {
				w := get(f, true)
				w.keep = true
				w.users++
			}
		case d.File != nil:
			w := get(d.File, true)
			w.count++
			w.users++
		}
	}
	for _, f := range files {
		w := get(f, false)
		w.count++
		w.users++
	}
	for _, w := range a.wants {
		w.takers = make(chan *taker, w.count)
	}
	close(a.begin)
}

// maxParents bounds a chain of deltas.
const maxParents = 64

// chain are the files that a disk is put together of.
func chain(d *ovf.ResolvedDisk) (files []*ovf.File) {
	for n := 0; d != nil && n <= maxParents; d, n = d.Parent, n+1 {
		if d.File != nil {
			files = append(files, d.File)
		}
	}
	return files
}
