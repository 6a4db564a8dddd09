package lint

import (
	"slices"
	"strconv"
	"strings"

	"github.com/ovation-project/ovation/internal/xmldoc"
	"github.com/ovation-project/ovation/ovf"
)

func (c *checker) hardware(h *ovf.Hardware) {
	e := h.Element()
	_, at, _ := c.attr(e, "transport")
	for _, word := range h.Transports {
		if !strings.EqualFold(word, "iso") && (!strings.ContainsAny(word, ".:") || strings.Contains(word, ",")) {
			c.reportAt("OVF-HW-026", at, "the transport %q is not known", word)
		}
	}
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
	parents := make(map[string]*ovf.Item, len(items))
	for _, i := range items {
		if parents[i.InstanceID] == nil {
			parents[i.InstanceID] = i
		}
	}
	circles := circles(parents, func(i *ovf.Item) string { return i.Parent })
	// Items for several options give way to those for fewer.
	type slot struct {
		id, bound, option string
		options           int
	}
	seen := map[slot]*ovf.Item{}
	placed := map[string]*ovf.Item{}
	for _, i := range items {
		e := i.Element()
		c.fields(i, virtual)
		bound := boundOf(i)
		switch bound {
		case "", "min", "max":
		default:
			_, at, _ := c.attr(e, "bound")
			c.reportAt("OVF-HW-005", at, "item %q: ovf:bound is %q", i.InstanceID, i.Bound)
		}
		options := i.Configurations
		for _, o := range options {
			if !c.optionIDs[o] {
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
						c.report("OVF-HW-002", e, "the InstanceID %q is that of line %d already", i.InstanceID, line(first.Element()))
					} else {
						c.report("OVF-HW-006", e, "item %q has a %s already in line %d", i.InstanceID, bound, line(first.Element()))
					}
					break
				}
				seen[k] = i
			}
		}
		if virtual && bound == "" {
			c.where(i, parents, placed, circles)
			c.connections(i)
		}
	}
	c.ranges(items)
}

// boundOf gives "" for what is no end of a range.
func boundOf(i *ovf.Item) string {
	if i.Bound == "normal" {
		return ""
	}
	return i.Bound
}

// ranges judges the ends of ranges (range markers) by what they are for.
func (c *checker) ranges(items []*ovf.Item) {
	type slot struct{ id, options, bound string }
	slotOf := func(i *ovf.Item, bound string) slot {
		return slot{i.InstanceID, strings.Join(i.Configurations, " "), bound}
	}
	defaults := map[string]*ovf.Item{}
	all := map[slot]*ovf.Item{}
	for _, i := range items {
		all[slotOf(i, boundOf(i))] = i
		if boundOf(i) == "" && defaults[i.InstanceID] == nil {
			defaults[i.InstanceID] = i
		}
	}
	for _, i := range items {
		bound := boundOf(i)
		if bound != "min" && bound != "max" || i.InstanceID == "" {
			continue
		}
		normal := defaults[i.InstanceID]
		if normal == nil {
			c.report("OVF-HW-023", i.Element(), "the %s of item %q is a range without a default", bound, i.InstanceID)
			continue
		}
		if i.ResourceType != 0 && normal.ResourceType != 0 && i.ResourceType != normal.ResourceType {
			c.report("OVF-HW-024", i.Element(), "the %s of item %q is of ResourceType %d, and the item of %d", bound, i.InstanceID, i.ResourceType, normal.ResourceType)
			continue
		}
		if normal = all[slotOf(i, "")]; bound == "min" {
			c.ordered("OVF-HW-007", i, all[slotOf(i, "max")], "goes from %s down to %s")
			c.ordered("OVF-HW-025", i, normal, "has the min %s and the default %s")
		} else {
			c.ordered("OVF-HW-025", normal, i, "has the default %s and the max %s")
		}
	}
}

// ordered reports quantities that are more in low than in high. Either may be
// nil.
func (c *checker) ordered(id string, low, high *ovf.Item, how string) {
	if low == nil || high == nil {
		return
	}
	for _, f := range []struct{ name, low, high string }{
		{"VirtualQuantity", low.VirtualQuantity, high.VirtualQuantity},
		{"Reservation", low.Reservation, high.Reservation},
		{"Limit", low.Limit, high.Limit},
	} {
		a, okA := amount(low, f.low)
		b, okB := amount(high, f.high)
		if okA && okB && a > b {
			c.report(id, high.Element(), "item %q: %s "+how, high.InstanceID, f.name, f.low, f.high)
		}
	}
}

// amount works out a quantity that is a number.
func amount(i *ovf.Item, text string) (int64, bool) {
	if text == "" {
		return 0, false
	}
	units := i.AllocationUnits
	if units == "" {
		units = "count"
	}
	unit, err := ovf.ParseUnit(units)
	if err != nil {
		return 0, false
	}
	n, err := unit.Quantity(text)
	return n, err == nil
}

