package edit

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/ovf"
	"github.com/ovation-project/ovation/ovf/lint"
)

// database is a package of a single machine whose names clash with those of
// two.
const database = `<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">
  <References>
    <File ovf:id="f1" ovf:href="one.vmdk" ovf:size="3"/>
    <File ovf:id="tools" ovf:href="tools.iso"/>
    <File ovf:id="far" ovf:href="http://example.org/x.iso"/>
  </References>
  <DiskSection>
    <Info>Disks</Info>
    <Disk ovf:diskId="one" ovf:fileRef="f1" ovf:capacity="1024"/>
    <Disk ovf:diskId="delta" ovf:parentRef="one" ovf:capacity="1024"/>
  </DiskSection>
  <NetworkSection>
    <Info>Networks</Info>
    <Network ovf:name="LAN"/>
    <Network ovf:name="WAN"><Description ovf:msgid="m">Outside</Description></Network>
  </NetworkSection>
  <DeploymentOptionSection>
    <Info>Options</Info>
    <Configuration ovf:id="big" ovf:default="true"><Label>Big</Label><Description>Big one</Description></Configuration>
  </DeploymentOptionSection>
  <VirtualSystem ovf:id="db">
    <Info>DB</Info>
    <Name>Database</Name>
    <EulaSection><Info>L</Info><License ovf:msgid="l">first line
second line</License></EulaSection>
    <VirtualHardwareSection>
      <Info>HW</Info>
      <Item><rasd:AllocationUnits>byte * 2^30</rasd:AllocationUnits><rasd:ElementName>M</rasd:ElementName><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>4</rasd:VirtualQuantity></Item>
      <Item ovf:configuration="big"><rasd:AllocationUnits>byte * 2^30</rasd:AllocationUnits><rasd:ElementName>M</rasd:ElementName><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>8</rasd:VirtualQuantity></Item>
      <Item><rasd:Address>0</rasd:Address><rasd:ElementName>C</rasd:ElementName><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceSubType>lsilogic</rasd:ResourceSubType><rasd:ResourceType>6</rasd:ResourceType></Item>
      <Item><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:ElementName>D</rasd:ElementName><rasd:HostResource>ovf:/disk/delta</rasd:HostResource><rasd:InstanceID>3</rasd:InstanceID><rasd:Parent>2</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
      <Item><rasd:AddressOnParent>1</rasd:AddressOnParent><rasd:ElementName>CD</rasd:ElementName><rasd:HostResource>ovf:/file/tools</rasd:HostResource><rasd:InstanceID>4</rasd:InstanceID><rasd:Parent>2</rasd:Parent><rasd:ResourceType>15</rasd:ResourceType></Item>
      <Item><rasd:Connection>WAN</rasd:Connection><rasd:ElementName>N</rasd:ElementName><rasd:InstanceID>5</rasd:InstanceID><rasd:ResourceSubType>E1000</rasd:ResourceSubType><rasd:ResourceType>10</rasd:ResourceType></Item>
    </VirtualHardwareSection>
  </VirtualSystem>
  <Strings xml:lang="de"><Msg ovf:msgid="m">Außen</Msg><Msg ovf:msgid="l">erste Zeile
zweite Zeile</Msg></Strings>
</Envelope>
`

