// Package sequence starts machines in an order and stops them in its reverse,
// as StartupSections have it (DSP0243, 9.7): step by step, with delays, and
// with waits for guests that say when they are ready. What starting, stopping
// and being ready are, its callers say.
package sequence

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ovation-project/ovation/ovf"
)

// The times that are taken where nobody says others.
const (
	// ReadyLimit is for a guest to say that it is ready.
	ReadyLimit = 5 * time.Minute
	// Grace is for a guest to power off when it is asked to.
	Grace = 90 * time.Second
	// poll is how often guests are asked.
	poll = 500 * time.Millisecond
)

// Errors that callers act on.
var (
	// ErrNotReady says that a guest that was to be waited for did not say in
	// time that it is ready.
	ErrNotReady = errors.New("the guest is not ready in time")
	// ErrEnded is what Ready answers of a guest that has ended: it will not be
	// ready any more.
	ErrEnded = errors.New("the guest has ended")
)

// Step is what starts together.
type Step[T comparable] struct {
	Members []T
	// Delay is how long to wait before the next step.
	Delay time.Duration
	// WaitFor are the members, of this step or of one before, that are to be
	// ready before the next step. Where there is a Delay, it is the longest
	// wait, and then the next step comes all the same.
	WaitFor []T
	// Limit is the longest wait for WaitFor where there is no Delay; 0 is
	// ReadyLimit.
	Limit time.Duration
	// StopDelay is how long to wait, when stopping, before the step before;
	// 0 is until the guests of this one have ended.
	StopDelay time.Duration
}

// Of gives the steps of a resolved descriptor for the members that stand for
// its virtual systems; those that member does not know are left out. Systems
// with startAction "none" are in no step.
func Of[T comparable](order []ovf.StartStep, member func(*ovf.System) (T, bool)) []Step[T] {
	var steps []Step[T]
	pick := func(systems []*ovf.System) (all []T) {
		for _, s := range systems {
			if m, ok := member(s); ok {
				all = append(all, m)
			}
		}
		return all
	}
	for _, o := range order {
		s := Step[T]{Members: pick(o.Systems), WaitFor: pick(o.WaitFor), Delay: time.Duration(o.Delay) * time.Second}
		for _, system := range o.Systems {
			if _, ok := member(system); ok && system.Startup != nil {
				s.StopDelay = max(s.StopDelay, time.Duration(system.Startup.StopDelay)*time.Second)
			}
		}
		if len(s.Members) > 0 {
			steps = append(steps, s)
		}
	}
	return steps
}

// Error says how far a sequence came.
type Error[T comparable] struct {
	// Member is the one that it ended at.
	Member T
	Err    error
	// Done are those that were started, or ended; Left are the others, Member
	// among them.
	Done, Left []T
	starting   bool
}

func names[T comparable](all []T) string {
	text := make([]string, len(all))
	for i, m := range all {
		text[i] = fmt.Sprint(m)
	}
	return strings.Join(text, ", ")
}

// Error says what happened and what state it left.
func (e *Error[T]) Error() string {
	text := fmt.Sprintf("%v: %v", e.Member, e.Err)
	done, left := "started", "not started"
	if !e.starting {
		done, left = "off", "perhaps still running"
	}
	if len(e.Done) > 0 {
		text += fmt.Sprintf("; %s: %s", done, names(e.Done))
	}
	if others := slices.DeleteFunc(slices.Clone(e.Left), func(m T) bool { return m == e.Member }); len(others) > 0 {
		text += fmt.Sprintf("; %s: %s", left, names(others))
	}
	return text
}

// Unwrap gives the cause.
func (e *Error[T]) Unwrap() error { return e.Err }

// StartOptions say how members are started.
type StartOptions[T comparable] struct {
	// Start powers one on.
	Start func(ctx context.Context, m T) error
	// Ready asks a guest; nil is that it is ready, an ErrEnded that it never
	// will be, any other error that it is not ready yet. Where Ready is nil
	// nobody can ask: then delays are waited, and that is all.
	Ready func(ctx context.Context, m T) error
	// Limit, where it is not 0, replaces those of the steps.
	Limit time.Duration
	// Last waits for what the last step waits for, too.
	Last bool
	// Waiting, where set, is called before each wait, with those waited for
	// and the longest that it takes; Late with those that were not ready when
	// their delay was over, and the error they gave last.
	Waiting func(all []T, longest time.Duration)
	Late    func(m T, err error)
}

// Start starts the steps, one after the other, and the members of one in their
// order. It ends at the first failure, with an *Error: what was started runs.
func Start[T comparable](ctx context.Context, steps []Step[T], o StartOptions[T]) error {
	var all, done []T
	for _, s := range steps {
		all = append(all, s.Members...)
	}
	fail := func(m T, err error) error {
		return &Error[T]{Member: m, Err: err, Done: done, Left: all[len(done):], starting: true}
	}
	for i, s := range steps {
		for _, m := range s.Members {
			if err := ctx.Err(); err != nil {
				return fail(m, err)
			}
			if err := o.Start(ctx, m); err != nil {
				return fail(m, err)
			}
			done = all[:len(done)+1]
		}
		if i == len(steps)-1 && !o.Last {
			return nil
		}
		if m, err := wait(ctx, s, i == len(steps)-1, o); err != nil {
			return fail(m, err)
		}
	}
	return nil
}

