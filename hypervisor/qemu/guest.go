package qemu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/workdir"
)

// varsFile is the name of a machine's copy of the UEFI's variables.
const varsFile = "nvram.fd"

const (
	// A guest that restarts so often in so short a time gets nowhere.
	maxResets   = 5
	resetWindow = time.Minute
	// quitLimit is for QEMU to close its images before it is killed.
	quitLimit = 10 * time.Second
)

// guest is one machine and the QEMU that runs it.
type guest struct {
	driver  *Driver
	host    *host
	machine hypervisor.Machine
	spec    Host
	dir     string       // for what the machine needs beside its media
	work    *workdir.Dir // nil where the caller gave the folder
	console *console
	ended   chan struct{}

	mu      sync.Mutex // guards what follows
	proc    *process
	tpm     *softTPM // nil where there is none
	exit    hypervisor.Exit
	said    hypervisor.Exit // what the events said so far
	asked   bool            // we asked it to end
	resets  []time.Time
	removed bool
}

var _ hypervisor.Guest = (*guest)(nil)

// prepare makes what the machine needs beside its media.
func (g *guest) prepare() error {
	if err := missing(g.machine); err != nil {
		return err
	}
	if g.dir = g.driver.opt.Dir; g.dir == "" && (g.spec.Firmware != nil || g.machine.TPM != nil) {
		work, _, err := workdir.New("")
		if err != nil {
			return err
		}
		g.work, g.dir = work, work.Path()
	}
	if g.spec.Firmware != nil {
		g.spec.NVRAM = filepath.Join(g.dir, varsFile)
		if err := copyVars(g.spec.Firmware, g.machine.Firmware.NVRAM, g.spec.NVRAM); err != nil {
			return err
		}
	}
	if len(g.machine.Serials) > 0 {
		ours, theirs, err := socketPair("console")
		if err != nil {
			return err
		}
		g.console = &console{Conn: ours, theirs: theirs}
	}
	return nil
}

// console is our end of the guest's first serial port.
type console struct {
	net.Conn
	theirs *os.File // QEMU's end, until it has it
}

// Read gives io.EOF when QEMU is gone, also where it had not taken all that
// was written to it.
func (c *console) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, net.ErrClosed) {
		err = io.EOF
	}
	return n, err
}

// Console is the first serial port.
func (g *guest) Console() (io.ReadWriteCloser, error) {
	if g.console == nil {
		return nil, fmt.Errorf("%s has no serial port", g.machine.ID)
	}
	return g.console, nil
}

// Start starts QEMU, and the guest when all is in place.
func (g *guest) Start(ctx context.Context) error {
	g.mu.Lock()
	if g.proc != nil || g.removed {
		g.mu.Unlock()
		return fmt.Errorf("%s was started before", g.machine.ID)
	}
	g.mu.Unlock()
	p, err := g.launch(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", g.machine.ID, err)
	}
	g.mu.Lock()
	if g.removed {
		g.mu.Unlock()
		p.kill()
		return fmt.Errorf("%s was removed while it started", g.machine.ID)
	}
	g.proc = p
	g.mu.Unlock()
	if g.console != nil {
		g.console.theirs.Close()
	}
	go g.supervise(p)
	for i, n := range g.machine.NICs {
		if n.Disconnected {
			err = errors.Join(err, p.monitor.do(ctx, "set_link", map[string]any{"name": fmt.Sprintf("nic%d", i), "up": false}, nil))
		}
	}
	if err == nil {
		err = p.monitor.do(ctx, "cont", nil, nil)
	}
	if err != nil {
		p.kill()
		return fmt.Errorf("%s: %w", g.machine.ID, err)
	}
	return nil
}

// launch starts QEMU with the first acceleration that works: what KVM can do
// is known for sure only then.
func (g *guest) launch(ctx context.Context) (*process, error) {
	for i, accel := range g.host.accels {
		p, err := g.launchWith(ctx, accel)
		if err == nil {
			return p, nil
		}
		if ctx.Err() != nil || i+1 == len(g.host.accels) {
			return nil, err
		}
		g.driver.log.WarnContext(ctx, "trying without hardware acceleration", "machine", g.machine.ID, "acceleration", accel, "error", err)
	}
	return nil, errors.New("no way to run instructions")
}

