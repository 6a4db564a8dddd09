package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/cache"
	"github.com/ovation-project/ovation/appliance/stream"
	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/stage"
	"github.com/ovation-project/ovation/disk/lazy"
	"github.com/ovation-project/ovation/internal/term"
	"github.com/ovation-project/ovation/internal/workdir"
)

// streams says whether a package's disks are used while they arrive. Those that
// are to stay are made as they stay.
func (f *runFlags) streams(pkg *appliance.Package) bool {
	return f.keep == "" && !f.dryRun && pkg.Remote()
}

// arriving are disks that guests use while they arrive. A nil one is of a run
// that has none.
type arriving struct {
	*stream.Stream
	app    *app
	pkg    *appliance.Package
	live   *stage.Live
	failed chan error
	cancel context.CancelFunc
	// outlive keeps the end of the program's own context from the fetching.
	outlive func() bool

	// running says that a guest may have the terminal: what there is to say
	// then goes through said.
	running atomic.Bool
	said    chan string
	filling sync.WaitGroup
	filled  chan error // how the background ended; nil before it began
}

func (a *app) newArriving(ctx context.Context, pkg *appliance.Package, f runFlags) (*arriving, error) {
	r := &arriving{app: a, pkg: pkg, failed: make(chan error, 1), said: make(chan string, 16)}
	opt, err := a.streaming(ctx, pkg, f.noCache)
	if err != nil {
		return nil, err
	}
	opt.Failed, opt.Note = r.fail, r.say
	// A guest that is asked to power off still needs its disks: once there
	// are guests, only close ends the fetching.
	alive, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.cancel, r.outlive = cancel, context.AfterFunc(ctx, cancel)
	r.Stream = stream.New(alive, pkg, opt)
	return r, nil
}

// streaming is how the disks of a package on a web server are used while they
// arrive: proved part by part where it has digests of parts, and kept in the
// cache.
func (a *app) streaming(ctx context.Context, pkg *appliance.Package, noCache bool) (stream.Options, error) {
	opt := stream.Options{TempDir: workdir.Base(), Log: a.log}
	digests, err := pkg.ChunkDigests(ctx)
	if err != nil {
		return opt, err
	}
	opt.Prover = func(name string, size int64) (lazy.Prover, error) {
		c, err := appliance.ChunksOf(digests, name, size)
		if c == nil {
			return nil, err // and no nil pointer in a Prover
		}
		return c, nil
	}
	if noCache {
		return opt, nil
	}
	dir, err := cache.Dir()
	if err != nil {
		a.note("%v: nothing is kept of what is fetched", err)
		return opt, nil
	}
	opt.Cache = cache.Open(dir)
	return opt, nil
}

func (r *arriving) fail(err error) {
	select {
	case r.failed <- err:
	default: // one is enough
	}
}

// news are what runGuests is to know of the disks.
func (r *arriving) news() (failed <-chan error, said <-chan string) {
	if r == nil {
		return nil, nil
	}
	return r.failed, r.said
}

func (r *arriving) say(text string) {
	if !r.running.Load() {
		r.app.note("%s", text)
		return
	}
	select {
	case r.said <- term.CleanText(text):
	default: // nobody listens any more
	}
}

// place gives the machines their disks.
func (r *arriving) place(ctx context.Context, machines []*deploy.Planned, opt stage.Options) (err error) {
	r.live, err = stage.Stream(ctx, r.pkg, machines, r.Stream, opt)
	return err
}

// begin lets the rest of the disks come, and waits for it where it is to be
// proved first.
func (r *arriving) begin(ctx context.Context, before bool) error {
	stats := r.Stats()
	parts, whole := r.Proved()
	if before {
		err := r.wait(ctx)
		r.outlive()
		return err
	}
	r.outlive()
	switch here := fmt.Sprintf("%s of %s are here", term.Size(stats.Present), term.Size(stats.Size)); {
	case parts && stats.Present == stats.Size:
		r.say("all of the disks is in the cache")
		return nil
	case parts:
		r.say(here + "; every part of the rest is proved before it is used")
	case whole:
		r.say(here + "; the disks are compared with the manifest while the guest runs, which is ended if they differ (--verify=before waits)")
	default:
		r.say(here + "; nothing proves the disks")
	}
	r.running.Store(true)
	r.app.network.trouble.through(r.say)
	r.filled = make(chan error, 1)
	told, tell := context.WithCancel(ctx)
	r.filling.Go(func() { r.quarters(told) })
	r.filling.Go(func() {
		err := r.Fill(ctx)
		tell()
		switch {
		case err == nil && whole:
			r.say("all of the disks is here, and is what the manifest says: the network is not needed for them any more")
		case err == nil:
			r.say("all of the disks is here: the network is not needed for them any more")
		case ctx.Err() == nil:
			r.fail(err)
		}
		r.filled <- err
	})
	return nil
}

// tellEvery is the least time between two things that are said of how far it is:
// a guest has the terminal.
const tellEvery = 10 * time.Second

// quarters says when another quarter of the disks is here.
func (r *arriving) quarters(ctx context.Context) {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	quarter := func(s lazy.Stats) int64 { return 4 * s.Present / max(s.Size, 1) }
	last := quarter(r.Stats())
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if s := r.Stats(); quarter(s) > last && s.Present < s.Size {
			last = quarter(s)
			r.say(fmt.Sprintf("%s of %s are here", term.Size(s.Present), term.Size(s.Size)))
		}
	}
}

// spoke is for when a guest writes its first byte.
func (r *arriving) spoke() {
	if r != nil {
		r.Started()
		s := r.Stats()
		r.app.log.Info("the guest speaks", "read", r.live.Given(), "demanded", s.Demanded, "filled", s.Filled, "size", s.Size)
	}
}

// wait fetches and proves all, with progress.
func (r *arriving) wait(ctx context.Context) error {
	r.Hurry()
	progress := r.app.newProgress()
	defer progress.Wait()
	stats := r.Stats()
	task := progress.Track(r.pkg.Locator(), stats.Size)
	task.Set(stats.Present)
	done := make(chan struct{})
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				task.Set(r.Stats().Present)
			case <-done:
				return
			}
		}
	}()
	err := r.Fill(ctx)
	close(done)
	<-shown
	task.Done(err)
	return err
}

// end is for when the guests have ended: it says what nobody knows of the
// disks that they used.
func (r *arriving) end() error {
	if r == nil || r.filled == nil {
		return nil
	}
	r.running.Store(false)
	select {
	case err := <-r.failed:
		return err // as the guests ended
	case err := <-r.filled:
		return err
	default:
	}
	if parts, whole := r.Proved(); whole && !parts {
		s := r.Stats()
		r.app.warn("the guest ended before its disks were compared with the manifest: %s of %s are here", term.Size(s.Present), term.Size(s.Size))
	}
	return nil
}

func (r *arriving) close() error {
	r.cancel()
	r.filling.Wait()
	err := r.Close()
	if r.live != nil {
		err = errors.Join(err, r.live.Close())
	}
	return err
}
