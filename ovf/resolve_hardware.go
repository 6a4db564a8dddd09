package ovf

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

func (r *resolver) system(c *Content, in *collection) {
	s := &System{
		Content: c, MemoryBytes: -1,
		CPU: Allocation{-1, -1, -1}, Memory: Allocation{-1, -1, -1},
		EULAs: c.EULAs, Properties: r.out.properties[c],
	}
	if in != nil {
		s.Parent, s.Path, s.Startup = in.Content, in.path, in.startup[c.ID]
		s.EULAs = join(r, in.eulas, c.EULAs)
		s.Properties = join(r, r.out.properties[in.Content], s.Properties)
	}
	if s.Hardware = r.chooseHardware(c); s.Hardware != nil {
		r.items(s)
	}
	r.out.Systems = append(r.out.Systems, s)
}

func (r *resolver) chooseHardware(c *Content) *Hardware {
	for _, family := range r.opt.Families {
		for _, h := range c.Hardware {
			for _, t := range h.SystemTypes {
				if strings.EqualFold(t, family) {
					return h
				}
			}
		}
	}
	if len(c.Hardware) == 0 {
		return nil
	}
	return c.Hardware[0]
}

// items chooses, for each InstanceID, the item that is for the option, with
// the ranges that go with it.
func (r *resolver) items(s *System) {
	type group struct{ normal, low, high *Item }
	groups := map[string]*group{}
	var order []string
	for n, i := range s.Hardware.Items {
		if !r.applies(i.Configurations) {
			continue
		}
		id := i.InstanceID
		if id == "" {
			id = fmt.Sprintf("\x00%d", n) // an item without ID is by itself
		}
		g := groups[id]
		if g == nil {
			g = &group{}
			groups[id] = g
			order = append(order, id)
		}
		slot := &g.normal
		switch i.Bound {
		case "min":
			slot = &g.low
		case "max":
			slot = &g.high
		}
		switch {
		case *slot == nil || moreSpecific(i, *slot):
			*slot = i // an item for this option goes before one for all
		case moreSpecific(*slot, i):
		default:
			r.fail(i.Pos(), "there are two items with the InstanceID %q for the same deployment option", i.InstanceID)
		}
	}
	for _, id := range order {
		g := groups[id]
		base := g.normal
		if base == nil { // a range without its middle
			if base = g.low; base == nil {
				base = g.high
			}
		}
		item := r.item(base)
		item.Min, item.Max = -1, -1
		if g.low != nil {
			item.Min = r.item(g.low).Quantity
		}
		if g.high != nil {
			item.Max = r.item(g.high).Quantity
		}
		if item.Max >= 0 && item.Min > item.Max {
			r.fail(base.Pos(), "the range of item %q goes from %d down to %d", base.InstanceID, item.Min, item.Max)
		}
		s.Items = append(s.Items, item)
		r.sum(s, item)
	}
}

// moreSpecific says whether a is for fewer deployment options than b; an item
// that names none is for all.
func moreSpecific(a, b *Item) bool {
	if len(a.Configurations) == 0 || len(b.Configurations) == 0 {
		return len(a.Configurations) > 0 && len(b.Configurations) == 0
	}
	return len(a.Configurations) < len(b.Configurations)
}

// applies says whether what is for these deployment options, none meaning all,
// is for the chosen one.
func (r *resolver) applies(options []string) bool {
	return len(options) == 0 || slices.Contains(options, r.option())
}

// item works out an item's numbers.
func (r *resolver) item(i *Item) *ResolvedItem {
	out := &ResolvedItem{Item: i, Quantity: -1, Allocation: Allocation{-1, -1, -1}}
	unit, _ := ParseUnit("count")
	var err error
	if i.AllocationUnits != "" {
		if unit, err = ParseUnit(i.AllocationUnits); err != nil {
			r.fail(i.Pos(), "item %q (%s): AllocationUnits: %v", i.InstanceID, i.ElementName, err)
			return out
		}
	} else if i.ResourceType == Memory && i.VirtualQuantity != "" {
		unit, _ = ParseUnit("byte * 2^20")
		r.note(i.Pos(), "item %q (%s) gives no AllocationUnits; its memory is taken to be in MiB", i.InstanceID, i.ElementName)
	}
	if i.ResourceType == Memory && unit.Base != "byte" {
		r.fail(i.Pos(), "item %q (%s): memory in %q, which is no unit of bytes", i.InstanceID, i.ElementName, i.AllocationUnits)
		return out
	}
	read := func(what, text string, u Unit, to *int64) {
		if text == "" {
			return
		}
		if *to, err = r.quantity(text, u); err != nil {
			r.fail(i.Pos(), "item %q (%s): %s: %v", i.InstanceID, i.ElementName, what, err)
			*to = -1
		}
	}
	// For processors AllocationUnits is the unit of reservation and limit;
	// the quantity is a count, unless its own unit says otherwise.
	quantity := unit
	if i.ResourceType != Memory && unit.Base != "byte" {
		quantity, _ = ParseUnit("count")
	}
	read("VirtualQuantity", i.VirtualQuantity, quantity, &out.Quantity)
	if i.Limit != "-1" { // vSphere's "no limit"
		read("Limit", i.Limit, unit, &out.Allocation.Limit)
	}
	read("Reservation", i.Reservation, unit, &out.Allocation.Reservation)
	count, _ := ParseUnit("count")
	read("Weight", i.Weight, count, &out.Allocation.Weight)
	return out
}

func (r *resolver) sum(s *System, i *ResolvedItem) {
	switch i.ResourceType {
	case Processor:
		n := i.Quantity
		if n < 0 {
			n = 1
		}
		if n == 0 || n > 1<<16 {
			r.fail(i.Pos(), "item %q: %s is no number of processors", i.InstanceID, i.VirtualQuantity)
			return
		}
		s.CPUs += int(n)
		s.CPU = i.Allocation
		if i.CoresPerSocket != "" {
			cores, err := strconv.ParseUint(i.CoresPerSocket, 10, 16)
			if err != nil || cores == 0 {
				r.fail(i.Pos(), "item %q: %q is no number of cores per socket", i.InstanceID, i.CoresPerSocket)
				return
			}
			s.CoresPerSocket = int(cores)
		}
	case Memory:
		if i.Quantity < 0 {
			return
		}
		have := max(s.MemoryBytes, 0)
		if i.Quantity > math.MaxInt64-have {
			r.fail(i.Pos(), "item %q: more memory than can be counted", i.InstanceID)
			return
		}
		s.MemoryBytes = have + i.Quantity
		s.Memory = i.Allocation
	}
}
