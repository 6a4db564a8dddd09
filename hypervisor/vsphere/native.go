package vsphere

import (
	"cmp"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/ovation-project/ovation/hypervisor"
)

// native is what only vSphere says of a machine.
func native(c *types.VirtualMachineConfigInfo) *hypervisor.Native {
	n := &hypervisor.Native{Family: c.Version, OS: c.GuestId, Note: c.Annotation}
	for key, value := range settings(c.ExtraConfig) {
		if !strings.HasPrefix(key, ownSettings) {
			n.Settings = append(n.Settings, hypervisor.NativeSetting{Key: key, Value: value})
		}
	}
	slices.SortFunc(n.Settings, func(a, b hypervisor.NativeSetting) int { return cmp.Compare(a.Key, b.Key) })
	if c.VAppConfig == nil {
		return n
	}
	v := c.VAppConfig.GetVmConfigInfo()
	n.Transports, n.EULAs = v.OvfEnvironmentTransport, v.Eula
	product := func(class, instance string) *hypervisor.NativeProduct {
		for i := range n.Products {
			if p := &n.Products[i]; p.Class == class && p.Instance == instance {
				return p
			}
		}
		n.Products = append(n.Products, hypervisor.NativeProduct{Class: class, Instance: instance})
		return &n.Products[len(n.Products)-1]
	}
	for _, x := range v.Product {
		p := product(x.ClassId, x.InstanceId)
		p.Name, p.Vendor, p.Version, p.FullVersion = x.Name, x.Vendor, x.Version, x.FullVersion
		p.ProductURL, p.VendorURL, p.AppURL = x.ProductUrl, x.VendorUrl, x.AppUrl
	}
	for _, x := range v.Property {
		p := product(x.ClassId, x.InstanceId)
		one := hypervisor.NativeProperty{Key: x.Id, Category: x.Category, Label: x.Label, Description: x.Description, Type: x.Type,
			UserConfigurable: x.UserConfigurable != nil && *x.UserConfigurable}
		if !strings.HasPrefix(x.Type, "password") {
			one.Default = x.DefaultValue
		}
		p.Properties = append(p.Properties, one)
	}
	return n
}
