package xmldoc

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	xmlSpace   = "http://www.w3.org/XML/1998/namespace"
	xmlnsSpace = "http://www.w3.org/2000/xmlns/"
)

// Parse reads a document. It keeps data, which must not be changed after.
func Parse(data []byte, limits Limits) (*Document, error) {
	limits = limits.withDefaults()
	if len(data) > limits.Size {
		return nil, &LimitError{"size", limits.Size}
	}
	text, enc, err := decode(data)
	if err != nil {
		return nil, err
	}
	d := &Document{src: data, text: text, enc: enc, limits: limits}
	p := &parser{doc: d, s: text}
	if err := p.document(); err != nil {
		return nil, err
	}
	return d, nil
}

type binding struct{ prefix, space string }

type parser struct {
	doc   *Document
	s     string
	i     int
	nodes int
	// bindings are the namespace declarations in force, innermost last.
	bindings []binding
	slab     []Element
	attrs    []Attr
	kids     []*Element
}

func (p *parser) errorf(at int, format string, args ...any) error {
	line, col := p.doc.Position(at)
	return &SyntaxError{Line: line, Column: col, Offset: at, Msg: fmt.Sprintf(format, args...)}
}

func (p *parser) has(prefix string) bool { return strings.HasPrefix(p.s[p.i:], prefix) }

func (p *parser) count() error {
	if p.nodes++; p.nodes > p.doc.limits.Nodes {
		return &LimitError{"nodes", p.doc.limits.Nodes}
	}
	return nil
}

func (p *parser) document() error {
	if err := checkChars(p); err != nil {
		return err
	}
	if p.has("<?xml") && p.i+5 < len(p.s) && isSpace(p.s[p.i+5]) {
		if err := p.declaration(); err != nil {
			return err
		}
	}
	seenType := false
	for p.i < len(p.s) {
		p.space()
		switch {
		case p.i == len(p.s):
		case p.has("<!--"):
			if err := p.comment(); err != nil {
				return err
			}
		case p.has("<?"):
			if err := p.instruction(); err != nil {
				return err
			}
		case p.has("<!DOCTYPE"):
			if p.doc.root != nil || seenType {
				return p.errorf(p.i, "a document type declaration is allowed once, before the first element")
			}
			seenType = true
			if err := p.doctype(); err != nil {
				return err
			}
		case p.s[p.i] == '<' && p.doc.root == nil:
			if err := p.tree(); err != nil {
				return err
			}
		case p.s[p.i] == '<':
			return p.errorf(p.i, "only one outermost element is allowed")
		default:
			return p.errorf(p.i, "text is not allowed outside the outermost element")
		}
	}
	if p.doc.root == nil {
		return p.errorf(len(p.s), "there is no element in the document")
	}
	return nil
}

// checkChars refuses characters that XML 1.0 does not allow (clause 2.2).
func checkChars(p *parser) error {
	s := p.s
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c < 0x20 && c != '\t' && c != '\n' && c != '\r' {
				return p.errorf(i, "character %#U is not allowed in XML", rune(c))
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			return p.errorf(i, "byte 0x%02x is not valid UTF-8", c)
		}
		if r == 0xfffe || r == 0xffff {
			return p.errorf(i, "character %U is not allowed in XML", r)
		}
		i += n
	}
	return nil
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func (p *parser) space() bool {
	from := p.i
	for p.i < len(p.s) && isSpace(p.s[p.i]) {
		p.i++
	}
	return p.i > from
}

// declaration reads <?xml version="1.0" encoding="…" standalone="…"?>.
func (p *parser) declaration() error {
	at := p.i
	p.i += len("<?xml")
	order := []string{"version", "encoding", "standalone"}
	next := 0
	for {
		spaced := p.space()
		if p.has("?>") {
			if next == 0 {
				return p.errorf(at, "the XML declaration gives no version")
			}
			p.i += 2
			return nil
		}
		if !spaced {
			return p.errorf(p.i, "the XML declaration is not well-formed")
		}
		from := p.i
		for p.i < len(p.s) && p.s[p.i] >= 'a' && p.s[p.i] <= 'z' {
			p.i++
		}
		name := p.s[from:p.i]
		for next < len(order) && order[next] != name && next > 0 {
			next++
		}
		if next == len(order) || order[next] != name {
			return p.errorf(from, "%q is not expected in the XML declaration", name)
		}
		next++
		quoted, err := p.quoted()
		if err != nil {
			return err
		}
		v := p.s[quoted.Start:quoted.End]
		ok := true
		switch name {
		case "version":
			ok = strings.HasPrefix(v, "1.") && len(v) > 2 && strings.Trim(v[2:], "0123456789") == ""
		case "encoding":
			ok = isEncodingName(v)
		case "standalone":
			ok = v == "yes" || v == "no"
		}
		if !ok {
			return p.errorf(quoted.Start, "%q is not a value for %s", v, name)
		}
	}
}

