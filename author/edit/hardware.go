package edit

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ovation-project/ovation/internal/xmldoc"
	"github.com/ovation-project/ovation/ovf"
)

// item finds the item of a type that holds for all deployment options, or for
// one.
func item(h *ovf.Hardware, typ ovf.ResourceType, option string) *ovf.Item {
	for _, i := range h.Items {
		if i.ResourceType == typ && (i.Bound == "" || i.Bound == "normal") &&
			(option == "" && len(i.Configurations) == 0 || option != "" && slices.Contains(i.Configurations, option)) {
			return i
		}
	}
	return nil
}

// leading is the number that a name such as "2 virtual CPU(s)" begins with.
var leading = regexp.MustCompile(`^[0-9]+`)

// SetCPUs sets a machine's number of processors; option is "" for all
// deployment options that have no number of their own.
func (d *Descriptor) SetCPUs(machine, option string, n int) error {
	if n < 1 {
		return fmt.Errorf("%d processors: a machine has one at least", n)
	}
	return d.setQuantity(machine, option, ovf.Processor, "processors", func(i *ovf.Item) ([]ovf.Edit, error) {
		return quantity(i, strconv.Itoa(n)), nil
	})
}

// SetMemory sets a machine's memory, in bytes.
func (d *Descriptor) SetMemory(machine, option string, n int64) error {
	if n < 1<<20 {
		return fmt.Errorf("%d bytes of memory: a machine has more; give a unit, such as 4GiB", n)
	}
	return d.setQuantity(machine, option, ovf.Memory, "memory", func(i *ovf.Item) ([]ovf.Edit, error) {
		units := i.AllocationUnits
		u, err := ovf.ParseUnit(units)
		one := int64(1)
		if err == nil {
			one, err = u.Quantity("1")
		}
		var edits []ovf.Edit
		if err != nil || u.Base != "byte" || one < 1 || n%one != 0 {
			one, units = 1, "byte"
			if n%(1<<20) == 0 {
				one, units = 1<<20, "byte * 2^20"
			}
			edits = append(edits, ovf.SetChildText(i.Node, "AllocationUnits", units))
		}
		if edits != nil { // the number in the name is of the old units
			return append(edits, ovf.SetChildText(i.Node, "VirtualQuantity", strconv.FormatInt(n/one, 10))), nil
		}
		return quantity(i, strconv.FormatInt(n/one, 10)), nil
	})
}

// quantity sets a number, and in the name that begins with the old one too.
func quantity(i *ovf.Item, n string) []ovf.Edit {
	edits := []ovf.Edit{ovf.SetChildText(i.Node, "VirtualQuantity", n)}
	if old := leading.FindString(i.ElementName); old != "" && old == i.VirtualQuantity {
		for _, c := range i.Element().Children {
			if c.Local == "ElementName" || c.Local == "Caption" {
				edits = append(edits, on(c.SetText(n+strings.TrimPrefix(i.ElementName, old))))
				break
			}
		}
	}
	return edits
}

func (d *Descriptor) setQuantity(machine, option string, typ ovf.ResourceType, what string, set func(*ovf.Item) ([]ovf.Edit, error)) error {
	c, err := d.content(machine)
	if err != nil {
		return err
	}
	var edits []ovf.Edit
	for _, h := range c.Hardware {
		if i := item(h, typ, option); i != nil {
			some, err := set(i)
			if err != nil {
				return err
			}
			edits = append(edits, some...)
		}
	}
	if len(edits) == 0 {
		return fmt.Errorf("%s of %s: %w: no item says how much", what, c.ID, ErrNotFound)
	}
	return d.apply(edits...)
}

// RenameNetwork gives a network another name, in all that connects to it.
func (d *Descriptor) RenameNetwork(name, to string) error {
	var edits []ovf.Edit
	var names []string
	for _, n := range d.env().Networks {
		names = append(names, n.Name)
		if n.Name == to {
			return fmt.Errorf("there is a network %q already", to)
		}
		if n.Name == name {
			edits = append(edits, ovf.SetAttr(n.Node, "name", to))
		}
	}
	if len(edits) == 0 {
		return notFound("network", name, names)
	}
	d.items(func(i *ovf.Item) {
		for _, c := range i.Element().Children {
			if c.Local == "Connection" && strings.TrimSpace(c.Text()) == name {
				edits = append(edits, on(c.SetText(to)))
			}
		}
	})
	return d.apply(edits...)
}

