package xmldoc

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
	"pgregory.net/rapid"
)

func mustParse(t testing.TB, s string) *Document {
	t.Helper()
	d, err := Parse([]byte(s), Limits{})
	if err != nil {
		t.Fatalf("%v\n%s", err, s)
	}
	return d
}

func TestNamesAndPlaces(t *testing.T) {
	d := mustParse(t, "<?xml version='1.0' encoding=\"UTF-8\"?>\r\n<!-- é --><o:a xmlns:o=\"urn:o\" xmlns='urn:d'\r\n"+
		"  o:x = '1 &amp;\t2' y=\"&#x41;&#66;\"><b/>té<!-- no -->xt &lt;<![CDATA[<&]]>\r\n<c xmlns='' ><?pi x?></c></o:a>\n")
	a := d.Root()
	if !a.Is("urn:o", "a") || a.Prefix != "o" || a.Name() != "o:a" {
		t.Errorf("root is {%s}%s", a.Space, a.Local)
	}
	if v, ok := a.Attr("urn:o", "x"); !ok || v != "1 & 2" {
		t.Errorf("o:x = %q, %v", v, ok)
	}
	if v, _ := a.Attr("", "y"); v != "AB" {
		t.Errorf("y = %q", v)
	}
	if _, ok := a.Attr("urn:o", "y"); ok {
		t.Error("an attribute without prefix has no namespace")
	}
	if got := a.Text(); got != "téxt <<&\n" {
		t.Errorf("text %q", got)
	}
	if a.Child("urn:d", "b") == nil || a.Child("", "c") == nil {
		t.Error("the default namespace is not taken, or not taken back")
	}
	if line, col := a.Position(); line != 2 || col != 11 {
		t.Errorf("root is at %d:%d", line, col)
	}
	if line, col := d.Position(a.FindAttr("", "y").Span.Start); line != 3 || col != 21 {
		t.Errorf("y is at %d:%d", line, col)
	}
	if got := d.Raw(a.FindAttr("urn:o", "x").Span); got != "o:x = '1 &amp;\t2'" {
		t.Errorf("o:x is written %q", got)
	}
	if p, ok := a.PrefixFor("urn:o", true); !ok || p != "o" {
		t.Errorf("prefix %q, %v", p, ok)
	}
	if _, ok := a.PrefixFor("urn:d", true); ok {
		t.Error("the default namespace is not for attributes")
	}
	if p, ok := a.PrefixFor("urn:d", false); !ok || p != "" {
		t.Errorf("prefix %q, %v", p, ok)
	}
}

