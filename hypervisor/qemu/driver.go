// Package qemu runs machines with the QEMU beside you: no daemon, no root, one
// process a machine, which ends with the program that started it.
package qemu

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/qemudevice"
)

const driverName = "qemu"

// MinVersion is the oldest QEMU that will do: the first whose -device takes
// JSON.
const MinVersion = "6.2"

var minVersion = qemuVersion{Major: 6, Minor: 2}

const installQEMU = "install the package qemu-system-x86 (Debian and Ubuntu), qemu-kvm (Fedora and RHEL) or qemu-system-x86 (Arch)"

// Options say how machines are run.
type Options struct {
	// Dir is a folder for what one machine needs beside its media: its copy
	// of the UEFI's variables, nvram.fd. It MUST exist and be private, and
	// is for one machine; what Create makes in it, Remove takes away unless
	// Keep is set. "" is a folder of its own in the system's temporary one.
	Dir string
	// Keep leaves the variables in Dir when a machine is removed, and uses
	// those that are there.
	Keep bool
	// Binary is QEMU's path; "" looks in PATH for the program of the
	// machine's architecture.
	Binary string
	// Accel is auto, kvm or tcg; "" is auto: KVM where it truly works.
	Accel string
	// Window shows the guest's screen in a window, where QEMU was built with a
	// toolkit for that.
	Window bool
	// Segments are the networks of the machines that run together; nil leaves
	// each machine alone. Whoever made them closes them after the machines.
	Segments *Segments
	// Log gets what is done; nil is nowhere.
	Log *slog.Logger
}

// Driver runs machines with QEMU.
type Driver struct {
	opt Options
	log *slog.Logger
}

var (
	_ hypervisor.Driver  = (*Driver)(nil)
	_ hypervisor.Checker = (*Driver)(nil)
)

// New makes a Driver. It touches nothing: whether QEMU is there is seen by
// noTuning is why shares, reservations and limits are left out.
const noTuning = "a QEMU of one's own is not in a control group, and takes what the host gives every program"

// Capabilities and Create.
func New(opt Options) *Driver {
	d := &Driver{opt: opt, log: opt.Log}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	return d
}

// Name is qemu.
func (d *Driver) Name() string { return driverName }

// hostArchitecture is QEMU's name of what this program was built for.
func hostArchitecture() string {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	case "386":
		return "i386"
	case "arm64":
		return "aarch64"
	}
	return runtime.GOARCH
}