// where judges where a device is.
func (c *checker) where(i *ovf.Item, parents, placed map[string]*ovf.Item, circles map[string]bool) {
	if i.Parent == "" {
		return
	}
	e := i.Element()
	if p := fieldOf(e, "Parent"); p != nil {
		e = p
	}
	parent := parents[i.Parent]
	switch {
	case parent == nil:
		c.report("OVF-HW-008", e, "item %q: there is no item %q to be its parent", i.InstanceID, i.Parent)
		return
	case circles[i.InstanceID]:
		c.report("OVF-HW-019", e, "item %q is its own parent", i.InstanceID)
		return
	case isDrive(i.ResourceType) && isNoController(parent.ResourceType):
		c.report("OVF-HW-028", e, "item %q is a %s on item %q, which is a %s", i.InstanceID, i.ResourceType, i.Parent, parent.ResourceType)
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

func isDrive(t ovf.ResourceType) bool {
	return t == ovf.CDDrive || t == ovf.DVDDrive || t == ovf.DiskDrive || t == ovf.TapeDrive
}

// isNoController is for types that nothing is ever on.
func isNoController(t ovf.ResourceType) bool {
	return t == ovf.Processor || t == ovf.Memory || t == ovf.EthernetAdapter || t == ovf.FloppyDrive || isDrive(t)
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
			if !c.networkID[name] {
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
	known := c.fileIDs
	if kind == "disk" {
		known = c.diskIDs
	}
	if !known[id] {
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
func (c *checker) fields(i *ovf.Item, virtual bool) {
	e := i.Element()
	if i.Kind != ovf.RASDItem {
		c.later(e, e.Space, string(i.Kind), i.Required)
	}
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
		c.resourceType(i, name, kind)
	}
	if i.ElementName == "" {
		c.report("OVF-HW-015", e, "item %q has no ElementName", name)
	}
	var once [len(onceFields)]bool
	for _, f := range e.Children {
		if isVendor(f.Space) && !c.own(f.Space) {
			continue
		}
		if n := slices.Index(onceFields[:], f.Local); n >= 0 {
			if once[n] {
				c.report("OVF-HW-027", f, "item %q has a second %s", name, f.Local)
			}
			once[n] = true
			continue
		}
		if strings.Contains(rasdFields, " "+f.Local+" ") {
			continue
		}
		if v, _, ok := c.attr(f, "required"); ok && isBoolean(v) && strings.TrimSpace(v) != "false" && v != "0" {
			c.report("OVF-EXT-001", f, "item %q: the element %s is not of the standard, and is required", name, f.Name())
		} else {
			c.report("OVF-EXT-002", f, "item %q: the element %s is not of the standard", name, f.Name())
		}
	}
	if f := fieldOf(e, "AutomaticAllocation"); f != nil && !isBoolean(strings.ToLower(i.AutomaticAllocation)) {
		c.report("OVF-HW-029", f, "item %q: AutomaticAllocation is %q", name, i.AutomaticAllocation)
	}
	if virtual && boundOf(i) == "" && i.VirtualQuantity == "" && (i.ResourceType == ovf.Processor || i.ResourceType == ovf.Memory) {
		c.report("OVF-HW-030", e, "item %q does not say how much", name)
	}
	c.quantities(i, name)
}

// onceFields are those that an item has once at most and that decide what it
// is.
var onceFields = [...]string{
	"InstanceID", "InstanceId", "ResourceType", "Parent", "AddressOnParent", "AllocationUnits", "VirtualQuantity", "Reservation", "Limit", "Weight",
}

// CIM's resource types end here; up to the vendors' own, numbers are reserved.
const (
	lastResourceType  = 35
	firstVendorsOwn   = 0x8000
	resourceTypeWidth = 16
)

func (c *checker) resourceType(i *ovf.Item, name string, e *xmldoc.Element) {
	text := strings.TrimSpace(e.Text())
	n, err := strconv.ParseUint(text, 10, resourceTypeWidth)
	switch {
	case err != nil || n == 0:
		c.report("OVF-HW-004", e, "item %q: ResourceType %q", name, text)
	case n <= lastResourceType:
	case !i.Required:
		c.report("OVF-EXT-002", e, "item %q: the ResourceType %d is not of the standard", name, n)
	case n < firstVendorsOwn:
		c.report("OVF-HW-021", e, "item %q: the ResourceType %d is not of the standard, and the item is required", name, n)
	default:
		c.report("OVF-HW-022", e, "item %q: the ResourceType %d is a vendor's own, and the item is required", name, n)
	}
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
