// Package etherswitch joins the network cards of virtual machines to one Ethernet,
// without privileges: a switch in this process, whose cables are stream sockets
// that carry each frame behind its length, as QEMU's "socket" and "stream"
// networks do.
//
// Each card may have a way out of its own, such as QEMU's user-mode network:
// what comes from there is for that card alone, so that as many ways out can
// have the same addresses.
package etherswitch

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"sync"
)

const (
	// maxFrame is the longest frame that QEMU sends, in bytes.
	maxFrame = 4096 + 64<<10
	minFrame = 14
	// maxQueued bounds what waits for a card that takes nothing, in bytes.
	// More is lost, as on every Ethernet.
	maxQueued = 1 << 20
	// maxAddresses bounds what is remembered of who is where: a guest may
	// send from as many addresses as it likes.
	maxAddresses = 4096
	maxOutside   = 16
)

// Switch joins cards. Its methods are safe for concurrent use.
type Switch struct {
	mu     sync.Mutex
	ports  map[*port]bool
	where  map[address]*port // cards' addresses
	closed bool
	served sync.WaitGroup
}

type address [6]byte

// port is where a card is plugged in.
type port struct {
	card, out *cable // out is nil where there is no way out
	outside   map[address]bool
}

// New makes a switch that nothing is plugged into.
func New() *Switch { return &Switch{ports: map[*port]bool{}, where: map[address]*port{}} }

// Attach plugs in a card, and its way out, which may be nil. Both are closed when
// either is, or the Switch.
func (s *Switch) Attach(card, out io.ReadWriteCloser) {
	p := &port{card: newCable(card), outside: map[address]bool{}}
	if out != nil {
		p.out = newCable(out)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		p.close()
		return
	}
	s.ports[p] = true
	s.serve(p, p.card, s.fromCard)
	if p.out != nil {
		s.serve(p, p.out, s.fromOutside)
	}
}

// serve carries the frames of one cable, both ways.
func (s *Switch) serve(p *port, c *cable, each func(*port, []byte)) {
	s.served.Go(func() {
		_ = c.receive(func(frame []byte) { each(p, frame) })
		s.detach(p)
	})
	s.served.Go(func() {
		_ = c.send()
		s.detach(p)
	})
}

func (s *Switch) detach(p *port) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ports, p)
	for a, at := range s.where {
		if at == p {
			delete(s.where, a)
		}
	}
	p.close()
}

func (p *port) close() {
	p.card.close()
	if p.out != nil {
		p.out.close()
	}
}

// Close unplugs everything, and waits until no frame is on its way.
func (s *Switch) Close() {
	s.mu.Lock()
	s.closed = true
	for p := range s.ports {
		p.close()
	}
	s.mu.Unlock()
	s.served.Wait()
}

// fromCard carries a frame to whom it is for.
func (s *Switch) fromCard(p *port, frame []byte) {
	to, from := address(frame[0:6]), address(frame[6:12])
	s.mu.Lock()
	defer s.mu.Unlock()
	if from[0]&1 == 0 {
		if _, known := s.where[from]; !known && len(s.where) >= maxAddresses {
			clear(s.where)
		}
		s.where[from] = p
	}
	// The way out comes first: no other card can take its address.
	if p.out != nil && p.outside[to] {
		p.out.queue(frame)
		return
	}
	if at := s.where[to]; to[0]&1 == 0 && at != nil {
		if at != p {
			at.card.queue(frame)
		}
		return
	}
	if p.out != nil {
		p.out.queue(frame)
	}
	for other := range s.ports {
		if other != p {
			other.card.queue(frame)
		}
	}
}

// fromOutside carries a frame to the card whose way out it comes from.
func (s *Switch) fromOutside(p *port, frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if from := address(frame[6:12]); from[0]&1 == 0 && len(p.outside) < maxOutside {
		p.outside[from] = true
	}
	p.card.queue(frame)
}

// cable is a connection with frames that wait to be sent.
type cable struct {
	conn io.ReadWriteCloser

	mu     sync.Mutex
	frames [][]byte
	queued int
	closed bool
	more   chan struct{} // holds one where there are frames
}

func newCable(c io.ReadWriteCloser) *cable { return &cable{conn: c, more: make(chan struct{}, 1)} }

// queue takes a frame to be sent, or drops it. It never waits.
func (c *cable) queue(frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.queued+len(frame) > maxQueued {
		return
	}
	c.frames = append(c.frames, frame)
	c.queued += len(frame)
	select {
	case c.more <- struct{}{}:
	default:
	}
}

func (c *cable) take() [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	frames := c.frames
	c.frames, c.queued = nil, 0
	return frames
}

func (c *cable) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		close(c.more)
		_ = c.conn.Close() // there is nothing to lose
	}
}

// send sends what is queued until the cable is closed.
func (c *cable) send() error {
	w := bufio.NewWriterSize(c.conn, 64<<10)
	for range c.more {
		for _, f := range c.take() {
			if _, err := w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(f)))); err != nil {
				return err
			}
			if _, err := w.Write(f); err != nil {
				return err
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

var errFrame = errors.New("a frame of a length that none has")

// receive gives each frame that comes, which is its taker's.
func (c *cable) receive(each func([]byte)) error {
	r := bufio.NewReaderSize(c.conn, 64<<10)
	var head [4]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return err
		}
		n := binary.BigEndian.Uint32(head[:])
		if n > maxFrame {
			return errFrame
		}
		frame := make([]byte, n)
		if _, err := io.ReadFull(r, frame); err != nil {
			return err
		}
		if n >= minFrame {
			each(frame)
		}
	}
}
