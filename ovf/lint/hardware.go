package lint

import (
	"strconv"
	"strings"

	"github.com/ovation-project/ovation/internal/xmldoc"
	"github.com/ovation-project/ovation/ovf"
)

func (c *checker) hardware(h *ovf.Hardware) {
	e := h.Element()
	if sys := c.child(e, "System"); sys != nil && len(h.SystemTypes) == 0 {
		c.report("OVF-HW-016", sys, "the System does not say its family")
	}
	c.items(h.Items, true)
}

// families sees that several hardware sections can be told apart.
func (c *checker) families(x *ovf.Content) {
	seen := map[string]bool{}
	for _, h := range x.Hardware {
		for _, t := range h.SystemTypes {
			t = strings.ToLower(t)
			if seen[t] && len(x.Hardware) > 1 {
				c.report("OVF-HW-017", h.Element(), "there are two VirtualHardwareSections for the family %q", t)
			}
			seen[t] = true
		}
	}
}

// items judges the items of a section. virtual is false for those of a
// ResourceAllocationSection.
func (c *checker) items(items []*ovf.Item, virtual bool) {
	parents := map[string]*ovf.Item{}
	for _, i := range items {
		if parents[i.InstanceID] == nil {
			parents[i.InstanceID] = i
		}
	}
	// Items for several options give way to those for fewer.
	type slot struct {
		id, bound, option string
		options           int
	}
	seen := map[slot]*ovf.Item{}
	placed := map[string]*ovf.Item{}
	low, high := map[string]*ovf.Item{}, map[string]*ovf.Item{}
	for _, i := range items {
		e := i.Element()
		c.fields(i)
		bound := i.Bound
		switch bound {
		case "normal":
			bound = ""
		case "", "min", "max":
		default:
			_, at, _ := c.attr(e, "bound")
			c.reportAt("OVF-HW-005", at, "item %q: ovf:bound is %q", i.InstanceID, i.Bound)
		}
		options := i.Configurations
		for _, o := range options {
			if !c.hasOption(o) {
				_, at, _ := c.attr(e, "configuration")
				c.reportAt("OVF-DEPL-004", at, "item %q: there is no Configuration %q", i.InstanceID, o)
			}
		}
		if len(options) == 0 {
			options = []string{""}
		}
		if i.InstanceID != "" {
			for _, o := range options {
				k := slot{i.InstanceID, bound, o, len(i.Configurations)}
				if first := seen[k]; first != nil {
					if bound == "" {
						c.report("OVF-HW-002", e, "the InstanceID %q is that of line %d already", i.InstanceID, first.Pos().Line)
					} else {
						c.report("OVF-HW-006", e, "item %q has a %s already in line %d", i.InstanceID, bound, first.Pos().Line)
					}
					break
				}
				seen[k] = i
			}
		}
		switch bound {
		case "min":
			low[i.InstanceID] = i
		case "max":
			high[i.InstanceID] = i
		}
		if !virtual || bound != "" {
			continue
		}
		c.place(i, parents, placed)
		c.connections(i)
	}
	for id, l := range low {
		if h := high[id]; h != nil {
			c.rangeOf(l, h)
		}
	}
}

// place judges where a device is.
func (c *checker) place(i *ovf.Item, parents, placed map[string]*ovf.Item) {
	if i.Parent == "" {
		return
	}
	e := i.Element()
	if p := fieldOf(e, "Parent"); p != nil {
		e = p
	}
	if parents[i.Parent] == nil {
		c.report("OVF-HW-008", e, "item %q: there is no item %q to be its parent", i.InstanceID, i.Parent)
		return
	}
	up := parents[i.Parent]
	for range parents {
		if up == nil {
			break
		}
		if up.InstanceID == i.InstanceID {
			c.report("OVF-HW-019", e, "item %q is its own parent", i.InstanceID)
			return
		}
		up = parents[up.Parent]
	}
	if i.AddressOnParent == "" || len(i.Configurations) > 0 {
		return
	}
	k := i.Parent + "\x00" + i.AddressOnParent
	if first := placed[k]; first != nil && first.InstanceID != i.InstanceID {
		c.report("OVF-HW-018", e, "item %q is at address %s of item %q, where item %q is", i.InstanceID, i.AddressOnParent, i.Parent, first.InstanceID)
	}
	placed[k] = i
}

