// Package remote makes the HTTP client by which packages are fetched: through
// the proxies of the environment, with a certificate authority and credentials
// of one's own, no faster than it may, and with care for where strangers'
// servers lead it.
package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/ovation-project/ovation/internal/throttle"
)

// Options are what a client is made of. The zero value is good.
type Options struct {
	// CAFile names a file of certificates in PEM that are trusted beside
	// the system's.
	CAFile string
	// Credentials are sent to the hosts that they name, and to no other.
	Credentials Credentials
	// Limit is the most bytes a second that answers may bring, all of the
	// client's together; 0 is as fast as it goes.
	Limit int64
	// UserAgent is what the client calls itself; "" is Go's own.
	UserAgent string
}

// maxConnections bounds the connections to one host. HTTP/2 needs one.
const maxConnections = 8

// New makes a client. It speaks HTTP/1.1 and HTTP/2, and takes its proxies from
// the environment (HTTPS_PROXY, HTTP_PROXY, NO_PROXY).
//
// It follows redirects, at most ten, and refuses those from https to http, to
// what is no HTTP, and from a public address to one of this machine or of a
// private network, whatever the name resolves to when the connection is made.
// Credentials go to the hosts that they are for, wherever a redirect leads, and
// the address that led there, which may hold a signature, is not told.
func New(opt Options) (*http.Client, error) {
	open := transport(nil)
	public := transport(refusePrivate("from a public address to "))
	if opt.CAFile != "" {
		roots, err := authorities(opt.CAFile)
		if err != nil {
			return nil, err
		}
		for _, t := range []*http.Transport{open, public} {
			t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		}
	}
	rt := &roundTripper{open: open, public: public, opt: opt}
	if opt.Limit > 0 {
		rt.bucket = throttle.New(opt.Limit)
	}
	return &http.Client{Transport: rt, CheckRedirect: checkRedirect}, nil
}

func authorities(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("certificate authorities: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("certificate authorities: there is no certificate in PEM in %s", path)
	}
	return roots, nil
}

// transport is the default one, with bounds for servers that do not answer.
func transport(control func(network, address string, c syscall.RawConn) error) *http.Transport {
	d := &dialer{Dialer: net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second, Control: control}, public: map[string]bool{}}
	return &http.Transport{
		Proxy:       http.ProxyFromEnvironment,
		DialContext: d.DialContext,
		// Ranges are of bytes as they are stored.
		DisableCompression:    true,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          64,
		MaxIdleConnsPerHost:   maxConnections,
		MaxConnsPerHost:       2 * maxConnections,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: 60 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
}

type roundTripper struct {
	open, public *http.Transport
	opt          Options
	bucket       *throttle.Bucket
}

// RoundTrip carries out one request.
func (t *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	via, ctx := t.open, req.Context()
	switch first := original(req); {
	case first == req:
		ctx = withPeer(ctx)
	case !fromPrivate(first):
		// A proxy makes the connection itself, and is itself where the user
		// says.
		if proxy, err := http.ProxyFromEnvironment(req); err != nil || proxy == nil {
			via = t.public
		}
	}
	req = req.Clone(ctx)
	req.Header.Del("Referer")
	if t.opt.UserAgent != "" {
		req.Header.Set("User-Agent", t.opt.UserAgent)
	}
	if c, ok := t.opt.Credentials.lookup(req.URL); ok && req.Header.Get("Authorization") == "" {
		c.set(req)
	}
	resp, err := via.RoundTrip(req)
	if err == nil && t.bucket != nil {
		resp.Body = &limitedBody{resp.Body, t.bucket, req.Context()}
	}
	return resp, err
}

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (t *roundTripper) CloseIdleConnections() {
	t.open.CloseIdleConnections()
	t.public.CloseIdleConnections()
}

// original is the request that redirects began with.
func original(req *http.Request) *http.Request {
	for req.Response != nil && req.Response.Request != nil {
		req = req.Response.Request
	}
	return req
}

// RedirectError is a redirect that is not followed.
type RedirectError struct{ Why string }

func (e *RedirectError) Error() string { return "redirect refused: " + e.Why }

// Permanent says that another try would end the same.
func (e *RedirectError) Permanent() bool { return true }

func checkRedirect(req *http.Request, via []*http.Request) error {
	refuse := func(format string, args ...any) error {
		return &RedirectError{fmt.Sprintf(format, args...)}
	}
	if len(via) >= 10 {
		return refuse("more than ten of them")
	}
	if via[len(via)-1].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return refuse("from https to %s", req.URL.Scheme)
	}
	if req.URL.Scheme != "https" && req.URL.Scheme != "http" {
		return refuse("to %s", req.URL.Scheme)
	}
	first := via[0]
	if req.Response != nil {
		first = original(req) // which knows where it was answered
	}
	if !fromPrivate(first) && private(req.Context(), req.URL.Hostname()) {
		return refuse("from a public address to %s", req.URL.Hostname())
	}
	return nil
}

// private says whether a name stands for an address of this machine or of a
// private network. What cannot be resolved is not told apart.
func private(ctx context.Context, host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return reserved(a)
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return false
	}
	for _, a := range found {
		if reserved(a) {
			return true
		}
	}
	return false
}

var (
	// special are networks that lead nowhere in public (RFC 6890 and its
	// registries), beside those that netip knows.
	special = []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
		netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("64:ff9b:1::/48"),
		netip.MustParsePrefix("fec0::/10"),
	}
	// An IPv4 address is within those of these, from a byte on.
	within = []struct {
		prefix netip.Prefix
		from   int
	}{
		{netip.MustParsePrefix("64:ff9b::/96"), 12}, // RFC 6052
		{netip.MustParsePrefix("::/96"), 12},        // RFC 4291, 2.5.5.1
		{netip.MustParsePrefix("2002::/16"), 2},     // RFC 3056
	}
)

// reserved says that an address is none of the public network.
func reserved(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if a.IsLoopback() || a.IsUnspecified() {
		return true
	}
	for _, w := range within {
		if w.prefix.Contains(a) {
			b := a.As16()
			a = netip.AddrFrom4([4]byte(b[w.from : w.from+4]))
			break
		}
	}
	return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsUnspecified() || a.IsMulticast() ||
		slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) })
}

// ErrCredentials says that a file of credentials cannot be read as one.
var ErrCredentials = errors.New("credentials")
