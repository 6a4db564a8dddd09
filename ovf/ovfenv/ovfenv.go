// Package ovfenv makes and reads the OVF environment document (DSP8027,
// DSP0243 clause 11): what a guest is told of the platform, of the values of
// its properties and of the virtual systems beside it.
package ovfenv

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/ovation-project/ovation/internal/xmldoc"
	"github.com/ovation-project/ovation/ovf"
)

// Namespace is that of the document's elements and attributes.
const Namespace = "http://schemas.dmtf.org/ovf/environment/1"

// FileName is the name of the document on the ISO image that carries it to the
// guest (transport "iso").
const FileName = "ovf-env.xml"

// ErrFormat says that a document is not an OVF environment.
var ErrFormat = errors.New("not an OVF environment document")

// Environment is what one guest is told. It marshals to JSON and back without
// loss.
type Environment struct {
	// ID is the virtual system's own.
	ID       string    `json:"id"`
	Platform *Platform `json:"platform,omitempty"`
	// Properties are those of the virtual system, then those of the
	// collection that it is in which it does not have itself.
	Properties []Property `json:"properties,omitempty"`
	// Entities are the virtual systems and collections beside it.
	Entities []Entity `json:"entities,omitempty"`
}

// Platform says what runs the guest. Empty fields are left out.
type Platform struct {
	Kind     string `json:"kind,omitempty"`
	Version  string `json:"version,omitempty"`
	Vendor   string `json:"vendor,omitempty"`
	Locale   string `json:"locale,omitempty"`
	Timezone string `json:"timezone,omitempty"`
}

// Property is a key, with class and instance, and its value.
type Property struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Entity is a virtual system or collection beside the guest's.
type Entity struct {
	ID         string     `json:"id"`
	Properties []Property `json:"properties,omitempty"`
}

// Build makes the document for one virtual system of a resolved descriptor.
func Build(r *ovf.Resolved, s *ovf.System, platform *Platform) *Environment {
	e := &Environment{ID: s.ID, Platform: platform}
	own := map[string]bool{}
	var inherited []Property
	for _, p := range s.Properties {
		q := Property{p.FullKey, p.Value}
		if p.System != s.ID {
			inherited = append(inherited, q)
		} else {
			own[q.Key] = true
			e.Properties = append(e.Properties, q)
		}
	}
	for _, q := range inherited {
		if !own[q.Key] {
			e.Properties = append(e.Properties, q)
		}
	}
	if s.Parent == nil {
		return e
	}
	for _, c := range s.Parent.Children {
		if c == s.Content {
			continue
		}
		e.Entities = append(e.Entities, Entity{ID: c.ID, Properties: propertiesOf(r, c)})
	}
	return e
}

// propertiesOf gives a neighbour's own properties. Passwords are its own
// affair: the standard has every property told to every sibling, and so they
// are, but for those.
func propertiesOf(r *ovf.Resolved, c *ovf.Content) []Property {
	var all []Property
	for _, p := range r.PropertiesOf(c) {
		if !p.Password {
			all = append(all, Property{p.FullKey, p.Value})
		}
	}
	return all
}

// Marshal writes the document, as UTF-8.
func (e *Environment) Marshal() []byte {
	var b bytes.Buffer
	attr := xmldoc.EscapeAttr
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n")
	fmt.Fprintf(&b, `<Environment xmlns="%s" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:oe="%s" oe:id="%s">`+"\n", Namespace, Namespace, attr(legal(e.ID)))
	if p := e.Platform; p != nil {
		b.WriteString("  <PlatformSection>\n")
		for _, f := range []struct{ name, text string }{
			{"Kind", p.Kind}, {"Version", p.Version}, {"Vendor", p.Vendor}, {"Locale", p.Locale}, {"Timezone", p.Timezone},
		} {
			if f.text != "" {
				fmt.Fprintf(&b, "    <%s>%s</%s>\n", f.name, xmldoc.EscapeText(legal(f.text)), f.name)
			}
		}
		b.WriteString("  </PlatformSection>\n")
	}
	writeProperties(&b, "  ", e.Properties)
	for _, s := range e.Entities {
		fmt.Fprintf(&b, "  <Entity oe:id=\"%s\">\n", attr(legal(s.ID)))
		writeProperties(&b, "    ", s.Properties)
		b.WriteString("  </Entity>\n")
	}
	b.WriteString("</Environment>\n")
	return b.Bytes()
}

func writeProperties(b *bytes.Buffer, indent string, all []Property) {
	if len(all) == 0 {
		return
	}
	b.WriteString(indent + "<PropertySection>\n")
	for _, p := range all {
		fmt.Fprintf(b, "%s  <Property oe:key=\"%s\" oe:value=\"%s\"/>\n", indent, xmldoc.EscapeAttr(legal(p.Key)), xmldoc.EscapeAttr(legal(p.Value)))
	}
	b.WriteString(indent + "</PropertySection>\n")
}

// legal replaces what XML cannot hold; a value from the command line may have
// it.
func legal(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff {
			return '\ufffd'
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
}

// Parse reads a document. What it does not know it passes over. An error wraps
// ErrFormat.
func Parse(data []byte) (*Environment, error) {
	tree, err := xmldoc.Parse(data, xmldoc.Limits{})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	root := tree.Root()
	if root.Local != "Environment" || root.Space != Namespace {
		return nil, fmt.Errorf("%w: the outermost element is <%s> in %q", ErrFormat, root.Name(), root.Space)
	}
	e := &Environment{ID: get(root, "id")}
	for _, c := range root.Children {
		if c.Space != Namespace {
			continue
		}
		switch c.Local {
		case "PlatformSection":
			e.Platform = &Platform{}
			for name, to := range map[string]*string{
				"Kind": &e.Platform.Kind, "Version": &e.Platform.Version, "Vendor": &e.Platform.Vendor,
				"Locale": &e.Platform.Locale, "Timezone": &e.Platform.Timezone,
			} {
				if f := c.Child(Namespace, name); f != nil {
					*to = f.Text()
				}
			}
		case "PropertySection":
			e.Properties = append(e.Properties, readProperties(c)...)
		case "Entity":
			s := Entity{ID: get(c, "id")}
			for _, p := range c.Children {
				if p.Is(Namespace, "PropertySection") {
					s.Properties = append(s.Properties, readProperties(p)...)
				}
			}
			e.Entities = append(e.Entities, s)
		}
	}
	return e, nil
}

func readProperties(e *xmldoc.Element) []Property {
	var all []Property
	for _, c := range e.Children {
		if c.Is(Namespace, "Property") {
			all = append(all, Property{get(c, "key"), get(c, "value")})
		}
	}
	return all
}

// get reads an attribute, with the namespace or without one.
func get(e *xmldoc.Element, name string) string {
	if v, ok := e.Attr(Namespace, name); ok {
		return v
	}
	v, _ := e.Attr("", name)
	return v
}
