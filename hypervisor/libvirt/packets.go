package libvirt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// libvirt's RPC (https://libvirt.org/kbase/internals/rpc.html) is packets: a
// length that counts itself, a header of six words, and a payload in XDR. The
// library speaks it but for streams with holes, and its streams make every
// other call wait for a slow reader. So a splitter sits between it and the
// connection: streams are ours, all else is the library's.
const (
	program        = 0x20008086
	programVersion = 1

	lengthSize = 4
	headerSize = 24
	// maxPacket is libvirt's VIR_NET_MESSAGE_MAX with its length.
	maxPacket = 32<<20 + lengthSize
	// maxStreamData is what every daemon takes in one packet of a stream.
	maxStreamData = 262120

	typeCall       = 0
	typeStream     = 3
	typeStreamHole = 6

	statusOK       = 0
	statusError    = 1
	statusContinue = 2

	procDomainOpenConsole     = 201
	procStorageVolumeUpload   = 208
	procStorageVolumeDownload = 209

	// firstSerial is far above what the library counts to.
	firstSerial = 1 << 30
)

// errClosed says that the connection is gone.
var errClosed = errors.New("the connection to libvirt is closed")

// splitter is the connection as the library sees it.
type splitter struct {
	net.Conn
	forLibrary *io.PipeReader
	toLibrary  *io.PipeWriter

	writing sync.Mutex
	unsent  []byte // the library's packet, until it is whole

	mu      sync.Mutex
	streams map[uint32]*stream
	serial  uint32
	err     error
	done    chan struct{} // closed with err set
}

func newSplitter(conn net.Conn) *splitter {
	s := &splitter{Conn: conn, streams: map[uint32]*stream{}, serial: firstSerial, done: make(chan struct{})}
	s.forLibrary, s.toLibrary = io.Pipe()
	go func() { s.fail(s.receive()) }()
	return s
}

// Read gives the library its packets.
func (s *splitter) Read(b []byte) (int, error) { return s.forLibrary.Read(b) }

// Write takes the library's packets, and sends none before it is whole: ours go
// between them.
func (s *splitter) Write(b []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.unsent = append(s.unsent, b...)
	for len(s.unsent) >= lengthSize {
		n := binary.BigEndian.Uint32(s.unsent)
		if n < lengthSize+headerSize || n > maxPacket {
			return 0, fmt.Errorf("a packet of %d bytes", n)
		}
		if uint32(len(s.unsent)) < n {
			break
		}
		if _, err := s.Conn.Write(s.unsent[:n]); err != nil {
			// The library closes the connection next, which says less.
			s.fail(err)
			return 0, err
		}
		s.unsent = append(s.unsent[:0], s.unsent[n:]...)
	}
	return len(b), nil
}

// Close ends everything.
func (s *splitter) Close() error {
	err := s.Conn.Close()
	s.fail(errClosed)
	return err
}

func (s *splitter) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
		close(s.done)
		_ = s.toLibrary.CloseWithError(err)
		for _, st := range s.streams {
			st.end(err)
		}
		s.streams = map[uint32]*stream{}
	}
}

// receive takes packets until the connection ends.
func (s *splitter) receive() error {
	var head [lengthSize + headerSize]byte
	for {
		if _, err := io.ReadFull(s.Conn, head[:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = errClosed
			}
			return err
		}
		size := binary.BigEndian.Uint32(head[:])
		if size < uint32(len(head)) || size > maxPacket {
			return fmt.Errorf("the other side does not speak libvirt's protocol: a packet of %d bytes", size)
		}
		serial := binary.BigEndian.Uint32(head[20:])
		if serial < firstSerial || binary.BigEndian.Uint32(head[4:]) != program {
			if _, err := s.toLibrary.Write(head[:]); err != nil {
				return err
			}
			if _, err := io.CopyN(s.toLibrary, s.Conn, int64(size)-int64(len(head))); err != nil {
				return err
			}
			continue
		}
		payload := make([]byte, size-uint32(len(head)))
		if _, err := io.ReadFull(s.Conn, payload); err != nil {
			return err
		}
		s.mu.Lock()
		st := s.streams[serial]
		s.mu.Unlock()
		if st != nil && st.take(binary.BigEndian.Uint32(head[16:]), binary.BigEndian.Uint32(head[24:]), payload) {
			s.mu.Lock()
			delete(s.streams, serial)
			s.mu.Unlock()
		}
	}
}

