package edit

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/ovf"
)

const two = `<?xml version="1.0"?>
<!-- kept -->
<ovf:Envelope xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:r="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:v="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
  <ovf:References>
    <ovf:File ovf:id='f1' ovf:href="one.vmdk"/>
    <ovf:File ovf:id="f2" ovf:href="two.vmdk"/>
    <ovf:File ovf:id="icon" ovf:href="icon.png"/>
  </ovf:References>
  <ovf:DiskSection>
    <ovf:Info>Disks</ovf:Info>
    <ovf:Disk ovf:diskId="one" ovf:fileRef="f1" ovf:capacity="1024"/>
    <ovf:Disk ovf:diskId="two" ovf:fileRef="f2" ovf:capacity="1024"/>
  </ovf:DiskSection>
  <ovf:NetworkSection>
    <ovf:Info>Networks</ovf:Info>
    <ovf:Network ovf:name="LAN"/>
  </ovf:NetworkSection>
  <ovf:VirtualSystemCollection ovf:id="all">
    <ovf:Info>All</ovf:Info>
    <ovf:StartupSection>
      <ovf:Info>Order</ovf:Info>
      <ovf:Item ovf:id="a" ovf:order="1"/>
      <ovf:Item ovf:id="b" ovf:order="2"/>
    </ovf:StartupSection>
    <ovf:VirtualSystem ovf:id="a">
      <ovf:Info>A</ovf:Info>
      <ovf:ProductSection ovf:class="org">
        <ovf:Info>P</ovf:Info>
        <ovf:Product>Old</ovf:Product>
        <ovf:Icon ovf:fileRef="icon"/>
        <ovf:Property ovf:key="name" ovf:type="string" ovf:value="x" ovf:qualifiers="MaxLen(3)"/>
      </ovf:ProductSection>
      <ovf:VirtualHardwareSection>
        <ovf:Info>HW</ovf:Info>
        <ovf:System><v:ElementName>HW</v:ElementName><v:InstanceID>0</v:InstanceID><v:VirtualSystemType>vmx-10</v:VirtualSystemType></ovf:System>
        <ovf:Item><r:ElementName>2 virtual CPU(s)</r:ElementName><r:InstanceID>1</r:InstanceID><r:ResourceType>3</r:ResourceType><r:VirtualQuantity>2</r:VirtualQuantity></ovf:Item>
        <ovf:Item><r:AllocationUnits>byte * 2^30</r:AllocationUnits><r:ElementName>4GB</r:ElementName><r:InstanceID>2</r:InstanceID><r:ResourceType>4</r:ResourceType><r:VirtualQuantity>4</r:VirtualQuantity></ovf:Item>
        <ovf:Item><r:InstanceID>3</r:InstanceID><r:ElementName>SCSI</r:ElementName><r:ResourceType>6</r:ResourceType></ovf:Item>
        <ovf:Item><r:AddressOnParent>6</r:AddressOnParent><r:ElementName>D</r:ElementName><r:HostResource>ovf:/disk/one</r:HostResource><r:InstanceID>4</r:InstanceID><r:Parent>3</r:Parent><r:ResourceType>17</r:ResourceType></ovf:Item>
        <ovf:Item><r:Connection>LAN</r:Connection><r:ElementName>N</r:ElementName><r:InstanceID>5</r:InstanceID><r:ResourceType>10</r:ResourceType></ovf:Item>
      </ovf:VirtualHardwareSection>
    </ovf:VirtualSystem>
    <ovf:VirtualSystem ovf:id="b">
      <ovf:Info>B</ovf:Info>
      <ovf:VirtualHardwareSection>
        <ovf:Info>HW</ovf:Info>
        <ovf:Item><r:HostResource>ovf:/disk/two</r:HostResource><r:ElementName>D</r:ElementName><r:InstanceID>1</r:InstanceID><r:ResourceType>17</r:ResourceType></ovf:Item>
      </ovf:VirtualHardwareSection>
    </ovf:VirtualSystem>
  </ovf:VirtualSystemCollection>
</ovf:Envelope>
`

