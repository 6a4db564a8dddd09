// Package profile shapes an appliance for those who are to take it: products
// read different versions of OVF, know different devices and check different
// manifests.
package profile

import (
	"crypto"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/ovation-project/ovation/appliance/manifest"
	"github.com/ovation-project/ovation/author/descriptor"
	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/disk/formats"
	"github.com/ovation-project/ovation/ovf"
)

// Profile is what a consumer takes.
type Profile struct {
	// Name is that of --for, Title for people.
	Name, Title string
	// Version is the version of OVF, as a specification has it.
	Version string
	// Family is the virtual hardware family; MaxFamily the latest of VMware's
	// that is known there, 0 for any.
	Family    string
	MaxFamily int
	// Format is the disks', as a specification has it.
	Format string
	Hash   crypto.Hash
	Style  manifest.Style
	// OneModel says that a device has one model: alternatives are not read.
	OneModel bool
	// Plain says that files are neither compressed nor in chunks.
	Plain bool
	// Models are those of devices that the specification leaves open.
	Models descriptor.Models
	// SubTypes are the models that are not known there, in lower case, with
	// those that stand in.
	SubTypes map[string]string
	// Flat says that deployment options and ranges of quantities are not
	// read: one option is chosen, the default one unless Option says another.
	Flat bool
	// Option chooses one of the deployment options, whatever is read.
	Option string
	// Limits are how many controllers of a kind there can be, and drives on
	// them: those on further ones come to the first.
	Limits []Limit
	// Known, where it is set, are the types of device that are known there:
	// all others are optional.
	Known []ovf.ResourceType
	// MemoryUnits and CapacityUnits are the units that memory and disks are
	// in, where others are not read.
	MemoryUnits, CapacityUnits bool
	// SafeNames says that IDs of disks and names of files are made of letters,
	// digits and a few signs.
	SafeNames bool
	// FirmwareNote and CollectionNote are what a profile cannot do for its
	// consumer.
	FirmwareNote, CollectionNote string
	// Reasons say why, for the documentation.
	Reasons []Reason
}

// Reason says what is chosen and why.
type Reason struct{ What, Value, Why string }

// Find gives a profile by its name.
func Find(name string) (*Profile, error) {
	for i := range profiles {
		if profiles[i].Name == name {
			p := profiles[i]
			return &p, nil
		}
	}
	return nil, fmt.Errorf("there is no profile %q: there are %s", name, strings.Join(Names(), ", "))
}

// Names are the profiles' names.
func Names() []string {
	var all []string
	for _, p := range profiles {
		all = append(all, p.Name)
	}
	return all
}

