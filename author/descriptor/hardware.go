package descriptor

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/ovf"
)

// Bus is what a kind of controller is in a descriptor.
type Bus struct {
	Type    ovf.ResourceType
	SubType string
	// Units are how many drives it takes, Skip the place that is the
	// controller's own, -1 for none.
	Units, Skip int
	// Count is how many such controllers there can be.
	Count int
}

// Models say which models of devices are written where the specification
// leaves them open.
type Models struct {
	// Buses are the controllers by the kind that a specification calls
	// them.
	Buses map[string]Bus
	// DiskBus and CDBus are the kinds for drives that say none.
	DiskBus, CDBus string
	NIC            string
	Family         string
}

// DefaultModels are those that most guests and products know.
func DefaultModels() Models {
	return Models{
		Buses: map[string]Bus{
			"scsi":   {ovf.SCSIController, "lsilogic", 16, 7, 4},
			"ide":    {ovf.IDEController, "", 2, -1, 2},
			"sata":   {ovf.OtherStorage, "AHCI", 30, -1, 4},
			"nvme":   {ovf.OtherStorage, "vmware.nvme.controller", 15, -1, 4},
			"virtio": {ovf.SCSIController, "VirtioSCSI", 16, -1, 4},
		},
		DiskBus: "scsi", CDBus: "ide", NIC: "E1000", Family: "vmx-13",
	}
}

// Expand turns the short forms of a hardware section, processors, memory,
// drives and cards, into devices; those that stand there as devices come
// after them, as they are. IDs that the specification leaves open are the next
// free numbers. The section itself stays as it is.
func Expand(h *spec.Hardware, m Models) ([]spec.Device, error) {
	x := &expander{m: m, used: map[string]bool{}, open: map[string]*controller{}}
	for i := range h.Devices {
		// The ends of a range have the ID of the device that it is for.
		x.used[h.Devices[i].ID] = x.used[h.Devices[i].ID] || h.Devices[i].Bound == ""
	}
	x.sizes(h)
	// Drives first say which controllers there are; those stand before them.
	for _, kind := range []struct {
		drives []spec.Drive
		bus    string
		typ    ovf.ResourceType
		name   string
	}{
		{h.Disks, m.DiskBus, ovf.DiskDrive, "Hard disk"},
		{h.CDROMs, m.CDBus, ovf.CDDrive, "CD-ROM"},
		{h.Floppies, "floppy", ovf.FloppyDrive, "Floppy drive"},
	} {
		for n, d := range kind.drives {
			if err := x.drive(d, kind.bus, kind.typ, fmt.Sprintf("%s %d", kind.name, n+1)); err != nil {
				return nil, err
			}
		}
	}
	for n, c := range h.Cards {
		x.card(c, n)
	}
	all := slices.Concat(x.head, x.controllers, x.drives, x.cards)
	for _, d := range h.Devices {
		if d.ID == "" {
			d.ID = x.id()
		}
		if d.Name == nil {
			name := cmp.Or(d.Type, "device") + " " + d.ID
			d.Name = &name
		}
		all = append(all, d)
	}
	return all, nil
}

type controller struct {
	id     string
	next   int
	number int
}

type expander struct {
	m    Models
	used map[string]bool
	last int
	open map[string]*controller

	head, controllers, drives, cards []spec.Device
}

func (x *expander) id() string {
	for {
		x.last++
		if id := strconv.Itoa(x.last); !x.used[id] {
			return id
		}
	}
}

func (x *expander) sizes(h *spec.Hardware) {
	cpus := func(id string, n int, options spec.Strings) spec.Device {
		name := fmt.Sprintf("%d virtual CPU(s)", n)
		d := spec.Device{Type: "processor", ID: id, Name: &name, Quantity: strconv.Itoa(n), Units: "hertz * 10^6", Options: options, Pos: h.Pos}
		if h.Cores > 0 {
			d.Cores = strconv.Itoa(h.Cores)
		}
		return d
	}
	memory := func(id string, n spec.Size, options spec.Strings) spec.Device {
		amount, units, unit := int64(n)>>20, "byte * 2^20", "MB"
		if n%(1<<20) != 0 {
			amount, units, unit = int64(n), "byte", " bytes"
		}
		name := fmt.Sprintf("%d%s of memory", amount, unit)
		return spec.Device{Type: "memory", ID: id, Name: &name, Quantity: strconv.FormatInt(amount, 10), Units: units, Options: options, Pos: h.Pos}
	}
	var cpu, mem string
	if h.CPUs > 0 {
		cpu = x.id()
		x.head = append(x.head, cpus(cpu, h.CPUs, nil))
	}
	if h.Memory > 0 {
		mem = x.id()
		x.head = append(x.head, memory(mem, h.Memory, nil))
	}
	for _, p := range h.Per {
		if p.CPUs > 0 {
			cpu = cmp.Or(cpu, x.id())
			x.head = append(x.head, cpus(cpu, p.CPUs, spec.Strings{p.Option}))
		}
		if p.Memory > 0 {
			mem = cmp.Or(mem, x.id())
			x.head = append(x.head, memory(mem, p.Memory, spec.Strings{p.Option}))
		}
	}
}

