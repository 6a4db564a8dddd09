package vsphere

import (
	"context"
	"fmt"

	"github.com/vmware/govmomi/pbm"
	pbmtypes "github.com/vmware/govmomi/pbm/types"
	"github.com/vmware/govmomi/vim25/types"
)

// policies are the storage policies by name. A single ESXi host has none.
func (h *Host) policies(ctx context.Context) (map[string]string, error) {
	if !h.vCenter() {
		return nil, nil
	}
	c, err := pbm.NewClient(ctx, h.client)
	if err != nil {
		return nil, fmt.Errorf("storage policies: %w", known(err))
	}
	category := string(pbmtypes.PbmProfileCategoryEnumREQUIREMENT)
	ids, err := c.QueryProfile(ctx, pbmtypes.PbmProfileResourceType{ResourceType: string(pbmtypes.PbmProfileResourceTypeEnumSTORAGE)}, category)
	if err != nil || len(ids) == 0 {
		return nil, known(err)
	}
	all, err := c.RetrieveContent(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("storage policies: %w", known(err))
	}
	out := map[string]string{}
	for _, p := range all {
		x := p.GetPbmProfile()
		out[x.Name] = x.ProfileId.UniqueId
	}
	return out, nil
}

// policyID finds a storage policy by its name.
func (h *Host) policyID(ctx context.Context, name string) (string, error) {
	all, err := h.policies(ctx)
	if err != nil {
		return "", err
	}
	if id, ok := all[name]; ok {
		return id, nil
	}
	var names []string
	for n := range all {
		names = append(names, n)
	}
	return "", h.unfit("storage policy", "there is no policy %q; there are %s", name, list(names))
}

// usePolicy has a machine and its disks kept as a storage policy says.
func usePolicy(c *types.VirtualMachineConfigSpec, id string) {
	profile := []types.BaseVirtualMachineProfileSpec{&types.VirtualMachineDefinedProfileSpec{ProfileId: id}}
	c.VmProfile = profile
	for _, change := range c.DeviceChange {
		s := change.GetVirtualDeviceConfigSpec()
		if _, disk := s.Device.(*types.VirtualDisk); disk {
			s.Profile = profile
		}
	}
}