// WriteTable writes all profiles for the documentation, as Markdown.
func WriteTable(w io.Writer) error {
	for _, p := range profiles {
		if _, err := fmt.Fprintf(w, "## %s\n\n%s\n\n| what | value | why |\n| --- | --- | --- |\n", p.Name, p.Title); err != nil {
			return err
		}
		rows := append(p.facts(), p.Reasons...)
		for _, r := range rows {
			if _, err := fmt.Fprintf(w, "| %s | %s | %s |\n", r.What, r.Value, r.Why); err != nil {
				return err
			}
		}
		if len(p.SubTypes) > 0 {
			var from []string
			for s := range p.SubTypes {
				from = append(from, s)
			}
			slices.Sort(from)
			if _, err := fmt.Fprintf(w, "\nModels that are not known there: "); err != nil {
				return err
			}
			for i, s := range from {
				sep := ", "
				if i == len(from)-1 {
					sep = ".\n"
				}
				if _, err := fmt.Fprintf(w, "`%s` becomes `%s`%s", s, p.SubTypes[s], sep); err != nil {
					return err
				}
			}
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	return nil
}

// facts are the rows that follow from the fields, so that they are true.
func (p *Profile) facts() []Reason {
	reason := func(what string) string { return whys[what+" "+p.Name] }
	files := "as they are"
	if p.Plain {
		files = "in one piece, not compressed"
	}
	family := p.Family
	if p.MaxFamily > 0 {
		family += fmt.Sprintf(", at most vmx-%d", p.MaxFamily)
	}
	rows := []Reason{
		{"OVF version", p.Version, reason("version")},
		{"items", map[bool]string{true: "StorageItem, EthernetPortItem, Item", false: "Item"}[strings.HasPrefix(p.Version, "2")], "what this version of OVF has"},
		{"family", family, reason("family")},
		{"disk format", p.Format, reason("format")},
		{"manifest", manifest.Name(p.Hash), reason("manifest")},
		{"files", files, reason("files")},
		{"disks on", p.Models.DiskBus + " (" + p.Models.Buses[p.Models.DiskBus].SubType + ") where it is left open", reason("bus")},
		{"network cards", p.Models.NIC + " where it is left open", reason("nic")},
		{"models", map[bool]string{true: "one for each device", false: "all that will do"}[p.OneModel], reason("models")},
		{"order in the archive", "descriptor, manifest, certificate, files as in the References", "the standard's order; products that import as the bytes arrive need the descriptor first"},
	}
	add := func(has bool, what, value string) {
		if has {
			rows = append(rows, Reason{what, value, reason(what)})
		}
	}
	add(p.Flat, "deployment options", "one is chosen: that of --option, or the default one")
	add(len(p.Limits) > 0, "controllers", limits(p.Limits))
	add(p.Known != nil, "other devices", "optional")
	add(p.MemoryUnits, "memory", "in MiB (byte * 2^20)")
	add(p.CapacityUnits, "capacities", "with units, byte * 2^n")
	add(p.SafeNames, "IDs and names", "letters, digits, dash, dot and underscore")
	return rows
}

func limits(list []Limit) string {
	var all []string
	for _, l := range list {
		name := strings.ToUpper(spec.DeviceTypeName(l.Type))
		if len(l.Models) > 0 {
			name = l.Models[0]
		}
		all = append(all, fmt.Sprintf("%s: %d of %d drives", name, l.Controllers, l.Units))
	}
	return strings.Join(all, "; ")
}

// Apply shapes an appliance. What gets lost, or has to be done by hand, is in
// the notes.
func (p *Profile) Apply(a *spec.Appliance) (notes []string, err error) {
	x := &applier{p: p, second: strings.HasPrefix(p.Version, "2")}
	a.Version = p.Version
	if err := x.choose(a); err != nil {
		return nil, err
	}
	if _, collection := a.Content(); collection && p.CollectionNote != "" {
		x.note("%s", p.CollectionNote)
	}
	x.names(a)
	x.disks(a)
	x.files(a)
	if !x.second && len(a.Groups) > 0 {
		x.note("placement groups are left out: OVF 1 has none")
		a.Groups = nil
	}
	a.Walk(func(c *spec.Content, collection bool) {
		if err == nil {
			err = x.content(c)
		}
	})
	return x.notes, err
}

type applier struct {
	p      *Profile
	second bool
	notes  []string
}

func (x *applier) note(format string, args ...any) {
	if s := fmt.Sprintf(format, args...); !slices.Contains(x.notes, s) {
		x.notes = append(x.notes, s)
	}
}

func (x *applier) disks(a *spec.Appliance) {
	for i := range a.Disks {
		d := &a.Disks[i]
		d.Format, d.FormatURI = x.p.Format, ""
		x.capacity(d)
		if d.Shared && !x.second {
			x.note("disk %s is not shared any more: OVF 1 has no shared disks", d.ID)
			d.Shared = false
		}
		if x.p.Plain {
			d.Compression, d.ChunkSize = "", 0
		}
		if d.File != "" {
			d.File = renamed(d.File, x.p.Format)
		}
	}
}

// renamed gives a file name the ending of a format.
func renamed(name, format string) string {
	switch format {
	case "streamOptimized":
		format = "vmdk"
	case "vhd":
		format = "vpc"
	}
	f, err := formats.ByName(format)
	if err != nil {
		return name
	}
	ext := path.Ext(name)
	for _, ending := range f.Extensions() {
		if strings.EqualFold(ext, ending) {
			return name
		}
	}
	base := strings.TrimSuffix(name, ext)
	if strings.EqualFold(ext, ".gz") {
		return renamed(base, format)
	}
	return base + f.Extensions()[0]
}

func (x *applier) files(a *spec.Appliance) {
	if !x.p.Plain {
		return
	}
	for i := range a.Files {
		a.Files[i].Compression, a.Files[i].ChunkSize, a.Files[i].Stored = "", 0, false
	}
}

func (x *applier) content(c *spec.Content) error {
	if !x.second {
		if c.EnvFiles != nil || c.Boot != nil || len(c.ScaleOut) > 0 || len(c.Placement) > 0 {
			x.note("%s: environment files, boot orders, scaling and placement are left out: OVF 1 has none", c.ID)
			c.EnvFiles, c.Boot, c.ScaleOut, c.Placement = nil, nil, nil, nil
		}
		for i := range c.Products {
			for j := range c.Products[i].Properties {
				if y := &c.Products[i].Properties[j]; len(y.Options) > 0 {
					x.note("property %s is there in all deployment options: OVF 1 cannot say otherwise", y.Key)
					y.Options = nil
				}
			}
		}
	}
	for _, raw := range c.XML {
		if strings.Contains(raw.Text, "VirtualHardwareSection") {
			x.note("%s: hardware that has no keys is taken over as XML and not shaped", c.ID)
		}
	}
	for i := range c.Hardware {
		if err := x.hardware(c, &c.Hardware[i]); err != nil {
			return err
		}
	}
	if c.Resources != nil {
		for i := range c.Resources.Devices {
			x.device(c, &c.Resources.Devices[i])
		}
	}
	return nil
}

func (x *applier) hardware(c *spec.Content, h *spec.Hardware) error {
	devices, err := descriptor.Expand(h, x.p.Models)
	if err != nil {
		return err
	}
	h.CPUs, h.Memory, h.Per, h.Disks, h.CDROMs, h.Floppies, h.Cards = 0, 0, nil, nil, nil, nil, nil
	h.Devices = devices
	for i := range h.Devices {
		x.device(c, &h.Devices[i])
	}
	if err := x.importable(c, h); err != nil {
		return err
	}
	x.family(h)
	if h.Firmware == "efi" && x.p.FirmwareNote != "" {
		x.note("%s: %s", c.ID, x.p.FirmwareNote)
	}
	return nil
}

func (x *applier) family(h *spec.Hardware) {
	if x.p.MaxFamily > 0 {
		for _, f := range h.Family {
			for _, word := range strings.Fields(f) {
				number, ok := strings.CutPrefix(word, "vmx-")
				n, err := strconv.Atoi(number)
				if ok && err == nil && n <= x.p.MaxFamily {
					h.Family = spec.Strings{word}
					return
				}
				if ok && err == nil {
					x.note("family %s becomes vmx-%d, the latest that is known there", word, x.p.MaxFamily)
					h.Family = spec.Strings{fmt.Sprintf("vmx-%d", x.p.MaxFamily)}
					return
				}
			}
		}
	}
	if len(h.Family) == 0 || x.p.Name != "dmtf" {
		h.Family = spec.Strings{x.p.Family}
	}
}

func (x *applier) device(c *spec.Content, d *spec.Device) {
	d.Element = ""
	hostResources(d)
	var models []string
	for _, w := range strings.FieldsFunc(strings.Join(d.SubTypes, " "), func(r rune) bool { return r == ' ' || r == ',' }) {
		to, ok := x.p.SubTypes[strings.ToLower(w)]
		if typ, _ := spec.DeviceType(d.Type); strings.HasPrefix(strings.ToLower(w), "virtio") && typ == ovf.EthernetAdapter {
			to, ok = x.p.SubTypes["virtio-net"]
		}
		if ok && to != w {
			x.note("%s: %s is %s now: the guest needs the driver for it", c.ID, w, to)
			w = to
		}
		if !slices.Contains(models, w) {
			models = append(models, w)
		}
	}
	if x.p.OneModel && len(models) > 1 {
		x.note("%s: of the models of device %s, %s, the first is written: not all of these products read several", c.ID, d.ID, strings.Join(models, ", "))
		models = models[:1]
	}
	d.SubTypes = models
	// Products differ in what kind of controller a model is.
	if typ, _ := spec.DeviceType(d.Type); (typ == ovf.SCSIController || typ == ovf.OtherStorage) && len(models) > 0 {
		for _, bus := range x.p.Models.Buses {
			if strings.EqualFold(bus.SubType, models[0]) {
				d.Type = spec.DeviceTypeName(bus.Type)
			}
		}
	}
	for i := len(d.Fields) - 1; i >= 0; i-- {
		prefix, name, ok := strings.Cut(d.Fields[i].Name, ":")
		if !ok || prefix != "sasd" && prefix != "epasd" && prefix != "rasd" {
			continue
		}
		d.Fields[i].Name = name // the element's own prefix comes before it
	}
	if !x.second {
		d.Fields = slices.DeleteFunc(d.Fields, func(f spec.XMLKey) bool {
			if strings.Contains(f.Name, ":") || rasdFields[f.Name] {
				return false
			}
			x.note("%s: %s of device %s is left out: items of OVF 1 have no such field", c.ID, f.Name, d.ID)
			return true
		})
	}
}

// hostResources writes what is in a drive as the standard has it: not all
// importers read the spellings that there are.
func hostResources(d *spec.Device) {
	if len(d.Host) != 1 || d.Disk != "" || d.File != "" {
		return
	}
	kind, id, ok := strings.Cut(strings.TrimLeft(strings.TrimPrefix(d.Host[0], "ovf:"), "/"), "/")
	switch {
	case !ok || path.Clean(id) != id:
	case kind == "disk":
		d.Disk, d.Host = id, nil
	case kind == "file":
		d.File, d.Host = id, nil
	}
}

// rasdFields are the fields of an item that have no key of their own.
var rasdFields = map[string]bool{
	"ChangeableType": true, "ConfigurationName": true, "ConsumerVisibility": true, "Generation": true, "InstanceID": true,
	"BusNumber": true, "Caption": true, "Address": true, "AddressOnParent": true, "AllocationUnits": true, "AutomaticAllocation": true,
	"AutomaticDeallocation": true, "Connection": true, "Description": true, "ElementName": true, "HostResource": true, "Limit": true,
	"MappingBehavior": true, "OtherResourceType": true, "Parent": true, "PoolID": true, "Reservation": true, "ResourceSubType": true,
	"ResourceType": true, "VirtualQuantity": true, "VirtualQuantityUnits": true, "Weight": true,
	"SoID": true, "SoOrgID": true,
}
