package vsphere

import "sync"

// once is what does not change while a program looks, and is asked for when it is
// first wanted. What failed is asked for again.
type once[T any] struct {
	mu   sync.Mutex
	have *T
}

func (o *once[T]) get(ask func() (*T, error)) (*T, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.have == nil {
		have, err := ask()
		if err != nil {
			return nil, err
		}
		o.have = have
	}
	return o.have, nil
}
