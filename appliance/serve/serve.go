// Package serve gives packages that lie in a folder to others, over HTTP: files
// by ranges (RFC 9110) and an index, for people and for programs.
//
// Only files of packages are served: archives, descriptors, manifests,
// certificates, and the files that a descriptor in the same folder refers to.
// Nothing outside of the folder is, whatever links there are, and nothing whose
// name begins with a dot.
package serve

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ovation-project/ovation/internal/filestamp"
	"github.com/ovation-project/ovation/internal/throttle"
)

// Options say how a folder is served. The zero value is good.
type Options struct {
	// User and Password are what clients have to give (basic
	// authentication, RFC 7617); with an empty User all are let in.
	User, Password string
	// Limit is the most bytes a second that files are sent at, to all
	// clients together; 0 is as fast as it goes.
	Limit int64
	// Stall is how long a client may take to take what was sent to it before
	// it is given up; 0 is one minute.
	Stall time.Duration
	// MaxClients bounds the connections of Serve, of which more are closed at
	// once, and the requests that are answered at a time, of which more are
	// told to come later; 0 is 1024.
	MaxClients int
	// Log takes one record a request, and what goes wrong; nil for none.
	Log *slog.Logger
}

const (
	// maxRanges bounds the ranges of one request.
	maxRanges = 16
	// maxHeader bounds the header of a request.
	maxHeader      = 32 << 10
	headerTimeout  = 10 * time.Second
	idleTimeout    = 2 * time.Minute
	stopTimeout    = 5 * time.Second
	defaultStall   = time.Minute
	defaultClients = 1024
	// maxStreams bounds the requests at a time of one client that speaks HTTP/2.
	maxStreams = 32
)

// Handler serves one folder. It is safe for concurrent use.
type Handler struct {
	opt     Options
	log     *slog.Logger
	dir     string // absolute
	root    *os.Root
	bucket  *throttle.Bucket // nil for no limit
	buffers buffers
	known   packages
	index   rendered
	looking chan struct{} // a place for each package that is looked into
	active  atomic.Int64  // requests
}

// New opens a folder. The handler has to be closed when it serves no more.
func New(dir string, opt Options) (*Handler, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, err
	}
	h := &Handler{opt: opt, log: opt.Log, dir: abs, root: root, looking: make(chan struct{}, opening)}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if opt.Limit > 0 {
		h.bucket = throttle.New(opt.Limit)
	}
	if h.opt.Stall <= 0 {
		h.opt.Stall = defaultStall
	}
	h.opt.MaxClients = cmp.Or(h.opt.MaxClients, defaultClients)
	return h, nil
}

// Close closes the folder.
func (h *Handler) Close() error { return h.root.Close() }

// Serve answers clients of the listener until the context ends; that is no
// error. Answers that are on their way then have a few seconds to arrive. It
// closes the listener. With a config it speaks TLS, and HTTP/2.
func (h *Handler) Serve(ctx context.Context, l net.Listener, config *tls.Config) error {
	var clients atomic.Int64
	most := int64(h.opt.MaxClients)
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		TLSConfig:         config,
		ErrorLog:          slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
		ConnState: func(c net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				if clients.Add(1) > most {
					h.log.Warn("client refused: there are too many", "most", most)
					c.Close()
				}
			case http.StateClosed, http.StateHijacked:
				clients.Add(-1)
			}
		},
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err := s.Shutdown(grace)
		if errors.Is(err, context.DeadlineExceeded) {
			err = s.Close()
		}
		stopped <- err
	})
	var err error
	if config != nil {
		err = s.ServeTLS(l, "", "")
	} else {
		err = s.Serve(l)
	}
	if !stop() {
		return <-stopped
	}
	return errors.Join(err, s.Close())
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	a := &answer{ResponseWriter: w, control: http.NewResponseController(w), ctx: r.Context(), h: h}
	defer func() {
		h.log.Info("request", "client", r.RemoteAddr, "method", r.Method, "path", r.URL.Path, "range", r.Header.Get("Range"),
			"status", a.status, "bytes", a.sent, "took", time.Since(began).Round(time.Microsecond), "agent", r.UserAgent())
	}()
	a.extend()
	header := w.Header()
	// Files come from strangers: nothing in them is to run in a browser.
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox")
	header.Set("Referrer-Policy", "no-referrer")
	if r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
		// No request here has a body; what may never end is not read, not
		// even to be thrown away.
		header.Set("Connection", "close")
		_ = a.control.SetReadDeadline(time.Now())
	}
	defer h.active.Add(-1)
	switch busy := h.active.Add(1) > int64(h.opt.MaxClients); {
	case busy:
		header.Set("Retry-After", "5")
		http.Error(a, "too many ask at a time", http.StatusServiceUnavailable)
	case !h.admitted(r):
		header.Set("WWW-Authenticate", `Basic realm="ovation", charset="UTF-8"`)
		http.Error(a, "a user name and a password are needed", http.StatusUnauthorized)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		header.Set("Allow", "GET, HEAD")
		http.Error(a, "only GET and HEAD", http.StatusMethodNotAllowed)
	case strings.Count(r.Header.Get("Range"), ",") >= maxRanges:
		http.Error(a, fmt.Sprintf("at most %d ranges in one request", maxRanges), http.StatusRequestedRangeNotSatisfiable)
	case r.URL.Path == "/":
		h.serveIndex(a, r, false)
	case r.URL.Path == "/index.json":
		h.serveIndex(a, r, true)
	default:
		h.serveFile(a, r)
	}
}

