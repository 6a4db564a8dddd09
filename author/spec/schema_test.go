package spec

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

// compiled is the schema as it is published.
func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := os.ReadFile("../../docs/appliance.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(SchemaID, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(SchemaID)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSchema has somebody else's reader of JSON schemas say the same of
// specifications as Parse does: what is right is right, and what an editor can
// see to be wrong is wrong.
func TestSchema(t *testing.T) {
	s := compiled(t)
	valid := func(text []byte) error {
		var v any
		if err := yaml.Unmarshal(text, &v); err != nil {
			t.Fatal(err)
		}
		return s.Validate(v)
	}
	good := map[string][]byte{"small": []byte(small), "template": Template("x", "d.qcow2"), "whole template": uncommented()}
	files, err := filepath.Glob("../build/testdata/*.yaml")
	if err != nil || len(files) < 2 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		if good[file], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	doc, err := os.ReadFile("../../docs/build.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(doc), "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	good["docs/build.md"] = []byte(example)
	for name, text := range good {
		if _, err := Parse(name, text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := valid(text); err != nil {
			t.Errorf("%s: the schema says %v", name, err)
		}
		// What ovation spec writes is valid too.
		a, err := Parse(name, text)
		if err != nil {
			continue
		}
		again, err := a.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if err := valid(again); err != nil {
			t.Errorf("%s, written: the schema says %v\n%s", name, err, again)
		}
	}
	for name, text := range map[string]string{
		"unknown key":      "machine: {id: x, hardwear: {}}\n",
		"missing key":      "machine: {name: x}\n",
		"enum":             "machine: {id: x, hardware: {firmware: uefi}}\n",
		"version":          "version: 3\nmachine: {id: x}\n",
		"size":             "machine: {id: x, hardware: {memory: much}}\n",
		"negative":         "machine: {id: x, hardware: {cpus: -1}}\n",
		"boolean":          "machine: {id: x, hardware: {secureBoot: maybe}}\n",
		"list for mapping": "machine: [a]\n",
		"mapping for text": "machine: {id: {a: b}}\n",
		"device":           "machine: {id: x, hardware: {devices: [{id: '1'}]}}\n",
	} {
		if _, err := Parse(name, []byte(text)); err == nil {
			t.Errorf("%s: Parse takes it", name)
		}
		if err := valid([]byte(text)); err == nil {
			t.Errorf("%s: the schema takes it", name)
		}
	}
}