func isEncodingName(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i] | 0x20
		if c >= 'a' && c <= 'z' {
			continue
		}
		if i == 0 || !(s[i] >= '0' && s[i] <= '9' || s[i] == '.' || s[i] == '_' || s[i] == '-') {
			return false
		}
	}
	return s != ""
}

// quoted reads ="value" and gives the span between the quotes.
func (p *parser) quoted() (Span, error) {
	p.space()
	if p.i == len(p.s) || p.s[p.i] != '=' {
		return Span{}, p.errorf(p.i, "an attribute needs a value: = and a quoted text are missing")
	}
	p.i++
	p.space()
	if p.i == len(p.s) || p.s[p.i] != '"' && p.s[p.i] != '\'' {
		return Span{}, p.errorf(p.i, "an attribute's value must be in quotes")
	}
	q := p.s[p.i]
	p.i++
	end := strings.IndexByte(p.s[p.i:], q)
	if end < 0 {
		return Span{}, p.errorf(p.i-1, "the quote is never closed")
	}
	span := Span{p.i, p.i + end}
	p.i = span.End + 1
	return span, nil
}

func (p *parser) comment() error {
	at := p.i
	p.i += len("<!--")
	end := strings.Index(p.s[p.i:], "--")
	if end < 0 {
		return p.errorf(at, "the comment is never closed")
	}
	p.i += end
	if !p.has("-->") {
		return p.errorf(p.i, "-- is not allowed within a comment")
	}
	p.i += 3
	return nil
}

func (p *parser) instruction() error {
	at := p.i
	p.i += 2
	target, err := p.name()
	if err != nil {
		return err
	}
	if strings.EqualFold(target, "xml") {
		return p.errorf(at, "the XML declaration is allowed only at the very beginning")
	}
	if !p.has("?>") && !p.space() {
		return p.errorf(p.i, "a processing instruction's name must be followed by white space")
	}
	end := strings.Index(p.s[p.i:], "?>")
	if end < 0 {
		return p.errorf(at, "the processing instruction is never closed")
	}
	p.i += end + 2
	return nil
}

// doctype passes over a document type declaration that declares nothing.
func (p *parser) doctype() error {
	at := p.i
	p.i += len("<!DOCTYPE")
	if !p.space() {
		return p.errorf(p.i, "the document type declaration is not well-formed")
	}
	if _, err := p.name(); err != nil {
		return err
	}
	p.space()
	system := p.has("SYSTEM")
	if system || p.has("PUBLIC") {
		p.i += len("SYSTEM")
		literals := 2
		if system {
			literals = 1
		}
		for range literals {
			if !p.space() || p.i == len(p.s) || p.s[p.i] != '"' && p.s[p.i] != '\'' {
				return p.errorf(p.i, "the document type declaration is not well-formed")
			}
			end := strings.IndexByte(p.s[p.i+1:], p.s[p.i])
			if end < 0 {
				return p.errorf(p.i, "the quote is never closed")
			}
			p.i += end + 2
		}
		p.space()
	}
	if p.has("[") {
		return p.errorf(p.i, "a document type declaration with an internal subset (entities) is refused")
	}
	if !p.has(">") {
		return p.errorf(at, "the document type declaration is not well-formed")
	}
	p.i++
	return nil
}

// name reads a name (XML 1.0 clause 2.3), colons included.
func (p *parser) name() (string, error) {
	from := p.i
	for p.i < len(p.s) {
		c := p.s[p.i]
		if c < utf8.RuneSelf {
			if asciiName[c] == 0 || p.i == from && asciiName[c] == 1 {
				break
			}
			p.i++
			continue
		}
		r, n := utf8.DecodeRuneInString(p.s[p.i:])
		if !isNameRune(r, p.i == from) {
			break
		}
		p.i += n
	}
	if p.i == from {
		return "", p.errorf(p.i, "a name is expected here")
	}
	return p.s[from:p.i], nil
}

