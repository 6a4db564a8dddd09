package remote

import (
	"context"
	"io"
	"sync"
	"time"
)

// bucket lets so many bytes a second through.
type bucket struct {
	rate int64

	mu   sync.Mutex
	free time.Time // when what was let through so far has had its time
}

// burst is how much may come at once after a pause.
const burst = 50 * time.Millisecond

func newBucket(rate int64) *bucket { return &bucket{rate: rate, free: time.Now()} }

// take says how long to wait for n bytes that have come.
func (b *bucket) take(n int) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if earliest := now.Add(-burst); b.free.Before(earliest) {
		b.free = earliest
	}
	b.free = b.free.Add(time.Duration(float64(n) / float64(b.rate) * float64(time.Second)))
	return b.free.Sub(now)
}

type limitedBody struct {
	io.ReadCloser
	bucket *bucket
	ctx    context.Context
}

// Read waits until what it read may have come.
func (l *limitedBody) Read(p []byte) (int, error) {
	// In pieces that take about a burst, so that several share fairly.
	most := max(int(float64(l.bucket.rate)*burst.Seconds()), 512)
	n, err := l.ReadCloser.Read(p[:min(len(p), most)])
	if wait := l.bucket.take(n); wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-l.ctx.Done():
			return n, l.ctx.Err()
		}
	}
	return n, err
}
