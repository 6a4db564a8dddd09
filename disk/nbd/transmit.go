package nbd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// transmit answers requests, several at once, until the client leaves.
func (c *conn) transmit(ctx context.Context, e *Export) error {
	n := c.MaxInFlight
	if n <= 0 {
		n = defaultInFlight
	}
	slots := make(chan struct{}, n)
	// Whoever has gone needs no answers: reads that can be given up are. A
	// client that takes its leave gets the answers that it asked for.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	t := &transmission{conn: c, e: e, drop: func() {
		cancel()
		c.raw.Close()
	}}
	var head [requestSize]byte
	for {
		if _, err := io.ReadFull(c.r, head[:]); err != nil {
			t.drop()
			return fmt.Errorf("the client has gone without taking its leave: %w", err)
		}
		req, ok := parseRequest(head[:])
		if !ok {
			t.drop()
			return errors.New("not a request")
		}
		if req.command == cmdDisconnect {
			return nil
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		work, err := t.begin(ctx, req)
		if err != nil {
			t.drop()
			return err
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := work(); err != nil {
				// A reply that was not sent as a whole leaves
				// nothing that could be said after it.
				t.drop()
			}
		})
	}
}

// transmission is a client that has chosen its export.
type transmission struct {
	*conn
	e    *Export
	drop func()
}

// begin reads what belongs to a request and gives what is to be done for it.
// An error means that the connection is of no more use.
func (t *transmission) begin(ctx context.Context, r request) (work func() error, err error) {
	errno := r.check(t.e.Image.Size(), t.e.Target != nil, t.structured, t.allocation)
	if r.command == cmdWrite && errno != 0 {
		if r.length > 2*maxPayload {
			return nil, fmt.Errorf("a write of %d bytes", r.length)
		}
		if err := t.skip(int64(r.length)); err != nil {
			return nil, err
		}
	}
	if errno != 0 {
		return func() error { return t.fail(r, errno) }, nil
	}
	switch r.command {
	case cmdRead:
		return func() error { return t.read(ctx, r) }, nil
	case cmdWrite:
		if err := t.take(ctx, int64(r.length)); err != nil {
			return nil, err
		}
		b := make([]byte, r.length)
		if _, err := io.ReadFull(t.r, b); err != nil {
			t.memory.Release(int64(r.length))
			return nil, err
		}
		return func() error {
			defer t.memory.Release(int64(r.length))
			_, err := t.e.Target.WriteAt(b, int64(r.offset))
			return t.finish(ctx, r, err)
		}, nil
	case cmdBlockStatus:
		return func() error { return t.blockStatus(ctx, r) }, nil
	case cmdCache:
		return func() error { return t.finish(ctx, r, t.cache(ctx, r)) }, nil
	case cmdTrim, cmdWriteZeroes:
		return func() error {
			hole := r.command == cmdTrim || r.flags&cmdNoHole == 0
			return t.finish(ctx, r, t.e.Target.Zero(int64(r.offset), int64(r.length), hole))
		}, nil
	default: // FLUSH: no other passes the check
		return func() error {
			if t.e.Target == nil {
				return t.simple(r, 0, nil)
			}
			return t.finish(ctx, r, t.e.Target.Sync())
		}, nil
	}
}

// finish answers a request that gives no data.
func (t *transmission) finish(ctx context.Context, r request, err error) error {
	if err == nil && r.flags&cmdFUA != 0 && t.e.Target != nil {
		err = t.e.Target.Sync()
	}
	if err != nil {
		t.report(ctx, r, int64(r.offset), int64(r.length), err)
		return t.fail(r, errnoOf(ctx))
	}
	return t.simple(r, 0, nil)
}

// errnoOf says why something failed: the image, or that the server ends.
func errnoOf(ctx context.Context) uint32 {
	if ctx.Err() != nil {
		return errShutdown
	}
	return errIO
}

// report tells whoever runs the server what went wrong.
func (t *transmission) report(ctx context.Context, r request, off, length int64, err error) {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return
	}
	t.log.Error("NBD request failed", "export", t.e.Name, "command", r.command, "offset", off, "length", length, "error", err)
	if t.OnError != nil {
		t.OnError(t.e.Name, off, length, err)
	}
}

// read answers READ.
func (t *transmission) read(ctx context.Context, r request) error {
	if !t.structured || r.flags&cmdDF != 0 {
		return t.readWhole(ctx, r)
	}
	off, end := int64(r.offset), int64(r.offset)+int64(r.length)
	if off == end {
		return t.chunk(r, replyDone, replyNone, nil, nil)
	}
	if err := t.take(ctx, min(pieceSize, end-off)); err != nil {
		return err
	}
	defer t.memory.Release(min(pieceSize, end-off))
	buf := t.pieces.Get().(*[pieceSize]byte)
	defer t.pieces.Put(buf)
	var head [12]byte
	for off < end {
		n, zero := t.piece(ctx, off, end)
		flags := uint16(0)
		if off+n == end {
			flags = replyDone
		}
		be.PutUint64(head[:], uint64(off))
		if zero {
			be.PutUint32(head[8:], uint32(n))
			if err := t.chunk(r, flags, replyOffsetHole, head[:], nil); err != nil {
				return err
			}
		} else {
			if err := t.e.read(ctx, buf[:n], off); err != nil {
				t.report(ctx, r, off, n, err)
				return t.failAt(r, errnoOf(ctx), off)
			}
			if err := t.chunk(r, flags, replyOffsetData, head[:8], buf[:n]); err != nil {
				return err
			}
		}
		off += n
	}
	return nil
}

