// Package nbd serves virtual disks to other programs by the NBD protocol, as
// the NetworkBlockDevice project writes it down in doc/proto.md: the fixed
// newstyle handshake, several exports, simple and structured replies, block
// status by the context base:allocation, TLS by certificates.
//
// A disk needs not be there as a whole: what is served is read when a client
// asks for it, and several requests are answered at once. Memory and the
// number of requests in flight are bounded, whatever clients do.
//
// Not done: the oldstyle handshake, extended headers, TLS by pre-shared keys
// (Go's crypto/tls has none), resizing, and contexts other than
// base:allocation.
package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/ovation-project/ovation/disk"
)

// Source is what an export reads from; disk.Image is one. ReadAt MUST be safe
// for concurrent use.
type Source interface {
	io.ReaderAt
	// Size is what clients see, in bytes. It does not change.
	Size() int64
}

// ExtentSource is a Source that knows what is where (disk.Image's Extent).
// Without it all is taken for data.
type ExtentSource interface {
	Source
	Extent(ctx context.Context, off int64) (disk.Extent, error)
}

// ContextSource is a Source whose reads can be given up. The context ends when
// the client has gone, or the server ends.
type ContextSource interface {
	Source
	ReadAtContext(ctx context.Context, p []byte, off int64) (int, error)
}

// Target is what a writable export writes to. It MUST be safe for concurrent
// use, and what was written MUST be read by the export's Source at once.
type Target interface {
	io.WriterAt
	// Zero makes a range read as zeroes. Where hole is true its space may
	// be given back.
	Zero(off, length int64, hole bool) error
	// Sync returns when all that was written is safe.
	Sync() error
}

// Export is one disk that is served.
type Export struct {
	// Name is what clients ask for, at most 4096 bytes.
	Name string
	// Description is for people; it may be empty.
	Description string
	// Image is what clients read.
	Image Source
	// Target is what clients write to; with nil the export is read-only.
	Target Target
}

// Server serves exports. Its fields are set before Serve and not changed after
// it. The zero value with Exports is of use.
type Server struct {
	// Exports are what is served. The first one is the default: what a
	// client gets that asks for the empty name.
	Exports []Export
	// TLS makes clients begin TLS before anything else.
	TLS *tls.Config
	// Log takes what clients do and what goes wrong; nil for none.
	Log *slog.Logger
	// OnError is called where an image could not be read or written, before
	// the client is told (EIO). It may be called concurrently. Reads that
	// were given up since the server ends are no errors.
	OnError func(export string, offset, length int64, err error)
	// MaxMemory bounds the bytes that are on their way in all connections;
	// 0 is 128 MiB. It is at least 32 MiB, the longest request.
	MaxMemory int64
	// MaxInFlight bounds the requests of one connection that are worked on
	// at once; 0 is 16.
	MaxInFlight int
	// MaxClients bounds the connections; 0 is 256. More are closed at once.
	MaxClients int
	// HandshakeTimeout is how long a client may take to choose its export;
	// 0 is one minute.
	HandshakeTimeout time.Duration
	// StallTimeout is how long a client may leave a reply unread while other
	// clients wait for memory; 0 is 30 seconds. Where nobody waits it may
	// take as long as it likes.
	StallTimeout time.Duration
}

const (
	defaultMemory    = 128 << 20
	defaultInFlight  = 16
	defaultClients   = 256
	defaultHandshake = time.Minute
	defaultStall     = 30 * time.Second
)

// state is a server at work.
type state struct {
	*Server
	ctx    context.Context
	log    *slog.Logger
	memory *semaphore.Weighted
	pieces sync.Pool // of *[pieceSize]byte

	mu    sync.Mutex
	conns map[*conn]bool
}

// Serve answers clients of the listener until the context ends; that is no
// error. It closes the listener, and returns when all connections are closed
// and no image is read any more.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	defer l.Close()
	st, err := s.start(ctx)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	st.ctx = ctx
	stop := context.AfterFunc(ctx, func() {
		l.Close()
		st.closeAll()
	})
	defer stop()
	most := s.MaxClients
	if most <= 0 {
		most = defaultClients
	}
	for pause := time.Duration(0); ; {
		nc, err := l.Accept()
		if err != nil {
			switch {
			case ctx.Err() != nil:
				return nil
			case errors.Is(err, net.ErrClosed):
				cancel()
				st.closeAll()
				return fmt.Errorf("serve NBD on %v: %w", l.Addr(), err)
			}
			// Out of file descriptors, say: that passes.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			st.log.Warn("accept NBD client", "error", err, "again in", pause)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			continue
		}
		pause = 0
		c := newConn(st, nc)
		if !st.add(c, most) {
			st.log.Warn("NBD client refused: there are too many", "most", most)
			nc.Close()
			continue
		}
		wg.Go(func() {
			defer st.remove(c)
			defer nc.Close()
			if err := c.serve(ctx); err != nil && ctx.Err() == nil {
				st.log.Info("NBD client ended", "client", nc.RemoteAddr(), "error", err)
			}
		})
	}
}

