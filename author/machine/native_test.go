package machine_test

import (
	"strings"
	"testing"

	"github.com/ovation-project/ovation/author/descriptor"
	"github.com/ovation-project/ovation/author/machine"
	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/ovf"
)

// TestNative writes down what vSphere alone says, and no setting that was not
// asked for.
func TestNative(t *testing.T) {
	n := &hypervisor.Native{Family: "vmx-19", OS: "debian12_64Guest", Note: "Keep it\nrunning", Transports: []string{"com.vmware.guestInfo"}, EULAs: []string{"You may."},
		Settings: []hypervisor.NativeSetting{{Key: "disk.EnableUUID", Value: "TRUE"}, {Key: "guestinfo.secret", Value: "hush"}},
		Products: []hypervisor.NativeProduct{{Class: "app", Name: "Thing", Version: "1.0", Properties: []hypervisor.NativeProperty{
			{Key: "host", Type: "string(1..8)", Default: "web", UserConfigurable: true, Category: "Network", Label: "Host name"},
			{Key: "ip", Type: "ip:LAN", Category: "Network"}, {Key: "pw", Type: "password(8..)", UserConfigurable: true, Category: "Users"},
			{Key: "n", Type: "int(1..5)", Default: "3"}, {Key: "on", Type: "boolean"}, {Key: "size", Type: `string["small","large"]`}, {Key: "odd", Type: "expression"},
		}}}}
	m := &hypervisor.Machine{ID: "vm", Name: "vm", Architecture: "x86_64", CPU: hypervisor.CPU{Count: 1}, Memory: hypervisor.Memory{Bytes: 1 << 30}}
	d := machine.Describe(m, machine.Options{Native: n, Settings: []string{"disk.*"}})
	text, err := descriptor.Render(&spec.Appliance{Machine: d.Machine}, &descriptor.Layout{}, descriptor.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "hush") {
		t.Error("a setting is there that nobody asked for")
	}
	doc, err := ovf.Parse(text, ovf.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := ovf.Resolve(doc.Envelope(), ovf.ResolveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := r.Systems[0]
	if v, ok := s.Hardware.ExtraConfig("disk.EnableUUID"); !ok || v != "TRUE" || s.OS.VMwareType != n.OS || s.Hardware.SystemTypes[0] != "vmx-19" ||
		len(s.Hardware.Transports) != 1 || len(s.EULAs) != 1 || s.Annotations[0].Text != n.Note || s.Products[0].Product.Text != "Thing" {
		t.Errorf("%s", text)
	}
	for key, c := range map[string]struct{ good, bad string }{
		"app.host": {"12345678", "123456789"}, "app.ip": {"192.0.2.1", "x"}, "app.pw": {"12345678", "1234567"}, "app.n": {"-4", "x"},
		"app.on": {"True", "yes"}, "app.size": {"small", "medium"}, "app.odd": {"anything", ""},
	} {
		found := false
		for _, p := range s.Properties {
			if p.FullKey != key {
				continue
			}
			found = true
			if err := p.CheckValue(c.good); err != nil {
				t.Errorf("%s: %v", key, err)
			}
			if c.bad != "" && p.CheckValue(c.bad) == nil {
				t.Errorf("%s takes %s", key, c.bad)
			}
			if p.Password != (key == "app.pw") {
				t.Errorf("%s: password %v", key, p.Password)
			}
		}
		if !found {
			t.Errorf("there is no %s", key)
		}
	}
}
