package vsphere

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/ovation-project/ovation/hypervisor"
)

// What is read of a machine.
var machineProperties = []string{"name", "config", "parent", "parentVApp", "runtime.powerState"}

// find reads a machine by its name. Templates are none.
func (h *Host) find(ctx context.Context, name string) (*mo.VirtualMachine, error) {
	p, err := h.place(ctx)
	if err != nil {
		return nil, err
	}
	all, err := h.all(ctx, p.scope, "VirtualMachine", "name")
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(o types.ObjectContent) bool { return nameOf(o) != name })
	switch len(all) {
	case 0:
		return nil, fmt.Errorf("machine %s: %w", name, hypervisor.ErrNotFound)
	case 1:
	default:
		return nil, fmt.Errorf("machine %s: there are %d of that name in different folders; name the folder in the URI", name, len(all))
	}
	vm, err := h.read(ctx, all[0].Obj)
	if err != nil {
		return nil, fmt.Errorf("machine %s: %w", name, err)
	}
	return vm, nil
}

func (h *Host) read(ctx context.Context, vm ref) (*mo.VirtualMachine, error) {
	var m mo.VirtualMachine
	if err := h.get(ctx, vm, &m, machineProperties...); err != nil {
		return nil, err
	}
	if m.Config == nil || m.Config.Template {
		// One that is being made or removed has none.
		return nil, hypervisor.ErrNotFound
	}
	return &m, nil
}

// Lookup finds a machine by its name, below the place that the URI names.
func (h *Host) Lookup(ctx context.Context, name string) (*hypervisor.Kept, error) {
	vm, err := h.find(ctx, name)
	if err != nil {
		return nil, err
	}
	return h.kept(ctx, vm, map[string]string{}), nil
}

// kept says what a machine is. groups are the names of port groups that were
// asked for before.
func (h *Host) kept(ctx context.Context, vm *mo.VirtualMachine, groups map[string]string) *hypervisor.Kept {
	name := unescape(vm.Name)
	k := &hypervisor.Kept{Guest: &guest{h: h, vm: vm.Self, name: name}, Name: name}
	k.Machine, k.Unsaid = machine(vm.Config, func(key string) string {
		if n, ok := groups[key]; ok {
			return n
		}
		var g mo.DistributedVirtualPortgroup
		if err := h.get(ctx, ref{Type: "DistributedVirtualPortgroup", Value: key}, &g, "name"); err != nil {
			h.log.DebugContext(ctx, "a port group has no name", "key", key, "error", err)
		}
		groups[key] = unescape(g.Name)
		return groups[key]
	})
	k.Machine.Name, k.Machine.ID, k.Native = name, name, native(vm.Config)
	var err error
	if k.Record, err = recordOf(settings(vm.Config.ExtraConfig)); err != nil {
		h.log.WarnContext(ctx, "a machine's record can't be read", "machine", name, "error", err)
	}
	if k.Record != nil {
		k.Machine.ID = cmp.Or(k.Record.System, name)
	}
	return k
}

