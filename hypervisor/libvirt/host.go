// Package libvirt keeps machines on a host that runs libvirt: on this machine,
// or on another one over SSH, TLS or TCP. It speaks libvirt's own protocol and
// needs none of its libraries here.
//
// A machine becomes a domain that other programs see and manage as any other:
// virsh, virt-manager, Cockpit. What this program has to know of it later is in
// the domain's metadata.
package libvirt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/ovation-project/ovation/hypervisor"
)

const driverName = "libvirt"

// MinVersion is the oldest libvirt that will do: the first that sends sparse
// streams and chooses firmware itself.
const MinVersion = "5.2.0"

const minVersion = 5_002_000

// Options say how a host is used.
type Options struct {
	// Accel is auto, kvm or tcg; "" is auto: KVM where the host says that it
	// has it.
	Accel string
	// Log gets what is done; nil is nowhere.
	Log *slog.Logger
}

// Host is a libvirt host.
type Host struct {
	target *target
	opt    Options
	log    *slog.Logger

	mu     sync.Mutex
	now    *connection
	closed bool

	defining sync.Mutex
}

var (
	_ hypervisor.Host     = (*Host)(nil)
	_ hypervisor.Recorder = (*Host)(nil)
	_ hypervisor.Checker  = (*Host)(nil)
)

// connection is one that is up.
type connection struct {
	*golibvirt.Libvirt
	packets *splitter
	version uint64 // libvirt's own, 9000000 for 9.0.0

	learning sync.Mutex
	learned  map[string]*facts // by QEMU's name of the architecture
}

// Open connects to the host that a libvirt connection URI names, as libvirt
// spells them: qemu:///system, qemu:///session, qemu+ssh://user@host/system,
// qemu+tls://host/system, xen:///system, with the parameters that libvirt
// knows. A URI that can't be one is another error than a host that can't be
// reached, which is ErrUnavailable.
//
// A connection that is lost later is made anew when it is needed.
func Open(ctx context.Context, uri string, opt Options) (*Host, error) {
	t, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	switch opt.Accel {
	case "", "auto", "kvm", "tcg":
	default:
		return nil, fmt.Errorf("acceleration is auto, kvm or tcg, not %q", opt.Accel)
	}
	h := &Host{target: t, opt: opt, log: opt.Log}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if _, err := h.connect(ctx); err != nil {
		return nil, err
	}
	return h, nil
}

// URI is the host's, without what is secret or only about how to get there.
func (h *Host) URI() string { return h.target.String() }

// Close ends the connection.
func (h *Host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	if h.now != nil {
		_ = h.now.packets.Close()
		h.now = nil
	}
	return nil
}

// dialed is a connection that is there already, as the library wants it.
type dialed struct{ net.Conn }

func (d dialed) Dial() (net.Conn, error) { return d.Conn, nil }

// connect gives the connection, which it makes where there is none.
func (h *Host) connect(ctx context.Context) (*connection, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errClosed
	}
	if h.now != nil {
		select {
		case <-h.now.packets.done:
			h.log.DebugContext(ctx, "the connection to libvirt was lost", "uri", h.target, "error", h.now.packets.err)
			h.now = nil
		default:
			return h.now, nil
		}
	}
	conn, err := h.target.dial(ctx, h.log)
	if err != nil {
		return nil, err
	}
	c := &connection{packets: newSplitter(conn)}
	c.Libvirt = golibvirt.NewWithDialer(dialed{c.packets})
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	err = within(ctx, func() error {
		if err := c.ConnectToURI(golibvirt.ConnectURI(h.target.name)); err != nil {
			return err
		}
		var err error
		c.version, err = c.ConnectGetLibVersion()
		return err
	})
	if err == nil && c.version < minVersion {
		err = fmt.Errorf("libvirt there is %s, and %s is the oldest that will do", versionText(c.version), MinVersion)
	}
	if err != nil {
		// What the connection itself said is nearer to the cause.
		select {
		case <-c.packets.done:
			err = c.packets.err
		default:
		}
		_ = c.packets.Close()
		var remote golibvirt.Error
		if errors.As(err, &remote) && authFailed(remote) {
			err = fmt.Errorf("%w; libvirt's SASL passwords are not spoken here: use qemu+ssh://, or TLS with a certificate of yours", err)
		}
		return nil, fmt.Errorf("%w: %s: %w", hypervisor.ErrUnavailable, h.target, err)
	}
	h.log.DebugContext(ctx, "connected to libvirt", "uri", h.target, "version", versionText(c.version))
	h.now = c
	return c, nil
}

func authFailed(e golibvirt.Error) bool {
	switch golibvirt.ErrorNumber(e.Code) {
	case golibvirt.ErrAuthFailed, golibvirt.ErrAuthUnavailable, golibvirt.ErrAuthCancelled:
		return true
	}
	return false
}

func versionText(v uint64) string {
	return fmt.Sprintf("%d.%d.%d", v/1_000_000, v/1000%1000, v%1000)
}

// within does what knows no context, and returns with the context's error when
// that ends first; it then goes on where nobody waits for it.
func within(ctx context.Context, do func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// call does something with the connection.
func (h *Host) call(ctx context.Context, do func(*connection) error) error {
	_, err := ask(ctx, h, func(c *connection) (struct{}, error) { return struct{}{}, do(c) })
	return err
}

// ask is call with an answer.
func ask[T any](ctx context.Context, h *Host, do func(*connection) (T, error)) (T, error) {
	var zero T
	c, err := h.connect(ctx)
	if err != nil {
		return zero, err
	}
	type answer struct {
		value T
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		v, err := do(c)
		done <- answer{v, err}
	}()
	select {
	case a := <-done:
		return a.value, known(a.err)
	case <-ctx.Done():
		return zero, ctx.Err()
	}
}

// is says whether an error is libvirt's of one of the numbers.
func is(err error, numbers ...golibvirt.ErrorNumber) bool {
	var e golibvirt.Error
	if errors.As(err, &e) {
		for _, n := range numbers {
			if e.Code == uint32(n) {
				return true
			}
		}
	}
	return false
}

// known makes callers find the errors that they act on.
func known(err error) error {
	switch {
	case err == nil, errors.Is(err, hypervisor.ErrNotFound), errors.Is(err, hypervisor.ErrExists):
		return err
	case is(err, golibvirt.ErrNoDomain, golibvirt.ErrNoStoragePool, golibvirt.ErrNoStorageVol, golibvirt.ErrNoNetwork):
		return fmt.Errorf("%w: %w", hypervisor.ErrNotFound, err)
	case is(err, golibvirt.ErrStorageVolExist, golibvirt.ErrDomExist):
		return fmt.Errorf("%w: %w", hypervisor.ErrExists, err)
	case errors.Is(err, golibvirt.ErrInterrupted):
		return fmt.Errorf("%w: the connection to libvirt was lost", hypervisor.ErrUnavailable)
	}
	return err
}

// architecture is libvirt's name of one of QEMU's.
func architecture(qemu string) string {
	if qemu == "i386" {
		return "i686"
	}
	return cmp.Or(qemu, "x86_64")
}

// architectureOf is QEMU's name of one of libvirt's.
func architectureOf(libvirt string) string {
	if libvirt == "i686" {
		return "i386"
	}
	return libvirt
}
