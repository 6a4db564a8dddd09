package xmldoc

import (
	"errors"
	"fmt"
	"sort"
	"strings"
)

// Edit replaces a span of a document's text. New is XML, as it is to be
// written.
type Edit struct {
	Span
	New string
}

// Apply makes a new document with the edits done; all else stays as it was,
// byte for byte. It refuses edits that overlap, and those after which the
// document would not be well-formed.
func (d *Document) Apply(edits ...Edit) (*Document, error) {
	edits = append([]Edit(nil), edits...)
	sort.SliceStable(edits, func(i, j int) bool { return edits[i].Start < edits[j].Start })
	var b strings.Builder
	last := 0
	for _, e := range edits {
		if e.Start < last || e.End < e.Start || e.End > len(d.text) {
			return nil, fmt.Errorf("edits overlap at byte %d of the document", e.Start)
		}
		b.WriteString(d.text[last:e.Start])
		b.WriteString(d.writable(e.New))
		last = e.End
	}
	b.WriteString(d.text[last:])
	src, err := d.enc.encode(b.String())
	if err != nil {
		return nil, fmt.Errorf("the edit cannot be written in %s: %w", d.enc.name, err)
	}
	return Parse(src, d.limits)
}

// writable turns line ends into the document's own, and characters that its
// encoding lacks into references.
func (d *Document) writable(s string) string {
	if strings.Contains(s, "\n") && d.usesCRLF() {
		s = strings.ReplaceAll(newlines(s), "\n", "\r\n")
	}
	var b strings.Builder
	for _, r := range s {
		if d.enc.can(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "&#x%X;", r)
		}
	}
	return b.String()
}

func (d *Document) usesCRLF() bool {
	i := strings.IndexByte(d.text, '\n')
	return i > 0 && d.text[i-1] == '\r'
}

var (
	escapeText = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "\r", "&#13;")
	escapeAttr = strings.NewReplacer("&", "&amp;", "<", "&lt;", `"`, "&quot;", "'", "&apos;", "\t", "&#9;", "\n", "&#10;", "\r", "&#13;")
)

// EscapeText writes s so that it can stand between tags.
func EscapeText(s string) string { return escapeText.Replace(s) }

// EscapeAttr writes s so that it can stand in an attribute's quotes, of either
// kind.
func EscapeAttr(s string) string { return escapeAttr.Replace(s) }

// SetAttr gives an attribute a value, or adds it after the others. An added one
// in a namespace needs a prefix that is declared where the element is.
func (e *Element) SetAttr(space, local, value string) (Edit, error) {
	if a := e.FindAttr(space, local); a != nil {
		// Only what the present quotes do not allow has to be escaped.
		return Edit{a.Quoted, EscapeAttr(value)}, nil
	}
	name := local
	if space != "" {
		prefix, ok := e.PrefixFor(space, true)
		if !ok {
			return Edit{}, fmt.Errorf("no prefix is declared for the namespace %s at <%s>", space, e.Name())
		}
		name = prefix + ":" + local
	}
	at := e.Start.End - len(">")
	if e.End.Start == e.End.End { // closed in its start tag
		at--
	}
	for isSpace(e.doc.text[at-1]) {
		at--
	}
	return Edit{Span{at, at}, fmt.Sprintf(` %s="%s"`, name, EscapeAttr(value))}, nil
}

// RemoveAttr takes an attribute away, with the white space before it. The edit
// is empty where there is no such attribute.
func (e *Element) RemoveAttr(space, local string) Edit {
	a := e.FindAttr(space, local)
	if a == nil {
		return Edit{Span: Span{e.Start.Start, e.Start.Start}}
	}
	from := a.Span.Start
	for isSpace(e.doc.text[from-1]) {
		from--
	}
	return Edit{Span: Span{from, a.Span.End}}
}

// SetText replaces all that is in the element by text.
func (e *Element) SetText(text string) Edit { return e.SetInner(EscapeText(text)) }

