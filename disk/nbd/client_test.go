package nbd_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

var be = binary.BigEndian

// client is the other side of the protocol, as small as the tests allow. Its
// numbers are written out: it does not share the server's.
type client struct {
	c      net.Conn
	cookie uint64
	size   uint64
	flags  uint16
	simple bool // no structured replies
}

type optReply struct {
	kind uint32
	data []byte
}

// hello does the greeting.
func hello(c net.Conn) (*client, error) {
	b := make([]byte, 18)
	if _, err := io.ReadFull(c, b); err != nil {
		return nil, err
	}
	if string(b[:16]) != "NBDMAGICIHAVEOPT" || be.Uint16(b[16:]) != 3 {
		return nil, fmt.Errorf("greeting %x", b)
	}
	_, err := c.Write([]byte{0, 0, 0, 3})
	return &client{c: c, simple: true}, err
}

// option sends an option and collects its replies.
func (c *client) option(code uint32, data []byte) (replies []optReply, err error) {
	b := append([]byte("IHAVEOPT"), be.AppendUint32(nil, code)...)
	b = append(be.AppendUint32(b, uint32(len(data))), data...)
	if _, err := c.c.Write(b); err != nil {
		return nil, err
	}
	for {
		head := make([]byte, 20)
		if _, err := io.ReadFull(c.c, head); err != nil {
			return replies, err
		}
		if be.Uint64(head) != 0x3e889045565a9 || be.Uint32(head[8:]) != code {
			return nil, fmt.Errorf("option reply %x", head)
		}
		r := optReply{be.Uint32(head[12:]), make([]byte, be.Uint32(head[16:]))}
		if _, err := io.ReadFull(c.c, r.data); err != nil {
			return nil, err
		}
		replies = append(replies, r)
		if r.kind == 1 || r.kind>>31 == 1 {
			return replies, nil
		}
	}
}

func str(s string) []byte { return append(be.AppendUint32(nil, uint32(len(s))), s...) }

// dial connects and chooses an export; structured asks for structured replies
// and base:allocation as well.
func dial(network, address, export string, structured bool) (*client, error) {
	nc, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	c, err := hello(nc)
	if err == nil && structured {
		err = c.negotiate(export)
	}
	if err == nil {
		err = c.goTo(export)
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

func (c *client) negotiate(export string) error {
	c.simple = false
	r, err := c.option(8, nil)
	if err != nil || r[0].kind != 1 {
		return fmt.Errorf("structured replies: %v %w", r, err)
	}
	r, err = c.option(10, append(append(str(export), 0, 0, 0, 1), str("base:allocation")...))
	if err != nil || len(r) != 2 || r[0].kind != 4 || string(r[0].data[4:]) != "base:allocation" {
		return fmt.Errorf("context: %v %w", r, err)
	}
	return nil
}

func (c *client) goTo(export string) error {
	r, err := c.option(7, append(str(export), 0, 0))
	if err != nil {
		return err
	}
	if r[0].kind != 3 || len(r[0].data) != 12 || r[len(r)-1].kind != 1 {
		return fmt.Errorf("GO: %v", r)
	}
	c.size, c.flags = be.Uint64(r[0].data[2:]), be.Uint16(r[0].data[10:])
	return nil
}

func (c *client) send(cmd, flags uint16, off uint64, n uint32, payload []byte) error {
	c.cookie++
	b := be.AppendUint32(nil, 0x25609513)
	b = be.AppendUint16(b, flags)
	b = be.AppendUint16(b, cmd)
	b = be.AppendUint64(b, c.cookie)
	b = be.AppendUint64(b, off)
	b = be.AppendUint32(b, n)
	_, err := c.c.Write(append(b, payload...))
	return err
}

type piece struct {
	kind   uint16
	offset uint64
	length int
}

// errno is an error that the server answered.
type errno uint32

func (e errno) Error() string { return fmt.Sprint("errno ", uint32(e)) }

// extent is one descriptor of block status.
type extent struct{ length, flags uint32 }

// result is what came for one request.
type result struct {
	data    []byte
	pieces  []piece
	extents []extent
}

// do sends one request and reads what comes for it.
func (c *client) do(cmd, flags uint16, off uint64, n uint32, payload []byte) (res result, err error) {
	if err := c.send(cmd, flags, off, n, payload); err != nil {
		return res, err
	}
	want := 0
	if cmd == 0 {
		want = int(n)
		res.data = bytes.Repeat([]byte{0xee}, want)
	}
	var failed error
	for covered := 0; ; {
		head := make([]byte, 16)
		if _, err := io.ReadFull(c.c, head); err != nil {
			return res, err
		}
		if be.Uint32(head) == 0x67446698 {
			if be.Uint64(head[8:]) != c.cookie {
				return res, errors.New("another cookie")
			}
			if e := be.Uint32(head[4:]); e != 0 {
				return res, errno(e)
			}
			if cmd == 0 && !c.simple {
				return res, errors.New("a simple reply to a read after structured ones were agreed upon")
			}
			_, err := io.ReadFull(c.c, res.data)
			return res, err
		}
		if c.simple || be.Uint32(head) != 0x668e33ef || be.Uint64(head[8:]) != c.cookie {
			return res, fmt.Errorf("reply %x", head)
		}
		length := make([]byte, 4)
		if _, err := io.ReadFull(c.c, length); err != nil {
			return res, err
		}
		body := make([]byte, be.Uint32(length))
		if _, err := io.ReadFull(c.c, body); err != nil {
			return res, err
		}
		flags, kind := be.Uint16(head[4:]), be.Uint16(head[6:])
		p := piece{kind: kind}
		switch kind {
		case 0:
		case 1:
			p.offset, p.length = be.Uint64(body), len(body)-8
			copy(res.data[p.offset-off:], body[8:])
		case 2:
			p.offset, p.length = be.Uint64(body), int(be.Uint32(body[8:]))
			clear(res.data[p.offset-off:][:p.length])
		case 5:
			for b := body[4:]; len(b) > 0; b = b[8:] {
				res.extents = append(res.extents, extent{be.Uint32(b), be.Uint32(b[4:])})
			}
		case 1<<15 | 1, 1<<15 | 2:
			failed = errno(be.Uint32(body))
		default:
			return res, fmt.Errorf("chunk of type %d", kind)
		}
		covered += p.length
		res.pieces = append(res.pieces, p)
		if flags&1 != 0 {
			if failed == nil && covered != want {
				failed = fmt.Errorf("%d bytes of %d came", covered, want)
			}
			return res, failed
		}
	}
}

// tester is what tests and properties share.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

func must[T any](t tester) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
