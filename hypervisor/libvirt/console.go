package libvirt

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/ovation-project/ovation/hypervisor"
)

// Console is the first serial port.
func (g *guest) Console() (io.ReadWriteCloser, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialLimit)
	defer cancel()
	k := &console{g: g, opened: make(chan struct{}), ended: make(chan struct{})}
	state, err := g.State(ctx)
	if err != nil {
		return nil, err
	}
	if state != hypervisor.PoweredOff {
		err := g.h.call(ctx, func(c *connection) error { return k.open(context.Background(), c, g.dom) })
		if err != nil {
			return nil, g.fail("console", err)
		}
	}
	g.mu.Lock()
	g.console = k
	g.mu.Unlock()
	return k, nil
}

// consoleRoom is what a guest may say that nobody reads, before the console is
// given up: other calls share the connection, and must not wait for it.
const consoleRoom = 64 << 20

// console is a stream that may not be open yet.
type console struct {
	g      *guest
	opened chan struct{}
	ended  chan struct{}

	mu   sync.Mutex
	st   *stream
	done bool
	rest []byte
}

// waits says that it is to be opened at the start.
func (k *console) waits() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.st == nil && !k.done
}

func (k *console) open(ctx context.Context, c *connection, dom golibvirt.Domain) error {
	const force = 1 // VIR_DOMAIN_CONSOLE_FORCE: who asked last has it
	st, err := c.packets.open(ctx, procDomainOpenConsole, consoleArgs(dom, force), consoleRoom)
	if err != nil {
		return known(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.done {
		st.abandon()
		return nil
	}
	k.st = st
	close(k.opened)
	return nil
}

// stream waits for the start.
func (k *console) stream() (*stream, error) {
	select {
	case <-k.opened:
	case <-k.ended:
		return nil, os.ErrClosed
	}
	select {
	case <-k.ended:
		return nil, os.ErrClosed
	default:
		return k.st, nil
	}
}

func (k *console) Read(b []byte) (int, error) {
	st, err := k.stream()
	if err != nil {
		return 0, err
	}
	if len(k.rest) == 0 {
		p, err := st.next(context.Background())
		if err != nil {
			return 0, k.why(err)
		}
		k.rest = p.data
	}
	n := copy(b, k.rest)
	k.rest = k.rest[n:]
	return n, nil
}

// why says how the console ended: with the guest is no error.
func (k *console) why(err error) error {
	select {
	case <-k.ended:
		return os.ErrClosed
	default:
	}
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	var remote golibvirt.Error
	if errors.As(err, &remote) {
		ctx, cancel := context.WithTimeout(context.Background(), dialLimit)
		defer cancel()
		// libvirt ends the stream before it has seen the guest's end.
		for range 20 {
			state, stateErr := k.g.State(ctx)
			if state == hypervisor.PoweredOff || errors.Is(stateErr, hypervisor.ErrNotFound) {
				return io.EOF
			}
			time.Sleep(pollPause / 2)
		}
	}
	return k.g.fail("console", err)
}

func (k *console) Write(b []byte) (int, error) {
	st, err := k.stream()
	if err != nil {
		return 0, err
	}
	return st.write(b)
}

func (k *console) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.done {
		return nil
	}
	k.done = true
	close(k.ended)
	if k.st != nil {
		// So that the next one finds it free.
		ctx, cancel := context.WithTimeout(context.Background(), abortLimit)
		defer cancel()
		k.st.abort(ctx)
	}
	return nil
}