// asciiName is 2 for what may begin a name, 1 for what may go on in one.
var asciiName = func() (t [utf8.RuneSelf]uint8) {
	for c := range t {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', c == ':':
			t[c] = 2
		case c >= '0' && c <= '9', c == '-', c == '.':
			t[c] = 1
		}
	}
	return t
}()

func isNameRune(r rune, first bool) bool {
	switch {
	case r >= 0xc0 && r <= 0xd6, r >= 0xd8 && r <= 0xf6, r >= 0xf8 && r <= 0x2ff, r >= 0x370 && r <= 0x37d,
		r >= 0x37f && r <= 0x1fff, r >= 0x200c && r <= 0x200d, r >= 0x2070 && r <= 0x218f, r >= 0x2c00 && r <= 0x2fef,
		r >= 0x3001 && r <= 0xd7ff, r >= 0xf900 && r <= 0xfdcf, r >= 0xfdf0 && r <= 0xfffd, r >= 0x10000 && r <= 0xeffff:
		return true
	}
	return !first && (r == 0xb7 || r >= 0x300 && r <= 0x36f || r >= 0x203f && r <= 0x2040)
}

// split takes a qualified name apart.
func (p *parser) split(at int, q string) (prefix, local string, err error) {
	i := strings.IndexByte(q, ':')
	if i < 0 {
		return "", q, nil
	}
	prefix, local = q[:i], q[i+1:]
	first, _ := utf8.DecodeRuneInString(local)
	if prefix == "" || local == "" || strings.IndexByte(local, ':') >= 0 ||
		first < utf8.RuneSelf && asciiName[first] != 2 || first >= utf8.RuneSelf && !isNameRune(first, true) {
		return "", "", p.errorf(at, "%q is not a name with a prefix", q)
	}
	return prefix, local, nil
}

func (p *parser) lookup(prefix string) (string, bool) {
	for i := len(p.bindings) - 1; i >= 0; i-- {
		if p.bindings[i].prefix == prefix {
			return p.bindings[i].space, true
		}
	}
	if prefix == "xml" {
		return xmlSpace, true
	}
	return "", prefix == ""
}

func (p *parser) newElement() *Element {
	if len(p.slab) == cap(p.slab) {
		p.slab = make([]Element, 0, min(max(16, 2*cap(p.slab)), 1024))
	}
	p.slab = append(p.slab, Element{doc: p.doc})
	return &p.slab[len(p.slab)-1]
}

// open is an element whose end tag is yet to come.
type open struct {
	e        *Element
	name     string // as it is written
	bindings int    // how many were in force outside
	kids     int    // where its children begin in parser.kids
}

// tree reads the outermost element and all in it, without recursion.
func (p *parser) tree() error {
	var stack []open
	for {
		if p.i == len(p.s) {
			top := stack[len(stack)-1]
			return p.errorf(top.e.Start.Start, "element <%s> is never closed", top.name)
		}
		if p.s[p.i] != '<' {
			if err := p.chars(stack[len(stack)-1].e); err != nil {
				return err
			}
			continue
		}
		switch {
		case len(stack) == 0 && (p.has("</") || p.has("<!")):
			return p.errorf(p.i, "the document's outermost element is expected here")
		case p.has("</"):
			top := stack[len(stack)-1]
			at := p.i
			p.i += 2
			name, err := p.name()
			if err != nil {
				return err
			}
			if name != top.name {
				line, _ := p.doc.Position(top.e.Start.Start)
				return p.errorf(at, "</%s> does not close <%s> of line %d", name, top.name, line)
			}
			p.space()
			if !p.has(">") {
				return p.errorf(p.i, "> is expected here")
			}
			p.i++
			top.e.End = Span{at, p.i}
			stack = p.close(stack)
		case p.has("<!--"):
			if err := p.comment(); err != nil {
				return err
			}
		case p.has("<![CDATA["):
			end := strings.Index(p.s[p.i:], "]]>")
			if end < 0 {
				return p.errorf(p.i, "the CDATA section is never closed")
			}
			stack[len(stack)-1].e.text = true
			p.i += end + 3
		case p.has("<?"):
			if err := p.instruction(); err != nil {
				return err
			}
		case p.has("<!"):
			return p.errorf(p.i, "a declaration is not allowed here")
		default:
			o, closed, err := p.startTag(len(stack))
			if err != nil {
				return err
			}
			if len(stack) > 0 {
				o.e.Parent = stack[len(stack)-1].e
				p.kids = append(p.kids, o.e)
			} else {
				p.doc.root = o.e
			}
			o.kids = len(p.kids)
			stack = append(stack, o)
			if closed {
				o.e.End = Span{p.i, p.i}
				stack = p.close(stack)
			}
		}
		if len(stack) == 0 {
			return nil
		}
	}
}

