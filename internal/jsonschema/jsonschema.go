// Package jsonschema describes as a JSON schema what encoding/json makes of Go
// types, with the words of their doc comments and the values of their constants.
package jsonschema

import (
	"encoding"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Options say what is told beside the types.
type Options struct {
	// ID is the schema's URI, Title what it is of.
	ID, Title string
	// Raw is what is in fields that are json.RawMessage, by "package.Type.Field".
	Raw map[string]reflect.Type
	// Root is the folder of the module, Module its path: comments and constants
	// are read from there.
	Root, Module string
}

// Of gives the schema of a type, a struct. A field without omitempty or omitzero
// is required. What is not described may be there, too: fields are added within
// a version.
func Of(t reflect.Type, opt Options) ([]byte, error) {
	s := &schema{opt: opt, defs: map[string]any{}, sources: map[string]*source{}}
	root, err := s.of(t)
	if err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(map[string]any{"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": opt.ID,
		"title": opt.Title, "$ref": root["$ref"], "$defs": s.defs}, "", "  ")
	return append(b, '\n'), err
}

type schema struct {
	opt     Options
	defs    map[string]any
	sources map[string]*source
}

var (
	typeTime = reflect.TypeFor[time.Time]()
	typeRaw  = reflect.TypeFor[json.RawMessage]()
	typeText = reflect.TypeFor[encoding.TextMarshaler]()
)

func (s *schema) of(t reflect.Type) (map[string]any, error) {
	switch {
	case t == typeTime:
		return map[string]any{"type": "string", "format": "date-time"}, nil
	case t == typeRaw:
		return map[string]any{}, nil
	case t.Kind() == reflect.Pointer:
		return s.of(t.Elem())
	case t.Implements(typeText):
		return map[string]any{"type": "string"}, nil
	}
	switch t.Kind() {
	case reflect.Struct:
		return s.named(t)
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return map[string]any{"type": "string", "contentEncoding": "base64"}, nil
		}
		items, err := s.of(t.Elem())
		return map[string]any{"type": "array", "items": items}, err
	case reflect.Map:
		values, err := s.of(t.Elem())
		return map[string]any{"type": "object", "additionalProperties": values}, err
	case reflect.Bool:
		return map[string]any{"type": "boolean"}, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return map[string]any{"type": "integer"}, nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return map[string]any{"type": "integer", "minimum": 0}, nil
	case reflect.Float32, reflect.Float64:
		return map[string]any{"type": "number"}, nil
	case reflect.String:
		return s.word(t)
	}
	return nil, fmt.Errorf("there is no schema for %s", t)
}

// word is a text, or one of the constants of its type.
func (s *schema) word(t reflect.Type) (map[string]any, error) {
	if t.PkgPath() == "" {
		return map[string]any{"type": "string"}, nil
	}
	src, err := s.source(t.PkgPath())
	if err != nil {
		return nil, err
	}
	out := map[string]any{"type": "string"}
	if values := src.constants[t.Name()]; len(values) > 0 {
		out["enum"] = values
	}
	return out, nil
}

// named describes a struct once, and refers to that.
func (s *schema) named(t reflect.Type) (map[string]any, error) {
	name := path.Base(t.PkgPath()) + "." + t.Name()
	ref := map[string]any{"$ref": "#/$defs/" + name}
	if _, known := s.defs[name]; known {
		return ref, nil
	}
	def := map[string]any{"type": "object"}
	s.defs[name] = def
	src, err := s.source(t.PkgPath())
	if err != nil {
		return nil, err
	}
	if doc := src.types[t.Name()]; doc != "" {
		def["description"] = doc
	}
	properties, required := map[string]any{}, []string{}
	if err := s.fields(t, properties, &required); err != nil {
		return nil, err
	}
	def["properties"] = properties
	if len(required) > 0 {
		slices.Sort(required)
		def["required"] = required
	}
	return ref, nil
}

// fields adds those of a struct, with those of structs that are embedded.
func (s *schema) fields(t reflect.Type, properties map[string]any, required *[]string) error {
	src, err := s.source(t.PkgPath())
	if err != nil {
		return err
	}
	for _, f := range reflect.VisibleFields(t) {
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if len(f.Index) > 1 || !f.IsExported() && !f.Anonymous || tag == "-" {
			continue
		}
		if f.Anonymous && tag == "" {
			if err := s.fields(f.Type, properties, required); err != nil {
				return err
			}
			continue
		}
		name := tag
		if name == "" {
			name = f.Name
		}
		full := path.Base(t.PkgPath()) + "." + t.Name() + "." + f.Name
		of := f.Type
		if raw, ok := s.opt.Raw[full]; ok && of == typeRaw {
			of = raw
		}
		property, err := s.of(of)
		if err != nil {
			return fmt.Errorf("%s: %w", full, err)
		}
		optional := slices.ContainsFunc(strings.Split(options, ","), func(o string) bool { return o == "omitempty" || o == "omitzero" })
		if kind := of.Kind(); !optional && (kind == reflect.Slice && of.Elem().Kind() != reflect.Uint8 || kind == reflect.Map) {
			property["type"] = []string{property["type"].(string), "null"}
		}
		if doc := src.fields[t.Name()+"."+f.Name]; doc != "" {
			property["description"] = doc
		}
		properties[name] = property
		if !optional {
			*required = append(*required, name)
		}
	}
	return nil
}

// source is what a package's source says.
type source struct {
	types     map[string]string // docs, by name
	fields    map[string]string // by Type.Field
	constants map[string][]string
}

func (s *schema) source(pkg string) (*source, error) {
	if src := s.sources[pkg]; src != nil {
		return src, nil
	}
	src := &source{types: map[string]string{}, fields: map[string]string{}, constants: map[string][]string{}}
	s.sources[pkg] = src
	below, ours := strings.CutPrefix(pkg, s.opt.Module+"/")
	if !ours {
		return src, nil
	}
	dir := filepath.Join(s.opt.Root, filepath.FromSlash(below))
	entries, err := fs.ReadDir(os.DirFS(dir), ".")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, e.Name()), nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		for _, d := range file.Decls {
			if g, ok := d.(*ast.GenDecl); ok {
				src.take(g)
			}
		}
	}
	return src, nil
}

func (src *source) take(g *ast.GenDecl) {
	for _, spec := range g.Specs {
		switch x := spec.(type) {
		case *ast.TypeSpec:
			doc := x.Doc
			if doc == nil {
				doc = g.Doc
			}
			src.types[x.Name.Name] = words(doc)
			if st, ok := x.Type.(*ast.StructType); ok {
				for _, f := range st.Fields.List {
					for _, n := range f.Names {
						src.fields[x.Name.Name+"."+n.Name] = strings.TrimSpace(words(f.Doc) + " " + words(f.Comment))
					}
				}
			}
		case *ast.ValueSpec:
			of, ok := x.Type.(*ast.Ident)
			if g.Tok != token.CONST || !ok {
				continue
			}
			for _, v := range x.Values {
				if lit, ok := v.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					src.constants[of.Name] = append(src.constants[of.Name], constant.StringVal(constant.MakeFromLiteral(lit.Value, lit.Kind, 0)))
				}
			}
		}
	}
}

// words is a comment on one line.
func words(c *ast.CommentGroup) string { return strings.Join(strings.Fields(c.Text()), " ") }
