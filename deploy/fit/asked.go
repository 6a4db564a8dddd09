package fit

import (
	"context"
	"slices"
	"sync"

	"github.com/ovation-project/ovation/hypervisor"
)

// Asked gives a host whose answers are kept: who judges by it again judges by the
// same networks and the same room, whatever has been put into its pools since.
func Asked(h Host) Host {
	a := &asked{Host: h}
	if c, ok := h.(hypervisor.Checker); ok {
		return &askedChecker{a, c}
	}
	return a
}

type asked struct {
	Host
	mu       sync.Mutex
	caps     map[string]*hypervisor.Capabilities
	pools    []hypervisor.Pool
	networks []hypervisor.Network
}

type askedChecker struct {
	*asked
	hypervisor.Checker
}

// Capabilities asks once.
func (a *asked) Capabilities(ctx context.Context, architecture string) (*hypervisor.Capabilities, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.caps[architecture]; c != nil {
		return c, nil
	}
	c, err := a.Host.Capabilities(ctx, architecture)
	if err == nil {
		if a.caps == nil {
			a.caps = map[string]*hypervisor.Capabilities{}
		}
		a.caps[architecture] = c
	}
	return c, err
}

// Pools asks once.
func (a *asked) Pools(ctx context.Context) ([]hypervisor.Pool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return once(&a.pools, func() ([]hypervisor.Pool, error) { return a.Host.Pools(ctx) })
}

// Networks asks once.
func (a *asked) Networks(ctx context.Context) ([]hypervisor.Network, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return once(&a.networks, func() ([]hypervisor.Network, error) { return a.Host.Networks(ctx) })
}

// once keeps an answer; what failed is asked again.
func once[T any](kept *[]T, ask func() ([]T, error)) ([]T, error) {
	if *kept == nil {
		have, err := ask()
		if err != nil {
			return nil, err
		}
		*kept = have
	}
	return slices.Clone(*kept), nil
}

// NoPool is the host's own advice where it has no pool, "" where it has none.
func (a *asked) NoPool() string {
	if h, ok := a.Host.(interface{ NoPool() string }); ok {
		return h.NoPool()
	}
	return ""
}
