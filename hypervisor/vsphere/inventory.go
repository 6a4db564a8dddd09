package vsphere

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/ovation-project/ovation/hypervisor"
)

type ref = types.ManagedObjectReference

// place is where in the inventory the URI leads.
type place struct {
	datacenter     *ref // nil where there are several and the URI names none
	datacenterName string
	// scope is what holds the machines that are looked for.
	scope ref
	// folder gets new machines; compute is the cluster or single host that runs
	// them, pool within it, and host one machine of it. They are nil where the
	// URI does not say.
	folder, compute, pool, host *ref
}

// get reads properties of one object.
func (h *Host) get(ctx context.Context, obj ref, dst any, properties ...string) error {
	return known(property.DefaultCollector(h.client).RetrieveOne(ctx, obj, properties, dst))
}

// all reads properties of every object of a kind within another.
func (h *Host) all(ctx context.Context, root ref, kind string, properties ...string) ([]types.ObjectContent, error) {
	v, err := view.NewManager(h.client).CreateContainerView(ctx, root, []string{kind}, true)
	if err != nil {
		return nil, known(err)
	}
	defer func() { _ = v.Destroy(context.WithoutCancel(ctx)) }()
	var out []types.ObjectContent
	err = v.Retrieve(ctx, []string{kind}, properties, &out)
	return out, known(err)
}

// valueOf is a property of an object that was read, nil where it has none.
func valueOf(o types.ObjectContent, name string) any {
	for _, p := range o.PropSet {
		if p.Name == name {
			return p.Val
		}
	}
	return nil
}

func nameOf(o types.ObjectContent) string {
	s, _ := valueOf(o, "name").(string)
	return unescape(s)
}

// The characters of names that vSphere itself escapes.
var escapes = []struct{ plain, escaped string }{{"%", "%25"}, {"/", "%2f"}, {"\\", "%5c"}}

func unescape(name string) string {
	for _, e := range slices.Backward(escapes) {
		name = strings.ReplaceAll(name, e.escaped, e.plain)
		name = strings.ReplaceAll(name, strings.ToUpper(e.escaped), e.plain)
	}
	return name
}

// place finds out where the URI leads, once.
func (h *Host) place(ctx context.Context) (*place, error) {
	return h.placed.get(func() (*place, error) { return h.findPlace(ctx) })
}

func (h *Host) findPlace(ctx context.Context) (*place, error) {
	p := &place{scope: h.client.ServiceContent.RootFolder}
	datacenters, err := h.all(ctx, p.scope, "Datacenter", "name")
	if err != nil {
		return nil, err
	}
	at, err := h.locate(ctx, datacenters)
	if err != nil {
		return nil, err
	}
	if at != nil {
		if err := h.settle(ctx, p, *at); err != nil {
			return nil, err
		}
	}
	if p.datacenter == nil && len(datacenters) == 1 {
		p.datacenter, p.datacenterName = &datacenters[0].Obj, nameOf(datacenters[0])
		p.scope = datacenters[0].Obj
	}
	return p, h.choices(ctx, p)
}

// locate finds the object at the URI's path, nil where it has none.
func (h *Host) locate(ctx context.Context, datacenters []types.ObjectContent) (*ref, error) {
	if h.target.path == "" {
		return nil, nil
	}
	paths := []string{h.target.path}
	if len(datacenters) == 1 {
		// The one that there is need not be said.
		name := nameOf(datacenters[0])
		paths = append(paths, path.Join(name, h.target.path), path.Join(name, "host", h.target.path), path.Join(name, "vm", h.target.path))
	}
	for _, s := range paths {
		found, err := h.byPath(ctx, s)
		if found != nil || err != nil {
			return found, err
		}
	}
	var names []string
	for _, d := range datacenters {
		names = append(names, nameOf(d))
	}
	return nil, fmt.Errorf("%s: there is no %q in the inventory: %w; its datacenters are %s", h.target, h.target.path, hypervisor.ErrNotFound, list(names))
}

