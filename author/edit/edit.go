// Package edit changes packages that are there: their descriptors, which stay
// byte for byte as they were outside of what is changed, and their files.
package edit

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/internal/xmldoc"
	"github.com/ovation-project/ovation/ovf"
)

// ErrNotFound says that what is to be changed is not there.
var ErrNotFound = errors.New("not in the package")

// Descriptor is a descriptor that is being changed, one change after the other.
type Descriptor struct {
	doc *ovf.Document
}

// New begins with a descriptor.
func New(doc *ovf.Document) *Descriptor { return &Descriptor{doc} }

// Document is the descriptor with the changes so far.
func (d *Descriptor) Document() *ovf.Document { return d.doc }

func (d *Descriptor) env() *ovf.Envelope { return d.doc.Envelope() }

func (d *Descriptor) apply(edits ...ovf.Edit) error {
	after, err := d.doc.Apply(edits...)
	if err != nil {
		return err
	}
	d.doc = after
	return nil
}

// on makes an edit of one of an element.
func on(e xmldoc.Edit) ovf.Edit {
	return func(*ovf.Document) ([]xmldoc.Edit, error) { return []xmldoc.Edit{e}, nil }
}

func notFound(what, name string, have []string) error {
	if len(have) == 0 {
		return fmt.Errorf("%s %q: %w: there is none", what, name, ErrNotFound)
	}
	return fmt.Errorf("%s %q: %w; there are %s", what, name, ErrNotFound, strings.Join(have, ", "))
}

// content finds a machine or collection; "" is the only machine.
func (d *Descriptor) content(id string) (*ovf.Content, error) {
	var all, systems []*ovf.Content
	var names []string
	if c := d.env().Content; c != nil {
		c.Walk(func(c *ovf.Content) {
			all = append(all, c)
			names = append(names, c.ID)
			if c.Kind == ovf.VirtualSystem {
				systems = append(systems, c)
			}
		})
	}
	if id == "" {
		if len(systems) == 1 {
			return systems[0], nil
		}
		return nil, fmt.Errorf("say which machine is meant: there are %s", strings.Join(names, ", "))
	}
	for _, c := range all {
		if c.ID == id {
			return c, nil
		}
	}
	return nil, notFound("machine", id, names)
}

// tag gives the prefixes for elements and attributes of OVF's in an element.
func tag(e *xmldoc.Element) (element, attribute string) {
	space := e.Document().Root().Space
	if p, ok := e.PrefixFor(space, false); ok && p != "" {
		element = p + ":"
	}
	if p, ok := e.PrefixFor(space, true); ok && p != "" {
		attribute = p + ":"
	}
	return element, attribute
}

// SetProperty sets a property's default, for one deployment option where that
// is not "". The key is the full one, or its own where only one property has
// it.
func (d *Descriptor) SetProperty(key, option, value string) error {
	var found []*ovf.Property
	var names []string
	if d.env().Content != nil {
		d.env().Content.Walk(func(c *ovf.Content) {
			for _, p := range c.Products {
				for _, x := range p.Properties {
					names = append(names, x.FullKey)
					if x.FullKey == key {
						found = append([]*ovf.Property{x}, found...)
					} else if x.Key == key {
						found = append(found, x)
					}
				}
			}
		})
	}
	if len(found) == 0 {
		return notFound("property", key, names)
	}
	if len(found) > 1 && found[0].FullKey != key {
		var full []string
		for _, x := range found {
			full = append(full, x.FullKey)
		}
		return fmt.Errorf("property %q: say which is meant: %s", key, strings.Join(full, ", "))
	}
	if option != "" && !slices.ContainsFunc(d.env().Options, func(o *ovf.Option) bool { return o.ID == option }) {
		return notFound("deployment option", option, nil)
	}
	return d.apply(ovf.SetPropertyValue(found[0], option, value))
}

// SetName sets a machine's name.
func (d *Descriptor) SetName(machine, name string) error {
	c, err := d.content(machine)
	if err != nil {
		return err
	}
	return d.setText(c.Element(), []string{"Info", "Name"}, "Name", name)
}

