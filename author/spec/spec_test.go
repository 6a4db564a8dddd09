package spec

import (
	"bytes"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

const small = `
disks:
  - {id: system, capacity: 1GiB}
networks: [VM Network]
machine:
  id: vm
  hardware: {cpus: 1, memory: 1GiB, disks: [system], cards: [VM Network]}
`

func TestParse(t *testing.T) {
	a, err := Parse("a.yaml", []byte(small))
	if err != nil {
		t.Fatal(err)
	}
	h := a.Machine.Hardware[0]
	if h.Memory != 1<<30 || h.Disks[0].Disk != "system" || h.Cards[0].Network != "VM Network" || a.Networks[0].Name != "VM Network" {
		t.Errorf("read as %+v", a)
	}
	if at := a.Disks[0].Pos; at != (Pos{3, 5}) {
		t.Errorf("the disk is at %v", at)
	}
}

func TestAlias(t *testing.T) {
	a, err := Parse("a.yaml", []byte("machine:\n  id: &x vm\n  name: *x\n"))
	if err != nil || a.Machine.Name.Text != "vm" {
		t.Errorf("%v, %+v", err, a)
	}
}

// TestErrors wants the place, and a word on what to do.
func TestErrors(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "a.yaml:1:1: the file is empty: 'ovation new' writes one"},
		{"list", "- a\n", "a.yaml:1:1: a mapping of keys is expected"},
		{"no YAML", "machine: [\n", "a.yaml:"},
		{"no machine", "name: x\n", "needs one of the keys machine and collection"},
		{"unknown key", "machine:\n  id: x\n  hardwear: {}\n", `a.yaml:3:3: unknown key "hardwear" in machine; did you mean hardware?`},
		{"unlike any key", "machine:\n  id: x\n  zzzzzzzz: 1\n", `a.yaml:3:3: unknown key "zzzzzzzz" in machine; known are id, name`},
		{"missing key", "machine:\n  name: x\n", "a.yaml:2:3: machine needs the key id"},
		{"twice", "machine:\n  id: x\n  id: y\n", "line 2"},
		{"null", "machine:\n  id: x\n  name:\n", "a.yaml:3:3: machine.name is empty"},
		{"size", "machine:\n  id: x\n  hardware:\n    memory: much\n", `a.yaml:4:13: machine.hardware.memory: "much" is not a size`},
		{"memory without unit", "machine:\n  id: x\n  hardware:\n    memory: 4096\n", "a.yaml:4:5: 4096 bytes of memory are less than any machine has: give a unit, such as 4096MiB"},
		{"number", "machine:\n  id: x\n  hardware:\n    cpus: two\n", `a.yaml:4:11: machine.hardware.cpus is a whole number, not "two"`},
		{"negative", "machine:\n  id: x\n  hardware:\n    cpus: -2\n", `a.yaml:4:11: machine.hardware.cpus is a whole number, not "-2"`},
		{"boolean", "machine:\n  id: x\n  hardware:\n    secureBoot: maybe\n", `a.yaml:4:17: machine.hardware.secureBoot is true or false, not "maybe"`},
		{"enum", "machine:\n  id: x\n  hardware:\n    firmware: uefi\n", `firmware is bios, efi, not "uefi"; did you mean efi?`},
		{"list for text", "machine:\n  id: [a]\n", "a.yaml:2:7: machine.id is text, not a list"},
		{"unknown disk", "machine:\n  id: x\n  hardware:\n    disks: [sytem]\ndisks:\n  - {id: system, capacity: 1GiB}\n", `there is no disk "sytem"; did you mean system?`},
		{"unknown network", "machine:\n  id: x\n  hardware:\n    cards:\n      - LAN\n", `there is no network "LAN"; add it to the key networks`},
		{"disk without", "machine: {id: x}\ndisks:\n  - id: a\n", `a.yaml:3:5: disk "a" needs a source, or the capacity`},
		{"two disks", "machine: {id: x}\ndisks:\n  - {id: a, capacity: 1GiB}\n  - {id: a, capacity: 1GiB}\n", `a.yaml:4:5: there are two disks called "a"`},
		{"device", "machine:\n  id: x\n  hardware:\n    devices:\n      - type: etherenet\n", `a.yaml:5:9: unknown type of device "etherenet"; did you mean ethernet?`},
		{"contents of a machine", "machine:\n  id: x\n  contents:\n    - machine: {id: y}\n", "only a collection has; write collection for machine"},
		{"both", "machine: {id: x}\ncollection: {id: y}\n", "needs one of the keys"},
		{"circle", "machine: &a\n  id: x\n  contents:\n    - machine: *a\n", "a.yaml:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("a.yaml", []byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v; want %s", err, c.want)
			}
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%v is no ErrInvalid", err)
			}
		})
	}
}

