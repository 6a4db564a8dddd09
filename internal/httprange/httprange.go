// Package httprange reads a file on an HTTP server as if it were a local one:
// by ranges, as few and as large as the reader's way of reading asks for, and
// always of the same version of the file.
package httprange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ovation-project/ovation/internal/cache"
)

var (
	// ErrChanged says that the file on the server is not the one that was
	// opened any more.
	ErrChanged = errors.New("the file on the server has changed")
	// ErrNoRanges says that the server sends whole files only.
	ErrNoRanges = errors.New("the server does not send parts of files (no ranges)")
)

// StatusError is an answer of the server that is no success.
type StatusError struct {
	URL    string // without credentials
	Status string
	Code   int
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: the server answers %s", e.URL, e.Status)
}

const (
	// block is the least that is asked for at once.
	block = 64 << 10
	// maxAhead is the most that is asked for at once when reading goes on
	// from one block to the next.
	maxAhead = 4 << 20
	// kept is how many blocks are remembered.
	kept = 128
	// attempts is how often a request is tried before it fails.
	attempts = 4
)

// File is a file on a server. It is safe for concurrent use.
type File struct {
	ctx    context.Context
	client *http.Client
	url    string
	shown  string
	size   int64
	etag   string
	mod    string
	blocks *cache.Cache[int64, []byte]

	mu    sync.Mutex
	next  int64 // the block that a reader going on would ask for
	ahead int64 // how much it would be given, in bytes
}

// Open asks for the beginning of a file, which says how large it is and which
// version. ctx bounds all reading from it.
func Open(ctx context.Context, client *http.Client, address string) (*File, error) {
	f := &File{ctx: ctx, client: client, url: address, shown: Redact(address), blocks: cache.New[int64, []byte](kept)}
	resp, err := f.get(ctx, 0, block-1)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusPartialContent:
		first, _, size, err := contentRange(resp.Header.Get("Content-Range"))
		if err != nil || first != 0 {
			return nil, fmt.Errorf("%s: the server answers with the range %q, and 0-%d was asked for", f.shown, resp.Header.Get("Content-Range"), block-1)
		}
		f.size = size
	case http.StatusRequestedRangeNotSatisfiable: // an empty file
		if _, _, size, err := contentRange(resp.Header.Get("Content-Range")); err != nil || size != 0 {
			return nil, &StatusError{f.shown, resp.Status, resp.StatusCode}
		}
	default:
		return nil, fmt.Errorf("%s: %w", f.shown, ErrNoRanges)
	}
	f.etag, f.mod = resp.Header.Get("Etag"), resp.Header.Get("Last-Modified")
	head, err := io.ReadAll(io.LimitReader(resp.Body, min(block, f.size)+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.shown, err)
	}
	if int64(len(head)) != min(block, f.size) {
		return nil, fmt.Errorf("%s: the server sent %d bytes of %d", f.shown, len(head), min(block, f.size))
	}
	_, err = f.blocks.Get(0, func() ([]byte, error) { return head, nil })
	f.next, f.ahead = 1, block
	return f, err
}

// Redact gives a URL without the password and the query, which may be a
// signature.
func Redact(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "(a URL that cannot be read)"
	}
	if u.RawQuery != "" {
		u.RawQuery = "…"
	}
	return u.Redacted()
}

// Size is the file's size.
func (f *File) Size() int64 { return f.size }

// URL is the file's address, without credentials.
func (f *File) URL() string { return f.shown }

// ReadAt reads by ranges.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	done := 0
	for done < len(p) {
		at := off + int64(done)
		if at >= f.size {
			return done, io.EOF
		}
		b, err := f.block(at/block, int64(len(p)-done)+at%block)
		if err != nil {
			return done, err
		}
		done += copy(p[done:], b[at%block:])
	}
	return done, nil
}