// launchWith starts QEMU with one acceleration.
func (g *guest) launchWith(ctx context.Context, accel string) (p *process, err error) {
	spec := g.spec
	spec.Accel, spec.FirmwareFD = accel, firmwareFD
	args, err := Args(g.machine, spec)
	if err != nil {
		return nil, err
	}
	files := make([]*os.File, networkFD-consoleFD)
	if g.console != nil {
		files[0] = g.console.theirs // consoleFD
	}
	ours, theirs, err := socketPair("firmware")
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	files[firmwareFD-consoleFD] = theirs
	var t *softTPM
	if spec.TPMFD != 0 {
		if t, files[tpmFD-consoleFD], err = startTPM(g.dir, g.machine.TPM); err != nil {
			return nil, errors.Join(err, ours.Close())
		}
		defer files[tpmFD-consoleFD].Close()
	}
	cables, err := g.driver.opt.Segments.cables(g.machine, spec.Wires)
	if err != nil {
		t.end()
		return nil, errors.Join(err, ours.Close())
	}
	go g.listen(ours)
	g.driver.log.DebugContext(ctx, "starting QEMU", "machine", g.machine.ID, "program", g.host.binary, "args", args)
	p, err = launch(ctx, g.host.binary, args, append(files, cables.files...), g.event)
	closed := cables.close(err == nil)
	if err != nil {
		t.end()
		return nil, t.blame(err)
	}
	if closed != nil {
		g.driver.log.WarnContext(ctx, "closing QEMU's ends of its networks", "error", closed)
	}
	g.driver.opt.Segments.plugIn(cables)
	g.mu.Lock()
	g.tpm = t
	g.mu.Unlock()
	return p, nil
}

// listen reads what the firmware says, for the one message that matters.
func (g *guest) listen(firmware net.Conn) {
	defer firmware.Close()
	const nothing = "No bootable device."
	var last []byte
	b := make([]byte, 4096)
	for {
		n, err := firmware.Read(b)
		last = append(last, b[:n]...)
		if bytes.Contains(last, []byte(nothing)) {
			g.fail(hypervisor.Exit{Reason: hypervisor.NothingToBoot, Detail: "the BIOS tried every disk that is to boot; is it an appliance for UEFI?"})
			last = nil
		}
		last = bytes.Clone(last[max(0, len(last)-len(nothing)):])
		if err != nil {
			return
		}
	}
}

// fail ends the guest for a reason that is not its own will. It does not wait.
func (g *guest) fail(e hypervisor.Exit) {
	g.mu.Lock()
	if g.said.Reason == "" {
		g.said = e
	}
	p := g.proc
	g.mu.Unlock()
	if p != nil {
		go p.quit()
	}
}

// event hears what QEMU tells, in order.
func (g *guest) event(e event) {
	var data struct {
		Guest  bool   `json:"guest"`
		Reason string `json:"reason"`
		Action string `json:"action"`
		Node   string `json:"node-name"`
		Full   bool   `json:"nospace"`
	}
	_ = json.Unmarshal(e.Data, &data)
	switch e.Name {
	case "SHUTDOWN":
		g.mu.Lock()
		if g.said.Reason == "" {
			switch {
			case data.Reason == "guest-panic":
				g.said.Reason = hypervisor.GuestCrashed
			case data.Guest:
				g.said.Reason = hypervisor.GuestShutdown
			}
		}
		g.mu.Unlock()
	case "RESET":
		if !data.Guest {
			return
		}
		g.mu.Lock()
		now := time.Now()
		g.resets = append(g.resets, now)
		n := len(g.resets)
		loop := n >= maxResets && now.Sub(g.resets[n-maxResets]) < resetWindow
		g.mu.Unlock()
		if loop {
			g.fail(hypervisor.Exit{Reason: hypervisor.ResetLoop, Detail: fmt.Sprintf("%d times within %v", maxResets, resetWindow)})
		}
	case "STOP":
		go g.stopped()
	case "BLOCK_IO_ERROR":
		if data.Action == "stop" {
			detail := "an image on the host can't be read or written: " + data.Reason
			if data.Full {
				detail = "no space is left on the host for what the guest writes to its disks"
			}
			g.fail(hypervisor.Exit{Reason: hypervisor.HostFailed, Detail: detail})
		}
	}
}

