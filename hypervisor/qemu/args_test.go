package qemu

import (
	"encoding/json"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/drivertest"
)

var update = flag.Bool("update", false, "write the golden files anew")

func disk(path string) *hypervisor.Medium { return &hypervisor.Medium{Format: "qcow2", Path: path} }

func base() hypervisor.Machine {
	return hypervisor.Machine{
		ID: "vm1", Name: "web server", Architecture: "x86_64",
		CPU: hypervisor.CPU{Count: 4, CoresPerSocket: 2}, Memory: hypervisor.Memory{Bytes: 1536 << 20},
		Firmware: hypervisor.Firmware{Kind: hypervisor.BIOS},
		Serials:  []hypervisor.Serial{{ID: "console"}},
	}
}

var tcg = Host{Accel: "tcg", ConsoleFD: 4, MonitorFD: 3, Sandbox: true}

func TestArgs(t *testing.T) {
	every := base()
	every.UUID = "564d4d2a-1c2b-3d4e-5f60-718293a4b5c6"
	for _, model := range []hypervisor.ControllerModel{hypervisor.IDE, hypervisor.AHCI, hypervisor.LSILogic, hypervisor.LSISAS,
		hypervisor.PVSCSI, hypervisor.VirtIOSCSI, hypervisor.VirtIOBlk, hypervisor.NVMe} {
		every.Controllers = append(every.Controllers, hypervisor.Controller{ID: string(model), Model: model})
		every.Drives = append(every.Drives, hypervisor.Drive{ID: "disk on " + string(model), Kind: hypervisor.HardDisk,
			Controller: string(model), Unit: 1, BootOrder: len(every.Drives) + 1, Medium: disk("/disks/" + string(model))})
	}
	every.Controllers = append(every.Controllers, hypervisor.Controller{ID: "fdc", Model: hypervisor.Floppy})
	every.Drives = append(every.Drives,
		hypervisor.Drive{ID: "cd", Kind: hypervisor.CDROM, Controller: "ide", Unit: 0, Medium: &hypervisor.Medium{Format: "raw", Path: "/cd.iso"}},
		hypervisor.Drive{ID: "empty", Kind: hypervisor.CDROM, Controller: "pvscsi", Unit: 0},
		hypervisor.Drive{ID: "floppy", Kind: hypervisor.FloppyDrive, Controller: "fdc", BootOrder: 9},
		hypervisor.Drive{ID: "remote", Kind: hypervisor.HardDisk, Controller: "ahci", Unit: 2,
			Medium: &hypervisor.Medium{Format: "raw", Socket: "/run/nbd", Export: "a,b"}},
		hypervisor.Drive{ID: "delta", Kind: hypervisor.HardDisk, Controller: "ahci", Unit: 3,
			Medium: &hypervisor.Medium{Format: "qcow2", Path: "/delta", Volatile: true,
				Below: &hypervisor.Medium{Format: "raw", Socket: "/run/nbd", Export: "b"}}})

	cards := base()
	for _, model := range []hypervisor.NICModel{hypervisor.E1000, hypervisor.E1000e, hypervisor.PCnet, hypervisor.VMXNET3, hypervisor.VirtIONet, hypervisor.RTL8139, hypervisor.NE2000} {
		cards.NICs = append(cards.NICs, hypervisor.NIC{ID: string(model), Model: model, Network: "lan"})
	}
	cards.NICs[0].MAC = "00-50-56-AB-CD-EF"
	cards.NICs[0].Forwards = []hypervisor.Forward{{Protocol: "tcp", HostPort: 2222, GuestPort: 22},
		{Protocol: "udp", HostAddress: netip.MustParseAddr("0.0.0.0"), HostPort: 5353, GuestPort: 53}}
	cards.NICs[1].HostNetwork = NetworkIsolated
	cards.Display, cards.Sound, cards.USB = "vmvga", "ich9", []string{"uhci", "xhci"}

	uefi := base()
	uefi.Name = "quoted, with=signs"
	uefi.Firmware = hypervisor.Firmware{Kind: hypervisor.UEFI, SecureBoot: true}
	uefi.OS = "win10"
	uefi.CPU = hypervisor.CPU{Count: 3, CoresPerSocket: 2, Features: []string{"avx2"}}

	// Three machines on two networks; what is shown is the second, with a TPM.
	together := base()
	together.TPM = &hypervisor.TPM{Version: "2.0"}
	together.NICs = []hypervisor.NIC{
		{ID: "1", Model: hypervisor.VirtIONet, Network: "a", Forwards: []hypervisor.Forward{{Protocol: "tcp", HostPort: 2222, GuestPort: 22}}},
		{ID: "2", Model: hypervisor.VirtIONet, Network: "b", HostNetwork: NetworkIsolated},
		{ID: "3", Model: hypervisor.VirtIONet},
	}
	first, third := base(), base()
	first.ID, first.NICs = "first", []hypervisor.NIC{{ID: "1", Network: "a"}}
	third.ID, third.NICs = "third", []hypervisor.NIC{{ID: "1", Network: "a"}, {ID: "2", Network: "b"}, {ID: "3"}}
	all := New(Options{Segments: NewSegments([]hypervisor.Machine{first, together, third})})
	wired := all.spec(&host{accels: []string{"tcg"}, sandbox: true, tpms: []string{"2.0"}}, together)

	for name, c := range map[string]struct {
		machine hypervisor.Machine
		host    Host
	}{
		"together": {together, wired},
		"storage":  {every, tcg},
		"networks": {cards, tcg},
		"uefi": {uefi, Host{Accel: "kvm", ConsoleFD: 4, MonitorFD: 3, NVRAM: "/work/nvram.fd", FirmwareFD: 5, Window: "gtk",
			Firmware: &Firmware{Code: "/fw/code.fd", CodeFormat: "raw", Vars: "/fw/vars.fd", VarsFormat: "raw", SMM: true, SecureBoot: true}}},
	} {
		t.Run(name, func(t *testing.T) {
			args, err := Args(c.machine, c.host)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(args, "\n") + "\n"
			golden := filepath.Join("testdata", name+".args")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("the command line changed (-want +got); -update writes it anew:\n%s", diff)
			}
		})
	}
}

