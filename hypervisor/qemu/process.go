package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

// The files that QEMU inherits, by their numbers there.
const (
	monitorFD  = 3
	consoleFD  = 4
	firmwareFD = 5
	tpmFD      = 6
	// Those of the network cards come last.
	networkFD = 7
)

// process is one running QEMU with its monitor.
type process struct {
	cmd     *exec.Cmd
	monitor *monitor
	said    *tail
	// done is closed when the process has ended; err is how.
	done chan struct{}
	err  error
}

// handshakeLimit is for QEMU to start and answer, on a host that is busy.
const handshakeLimit = 60 * time.Second

// launch starts QEMU and waits until it answers. files are what it inherits
// beside the monitor's socket; one may be nil.
func launch(ctx context.Context, binary string, args []string, files []*os.File, events func(event)) (*process, error) {
	conn, theirs, err := socketPair("monitor")
	if err != nil {
		return nil, err
	}
	p := &process{said: &tail{max: 8 << 10}, done: make(chan struct{})}
	p.cmd = exec.Command(binary, args...)
	p.cmd.ExtraFiles = append([]*os.File{theirs}, files...)
	p.cmd.Stdout, p.cmd.Stderr = p.said, p.said
	p.cmd.SysProcAttr = childAttr()
	// The process ends with the thread that started it: that one waits.
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			close(p.done)
		}
	}()
	err = <-started
	theirs.Close()
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("starting QEMU: %w", err)
	}
	p.monitor = newMonitor(conn, events)
	limited, cancel := context.WithTimeout(ctx, handshakeLimit)
	defer cancel()
	err = p.monitor.handshake(limited)
	if err == nil {
		return p, nil
	}
	if errors.Is(err, errMonitorClosed) {
		// It is about to end by itself, and says why on stderr.
		select {
		case <-p.done:
		case <-limited.Done():
		}
	}
	p.kill()
	p.monitor.conn.Close()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, p.failure(err)
}

// kill ends the process and waits until it has.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// quit asks QEMU to close its images and end, and kills it where it does not.
func (p *process) quit() {
	ctx, cancel := context.WithTimeout(context.Background(), quitLimit)
	defer cancel()
	if p.monitor.do(ctx, "quit", nil, nil) == nil || errors.Is(p.monitor.failed(), errMonitorClosed) {
		select {
		case <-p.done:
			return
		case <-ctx.Done():
		}
	}
	p.kill()
}

// failure says how QEMU failed, in its own words where it had any.
func (p *process) failure(err error) error {
	if said := p.said.lastLines(); said != "" {
		return fmt.Errorf("QEMU failed: %s", said)
	}
	if p.err != nil {
		err = p.err
	}
	return fmt.Errorf("QEMU failed: %w", err)
}

// tail keeps the last bytes of what is written to it.
type tail struct {
	mu   sync.Mutex
	max  int
	text []byte
}

// Write keeps what there is room for.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if over := len(t.text) - t.max; over > 0 {
		t.text = bytes.Clone(t.text[over:])
	}
	return len(b), nil
}

func (t *tail) lastLines() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.text)), "\n")
	return strings.Join(lines[max(0, len(lines)-4):], "; ")
}
