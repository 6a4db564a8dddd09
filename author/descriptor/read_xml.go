package descriptor

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/internal/xmldoc"
	"github.com/ovation-project/ovation/ovf"
)

type reader struct {
	env      *ovf.Envelope
	opt      ReadOptions
	report   *Report
	old      bool // not in the namespace of OVF 1 or 2: its XML cannot be taken over
	major    int
	declared map[string]string // what prefixes are in the descriptor that is to be made
}

func (r *reader) lost(n ovf.Node, what string) {
	r.report.Lost = append(r.report.Lost, fmt.Sprintf("%s: %s", n.Pos(), what))
}

// prefixes takes the declarations of the envelope over, so that XML which uses
// them can be as it is.
func (r *reader) prefixes(a *spec.Appliance, root *xmldoc.Element) {
	r.declared = map[string]string{}
	for _, p := range standardPrefixes(2) {
		prefix := strings.TrimPrefix(strings.TrimPrefix(p[0], "xmlns"), ":")
		r.declared[prefix] = p[1]
	}
	for _, p := range standardPrefixes(r.major) {
		r.declared[strings.TrimPrefix(strings.TrimPrefix(p[0], "xmlns"), ":")] = p[1]
	}
	for i := range root.Attrs {
		at := &root.Attrs[i]
		if at.Prefix != "xmlns" || at.Local == "xml" || at.Local == "xmlns" {
			continue
		}
		if _, ok := r.declared[at.Local]; !ok && at.Value != "" {
			r.declared[at.Local] = at.Value
			if root.Document() != nil {
				a.Namespaces = append(a.Namespaces, spec.Namespace{Prefix: at.Local, URI: at.Value})
			}
		}
	}
}

// raw gives an element as XML that means the same in the descriptor to be
// made.
func (r *reader) raw(e *xmldoc.Element) (spec.RawXML, bool) {
	need := map[string]string{}
	ok := true
	var walk func(e *xmldoc.Element, bound map[string]bool)
	walk = func(e *xmldoc.Element, bound map[string]bool) {
		own := bound
		for i := range e.Attrs {
			if a := &e.Attrs[i]; a.Prefix == "xmlns" || a.Prefix == "" && a.Local == "xmlns" {
				if len(own) == len(bound) {
					own = maps.Clone(bound)
				}
				name := a.Local
				if a.Prefix == "" {
					name = ""
				}
				own[name] = true
			}
		}
		check := func(prefix, space string) {
			if strings.HasPrefix(space, xmldoc.UndeclaredSpace) {
				ok = false
			}
			if prefix != "xml" && !own[prefix] && r.declared[prefix] != space {
				need[prefix] = space
			}
		}
		check(e.Prefix, e.Space)
		for i := range e.Attrs {
			if a := &e.Attrs[i]; a.Prefix != "" && a.Prefix != "xmlns" {
				check(a.Prefix, a.Space)
			}
		}
		for _, c := range e.Children {
			walk(c, own)
		}
	}
	walk(e, map[string]bool{})
	text := e.Document().Raw(e.Outer())
	if len(need) > 0 {
		name := e.Name()
		var b strings.Builder
		for _, prefix := range slices.Sorted(maps.Keys(need)) {
			if prefix == "" {
				fmt.Fprintf(&b, ` xmlns="%s"`, xmldoc.EscapeAttr(need[prefix]))
			} else {
				fmt.Fprintf(&b, ` xmlns:%s="%s"`, prefix, xmldoc.EscapeAttr(need[prefix]))
			}
		}
		text = "<" + name + b.String() + strings.TrimPrefix(text, "<"+name)
	}
	return spec.RawXML{Text: strings.ReplaceAll(text, "\r\n", "\n")}, ok
}