// List gives the machines below the place that the URI names, by name.
func (h *Host) List(ctx context.Context, all bool) ([]*hypervisor.Kept, error) {
	p, err := h.place(ctx)
	if err != nil {
		return nil, err
	}
	// What a machine is takes much to say, and most may be somebody else's.
	mark := fmt.Sprintf("config.extraConfig[%q]", deploymentKey)
	properties := []string{"name"}
	if !all {
		properties = append(properties, mark)
	}
	have, err := h.all(ctx, p.scope, "VirtualMachine", properties...)
	if err != nil {
		return nil, err
	}
	var refs []ref
	for _, o := range have {
		if all || valueOf(o, mark) != nil {
			refs = append(refs, o.Obj)
		}
	}
	var out []*hypervisor.Kept
	groups := map[string]string{}
	for _, r := range refs {
		vm, err := h.read(ctx, r)
		if errors.Is(err, hypervisor.ErrNotFound) {
			continue // removed a moment ago
		}
		if err != nil {
			return nil, err
		}
		if k := h.kept(ctx, vm, groups); all || k.Record != nil {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, b *hypervisor.Kept) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// guest is one machine.
type guest struct {
	h    *Host
	vm   ref
	name string

	mu sync.Mutex
	// started says that it ran since this program knows it, asked that this
	// program had it power off.
	started, asked bool
}

var (
	_ hypervisor.Agent  = (*guest)(nil)
	_ hypervisor.Viewer = (*guest)(nil)
)

func (g *guest) fail(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("machine %s: %s: %w", g.name, what, known(err))
}

func (g *guest) object() *object.VirtualMachine { return object.NewVirtualMachine(g.h.client, g.vm) }

func (g *guest) saw(running bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if running && !g.started {
		g.started, g.asked = true, false
	}
}

// Start powers the machine on.
func (g *guest) Start(ctx context.Context) error {
	task, err := g.object().PowerOn(ctx)
	if err := g.h.done(ctx, task, err); err != nil {
		return g.fail("start", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.started, g.asked = true, false
	return nil
}

// State says whether the machine runs.
func (g *guest) State(ctx context.Context) (hypervisor.State, error) {
	var m mo.VirtualMachine
	if err := g.h.get(ctx, g.vm, &m, "runtime.powerState"); err != nil {
		return "", g.fail("state", err)
	}
	state := powerState(m.Runtime.PowerState)
	g.saw(state != hypervisor.PoweredOff)
	return state, nil
}

func powerState(s types.VirtualMachinePowerState) hypervisor.State {
	switch s {
	case types.VirtualMachinePowerStatePoweredOn:
		return hypervisor.Running
	case types.VirtualMachinePowerStateSuspended:
		return hypervisor.Paused
	}
	return hypervisor.PoweredOff
}

// Wait returns when the machine is off.
func (g *guest) Wait(ctx context.Context) (hypervisor.Exit, error) {
	state, err := g.State(ctx)
	if err != nil {
		return hypervisor.Exit{}, err
	}
	g.mu.Lock()
	started := g.started
	g.mu.Unlock()
	if state == hypervisor.PoweredOff && !started {
		return hypervisor.Exit{}, g.fail("wait", hypervisor.ErrNotRunning)
	}
	err = property.Wait(ctx, property.DefaultCollector(g.h.client), g.vm, []string{"runtime.powerState"}, func(changes []types.PropertyChange) bool {
		return slices.ContainsFunc(changes, func(c types.PropertyChange) bool {
			s, ok := c.Val.(types.VirtualMachinePowerState)
			return ok && s == types.VirtualMachinePowerStatePoweredOff
		})
	})
	if ctx.Err() != nil {
		return hypervisor.Exit{}, ctx.Err()
	}
	var gone *types.ManagedObjectNotFound
	if err != nil && !faultOf(err, &gone) {
		return hypervisor.Exit{}, g.fail("wait", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.asked {
		return hypervisor.Exit{Reason: hypervisor.HostShutdown}, nil
	}
	return hypervisor.Exit{Reason: hypervisor.GuestShutdown}, nil
}

// Shutdown asks the guest to power off, by VMware's tools in it: vSphere has no
// other way. A guest without them does not hear it.
func (g *guest) Shutdown(ctx context.Context) error {
	g.mu.Lock()
	g.asked = true
	g.mu.Unlock()
	err := g.object().ShutdownGuest(ctx)
	var (
		power *types.InvalidPowerState
		tools *types.ToolsUnavailable
	)
	switch {
	case faultOf(err, &power):
		return g.fail("shut down", hypervisor.ErrNotRunning)
	case faultOf(err, &tools):
		g.h.log.WarnContext(ctx, "no VMware tools run in the guest: it does not hear that it is to power off", "machine", g.name)
		return nil
	}
	return g.fail("shut down", err)
}

// Kill powers the machine off.
func (g *guest) Kill(ctx context.Context) error {
	g.mu.Lock()
	g.asked = true
	g.mu.Unlock()
	task, err := g.object().PowerOff(ctx)
	err = g.h.done(ctx, task, err)
	var power *types.InvalidPowerState
	if faultOf(err, &power) {
		return nil
	}
	return g.fail("power off", err)
}

// Remove powers the machine off and removes it with its disks, and its vApp
// where that was made for its deployment and is empty now.
func (g *guest) Remove(ctx context.Context) error {
	var m mo.VirtualMachine
	err := g.h.get(ctx, g.vm, &m, "runtime.powerState", "parentVApp")
	if errors.Is(err, hypervisor.ErrNotFound) {
		return nil
	}
	if err != nil {
		return g.fail("remove", err)
	}
	if m.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff {
		if err := g.Kill(ctx); err != nil && !errors.Is(err, hypervisor.ErrNotFound) {
			return err
		}
	}
	if err := g.h.destroy(ctx, g.vm); err != nil {
		return g.fail("remove", err)
	}
	if m.ParentVApp != nil {
		return g.fail("remove its vApp", g.h.removeEmptyGroup(ctx, *m.ParentVApp))
	}
	return nil
}

// Between tries to destroy what the host is still busy with.
const busyPause = 500 * time.Millisecond

// destroy removes an object; one that is gone is no error. What the host is
// busy with, as with the end of an import, is waited for.
func (h *Host) destroy(ctx context.Context, obj ref) error {
	for {
		task, err := object.NewCommon(h.client, obj).Destroy(ctx)
		err = h.done(ctx, task, err)
		var (
			busy     *types.TaskInProgress
			state    *types.InvalidState
			disabled *types.MethodDisabled
		)
		switch {
		case err == nil, errors.Is(err, hypervisor.ErrNotFound):
			return nil
		case !faultOf(err, &busy) && !faultOf(err, &state) && !faultOf(err, &disabled):
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(busyPause):
		}
	}
}

// Ping is nil when VMware's tools run in the guest.
func (g *guest) Ping(ctx context.Context) error {
	var m mo.VirtualMachine
	if err := g.h.get(ctx, g.vm, &m, "guest"); err != nil {
		return g.fail("guest", err)
	}
	if m.Guest == nil || m.Guest.ToolsRunningStatus != string(types.VirtualMachineToolsRunningStatusGuestToolsRunning) {
		return g.fail("guest", errors.New("VMware's tools do not run in it"))
	}
	return nil
}

// Console is not to be had: vSphere gives no way to a serial port that needs no
// further device.
func (g *guest) Console() (io.ReadWriteCloser, error) {
	return nil, fmt.Errorf("machine %s: vSphere leads no serial port here: %w; its screen can be seen, by VMware Remote Console or a browser", g.name, errors.ErrUnsupported)
}

// Screens are addresses at which the machine's screen is shown.
func (g *guest) Screens(ctx context.Context) ([]hypervisor.Screen, error) {
	var out []hypervisor.Screen
	var errs []error
	if ticket, err := session.NewManager(g.h.client).AcquireCloneTicket(ctx); err == nil {
		u := url.URL{Scheme: "vmrc", User: url.UserPassword("clone", ticket), Host: g.h.target.address(), Path: "/", RawQuery: "moid=" + url.QueryEscape(g.vm.Value)}
		out = append(out, hypervisor.Screen{Kind: "vmrc", URL: u.String()})
	} else {
		errs = append(errs, err)
	}
	res, err := methods.AcquireTicket(ctx, g.h.client, &types.AcquireTicket{This: g.vm, TicketType: string(types.VirtualMachineTicketTypeWebmks)})
	if err == nil {
		t := res.Returnval
		if t.Url != "" {
			out = append(out, hypervisor.Screen{Kind: "webmks", URL: t.Url})
		} else if t.Host != "" {
			out = append(out, hypervisor.Screen{Kind: "webmks", URL: fmt.Sprintf("wss://%s/ticket/%s", hostPort(t.Host, int(t.Port)), t.Ticket)})
		}
	} else {
		errs = append(errs, err)
	}
	if len(out) == 0 {
		return nil, g.fail("screen", errors.Join(errs...))
	}
	return out, nil
}

func hostPort(host string, port int) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port == 0 {
		return host
	}
	return fmt.Sprintf("%s:%d", host, port)
}
