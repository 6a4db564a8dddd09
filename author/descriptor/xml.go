package descriptor

import (
	"strings"

	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/internal/xmldoc"
)

// element is XML that is being made.
type element struct {
	name  string
	attrs [][2]string
	text  string
	kids  []*element
	raw   string   // instead of everything else
	pos   spec.Pos // of raw
}

func el(name string, attrs ...string) *element {
	e := &element{name: name}
	for i := 0; i+1 < len(attrs); i += 2 {
		e.attr(attrs[i], attrs[i+1])
	}
	return e
}

// attr adds an attribute, unless its value is empty.
func (e *element) attr(name, value string) *element {
	if value != "" {
		e.attrs = append(e.attrs, [2]string{name, value})
	}
	return e
}

func (e *element) further(list []spec.XMLKey) *element {
	for _, a := range list {
		e.attrs = append(e.attrs, [2]string{a.Name, a.Value})
	}
	return e
}

func (e *element) add(kids ...*element) *element {
	for _, k := range kids {
		if k != nil {
			e.kids = append(e.kids, k)
		}
	}
	return e
}

// leaf adds an element with text, unless that is empty.
func (e *element) leaf(name, text string) *element {
	if text != "" {
		e.kids = append(e.kids, &element{name: name, text: text})
	}
	return e
}

func (e *element) rawXML(x spec.RawXML) *element {
	if x.Text != "" {
		e.kids = append(e.kids, &element{raw: x.Text, pos: x.Pos})
	}
	return e
}

// walk calls f for the element and all below it.
func (e *element) walk(f func(*element)) {
	f(e)
	for _, k := range e.kids {
		k.walk(f)
	}
}

func (e *element) write(b *strings.Builder, depth int) {
	indent := strings.Repeat("  ", depth)
	b.WriteString(indent)
	if e.raw != "" {
		b.WriteString(e.raw)
		b.WriteByte('\n')
		return
	}
	b.WriteString("<" + e.name)
	for _, a := range e.attrs {
		b.WriteString(" " + a[0] + `="` + xmldoc.EscapeAttr(a[1]) + `"`)
	}
	switch {
	case len(e.kids) > 0:
		b.WriteString(">\n")
		for _, k := range e.kids {
			k.write(b, depth+1)
		}
		b.WriteString(indent + "</" + e.name + ">\n")
	case e.text != "":
		b.WriteString(">" + xmldoc.EscapeText(e.text) + "</" + e.name + ">\n")
	default:
		b.WriteString("/>\n")
	}
}