func doc(t testing.TB, text string) *ovf.Document {
	t.Helper()
	d, err := ovf.Parse([]byte(text), ovf.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestAddMachine adds a machine to a collection of others, with all that it
// needs, and takes it away again.
func TestAddMachine(t *testing.T) {
	d := parse(t, two)
	j, err := d.AddMachine(doc(t, database), "")
	if err != nil {
		t.Fatal(err)
	}
	text := string(d.Document().Bytes())
	removed, _ := lines(two, text)
	if len(removed) > 0 {
		t.Errorf("gone: %q", removed)
	}
	if j.ID != "db" || len(j.Files) != 2 || j.Files[0].Href != "one-2.vmdk" || j.Files[1].Href != "tools.iso" || j.Files[0].From.Href != "one.vmdk" {
		t.Errorf("%+v", j)
	}
	if !slices.Contains(j.Notes, "disk one is one-2 here") {
		t.Errorf("says %q", j.Notes)
	}
	r, err := ovf.Resolve(d.env(), ovf.ResolveOptions{Locale: "de", Option: "big"})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(r.Systems, func(s *ovf.System) bool { return s.ID == "db" })
	if i < 0 || len(r.Systems) != 3 {
		t.Fatalf("systems %+v", r.Systems)
	}
	s := r.Systems[i]
	if s.MemoryBytes != 8<<30 {
		t.Errorf("%d bytes of memory", s.MemoryBytes)
	}
	for _, c := range d.env().Content.Systems() {
		if c.ID == "db" && r.Text(c.EULAs[0].License) != "erste Zeile\nzweite Zeile" {
			t.Errorf("the licence is %q", r.Text(c.EULAs[0].License))
		}
	}
	for _, want := range []string{
		`ovf:diskId="delta" ovf:capacity="1024" ovf:parentRef="one-2"`, `ovf:fileRef="f1-2"`, `ovf:id="f1-2" ovf:href="one-2.vmdk"`,
		`ovf:href="http://example.org/x.iso"`, `<ovf:Network ovf:name="WAN">`, "first line\nsecond line</ovf:License>",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not in\n%s", want, text)
		}
	}
	if n := strings.Count(text, `name="LAN"`); n != 1 {
		t.Errorf("network LAN is there %d times", n)
	}
	for _, f := range lint.Run(d.Document(), lint.Options{}) {
		if f.Severity == lint.Error && !slices.ContainsFunc(lint.Run(doc(t, two), lint.Options{}), func(o lint.Finding) bool { return o.Rule == f.Rule }) {
			t.Errorf("%s: %s: %s", f.Pos, f.Rule, f.Text)
		}
	}
	if _, err := d.RemoveMachine("db"); err != nil {
		t.Fatal(err)
	}
	if text := string(d.Document().Bytes()); strings.Contains(text, "delta") || strings.Contains(text, "Database") {
		t.Errorf("left:\n%s", text)
	}
}

// TestWrap makes a collection of a single machine, and twice the same machine
// out of it.
func TestWrap(t *testing.T) {
	d := parse(t, database)
	if _, err := d.AddMachine(doc(t, database), "second"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.AddMachine(doc(t, two), ""); err != nil {
		t.Fatal(err)
	}
	text := d.Document().Bytes()
	inner := database[strings.Index(database, "<VirtualSystem "):strings.Index(database, "</VirtualSystem>")]
	if !bytes.Contains(text, []byte(inner)) {
		t.Errorf("the machine that was there is another:\n%s", text)
	}
	c := d.env().Content
	if c.Kind != ovf.VirtualSystemCollection || c.ID != "db-collection" || len(c.Children) != 3 || c.Children[1].ID != "second" || c.Children[2].ID != "all" {
		t.Errorf("content %+v", c)
	}
	r, err := ovf.Resolve(d.env(), ovf.ResolveOptions{})
	if err != nil || len(r.Systems) != 4 {
		t.Errorf("%v, %d machines", err, len(r.Systems))
	}
}

// TestAddMachineOfAnotherVersion refuses what this version has no words for.
func TestAddMachineOfAnotherVersion(t *testing.T) {
	second, err := os.ReadFile("../descriptor/testdata/second.ovf")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parse(t, two).AddMachine(doc(t, string(second)), ""); err == nil || !strings.Contains(err.Error(), "convert one of them first") {
		t.Errorf("got %v", err)
	}
	d := parse(t, string(second))
	if _, err := d.AddMachine(doc(t, database), ""); err != nil {
		t.Fatal(err)
	}
	for _, c := range d.env().Content.Systems() {
		if c.ID != "db" {
			continue
		}
		for _, i := range c.Hardware[0].Items {
			if want := map[ovf.ResourceType]ovf.ItemKind{ovf.DiskDrive: ovf.StorageItem, ovf.EthernetAdapter: ovf.EthernetPortItem}[i.ResourceType]; want != "" && i.Kind != want {
				t.Errorf("item %s is a %s", i.InstanceID, i.Kind)
			}
		}
	}
}

// FuzzAddMachine puts any two descriptors together: what comes of it can be
// read, and is refused otherwise.
func FuzzAddMachine(f *testing.F) {
	second, err := os.ReadFile("../descriptor/testdata/second.ovf")
	if err != nil {
		f.Fatal(err)
	}
	for _, pair := range [][2]string{{two, database}, {database, database}, {string(second), database}, {database, two}} {
		f.Add([]byte(pair[0]), []byte(pair[1]))
	}
	limits := ovf.ParseOptions{MaxSize: 1 << 20, MaxNodes: 10_000}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		into, err := ovf.Parse(a, limits)
		if err != nil {
			return
		}
		other, err := ovf.Parse(b, limits)
		if err != nil {
			return
		}
		d := New(into)
		j, err := d.AddMachine(other, "added")
		if err != nil {
			return
		}
		again, err := ovf.Parse(d.Document().Bytes(), ovf.ParseOptions{})
		if err != nil {
			t.Fatalf("%v\n%s", err, d.Document().Bytes())
		}
		c := again.Envelope().Content
		if c == nil || c.Kind != ovf.VirtualSystemCollection || len(c.Children) == 0 || c.Children[len(c.Children)-1].ID != j.ID {
			t.Fatalf("%s is not the last member:\n%s", j.ID, again.Bytes())
		}
		seen := map[string]bool{}
		for _, file := range j.Files {
			if seen[strings.ToLower(file.Href)] {
				t.Fatalf("two files are called %s", file.Href)
			}
			seen[strings.ToLower(file.Href)] = true
		}
	})
}