// TestArgsRefuses has machines that QEMU can't make, and what the refusal is
// to name.
func TestArgsRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*hypervisor.Machine)
		want   string
	}{
		"architecture": {func(m *hypervisor.Machine) { m.Architecture = "sparc" }, "sparc"},
		"BusLogic": {func(m *hypervisor.Machine) {
			m.Controllers = []hypervisor.Controller{{ID: "scsi0", Model: hypervisor.BusLogic}}
			m.Drives = []hypervisor.Drive{{ID: "d", Kind: hypervisor.HardDisk, Controller: "scsi0", Medium: disk("d")}}
		}, "buslogic"},
		"no CPU":    {func(m *hypervisor.Machine) { m.CPU.Count = 0 }, "0 virtual CPUs"},
		"many CPUs": {func(m *hypervisor.Machine) { m.CPU.Count = 1 << 30 }, "virtual CPUs"},
		"memory":    {func(m *hypervisor.Machine) { m.Memory.Bytes = -1 }, "-1 bytes"},
		"UUID":      {func(m *hypervisor.Machine) { m.UUID = "x,y" }, "not a UUID"},
		"feature":   {func(m *hypervisor.Machine) { m.CPU.Features = []string{"avx,kvm=off"} }, "not the name of a CPU feature"},
		"MAC": {func(m *hypervisor.Machine) {
			m.NICs = []hypervisor.NIC{{Model: hypervisor.E1000, MAC: "01:00:00:00:00:01"}}
		}, "MAC"},
		"host network": {func(m *hypervisor.Machine) { m.NICs = []hypervisor.NIC{{Model: hypervisor.E1000, HostNetwork: "br0"}} }, "br0"},
		"UEFI":         {func(m *hypervisor.Machine) { m.Firmware.Kind = hypervisor.UEFI }, "ovmf"},
		"firmware":     {func(m *hypervisor.Machine) { m.Firmware.Kind = "coreboot" }, "coreboot"},
		"third IDE": {func(m *hypervisor.Machine) {
			for _, id := range []string{"0", "1", "2"} {
				m.Controllers = append(m.Controllers, hypervisor.Controller{ID: id, Model: hypervisor.IDE})
			}
		}, "can have 2"},
		"IDE on Q35": {func(m *hypervisor.Machine) {
			m.Chipset = hypervisor.Q35
			m.Controllers = []hypervisor.Controller{{ID: "0", Model: hypervisor.IDE}}
		}, "q35 has no ide"},
		"place": {func(m *hypervisor.Machine) {
			m.Controllers = []hypervisor.Controller{{ID: "0", Model: hypervisor.LSILogic}}
			m.Drives = []hypervisor.Drive{{Kind: hypervisor.CDROM, Controller: "0", Unit: 7}}
		}, "at 7 of a controller with 7 places"},
		"taken": {func(m *hypervisor.Machine) {
			m.Controllers = []hypervisor.Controller{{ID: "0", Model: hypervisor.IDE}}
			m.Drives = []hypervisor.Drive{{Kind: hypervisor.CDROM, Controller: "0"}, {Kind: hypervisor.CDROM, Controller: "0"}}
		}, "taken"},
		"format": {func(m *hypervisor.Machine) {
			m.Controllers = []hypervisor.Controller{{ID: "0", Model: hypervisor.IDE}}
			m.Drives = []hypervisor.Drive{{Kind: hypervisor.HardDisk, Controller: "0", Medium: &hypervisor.Medium{Format: "vmdk", Path: "x"}}}
		}, "vmdk"},
		"CD-ROM on NVMe": {func(m *hypervisor.Machine) {
			m.Controllers = []hypervisor.Controller{{ID: "0", Model: hypervisor.NVMe}}
			m.Drives = []hypervisor.Drive{{Kind: hypervisor.CDROM, Controller: "0"}}
		}, "CD-ROM can't be"},
		"TPM":     {func(m *hypervisor.Machine) { m.TPM = &hypervisor.TPM{Version: "2.0"} }, "TPM 2.0"},
		"serials": {func(m *hypervisor.Machine) { m.Serials = make([]hypervisor.Serial, 5) }, "a PC has 4"},
		"full bus": {func(m *hypervisor.Machine) {
			for range 29 {
				m.NICs = append(m.NICs, hypervisor.NIC{Model: hypervisor.E1000})
			}
		}, "PCI bus"},
	} {
		t.Run(name, func(t *testing.T) {
			m := base()
			c.change(&m)
			_, err := Args(m, tcg)
			if !errors.Is(err, hypervisor.ErrUnfit) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want it to name %q", err, c.want)
			}
		})
	}
}

