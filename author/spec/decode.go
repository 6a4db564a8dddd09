package spec

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/ovation-project/ovation/internal/term"
)

const (
	maxErrors = 20
	// maxNodes bounds what aliases can make of a small file.
	maxNodes = 500_000
	maxDepth = 100
)

// Parse reads a specification. file is its name for messages. What is wrong
// comes as Errors, all at once, each with its place.
func Parse(file string, data []byte) (*Appliance, error) {
	d := &decoder{file: file}
	a := &Appliance{}
	if len(data) > MaxSize {
		d.fail(Pos{}, "it has %d bytes; at most %d are read", len(data), MaxSize)
		return nil, d.err()
	}
	root, err := d.load(data)
	if err != nil {
		return nil, err
	}
	d.value(root, reflect.ValueOf(a).Elem(), "", 0)
	if err := d.err(); err != nil {
		return nil, err
	}
	d.check(a)
	if err := d.err(); err != nil {
		return nil, err
	}
	return a, nil
}

type decoder struct {
	file  string
	nodes int
	errs  Errors
	full  bool // too much is wrong, or too much is there, to go on
}

func (d *decoder) fail(p Pos, format string, args ...any) {
	if d.full {
		return
	}
	d.errs = append(d.errs, &Error{File: d.file, Pos: p, Text: fmt.Sprintf(format, args...)})
	d.full = len(d.errs) == maxErrors
}

func (d *decoder) err() error {
	if len(d.errs) == 0 {
		return nil
	}
	slices.SortStableFunc(d.errs, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Column, b.Pos.Column))
	})
	return d.errs
}

// load gives the outermost mapping.
func (d *decoder) load(data []byte) (*yaml.Node, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		var at Pos
		var located interface{ error }
		if errors.As(err, &located) {
			at = linePos(err.Error())
		}
		d.fail(at, "not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
		return nil, d.err()
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		d.fail(Pos{1, 1}, "the file is empty: 'ovation new' writes one to begin with")
		return nil, d.err()
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		d.fail(pos(root), "a mapping of keys is expected: 'ovation new' writes one to begin with")
		return nil, d.err()
	}
	return root, nil
}

// linePos takes the line out of a message of the YAML reader.
func linePos(msg string) Pos {
	_, rest, ok := strings.Cut(msg, "line ")
	if !ok {
		return Pos{}
	}
	digits := rest
	if i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		digits = rest[:i]
	}
	line, err := strconv.Atoi(digits)
	if err != nil || line < 1 {
		return Pos{}
	}
	p := Pos{line, 1}
	if _, rest, ok := strings.Cut(rest, "column "); ok {
		digits, _, _ := strings.Cut(rest, ":")
		digits = strings.TrimRight(strings.Fields(digits + " 1")[0], ",.:)")
		if column, err := strconv.Atoi(digits); err == nil && column > 0 {
			p.Column = column
		}
	}
	return p
}

func pos(n *yaml.Node) Pos { return Pos{n.Line, n.Column} }

var (
	typeSize    = reflect.TypeFor[Size]()
	typeStrings = reflect.TypeFor[Strings]()
	typeText    = reflect.TypeFor[Text]()
	typeRaw     = reflect.TypeFor[RawXML]()
	typePos     = reflect.TypeFor[Pos]()
)

// value reads a node into v. path is what people call it.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string, depth int) {
	if d.nodes++; d.nodes > maxNodes || depth > maxDepth {
		d.fail(pos(n), "the file is too deep, or its aliases make too much of it")
		d.full = true
	}
	if d.full {
		return
	}
	if n.Kind == yaml.AliasNode {
		d.value(n.Alias, v, path, depth+1)
		return
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		d.fail(pos(n), "%s is empty: give it a value, or leave it out", path)
		return
	}
	switch t := v.Type(); {
	case t == typeSize:
		if s, ok := d.scalar(n, path, "a size such as 20GiB"); ok {
			size, err := term.ParseSize(s)
			if err != nil {
				d.fail(pos(n), "%s: %v", path, err)
			}
			v.SetInt(size)
		}
	case t == typeRaw:
		if s, ok := d.scalar(n, path, "XML as text"); ok {
			v.Set(reflect.ValueOf(RawXML{Text: strings.TrimSpace(s), Pos: pos(n)}))
		}
	case t == typeText && n.Kind == yaml.ScalarNode:
		v.Set(reflect.ValueOf(Text{Text: n.Value, Pos: pos(n)}))
	case t == typeStrings && n.Kind == yaml.ScalarNode:
		v.Set(reflect.ValueOf(Strings{n.Value}))
	case t.Kind() == reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		d.value(n, v.Elem(), path, depth+1)
	case t.Kind() == reflect.Struct:
		d.mapping(n, v, path, depth)
	case t.Kind() == reflect.Slice:
		d.list(n, v, path, depth)
	case t.Kind() == reflect.String:
		if s, ok := d.scalar(n, path, "text"); ok {
			v.SetString(s)
		}
	case t.Kind() == reflect.Bool:
		s, ok := d.scalar(n, path, "true or false")
		if ok && s != "true" && s != "false" {
			d.fail(pos(n), "%s is true or false, not %q", path, short(s))
		}
		v.SetBool(s == "true")
	case t.Kind() == reflect.Int:
		if s, ok := d.scalar(n, path, "a whole number"); ok {
			i, err := strconv.ParseUint(s, 10, 31)
			if err != nil {
				d.fail(pos(n), "%s is a whole number, not %q", path, short(s))
			}
			v.SetInt(int64(i))
		}
	default:
		panic("spec: no way to read " + t.String())
	}
}