// binary finds the QEMU for an architecture.
func (d *Driver) binary(architecture string) (string, error) {
	names, ok := architectures[architecture]
	if !ok {
		return "", &hypervisor.UnfitError{Target: driverName, Reasons: []hypervisor.Reason{{Subject: "architecture",
			Text: fmt.Sprintf("%q is not one that this driver makes: x86_64 and i386 are", architecture)}}}
	}
	if d.opt.Binary != "" {
		names = []string{d.opt.Binary}
	}
	for _, n := range names {
		if path, err := exec.LookPath(n); err == nil {
			return path, nil
		}
	}
	// RHEL has it out of PATH and under another name.
	if d.opt.Binary == "" && architecture == hostArchitecture() {
		if path, err := exec.LookPath("/usr/libexec/qemu-kvm"); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: no %s in PATH; %s", hypervisor.ErrUnavailable, names[0], installQEMU)
}

// host is what a QEMU on this machine turned out to be.
type host struct {
	binary   string
	version  qemuVersion
	devices  map[string]bool
	accels   []string // that would do, the best first
	slow     string   // why it is not kvm
	sandbox  bool
	features []string // of the guest's processors; nil is not known
	cpuMax   map[hypervisor.Chipset]int
	firmware []Firmware
	window   string // the toolkit for windows, "" where none is wanted or there
	tpms     []string
}

// probe asks the QEMU itself. It costs some 50 ms.
func (d *Driver) probe(ctx context.Context, architecture string) (*host, error) {
	binary, err := d.binary(architecture)
	if err != nil {
		return nil, err
	}
	h := &host{binary: binary, devices: map[string]bool{}, cpuMax: map[hypervisor.Chipset]int{}, sandbox: true}
	if err := d.acceleration(h, architecture); err != nil {
		return nil, err
	}
	args := []string{"-machine", "none", "-accel", h.accels[0], "-no-user-config", "-nodefaults", "-display", "none",
		"-chardev", fmt.Sprintf("socket,id=monitor,fd=%d", monitorFD), "-mon", "chardev=monitor,mode=control"}
	// Not every QEMU is built with the sandbox, nor every kernel.
	p, err := launch(ctx, binary, append(slices.Clone(args), "-sandbox", "on"), nil, nil)
	if err != nil && ctx.Err() == nil {
		h.sandbox = false
		p, err = launch(ctx, binary, args, nil, nil)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w: %s: %w", hypervisor.ErrUnavailable, binary, err)
	}
	defer p.monitor.conn.Close()
	defer p.kill()
	h.version = p.monitor.version
	if older(h.version, minVersion) {
		return nil, fmt.Errorf("%w: %s is version %s, and %s is the oldest that will do", hypervisor.ErrUnavailable, binary, h.version, MinVersion)
	}
	var types []struct {
		Name string `json:"name"`
	}
	if err := p.monitor.do(ctx, "qom-list-types", map[string]any{"implements": "device", "abstract": false}, &types); err != nil {
		return nil, err
	}
	for _, t := range types {
		h.devices[t.Name] = true
	}
	var machines []struct {
		Name   string `json:"name"`
		Alias  string `json:"alias"`
		CPUMax int    `json:"cpu-max"`
	}
	if err := p.monitor.do(ctx, "query-machines", nil, &machines); err != nil {
		return nil, err
	}
	for _, m := range machines {
		for _, name := range []string{m.Name, m.Alias} {
			if c := hypervisor.Chipset(name); c == hypervisor.I440FX || c == hypervisor.Q35 {
				h.cpuMax[c] = m.CPUMax
			}
		}
	}
	h.tpms = tpms(ctx, h.devices)
	h.firmware = findFirmware(firmwareFolders(), architecture)
	if d.opt.Window {
		h.window = d.toolkit(ctx, binary)
	}
	h.features = d.cpuFeatures(ctx, p.monitor)
	return h, nil
}

// cpuFeatures asks what the processors can do that machines get. QEMU answers
// with all of a model's properties, of which those that are true are features or
// do no harm.
func (d *Driver) cpuFeatures(ctx context.Context, m *monitor) (features []string) {
	var full struct {
		Model struct {
			Props map[string]any `json:"props"`
		} `json:"model"`
	}
	arguments := map[string]any{"type": "full", "model": map[string]any{"name": "max"}}
	if err := m.do(ctx, "query-cpu-model-expansion", arguments, &full); err != nil {
		d.log.DebugContext(ctx, "QEMU does not say what its processors can do", "error", err)
		return nil
	}
	for name, value := range full.Model.Props {
		if on, ok := value.(bool); ok && on {
			features = append(features, name)
		}
	}
	slices.Sort(features)
	return features
}

// toolkit asks which windows a QEMU can open. Distributions put them into
// packages of their own.
func (d *Driver) toolkit(ctx context.Context, binary string) string {
	out, err := exec.CommandContext(ctx, binary, "-display", "help").Output()
	if err == nil {
		for _, name := range []string{"gtk", "sdl"} {
			if slices.Contains(strings.Fields(string(out)), name) {
				return name
			}
		}
	}
	d.log.InfoContext(ctx, "QEMU can't open windows here: install qemu-system-gui (Debian and Ubuntu) to see the guest's screen")
	return ""
}

func older(a, b qemuVersion) bool {
	return cmp.Or(cmp.Compare(a.Major, b.Major), cmp.Compare(a.Minor, b.Minor)) < 0
}

// acceleration decides how instructions run.
func (d *Driver) acceleration(h *host, architecture string) error {
	var unusable error
	if d.opt.Accel != "tcg" {
		switch native := hostArchitecture(); {
		case architecture != native && (architecture != "i386" || native != "x86_64"):
			unusable = fmt.Errorf("the guest is %s and the host is %s", architecture, native)
		default:
			unusable = kvmWorks()
		}
	}
	switch d.opt.Accel {
	case "", "auto":
		if unusable == nil {
			h.accels = []string{"kvm", "tcg"}
		} else {
			h.accels, h.slow = []string{"tcg"}, unusable.Error()
		}
	case "kvm":
		if unusable != nil {
			return fmt.Errorf("%w: KVM was asked for: %w", hypervisor.ErrUnavailable, unusable)
		}
		h.accels = []string{"kvm"}
	case "tcg":
		h.accels, h.slow = []string{"tcg"}, "software emulation was asked for"
	default:
		return fmt.Errorf("acceleration is auto, kvm or tcg, not %q", d.opt.Accel)
	}
	return nil
}

// Capabilities asks the QEMU that is installed what it was built with.
func (d *Driver) Capabilities(ctx context.Context, architecture string) (*hypervisor.Capabilities, error) {
	architecture = cmp.Or(architecture, hostArchitecture())
	h, err := d.probe(ctx, architecture)
	if err != nil {
		return nil, err
	}
	have := table.Without(func(name string) bool { return !h.devices[name] })
	c := &hypervisor.Capabilities{
		Driver: driverName, Version: h.version.String(), Architecture: architecture,
		Acceleration: hypervisor.Acceleration{Kind: h.accels[0], Reason: h.slow},
		MaxCPUs:      maxCPUs, HostCPUs: runtime.NumCPU(), MemoryBytes: hostMemory(), CPUFeatures: h.features,
		Firmware:    []hypervisor.FirmwareCapability{},
		Controllers: have.Controllers, NICs: have.NICs, Displays: have.Displays, Sounds: have.Sounds, USB: have.USB,
		TPMs: h.tpms, MaxSerials: qemudevice.MaxSerials, NoTuning: noTuning, Formats: slices.Clone(formats), Networks: []string{NetworkUser, NetworkIsolated},
		Families: []string{"qemu"},
	}
	for _, chipset := range []hypervisor.Chipset{hypervisor.I440FX, hypervisor.Q35} {
		if n, ok := h.cpuMax[chipset]; ok {
			c.Chipsets = append(c.Chipsets, chipset)
			c.MaxCPUs = min(c.MaxCPUs, n)
		}
	}
	c.Firmware = append(c.Firmware, hypervisor.FirmwareCapability{Kind: hypervisor.BIOS, Chipsets: c.Chipsets})
	for _, f := range h.firmware {
		c.Firmware = append(c.Firmware, hypervisor.FirmwareCapability{Kind: hypervisor.UEFI, SecureBoot: f.SecureBoot, Chipsets: f.Chipsets, Path: f.Code})
	}
	return c, nil
}

// Models is what a QEMU gives that was built with everything, on a host that
// has every firmware: for tables and for tests, where no QEMU is asked.
func Models() *hypervisor.Capabilities {
	all := qemudevice.All()
	both := []hypervisor.Chipset{hypervisor.I440FX, hypervisor.Q35}
	return &hypervisor.Capabilities{
		Driver: driverName, Architecture: "x86_64", Acceleration: hypervisor.Acceleration{Kind: "tcg"},
		MaxCPUs: maxCPUs, Chipsets: both,
		Firmware: []hypervisor.FirmwareCapability{{Kind: hypervisor.BIOS, Chipsets: both}, {Kind: hypervisor.UEFI, Chipsets: both},
			{Kind: hypervisor.UEFI, SecureBoot: true, Chipsets: both[1:]}},
		Controllers: all.Controllers, NICs: all.NICs, Displays: all.Displays, Sounds: all.Sounds, USB: all.USB,
		TPMs: []string{"1.2", "2.0"}, MaxSerials: qemudevice.MaxSerials, NoTuning: noTuning, Formats: slices.Clone(formats), Networks: []string{NetworkUser, NetworkIsolated}, Families: []string{"qemu"},
	}
}

// hostMemory is all the memory of the host, 0 where that is not known.
func hostMemory() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "MemTotal: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return 0
}

