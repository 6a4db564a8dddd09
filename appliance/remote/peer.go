package remote

import (
	"context"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"sync"
	"syscall"
)

// Names are resolved by whoever owns them, and may lead elsewhere each time. What
// counts is where a connection was made.

// peer is where the first request of some, each redirected to the next, was
// answered.
type peer struct {
	mu   sync.Mutex
	addr netip.Addr // not valid before there is a connection
}

type peerKey struct{}

// withPeer has the peer of a request noted in its context.
func withPeer(ctx context.Context) context.Context {
	p := &peer{}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.addr = address(info.Conn)
	}})
	return context.WithValue(ctx, peerKey{}, p)
}

// address is a connection's far end; not valid where that is no address.
func address(c net.Conn) netip.Addr {
	a, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr()
}

// refusePrivate is a dialer's control that makes no connections but public ones:
// it is asked with the address itself. The error says why, and the address.
func refusePrivate(why string) func(network, address string, c syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		if a, err := netip.ParseAddrPort(address); err != nil || reserved(a.Addr()) {
			return &RedirectError{why + address}
		}
		return nil
	}
}

// fromPrivate says whether a request was answered by this machine or in a private
// network, which may send on to others there. Behind a proxy only the name tells.
func fromPrivate(first *http.Request) bool {
	if proxy, err := http.ProxyFromEnvironment(first); err == nil && proxy == nil {
		if p, ok := first.Context().Value(peerKey{}).(*peer); ok {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.addr.IsValid() {
				return reserved(p.addr)
			}
		}
	}
	return private(first.Context(), first.URL.Hostname())
}

// maxNames bounds how many names are remembered.
const maxNames = 1024

// dialer connects, and remembers which names were public addresses': such a name
// does not become one of this machine's or of a private network.
type dialer struct {
	net.Dialer
	mu     sync.Mutex
	public map[string]bool
}

// DialContext is the net.Dialer's.
func (d *dialer) DialContext(ctx context.Context, network, to string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(to)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return d.Dialer.DialContext(ctx, network, to)
	}
	one := d.Dialer
	d.mu.Lock()
	known := d.public[host]
	d.mu.Unlock()
	if known {
		one.Control = refusePrivate(host + ", which was at a public address before, is said to be at ")
	}
	c, err := one.DialContext(ctx, network, to)
	if err != nil {
		return nil, err
	}
	if a := address(c); a.IsValid() && !reserved(a) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if len(d.public) < maxNames {
			d.public[host] = true
		}
	}
	return c, nil
}
