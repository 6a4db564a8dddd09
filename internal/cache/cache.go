// Package cache keeps the values that were used last.
package cache

import (
	"container/list"
	"sync"
)

// Cache keeps at most a number of values and forgets the one that was not used
// for longest. It is safe for concurrent use; values must not be changed.
type Cache[K comparable, V any] struct {
	mu    sync.Mutex
	most  int
	order *list.List // of entry[K, V], last used first
	at    map[K]*list.Element
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

// New makes a cache of at most this many values, one at the least.
func New[K comparable, V any](most int) *Cache[K, V] {
	return &Cache[K, V]{most: max(1, most), order: list.New(), at: map[K]*list.Element{}}
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
	if c.order.Len() > c.most {
		old := c.order.Back()
		c.order.Remove(old)
		delete(c.at, old.Value.(entry[K, V]).key)
	}
	return v, nil
}
