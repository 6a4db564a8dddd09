// Package pipeline runs work in parallel whose results are taken in order:
// one goroutine produces, several work, and the caller's commits.
package pipeline

import (
	"context"
	"io"
	"sync"
)

// Run has produce fill slots, work done on them by so many workers, and commit
// called for each in the order in which they were produced. Slots are used
// again and again: they are all the memory there is.
//
// Produce answers io.EOF when there is nothing more; its slot is not used
// then. The first error in the order of production ends Run and is its result,
// so that the result does not depend on chance; the context that produce and
// work get is cancelled then. Run returns after all its goroutines have ended.
func Run[T any](ctx context.Context, slots []T, workers int,
	produce func(ctx context.Context, slot *T) error,
	work func(ctx context.Context, slot *T) error,
	commit func(slot *T) error,
) error {
	type item struct {
		slot *T
		err  error
		done chan struct{}
	}
	// No channel is ever full, so no send waits.
	free := make(chan *item, len(slots))
	todo := make(chan *item, len(slots))
	order := make(chan *item, len(slots))
	for i := range slots {
		free <- &item{slot: &slots[i], done: make(chan struct{}, 1)}
	}
	outer := ctx
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	wg.Go(func() {
		defer close(order)
		defer close(todo)
		for {
			var it *item
			select {
			case it = <-free:
			case <-ctx.Done():
				return
			}
			if ctx.Err() != nil {
				return
			}
			it.err = produce(ctx, it.slot)
			switch it.err {
			case io.EOF:
				return
			case nil:
				order <- it
				todo <- it
			default:
				it.done <- struct{}{}
				order <- it
				return
			}
		}
	})
	for range workers {
		wg.Go(func() {
			for it := range todo {
				if ctx.Err() == nil {
					it.err = work(ctx, it.slot)
				}
				it.done <- struct{}{}
			}
		})
	}
	for it := range order {
		<-it.done
		if err := context.Cause(outer); err != nil {
			return err
		}
		if it.err != nil {
			return it.err
		}
		if err := commit(it.slot); err != nil {
			return err
		}
		free <- it
	}
	return context.Cause(outer)
}
