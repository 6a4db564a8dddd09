package lint

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/ovf"
)

// folder gives the reference descriptors of a folder by name; the test is
// skipped where they are absent.
func folder(t testing.TB, name string) map[string][]byte {
	t.Helper()
	files, _ := filepath.Glob("../../../shared/corpus/descriptors/" + name + "/*.[oO][vV][fF]")
	if len(files) == 0 {
		t.Skip("the reference descriptors (../shared/corpus) are not here")
	}
	all := map[string][]byte{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(f), filepath.Ext(f))] = b
	}
	return all
}

// errorsOf gives the error-level findings.
func errorsOf(b []byte, opt Options) ([]Finding, error) {
	doc, err := ovf.Parse(b, ovf.ParseOptions{})
	if err != nil {
		if f, ok := Broken(err); ok {
			return []Finding{f}, nil
		}
		return nil, err
	}
	return slices.DeleteFunc(Run(doc, opt), func(f Finding) bool { return f.Severity != Error }), nil
}

func TestPositiveHasNoErrors(t *testing.T) {
	for name, b := range folder(t, "positive") {
		found, err := errorsOf(b, Options{Lax: strings.HasPrefix(name, "LaxMode_")})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, f := range found {
			t.Errorf("%s:%s: %s %s", name, f.Pos, f.Rule, f.Text)
		}
	}
}

// faults names the rule that says what is wrong with each of the negative
// descriptors. "" is for those whose fault is in a file beside the descriptor.
var faults = map[string]string{
	"DiskSection_1_0_Neg_dup_diskid":                                   "OVF-DISK-002",
	"DiskSection_1_0_Neg_invalid_delta_reference_disk":                 "", // the disk's own header
	"DiskSection_1_0_Neg_no_capacity":                                  "OVF-DISK-003",
	"DiskSection_Neg_dup_filerefs":                                     "OVF-DISK-008",
	"DiskSection_Neg_no_diskid":                                        "OVF-DISK-001",
	"DiskSection_Neg_no_format":                                        "OVF-DISK-009",
	"Envelope_1_0_Neg_invalid_env":                                     "OVF-XML-003",
	"Envelope_1_0_Neg_invalid_namespace":                               "OVF-ENV-001",
	"Envelope_1_0_Neg_invalid_ref_no_href":                             "OVF-REF-002",
	"Envelope_1_0_Neg_section_compatibility_neg":                       "OVF-EXT-001",
	"Envelope_1_0_Neg_section_compatibility_rec":                       "OVF-EXT-001",
	"Envelope_Neg_identity_compression":                                "OVF-REF-011",
	"Envelope_Neg_invalid_ref_size_null":                               "OVF-REF-013",
	"Envelope_Neg_invalid_zero_capacity":                               "", // there is no disk in it
	"NetworkSection_1_0_Neg_net_sec_elsewhr":                           "OVF-SEC-001",
	"NetworkSection_Neg_net_sec_elsewhr":                               "OVF-SEC-001",
	"RASection_1_0_Neg_ras_sec_elsewhr":                                "OVF-RES-001",
	"VirtualHardware_1_0_Neg_empty_system":                             "OVF-XML-001",
	"VirtualHardware_1_0_Neg_invalid_multiple_vh":                      "OVF-HW-003",
	"VirtualHardware_Neg_child_uitem_req_true":                         "OVF-EXT-001",
	"VirtualHardware_Neg_dup_instanceid":                               "OVF-HW-002",
	"VirtualHardware_Neg_empty_system":                                 "", // but for prefixes it is as one of the positive
	"VirtualHardware_Neg_no_resourcetype":                              "OVF-HW-003",
	"VirtualHardware_Neg_twomax_rangemarker":                           "OVF-HW-006",
	"VirtualHardware_Neg_twomin_rangemarker":                           "OVF-HW-006",
	"security-test-content_ovf_negative-out-of-bound-disk_haoUnOS2VMs": "OVF-REF-004",
	"security-test-content_ovf_negative-size-disk_haoUnOS2VMs":         "OVF-REF-004",
	"unsupported-ovfs_unsupportedSection":                              "OVF-EXT-001",
}

