package machine

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/hypervisor"
)

// native writes down what a host says in words of its own kind.
func (d *describer) native(n *hypervisor.Native) {
	c := d.out.Machine
	h := &c.Hardware[0]
	if len(h.Family) == 0 && n.Family != "" {
		h.Family = spec.Strings{n.Family}
	}
	c.OS.VMware = n.OS
	h.Transport = slices.Clone(n.Transports)
	if n.Note != "" {
		c.Annotations = append(c.Annotations, spec.Note{Text: spec.Text{Text: n.Note}})
	}
	for _, s := range n.Settings {
		if slices.ContainsFunc(d.opt.Settings, func(p string) bool { ok, err := path.Match(p, s.Key); return ok && err == nil }) {
			h.Extra = append(h.Extra, spec.Config{Key: s.Key, Value: s.Value})
		}
	}
	for _, text := range n.EULAs {
		c.EULAs = append(c.EULAs, spec.EULA{License: spec.Text{Text: text}})
	}
	for _, p := range n.Products {
		made := spec.Product{Class: p.Class, Instance: p.Instance, Product: spec.Text{Text: p.Name}, Vendor: spec.Text{Text: p.Vendor},
			Version: p.Version, FullVersion: p.FullVersion, ProductURL: p.ProductURL, VendorURL: p.VendorURL, AppURL: p.AppURL}
		category := ""
		for _, q := range p.Properties {
			y := spec.Property{Key: q.Key, Label: spec.Text{Text: q.Label}, Description: spec.Text{Text: q.Description}, UserConfigurable: q.UserConfigurable}
			y.Type, y.Qualifiers, y.VMware, y.Password = propertyType(q.Type)
			if q.Default != "" {
				y.Default = &q.Default
			}
			if q.Category != category {
				y.Category, category = spec.Text{Text: q.Category}, q.Category
			}
			made.Properties = append(made.Properties, y)
		}
		c.Products = append(c.Products, made)
	}
}

// propertyType says one of VMware's types in the standard's words, with
// qualifiers for what those do not say.
func propertyType(t string) (typ, qualifiers, vmware string, password bool) {
	base, rest, _ := strings.Cut(strings.TrimSpace(t), "(")
	limits := ""
	if low, high, ok := strings.Cut(strings.TrimSuffix(rest, ")"), ".."); ok {
		var parts []string
		if low != "" {
			parts = append(parts, fmt.Sprintf("MinLen(%s)", low))
		}
		if high != "" {
			parts = append(parts, fmt.Sprintf("MaxLen(%s)", high))
		}
		limits = strings.Join(parts, ", ")
	}
	switch kind, network, _ := strings.Cut(base, ":"); {
	case base == "password":
		return "string", limits, "", true
	case base == "boolean":
		return "boolean", "", "", false
	case base == "int":
		// Its limits are of the number, for which the standard has no words.
		return "sint32", "", "", false
	case base == "real":
		return "real32", "", "", false
	case kind == "ip" && network != "":
		return "string", "", fmt.Sprintf("Ip(%q)", network), false
	case kind == "ip":
		return "string", "", "Ip", false
	case strings.HasPrefix(base, "string["):
		return "string", "ValueMap{" + strings.TrimSuffix(strings.TrimPrefix(t, "string["), "]") + "}", "", false
	}
	return "string", cmp.Or(limits), "", false
}
