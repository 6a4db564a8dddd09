package drivertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/ovation-project/ovation/hypervisor"
)

// Memory is a hypervisor.Host that keeps everything in memory and runs
// nothing: a machine that is started is running until somebody ends it. It is
// for the tests of those who deploy to hosts. The zero value has no pool and
// no network; NewMemory gives it one of each. The fields are set before it is
// used.
type Memory struct {
	// Name is the URI, "memory:" where it is "".
	Name string
	// Gives is what Capabilities answers; nil is everything there is.
	Gives       *hypervisor.Capabilities
	PoolList    []hypervisor.Pool
	NetworkList []hypervisor.Network
	// Dir is where the volumes of pools that are Local lie, in a folder for
	// each pool.
	Dir string
	// Fault, where set, is asked before and after each change, and with the
	// host locked: it must not call the host. An error before keeps the change
	// from being made; one after is what the caller gets, as if it had died
	// when the change was just made. So that a test can end a deployment at
	// every step.
	Fault func(change string, made bool) error
	// Answers says whether a running guest's agent answers; nil is yes.
	Answers func(machine string) bool
	// Says is what a machine's console says when it is started.
	Says func(m hypervisor.Machine) string

	mu       sync.Mutex
	volumes  map[hypervisor.VolumeRef]*memoryVolume
	machines map[string]*memoryMachine
	changes  []string
}

var (
	_ hypervisor.Host     = (*Memory)(nil)
	_ hypervisor.Recorder = (*Memory)(nil)
	_ hypervisor.Checker  = (*Memory)(nil)
	_ hypervisor.Agent    = (*memoryGuest)(nil)
	_ hypervisor.Exporter = (*Memory)(nil)
)

// NewMemory makes a host with a pool that takes uploads, called default, and a
// network of the same name.
func NewMemory() *Memory {
	return &Memory{
		PoolList:    []hypervisor.Pool{{Name: "default", AvailableBytes: 1 << 40, CapacityBytes: 1 << 40, Formats: []string{"qcow2", "raw"}}},
		NetworkList: []hypervisor.Network{{Name: "default", Kind: "network", Active: true}},
	}
}

type memoryVolume struct {
	spec hypervisor.VolumeSpec
	path string
	data []byte // where path is ""
}

type memoryMachine struct {
	machine hypervisor.Machine
	record  hypervisor.Record
	state   hypervisor.State
	ended   chan struct{} // of the last start; nil before the first
	exit    hypervisor.Exit
	console *memoryConsole
}

// Changes names all that was changed since the host was made, in order:
// "create-volume default/disk1", "start web".
func (h *Memory) Changes() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.changes)
}

// Volumes are the volumes that there are, by name.
func (h *Memory) Volumes() []hypervisor.VolumeRef {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.SortedFunc(maps.Keys(h.volumes), func(a, b hypervisor.VolumeRef) int {
		return bytes.Compare([]byte(a.Pool+"/"+a.Name), []byte(b.Pool+"/"+b.Name))
	})
}

// change makes one change, locked, unless Fault or the change itself objects.
func (h *Memory) change(name string, make func() error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.Fault != nil {
		if err := h.Fault(name, false); err != nil {
			return err
		}
	}
	if err := make(); err != nil {
		return err
	}
	h.changes = append(h.changes, name)
	if h.Fault != nil {
		return h.Fault(name, true)
	}
	return nil
}

// URI is Name.
func (h *Memory) URI() string {
	if h.Name == "" {
		return "memory:"
	}
	return h.Name
}

// Close does nothing.
func (h *Memory) Close() error { return nil }

