package vsphere

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/vmware/govmomi/ovf"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/ovation-project/ovation/hypervisor"
)

var _ hypervisor.Importer = (*Host)(nil)

// PrepareImport gives the descriptors to the OVF manager, which says what it
// would make of them.
func (h *Host) PrepareImport(ctx context.Context, spec hypervisor.ImportSpec) (hypervisor.Import, error) {
	d, err := h.destination(ctx)
	if err != nil {
		return nil, err
	}
	store, err := h.datastore(ctx, spec.Storage)
	if err != nil {
		return nil, err
	}
	_, networks, err := h.networks(ctx)
	if err != nil {
		return nil, err
	}
	i := &importing{h: h, spec: spec, to: d, plan: hypervisor.ImportPlan{Placement: d.names, Provisioning: spec.Provisioning, Networks: spec.Networks,
		IPAllocation: spec.IPAllocation, IPProtocol: spec.IPProtocol}}
	i.plan.Placement.Storage = unescape(store.Name)
	var reasons []hypervisor.Reason
	params := types.OvfCreateImportSpecParams{
		OvfManagerCommonParams: types.OvfManagerCommonParams{Locale: spec.Locale, DeploymentOption: spec.Option},
		DiskProvisioning:       string(spec.Provisioning), IpAllocationPolicy: spec.IPAllocation, IpProtocol: spec.IPProtocol,
		HostSystem: d.host,
	}
	for _, n := range spec.Networks {
		to, ok := networks[n.HostNetwork]
		if !ok {
			reasons = append(reasons, hypervisor.Reason{Subject: "network " + n.Name, Text: fmt.Sprintf("there is no network %q where the machines go; there are %s", n.HostNetwork, list(slices.Collect(maps.Keys(networks))))})
			continue
		}
		params.NetworkMapping = append(params.NetworkMapping, types.OvfNetworkMapping{Name: n.Name, Network: to})
	}
	if h.target.policy != "" {
		i.plan.Placement.StoragePolicy = h.target.policy
		if i.policy, err = h.policyID(ctx, h.target.policy); err != nil {
			return nil, err
		}
	}
	for _, s := range spec.Systems {
		more, err := i.system(ctx, s, store.Self, params)
		if err != nil {
			return nil, fmt.Errorf("machine %s: the host judges the descriptor: %w", s.Name, err)
		}
		reasons = append(reasons, more...)
	}
	if len(reasons) > 0 {
		return nil, &hypervisor.UnfitError{Target: h.URI(), Reasons: reasons}
	}
	return i, i.group(ctx)
}

// importing is a package that the OVF manager would take.
type importing struct {
	h       *Host
	spec    hypervisor.ImportSpec
	to      *destination
	policy  string // the storage policy's ID
	plan    hypervisor.ImportPlan
	systems []importSystem
}

// importSystem is one machine to be made.
type importSystem struct {
	hypervisor.ImportSystem
	config *types.VirtualMachineImportSpec
	files  []hypervisor.ImportFile
	items  map[string]types.OvfFileItem // by the device's ID
}

// Plan is what Run will make.
func (i *importing) Plan() hypervisor.ImportPlan { return i.plan }

