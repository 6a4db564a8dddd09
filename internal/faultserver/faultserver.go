// Package faultserver is a web server for tests that does what servers and the
// networks before them do on bad days.
package faultserver

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Server serves the files of a folder, by ranges. Its fields may be set while
// it runs, under Change.
type Server struct {
	dir  string
	addr string

	mu    sync.Mutex
	fault Faults
	rand  *rand.Rand
	free  time.Time // when the wire has brought what was sent so far
	srv   *http.Server
	done  chan struct{}

	// Fetched counts the bytes that were sent of files, Requests the
	// requests.
	Fetched, Requests atomic.Int64
}

// Faults are what goes wrong. The zero value is a good server.
type Faults struct {
	// Drop, where above 0, breaks each answer off after a random number of
	// bytes up to so many.
	Drop int64
	// Status, where set, is the answer to everything.
	Status int
	// NoRanges sends whole files, whatever is asked for.
	NoRanges bool
	// Shift sends the range that begins so many bytes later than it was asked
	// for, and says so.
	Shift int64
	// Version is added to the ETag: another is another file.
	Version string
	// NoValidators leaves out ETag and date.
	NoValidators bool
	// Flip has the bit of the byte at this place of the file of this name
	// turned around.
	Flip   string
	FlipAt int64
	// Rate is the bytes a second of all answers together, 0 for no limit.
	Rate int64
	// Hang sends headers and then nothing.
	Hang bool
}

// New starts a server, which ends with the test.
func New(t testing.TB, dir string) *Server {
	t.Helper()
	s, err := Start(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

// Start starts a server.
func Start(dir string) (*Server, error) {
	s := &Server{dir: dir, addr: "127.0.0.1:0", rand: rand.New(rand.NewPCG(1, 2))}
	return s, s.Restart()
}

// URL is the address of a file.
func (s *Server) URL(name string) string { return "http://" + s.addr + "/" + name }

// Change alters what goes wrong from now on.
func (s *Server) Change(f func(*Faults)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.fault)
}

// Kill ends the server with all its connections.
func (s *Server) Kill() {
	s.mu.Lock()
	srv, done := s.srv, s.done
	s.srv = nil
	s.mu.Unlock()
	if srv != nil {
		srv.Close()
		<-done
	}
}

// Restart starts the server anew, at the address that it had.
func (s *Server) Restart() error {
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addr = l.Addr().String()
	srv, done := &http.Server{Handler: s}, make(chan struct{})
	s.srv, s.done = srv, done
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	return nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.Requests.Add(1)
	s.mu.Lock()
	f := s.fault
	left := int64(-1)
	if f.Drop > 0 {
		left = s.rand.Int64N(f.Drop)
	}
	s.mu.Unlock()
	if f.Status != 0 {
		http.Error(w, http.StatusText(f.Status), f.Status)
		return
	}
	name := path.Base(path.Clean("/" + r.URL.Path))
	file, err := os.Open(filepath.Join(s.dir, name))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil || !st.Mode().IsRegular() {
		http.NotFound(w, r)
		return
	}
	mod := st.ModTime()
	if f.NoValidators {
		mod = time.Time{}
	} else {
		h := fnv.New64a()
		fmt.Fprint(h, f.Version, mod.UnixNano())
		w.Header().Set("Etag", fmt.Sprintf(`"%x"`, h.Sum64()))
	}
	if f.NoRanges {
		r.Header.Del("Range")
	}
	var first, last int64
	if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &first, &last); n == 2 && f.Shift > 0 {
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", first+f.Shift, last+f.Shift))
	}
	content := io.ReadSeeker(file)
	if f.Flip == name {
		content = &flipped{file, f.FlipAt}
	}
	http.ServeContent(&faulty{w, s, r.Context(), left, f.Hang}, r, name, mod, content)
}

// faulty is an answer on its way.
type faulty struct {
	http.ResponseWriter
	s    *Server
	ctx  context.Context
	left int64 // -1 for all
	hang bool
}

// Write sends, slowly, and no more than it may.
func (w *faulty) Write(p []byte) (int, error) {
	if w.hang {
		if f, ok := w.ResponseWriter.(http.Flusher); ok {
			f.Flush()
		}
		<-w.ctx.Done()
		return 0, w.ctx.Err()
	}
	const piece = 16 << 10
	done := 0
	for done < len(p) {
		part := p[done:min(len(p), done+piece)]
		if w.left >= 0 && int64(len(part)) > w.left {
			part = part[:w.left]
		}
		w.s.wait(len(part))
		n, err := w.ResponseWriter.Write(part)
		w.s.Fetched.Add(int64(n))
		done += n
		if err != nil {
			return done, err
		}
		if w.left >= 0 {
			if w.left -= int64(n); w.left == 0 && done < len(p) {
				panic(http.ErrAbortHandler)
			}
		}
	}
	return done, nil
}

// wait is the wire's time for n bytes, which all answers share.
func (s *Server) wait(n int) {
	s.mu.Lock()
	if s.fault.Rate <= 0 {
		s.mu.Unlock()
		return
	}
	now := time.Now()
	if s.free.Before(now) {
		s.free = now
	}
	s.free = s.free.Add(time.Duration(float64(n) / float64(s.fault.Rate) * float64(time.Second)))
	until := s.free.Sub(now)
	s.mu.Unlock()
	time.Sleep(until)
}

// flipped turns one bit around.
type flipped struct {
	*os.File
	at int64
}

// Read reads.
func (f *flipped) Read(p []byte) (int, error) {
	off, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	n, err := f.File.Read(p)
	if k := f.at - off; k >= 0 && k < int64(n) {
		p[k] ^= 1
	}
	return n, err
}