func TestNegativeNamesTheFault(t *testing.T) {
	for name, b := range folder(t, "negative") {
		want, known := faults[name]
		if !known {
			t.Errorf("%s is not in the table", name)
			continue
		}
		found, err := errorsOf(b, Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if want != "" && !slices.ContainsFunc(found, func(f Finding) bool { return f.Rule == want }) {
			t.Errorf("%s: found %v, want %s", name, found, want)
		}
	}
}

func TestEveryDescriptorIsJudgedToTheEnd(t *testing.T) {
	for _, dir := range []string{"plain", "mixed", "positive", "negative"} {
		for name, b := range folder(t, dir) {
			doc, err := ovf.Parse(b, ovf.ParseOptions{})
			if err != nil {
				continue
			}
			for _, f := range Run(doc, Options{}) {
				if f.Pos == (ovf.Pos{}) || f.Text == "" || f.Help == "" {
					t.Errorf("%s: %+v", name, f)
				}
			}
		}
	}
}

// sound is a descriptor without a finding. The cases below each change one
// thing of it.
const sound = `<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" ovf:version="1.1"
 xmlns:rasd="r" xmlns:vssd="v" xmlns:vmw="http://www.vmware.com/schema/ovf" xmlns:x="urn:x">
  <References><File ovf:id="f" ovf:href="d.vmdk" ovf:size="10"/><File ovf:id="m" ovf:href="de.msg"/></References>
  <DiskSection><Info>i</Info><Disk ovf:diskId="d" ovf:fileRef="f" ovf:capacity="4" ovf:capacityAllocationUnits="byte * 2^30" ovf:format="urn:f" ovf:populatedSize="9"/></DiskSection>
  <NetworkSection><Info>i</Info><Network ovf:name="lan"/></NetworkSection>
  <DeploymentOptionSection><Info>i</Info><Configuration ovf:id="small" ovf:default="true"><Label>S</Label><Description>s</Description></Configuration><Configuration ovf:id="big"><Label>B</Label><Description>b</Description></Configuration></DeploymentOptionSection>
  <VirtualSystemCollection ovf:id="app"><Info>i</Info>
    <ProductSection><Info>i</Info><Property ovf:key="k" ovf:type="uint8" ovf:value="7" ovf:qualifiers="MinValue(1)"><Value ovf:configuration="big" ovf:value="8"/></Property></ProductSection>
    <EulaSection><Info>i</Info><License>l</License></EulaSection>
    <StartupSection><Info>i</Info><Item ovf:id="web" ovf:order="1" ovf:startDelay="3" ovf:startAction="powerOn"/></StartupSection>
    <VirtualSystem ovf:id="web"><Info>i</Info>
      <AnnotationSection><Info>i</Info><Annotation>a</Annotation></AnnotationSection>
      <OperatingSystemSection ovf:id="36"><Info>i</Info></OperatingSystemSection>
      <VirtualHardwareSection><Info>i</Info><System><vssd:VirtualSystemType>vmx-13</vssd:VirtualSystemType></System>
        <Item><rasd:ElementName>c</rasd:ElementName><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>
        <Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:ElementName>m</rasd:ElementName><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>512</rasd:VirtualQuantity></Item>
        <Item ovf:bound="min"><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:ElementName>m</rasd:ElementName><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>256</rasd:VirtualQuantity></Item>
        <Item ovf:bound="max"><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:ElementName>m</rasd:ElementName><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>1024</rasd:VirtualQuantity></Item>
        <Item><rasd:Address>0</rasd:Address><rasd:ElementName>s</rasd:ElementName><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceType>6</rasd:ResourceType></Item>
        <Item><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:ElementName>h</rasd:ElementName><rasd:HostResource>ovf:/disk/d</rasd:HostResource><rasd:InstanceID>4</rasd:InstanceID><rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
        <Item><rasd:Connection>lan</rasd:Connection><rasd:ElementName>n</rasd:ElementName><rasd:InstanceID>5</rasd:InstanceID><rasd:ResourceType>10</rasd:ResourceType></Item>
      </VirtualHardwareSection>
    </VirtualSystem>
  </VirtualSystemCollection>
  <Strings xml:lang="de" ovf:fileRef="m"/>
</Envelope>`

func TestASoundDescriptorHasNoFinding(t *testing.T) {
	doc, err := ovf.Parse([]byte(sound), ovf.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range Run(doc, Options{}) {
		t.Errorf("%s: %s %s", f.Pos, f.Rule, f.Text)
	}
}

// TestRules breaks each rule by one change.
func TestRules(t *testing.T) {
	broken := map[string]bool{}
	for _, c := range []struct{ rule, old, new string }{
		{"OVF-ANN-001", `<Annotation>a</Annotation>`, ``},
		{"OVF-DEPL-001", `<Configuration ovf:id="big">`, `<Configuration>`},
		{"OVF-DEPL-002", `<Configuration ovf:id="big">`, `<Configuration ovf:id="small">`},
		{"OVF-DEPL-003", `<Configuration ovf:id="big">`, `<Configuration ovf:id="big" ovf:default="1">`},
		{"OVF-DEPL-004", `<Value ovf:configuration="big"`, `<Value ovf:configuration="huge"`},
		{"OVF-DEPL-004", `<Item><rasd:Address>`, `<Item ovf:configuration="huge"><rasd:Address>`},
		{"OVF-DEPL-005", `<Label>B</Label>`, ``},
		{"OVF-DISK-001", `ovf:diskId="d" `, ``},
		{"OVF-DISK-002", `</DiskSection>`, `<Disk ovf:diskId="d" ovf:capacity="1" ovf:format="urn:f"/></DiskSection>`},
		{"OVF-DISK-003", `ovf:capacity="4"`, ``},
		{"OVF-DISK-004", `ovf:capacity="4"`, `ovf:capacity="0"`},
		{"OVF-DISK-004", `ovf:capacity="4"`, `ovf:capacity="-4"`},
		{"OVF-DISK-004", `ovf:capacity="4"`, `ovf:capacity="99999999999"`},
		{"OVF-DISK-005", `byte * 2^30`, `hertz * 10^6`},
		{"OVF-DISK-006", `byte * 2^30`, `GigaBytes`},
		{"OVF-DISK-007", `ovf:fileRef="f"`, `ovf:fileRef="g"`},
		{"OVF-DISK-008", `</DiskSection>`, `<Disk ovf:diskId="e" ovf:fileRef="f" ovf:capacity="1" ovf:format="urn:f"/></DiskSection>`},
		{"OVF-DISK-009", ` ovf:format="urn:f"`, ``},
		{"OVF-DISK-010", ` ovf:format="urn:f"`, ` ovf:format="urn:f" ovf:parentRef="p"`},
		{"OVF-DISK-011", ` ovf:format="urn:f"`, ` ovf:format="urn:f" ovf:parentRef="d"`},
		{"OVF-DISK-012", `ovf:populatedSize="9"`, `ovf:populatedSize="-9"`},
		{"OVF-DISK-013", `ovf:populatedSize="9"`, `ovf:populatedSize="9999999999"`},
		{"OVF-DISK-014", `ovf:capacity="4"`, `ovf:capacity="${none}"`},
		{"OVF-ENV-001", `xmlns="http://schemas.dmtf.org/ovf/envelope/1"`, `xmlns="urn:other"`},
		{"OVF-ENV-002", `<Strings`, `<VirtualSystem ovf:id="b"><Info>i</Info></VirtualSystem><Strings`},
		{"OVF-ENV-003", `References>`, `Refs>`},
		{"OVF-ENV-004", `<Strings xml:lang="de" ovf:fileRef="m"/>`, `<Strings xml:lang="de" ovf:fileRef="m"/><AnnotationSection><Info/><Annotation/></AnnotationSection>`},
		{"OVF-ENV-005", `ovf:version="1.1"`, `ovf:version="2.0"`},
		{"OVF-ENV-006", `<VirtualSystem ovf:id="web">`, `<VirtualSystem>`},
		{"OVF-ENV-007", `<VirtualSystem ovf:id="web">`, `<VirtualSystem ovf:id="app">`},
		{"OVF-ENV-008", `<VirtualSystem ovf:id="web">`, `<VirtualSystemCollection ovf:id="c"><Info/></VirtualSystemCollection><VirtualSystem ovf:id="web">`},
		{"OVF-EULA-001", `<License>l</License>`, ``},
		{"OVF-EXT-001", `<NetworkSection>`, `<x:Section><Info/></x:Section><NetworkSection>`},
		{"OVF-EXT-001", `<Network ovf:name="lan"/>`, `<Network ovf:name="lan"/><Else/>`},
		{"OVF-EXT-001", `<rasd:Address>0`, `<rasd:Else ovf:required="true"/><rasd:Address>0`},
		{"OVF-EXT-002", `<NetworkSection>`, `<x:Section ovf:required="false"><Info/></x:Section><NetworkSection>`},
		{"OVF-EXT-002", `<rasd:Address>0`, `<rasd:Else/><rasd:Address>0`},
		{"OVF-EXT-003", `<NetworkSection>`, `<NetworkSection ovf:required="maybe">`},
		{"OVF-HW-001", `<rasd:InstanceID>5</rasd:InstanceID>`, ``},
		{"OVF-HW-002", `<rasd:InstanceID>5</rasd:InstanceID>`, `<rasd:InstanceID>4</rasd:InstanceID>`},
		{"OVF-HW-003", `<rasd:ResourceType>10</rasd:ResourceType>`, ``},
		{"OVF-HW-004", `<rasd:ResourceType>10</rasd:ResourceType>`, `<rasd:ResourceType>ten</rasd:ResourceType>`},
		{"OVF-HW-005", `ovf:bound="max"`, `ovf:bound="most"`},
		{"OVF-HW-006", `ovf:bound="max"`, `ovf:bound="min"`},
		{"OVF-HW-007", `<rasd:VirtualQuantity>1024`, `<rasd:VirtualQuantity>128`},
		{"OVF-HW-008", `<rasd:Parent>3`, `<rasd:Parent>33`},
		{"OVF-HW-009", `ovf:/disk/d`, `ovf:/disk/e`},
		{"OVF-HW-009", `ovf:/disk/d`, `ovf:/file/e`},
		{"OVF-HW-009", `ovf:/disk/d`, `ovf:/drive/d`},
		{"OVF-HW-010", `ovf:/disk/d`, `/disk/d`},
		{"OVF-HW-011", `<rasd:AllocationUnits>byte * 2^20`, `<rasd:AllocationUnits>lots`},
		{"OVF-HW-012", `<rasd:AllocationUnits>byte * 2^20`, `<rasd:AllocationUnits>MegaBytes`},
		{"OVF-HW-013", `<rasd:VirtualQuantity>512`, `<rasd:VirtualQuantity>-512`},
		{"OVF-HW-014", `<rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits>`, ``},
		{"OVF-HW-015", `<rasd:ElementName>n</rasd:ElementName>`, ``},
		{"OVF-HW-016", `<vssd:VirtualSystemType>vmx-13</vssd:VirtualSystemType>`, ``},
		{"OVF-HW-017", `</VirtualSystem>`, `<VirtualHardwareSection><Info/><System><vssd:VirtualSystemType>VMX-13</vssd:VirtualSystemType></System></VirtualHardwareSection></VirtualSystem>`},
		{"OVF-HW-018", `<Item><rasd:Connection>`, `<Item><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:Parent>3</rasd:Parent><rasd:Connection>`},
		{"OVF-HW-019", `<rasd:Parent>3`, `<rasd:Parent>4`},
		{"OVF-HW-020", `<rasd:VirtualQuantity>2<`, `<rasd:VirtualQuantity>0<`},
		{"OVF-MSG-001", `<Strings xml:lang="de" ovf:fileRef="m"/>`, `<Strings/>`},
		{"OVF-MSG-002", `<Strings xml:lang="de" ovf:fileRef="m"/>`, `<Strings xml:lang="de" ovf:fileRef="n"/>`},
		{"OVF-MSG-003", `<Strings xml:lang="de" ovf:fileRef="m"/>`, `<Strings xml:lang="de"><Msg>m</Msg></Strings>`},
		{"OVF-MSG-004", `<License>l</License>`, `<License ovf:msgid="l">l</License>`},
		{"OVF-NET-001", `<Network ovf:name="lan"/>`, `<Network ovf:name="lan"/><Network/>`},
		{"OVF-NET-002", `<Network ovf:name="lan"/>`, `<Network ovf:name="lan"/><Network ovf:name="lan"/>`},
		{"OVF-NET-003", `<rasd:Connection>lan`, `<rasd:Connection>wan`},
		{"OVF-OS-001", `<OperatingSystemSection ovf:id="36">`, `<OperatingSystemSection>`},
		{"OVF-OS-001", `<OperatingSystemSection ovf:id="36">`, `<OperatingSystemSection ovf:id="Linux">`},
		{"OVF-PROP-001", `ovf:key="k" `, ``},
		{"OVF-PROP-002", `</ProductSection>`, `<Property ovf:key="k" ovf:type="string"/></ProductSection>`},
		{"OVF-PROP-003", ` ovf:type="uint8"`, ``},
		{"OVF-PROP-004", ` ovf:type="uint8"`, ` ovf:type="number"`},
		{"OVF-PROP-005", `ovf:value="7"`, `ovf:value="256"`},
		{"OVF-PROP-005", `ovf:value="8"`, `ovf:value="0"`},
		{"OVF-PROP-006", `MinValue(1)`, `MinValue(1`},
		{"OVF-PROP-007", `ovf:key="k"`, `ovf:key="k.l"`},
		{"OVF-PROP-008", `<EulaSection>`, `<ProductSection><Info/></ProductSection><EulaSection>`},
		{"OVF-PROP-009", `ovf:key="k"`, `ovf:key="k" ovf:userConfigurable="yes"`},
		{"OVF-PROP-010", `ovf:key="k"`, `ovf:key="k" ovf:password="true"`},
		{"OVF-PROP-011", ` ovf:type="uint8"`, ` ovf:type="int(1..9)"`},
		{"OVF-REF-001", `<File ovf:id="f"`, `<File`},
		{"OVF-REF-002", ` ovf:href="d.vmdk"`, ``},
		{"OVF-REF-003", `<File ovf:id="m"`, `<File ovf:id="f"`},
		{"OVF-REF-004", `ovf:size="10"`, `ovf:size="ten"`},
		{"OVF-REF-004", `ovf:size="10"`, `ovf:size="18446744073709551616"`},
		{"OVF-REF-014", `ovf:size="10"`, `ovf:size="9223372036854775808"`},
		{"OVF-REF-005", `ovf:size="10"`, `ovf:size="-1"`},
		{"OVF-REF-006", `ovf:size="10"`, `ovf:size="10" ovf:compression="zip"`},
		{"OVF-REF-007", `ovf:size="10"`, `ovf:size="10" ovf:chunkSize="0"`},
		{"OVF-REF-008", `ovf:href="d.vmdk"`, `ovf:href="../d.vmdk"`},
		{"OVF-REF-008", `ovf:href="d.vmdk"`, `ovf:href="http://example.com/d.vmdk"`},
		{"OVF-REF-009", `ovf:href="d.vmdk"`, `ovf:href="de.msg"`},
		{"OVF-REF-010", `<File ovf:id="m"`, `<File ovf:id="u" ovf:href="u"/><File ovf:id="m"`},
		{"OVF-REF-011", `xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"`, `xmlns="http://www.vmware.com/schema/ovf/1/envelope" xmlns:ovf="http://www.vmware.com/schema/ovf/1/envelope"`},
		{"OVF-REF-012", `ovf:href="d.vmdk"`, `ovf:href="%zz.vmdk"`},
		{"OVF-RES-001", `<AnnotationSection>`, `<ResourceAllocationSection><Info/></ResourceAllocationSection><AnnotationSection>`},
		{"OVF-SEC-001", `<AnnotationSection>`, `<NetworkSection><Info/></NetworkSection><AnnotationSection>`},
		{"OVF-SEC-001", `<AnnotationSection>`, `<StartupSection><Info/></StartupSection><AnnotationSection>`},
		{"OVF-SEC-002", `<NetworkSection>`, `<DiskSection><Info/></DiskSection><NetworkSection>`},
		{"OVF-SEC-002", `<AnnotationSection>`, `<OperatingSystemSection ovf:id="1"><Info/></OperatingSystemSection><AnnotationSection>`},
		{"OVF-SEC-003", `<NetworkSection><Info>i</Info>`, `<NetworkSection>`},
		{"OVF-START-001", `<Item ovf:id="web" ovf:order`, `<Item ovf:id="db" ovf:order`},
		{"OVF-START-002", ` ovf:order="1"`, ``},
		{"OVF-START-002", ` ovf:order="1"`, ` ovf:order="first"`},
		{"OVF-START-003", `ovf:startDelay="3"`, `ovf:startDelay="3s"`},
		{"OVF-START-004", `ovf:startAction="powerOn"`, `ovf:startAction="go"`},
		{"OVF-START-005", `</StartupSection>`, `<Item ovf:id="web" ovf:order="2"/></StartupSection>`},
		{"OVF-DEPL-006", `ovf:default="true"`, `ovf:default="yes"`},
		{"OVF-DEPL-007", `<NetworkSection>`, `<DeploymentOptionSection><Info/></DeploymentOptionSection><NetworkSection>`},
		{"OVF-DEPL-008", `<Description>b</Description>`, ``},
		{"OVF-ENV-009", `<VirtualSystem ovf:id="web"><Info>i</Info>`, `<VirtualSystem ovf:id="web">`},
		{"OVF-ENV-010", `<VirtualSystem ovf:id="web">`, `<Content ovf:id="a"/><VirtualSystem ovf:id="web">`},
		{"OVF-ENV-010", `<VirtualSystem ovf:id="web">`, `<Content ovf:id="a" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="ovf:Other_Type"/><VirtualSystem ovf:id="web">`},
		{"OVF-ENV-011", `<AnnotationSection>`, `<VirtualSystem ovf:id="in"><Info/></VirtualSystem><AnnotationSection>`},
		{"OVF-EXT-001", `<References>`, `<References><Else/>`},
		{"OVF-EXT-001", `<Network ovf:name="lan"/>`, `<Network ovf:name="lan"><Else/></Network>`},
		{"OVF-SEC-004", `</References>`, `</References><References/>`},
		{"OVF-SEC-002", `<AnnotationSection>`, `<AnnotationSection><Info/><Annotation/></AnnotationSection><AnnotationSection>`},
		{"OVF-ENVF-001", `<AnnotationSection>`, `<EnvironmentFilesSection><Info/><File ovf:fileRef="none" ovf:path="a"/></EnvironmentFilesSection><AnnotationSection>`},
		{"OVF-ENVF-002", `<AnnotationSection>`, `<EnvironmentFilesSection><Info/><File ovf:fileRef="f"/></EnvironmentFilesSection><AnnotationSection>`},
		{"OVF-EXT-002", `<NetworkSection>`, `<SharedDiskSection ovf:required="false"><Info/></SharedDiskSection><NetworkSection>`},
		{"OVF-EXT-002", `<rasd:ResourceType>6<`, `<rasd:ResourceType>99<`},
		{"OVF-EXT-004", `<NetworkSection>`, `<vmw:Section><Info/></vmw:Section><NetworkSection>`},
		{"OVF-EXT-005", `<NetworkSection>`, `<SharedDiskSection><Info/></SharedDiskSection><NetworkSection>`},
		{"OVF-EXT-005", `<Item><rasd:Connection>lan</rasd:Connection><rasd:ElementName>n</rasd:ElementName><rasd:InstanceID>5</rasd:InstanceID><rasd:ResourceType>10</rasd:ResourceType></Item>`,
			`<EthernetPortItem><rasd:ElementName>n</rasd:ElementName><rasd:InstanceID>5</rasd:InstanceID><rasd:ResourceType>10</rasd:ResourceType></EthernetPortItem>`},
		{"OVF-HW-021", `<rasd:ResourceType>6<`, `<rasd:ResourceType>89<`},
		{"OVF-HW-022", `<rasd:ResourceType>6<`, `<rasd:ResourceType>32768<`},
		{"OVF-HW-023", `<rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>256<`, `<rasd:InstanceID>9</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>256<`},
		{"OVF-HW-024", `<rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>256<`, `<rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>256<`},
		{"OVF-HW-025", `<rasd:VirtualQuantity>256`, `<rasd:VirtualQuantity>513`},
		{"OVF-HW-025", `<rasd:VirtualQuantity>1024`, `<rasd:VirtualQuantity>511`},
		{"OVF-HW-026", `<VirtualHardwareSection>`, `<VirtualHardwareSection ovf:transport="iso floppy">`},
		{"OVF-HW-027", `<rasd:InstanceID>5</rasd:InstanceID>`, `<rasd:InstanceID>5</rasd:InstanceID><rasd:InstanceID>6</rasd:InstanceID>`},
		{"OVF-HW-028", `<rasd:Parent>3`, `<rasd:Parent>1`},
		{"OVF-HW-029", `<rasd:Connection>`, `<rasd:AutomaticAllocation>on</rasd:AutomaticAllocation><rasd:Connection>`},
		{"OVF-HW-030", `<rasd:VirtualQuantity>2</rasd:VirtualQuantity>`, ``},
		{"OVF-INST-001", `<AnnotationSection>`, `<InstallSection ovf:initialBootStopDelay="1m"><Info/></InstallSection><AnnotationSection>`},
		{"OVF-MSG-005", `<Strings xml:lang="de" ovf:fileRef="m"/>`, `<Strings xml:lang="de"><Msg ovf:msgid="a">1</Msg><Msg ovf:msgid="a">2</Msg></Strings>`},
		{"OVF-PLACE-001", `<AnnotationSection>`, `<PlacementSection ovf:group="none"><Info/></PlacementSection><AnnotationSection>`},
		{"OVF-PLACE-002", `<NetworkSection>`, `<PlacementGroupSection ovf:policy="affinity"><Info/></PlacementGroupSection><NetworkSection>`},
		{"OVF-PLACE-003", `<NetworkSection>`, `<PlacementGroupSection ovf:id="g"><Info/></PlacementGroupSection><PlacementGroupSection ovf:id="g"><Info/></PlacementGroupSection><NetworkSection>`},
		{"OVF-PLACE-004", `<NetworkSection>`, `<PlacementGroupSection ovf:id="g" ovf:policy="near"><Info/></PlacementGroupSection><NetworkSection>`},
		{"OVF-PROP-006", `MinValue(1)`, `MinLen(few)`},
		{"OVF-PROP-012", `ovf:type="uint8" ovf:value="7"`, `ovf:type="ip" ovf:value="here"`},
		{"OVF-PROP-013", `ovf:qualifiers="MinValue(1)"`, `vmw:qualifiers="Ip("`},
		{"OVF-PROP-014", `<Property ovf:key="k"`, `<Icon ovf:fileRef="none"/><Property ovf:key="k"`},
		{"OVF-PROP-014", `<Property ovf:key="k"`, `<Icon/><Property ovf:key="k"`},
		{"OVF-PROP-015", `<Value ovf:configuration="big" ovf:value="8"/>`, `<Value ovf:configuration="big"/>`},
		{"OVF-PROP-016", `<Value ovf:configuration="big" ovf:value="8"/>`, `<Value ovf:configuration="big" ovf:value="8"/><Value ovf:configuration="big" ovf:value="9"/>`},
		{"OVF-PROP-017", `MinValue(1)`, `MinLen(1)`},
		{"OVF-PROP-017", `MinValue(1)`, `Odd(1)`},
		{"OVF-REF-013", `xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"`, `xmlns="http://www.vmware.com/schema/ovf/1/envelope" xmlns:ovf="http://www.vmware.com/schema/ovf/1/envelope"`},
		{"OVF-SCALE-001", `<AnnotationSection>`, `<ScaleOutSection><Info/><InstanceCount ovf:minimum="0"/></ScaleOutSection><AnnotationSection>`},
		{"OVF-SCALE-002", `<AnnotationSection>`, `<ScaleOutSection><Info/><InstanceCount ovf:minimum="4" ovf:default="3"/></ScaleOutSection><AnnotationSection>`},
		{"OVF-SEC-004", `<License>l</License>`, `<License>l</License><License>m</License>`},
		{"OVF-START-001", ` ovf:id="web" ovf:order="1"`, ` ovf:order="1"`},
		{"OVF-START-006", `ovf:startDelay="3"`, `ovf:waitingForGuest="yes"`},
		{"OVF-XML-001", `ovf:size="10"`, `of:size="10"`},
	} {
		text := strings.Replace(sound, c.old, c.new, 1)
		if c.rule == "OVF-ENV-003" {
			text = strings.ReplaceAll(sound, c.old, c.new)
		}
		if c.rule == "OVF-MSG-004" {
			text = strings.Replace(text, `<Strings xml:lang="de" ovf:fileRef="m"/>`, `<Strings xml:lang="de"><Msg ovf:msgid="other">m</Msg></Strings>`, 1)
		}
		if c.rule == "OVF-EXT-002" && strings.Contains(c.new, "99") {
			text = strings.Replace(text, `<Item><rasd:Address>`, `<Item ovf:required="false"><rasd:Address>`, 1)
		}
		if c.rule == "OVF-REF-011" {
			text = strings.Replace(text, `ovf:size="10"`, `ovf:size="10" ovf:compression="identity"`, 1)
		}
		if text == sound {
			t.Errorf("%s: %q is not in the descriptor", c.rule, c.old)
			continue
		}
		doc, err := ovf.Parse([]byte(text), ovf.ParseOptions{})
		if err != nil {
			t.Errorf("%s: %v", c.rule, err)
			continue
		}
		found := Run(doc, Options{})
		if !slices.ContainsFunc(found, func(f Finding) bool { return f.Rule == c.rule }) {
			t.Errorf("%s is not found after %q: %v", c.rule, c.new, found)
		}
		broken[c.rule] = true
		only := Run(doc, Options{Rules: []string{c.rule}, Lax: true})
		for _, f := range only {
			rule, _ := Find(f.Rule)
			if f.Rule != c.rule || rule.Lax && f.Severity == Error {
				t.Errorf("only %s in lax mode: %+v", c.rule, f)
			}
		}
	}
	for _, r := range Rules() {
		// The others have tests of their own.
		if !broken[r.ID] && !strings.HasPrefix(r.ID, "OVF-PKG-") && r.ID != "OVF-XML-002" && r.ID != "OVF-XML-003" {
			t.Errorf("%s is tried by no case", r.ID)
		}
	}
}

// sound09 is the like of sound for OVF 0.9, whose sections say what they are by
// xsi:type.
const sound09 = `<?xml version="1.0" encoding="utf-8"?>
<ovf:Envelope xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:ovf="http://www.vmware.com/schema/ovf/1/envelope" xmlns:vssd="v" xmlns:rasd="r" ovf:version="0.9">
  <References><File ovf:id="f" ovf:href="d.vmdk" ovf:size="10"/></References>
  <Section xsi:type="ovf:DiskSection_Type"><Info>i</Info><Disk ovf:diskId="d" ovf:fileRef="f" ovf:capacity="4096" ovf:format="urn:f"/></Section>
  <Section xsi:type="ovf:NetworkSection_Type"><Info>i</Info><Network ovf:name="lan"><Description>d</Description></Network></Section>
  <Content xsi:type="ovf:VirtualSystemCollection_Type" ovf:id="app"><Info>i</Info>
    <Section xsi:type="ovf:StartupSection_Type"><Info>i</Info><Item ovf:id="web" ovf:order="1"/></Section>
    <Content xsi:type="ovf:VirtualSystem_Type" ovf:id="web"><Info>i</Info>
      <Section xsi:type="ovf:ProductSection_Type" ovf:required="false"><Info>i</Info><Category ovf:required="false">c</Category><Property ovf:required="false" ovf:key="k" ovf:type="uint8" ovf:value="7"/></Section>
      <Section xsi:type="ovf:OperatingSystemSection_Type" ovf:id="36"><Info>i</Info></Section>
      <Section xsi:type="ovf:VirtualHardwareSection_Type"><Info>i</Info><System><vssd:InstanceId>0</vssd:InstanceId><vssd:VirtualSystemType>vmx-04</vssd:VirtualSystemType></System>
        <Item><rasd:Caption>m</rasd:Caption><rasd:InstanceId>2</rasd:InstanceId><rasd:ResourceType>4</rasd:ResourceType><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:VirtualQuantity>512</rasd:VirtualQuantity></Item>
        <Item ovf:bound="max"><rasd:Caption>m</rasd:Caption><rasd:InstanceId>2</rasd:InstanceId><rasd:ResourceType>4</rasd:ResourceType><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:VirtualQuantity>1024</rasd:VirtualQuantity></Item>
        <Item><rasd:Caption>s</rasd:Caption><rasd:InstanceId>3</rasd:InstanceId><rasd:ResourceType>6</rasd:ResourceType><rasd:BusNumber>0</rasd:BusNumber></Item>
        <Item><rasd:Caption>h</rasd:Caption><rasd:InstanceId>4</rasd:InstanceId><rasd:ResourceType>17</rasd:ResourceType><rasd:HostResource>/disk/d</rasd:HostResource><rasd:Parent>3</rasd:Parent></Item>
        <Item><rasd:Caption>n</rasd:Caption><rasd:InstanceId>5</rasd:InstanceId><rasd:ResourceType>10</rasd:ResourceType><rasd:Connection>lan</rasd:Connection></Item>
      </Section>
    </Content>
  </Content>
</ovf:Envelope>`

// TestRulesOf09 breaks rules in a descriptor of OVF 0.9: the fault alone is an
// error.
func TestRulesOf09(t *testing.T) {
	for _, c := range []struct{ rule, old, new string }{
		{"", "", ""},
		{"OVF-DISK-001", `ovf:diskId="d" `, ``},
		{"OVF-DISK-002", `ovf:format="urn:f"/>`, `ovf:format="urn:f"/><Disk ovf:diskId="d" ovf:capacity="1" ovf:format="urn:f"/>`},
		{"OVF-DISK-003", `ovf:capacity="4096" `, ``},
		{"OVF-DISK-007", `ovf:fileRef="f"`, `ovf:fileRef="g"`},
		{"OVF-DISK-009", ` ovf:format="urn:f"`, ``},
		{"OVF-ENV-002", `<Content xsi:type="ovf:VirtualSystemCollection_Type"`, `<Content xsi:type="ovf:VirtualSystem_Type" ovf:id="b"><Info/></Content><Content xsi:type="ovf:VirtualSystemCollection_Type"`},
		{"OVF-ENV-006", `<Content xsi:type="ovf:VirtualSystemCollection_Type" ovf:id="app"`, `<Content xsi:type="ovf:VirtualSystemCollection_Type"`},
		{"OVF-ENV-009", `ovf:id="app"><Info>i</Info>`, `ovf:id="app">`},
		{"OVF-ENV-010", `ovf:VirtualSystem_Type`, `ovf:FakeSystem_Type`},
		{"OVF-EXT-001", `<Section xsi:type="ovf:NetworkSection_Type">`, `<Section xsi:type="ovf:OddSection_Type"><Info/></Section><Section xsi:type="ovf:NetworkSection_Type">`},
		{"OVF-EXT-001", `<rasd:BusNumber>`, `<rasd:Odd ovf:required="true"/><rasd:BusNumber>`},
		{"OVF-HW-001", `<rasd:InstanceId>5</rasd:InstanceId>`, ``},
		{"OVF-HW-002", `<rasd:InstanceId>5<`, `<rasd:InstanceId>4<`},
		{"OVF-HW-003", `<rasd:ResourceType>10</rasd:ResourceType>`, ``},
		{"OVF-HW-005", `ovf:bound="max"`, `ovf:bound="maximum"`},
		{"OVF-HW-006", `<Item ovf:bound="max">`, `<Item ovf:bound="max"><rasd:Caption>m</rasd:Caption><rasd:InstanceId>2</rasd:InstanceId><rasd:ResourceType>4</rasd:ResourceType></Item><Item ovf:bound="max">`},
		{"OVF-HW-008", `<rasd:Parent>3<`, `<rasd:Parent>33<`},
		{"OVF-HW-009", `/disk/d`, `/disk/e`},
		{"OVF-HW-015", `<rasd:Caption>n</rasd:Caption>`, ``},
		{"OVF-HW-021", `<rasd:ResourceType>6<`, `<rasd:ResourceType>89<`},
		{"OVF-HW-025", `<rasd:VirtualQuantity>1024<`, `<rasd:VirtualQuantity>256<`},
		{"OVF-NET-002", `<Network ovf:name="lan">`, `<Network ovf:name="lan"/><Network ovf:name="lan">`},
		{"OVF-NET-003", `<rasd:Connection>lan`, `<rasd:Connection>wan`},
		{"OVF-OS-001", ` ovf:id="36"`, ``},
		{"OVF-PROP-001", `ovf:key="k" `, ``},
		{"OVF-PROP-004", `ovf:type="uint8"`, `ovf:type="uint128"`},
		{"OVF-PROP-005", `ovf:value="7"`, `ovf:value="-7"`},
		{"OVF-REF-001", `<File ovf:id="f"`, `<File`},
		{"OVF-REF-002", ` ovf:href="d.vmdk"`, ``},
		{"OVF-REF-003", `</References>`, `<File ovf:id="f" ovf:href="e" ovf:size="1"/></References>`},
		{"OVF-REF-006", `ovf:size="10"`, `ovf:size="10" ovf:compression="zip"`},
		{"OVF-REF-011", `ovf:size="10"`, `ovf:size="10" ovf:compression="identity"`},
		{"OVF-REF-013", ` ovf:size="10"`, ``},
		{"OVF-RES-001", `<Section xsi:type="ovf:OperatingSystemSection_Type"`, `<Section xsi:type="ovf:ResourceAllocationSection_Type"><Info/></Section><Section xsi:type="ovf:OperatingSystemSection_Type"`},
		{"OVF-SEC-001", `<Section xsi:type="ovf:OperatingSystemSection_Type"`, `<Section xsi:type="ovf:DiskSection_Type"><Info/></Section><Section xsi:type="ovf:OperatingSystemSection_Type"`},
		{"OVF-SEC-002", `<Section xsi:type="ovf:NetworkSection_Type">`, `<Section xsi:type="ovf:DiskSection_Type"><Info/></Section><Section xsi:type="ovf:NetworkSection_Type">`},
		{"OVF-SEC-003", `ovf:id="36"><Info>i</Info>`, `ovf:id="36">`},
		{"OVF-START-001", `<Item ovf:id="web"`, `<Item ovf:id="db"`},
		{"OVF-START-002", ` ovf:order="1"`, ``},
	} {
		text := strings.Replace(sound09, c.old, c.new, 1)
		if text == sound09 && c.rule != "" {
			t.Errorf("%s: %q is not in the descriptor", c.rule, c.old)
			continue
		}
		found, err := errorsOf([]byte(text), Options{})
		if err != nil {
			t.Errorf("%s: %v", c.rule, err)
			continue
		}
		named := c.rule == ""
		for _, f := range found {
			named = named || f.Rule == c.rule
			// A disk or a file that has no name is missed by what refers to it.
			if f.Rule != c.rule && !strings.HasSuffix(c.rule, "-001") && c.rule != "OVF-REF-003" {
				t.Errorf("%s: found %s %s too", c.rule, f.Rule, f.Text)
			}
		}
		if !named {
			t.Errorf("%s is not found after %q: %v", c.rule, c.new, found)
		}
	}
}

func TestTheTableIsInOrder(t *testing.T) {
	if !slices.IsSortedFunc(rules, func(a, b Rule) int { return strings.Compare(a.ID, b.ID) }) {
		t.Error("rules are found by binary search and have to be in order")
	}
	for _, r := range rules {
		if got, ok := Find(r.ID); !ok || got != r || r.Title == "" || r.Help == "" || r.Clause == "" {
			t.Errorf("%s: %+v", r.ID, got)
		}
	}
	if _, ok := Find("OVF-NONE-000"); ok {
		t.Error("a rule that is not there is found")
	}
}

// pkg is a package for tests.
type pkg struct {
	archive  bool
	files    []File
	manifest bool
	format   string
	capacity int64
	size     int64
	chunks   []int64
	header   string
	alone    bool
}

func (p pkg) Archive() bool                      { return p.archive }
func (p pkg) Files() []File                      { return p.files }
func (p pkg) HasManifest() bool                  { return p.manifest }
func (p pkg) Disk(string) (string, int64, bool)  { return p.format, p.capacity, p.format != "" }
func (p pkg) FormatOf(uri string) (string, bool) { return "vmdk", uri == "urn:f" }
func (p pkg) Size(href string) int64             { return p.size }
func (p pkg) Alone() bool                        { return p.alone }
func (p pkg) Chunks(string) []int64              { return p.chunks }
func (p pkg) Header(_ string, n int) []byte      { return []byte(p.header)[:min(n, len(p.header))] }

func TestPackages(t *testing.T) {
	doc, err := ovf.Parse([]byte(sound), ovf.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	whole := pkg{archive: true, files: []File{{"a.ovf", true}}, manifest: true, format: "vmdk", capacity: 4 << 30, size: 10}
	for _, c := range []struct {
		rule   string
		change func(*pkg)
	}{
		{"", func(*pkg) {}},
		{"OVF-PKG-001", func(p *pkg) { p.size = -1 }},
		{"OVF-PKG-002", func(p *pkg) { p.size = 11 }},
		{"OVF-PKG-003", func(p *pkg) { p.manifest = false }},
		{"OVF-PKG-004", func(p *pkg) { p.files = append(p.files, File{"x", false}) }},
		{"OVF-PKG-005", func(p *pkg) { p.format = "qcow2" }},
		{"OVF-PKG-005", func(p *pkg) { p.format = "" }},
		{"OVF-PKG-006", func(p *pkg) { p.files = []File{{"d.vmdk", true}, {"a.ovf", true}} }},
		{"OVF-PKG-007", func(p *pkg) { p.capacity = 1 << 30 }},
		{"OVF-PKG-009", func(p *pkg) { p.header = "\x1f\x8b\x08" }},
		{"OVF-PKG-012", func(p *pkg) { p.archive, p.alone, p.size = false, true, -1 }},
		{"OVF-PKG-011", func(p *pkg) { p.files = append(p.files, File{"de.msg", true}, File{"d.vmdk", true}) }},
	} {
		p := whole
		p.files = slices.Clone(whole.files)
		c.change(&p)
		found := Run(doc, Options{Package: p})
		ok := slices.ContainsFunc(found, func(f Finding) bool { return f.Rule == c.rule })
		if c.rule == "" {
			ok = len(found) == 0
		}
		if !ok {
			t.Errorf("%s: found %v", c.rule, found)
		}
	}
}

func TestCompressedAndChunkedFiles(t *testing.T) {
	doc, err := ovf.Parse([]byte(strings.Replace(sound, `ovf:size="10"`, `ovf:size="10" ovf:compression="gzip" ovf:chunkSize="4"`, 1)), ovf.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		rule, header string
		chunks       []int64
	}{
		{"", "\x1f\x8b\x08", []int64{4, 4, 2}},
		{"OVF-PKG-008", "KDM", []int64{4, 4, 2}},
		{"OVF-PKG-010", "\x1f\x8b\x08", []int64{4, 3, 3}},
		{"OVF-PKG-010", "\x1f\x8b\x08", []int64{5, 5}},
	} {
		p := pkg{archive: true, files: []File{{"a.ovf", true}}, manifest: true, size: 10, header: c.header, chunks: c.chunks}
		found := Run(doc, Options{Package: p})
		if ok := slices.ContainsFunc(found, func(f Finding) bool { return f.Rule == c.rule }); ok != (c.rule != "") || !ok && len(found) > 0 {
			t.Errorf("%q: found %v", c.rule, found)
		}
	}
}

func TestWhatCannotBeReadIsAFindingToo(t *testing.T) {
	for _, c := range []struct{ in, rule, pos string }{
		{"<Envelope>\n</Envelop>", "OVF-XML-002", "2:1"},
		{"<FakeEnvelope/>", "OVF-XML-003", "1:1"},
		{"<Envelope><a/></Envelope>", "", ""},
	} {
		_, err := ovf.Parse([]byte(c.in), ovf.ParseOptions{})
		f, ok := Broken(fmt.Errorf("a.ovf: %w", err))
		if ok != (c.rule != "") || ok && (f.Rule != c.rule || f.Pos.String() != c.pos || f.Severity != Error || f.Text == "" || f.Help == "") {
			t.Errorf("%q: %v %+v", c.in, ok, f)
		}
	}
}

// TestManyOfEverythingEnds judges descriptors whose judging would take hours if
// its cost grew with the square of what is in them.
func TestManyOfEverythingEnds(t *testing.T) {
	const n = 20_000
	many := func(format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i, i+1)
		}
		return b.String()
	}
	open, end := `<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="r">`, `</Envelope>`
	for _, c := range []string{
		"<References>" + many(`<File ovf:id="%d" ovf:href="%d"/>`) + "</References>" + many(`<Strings ovf:fileRef="%d"/><!--%d-->`),
		"<DiskSection>" + many(`<Disk ovf:diskId="%d" ovf:parentRef="%d"/>`) + "</DiskSection>",
		"<DiskSection>" + many(`<Disk ovf:diskId="%d" ovf:capacity="${%d}"/>`) + "</DiskSection>",
		"<VirtualSystem><VirtualHardwareSection>" + many(`<Item><rasd:InstanceID>%d</rasd:InstanceID><rasd:Parent>%d</rasd:Parent></Item>`) + "</VirtualHardwareSection></VirtualSystem>",
		"<VirtualSystemCollection>" + many(`<StartupSection ovf:x="%d%d"/>`) + many(`<VirtualSystem ovf:id="%d" ovf:x="%d"/>`) + "</VirtualSystemCollection>",
		"<VirtualSystem>" + many(`<Section ovf:x="%d%d"/>`) + "</VirtualSystem>",
	} {
		doc, err := ovf.Parse([]byte(open+c+end), ovf.ParseOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if found := Run(doc, Options{}); len(found) == 0 || len(found) > maxFindings {
			t.Errorf("%d findings", len(found))
		}
	}
}

func FuzzRun(f *testing.F) {
	f.Add([]byte(sound))
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := ovf.Parse(data, ovf.ParseOptions{MaxSize: 1 << 20})
		if err != nil {
			return
		}
		if n := len(Run(doc, Options{})); n > maxFindings {
			t.Fatalf("%d findings", n)
		}
	})
}

