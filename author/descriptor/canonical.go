package descriptor

import (
	"cmp"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/internal/xmldoc"
	"github.com/ovation-project/ovation/ovf"
)

// canonical gives what an element says, whatever prefixes, order of
// attributes, white space and comments it is written with. Attributes that say
// what holds anyway are left out.
func canonical(e *xmldoc.Element) string {
	var b strings.Builder
	writeCanonical(&b, e)
	return b.String()
}

// space gives a namespace's short name where there are several for one thing.
func space(s string) string {
	if s == ovf.NS1 || s == ovf.NS2 || s == ovf.NS09 {
		return "ovf"
	}
	return s
}

// implied are the attributes' values that hold where they do not stand.
var implied = map[string]string{
	"required": "true", "default": "false", "userConfigurable": "false", "password": "false", "bound": "normal",
	"waitingForGuest": "false",
}

func writeCanonical(b *strings.Builder, e *xmldoc.Element) {
	local := e.Local
	if local == "InstanceId" && isCIM(e.Space) {
		local = "InstanceID" // as the versions of CIM before OVF 1.0 spelt it
	}
	b.WriteString("<" + space(e.Space) + " " + local)
	var attrs []string
	for i := range e.Attrs {
		a := &e.Attrs[i]
		if a.Prefix == "xmlns" || a.Prefix == "" && a.Local == "xmlns" {
			continue
		}
		s := space(a.Space)
		if s == "" {
			s = "ovf" // some leave the prefix out
		}
		if s == "ovf" && (implied[a.Local] == a.Value && a.Value != "" || a.Value == "" && (a.Local == "transport" || a.Local == "fileRef")) {
			continue
		}
		attrs = append(attrs, s+" "+a.Local+"="+strings.TrimSpace(a.Value))
	}
	slices.Sort(attrs)
	for _, a := range attrs {
		b.WriteString("\x00" + a)
	}
	b.WriteString(">")
	children := slices.Clone(e.Children)
	if isItem(e) || e.Local == "System" {
		// The order of a setting's fields says nothing.
		slices.SortStableFunc(children, func(a, b *xmldoc.Element) int { return strings.Compare(a.Local, b.Local) })
		// Nor does a field that is empty.
		children = slices.DeleteFunc(children, func(c *xmldoc.Element) bool {
			return isCIM(c.Space) && len(c.Attrs)+len(c.Children) == 0 && strings.TrimSpace(c.Text()) == ""
		})
	}
	if e.Local == string(ovf.VirtualHardwareSection) {
		// Items, settings and what else there is are apart from each other,
		// and settings are found by their keys.
		slices.SortStableFunc(children, func(a, b *xmldoc.Element) int {
			return cmp.Or(cmp.Compare(place(a), place(b)), strings.Compare(settingKey(a), settingKey(b)))
		})
	}
	for i, c := range children {
		if c.Local == "Info" && space(c.Space) == "ovf" && len(c.Attrs)+len(c.Children) == 0 && strings.TrimSpace(c.Text()) == "" {
			continue
		}
		if more := i > 0 && c.Local == subType && children[i-1].Local == subType; more && isItem(e) {
			// Several models may stand in one field or in several.
			text := strings.TrimSuffix(b.String(), "</>")
			b.Reset()
			b.WriteString(text + " " + strings.TrimSpace(c.Text()) + "</>")
			continue
		}
		writeCanonical(b, c)
	}
	b.WriteString(strings.TrimSpace(e.Text()) + "</>")
}

const subType = "ResourceSubType"

func place(e *xmldoc.Element) int {
	return slices.Index([]string{"Info", "System", "Item", "StorageItem", "EthernetPortItem"}, e.Local) + map[bool]int{true: 10, false: 0}[e.Space == ovf.NSVMware]
}

func settingKey(e *xmldoc.Element) string {
	key, _ := e.Attr(ovf.NSVMware, "key")
	return key
}

func isItem(e *xmldoc.Element) bool {
	switch ovf.ItemKind(e.Local) {
	case ovf.RASDItem, ovf.StorageItem, ovf.EthernetPortItem:
		return true
	}
	return false
}
