package libvirt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"libvirt.org/go/libvirtxml"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/qemudevice"
	"github.com/ovation-project/ovation/internal/testenv"
)

// everything is a host that has all there is.
func everything() *facts {
	both := []hypervisor.Chipset{hypervisor.I440FX, hypervisor.Q35}
	return &facts{
		arch: "x86_64", virt: "kvm", emulator: "/usr/bin/qemu-system-x86_64", chipsets: both,
		machines: map[hypervisor.Chipset]string{hypervisor.I440FX: "pc", hypervisor.Q35: "q35"},
		maxCPUs:  255, hostCPUs: 4, hostHz: 2_000_000_000,
		firmware: []hypervisor.FirmwareCapability{{Kind: hypervisor.BIOS, Chipsets: both}, {Kind: hypervisor.UEFI, Chipsets: both},
			{Kind: hypervisor.UEFI, SecureBoot: true, Chipsets: both[1:]}},
		devices: qemudevice.All(), tpms: []string{"1.2", "2.0"}, vnc: true, passt: true, cpuMode: "host-passthrough",
	}
}

func small(name string) hypervisor.Machine {
	return hypervisor.Machine{
		ID: name, Name: name, UUID: "11111111-2222-4333-8444-555555555555", Architecture: "x86_64",
		CPU: hypervisor.CPU{Count: 1}, Memory: hypervisor.Memory{Bytes: 64 << 20},
		Firmware: hypervisor.Firmware{Kind: hypervisor.BIOS}, Serials: []hypervisor.Serial{{ID: "s"}},
	}
}

// drive puts a drive onto a machine's only controller of a model.
func withDrives(m hypervisor.Machine, model hypervisor.ControllerModel, kinds ...hypervisor.DriveKind) hypervisor.Machine {
	m.Controllers = append(slices.Clone(m.Controllers), hypervisor.Controller{ID: string(model), Model: model})
	m.Drives = slices.Clone(m.Drives)
	for i, kind := range kinds {
		d := hypervisor.Drive{ID: fmt.Sprintf("%s-%d", model, i), Kind: kind, Controller: string(model), Unit: i, BootOrder: len(m.Drives) + 1}
		if kind == hypervisor.HardDisk {
			d.Medium = &hypervisor.Medium{Format: "raw", Volume: &hypervisor.VolumeRef{Pool: "default", Name: fmt.Sprintf("%s-%d", m.Name, len(m.Drives))}}
		}
		m.Drives = append(m.Drives, d)
	}
	return m
}