func (x *expander) drive(d spec.Drive, bus string, typ ovf.ResourceType, name string) error {
	dev := spec.Device{
		Type: spec.DeviceTypeName(typ), Name: &name, Disk: d.Disk, File: d.File, Options: d.Options, Pos: d.Pos,
	}
	if typ != ovf.DiskDrive {
		dev.Automatic = "true"
		if d.Disk == "" && d.File == "" {
			dev.Automatic = "false"
		}
	}
	if bus = cmp.Or(d.Controller, bus); bus == "floppy" {
		dev.Slot = strconv.Itoa(len(x.drives) % 2)
	} else {
		parent, slot, err := x.place(bus)
		if err != nil {
			return &spec.Error{Pos: d.Pos, Text: err.Error()}
		}
		dev.Parent, dev.Slot = parent, strconv.Itoa(slot)
	}
	dev.ID = x.id()
	x.drives = append(x.drives, dev)
	return nil
}

// place finds room on a controller.
func (x *expander) place(kind string) (parent string, slot int, err error) {
	bus, ok := x.m.Buses[kind]
	if !ok {
		return "", 0, fmt.Errorf("there is no controller %q in this profile", kind)
	}
	c := x.open[kind]
	if c == nil || c.next >= bus.Units {
		number := 0
		if c != nil {
			number = c.number + 1
		}
		if number >= bus.Count {
			return "", 0, fmt.Errorf("there are more drives on %s than %d controllers take: put some on another kind of controller", kind, bus.Count)
		}
		c = &controller{id: x.id(), number: number}
		x.open[kind] = c
		name := fmt.Sprintf("%s controller %d", strings.ToUpper(kind), number)
		dev := spec.Device{Type: spec.DeviceTypeName(bus.Type), ID: c.id, Name: &name, Address: strconv.Itoa(number)}
		if bus.SubType != "" {
			dev.SubTypes = []string{bus.SubType}
		}
		x.controllers = append(x.controllers, dev)
	}
	if c.next == bus.Skip {
		c.next++
	}
	slot = c.next
	c.next++
	return c.id, slot, nil
}

func (x *expander) card(c spec.Card, n int) {
	name := cmp.Or(c.Name, fmt.Sprintf("Network adapter %d", n+1))
	models := []string(c.Model)
	if len(models) == 0 && x.m.NIC != "" {
		models = []string{x.m.NIC}
	}
	x.cards = append(x.cards, spec.Device{
		Type: spec.DeviceTypeName(ovf.EthernetAdapter), ID: x.id(), Name: &name, SubTypes: models, Address: c.MAC,
		Automatic: "true", Connections: []string{c.Network}, Slot: strconv.Itoa(7 + n), Options: c.Options, Pos: c.Pos,
	})
}

// itemElement gives the element that a device is written as, and the prefix
// of its fields.
func (r *renderer) itemElement(d *spec.Device, typ ovf.ResourceType) (name, prefix string) {
	name = d.Element
	if name == "" {
		name = string(ovf.RASDItem)
		if r.major == 2 {
			switch typ {
			case ovf.EthernetAdapter:
				name = string(ovf.EthernetPortItem)
			case ovf.DiskDrive, ovf.CDDrive, ovf.DVDDrive, ovf.FloppyDrive:
				name = string(ovf.StorageItem)
			}
		}
	}
	switch ovf.ItemKind(name) {
	case ovf.StorageItem:
		return name, "sasd:"
	case ovf.EthernetPortItem:
		return name, "epasd:"
	}
	return name, "rasd:"
}