// setText sets the text of a child, or adds the child behind those that come
// before it in the order.
func (d *Descriptor) setText(e *xmldoc.Element, order []string, name, text string) error {
	prefix, _ := tag(e)
	made := "<" + prefix + name + ">" + xmldoc.EscapeText(text) + "</" + prefix + name + ">"
	var after *xmldoc.Element
	for _, c := range e.Children {
		if c.Local == name && c.Space == e.Space {
			return d.apply(on(c.SetText(text)))
		}
		if at := slices.Index(order, c.Local); at >= 0 && at < slices.Index(order, name) {
			after = c
		}
	}
	if after != nil {
		edit, err := after.InsertAfter(made)
		if err != nil {
			return err
		}
		return d.apply(on(edit))
	}
	if len(e.Children) > 0 {
		edit, err := e.Children[0].InsertBefore(made)
		if err != nil {
			return err
		}
		return d.apply(on(edit))
	}
	return d.apply(on(e.Append(made)))
}

// productOrder is the order of a ProductSection's elements.
var productOrder = []string{"Info", "Product", "Vendor", "Version", "FullVersion", "ProductUrl", "VendorUrl", "AppUrl"}

// SetProduct sets one of a product's texts by its element: Product, Vendor,
// Version, FullVersion, ProductUrl, VendorUrl or AppUrl. It is the product of
// the machine's first ProductSection, which is made where there is none.
func (d *Descriptor) SetProduct(machine, field, text string) error {
	if !slices.Contains(productOrder[1:], field) {
		return fmt.Errorf("a product has no %s: it has %s", field, strings.Join(productOrder[1:], ", "))
	}
	c, err := d.content(machine)
	if err != nil {
		return err
	}
	if len(c.Products) == 0 {
		if err := d.addSection(c, "ProductSection", "What is in this machine", ""); err != nil {
			return err
		}
		if c, err = d.content(machine); err != nil {
			return err
		}
	}
	return d.setText(c.Products[0].Element(), productOrder, field, text)
}

// addSection adds a section to a machine, before its hardware or its members.
func (d *Descriptor) addSection(c *ovf.Content, name, info, inner string) error {
	if d.env().Version == ovf.V09 {
		return fmt.Errorf("a descriptor of OVF 0.9 gets no new sections: convert the package first")
	}
	p, _ := tag(c.Element())
	made := "<" + p + name + "><" + p + "Info>" + xmldoc.EscapeText(info) + "</" + p + "Info>" + inner + "</" + p + name + ">"
	switch {
	case len(c.Hardware) > 0:
		return d.apply(ovf.InsertBefore(c.Hardware[0].Node, made))
	case len(c.Children) > 0:
		return d.apply(ovf.InsertBefore(c.Children[0].Node, made))
	}
	return d.apply(ovf.Append(c.Node, made))
}

// SetEULA sets the text of a machine's, or collection's, first licence, or adds
// one.
func (d *Descriptor) SetEULA(machine, text string) error {
	c, err := d.content(machine)
	if err != nil {
		return err
	}
	if len(c.EULAs) > 0 {
		return d.setText(c.EULAs[0].Element(), []string{"Info", "License"}, "License", text)
	}
	p, _ := tag(c.Element())
	return d.addSection(c, "EulaSection", "The licence", "<"+p+"License>"+xmldoc.EscapeText(text)+"</"+p+"License>")
}

// SetAnnotation sets the text of a machine's first annotation, or adds one.
func (d *Descriptor) SetAnnotation(machine, text string) error {
	c, err := d.content(machine)
	if err != nil {
		return err
	}
	for _, s := range c.Sections {
		if s.Known && s.Kind == ovf.AnnotationSection {
			return d.setText(s.Element(), []string{"Info", "Annotation"}, "Annotation", text)
		}
	}
	p, _ := tag(c.Element())
	return d.addSection(c, "AnnotationSection", "A note on this machine", "<"+p+"Annotation>"+xmldoc.EscapeText(text)+"</"+p+"Annotation>")
}
