package libvirt

import (
	"cmp"
	"slices"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"
)

// cpuFeatures asks what the processors of a domain can do: libvirt knows it as
// a model with what it has besides, and takes the model apart for us. The
// answer is by QEMU's names; nil where an older libvirt does not tell.
func (f *facts) cpuFeatures(c *connection, machine string, modes []libvirtxml.DomainCapsCPUMode) []string {
	i := slices.IndexFunc(modes, func(m libvirtxml.DomainCapsCPUMode) bool {
		return m.Name == "host-model" && m.Supported == "yes" && len(m.Models) == 1
	})
	if i < 0 {
		return nil
	}
	m := modes[i]
	x := libvirtxml.DomainCPU{Mode: "custom", Match: "exact", Model: &libvirtxml.DomainCPUModel{Value: m.Models[0].Name, Fallback: "allow"}, Vendor: m.Vendor}
	for _, feature := range m.Features {
		x.Features = append(x.Features, libvirtxml.DomainCPUFeature{Policy: cmp.Or(feature.Policy, "require"), Name: feature.Name})
	}
	text, err := x.Marshal()
	if err != nil {
		return nil
	}
	text, err = c.ConnectBaselineHypervisorCPU(some(f.emulator), some(f.arch), some(machine), some(f.virt), []string{text},
		uint32(golibvirt.ConnectBaselineCPUExpandFeatures))
	var full libvirtxml.DomainCPU
	if err != nil || full.Unmarshal(text) != nil {
		return nil
	}
	byLibvirt := inverse(featureNames)
	features := []string{}
	for _, feature := range full.Features {
		if feature.Policy == "" || feature.Policy == "require" || feature.Policy == "force" {
			features = append(features, cmp.Or(byLibvirt[feature.Name], feature.Name))
		}
	}
	slices.Sort(features)
	return slices.Compact(features)
}
