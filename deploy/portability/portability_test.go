package portability_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/portability"
	"github.com/ovation-project/ovation/ovf"
)

// descriptor has what is given in its places.
type descriptor struct {
	files    string   // in References
	section  string   // in the Envelope
	hardware []string // sections of the virtual system, each the inside of one
	system   string   // in the virtual system
	more     string   // other virtual systems
}

func (d descriptor) parse(t testing.TB) *ovf.Envelope {
	t.Helper()
	var hardware strings.Builder
	for _, h := range d.hardware {
		hardware.WriteString(section(h))
	}
	open, end := "", ""
	if d.more != "" {
		open, end = `<VirtualSystemCollection ovf:id="all"><Info/>`, "</VirtualSystemCollection>"
	}
	text := `<Envelope xmlns="` + ovf.NS1 + `" xmlns:ovf="` + ovf.NS1 + `" xmlns:rasd="` + ovf.NSRASD + `" xmlns:vssd="` + ovf.NSVSSD + `" xmlns:vmw="` + ovf.NSVMware + `" xmlns:vbox="` + ovf.NSVBox + `"
 xmlns:pasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ProcessorAllocationSettingData" xmlns:acme="http://acme.example/">
<References>` + d.files + `</References><DeploymentOptionSection><Info/><Configuration ovf:id="small"><Label/><Description/></Configuration><Configuration ovf:id="gpu"><Label/><Description/></Configuration></DeploymentOptionSection>` +
		d.section + open + `<VirtualSystem ovf:id="vm"><Info/>` + hardware.String() + d.system + `</VirtualSystem>` + d.more + end + `</Envelope>`
	doc, err := ovf.Parse([]byte(text), ovf.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return doc.Envelope()
}

// section makes a VirtualHardwareSection: of "families; items", or with a
// transport before.
func section(h string) string {
	transport, rest, ok := strings.Cut(h, "|")
	if !ok {
		transport, rest = "", h
	}
	families, items, _ := strings.Cut(rest, ";")
	if transport != "" {
		transport = ` ovf:transport="` + transport + `"`
	}
	return `<VirtualHardwareSection` + transport + `><Info/><System><vssd:VirtualSystemType>` + families + `</vssd:VirtualSystemType></System>` + items + `</VirtualHardwareSection>`
}

func device(typ int, sub string, attributes ...string) string {
	return fmt.Sprintf(`<Item %s><rasd:ElementName>device</rasd:ElementName><rasd:InstanceID>%d</rasd:InstanceID><rasd:ResourceSubType>%s</rasd:ResourceSubType><rasd:ResourceType>%d</rasd:ResourceType></Item>`,
		strings.Join(attributes, " "), typ*100+len(sub), sub, typ)
}

const optional = `ovf:required="false"`

// TestLevels has a descriptor for each thing that decides the level.
func TestLevels(t *testing.T) {
	const cpu = `<Item><rasd:ElementName>cpu</rasd:ElementName><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType>` +
		`<pasd:InstructionSetExtensionName %s>DMTF:x86:AES</pasd:InstructionSetExtensionName></Item>`
	vmware, virtualbox, qemu, xen := deploy.VMware, deploy.VirtualBox, deploy.QEMU, deploy.Xen
	for name, c := range map[string]struct {
		d        descriptor
		opt      portability.Options
		level    portability.Level
		families []deploy.Family
		reasons  []string // one for each, in their order
	}{
		"nothing said":            {descriptor{hardware: []string{";" + device(10, "") + device(5, "")}}, portability.Options{}, 3, nil, nil},
		"no hardware":             {descriptor{}, portability.Options{}, 3, nil, nil},
		"common devices":          {descriptor{hardware: []string{";" + device(10, "E1000") + device(6, "lsilogic")}}, portability.Options{}, 3, []deploy.Family{qemu, virtualbox, vmware}, nil},
		"one family":              {descriptor{hardware: []string{"vmx-13;" + device(10, "E1000")}}, portability.Options{}, 2, []deploy.Family{vmware}, []string{"vmx-13 is one family, VMware"}},
		"versions of one family":  {descriptor{hardware: []string{"vmx-08 vmx-09,vmx-10;"}}, portability.Options{}, 2, []deploy.Family{vmware}, []string{"one family"}},
		"two families":            {descriptor{hardware: []string{"vmx-04 xen-3;" + device(6, "lsilogic")}}, portability.Options{}, 3, []deploy.Family{vmware, xen}, nil},
		"two sections":            {descriptor{hardware: []string{"vmx-07;" + device(10, "VmxNet3"), "virtualbox-2.2;" + device(10, "virtio")}}, portability.Options{}, 3, []deploy.Family{virtualbox, vmware}, nil},
		"two of one family":       {descriptor{hardware: []string{"vmx-07;", "vmx-13;"}}, portability.Options{}, 2, []deploy.Family{vmware}, []string{"vmx-07", "vmx-13"}},
		"a family unheard of":     {descriptor{hardware: []string{"ACME:Warp:1;"}}, portability.Options{}, 2, []deploy.Family{"acme:warp:1"}, []string{"acme:warp:1"}},
		"one and unheard of":      {descriptor{hardware: []string{"vmx-08 ACME:Warp:1;"}}, portability.Options{}, 3, []deploy.Family{"acme:warp:1", vmware}, nil},
		"a device of one family":  {descriptor{hardware: []string{";" + device(10, "Vmxnet2")}}, portability.Options{}, 2, []deploy.Family{vmware}, []string{"only VMware has Vmxnet2"}},
		"it is not required":      {descriptor{hardware: []string{";" + device(10, "Vmxnet2", optional) + device(1, "vmware.vmci", optional)}}, portability.Options{}, 3, nil, nil},
		"or another device":       {descriptor{hardware: []string{";" + device(10, "Vmxnet2 E1000")}}, portability.Options{}, 3, []deploy.Family{qemu, virtualbox, vmware, xen}, nil},
		"of two families one":     {descriptor{hardware: []string{"vmx-08 kvm;" + device(1, "vmware.vmci")}}, portability.Options{}, 2, []deploy.Family{vmware}, []string{"only VMware has vmware.vmci"}},
		"on neither":              {descriptor{hardware: []string{"vmx-08 xen-3;" + device(5, "virtio")}}, portability.Options{}, 2, []deploy.Family{vmware, xen}, []string{"only QEMU and KVM has virtio"}},
		"devices that never meet": {descriptor{hardware: []string{";" + device(10, "VmxNet3") + device(10, "rtl8139")}}, portability.Options{}, 2, []deploy.Family{qemu}, []string{"only QEMU and KVM runs all"}},
		"a required section":      {descriptor{section: `<acme:LicenseSection><Info/></acme:LicenseSection>`, hardware: []string{";"}}, portability.Options{}, 2, nil, []string{"only those products know it"}},
		"VMware's":                {descriptor{system: `<vmw:IpAssignmentSection><Info/></vmw:IpAssignmentSection>`, hardware: []string{";"}}, portability.Options{}, 2, nil, []string{"only VMware knows it"}},
		"a section to pass over":  {descriptor{section: `<acme:X ` + optional + `><Info/></acme:X>`, hardware: []string{";"}}, portability.Options{}, 3, nil, nil},
		"a required setting":      {descriptor{hardware: []string{`;<vmw:Config ovf:required="true" vmw:key="svga" vmw:value="1"/>`}}, portability.Options{}, 2, nil, []string{"the setting svga"}},
		"a setting":               {descriptor{hardware: []string{`;<vmw:ExtraConfig vmw:key="svga" vmw:value="1"/>`}}, portability.Options{}, 3, nil, nil},
		"in one section of two":   {descriptor{hardware: []string{`vmx-07;<vmw:Config ovf:required="true" vmw:key="svga" vmw:value="1"/>`, "kvm xen;"}}, portability.Options{}, 3, []deploy.Family{qemu, xen}, nil},
		"CPU features":            {descriptor{hardware: []string{";" + fmt.Sprintf(cpu, "")}}, portability.Options{}, 2, nil, []string{"DMTF:x86:AES"}},
		"CPU features, wished":    {descriptor{hardware: []string{";" + fmt.Sprintf(cpu, optional)}}, portability.Options{}, 3, nil, nil},
		"guests of its own":       {descriptor{hardware: []string{`;<vmw:Config ovf:required="true" vmw:key="nestedHVEnabled" vmw:value="true"/>`}}, portability.Options{}, 2, nil, []string{"nestedHVEnabled", "guests of its own"}},
		"guestInfo alone":         {descriptor{hardware: []string{"com.vmware.guestInfo|;"}}, portability.Options{}, 2, nil, []string{"com.vmware.guestInfo only"}},
		"guestInfo or a CD-ROM":   {descriptor{hardware: []string{"com.vmware.guestInfo iso|;"}}, portability.Options{}, 3, nil, nil},
		"a host's own device":     {descriptor{hardware: []string{";" + device(1, "vmware.pci.passthrough")}}, portability.Options{}, 1, []deploy.Family{vmware}, []string{"device of one host"}},
		"in another option":       {descriptor{hardware: []string{";" + device(34, "", `ovf:configuration="gpu"`)}}, portability.Options{Option: "small"}, 3, nil, nil},
		"in this option":          {descriptor{hardware: []string{";" + device(34, "", `ovf:configuration="gpu"`)}}, portability.Options{Option: "gpu"}, 1, nil, []string{"device of one host"}},
		"suspended":               {descriptor{files: `<File ovf:id="s" ovf:href="vm.VMSS"/>`, hardware: []string{"vmx-07;"}}, portability.Options{}, 1, []deploy.Family{vmware}, []string{"VMware's suspended", "one family"}},
		"a file beside":           {descriptor{hardware: []string{";"}}, portability.Options{Files: []string{"a/vm.sav", "vm.ovf"}}, 1, nil, []string{"VirtualBox's saved"}},
		"a disk with a snapshot":  {descriptor{hardware: []string{";"}}, portability.Options{Saved: []string{"d"}}, 1, nil, []string{"disk d: its image holds a snapshot of the guest as it ran"}},
		"saved":                   {descriptor{system: `<vbox:Machine ovf:required="false" stateFile="x.sav"/>`, hardware: []string{"virtualbox-2.2;"}}, portability.Options{}, 1, []deploy.Family{virtualbox}, []string{"saved while it ran", "one family"}},
		"a suspended VMX":         {descriptor{hardware: []string{`;<vmw:ExtraConfig vmw:key="checkpoint.vmState" vmw:value="vm.vmss"/>`}}, portability.Options{}, 1, nil, []string{"was suspended"}},
		"a VMX that was off":      {descriptor{hardware: []string{`;<vmw:ExtraConfig vmw:key="checkpoint.vmState" vmw:value=""/>`}}, portability.Options{}, 3, nil, nil},
		"machines of two families": {descriptor{hardware: []string{"vmx-07;"}, more: `<VirtualSystem ovf:id="db"><Info/>` + section("kvm;") + `</VirtualSystem>`}, portability.Options{}, 2, []deploy.Family{},
			[]string{"vmx-07", "kvm"}},
		"machines with one in common": {descriptor{hardware: []string{"vmx-07 xen;"}, more: `<VirtualSystem ovf:id="db"><Info/>` + section("vmx-07 kvm;") + `</VirtualSystem>`}, portability.Options{}, 2,
			[]deploy.Family{vmware}, []string{"only VMware runs all of them"}},
		"one of the machines": {descriptor{hardware: []string{"vmx-07 xen;"}, more: `<VirtualSystem ovf:id="db"><Info/>` + section("vmx-07 kvm;") + `</VirtualSystem>`}, portability.Options{Systems: []string{"db"}}, 3,
			[]deploy.Family{qemu, vmware}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			a := portability.Of(c.d.parse(t), c.opt)
			if a.Level != c.level || !slices.Equal(a.Families, c.families) {
				t.Errorf("level %d and %q, want %d and %q", a.Level, a.Families, c.level, c.families)
			}
			var said []string
			for _, r := range a.Reasons {
				said = append(said, r.String())
				if r.Raise == "" || r.Level < 1 || r.Level > 2 || (r.Level == 1) != (r.Risk != "") {
					t.Errorf("%+v says too little", r)
				}
			}
			if len(said) != len(c.reasons) {
				t.Fatalf("the reasons are %q, want %q", said, c.reasons)
			}
			for k, want := range c.reasons {
				if !strings.Contains(said[k], want) {
					t.Errorf("reason %q, want %q", said[k], want)
				}
			}
		})
	}
}

func TestMadeFor(t *testing.T) {
	a := portability.Of(descriptor{hardware: []string{"vmx-13;"}}.parse(t), portability.Options{})
	for family, want := range map[string]bool{"vmx-09": true, "kvm": false, "": false} {
		if got := a.MadeFor(deploy.FamiliesOf([]string{family})); got != want {
			t.Errorf("%q: %v", family, got)
		}
	}
}

// TestCorpus has other people's descriptors: each has a level, and says why it
// is not the highest.
func TestCorpus(t *testing.T) {
	root := filepath.Join("..", "..", "..", "shared", "corpus")
	if _, err := os.Stat(root); err != nil {
		t.Skip("the corpus of descriptors is not there:", err)
	}
	count := map[portability.Level]int{}
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.EqualFold(filepath.Ext(path), ".ovf") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		d, err := ovf.Parse(text, ovf.ParseOptions{})
		if err != nil {
			return nil // the package ovf's own tests look at those
		}
		a := portability.Of(d.Envelope(), portability.Options{})
		count[a.Level]++
		if (a.Level == portability.ManyFamilies) != (len(a.Reasons) == 0) {
			t.Errorf("%s: level %d, and the reasons are %v", path, a.Level, a.Reasons)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("levels: %v", count)
}