// stopped sees why QEMU holds the guest: nobody here asks it to.
func (g *guest) stopped() {
	p, ok := g.running()
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), quitLimit)
	defer cancel()
	var status struct {
		Status string `json:"status"`
	}
	if p.monitor.do(ctx, "query-status", nil, &status) == nil && status.Status == "internal-error" {
		g.fail(hypervisor.Exit{Reason: hypervisor.HostFailed,
			Detail: "the virtual processor stopped at what it can't do; software emulation (tcg) may do"})
	}
}

// supervise settles how the guest ended.
func (g *guest) supervise(p *process) {
	<-p.done
	<-p.monitor.closed // every event has been heard
	p.monitor.conn.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tpm.end()
	g.exit = g.said
	g.exit.Resets = len(g.resets)
	switch {
	case g.asked && (g.exit.Reason == "" || g.exit.Reason == hypervisor.GuestShutdown):
		g.exit.Reason = hypervisor.HostShutdown
	case g.exit.Reason == "":
		g.exit.Reason, g.exit.Detail = hypervisor.HostFailed, strings.TrimPrefix(p.failure(errors.New("it ended without a word")).Error(), "QEMU failed: ")
	}
	g.driver.log.Debug("QEMU ended", "machine", g.machine.ID, "reason", g.exit.Reason, "detail", g.exit.Detail)
	close(g.ended)
}

// running gives the process where there is one that has not ended.
func (g *guest) running() (*process, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.proc == nil {
		return nil, false
	}
	select {
	case <-g.proc.done:
		return nil, false
	default:
		return g.proc, true
	}
}

// State asks QEMU.
func (g *guest) State(ctx context.Context) (hypervisor.State, error) {
	p, ok := g.running()
	if !ok {
		return hypervisor.PoweredOff, nil
	}
	var status struct {
		Running bool `json:"running"`
	}
	if err := p.monitor.do(ctx, "query-status", nil, &status); err != nil {
		if errors.Is(err, errMonitorClosed) {
			return hypervisor.PoweredOff, nil
		}
		return "", fmt.Errorf("%s: %w", g.machine.ID, err)
	}
	if status.Running {
		return hypervisor.Running, nil
	}
	return hypervisor.Paused, nil
}

// Wait waits for the guest's end.
func (g *guest) Wait(ctx context.Context) (hypervisor.Exit, error) {
	g.mu.Lock()
	started := g.proc != nil
	g.mu.Unlock()
	if !started {
		return hypervisor.Exit{}, fmt.Errorf("%s: %w", g.machine.ID, hypervisor.ErrNotRunning)
	}
	select {
	case <-g.ended:
	case <-ctx.Done():
		return hypervisor.Exit{}, ctx.Err()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.exit, nil
}

// Shutdown presses the power button.
func (g *guest) Shutdown(ctx context.Context) error {
	p, ok := g.running()
	if !ok {
		return fmt.Errorf("%s: %w", g.machine.ID, hypervisor.ErrNotRunning)
	}
	g.mu.Lock()
	g.asked = true
	g.mu.Unlock()
	return p.monitor.do(ctx, "system_powerdown", nil, nil)
}

// Kill ends QEMU, which closes its images first if it still can.
func (g *guest) Kill(context.Context) error {
	p, ok := g.running()
	if !ok {
		return nil
	}
	g.mu.Lock()
	g.asked = true
	g.mu.Unlock()
	p.quit()
	<-g.ended
	return nil
}

// Remove ends the guest and takes away what was made for it.
func (g *guest) Remove(ctx context.Context) error {
	g.mu.Lock()
	if g.removed {
		g.mu.Unlock()
		return nil
	}
	g.removed = true
	g.mu.Unlock()
	err := g.Kill(ctx)
	if g.console != nil {
		g.console.theirs.Close()
		g.console.Close()
	}
	if g.work != nil {
		return errors.Join(err, g.work.Remove())
	}
	if g.machine.TPM != nil && g.dir != "" && !g.driver.opt.Keep {
		err = errors.Join(err, os.RemoveAll(filepath.Join(g.dir, tpmFolder)))
	}
	if g.spec.NVRAM != "" && !g.driver.opt.Keep {
		if rm := os.Remove(g.spec.NVRAM); !errors.Is(rm, os.ErrNotExist) {
			err = errors.Join(err, rm)
		}
	}
	return err
}