// TestAllErrors wants every error at once, in the order of the file.
func TestAllErrors(t *testing.T) {
	_, err := Parse("a.yaml", []byte("nmae: x\nmachine:\n  id: x\n  nam: y\n"))
	var all Errors
	if !errors.As(err, &all) || len(all) != 2 || all[0].Pos.Line != 1 || all[1].Pos.Line != 4 {
		t.Errorf("got %v", err)
	}
}

// TestBomb wants an end of a small file whose aliases make much.
func TestBomb(t *testing.T) {
	var b strings.Builder
	b.WriteString("machine: {id: x}\nxml: &a0 [a, a, a, a, a, a, a, a, a, a]\n")
	b.WriteString("files:\n  - &f0 {id: a, name: b, attributes: &l0 [{name: a}]}\n")
	for i := range 12 {
		b.WriteString("  - {id: f" + string(rune('a'+i)) + ", name: x, attributes: [")
		for range 2000 {
			b.WriteString("{name: a},")
		}
		b.WriteString("]}\n")
	}
	if _, err := Parse("a.yaml", []byte(b.String())); err != nil && !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	if _, err := Parse("a.yaml", make([]byte, MaxSize+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Error(err)
	}
}

func TestTemplate(t *testing.T) {
	for _, name := range []string{"appliance", "Web: 1 #x", "42", `a"b`, "true story"} {
		a, err := Parse("a.yaml", Template(name, "disk.qcow2"))
		if err != nil || a.Name != name || a.Disks[0].Source != "disk.qcow2" {
			t.Errorf("%q: %v, %+v", name, err, a)
		}
	}
}

// uncommented is the template with everything in it.
func uncommented() []byte {
	var lines []string
	for line := range strings.Lines(string(Template("x", "d"))) {
		body := strings.TrimLeft(line, " ")
		indent := line[:len(line)-len(body)]
		if rest, ok := strings.CutPrefix(body, "# "); ok && (strings.Contains(rest, ":") || strings.HasPrefix(strings.TrimSpace(rest), "- ")) && !strings.Contains(rest, " $schema=") && !strings.HasSuffix(strings.TrimSpace(rest), ":\n") {
			word, _, _ := strings.Cut(strings.TrimLeft(rest, "- "), ":")
			if !strings.Contains(word, " ") {
				line = indent + rest
			}
		}
		lines = append(lines, line)
	}
	return []byte(strings.Join(lines, ""))
}

func TestTemplateExamples(t *testing.T) {
	if _, err := Parse("a.yaml", uncommented()); err != nil {
		t.Errorf("%v\n%s", err, uncommented())
	}
}

// generator makes any value of a type that a specification can have.
func generator(t *rapid.T, v reflect.Value, depth int) {
	some := rapid.StringMatching(`[ -~äß€\n]{0,12}`)
	switch typ := v.Type(); {
	case typ == typePos:
	case typ == typeRaw:
		if s := strings.TrimSpace(some.Draw(t, "xml")); s != "" {
			v.Set(reflect.ValueOf(RawXML{Text: s}))
		}
	case typ.Kind() == reflect.String:
		v.SetString(some.Draw(t, "text"))
	case typ.Kind() == reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case typ.Kind() == reflect.Int, typ.Kind() == reflect.Int64:
		v.SetInt(rapid.Int64Range(0, 1<<31-1).Draw(t, "number"))
	case typ.Kind() == reflect.Pointer:
		if depth < 6 && rapid.Bool().Draw(t, "there") {
			v.Set(reflect.New(typ.Elem()))
			generator(t, v.Elem(), depth+1)
		}
	case typ.Kind() == reflect.Slice:
		if depth > 6 {
			return
		}
		for range rapid.IntRange(0, 2).Draw(t, "n") {
			one := reflect.New(typ.Elem()).Elem()
			generator(t, one, depth+1)
			v.Set(reflect.Append(v, one))
		}
	case typ.Kind() == reflect.Struct:
		for f := range fields(typ) {
			if rapid.IntRange(0, 3).Draw(t, "field") == 0 {
				generator(t, v.FieldByIndex(f.Index), depth+1)
			}
			if enum := f.Tag.Get("enum"); enum != "" {
				v.FieldByIndex(f.Index).SetString(rapid.SampledFrom(strings.Split(enum, "|")).Draw(t, "enum"))
			}
		}
	}
}

// TestMarshal writes any specification and reads it again.
// TestMarshalOfHiddenCharacters writes texts in which characters turn the
// direction of writing, or are not seen: they are spelled out, and read again.
func TestMarshalOfHiddenCharacters(t *testing.T) {
	want := "a\u202eb\n\u2066c\U000e0041 \"d\" \\U"
	a := &Appliance{Machine: &Content{ID: "m", Info: Text{Text: want}}}
	text, err := a.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.ContainsFunc(text, hidden) {
		t.Errorf("%q", text)
	}
	again, err := Parse("x", text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if got := again.Machine.Info.Text; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMarshalIsBounded(t *testing.T) {
	a := &Appliance{Machine: &Content{ID: "m"}}
	for range maxValues / 3 {
		a.Files = append(a.Files, File{Source: "f"})
	}
	if _, err := a.Marshal(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

func TestMarshal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a Appliance
		generator(t, reflect.ValueOf(&a).Elem(), 0)
		text, err := a.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		d := &decoder{file: "a.yaml"}
		root, err := d.load(text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		var b Appliance
		d.value(root, reflect.ValueOf(&b).Elem(), "", 0)
		if err := d.err(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		equal := cmp.Options{cmpopts.EquateEmpty(), cmpopts.IgnoreTypes(Pos{})}
		if diff := cmp.Diff(a, b, equal); diff != "" {
			t.Fatalf("%s\n%s", diff, text)
		}
	})
}

func TestSchemaFile(t *testing.T) {
	want, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	same(t, "../../docs/appliance.schema.json", string(want))
}

func TestKeysFile(t *testing.T) {
	const path = "../../docs/spec.md"
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const begin = "## All keys\n\n"
	head, _, _ := strings.Cut(string(have), begin)
	var b strings.Builder
	if err := WriteKeys(&b); err != nil {
		t.Fatal(err)
	}
	same(t, path, head+begin+strings.TrimRight(b.String(), "\n")+"\n")
}

// same compares a file of the documentation with what the code says. With
// UPDATE_DOCS set it is written.
func same(t *testing.T, path, want string) {
	t.Helper()
	have, err := os.ReadFile(path)
	if err == nil && string(have) == want {
		return
	}
	if os.Getenv("UPDATE_DOCS") == "" {
		t.Fatalf("%s is stale: run 'go generate ./author/...'", path)
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(small))
	f.Add(Template("x", "y"))
	f.Add([]byte("machine: &a\n  id: x\n  contents:\n    - machine: *a\n"))
	f.Add([]byte("collection: {id: a, contents: [{machine: {id: b, xml: ['<a/>']}}]}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := Parse("a.yaml", data)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("%v is no ErrInvalid", err)
			}
			return
		}
		text, err := a.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		b, err := Parse("b.yaml", text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if diff := cmp.Diff(a, b, cmpopts.EquateEmpty(), cmpopts.IgnoreTypes(Pos{})); diff != "" {
			t.Fatalf("%s\n%s", diff, text)
		}
	})
}
