package httprange

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/ovation-project/ovation/internal/redact"
)

// Options say how much trouble is borne. The zero value is good.
type Options struct {
	// Retries is how often in a row a request that got nowhere is made
	// again; 0 is DefaultRetries, and less than 0 is never.
	Retries int
	// Stall is how long a connection may bring nothing before it counts as
	// broken; 0 is a minute.
	Stall time.Duration
	// Backoff is the first pause before a request is made again, which
	// doubles with each; 0 is a tenth of a second.
	Backoff time.Duration
	// Trouble, where set, is called with why a request has failed several
	// times in a row, before it is made again: somebody waits meanwhile. It
	// may be called concurrently.
	Trouble func(error)
}

// DefaultRetries bear with a server for about half a minute.
const DefaultRetries = 8

const (
	// longest bounds one pause between requests, whatever the server asks.
	longest = 15 * time.Second
	// troubled is how many failures in a row are worth telling.
	troubled = 3
	// progress is how many bytes make good for a connection that broke: a
	// server that gives a byte a connection is not waited for.
	progress = 4 << 10
)

func (o Options) stall() time.Duration {
	if o.Stall > 0 {
		return o.Stall
	}
	return time.Minute
}

// patience counts what was borne in a row.
type patience struct {
	left, all int
	pause     time.Duration
	opt       Options
	// opening says that nothing was ever had from this server: an address
	// where nobody answers is likely to be wrong.
	opening bool
}

func (f *File) patience(opening bool) *patience {
	p := &patience{opt: f.opt, opening: opening}
	switch {
	case f.opt.Retries == 0:
		p.all = DefaultRetries
	case f.opt.Retries > 0:
		p.all = f.opt.Retries
	}
	p.reset()
	return p
}

func (p *patience) reset() {
	p.left, p.pause = p.all, p.opt.Backoff
	if p.pause <= 0 {
		p.pause = 100 * time.Millisecond
	}
}

// after says what to do after a failure that came behind some bytes: nil, with
// a pause behind it, to try again, or the error to give.
func (p *patience) after(ctx context.Context, err error, got int) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if got >= progress {
		p.reset()
	}
	if final(err) || p.opening && nobody(err) {
		return err
	}
	if p.left == 0 {
		if p.all == 0 {
			return err
		}
		return fmt.Errorf("%w (tried %d times)", err, p.all+1)
	}
	p.left--
	if p.all-p.left == troubled && p.opt.Trouble != nil {
		p.opt.Trouble(err)
	}
	// Many clients of a server that comes back do not come at once.
	pause := p.pause/2 + rand.N(p.pause)
	var status *StatusError
	if errors.As(err, &status) && status.RetryAfter > pause {
		pause = status.RetryAfter
	}
	p.pause *= 2
	t := time.NewTimer(min(pause, longest))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// nobody says that no server was reached at all.
func nobody(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound || errors.Is(err, syscall.ECONNREFUSED)
}

// Passing says of an error of reading that it may be another one later: the
// network, not the file.
func Passing(err error) bool { return !final(err) }

// final says that another try would give the same.
func final(err error) bool {
	var status *StatusError
	var permanent interface{ Permanent() bool }
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(err, ErrChanged), errors.Is(err, ErrNoRanges), errors.Is(err, context.Canceled):
		return true
	case errors.As(err, &certificate), errors.As(err, &permanent) && permanent.Permanent():
		return true
	case errors.As(err, &status):
		return status.Code < 500 && status.Code != http.StatusTooManyRequests && status.Code != http.StatusRequestTimeout ||
			status.Code == http.StatusNotImplemented || status.Code == http.StatusHTTPVersionNotSupported
	}
	return false
}

func statusError(shown string, resp *http.Response) *StatusError {
	e := &StatusError{URL: shown, Status: resp.Status, Code: resp.StatusCode}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		e.RetryAfter = time.Duration(min(s, 3600)) * time.Second
	}
	return e
}

// errStalled is the cause of a connection that brings nothing.
type errStalled time.Duration

func (e errStalled) Error() string {
	return fmt.Sprintf("the server sent nothing for %v", time.Duration(e))
}

// answer is a response whose body fails where nothing comes for too long.
type answer struct {
	*http.Response
	ctx    context.Context
	cancel context.CancelCauseFunc
	stall  time.Duration
	timer  *time.Timer
}

// get asks for an address. Errors hold no credentials.
func get(ctx context.Context, client *http.Client, address string, header http.Header, stall time.Duration) (*answer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		cancel(nil)
		return nil, redacted(err)
	}
	req.Header = header
	req.Header.Set("Accept-Encoding", "identity")
	a := &answer{ctx: ctx, cancel: cancel, stall: stall}
	a.timer = time.AfterFunc(stall, func() { cancel(errStalled(stall)) })
	if a.Response, err = client.Do(req); err != nil {
		err = a.cause(err)
		a.timer.Stop()
		cancel(nil)
		return nil, redacted(err)
	}
	return a, nil
}

// cause puts what ended a request in the place of what it ended with.
func (a *answer) cause(err error) error {
	if stalled, ok := context.Cause(a.ctx).(errStalled); ok {
		return stalled
	}
	return err
}

// Read reads the body.
func (a *answer) Read(p []byte) (int, error) {
	// The time that our own user takes between reads does not count.
	a.timer.Reset(a.stall)
	n, err := a.Body.Read(p)
	a.timer.Stop()
	if err != nil && a.ctx.Err() != nil {
		err = a.cause(err)
	}
	return n, err
}

// Close ends the request.
func (a *answer) Close() error {
	a.timer.Stop()
	err := a.Body.Close()
	a.cancel(nil)
	return err
}

// Stream asks for a whole file, from a server that sends no parts of files: it
// is read once, front to back, and where the connection breaks it ends. size is
// -1 where the server does not tell. Only the beginning is tried again.
func Stream(ctx context.Context, client *http.Client, address string, opt Options) (body io.ReadCloser, size int64, err error) {
	f := &File{opt: opt, shown: redact.URL(address)}
	p := f.patience(true)
	for {
		a, err := get(ctx, client, address, http.Header{}, opt.stall())
		if err == nil && a.StatusCode != http.StatusOK {
			a.Close()
			err = f.status(a.Response)
		}
		if err == nil {
			return &whole{answer: a, shown: f.shown}, a.ContentLength, nil
		}
		if err := p.after(ctx, err, 0); err != nil {
			return nil, 0, err
		}
	}
}

// whole says where a file breaks off.
type whole struct {
	*answer
	shown string
	n     int64
}

// Read reads the body.
func (w *whole) Read(p []byte) (int, error) {
	n, err := w.answer.Read(p)
	w.n += int64(n)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%s: at byte %d: %w; the server sends no parts of files, so that this cannot be taken up again", w.shown, w.n, redacted(err))
	}
	return n, err
}