// connections judges what a device is connected to.
func (c *checker) connections(i *ovf.Item) {
	for _, e := range i.Element().Children {
		switch e.Local {
		case "HostResource":
			c.hostResource(i, e)
		case "Connection":
			name := strings.TrimSpace(e.Text())
			if i.ResourceType != ovf.EthernetAdapter && i.Kind != ovf.EthernetPortItem || name == "" {
				continue
			}
			known := false
			for _, n := range c.env.Networks {
				known = known || n.Name == name
			}
			if !known {
				c.report("OVF-NET-003", e, "item %q: there is no Network %q", i.InstanceID, name)
			}
		}
	}
}

func (c *checker) hostResource(i *ovf.Item, e *xmldoc.Element) {
	text := strings.TrimSpace(e.Text())
	kind, id, ok := hostResource(text)
	if !ok {
		if strings.HasPrefix(text, "ovf:") || strings.HasPrefix(text, "/disk") || strings.HasPrefix(text, "/file") {
			c.report("OVF-HW-009", e, "item %q: %q names nothing", i.InstanceID, text)
		}
		return
	}
	known := false
	if kind == "disk" {
		for _, d := range c.env.Disks {
			known = known || d.ID == id
		}
	} else {
		for _, f := range c.env.References {
			known = known || f.ID == id
		}
	}
	if !known {
		c.report("OVF-HW-009", e, "item %q: there is no %s %q", i.InstanceID, kind, id)
	} else if !strings.HasPrefix(text, "ovf:/"+kind+"/") && c.env.Version.Major() > 0 {
		c.report("OVF-HW-010", e, "item %q: %q", i.InstanceID, text)
	}
}

func fieldOf(e *xmldoc.Element, name string) *xmldoc.Element {
	for _, c := range e.Children {
		if c.Local == name {
			return c
		}
	}
	return nil
}

// rasdFields are the properties of CIM_ResourceAllocationSettingData and its
// subclasses for storage and Ethernet ports, in the spellings of all versions.
const rasdFields = " Address AddressOnParent AllocationUnits AutomaticAllocation AutomaticDeallocation Caption Connection ConsumerVisibility" +
	" Description ElementName Generation HostResource InstanceID InstanceId Limit MappingBehavior OtherResourceType Parent PoolID PoolId" +
	" Reservation ResourceSubType ResourceType VirtualQuantity VirtualQuantityUnits Weight BusNumber ChangeableType ConfigurationName" +
	" ComponentSetting SoID SoOrgID Access HostExtentName HostExtentNameFormat HostExtentNameNamespace HostExtentStartingAddress" +
	" HostResourceBlockSize OtherHostExtentNameFormat OtherHostExtentNameNamespace VirtualResourceBlockSize" +
	" DefaultPortVID DefaultPriority DesiredVLANEndpointMode GroupID ManagerID NetworkPortProfileID NetworkPortProfileIDType" +
	" OtherEndpointMode OtherNetworkPortProfileIDTypeInfo PortCriticality PortVID Promiscuous ReceiveBandwidthLimit" +
	" ReceiveBandwidthReservation SourceMACFilteringEnabled AllowedPriorities AllowedToReceiveMACAddresses AllowedToReceiveVLANs" +
	" AllowedToTransmitMACAddresses AllowedToTransmitVLANs VSITypeID VSITypeIDVersion VSIManagerID Priority "