// admitted compares what a client gives with what it should give, in a time
// that tells nothing of either.
func (h *Handler) admitted(r *http.Request) bool {
	if h.opt.User == "" {
		return true
	}
	user, password, _ := r.BasicAuth()
	same := func(a, b string) int {
		x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
		return subtle.ConstantTimeCompare(x[:], y[:])
	}
	return same(user, h.opt.User)&same(password, h.opt.Password) == 1
}

// fileName gives the name in the folder that a request's path means.
func fileName(urlPath string) (name string, ok bool) {
	name, ok = strings.CutPrefix(urlPath, "/")
	if !ok || !fs.ValidPath(name) || name == "." || strings.ContainsAny(name, "\\\x00") || hidden(name) {
		return "", false
	}
	return name, true
}

// hidden says that a part of a path begins with a dot.
func hidden(name string) bool { return strings.HasPrefix(name, ".") || strings.Contains(name, "/.") }

// contentType gives the media type of a file, by its name.
func contentType(name string) string {
	switch strings.ToLower(path.Ext(name)) {
	case ".ova":
		return "application/x-tar"
	case ".ovf":
		return "application/xml"
	case ".mf":
		return "text/plain; charset=utf-8"
	case ".cert":
		return "application/x-pem-file"
	}
	return "application/octet-stream"
}

// serveFile answers with a file of a package, or what is in a package.
func (h *Handler) serveFile(a *answer, r *http.Request) {
	name, ok := fileName(r.URL.Path)
	if ok {
		ok = h.isServed(r.Context(), name)
	}
	if !ok {
		http.NotFound(a, r)
		return
	}
	if r.URL.Query().Has("summary") {
		h.serveSummary(a, r, name)
		return
	}
	f, fi, err := h.open(name)
	if err != nil {
		h.log.Debug("open a file", "name", name, "error", err)
		http.NotFound(a, r)
		return
	}
	defer f.Close()
	a.Header().Set("Content-Type", contentType(name))
	a.Header().Set("ETag", `"`+filestamp.Of(fi)+`"`)
	// Whoever has it asks whether it is the same still.
	a.Header().Set("Cache-Control", "no-cache")
	http.ServeContent(a, r, "", fi.ModTime(), &content{SectionReader: io.NewSectionReader(f, 0, fi.Size()), f: f, identity: filestamp.Of(fi)})
}

// open opens a regular file; what else there is (a pipe, say) is not opened.
func (h *Handler) open(name string) (*os.File, fs.FileInfo, error) {
	name = filepath.FromSlash(name)
	if fi, err := h.root.Stat(name); err != nil {
		return nil, nil, err
	} else if !fi.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s is no regular file", name)
	}
	// Should it have become a pipe meanwhile, opening it must not wait.
	f, err := h.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, fi, nil
}

// content is a file as it was when it was opened. Once it is changed no more is
// given, so that nobody takes parts of two files for one.
type content struct {
	*io.SectionReader
	f        *os.File
	identity string
}

var errChanged = errors.New("the file was changed while it was sent")

func (c *content) Read(p []byte) (int, error) {
	n, err := c.SectionReader.Read(p)
	if n > 0 {
		fi, e := c.f.Stat()
		if e != nil {
			return 0, e
		}
		if filestamp.Of(fi) != c.identity {
			return 0, errChanged
		}
	}
	return n, err
}

// answer counts what is sent, bounds its rate, and gives up clients that take
// nothing.
type answer struct {
	http.ResponseWriter
	control *http.ResponseController
	ctx     context.Context
	h       *Handler
	status  int
	sent    int64
}

// extend gives the client time for what comes next.
func (a *answer) extend() {
	// Not every writer has deadlines: those of tests do not.
	_ = a.control.SetWriteDeadline(time.Now().Add(a.h.opt.Stall))
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (written int, err error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	for len(p) > 0 && err == nil {
		piece := p
		if b := a.h.bucket; b != nil {
			piece = p[:min(len(p), b.Piece())]
			if err := b.Wait(a.ctx, len(piece)); err != nil {
				return written, err
			}
		}
		a.extend()
		var n int
		n, err = a.ResponseWriter.Write(piece)
		written += n
		p = p[n:]
	}
	a.sent += int64(written)
	return written, err
}

// buffers are what files are sent from.
type buffers struct{ pool sync.Pool }

const bufferSize = 256 << 10

// ReadFrom sends what r gives, in large pieces.
func (a *answer) ReadFrom(r io.Reader) (sent int64, err error) {
	buf := a.h.buffers.get()
	defer a.h.buffers.put(buf)
	for {
		n, err := r.Read(buf[:])
		if n > 0 {
			w, err := a.Write(buf[:n])
			sent += int64(w)
			if err != nil {
				return sent, err
			}
		}
		if errors.Is(err, io.EOF) {
			return sent, nil
		}
		if err != nil {
			if errors.Is(err, errChanged) {
				a.h.log.Warn("a file was changed while it was sent: the connection is closed")
			}
			return sent, err
		}
	}
}

func (b *buffers) get() *[bufferSize]byte {
	if p, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return p
	}
	return new([bufferSize]byte)
}

func (b *buffers) put(p *[bufferSize]byte) { b.pool.Put(p) }
