package ovf

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ovation-project/ovation/internal/xmldoc"
)

// Edit is one change of a descriptor. Edits are made by the functions of this
// file and done by Document.Apply, several at once.
type Edit func(*Document) ([]xmldoc.Edit, error)

// Apply gives a new document with the edits done. Bytes outside the edited
// elements stay as they were: comments, prefixes, the order of attributes,
// quotes, line ends, the encoding. All edits are of this document as it is,
// so two of them cannot change the same place.
//
// Edits after which the descriptor could not be read, or could not be resolved
// for what it could be before, are refused: one that takes away a file that a
// disk is in, or gives two disks one ID. Changes that only hold together are
// done in one call. Where the descriptor is refused for what it says, the
// error is a *ResolveError with places in the descriptor as it would be.
func (d *Document) Apply(edits ...Edit) (*Document, error) {
	var all []xmldoc.Edit
	for _, e := range edits {
		some, err := e(d)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	tree, err := d.tree.Apply(all...)
	if err != nil {
		return nil, fmt.Errorf("the edit would make the descriptor invalid: %w", err)
	}
	after, err := newDocument(tree, d.opt)
	if err != nil {
		return nil, fmt.Errorf("the edit would make the descriptor invalid: %w", err)
	}
	if err := worse(d.env, after.env); err != nil {
		return nil, fmt.Errorf("the edit would make the descriptor invalid: %w", err)
	}
	return after, nil
}

// triedOptions is for how many deployment options an edit is tried.
const triedOptions = 16

// worse gives the problems that resolving finds after an edit and did not find
// before.
func worse(before, after *Envelope) error {
	found := problems(after)
	if len(found) == 0 {
		return nil
	}
	had := map[string]bool{}
	for _, p := range problems(before) {
		had[p.Text] = true
	}
	var added []Problem
	for _, p := range found {
		if !had[p.Text] {
			had[p.Text] = true // said once, whatever the option
			added = append(added, p)
		}
	}
	if len(added) == 0 {
		return nil
	}
	return &ResolveError{added}
}

func problems(env *Envelope) []Problem {
	options := []string{""}
	for _, o := range env.Options[:min(len(env.Options), triedOptions)] {
		options = append(options, o.ID)
	}
	var all []Problem
	for _, o := range options {
		_, err := Resolve(env, ResolveOptions{Option: o})
		var e *ResolveError
		if errors.As(err, &e) {
			all = append(all, e.Problems...)
		}
	}
	return all
}

// SetAttr gives one of OVF's attributes of an element a value; the attribute is
// added where there is none.
func SetAttr(n Node, name, value string) Edit {
	return func(d *Document) ([]xmldoc.Edit, error) {
		e, err := d.editable(n)
		if err != nil {
			return nil, err
		}
		space := (&reader{root: d.tree.Root().Space}).attrSpace(e, name)
		edit, err := e.SetAttr(space, name, value)
		return []xmldoc.Edit{edit}, err
	}
}

// attrSpace is the namespace in which an attribute stands or, where it is not
// there, ought to.
func (r *reader) attrSpace(e *xmldoc.Element, name string) string {
	for i := range e.Attrs {
		if a := &e.Attrs[i]; a.Local == name && r.own(a.Space) {
			return a.Space
		}
	}
	if _, ok := e.PrefixFor(r.root, true); !ok {
		return "" // this descriptor writes its attributes without prefix
	}
	return r.root
}

// RemoveAttr takes one of OVF's attributes away.
func RemoveAttr(n Node, name string) Edit {
	return func(d *Document) ([]xmldoc.Edit, error) {
		e, err := d.editable(n)
		if err != nil {
			return nil, err
		}
		return []xmldoc.Edit{e.RemoveAttr((&reader{root: d.tree.Root().Space}).attrSpace(e, name), name)}, nil
	}
}

// SetChildText sets the text of the first child with this local name. Where
// there is none it is added as the last child, in the namespace of the
// others.
func SetChildText(n Node, name, text string) Edit {
	return func(d *Document) ([]xmldoc.Edit, error) {
		e, err := d.editable(n)
		if err != nil {
			return nil, err
		}
		for _, c := range e.Children {
			if c.Local == name {
				return []xmldoc.Edit{c.SetText(text)}, nil
			}
		}
		prefix := e.Prefix
		if len(e.Children) > 0 {
			prefix = e.Children[len(e.Children)-1].Prefix
		}
		if prefix != "" {
			name = prefix + ":" + name
		}
		return []xmldoc.Edit{e.Append("<" + name + ">" + xmldoc.EscapeText(text) + "</" + name + ">")}, nil
	}
}

// SetPropertyValue sets a property's value: the one for a deployment option,
// or with option "" the one for all that have none of their own. A value that
// the property's type and qualifiers do not allow is refused.
func SetPropertyValue(p *Property, option, value string) Edit {
	return func(d *Document) ([]xmldoc.Edit, error) {
		if err := p.CheckValue(value); err != nil {
			return nil, fmt.Errorf("property %s: %w", p.FullKey, err)
		}
		if option == "" {
			return SetAttr(p.Node, "value", value)(d)
		}
		e, err := d.editable(p.Node)
		if err != nil {
			return nil, err
		}
		r := &reader{root: d.tree.Root().Space}
		for _, c := range e.Children {
			if c.Local == "Value" && r.get(c, "configuration") == option {
				return SetAttr(Node{c}, "value", value)(d)
			}
		}
		prefix := ""
		if q, ok := e.PrefixFor(r.root, true); ok && q != "" {
			prefix = q + ":"
		}
		name := "Value"
		if e.Prefix != "" {
			name = e.Prefix + ":Value"
		}
		return []xmldoc.Edit{e.Append(fmt.Sprintf(`<%s %sconfiguration="%s" %svalue="%s"/>`,
			name, prefix, xmldoc.EscapeAttr(option), prefix, xmldoc.EscapeAttr(value)))}, nil
	}
}

// Remove takes an element away, with its line where it has one for itself.
func Remove(n Node) Edit {
	return func(d *Document) ([]xmldoc.Edit, error) {
		e, err := d.editable(n)
		if err != nil {
			return nil, err
		}
		if e.Parent == nil {
			return nil, fmt.Errorf("the envelope itself cannot be removed")
		}
		return []xmldoc.Edit{e.Remove()}, nil
	}
}

// Replace puts XML in an element's place.
func Replace(n Node, xml string) Edit {
	return func(d *Document) ([]xmldoc.Edit, error) {
		e, err := d.editable(n)
		if err != nil {
			return nil, err
		}
		return []xmldoc.Edit{e.Replace(xml)}, nil
	}
}

// InsertBefore puts XML beside an element, before it.
func InsertBefore(n Node, xml string) Edit {
	return beside(n, xml, (*xmldoc.Element).InsertBefore)
}

// InsertAfter puts XML beside an element, after it.
func InsertAfter(n Node, xml string) Edit {
	return beside(n, xml, (*xmldoc.Element).InsertAfter)
}

func beside(n Node, xml string, insert func(*xmldoc.Element, string) (xmldoc.Edit, error)) Edit {
	return func(d *Document) ([]xmldoc.Edit, error) {
		e, err := d.editable(n)
		if err != nil {
			return nil, err
		}
		edit, err := insert(e, xml)
		return []xmldoc.Edit{edit}, err
	}
}

// Append puts XML into an element, after all that is in it.
func Append(n Node, xml string) Edit {
	return func(d *Document) ([]xmldoc.Edit, error) {
		e, err := d.editable(n)
		if err != nil {
			return nil, err
		}
		return []xmldoc.Edit{e.Append(strings.TrimRight(xml, "\n"))}, nil
	}
}

// editable wants an element of this very document: places in another one mean
// nothing here.
func (d *Document) editable(n Node) (*xmldoc.Element, error) {
	if n.elem == nil || n.elem.Document() != d.tree {
		return nil, fmt.Errorf("the element is not of this version of the descriptor: look it up again after an edit")
	}
	return n.elem, nil
}