func parse(t testing.TB, text string) *Descriptor {
	t.Helper()
	doc, err := ovf.Parse([]byte(text), ovf.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return New(doc)
}

// lines gives the lines that are only in a, and those only in b.
func lines(a, b string) (removed, added []string) {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for _, l := range x {
		if !slices.Contains(y, l) {
			removed = append(removed, strings.TrimSpace(l))
		}
	}
	for _, l := range y {
		if !slices.Contains(x, l) {
			added = append(added, strings.TrimSpace(l))
		}
	}
	return removed, added
}

func TestEdits(t *testing.T) {
	for _, c := range []struct {
		name    string
		edit    func(*Descriptor) error
		removed []string // parts of the lines that go, in their order
		added   []string // and of those that come
	}{
		{"property", func(d *Descriptor) error { return d.SetProperty("org.name", "", "abc") }, []string{`value="x"`}, []string{`ovf:value="abc" ovf:qualifiers`}},
		{"property by its own key", func(d *Descriptor) error { return d.SetProperty("name", "", "<&>") }, []string{`value="x"`}, []string{`ovf:value="&lt;&amp;>"`}},
		{"processors", func(d *Descriptor) error { return d.SetCPUs("a", "", 8) }, []string{"2 virtual"}, []string{"<r:ElementName>8 virtual CPU(s)</r:ElementName><r:InstanceID>1</r:InstanceID><r:ResourceType>3</r:ResourceType><r:VirtualQuantity>8<"}},
		{"memory", func(d *Descriptor) error { return d.SetMemory("a", "", 6<<30) }, []string{"4GB"}, []string{"<r:AllocationUnits>byte * 2^30</r:AllocationUnits><r:ElementName>6GB</r:ElementName><r:InstanceID>2</r:InstanceID><r:ResourceType>4</r:ResourceType><r:VirtualQuantity>6<"}},
		{"memory in other units", func(d *Descriptor) error { return d.SetMemory("a", "", 512<<20) }, []string{"4GB"}, []string{"byte * 2^20</r:AllocationUnits>"}},
		{"network", func(d *Descriptor) error { return d.RenameNetwork("LAN", "A & B") }, []string{`name="LAN"`, ">LAN<"}, []string{`name="A &amp; B"`, ">A &amp; B<"}},
		{"name", func(d *Descriptor) error { return d.SetName("a", "New") }, nil, []string{"<ovf:Name>New</ovf:Name>"}},
		{"product", func(d *Descriptor) error { return d.SetProduct("a", "Product", "New") }, []string{"Old"}, []string{"<ovf:Product>New</ovf:Product>"}},
		{"version", func(d *Descriptor) error { return d.SetProduct("a", "Version", "2") }, nil, []string{"<ovf:Version>2</ovf:Version>"}},
		{"product where there is none", func(d *Descriptor) error { return d.SetProduct("b", "Vendor", "V") }, nil, []string{"<ovf:ProductSection><ovf:Info>What is in this machine</ovf:Info><ovf:Vendor>V</ovf:Vendor></ovf:ProductSection>"}},
		{"licence", func(d *Descriptor) error { return d.SetEULA("all", "a < b") }, nil, []string{"<ovf:EulaSection><ovf:Info>The licence</ovf:Info><ovf:License>a &lt; b</ovf:License></ovf:EulaSection>"}},
		{"licence of several lines", func(d *Descriptor) error { return d.SetEULA("a", "one\n\n  two\nthree") }, nil, []string{"<ovf:EulaSection><ovf:Info>The licence</ovf:Info><ovf:License>one", "two", "three</ovf:License></ovf:EulaSection>"}},
		{"card", func(d *Descriptor) error { return d.Connect("a", "5", "WAN") }, []string{">LAN<"}, []string{`<ovf:Network ovf:name="WAN"/>`, ">WAN<"}},
		{"card by its name", func(d *Descriptor) error { return d.Connect("a", "N", "WAN") }, []string{">LAN<"}, []string{`<ovf:Network ovf:name="WAN"/>`, ">WAN<"}},
		{"disk for a machine without", func(d *Descriptor) error {
			if _, err := d.RemoveDisk("two"); err != nil {
				return err
			}
			return d.AddDisk("b", Disk{ID: "new", Capacity: 5, Format: "u#f"})
		}, []string{`id="f2"`, `diskId="two"`, ">ovf:/disk/two<"}, []string{`<ovf:Disk ovf:diskId="new" ovf:capacity="5"`, "<r:ElementName>SCSI controller 0<", "<r:InstanceID>1<", ">lsilogic<", "<r:HostResource>ovf:/disk/new<", "<r:InstanceID>2<", "<r:Parent>1<"}},
		{"annotation", func(d *Descriptor) error { return d.SetAnnotation("a", "n") }, nil, []string{"<ovf:Annotation>n</ovf:Annotation>"}},
		{"family", func(d *Descriptor) error { return d.SetFamily("a", "vmx-19") }, []string{"vmx-10"}, []string{"vmx-19"}},
		{"firmware", func(d *Descriptor) error { return d.SetConfig("a", "firmware", "efi") }, nil, []string{`<vmw:Config xmlns:vmw="http://www.vmware.com/schema/ovf" ovf:required="false" vmw:key="firmware" vmw:value="efi"/>`}},
		{"firmware twice", func(d *Descriptor) error {
			if err := d.SetConfig("a", "firmware", "bios"); err != nil {
				return err
			}
			return d.SetConfig("a", "firmware", "efi")
		}, nil, []string{`vmw:key="firmware" vmw:value="efi"/>`}},
		{"remove a machine", func(d *Descriptor) error { _, err := d.RemoveMachine("b"); return err }, []string{`id="f2"`, `diskId="two"`, `id="b" ovf:order`, `VirtualSystem ovf:id="b"`}, nil},
		{"add a disk", func(d *Descriptor) error {
			return d.AddDisk("a", Disk{ID: "new", FileID: "f3", Href: "new.vmdk", Capacity: 5, Format: "u#f"})
		}, nil, []string{`<ovf:File ovf:id="f3" ovf:href="new.vmdk"/>`, `<ovf:Disk ovf:diskId="new" ovf:fileRef="f3" ovf:capacity="5" ovf:format="u#f"/>`, "<ovf:Item>", "<r:AddressOnParent>8</r:AddressOnParent>", "<r:ElementName>Disk new</r:ElementName>", "<r:HostResource>ovf:/disk/new</r:HostResource>", "<r:InstanceID>6</r:InstanceID>", "<r:Parent>3<"}},
		{"size", func(d *Descriptor) error { return d.SetFileSize("f1", 77) }, []string{"one.vmdk"}, []string{`ovf:size="77"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := parse(t, two)
			if err := c.edit(d); err != nil {
				t.Fatal(err)
			}
			removed, added := lines(two, string(d.Document().Bytes()))
			match := func(what string, have, want []string) {
				all := strings.Join(have, "\n")
				rest := all
				for _, w := range want {
					_, after, ok := strings.Cut(rest, w)
					if !ok {
						t.Errorf("%s %q does not hold %s", what, all, w)
					}
					rest = after
				}
				if len(want) == 0 && len(have) > 0 {
					t.Errorf("%s: %q", what, all)
				}
			}
			match("removed", removed, c.removed)
			match("added", added, c.added)
			if !strings.Contains(string(d.Document().Bytes()), "<!-- kept -->") {
				t.Error("the comment is gone")
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name, want string
		edit       func(*Descriptor) error
	}{
		{"unknown property", `property "nmae": not in the package; there are org.name`, func(d *Descriptor) error { return d.SetProperty("nmae", "", "") }},
		{"value", "", func(d *Descriptor) error { return d.SetProperty("name", "", "too long") }},
		{"option", `deployment option "large"`, func(d *Descriptor) error { return d.SetProperty("name", "large", "a") }},
		{"which machine", "say which machine is meant: there are all, a, b", func(d *Descriptor) error { return d.SetCPUs("", "", 1) }},
		{"unknown machine", `machine "c": not in the package; there are all, a, b`, func(d *Descriptor) error { return d.SetCPUs("c", "", 1) }},
		{"no processors", "has one at least", func(d *Descriptor) error { return d.SetCPUs("a", "", 0) }},
		{"memory without unit", "give a unit, such as 4GiB", func(d *Descriptor) error { return d.SetMemory("a", "", 4096) }},
		{"no item", "no item says how much", func(d *Descriptor) error { return d.SetMemory("b", "", 1<<30) }},
		{"network", `network "WAN": not in the package; there are LAN`, func(d *Descriptor) error { return d.RenameNetwork("WAN", "x") }},
		{"disk", `disk "three": not in the package; there are one, two`, func(d *Descriptor) error { _, err := d.RemoveDisk("three"); return err }},
		{"card", `network card "9": not in the package; there are 5 (N)`, func(d *Descriptor) error { return d.Connect("a", "9", "LAN") }},
		{"the same machine", "there is all already: give what is added another ID", func(d *Descriptor) error { _, err := d.AddMachine(parse(t, two).Document(), ""); return err }},
		{"file in use", "is in use", func(d *Descriptor) error { _, err := d.RemoveFile("icon"); return err }},
		{"all of it", "is all that there is", func(d *Descriptor) error { _, err := d.RemoveMachine("all"); return err }},
		{"the same disk", `there is a disk "one" already`, func(d *Descriptor) error { return d.AddDisk("a", Disk{ID: "one"}) }},
		{"the same file", "already", func(d *Descriptor) error { return d.AddFile("f9", "one.vmdk") }},
		{"product field", "a product has no Colour", func(d *Descriptor) error { return d.SetProduct("a", "Colour", "red") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := parse(t, two)
			err := c.edit(d)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v; want %s", err, c.want)
			}
			if string(d.Document().Bytes()) != two {
				t.Error("the descriptor was changed")
			}
		})
	}
}

func TestRemoveDisk(t *testing.T) {
	d := parse(t, two)
	hrefs, err := d.RemoveDisk("one")
	if err != nil || !slices.Equal(hrefs, []string{"one.vmdk"}) {
		t.Fatalf("%v, %v", hrefs, err)
	}
	if hrefs, err = d.RemoveDisk("two"); err != nil || !slices.Equal(hrefs, []string{"two.vmdk"}) {
		t.Fatalf("%v, %v", hrefs, err)
	}
	text := string(d.Document().Bytes())
	for _, gone := range []string{"DiskSection", "one", "two.vmdk", "/disk/"} {
		if strings.Contains(text, gone) {
			t.Errorf("%s is left:\n%s", gone, text)
		}
	}
}

// empty is a References element without files.
var empty = regexp.MustCompile(`<(\w+:)?References\s*/>`)

// TestCorpus makes edits in the descriptors of other products: outside of them
// nothing may change.
func TestCorpus(t *testing.T) {
	files, err := filepath.Glob("../../../shared/corpus/descriptors/p*/*.ovf")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skip("the reference descriptors are not at ../../../shared/corpus")
	}
	done := map[string]int{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := ovf.Parse(data, ovf.ParseOptions{})
		if err != nil || doc.Envelope().Content == nil {
			continue
		}
		first := doc.Envelope().Content.Systems()
		if len(first) == 0 {
			continue
		}
		id := first[0].ID
		for name, change := range map[string]func(*Descriptor) error{
			"name":       func(d *Descriptor) error { return d.SetName(id, "New <name>") },
			"processors": func(d *Descriptor) error { return d.SetCPUs(id, "", 3) },
			"licence":    func(d *Descriptor) error { return d.SetEULA(id, "New licence") },
			"disk": func(d *Descriptor) error {
				return d.AddDisk(id, Disk{ID: "added-disk", FileID: "added-file", Href: "added.vmdk", Capacity: 1 << 20, Format: "http://example.org/#x"})
			},
		} {
			d := New(doc)
			if change(d) != nil {
				continue // refused, with a reason
			}
			done[name]++
			// What is replaced is a text, and the bytes between several.
			limit := 400
			if eulas := first[0].EULAs; name == "licence" && len(eulas) > 0 {
				limit += len(eulas[0].XML())
			}
			if gone := removedBytes(string(data), string(d.Document().Bytes())); gone > limit && name != "disk" {
				t.Errorf("%s: %s: %d bytes are gone", file, name, gone)
			}
			// Two descriptors have CR CR LF at the end of each line.
			if name == "disk" && !strings.Contains(string(data), "\r\r\n") {
				added := len(d.env().Content.Systems()[0].Hardware[0].Items) - len(first[0].Hardware[0].Items)
				if _, err := d.RemoveDisk("added-disk"); err != nil {
					t.Errorf("%s: %v", file, err)
				} else if after := string(d.Document().Bytes()); added == 1 && len(doc.Envelope().Disks) > 0 && after != string(data) {
					t.Errorf("%s: adding a disk and removing it changes the descriptor:\n%s", file, difference(string(data), after))
				} else {
					// A controller stays, and an element that was empty has
					// two tags.
					removed, _ := lines(string(data), after)
					for _, l := range removed {
						if !empty.MatchString(l) && !strings.Contains(l, "DiskSection") && !strings.HasPrefix(l, "<Info>") {
							t.Errorf("%s: adding a disk and removing it takes %s away", file, l)
						}
					}
				}
			}
		}
	}
	t.Log(done)
	for _, name := range []string{"name", "processors", "licence", "disk"} {
		if done[name] < 20 {
			t.Errorf("%s was done in %d descriptors only", name, done[name])
		}
	}
}

// removedBytes is how many bytes of a are not in b, taking what they begin and
// end with as the same.
func removedBytes(a, b string) int {
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	j := 0
	for j < min(len(a), len(b))-i && a[len(a)-1-j] == b[len(b)-1-j] {
		j++
	}
	return len(a) - i - j
}

func difference(a, b string) string {
	removed, added := lines(a, b)
	return "- " + strings.Join(removed, "\n- ") + "\n+ " + strings.Join(added, "\n+ ")
}
