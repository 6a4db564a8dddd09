package vsphere

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/vmware/govmomi/nfc"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/redact"
)

var _ hypervisor.Exporter = (*Host)(nil)

// snapshotMark begins the names of the snapshots that exports take, so that
// whoever finds one knows where it comes from.
const snapshotMark = "ovation-export-"

// Export begins to read a machine by a lease, during which the host keeps it as
// it is. One that runs is read by a snapshot, which Close removes.
func (h *Host) Export(ctx context.Context, name string, opt hypervisor.ExportOptions) (hypervisor.Export, error) {
	e, err := h.beginExport(ctx, name, opt)
	if err != nil {
		return nil, fmt.Errorf("machine %s: export: %w", name, err)
	}
	return e, nil
}

func (h *Host) beginExport(ctx context.Context, name string, opt hypervisor.ExportOptions) (_ *export, err error) {
	vm, err := h.find(ctx, name)
	if err != nil {
		return nil, err
	}
	e := &export{h: h, vm: vm.Self, name: name, devices: vm.Config.Hardware.Device, kept: h.kept(ctx, vm, map[string]string{})}
	if e.left, err = h.snapshots(ctx, vm.Self); err != nil {
		return nil, err
	}
	if len(e.left) > 0 {
		return nil, fmt.Errorf("it has the snapshot %s, which is of another export: that one is not done yet, or was killed, and then 'ovation export --clean-up' removes it", e.left[0].Name)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close(context.WithoutCancel(ctx)))
		}
	}()
	machine := object.NewVirtualMachine(h.client, vm.Self)
	if vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOff {
		begun, err := machine.Export(ctx)
		if err != nil {
			return nil, known(err)
		}
		return e, e.ready(ctx, begun)
	}
	if !opt.Live {
		return nil, hypervisor.ErrRunning
	}
	e.live = true
	if err := e.snapshot(ctx, machine, opt.Note); err != nil {
		return nil, err
	}
	begun, err := machine.ExportSnapshot(ctx, e.taken)
	if err != nil {
		return nil, known(err)
	}
	return e, e.ready(ctx, begun)
}

// snapshot takes one of the disks, with the guest's file systems at rest where
// its tools can do that.
func (e *export) snapshot(ctx context.Context, machine *object.VirtualMachine, note func(string)) error {
	if note == nil {
		note = func(string) {}
	}
	var tag [4]byte
	_, _ = rand.Read(tag[:]) // which does not fail
	name := snapshotMark + hex.EncodeToString(tag[:])
	take := func(quiesce bool) error {
		// What is made has to be known here, also when ctx ends meanwhile.
		whole := context.WithoutCancel(ctx)
		task, err := machine.CreateSnapshot(whole, name, "Taken by Ovation to export the machine, and removed when that is done", false, quiesce)
		if err != nil {
			return known(err)
		}
		info, err := task.WaitForResult(whole)
		if err != nil {
			return known(err)
		}
		if snap, ok := info.Result.(ref); ok {
			e.taken = &snap
		}
		if e.taken == nil {
			return errors.New("the host took a snapshot and does not say which")
		}
		return ctx.Err()
	}
	var m mo.VirtualMachine
	if err := e.h.get(ctx, e.vm, &m, "guest"); err == nil && m.Guest != nil && m.Guest.ToolsRunningStatus == string(types.VirtualMachineToolsRunningStatusGuestToolsRunning) {
		err := take(true)
		if err == nil {
			note(e.name + ": the guest's file systems were at rest when its disks were taken")
		}
		if err == nil || e.taken != nil {
			return err
		}
		e.h.log.DebugContext(ctx, "the tools did not freeze the file systems", "machine", e.name, "error", err)
	}
	if err := take(false); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	note(e.name + ": no VMware tools answer in the guest: the disks are as if its power had been cut at this moment")
	return nil
}

