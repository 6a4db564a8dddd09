package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/deploy/fit"
	"github.com/ovation-project/ovation/hypervisor/drivertest"
	"github.com/ovation-project/ovation/internal/testenv"
	"github.com/ovation-project/ovation/ovf"
)

// fitted is what of fit's answer this test looks at.
type fitted struct {
	Portability struct{ Level int }
	Targets     []struct {
		Target  string
		Verdict fit.Verdict
		Reasons []struct{ Area, Text string }
	}
}

// fitItem is a hardware item; more stands in it.
func fitItem(id, typ int, sub, more string) string {
	return fmt.Sprintf(`<Item><rasd:ElementName>item %d</rasd:ElementName><rasd:InstanceID>%[1]d</rasd:InstanceID>%s<rasd:ResourceSubType>%s</rasd:ResourceSubType><rasd:ResourceType>%d</rasd:ResourceType></Item>`, id, more, sub, typ)
}

// fitDescriptor is one machine with a small disk on a controller.
func fitDescriptor(controller, more, sections string) []byte {
	return []byte(`<Envelope xmlns="` + ovf.NS1 + `" xmlns:ovf="` + ovf.NS1 + `" xmlns:rasd="` + ovf.NSRASD + `" xmlns:vssd="` + ovf.NSVSSD + `" xmlns:vmw="` + ovf.NSVMware + `" xmlns:acme="http://acme.example/"
 xmlns:pasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ProcessorAllocationSettingData">
<References><File ovf:id="f" ovf:href="d.img"/></References><DiskSection><Info/><Disk ovf:diskId="d" ovf:fileRef="f" ovf:capacity="1048576" ovf:format="raw"/></DiskSection>
<NetworkSection><Info/><Network ovf:name="lan"/></NetworkSection>` + sections + `<VirtualSystem ovf:id="vm"><Info/><VirtualHardwareSection><Info/>` +
		fitItem(1, 3, "", "<rasd:VirtualQuantity>1</rasd:VirtualQuantity>") + fitItem(2, 4, "", "<rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:VirtualQuantity>64</rasd:VirtualQuantity>") +
		controller + fitItem(4, 17, "", "<rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:HostResource>ovf:/disk/d</rasd:HostResource><rasd:Parent>3</rasd:Parent>") + more +
		`</VirtualHardwareSection></VirtualSystem></Envelope>`)
}

