// Package readahead reads ahead in a goroutine of its own, so that what the
// reader below does (waiting for a network, hashing) goes on while what came is
// worked on.
package readahead

import (
	"context"
	"io"
	"sync"
)

// Reader reads ahead of its user.
type Reader struct {
	ctx        context.Context
	full, free chan []byte
	stop       chan struct{}
	once       sync.Once
	ended      chan struct{}
	cur, rest  []byte
	err        error // the reader's own, good once full is closed
}

// New begins to read r, in so many blocks of so many bytes. When ctx is
// cancelled, Read fails with its error, though r may still be waiting: a
// terminal or a pipe cannot be made to stop. Otherwise the caller calls Close,
// which does not close r.
func New(ctx context.Context, r io.Reader, blocks, size int) *Reader {
	a := &Reader{ctx: ctx, full: make(chan []byte, blocks), free: make(chan []byte, blocks), stop: make(chan struct{}), ended: make(chan struct{})}
	for range blocks {
		a.free <- make([]byte, size)
	}
	go a.run(r)
	return a
}

// prompt is how much is handed on as it comes, in bytes: what stands there may
// tell that the rest is not wanted, or has to be waited for.
const prompt = 1 << 20

func (a *Reader) run(r io.Reader) {
	defer close(a.ended)
	defer close(a.full)
	read := 0
	for {
		var b []byte
		select {
		case b = <-a.free:
		case <-a.stop:
			a.err = io.ErrClosedPipe
			return
		}
		// Behind the beginning a block is filled as far as can be: many small
		// ones cost more than they bring.
		n := 0
		var err error
		for b = b[:cap(b)]; n < len(b) && err == nil; {
			var m int
			m, err = r.Read(b[n:])
			n += m
			if read += m; m > 0 && read < prompt {
				break
			}
		}
		if n > 0 {
			a.full <- b[:n]
		}
		if err != nil {
			a.err = err
			return
		}
	}
}

// Read gives what has come, and waits where nothing has.
func (a *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(a.rest) == 0 {
		if err := a.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// WriteTo hands what comes to w, block by block and without copying it, until the
// reader below ends.
func (a *Reader) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		if len(a.rest) > 0 {
			n, err := w.Write(a.rest)
			total += int64(n)
			a.rest = a.rest[n:]
			if err != nil {
				return total, err
			}
		}
		if err := a.next(); err == io.EOF {
			return total, nil
		} else if err != nil {
			return total, err
		}
	}
}

// next waits for the next block, once the one before it is used up.
func (a *Reader) next() error {
	if a.cur != nil {
		a.free <- a.cur
		a.cur = nil
	}
	select {
	case b, ok := <-a.full:
		if !ok {
			return a.err
		}
		a.cur, a.rest = b, b
		return nil
	case <-a.ctx.Done():
		return context.Cause(a.ctx)
	}
}

// Close ends the reading and waits for a read that is under way: where that
// could take long, the reader below is to be closed before.
func (a *Reader) Close() error {
	a.once.Do(func() { close(a.stop) })
	<-a.ended
	return nil
}
