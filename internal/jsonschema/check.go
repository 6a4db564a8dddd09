package jsonschema

import (
	"bytes"
	"encoding/json"
	"fmt"

	validator "github.com/santhosh-tekuri/jsonschema/v6"
)

// Check says where a document is not what a schema that Of made describes. It is
// stricter than the schema: nothing may be there that it does not tell of.
func Check(schema, document []byte) error {
	var s map[string]any
	if err := json.Unmarshal(schema, &s); err != nil {
		return fmt.Errorf("the schema: %w", err)
	}
	defs, _ := s["$defs"].(map[string]any)
	for _, d := range defs {
		if def, ok := d.(map[string]any); ok && def["properties"] != nil {
			def["additionalProperties"] = false
		}
	}
	const url = "schema.json"
	delete(s, "$id")
	c := validator.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(url, s); err != nil {
		return fmt.Errorf("the schema: %w", err)
	}
	compiled, err := c.Compile(url)
	if err != nil {
		return fmt.Errorf("the schema: %w", err)
	}
	d, err := validator.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		return err
	}
	return compiled.Validate(d)
}
