package throttle

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(1000)
		began := time.Now()
		for range 100 {
			if err := b.Wait(t.Context(), 100); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took < 9900*time.Millisecond || took > 10*time.Second {
			t.Errorf("10000 bytes at 1000 a second took %v", took)
		}
		// A pause is not saved up.
		time.Sleep(time.Hour)
		began = time.Now()
		for range 10 {
			if err := b.Wait(t.Context(), 100); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took < 900*time.Millisecond {
			t.Errorf("after a pause 1000 bytes took %v", took)
		}
	})
}

func TestGivenUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := New(1)
	if err := b.Wait(ctx, 1<<30); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if n := b.Piece(); n != 512 {
		t.Errorf("pieces of %d", n)
	}
}
