// Package cache keeps the values that were used last.
package cache

import (
	"container/list"
	"sync"
)

// Cache keeps at most a number of values, or at most so many bytes of them, and
// forgets those that were not used for longest. It is safe for concurrent use;
// values must not be changed.
type Cache[K comparable, V any] struct {
	mu    sync.Mutex
	most  int64
	held  int64
	size  func(V) int64
	order *list.List // of entry[K, V], last used first
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
	c.mu.Lock()
	if e, ok := c.at[key]; ok {
		c.order.MoveToFront(e)
		v := e.Value.(entry[K, V]).value
		c.mu.Unlock()
		return v, nil
	}
	c.mu.Unlock()
	v, err := make()
	if err != nil {
		return v, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.at[key]; ok {
		c.order.MoveToFront(e)
		return e.Value.(entry[K, V]).value, nil
	}
	c.at[key] = c.order.PushFront(entry[K, V]{key, v})
	c.held += c.size(v)
	for c.held > c.most && c.order.Len() > 1 {
		old := c.order.Remove(c.order.Back()).(entry[K, V])
		c.held -= c.size(old.value)
		delete(c.at, old.key)
	}
	return v, nil
}