// machines are one for each thing that a machine may have.
func machines() map[string]hypervisor.Machine {
	out := map[string]hypervisor.Machine{}
	add := func(name string, change func(*hypervisor.Machine)) {
		m := small("test-" + name)
		change(&m)
		out[name] = m
	}
	all := qemudevice.All()
	for model := range all.Controllers {
		if model == hypervisor.NVMe {
			continue // the schema of the libvirt that tests run with has none
		}
		kinds := []hypervisor.DriveKind{hypervisor.HardDisk, hypervisor.CDROM}
		switch model {
		case hypervisor.Floppy:
			kinds = []hypervisor.DriveKind{hypervisor.FloppyDrive}
		case hypervisor.VirtIOBlk:
			kinds = kinds[:1]
		}
		for _, chipset := range []hypervisor.Chipset{hypervisor.I440FX, hypervisor.Q35} {
			if model == hypervisor.IDE && chipset == hypervisor.Q35 {
				continue
			}
			add(fmt.Sprintf("controller-%s-%s", model, chipset), func(m *hypervisor.Machine) {
				m.Chipset = chipset
				*m = withDrives(*m, model, kinds...)
			})
		}
	}
	add("nics", func(m *hypervisor.Machine) {
		for i, model := range slices.Sorted(maps.Keys(all.NICs)) {
			m.NICs = append(m.NICs, hypervisor.NIC{ID: string(model), Model: model, MAC: fmt.Sprintf("52:54:00:01:02:%02x", i), Network: "LAN"})
		}
	})
	for name := range all.Displays {
		add("display-"+name, func(m *hypervisor.Machine) { m.Display = name })
	}
	for name := range all.Sounds {
		add("sound-"+name, func(m *hypervisor.Machine) { m.Sound = name })
	}
	add("usb", func(m *hypervisor.Machine) { m.USB = slices.Sorted(maps.Keys(all.USB)) })
	add("uefi", func(m *hypervisor.Machine) { m.Firmware.Kind = hypervisor.UEFI })
	add("uefi-q35", func(m *hypervisor.Machine) { m.Firmware.Kind, m.Chipset = hypervisor.UEFI, hypervisor.Q35 })
	add("tpm-2.0", func(m *hypervisor.Machine) { m.TPM = &hypervisor.TPM{Version: "2.0"} })
	add("tpm-1.2", func(m *hypervisor.Machine) { m.TPM = &hypervisor.TPM{Version: "1.2"} })
	add("many", func(m *hypervisor.Machine) {
		m.CPU = hypervisor.CPU{Count: 6, CoresPerSocket: 3, Features: []string{"aes", "lahf-lm"}}
		m.OS = "win2k19"
		for _, model := range []hypervisor.ControllerModel{hypervisor.IDE, hypervisor.AHCI, hypervisor.LSISAS, hypervisor.LSILogic} {
			*m = withDrives(*m, model, hypervisor.HardDisk, hypervisor.CDROM)
		}
		m.Controllers = append(m.Controllers, hypervisor.Controller{ID: "ide2", Model: hypervisor.IDE, Index: 1}, hypervisor.Controller{ID: "sas2", Model: hypervisor.LSISAS, Index: 1})
		m.Drives = append(m.Drives, hypervisor.Drive{ID: "cd", Kind: hypervisor.CDROM, Controller: "ide2", Unit: 1},
			hypervisor.Drive{ID: "cd2", Kind: hypervisor.CDROM, Controller: "sas2", Unit: 5})
		m.NICs = []hypervisor.NIC{{ID: "a", Model: hypervisor.E1000, Network: "A", Disconnected: true}, {ID: "b", Model: hypervisor.VMXNET3, Network: "B"}}
		m.Serials = make([]hypervisor.Serial, 4)
		m.USB = []string{"ehci", "xhci"}
	})
	return out
}

// tuned are machines that a session can't run.
func tuned() map[string]hypervisor.Machine {
	m := small("tuned")
	m.CPU = hypervisor.CPU{Count: 2, Shares: 2048, LimitHz: 1_000_000_000, ReservationHz: 500_000_000}
	m.Memory.LimitBytes, m.Memory.ReservationBytes = 128<<20, 64<<20
	secure := small("secure")
	secure.Firmware = hypervisor.Firmware{Kind: hypervisor.UEFI, SecureBoot: true}
	secure.TPM = &hypervisor.TPM{Version: "2.0"}
	nvram := small("nvram")
	nvram.Firmware = hypervisor.Firmware{Kind: hypervisor.UEFI, NVRAM: "/srv/vars.fd"}
	forwards := small("forwards")
	forwards.NICs = []hypervisor.NIC{{ID: "n", Model: hypervisor.VirtIONet, Network: "n", HostNetwork: NetworkUser,
		Forwards: []hypervisor.Forward{{Protocol: "tcp", HostPort: 2222, GuestPort: 22}, {Protocol: "udp", HostAddress: netip.MustParseAddr("192.0.2.1"), HostPort: 53, GuestPort: 53}}}}
	networks := small("networks")
	networks.NICs = []hypervisor.NIC{{ID: "a", Model: hypervisor.E1000, HostNetwork: "lan"}, {ID: "b", Model: hypervisor.E1000, HostNetwork: "br0"},
		{ID: "c", Model: hypervisor.E1000, HostNetwork: "bridge:br7"}, {ID: "d", Model: hypervisor.E1000}}
	shared := withDrives(small("shared"), hypervisor.VirtIOSCSI, hypervisor.HardDisk)
	shared.Drives[0].Shared = true
	socket := withDrives(small("socket"), hypervisor.AHCI, hypervisor.HardDisk)
	socket.Drives[0].Medium = &hypervisor.Medium{Format: "raw", Socket: "/run/x.sock", Export: "disk", Volatile: true}
	return map[string]hypervisor.Machine{"tuned": tunedName(m), "secure": secure, "nvram": nvram, "forwards": forwards, "networks": networks, "shared": shared, "socket": socket}
}