// item writes a device. The fields stand in the order of the alphabet, as the
// schema of CIM wants them.
func (r *renderer) item(d *spec.Device) (*element, error) {
	typ, ok := spec.DeviceType(d.Type)
	if !ok {
		return nil, &spec.Error{File: r.file, Pos: d.Pos, Text: fmt.Sprintf("unknown type of device %q", d.Type)}
	}
	name, prefix := r.itemElement(d, typ)
	e := el(name)
	e.attr("ovf:required", boolAttr(d.Required))
	e.attr("ovf:bound", d.Bound)
	e.attr("ovf:configuration", strings.Join(d.Options, " "))
	e.further(d.Attributes)
	type field struct{ name, text string }
	var fields []field
	put := func(name string, texts ...string) {
		for _, t := range texts {
			if t != "" {
				fields = append(fields, field{prefix + name, t})
			}
		}
	}
	put("Address", d.Address)
	put("AddressOnParent", d.Slot)
	put("AllocationUnits", d.Units)
	put("AutomaticAllocation", d.Automatic)
	put("Caption", d.Caption)
	put("Connection", d.Connections...)
	if d.Description != nil {
		fields = append(fields, field{prefix + "Description", *d.Description})
	}
	if d.Name != nil && *d.Name != "" {
		fields = append(fields, field{prefix + "ElementName", *d.Name})
	}
	scheme := "ovf:"
	if r.major == 1 && r.plainHost {
		scheme = ""
	}
	if d.Disk != "" {
		put("HostResource", scheme+"/disk/"+d.Disk)
	}
	if d.File != "" {
		put("HostResource", scheme+"/file/"+d.File)
	}
	put("HostResource", d.Host...)
	put("InstanceID", d.ID)
	put("Limit", d.Limit)
	put("MappingBehavior", d.Mapping)
	put("OtherResourceType", d.OtherType)
	put("Parent", d.Parent)
	put("PoolID", d.Pool)
	put("Reservation", d.Reservation)
	put("ResourceSubType", strings.Join(d.SubTypes, " "))
	if typ != 0 {
		put("ResourceType", strconv.Itoa(int(typ)))
	}
	put("VirtualQuantity", d.Quantity)
	put("VirtualQuantityUnits", d.QuantUnits)
	put("Weight", d.Weight)
	for _, f := range d.Fields {
		n := f.Name
		if !strings.Contains(n, ":") {
			n = prefix + n
		}
		fields = append(fields, field{n, f.Value})
	}
	slices.SortStableFunc(fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	for _, f := range fields {
		e.kids = append(e.kids, &element{name: f.name, text: f.text})
	}
	if d.Cores != "" {
		e.kids = append(e.kids, &element{name: "vmw:CoresPerSocket", attrs: [][2]string{{"ovf:required", "false"}}, text: d.Cores})
	}
	e.add(configs("vmw:Config", d.Configs)...)
	e.add(configs("vmw:ExtraConfig", d.ExtraConfigs)...)
	e.rawXML(d.XML)
	return e, nil
}

func configs(name string, list []spec.Config) []*element {
	var all []*element
	for _, c := range list {
		required := "false"
		if c.Required != nil {
			required = strconv.FormatBool(*c.Required)
		}
		all = append(all, &element{name: name, attrs: [][2]string{{"ovf:required", required}, {"vmw:key", c.Key}, {"vmw:value", c.Value}}})
	}
	return all
}

func boolAttr(b *bool) string {
	if b == nil {
		return ""
	}
	return strconv.FormatBool(*b)
}

// hardware writes a VirtualHardwareSection.
func (r *renderer) hardware(c *spec.Content, h *spec.Hardware) (*element, error) {
	s := r.section("VirtualHardwareSection", h.Info, "Virtual hardware requirements", h.Required)
	s.attr("ovf:id", h.ID).attr("ovf:transport", strings.Join(h.Transport, " ")).further(h.Attributes)
	system := h.System
	if system == nil {
		system = &spec.System{}
	}
	family := []string(h.Family)
	name, id, identifier := system.Name, system.InstanceID, system.Identifier
	if !system.Bare {
		name, id, identifier = cmp.Or(name, "Virtual Hardware Family"), cmp.Or(id, "0"), cmp.Or(identifier, c.ID)
		if len(family) == 0 {
			family = []string{r.models.Family}
		}
	}
	sys := el("System")
	for _, f := range system.Fields {
		n := f.Name
		if !strings.Contains(n, ":") {
			n = "vssd:" + n
		}
		sys.kids = append(sys.kids, &element{name: n, text: f.Value})
	}
	sys.leaf("vssd:ElementName", name).leaf("vssd:InstanceID", id)
	sys.leaf("vssd:VirtualSystemIdentifier", identifier).leaf("vssd:VirtualSystemType", strings.Join(family, " "))
	slices.SortStableFunc(sys.kids, func(a, b *element) int { return strings.Compare(a.name, b.name) })
	if len(sys.kids) > 0 {
		s.add(sys)
	}
	devices, err := Expand(h, r.models)
	if err != nil {
		return nil, err
	}
	for i := range devices {
		item, err := r.item(&devices[i])
		if err != nil {
			return nil, err
		}
		s.add(item)
	}
	settings := slices.Clone(h.Configs)
	if h.SecureBoot != nil {
		settings = slices.Insert(settings, 0, spec.Config{Key: "bootOptions.efiSecureBootEnabled", Value: strconv.FormatBool(*h.SecureBoot)})
	}
	if h.Firmware != "" {
		settings = slices.Insert(settings, 0, spec.Config{Key: "firmware", Value: h.Firmware})
	}
	s.add(configs("vmw:Config", settings)...)
	s.add(configs("vmw:ExtraConfig", h.Extra)...)
	s.rawXML(h.XML)
	return s, nil
}
