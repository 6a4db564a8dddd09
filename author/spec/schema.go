package spec

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// SchemaID is the name of the JSON schema, and where it lies.
const SchemaID = "https://raw.githubusercontent.com/ovation-project/ovation/main/docs/appliance.schema.json"

// Schema gives the JSON schema of a specification, for editors.
func Schema() ([]byte, error) {
	defs := map[string]any{}
	root := schemaOf(reflect.TypeFor[Appliance](), defs)
	b, err := json.MarshalIndent(map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"$id":     SchemaID,
		"title":   "Appliance specification of ovation build",
		"$ref":    root["$ref"],
		"$defs":   defs,
	}, "", "  ")
	return append(b, '\n'), err
}

func schemaOf(t reflect.Type, defs map[string]any) map[string]any {
	scalar := []string{"string", "number", "boolean"}
	switch {
	case t == typeSize:
		return map[string]any{"type": []string{"string", "integer"}, "pattern": `^[0-9]+(\.[0-9]+)? *([kKMGTPE]i?)?B?$`}
	case t == typeRaw:
		return map[string]any{"type": "string"}
	case t == typeStrings:
		return map[string]any{"oneOf": []any{map[string]any{"type": scalar}, map[string]any{"type": "array", "items": map[string]any{"type": scalar}}}}
	case t == typeText:
		return map[string]any{"oneOf": []any{map[string]any{"type": scalar}, structSchema(t, defs)}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem(), defs)
	case reflect.Struct:
		s := structSchema(t, defs)
		if shortForm(reflect.New(t).Elem(), "") {
			return map[string]any{"oneOf": []any{map[string]any{"type": scalar}, s}}
		}
		return s
	case reflect.Slice:
		item := schemaOf(t.Elem(), defs)
		list := map[string]any{"type": "array", "items": item}
		return map[string]any{"oneOf": []any{list, item}}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int:
		return map[string]any{"type": "integer", "minimum": 0}
	}
	return map[string]any{"type": scalar}
}

func structSchema(t reflect.Type, defs map[string]any) map[string]any {
	name := strings.ToLower(t.Name()[:1]) + t.Name()[1:]
	ref := map[string]any{"$ref": "#/$defs/" + name}
	if _, ok := defs[name]; ok {
		return ref
	}
	def := map[string]any{"type": "object", "additionalProperties": false}
	defs[name] = def
	properties := map[string]any{}
	var required []string
	for f := range fields(t) {
		s := map[string]any{}
		for k, v := range schemaOf(f.Type, defs) {
			s[k] = v
		}
		s["description"] = f.Tag.Get("doc")
		if enum := f.Tag.Get("enum"); enum != "" {
			values := []any{}
			for _, v := range strings.Split(enum, "|") {
				values = append(values, v)
				if strings.Trim(v, "0123456789.") == "" {
					values = append(values, json.Number(v))
				}
			}
			s["enum"] = values
		}
		properties[f.Tag.Get("yaml")] = s
		if f.Tag.Get("required") != "" {
			required = append(required, f.Tag.Get("yaml"))
		}
	}
	def["properties"] = properties
	if required != nil {
		def["required"] = required
	}
	return ref
}

// WriteKeys writes the table of all keys for the documentation, as Markdown.
func WriteKeys(w io.Writer) error {
	done := map[reflect.Type]bool{}
	queue := []reflect.Type{reflect.TypeFor[Appliance]()}
	titles := map[reflect.Type]string{queue[0]: "The specification"}
	for len(queue) > 0 {
		t := queue[0]
		queue = queue[1:]
		if done[t] {
			continue
		}
		done[t] = true
		if _, err := fmt.Fprintf(w, "### %s\n\n| key | value | meaning |\n| --- | --- | --- |\n", titles[t]); err != nil {
			return err
		}
		for f := range fields(t) {
			key := f.Tag.Get("yaml")
			kind, below := valueName(f.Type)
			if enum := f.Tag.Get("enum"); enum != "" {
				kind = strings.ReplaceAll(enum, "|", ", ")
			}
			if below != nil && titles[below] == "" {
				titles[below] = "`" + key + "`"
				if below == typeText {
					titles[below] = "A text"
				}
				queue = append(queue, below)
			}
			if below != nil {
				title := strings.Trim(titles[below], "`")
				kind = fmt.Sprintf("[%s](#%s)", kind, strings.ReplaceAll(strings.ToLower(title), " ", "-"))
			}
			doc := strings.ReplaceAll(f.Tag.Get("doc"), "|", `\|`)
			if f.Tag.Get("required") != "" {
				doc += " **Required.**"
			}
			if _, err := fmt.Fprintf(w, "| `%s` | %s | %s |\n", key, kind, doc); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	return nil
}

// valueName says what a value is, and which struct it is made of.
func valueName(t reflect.Type) (string, reflect.Type) {
	switch t {
	case typeSize:
		return "size", nil
	case typeRaw:
		return "XML", nil
	case typeStrings:
		return "words", nil
	case typeText:
		return "text", typeText
	}
	switch t.Kind() {
	case reflect.Pointer:
		return valueName(t.Elem())
	case reflect.Struct:
		return "mapping", t
	case reflect.Slice:
		name, below := valueName(t.Elem())
		return "list of " + strings.TrimSuffix(name, "s") + "s", below
	case reflect.Bool:
		return "true, false", nil
	case reflect.Int:
		return "number", nil
	}
	return "text", nil
}