func TestNotWellFormed(t *testing.T) {
	for _, c := range []struct{ in, err string }{
		{"", "line 1, column 1: there is no element"},
		{"  ", "no element"},
		{"x<a/>", "line 1, column 1: text is not allowed"},
		{"<a/>x", "column 5: text is not allowed"},
		{"<a/><b/>", "only one outermost"},
		{"</a>", "outermost element is expected"},
		{"<![CDATA[x]]>", "outermost element is expected"},
		{"<a>", "<a> is never closed"},
		{"<a><b></a>", "column 7: </a> does not close <b> of line 1"},
		{"<a\n>\n</b>", "line 3, column 1: </b> does not close <a> of line 1"},
		{"<a", "never closed"},
		{"<a b>", "= and a quoted text are missing"},
		{"<a b=c/>", "must be in quotes"},
		{"<a b='c/>", "quote is never closed"},
		{"<a b=''c=''/>", "white space"},
		{"<a b='<'/>", "not allowed in an attribute"},
		{"<a b='' b=''/>", "column 9: attribute b is there twice"},
		{"<a xmlns:p='u' xmlns:q='u' p:b='' q:b=''/>", "attribute q:b is there twice"},
		{"<a " + manyAttrs(20) + " a3=''/>", "attribute a3 is there twice"},
		{"<a:b:c/>", "not a name with a prefix"},
		{"<:a/>", "not a name with a prefix"},
		{"<a xmlns:p=''/>", "must not be empty"},
		{"<a xmlns:xmlns='u'/>", "reserved"},
		{"<a xmlns:p='http://www.w3.org/XML/1998/namespace'/>", "reserved"},
		{"<1/>", "a name is expected"},
		{"<a>&amp</a>", "written as &amp;"},
		{"<a>&nbsp;</a>", "&nbsp; is not known"},
		{"<a>&#0;</a>", "not known"},
		{"<a>&#xD800;</a>", "not known"},
		{"<a>&#x110000;</a>", "not known"},
		{"<a>]]></a>", "]]> is not allowed"},
		{"<a><![CDATA[</a>", "CDATA section is never closed"},
		{"<a><!-- -- --></a>", "-- is not allowed"},
		{"<a><!-- </a>", "comment is never closed"},
		{"<a><?xml version='1.0'?></a>", "only at the very beginning"},
		{" <?xml version='1.0'?><a/>", "only at the very beginning"},
		{"<?xml?><a/>", "only at the very beginning"},
		{"<?xml encoding='UTF-8'?><a/>", "not expected"},
		{"<?xml version='2.0'?><a/>", "not a value for version"},
		{"<?xml version='1.0' standalone='maybe'?><a/>", "not a value for standalone"},
		{"<?xml version='1.0' encoding='EBCDIC'?><a/>", "EBCDIC is not read"},
		{"<?xml version='1.0' encoding='UTF-16'?><a/>", "its bytes are not"},
		{"<?xml version='1.0' encoding='US-ASCII'?>\n<é/>", "line 2, column 2: a byte that is not US-ASCII"},
		{"<a>\x01</a>", "not allowed in XML"},
		{"<a>\xff</a>", "not valid UTF-8"},
		{"<a>\uffff</a>", "not allowed in XML"},
		{"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "internal subset (entities) is refused"},
		{"<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a>&x;</a>", "&x; is not known"},
		{"<a/><!DOCTYPE a>", "before the first element"},
		{"\x00<\x00a\x00/\x00>\x00", "not valid UTF-16BE"},
		{"\xff\xfe<\x00a\x00/\x00>\x00\x00\xd8", "not valid UTF-16LE"},
	} {
		_, err := Parse([]byte(c.in), Limits{})
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: error %v, want one with %q", c.in, err, c.err)
		}
	}
}

func TestUndeclaredPrefixesAreReadAndSaid(t *testing.T) {
	d := mustParse(t, "<p:a q:b='1' b='2' r:b='3'>\n<p:c/></p:a>")
	want := []Undeclared{{"p", 1}, {"q", 5}, {"r", 19}, {"p", 29}}
	if diff := cmp.Diff(want, d.Undeclared()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !d.Root().Is(UndeclaredSpace+"p", "a") {
		t.Errorf("root is in %q", d.Root().Space)
	}
	if v, _ := d.Root().Attr("", "b"); v != "2" {
		t.Errorf("b = %q", v)
	}
}

func manyAttrs(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, " a%d=''", i)
	}
	return b.String()
}

func TestPositions(t *testing.T) {
	d := mustParse(t, "<a>é<b/>\nü<c/><d/>\n</a>")
	want := map[string][2]int{"a": {1, 1}, "b": {1, 5}, "c": {2, 2}, "d": {2, 6}}
	for _, order := range []string{"abcd", "dcba", "badcab", "ddd"} {
		for _, name := range order {
			d.Root().Walk(func(e *Element) bool {
				if e.Local == string(name) {
					line, column := e.Position()
					if got := [2]int{line, column}; got != want[e.Local] || d.Line(e.Start.Start) != line {
						t.Errorf("%s of %s is at %v, want %v", e.Local, order, got, want[e.Local])
					}
				}
				return true
			})
		}
	}
	if line, column := d.Position(-1); line != 1 || column != 1 {
		t.Errorf("before the beginning: %d:%d", line, column)
	}
	if line, column := d.Position(1 << 30); line != 3 || column != 5 {
		t.Errorf("after the end: %d:%d", line, column)
	}
}

// TestPlacesByManyAtOnce asks for all places of a document with one long line
// of one to four bytes a character, from several goroutines; the race detector
// watches.
func TestPlacesByManyAtOnce(t *testing.T) {
	const unit = "<b c='aé€\U0001f600'/>"
	doc, err := Parse([]byte("<a>\n"+strings.Repeat(unit, 2000)+"</a>"), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := len(doc.Root().Children) - 1; i >= 0; i-- {
				if line, column := doc.Root().Children[i].Position(); line != 2 || column != 1+i*utf8.RuneCountInString(unit) {
					t.Errorf("element %d is at %d:%d", i, line, column)
					return
				}
			}
		})
	}
	all.Wait()
}