// Capabilities is Gives, or everything.
func (h *Memory) Capabilities(_ context.Context, architecture string) (*hypervisor.Capabilities, error) {
	if h.Gives != nil {
		c := *h.Gives
		return &c, nil
	}
	if architecture == "" {
		architecture = "x86_64"
	}
	both := []hypervisor.Chipset{hypervisor.I440FX, hypervisor.Q35}
	c := &hypervisor.Capabilities{
		Driver: "memory", Version: "1", Architecture: architecture,
		Acceleration: hypervisor.Acceleration{Kind: "kvm"}, MaxCPUs: 255, HostCPUs: 8, MemoryBytes: 64 << 30,
		Chipsets: both,
		Firmware: []hypervisor.FirmwareCapability{{Kind: hypervisor.BIOS, Chipsets: both}, {Kind: hypervisor.UEFI, Chipsets: both},
			{Kind: hypervisor.UEFI, SecureBoot: true, Chipsets: both[1:]}},
		Controllers: map[hypervisor.ControllerModel]hypervisor.Device{},
		NICs:        map[hypervisor.NICModel]hypervisor.Device{},
		Displays:    map[string]hypervisor.Device{}, Sounds: map[string]hypervisor.Device{}, USB: map[string]hypervisor.Device{},
		TPMs: []string{"1.2", "2.0"}, MaxSerials: 4, Formats: []string{"qcow2", "raw"}, Families: []string{"memory"},
	}
	for _, m := range []hypervisor.ControllerModel{hypervisor.IDE, hypervisor.AHCI, hypervisor.LSILogic, hypervisor.LSISAS, hypervisor.PVSCSI,
		hypervisor.VirtIOBlk, hypervisor.VirtIOSCSI, hypervisor.NVMe, hypervisor.Floppy} {
		c.Controllers[m] = hypervisor.Device{Name: string(m)}
	}
	for _, m := range []hypervisor.NICModel{hypervisor.E1000, hypervisor.E1000e, hypervisor.PCnet, hypervisor.VMXNET3, hypervisor.VirtIONet,
		hypervisor.RTL8139, hypervisor.NE2000} {
		c.NICs[m] = hypervisor.Device{Name: string(m)}
	}
	all := func(to map[string]hypervisor.Device, names ...string) {
		for _, n := range names {
			to[n] = hypervisor.Device{Name: n}
		}
	}
	all(c.Displays, "vga", "virtio", "qxl", "vmvga")
	all(c.Sounds, "ac97", "ich6", "ich9", "sb16", "ens1370")
	all(c.USB, "uhci", "ohci", "ehci", "xhci")
	for _, n := range h.NetworkList {
		c.Networks = append(c.Networks, n.Name)
	}
	return c, nil
}

// Pools is PoolList.
func (h *Memory) Pools(context.Context) ([]hypervisor.Pool, error) {
	return slices.Clone(h.PoolList), nil
}

// Networks is NetworkList.
func (h *Memory) Networks(context.Context) ([]hypervisor.Network, error) {
	return slices.Clone(h.NetworkList), nil
}

func (h *Memory) pool(name string) (hypervisor.Pool, error) {
	for _, p := range h.PoolList {
		if p.Name == name {
			return p, nil
		}
	}
	return hypervisor.Pool{}, fmt.Errorf("pool %q: %w", name, hypervisor.ErrNotFound)
}