func tunedName(m hypervisor.Machine) hypervisor.Machine {
	m.Name = "tuned <&>\"' ünï"
	return m
}

func testSetting(m hypervisor.Machine) setting {
	s := setting{facts: everything(), target: "qemu:///system", volumes: map[hypervisor.VolumeRef]place{},
		networks: []hypervisor.Network{{Name: "lan", Kind: "network", Active: true}, {Name: "br0", Kind: "bridge", Active: true}},
		logs:     func(i int) string { return fmt.Sprintf("/var/log/libvirt/qemu/x-serial%d.log", i) }}
	for i, d := range m.Drives {
		if d.Medium != nil && d.Medium.Volume != nil {
			s.volumes[*d.Medium.Volume] = []place{{"/pool/" + d.Medium.Volume.Name, "file"}, {"/dev/vg/lv", "block"}, {"", "volume"}}[i%3]
		}
	}
	return s
}

// TestSchema has libvirt's own schema judge every domain.
func TestSchema(t *testing.T) {
	validate := testenv.NeedTool(t, "virt-xml-validate")
	all := machines()
	for name, m := range tuned() {
		all[name] = m
	}
	dir := t.TempDir()
	for name, m := range all {
		d, err := domain(m, hypervisor.Record{Deployment: "d", Appliance: "<&>\x01", Locator: "https://x/?a=1&b=2"}, testSetting(m))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text, err := d.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name+".xml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(validate, path, "domain").CombinedOutput(); err != nil {
			t.Errorf("%s: %s\n%s", name, out, text)
		}
	}
}

// TestRoundTrip makes a machine of a domain that was made of a machine.
func TestRoundTrip(t *testing.T) {
	all := machines()
	for name, m := range tuned() {
		all[name] = m
	}
	for name, m := range all {
		t.Run(name, func(t *testing.T) {
			s := testSetting(m)
			d, err := domain(m, hypervisor.Record{}, s)
			if err != nil {
				t.Fatal(err)
			}
			text, err := d.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			var x libvirtxml.Domain
			if err := x.Unmarshal(text); err != nil {
				t.Fatal(err)
			}
			got, unsaid := machine(&x, func(path string) (hypervisor.VolumeRef, bool) {
				for ref, p := range s.volumes {
					if p.path == path {
						return ref, true
					}
				}
				return hypervisor.VolumeRef{}, false
			})
			if len(unsaid) > 0 && name != "tuned" {
				t.Errorf("unsaid: %q", unsaid)
			}
			// What has no place in a domain, or is the host's choice.
			want := m
			want.ID, want.OS, got.OS = "", "", ""
			want.Chipset = cmpOr(want.Chipset, got.Chipset)
			want.CPU.CoresPerSocket = max(1, want.CPU.CoresPerSocket)
			want.CPU.ReservationHz, want.CPU.LimitHz, want.Memory.ReservationBytes = 0, 0, 0
			want.Display = cmpOr(want.Display, "vga")
			got.Firmware.Reason, got.Firmware.NVRAM, want.Firmware.NVRAM = "", "", ""
			if want.Firmware.SecureBoot {
				want.Chipset = hypervisor.Q35
			}
			ids := map[string]hypervisor.Controller{}
			for _, c := range got.Controllers {
				ids[c.ID] = c
			}
			models := map[string]hypervisor.ControllerModel{}
			for _, c := range want.Controllers {
				models[c.ID] = c.Model
			}
			if len(got.Drives) != len(want.Drives) {
				t.Fatalf("%d drives of %d", len(got.Drives), len(want.Drives))
			}
			for i := range want.Drives {
				w, g := want.Drives[i], got.Drives[i]
				if ids[g.Controller].Model != models[w.Controller] || g.Kind != w.Kind || g.Unit != w.Unit || g.BootOrder != w.BootOrder || g.Shared != w.Shared {
					t.Errorf("drive %+v became %+v", w, g)
				}
				if diff := cmp.Diff(w.Medium, g.Medium); diff != "" {
					t.Errorf("medium of %s: %s", w.ID, diff)
				}
			}
			want.NICs = slices.Clone(want.NICs)
			for i := range want.NICs {
				w := &want.NICs[i]
				w.ID, w.Network, w.Forwards = "", "", nil
				if as, ok := map[string]string{"": NetworkUser, "br0": "bridge:br0"}[w.HostNetwork]; ok {
					w.HostNetwork = as
				}
				got.NICs[i].ID, got.NICs[i].Network = "", ""
			}
			for i := range want.Serials {
				want.Serials[i].ID = fmt.Sprintf("serial%d", i)
			}
			want.Drives, got.Drives, want.Controllers, got.Controllers = nil, nil, nil, nil
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-was +became)\n%s", diff)
			}
		})
	}
}