func TestLimits(t *testing.T) {
	for _, c := range []struct {
		in     string
		limits Limits
		what   string
	}{
		{"<aaaa/>", Limits{Size: 6}, "size"},
		{strings.Repeat("<a>", 257) + strings.Repeat("</a>", 257), Limits{}, "depth"},
		{"<a b='' c=''/>", Limits{Nodes: 2}, "nodes"},
	} {
		_, err := Parse([]byte(c.in), c.limits)
		var limit *LimitError
		if !errors.As(err, &limit) || limit.What != c.what {
			t.Errorf("%.20q: error %v, want the limit of %s", c.in, err, c.what)
		}
	}
	mustParse(t, strings.Repeat("<a>", 256)+strings.Repeat("</a>", 256))
}

func TestEncodings(t *testing.T) {
	const body = "<a b='é'>Grüße</a>\r\n"
	encode := func(s string, e interface{ Bytes([]byte) ([]byte, error) }) []byte {
		b, err := e.Bytes([]byte(s))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, data := range map[string][]byte{
		"UTF-8":        []byte("<?xml version='1.0'?>" + body),
		"UTF-8 ":       []byte(utf8BOM + body),
		"UTF-16LE":     encode(body, unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewEncoder()),
		"UTF-16BE":     encode(body, unicode.UTF16(unicode.BigEndian, unicode.UseBOM).NewEncoder()),
		"UTF-16LE ":    encode("<?xml version='1.0' encoding='UTF-16'?>"+body, unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM).NewEncoder()),
		"ISO-8859-1":   encode("<?xml version='1.0' encoding='iso-8859-1'?>"+body, charmap.ISO8859_1.NewEncoder()),
		"windows-1252": encode("<?xml version='1.0' encoding='Windows-1252'?>"+body, charmap.Windows1252.NewEncoder()),
	} {
		d, err := Parse(data, Limits{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d.Encoding() != strings.TrimSpace(name) || d.Root().Text() != "Grüße" || !bytes.Equal(d.Bytes(), data) {
			t.Errorf("%s is read as %s: %q", name, d.Encoding(), d.Root().Text())
		}
		e, err := d.Apply(d.Root().SetText("Ω & ü"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if e.Root().Text() != "Ω & ü" {
			t.Errorf("%s: written text is read as %q", name, e.Root().Text())
		}
		if back, err := e.Apply(e.Root().SetText("Grüße")); err != nil || !bytes.Equal(back.Bytes(), data) {
			t.Errorf("%s: the way back gives other bytes: %v", name, err)
		}
	}
}

func TestEdits(t *testing.T) {
	const doc = `<?xml version="1.0"?>
<r xmlns:o="urn:o">
  <a x='1'   y="2" />
  <!-- kept -->
  <b>text</b><c/>
  <d>
    <e/>
  </d>
</r>
`
	at := func(d *Document, name string) *Element {
		var found *Element
		d.Root().Walk(func(e *Element) bool {
			if e.Local == name {
				found = e
			}
			return true
		})
		return found
	}
	for _, c := range []struct {
		name     string
		edit     func(*Document) (Edit, error)
		old, new string
	}{
		{"set an attribute", func(d *Document) (Edit, error) { return at(d, "a").SetAttr("", "x", `<"'>`) }, `x='1'`, `x='&lt;&quot;&apos;>'`},
		{"add an attribute", func(d *Document) (Edit, error) { return at(d, "a").SetAttr("urn:o", "z", "3") }, `"2" />`, `"2" o:z="3" />`},
		{"add one to a start tag", func(d *Document) (Edit, error) { return at(d, "b").SetAttr("", "z", "3") }, `<b>`, `<b z="3">`},
		{"remove an attribute", func(d *Document) (Edit, error) { return at(d, "a").RemoveAttr("", "y"), nil }, `   y="2"`, ``},
		{"remove none", func(d *Document) (Edit, error) { return at(d, "a").RemoveAttr("", "q"), nil }, ``, ``},
		{"set text", func(d *Document) (Edit, error) { return at(d, "b").SetText("a<b"), nil }, `>text<`, `>a&lt;b<`},
		{"set text of an empty one", func(d *Document) (Edit, error) { return at(d, "a").SetText("t"), nil }, `y="2" />`, `y="2">t</a>`},
		{"remove a line", func(d *Document) (Edit, error) { return at(d, "a").Remove(), nil }, "  <a x='1'   y=\"2\" />\n", ""},
		{"remove part of a line", func(d *Document) (Edit, error) { return at(d, "c").Remove(), nil }, "<c/>", ""},
		{"replace", func(d *Document) (Edit, error) { return at(d, "c").Replace("<f/>"), nil }, "<c/>", "<f/>"},
		{"before a line", func(d *Document) (Edit, error) { return at(d, "a").InsertBefore("<f>\n  <g/>\n</f>") }, "  <a", "  <f>\n    <g/>\n  </f>\n  <a"},
		{"after a line", func(d *Document) (Edit, error) { return at(d, "a").InsertAfter("<f/>") }, "/>\n  <!--", "/>\n  <f/>\n  <!--"},
		{"within a line", func(d *Document) (Edit, error) { return at(d, "c").InsertBefore("<f/>") }, "<c/>", "<f/><c/>"},
		{"append", func(d *Document) (Edit, error) { return d.Root().Append("<f/>"), nil }, "</d>\n", "</d>\n  <f/>\n"},
		{"append to an empty one", func(d *Document) (Edit, error) { return at(d, "e").Append("<f/>"), nil }, "<e/>", "<e>\n      <f/>\n    </e>"},
		{"append to text", func(d *Document) (Edit, error) { return at(d, "c").Append("<f/>"), nil }, "<c/>", "<c><f/></c>"},
	} {
		for _, eol := range []string{"\n", "\r\n"} {
			text := strings.ReplaceAll(doc, "\n", eol)
			d := mustParse(t, text)
			edit, err := c.edit(d)
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			got, err := d.Apply(edit)
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			want := strings.Replace(text, strings.ReplaceAll(c.old, "\n", eol), strings.ReplaceAll(c.new, "\n", eol), 1)
			if diff := cmp.Diff(want, string(got.Bytes())); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.name, diff)
			}
		}
	}
	d := mustParse(t, doc)
	if _, err := d.Apply(d.Root().Replace("<open>")); err == nil {
		t.Error("an edit after which the document is not well-formed is taken")
	}
	if _, err := d.Apply(at(d, "d").Remove(), at(d, "e").Remove()); err == nil {
		t.Error("edits that overlap are taken")
	}
	if _, err := d.Root().InsertAfter("<x/>"); err == nil {
		t.Error("a second outermost element is taken")
	}
	if _, err := d.Root().SetAttr("urn:none", "x", ""); err == nil {
		t.Error("an attribute without a declared prefix is taken")
	}
}

// genDocument draws well-formed documents.
func genDocument(t *rapid.T) string {
	var b strings.Builder
	if rapid.Bool().Draw(t, "declared") {
		b.WriteString("<?xml version=\"1.0\" encoding='UTF-8'?>\n")
	}
	text := rapid.StringOf(rapid.RuneFrom([]rune("ab é\n\t&<>'\"]-\U0001f600")))
	var element func(depth int)
	element = func(depth int) {
		name := rapid.SampledFrom([]string{"a", "p:b", "ü"}).Draw(t, "name")
		b.WriteString("<" + name)
		if depth == 0 {
			b.WriteString(" xmlns:p='urn:p'")
		}
		for _, a := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"x", "y", "p:x"}), 0, 3, rapid.ID).Draw(t, "attrs") {
			fmt.Fprintf(&b, "%s%s=\"%s\"", rapid.SampledFrom([]string{" ", "\n\t"}).Draw(t, "space"), a, EscapeAttr(text.Draw(t, "value")))
		}
		if rapid.Bool().Draw(t, "closed") {
			b.WriteString("/>")
			return
		}
		b.WriteString(">")
		for range rapid.IntRange(0, 3).Draw(t, "parts") {
			switch rapid.IntRange(0, 3).Draw(t, "part") {
			case 0:
				b.WriteString(EscapeText(text.Draw(t, "text")))
			case 1:
				b.WriteString("<!-- c -->")
			case 2:
				b.WriteString("<![CDATA[<&x]]>")
			case 3:
				if depth < 4 {
					element(depth + 1)
				}
			}
		}
		b.WriteString("</" + name + ">")
	}
	element(0)
	return b.String()
}