// block gives one block, with more behind it where reading goes on.
func (f *File) block(n, want int64) ([]byte, error) {
	return f.blocks.Get(n, func() ([]byte, error) {
		f.mu.Lock()
		length := block * ((want + block - 1) / block)
		if n == f.next {
			f.ahead = min(2*f.ahead, maxAhead)
			length = max(length, f.ahead)
		} else {
			f.ahead = block
		}
		length = min(length, maxAhead)
		f.next = n + length/block
		f.mu.Unlock()
		b, err := f.fetch(n*block, min(length, f.size-n*block))
		if err != nil {
			return nil, err
		}
		for i := int64(1); i*block < int64(len(b)); i++ {
			part := b[i*block : min(int64(len(b)), (i+1)*block)]
			if _, err := f.blocks.Get(n+i, func() ([]byte, error) { return part, nil }); err != nil {
				return nil, err
			}
		}
		return b[:min(int64(len(b)), block)], nil
	})
}

// fetch gets a range whole, going on where a connection broke.
func (f *File) fetch(off, n int64) ([]byte, error) {
	b := make([]byte, 0, n)
	var last error
	for try := 0; try < attempts; try++ {
		if try > 0 {
			if err := wait(f.ctx, try); err != nil {
				return nil, err
			}
		}
		got := len(b)
		b, last = f.fetchOnce(b, off, n)
		if last == nil {
			return b, nil
		}
		if final(last) {
			return nil, last
		}
		if len(b) > got {
			try = 0 // it goes on, if slowly
		}
	}
	return nil, last
}

// wait lets some time pass before another try.
func wait(ctx context.Context, try int) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Duration(1<<try) * 50 * time.Millisecond):
		return nil
	}
}

// final says that another try would give the same.
func final(err error) bool {
	var status *StatusError
	return errors.Is(err, ErrChanged) || errors.Is(err, ErrNoRanges) || errors.Is(err, context.Canceled) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errRedirect) ||
		errors.As(err, &status) && status.Code < 500 && status.Code != http.StatusTooManyRequests
}

func (f *File) fetchOnce(b []byte, off, n int64) ([]byte, error) {
	from := off + int64(len(b))
	resp, err := f.get(f.ctx, from, off+n-1)
	if err != nil {
		return b, err
	}
	defer resp.Body.Close()
	if err := f.same(resp, from); err != nil {
		return b, err
	}
	want := n - int64(len(b))
	part := b[len(b) : int64(len(b))+want]
	got, err := io.ReadFull(resp.Body, part)
	b = b[:len(b)+got]
	if err != nil {
		return b, fmt.Errorf("%s: %d bytes at %d: %w", f.shown, want, from, err)
	}
	return b, nil
}

// same sees that an answer is the range that was asked for, of the version that
// was opened.
func (f *File) same(resp *http.Response, from int64) error {
	if resp.StatusCode == http.StatusPreconditionFailed || resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return fmt.Errorf("%s: %w", f.shown, ErrChanged)
	}
	if resp.StatusCode != http.StatusPartialContent {
		if e := resp.Header.Get("Etag"); resp.StatusCode == http.StatusOK && e != f.etag {
			return fmt.Errorf("%s: %w", f.shown, ErrChanged) // If-Range did not hold
		}
		return fmt.Errorf("%s: %w", f.shown, ErrNoRanges)
	}
	first, _, size, err := contentRange(resp.Header.Get("Content-Range"))
	if err != nil || first != from {
		return fmt.Errorf("%s: the server answers with the range %q, and the bytes from %d on were asked for", f.shown, resp.Header.Get("Content-Range"), from)
	}
	if size != f.size || resp.Header.Get("Etag") != f.etag || resp.Header.Get("Last-Modified") != f.mod {
		return fmt.Errorf("%s: %w", f.shown, ErrChanged)
	}
	return nil
}

func (f *File) get(ctx context.Context, first, last int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", first, last))
	req.Header.Set("Accept-Encoding", "identity")
	if strong := f.etag != "" && !strings.HasPrefix(f.etag, "W/"); strong {
		req.Header.Set("If-Range", f.etag)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, redacted(err)
	}
	if resp.StatusCode >= 300 && resp.StatusCode != http.StatusPreconditionFailed && resp.StatusCode != http.StatusRequestedRangeNotSatisfiable {
		resp.Body.Close()
		return nil, &StatusError{f.shown, resp.Status, resp.StatusCode}
	}
	return resp, nil
}

// redacted takes credentials out of the URL in an error.
func redacted(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		u.URL = Redact(u.URL)
	}
	return err
}