type export struct {
	h       *Host
	vm      ref
	name    string
	live    bool
	devices []types.BaseVirtualDevice
	kept    *hypervisor.Kept
	left    []types.VirtualMachineSnapshotTree // by others

	taken *ref // the snapshot
	lease *lease
	stop  context.CancelFunc
	keeps sync.WaitGroup

	mu     sync.Mutex
	failed error // why the lease is not there any more
	closed bool
}

// Kept is the machine.
func (e *export) Kept() *hypervisor.Kept { return e.kept }

// ready waits for the lease, and keeps it alive from then on.
func (e *export) ready(ctx context.Context, begun *nfc.Lease) error {
	l, err := e.h.newLease(ctx, begun)
	if err != nil {
		_ = begun.Abort(context.WithoutCancel(ctx), nil)
		return err
	}
	e.lease = l
	for _, d := range e.kept.Machine.Drives {
		if d.Kind == hypervisor.HardDisk {
			l.total.Add(d.Capacity)
		}
	}
	keep, stop := context.WithCancel(context.WithoutCancel(ctx))
	e.stop = stop
	e.keeps.Go(func() {
		if err := l.keep(keep); err != nil {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.failed = err
		}
	})
	return nil
}

// OpenDrive begins to fetch what a disk holds.
func (e *export) OpenDrive(ctx context.Context, drive string) (*hypervisor.DriveFile, error) {
	fail := func(err error) (*hypervisor.DriveFile, error) {
		return nil, fmt.Errorf("machine %s: drive %s: %w", e.name, drive, err)
	}
	i := slices.IndexFunc(e.kept.Machine.Drives, func(d hypervisor.Drive) bool { return d.ID == drive })
	if i < 0 || e.kept.Machine.Drives[i].Kind != hypervisor.HardDisk {
		return fail(fmt.Errorf("a disk in it: %w", hypervisor.ErrNotFound))
	}
	d, err := e.device(e.kept.Machine.Drives[i])
	if err != nil {
		return fail(err)
	}
	at, err := e.lease.address(*d)
	if err != nil {
		return fail(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return fail(redact.Cause(err))
	}
	res, err := e.h.http.Do(req)
	if err != nil {
		return fail(fmt.Errorf("from %s: %w", at.Host, reachable(redact.Cause(err), at)))
	}
	if res.StatusCode != http.StatusOK {
		_ = res.Body.Close()
		return fail(e.lease.why(ctx, fmt.Errorf("from %s: the host answers %s", at.Host, res.Status)))
	}
	return &hypervisor.DriveFile{
		Name: d.TargetId, Format: "vmdk", Size: res.ContentLength, Capacity: e.kept.Machine.Drives[i].Capacity, Close: res.Body.Close,
		Once: &counted{ReadCloser: res.Body, tell: func(n int) { e.lease.done.Add(int64(n)) }},
	}, nil
}

// device finds a drive's disk among what the lease gives. The host names them
// by the controller's type, its bus and the place on it, as in
// /vm-42/VirtualLsiLogicController0:1; a host that names them otherwise has them
// in the order of the machine's devices.
func (e *export) device(drive hypervisor.Drive) (*types.HttpNfcLeaseDeviceUrl, error) {
	var disks []*types.HttpNfcLeaseDeviceUrl
	for k := range e.lease.urls {
		if d := &e.lease.urls[k]; d.Disk != nil && *d.Disk {
			disks = append(disks, d)
		}
	}
	at, number := -1, 0
	list := object.VirtualDeviceList(e.devices)
	for _, x := range list {
		disk, ok := x.(*types.VirtualDisk)
		if !ok {
			continue
		}
		if b, ok := disk.Backing.(types.BaseVirtualDeviceFileBackingInfo); ok && drive.Medium != nil && drive.Medium.Volume != nil {
			if m := medium(b.GetVirtualDeviceFileBackingInfo().FileName, ""); m != nil && *m.Volume == *drive.Medium.Volume {
				at = number
				if c := list.FindByKey(disk.ControllerKey); c != nil && disk.UnitNumber != nil {
					name := strings.TrimPrefix(reflect.TypeOf(c).String(), "*types.")
					suffix := fmt.Sprintf("/%s%d:%d", name, busNumber(c), *disk.UnitNumber)
					if k := slices.IndexFunc(disks, func(d *types.HttpNfcLeaseDeviceUrl) bool { return strings.HasSuffix(d.Key, suffix) }); k >= 0 {
						return disks[k], nil
					}
				}
			}
		}
		number++
	}
	if at >= 0 && number == len(disks) {
		return disks[at], nil
	}
	return nil, fmt.Errorf("the host gives %d of the machine's %d disks, and not this one", len(disks), number)
}

// Unchanged says whether the lease still holds, and the machine was not started.
func (e *export) Unchanged(ctx context.Context) error {
	e.mu.Lock()
	failed := e.failed
	e.mu.Unlock()
	if failed != nil || e.live {
		return failed
	}
	state, err := e.kept.State(ctx)
	if err == nil && state != hypervisor.PoweredOff {
		err = fmt.Errorf("machine %s: it was started: %w", e.name, hypervisor.ErrChanged)
	}
	return err
}

// Close ends the lease, and removes the snapshot.
func (e *export) Close(ctx context.Context) error {
	e.mu.Lock()
	closed := e.closed
	e.closed = true
	e.mu.Unlock()
	if closed {
		return nil
	}
	if e.stop != nil {
		e.stop()
		e.keeps.Wait()
	}
	if e.lease != nil {
		if err := e.lease.Complete(ctx); err != nil {
			// It ends by itself.
			e.h.log.DebugContext(ctx, "the lease of an export was not ended", "machine", e.name, "error", err)
		}
	}
	if e.taken == nil {
		return nil
	}
	if err := e.h.removeSnapshot(ctx, *e.taken); err != nil {
		return fmt.Errorf("machine %s: the snapshot that was taken for its export stays: %w", e.name, err)
	}
	return nil
}

func (h *Host) removeSnapshot(ctx context.Context, snapshot ref) error {
	consolidate := true
	res, err := methods.RemoveSnapshot_Task(ctx, h.client, &types.RemoveSnapshot_Task{This: snapshot, Consolidate: &consolidate})
	if err == nil {
		err = object.NewTask(h.client, res.Returnval).Wait(ctx)
	}
	if err = known(err); errors.Is(err, hypervisor.ErrNotFound) {
		return nil
	}
	return err
}

// snapshots are those that exports took.
func (h *Host) snapshots(ctx context.Context, vm ref) ([]types.VirtualMachineSnapshotTree, error) {
	var m mo.VirtualMachine
	if err := h.get(ctx, vm, &m, "snapshot"); err != nil || m.Snapshot == nil {
		return nil, err
	}
	var found []types.VirtualMachineSnapshotTree
	var walk func([]types.VirtualMachineSnapshotTree)
	walk = func(list []types.VirtualMachineSnapshotTree) {
		for _, s := range list {
			if strings.HasPrefix(s.Name, snapshotMark) {
				found = append(found, s)
			}
			walk(s.ChildSnapshotList)
		}
	}
	walk(m.Snapshot.RootSnapshotList)
	return found, nil
}

// CleanUp removes the snapshots of exports that were killed.
func (h *Host) CleanUp(ctx context.Context, name string) ([]string, error) {
	vm, err := h.find(ctx, name)
	if err != nil {
		return nil, err
	}
	left, err := h.snapshots(ctx, vm.Self)
	if err != nil {
		return nil, err
	}
	var done []string
	for _, s := range left {
		if err := h.removeSnapshot(ctx, s.Snapshot); err != nil {
			return done, fmt.Errorf("machine %s: snapshot %s: %w", name, s.Name, err)
		}
		done = append(done, s.Name)
	}
	return done, nil
}
