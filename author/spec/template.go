package spec

import (
	_ "embed"
	"strings"
)

//go:embed template.yaml
var template string

// Template gives a commented specification to begin with, for an appliance of
// this name whose first disk is made from an image.
func Template(name, disk string) []byte {
	quote := func(s string) string {
		if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./") == "" && s != "" && strings.Trim(s, "0123456789.-") != "" && s[0] != '-' {
			return s
		}
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(s) + `"`
	}
	return []byte(strings.NewReplacer("SCHEMA", SchemaID, "NAME", quote(name), "DISK", quote(disk)).Replace(template))
}