// whole says whether what was read of a section says all of it: by writing it
// and comparing. Where it does not, the section is taken over as XML.
func (r *reader) whole(n ovf.Node, what string, into *[]spec.RawXML, render func(w *renderer) (*element, error)) bool {
	if r.said(n, render) {
		return true
	}
	x, ok := r.raw(n.Element())
	if !ok {
		r.lost(n, what+" uses prefixes that are not declared")
		return true
	}
	*into = append(*into, x)
	r.report.Raw = append(r.report.Raw, what)
	return false
}

// said says whether what is rendered says the same as an element.
func (r *reader) said(n ovf.Node, render func(w *renderer) (*element, error)) bool {
	if r.old {
		return true
	}
	w := &renderer{major: r.major, layout: &Layout{}, models: DefaultModels(), plain: true, ids: map[string]bool{}}
	e, err := render(w)
	if err != nil {
		return false
	}
	got, ok := r.parse(e)
	return ok && canonical(got) == canonical(n.Element())
}

// parse reads what was written, as if it stood in a descriptor.
func (r *reader) parse(e *element) (*xmldoc.Element, bool) {
	root := el("Envelope")
	for _, prefix := range slices.Sorted(maps.Keys(r.declared)) {
		name := "xmlns:" + prefix
		if prefix == "" {
			name = "xmlns"
		}
		root.attrs = append(root.attrs, [2]string{name, r.declared[prefix]})
	}
	var b strings.Builder
	root.add(e).write(&b, 0)
	doc, err := xmldoc.Parse([]byte(b.String()), xmldoc.Limits{})
	if err != nil || len(doc.Root().Children) != 1 {
		return nil, false
	}
	return doc.Root().Children[0], true
}

func message(m ovf.Message) spec.Text { return spec.Text{Text: m.Text, ID: m.MsgID} }

// required gives ovf:required where it does not say what holds anyway.
func required(b bool) *bool {
	if b {
		return nil
	}
	return &b
}

// foreign gives the attributes of an element that have no key: those not of
// OVF, and those of OVF that are not among known.
func (r *reader) foreign(e *xmldoc.Element, known ...string) []spec.XMLKey {
	var all []spec.XMLKey
	for i := range e.Attrs {
		a := &e.Attrs[i]
		if a.Prefix == "xmlns" || a.Local == "xmlns" && a.Prefix == "" || r.old && a.Space != ovf.NSVMware && a.Space != ovf.NSVBox {
			continue
		}
		own := a.Space == "" || a.Space == ovf.NS1 || a.Space == ovf.NS2
		if own && (slices.Contains(known, a.Local) || a.Local == "required" || a.Local == "bound" || a.Local == "configuration") || a.Space == ovf.NSVMware && slices.Contains(known, "vmw:"+a.Local) {
			continue
		}
		name := a.Name()
		if own {
			name = "ovf:" + a.Local
		} else if r.declared[a.Prefix] != a.Space {
			continue
		}
		all = append(all, spec.XMLKey{Name: name, Value: a.Value})
	}
	return all
}

// section takes a section over as XML.
func (r *reader) section(n ovf.Node, what string, into *[]spec.RawXML) {
	if r.old && n.Element().Local == "Section" {
		r.lost(n, what)
		return
	}
	x, ok := r.raw(n.Element())
	if !ok {
		r.lost(n, what+" uses prefixes that are not declared")
		return
	}
	*into = append(*into, x)
	r.report.Raw = append(r.report.Raw, what)
}

// others gives the children of an element that are not among those known, as
// XML.
func (r *reader) others(e *xmldoc.Element, known ...string) spec.RawXML {
	var all []string
	for _, c := range e.Children {
		own := c.Space == ovf.NS1 || c.Space == ovf.NS2 || c.Space == ""
		if own && slices.Contains(known, c.Local) || r.old && (c.Space == ovf.NS09 || c.Space == "") {
			continue
		}
		if x, ok := r.raw(c); ok {
			all = append(all, x.Text)
			r.report.Raw = append(r.report.Raw, c.Name())
		}
	}
	return spec.RawXML{Text: strings.Join(all, "\n")}
}
