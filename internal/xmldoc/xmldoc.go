// Package xmldoc is an XML document that loses nothing: a tree of elements
// over the very bytes that were read, each element and attribute with its
// place in them. An edit replaces some of the bytes and leaves all others as
// they were: comments, prefixes, the order of attributes, quotes, line ends
// and the encoding.
//
// The reader is strict about well-formedness (XML 1.0, fifth edition),
// lax about prefixes that are not declared, and does not validate. There are no
// entities but the five that XML defines: a document type declaration that
// declares any is refused, and nothing outside of the document is ever read.
// Size, depth and the number of nodes are bounded.
package xmldoc

import (
	"fmt"
	"sort"
	"strings"
	"sync"
)

// Limits bound what is read. A zero field is the default.
type Limits struct {
	// Size is in bytes, of the document as it is stored.
	Size int
	// Depth is how far elements may nest.
	Depth int
	// Nodes is how many elements and attributes there may be.
	Nodes int
}

// The default limits.
const (
	DefaultSize  = 16 << 20
	DefaultDepth = 256
	DefaultNodes = 150_000
)

func (l Limits) withDefaults() Limits {
	if l.Size == 0 {
		l.Size = DefaultSize
	}
	if l.Depth == 0 {
		l.Depth = DefaultDepth
	}
	if l.Nodes == 0 {
		l.Nodes = DefaultNodes
	}
	return l
}

// SyntaxError says where a document is not well-formed, and why. Line and
// Column count from 1, Column in characters; Offset is in bytes of the text
// as UTF-8.
type SyntaxError struct {
	Line, Column, Offset int
	Msg                  string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Msg)
}

// LimitError says which limit a document exceeds.
type LimitError struct {
	What  string // "size", "depth", "nodes"
	Limit int
}

func (e *LimitError) Error() string {
	switch e.What {
	case "size":
		return fmt.Sprintf("the document is larger than the limit of %d bytes", e.Limit)
	case "depth":
		return fmt.Sprintf("the document's elements nest deeper than the limit of %d", e.Limit)
	}
	return fmt.Sprintf("the document has more elements and attributes than the limit of %d", e.Limit)
}

// Span is a range of the document's text, in bytes as UTF-8.
type Span struct{ Start, End int }

// Document is a well-formed document. It is never changed: an edit gives a
// new one.
type Document struct {
	src    []byte
	text   string
	enc    encoding
	limits Limits
	root   *Element
	// places makes lines and runes when a place is first asked for.
	places sync.Once
	lines  []int // offsets of line starts
	// runes are how many characters begin before each multiple of runeStep:
	// a document of one long line must not be counted from its beginning
	// each time.
	runes []int

	undeclared []Undeclared
}

// UndeclaredSpace begins the namespace of a name whose prefix is not declared;
// the prefix follows. Such a document is well-formed XML and breaks Namespaces
// in XML: it is read all the same, since they are found in the wild.
const UndeclaredSpace = "undeclared-prefix:"

// maxUndeclared bounds how many places are kept.
const maxUndeclared = 100

// Undeclared is a use of a prefix that is not declared.
type Undeclared struct {
	Prefix string
	Offset int
}

// Undeclared gives the places, the first hundred at the most, where a prefix is
// used that is not declared.
func (d *Document) Undeclared() []Undeclared { return d.undeclared }

// Element is one element of a Document.
type Element struct {
	// Space is the namespace's name, "" for none; Local the name without
	// its prefix; Prefix as it is written.
	Space, Local, Prefix string
	Attrs                []Attr
	// Parent is nil for the root. Children are the elements in it, in
	// order.
	Parent   *Element
	Children []*Element

	// Start and End are the start and end tags. An element that is closed
	// in its start tag (<a/>) has an empty End, after it.
	Start, End Span
	// text is set where there is character data, but for white space beside
	// other elements.
	text bool
	doc  *Document
}

// Attr is an attribute, declarations of namespaces included.
type Attr struct {
	Space, Local, Prefix string
	// Value is with references resolved and white space normalised.
	Value string
	// Span is all of it, from name to closing quote; Quoted the value as it
	// is written, without its quotes.
	Span, Quoted Span
}

// Root is the document's one outermost element.
func (d *Document) Root() *Element { return d.root }

// Bytes is the document as it is stored. It must not be changed.
func (d *Document) Bytes() []byte { return d.src }

// Text is the document as UTF-8, without a byte order mark.
func (d *Document) Text() string { return d.text }

// Encoding is the name of the encoding that the document is stored in.
func (d *Document) Encoding() string { return d.enc.name }

// Position gives the line and the column, from 1, of an offset into Text.
// Columns count characters.
func (d *Document) Position(offset int) (line, column int) {
	line = d.Line(offset)
	offset = max(0, min(offset, len(d.text)))
	return line, d.runesBefore(offset) - d.runesBefore(d.lines[line-1]) + 1
}

// Line gives the line alone, which is quicker.
func (d *Document) Line(offset int) int {
	d.places.Do(func() {
		d.lines = lineStarts(d.text)
		d.runes = make([]int, 1, len(d.text)/runeStep+1)
		for at := runeStep; at <= len(d.text); at += runeStep {
			d.runes = append(d.runes, d.runes[len(d.runes)-1]+runeStarts(d.text[at-runeStep:at]))
		}
	})
	offset = max(0, min(offset, len(d.text)))
	return sort.SearchInts(d.lines, offset+1)
}

const runeStep = 1 << 10

func (d *Document) runesBefore(offset int) int {
	step := offset / runeStep
	return d.runes[step] + runeStarts(d.text[step*runeStep:offset])
}

