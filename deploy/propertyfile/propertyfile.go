// Package propertyfile reads values of properties from a file, so that they need
// not be on a command line, where everybody on the machine sees them: a mapping
// in YAML or JSON, or a line KEY=VALUE for each.
package propertyfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxFile bounds what is read.
const maxFile = 4 << 20

// Read reads a file. Errors name the line, and no value: it may be a secret.
func Read(path string) (map[string]string, error) {
	f, err := os.Open(path) // #nosec G304: the user's own
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("more than %d MiB", maxFile>>20)
	}
	var values map[string]string
	if err == nil {
		switch strings.ToLower(filepath.Ext(path)) {
		case ".yaml", ".yml", ".json":
			values, err = ParseYAML(text)
		default:
			values, err = ParseLines(text)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return values, nil
}

// ParseLines reads lines of KEY=VALUE. The value is what is behind the first =,
// to the end of the line, spaces and quotes and all; blank lines and those that
// begin with # are passed over.
func ParseLines(text []byte) (map[string]string, error) {
	values := map[string]string{}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if n == 1 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		if trimmed := strings.TrimSpace(line); trimmed == "" || trimmed[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if key = strings.TrimSpace(key); !ok || key == "" {
			return nil, fmt.Errorf("line %d is not KEY=VALUE; a mapping in YAML is in a file whose name ends with .yaml", n)
		}
		if _, twice := values[key]; twice {
			return nil, fmt.Errorf("line %d: the property %s is there twice", n, key)
		}
		values[key] = value
	}
	return values, nil
}

// ParseYAML reads a mapping of keys to scalars, which are taken as they are
// written: 010 and yes are texts. Mappings within are keys with a dot between.
func ParseYAML(text []byte) (map[string]string, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, syntaxError(err)
	}
	values := map[string]string{}
	if doc.Kind == 0 {
		return values, nil // empty
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("not a mapping of properties to values")
	}
	if err := mapping(values, "", doc.Content[0], 0); err != nil {
		return nil, err
	}
	return values, nil
}

// maxDepth bounds mappings within mappings.
const maxDepth = 20

func mapping(values map[string]string, prefix string, m *yaml.Node, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("line %d: mappings are %d deep", m.Line, depth)
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		k, v := m.Content[i], m.Content[i+1]
		if k.Kind != yaml.ScalarNode || k.Value == "" {
			return fmt.Errorf("line %d: the key is not a text", k.Line)
		}
		key := prefix + k.Value
		switch v.Kind {
		case yaml.MappingNode:
			if err := mapping(values, key+".", v, depth+1); err != nil {
				return err
			}
			continue
		case yaml.ScalarNode:
		default:
			return fmt.Errorf("line %d: the value of %s is neither a text nor a number", v.Line, key)
		}
		if _, twice := values[key]; twice {
			return fmt.Errorf("line %d: the property %s is there twice", k.Line, key)
		}
		value := v.Value
		if v.Tag == "!!null" {
			value = ""
		}
		values[key] = value
	}
	return nil
}

// syntaxError leaves out of YAML's error all but the place: it may repeat what
// the file has.
func syntaxError(err error) error {
	if _, rest, ok := strings.Cut(err.Error(), "line "); ok {
		number := strings.TrimLeft(rest, "0123456789")
		if number = strings.TrimSuffix(rest, number); number != "" {
			return fmt.Errorf("line %s is not YAML", number)
		}
	}
	return errors.New("not YAML")
}