func short(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}

func (d *decoder) scalar(n *yaml.Node, path, what string) (string, bool) {
	if n.Kind != yaml.ScalarNode {
		d.fail(pos(n), "%s is %s, not a %s", path, what, kindName(n))
		return "", false
	}
	return n.Value, true
}

func kindName(n *yaml.Node) string {
	if n.Kind == yaml.SequenceNode {
		return "list"
	}
	return "mapping"
}

// list reads a list; one member of it may stand for the whole.
func (d *decoder) list(n *yaml.Node, v reflect.Value, path string, depth int) {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	for i, item := range items {
		if d.full {
			return
		}
		name := path
		if n.Kind == yaml.SequenceNode {
			name = fmt.Sprintf("%s[%d]", path, i)
		}
		one := reflect.New(v.Type().Elem()).Elem()
		d.value(item, one, name, depth+1)
		v.Set(reflect.Append(v, one))
	}
}

// mapping reads the keys of a struct.
func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string, depth int) {
	if n.Kind != yaml.MappingNode {
		if n.Kind == yaml.ScalarNode && shortForm(v, n.Value) {
			return
		}
		d.fail(pos(n), "%s is a mapping of keys (%s), not %s", path, strings.Join(keys(v.Type()), ", "), map[bool]string{true: "a text", false: "a list"}[n.Kind == yaml.ScalarNode])
		return
	}
	if p := v.FieldByName("Pos"); p.IsValid() && p.Type() == typePos {
		p.Set(reflect.ValueOf(pos(n)))
	}
	seen := map[string]Pos{}
	for i := 0; i+1 < len(n.Content) && !d.full; i += 2 {
		k, val := n.Content[i], n.Content[i+1]
		name := k.Value
		if first, twice := seen[name]; twice {
			d.fail(pos(k), "%s stands in line %d already", name, first.Line)
			continue
		}
		seen[name] = pos(k)
		field, ok := fieldFor(v, name)
		if !ok {
			d.unknown(k, v.Type(), path)
			continue
		}
		below := name
		if path != "" {
			below = path + "." + name
		}
		if val.Kind == yaml.ScalarNode && val.Tag == "!!null" {
			val.Line, val.Column = k.Line, k.Column
		}
		d.value(val, field, below, depth+1)
	}
	for f := range fields(v.Type()) {
		key := f.Tag.Get("yaml")
		if _, ok := seen[key]; !ok && f.Tag.Get("required") != "" && !d.full {
			where := path
			if where == "" {
				where = "the specification"
			}
			d.fail(pos(n), "%s needs the key %s: %s", where, key, f.Tag.Get("doc"))
		}
		if enum := f.Tag.Get("enum"); enum != "" {
			got := v.FieldByIndex(f.Index).String()
			if got != "" && !slices.Contains(strings.Split(enum, "|"), got) {
				d.fail(seen[key], "%s is %s, not %q%s", key, strings.Join(strings.Split(enum, "|"), ", "), short(got), didYouMean(got, strings.Split(enum, "|")))
			}
		}
	}
}

// shortForm takes one text for a struct of which a text says all.
func shortForm(v reflect.Value, text string) bool {
	switch p := v.Addr().Interface().(type) {
	case *Drive:
		p.Disk = text
	case *Card:
		p.Network = text
	case *Network:
		p.Name = text
	case *Placement:
		p.Group = text
	case *Note:
		p.Text.Text = text
	default:
		return false
	}
	return true
}

func (d *decoder) unknown(k *yaml.Node, t reflect.Type, path string) {
	where := ""
	if path != "" {
		where = " in " + path
	}
	known := keys(t)
	hint := didYouMean(k.Value, known)
	if hint == "" {
		hint = "; known are " + strings.Join(known, ", ")
	}
	d.fail(pos(k), "unknown key %q%s%s", short(k.Value), where, hint)
}

// fields gives the fields of a struct that YAML has keys for.
func fields(t reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range t.NumField() {
			f := t.Field(i)
			if key := f.Tag.Get("yaml"); key != "" && key != "-" && !yield(f) {
				return
			}
		}
	}
}

func keys(t reflect.Type) []string {
	var all []string
	for f := range fields(t) {
		all = append(all, f.Tag.Get("yaml"))
	}
	return all
}

func fieldFor(v reflect.Value, key string) (reflect.Value, bool) {
	for f := range fields(v.Type()) {
		if f.Tag.Get("yaml") == key {
			return v.FieldByIndex(f.Index), true
		}
	}
	return reflect.Value{}, false
}

// didYouMean names what is most like a word, where something is.
func didYouMean(word string, known []string) string {
	best, least := "", 3
	for _, k := range known {
		d := distance(strings.ToLower(word), strings.ToLower(k))
		if d < least && d < len(k) {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// distance is the number of letters to change, add or take away.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