// runeStarts counts the characters that begin in s, which may be cut anywhere.
func runeStarts(s string) int {
	n := 0
	for i := range len(s) {
		if s[i]&0xc0 != 0x80 {
			n++
		}
	}
	return n
}

// lineStarts counts lines as editors do: by \n, or by \r where there is no \n
// at all.
func lineStarts(text string) []int {
	end := byte('\n')
	if strings.IndexByte(text, end) < 0 {
		end = '\r'
	}
	starts := []int{0}
	for i := 0; i < len(text); i++ {
		if text[i] == end {
			starts = append(starts, i+1)
		}
	}
	return starts
}

// Document is the document that the element is of.
func (e *Element) Document() *Document { return e.doc }

// Position is where the element begins.
func (e *Element) Position() (line, column int) { return e.doc.Position(e.Start.Start) }

// Outer is the span of the element with its tags, Inner the one between them.
func (e *Element) Outer() Span { return Span{e.Start.Start, e.End.End} }

// Inner is the span between the tags; for an element closed in its start tag
// it is empty.
func (e *Element) Inner() Span { return Span{e.Start.End, e.End.Start} }

// Raw is what is written in a span of the document.
func (d *Document) Raw(s Span) string { return d.text[s.Start:s.End] }

// Is says whether the element has this name.
func (e *Element) Is(space, local string) bool { return e.Local == local && e.Space == space }

// Attr gives the value of an attribute; space is "" for one without prefix.
func (e *Element) Attr(space, local string) (string, bool) {
	if a := e.FindAttr(space, local); a != nil {
		return a.Value, true
	}
	return "", false
}

// FindAttr gives an attribute, nil where there is none.
func (e *Element) FindAttr(space, local string) *Attr {
	for i := range e.Attrs {
		if a := &e.Attrs[i]; a.Local == local && a.Space == space {
			return a
		}
	}
	return nil
}

// Child gives the first child with this name, nil where there is none.
func (e *Element) Child(space, local string) *Element {
	for _, c := range e.Children {
		if c.Is(space, local) {
			return c
		}
	}
	return nil
}

// Text is the character data directly in the element, references resolved,
// CDATA included, comments not. White space alone beside other elements counts
// as none.
func (e *Element) Text() string {
	if !e.text && len(e.Children) > 0 {
		return ""
	}
	in := e.Inner()
	if len(e.Children) == 0 {
		if raw := e.doc.text[in.Start:in.End]; !strings.ContainsAny(raw, "&<\r") {
			return raw
		}
	}
	var b strings.Builder
	next := 0
	for i := in.Start; i < in.End; {
		if next < len(e.Children) && i == e.Children[next].Start.Start {
			i = e.Children[next].Outer().End
			next++
			continue
		}
		rest := e.doc.text[i:in.End]
		switch {
		case strings.HasPrefix(rest, "<!--"):
			i += strings.Index(rest, "-->") + 3
		case strings.HasPrefix(rest, "<![CDATA["):
			end := strings.Index(rest, "]]>")
			b.WriteString(newlines(rest[9:end]))
			i += end + 3
		case strings.HasPrefix(rest, "<?"):
			i += strings.Index(rest, "?>") + 2
		default:
			n := strings.IndexByte(rest, '<')
			if n < 0 {
				n = len(rest)
			}
			s, _, _ := unescape(newlines(rest[:n]))
			b.WriteString(s)
			i += n
		}
	}
	return b.String()
}

// newlines turns every line end into \n, as XML 1.0 clause 2.11 wants.
func newlines(s string) string {
	if strings.IndexByte(s, '\r') < 0 {
		return s
	}
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
}

// Name is the attribute's name as it is written, with its prefix.
func (a *Attr) Name() string { return qualified(a.Prefix, a.Local) }

// Name is the element's name as it is written, with its prefix.
func (e *Element) Name() string { return qualified(e.Prefix, e.Local) }

func qualified(prefix, local string) string {
	if prefix == "" {
		return local
	}
	return prefix + ":" + local
}

// Walk calls f for the element and all below it, in document order. Where f
// gives false it does not go into that element.
func (e *Element) Walk(f func(*Element) bool) {
	if !f(e) {
		return
	}
	for _, c := range e.Children {
		c.Walk(f)
	}
}

// Lookup gives the namespace that a prefix stands for in this element; "" is
// the default namespace's prefix.
func (e *Element) Lookup(prefix string) (space string, ok bool) {
	if prefix == "xml" {
		return xmlSpace, true
	}
	for ; e != nil; e = e.Parent {
		for i := range e.Attrs {
			a := &e.Attrs[i]
			if a.Space == xmlnsSpace && (a.Local == prefix && a.Prefix != "" || prefix == "" && a.Prefix == "") {
				return a.Value, true
			}
		}
	}
	return "", prefix == ""
}

// PrefixFor gives a prefix that stands for a namespace in this element. An
// attribute without prefix has no namespace, so forAttr leaves the default
// one out.
func (e *Element) PrefixFor(space string, forAttr bool) (prefix string, ok bool) {
	for up := e; up != nil; up = up.Parent {
		for i := range up.Attrs {
			a := &up.Attrs[i]
			if a.Space != xmlnsSpace || a.Value != space {
				continue
			}
			p := a.Local
			if a.Prefix == "" {
				p = ""
			}
			if p == "" && forAttr {
				continue
			}
			if now, _ := e.Lookup(p); now == space {
				return p, true
			}
		}
	}
	return "", space == "" && !forAttr
}