// send sends one packet of ours.
func (s *splitter) send(kind, proc, serial, status uint32, payload []byte) error {
	packet := make([]byte, lengthSize+headerSize, lengthSize+headerSize+len(payload))
	for i, v := range []uint32{uint32(len(packet) + len(payload)), program, programVersion, proc, kind, serial, status} {
		binary.BigEndian.PutUint32(packet[4*i:], v)
	}
	packet = append(packet, payload...)
	s.writing.Lock()
	defer s.writing.Unlock()
	_, err := s.Conn.Write(packet)
	return err
}

// stream is what comes and goes for one call.
type stream struct {
	s            *splitter
	proc, serial uint32
	limit        int // bytes that may wait to be read

	mu       sync.Mutex
	changed  chan struct{} // closed and made anew at each change
	replied  bool          // to the call
	pieces   []piece
	waiting  int
	finished bool  // the other side sent its last byte
	err      error // or this
	closed   bool  // by the last word of both
}

// piece is data, or a hole.
type piece struct {
	data []byte
	hole int64
}

// open makes a call that opens a stream, and waits for the answer. No more than
// limit bytes wait to be read: what comes when more do ends the stream, since
// other calls share the connection.
func (s *splitter) open(ctx context.Context, proc uint32, args []byte, limit int) (*stream, error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return nil, s.err
	}
	s.serial++
	if s.serial >= 1<<31 {
		s.serial = firstSerial
	}
	st := &stream{s: s, proc: proc, serial: s.serial, limit: limit, changed: make(chan struct{})}
	s.streams[st.serial] = st
	s.mu.Unlock()
	if err := s.send(typeCall, proc, st.serial, statusOK, args); err != nil {
		return nil, err
	}
	if err := st.wait(ctx, func() bool { return st.replied }); err != nil {
		if ctx.Err() != nil {
			st.abandon()
		}
		return nil, err
	}
	return st, nil
}

// take is given a packet, and says whether it was the last.
func (st *stream) take(kind, status uint32, payload []byte) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	defer st.change()
	if status == statusError {
		err := decodeError(payload)
		if st.err == nil {
			st.err = err
		}
		st.replied, st.closed = true, true
		return true
	}
	switch {
	case kind != typeStream && kind != typeStreamHole:
		// The answer to the call. The daemon's threads do not wait for each
		// other: data may have come before.
		st.replied = true
		return false
	case kind == typeStreamHole && len(payload) >= 8:
		n := int64(binary.BigEndian.Uint64(payload))
		if n > 0 {
			st.pieces = append(st.pieces, piece{hole: n})
		}
	case status == statusOK:
		st.replied, st.finished, st.closed = true, true, true
		return true
	case len(payload) == 0:
		st.finished = true
	case st.err == nil:
		if st.waiting += len(payload); st.waiting > st.limit || len(st.pieces) > st.limit {
			st.err = fmt.Errorf("%d bytes came and nobody read them", st.waiting)
			break
		}
		st.pieces = append(st.pieces, piece{data: payload})
	}
	return false
}

// change wakes those who wait. It is called with mu held.
func (st *stream) change() {
	close(st.changed)
	st.changed = make(chan struct{})
}

// end is for when the connection is lost.
func (st *stream) end(err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.err == nil {
		st.err = err
	}
	st.closed, st.replied = true, true
	st.change()
}

