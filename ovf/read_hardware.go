package ovf

import (
	"strconv"
	"strings"

	"github.com/ovation-project/ovation/internal/xmldoc"
)

func (r *reader) operatingSystem(e *xmldoc.Element) *OperatingSystem {
	os := &OperatingSystem{Node: Node{e}, ID: -1, Version: r.get(e, "version"), Description: r.childMessage(e, "Description")}
	if n, err := strconv.ParseInt(r.get(e, "id"), 10, 32); err == nil && n >= 0 {
		os.ID = int(n)
	}
	os.VMwareType, _ = e.Attr(NSVMware, "osType")
	if c := e.Child(NSVBox, "OSType"); c != nil {
		os.VBoxType = strings.TrimSpace(c.Text())
	}
	return os
}

func (r *reader) hardware(s *Section) *Hardware {
	e := s.elem
	h := &Hardware{Node: s.Node, ID: r.get(e, "id"), Info: s.Info, Required: s.Required, Transports: strings.Fields(r.get(e, "transport"))}
	for _, c := range e.Children {
		switch {
		case r.isItem(c):
			h.Items = append(h.Items, r.item(c))
		case c.Local == "System" && r.own(c.Space):
			for _, f := range c.Children {
				switch f.Local {
				case "VirtualSystemIdentifier":
					h.SystemID = strings.TrimSpace(f.Text())
				case "VirtualSystemType":
					h.SystemTypes = append(h.SystemTypes, splitList(f.Text())...)
				}
			}
		case c.Is(NSVMware, "Config"):
			h.Configs = append(h.Configs, r.config(c))
		case c.Is(NSVMware, "ExtraConfig"):
			h.Extra = append(h.Extra, r.config(c))
		}
	}
	return h
}

func (r *reader) config(e *xmldoc.Element) Config {
	c := Config{Node: Node{e}, Required: r.boolean(e, "required", true)}
	_, c.Stated = r.attr(e, "required")
	c.Key, _ = e.Attr(NSVMware, "key")
	c.Value, _ = e.Attr(NSVMware, "value")
	return c
}

func (r *reader) isItem(e *xmldoc.Element) bool {
	return r.own(e.Space) && (e.Local == string(RASDItem) || e.Local == string(StorageItem) || e.Local == string(EthernetPortItem))
}

// splitList takes apart lists that the wild separates by spaces, commas or
// both.
func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' || r == '\r' })
}

func (r *reader) item(e *xmldoc.Element) *Item {
	i := &Item{
		Node: Node{e}, Kind: ItemKind(e.Local), Required: r.boolean(e, "required", true),
		Bound: r.get(e, "bound"), Configurations: splitList(r.get(e, "configuration")),
	}
	var statuses []string
	for _, c := range e.Children {
		switch c.Space {
		case NSVMware:
			switch c.Local {
			case "CoresPerSocket":
				i.CoresPerSocket = strings.TrimSpace(c.Text())
			case "Config":
				i.Configs = append(i.Configs, r.config(c))
			case "ExtraConfig":
				i.Extra = append(i.Extra, r.config(c))
			}
			continue
		case NSVBox:
			continue
		}
		switch c.Local {
		case "ProcessorArchitecture", "InstructionSet", "InstructionSetExtensionName", "InstructionSetExtensionStatus":
			if i.Processor == nil {
				i.Processor = &ProcessorKind{}
			}
			statuses = append(statuses, r.processor(i.Processor, c)...)
		default:
			i.set(c.Local, strings.TrimSpace(c.Text()))
		}
	}
	for k, status := range statuses { // they go with the names, one by one
		if k < len(i.Processor.Extensions) {
			i.Processor.Extensions[k].Disabled = strings.EqualFold(status, "Disabled")
		}
	}
	return i
}

// processor takes a field of CIM_ProcessorAllocationSettingData; the statuses of
// extensions it gives back. Lists are written as several elements or as one.
func (r *reader) processor(p *ProcessorKind, e *xmldoc.Element) (statuses []string) {
	text := strings.TrimSpace(e.Text())
	switch e.Local {
	case "ProcessorArchitecture":
		p.Architecture = text
	case "InstructionSet":
		p.InstructionSet = text
	case "InstructionSetExtensionName":
		for _, name := range splitList(text) {
			p.Extensions = append(p.Extensions, Extension{Name: name, Required: r.boolean(e, "required", true)})
		}
	case "InstructionSetExtensionStatus":
		return splitList(text)
	}
	return nil
}

// set takes one of the setting data's fields. What is not known stays in the
// element.
func (i *Item) set(field, text string) {
	switch field {
	case "InstanceID", "InstanceId":
		i.InstanceID = text
	case "ElementName":
		i.ElementName = text
	case "Caption":
		if i.ElementName == "" {
			i.ElementName = text
		}
	case "Description":
		i.Description = text
	case "ResourceType":
		if n, err := strconv.ParseUint(text, 10, 16); err == nil {
			i.ResourceType = ResourceType(n)
		}
	case "OtherResourceType":
		i.OtherResourceType = text
	case "ResourceSubType":
		i.SubTypes = append(i.SubTypes, splitList(text)...)
	case "VirtualQuantity":
		i.VirtualQuantity = text
	case "VirtualQuantityUnits":
		i.VirtualQuantityUnits = text
	case "AllocationUnits":
		i.AllocationUnits = text
	case "Reservation":
		i.Reservation = text
	case "Limit":
		i.Limit = text
	case "Weight":
		i.Weight = text
	case "Address":
		i.Address = text
	case "BusNumber":
		if i.Address == "" {
			i.Address = text
		}
	case "AddressOnParent":
		i.AddressOnParent = text
	case "Parent":
		i.Parent = text
	case "Connection":
		i.Connections = append(i.Connections, text)
	case "HostResource":
		i.HostResources = append(i.HostResources, text)
	case "AutomaticAllocation":
		i.AutomaticAllocation = text
	case "MappingBehavior":
		i.MappingBehavior = text
	case "PoolID", "PoolId":
		i.PoolID = text
	}
}
