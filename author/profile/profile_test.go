package profile

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/author/descriptor"
	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/ovf"
	"github.com/ovation-project/ovation/ovf/lint"
)

// TestDocs sees that the documentation is the code's. With UPDATE_DOCS set it
// is written.
func TestDocs(t *testing.T) {
	const path, begin = "../../docs/profiles.md", "## dmtf"
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(have), begin)
	var b strings.Builder
	if err := WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	want := head + strings.TrimRight(b.String(), "\n") + "\n"
	if want == string(have) {
		return
	}
	if os.Getenv("UPDATE_DOCS") == "" {
		t.Fatalf("%s is stale: run 'go generate ./author/profile'", path)
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestReasons wants a reason for each thing that a profile chooses.
func TestReasons(t *testing.T) {
	for i := range profiles {
		for _, f := range profiles[i].facts() {
			if f.Why == "" || strings.TrimSpace(f.Value) == "" {
				t.Errorf("%s: %s has the value %q and the reason %q", profiles[i].Name, f.What, f.Value, f.Why)
			}
		}
	}
}

func TestFind(t *testing.T) {
	if _, err := Find("vmware"); err == nil || !strings.Contains(err.Error(), "vsphere") {
		t.Errorf("got %v", err)
	}
	if p, err := Find("kvm"); err != nil || p.Name != "kvm" {
		t.Errorf("got %v, %v", p, err)
	}
}

func TestModels(t *testing.T) {
	text := `
version: "2.0"
disks: [{id: d, capacity: 1GiB}]
networks: [n]
machine:
  id: vm
  hardware:
    family: vmx-99
    disks: [{disk: d, controller: virtio}]
    cards: [{network: n, model: [virtio, E1000]}]
    devices: [{type: scsi, id: "9", subtypes: ["pvscsi, lsilogic"]}]
`
	for name, want := range map[string][]string{
		"vsphere":    {"VirtualSCSI", "VmxNet3", "vmx-21"},
		"virtualbox": {"VirtioSCSI", "VirtioNet", "lsilogic", "virtualbox-2.2"},
		"kvm":        {"VirtioSCSI", "virtio", "kvm"},
	} {
		p, err := Find(name)
		if err != nil {
			t.Fatal(err)
		}
		a, err := spec.Parse("a.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Apply(a); err != nil {
			t.Fatal(err)
		}
		h := a.Machine.Hardware[0]
		have := []string{strings.Join(h.Family, " ")}
		for _, d := range h.Devices {
			have = append(have, strings.Join(d.SubTypes, " "))
		}
		for _, w := range want {
			if !slices.Contains(have, w) {
				t.Errorf("%s: %q is not among %q", name, w, have)
			}
		}
	}
}

// TestWild takes what other products write, and consumers refuse: families,
// units, and the firmware in an element of VirtualBox's own.
func TestWild(t *testing.T) {
	doc, err := ovf.Parse([]byte(`<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData" xmlns:vbox="http://www.virtualbox.org/ovf/machine">
  <References/>
  <DiskSection><Info/><Disk ovf:diskId="d" ovf:capacity="20" ovf:capacityAllocationUnits="GigaBytes" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/></DiskSection>
  <VirtualSystem ovf:id="vm"><Info/>
    <VirtualHardwareSection><Info/>
      <System><vssd:ElementName>V</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID><vssd:VirtualSystemType>virtualbox-2.2</vssd:VirtualSystemType></System>
      <Item><rasd:AllocationUnits>MegaBytes</rasd:AllocationUnits><rasd:ElementName>M</rasd:ElementName><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>2048</rasd:VirtualQuantity></Item>
    </VirtualHardwareSection>
    <vbox:Machine ovf:required="false" version="1.19-linux" uuid="{5e9a1a0e-9b4f-4d3c-8f5c-0a1b2c3d4e5f}" name="vm"><Hardware><Firmware type="EFI"/></Hardware></vbox:Machine>
  </VirtualSystem>
</Envelope>`), ovf.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range Names() {
		p, err := Find(name)
		if err != nil {
			t.Fatal(err)
		}
		a, _, err := descriptor.Read(doc, descriptor.ReadOptions{KeysOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Apply(a); err != nil {
			t.Fatal(err)
		}
		h := a.Machine.Hardware[0]
		if want := map[string]string{"dmtf": "virtualbox-2.2"}[name]; strings.Join(h.Family, " ") != cmp.Or(want, p.Family) {
			t.Errorf("%s: family %v", name, h.Family)
		}
		if m := h.Devices[0]; m.Quantity != "2048" || m.Units != "byte * 2^20" {
			t.Errorf("%s: memory %s %s", name, m.Quantity, m.Units)
		}
		if d := a.Disks[0]; d.Capacity != "20" || d.Units != "byte * 2^30" {
			t.Errorf("%s: capacity %s %s", name, d.Capacity, d.Units)
		}
		if h.Firmware != "efi" {
			t.Errorf("%s: firmware %q", name, h.Firmware)
		}
	}
}

// TestCorpus shapes the descriptors of other products for every consumer: what
// comes out has to be read, and to resolve where the original did, and must not
// break a rule that the original kept.
func TestCorpus(t *testing.T) {
	files, err := filepath.Glob("../../../shared/corpus/descriptors/p*/*.ovf")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skip("the reference descriptors are not at ../../../shared/corpus")
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := ovf.Parse(data, ovf.ParseOptions{})
		if err != nil {
			continue
		}
		_, before := ovf.Resolve(doc.Envelope(), ovf.ResolveOptions{})
		had := map[string]bool{}
		for _, f := range lint.Run(doc, lint.Options{Lax: true}) {
			had[f.Rule] = true
		}
		for _, name := range Names() {
			p, err := Find(name)
			if err != nil {
				t.Fatal(err)
			}
			a, _, err := descriptor.Read(doc, descriptor.ReadOptions{KeysOnly: true})
			if err != nil {
				continue
			}
			if _, err := p.Apply(a); err != nil {
				t.Errorf("%s for %s: %v", file, name, err)
				continue
			}
			l := &descriptor.Layout{Disks: map[string]descriptor.Disk{}}
			for _, d := range a.Disks {
				if d.File != "" {
					l.Files = append(l.Files, descriptor.File{ID: d.FileID, Href: d.File, Size: 1})
				}
				l.Disks[d.ID] = descriptor.Disk{FileID: d.FileID, Populated: -1, URI: "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"}
			}
			for _, f := range a.Files {
				l.Files = append(l.Files, descriptor.File{ID: f.ID, Href: f.Name, Size: 1})
			}
			out, err := descriptor.Render(a, l, descriptor.Options{Models: &p.Models, CapacityUnits: p.CapacityUnits})
			if err != nil {
				t.Errorf("%s for %s: %v", file, name, err)
				continue
			}
			shaped, err := ovf.Parse(out, ovf.ParseOptions{})
			if err != nil {
				t.Errorf("%s for %s: %v", file, name, err)
				continue
			}
			if rules := importers[name]; rules != nil && before == nil {
				for _, broken := range rules(shaped.Envelope()) {
					t.Errorf("%s for %s: %s", filepath.Base(file), name, broken)
				}
			}
			if _, err := ovf.Resolve(shaped.Envelope(), ovf.ResolveOptions{}); err != nil && before == nil {
				t.Errorf("%s for %s: %v", file, name, err)
			}
			for _, f := range lint.Run(shaped, lint.Options{Lax: true}) {
				if f.Severity == lint.Error && !had[f.Rule] {
					t.Errorf("%s for %s: %s: %s: %s", filepath.Base(file), name, f.Pos, f.Rule, f.Text)
				}
			}
		}
	}
}