func cmpOr[T comparable](a, b T) T {
	var zero T
	if a == zero {
		return b
	}
	return a
}

func TestRefusals(t *testing.T) {
	m := withDrives(small("a/b"), hypervisor.BusLogic, hypervisor.HardDisk)
	m = withDrives(m, hypervisor.AHCI, hypervisor.HardDisk, hypervisor.FloppyDrive, hypervisor.CDROM)
	m.Chipset = "microvm"
	m.UUID = "x"
	m.CPU = hypervisor.CPU{Count: 1000, Features: []string{"aes,exec=1"}}
	m.Memory.Bytes = 1
	m.Firmware = hypervisor.Firmware{Kind: "openfirmware"}
	m.Drives[1].Medium = nil
	m.Drives[3].Unit = 6
	m.Drives = append(m.Drives, hypervisor.Drive{ID: "lost", Kind: hypervisor.CDROM, Controller: "nowhere"},
		hypervisor.Drive{ID: "vmdk", Kind: hypervisor.HardDisk, Controller: "ahci", Unit: 4, Medium: &hypervisor.Medium{Format: "vmdk", Path: "/x"}},
		hypervisor.Drive{ID: "cluster", Kind: hypervisor.HardDisk, Controller: "ahci", Unit: 5, Shared: true, Medium: &hypervisor.Medium{Format: "qcow2", Path: "/x"}})
	m.NICs = []hypervisor.NIC{{ID: "n1", Model: "token-ring"}, {ID: "n2", Model: hypervisor.E1000, MAC: "01:00:00:00:00:00"}, {ID: "n3", Model: hypervisor.E1000, HostNetwork: "dmz"},
		{ID: "n4", Model: hypervisor.E1000, HostNetwork: "lan", Forwards: []hypervisor.Forward{{Protocol: "tcp", HostPort: 1, GuestPort: 1}}}}
	m.Serials = make([]hypervisor.Serial, 5)
	m.Display, m.Sound, m.USB, m.TPM = "cga", "adlib", []string{"usb4"}, &hypervisor.TPM{Version: "3"}
	_, err := domain(m, hypervisor.Record{}, testSetting(m))
	var unfit *hypervisor.UnfitError
	if !errors.As(err, &unfit) {
		t.Fatal(err)
	}
	for _, want := range []string{"a/b", "microvm", `"x" is not a UUID`, "1000 virtual CPUs", "aes,exec=1", "1 bytes", "openfirmware", "buslogic",
		"ahci-0: the disk has no image", "ahci-1: a floppy", "at 6 of a controller with 6", "nowhere", "vmdk", "several machines write is raw",
		"token-ring", "01:00:00", `"dmz"`, "forwards of ports", "serial ports: 5", "cga", "adlib", "usb4", "TPM 3"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no reason names %q", want)
		}
	}
	if t.Failed() {
		t.Log(err)
	}
}