// fields judges an item's own fields.
func (c *checker) fields(i *ovf.Item) {
	e := i.Element()
	name := i.InstanceID
	if i.ElementName != "" {
		name += " (" + i.ElementName + ")"
	}
	if v, at, ok := c.attr(e, "required"); ok && !isBoolean(v) {
		c.reportAt("OVF-EXT-003", at, "item %q: ovf:required is %q", name, v)
	}
	if i.InstanceID == "" {
		c.report("OVF-HW-001", e, "the item %q has no InstanceID", i.ElementName)
	}
	kind := fieldOf(e, "ResourceType")
	switch {
	case kind == nil || strings.TrimSpace(kind.Text()) == "":
		c.report("OVF-HW-003", e, "item %q has no ResourceType", name)
	default:
		if n, err := strconv.ParseUint(strings.TrimSpace(kind.Text()), 10, 16); err != nil || n == 0 {
			c.report("OVF-HW-004", kind, "item %q: ResourceType %q", name, strings.TrimSpace(kind.Text()))
		}
	}
	if i.ElementName == "" {
		c.report("OVF-HW-015", e, "item %q has no ElementName", name)
	}
	for _, f := range e.Children {
		if isVendor(f.Space) && !c.own(f.Space) || strings.Contains(rasdFields, " "+f.Local+" ") {
			continue
		}
		if v, _, ok := c.attr(f, "required"); ok && isBoolean(v) && strings.TrimSpace(v) != "false" && v != "0" {
			c.report("OVF-EXT-001", f, "item %q: the element %s is not of the standard, and is required", name, f.Name())
		} else {
			c.report("OVF-EXT-002", f, "item %q: the element %s is not of the standard", name, f.Name())
		}
	}
	c.quantities(i, name)
}

func (c *checker) quantities(i *ovf.Item, name string) {
	e := i.Element()
	unit, _ := ovf.ParseUnit("count")
	if i.AllocationUnits != "" {
		u := fieldOf(e, "AllocationUnits")
		var err error
		unit, err = ovf.ParseUnit(i.AllocationUnits)
		switch {
		case err != nil || i.ResourceType == ovf.Memory && unit.Base != "byte":
			c.report("OVF-HW-011", u, "item %q: AllocationUnits %q", name, i.AllocationUnits)
			return
		case !unit.Standard:
			c.report("OVF-HW-012", u, "item %q: %q is not a programmatic unit", name, i.AllocationUnits)
		}
	} else if i.ResourceType == ovf.Memory && i.VirtualQuantity != "" {
		c.report("OVF-HW-014", e, "item %q gives no AllocationUnits", name)
	}
	for _, f := range []struct{ field, text string }{
		{"VirtualQuantity", i.VirtualQuantity}, {"Reservation", i.Reservation}, {"Limit", i.Limit}, {"Weight", i.Weight},
	} {
		if f.text == "" || f.field == "Limit" && f.text == "-1" {
			continue // -1 is vSphere's way of saying that there is no limit
		}
		if _, ok := ovf.Reference(f.text); ok {
			continue
		}
		n, err := unit.Quantity(f.text)
		if err != nil {
			c.report("OVF-HW-013", fieldOf(e, f.field), "item %q: %s %q", name, f.field, f.text)
			continue
		}
		if n == 0 && f.field == "VirtualQuantity" && (i.ResourceType == ovf.Processor || i.ResourceType == ovf.Memory) && i.Bound != "min" {
			c.report("OVF-HW-020", fieldOf(e, f.field), "item %q: %s is 0", name, f.field)
		}
	}
}

// rangeOf compares the ends of a range.
func (c *checker) rangeOf(low, high *ovf.Item) {
	for _, f := range []struct{ name, low, high string }{
		{"VirtualQuantity", low.VirtualQuantity, high.VirtualQuantity},
		{"Reservation", low.Reservation, high.Reservation},
		{"Limit", low.Limit, high.Limit},
	} {
		a, okA := amount(low, f.low)
		b, okB := amount(high, f.high)
		if okA && okB && a > b {
			c.report("OVF-HW-007", high.Element(), "item %q: %s goes from %s down to %s", high.InstanceID, f.name, f.low, f.high)
		}
	}
}

func amount(i *ovf.Item, text string) (int64, bool) {
	unit, err := ovf.ParseUnit("count")
	if i.AllocationUnits != "" {
		unit, err = ovf.ParseUnit(i.AllocationUnits)
	}
	if err != nil || text == "" {
		return 0, false
	}
	n, err := unit.Quantity(text)
	return n, err == nil
}