// start checks the configuration.
func (s *Server) start(ctx context.Context) (*state, error) {
	seen := map[string]bool{}
	for _, e := range s.Exports {
		switch {
		case e.Image == nil:
			return nil, fmt.Errorf("NBD export %q has no image", e.Name)
		case len(e.Name) > maxString || len(e.Description) > maxString:
			return nil, fmt.Errorf("NBD export %.40q…: a name or description is longer than %d bytes", e.Name, maxString)
		case seen[e.Name]:
			return nil, fmt.Errorf("NBD export %q is there twice", e.Name)
		case e.Image.Size() < 0:
			return nil, fmt.Errorf("NBD export %q has a size below zero", e.Name)
		}
		seen[e.Name] = true
	}
	st := &state{Server: s, ctx: ctx, log: s.Log, conns: map[*conn]bool{}}
	if st.log == nil {
		st.log = slog.New(slog.DiscardHandler)
	}
	memory := s.MaxMemory
	if memory <= 0 {
		memory = defaultMemory
	}
	st.memory = semaphore.NewWeighted(max(memory, maxPayload))
	st.pieces.New = func() any { return new([pieceSize]byte) }
	return st, nil
}

func (st *state) add(c *conn, most int) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.conns == nil || len(st.conns) >= most {
		return false
	}
	st.conns[c] = true
	return true
}

func (st *state) remove(c *conn) {
	st.mu.Lock()
	defer st.mu.Unlock()
	delete(st.conns, c)
}

// closeAll ends all connections, and those that come yet.
func (st *state) closeAll() {
	st.mu.Lock()
	defer st.mu.Unlock()
	for c := range st.conns {
		c.raw.Close()
	}
	st.conns = nil
}

// take waits for memory. Clients that read nothing are dropped where others
// wait for what they hold.
func (st *state) take(ctx context.Context, n int64) error {
	limit := orDefault(st.StallTimeout, defaultStall)
	for {
		wait, cancel := context.WithTimeout(ctx, limit)
		err := st.memory.Acquire(wait, n)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		st.dropStalled(limit)
	}
}

func (st *state) dropStalled(limit time.Duration) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for c := range st.conns {
		if since := c.sending.Load(); since != nil && time.Since(*since) >= limit {
			st.log.Warn("NBD client dropped: it does not read its replies, and others wait", "client", c.raw.RemoteAddr())
			c.raw.Close()
		}
	}
}

// find gives an export by its name.
func (st *state) find(name string) *Export {
	for i := range st.Exports {
		if st.Exports[i].Name == name {
			return &st.Exports[i]
		}
	}
	if name == "" && len(st.Exports) > 0 {
		return &st.Exports[0]
	}
	return nil
}

func orDefault(d, other time.Duration) time.Duration {
	if d <= 0 {
		return other
	}
	return d
}

// flags are what an export can do.
func (e *Export) flags(structured bool) uint16 {
	f := uint16(canFlags | canFlush | canFUA | canCache)
	if e.Target == nil {
		f |= isReadOnly | canMultiConn
	} else {
		f |= canTrim | canWriteZeroes
	}
	if structured {
		f |= canDF
	}
	return f
}

// read fills b.
func (e *Export) read(ctx context.Context, b []byte, off int64) error {
	var n int
	var err error
	if s, ok := e.Image.(ContextSource); ok {
		n, err = s.ReadAtContext(ctx, b, off)
	} else {
		n, err = e.Image.ReadAt(b, off)
	}
	switch {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}

// extent gives the length of the run at off that is of one state. What cannot
// be told is data: reading it will say what is wrong.
func (e *Export) extent(ctx context.Context, off int64) (length int64, flags uint32) {
	rest := e.Image.Size() - off
	s, ok := e.Image.(ExtentSource)
	if !ok {
		return rest, 0
	}
	find := s.Extent
	if m, ok := e.Image.(disk.Mapper); ok {
		find = m.Map // which is all that is asked, and less to read
	}
	x, err := find(ctx, off)
	if err != nil || x.Offset > off || x.End() <= off {
		return rest, 0
	}
	switch length = min(x.End()-off, rest); x.Kind {
	case disk.Hole:
		return length, stateHole | stateZero
	case disk.Zero:
		return length, stateZero
	}
	return length, 0
}

// sendingSince is set while a reply is being sent.
type sendingSince = atomic.Pointer[time.Time]