// TestArgsNeverInject has names from a hostile package, which end up as values
// and nothing else.
func TestArgsNeverInject(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"x,readonly=off", `","driver":"vvfat`, "-monitor stdio", "a\nb", "\xff,\x00"}))
		m := base()
		m.ID, m.Name = text.Draw(t, "id"), text.Draw(t, "name")
		m.Controllers = []hypervisor.Controller{{ID: text.Draw(t, "controller"), Model: hypervisor.VirtIOSCSI}}
		path := text.Filter(func(s string) bool { return s != "" }).Draw(t, "path")
		m.Drives = []hypervisor.Drive{{ID: text.Draw(t, "drive"), Kind: hypervisor.HardDisk, Controller: m.Controllers[0].ID, Medium: disk(path)}}
		m.NICs = []hypervisor.NIC{{ID: text.Draw(t, "nic"), Model: hypervisor.E1000, Network: text.Draw(t, "network")}}
		args, err := Args(m, tcg)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := Args(func() hypervisor.Machine {
			p := m
			p.ID, p.Name = "i", "n"
			p.Drives = []hypervisor.Drive{p.Drives[0]}
			p.Drives[0].Medium = disk("p")
			return p
		}(), tcg)
		if err != nil {
			t.Fatal(err)
		}
		if len(args) != len(plain) {
			t.Fatalf("%d arguments, %d with plain names", len(args), len(plain))
		}
		for i := range args {
			switch {
			case args[i] == plain[i]:
			case args[i-1] == "-name":
				if value := strings.TrimPrefix(args[i], "guest="); strings.Contains(strings.ReplaceAll(value, ",,", ""), ",") {
					t.Errorf("a comma that is not doubled: %q", args[i])
				}
			case args[i-1] == "-blockdev":
				var node struct {
					Driver string
					File   struct{ Driver, Filename string }
				}
				if err := json.Unmarshal([]byte(args[i]), &node); err != nil {
					t.Fatal(err)
				}
				if node.Driver != "qcow2" || node.File.Driver != "file" || node.File.Filename != strings.ToValidUTF8(path, "\uFFFD") {
					t.Errorf("%q became %q", path, args[i])
				}
			default:
				t.Errorf("%s is another: %q", args[i-1], args[i])
			}
		}
	})
}

