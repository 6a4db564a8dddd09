package descriptor

import (
	"path"
	"strconv"
	"strings"

	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/internal/xmldoc"
	"github.com/ovation-project/ovation/ovf"
)

func (r *reader) hardware(h *ovf.Hardware) spec.Hardware {
	x := spec.Hardware{
		ID: h.ID, Info: message(h.Info), Required: required(h.Required), Transport: h.Transports,
		Attributes: r.foreign(h.Element(), "id", "transport"), System: &spec.System{Bare: true},
	}
	var raw []string
	for _, e := range h.Element().Children {
		own := e.Space == ovf.NS1 || e.Space == ovf.NS2 || e.Space == ovf.NS09 || e.Space == ""
		switch {
		case own && e.Local == "Info" || isItem(e) || e.Is(ovf.NSVMware, "Config") || e.Is(ovf.NSVMware, "ExtraConfig"):
		case own && e.Local == "System":
			r.system(x.System, &x, e)
		default:
			if t, ok := r.raw(e); ok {
				raw = append(raw, t.Text)
				r.report.Raw = append(r.report.Raw, e.Name())
			}
		}
	}
	x.XML = spec.RawXML{Text: strings.Join(raw, "\n")}
	for _, i := range h.Items {
		x.Devices = append(x.Devices, r.device(i))
	}
	for _, c := range h.Configs {
		no := !c.Required
		switch {
		case c.Key == "firmware" && no && x.Firmware == "" && (c.Value == "efi" || c.Value == "bios"):
			x.Firmware = c.Value
		case c.Key == "bootOptions.efiSecureBootEnabled" && no && x.SecureBoot == nil && (c.Value == "true" || c.Value == "false"):
			on := c.Value == "true"
			x.SecureBoot = &on
		default:
			x.Configs = append(x.Configs, config(c))
		}
	}
	for _, c := range h.Extra {
		x.Extra = append(x.Extra, config(c))
	}
	return x
}

func (r *reader) system(s *spec.System, h *spec.Hardware, e *xmldoc.Element) {
	for _, f := range e.Children {
		text := strings.TrimSpace(f.Text())
		switch f.Local {
		case "ElementName":
			s.Name = text
		case "InstanceID", "InstanceId":
			s.InstanceID = text
		case "VirtualSystemIdentifier":
			s.Identifier = text
		case "VirtualSystemType":
			h.Family = append(h.Family, text)
		default:
			if f.Space == ovf.NSVSSD {
				s.Fields = append(s.Fields, spec.XMLKey{Name: f.Local, Value: text})
			}
		}
	}
}

func config(c ovf.Config) spec.Config {
	x := spec.Config{Key: c.Key, Value: c.Value}
	if c.Required {
		yes := true
		x.Required = &yes
	}
	return x
}

// device takes over every field of an item.
func (r *reader) device(i *ovf.Item) spec.Device {
	e := i.Element()
	d := spec.Device{
		ID: i.InstanceID, Required: required(i.Required), Options: i.Configurations, Bound: i.Bound,
		Attributes: r.foreign(e, "configuration"), Type: spec.DeviceTypeName(i.ResourceType),
	}
	if i.ResourceType == 0 {
		d.Type = "0"
	}
	if i.Bound == "normal" {
		d.Bound = ""
	}
	if r.major == 2 || i.Kind != ovf.RASDItem {
		d.Element = string(i.Kind)
	}
	var raw []string
	own := itemSpace(i.Kind)
	for _, c := range e.Children {
		text := strings.TrimSpace(c.Text())
		switch {
		case isCIM(c.Space) && c.Space != own && len(c.Children)+len(c.Attrs) == 0 && r.declared[c.Prefix] == c.Space && !r.old:
			// Some write fields of another kind of item.
			d.Fields = append(d.Fields, spec.XMLKey{Name: c.Name(), Value: text})
		case c.Is(ovf.NSVMware, "Config"), c.Is(ovf.NSVMware, "ExtraConfig"):
		case c.Is(ovf.NSVMware, "CoresPerSocket") && attribute(c, "required") == "false" && len(c.Attrs) == 1:
			d.Cores = text
		case isCIM(c.Space) && len(c.Children) == 0 && (len(c.Attrs) == 0 || r.old || r.opt.KeysOnly):
			r.field(&d, c, text)
		default:
			if t, ok := r.raw(c); ok {
				raw = append(raw, t.Text)
				r.report.Raw = append(r.report.Raw, c.Name())
			}
		}
	}
	if d.Name == nil {
		d.Name = new(string)
	}
	d.XML = spec.RawXML{Text: strings.Join(raw, "\n")}
	for _, c := range i.Configs {
		d.Configs = append(d.Configs, config(c))
	}
	for _, c := range i.Extra {
		d.ExtraConfigs = append(d.ExtraConfigs, config(c))
	}
	return d
}

func itemSpace(k ovf.ItemKind) string {
	switch k {
	case ovf.StorageItem:
		return ovf.NSSASD
	case ovf.EthernetPortItem:
		return ovf.NSEPASD
	}
	return ovf.NSRASD
}

func isCIM(space string) bool {
	return strings.HasPrefix(space, "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_")
}

func (r *reader) field(d *spec.Device, c *xmldoc.Element, text string) {
	one := func(s *string) {
		if *s == "" {
			*s = text
			return
		}
		d.Fields = append(d.Fields, spec.XMLKey{Name: c.Local, Value: text})
	}
	switch c.Local {
	case "Address":
		one(&d.Address)
	case "BusNumber":
		if d.Address == "" {
			d.Address = text
		}
	case "AddressOnParent":
		one(&d.Slot)
	case "AllocationUnits":
		one(&d.Units)
	case "AutomaticAllocation":
		one(&d.Automatic)
	case "Caption":
		if r.old {
			d.Name = &text
			return
		}
		one(&d.Caption)
	case "Connection":
		d.Connections = append(d.Connections, text)
	case "Description":
		d.Description = &text
	case "ElementName":
		d.Name = &text
	case "HostResource":
		r.host(d, text)
	case "InstanceID", "InstanceId":
		d.ID = text
	case "Limit":
		one(&d.Limit)
	case "MappingBehavior":
		one(&d.Mapping)
	case "OtherResourceType":
		one(&d.OtherType)
	case "Parent":
		one(&d.Parent)
	case "PoolID", "PoolId":
		one(&d.Pool)
	case "Reservation":
		one(&d.Reservation)
	case "ResourceSubType":
		d.SubTypes = append(d.SubTypes, text)
	case "ResourceType":
		if _, err := strconv.ParseUint(text, 10, 16); err != nil {
			d.Fields = append(d.Fields, spec.XMLKey{Name: c.Local, Value: text})
		}
	case "VirtualQuantity":
		one(&d.Quantity)
	case "VirtualQuantityUnits":
		one(&d.QuantUnits)
	case "Weight":
		one(&d.Weight)
	default:
		d.Fields = append(d.Fields, spec.XMLKey{Name: c.Local, Value: text})
	}
}

func (r *reader) host(d *spec.Device, text string) {
	if id, ok := strings.CutPrefix(text, "ovf:/disk/"); ok && d.Disk == "" && path.Clean(id) == id && d.File == "" && d.Host == nil {
		d.Disk = id
	} else if id, ok := strings.CutPrefix(text, "ovf:/file/"); ok && d.Disk == "" && d.File == "" && d.Host == nil {
		d.File = id
	} else {
		d.Host = append(d.Host, text)
	}
}
