package etherswitch

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// end is our end of a cable.
type end struct {
	net.Conn
	got chan []byte
}

func newEnd() (*end, net.Conn) {
	ours, theirs := net.Pipe()
	e := &end{Conn: ours, got: make(chan []byte, 1000)}
	go func() {
		defer close(e.got)
		c := newCable(ours)
		_ = c.receive(func(f []byte) { e.got <- f })
	}()
	return e, theirs
}

func (e *end) send(t *testing.T, frame []byte) {
	t.Helper()
	if _, err := e.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...)); err != nil {
		t.Fatal(err)
	}
}

// frame is one from and to addresses that end with these bytes.
func frame(to, from byte, text string) []byte {
	b := make([]byte, 14, 64)
	b[0], b[5], b[6], b[11] = 0x52, to, 0x52, from
	if to == 0xff {
		copy(b, bytes.Repeat([]byte{0xff}, 6))
	}
	return append(b, text...)
}

// world is a switch with three cards, of which two have a way out.
func world(t *testing.T) (s *Switch, cards [3]*end, outs [2]*end) {
	s = New()
	for i := range cards {
		card, theirs := newEnd()
		cards[i] = card
		if i == len(outs) {
			s.Attach(theirs, nil)
			continue
		}
		out, outTheirs := newEnd()
		outs[i] = out
		s.Attach(theirs, outTheirs)
	}
	t.Cleanup(s.Close)
	return s, cards, outs
}

// come sees who got the frame, and that nobody else got anything.
func come(t *testing.T, what string, frame []byte, all []*end, who ...*end) {
	t.Helper()
	synctest.Wait()
	for i, e := range all {
		want := false
		for _, w := range who {
			want = want || w == e
		}
		select {
		case f := <-e.got:
			if !want || !bytes.Equal(f, frame) {
				t.Errorf("%s: end %d got %q", what, i, f)
			}
		default:
			if want {
				t.Errorf("%s: end %d got nothing", what, i)
			}
		}
	}
}

func TestSwitch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c, o := world(t)
		all := []*end{c[0], c[1], c[2], o[0], o[1]}
		const gateway = 0xfe
		for _, x := range []struct {
			what  string
			from  *end
			frame []byte
			to    []*end
		}{
			{"to all", c[0], frame(0xff, 1, "who"), []*end{c[1], c[2], o[0]}},
			{"to one that nobody knows", c[1], frame(3, 2, "x"), []*end{c[0], c[2], o[1]}},
			{"to one that was heard", c[1], frame(1, 2, "x"), []*end{c[0]}},
			{"from outside", o[0], frame(1, gateway, "x"), []*end{c[0]}},
			{"from outside, to all", o[1], frame(0xff, gateway, "x"), []*end{c[1]}},
			{"outwards", c[0], frame(gateway, 1, "x"), []*end{o[0]}},
			{"outwards from another", c[1], frame(gateway, 2, "x"), []*end{o[1]}},
			{"one that is called as the way out is", c[2], frame(0xff, gateway, "x"), []*end{c[0], c[1]}},
			{"outwards all the same", c[0], frame(gateway, 1, "x"), []*end{o[0]}},
			{"to oneself", c[0], frame(1, 1, "x"), nil},
			{"too short to be one", c[0], []byte("short"), nil},
		} {
			x.from.send(t, x.frame)
			come(t, x.what, x.frame, all, x.to...)
		}
		// One that is unplugged is forgotten, and nothing stops for it.
		c[0].Close()
		synctest.Wait()
		if _, open := <-o[0].got; open {
			t.Error("the way out stays when the card is gone")
		}
		c[1].send(t, frame(1, 2, "x"))
		come(t, "to one that is gone", frame(1, 2, "x"), []*end{c[1], c[2], o[1]}, c[2], o[1])
		s.Close()
		for _, e := range []*end{c[1], c[2], o[1]} {
			if _, open := <-e.got; open {
				t.Error("a cable stays when the switch is closed")
			}
		}
		gone, theirs := net.Pipe()
		s.Attach(theirs, nil)
		if _, err := gone.Read(make([]byte, 1)); err == nil {
			t.Error("a closed switch takes a card")
		}
	})
}

// stuck takes nothing.
type stuck struct {
	end chan struct{}
}

func (s stuck) Read([]byte) (int, error)  { <-s.end; return 0, io.EOF }
func (s stuck) Write([]byte) (int, error) { <-s.end; return 0, io.EOF }
func (s stuck) Close() error              { close(s.end); return nil }

// A card that takes nothing costs others nothing, and little memory.
func TestCardThatTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New()
		defer s.Close()
		s.Attach(stuck{make(chan struct{})}, nil)
		one, theirs := newEnd()
		s.Attach(theirs, nil)
		two, theirs := newEnd()
		s.Attach(theirs, nil)
		f := append(frame(0xff, 1, ""), make([]byte, 60<<10)...)
		for range 100 {
			one.send(t, f)
			select {
			case <-two.got:
			case <-time.After(time.Minute):
				t.Fatal("the others wait for it")
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for p := range s.ports {
			if p.card.queued > maxQueued {
				t.Errorf("%d bytes wait", p.card.queued)
			}
		}
	})
}

// Whatever a guest sends, nothing breaks and little is remembered.
func FuzzFrames(f *testing.F) {
	one := func(b []byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...) }
	f.Add(append(one(frame(1, 2, "x")), one(frame(0xff, 3, ""))...))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, in []byte) {
		s := New()
		p := &port{card: newCable(stuck{make(chan struct{})}), outside: map[address]bool{}}
		other := &port{card: newCable(stuck{make(chan struct{})})}
		s.ports[p], s.ports[other] = true, true
		c := newCable(struct {
			io.Reader
			io.WriteCloser
		}{Reader: bytes.NewReader(in)})
		_ = c.receive(func(frame []byte) { s.fromCard(p, frame) })
		_ = newCable(struct {
			io.Reader
			io.WriteCloser
		}{Reader: bytes.NewReader(in)}).receive(func(frame []byte) { s.fromOutside(p, frame) })
		if other.card.queued > len(in) || p.card.queued > len(in) || len(p.outside) > maxOutside {
			t.Errorf("%d and %d bytes of %d, %d addresses", other.card.queued, p.card.queued, len(in), len(p.outside))
		}
	})
}
