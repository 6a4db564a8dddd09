package pipeline

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

type slot struct{ in, out int }

func count(n int) func(context.Context, *slot) error {
	i := 0
	return func(_ context.Context, s *slot) error {
		if i == n {
			return io.EOF
		}
		s.in = i
		i++
		return nil
	}
}

func TestOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 200).Draw(t, "n")
		slots := make([]slot, rapid.IntRange(1, 9).Draw(t, "slots"))
		workers := rapid.IntRange(1, 5).Draw(t, "workers")
		var got, want []int
		for i := range n {
			want = append(want, i*i)
		}
		err := Run(context.Background(), slots, workers, count(n),
			func(_ context.Context, s *slot) error { s.out = s.in * s.in; return nil },
			func(s *slot) error { got = append(got, s.out); return nil })
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%v, %v", got, err)
		}
	})
}

func TestFirstErrorInOrderWins(t *testing.T) {
	early, late := errors.New("early"), errors.New("late")
	for range 50 {
		gate := make(chan struct{})
		var committed int
		err := Run(t.Context(), make([]slot, 8), 4, count(100),
			func(_ context.Context, s *slot) error {
				switch s.in {
				case 3:
					<-gate
					return early
				case 5:
					defer close(gate)
					return late
				}
				return nil
			},
			func(*slot) error { committed++; return nil })
		if err != early || committed != 3 {
			t.Fatalf("after %d: %v", committed, err)
		}
	}
}

func TestProduceFails(t *testing.T) {
	bad := errors.New("bad")
	next := count(10)
	var committed int
	err := Run(t.Context(), make([]slot, 3), 2,
		func(ctx context.Context, s *slot) error {
			if err := next(ctx, s); err != nil {
				return bad
			}
			return nil
		},
		func(context.Context, *slot) error { return nil },
		func(*slot) error { committed++; return nil })
	if err != bad || committed != 10 {
		t.Fatalf("after %d: %v", committed, err)
	}
}

func TestCommitFails(t *testing.T) {
	bad := errors.New("bad")
	var running atomic.Int32
	err := Run(t.Context(), make([]slot, 3), 2, count(1000),
		func(context.Context, *slot) error {
			running.Add(1)
			defer running.Add(-1)
			return nil
		},
		func(s *slot) error {
			if s.in == 7 {
				return bad
			}
			return nil
		})
	if err != bad || running.Load() != 0 {
		t.Fatal(err, running.Load())
	}
}

func TestCancel(t *testing.T) {
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	endless := func(_ context.Context, s *slot) error { s.in++; return nil }
	n := 0
	err := Run(ctx, make([]slot, 3), 2, endless,
		func(context.Context, *slot) error { return nil },
		func(*slot) error {
			if n++; n == 20 {
				cancel(cause)
			}
			return nil
		})
	if err != cause {
		t.Fatal(err)
	}
}