// system has the host judge one descriptor.
func (i *importing) system(ctx context.Context, s hypervisor.ImportSystem, store ref, params types.OvfCreateImportSpecParams) ([]hypervisor.Reason, error) {
	params.EntityName = s.Name
	for _, p := range s.Properties {
		params.PropertyMapping = append(params.PropertyMapping, types.KeyValue{Key: p.Key, Value: p.Value})
	}
	res, err := ovf.NewManager(i.h.client).CreateImportSpec(ctx, s.Descriptor, i.to.pool, store, &params)
	if err != nil {
		return nil, known(err)
	}
	var reasons []hypervisor.Reason
	for _, e := range res.Error {
		reasons = append(reasons, hypervisor.Reason{Machine: s.ID, Subject: subjectOf(e.Fault), Text: textOf(e)})
	}
	for _, w := range res.Warning {
		i.plan.Warnings = append(i.plan.Warnings, s.Name+": "+textOf(w))
	}
	if len(reasons) > 0 {
		return reasons, nil
	}
	config, ok := res.ImportSpec.(*types.VirtualMachineImportSpec)
	if !ok {
		return nil, fmt.Errorf("the host makes of it no machine but a %T", res.ImportSpec)
	}
	x := importSystem{ImportSystem: s, config: config, items: map[string]types.OvfFileItem{}}
	c := &config.ConfigSpec
	c.Name = s.Name
	extra, err := recordConfig(s.Record, 0)
	if err != nil {
		return nil, err
	}
	c.ExtraConfig = append(notOurs(c.ExtraConfig), extra...)
	if s.Machine != nil {
		useMachine(c, s.Machine)
	}
	if i.policy != "" {
		usePolicy(c, i.policy)
	}
	for _, f := range res.FileItem {
		x.items[f.DeviceId] = f
		x.files = append(x.files, hypervisor.ImportFile{System: s.ID, ID: f.DeviceId, Href: f.Path, Size: f.Size, Disk: !f.Create})
	}
	i.systems = append(i.systems, x)
	i.plan.Machines = append(i.plan.Machines, hypervisor.ImportMachine{
		Name: s.Name, System: s.ID, Hardware: c.Version, OS: c.GuestId, CPUs: int(c.NumCPUs), MemoryBytes: c.MemoryMB << 20,
		Firmware: cmp.Or(c.Firmware, "bios"), Files: x.files,
	})
	return nil, nil
}

// notOurs leaves out of the settings that a package brings those that say whose a
// machine is: a package must not pass for what this program has deployed. The
// host does not tell large letters from small ones in them.
func notOurs(settings []types.BaseOptionValue) []types.BaseOptionValue {
	return slices.DeleteFunc(settings, func(o types.BaseOptionValue) bool {
		return strings.HasPrefix(strings.ToLower(strings.TrimSpace(o.GetOptionValue().Key)), ownSettings)
	})
}

// memoryUnit is what a machine's memory is a multiple of, in MiB.
const memoryUnit = 4

// useMachine takes what was worked out in place of what the host made of the
// descriptor.
func useMachine(c *types.VirtualMachineConfigSpec, m *hypervisor.Machine) {
	c.NumCPUs = int32(m.CPU.Count)
	if n := int32(m.CPU.CoresPerSocket); n > 0 {
		c.NumCoresPerSocket = &n
	} else if c.NumCoresPerSocket != nil && c.NumCPUs%*c.NumCoresPerSocket != 0 {
		one := int32(1)
		c.NumCoresPerSocket = &one
	}
	c.MemoryMB = ((m.Memory.Bytes+1<<20-1)>>20 + memoryUnit - 1) / memoryUnit * memoryUnit
	if m.UUID != "" {
		c.Uuid = m.UUID
	}
	useAddresses(c, m.NICs)
	useFirmware(c, m.Firmware)
}

func useFirmware(c *types.VirtualMachineConfigSpec, f hypervisor.Firmware) {
	c.Firmware = string(types.GuestOsDescriptorFirmwareTypeBios)
	if f.Kind == hypervisor.UEFI {
		c.Firmware = string(types.GuestOsDescriptorFirmwareTypeEfi)
		if c.BootOptions == nil {
			c.BootOptions = &types.VirtualMachineBootOptions{}
		}
		secure := f.SecureBoot
		c.BootOptions.EfiSecureBootEnabled = &secure
	}
}

// useAddresses gives the network cards that are to be made the addresses that
// were chosen for them. They are in the order of the descriptor on both sides.
func useAddresses(c *types.VirtualMachineConfigSpec, nics []hypervisor.NIC) {
	var cards []*types.VirtualEthernetCard
	for _, change := range c.DeviceChange {
		if card, ok := change.GetVirtualDeviceConfigSpec().Device.(types.BaseVirtualEthernetCard); ok {
			cards = append(cards, card.GetVirtualEthernetCard())
		}
	}
	if len(cards) != len(nics) {
		return
	}
	for i, n := range nics {
		if n.MAC != "" {
			cards[i].AddressType, cards[i].MacAddress = string(types.VirtualEthernetCardMacTypeManual), n.MAC
		}
	}
}