// CreateVolume makes one.
func (h *Memory) CreateVolume(_ context.Context, v hypervisor.VolumeSpec) (hypervisor.Volume, error) {
	vol := &memoryVolume{spec: v}
	err := h.change("create-volume "+v.Pool+"/"+v.Name, func() error {
		p, err := h.pool(v.Pool)
		if err != nil {
			return err
		}
		if v.Format != "iso" && !slices.Contains(p.Formats, v.Format) {
			return fmt.Errorf("pool %s takes volumes of the formats %v, not %q", p.Name, p.Formats, v.Format)
		}
		if !filepath.IsLocal(v.Name) || v.Name != filepath.Base(v.Name) || v.Name == "." {
			return fmt.Errorf("%q is not the name of a volume", v.Name)
		}
		if h.volumes[v.VolumeRef] != nil {
			return fmt.Errorf("volume %s/%s: %w", v.Pool, v.Name, hypervisor.ErrExists)
		}
		if p.Local && h.Dir != "" {
			vol.path = filepath.Join(h.Dir, p.Name, v.Name)
			if err := os.MkdirAll(filepath.Dir(vol.path), 0o700); err != nil {
				return err
			}
			if err := os.WriteFile(vol.path, nil, 0o600); err != nil {
				return err
			}
		}
		if h.volumes == nil {
			h.volumes = map[hypervisor.VolumeRef]*memoryVolume{}
		}
		h.volumes[v.VolumeRef] = vol
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &memoryVolumeHandle{h, vol}, nil
}

// RemoveVolume removes it.
func (h *Memory) RemoveVolume(_ context.Context, ref hypervisor.VolumeRef) error {
	return h.change("remove-volume "+ref.Pool+"/"+ref.Name, func() error {
		if _, err := h.pool(ref.Pool); err != nil {
			return err
		}
		if v := h.volumes[ref]; v != nil && v.path != "" {
			if err := os.Remove(v.path); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		delete(h.volumes, ref)
		return nil
	})
}

// OpenVolume reads it.
func (h *Memory) OpenVolume(_ context.Context, ref hypervisor.VolumeRef) (hypervisor.VolumeReader, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := h.volumes[ref]
	if v == nil {
		return nil, fmt.Errorf("volume %s/%s: %w", ref.Pool, ref.Name, hypervisor.ErrNotFound)
	}
	data := v.data
	if v.path != "" {
		var err error
		if data, err = os.ReadFile(v.path); err != nil {
			return nil, err
		}
	}
	format := v.spec.Format
	if format == "iso" {
		format = "raw"
	}
	return memoryReader{bytes.NewReader(bytes.Clone(data)), format}, nil
}

type memoryReader struct {
	*bytes.Reader
	format string
}

func (memoryReader) Close() error     { return nil }
func (r memoryReader) Format() string { return r.format }

type memoryVolumeHandle struct {
	h *Memory
	v *memoryVolume
}

func (v *memoryVolumeHandle) Ref() hypervisor.VolumeRef    { return v.v.spec.VolumeRef }
func (v *memoryVolumeHandle) Path() string                 { return v.v.path }
func (v *memoryVolumeHandle) Filled(context.Context) error { return nil }

func (v *memoryVolumeHandle) Upload(context.Context) (hypervisor.VolumeWriter, error) {
	return &memoryWriter{v: v}, nil
}

type memoryWriter struct {
	v    *memoryVolumeHandle
	data []byte
	done bool
}

// room bounds what a test can put into memory, and is the capacity of a raw
// volume as on any host.
func (w *memoryWriter) room(n int64) error {
	limit := int64(1 << 30)
	if w.v.v.spec.Format == "raw" {
		limit = min(limit, w.v.v.spec.CapacityBytes)
	}
	if int64(len(w.data))+n > limit || n < 0 {
		return fmt.Errorf("volume %s: %d bytes do not fit %d", w.v.v.spec.Name, int64(len(w.data))+n, limit)
	}
	return nil
}

func (w *memoryWriter) Write(b []byte) (int, error) {
	if err := w.room(int64(len(b))); err != nil {
		return 0, err
	}
	w.data = append(w.data, b...)
	return len(b), nil
}

func (w *memoryWriter) Skip(n int64) error {
	if err := w.room(n); err != nil {
		return err
	}
	w.data = append(w.data, make([]byte, n)...)
	return nil
}

func (w *memoryWriter) Close() error {
	if w.done {
		return nil
	}
	w.done = true
	spec := w.v.v.spec
	return w.v.h.change("upload "+spec.Pool+"/"+spec.Name, func() error {
		if w.v.h.volumes[spec.VolumeRef] != w.v.v {
			return fmt.Errorf("volume %s/%s: %w", spec.Pool, spec.Name, hypervisor.ErrNotFound)
		}
		if w.v.v.path != "" {
			return os.WriteFile(w.v.v.path, w.data, 0o600)
		}
		w.v.v.data = w.data
		return nil
	})
}

func (w *memoryWriter) Abort() { w.done = true }

// clone makes a copy that shares nothing, by the way that all such data can go.
func clone[T any](v T) T {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("drivertest: %v", err))
	}
	var out T
	if err := json.Unmarshal(text, &out); err != nil {
		panic(fmt.Sprintf("drivertest: %v", err))
	}
	return out
}

// Define keeps the machine.
func (h *Memory) Define(ctx context.Context, m hypervisor.Machine, r hypervisor.Record) (hypervisor.Guest, error) {
	c, err := h.Capabilities(ctx, m.Architecture)
	if err != nil {
		return nil, err
	}
	m, r = clone(m), clone(r)
	err = h.change("define "+m.Name, func() error {
		if m.Name == "" {
			return errors.New("the machine has no name")
		}
		if h.machines[m.Name] != nil {
			return fmt.Errorf("machine %s: %w", m.Name, hypervisor.ErrExists)
		}
		if err := h.unfit(m, c); err != nil {
			return err
		}
		for _, d := range m.Drives {
			if d.Medium != nil && d.Medium.Volume != nil && h.volumes[*d.Medium.Volume] == nil {
				return fmt.Errorf("drive %s: volume %s/%s: %w", d.ID, d.Medium.Volume.Pool, d.Medium.Volume.Name, hypervisor.ErrNotFound)
			}
		}
		if h.machines == nil {
			h.machines = map[string]*memoryMachine{}
		}
		h.machines[m.Name] = &memoryMachine{machine: m, record: r, state: hypervisor.PoweredOff}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &memoryGuest{h, m.Name}, nil
}

// Check says what Define would refuse.
func (h *Memory) Check(ctx context.Context, m hypervisor.Machine) error {
	c, err := h.Capabilities(ctx, m.Architecture)
	if err != nil {
		return err
	}
	return h.unfit(m, c)
}

// unfit gives the reasons that a host could have in general.
func (h *Memory) unfit(m hypervisor.Machine, c *hypervisor.Capabilities) error {
	var reasons []hypervisor.Reason
	refuse := func(subject, text string) {
		reasons = append(reasons, hypervisor.Reason{Machine: m.ID, Subject: subject, Text: text})
	}
	for _, k := range m.Controllers {
		if _, ok := c.Controllers[k.Model]; !ok {
			refuse("controller "+k.ID, fmt.Sprintf("the host has no %s", k.Model))
		}
	}
	for _, n := range m.NICs {
		if _, ok := c.NICs[n.Model]; !ok {
			refuse("network card "+n.ID, fmt.Sprintf("the host has no %s", n.Model))
		}
		if n.HostNetwork != "" && !slices.ContainsFunc(h.NetworkList, func(have hypervisor.Network) bool { return have.Name == n.HostNetwork }) {
			refuse("network card "+n.ID, fmt.Sprintf("the host has no network %q", n.HostNetwork))
		}
	}
	if m.CPU.Count > c.MaxCPUs {
		refuse("CPU", fmt.Sprintf("%d virtual CPUs, and %d can be had", m.CPU.Count, c.MaxCPUs))
	}
	if len(reasons) > 0 {
		return &hypervisor.UnfitError{Target: h.URI(), Reasons: reasons}
	}
	return nil
}

// Lookup finds a machine.
func (h *Memory) Lookup(_ context.Context, name string) (*hypervisor.Kept, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.machines[name]
	if m == nil {
		return nil, fmt.Errorf("machine %s: %w", name, hypervisor.ErrNotFound)
	}
	return h.kept(m), nil
}

func (h *Memory) kept(m *memoryMachine) *hypervisor.Kept {
	r := clone(m.record)
	return &hypervisor.Kept{Guest: &memoryGuest{h, m.machine.Name}, Name: m.machine.Name, Record: &r, Machine: clone(m.machine)}
}

// List gives them by name.
func (h *Memory) List(context.Context, bool) ([]*hypervisor.Kept, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []*hypervisor.Kept
	for _, name := range slices.Sorted(maps.Keys(h.machines)) {
		out = append(out, h.kept(h.machines[name]))
	}
	return out, nil
}

// SetRecord puts another record in place of a machine's.
func (h *Memory) SetRecord(_ context.Context, name string, r hypervisor.Record) error {
	return h.change("set-record "+name, func() error {
		m := h.machines[name]
		if m == nil {
			return fmt.Errorf("machine %s: %w", name, hypervisor.ErrNotFound)
		}
		m.record = clone(r)
		return nil
	})
}

type memoryGuest struct {
	h    *Memory
	name string
}

// with gives the machine to a change of it.
func (g *memoryGuest) with(change string, make func(*memoryMachine) error) error {
	return g.h.change(change+" "+g.name, func() error {
		m := g.h.machines[g.name]
		if m == nil {
			return fmt.Errorf("machine %s: %w", g.name, hypervisor.ErrNotFound)
		}
		return make(m)
	})
}

func (g *memoryGuest) Start(context.Context) error {
	return g.with("start", func(m *memoryMachine) error {
		if m.state != hypervisor.PoweredOff {
			return fmt.Errorf("machine %s runs already", g.name)
		}
		m.state, m.ended = hypervisor.Running, make(chan struct{})
		if m.console == nil || m.console.ended {
			m.console = newMemoryConsole()
		}
		if g.h.Says != nil {
			m.console.say(g.h.Says(m.machine))
		}
		return nil
	})
}

func (m *memoryMachine) end(e hypervisor.Exit) {
	if m.state != hypervisor.PoweredOff {
		m.state, m.exit = hypervisor.PoweredOff, e
		m.console.end()
		close(m.ended)
	}
}

func (g *memoryGuest) Shutdown(context.Context) error {
	return g.with("shutdown", func(m *memoryMachine) error {
		if m.state == hypervisor.PoweredOff {
			return fmt.Errorf("machine %s: %w", g.name, hypervisor.ErrNotRunning)
		}
		m.end(hypervisor.Exit{Reason: hypervisor.HostShutdown})
		return nil
	})
}

func (g *memoryGuest) Kill(context.Context) error {
	return g.with("kill", func(m *memoryMachine) error {
		m.end(hypervisor.Exit{Reason: hypervisor.HostShutdown})
		return nil
	})
}

func (g *memoryGuest) Remove(context.Context) error {
	return g.h.change("remove "+g.name, func() error {
		if m := g.h.machines[g.name]; m != nil {
			m.end(hypervisor.Exit{Reason: hypervisor.HostShutdown})
			delete(g.h.machines, g.name)
		}
		return nil
	})
}

func (g *memoryGuest) State(context.Context) (hypervisor.State, error) {
	g.h.mu.Lock()
	defer g.h.mu.Unlock()
	m := g.h.machines[g.name]
	if m == nil {
		return "", fmt.Errorf("machine %s: %w", g.name, hypervisor.ErrNotFound)
	}
	return m.state, nil
}

func (g *memoryGuest) Wait(ctx context.Context) (hypervisor.Exit, error) {
	g.h.mu.Lock()
	m := g.h.machines[g.name]
	var ended chan struct{}
	if m != nil {
		ended = m.ended
	}
	g.h.mu.Unlock()
	if m == nil {
		return hypervisor.Exit{}, fmt.Errorf("machine %s: %w", g.name, hypervisor.ErrNotFound)
	}
	if ended == nil {
		return hypervisor.Exit{}, fmt.Errorf("machine %s: %w", g.name, hypervisor.ErrNotRunning)
	}
	select {
	case <-ctx.Done():
		return hypervisor.Exit{}, ctx.Err()
	case <-ended:
		g.h.mu.Lock()
		defer g.h.mu.Unlock()
		return m.exit, nil
	}
}

// Ping asks Answers.
func (g *memoryGuest) Ping(ctx context.Context) error {
	state, err := g.State(ctx)
	if err != nil {
		return err
	}
	if state != hypervisor.Running {
		return fmt.Errorf("machine %s: %w", g.name, hypervisor.ErrNotRunning)
	}
	if g.h.Answers != nil && !g.h.Answers(g.name) {
		return fmt.Errorf("machine %s: the guest agent does not answer", g.name)
	}
	return nil
}

func (g *memoryGuest) Console() (io.ReadWriteCloser, error) {
	g.h.mu.Lock()
	defer g.h.mu.Unlock()
	m := g.h.machines[g.name]
	if m == nil {
		return nil, fmt.Errorf("machine %s: %w", g.name, hypervisor.ErrNotFound)
	}
	if m.console == nil {
		m.console = newMemoryConsole()
	}
	return m.console, nil
}

// memoryConsole holds what a guest said until it is read. What is written to
// it nobody hears.
type memoryConsole struct {
	mu    sync.Mutex
	more  *sync.Cond
	said  []byte
	ended bool
}

func newMemoryConsole() *memoryConsole {
	c := &memoryConsole{}
	c.more = sync.NewCond(&c.mu)
	return c
}

func (c *memoryConsole) say(s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = append(c.said, s...)
	c.more.Broadcast()
}

func (c *memoryConsole) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.more.Broadcast()
}

func (c *memoryConsole) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.said) == 0 {
		if c.ended {
			return 0, io.EOF
		}
		c.more.Wait()
	}
	n := copy(b, c.said)
	c.said = c.said[n:]
	return n, nil
}

