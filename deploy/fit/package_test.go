package fit_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/trust"
	"github.com/ovation-project/ovation/deploy/fit"
	"github.com/ovation-project/ovation/ovf"
)

const pasd = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ProcessorAllocationSettingData"

// spec is an appliance as a test writes it. The zero value is one machine with
// one processor, 64 MiB of memory and a disk of 1 MiB on an IDE controller.
type spec struct {
	// families are the VirtualSystemType of the first hardware section, items
	// what it has besides processors and memory; "" is a disk on IDE.
	families, items string
	// hardware is more in that section, further are whole hardware sections.
	hardware, further string
	cpus, memory      int // MiB
	transport         string
	// references, disks, networks and sections are more of the envelope's.
	references, disks, networks, sections string
	// system is more in the virtual system, others further virtual systems.
	system, others string
	// files are the package's, besides the descriptor and d.img; nil content
	// leaves d.img out.
	files map[string][]byte
	// manifest is written where it is set, and with it altered after.
	manifest bool
	altered  []string
	os       string
}

// item is an item of a type and subtype; more stands in it.
func item(id, typ int, sub, more string, attributes ...string) string {
	return fmt.Sprintf(`<Item %s><rasd:ElementName>item %d</rasd:ElementName><rasd:InstanceID>%[2]d</rasd:InstanceID>%s<rasd:ResourceSubType>%s</rasd:ResourceSubType><rasd:ResourceType>%d</rasd:ResourceType></Item>`+"\n",
		strings.Join(attributes, " "), id, more, sub, typ)
}

// drive is a disk on a controller.
func drive(id, controller, place int, disk string) string {
	return item(id, 17, "", fmt.Sprintf(`<rasd:AddressOnParent>%d</rasd:AddressOnParent><rasd:HostResource>ovf:/disk/%s</rasd:HostResource><rasd:Parent>%d</rasd:Parent>`, place, disk, controller))
}

// card is a network card.
func card(id int, sub, network string, attributes ...string) string {
	return item(id, 10, sub, "<rasd:Connection>"+network+"</rasd:Connection>", attributes...)
}

// on is a disk on a controller of a type and subtype.
func on(typ int, sub string) string { return item(3, typ, sub, "") + drive(4, 3, 0, "d") }

func (s spec) hardwareSection() string {
	items := s.items
	if items == "" {
		items = on(5, "")
	}
	transport := ""
	if s.transport != "" {
		transport = fmt.Sprintf(" ovf:transport=%q", s.transport)
	}
	return "<VirtualHardwareSection" + transport + "><Info/><System><vssd:VirtualSystemType>" + s.families + "</vssd:VirtualSystemType></System>" +
		item(1, 3, "", fmt.Sprintf("<rasd:VirtualQuantity>%d</rasd:VirtualQuantity>", max(1, s.cpus))) +
		item(2, 4, "", fmt.Sprintf("<rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:VirtualQuantity>%d</rasd:VirtualQuantity>", max(64, s.memory))) +
		items + s.hardware + "</VirtualHardwareSection>" + s.further
}

func (s spec) descriptor() string {
	open, end := "", ""
	if s.others != "" {
		open, end = `<VirtualSystemCollection ovf:id="all"><Info/>`, "</VirtualSystemCollection>"
	}
	return `<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="` + ovf.NS1 + `" xmlns:ovf="` + ovf.NS1 + `" xmlns:rasd="` + ovf.NSRASD + `" xmlns:vssd="` + ovf.NSVSSD + `" xmlns:vmw="` + ovf.NSVMware + `" xmlns:vbox="` + ovf.NSVBox + `" xmlns:pasd="` + pasd + `" xmlns:acme="http://acme.example/">
<References><File ovf:id="f" ovf:href="d.img"/>` + s.references + `</References>
<DiskSection><Info/><Disk ovf:diskId="d" ovf:fileRef="f" ovf:capacity="1048576" ovf:format="raw"/>` + s.disks + `</DiskSection>
<NetworkSection><Info/><Network ovf:name="lan"/>` + s.networks + `</NetworkSection>` + s.sections + open + `
<VirtualSystem ovf:id="vm"><Info/><Name>machine</Name>` + s.os + s.hardwareSection() + s.system + `</VirtualSystem>` + s.others + end + `</Envelope>`
}

// write makes the package in a folder.
func (s spec) write(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	s.writeTo(t, dir)
	return dir
}

// tester is a testing.TB, or rapid's.
type tester interface {
	Helper()
	Fatal(args ...any)
}

// writeTo makes the package in a folder that is there.
func (s spec) writeTo(t tester, dir string) {
	t.Helper()
	files := map[string][]byte{"a.ovf": []byte(s.descriptor())}
	if _, own := s.files["d.img"]; !own {
		files["d.img"] = make([]byte, 1<<20)
	}
	for name, content := range s.files {
		if content != nil {
			files[name] = content
		}
	}
	var manifest strings.Builder
	for name, content := range files {
		put(t, filepath.Join(dir, name), content)
		fmt.Fprintf(&manifest, "SHA256(%s)= %x\n", name, sha256.Sum256(content))
	}
	if s.manifest {
		put(t, filepath.Join(dir, "a.mf"), []byte(manifest.String()))
	}
	for _, name := range s.altered {
		put(t, filepath.Join(dir, name), append(files[name], '\n'))
	}
}

func put(t tester, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// open opens a package.
func open(t testing.TB, locator string) *appliance.Package {
	t.Helper()
	pkg, err := appliance.Open(t.Context(), locator, appliance.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pkg.Close() })
	return pkg
}

// examine is the subject that a spec makes.
func (s spec) examine(t testing.TB, opt fit.ExamineOptions) *fit.Subject {
	t.Helper()
	if opt.Store == nil {
		opt.Store = &trust.Store{}
	}
	subject, err := fit.Examine(t.Context(), open(t, s.write(t)), opt)
	if err != nil {
		t.Fatal(err)
	}
	return subject
}
