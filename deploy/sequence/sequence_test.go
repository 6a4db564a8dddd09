package sequence_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/ovation-project/ovation/deploy/sequence"
	"github.com/ovation-project/ovation/ovf"
)

type step = sequence.Step[int]

// world is a host whose guests do what a test says, in a clock that the test
// has for itself.
type world struct {
	readyAfter  map[int]time.Duration // from its start; absent is never
	endsAfter   map[int]time.Duration // after it was asked; absent is never
	diesAfter   map[int]time.Duration // from its start; absent is never
	failStart   int                   // the one whose start fails, -1 none
	failStop    int
	started     map[int]time.Time
	asked       map[int]time.Time
	killed      map[int]time.Time
	startOrder  []int
	askedOrder  []int
	running     map[int]bool
	late        []int
	startedAt   time.Time
	pollFailure error
}

func newWorld() *world {
	return &world{readyAfter: map[int]time.Duration{}, endsAfter: map[int]time.Duration{}, diesAfter: map[int]time.Duration{}, failStart: -1, failStop: -1,
		started: map[int]time.Time{}, asked: map[int]time.Time{}, killed: map[int]time.Time{}, running: map[int]bool{}}
}

var errBroken = errors.New("broken")

func (w *world) start(ctx context.Context, steps []step, last bool) error {
	w.startedAt = time.Now()
	return sequence.Start(ctx, steps, sequence.StartOptions[int]{
		Start: func(_ context.Context, m int) error {
			if m == w.failStart {
				return errBroken
			}
			w.started[m], w.running[m] = time.Now(), true
			w.startOrder = append(w.startOrder, m)
			return nil
		},
		Ready: func(_ context.Context, m int) error {
			if d, ok := w.diesAfter[m]; ok && time.Since(w.started[m]) >= d {
				return sequence.ErrEnded
			}
			if d, ok := w.readyAfter[m]; ok && time.Since(w.started[m]) >= d {
				return nil
			}
			return errors.New("no answer yet")
		},
		Last: last,
		Late: func(m int, _ error) { w.late = append(w.late, m) },
	})
}

func (w *world) stop(ctx context.Context, steps []step, grace time.Duration) error {
	return sequence.Stop(ctx, steps, sequence.StopOptions[int]{
		Running: func(_ context.Context, m int) (bool, error) {
			if at, ok := w.asked[m]; ok {
				if d, ok := w.endsAfter[m]; ok && time.Since(at) >= d {
					w.running[m] = false
				}
			}
			return w.running[m], w.pollFailure
		},
		Stop: func(_ context.Context, m int) error {
			if m == w.failStop {
				return errBroken
			}
			w.asked[m] = time.Now()
			w.askedOrder = append(w.askedOrder, m)
			return nil
		},
		Kill: func(_ context.Context, m int) error {
			w.killed[m], w.running[m] = time.Now(), false
			return nil
		},
		Grace: grace,
	})
}

// inBubble runs a test with a clock of its own, and gives what it objects to.
func inBubble(t *testing.T, f func(ctx context.Context) error) error {
	var err error
	synctest.Test(t, func(t *testing.T) { err = f(t.Context()) })
	return err
}

// drawSteps draws steps of members that are numbered through, some of which are
// waited for.
func drawSteps(t *rapid.T) []step {
	var steps []step
	n := 0
	for range rapid.IntRange(1, 5).Draw(t, "steps") {
		s := step{Delay: time.Duration(rapid.SampledFrom([]int{0, 0, 1, 7, 60}).Draw(t, "delay")) * time.Second,
			StopDelay: time.Duration(rapid.SampledFrom([]int{0, 0, 1, 7, 600}).Draw(t, "stopDelay")) * time.Second}
		for range rapid.IntRange(1, 3).Draw(t, "members") {
			s.Members = append(s.Members, n)
			if rapid.Bool().Draw(t, "wait") {
				s.WaitFor = append(s.WaitFor, n)
			}
			n++
		}
		steps = append(steps, s)
	}
	return steps
}

// between keeps what guests do off the moments at which limits end.
const between = 250 * time.Millisecond

func TestStartKeepsOrderDelaysAndLimits(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := drawSteps(rt)
		w := newWorld()
		for _, s := range steps {
			for _, m := range s.Members {
				if rapid.IntRange(0, 3).Draw(rt, "answers") > 0 {
					w.readyAfter[m] = time.Duration(rapid.IntRange(0, 400).Draw(rt, "ready"))*time.Second + between
				}
				if rapid.IntRange(0, 9).Draw(rt, "dies") == 0 {
					w.diesAfter[m] = time.Duration(rapid.IntRange(0, 400).Draw(rt, "dies after"))*time.Second + between
				}
			}
		}
		if rapid.IntRange(0, 3).Draw(rt, "fails") == 0 {
			w.failStart = rapid.IntRange(0, 6).Draw(rt, "fails at")
		}
		last := rapid.Bool().Draw(rt, "last")
		if err := inBubble(t, func(ctx context.Context) error { return w.checkStart(steps, last, w.start(ctx, steps, last)) }); err != nil {
			rt.Fatalf("%+v: %v", steps, err)
		}
	})
}

