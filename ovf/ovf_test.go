package ovf_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ovation-project/ovation/ovf"
)

func parse(t testing.TB, text string) *ovf.Document {
	t.Helper()
	d, err := ovf.Parse([]byte(text), ovf.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// corpus gives the reference descriptors by name; the test is skipped where
// they are absent.
func corpus(t testing.TB) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for _, pattern := range []string{"other/*.ovf", "descriptors/*/*.[oO][vV][fF]"} {
		files, _ := filepath.Glob(filepath.Join("../../shared/corpus", pattern))
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			all[filepath.Base(filepath.Dir(f))+"/"+filepath.Base(f)] = data
		}
	}
	if len(all) == 0 {
		t.Skip("the reference descriptors (../shared/corpus) are not here")
	}
	return all
}

func TestCorpusOpensAndIsKept(t *testing.T) {
	for name, data := range corpus(t) {
		d, err := ovf.Parse(data, ovf.ParseOptions{})
		if err != nil {
			var syntax *ovf.SyntaxError
			broken := errors.As(err, &syntax) && strings.HasPrefix(name, "negative/")
			other := errors.Is(err, ovf.ErrNotOVF) && !bytes.Contains(data, []byte("<Envelope")) && !bytes.Contains(data, []byte(":Envelope"))
			if !broken && !other {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if !bytes.Equal(d.Bytes(), data) {
			t.Errorf("%s: parse and write are not the same bytes", name)
		}
	}
}

// TestCorpusIsDescribedTruthfully holds facts that were read off the
// descriptors by eye.
func TestCorpusIsDescribedTruthfully(t *testing.T) {
	all := corpus(t)
	for name, want := range map[string]string{
		"plain/ttylinux.ovf":                                        "1.x; vmdisk1=107374080; ttylinux: os 36, 1 CPU, 16 MiB, PCNet32, vmx-04",
		"other/cot_v0.9.ovf":                                        "0.9; vmdisk1=1073741824; v0.9: os 107, 1 CPU, 8192 MiB, PCNet32, vmx-04",
		"other/cot_ubuntu.2.0.ovf":                                  "2.0; vmdisk1=8589934592; ubuntu: os 94, 1 CPU, 512 MiB, E1000, virtualbox-2.2",
		"plain/TinyCoreLinux_TinyCoreLinux.ovf":                     "1.x; vmdisk1=2147483648; vm: os 93, 1 CPU, 256 MiB, PCNet32, vmx-09",
		"plain/BitnamiTomcat_bitnami-tomcatstack-8.0.36-x86_64.ovf": "1.x; vmdisk1=18253611008; bitnami-tomcatstack: os 94, 1 CPU, 1024 MiB, PCNet32, vmx-07",
		"plain/non-ascii_highascii_high_ascii_characters.ovf":       "1.x; vmdisk1=41943040; ùàçéè: os 103, 1 CPU of 1 core, 40 MiB, E1000, vmx-13",
		"plain/vApp-BootOrder_vApp-BootOrder.ovf": "1.x; vmdisk1=104857600 vmdisk2=104857600; " +
			"vm-b1 in vApp-BootOrder: os 1, 1 CPU, 32 MiB, vmx-07, order 2 after 42 s; vm-b2 in vApp-BootOrder: os 1, 1 CPU, 32 MiB, vmx-07, order 1 after 22 s; starts vm-b2, vm-b1",
		"plain/multiple_disks.ovf": "1.x; system_small=32212254720 data_small=32212254720 system_large=42949672960 data_large=53687091200 extra_data_large=107374182400 scratch_small=10737418240 scratch_large=21474836480; " +
			"vm: os 36, 2 CPU, 64 MiB, E1000, vmx-09, scratch_space_size_large=20, efi",
		"plain/nested-vapp_nested-vapp.ovf": "1.x; vmdisk1=536870912 vmdisk2=536870912 vmdisk3=536870912; " +
			"grandVm in nestedVapp/childVapp/grandVapp: os 79, 1 CPU, 512 MiB, VmxNet3, vmx-08, bios, order 1 after 120 s; " +
			"childVm in nestedVapp/childVapp: os 105, 1 CPU, 512 MiB, E1000, vmx-10, bios, order 2 after 120 s; " +
			"nestedRootVm in nestedVapp: os 106, 1 CPU, 256 MiB, VmxNet3, vmx-10, bios, order 2 after 120 s; starts grandVm, childVm, nestedRootVm",
		"plain/vbs_efi-nvram-with-extra-config-mismatch-illegal.ovf": "1.x; vmdisk1=4294967296; efi.boot vm: os 103, 1 CPU of 1 core, 1024 MiB, E1000, vmx-13, efi",
	} {
		data, ok := all[name]
		if !ok {
			t.Errorf("%s is not in the corpus", name)
			continue
		}
		env := parse(t, string(data)).Envelope()
		r, err := ovf.Resolve(env, ovf.ResolveOptions{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := described(env, r); got != want {
			t.Errorf("%s\n is %s\nnot %s", name, got, want)
		}
	}
}

func described(env *ovf.Envelope, r *ovf.Resolved) string {
	var disks []string
	for _, d := range env.Disks {
		disks = append(disks, fmt.Sprintf("%s=%d", d.ID, r.Disks[d.ID].Capacity))
	}
	parts := []string{string(env.Version), strings.Join(disks, " ")}
	for _, s := range r.Systems {
		text := s.ID
		if s.Parent != nil {
			text += " in " + strings.Join(s.Path, "/")
		}
		text += fmt.Sprintf(": os %d, %d CPU", s.OS.ID, s.CPUs)
		if s.CoresPerSocket > 0 {
			text += fmt.Sprintf(" of %d core", s.CoresPerSocket)
		}
		text += fmt.Sprintf(", %d MiB", s.MemoryBytes>>20)
		for _, i := range s.Items {
			if i.ResourceType == ovf.EthernetAdapter {
				text += ", " + strings.Join(i.SubTypes, " ")
			}
		}
		text += ", " + strings.Join(s.Hardware.SystemTypes, " ")
		for _, p := range s.Properties {
			text += fmt.Sprintf(", %s=%s", p.FullKey, p.Value)
		}
		if firmware, ok := s.Hardware.Config("firmware"); ok {
			text += ", " + firmware
		}
		if s.Startup != nil {
			text += fmt.Sprintf(", order %d after %d s", s.Startup.Order, s.Startup.StartDelay)
		}
		parts = append(parts, text)
	}
	if steps := r.StartOrder(); len(steps) > 1 {
		var ids []string
		for _, step := range steps {
			for _, s := range step.Systems {
				ids = append(ids, s.ID)
			}
		}
		parts = append(parts, "starts "+strings.Join(ids, ", "))
	}
	return strings.Join(parts, "; ")
}

func TestUnits(t *testing.T) {
	for _, c := range []struct {
		unit, value string
		want        int64
		standard    bool
	}{
		{"byte", "7", 7, true},
		{"byte * 2^30", "4", 4 << 30, true},
		{"byte*1024*1024", "2", 2 << 20, true},
		{"byte * 2 ^ 20", "1", 1 << 20, true},
		{"byte * 2^10 * 2^10", "3", 3 << 20, true},
		{"byte * 2^20 / 2^10", "3", 3 << 10, true},
		{"byte * 10^3", "5", 5000, true},
		{"hertz * 10^6", "500", 5e8, true},
		{"hertz*10^-3", "2000", 2, true},
		{"MegaBytes", "512", 512 << 20, false},
		{"GigaBytes", "1.5", 3 << 29, false},
		{"MHz", "100", 1e8, false},
		{"Byte * 2^20", "1", 1 << 20, false},
		{"bytes * 2^20", "3", 3 << 20, false},
		{"MHz * 10", "1", 1e7, false},
		{"byte", "9223372036854775807", math.MaxInt64, true},
	} {
		u, err := ovf.ParseUnit(c.unit)
		if err != nil {
			t.Errorf("ParseUnit(%q): %v", c.unit, err)
			continue
		}
		if got, err := u.Quantity(c.value); err != nil || got != c.want {
			t.Errorf("%s %s = %d, %v, want %d", c.value, c.unit, got, err, c.want)
		}
		if u.Standard != c.standard {
			t.Errorf("%q is standard: %v", c.unit, u.Standard)
		}
	}
	for _, s := range []string{"", "*", "2^20", "byte 2^20", "byte *", "byte * x", "byte * 0", "byte * 2^999", "byte * 2^", "byte ** 2", "byte/0", strings.Repeat("byte * 2^128 ", 40)} {
		if u, err := ovf.ParseUnit(s); !errors.Is(err, ovf.ErrUnit) {
			t.Errorf("ParseUnit(%q) = %v, %v", s, u, err)
		}
	}
	u, _ := ovf.ParseUnit("byte * 2^40")
	for _, s := range []string{"8388608", "99999999999999999999999999999999", "0.0000000000001", "-1", "", "1e3", "0x10", "."} {
		if n, err := u.Quantity(s); err == nil {
			t.Errorf("Quantity(%q) = %d", s, n)
		}
	}
}

func TestCheckValue(t *testing.T) {
	for _, c := range []struct {
		p    ovf.Property
		ok   []string
		fail []string
	}{
		{ovf.Property{Type: "uint8"}, []string{"0", "255"}, []string{"", "256", "-1", "x", "1.0"}},
		{ovf.Property{Type: "sint16"}, []string{"-32768", "7"}, []string{"32768"}},
		{ovf.Property{Type: "boolean"}, []string{"True", "false"}, []string{"yes", ""}},
		{ovf.Property{Type: "real32"}, []string{"1.5", "-2e3"}, []string{"1e99", "x"}},
		{ovf.Property{Type: "string", Qualifiers: "MinLen(2) MaxLen(4)"}, []string{"ab", "äöüß"}, []string{"a", "abcde"}},
		{ovf.Property{Type: "string", Qualifiers: `ValueMap{"a b", "c,d" , "e\"f"}`}, []string{"a b", "c,d", `e"f`}, []string{"a", ""}},
		{ovf.Property{Type: "string(1..3)"}, []string{"a", "abc"}, []string{"", "abcd"}},
		{ovf.Property{Type: "int(1..65535)"}, []string{"1", "65535"}, []string{"0", "65536"}},
		{ovf.Property{Type: "int", VMwareQualifiers: "MinValue(5),MaxValue(7)"}, []string{"5", "7"}, []string{"4", "8"}},
		{ovf.Property{Type: "ip"}, []string{"10.0.0.1", "fe80::1", ""}, []string{"10.0.0"}},
		{ovf.Property{Type: "string", VMwareQualifiers: "Ip('VM Network')"}, []string{"10.0.0.1", "fe80::1", ""}, []string{"10.0.0", "VM"}},
		{ovf.Property{Type: "real64", Qualifiers: "MinValue(0) MaxValue(0.5)"}, []string{"0", "0.5", "0.25"}, []string{"-0.1", "0.51"}},
		{ovf.Property{Type: "real32"}, []string{"+1", ".5"}, []string{"inf", "NaN", "0x1p-2", "", "e"}},
		{ovf.Property{Type: "string", Qualifiers: `ValueMap{'a b', "it's"}`}, []string{"a b", "it's"}, []string{"ab", "its"}},
		{ovf.Property{Type: "string", Qualifiers: "MinLen(2"}, []string{"", "x"}, nil},
	} {
		for _, v := range c.ok {
			if err := c.p.CheckValue(v); err != nil {
				t.Errorf("%s %s: %q: %v", c.p.Type, c.p.Qualifiers, v, err)
			}
		}
		for _, v := range c.fail {
			if err := c.p.CheckValue(v); err == nil {
				t.Errorf("%s %s takes %q", c.p.Type, c.p.Qualifiers, v)
			}
		}
	}
	secret := ovf.Property{Type: "string", Qualifiers: "MinLen(8)", Password: true}
	if err := secret.CheckValue("hunter2"); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a password is told: %v", err)
	}
}

// appliance is a descriptor with a collection, two options, ranges, properties
// and texts in two languages.
const appliance = `<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
  xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
  xmlns:vmw="http://www.vmware.com/schema/ovf" ovf:version="1.0" xml:lang="en-US">
  <References>
    <File ovf:id="f1" ovf:href="a.vmdk" ovf:size="10"/>
    <File ovf:id="de" ovf:href="de.msg"/>
  </References>
  <DiskSection>
    <Info>Disks</Info>
    <Disk ovf:diskId="d1" ovf:fileRef="f1" ovf:capacity="4" ovf:capacityAllocationUnits="byte * 2^30" ovf:format="urn:vmdk"/>
    <Disk ovf:diskId="d2" ovf:capacity="${org.size}" ovf:capacityAllocationUnits="byte * 2^20"/>
    <Disk ovf:diskId="d3" ovf:capacity="4294967296" ovf:fileRef="f1" ovf:parentRef="d1"/>
  </DiskSection>
  <NetworkSection><Info>Nets</Info><Network ovf:name="lan"><Description>LAN</Description></Network></NetworkSection>
  <DeploymentOptionSection>
    <Info>Options</Info>
    <Configuration ovf:id="small"><Label>Small</Label><Description>s</Description></Configuration>
    <Configuration ovf:id="big" ovf:default="true"><Label ovf:msgid="big.label">Big</Label><Description>b</Description></Configuration>
  </DeploymentOptionSection>
  <vmw:OddSection ovf:required="false"><Info>odd</Info></vmw:OddSection>
  <VirtualSystemCollection ovf:id="app">
    <Info>An app</Info>
    <ProductSection ovf:class="org">
      <Info>Product</Info>
      <Product>App</Product>
      <Category>Sizes</Category>
      <Property ovf:key="size" ovf:type="uint32" ovf:value="100" ovf:userConfigurable="true">
        <Value ovf:configuration="small" ovf:value="50"/>
      </Property>
      <Property ovf:key="name" ovf:type="string" ovf:userConfigurable="true"/>
      <Property ovf:key="fixed" ovf:type="string" ovf:value="x"/>
      <Property ovf:key="little" ovf:type="string" ovf:value="y" ovf:configuration="tiny small"/>
    </ProductSection>
    <EulaSection><Info>EULA</Info><License ovf:msgid="eula">Be good.</License></EulaSection>
    <StartupSection><Info>s</Info><Item ovf:id="web" ovf:order="2" ovf:startDelay="5" ovf:waitingForGuest="true"/></StartupSection>
    <VirtualSystem ovf:id="web">
      <Info>Web</Info>
      <ProductSection><Info>p</Info>
        <Property ovf:key="pass" ovf:type="string" ovf:password="true" ovf:userConfigurable="true" ovf:qualifiers="MinLen(8)"/>
        <Property ovf:key="name" ovf:type="string" ovf:value="w" ovf:userConfigurable="true"/>
      </ProductSection>
      <VirtualHardwareSection ovf:transport="iso com.vmware.guestInfo">
        <Info>hw</Info>
        <System><vssd:InstanceID>0</vssd:InstanceID><vssd:VirtualSystemType>vmx-13 kvm</vssd:VirtualSystemType></System>
        <Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>2</rasd:VirtualQuantity>
          <rasd:AllocationUnits>hertz * 10^6</rasd:AllocationUnits><rasd:Reservation>500</rasd:Reservation><vmw:CoresPerSocket>2</vmw:CoresPerSocket></Item>
        <Item ovf:configuration="big"><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>8</rasd:VirtualQuantity></Item>
        <Item><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>512</rasd:VirtualQuantity><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits></Item>
        <Item ovf:bound="min"><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>384</rasd:VirtualQuantity><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits></Item>
        <Item ovf:bound="max"><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>1</rasd:VirtualQuantity><rasd:AllocationUnits>byte * 2^30</rasd:AllocationUnits></Item>
      </VirtualHardwareSection>
      <VirtualHardwareSection><Info>hw</Info>
        <System><vssd:VirtualSystemType>xen-3</vssd:VirtualSystemType></System>
        <Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>1</rasd:VirtualQuantity></Item>
      </VirtualHardwareSection>
    </VirtualSystem>
    <VirtualSystemCollection ovf:id="inner"><Info>i</Info>
      <VirtualSystem ovf:id="db"><Info>DB</Info><vmw:Needed><Info>n</Info></vmw:Needed></VirtualSystem>
    </VirtualSystemCollection>
  </VirtualSystemCollection>
  <Strings xml:lang="de-DE"><Msg ovf:msgid="big.label">Groß</Msg></Strings>
  <Strings xml:lang="de" ovf:fileRef="de"/>
</Envelope>
`

func TestResolve(t *testing.T) {
	env := parse(t, appliance).Envelope()
	bundle := func(href string) ([]byte, error) {
		if href != "de.msg" {
			t.Errorf("asked for %q", href)
		}
		return []byte(`<Strings xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xml:lang="de"><Msg ovf:msgid="eula">Sei brav.</Msg></Strings>`), nil
	}
	r, err := ovf.Resolve(env, ovf.ResolveOptions{Locale: "de_DE.UTF-8", Bundle: bundle, Properties: map[string]string{"org.name": "n", "pass": "long enough"}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Option.ID != "big" || r.Text(r.Option.Label) != "Groß" {
		t.Errorf("option %q, %q", r.Option.ID, r.Text(r.Option.Label))
	}
	if got := r.Text(env.Content.EULAs[0].License); got != "Sei brav." {
		t.Errorf("the EULA reads %q", got)
	}
	web, db := r.Systems[0], r.Systems[1]
	if web.CPUs != 8 || web.MemoryBytes != 512<<20 || web.Items[1].Min != 384<<20 || web.Items[1].Max != 1<<30 {
		t.Errorf("web: %d CPUs, %d bytes, from %d to %d", web.CPUs, web.MemoryBytes, web.Items[1].Min, web.Items[1].Max)
	}
	if diff := cmp.Diff([]string{"app", "inner"}, db.Path); diff != "" {
		t.Error(diff)
	}
	if s := web.Startup; s == nil || s.Order != 2 || s.StartDelay != 5 || !s.WaitingForGuest {
		t.Errorf("startup %+v", s)
	}
	if r.Disks["d1"].Capacity != 4<<30 || r.Disks["d2"].Capacity != 100<<20 || r.Disks["d3"].Parent != r.Disks["d1"] {
		t.Errorf("disks %+v", r.Disks)
	}
	var props []string
	for _, p := range web.Properties {
		props = append(props, fmt.Sprintf("%s=%s %v %v", p.FullKey, p.Value, p.Set, p.Given))
	}
	// org.little is for the option small alone.
	want := []string{"org.size=100 true false", "org.name=n true true", "org.fixed=x true false", "pass=long enough true true", "name=w true false"}
	if diff := cmp.Diff(want, props); diff != "" {
		t.Errorf("properties (-want +got):\n%s", diff)
	}
	if len(r.Unknown) != 1 || r.Unknown[0].Kind != "Needed" {
		t.Errorf("unknown: %+v", r.Unknown)
	}

	r, err = ovf.Resolve(env, ovf.ResolveOptions{Option: "small", Families: []string{"nothing", "XEN-3", "kvm"}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Systems[0].CPUs != 1 || r.Disks["d2"].Capacity != 50<<20 {
		t.Errorf("small on Xen: %d CPUs, disk of %d", r.Systems[0].CPUs, r.Disks["d2"].Capacity)
	}
	r, err = ovf.Resolve(env, ovf.ResolveOptions{Option: "small"})
	if err != nil {
		t.Fatal(err)
	}
	if p := r.Systems[0].Properties[3]; p.FullKey != "org.little" || p.Value != "y" {
		t.Errorf("small has no property org.little but %s=%s", p.FullKey, p.Value)
	}
	if s := r.Systems[0]; s.CPUs != 2 || s.CoresPerSocket != 2 || s.CPU.Reservation != 5e8 {
		t.Errorf("small: %+v", s.CPU)
	}
}

func TestResolveSaysAllThatIsWrong(t *testing.T) {
	text := strings.NewReplacer(
		`ovf:fileRef="f1" ovf:capacity="4" `, `ovf:fileRef="nofile" ovf:capacity="4" `,
		`ovf:parentRef="d1"`, `ovf:parentRef="d3"`,
		`ovf:capacity="${org.size}"`, `ovf:capacity="${org.nothing}"`,
		`<rasd:VirtualQuantity>384</rasd:VirtualQuantity>`, `<rasd:VirtualQuantity>lots</rasd:VirtualQuantity>`,
	).Replace(appliance)
	_, err := ovf.Resolve(parse(t, text).Envelope(), ovf.ResolveOptions{
		Option:     "huge",
		Properties: map[string]string{"org.fixed": "y", "org.size": "many", "Pass": "x", "none": "", "pass": "short"},
	})
	var all *ovf.ResolveError
	if !errors.As(err, &all) {
		t.Fatalf("error %v", err)
	}
	for _, want := range []string{
		`there is no deployment option "huge"; the descriptor has small, big`,
		`property org.fixed is not for users to set`,
		`"many" is not a number of type uint32`,
		`there is no property "Pass" in the descriptor; did you mean pass?`,
		`there is no property "none"`,
		`property pass: the value is shorter than 8 characters`,
		`"d1" is in the file "nofile"`,
		`"d3" is a delta of itself`,
		`refers to a property that the descriptor does not have`,
		`line 51:9: item "2" (): VirtualQuantity: "lots" is not a number`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not said: %s\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "short") && !strings.Contains(err.Error(), "shorter") {
		t.Error("a password is told")
	}
}

// TestTextsInFilesOfTheirOwn is DSP0243 2.x, clause 10.3: a licence that is not
// wrapped in XML.
func TestTextsInFilesOfTheirOwn(t *testing.T) {
	const text = `<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/2" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/2" ovf:version="2.0" xml:lang="en-US">
  <References>
    <File ovf:id="en" ovf:href="en.txt"/><File ovf:id="de" ovf:href="de.txt"/><File ovf:id="gone" ovf:href="gone.txt"/>
    <File ovf:id="fr" ovf:href="fr.msg"/><File ovf:id="frtext" ovf:href="fr.txt"/>
  </References>
  <VirtualSystem ovf:id="a"><Info/><EulaSection><Info/><License ovf:msgid="license">Unused</License></EulaSection></VirtualSystem>
  <Strings xml:lang="en-US"><Msg ovf:msgid="license" ovf:fileRef="en">Invalid</Msg></Strings>
  <Strings xml:lang="de-DE"><Msg ovf:msgid="license" ovf:fileRef="de">Ungültig</Msg></Strings>
  <Strings xml:lang="it"><Msg ovf:msgid="license" ovf:fileRef="gone">Testo</Msg></Strings>
  <Strings xml:lang="fr" ovf:fileRef="fr"/>
</Envelope>`
	files := map[string]string{
		"en.txt": "\ufeffBe <good> & kind.\r\n", "de.txt": "Sei brav.", "fr.txt": "Soyez sage.",
		"fr.msg": `<Strings xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/2"><Msg ovf:msgid="license" ovf:fileRef="frtext"/></Strings>`,
	}
	asked := map[string]int{}
	env := parse(t, text).Envelope()
	for locale, want := range map[string]string{"": "Be <good> & kind.", "de_AT": "Sei brav.", "it": "Testo", "fr-CA": "Soyez sage.", "ja": "Be <good> & kind."} {
		clear(asked)
		r, err := ovf.Resolve(env, ovf.ResolveOptions{Locale: locale, Bundle: func(href string) ([]byte, error) {
			if asked[href]++; asked[href] > 1 {
				t.Errorf("%s is asked for again", href)
			}
			if data, ok := files[href]; ok {
				return []byte(data), nil
			}
			return nil, os.ErrNotExist
		}})
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Text(env.Content.EULAs[0].License); got != want {
			t.Errorf("%q: the licence reads %q", locale, got)
		}
		if noted := len(r.Notes) > 0; noted != (locale == "it") {
			t.Errorf("%q: notes %v", locale, r.Notes)
		}
	}
	var refs, msgs strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&refs, `<File ovf:id="n%d" ovf:href="n%d"/>`, i, i)
		fmt.Fprintf(&msgs, `<Msg ovf:msgid="n%d" ovf:fileRef="n%d"/>`, i, i)
	}
	many := strings.NewReplacer("</References>", refs.String()+"</References>", "</Envelope>", `<Strings xml:lang="en-US">`+msgs.String()+"</Strings></Envelope>").Replace(text)
	n := 0
	if _, err := ovf.Resolve(parse(t, many).Envelope(), ovf.ResolveOptions{Bundle: func(string) ([]byte, error) { n++; return nil, nil }}); err != nil || n > 256 {
		t.Errorf("%d files are read for texts (%v)", n, err)
	}
}

// TestResolveEndsWhateverIsThere has much of each thing that refers to another:
// work that grows with the product of the two would not end.
func TestResolveEndsWhateverIsThere(t *testing.T) {
	const n = 100_000
	const head = `<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xml:lang="en">`
	many := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, strings.ReplaceAll(format, "%next", "%[2]d"), i, i+1)
		}
		return b.String()
	}
	resolve := func(text string) (*ovf.Resolved, error) {
		d, err := ovf.Parse([]byte(head+text+"</Envelope>"), ovf.ParseOptions{MaxNodes: 4_000_000})
		if err != nil {
			t.Fatal(err)
		}
		return ovf.Resolve(d.Envelope(), ovf.ResolveOptions{})
	}
	r, err := resolve(`<VirtualSystemCollection ovf:id="c"><StartupSection>` + many(n, `<Item ovf:id="s%[1]d" ovf:order="%[1]d"/>`) +
		`</StartupSection>` + many(n, `<VirtualSystem ovf:id="s%[1]d"/>`) + `</VirtualSystemCollection>`)
	if err != nil || len(r.Systems) != n || r.Systems[n-1].Startup == nil || r.Systems[n-1].Startup.Order != n-1 {
		t.Errorf("startup: %v", err)
	}
	if _, err = resolve(`<References>` + many(n, `<File ovf:id="f%[1]d" ovf:href="x"/>`) + `</References><VirtualSystem ovf:id="a"/>` +
		many(n, `<Strings xml:lang="en" ovf:fileRef="f%[1]d"/>`)); err != nil {
		t.Errorf("texts: %v", err)
	}
	for name, text := range map[string]string{
		"references": `<DiskSection>` + many(n/2, `<Disk ovf:diskId="d%[1]d" ovf:capacity="${x}"/>`) + `</DiskSection><VirtualSystem ovf:id="a"><ProductSection>` +
			many(n/2, `<Property ovf:key="k%[1]d"/>`) + `</ProductSection></VirtualSystem>`,
		"deltas": `<DiskSection>` + many(n, `<Disk ovf:diskId="d%[1]d" ovf:parentRef="d%next" ovf:capacity="1"/>`) +
			`<Disk ovf:diskId="d100000" ovf:parentRef="d7" ovf:capacity="1"/></DiskSection><VirtualSystem ovf:id="a"/>`,
		"shared": `<VirtualSystemCollection ovf:id="c"><ProductSection>` + many(n/4, `<Property ovf:key="k%[1]d"/>`) + `</ProductSection>` +
			many(n/4, `<VirtualSystem ovf:id="s%[1]d"><ProductSection><Property ovf:key="own"/></ProductSection></VirtualSystem>`) + `</VirtualSystemCollection>`,
	} {
		want := map[string]string{"references": "does not have", "deltas": `is a delta of itself`, "shared": "share more than"}[name]
		if _, err := resolve(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: no error that says %q", name, want)
		}
	}
}

func TestPasswordsAreInNoError(t *testing.T) {
	for _, secret := range []string{`ovf:type="string" ovf:password="true"`, `ovf:type="password(..20)"`} {
		text := strings.Replace(appliance, `ovf:key="size" ovf:type="uint32" ovf:value="100"`, `ovf:key="size" ovf:value="hunter2" `+secret, 1)
		_, err := ovf.Resolve(parse(t, text).Envelope(), ovf.ResolveOptions{})
		if err == nil || !strings.Contains(err.Error(), "property org.size") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", secret, err)
		}
	}
}

func TestStartOrder(t *testing.T) {
	const text = `<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <VirtualSystemCollection ovf:id="app">
    <StartupSection><Info/>
      <Item ovf:id="web" ovf:order="20" ovf:startDelay="9"/>
      <Item ovf:id="tier" ovf:order="10" ovf:startDelay="30" ovf:waitingForGuest="true"/>
      <Item ovf:id="cache" ovf:order="10" ovf:startDelay="5"/>
      <Item ovf:id="spare" ovf:order="15" ovf:startAction="none"/>
      <Item ovf:id="gone" ovf:order="16"/>
    </StartupSection>
    <VirtualSystem ovf:id="web"/><VirtualSystem ovf:id="any"/><VirtualSystem ovf:id="cache"/><VirtualSystem ovf:id="spare"/>
    <VirtualSystemCollection ovf:id="tier">
      <StartupSection><Info/><Item ovf:id="db" ovf:order="1" ovf:startDelay="7"/><Item ovf:id="api" ovf:order="2"/></StartupSection>
      <VirtualSystem ovf:id="api"/><VirtualSystem ovf:id="db"/>
    </VirtualSystemCollection>
  </VirtualSystemCollection></Envelope>`
	order := func(text string) string {
		r, err := ovf.Resolve(parse(t, text).Envelope(), ovf.ResolveOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, step := range r.StartOrder() {
			var ids []string
			for _, s := range step.Systems {
				ids = append(ids, s.ID)
			}
			var waited []string
			for _, s := range step.WaitFor {
				waited = append(waited, s.ID)
			}
			all = append(all, fmt.Sprint(strings.Join(ids, "+"), " ", step.Delay, " ", waited))
		}
		return strings.Join(all, ", ")
	}
	if got, want := order(text), "cache+db+any 7 [], api 30 [api], web 9 []"; got != want {
		t.Errorf("start order: %s, want %s", got, want)
	}
	if got, want := order(strings.ReplaceAll(text, "ovf:order", "ovf:other")), "web+any+cache+api+db 0 []"; got != want {
		t.Errorf("without an order: %s, want %s", got, want)
	}
	if got, want := order(`<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1"><VirtualSystem id="a"/></Envelope>`), "a 0 []"; got != want {
		t.Errorf("one system: %s, want %s", got, want)
	}
}

func TestEditChangesOnlyItsLines(t *testing.T) {
	texts := []string{appliance, strings.ReplaceAll(appliance, "\n", "\r\n")}
	for _, data := range func() map[string][]byte {
		if _, err := os.Stat("../../shared/corpus"); err != nil {
			return nil
		}
		return corpus(t)
	}() {
		if bytes.Contains(data, []byte("Property")) && !bytes.Contains(data, []byte("UTF-16")) {
			texts = append(texts, string(data))
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom(texts).Draw(t, "descriptor")
		d, err := ovf.Parse([]byte(text), ovf.ParseOptions{})
		if err != nil {
			t.Skip()
		}
		var all []*ovf.Property
		d.Envelope().Content.Walk(func(c *ovf.Content) {
			for _, p := range c.Products {
				for _, q := range p.Properties {
					if q.CheckValue("7") == nil && q.Key != "" {
						all = append(all, q)
					}
				}
			}
		})
		if len(all) == 0 {
			t.Skip()
		}
		p := rapid.SampledFrom(all).Draw(t, "property")
		option := rapid.SampledFrom([]string{"", "small", "new"}).Draw(t, "option")
		after, err := d.Apply(ovf.SetPropertyValue(p, option, "7"))
		if err != nil {
			t.Fatal(err)
		}
		// The bytes before and after the property's element are the same.
		from, to := p.Element().Outer().Start, p.Element().Outer().End
		if !strings.HasPrefix(after.Tree().Text(), d.Tree().Text()[:from]) || !strings.HasSuffix(after.Tree().Text(), d.Tree().Text()[to:]) {
			t.Fatalf("setting %s changed more than the property", p.FullKey)
		}
		set := false
		after.Envelope().Content.Walk(func(c *ovf.Content) {
			for _, product := range c.Products {
				for _, q := range product.Properties {
					if q.FullKey != p.FullKey {
						continue
					}
					set = set || option == "" && q.Value == "7"
					for _, v := range q.Values {
						set = set || v.Option == option && v.Value == "7"
					}
				}
			}
		})
		if !set {
			t.Fatalf("property %s has not got its value for option %q", p.FullKey, option)
		}
	})
}

func TestEditsRefused(t *testing.T) {
	d := parse(t, appliance)
	p := d.Envelope().Content.Products[0].Properties[0]
	if _, err := d.Apply(ovf.SetPropertyValue(p, "", "many")); err == nil {
		t.Error("a value that is not of the property's type is taken")
	}
	if _, err := d.Apply(ovf.Replace(p.Node, "<Property>")); err == nil {
		t.Error("what is not well-formed is taken")
	}
	if _, err := d.Apply(ovf.Remove(d.Envelope().Node)); err == nil {
		t.Error("the envelope can be removed")
	}
	env := d.Envelope()
	for name, edits := range map[string][]ovf.Edit{
		"a file that disks are in is removed":        {ovf.Remove(env.References[0].Node)},
		"a capacity is no number":                    {ovf.SetAttr(env.Disks[0].Node, "capacity", "lots")},
		"two disks have one ID":                      {ovf.SetAttr(env.Disks[1].Node, "diskId", "d1")},
		"a property that a disk is as large as goes": {ovf.Remove(p.Node)},
		"the only content goes":                      {ovf.Remove(env.Content.Node)},
		"memory is no number in one option":          {ovf.Append(env.Content.Children[0].Hardware[0].Node, `<Item ovf:configuration="small"><rasd:InstanceID xmlns:rasd="`+ovf.NSRASD+`">2</rasd:InstanceID><rasd:ResourceType xmlns:rasd="`+ovf.NSRASD+`">4</rasd:ResourceType><rasd:VirtualQuantity xmlns:rasd="`+ovf.NSRASD+`">x</rasd:VirtualQuantity></Item>`)},
	} {
		var why *ovf.ResolveError
		if _, err := d.Apply(edits...); !errors.As(err, &why) || len(why.Problems) == 0 {
			t.Errorf("%s, and: %v", name, err)
		}
	}
	if _, err := d.Apply(ovf.Remove(env.References[0].Node), ovf.RemoveAttr(env.Disks[0].Node, "fileRef"), ovf.RemoveAttr(env.Disks[2].Node, "fileRef")); err != nil {
		t.Errorf("a file goes with all that refer to it: %v", err)
	}
	broken := parse(t, strings.Replace(appliance, `ovf:capacity="4"`, `ovf:capacity="lots"`, 1))
	if _, err := broken.Apply(ovf.SetChildText(broken.Envelope().Content.Node, "Info", "Still broken")); err != nil {
		t.Errorf("a descriptor that was not sound before cannot be edited: %v", err)
	}
	after, err := d.Apply(ovf.SetPropertyValue(p, "", "7"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := after.Apply(ovf.Remove(p.Node)); err == nil {
		t.Error("a place in an older version is taken")
	}
}

func TestParseErrors(t *testing.T) {
	if _, err := ovf.Parse([]byte("<html/>"), ovf.ParseOptions{}); !errors.Is(err, ovf.ErrNotOVF) {
		t.Errorf("HTML: %v", err)
	}
	var limit *ovf.LimitError
	if _, err := ovf.Parse(make([]byte, 64<<20), ovf.ParseOptions{}); !errors.As(err, &limit) || limit.Limit != ovf.DefaultMaxSize {
		t.Errorf("64 MiB: %v", err)
	}
	var syntax *ovf.SyntaxError
	if _, err := ovf.Parse([]byte("<Envelope>\n <a>"), ovf.ParseOptions{}); !errors.As(err, &syntax) || syntax.Line != 2 {
		t.Errorf("not well-formed: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(appliance))
	f.Add([]byte(`<ovf:Envelope xmlns:ovf="http://www.vmware.com/schema/ovf/1/envelope" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><ovf:Content xsi:type="ovf:VirtualSystem_Type"/></ovf:Envelope>`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := ovf.Parse(data, ovf.ParseOptions{MaxSize: 1 << 20})
		if err != nil {
			return
		}
		if !bytes.Equal(d.Bytes(), data) {
			t.Fatal("parse and write are not the same bytes")
		}
		if r, err := ovf.Resolve(d.Envelope(), ovf.ResolveOptions{Locale: "de"}); err == nil && r.Envelope.Content == nil {
			t.Fatal("resolved without content")
		}
	})
}

func FuzzEdit(f *testing.F) {
	f.Add([]byte(appliance), "7", "small")
	f.Fuzz(func(t *testing.T, data []byte, value, option string) {
		d, err := ovf.Parse(data, ovf.ParseOptions{MaxSize: 1 << 20})
		if err != nil {
			return
		}
		d.Envelope().Content.Walk(func(c *ovf.Content) {
			for _, p := range c.Products {
				for _, q := range p.Properties {
					if after, err := d.Apply(ovf.SetPropertyValue(q, option, value)); err == nil {
						if _, err := ovf.Parse(after.Bytes(), ovf.ParseOptions{}); err != nil {
							t.Fatalf("an edit gave what cannot be read: %v", err)
						}
					}
				}
			}
		})
	})
}

func FuzzUnit(f *testing.F) {
	f.Add("byte * 2^30", "1.5")
	f.Add("hertz / 10^-3 * 7", "2")
	f.Add("MegaBytes", "512")
	f.Fuzz(func(t *testing.T, unit, value string) {
		u, err := ovf.ParseUnit(unit)
		if err != nil {
			return
		}
		if n, err := u.Quantity(value); err == nil && n < 0 {
			t.Fatalf("%s %s = %d", value, unit, n)
		}
	})
}

func FuzzQualifiers(f *testing.F) {
	f.Add(`ValueMap{"a","b\"c"} MinLen(2), MaxLen(3)`, "a")
	f.Fuzz(func(t *testing.T, qualifiers, value string) {
		p := ovf.Property{Type: "string", Qualifiers: qualifiers}
		_ = p.CheckValue(value)
	})
}

func BenchmarkParse(b *testing.B) {
	b.SetBytes(int64(len(appliance)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ovf.Parse([]byte(appliance), ovf.ParseOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleParse() {
	doc, err := ovf.Parse([]byte(appliance), ovf.ParseOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, s := range doc.Envelope().Content.Systems() {
		fmt.Println(s.Pos(), s.ID, len(s.Hardware))
	}
	// Output:
	// 38:5 web 2
	// 60:7 db 0
}

func ExampleParseUnit() {
	for _, text := range []string{"byte * 2^30", "GigaBytes"} {
		unit, err := ovf.ParseUnit(text)
		if err != nil {
			fmt.Println(err)
			return
		}
		n, err := unit.Quantity("1.5")
		fmt.Println(n, unit.Standard, err)
	}
	// Output:
	// 1610612736 true <nil>
	// 1610612736 false <nil>
}

func ExampleSetPropertyValue() {
	doc, err := ovf.Parse([]byte(appliance), ovf.ParseOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	size := doc.Envelope().Content.Products[0].Properties[0]
	_, err = doc.Apply(ovf.SetPropertyValue(size, "", "huge"))
	fmt.Println(err)
	doc, err = doc.Apply(ovf.SetPropertyValue(size, "", "200"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(doc.Envelope().Content.Products[0].Properties[0].Value)
	// Output:
	// property org.size: "huge" is not a number of type uint32
	// 200
}

func ExampleResolve() {
	doc, err := ovf.Parse([]byte(appliance), ovf.ParseOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := ovf.Resolve(doc.Envelope(), ovf.ResolveOptions{Option: "small"})
	if err != nil {
		fmt.Println(err)
		return
	}
	web := r.Systems[0]
	fmt.Println(web.ID, web.CPUs, web.MemoryBytes>>20, r.Disks["d1"].Capacity)
	// Output: web 2 512 4294967296
}

func ExampleDocument_Apply() {
	doc, err := ovf.Parse([]byte(`<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1"><!-- kept --><VirtualSystem id='a'/></Envelope>`), ovf.ParseOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	doc, err = doc.Apply(ovf.SetAttr(doc.Envelope().Content.Node, "id", "web"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(doc.Bytes()))
	// Output: <Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1"><!-- kept --><VirtualSystem id='web'/></Envelope>
}
