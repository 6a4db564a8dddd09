package spec

import (
	"bytes"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Marshal writes a specification. Parse gives the same again, save for places.
func (a *Appliance) Marshal() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("# yaml-language-server: $schema=" + SchemaID + "\n")
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(structNode(reflect.ValueOf(a).Elem())); err != nil {
		return nil, err
	}
	return b.Bytes(), e.Close()
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
		n.Style = yaml.LiteralStyle
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
	if strings.Contains(strings.TrimRight(s, "\n"), "\n") {
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
