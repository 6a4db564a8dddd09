package vsphere

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/ovation-project/ovation/hypervisor"
)

// datastores are those that new machines' disks may go to, the one with the
// most room first.
func (h *Host) datastores(ctx context.Context) ([]mo.Datastore, error) {
	d, err := h.destination(ctx)
	if err != nil {
		return nil, err
	}
	var refs []ref
	if d.host != nil {
		var e mo.HostSystem
		if err := h.get(ctx, *d.host, &e, "datastore"); err != nil {
			return nil, err
		}
		refs = e.Datastore
	} else {
		var c mo.ComputeResource
		if err := h.get(ctx, d.compute, &c, "datastore"); err != nil {
			return nil, err
		}
		refs = c.Datastore
	}
	if len(refs) == 0 {
		return nil, nil
	}
	var all []mo.Datastore
	if err := property.DefaultCollector(h.client).Retrieve(ctx, refs, []string{"name", "parent", "summary"}, &all); err != nil {
		return nil, known(err)
	}
	all = slices.DeleteFunc(all, func(s mo.Datastore) bool {
		return !s.Summary.Accessible || s.Summary.MaintenanceMode != "" && s.Summary.MaintenanceMode != string(types.DatastoreSummaryMaintenanceModeStateNormal)
	})
	slices.SortFunc(all, func(a, b mo.Datastore) int {
		return cmp.Or(cmp.Compare(b.Summary.FreeSpace, a.Summary.FreeSpace), cmp.Compare(a.Name, b.Name))
	})
	return all, nil
}

// storageClusters are the storage clusters (StoragePod) that datastores are in, by
// name, with the one of each that has the most room.
func (h *Host) storageClusters(ctx context.Context, all []mo.Datastore) (map[string]*mo.Datastore, error) {
	first := map[ref]*mo.Datastore{}
	var refs []ref
	for i, s := range all {
		if s.Parent == nil || s.Parent.Type != "StoragePod" || first[*s.Parent] != nil {
			continue
		}
		first[*s.Parent] = &all[i]
		refs = append(refs, *s.Parent)
	}
	if len(refs) == 0 {
		return nil, nil
	}
	var pods []mo.StoragePod
	if err := property.DefaultCollector(h.client).Retrieve(ctx, refs, []string{"name"}, &pods); err != nil {
		return nil, known(err)
	}
	out := map[string]*mo.Datastore{}
	for _, p := range pods {
		out[unescape(p.Name)] = first[p.Self]
	}
	return out, nil
}

// Pools are the datastores that can be reached from where new machines go, the
// one with the most room first, and then the storage clusters that they are in,
// each as the datastore that is taken of it.
func (h *Host) Pools(ctx context.Context) ([]hypervisor.Pool, error) {
	all, err := h.datastores(ctx)
	if err != nil {
		return nil, err
	}
	var out []hypervisor.Pool
	for _, s := range all {
		out = append(out, pool(unescape(s.Name), s))
	}
	clusters, err := h.storageClusters(ctx, all)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(clusters)) {
		out = append(out, pool(name, *clusters[name]))
	}
	return out, nil
}

func pool(name string, s mo.Datastore) hypervisor.Pool {
	return hypervisor.Pool{Name: name, AvailableBytes: s.Summary.FreeSpace, CapacityBytes: s.Summary.Capacity, Formats: []string{"vmdk"}}
}

// datastore finds one by its name or its storage cluster's, "" is the first.
func (h *Host) datastore(ctx context.Context, name string) (*mo.Datastore, error) {
	all, err := h.datastores(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range all {
		if name == "" || unescape(all[i].Name) == name {
			return &all[i], nil
		}
		names = append(names, unescape(all[i].Name))
	}
	clusters, err := h.storageClusters(ctx, all)
	if err != nil {
		return nil, err
	}
	if s := clusters[name]; s != nil {
		return s, nil
	}
	names = append(names, slices.Sorted(maps.Keys(clusters))...)
	return nil, h.unfit("storage", "there is no datastore %q that can be reached from there; there are %s", name, list(names))
}

// networks are those of where new machines go, with the objects behind them.
func (h *Host) networks(ctx context.Context) ([]hypervisor.Network, map[string]ref, error) {
	d, err := h.destination(ctx)
	if err != nil {
		return nil, nil, err
	}
	var refs []ref
	if d.host != nil {
		var e mo.HostSystem
		if err := h.get(ctx, *d.host, &e, "network"); err != nil {
			return nil, nil, err
		}
		refs = e.Network
	} else {
		var c mo.ComputeResource
		if err := h.get(ctx, d.compute, &c, "network"); err != nil {
			return nil, nil, err
		}
		refs = c.Network
	}
	var out []hypervisor.Network
	objects := map[string]ref{}
	add := func(r ref, n hypervisor.Network) {
		if _, twice := objects[n.Name]; !twice {
			objects[n.Name] = r
			out = append(out, n)
		}
	}
	// A distributed switch itself is among them, and is none.
	plainNets := ofType(refs, "Network", "OpaqueNetwork")
	groups := ofType(refs, "DistributedVirtualPortgroup")
	pc := property.DefaultCollector(h.client)
	if len(plainNets) > 0 {
		var all []mo.Network
		if err := pc.Retrieve(ctx, plainNets, []string{"name", "summary"}, &all); err != nil {
			return nil, nil, known(err)
		}
		for _, x := range all {
			active := x.Summary == nil || x.Summary.GetNetworkSummary().Accessible
			add(x.Self, hypervisor.Network{Name: unescape(x.Name), Kind: "network", Active: active})
		}
	}
	if len(groups) > 0 {
		var all []mo.DistributedVirtualPortgroup
		if err := pc.Retrieve(ctx, groups, []string{"name", "config.uplink", "tag"}, &all); err != nil {
			return nil, nil, known(err)
		}
		for _, g := range all {
			uplink := g.Config.Uplink != nil && *g.Config.Uplink ||
				slices.ContainsFunc(g.Tag, func(t types.Tag) bool { return t.Key == "SYSTEM/DVS.UPLINKPG" })
			if !uplink { // which is where the switch leads out
				add(g.Self, hypervisor.Network{Name: unescape(g.Name), Kind: "portgroup", Active: true})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b hypervisor.Network) int { return cmp.Compare(a.Name, b.Name) })
	return out, objects, nil
}

func ofType(refs []ref, types ...string) []ref {
	return slices.DeleteFunc(slices.Clone(refs), func(r ref) bool { return !slices.Contains(types, r.Type) })
}

// Networks are the networks and port groups that machines there may be on.
func (h *Host) Networks(ctx context.Context) ([]hypervisor.Network, error) {
	out, _, err := h.networks(ctx)
	if err != nil {
		return nil, fmt.Errorf("networks: %w", err)
	}
	return out, nil
}
