package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	xterm "golang.org/x/term"

	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/sequence"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/console"
	"github.com/ovation-project/ovation/internal/term"
)

// How long a guest may take to power off when it is asked to. Disks that go
// anyway are not worth much waiting.
const (
	graceShort = 10 * time.Second
	graceKept  = 90 * time.Second
)

// runningGuest is a guest and the machine that it was made from.
type runningGuest struct {
	hypervisor.Guest
	planned *deploy.Planned
}

func (g *runningGuest) id() string { return g.planned.Machine.ID }

// String is the ID, for messages.
func (g *runningGuest) String() string { return g.id() }

// guestResult is how a guest ended; it is what --json prints.
type guestResult struct {
	ID string `json:"id"`
	hypervisor.Exit
}

// runGuests starts guests step by step, shows their consoles and waits for their
// ends. Disks that turn out to be useless end them.
func (a *app) runGuests(ctx context.Context, guests []*runningGuest, steps []sequence.Step[*deploy.Planned], f runFlags, disks *arriving) (err error) {
	failures, said := disks.news()
	// The program's own context ends at the first signal; what follows is
	// heard here.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	alive := context.WithoutCancel(ctx)

	s := &session{app: a, guests: guests, stop: make(chan struct{}, 4), spoke: sync.OnceFunc(disks.spoke)}
	if err := s.attach(f); err != nil {
		return err
	}
	results := make(chan result, len(guests))
	var timeout <-chan time.Time
	if f.timeout > 0 {
		t := time.NewTimer(f.timeout)
		defer t.Stop()
		timeout = t.C
	}
	err = sequence.Start(ctx, stepsOfGuests(steps, guests), sequence.StartOptions[*runningGuest]{Start: func(ctx context.Context, g *runningGuest) error {
		if err := g.Start(ctx); err != nil {
			return err
		}
		s.started++
		go func() {
			exit, err := g.Wait(alive)
			results <- result{g, exit, err}
		}()
		return nil
	}})
	if err != nil {
		s.kill(alive)
	}
	grace := f.grace
	switch {
	case grace > 0:
	case f.keep != "":
		grace = graceKept
	default:
		grace = graceShort
	}
	var asked <-chan time.Time
	var interrupted, timedOut, failed bool
	heard, cancelled := 0, ctx.Done()
	var ended []guestResult
	power := func() {
		if asked == nil {
			s.say("asking the guest to power off; once more ends it at once")
			asked = time.After(grace)
			s.shutdown(alive)
		} else {
			s.kill(alive)
		}
	}
	for len(ended) < s.started {
		select {
		case r := <-results:
			ended = append(ended, guestResult{r.guest.id(), r.exit})
			if r.err == nil {
				r.err = r.exit.Err()
			}
			if r.err != nil && !interrupted && !timedOut && !failed {
				err = errors.Join(err, fmt.Errorf("%s: %w", r.guest.id(), r.err))
			}
		case <-cancelled:
			// The first signal comes both ways; one is enough.
			cancelled, interrupted = nil, true
			if asked == nil {
				power()
			}
		case <-signals:
			interrupted = true
			if heard++; heard > 1 || asked == nil {
				power()
			}
		case <-s.stop:
			power()
		case <-asked:
			s.say("the guest did not power off; ending it")
			s.kill(alive)
			asked = make(chan time.Time)
		case text := <-said:
			s.say(text)
		case cause := <-failures:
			failed, failures = true, nil
			s.say("ending the guest: its disk can't be relied on")
			err = errors.Join(err, cause)
			s.kill(alive)
		case <-timeout:
			timedOut = true
			s.kill(alive)
		}
	}
	s.detach()
	if f.timeout > 0 && timedOut {
		err = errors.Join(err, fmt.Errorf("the guest did not power off within %v (--timeout)", f.timeout))
	}
	if interrupted || ctx.Err() != nil {
		err = errors.Join(err, context.Canceled)
	}
	if a.json {
		return errors.Join(err, a.printJSON(struct {
			APIVersion string        `json:"apiVersion"`
			Guests     []guestResult `json:"guests"`
		}{"ovation/run/v1", ended}))
	}
	return err
}

