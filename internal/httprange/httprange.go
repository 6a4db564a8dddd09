// Package httprange reads a file on an HTTP server as if it were a local one:
// by ranges, as few and as large as the reader's way of reading asks for, and
// always of the same version of the file.
package httprange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ovation-project/ovation/internal/cache"
	"github.com/ovation-project/ovation/internal/redact"
)

var (
	// ErrChanged says that the file on the server is not the one that was
	// opened any more.
	ErrChanged = errors.New("the file on the server has changed")
	// ErrNoRanges says that the server sends whole files only.
	ErrNoRanges = errors.New("the server does not send parts of files (no ranges)")
	// ErrWrongRange says that the server answers with other bytes than were
	// asked for.
	ErrWrongRange = errors.New("the server answers with another range than was asked for")
)

// StatusError is an answer of the server that is no success.
type StatusError struct {
	URL    string // without credentials
	Status string
	Code   int
	// RetryAfter is how long the server asks to wait, 0 where it does not.
	RetryAfter time.Duration
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
)

// File is a file on a server. It is safe for concurrent use.
type File struct {
	ctx    context.Context
	client *http.Client
	opt    Options
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
func Open(ctx context.Context, client *http.Client, address string, opt Options) (*File, error) {
	f := &File{ctx: ctx, client: client, opt: opt, url: address, shown: redact.URL(address), blocks: cache.New[int64, []byte](kept)}
	var head []byte
	p := f.patience(true)
	for {
		var err error
		if head, err = f.openOnce(ctx); err == nil {
			break
		}
		if err := p.after(ctx, err, 0); err != nil {
			return nil, err
		}
	}
	f.ahead = block
	if head == nil {
		return f, nil
	}
	_, err := f.blocks.Get(0, func() ([]byte, error) { return head, nil })
	f.next = 1
	return f, err
}

func (f *File) openOnce(ctx context.Context) (head []byte, err error) {
	a, err := f.get(ctx, 0, block-1)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	resp := a.Response
	switch resp.StatusCode {
	case http.StatusPartialContent:
		if err := plain(resp); err != nil {
			return nil, fmt.Errorf("%s: %w", f.shown, err)
		}
		first, last, size, err := contentRange(resp.Header.Get("Content-Range"))
		if err != nil || first != 0 || last >= block {
			return nil, fmt.Errorf("%s: %w: it answers with the range %q, and 0-%d was asked for", f.shown, ErrWrongRange, resp.Header.Get("Content-Range"), block-1)
		}
		f.size = size
	case http.StatusRequestedRangeNotSatisfiable: // an empty file
		if _, _, size, err := contentRange(resp.Header.Get("Content-Range")); err != nil || size != 0 {
			return nil, f.status(resp)
		}
	default:
		return nil, fmt.Errorf("%s: %w", f.shown, ErrNoRanges)
	}
	f.etag, f.mod = resp.Header.Get("Etag"), resp.Header.Get("Last-Modified")
	head = make([]byte, min(block, f.size))
	if _, err := io.ReadFull(a, head); err != nil {
		// What is known of the file is known; whoever reads it asks again.
		return nil, ctx.Err()
	}
	return head, nil
}

// Size is the file's size.
func (f *File) Size() int64 { return f.size }

// Version tells this version of the file from others: what the server gives as
// its ETag or date, "" where it gives neither.
func (f *File) Version() string {
	if f.etag == "" && f.mod == "" {
		return ""
	}
	return f.etag + " " + f.mod
}

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

// fetch gets a range whole.
func (f *File) fetch(off, n int64) ([]byte, error) {
	b := make([]byte, n)
	return b, f.Fetch(f.ctx, b, off)
}

// Fetch reads a range that lies within the file by one request, going on where
// the connection breaks. It remembers nothing: it is for whoever keeps the bytes
// himself.
func (f *File) Fetch(ctx context.Context, b []byte, off int64) error {
	if off < 0 || off > f.size-int64(len(b)) {
		return fmt.Errorf("%s: %d bytes at %d of %d: %w", f.shown, len(b), off, f.size, io.ErrUnexpectedEOF)
	}
	p := f.patience(false)
	for done := 0; done < len(b); {
		n, err := f.fetchOnce(ctx, b[done:], off+int64(done))
		if done += n; done == len(b) {
			break
		}
		if err := p.after(ctx, err, n); err != nil {
			return err
		}
	}
	return nil
}

func (f *File) fetchOnce(ctx context.Context, b []byte, off int64) (int, error) {
	a, err := f.get(ctx, off, off+int64(len(b))-1)
	if err != nil {
		return 0, err
	}
	defer a.Close()
	if err := f.same(a.Response, off, off+int64(len(b))-1); err != nil {
		return 0, err
	}
	n, err := io.ReadFull(a, b)
	if err != nil {
		err = fmt.Errorf("%s: %d bytes at %d: %w", f.shown, len(b), off, redacted(err))
	}
	return n, err
}

// same sees that an answer is the range that was asked for, of the version that
// was opened.
func (f *File) same(resp *http.Response, from, to int64) error {
	if resp.StatusCode == http.StatusPreconditionFailed || resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return fmt.Errorf("%s: %w", f.shown, ErrChanged)
	}
	if resp.StatusCode != http.StatusPartialContent {
		if resp.StatusCode == http.StatusOK && (resp.Header.Get("Etag") != f.etag || resp.Header.Get("Last-Modified") != f.mod) {
			return fmt.Errorf("%s: %w", f.shown, ErrChanged) // If-Range did not hold
		}
		return fmt.Errorf("%s: %w", f.shown, ErrNoRanges)
	}
	if err := plain(resp); err != nil {
		return fmt.Errorf("%s: %w", f.shown, err)
	}
	first, last, size, err := contentRange(resp.Header.Get("Content-Range"))
	if err != nil || first != from || last > to {
		return fmt.Errorf("%s: %w: it answers with the range %q, and %d-%d was asked for", f.shown, ErrWrongRange, resp.Header.Get("Content-Range"), from, to)
	}
	if size != f.size || resp.Header.Get("Etag") != f.etag || resp.Header.Get("Last-Modified") != f.mod {
		return fmt.Errorf("%s: %w", f.shown, ErrChanged)
	}
	return nil
}