// contentRange reads "bytes 0-99/1000" and "bytes */1000".
func contentRange(s string) (first, last, size int64, err error) {
	rest, ok := strings.CutPrefix(s, "bytes ")
	span, total, ok2 := strings.Cut(rest, "/")
	if !ok || !ok2 {
		return 0, 0, 0, fmt.Errorf("%q is no Content-Range", s)
	}
	if size, err = strconv.ParseInt(total, 10, 64); err != nil || size < 0 {
		return 0, 0, 0, fmt.Errorf("%q does not say how large the file is", s)
	}
	if span == "*" {
		return 0, 0, size, nil
	}
	a, b, _ := strings.Cut(span, "-")
	first, err1 := strconv.ParseInt(a, 10, 64)
	last, err2 := strconv.ParseInt(b, 10, 64)
	if err = errors.Join(err1, err2); err != nil || first < 0 || last < first || last >= size {
		return 0, 0, 0, fmt.Errorf("%q is no Content-Range", s)
	}
	return first, last, size, nil
}

// Reader reads the file front to back, in one request as long as the
// connection holds, and goes on where it breaks.
func (f *File) Reader(ctx context.Context, off, n int64) io.ReadCloser {
	return &reader{f: f, ctx: ctx, at: off, end: off + n}
}

type reader struct {
	f       *File
	ctx     context.Context
	at, end int64
	body    io.ReadCloser
	tries   int
}

func (r *reader) Read(p []byte) (int, error) {
	for {
		if r.at >= r.end {
			return 0, io.EOF
		}
		if r.body == nil {
			if err := r.open(); err != nil {
				if r.tries++; r.tries >= attempts || final(err) {
					return 0, err
				}
				if err := wait(r.ctx, r.tries); err != nil {
					return 0, err
				}
				continue
			}
		}
		n, err := r.body.Read(p[:min(int64(len(p)), r.end-r.at)])
		r.at += int64(n)
		if n > 0 {
			r.tries = 0
			return n, nil
		}
		if err == nil {
			continue
		}
		r.body.Close()
		r.body = nil
		if ctxErr := r.ctx.Err(); ctxErr != nil {
			return 0, ctxErr
		}
		if r.tries++; r.tries >= attempts {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, fmt.Errorf("%s: at byte %d: %w", r.f.shown, r.at, err)
		}
		if err := wait(r.ctx, r.tries); err != nil {
			return 0, err
		}
	}
}

func (r *reader) open() error {
	resp, err := r.f.get(r.ctx, r.at, r.end-1)
	if err != nil {
		return err
	}
	if err := r.f.same(resp, r.at); err != nil {
		resp.Body.Close()
		return err
	}
	r.body = resp.Body
	return nil
}

func (r *reader) Close() error {
	if r.body != nil {
		return r.body.Close()
	}
	return nil
}

var errRedirect = errors.New("redirect refused")

// NewClient gives a client that follows redirects with care: never from https
// to http, never from a public address to one of this machine or network,
// and never with credentials to another host.
func NewClient(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport: transport,
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) >= 10 {
				return fmt.Errorf("%w: more than ten of them", errRedirect)
			}
			from := via[len(via)-1].URL
			if from.Scheme == "https" && req.URL.Scheme != "https" {
				return fmt.Errorf("%w: from https to %s", errRedirect, req.URL.Scheme)
			}
			if req.URL.Scheme != "https" && req.URL.Scheme != "http" {
				return fmt.Errorf("%w: to %s", errRedirect, req.URL.Scheme)
			}
			if !isPrivate(req.Context(), via[0].URL.Hostname()) && isPrivate(req.Context(), req.URL.Hostname()) {
				return fmt.Errorf("%w: from a public address to %s", errRedirect, req.URL.Hostname())
			}
			return nil
		},
	}
}

// isPrivate says whether a name stands for an address of this machine or of a
// private network. What cannot be resolved is not told apart.
func isPrivate(ctx context.Context, host string) bool {
	addrs := []netip.Addr{}
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = append(addrs, a)
	} else if found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host); err == nil {
		addrs = found
	}
	for _, a := range addrs {
		a = a.Unmap()
		if a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsUnspecified() || a.IsMulticast() {
			return true
		}
	}
	return false
}