// piece gives how much from off on goes in one chunk: zeroes, or at most
// pieceSize of data, in which short holes are taken for data.
func (t *transmission) piece(ctx context.Context, off, end int64) (n int64, zero bool) {
	n, state := t.e.extent(ctx, off)
	if n = min(n, end-off); state&stateZero != 0 {
		for off+n < end && n < minHole { // several short ones
			more, state := t.e.extent(ctx, off+n)
			if state&stateZero == 0 {
				break
			}
			n = min(n+more, end-off)
		}
		if n >= minHole || off+n == end {
			return n, true
		}
	}
	for n < pieceSize && off+n < end {
		more, state := t.e.extent(ctx, off+n)
		if state&stateZero != 0 && (more >= minHole || off+n+more >= end) {
			break
		}
		n += more
	}
	return min(n, pieceSize, end-off), false
}

// readWhole answers READ in one piece.
func (t *transmission) readWhole(ctx context.Context, r request) error {
	n := int64(r.length)
	if err := t.take(ctx, n); err != nil {
		return err
	}
	defer t.memory.Release(n)
	var b []byte
	if n <= pieceSize {
		buf := t.pieces.Get().(*[pieceSize]byte)
		defer t.pieces.Put(buf)
		b = buf[:n]
	} else {
		b = make([]byte, n)
	}
	if err := t.e.read(ctx, b, int64(r.offset)); err != nil {
		t.report(ctx, r, int64(r.offset), n, err)
		return t.fail(r, errnoOf(ctx))
	}
	switch {
	case !t.structured:
		return t.simple(r, 0, b)
	case n == 0:
		return t.chunk(r, replyDone, replyNone, nil, nil)
	}
	return t.chunk(r, replyDone, replyOffsetData, be.AppendUint64(nil, r.offset), b)
}

// cache reads a range, so that an image that is fetched has it.
func (t *transmission) cache(ctx context.Context, r request) error {
	off, end := int64(r.offset), int64(r.offset)+int64(r.length)
	if off == end {
		return nil
	}
	if err := t.take(ctx, pieceSize); err != nil {
		return err
	}
	defer t.memory.Release(pieceSize)
	buf := t.pieces.Get().(*[pieceSize]byte)
	defer t.pieces.Put(buf)
	for off < end {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, zero := t.piece(ctx, off, end)
		if !zero {
			if err := t.e.read(ctx, buf[:n], off); err != nil {
				return fmt.Errorf("at offset %d: %w", off, err)
			}
		}
		off += n
	}
	return nil
}

// blockStatus answers BLOCK_STATUS: as much of the range as fits in a reply.
func (t *transmission) blockStatus(ctx context.Context, r request) error {
	off, end := int64(r.offset), int64(r.offset)+int64(r.length)
	type descriptor struct {
		length int64
		state  uint32
	}
	var found []descriptor
	for walked := 0; off < end && walked < maxWalk && ctx.Err() == nil; walked++ {
		n, state := t.e.extent(ctx, off)
		n = min(n, end-off)
		off += n
		if last := len(found) - 1; last >= 0 && found[last].state == state {
			found[last].length += n
			continue
		}
		if len(found) == maxDescriptors || len(found) == 1 && r.flags&cmdReqOne != 0 {
			break
		}
		found = append(found, descriptor{n, state})
	}
	if len(found) == 0 {
		return t.fail(r, errShutdown)
	}
	b := make([]byte, 0, 4+8*len(found))
	b = be.AppendUint32(b, allocationID)
	for _, d := range found {
		b = be.AppendUint32(b, uint32(d.length))
		b = be.AppendUint32(b, d.state)
	}
	return t.chunk(r, replyDone, replyBlockStatus, b, nil)
}

// fail answers a request with an error. Nothing of what the image said goes to
// the client, who may be far away: it may name paths of this machine.
func (t *transmission) fail(r request, errno uint32) error {
	if !t.structured || r.command != cmdRead && r.command != cmdBlockStatus {
		return t.simple(r, errno, nil)
	}
	b := be.AppendUint32(nil, errno)
	return t.chunk(r, replyDone, replyError, be.AppendUint16(b, 0), nil)
}

// failAt is fail for a read of which a part may have been sent.
func (t *transmission) failAt(r request, errno uint32, off int64) error {
	const text = "the image cannot be read here"
	b := be.AppendUint32(nil, errno)
	b = be.AppendUint16(b, uint16(len(text)))
	b = append(b, text...)
	return t.chunk(r, replyDone, replyErrorOffset, be.AppendUint64(b, uint64(off)), nil)
}

// simple sends a simple reply.
func (t *transmission) simple(r request, errno uint32, data []byte) error {
	b := be.AppendUint32(make([]byte, 0, 16), simpleMagic)
	b = be.AppendUint32(b, errno)
	b = be.AppendUint64(b, r.cookie)
	return t.send(b, nil, data)
}

// chunk sends one chunk of a structured reply; its payload is in two parts.
func (t *transmission) chunk(r request, flags, kind uint16, head, data []byte) error {
	b := be.AppendUint32(make([]byte, 0, 20+len(head)), structuredMagic)
	b = be.AppendUint16(b, flags)
	b = be.AppendUint16(b, kind)
	b = be.AppendUint64(b, r.cookie)
	b = be.AppendUint32(b, uint32(len(head)+len(data)))
	return t.send(b, head, data)
}

// send sends what belongs together; replies of other requests come before or
// after it.
func (t *transmission) send(b, head, data []byte) error {
	t.sendMu.Lock()
	defer t.sendMu.Unlock()
	now := time.Now()
	t.sending.Store(&now)
	defer t.sending.Store(nil)
	b = append(b, head...)
	if len(data) == 0 {
		_, err := t.c.Write(b)
		return err
	}
	bufs := net.Buffers{b, data}
	_, err := bufs.WriteTo(t.c)
	return err
}
