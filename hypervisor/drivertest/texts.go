package drivertest

import (
	"fmt"
	"reflect"

	"github.com/ovation-project/ovation/hypervisor"
)

// Hostile are texts that would be more than a value where they are not quoted: in
// XML, in JSON, in QEMU's options, in paths, on terminals.
func Hostile() []string {
	return []string{
		`"/><disk type='file'/>`, "]]><x/>", "<!--", "&amp;&#0;", "</name><on_poweroff>", "<?x?>",
		`","driver":"vvfat`, "x,readonly=off", ",,", "-monitor stdio", "x\n-drive file=/etc/passwd", "on,id=x,fd=3",
		"../../etc/passwd", "/etc/passwd", "json:{}", "nbd://127.0.0.1", "a\x00b", "\xff\xfe", "\ufffe", "\x1b[2J\u009b\u202e",
	}
}

// Texts gives every text of a machine that is not empty: where it stands, and how
// another is put in its place.
func Texts(m *hypervisor.Machine) map[string]func(string) {
	found := map[string]func(string){}
	var walk func(at string, v reflect.Value)
	walk = func(at string, v reflect.Value) {
		switch v.Kind() {
		case reflect.String:
			if v.Len() > 0 {
				found[at] = v.SetString
			}
		case reflect.Pointer:
			if !v.IsNil() {
				walk(at, v.Elem())
			}
		case reflect.Struct:
			for i := range v.NumField() {
				if f := v.Type().Field(i); f.IsExported() {
					walk(at+"."+f.Name, v.Field(i))
				}
			}
		case reflect.Slice:
			for i := range v.Len() {
				walk(fmt.Sprintf("%s[%d]", at, i), v.Index(i))
			}
		}
	}
	walk("", reflect.ValueOf(m).Elem())
	return found
}