// Connect connects a machine's network card, named by its InstanceID or its
// ElementName, to a network, which is added where there is none of that name.
func (d *Descriptor) Connect(machine, card, network string) error {
	c, err := d.content(machine)
	if err != nil {
		return err
	}
	var edits []ovf.Edit
	var have []string
	for _, h := range c.Hardware {
		for _, i := range h.Items {
			if i.ResourceType != ovf.EthernetAdapter {
				continue
			}
			have = append(have, fmt.Sprintf("%s (%s)", i.InstanceID, i.ElementName))
			if i.InstanceID == card || i.ElementName == card {
				edits = append(edits, ovf.SetChildText(i.Node, "Connection", network))
			}
		}
	}
	if len(edits) == 0 {
		return notFound("network card", card, have)
	}
	if !slices.ContainsFunc(d.env().Networks, func(n *ovf.Network) bool { return n.Name == network }) {
		p, a := tag(d.doc.Tree().Root())
		made := fmt.Sprintf(`<%sNetwork %sname="%s"/>`, p, a, xmldoc.EscapeAttr(network))
		if err := d.into("NetworkSection", "The list of logical networks", []string{made}); err != nil {
			return err
		}
		return d.Connect(machine, card, network)
	}
	return d.apply(edits...)
}

func (d *Descriptor) items(f func(*ovf.Item)) {
	if d.env().Content == nil {
		return
	}
	d.env().Content.Walk(func(c *ovf.Content) {
		for _, h := range c.Hardware {
			for _, i := range h.Items {
				f(i)
			}
		}
	})
}

// SetFamily sets the virtual hardware family of a machine's only hardware
// section.
func (d *Descriptor) SetFamily(machine, family string) error {
	c, err := d.content(machine)
	if err != nil {
		return err
	}
	if len(c.Hardware) != 1 {
		return fmt.Errorf("machine %s has %d hardware sections, and the family of one can be set", c.ID, len(c.Hardware))
	}
	for _, e := range c.Hardware[0].Element().Children {
		if e.Local != "System" {
			continue
		}
		for _, f := range e.Children {
			if f.Local == "VirtualSystemType" {
				return d.apply(on(f.SetText(family)))
			}
		}
	}
	return fmt.Errorf("the System element of %s: %w", c.ID, ErrNotFound)
}

// SetConfig sets a vmw:Config of a machine's hardware, such as firmware, or adds
// it.
func (d *Descriptor) SetConfig(machine, key, value string) error {
	c, err := d.content(machine)
	if err != nil {
		return err
	}
	if len(c.Hardware) == 0 {
		return fmt.Errorf("the hardware of %s: %w", c.ID, ErrNotFound)
	}
	var edits []ovf.Edit
	for _, h := range c.Hardware {
		var found *xmldoc.Element
		for _, e := range h.Element().Children {
			if k, _ := e.Attr(ovf.NSVMware, "key"); e.Is(ovf.NSVMware, "Config") && k == key {
				found = e
			}
		}
		if found != nil {
			edit, err := found.SetAttr(ovf.NSVMware, "value", value)
			if err != nil {
				return err
			}
			edits = append(edits, on(edit))
			continue
		}
		prefix, declared := h.Element().PrefixFor(ovf.NSVMware, true)
		declaration := ""
		if !declared {
			prefix, declaration = "vmw", ` xmlns:vmw="`+ovf.NSVMware+`"`
		}
		_, a := tag(h.Element())
		edits = append(edits, ovf.Append(h.Node, fmt.Sprintf(`<%s:Config%s %srequired="false" %s:key="%s" %s:value="%s"/>`,
			prefix, declaration, a, prefix, xmldoc.EscapeAttr(key), prefix, xmldoc.EscapeAttr(value))))
	}
	return d.apply(edits...)
}
