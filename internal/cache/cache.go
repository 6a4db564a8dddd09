// Package cache keeps the values that were used last.
package cache

import (
	"container/list"
	"sync"
	"sync/atomic"
)

// Cache keeps at most a number of values, or at most so many bytes of them, and
// forgets those that were not used for longest. It is safe for concurrent use;
// values must not be changed.
type Cache[K comparable, V any] struct {
	// last is what was asked for last, which a walk asks for again and again.
	last  atomic.Pointer[entry[K, V]]
	mu    sync.Mutex
	most  int64
	held  int64
	size  func(V) int64
	order *list.List // of *entry[K, V], last used first
	at    map[K]*list.Element
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

// New makes a cache of at most this many values, one at the least.
func New[K comparable, V any](most int) *Cache[K, V] {
	return NewSized[K](int64(most), func(V) int64 { return 1 })
}

// NewSized makes a cache whose values come to at most so much, as size counts
// them. The one that was asked for last is kept whatever its size.
func NewSized[K comparable, V any](most int64, size func(V) int64) *Cache[K, V] {
	return &Cache[K, V]{most: most, size: size, order: list.New(), at: map[K]*list.Element{}}
}

// Get gives a value that is kept, or makes and keeps it. Two callers that miss
// the same value at once both make it. An error is not kept.
func (c *Cache[K, V]) Get(key K, make func() (V, error)) (V, error) {
	if e := c.last.Load(); e != nil && e.key == key {
		return e.value, nil
	}
	if v, ok := c.kept(key); ok {
		return v, nil
	}
	v, err := make()
	if err != nil {
		return v, err
	}
	if old, ok := c.kept(key); ok {
		return old, nil
	}
	c.keep(&entry[K, V]{key, v})
	return v, nil
}

// kept gives a value that is kept.
func (c *Cache[K, V]) kept(key K) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.at[key]
	if !ok {
		return v, false
	}
	c.order.MoveToFront(at)
	e := at.Value.(*entry[K, V])
	c.last.Store(e)
	return e.value, true
}

// keep keeps a value, unless another caller has done so, and forgets others.
func (c *Cache[K, V]) keep(e *entry[K, V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at[e.key] != nil {
		return
	}
	c.last.Store(e)
	c.at[e.key] = c.order.PushFront(e)
	c.held += c.size(e.value)
	for c.held > c.most && c.order.Len() > 1 {
		old := c.order.Remove(c.order.Back()).(*entry[K, V])
		c.held -= c.size(old.value)
		delete(c.at, old.key)
	}
}