// subjectOf is what a fault of the OVF manager is about.
func subjectOf(f types.BaseMethodFault) string {
	name := strings.TrimPrefix(reflect.TypeOf(f).String(), "*types.")
	v := reflect.ValueOf(f)
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() == reflect.Struct {
		for _, field := range []string{"ElementName", "Name", "InstanceId", "Value"} {
			if x := v.FieldByName(field); x.IsValid() && x.Kind() == reflect.String && x.String() != "" {
				return fmt.Sprintf("%s (%s)", x.String(), name)
			}
		}
	}
	return name
}

// textOf is the host's own words.
func textOf(f types.LocalizedMethodFault) string {
	return cmp.Or(strings.TrimSpace(f.LocalizedMessage), strings.TrimPrefix(fmt.Sprintf("%T", f.Fault), "*types."))
}

// group decides whether the machines get a vApp.
func (i *importing) group(ctx context.Context) error {
	if i.spec.Group == "" {
		return nil
	}
	why := ""
	switch {
	case !i.h.vCenter():
		why = "a single ESXi host has none"
	case i.to.compute.Type == "ClusterComputeResource":
		var c mo.ClusterComputeResource
		if err := i.h.get(ctx, i.to.compute, &c, "configurationEx"); err != nil {
			return err
		}
		if x, ok := c.ConfigurationEx.(*types.ClusterConfigInfoEx); ok && (x.DrsConfig.Enabled == nil || !*x.DrsConfig.Enabled) {
			why = "the cluster's DRS is off"
		}
	}
	if why == "" {
		i.plan.Group = i.spec.Group
		return nil
	}
	i.plan.Warnings = append(i.plan.Warnings, fmt.Sprintf("%s gets no vApp, %s: its machines lie side by side, and are started in their order by this program only", i.spec.Group, why))
	return nil
}

// free sees that the names are.
func (i *importing) free(ctx context.Context) error {
	for _, m := range i.plan.Machines {
		_, err := i.h.find(ctx, m.Name)
		if err == nil {
			return fmt.Errorf("machine %s: %w", m.Name, hypervisor.ErrExists)
		}
		if !errors.Is(err, hypervisor.ErrNotFound) {
			return err
		}
	}
	if i.plan.Group == "" {
		return nil
	}
	g, err := i.h.findGroup(ctx, i.plan.Group)
	if err == nil && g != nil {
		err = fmt.Errorf("vApp %s: %w", i.plan.Group, hypervisor.ErrExists)
	}
	return err
}

// UndoImport takes away the machines of a deployment, and their vApp.
func (h *Host) UndoImport(ctx context.Context, plan hypervisor.ImportPlan, deployment string) error {
	p, err := h.place(ctx)
	if err != nil {
		return err
	}
	have, err := h.all(ctx, p.scope, "VirtualMachine", "name")
	if err != nil {
		return err
	}
	var errs []error
	for _, o := range have {
		name := nameOf(o)
		if !slices.ContainsFunc(plan.Machines, func(m hypervisor.ImportMachine) bool { return m.Name == name }) {
			continue
		}
		vm, err := h.read(ctx, o.Obj)
		if errors.Is(err, hypervisor.ErrNotFound) {
			continue
		}
		if err == nil && settings(vm.Config.ExtraConfig)[deploymentKey] == deployment {
			err = (&guest{h: h, vm: o.Obj, name: name}).Remove(ctx)
		}
		errs = append(errs, err)
	}
	if plan.Group != "" {
		g, err := h.findGroup(ctx, plan.Group)
		if err == nil && g != nil {
			err = h.removeEmptyGroup(ctx, *g)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