type result struct {
	guest *runningGuest
	exit  hypervisor.Exit
	err   error
}

// stepsOfGuests has the guests in the places of their machines.
func stepsOfGuests(steps []sequence.Step[*deploy.Planned], guests []*runningGuest) []sequence.Step[*runningGuest] {
	of := map[*deploy.Planned]*runningGuest{}
	for _, g := range guests {
		of[g.planned] = g
	}
	var out []sequence.Step[*runningGuest]
	for _, s := range steps {
		step := sequence.Step[*runningGuest]{Delay: s.Delay}
		for _, p := range s.Members {
			step.Members = append(step.Members, of[p])
		}
		out = append(out, step)
	}
	return out
}

// session is what people see of the guests while they run.
type session struct {
	app     *app
	guests  []*runningGuest
	started int
	stop    chan struct{} // the escape key
	spoke   func()        // called when a guest writes
	restore func()        // gives the terminal back; nil where it was not taken
	shown   sync.WaitGroup
}

// attach shows the guests' consoles, with the keyboard where there is one
// guest and a person at a terminal.
func (s *session) attach(f runFlags) error {
	var out io.Writer = s.app.out
	if s.app.json {
		out = s.app.err
	}
	keyboard, _ := s.app.stdin.(*os.File)
	if !f.headless && !s.app.json && len(s.guests) == 1 && s.app.interactive() && s.app.out.IsTerminal() {
		c, err := s.guests[0].Console()
		if err != nil {
			return err
		}
		s.say("the guest's console; Ctrl-] powers the guest off")
		old, err := xterm.MakeRaw(int(keyboard.Fd()))
		if err != nil {
			return fmt.Errorf("the terminal: %w", err)
		}
		s.restore = sync.OnceFunc(func() { _ = xterm.Restore(int(keyboard.Fd()), old) })
		s.shown.Go(func() { _, _ = io.Copy(out, noticed{c, s.spoke}) })
		go console.Keys(c, keyboard, func() { s.stop <- struct{}{} })
		return nil
	}
	var mu sync.Mutex
	for _, g := range s.guests {
		c, err := g.Console()
		if err != nil {
			return err
		}
		to := out
		flush := func() error { return nil }
		if len(s.guests) > 1 {
			p := &console.Prefixed{W: out, Prefix: term.Clean(g.id()) + " | ", Mu: &mu}
			to, flush = p, p.Flush
		}
		s.shown.Go(func() {
			plain := console.NewPlain(to)
			// A reader that went away does not stop the guest.
			if _, err := io.Copy(plain, noticed{c, s.spoke}); err != nil {
				_, _ = io.Copy(io.Discard, c)
			}
			_ = plain.Flush()
			_ = flush()
		})
	}
	return nil
}

// noticed tells when something is read.
type noticed struct {
	r     io.Reader
	spoke func()
}

// Read reads.
func (n noticed) Read(p []byte) (int, error) {
	m, err := n.r.Read(p)
	if m > 0 {
		n.spoke()
	}
	return m, err
}

// detach waits until all that the guests wrote is shown, and gives the
// terminal back.
func (s *session) detach() {
	if s.started < len(s.guests) {
		// Those that were never started say nothing and do not end.
		for _, g := range s.guests {
			if c, err := g.Console(); err == nil {
				c.Close()
			}
		}
	}
	s.shown.Wait()
	if s.restore != nil {
		s.restore()
	}
}

// say tells people something, on a line of its own also where the terminal is
// the guest's.
func (s *session) say(text string) {
	if s.restore != nil {
		text = "\r\n[" + text + "]\r"
	}
	if !s.app.quiet {
		s.app.err.Printf("%s\n", text)
	}
}

func (s *session) shutdown(ctx context.Context) {
	for _, g := range s.guests {
		if err := g.Shutdown(ctx); err != nil && !errors.Is(err, hypervisor.ErrNotRunning) {
			s.app.log.Warn("asking a guest to power off", "machine", g.id(), "error", err)
		}
	}
}

func (s *session) kill(ctx context.Context) {
	for _, g := range s.guests {
		if err := g.Kill(ctx); err != nil {
			s.app.log.Warn("ending a guest", "machine", g.id(), "error", err)
		}
	}
}