// TestNoTextIsAnOption puts each text that would be more than a value in the place
// of each text of a machine: it is refused, or the options are the same but for
// values, which are one each.
func TestNoTextIsAnOption(t *testing.T) {
	full := func() hypervisor.Machine {
		m := base()
		m.UUID, m.OS, m.Display, m.Sound, m.USB = "564d4d2a-1c2b-3d4e-5f60-718293a4b5c6", "debian12", "vga", "ich9", []string{"uhci"}
		m.CPU.Features = []string{"avx2"}
		m.Firmware.Reason = "as was asked"
		m.Controllers = []hypervisor.Controller{{ID: "sata", Model: hypervisor.AHCI}}
		m.Drives = []hypervisor.Drive{
			{ID: "delta", DiskID: "d", Kind: hypervisor.HardDisk, Controller: "sata", Medium: &hypervisor.Medium{Format: "qcow2", Path: "/delta",
				Below: &hypervisor.Medium{Format: "raw", Socket: "/run/nbd", Export: "b"}}},
			{ID: "disk", Kind: hypervisor.HardDisk, Controller: "sata", Unit: 1, Medium: disk("/disk")}}
		m.NICs = []hypervisor.NIC{{ID: "n", Model: hypervisor.E1000, Network: "lan", MAC: "52:54:00:01:02:03", HostNetwork: NetworkUser,
			Forwards: []hypervisor.Forward{{Protocol: "tcp", HostPort: 2222, GuestPort: 22}}}}
		return m
	}
	plain, err := Args(full(), tcg)
	if err != nil {
		t.Fatal(err)
	}
	// keys are the options of one argument, without the values of those that are
	// JSON.
	keys := func(arg string) string {
		var v any
		if json.Unmarshal([]byte(arg), &v) != nil {
			return arg
		}
		var walk func(v any) any
		walk = func(v any) any {
			if m, ok := v.(map[string]any); ok {
				for k := range m {
					m[k] = walk(m[k])
				}
				return m
			}
			return "value"
		}
		b, err := json.Marshal(walk(v))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	places := 0
	sample := full()
	for at := range drivertest.Texts(&sample) {
		for _, text := range drivertest.Hostile() {
			m := full()
			drivertest.Texts(&m)[at](text)
			args, err := Args(m, tcg)
			if err != nil {
				continue // it is refused
			}
			places++
			if len(args) != len(plain) {
				t.Errorf("%s is %q: %d arguments, and %d with a plain one", at, text, len(args), len(plain))
				continue
			}
			for i := range args {
				switch {
				case args[i] == plain[i], keys(args[i]) == keys(plain[i]) && strings.HasPrefix(args[i], "{"):
				case args[i-1] == "-name" && strings.HasPrefix(args[i], "guest=") && !strings.Contains(strings.ReplaceAll(args[i], ",,", ""), ","):
				default:
					t.Errorf("%s is %q: %s %q", at, text, args[i-1], args[i])
				}
			}
		}
	}
	if places < 20 {
		t.Errorf("%d are not refused", places)
	}
}

func TestFirmwareDescriptors(t *testing.T) {
	dir, hidden := t.TempDir(), t.TempDir()
	write := func(dir, name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	code, vars := write(dir, "code.fd", "c"), write(dir, "vars.fd", "v")
	descriptor := func(features, machine string) string {
		return `{"interface-types":["uefi"],"mapping":{"device":"flash","executable":{"filename":"` + code + `","format":"raw"},
			"nvram-template":{"filename":"` + vars + `","format":"raw"}},
			"targets":[{"architecture":"x86_64","machines":["` + machine + `"]}],"features":[` + features + `]}`
	}
	write(dir, "10-keys.json", descriptor(`"secure-boot","enrolled-keys","requires-smm"`, "pc-q35-*"))
	write(dir, "20-smm.json", descriptor(`"secure-boot","requires-smm"`, "pc-q35-*"))
	write(dir, "30-plain.json", descriptor("", "pc-*"))
	write(dir, "40-hidden.json", descriptor("", "pc-i440fx-*"))
	write(dir, "50-broken.json", "{")
	write(hidden, "40-hidden.json", "")
	var got []Firmware
	for _, f := range findFirmware([]string{hidden, dir, filepath.Join(dir, "absent")}, "x86_64") {
		if f.Code == code {
			got = append(got, f)
		}
	}
	raw := func(f Firmware) Firmware {
		f.Code, f.Vars, f.CodeFormat, f.VarsFormat = code, vars, "raw", "raw"
		return f
	}
	both := []hypervisor.Chipset{hypervisor.I440FX, hypervisor.Q35}
	want := []Firmware{raw(Firmware{Chipsets: both}), raw(Firmware{SMM: true, Chipsets: both[1:]}), raw(Firmware{SMM: true, SecureBoot: true, Chipsets: both[1:]})}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
	m := base()
	m.Firmware.Kind = hypervisor.UEFI
	if f := chooseFirmware(got, m); f == nil || f.SMM {
		t.Errorf("chose %+v", f)
	}
	m.Firmware.SecureBoot = true
	if f := chooseFirmware(got, m); f == nil || !f.SecureBoot {
		t.Errorf("for Secure Boot chose %+v", f)
	}
}
