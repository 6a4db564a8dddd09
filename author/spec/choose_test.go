package spec

import (
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	text := `
options: [{id: small}, {id: large, default: true}]
disks:
  - {id: system, capacity: 1GiB}
  - {id: base, capacity: 1GiB}
  - {id: data, capacity: 1GiB, parent: base}
networks: [n, m]
machine:
  id: vm
  hardware:
    cpus: 1
    memory: 1GiB
    perOption: [{option: large, memory: 8GiB}, {option: small, cpus: 2}]
    disks: [system, {disk: data, options: large}]
    cards: [{network: n}, {network: m, options: [small]}]
    devices:
      - {type: graphics, id: "9", quantity: "4", units: byte * 2^20, name: G}
      - {type: graphics, id: "9", quantity: "64", options: large}
      - {type: sound, id: "10", options: small}
  products:
    - properties:
        - {key: a, default: x, values: [{option: large, value: "y"}]}
        - {key: b, options: small}
        - {key: c, options: [small, large]}
`
	type chosen struct {
		CPUs                                    int
		Memory                                  Size
		Disks, Cards, Devices, Properties, Kept string
	}
	for option, want := range map[string]chosen{
		"large": {1, 8 << 30, "system data", "n", "graphics/64/byte * 2^20/G", "a=y c", "system base data"},
		"small": {2, 1 << 30, "system", "n m", "graphics/4/byte * 2^20/G sound///", "a=x b c", "system"},
	} {
		a, err := Parse("a.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if d := a.DefaultOption(); d != "large" {
			t.Errorf("the default option is %q", d)
		}
		a.Choose(option)
		h := a.Machine.Hardware[0]
		got := chosen{CPUs: h.CPUs, Memory: h.Memory}
		add := func(to *string, s string) { *to = strings.TrimSpace(*to + " " + s) }
		for _, d := range h.Disks {
			add(&got.Disks, d.Disk)
		}
		for _, c := range h.Cards {
			add(&got.Cards, c.Network)
		}
		for _, d := range h.Devices {
			name := ""
			if d.Name != nil {
				name = *d.Name
			}
			add(&got.Devices, strings.Join([]string{d.Type, d.Quantity, d.Units, name}, "/"))
			if len(d.Options) > 0 {
				t.Errorf("%s is still for %v", d.Type, d.Options)
			}
		}
		for _, p := range a.Machine.Products[0].Properties {
			value := p.Key
			if p.Default != nil {
				value += "=" + *p.Default
			}
			add(&got.Properties, value)
		}
		for _, d := range a.Disks {
			add(&got.Kept, d.ID)
		}
		if got != want {
			t.Errorf("%s: got %+v; want %+v", option, got, want)
		}
		if a.Options != nil || h.Per != nil {
			t.Errorf("%s: options are left: %+v", option, h)
		}
	}
}
