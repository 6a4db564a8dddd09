package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/ovation-project/ovation/internal/httprange"
	"github.com/ovation-project/ovation/internal/redact"
	"github.com/ovation-project/ovation/internal/spool"
	"github.com/ovation-project/ovation/internal/workdir"
)

// onWeb says that a name is the address of a file on a web server. A file that
// has such a name is a file.
func onWeb(name string) bool {
	if !strings.HasPrefix(name, "http://") && !strings.HasPrefix(name, "https://") {
		return false
	}
	_, err := os.Lstat(name)
	return err != nil
}

// shown is the name of a package or an image for people: of an address on the web
// without passwords and signatures.
func shown(name string) string {
	if onWeb(name) {
		return redact.URL(name)
	}
	return name
}

// webPath is the path in an address, whose ending says what a file is.
func webPath(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Path
}

// web is how the flags say that web servers are spoken to.
func (a *app) web() (*http.Client, httprange.Options, error) {
	opt, err := a.network.options()
	return opt.Client, httprange.Options{Retries: opt.Retries, Trouble: opt.Trouble}, err
}

// openWebImage opens an image on a web server: by parts, or a copy where the
// server sends whole files only.
func (a *app) openWebImage(ctx context.Context, address, format, dir string) (*openDisk, error) {
	client, opt, err := a.web()
	if err != nil {
		return nil, err
	}
	name := shown(address)
	f, err := httprange.Open(ctx, client, address, opt)
	if err == nil {
		if format, err = a.packedFormat(f, webPath(address), format); err != nil {
			return nil, err
		}
		return a.openFile(ctx, f, name, format, dir, nil, func() error { return nil })
	}
	if !errors.Is(err, httprange.ErrNoRanges) {
		return nil, err
	}
	body, _, err := httprange.Stream(ctx, client, address, opt)
	if err != nil {
		return nil, err
	}
	if dir == "" {
		dir = workdir.Base()
	}
	a.note("%s is copied to %s first: its server sends whole files only", name, dir)
	c, err := spool.Copy(ctx, dir, body)
	if err := errors.Join(err, body.Close()); err != nil {
		return nil, err
	}
	return a.openFile(ctx, c, name, format, dir, nil, c.Close)
}

// openWebSource opens an image on a web server to be converted as it arrives.
func (a *app) openWebSource(ctx context.Context, address, format, dir string) (*diskSource, error) {
	client, opt, err := a.web()
	if err != nil {
		return nil, err
	}
	reading, cancel := context.WithCancel(ctx)
	name := shown(address)
	var body io.ReadCloser
	var size int64
	f, err := httprange.Open(reading, client, address, opt)
	switch {
	case err == nil:
		if format, err = a.packedFormat(f, webPath(address), format); err == nil {
			size, body = f.Size(), f.Reader(reading, 0, f.Size())
		}
	case errors.Is(err, httprange.ErrNoRanges):
		body, size, err = httprange.Stream(reading, client, address, opt)
	}
	if err != nil {
		cancel()
		return nil, err
	}
	src, err := a.openArriving(ctx, incoming{r: body, size: size, name: name, stop: cancel}, format, dir)
	if err != nil {
		return nil, errors.Join(err, body.Close())
	}
	end := src.close
	src.close = func() error { return errors.Join(end(), body.Close()) }
	return src, nil
}