func TestEveryEditChangesOnlyItsSpan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := genDocument(t)
		d, err := Parse([]byte(text), Limits{})
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if string(d.Bytes()) != text {
			t.Fatal("parse and write are not the same bytes")
		}
		var all []*Element
		d.Root().Walk(func(e *Element) bool { all = append(all, e); return true })
		e := rapid.SampledFrom(all).Draw(t, "element")
		value := rapid.String().Filter(func(s string) bool { return checkChars(&parser{doc: &Document{text: s}, s: s}) == nil }).Draw(t, "new")
		var edit Edit
		if rapid.Bool().Draw(t, "text") {
			edit = e.SetText(value)
		} else if edit, err = e.SetAttr("", "x", value); err != nil {
			t.Fatal(err)
		}
		after, err := d.Apply(edit)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if got := after.Text(); got[:edit.Start] != text[:edit.Start] || !strings.HasSuffix(got, text[edit.End:]) {
			t.Fatalf("an edit of %v changed more:\n%s\n%s", edit.Span, text, got)
		}
		// The same element is found at the same place, with the new value.
		n := -1
		after.Root().Walk(func(g *Element) bool {
			if n++; g.Start.Start != e.Start.Start || n >= len(all) {
				return true
			}
			if v, _ := g.Attr("", "x"); v != value && g.Text() != value {
				t.Fatalf("wrote %q, read attribute %q and text %q", value, v, g.Text())
			}
			return true
		})
	})
}