// SetInner replaces all that is in the element by XML.
func (e *Element) SetInner(xml string) Edit {
	if e.End.Start < e.End.End {
		return Edit{e.Inner(), xml}
	}
	slash := e.Start.End - len("/>")
	for isSpace(e.doc.text[slash-1]) {
		slash--
	}
	return Edit{Span{slash, e.Start.End}, ">" + xml + "</" + e.Name() + ">"}
}

// Replace puts XML in the element's place.
func (e *Element) Replace(xml string) Edit { return Edit{e.Outer(), xml} }

// Remove takes the element away, and its line where it has one for itself.
func (e *Element) Remove() Edit {
	s := e.Outer()
	text := e.doc.text
	from, to := s.Start, s.End
	for from > 0 && (text[from-1] == ' ' || text[from-1] == '\t') {
		from--
	}
	if from == 0 || text[from-1] != '\n' && text[from-1] != '\r' {
		return Edit{Span: s}
	}
	for to < len(text) && (text[to] == ' ' || text[to] == '\t') {
		to++
	}
	switch {
	case strings.HasPrefix(text[to:], "\r\n"):
		to += 2
	case strings.HasPrefix(text[to:], "\n"), strings.HasPrefix(text[to:], "\r"):
		to++
	default:
		return Edit{Span: s}
	}
	return Edit{Span: Span{from, to}}
}

// indent gives the white space before an element that begins a line, and
// whether it does.
func (e *Element) indent() (string, bool) {
	text := e.doc.text
	from := e.Start.Start
	for from > 0 && (text[from-1] == ' ' || text[from-1] == '\t') {
		from--
	}
	return text[from:e.Start.Start], from > 0 && (text[from-1] == '\n' || text[from-1] == '\r')
}

// InsertBefore puts XML before the element, on a line of its own where the
// element has one.
func (e *Element) InsertBefore(xml string) (Edit, error) {
	if e.Parent == nil {
		return Edit{}, errOutside
	}
	at := Span{e.Start.Start, e.Start.Start}
	if indent, own := e.indent(); own {
		return Edit{at, reindent(xml, indent) + "\n" + indent}, nil
	}
	return Edit{at, xml}, nil
}

// InsertAfter puts XML after the element, on a line of its own where the
// element has one.
func (e *Element) InsertAfter(xml string) (Edit, error) {
	if e.Parent == nil {
		return Edit{}, errOutside
	}
	at := Span{e.End.End, e.End.End}
	if indent, own := e.indent(); own {
		return Edit{at, "\n" + indent + reindent(xml, indent)}, nil
	}
	return Edit{at, xml}, nil
}

var errOutside = errors.New("nothing can be put beside the outermost element")

// Append puts XML into the element after all that is in it, indented as its
// last child is.
func (e *Element) Append(xml string) Edit {
	if n := len(e.Children); n > 0 {
		edit, _ := e.Children[n-1].InsertAfter(xml) // a child has a parent
		return edit
	}
	indent, own := e.indent()
	if e.Parent != nil && !own {
		return e.SetInner(e.doc.Raw(e.Inner()) + xml)
	}
	deeper := indent + e.step(indent)
	return e.SetInner(strings.TrimRight(e.doc.Raw(e.Inner()), " \t\r\n") +
		"\n" + deeper + reindent(xml, deeper) + "\n" + indent)
}

// step is by how much a child is indented more than its parent here.
func (e *Element) step(indent string) string {
	if e.Parent != nil {
		if outer, own := e.Parent.indent(); own || e.Parent.Parent == nil {
			if s, ok := strings.CutPrefix(indent, outer); ok && s != "" {
				return s
			}
		}
	}
	return "  "
}

// reindent indents all lines of xml but the first, save for those that go on
// with a text: white space says something there.
func reindent(xml, indent string) string {
	lines := strings.Split(xml, "\n")
	for i := 1; i < len(lines); i++ {
		if strings.HasPrefix(strings.TrimLeft(lines[i], " \t"), "<") {
			lines[i] = indent + lines[i]
		}
	}
	return strings.Join(lines, "\n")
}