// wait returns when a condition holds, or with the stream's or the context's
// error.
func (st *stream) wait(ctx context.Context, until func() bool) error {
	for {
		st.mu.Lock()
		ok, err, changed := until(), st.err, st.changed
		st.mu.Unlock()
		switch {
		case err != nil:
			return err
		case ok:
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// next gives what came next, and io.EOF after the last. Data that came before
// an error is given first.
func (st *stream) next(ctx context.Context) (piece, error) {
	for {
		st.mu.Lock()
		if len(st.pieces) > 0 {
			p := st.pieces[0]
			st.pieces = st.pieces[1:]
			st.waiting -= len(p.data)
			st.mu.Unlock()
			return p, nil
		}
		err, finished, changed := st.err, st.finished, st.changed
		st.mu.Unlock()
		switch {
		case err != nil:
			return piece{}, err
		case finished:
			return piece{}, io.EOF
		}
		select {
		case <-ctx.Done():
			return piece{}, ctx.Err()
		case <-changed:
		}
	}
}

// failed is what went wrong so far.
func (st *stream) failed() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.err
}

// write sends data.
func (st *stream) write(b []byte) (int, error) {
	n := 0
	for len(b) > 0 {
		if err := st.failed(); err != nil {
			return n, err
		}
		part := b[:min(len(b), maxStreamData)]
		if err := st.s.send(typeStream, st.proc, st.serial, statusContinue, part); err != nil {
			return n, err
		}
		n, b = n+len(part), b[len(part):]
	}
	return n, nil
}

// hole sends a hole: virNetStreamHole, a length and flags.
func (st *stream) hole(n int64) error {
	if err := st.failed(); err != nil {
		return err
	}
	var x xdr
	x.uint64(uint64(n))
	x.uint32(0)
	return st.s.send(typeStreamHole, st.proc, st.serial, statusContinue, x.b)
}

// finish says that all is sent, and waits until the other side has it.
func (st *stream) finish(ctx context.Context) error {
	if err := st.failed(); err != nil {
		return err
	}
	if err := st.s.send(typeStream, st.proc, st.serial, statusOK, nil); err != nil {
		return err
	}
	return st.wait(ctx, func() bool { return st.closed })
}

// abort gives up, and waits until the other side has let go.
func (st *stream) abort(ctx context.Context) {
	st.mu.Lock()
	closed := st.closed
	st.mu.Unlock()
	if closed || st.s.send(typeStream, st.proc, st.serial, statusError, nil) != nil {
		return
	}
	for {
		st.mu.Lock()
		closed, changed := st.closed, st.changed
		st.pieces, st.waiting = nil, 0
		st.mu.Unlock()
		if closed {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// abandon leaves a call whose answer nobody waits for any more.
func (st *stream) abandon() {
	_ = st.s.send(typeStream, st.proc, st.serial, statusError, nil)
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.err == nil {
		st.err = context.Canceled
	}
	st.change()
}

// xdr writes External Data Representation (RFC 4506).
type xdr struct{ b []byte }

func (x *xdr) uint32(v uint32) { x.b = binary.BigEndian.AppendUint32(x.b, v) }
func (x *xdr) uint64(v uint64) { x.b = binary.BigEndian.AppendUint64(x.b, v) }

func (x *xdr) fixed(b []byte) {
	x.b = append(x.b, b...)
	x.b = append(x.b, make([]byte, -len(b)&3)...)
}

func (x *xdr) string(s string) {
	x.uint32(uint32(len(s)))
	x.fixed([]byte(s))
}

// transferArgs are those of virStorageVolUpload and virStorageVolDownload.
func transferArgs(v golibvirt.StorageVol, offset, length uint64, flags uint32) []byte {
	var x xdr
	x.string(v.Pool)
	x.string(v.Name)
	x.string(v.Key)
	x.uint64(offset)
	x.uint64(length)
	x.uint32(flags)
	return x.b
}

// consoleArgs are those of virDomainOpenConsole, for the first console.
func consoleArgs(d golibvirt.Domain, flags uint32) []byte {
	var x xdr
	x.string(d.Name)
	x.fixed(d.UUID[:])
	x.uint32(uint32(d.ID))
	x.uint32(0) // no device's name
	x.uint32(flags)
	return x.b
}

// decodeError reads a remote_error: its code, its domain, and a text that may
// be absent; the rest is the text in parts.
func decodeError(b []byte) error {
	if len(b) < 12 {
		return errors.New("libvirt reported an error and did not say which")
	}
	e := golibvirt.Error{Code: binary.BigEndian.Uint32(b)}
	has, b := binary.BigEndian.Uint32(b[8:]), b[12:]
	if has != 0 && len(b) >= 4 {
		n := binary.BigEndian.Uint32(b)
		if b = b[4:]; uint64(n) <= uint64(len(b)) {
			e.Message = string(b[:n])
		}
	}
	if e.Message == "" {
		e.Message = fmt.Sprintf("libvirt error %d", e.Code)
	}
	return e
}