// accepts says what encoding/xml thinks of a document.
func accepts(data []byte) bool {
	d := xml.NewDecoder(bytes.NewReader(data))
	for {
		if _, err := d.Token(); err == io.EOF {
			return true
		} else if err != nil {
			return false
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("<?xml version='1.0'?><a xmlns:p='u'><p:b c='&lt;'>x</p:b><!-- --><![CDATA[]]></a>"))
	f.Add([]byte("\xff\xfe<\x00a\x00/\x00>\x00"))
	f.Add([]byte("<?xml version='1.0' encoding='ISO-8859-1'?><a>\xe9</a>"))
	f.Add([]byte("<!DOCTYPE a><a/>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Parse(data, Limits{Size: 1 << 20, Depth: 64, Nodes: 10000})
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an error without words")
			}
			return
		}
		if !bytes.Equal(d.Bytes(), data) {
			t.Fatal("parse and write are not the same bytes")
		}
		// What we take, the standard library has to take: it is the laxer
		// one. It reads UTF-8 only, and no name of several colons.
		if d.Encoding() == "UTF-8" && !bytes.Contains(data, []byte("<!DOCTYPE")) && !bytes.Contains(data, []byte("<?xml")) {
			if !accepts(bytes.TrimPrefix(data, []byte(utf8BOM))) {
				t.Fatalf("encoding/xml does not take it: %q", data)
			}
		}
		d.Root().Walk(func(e *Element) bool {
			e.Text()
			if line, col := e.Position(); line < 1 || col < 1 {
				t.Fatalf("position %d:%d", line, col)
			}
			return true
		})
		if again, err := d.Apply(d.Root().SetText("é<")); err != nil || again.Root().Text() != "é<" {
			t.Fatalf("after an edit: %v", err)
		}
	})
}

func corpus(t testing.TB) []string {
	files, _ := filepath.Glob("../../../shared/corpus/*/*.ovf")
	more, _ := filepath.Glob("../../../shared/corpus/*/*/*.[oO][vV][fF]")
	if files = append(files, more...); len(files) == 0 {
		t.Skip("the reference descriptors (../shared/corpus) are not here")
	}
	return files
}

func TestCorpusAgreesWithTheStandardLibrary(t *testing.T) {
	for _, f := range corpus(t) {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		d, err := Parse(data, Limits{})
		if err == nil && !bytes.Equal(d.Bytes(), data) {
			t.Errorf("%s: parse and write are not the same bytes", f)
		}
		if ok := accepts(data); ok != (err == nil) {
			t.Errorf("%s: encoding/xml takes it: %v; we say: %v", filepath.Base(f), ok, err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	data := []byte("<?xml version=\"1.0\"?>\n<Envelope xmlns:ovf=\"urn:ovf\" xmlns:rasd=\"urn:rasd\">" + strings.Repeat(`
  <Item ovf:required="false">
    <rasd:AddressOnParent>0</rasd:AddressOnParent>
    <rasd:ElementName>Hard disk 1</rasd:ElementName>
    <rasd:ResourceType>17</rasd:ResourceType>
  </Item>`, 50) + "\n</Envelope>\n")
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(data, Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}