// TestModels defines and starts a machine for each device model that the host
// says it has: whether libvirt and QEMU take it, and what the domain says
// then.
func TestModels(t *testing.T) {
	h := open(t, daemon(t).URI, Options{Accel: "tcg"})
	c, err := h.Capabilities(t.Context(), "x86_64")
	if err != nil {
		t.Fatal(err)
	}
	// The host is asked, and says no too.
	err = h.call(t.Context(), func(conn *connection) error {
		f, zero := conn.learned["x86_64"], uint(0)
		if f.has(conn, libvirtxml.DomainController{Type: "scsi", Index: &zero, Model: "buslogic"}) {
			t.Error("QEMU is said to have a BusLogic controller")
		}
		if !f.has(conn, libvirtxml.DomainController{Type: "scsi", Index: &zero, Model: "virtio-scsi"}) {
			t.Error("QEMU is said to have no VirtIO SCSI controller")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	all := qemudevice.All()
	if len(c.Controllers) != len(all.Controllers)-1 || len(c.NICs) != len(all.NICs) || len(c.Displays) != len(all.Displays) || len(c.Sounds) != len(all.Sounds) ||
		len(c.USB) != len(all.USB) || len(c.TPMs) != 2 || len(c.Chipsets) != 2 {
		t.Errorf("Debian's QEMU has more than %+v", c)
	}
	// QEMU takes a second to begin; only what differs between them is tried
	// with one.
	start := func(name string) bool {
		return !strings.HasPrefix(name, "display-") && !strings.HasPrefix(name, "sound-") && !strings.HasSuffix(name, "-q35") && name != "tpm-1.2" && !testing.Short()
	}
	for name, m := range machines() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			m.UUID = ""
			for _, d := range m.Drives {
				if d.Medium == nil {
					continue
				}
				ref := *d.Medium.Volume
				if _, err := h.CreateVolume(ctx, hypervisor.VolumeSpec{VolumeRef: ref, Format: "raw", CapacityBytes: 1 << 20}); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := h.RemoveVolume(context.Background(), ref); err != nil {
						t.Error(err)
					}
				})
			}
			g, err := h.Define(ctx, m, hypervisor.Record{Deployment: "models"})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := g.Remove(context.Background()); err != nil {
					t.Error(err)
				}
			}()
			if !start(name) {
				return
			}
			console, err := g.Console() // so that it begins paused, and does nothing
			if err != nil {
				t.Fatal(err)
			}
			defer console.Close()
			if err := g.Start(ctx); err != nil {
				t.Error(err)
			}
			k, err := h.Lookup(ctx, m.Name)
			if err != nil {
				t.Fatal(err)
			}
			if len(k.Unsaid) > 0 || len(k.Machine.Drives) != len(m.Drives) {
				t.Errorf("unsaid: %q, drives: %+v", k.Unsaid, k.Machine.Drives)
			}
		})
	}
}

func TestRecordXML(t *testing.T) {
	for _, data := range []string{`{}`, `"]]>"`, `"<&\u0000\u2028"`, `[1.5,null]`} {
		r := hypervisor.Record{Deployment: "d\x00<", Data: json.RawMessage(data)}
		text, err := recordXML(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := recordOf("<other xmlns='urn:x'>y</other>" + text)
		if err != nil || got == nil || got.Deployment != r.Deployment || !bytes.Equal(got.Data, mustCompact(t, data)) {
			t.Errorf("%s became %+v, %v", data, got, err)
		}
	}
	for _, other := range []string{"", "<a/>", "<unfinished", `<record xmlns="urn:x">{}</record>`} {
		if r, err := recordOf(other); r != nil || err != nil {
			t.Errorf("%q has a record: %+v, %v", other, r, err)
		}
	}
	if _, err := recordOf(`<o:record xmlns:o="` + recordNamespace + `">{"deployment":</o:record>`); err == nil {
		t.Error("a record that is no JSON is taken")
	}
}

func mustCompact(t *testing.T, text string) []byte {
	t.Helper()
	out, err := json.Marshal(json.RawMessage(text))
	if err != nil {
		t.Fatal(err)
	}
	return out
}
