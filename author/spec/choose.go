package spec

import (
	"reflect"
	"slices"
)

// DefaultOption is the ID of the deployment option that is taken where none is
// chosen, "" where there are none.
func (a *Appliance) DefaultOption() string {
	for _, o := range a.Options {
		if o.Default {
			return o.ID
		}
	}
	if len(a.Options) > 0 {
		return a.Options[0].ID
	}
	return ""
}

// Choose leaves of the deployment options what holds for one of them: the
// hardware that it has, the disks in that, and the values that properties have
// then.
func (a *Appliance) Choose(option string) {
	a.Options, a.Infos.Options = nil, Text{}
	before := a.disksInUse()
	defer func() { a.dropDisks(before, a.disksInUse()) }()
	a.Walk(func(c *Content, _ bool) {
		for i := range c.Products {
			p := &c.Products[i]
			p.Properties = slices.DeleteFunc(p.Properties, func(y Property) bool { return others(&y.Options, option) })
			for j := range p.Properties {
				y := &p.Properties[j]
				for _, v := range y.Values {
					if v.Option == option || v.Option == "" && y.Default == nil {
						y.Default = &v.Value
					}
				}
				y.Values = nil
			}
		}
		for i := range c.Hardware {
			c.Hardware[i].choose(option)
		}
		if r := c.Resources; r != nil {
			r.Devices = chooseDevices(r.Devices, option)
		}
	})
}

// others says whether something is for other options only; what is left is for
// all.
func others(in *Strings, option string) bool {
	other := len(*in) > 0 && !slices.Contains(*in, option)
	*in = nil
	return other
}

func (h *Hardware) choose(option string) {
	for _, p := range h.Per {
		if p.Option != option {
			continue
		}
		if p.CPUs > 0 {
			h.CPUs = p.CPUs
		}
		if p.Memory > 0 {
			h.Memory = p.Memory
		}
	}
	h.Per = nil
	for _, drives := range []*[]Drive{&h.Disks, &h.CDROMs, &h.Floppies} {
		var kept []Drive
		for _, v := range *drives {
			if !others(&v.Options, option) {
				kept = append(kept, v)
			}
		}
		*drives = kept
	}
	var cards []Card
	for _, v := range h.Cards {
		if !others(&v.Options, option) {
			cards = append(cards, v)
		}
	}
	h.Cards = cards
	h.Devices = chooseDevices(h.Devices, option)
}

// chooseDevices joins devices of the same ID, of which a later one says what is
// different for an option.
func chooseDevices(all []Device, option string) []Device {
	var kept []Device
	for _, d := range all {
		if others(&d.Options, option) {
			continue
		}
		same := func(o Device) bool { return o.ID == d.ID && d.ID != "" && o.Bound == d.Bound }
		if i := slices.IndexFunc(kept, same); i >= 0 {
			kept[i] = joined(kept[i], d)
			continue
		}
		kept = append(kept, d)
	}
	return kept
}

// joined is a device with what another one says put over it.
func joined(d, over Device) Device {
	to, from := reflect.ValueOf(&d).Elem(), reflect.ValueOf(over)
	for i := range from.NumField() {
		if !from.Field(i).IsZero() {
			to.Field(i).Set(from.Field(i))
		}
	}
	return d
}

// disksInUse are the IDs of disks that are in drives, and of those that they are
// deltas of.
func (a *Appliance) disksInUse() map[string]bool {
	used := map[string]bool{}
	a.Walk(func(c *Content, _ bool) {
		for _, h := range c.Hardware {
			for _, d := range h.Devices {
				used[d.Disk] = true
			}
			for _, d := range h.Disks {
				used[d.Disk] = true
			}
		}
	})
	parents := map[string]string{}
	for _, d := range a.Disks {
		parents[d.ID] = d.Parent
	}
	for _, d := range a.Disks {
		if !used[d.ID] {
			continue
		}
		for p := d.Parent; p != "" && !used[p]; p = parents[p] {
			used[p] = true
		}
	}
	return used
}

// dropDisks takes away disks that were in use and are not any more. A file that
// they were in, and that another disk is in as well, is that one's then.
func (a *Appliance) dropDisks(before, after map[string]bool) {
	gone := func(d Disk) bool { return before[d.ID] && !after[d.ID] }
	for _, d := range a.Disks {
		if !gone(d) || d.Source == "" || d.FileID == "" {
			continue
		}
		for i := range a.Disks {
			if k := &a.Disks[i]; !gone(*k) && k.FileID == d.FileID && k.Source == "" {
				k.Source, k.File, k.Format, k.Compression, k.ChunkSize = d.Source, d.File, d.Format, d.Compression, d.ChunkSize
				break
			}
		}
	}
	a.Disks = slices.DeleteFunc(a.Disks, gone)
}