// checkStart works out on its own what must have happened.
func (w *world) checkStart(steps []step, last bool, err error) error {
	const poll = 500 * time.Millisecond
	at := time.Duration(0) // since the beginning
	var done []int
	var want error
	culprit := -1
	var late []int
walk:
	for i, s := range steps {
		for _, m := range s.Members {
			if m == w.failStart {
				want, culprit = errBroken, m
				break walk
			}
			if got := w.started[m].Sub(w.startedAt); got < at || got > at+poll {
				return fmt.Errorf("%d started after %v, want %v", m, got, at)
			}
			at = w.started[m].Sub(w.startedAt)
			done = append(done, m)
		}
		if i == len(steps)-1 && (!last || len(s.WaitFor) == 0) {
			break
		}
		if len(s.WaitFor) == 0 {
			at += s.Delay
			continue
		}
		limit := s.Delay
		if limit == 0 {
			limit = sequence.ReadyLimit
		}
		// One that dies ends it all; else the last that is ready does.
		var longest time.Duration
		for _, m := range s.WaitFor {
			ready, answers := w.readyAfter[m]
			d, mortal := w.diesAfter[m]
			switch {
			case mortal && d < limit && (!answers || d <= ready):
				culprit, want = m, sequence.ErrEnded
			case !answers || ready >= limit:
				longest = limit
			default:
				longest = max(longest, ready)
			}
		}
		if want != nil {
			break
		}
		for _, m := range s.WaitFor {
			if ready, answers := w.readyAfter[m]; !answers || ready >= limit {
				if s.Delay == 0 {
					want, culprit = sequence.ErrNotReady, m
					break walk
				}
				late = append(late, m)
			}
		}
		at += longest
	}
	if want == nil {
		if err != nil {
			return fmt.Errorf("failed with %w", err)
		}
	} else {
		var e *sequence.Error[int]
		switch {
		case !errors.Is(err, want) || !errors.As(err, &e):
			return fmt.Errorf("got %v, want %v", err, want)
		case want != sequence.ErrEnded && e.Member != culprit:
			return fmt.Errorf("blames %d, want %d", e.Member, culprit)
		case !slices.Equal(e.Done, done) || len(e.Done)+len(e.Left) != count(steps):
			return fmt.Errorf("done %v, left %v, want done %v", e.Done, e.Left, done)
		}
	}
	if !slices.Equal(w.startOrder, done) {
		return fmt.Errorf("started %v, want %v", w.startOrder, done)
	}
	if want == nil && !slices.Equal(w.late, late) {
		return fmt.Errorf("late %v, want %v", w.late, late)
	}
	return nil
}

func count(steps []step) (n int) {
	for _, s := range steps {
		n += len(s.Members)
	}
	return n
}

func TestStopReverses(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := drawSteps(rt)
		w := newWorld()
		for m := range count(steps) {
			w.running[m] = rapid.IntRange(0, 4).Draw(rt, "runs") > 0
			if rapid.IntRange(0, 4).Draw(rt, "hears") > 0 {
				w.endsAfter[m] = time.Duration(rapid.IntRange(0, 100).Draw(rt, "ends")) * time.Second
			}
		}
		was := map[int]bool{}
		for m, r := range w.running {
			was[m] = r
		}
		if rapid.IntRange(0, 3).Draw(rt, "fails") == 0 {
			w.failStop = rapid.IntRange(0, 6).Draw(rt, "fails at")
		}
		const grace = 30 * time.Second
		err := inBubble(t, func(ctx context.Context) error {
			err := w.stop(ctx, steps, grace)
			return w.checkStop(steps, was, grace, err)
		})
		if err != nil {
			rt.Fatalf("%+v: %v", steps, err)
		}
	})
}

