package plan_test

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ovation-project/ovation/deploy/lifecycle"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/hypervisor"
	ours "github.com/ovation-project/ovation/internal/jsonschema"
)

const schemaFile = "../../docs/plan.schema.json"

//go:generate env UPDATE_DOCS=1 go test -run TestSchema .

// TestSchema compares the schema that is published with the types. With
// UPDATE_DOCS set it is written.
func TestSchema(t *testing.T) {
	want, err := ours.Of(reflect.TypeFor[plan.Plan](), ours.Options{
		ID:    "https://raw.githubusercontent.com/ovation-project/ovation/main/docs/plan.schema.json",
		Title: "Deployment plan of ovation deploy --dry-run --json (" + plan.APIVersion + ")",
		Raw:   map[string]reflect.Type{"hypervisor.Record.Data": reflect.TypeFor[lifecycle.Data]()},
		Root:  "../..", Module: "github.com/ovation-project/ovation",
	})
	if err != nil {
		t.Fatal(err)
	}
	if have, err := os.ReadFile(schemaFile); err == nil && bytes.Equal(have, want) {
		return
	}
	if os.Getenv("UPDATE_DOCS") == "" {
		t.Fatalf("%s is stale: run 'go generate ./deploy/plan'", schemaFile)
	}
	if err := os.WriteFile(schemaFile, want, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestPlansAreOfTheSchema fills plans with whatever the types can hold.
func TestPlansAreOfTheSchema(t *testing.T) {
	schema, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		var p plan.Plan
		fill(t, reflect.ValueOf(&p).Elem(), 0)
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := ours.Check(schema, text); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
	})
}

// fill gives a value something in every place, or in some.
func fill(t *rapid.T, v reflect.Value, depth int) {
	words := map[reflect.Type][]string{
		reflect.TypeFor[plan.Action]():                {string(plan.Define), string(plan.Import), string(plan.Start)},
		reflect.TypeFor[hypervisor.Provisioning]():    {"", string(hypervisor.Thin)},
		reflect.TypeFor[plan.Content]():               {string(plan.Disk), string(plan.Environment)},
		reflect.TypeFor[hypervisor.Chipset]():         {"", string(hypervisor.Q35)},
		reflect.TypeFor[hypervisor.FirmwareKind]():    {string(hypervisor.UEFI)},
		reflect.TypeFor[hypervisor.ControllerModel](): {string(hypervisor.NVMe)},
		reflect.TypeFor[hypervisor.DriveKind]():       {string(hypervisor.CDROM)},
		reflect.TypeFor[hypervisor.NICModel]():        {string(hypervisor.VMXNET3)},
		reflect.TypeFor[lifecycle.StopAction]():       {"", string(lifecycle.PowerOff)},
	}
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(rapid.Int64Range(0, 1<<32).Draw(t, "time"), 0).UTC()))
	case v.Type() == reflect.TypeFor[netip.Addr]():
		v.Set(reflect.ValueOf(netip.IPv6Loopback()))
	case v.Type() == reflect.TypeFor[json.RawMessage]():
		var data lifecycle.Data
		fill(t, reflect.ValueOf(&data.Start).Elem(), depth)
		fill(t, reflect.ValueOf(&data.Stop).Elem(), depth)
		fill(t, reflect.ValueOf(&data.Volumes).Elem(), depth)
		fill(t, reflect.ValueOf(&data.Accepted).Elem(), depth)
		raw, err := json.Marshal(data)
		if err != nil {
			t.Fatal(err)
		}
		v.SetBytes(raw)
	case words[v.Type()] != nil:
		v.SetString(rapid.SampledFrom(words[v.Type()]).Draw(t, "word"))
	case v.Kind() == reflect.String:
		v.SetString(rapid.SampledFrom([]string{"", "x", "Größe"}).Draw(t, "text"))
	case v.Kind() == reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case v.CanInt():
		v.SetInt(rapid.Int64Range(0, 1<<30).Draw(t, "number"))
	case v.CanUint():
		v.SetUint(rapid.Uint64Range(0, 1000).Draw(t, "number"))
	case v.Kind() == reflect.Pointer:
		if depth < 8 && rapid.Bool().Draw(t, "there") {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem(), depth+1)
		}
	case v.Kind() == reflect.Slice:
		for range rapid.IntRange(0, 2).Draw(t, "n") {
			one := reflect.New(v.Type().Elem()).Elem()
			fill(t, one, depth+1)
			v.Set(reflect.Append(v, one))
		}
	case v.Kind() == reflect.Struct:
		for _, f := range reflect.VisibleFields(v.Type()) {
			if len(f.Index) == 1 && f.IsExported() {
				fill(t, v.FieldByIndex(f.Index), depth+1)
			}
		}
	}
}