// wait is what comes between two steps. The member is the one that is to blame.
func wait[T comparable](ctx context.Context, s Step[T], last bool, o StartOptions[T]) (T, error) {
	blame := s.Members[len(s.Members)-1]
	longest := s.Delay
	asks := len(s.WaitFor) > 0 && o.Ready != nil
	switch {
	case last && !asks:
		return blame, nil
	case asks && longest == 0:
		longest = cmp.Or(o.Limit, s.Limit, ReadyLimit)
	case longest == 0:
		return blame, nil
	}
	if o.Waiting != nil {
		o.Waiting(s.WaitFor, longest)
	}
	if !asks {
		return blame, sleep(ctx, longest)
	}
	limited, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	errs := make([]error, len(s.WaitFor))
	var wg sync.WaitGroup
	for i, m := range s.WaitFor {
		wg.Go(func() {
			for {
				errs[i] = o.Ready(limited, m)
				if errs[i] == nil {
					return
				}
				if errors.Is(errs[i], ErrEnded) {
					cancel()
					return
				}
				if sleep(limited, poll) != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	for i, err := range errs {
		if errors.Is(err, ErrEnded) {
			return s.WaitFor[i], err
		}
	}
	for i, err := range errs {
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return s.WaitFor[i], ctx.Err()
		case s.Delay > 0:
			if o.Late != nil {
				o.Late(s.WaitFor[i], err)
			}
		default:
			return s.WaitFor[i], fmt.Errorf("%w (%v): %w", ErrNotReady, longest, err)
		}
	}
	return blame, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// StopOptions say how members are stopped.
type StopOptions[T comparable] struct {
	// Running says whether one is to be stopped and has not ended yet.
	Running func(ctx context.Context, m T) (bool, error)
	// Stop begins to stop one that runs: it asks the guest, or powers it off.
	Stop func(ctx context.Context, m T) error
	// Kill powers one off that was asked and did not end in time.
	Kill func(ctx context.Context, m T) error
	// Grace is for a guest to end after Stop; 0 is Grace.
	Grace time.Duration
}

// Stop stops the steps in reverse, and the members of one together. A step is
// waited for until its guests have ended, or for its StopDelay; those that have
// not ended when their grace is over are killed. It ends at the first failure,
// with an *Error.
func Stop[T comparable](ctx context.Context, steps []Step[T], o StopOptions[T]) error {
	grace := o.Grace
	if grace == 0 {
		grace = Grace
	}
	var left, done []T
	for _, s := range slices.Backward(steps) {
		left = append(left, s.Members...)
	}
	end := func(m T) {
		left = slices.DeleteFunc(left, func(n T) bool { return n == m })
		done = append(done, m)
	}
	fail := func(m T, err error) error {
		return &Error[T]{Member: m, Err: err, Done: done, Left: left}
	}
	type asked struct {
		m     T
		until time.Time
	}
	var waited []asked
	// look goes through those that were asked, and gives what it failed at.
	look := func() error {
		for i := 0; i < len(waited); i++ {
			w := waited[i]
			running, err := o.Running(ctx, w.m)
			if err == nil && running && !time.Now().Before(w.until) {
				if err = o.Kill(ctx, w.m); err == nil {
					running = false
				}
			}
			if err != nil {
				return fail(w.m, err)
			}
			if !running {
				end(w.m)
				waited = slices.Delete(waited, i, i+1)
				i--
			}
		}
		return nil
	}
	// waitFor looks until none of a step is left, or a time has come.
	waitFor := func(of []T, until time.Time) error {
		for {
			if err := look(); err != nil {
				return err
			}
			i := slices.IndexFunc(waited, func(w asked) bool { return of == nil || slices.Contains(of, w.m) })
			if i < 0 || !until.IsZero() && !time.Now().Before(until) {
				return nil
			}
			pause := min(poll, time.Until(waited[i].until))
			if !until.IsZero() {
				pause = min(pause, time.Until(until))
			}
			if err := sleep(ctx, max(pause, time.Millisecond)); err != nil {
				return fail(waited[i].m, err)
			}
		}
	}
	for _, s := range slices.Backward(steps) {
		for _, m := range s.Members {
			running, err := o.Running(ctx, m)
			if err == nil && running {
				err = o.Stop(ctx, m)
			}
			if err != nil {
				return fail(m, err)
			}
			if !running {
				end(m)
				continue
			}
			waited = append(waited, asked{m, time.Now().Add(grace)})
		}
		var until time.Time
		if s.StopDelay > 0 {
			until = time.Now().Add(s.StopDelay)
		}
		if err := waitFor(s.Members, until); err != nil {
			return err
		}
	}
	return waitFor(nil, time.Time{})
}
