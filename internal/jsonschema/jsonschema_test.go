package jsonschema

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

// Colour is a word.
type Colour string

// The colours.
const (
	Red  Colour = "red"
	Blue Colour = "blue"
)

type inner struct {
	// N counts.
	N int `json:"n"`
}

// Thing is one.
type Thing struct {
	inner2
	At    time.Time       `json:"at"`
	Of    Colour          `json:"of"`
	List  []inner         `json:"list"`
	Maybe *Thing          `json:"maybe,omitempty"`
	Bytes []byte          `json:"bytes,omitempty"`
	Map   map[string]bool `json:"map,omitempty"`
	Raw   json.RawMessage `json:"raw,omitempty"`
	Addr  netip.Addr      `json:"addr,omitzero"`
	No    string          `json:"-"`
	Plain float64
}

type inner2 struct {
	Embedded uint8 `json:"embedded"`
}

func TestOf(t *testing.T) {
	schema, err := Of(reflect.TypeFor[Thing](), Options{ID: "https://example.org/x", Title: "X", Root: "../..", Module: "github.com/ovation-project/ovation",
		Raw: map[string]reflect.Type{"jsonschema.Thing.Raw": reflect.TypeFor[inner]()}})
	if err != nil {
		t.Fatal(err)
	}
	good := Thing{At: time.Now(), Of: Red, Maybe: &Thing{Of: Blue, List: []inner{{1}}}, Bytes: []byte("x"), Map: map[string]bool{"a": true}, Raw: []byte(`{"n":1}`), Addr: netip.IPv6Loopback()}
	text, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(schema, text); err != nil {
		t.Errorf("%v\n%s\n%s", err, text, schema)
	}
	const least = `{"embedded":1,"at":"2026-01-01T00:00:00Z","of":"red","list":null,"Plain":1}`
	if err := Check(schema, []byte(least)); err != nil {
		t.Error(err)
	}
	for _, change := range [][2]string{{`"embedded":1,`, ``}, {`"embedded":1`, `"embedded":-1`}, {`2026-01-01T00:00:00Z`, `today`}, {`null`, `[{"n":"x"}]`}, {`null`, `[{}]`},
		{`"Plain":1`, `"Plain":1,"other":1`}, {`"Plain":1`, `"Plain":1,"map":{"a":1}`}, {`"Plain":1`, `"Plain":1,"raw":{"n":1,"m":1}`}} {
		if bad := strings.Replace(least, change[0], change[1], 1); Check(schema, []byte(bad)) == nil {
			t.Errorf("it is said to be right: %s", bad)
		}
	}
}
