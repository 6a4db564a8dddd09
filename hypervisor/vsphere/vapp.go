package vsphere

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/ovation-project/ovation/hypervisor"
)

// groupMark is in the notes of a vApp that was made for a deployment, so that it
// goes with the deployment's last machine.
const groupMark = "Made by Ovation for the deployment "

// findGroup finds a vApp by its name, nil where there is none.
func (h *Host) findGroup(ctx context.Context, name string) (*ref, error) {
	p, err := h.place(ctx)
	if err != nil {
		return nil, err
	}
	root := p.scope
	if p.datacenter != nil {
		root = *p.datacenter
	}
	all, err := h.all(ctx, root, "VirtualApp", "name")
	if err != nil {
		return nil, err
	}
	for _, o := range all {
		if nameOf(o) == name {
			return &o.Obj, nil
		}
	}
	return nil, nil
}

// makeGroup makes a vApp for a deployment, empty.
func (h *Host) makeGroup(ctx context.Context, d *destination, name, deployment string) (*object.VirtualApp, error) {
	sum := sha256.Sum256([]byte("ovation vApp " + deployment))
	config := types.VAppConfigSpec{
		Annotation:   groupMark + deployment,
		InstanceUuid: fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16]),
	}
	// What is made has to be known here, also when ctx ends meanwhile.
	v, err := object.NewResourcePool(h.client, d.pool).CreateVApp(context.WithoutCancel(ctx), name, types.DefaultResourceConfigSpec(), config, object.NewFolder(h.client, d.folder))
	if err != nil {
		return nil, fmt.Errorf("vApp %s: %w", name, known(err))
	}
	return v, nil
}

// removeEmptyGroup removes a vApp that this program made and that holds nothing
// any more.
func (h *Host) removeEmptyGroup(ctx context.Context, v ref) error {
	var m mo.VirtualApp
	err := h.get(ctx, v, &m, "vm", "resourcePool", "vAppConfig")
	if errors.Is(err, hypervisor.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(m.Vm) > 0 || len(m.ResourcePool.ResourcePool) > 0 || m.VAppConfig == nil || !isGroupMark(m.VAppConfig.Annotation) {
		return nil
	}
	return h.destroy(ctx, v)
}

func isGroupMark(s string) bool { return len(s) > len(groupMark) && s[:len(groupMark)] == groupMark }

// orderGroup gives a vApp the order in which it starts and stops its machines.
func (h *Host) orderGroup(ctx context.Context, v ref, systems []importSystem, vms []ref) error {
	var entities []types.VAppEntityConfigInfo
	for i, s := range systems {
		no, yes := false, true
		e := types.VAppEntityConfigInfo{Key: &vms[i], Tag: s.ID, StartOrder: int32(s.Start.Order), StartDelay: int32(s.Start.DelaySeconds), WaitingForGuest: &no,
			StartAction: "powerOn", StopDelay: int32(s.Start.StopDelaySeconds), StopAction: "powerOff"}
		if s.Start.WaitForGuest {
			e.WaitingForGuest = &yes
		}
		if s.Start.Order < 1 {
			e.StartAction = "none"
		}
		if s.Start.Shutdown {
			e.StopAction = "guestShutdown"
		}
		entities = append(entities, e)
	}
	slices.SortStableFunc(entities, func(a, b types.VAppEntityConfigInfo) int { return int(a.StartOrder - b.StartOrder) })
	_, err := methods.UpdateVAppConfig(ctx, h.client, &types.UpdateVAppConfig{This: v, Spec: types.VAppConfigSpec{EntityConfig: entities}})
	return known(err)
}