func (w *world) checkStop(steps []step, was map[int]bool, grace time.Duration, err error) error {
	// Asked in reverse by steps, in order within one, only those that ran, up
	// to the one that failed.
	var want []int
	failed := false
walk:
	for _, s := range slices.Backward(steps) {
		for _, m := range s.Members {
			if !was[m] {
				continue
			}
			if m == w.failStop {
				failed = true
				break walk
			}
			want = append(want, m)
		}
	}
	if !slices.Equal(w.askedOrder, want) {
		return fmt.Errorf("asked %v, want %v", w.askedOrder, want)
	}
	var e *sequence.Error[int]
	switch {
	case failed && (!errors.Is(err, errBroken) || !errors.As(err, &e) || e.Member != w.failStop):
		return fmt.Errorf("got %v, want that %d failed", err, w.failStop)
	case failed:
		for _, m := range e.Done {
			if w.running[m] {
				return fmt.Errorf("%d is said to be off, and runs", m)
			}
		}
		for m, r := range w.running {
			if r && !slices.Contains(e.Left, m) {
				return fmt.Errorf("%d runs, and is not said to", m)
			}
		}
		return nil
	case err != nil:
		return err
	}
	for m, r := range w.running {
		if r {
			return fmt.Errorf("%d still runs", m)
		}
	}
	// No step is asked before the one after it has ended, or had its delay.
	var after time.Time
	for _, s := range slices.Backward(steps) {
		var off time.Time // when the whole step is
		var first time.Time
		for _, m := range s.Members {
			asked, ok := w.asked[m]
			if !ok {
				continue
			}
			if asked.Before(after) {
				return fmt.Errorf("%d was asked %v too early", m, after.Sub(asked))
			}
			first = asked
			end, killed := w.killed[m]
			d, hears := w.endsAfter[m]
			switch {
			case hears && d < grace && killed:
				return fmt.Errorf("%d was killed, and would have ended", m)
			case killed && end.Sub(asked) < grace:
				return fmt.Errorf("%d was killed after %v", m, end.Sub(asked))
			case killed && end.Sub(asked) > grace+time.Second:
				return fmt.Errorf("%d was left for %v", m, end.Sub(asked))
			case !killed:
				end = asked.Add(d)
			}
			if end.After(off) {
				off = end
			}
		}
		if s.StopDelay > 0 && !first.IsZero() && first.Add(s.StopDelay).Before(off) {
			off = first.Add(s.StopDelay)
		}
		if off.After(after) {
			after = off
		}
	}
	return nil
}

// TestInterrupted ends both at once, wherever they are.
func TestInterrupted(t *testing.T) {
	steps := []step{{Members: []int{0, 1}, Delay: time.Hour}, {Members: []int{2}, WaitFor: []int{2}}, {Members: []int{3}}}
	for _, after := range []time.Duration{time.Minute, time.Hour + time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			begun := time.Now()
			err := w.start(ctx, steps, false)
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != after {
				t.Errorf("after %v: %v", time.Since(begun), err)
			}
			if !strings.Contains(err.Error(), "started: 0, 1") || !strings.Contains(err.Error(), "3") {
				t.Errorf("does not say what runs: %v", err)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.running[0], w.running[3] = true, true
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := w.stop(ctx, steps, 0)
		if !errors.Is(err, context.DeadlineExceeded) || !w.running[0] || !strings.Contains(err.Error(), "perhaps still running: 2, 0, 1") {
			t.Errorf("%v", err)
		}
	})
}

func TestOf(t *testing.T) {
	doc, err := ovf.Parse([]byte(`<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <VirtualSystemCollection ovf:id="app"><Info/>
    <StartupSection><Info/>
      <Item ovf:id="tier" ovf:order="1" ovf:startDelay="30" ovf:waitingForGuest="true" />
      <Item ovf:id="web" ovf:order="2" ovf:stopDelay="4"/>
      <Item ovf:id="tool" ovf:order="3" ovf:startAction="none"/>
    </StartupSection>
    <VirtualSystem ovf:id="web"/><VirtualSystem ovf:id="tool"/>
    <VirtualSystemCollection ovf:id="tier"><Info/>
      <StartupSection><Info/><Item ovf:id="db" ovf:order="1" ovf:startDelay="7"/><Item ovf:id="api" ovf:order="2"/></StartupSection>
      <VirtualSystem ovf:id="api"/><VirtualSystem ovf:id="db"/>
    </VirtualSystemCollection>
  </VirtualSystemCollection></Envelope>`), ovf.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := ovf.Resolve(doc.Envelope(), ovf.ResolveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	steps := sequence.Of(r.StartOrder(), func(s *ovf.System) (string, bool) { return s.ID, true })
	want := "[{[db] 7s [] 0s 0s} {[api] 30s [api] 0s 0s} {[web] 0s [] 0s 4s}]"
	if got := fmt.Sprint(steps); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	steps = sequence.Of(r.StartOrder(), func(s *ovf.System) (string, bool) { return s.ID, s.ID != "api" })
	if got, want := fmt.Sprint(steps), "[{[db] 7s [] 0s 0s} {[web] 0s [] 0s 4s}]"; got != want {
		t.Errorf("without one: %s, want %s", got, want)
	}
}

func ExampleStart() {
	steps := []sequence.Step[string]{{Members: []string{"db"}}, {Members: []string{"web1", "web2"}}}
	err := sequence.Start(context.Background(), steps, sequence.StartOptions[string]{
		Start: func(_ context.Context, name string) error {
			if name == "web2" {
				return errors.New("no memory left")
			}
			return nil
		},
	})
	fmt.Println(err)
	// Output: web2: no memory left; started: db, web1
}