func list(names []string) string {
	slices.Sort(names)
	return cmp.Or(strings.Join(names, ", "), "none")
}

func (h *Host) byPath(ctx context.Context, inventory string) (*ref, error) {
	found, err := object.NewSearchIndex(h.client).FindByInventoryPath(ctx, inventory)
	if err != nil || found == nil {
		return nil, known(err)
	}
	r := found.Reference()
	return &r, nil
}

// settle says what an object of the inventory means for where machines are.
func (h *Host) settle(ctx context.Context, p *place, at ref) error {
	above, err := mo.Ancestors(ctx, h.client, h.client.ServiceContent.PropertyCollector, at)
	if err != nil {
		return known(err)
	}
	for _, e := range above {
		switch e.Self.Type {
		case "Datacenter":
			p.datacenter, p.datacenterName, p.scope = &e.Self, unescape(e.Name), e.Self
		case "ComputeResource", "ClusterComputeResource":
			p.compute = &e.Self
		}
	}
	switch at.Type {
	case "Datacenter", "ComputeResource", "ClusterComputeResource":
	case "HostSystem":
		p.host = &at
	case "ResourcePool", "VirtualApp":
		p.pool = &at
	case "Folder":
		var f mo.Folder
		if err := h.get(ctx, at, &f, "childType"); err != nil {
			return err
		}
		p.scope = at
		if slices.Contains(f.ChildType, "VirtualMachine") {
			p.folder = &at
		}
	default:
		return fmt.Errorf("%s: %q is a %s, and no place for machines", h.target, h.target.path, at.Type)
	}
	return nil
}

// choices finds what the URI's parameters name.
func (h *Host) choices(ctx context.Context, p *place) error {
	within := p.scope
	if p.datacenter != nil {
		within = *p.datacenter
	}
	if name := h.target.pool; name != "" {
		found, err := h.named(ctx, p, within, "pool", name, "host", "ResourcePool", "VirtualApp", "ClusterComputeResource", "ComputeResource")
		if err != nil {
			return err
		}
		if err := h.settle(ctx, p, found); err != nil {
			return err
		}
	}
	if name := h.target.esx; name != "" {
		found, err := h.named(ctx, p, within, "host", name, "host", "HostSystem")
		if err != nil {
			return err
		}
		p.host = &found
		var e mo.HostSystem
		if err := h.get(ctx, found, &e, "parent"); err != nil {
			return err
		}
		if p.compute == nil {
			p.compute = e.Parent
		}
	}
	if name := h.target.folder; name != "" {
		found, err := h.named(ctx, p, within, "folder", name, "vm", "Folder")
		if err != nil {
			return err
		}
		p.folder = &found
	}
	return nil
}

// named finds an object that a parameter names: by its path, from the root or
// from the datacenter's folder of such, or by its name where that is one's
// only.
func (h *Host) named(ctx context.Context, p *place, within ref, parameter, name, root string, kinds ...string) (ref, error) {
	paths := []string{name}
	if p.datacenterName != "" {
		paths = append(paths, path.Join(p.datacenterName, name), path.Join(p.datacenterName, root, name))
	}
	for _, s := range paths {
		found, err := h.byPath(ctx, strings.Trim(s, "/"))
		if err != nil {
			return ref{}, err
		}
		if found != nil && slices.Contains(kinds, found.Type) {
			return *found, nil
		}
	}
	var all []ref
	var names []string
	for _, kind := range kinds {
		have, err := h.all(ctx, within, kind, "name")
		if err != nil {
			return ref{}, err
		}
		for _, o := range have {
			if n := nameOf(o); n != name {
				names = append(names, n)
			} else if !slices.Contains(all, o.Obj) {
				all = append(all, o.Obj)
			}
		}
	}
	switch len(all) {
	case 0:
		slices.Sort(names)
		return ref{}, fmt.Errorf("%s: %s=%s: %w; there are %s", h.target, parameter, name, hypervisor.ErrNotFound, list(slices.Compact(names)))
	case 1:
		return all[0], nil
	}
	return ref{}, fmt.Errorf("%s: %s=%s: there are %d of that name; give its path", h.target, parameter, name, len(all))
}

