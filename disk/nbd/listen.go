package nbd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// Listen opens a place to serve at: "unix:PATH", a socket that nobody but its
// owner can use (mode 0600) and that goes when the listener is closed, or
// "tcp:HOST:PORT", where port 0 is any that is free.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	switch network, where, _ := strings.Cut(address, ":"); network {
	case "unix":
		return listenUnix(ctx, &lc, where)
	case "tcp":
		return lc.Listen(ctx, "tcp", where)
	}
	return nil, fmt.Errorf("%q is no place to listen at: write unix:PATH or tcp:HOST:PORT", address)
}

// maxSocketPath is what struct sockaddr_un holds, its final zero aside.
const maxSocketPath = 107

// listenUnix makes the socket in a folder that nobody else can enter, and gives
// it its name when its mode is right: at no time can others connect.
func listenUnix(ctx context.Context, lc *net.ListenConfig, path string) (_ net.Listener, err error) {
	if path == "" {
		return nil, errors.New("unix: the socket's path is missing")
	}
	// Clients connect by this path; a longer one could be made and never be
	// used.
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("socket %s: the path is longer than %d bytes, which is all that systems take", path, maxSocketPath)
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	inside := filepath.Join(dir, "s")
	if len(inside) > maxSocketPath {
		return nil, fmt.Errorf("socket %s: choose a path that is %d bytes shorter", path, len(inside)-maxSocketPath)
	}
	l, err := lc.Listen(ctx, "unix", inside)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	// Its name is another one from here on.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err = os.Chmod(inside, 0o600); err == nil {
		err = os.Link(inside, path)
	}
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, errors.Join(err, l.Close()))
	}
	made, err := os.Lstat(path)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &unixListener{Listener: l, path: path, made: made}, nil
}

// removeStale removes a socket that nobody listens at any more.
func removeStale(ctx context.Context, path string) error {
	fi, err := os.Lstat(path)
	if err != nil || fi.Mode().Type() != os.ModeSocket {
		return nil // what else is there makes the link fail
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		c.Close()
		return fmt.Errorf("socket %s: somebody listens there already", path)
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return os.Remove(path)
	}
	return nil
}

// unixListener removes its socket when it is closed.
type unixListener struct {
	net.Listener
	path string
	made os.FileInfo
	once sync.Once
}

// Addr is the path that clients use.
func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close ends the listening. The socket goes, unless another one has taken its
// place.
func (l *unixListener) Close() error {
	err := l.Listener.Close()
	l.once.Do(func() {
		if fi, e := os.Lstat(l.path); e == nil && os.SameFile(fi, l.made) {
			err = errors.Join(err, os.Remove(l.path))
		}
	})
	return err
}

// URI gives the URI by which clients reach an export at an address, as the NBD
// URI specification (doc/uri.md) writes it; "" is the default export.
func URI(addr net.Addr, export string, tls bool) string {
	u := url.URL{Scheme: "nbd", Path: "/" + export}
	if tls {
		u.Scheme = "nbds"
	}
	if addr.Network() == "unix" {
		path := addr.String()
		if abs, err := filepath.Abs(path); err == nil {
			path = abs
		}
		u.Scheme += "+unix"
		u.RawQuery = "socket=" + strings.ReplaceAll(url.QueryEscape(path), "%2F", "/")
		// The authority is empty and has to be there.
		return u.Scheme + "://" + u.EscapedPath() + "?" + strings.ReplaceAll(u.RawQuery, "+", "%20")
	}
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		u.Host = addr.String()
		return u.String()
	}
	// What listens everywhere is reached from here at the loopback.
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	u.Host = net.JoinHostPort(host, port)
	return u.String()
}
