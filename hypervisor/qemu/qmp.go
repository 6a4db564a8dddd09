package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// monitor speaks QMP, QEMU's own protocol, over a connected socket.
type monitor struct {
	conn   io.ReadWriteCloser
	events func(event)

	mu      sync.Mutex
	next    int
	waiting map[int]chan reply
	err     error
	closed  chan struct{}
	greeted chan struct{}
	version qemuVersion
}

type event struct {
	Name string          `json:"event"`
	Data json.RawMessage `json:"data"`
}

type reply struct {
	Return json.RawMessage
	Error  *qmpError
}

type qmpError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

type qemuVersion struct {
	Major int `json:"major"`
	Minor int `json:"minor"`
	Micro int `json:"micro"`
}

func (v qemuVersion) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Micro) }

// maxMessage bounds one line of the monitor; the list of all CPU models is the
// longest, below 1 MiB.
const maxMessage = 16 << 20

var errMonitorClosed = errors.New("QEMU closed its monitor")

// newMonitor begins to read; events are told in order, from one goroutine.
func newMonitor(conn io.ReadWriteCloser, events func(event)) *monitor {
	m := &monitor{conn: conn, events: events, waiting: map[int]chan reply{}, closed: make(chan struct{}), greeted: make(chan struct{})}
	go m.read()
	return m
}

func (m *monitor) read() {
	lines := bufio.NewScanner(m.conn)
	lines.Buffer(nil, maxMessage)
	for lines.Scan() {
		var msg struct {
			Greeting *struct {
				Version struct {
					QEMU qemuVersion `json:"qemu"`
				} `json:"version"`
			} `json:"QMP"`
			event
			Return json.RawMessage `json:"return"`
			Error  *qmpError       `json:"error"`
			ID     *int            `json:"id"`
		}
		if json.Unmarshal(lines.Bytes(), &msg) != nil {
			continue
		}
		switch {
		case msg.Greeting != nil:
			m.mu.Lock()
			m.version = msg.Greeting.Version.QEMU
			m.mu.Unlock()
			select {
			case <-m.greeted:
			default:
				close(m.greeted)
			}
		case msg.Name != "":
			if m.events != nil {
				m.events(msg.event)
			}
		case msg.ID != nil:
			m.mu.Lock()
			ch := m.waiting[*msg.ID]
			delete(m.waiting, *msg.ID)
			m.mu.Unlock()
			if ch != nil {
				ch <- reply{Return: msg.Return, Error: msg.Error}
			}
		}
	}
	m.mu.Lock()
	m.err = errMonitorClosed
	m.mu.Unlock()
	close(m.closed)
}

// failed is why nothing more will be heard, nil while something may.
func (m *monitor) failed() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// handshake waits for the greeting and leaves the negotiation mode.
func (m *monitor) handshake(ctx context.Context) error {
	select {
	case <-m.greeted:
	case <-m.closed:
		return errMonitorClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	return m.do(ctx, "qmp_capabilities", nil, nil)
}

// do carries out a command; result, where not nil, gets what it returns.
func (m *monitor) do(ctx context.Context, command string, arguments, result any) error {
	ch := make(chan reply, 1)
	m.mu.Lock()
	m.next++
	id := m.next
	m.waiting[id] = ch
	line, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        int    `json:"id"`
	}{command, arguments, id})
	if err == nil {
		_, err = m.conn.Write(append(line, '\n'))
	}
	m.mu.Unlock()
	if err != nil {
		return fmt.Errorf("QEMU monitor, %s: %w", command, err)
	}
	select {
	case r := <-ch:
		if r.Error != nil {
			return fmt.Errorf("QEMU monitor, %s: %s", command, r.Error.Desc)
		}
		if result != nil {
			return json.Unmarshal(r.Return, result)
		}
		return nil
	case <-m.closed:
		return fmt.Errorf("QEMU monitor, %s: %w", command, errMonitorClosed)
	case <-ctx.Done():
		return ctx.Err()
	}
}
