// Package throttle lets so many bytes a second through, for all who share it.
package throttle

import (
	"context"
	"sync"
	"time"
)

// Bucket lets bytes through at a rate. Its methods are safe for concurrent use.
type Bucket struct {
	rate int64

	mu   sync.Mutex
	free time.Time // when what was let through so far has had its time
}

// burst is how much may come at once after a pause.
const burst = 50 * time.Millisecond

// New gives a bucket of so many bytes a second, at least one.
func New(rate int64) *Bucket { return &Bucket{rate: max(rate, 1), free: time.Now()} }

// Piece is how many bytes should be asked for at a time, so that several share
// fairly: what takes about a burst.
func (b *Bucket) Piece() int { return max(int(float64(b.rate)*burst.Seconds()), 512) }

// Wait returns when n bytes that have come may have come.
func (b *Bucket) Wait(ctx context.Context, n int) error {
	wait := b.take(n)
	if wait <= 0 {
		return nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take says how long to wait for n bytes.
func (b *Bucket) take(n int) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if earliest := now.Add(-burst); b.free.Before(earliest) {
		b.free = earliest
	}
	b.free = b.free.Add(time.Duration(float64(n) / float64(b.rate) * float64(time.Second)))
	return b.free.Sub(now)
}