func (p *parser) close(stack []open) []open {
	top := stack[len(stack)-1]
	if kids := p.kids[top.kids:]; len(kids) > 0 {
		top.e.Children = append(make([]*Element, 0, len(kids)), kids...)
	}
	p.kids = p.kids[:top.kids]
	p.bindings = p.bindings[:top.bindings]
	return stack[:len(stack)-1]
}

// chars reads character data up to the next tag.
func (p *parser) chars(e *Element) error {
	n := strings.IndexByte(p.s[p.i:], '<')
	if n < 0 {
		n = len(p.s) - p.i
	}
	run := p.s[p.i : p.i+n]
	if strings.Trim(run, " \t\r\n") != "" {
		e.text = true
		if _, bad, msg := unescape(run); msg != "" {
			return p.errorf(p.i+bad, "%s", msg)
		}
		if bad := strings.Index(run, "]]>"); bad >= 0 {
			return p.errorf(p.i+bad, "]]> is not allowed in text")
		}
	}
	p.i += n
	return nil
}

func (p *parser) startTag(depth int) (open, bool, error) {
	o := open{e: p.newElement(), bindings: len(p.bindings)}
	if depth >= p.doc.limits.Depth {
		return o, false, &LimitError{"depth", p.doc.limits.Depth}
	}
	if err := p.count(); err != nil {
		return o, false, err
	}
	at := p.i
	p.i++
	name, err := p.name()
	if err != nil {
		return o, false, err
	}
	o.name = name
	first := len(p.attrs)
	closed := false
	for {
		spaced := p.space()
		if p.has(">") {
			p.i++
			break
		}
		if p.has("/>") {
			p.i += 2
			closed = true
			break
		}
		if p.i == len(p.s) {
			return o, false, p.errorf(at, "the tag <%s is never closed", name)
		}
		if !spaced {
			return o, false, p.errorf(p.i, "white space, / or > is expected here")
		}
		if err := p.attribute(); err != nil {
			return o, false, err
		}
	}
	o.e.Start = Span{at, p.i}
	o.e.Attrs = p.attrs[first:len(p.attrs):len(p.attrs)]
	if cap(p.attrs)-len(p.attrs) < 8 {
		p.attrs = make([]Attr, 0, min(max(64, 2*cap(p.attrs)), 4096))
	}
	return o, closed, p.resolve(&o)
}

func (p *parser) attribute() error {
	if err := p.count(); err != nil {
		return err
	}
	at := p.i
	name, err := p.name()
	if err != nil {
		return err
	}
	quoted, err := p.quoted()
	if err != nil {
		return err
	}
	raw := p.s[quoted.Start:quoted.End]
	if bad := strings.IndexByte(raw, '<'); bad >= 0 {
		return p.errorf(quoted.Start+bad, "< is not allowed in an attribute's value; write &lt;")
	}
	value := raw
	if strings.ContainsAny(raw, "\t\r\n") {
		value = strings.NewReplacer("\t", " ", "\n", " ", "\r", " ").Replace(newlines(raw))
	}
	value, bad, msg := unescape(value)
	if msg != "" {
		return p.errorf(quoted.Start+bad, "%s", msg)
	}
	prefix, local, err := p.split(at, name)
	if err != nil {
		return err
	}
	p.attrs = append(p.attrs, Attr{Prefix: prefix, Local: local, Value: value, Span: Span{at, p.i}, Quoted: quoted})
	return nil
}

