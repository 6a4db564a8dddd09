package ovfenv_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ovation-project/ovation/ovf"
	"github.com/ovation-project/ovation/ovf/ovfenv"
)

const pair = `<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <VirtualSystemCollection ovf:id="app"><Info/>
    <ProductSection ovf:class="org" ovf:instance="1"><Info/>
      <Property ovf:key="a" ovf:type="string" ovf:value="1"/>
      <Property ovf:key="b" ovf:type="string" ovf:value="2"/>
    </ProductSection>
    <VirtualSystem ovf:id="web"><Info/><ProductSection ovf:class="org" ovf:instance="1"><Info/>
      <Property ovf:key="b" ovf:type="string" ovf:value="own &lt;"/></ProductSection></VirtualSystem>
    <VirtualSystem ovf:id="db"><Info/><ProductSection><Info/>
      <Property ovf:key="port" ovf:type="uint16" ovf:value="5432"/>
      <Property ovf:key="pw" ovf:type="string" ovf:password="true" ovf:value="hunter2"/></ProductSection></VirtualSystem>
  </VirtualSystemCollection>
</Envelope>`

func TestBuild(t *testing.T) {
	d, err := ovf.Parse([]byte(pair), ovf.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := ovf.Resolve(d.Envelope(), ovf.ResolveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got := ovfenv.Build(r, r.Systems[0], &ovfenv.Platform{Kind: "QEMU"})
	want := &ovfenv.Environment{
		ID: "web", Platform: &ovfenv.Platform{Kind: "QEMU"},
		Properties: []ovfenv.Property{{Key: "org.b.1", Value: "own <"}, {Key: "org.a.1", Value: "1"}},
		Entities:   []ovfenv.Entity{{ID: "db", Properties: []ovfenv.Property{{Key: "port", Value: "5432"}}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	again, err := ovfenv.Parse(got.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, again); diff != "" {
		t.Errorf("written and read (-want +got):\n%s", diff)
	}
}

func TestWrittenAndReadIsTheSame(t *testing.T) {
	text := rapid.StringOf(rapid.RuneFrom([]rune("aé<>&\"'\t\n\r \U0001f600")))
	rapid.Check(t, func(t *rapid.T) {
		e := &ovfenv.Environment{ID: text.Draw(t, "id")}
		for range rapid.IntRange(0, 3).Draw(t, "n") {
			e.Properties = append(e.Properties, ovfenv.Property{Key: text.Draw(t, "key"), Value: text.Draw(t, "value")})
		}
		got, err := ovfenv.Parse(e.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(e, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add((&ovfenv.Environment{ID: "a", Platform: &ovfenv.Platform{Kind: "k"}, Properties: []ovfenv.Property{{Key: "k", Value: "v"}}}).Marshal())
	f.Add([]byte("<Environment/>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := ovfenv.Parse(data)
		if err != nil {
			if !errors.Is(err, ovfenv.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		if _, err := ovfenv.Parse(e.Marshal()); err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
	})
}

func ExampleEnvironment_Marshal() {
	e := &ovfenv.Environment{ID: "web", Properties: []ovfenv.Property{{Key: "hostname", Value: "www"}}}
	doc := e.Marshal()
	fmt.Println(bytes.Contains(doc, []byte(`<Property oe:key="hostname" oe:value="www"/>`)))
	// Output: true
}

func ExampleBuild() {
	doc, err := ovf.Parse([]byte(pair), ovf.ParseOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := ovf.Resolve(doc.Envelope(), ovf.ResolveOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(ovfenv.Build(r, r.Systems[0], &ovfenv.Platform{Kind: "QEMU", Locale: "en_US"}).Marshal()))
	// Output:
	// <?xml version="1.0" encoding="UTF-8"?>
	// <Environment xmlns="http://schemas.dmtf.org/ovf/environment/1" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:oe="http://schemas.dmtf.org/ovf/environment/1" oe:id="web">
	//   <PlatformSection>
	//     <Kind>QEMU</Kind>
	//     <Locale>en_US</Locale>
	//   </PlatformSection>
	//   <PropertySection>
	//     <Property oe:key="org.b.1" oe:value="own &lt;"/>
	//     <Property oe:key="org.a.1" oe:value="1"/>
	//   </PropertySection>
	//   <Entity oe:id="db">
	//     <PropertySection>
	//       <Property oe:key="port" oe:value="5432"/>
	//     </PropertySection>
	//   </Entity>
	// </Environment>
}
