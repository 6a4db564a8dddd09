package libvirt

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/drivertest"
)

// shape is what a domain is made of, without its values: every element with the
// names of its attributes. It gives the values as well.
func shape(t interface{ Fatal(...any) }, text string) (names, values []string) {
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		token, err := d.Token()
		if err == io.EOF {
			return names, values
		}
		if err != nil {
			t.Fatal(err, text)
		}
		switch x := token.(type) {
		case xml.StartElement:
			name := x.Name.Local
			for _, a := range x.Attr {
				name += " " + a.Name.Local
				values = append(values, a.Value)
			}
			names = append(names, name)
		case xml.EndElement:
			names = append(names, "/"+x.Name.Local)
		case xml.CharData:
			if s := string(x); strings.TrimSpace(s) != "" {
				values = append(values, s)
			}
		case xml.Comment, xml.ProcInst, xml.Directive:
			t.Fatal("something that is no element:", text)
		}
	}
}

// inXML is how a text is read again: what no XML may hold is replaced.
func inXML(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || r == '\n' || r == '\r' || r >= 0x20 && r <= 0xd7ff || r >= 0xe000 && r <= 0xfffd || r >= 0x10000 {
			return r
		}
		return '\uFFFD'
	}, string([]rune(s)))
}

// TestDomainNeverInjects has texts of hostile packages, hosts and users wherever
// a domain takes any: each comes out as one value, and nothing of it as an element
// or an attribute.
func TestDomainNeverInjects(t *testing.T) {
	build := func(text func(what string) string) (hypervisor.Machine, hypervisor.Record, setting) {
		m := withDrives(small(text("name")), hypervisor.VirtIOSCSI, hypervisor.HardDisk, hypervisor.HardDisk, hypervisor.HardDisk, hypervisor.HardDisk)
		m.ID = text("id")
		m.Controllers[0].ID = text("controller")
		for i := range m.Drives {
			m.Drives[i].ID, m.Drives[i].Controller = text("drive"), m.Controllers[0].ID
		}
		ref := hypervisor.VolumeRef{Pool: text("pool"), Name: text("volume")}
		block := hypervisor.VolumeRef{Pool: "block", Name: text("block")}
		m.Drives[0].Medium = &hypervisor.Medium{Format: "qcow2", Volume: &ref}
		m.Drives[1].Medium = &hypervisor.Medium{Format: "raw", Path: text("path")}
		m.Drives[2].Medium = &hypervisor.Medium{Format: "raw", Socket: text("socket"), Export: text("export")}
		m.Drives[3].Medium = &hypervisor.Medium{Format: "raw", Volume: &block}
		m.NICs = []hypervisor.NIC{{ID: text("nic"), Model: hypervisor.E1000, Network: text("network"), HostNetwork: bridgePrefix + text("bridge")},
			{ID: text("nic"), Model: hypervisor.E1000, HostNetwork: text("host network")}}
		m.Firmware = hypervisor.Firmware{Kind: hypervisor.UEFI, NVRAM: text("nvram")}
		s := testSetting(m)
		s.networks = []hypervisor.Network{{Name: m.NICs[1].HostNetwork, Kind: "network", Active: true}}
		s.volumes = map[hypervisor.VolumeRef]place{ref: {text("file"), "volume"}, block: {text("dev"), "block"}}
		log := text("log")
		s.logs = func(int) string { return log }
		return m, hypervisor.Record{Deployment: text("deployment"), Appliance: text("appliance"), Locator: text("locator")}, s
	}
	made := func(t interface{ Fatal(...any) }, m hypervisor.Machine, r hypervisor.Record, s setting) (names, values []string) {
		d, err := domain(m, r, s)
		if err != nil {
			t.Fatal(err)
		}
		text, err := d.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return shape(t, text)
	}
	n := 0
	m, r, s := build(func(what string) string { n++; return what + strings.Repeat("x", n) })
	plain, _ := made(t, m, r, s)
	hostile := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{`"/><disk type='file'/>`, `'/>`, "]]><x/>", "<!--", "&amp;&#0;", "\x00", "\xff<a>", "a\nb", "-->", "<?x?>", "\ufffe", "</ovation:record>"}))
	rapid.Check(t, func(t *rapid.T) {
		var said []string
		m, r, s := build(func(what string) string {
			text := hostile.Filter(func(s string) bool {
				return strings.TrimSpace(s) != "" && s != NetworkUser && (what != "name" || checkName(s) == nil)
			}).Draw(t, what)
			if !slices.Contains([]string{"id", "controller", "drive", "nic", "network", "file", "block", "deployment", "locator"}, what) {
				said = append(said, text)
			}
			return text
		})
		names, values := made(t, m, r, s)
		if diff := cmp.Diff(plain, names); diff != "" {
			t.Fatalf("other elements and attributes (-plain +hostile):\n%s", diff)
		}
		all := "\x00" + strings.Join(values, "\x00") + "\x00"
		for _, text := range said {
			if !strings.Contains(all, inXML(strings.TrimSpace(text))) {
				t.Errorf("%q is not among the values %q", text, values)
			}
		}
		d, err := domain(m, r, s)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := recordOf(d.Metadata.XML); err != nil || again == nil || inXML(again.Deployment) != inXML(r.Deployment) {
			t.Errorf("the record is %+v, %v", again, err)
		}
	})
}

