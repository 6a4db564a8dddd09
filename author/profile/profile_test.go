package profile

import (
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
