package stage

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// image is what is exported.
type image interface {
	io.ReaderAt
	Size() int64
}

// server gives images to the QEMU beside it, by the NBD protocol (fixed
// newstyle, reading only).
type server struct {
	exports map[string]image
	given   atomic.Int64 // bytes

	l     net.Listener
	mu    sync.Mutex
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

// The protocol's numbers.
const (
	nbdMagic      = 0x4e42444d41474943 // NBDMAGIC
	optMagic      = 0x49484156454f5054 // IHAVEOPT
	optReplyMagic = 0x3e889045565a9
	requestMagic  = 0x25609513
	replyMagic    = 0x67446698
	fixedNewstyle = 1 << 0
	noZeroes      = 1 << 1
	optExportName = 1
	optAbort      = 2
	optInfo       = 6
	optGo         = 7
	repAck        = 1
	repInfo       = 3
	repErrUnsup   = 1<<31 + 1
	repErrInvalid = 1<<31 + 3
	repErrUnknown = 1<<31 + 6
	infoExport    = 0
	flagHasFlags  = 1 << 0
	flagReadOnly  = 1 << 1
	flagMultiConn = 1 << 8
	cmdRead       = 0
	cmdDisconnect = 2
	cmdFlush      = 3
	cmdCache      = 5
	errnoPerm     = 1
	errnoIO       = 5
	errnoInval    = 22
	maxOption     = 4096
	maxRead       = 32 << 20
	inFlight      = 16
	exportFlags   = flagHasFlags | flagReadOnly | flagMultiConn
)

// serve begins to answer on a socket.
func serve(l net.Listener, exports map[string]image) *server {
	s := &server{exports: exports, l: l, conns: map[net.Conn]bool{}}
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			if s.conns == nil {
				s.mu.Unlock()
				c.Close()
				return
			}
			s.conns[c] = true
			s.wg.Add(1)
			s.mu.Unlock()
			go func() {
				defer s.wg.Done()
				_ = s.talk(c)
				c.Close()
				s.mu.Lock()
				defer s.mu.Unlock()
				delete(s.conns, c)
			}()
		}
	})
	return s
}

// Close ends all connections. Reads of images that go on are waited for.
func (s *server) Close() error {
	err := s.l.Close()
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.conns = nil
	s.mu.Unlock()
	s.wg.Wait()
	return err
}

var be = binary.BigEndian

// talk is one connection.
func (s *server) talk(c net.Conn) error {
	hello := be.AppendUint64(nil, nbdMagic)
	hello = be.AppendUint64(hello, optMagic)
	hello = be.AppendUint16(hello, fixedNewstyle|noZeroes)
	if _, err := c.Write(hello); err != nil {
		return err
	}
	r := bufio.NewReaderSize(c, 4096)
	head := make([]byte, 16)
	if _, err := io.ReadFull(r, head[:4]); err != nil {
		return err
	}
	zeroes := be.Uint32(head)&noZeroes == 0
	for {
		if _, err := io.ReadFull(r, head); err != nil {
			return err
		}
		if be.Uint64(head) != optMagic {
			return errors.New("not an option")
		}
		opt, n := be.Uint32(head[8:]), be.Uint32(head[12:])
		if n > maxOption {
			return errors.New("an option too long")
		}
		data := make([]byte, n)
		if _, err := io.ReadFull(r, data); err != nil {
			return err
		}
		switch opt {
		case optExportName:
			img, ok := s.exports[string(data)]
			if !ok {
				return fmt.Errorf("no export %q", data)
			}
			b := be.AppendUint64(nil, uint64(img.Size()))
			b = be.AppendUint16(b, exportFlags)
			if zeroes {
				b = append(b, make([]byte, 124)...)
			}
			if _, err := c.Write(b); err != nil {
				return err
			}
			return s.transmit(c, r, img)
		case optAbort:
			return reply(c, opt, repAck, nil)
		case optInfo, optGo:
			img, kind := s.find(data)
			if img == nil {
				if err := reply(c, opt, kind, nil); err != nil {
					return err
				}
				continue
			}
			info := be.AppendUint16(nil, infoExport)
			info = be.AppendUint64(info, uint64(img.Size()))
			info = be.AppendUint16(info, exportFlags)
			if err := errors.Join(reply(c, opt, repInfo, info), reply(c, opt, repAck, nil)); err != nil {
				return err
			}
			if opt == optGo {
				return s.transmit(c, r, img)
			}
		default:
			if err := reply(c, opt, repErrUnsup, nil); err != nil {
				return err
			}
		}
	}
}

// find reads which export is asked for.
func (s *server) find(data []byte) (img image, errorKind uint32) {
	if len(data) < 6 || uint64(be.Uint32(data)) > uint64(len(data)-6) {
		return nil, repErrInvalid
	}
	img = s.exports[string(data[4:4+be.Uint32(data)])]
	return img, repErrUnknown
}

func reply(w io.Writer, opt, kind uint32, data []byte) error {
	b := be.AppendUint64(nil, optReplyMagic)
	b = be.AppendUint32(b, opt)
	b = be.AppendUint32(b, kind)
	b = be.AppendUint32(b, uint32(len(data)))
	_, err := w.Write(append(b, data...))
	return err
}

// transmit answers requests, several at once.
func (s *server) transmit(c net.Conn, r io.Reader, img image) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	slots := make(chan struct{}, inFlight)
	var mu sync.Mutex
	answer := func(cookie uint64, errno uint32, data []byte) {
		b := be.AppendUint32(make([]byte, 0, 16), replyMagic)
		b = be.AppendUint32(b, errno)
		b = be.AppendUint64(b, cookie)
		mu.Lock()
		defer mu.Unlock()
		bufs := net.Buffers{b, data}
		_, _ = bufs.WriteTo(c)
	}
	head := make([]byte, 28)
	for {
		if _, err := io.ReadFull(r, head); err != nil {
			return err
		}
		if be.Uint32(head) != requestMagic {
			return errors.New("not a request")
		}
		cmd, cookie := be.Uint16(head[6:]), be.Uint64(head[8:])
		off, n := be.Uint64(head[16:]), be.Uint32(head[24:])
		switch cmd {
		case cmdDisconnect:
			return nil
		case cmdFlush, cmdCache:
			answer(cookie, 0, nil)
			continue
		case cmdRead:
		case 1: // a write has its bytes behind it
			return errors.New("a write")
		default:
			answer(cookie, errnoPerm, nil)
			continue
		}
		if n > maxRead || off > uint64(img.Size()) || uint64(n) > uint64(img.Size())-off {
			answer(cookie, errnoInval, nil)
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		wg.Go(func() {
			defer func() { <-slots }()
			b := make([]byte, n)
			if got, err := img.ReadAt(b, int64(off)); got < len(b) && err != nil {
				answer(cookie, errnoIO, nil)
				return
			}
			s.given.Add(int64(n))
			answer(cookie, 0, b)
		})
	}
}
