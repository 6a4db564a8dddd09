package diff

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/ovf"
)

const base = `<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">
  <References><File ovf:id="f" ovf:href="a.vmdk"/></References>
  <DiskSection><Info>Disks</Info><Disk ovf:diskId="d" ovf:fileRef="f" ovf:capacity="2" ovf:capacityAllocationUnits="byte * 2^30"/></DiskSection>
  <NetworkSection><Info/><Network ovf:name="LAN"/></NetworkSection>
  <VirtualSystem ovf:id="vm"><Info>A</Info><Name>One</Name>
    <ProductSection><Info/><Product>P</Product>
      <Property ovf:key="a" ovf:type="string" ovf:value="1"/>
      <Property ovf:key="secret" ovf:type="string" ovf:password="true" ovf:value="hunter2"/>
    </ProductSection>
    <VirtualHardwareSection><Info/>
      <Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:ElementName>M</rasd:ElementName><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>1024</rasd:VirtualQuantity></Item>
      <Item><rasd:Connection>LAN</rasd:Connection><rasd:ElementName>N</rasd:ElementName><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>10</rasd:ResourceType></Item>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>`

func parse(t testing.TB, text string) *ovf.Document {
	t.Helper()
	doc, err := ovf.Parse([]byte(text), ovf.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestDescriptors(t *testing.T) {
	for _, c := range []struct {
		name     string
		old, new string
		want     []string
	}{
		{"nothing", "", "", nil},
		{"units", `ovf:capacity="2" ovf:capacityAllocationUnits="byte * 2^30"`, `ovf:capacity="2147483648"`, nil},
		{"units of memory", "byte * 2^20</rasd:AllocationUnits><rasd:ElementName>M</rasd:ElementName><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>1024<", "byte * 2^30</rasd:AllocationUnits><rasd:ElementName>M</rasd:ElementName><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>1<", nil},
		{"order", `<References><File ovf:id="f" ovf:href="a.vmdk"/></References>`, `<References><File ovf:href="a.vmdk" ovf:id="f"/></References>`, nil},
		{"info", "<Info>A</Info>", "<Info>B</Info>", nil},
		{"name", "One", "Two", []string{"changed machine.name One Two"}},
		{"memory", ">1024<", ">2048<", []string{"changed machine.hardware[0].devices[1].quantity 1073741824 2147483648"}},
		{"network", `ovf:name="LAN"/>`, `ovf:name="LAN"/><Network ovf:name="WAN"/>`, []string{"added networks[WAN]  name WAN"}},
		{"property", `value="1"`, `value="2"`, []string{"changed machine.products[0].properties[a].default 1 2"}},
		{"password", "hunter2", "hunter3", []string{"changed machine.products[0].properties[secret].default (not shown) (not shown)"}},
		{"password in XML", `<Product>P</Product>`, `<Product>P</Product><Product>Q</Product>`, []string{"removed machine.products[0] (not shown) ", "added machine.xml[0]  (not shown)"}},
		{"card", "<Item><rasd:Connection>LAN</rasd:Connection><rasd:ElementName>N</rasd:ElementName><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>10</rasd:ResourceType></Item>", "", []string{"removed machine.hardware[0].devices[2] type ethernet, id 2, name N, networks LAN "}},
		{"section", "<VirtualHardwareSection>", `<x:S xmlns:x="urn:x"><Info/></x:S><VirtualHardwareSection>`, []string{`added machine.xml[0]  <x:S xmlns:x="urn:x"><Info/></x:S>`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(base, c.old) {
				t.Fatal("the test changes nothing")
			}
			changes, err := Descriptors(parse(t, base), parse(t, strings.Replace(base, c.old, c.new, 1)), Options{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, x := range changes {
				got = append(got, string(x.Kind)+" "+x.Path+" "+x.Old+" "+x.New)
			}
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
				t.Errorf("got %q; want %q", got, c.want)
			}
		})
	}
}

func TestAll(t *testing.T) {
	changes, err := Descriptors(parse(t, base), parse(t, strings.Replace(base, "<Info>A</Info>", "<Info>B</Info>", 1)), Options{All: true})
	if err != nil || len(changes) != 1 || changes[0].Path != "machine.info" {
		t.Errorf("%v, %v", changes, err)
	}
}

// TestCorpus compares other products' descriptors with themselves and with each
// other.
func TestCorpus(t *testing.T) {
	files, err := filepath.Glob("../../../shared/corpus/descriptors/plain/*.ovf")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skip("the reference descriptors are not at ../../../shared/corpus")
	}
	var before *ovf.Document
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := ovf.Parse(data, ovf.ParseOptions{})
		if err != nil || doc.Envelope().Content == nil {
			continue
		}
		if changes, err := Descriptors(doc, doc, Options{All: true}); err != nil || len(changes) > 0 {
			t.Errorf("%s differs from itself: %v, %v", file, changes, err)
		}
		if before != nil {
			if _, err := Descriptors(before, doc, Options{}); err != nil {
				t.Error(err)
			}
		}
		before = doc
	}
}
