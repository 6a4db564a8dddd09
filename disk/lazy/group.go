package lazy

import (
	"sync"
	"time"
)

// Group is files that share a network.
type Group struct {
	mu       sync.Mutex
	since    time.Time
	waiters  int       // who wait for a fetch
	waited   time.Time // when somebody waited last
	eager    bool
	started  bool
	demanded int64 // bytes
	filled   int64
}

// NewGroup begins a group. Its files are given it as their Options.Group.
func NewGroup() *Group { return &Group{since: time.Now()} }

// Hurry lets the background take all of the network from now on; readers go
// first nevertheless.
func (g *Group) Hurry() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.eager = true
}

// Started says that the readers have got through what they begin with: where they
// wait for nothing for a while, the network is free from now on.
func (g *Group) Started() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.started = true
}

func (g *Group) wait(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiters += n
	g.waited = time.Now()
}

func (g *Group) count(demanded, filled int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.demanded += demanded
	g.filled += filled
}

// free says whether the background may ask for more now.
func (g *Group) free() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.waiters > 0:
		return false
	case g.eager, time.Since(g.since) > settled:
		return true
	case g.waited.IsZero() || time.Since(g.waited) <= quiet:
		return g.filled < g.demanded/8
	case g.started:
		return true
	}
	// A reader that computes for long, on a host that is slow or busy.
	return g.filled < g.demanded*3/8
}
