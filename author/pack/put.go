package pack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/ovation-project/ovation/internal/redact"
)

// ErrRemoteExists says that there is something at a URL already.
var ErrRemoteExists = errors.New("there is something already")

// Put makes an archive and sends it to a URL by HTTP PUT, as web servers with
// WebDAV and object stores (by URLs that are signed) take it. Such servers want
// to know its size: where that is not known before, it is made in a file without
// a name first. Without
// Options.Replace the server is asked to refuse what would replace something.
func (p *Package) Put(ctx context.Context, client *http.Client, to string, opt Options) ([]Stored, error) {
	u, err := url.Parse(to)
	if err != nil || u.Host == "" {
		return nil, errors.New("the URL to send the package to cannot be read")
	}
	// What is shown holds no credentials, nor a signature.
	shown := u.Scheme + "://" + u.Host + u.EscapedPath()
	return p.send(ctx, opt, func(b body) error {
		r, err := b.open()
		if err != nil {
			return err
		}
		defer r.Close()
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, to, r)
		if err != nil {
			return fmt.Errorf("send to %s: the URL cannot be used", shown)
		}
		req.ContentLength = b.size
		req.Header.Set("Content-Type", "application/ovf")
		if !opt.Replace {
			req.Header.Set("If-None-Match", "*")
		}
		req.GetBody = b.open // for redirects
		resp, err := client.Do(req)
		if err != nil {
			return fmt.Errorf("send to %s: %w", shown, redact.Cause(err)) // whose text has the whole URL
		}
		defer resp.Body.Close()
		_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
		switch {
		case resp.StatusCode == http.StatusPreconditionFailed && !opt.Replace:
			return fmt.Errorf("send to %s: %w; replacing it has to be asked for", shown, ErrRemoteExists)
		case resp.StatusCode/100 != 2:
			return fmt.Errorf("send to %s: the server answers %s", shown, resp.Status)
		}
		return nil
	})
}
