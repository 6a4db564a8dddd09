package plan

import (
	"fmt"

	"github.com/ovation-project/ovation/deploy/lifecycle"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/ovf"
)

// ImportSpec says to a host that is given the package as a whole what the plan
// is. r is the resolved descriptor, with the values of properties that are in no
// plan; descriptors are the texts for the virtual systems by their IDs.
func (p *Plan) ImportSpec(r *ovf.Resolved, descriptors map[string]string) (hypervisor.ImportSpec, error) {
	if p.Import == nil {
		return hypervisor.ImportSpec{}, fmt.Errorf("%w: nothing of it is imported", ErrInvalid)
	}
	s := hypervisor.ImportSpec{Deployment: p.ID, Group: p.Import.Group, Option: p.Option, Locale: p.Locale,
		Storage: p.Import.Placement.Storage, Provisioning: p.Import.Provisioning, IPAllocation: p.Import.IPAllocation, IPProtocol: p.Import.IPProtocol}
	for _, n := range p.Networks {
		if n.Name != "" {
			s.Networks = append(s.Networks, hypervisor.ImportNetwork{Name: n.Name, HostNetwork: n.Host})
		}
	}
	for i := range p.Machines {
		m := &p.Machines[i]
		text, ok := descriptors[m.ID]
		if !ok {
			return s, fmt.Errorf("machine %s: there is no descriptor of %q", m.Name, m.ID)
		}
		one := hypervisor.ImportSystem{ID: m.ID, Name: m.Name, Descriptor: text, Record: m.Record, Machine: &m.Machine}
		for _, system := range r.Systems {
			if system.ID != m.ID {
				continue
			}
			for _, v := range system.Properties {
				if v.Given {
					one.Properties = append(one.Properties, hypervisor.ImportProperty{Key: v.FullKey, Value: v.Value})
				}
			}
		}
		data, err := lifecycle.DataOf(&m.Record)
		if err != nil {
			return s, fmt.Errorf("machine %s: %w", m.Name, err)
		}
		one.Start = startOf(data)
		s.Systems = append(s.Systems, one)
	}
	return s, nil
}

// startOf is a machine's place in its group, for a host that starts groups.
func startOf(d *lifecycle.Data) hypervisor.ImportStart {
	s := hypervisor.ImportStart{DelaySeconds: d.Start.DelaySeconds, WaitForGuest: d.Start.WaitIn > 0,
		Shutdown: d.Stop.Action != lifecycle.PowerOff, StopDelaySeconds: d.Stop.DelaySeconds}
	if !d.Start.Manual {
		s.Order = d.Start.Step + 1
	}
	return s
}