// Create prepares a machine. It fails, having made nothing, where QEMU is not
// there or can't make the machine.
func (d *Driver) Create(ctx context.Context, m hypervisor.Machine) (hypervisor.Guest, error) {
	h, err := d.probe(ctx, m.Architecture)
	if err != nil {
		return nil, err
	}
	if m.UUID == "" {
		m.UUID = randomUUID()
	}
	g := &guest{driver: d, host: h, machine: m, spec: d.spec(h, m), ended: make(chan struct{})}
	if _, err := Args(m, g.spec); err != nil {
		return nil, err
	}
	if err := g.prepare(); err != nil {
		return nil, errors.Join(err, g.Remove(ctx))
	}
	return g, nil
}

// randomUUID is one of version 4 (RFC 9562): guests tell machines apart by it.
func randomUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // which does not fail
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func (d *Driver) spec(h *host, m hypervisor.Machine) Host {
	spec := Host{
		Accel: h.accels[0], Firmware: chooseFirmware(h.firmware, m),
		ConsoleFD: consoleFD, MonitorFD: monitorFD,
		Window:  h.window,
		Sandbox: h.sandbox && h.window == "", // toolkits start programs of their own
		Subnets: d.opt.Segments.subnets(m),
	}
	spec.Wires = wires(m, spec.Subnets)
	if m.TPM != nil && slices.Contains(h.tpms, m.TPM.Version) {
		spec.TPMFD = tpmFD
	}
	return spec
}

// Command is the program and the arguments that Start would use for a machine,
// for people to read: what is made only then has a name in capitals.
func (d *Driver) Command(ctx context.Context, m hypervisor.Machine) ([]string, error) {
	h, err := d.probe(ctx, m.Architecture)
	if err != nil {
		return nil, err
	}
	spec := d.spec(h, m)
	if spec.Firmware != nil {
		spec.NVRAM = filepath.Join("DIR", varsFile)
	}
	args, err := Args(m, spec)
	if err != nil {
		return nil, err
	}
	return append([]string{h.binary}, args...), nil
}

// Check is nil where Create would make the machine; media need not be there.
func (d *Driver) Check(ctx context.Context, m hypervisor.Machine) error {
	h, err := d.probe(ctx, m.Architecture)
	if err != nil {
		return err
	}
	spec := d.spec(h, m)
	if spec.Firmware != nil {
		spec.NVRAM = varsFile
	}
	_, err = Args(m, spec)
	return err
}

// missing is a file that the machine names and that is not there.
func missing(m hypervisor.Machine) error {
	for _, d := range m.Drives {
		if d.Medium == nil || d.Medium.Path == "" {
			continue
		}
		if _, err := os.Stat(d.Medium.Path); err != nil {
			return fmt.Errorf("drive %s: %w", d.ID, err)
		}
	}
	return nil
}