// TestNoTextIsMarkup puts each text that would be more than a value in the place of
// each text of every machine that is tried otherwise: it is refused, or the domain
// is made of the same elements.
func TestNoTextIsMarkup(t *testing.T) {
	all := tuned()
	all["many"] = machines()["many"]
	made := func(m hypervisor.Machine) (names []string, ok bool) {
		d, err := domain(m, hypervisor.Record{Deployment: "d"}, testSetting(m))
		if err != nil {
			return nil, false
		}
		text, err := d.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		names, _ = shape(t, text)
		return names, true
	}
	places := 0
	for name, m := range all {
		plain, ok := made(clone(t, m))
		if !ok {
			t.Fatalf("%s is refused", name)
		}
		for at := range drivertest.Texts(&m) {
			for _, text := range drivertest.Hostile() {
				hostile := clone(t, m)
				drivertest.Texts(&hostile)[at](text)
				got, ok := made(hostile)
				if !ok {
					continue // it is refused
				}
				places++
				if diff := cmp.Diff(plain, got); diff != "" {
					t.Errorf("%s%s is %q: other elements and attributes (-plain +hostile):\n%s", name, at, text, diff)
				}
			}
		}
	}
	if places < 100 {
		t.Errorf("%d are not refused", places)
	}
}

// clone makes a machine that shares nothing.
func clone(t *testing.T, m hypervisor.Machine) (c hypervisor.Machine) {
	t.Helper()
	text, err := json.Marshal(m)
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestNamesOfVolumesStayInTheirPool has names that would be paths: they are
// refused before libvirt hears of them.
func TestNamesOfVolumesStayInTheirPool(t *testing.T) {
	for _, name := range []string{"", ".", "..", "../x", "a/b", "/etc/passwd", "a\x00b", "a\nb", "a\x1b[2J", "\xff", strings.Repeat("x", 201)} {
		if checkName(name) == nil {
			t.Errorf("%q is taken", name)
		}
		if _, err := (&Host{}).CreateVolume(t.Context(), hypervisor.VolumeSpec{VolumeRef: hypervisor.VolumeRef{Pool: "p", Name: name}, Format: "raw"}); err == nil {
			t.Errorf("a volume %q is made", name)
		}
		m := small("x")
		m.Name = name
		if _, err := domain(m, hypervisor.Record{}, testSetting(m)); !errors.Is(err, hypervisor.ErrUnfit) {
			t.Errorf("machine %q: %v", name, err)
		}
	}
}
