package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ovation-project/ovation/deploy/sequence"
	"github.com/ovation-project/ovation/hypervisor"
)

// ParseProbe reads how a guest is asked, as people write it: agent, or the
// address and port that it is reachable at when it is ready (192.0.2.7:443,
// [2001:db8::1]:22, db.example.org:5432); and behind a comma the longest to wait,
// such as 10m.
func ParseProbe(text string) (Probe, error) {
	var p Probe
	at, limit, limited := strings.Cut(text, ",")
	if limited {
		d, err := time.ParseDuration(limit)
		if err != nil || d < time.Second || d > maxLimit {
			return p, fmt.Errorf("%q is not how long to wait, such as 10m", limit)
		}
		p.LimitSeconds = int(d / time.Second)
	}
	if at == "agent" {
		return p, nil
	}
	host, port, err := net.SplitHostPort(at)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || host == "" || n == 0 {
		return p, fmt.Errorf("%q is neither agent nor an address and a port, such as 192.0.2.7:443", at)
	}
	p.TCP = at
	return p, nil
}

// maxLimit is the longest that anybody waits for a guest.
const maxLimit = 7 * 24 * time.Hour

// asks says whether anybody can tell when the machine's guest is ready.
func (m *Machine) asks() bool {
	_, agent := m.Guest.(hypervisor.Agent)
	return agent || m.Data.Start.Ready.TCP != ""
}

// ready asks a guest whether it is ready, once.
func ready(ctx context.Context, m *Machine) error {
	state, err := m.State(ctx)
	if err != nil {
		return err
	}
	if state == hypervisor.PoweredOff {
		return fmt.Errorf("%w before it was ready", sequence.ErrEnded)
	}
	if at := m.Data.Start.Ready.TCP; at != "" {
		return reachable(ctx, at)
	}
	agent, ok := m.Guest.(hypervisor.Agent)
	if !ok {
		return errors.New("the host can't ask guests")
	}
	return agent.Ping(ctx)
}

// How long a port may take to be reached, and how long a connection must hold
// to be one to the guest: what forwards ports takes connections before it knows
// whether anybody answers.
const (
	dialLimit = 5 * time.Second
	settle    = 300 * time.Millisecond
)

func reachable(ctx context.Context, at string) error {
	d := net.Dialer{Timeout: dialLimit}
	c, err := d.DialContext(ctx, "tcp", at)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(settle)); err != nil {
		return err
	}
	n, err := c.Read(make([]byte, 1))
	if n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("the connection was closed at once")
	}
	return fmt.Errorf("%s: %w", at, err)
}
