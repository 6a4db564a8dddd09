package spec

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// maxValues bounds the keys and values of a specification that is written: YAML
// takes a thousand bytes of memory for each. The largest descriptors of products
// have some ten thousand.
const maxValues = 150_000

// ErrTooLarge says that there is too much in an appliance for a specification.
var ErrTooLarge = errors.New("there is too much in it for a specification")

// Marshal writes a specification. Parse gives the same again, save for places.
// What a terminal would act on is escaped.
func (a *Appliance) Marshal() ([]byte, error) {
	root := structNode(reflect.ValueOf(a).Elem())
	if n := values(root); n > maxValues {
		return nil, fmt.Errorf("%w: %d keys and values, and the limit is %d", ErrTooLarge, n, maxValues)
	}
	var b bytes.Buffer
	b.WriteString("# yaml-language-server: $schema=" + SchemaID + "\n")
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(root); err != nil {
		return nil, err
	}
	return escaped(b.Bytes()), e.Close()
}

func values(n *yaml.Node) int {
	count := 1
	for _, c := range n.Content {
		count += values(c)
	}
	return count
}

// hidden knows the characters that change the direction of writing or are not
// seen, which YAML leaves as they are.
func hidden(r rune) bool {
	return r == 0x61c || r >= 0x200e && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x206f ||
		r >= 0xfff9 && r <= 0xfffb || r >= 0xe0000 && r <= 0xe007f
}

// escaped spells them out. They are in texts within double quotes only.
func escaped(b []byte) []byte {
	if !bytes.ContainsFunc(b, hidden) {
		return b
	}
	out := make([]byte, 0, len(b)+64)
	for _, r := range string(b) {
		if hidden(r) {
			out = fmt.Appendf(out, `\U%08x`, r)
		} else {
			out = utf8.AppendRune(out, r)
		}
	}
	return out
}

// node gives the YAML of a value, nil for one that is left out.
func node(v reflect.Value) *yaml.Node {
	switch x := v.Interface().(type) {
	case Size:
		if x == 0 {
			return nil
		}
		return number(x.String())
	case RawXML:
		if x.Text == "" {
			return nil
		}
		n := text(x.Text)
		if n.Style != yaml.DoubleQuotedStyle {
			n.Style = yaml.LiteralStyle
		}
		return n
	case Text:
		if x.IsZero() {
			return nil
		}
		if x.File == "" && x.ID == "" && len(x.Translations) == 0 {
			return text(x.Text)
		}
		return structNode(v)
	case Strings:
		if len(x) == 1 {
			return text(x[0])
		}
	case Drive:
		if reflect.DeepEqual(x, Drive{Disk: x.Disk, Pos: x.Pos}) && x.Disk != "" {
			return text(x.Disk)
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		if n := node(v.Elem()); n != nil {
			return n
		}
		return zero(v.Elem())
	case reflect.Struct:
		n := structNode(v)
		if len(n.Content) == 0 {
			return nil
		}
		return n
	case reflect.Slice:
		if v.Len() == 0 {
			return nil
		}
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		words := v.Len() <= 8
		for i := range v.Len() {
			m := node(v.Index(i))
			if m == nil {
				m = zero(v.Index(i))
			}
			words = words && m.Kind == yaml.ScalarNode && m.Style == 0 && len(m.Value) < 30
			n.Content = append(n.Content, m)
		}
		if len(n.Content) == 1 && n.Content[0].Kind == yaml.MappingNode && v.Type().Elem() == reflect.TypeFor[Hardware]() {
			return n.Content[0]
		}
		if words {
			n.Style = yaml.FlowStyle
		}
		return n
	case reflect.String:
		if v.String() == "" {
			return nil
		}
		return text(v.String())
	case reflect.Bool:
		if !v.Bool() {
			return nil
		}
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"}
	case reflect.Int, reflect.Int64:
		if v.Int() == 0 {
			return nil
		}
		return number(strconv.FormatInt(v.Int(), 10))
	}
	panic("spec: no way to write " + v.Type().String())
}

// zero is what is written for an empty value that is there all the same.
func zero(v reflect.Value) *yaml.Node {
	switch v.Type() {
	case typeRaw, typeText:
		return zero(reflect.ValueOf(""))
	}
	switch v.Kind() {
	case reflect.String:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle}
	case reflect.Bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "false"}
	case reflect.Int, reflect.Int64:
		return number("0")
	}
	return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Style: yaml.FlowStyle}
}

func structNode(v reflect.Value) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for f := range fields(v.Type()) {
		m := node(v.FieldByIndex(f.Index))
		if m == nil && f.Tag.Get("required") != "" {
			m = zero(v.FieldByIndex(f.Index))
			if f.Type.Kind() == reflect.Slice {
				m = &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Style: yaml.FlowStyle}
			}
		}
		if m != nil {
			n.Content = append(n.Content, text(f.Tag.Get("yaml")), m)
		}
	}
	return n
}

func text(s string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
	if strings.ContainsFunc(s, hidden) {
		n.Style = yaml.DoubleQuotedStyle
	} else if strings.Contains(strings.TrimRight(s, "\n"), "\n") {
		n.Style = yaml.LiteralStyle
	}
	return n
}

func number(s string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: s}
	if strings.Trim(s, "0123456789") != "" {
		n.Tag = "!!str"
	}
	return n
}

// String writes a size in the largest unit that it is whole in.
func (s Size) String() string {
	for i, unit := range []string{"TiB", "GiB", "MiB"} {
		if shift := 40 - 10*i; s >= 1<<shift && s%(1<<shift) == 0 {
			return strconv.FormatInt(int64(s)>>shift, 10) + unit
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