func (c *memoryConsole) Write(b []byte) (int, error) { return len(b), nil }

func (c *memoryConsole) Close() error {
	c.end()
	return nil
}

// Export reads the volumes as they are now.
func (h *Memory) Export(_ context.Context, name string, opt hypervisor.ExportOptions) (hypervisor.Export, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.machines[name]
	if m == nil {
		return nil, fmt.Errorf("machine %s: %w", name, hypervisor.ErrNotFound)
	}
	live := m.state != hypervisor.PoweredOff
	if live && !opt.Live {
		return nil, fmt.Errorf("machine %s: %w", name, hypervisor.ErrRunning)
	}
	e := &memoryExport{h: h, kept: h.kept(m), live: live, drives: map[string]*hypervisor.VolumeRef{}}
	for _, d := range e.kept.Machine.Drives {
		if d.Medium != nil && d.Medium.Volume != nil {
			e.drives[d.ID] = d.Medium.Volume
		}
	}
	return e, nil
}

// CleanUp has nothing to do.
func (h *Memory) CleanUp(ctx context.Context, name string) ([]string, error) {
	_, err := h.Lookup(ctx, name)
	return nil, err
}

type memoryExport struct {
	h      *Memory
	kept   *hypervisor.Kept
	live   bool
	drives map[string]*hypervisor.VolumeRef
}

func (e *memoryExport) Kept() *hypervisor.Kept      { return e.kept }
func (e *memoryExport) Close(context.Context) error { return nil }

func (e *memoryExport) OpenDrive(ctx context.Context, drive string) (*hypervisor.DriveFile, error) {
	ref := e.drives[drive]
	if ref == nil {
		return nil, fmt.Errorf("drive %s: %w", drive, hypervisor.ErrNotFound)
	}
	r, err := e.h.OpenVolume(ctx, *ref)
	if err != nil {
		return nil, err
	}
	return &hypervisor.DriveFile{Name: ref.Pool + "/" + ref.Name, Format: r.Format(), At: r, Size: r.Size(), Close: r.Close}, nil
}

func (e *memoryExport) Unchanged(ctx context.Context) error {
	state, err := e.kept.State(ctx)
	if err == nil && state != hypervisor.PoweredOff && !e.live {
		err = fmt.Errorf("machine %s: %w", e.kept.Name, hypervisor.ErrChanged)
	}
	return err
}
