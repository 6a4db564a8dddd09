package hostile

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vmware/govmomi/simulator"

	"github.com/ovation-project/ovation/hypervisor/vsphere"
	"github.com/ovation-project/ovation/internal/testenv"
	"github.com/ovation-project/ovation/internal/testlibvirt"
	"github.com/ovation-project/ovation/internal/testvsphere"
)

// namesThatLead is a package every name of which is markup, a path, an option or
// an escape, and whose guest wants its environment.
func namesThatLead(t *testing.T) []byte {
	const (
		up     = "../../outside"
		markup = "&quot;/&gt;&lt;disk type='file'&gt;&lt;source file='/etc/passwd'/&gt;&lt;/disk&gt;]]&gt;"
		escape = "x&#10;-drive file=/etc/passwd,&#x9b;2J&#x202e;"
	)
	text := strings.NewReplacer(
		`<VirtualSystem ovf:id="a"><Info>A</Info>`, `<VirtualSystem ovf:id="`+up+`"><Info>`+markup+`</Info><Name>../`+escape+`%2f..\`+markup+`</Name>`+
			`<ProductSection ovf:class="`+markup+`"><Info/><Product>`+escape+markup+`</Product><Vendor>`+markup+`</Vendor>`+
			`<Property ovf:key="k`+markup+`" ovf:type="string" ovf:value="`+escape+markup+`"/></ProductSection>`,
		`ovf:diskId="d"`, `ovf:diskId="../outside,file=/etc/passwd"`, "ovf:/disk/d", "ovf:/disk/../outside,file=/etc/passwd",
		`<VirtualHardwareSection>`, `<VirtualHardwareSection ovf:transport="iso com.vmware.guestInfo">`,
		"</DiskSection>", `</DiskSection><NetworkSection><Info/><Network ovf:name="`+markup+escape+`"/></NetworkSection>`,
		"</VirtualHardwareSection>", `<Item><rasd:ElementName>`+escape+`</rasd:ElementName><rasd:InstanceID>`+markup+`</rasd:InstanceID><rasd:Connection>`+markup+escape+`</rasd:Connection><rasd:ResourceSubType>E1000</rasd:ResourceSubType><rasd:ResourceType>10</rasd:ResourceType></Item>`+
			`<Item><rasd:InstanceID>8</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>1</rasd:VirtualQuantity></Item>`+
			`<Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:InstanceID>9</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>32</rasd:VirtualQuantity></Item></VirtualHardwareSection>`,
		"<rasd:ResourceType>20<", "<rasd:ResourceSubType>lsilogic</rasd:ResourceSubType><rasd:ResourceType>6<",
	).Replace(sound)
	return archive(t, member{name: "a.ovf", data: []byte(text)}, member{name: "disk.raw", data: make([]byte, 1<<20)})
}

// host runs the program on what is deployed to a host.
type host struct {
	t   *testing.T
	dir string
}

func newHost(t *testing.T, pkg []byte) *host {
	h := &host{t, victim(t)}
	if err := os.WriteFile(filepath.Join(h.dir, "work", "a.ova"), pkg, 0o600); err != nil {
		t.Fatal(err)
	}
	return h
}

// run wants exit code 0, and what ovation itself looks for.
func (h *host) run(args ...string) string {
	h.t.Helper()
	code, stdout, stderr := ovation(h.t, h.dir, nil, args...)
	if code != 0 {
		h.t.Fatalf("ovation %s: exit code %d\n%s", strings.Join(args, " "), code, stderr)
	}
	if strings.Contains(stdout+stderr, secret) {
		h.t.Errorf("ovation %s: shows a file outside of the package", strings.Join(args, " "))
	}
	return stdout
}

// at is a machine behind the URI of its host.
func at(uri, name string) string {
	place, query, _ := strings.Cut(uri, "?")
	return place + "/" + url.PathEscape(name) + "?" + query
}

// looks are the commands that look at what a host has, and at what was done.
func (h *host) looks(uri, name string) {
	h.t.Helper()
	for _, args := range [][]string{{"ps"}, {"ps", "--on", uri}, {"ps", "--json", "--on", uri}, {"ps", name, "--on", uri}, {"history"}, {"history", "--json"}, {"history", name}} {
		h.run(args...)
	}
}

// plainName is a name of a machine, and of its volumes before their endings.
var plainName = regexp.MustCompile(`^[\pL\pN_][\pL\pN._-]*$`)

// TestDeployOfHostileNames deploys the package to a libvirt, where its names are
// names and nothing else, and takes it away again.
func TestDeployOfHostileNames(t *testing.T) {
	t.Parallel()
	d := testlibvirt.Start(t, testlibvirt.Options{})
	h := newHost(t, namesThatLead(t))
	h.run("deploy", "a.ova", "--to", d.URI, "--network", "user", "--dry-run")
	h.run("deploy", "a.ova", "--to", d.URI, "--network", "user", "--dry-run", "--json")
	out := h.run("deploy", "a.ova", "--to", d.URI, "--network", "user", "--json")
	var made struct{ Name string }
	if err := json.Unmarshal([]byte(out), &made); err != nil || !plainName.MatchString(made.Name) {
		t.Fatalf("%v: %s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(d.PoolDir, "*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("%v: the pool has %q, and not a disk and an environment", err, files)
	}
	for _, f := range files {
		if name := filepath.Base(f); !plainName.MatchString(name) {
			t.Errorf("a volume is called %q", name)
		}
	}
	text, err := exec.Command(testenv.NeedTool(t, "virsh"), "-c", d.URI, "dumpxml", made.Name).Output()
	if err != nil {
		t.Fatal(err)
	}
	var domain struct {
		Name    string `xml:"name"`
		Devices struct {
			Disks []struct {
				Source struct {
					File string `xml:"file,attr"`
				} `xml:"source"`
			} `xml:"disk"`
			Interfaces []struct{} `xml:"interface"`
		} `xml:"devices"`
	}
	if err := xml.Unmarshal(text, &domain); err != nil {
		t.Fatal(err)
	}
	if len(domain.Devices.Disks) != 2 || len(domain.Devices.Interfaces) != 1 {
		t.Errorf("the domain has %d disks and %d network cards:\n%s", len(domain.Devices.Disks), len(domain.Devices.Interfaces), text)
	}
	for _, x := range domain.Devices.Disks {
		if filepath.Dir(x.Source.File) != d.PoolDir {
			t.Errorf("a disk is in %q", x.Source.File)
		}
	}
	h.looks(d.URI, made.Name)
	h.run("export", at(d.URI, made.Name), "-o", "out.ova")
	h.run("inspect", "out.ova")
	removeOutput(t, h.dir)
	h.run("rm", made.Name, "--on", d.URI)
	if files, _ := filepath.Glob(filepath.Join(d.PoolDir, "*")); len(files) > 0 {
		t.Errorf("after rm the pool has %q", files)
	}
	foreign(t, h, d)
	alteredIsNotDeployed(t, h, d.URI, "user")
	if files, _ := filepath.Glob(filepath.Join(d.PoolDir, "*")); len(files) > 0 {
		t.Errorf("of altered packages the pool has %q", files)
	}
}

// alteredMembers are a package with a manifest, one bit of whose disk is another
// where that is asked for.
func alteredMembers(altered bool) []member {
	text := []byte(strings.NewReplacer("<rasd:ResourceType>20<", "<rasd:ResourceSubType>lsilogic</rasd:ResourceSubType><rasd:ResourceType>6<",
		"</VirtualHardwareSection>", `<Item><rasd:InstanceID>8</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>1</rasd:VirtualQuantity></Item>`+
			`<Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:InstanceID>9</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>32</rasd:VirtualQuantity></Item></VirtualHardwareSection>`).Replace(sound))
	disk := make([]byte, 1<<20)
	mf := line("a.ovf", text) + line("disk.raw", disk)
	if altered {
		disk[777_777] ^= 4
	}
	return []member{{name: "a.ovf", data: text}, {name: "a.mf", data: []byte(mf)}, {name: "disk.raw", data: disk}}
}

// alteredIsNotDeployed has packages that are altered, or that the trust policy
// refuses, here and wherever else they lie: nothing of them is made.
func alteredIsNotDeployed(t *testing.T, h *host, uri, network string, elsewhere ...string) {
	t.Helper()
	for name, data := range map[string][]byte{
		"altered.ova": archive(t, alteredMembers(true)...), "whole.ova": archive(t, alteredMembers(false)...), "strict.yaml": []byte("unsigned: refuse\nno-manifest: refuse\n"),
	} {
		if err := os.WriteFile(filepath.Join(h.dir, "work", name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(says string, args ...string) {
		t.Helper()
		if code, stdout, stderr := ovation(t, h.dir, nil, args...); code != 4 || !strings.Contains(stdout+stderr, says) {
			t.Errorf("ovation %s: exit code %d:\n%s%s", strings.Join(args, " "), code, stdout, stderr)
		}
	}
	to := []string{"--to", uri, "--network", network, "--name", "altered", "--start"}
	for _, locator := range append([]string{"altered.ova"}, elsewhere...) {
		refused("disk.raw was altered", append([]string{"deploy", locator}, to...)...)
		refused("not trusted", append([]string{"deploy", locator, "--trust-policy", "strict.yaml"}, to...)...)
		refused("not trusted", append([]string{"deploy", locator, "--dry-run", "--trust-policy", "strict.yaml"}, to...)...)
	}
	refused("not trusted", append([]string{"deploy", "whole.ova", "--trust-policy", "strict.yaml"}, to...)...)
	refused("not trusted", "fit", "whole.ova", "--to", uri, "--trust-policy", "strict.yaml")
	refused("not trusted", "run", "--dry-run", "whole.ova", "--trust-policy", "strict.yaml")
	if _, stdout, _ := ovation(t, h.dir, nil, "ps", "--on", uri); strings.Contains(stdout, "altered") {
		t.Errorf("there is a deployment still:\n%s", stdout)
	}
}

// foreign has a machine that somebody else made: its name, and a record that says
// that this program made it, hold what a terminal acts on.
func foreign(t *testing.T, h *host, d *testlibvirt.Daemon) {
	t.Helper()
	const name = "their\u009b31m\u202emachine"
	record := `{"deployment":"aaaaaaaaaaaaaaaa","system":"\u001b[2J","appliance":"\u009b2J\u202e\u0007","locator":"x\u001b]0;y\u0007","made":"2024-01-01T00:00:00Z","data":{"name":"evil\u001b[31m"}}`
	var escaped bytes.Buffer
	if err := xml.EscapeText(&escaped, []byte(record)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(d.Dir, "foreign.xml")
	text := fmt.Sprintf(`<domain type="qemu"><name>%s</name><memory unit="MiB">32</memory><description>%s</description>`+
		`<metadata><ovation:record xmlns:ovation="https://github.com/ovation-project/ovation/xmlns/libvirt/1.0">%s</ovation:record></metadata>`+
		`<os><type arch="x86_64">hvm</type></os></domain>`, name, "\u202e\u009b", escaped.String())
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	virsh := testenv.NeedTool(t, "virsh")
	if out, err := exec.Command(virsh, "-c", d.URI, "define", path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, args := range [][]string{{"ps", "--on", d.URI}, {"ps", "--json", "--on", d.URI}, {"ps", name, "--on", d.URI}, {"logs", name, "--on", d.URI},
		{"start", name, "--on", d.URI}, {"stop", name, "--on", d.URI}, {"console", name, "--on", d.URI}, {"rm", "evil", "--on", d.URI},
		{"export", at(d.URI, name), "-o", "out.ova"}, {"migrate", at(d.URI, name), d.URI, "--name", "again", "--dry-run"}} {
		_, _, _ = ovation(t, h.dir, nil, args...) // which looks for what a terminal acts on
		removeOutput(t, h.dir)
	}
}

// TestDeployOfHostileNamesToVSphere is the same with vSphere, whose inventory has
// slashes in paths, and escapes them and percent signs in names.
func TestDeployOfHostileNamesToVSphere(t *testing.T) {
	s := testvsphere.Start(t, testvsphere.Options{Model: func(m *simulator.Model) { m.Machine = 1 }})
	h := newHost(t, namesThatLead(t))
	t.Setenv("SSL_CERT_FILE", s.CAFile)
	uri := s.URI("DC0/host/DC0_C0")
	args := []string{"deploy", "a.ova", "--to", uri, "--network", "VM Network", "--force", "missing-hardware"}
	h.run(append(args, "--dry-run")...)
	out := h.run(append(args, "--json")...)
	var made struct{ Name string }
	if err := json.Unmarshal([]byte(out), &made); err != nil || !plainName.MatchString(made.Name) {
		t.Fatalf("%v: %s", err, out)
	}
	h.looks(uri, made.Name)
	for _, e := range s.Model.Map().All("VirtualMachine") {
		if name := e.Entity().Name; !plainName.MatchString(name) {
			t.Errorf("a machine is called %q", name)
		}
	}
	// Somebody else's machine has any name.
	var vm *simulator.VirtualMachine
	for _, e := range s.Model.Map().All("VirtualMachine") {
		if e.Entity().Name != made.Name {
			vm, _ = e.(*simulator.VirtualMachine)
		}
	}
	if vm == nil {
		t.Fatal("there is no machine of somebody else's")
	}
	vm.Name, vm.Config.Name = "their\u009b31m\u202e%2f..", "their"
	for _, args := range [][]string{{"ps", "--on", uri}, {"ps", "--json", "--on", uri}, {"ps", vm.Name, "--on", uri}, {"export", at(uri, vm.Name), "-o", "out.ova"}} {
		_, _, _ = ovation(t, h.dir, nil, args...)
		removeOutput(t, h.dir)
	}
	h.run("rm", made.Name, "--on", uri)

	if err := s.CreateLibrary(t.Context(), "images"); err != nil {
		t.Fatal(err)
	}
	library, err := vsphere.Open(t.Context(), s.URI(""), vsphere.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer library.Close()
	if err := library.Publish(t.Context(), "images", "item", vsphere.PublishOptions{}, func(put func(context.Context, string, int64, io.Reader) error) error {
		for _, m := range alteredMembers(true) {
			if err := put(t.Context(), m.name, int64(len(m.data)), bytes.NewReader(m.data)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	machines := len(s.Model.Map().All("VirtualMachine"))
	alteredIsNotDeployed(t, h, uri, "VM Network", s.URI("images/item"))
	if n := len(s.Model.Map().All("VirtualMachine")); n != machines {
		t.Errorf("there are %d machines, and were %d", n, machines)
	}
}