// destination is where new machines go: complete, or an UnfitError that says
// what has to be named.
type destination struct {
	datacenter, folder, compute, pool ref
	host                              *ref
	names                             hypervisor.Placement
}

func (h *Host) unfit(subject, format string, a ...any) error {
	return &hypervisor.UnfitError{Target: h.URI(), Reasons: []hypervisor.Reason{{Subject: subject, Text: fmt.Sprintf(format, a...)}}}
}

// destination finds it out, once.
func (h *Host) destination(ctx context.Context) (*destination, error) {
	return h.goes.get(func() (*destination, error) { return h.findDestination(ctx) })
}

func (h *Host) findDestination(ctx context.Context) (*destination, error) {
	p, err := h.place(ctx)
	if err != nil {
		return nil, err
	}
	if p.datacenter == nil {
		all, err := h.all(ctx, h.client.ServiceContent.RootFolder, "Datacenter", "name")
		if err != nil {
			return nil, err
		}
		var names []string
		for _, d := range all {
			names = append(names, nameOf(d))
		}
		return nil, h.unfit("datacenter", "there are %s: name one in the URI, as in vsphere://%s/%s", list(names), h.target.address(), cmp.Or(names...))
	}
	d := &destination{datacenter: *p.datacenter, host: p.host, names: hypervisor.Placement{Datacenter: p.datacenterName}}
	if d.compute, err = h.computeOf(ctx, p); err != nil {
		return nil, err
	}
	var c mo.ComputeResource
	if err := h.get(ctx, d.compute, &c, "name", "resourcePool"); err != nil {
		return nil, err
	}
	d.names.Pool = unescape(c.Name)
	switch {
	case p.pool != nil:
		d.pool = *p.pool
		var pool mo.ResourcePool
		if err := h.get(ctx, d.pool, &pool, "name"); err != nil {
			return nil, err
		}
		d.names.Pool += "/" + unescape(pool.Name)
	case c.ResourcePool == nil:
		return nil, h.unfit("resource pool", "%s has none", c.Name)
	default:
		d.pool = *c.ResourcePool
	}
	if d.host != nil {
		var e mo.HostSystem
		if err := h.get(ctx, *d.host, &e, "name"); err != nil {
			return nil, err
		}
		d.names.Host = e.Name
	}
	if p.folder != nil {
		d.folder = *p.folder
	} else {
		var dc mo.Datacenter
		if err := h.get(ctx, d.datacenter, &dc, "vmFolder"); err != nil {
			return nil, err
		}
		d.folder = dc.VmFolder
	}
	var f mo.Folder
	if err := h.get(ctx, d.folder, &f, "name"); err != nil {
		return nil, err
	}
	d.names.Folder = unescape(f.Name)
	return d, nil
}

// computeOf is the cluster or single host that runs new machines.
func (h *Host) computeOf(ctx context.Context, p *place) (ref, error) {
	if p.compute != nil {
		return *p.compute, nil
	}
	all, err := h.all(ctx, *p.datacenter, "ComputeResource", "name")
	if err != nil {
		return ref{}, err
	}
	var names []string
	for _, c := range all {
		names = append(names, nameOf(c))
	}
	switch len(all) {
	case 0:
		return ref{}, h.unfit("hosts", "the datacenter %s has none", p.datacenterName)
	case 1:
		return all[0].Obj, nil
	}
	slices.Sort(names)
	return ref{}, h.unfit("cluster", "there are %s: name one in the URI, as in vsphere://%s/%s/host/%s", list(names), h.target.address(), p.datacenterName, names[0])
}