// resolve finds the namespaces of an element's name and attributes.
func (p *parser) resolve(o *open) error {
	e := o.e
	for i := range e.Attrs {
		a := &e.Attrs[i]
		var b binding
		switch {
		case a.Prefix == "xmlns":
			b = binding{a.Local, a.Value}
			if a.Value == "" {
				return p.errorf(a.Span.Start, "the namespace of prefix %q must not be empty", a.Local)
			}
		case a.Prefix == "" && a.Local == "xmlns":
			b = binding{"", a.Value}
		default:
			continue
		}
		if b.prefix == "xmlns" || b.space == xmlnsSpace || (b.prefix == "xml") != (b.space == xmlSpace) {
			return p.errorf(a.Span.Start, "the prefixes xml and xmlns and their namespaces are reserved")
		}
		a.Space = xmlnsSpace
		p.bindings = append(p.bindings, b)
	}
	var err error
	if e.Prefix, e.Local, err = p.split(e.Start.Start+1, o.name); err != nil {
		return err
	}
	var ok bool
	if e.Space, ok = p.lookup(e.Prefix); !ok {
		e.Space = p.undeclared(e.Start.Start+1, e.Prefix)
	}
	for i := range e.Attrs {
		a := &e.Attrs[i]
		if a.Prefix != "" && a.Space == "" {
			if a.Space, ok = p.lookup(a.Prefix); !ok {
				a.Space = p.undeclared(a.Span.Start, a.Prefix)
			}
		}
	}
	return p.unique(e)
}

// undeclared notes a prefix without declaration and gives a namespace that is
// no other's.
func (p *parser) undeclared(at int, prefix string) string {
	if len(p.doc.undeclared) < maxUndeclared {
		p.doc.undeclared = append(p.doc.undeclared, Undeclared{Prefix: prefix, Offset: at})
	}
	return UndeclaredSpace + prefix
}

// unique refuses an attribute that is there twice. Its cost must not grow with
// the square of their number.
func (p *parser) unique(e *Element) error {
	twice := func(a *Attr) error {
		return p.errorf(a.Span.Start, "attribute %s is there twice", a.Name())
	}
	if len(e.Attrs) <= 16 {
		for i := range e.Attrs {
			for j := range i {
				a, b := &e.Attrs[i], &e.Attrs[j]
				if a.Local == b.Local && a.Space == b.Space {
					return twice(a)
				}
			}
		}
		return nil
	}
	seen := make(map[[2]string]bool, len(e.Attrs))
	for i := range e.Attrs {
		a := &e.Attrs[i]
		k := [2]string{a.Space, a.Local}
		if seen[k] {
			return twice(a)
		}
		seen[k] = true
	}
	return nil
}

// unescape resolves references. Where one is wrong it says where and why.
func unescape(s string) (text string, bad int, msg string) {
	amp := strings.IndexByte(s, '&')
	if amp < 0 {
		return s, 0, ""
	}
	var b strings.Builder
	b.Grow(len(s))
	last := 0
	for amp >= 0 {
		at := last + amp
		b.WriteString(s[last:at])
		end := strings.IndexByte(s[at:], ';')
		if end < 0 {
			return "", at, "& must be written as &amp;"
		}
		ref := s[at+1 : at+end]
		r, ok := reference(ref)
		if !ok {
			if len(ref) > 32 {
				ref = ref[:32] + "…"
			}
			return "", at, fmt.Sprintf("the reference &%s; is not known; & is written as &amp;", ref)
		}
		b.WriteRune(r)
		last = at + end + 1
		amp = strings.IndexByte(s[last:], '&')
	}
	b.WriteString(s[last:])
	return b.String(), 0, ""
}

func reference(ref string) (rune, bool) {
	switch ref {
	case "lt":
		return '<', true
	case "gt":
		return '>', true
	case "amp":
		return '&', true
	case "quot":
		return '"', true
	case "apos":
		return '\'', true
	}
	digits, base := "", 10
	if d, ok := strings.CutPrefix(ref, "#x"); ok {
		digits, base = d, 16
	} else if digits, ok = strings.CutPrefix(ref, "#"); !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, base, 32)
	if err != nil || strings.IndexByte(digits, '_') >= 0 {
		return 0, false
	}
	r := rune(n)
	switch {
	case n > 0x10ffff, r >= 0xd800 && r < 0xe000, r == 0xfffe || r == 0xffff:
		return 0, false
	case r < 0x20 && r != '\t' && r != '\n' && r != '\r':
		return 0, false
	}
	return r, true
}