// plain sees that the bytes that come are those of the file.
func plain(resp *http.Response) error {
	if e := resp.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return fmt.Errorf("%w: its bytes are encoded (%s)", ErrWrongRange, e)
	}
	if strings.HasPrefix(strings.ToLower(resp.Header.Get("Content-Type")), "multipart/byteranges") {
		return fmt.Errorf("%w: it sends several", ErrWrongRange)
	}
	return nil
}

func (f *File) get(ctx context.Context, first, last int64) (*answer, error) {
	header := http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", first, last)}}
	switch {
	case f.etag != "" && !strings.HasPrefix(f.etag, "W/"):
		header.Set("If-Range", f.etag)
	case f.mod != "":
		// Where the server does not take a date it sends the whole, which is
		// told from a change by the date that it gives again.
		header.Set("If-Range", f.mod)
	}
	a, err := get(ctx, f.client, f.url, header, f.opt.stall())
	if err != nil {
		return nil, err
	}
	if c := a.StatusCode; c >= 300 && c != http.StatusPreconditionFailed && c != http.StatusRequestedRangeNotSatisfiable {
		a.Close()
		return nil, f.status(a.Response)
	}
	return a, nil
}

func (f *File) status(resp *http.Response) error { return statusError(f.shown, resp) }

// redacted takes credentials out of the URL in an error.
func redacted(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		u.URL = redact.URL(u.URL)
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
	return &reader{f: f, ctx: ctx, at: off, end: off + n, patience: f.patience(false)}
}

type reader struct {
	f       *File
	ctx     context.Context
	at, end int64
	body    *answer
	got     int // since the last trouble
	*patience
}

func (r *reader) Read(p []byte) (int, error) {
	for {
		if r.at >= r.end {
			return 0, io.EOF
		}
		n, err := r.read(p[:min(int64(len(p)), r.end-r.at)])
		r.at += int64(n)
		r.got += n
		if n > 0 || err == nil {
			return n, nil
		}
		if r.body != nil {
			r.body.Close()
			r.body = nil
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			err = fmt.Errorf("%s: at byte %d: %w", r.f.shown, r.at, redacted(err))
		}
		if err := r.after(r.ctx, err, r.got); err != nil {
			return 0, err
		}
		r.got = 0
	}
}

func (r *reader) read(p []byte) (int, error) {
	if r.body == nil {
		a, err := r.f.get(r.ctx, r.at, r.end-1)
		if err != nil {
			return 0, err
		}
		if err := r.f.same(a.Response, r.at, r.end-1); err != nil {
			a.Close()
			return 0, err
		}
		r.body = a
	}
	return r.body.Read(p)
}

func (r *reader) Close() error {
	if r.body != nil {
		return r.body.Close()
	}
	return nil
}