// BenchmarkRun judges a descriptor of 10 KB.
func BenchmarkRun(b *testing.B) {
	item := "        <Item><rasd:Address>0</rasd:Address><rasd:ElementName>s</rasd:ElementName><rasd:InstanceID>%d</rasd:InstanceID><rasd:ResourceType>6</rasd:ResourceType></Item>\n"
	var more strings.Builder
	for i := 0; len(sound)+more.Len() < 10_000; i++ {
		fmt.Fprintf(&more, item, 100+i)
	}
	data := []byte(strings.Replace(sound, "      </VirtualHardwareSection>", more.String()+"      </VirtualHardwareSection>", 1))
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		doc, err := ovf.Parse(data, ovf.ParseOptions{})
		if err != nil {
			b.Fatal(err)
		}
		if found := Run(doc, Options{}); len(found) > 0 {
			b.Fatal(found)
		}
	}
}

func ExampleRun() {
	doc, err := ovf.Parse([]byte(strings.Replace(sound, `ovf:capacity="4"`, `ovf:capacity="four"`, 1)), ovf.ParseOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range Run(doc, Options{}) {
		fmt.Println(f.Pos, f.Severity, f.Rule, f.Text)
	}
	// Output: 5:67 error OVF-DISK-004 Disk "d": the capacity "four" is no number of bytes above zero
}