// TestFit asks for appliances whether they fit a libvirt and a QEMU that are
// there, and tries: what fits is deployed, and its guest runs; what does not is
// refused by deploy and run as well, with the same exit code.
func TestFit(t *testing.T) {
	t.Parallel()
	testenv.NeedTool(t, "qemu-system-x86_64")
	h := startLibvirt(t)
	feature := func(name string) string {
		return fitItem(20, 3, "", "<rasd:VirtualQuantity>1</rasd:VirtualQuantity><pasd:InstructionSetExtensionName>"+name+"</pasd:InstructionSetExtensionName>")
	}
	card := func(sub string) string { return fitItem(9, 10, sub, "<rasd:Connection>lan</rasd:Connection>") }
	for _, c := range []struct {
		name                       string
		controller, more, sections string
		flags                      []string
		level                      int
		areas                      string // of the reasons, "" where it fits
	}{
		{name: "IDE", controller: fitItem(3, 5, "PIIX4", ""), level: 3},
		{name: "AHCI and VmxNet3", controller: fitItem(3, 20, "AHCI", ""), more: card("VmxNet3"), level: 3},
		{name: "SAS, sound and USB", controller: fitItem(3, 6, "lsilogicsas", ""), more: fitItem(20, 35, "hdaudio", "") + fitItem(21, 23, "vmware.usb.xhci", "") + fitItem(22, 24, "", ""), level: 3},
		{name: "PVSCSI", controller: fitItem(3, 6, "VirtualSCSI", ""), more: card("PCNet32") + fitItem(20, 15, "", "") + fitItem(21, 14, "", "") + fitItem(22, 21, "", ""), level: 3},
		{name: "VirtIO", controller: fitItem(3, 6, "virtio-scsi", ""), more: card("virtio"), level: 3},
		{name: "CPU features", controller: fitItem(3, 5, "", ""), more: feature("DMTF:x86:SSE2 DMTF:x86:SSE3 DMTF:x86:SSE41"), level: 2},
		{name: "BusLogic put on another bus", controller: fitItem(3, 6, "buslogic", ""), flags: []string{"--disk-bus", "virtio"}, level: 3},
		{name: "BusLogic", controller: fitItem(3, 6, "buslogic", ""), level: 3, areas: "hardware"},
		{name: "CPU features of nobody", controller: fitItem(3, 5, "", ""), more: feature("DMTF:x86:LWP"), level: 2, areas: "hardware"},
		{name: "a device of a host's", controller: fitItem(3, 5, "", ""), more: fitItem(20, 34, "", ""), level: 1, areas: "hardware"},
		{name: "a section", controller: fitItem(3, 5, "", ""), sections: "<acme:X><Info/></acme:X>", level: 2, areas: "section"},
		{name: "a level that is too low", controller: fitItem(3, 5, "", ""), more: card("Vmxnet2"), flags: []string{"--min-portability", "3"}, level: 2, areas: "portability"},
		{name: "all at once", controller: fitItem(3, 6, "buslogic", ""), more: card("no-such-card"), sections: "<acme:X><Info/></acme:X>", flags: []string{"--memory", "4TiB"}, level: 2, areas: "section hardware hardware hardware"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := newUser(t)
			dir := filepath.Join(u.root, "package")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			for name, content := range map[string][]byte{"a.ovf": fitDescriptor(c.controller, c.more, c.sections), "d.img": drivertest.Image("it runs\r\n", drivertest.PowerOff)} {
				if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			r := u.ovation(append([]string{"fit", dir, "--json", "--to", h.URI, "--to", h.TCP, "--to", "qemu"}, c.flags...)...)
			var answer fitted
			if err := json.Unmarshal([]byte(r.stdout), &answer); err != nil || len(answer.Targets) != 3 {
				t.Fatalf("%v\n%s%s", err, r.stdout, r.stderr)
			}
			code := exitOK
			if c.areas != "" {
				code = exitUnfit
			}
			if r.code != code || answer.Portability.Level != c.level {
				t.Errorf("exit code %d and level %d, want %d and %d\n%s%s", r.code, answer.Portability.Level, code, c.level, r.stdout, r.stderr)
			}
			for _, target := range answer.Targets {
				var areas []string
				for _, reason := range target.Reasons {
					areas = append(areas, reason.Area)
				}
				if got := strings.Join(areas, " "); got != c.areas || (target.Verdict == fit.Fits) != (c.areas == "") {
					t.Errorf("%s: %s, for %q, want %q\n%s", target.Target, target.Verdict, got, c.areas, r.stdout)
				}
			}
			deploy := func(uri string) []string {
				return append([]string{"deploy", dir, "--name", "fits", "--no-input", "--to", uri}, c.flags...)
			}
			run := append([]string{"run", dir, "--headless", "--timeout", "2m"}, c.flags...)
			if c.areas != "" {
				for _, uri := range []string{h.URI, h.TCP} {
					u.fail(exitUnfit, nil, deploy(uri)...)
				}
				u.fail(exitUnfit, nil, run...)
				if left := h.names(); len(left) > 0 {
					t.Errorf("left: %q", left)
				}
				return
			}
			for _, uri := range []string{h.URI, h.TCP} {
				u.succeed(deploy(uri)...)
				h.validXML("fits")
				u.succeed("rm", "fits", "--on", uri)
			}
			if said := u.succeed(run...).stdout; !strings.Contains(said, "it runs") {
				t.Errorf("the guest said %q", said)
			}
		})
	}
}
