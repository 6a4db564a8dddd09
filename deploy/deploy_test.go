package deploy_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/bootprobe"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/qemu"
	"github.com/ovation-project/ovation/internal/testenv"
	"github.com/ovation-project/ovation/ovf"
)

// item is a hardware item; empty fields are left out.
type item struct {
	id, typ            int
	sub, parent, place string
	host, conn, addr   string
	optional           bool
	kind               string // StorageItem, EthernetPortItem; "" is Item
}

func (i item) xml() string {
	kind := i.kind
	if kind == "" {
		kind = "Item"
	}
	prefix := map[string]string{"Item": "rasd", "StorageItem": "sasd", "EthernetPortItem": "epasd"}[kind]
	field := func(name, value string) string {
		if value == "" {
			return ""
		}
		return fmt.Sprintf("<%s:%s>%s</%[1]s:%[2]s>", prefix, name, value)
	}
	quantity := map[int]string{3: "2", 4: "256"}[i.typ]
	units := map[int]string{4: "byte * 2^20"}[i.typ]
	return fmt.Sprintf(`<%s ovf:required="%v">`, kind, !i.optional) +
		field("Address", i.addr) + field("AddressOnParent", i.place) + field("AllocationUnits", units) + field("Connection", i.conn) +
		field("ElementName", fmt.Sprint("device ", i.id)) + field("HostResource", i.host) + field("InstanceID", fmt.Sprint(i.id)) +
		field("Parent", i.parent) + field("ResourceSubType", i.sub) + field("ResourceType", fmt.Sprint(i.typ)) + field("VirtualQuantity", quantity) +
		"</" + kind + ">\n"
}

type system struct {
	items []item
	more  string // after the items
	os    string
}

func (s system) resolve(t *testing.T) *ovf.Resolved {
	t.Helper()
	version := "1"
	var items strings.Builder
	for _, i := range append([]item{{id: 1, typ: 3}, {id: 2, typ: 4}}, s.items...) {
		items.WriteString(i.xml())
		if i.kind != "" {
			version = "2"
		}
	}
	text := `<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/` + version + `" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/` + version + `"
 xmlns:vmw="` + ovf.NSVMware + `" xmlns:vbox="` + ovf.NSVBox + `" xmlns:rasd="` + ovf.NSRASD + `" xmlns:sasd="` + ovf.NSSASD + `" xmlns:epasd="` + ovf.NSEPASD + `" xmlns:vssd="` + ovf.NSVSSD + `">
<References><File ovf:id="f1" ovf:href="d1.vmdk"/><File ovf:id="cd" ovf:href="cd.iso" ovf:size="4096"/></References>
<DiskSection><Info/><Disk ovf:diskId="d1" ovf:fileRef="f1" ovf:capacity="1048576" ovf:format="x"/><Disk ovf:diskId="blank" ovf:capacity="2097152" ovf:format="x"/></DiskSection>
<NetworkSection><Info/><Network ovf:name="lan"/></NetworkSection>
<VirtualSystem ovf:id="vm"><Info/><Name>machine</Name>` + s.os + `<VirtualHardwareSection><Info/>
` + items.String() + s.more + `</VirtualHardwareSection></VirtualSystem></Envelope>`
	d, err := ovf.Parse([]byte(text), ovf.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := ovf.Resolve(d.Envelope(), ovf.ResolveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// plan makes the only machine, which is to fit.
func plan(t *testing.T, s system, opt deploy.Options) *deploy.Planned {
	t.Helper()
	all, err := deploy.Machines(s.resolve(t), qemu.Models(), opt)
	if err != nil {
		t.Fatal(err)
	}
	p := all[0]
	fill(p)
	if _, err := qemu.Args(p.Machine, host(p.Machine)); err != nil {
		t.Errorf("what was planned can't be made: %v", err)
	}
	return p
}

// fill puts something into every drive that gets something.
func fill(p *deploy.Planned) {
	for k := range p.Machine.Drives {
		d := &p.Machine.Drives[k]
		if p.Disks[d.ID] != nil || p.Files[d.ID] != nil {
			d.Medium = &hypervisor.Medium{Format: "qcow2", Path: "/disk"}
		}
	}
}

func host(m hypervisor.Machine) qemu.Host {
	h := qemu.Host{Accel: "tcg", ConsoleFD: 4, MonitorFD: 3}
	if m.Firmware.Kind == hypervisor.UEFI {
		h.Firmware, h.NVRAM = &qemu.Firmware{Code: "c", CodeFormat: "raw", Vars: "v", VarsFormat: "raw"}, "n"
	}
	return h
}

func notes(p *deploy.Planned) string {
	var lines []string
	for _, n := range p.Notes {
		lines = append(lines, n.String())
	}
	return strings.Join(lines, "\n")
}

const (
	ide, scsi, nic, floppy, cd, disk, sata, serial, usb, video, sound, other = 5, 6, 10, 14, 15, 17, 20, 21, 23, 24, 35, 1
)

func on(controller item) system {
	controller.id = 3
	return system{items: []item{controller, {id: 4, typ: disk, parent: "3", place: "0", host: "ovf:/disk/d1"}}}
}

func TestControllers(t *testing.T) {
	for _, c := range []struct {
		item item
		want hypervisor.ControllerModel
		note string
	}{
		{item{typ: ide}, hypervisor.IDE, ""},
		{item{typ: ide, sub: "PIIX4"}, hypervisor.IDE, ""},
		{item{typ: scsi}, hypervisor.LSILogic, "LSI 53C895A"},
		{item{typ: scsi, sub: "lsilogic"}, hypervisor.LSILogic, "LSI 53C895A"},
		{item{typ: scsi, sub: "LSILOGICSAS"}, hypervisor.LSISAS, ""},
		{item{typ: scsi, sub: "VirtualSCSI"}, hypervisor.PVSCSI, ""},
		{item{typ: scsi, sub: "VirtioSCSI"}, hypervisor.VirtIOSCSI, ""},
		{item{typ: scsi, sub: "buslogic lsilogic"}, hypervisor.LSILogic, ""},
		{item{typ: scsi, sub: "someother, lsilogic"}, hypervisor.LSILogic, ""},
		{item{typ: sata, sub: "ahci"}, hypervisor.AHCI, ""},
		{item{typ: sata, sub: "vmware.sata.ahci"}, hypervisor.AHCI, ""},
		{item{typ: sata, sub: "vmware.nvme.controller"}, hypervisor.NVMe, ""},
		{item{typ: sata, sub: "virtio-blk"}, hypervisor.VirtIOBlk, ""},
	} {
		p := plan(t, on(c.item), deploy.Options{})
		if len(p.Machine.Controllers) != 1 || p.Machine.Controllers[0].Model != c.want {
			t.Errorf("%+v became %+v", c.item, p.Machine.Controllers)
		}
		d := p.Machine.Drives[0]
		if d.Controller != "3" || d.Unit != 0 || d.DiskID != "d1" || d.Capacity != 1<<20 || d.BootOrder != 1 {
			t.Errorf("the drive is %+v", d)
		}
		if !strings.Contains(notes(p), c.note) {
			t.Errorf("%+v: the notes do not say %q:\n%s", c.item, c.note, notes(p))
		}
	}
}

func TestNICs(t *testing.T) {
	for sub, want := range map[string]hypervisor.NICModel{
		"": hypervisor.E1000, "E1000": hypervisor.E1000, "e1000E": hypervisor.E1000e, "PCNet32": hypervisor.PCnet, "Flexible": hypervisor.PCnet,
		"VmxNet3": hypervisor.VMXNET3, "VMXNET3": hypervisor.VMXNET3, "Vmxnet": hypervisor.E1000, "virtio": hypervisor.VirtIONet, "Am79C973": hypervisor.PCnet,
	} {
		s := on(item{typ: ide})
		s.items = append(s.items, item{id: 9, typ: nic, sub: sub, conn: "lan", addr: "00:50:56:AA:BB:CC"})
		p := plan(t, s, deploy.Options{})
		want := []hypervisor.NIC{{ID: "9", Model: want, Network: "lan", MAC: "00:50:56:aa:bb:cc"}}
		if diff := cmp.Diff(want, p.Machine.NICs); diff != "" {
			t.Errorf("%q (-want +got):\n%s", sub, diff)
		}
	}
}

func TestOVF2Items(t *testing.T) {
	s := system{items: []item{{id: 3, typ: scsi, sub: "VirtualSCSI"}, {id: 4, typ: disk, parent: "3", place: "2", host: "ovf:/disk/d1", kind: "StorageItem"},
		{id: 5, typ: nic, sub: "VmxNet3", conn: "lan", addr: "005056AABBCC", kind: "EthernetPortItem"}}}
	p := plan(t, s, deploy.Options{})
	if d := p.Machine.Drives[0]; d.Controller != "3" || d.Unit != 2 {
		t.Errorf("the drive is %+v", d)
	}
	if n := p.Machine.NICs[0]; n.Model != hypervisor.VMXNET3 || n.MAC != "00:50:56:aa:bb:cc" {
		t.Errorf("the card is %+v", n)
	}
}

// TestReasons has what QEMU can't give; everything is named at once.
func TestReasons(t *testing.T) {
	s := on(item{typ: scsi, sub: "buslogic"})
	s.items = append(s.items, item{id: 9, typ: nic, sub: "SriovEthernetCard", conn: "lan"}, item{id: 10, typ: sata, sub: "vmware.nvdimm.controller"},
		item{id: 11, typ: 99}, item{id: 12, typ: other, sub: "vmware.vmci", optional: true}, item{id: 13, typ: other, sub: "vmware.vtpm"})
	s.more = `<vmw:Config vmw:key="firmware" vmw:value="efi"/>`
	target := qemu.Models()
	target.MaxCPUs, target.MemoryBytes = 1, 128<<20
	target.Firmware, target.TPMs = target.Firmware[:1], nil
	_, err := deploy.Machines(s.resolve(t), target, deploy.Options{})
	var unfit *hypervisor.UnfitError
	if !errors.As(err, &unfit) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"buslogic", "--disk-bus", "device 3", "SriovEthernetCard", "nvdimm", "resource type 99", "platform module", "2 are needed, and 1", "256 MiB", "ovmf"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the reasons do not say %q:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "vmci") {
		t.Errorf("what is not required is a reason:\n%v", err)
	}
}

func TestOptionalDevicesAreLeftOut(t *testing.T) {
	s := on(item{typ: ide})
	for k, i := range []item{{typ: other, sub: "vmware.vmci"}, {typ: nic, sub: "SriovEthernetCard"}, {typ: 99}, {typ: sound, sub: "no-such-card"}, {typ: scsi, sub: "buslogic"}} {
		i.id, i.optional = 20+k, true
		s.items = append(s.items, i)
	}
	p := plan(t, s, deploy.Options{})
	for _, want := range []string{"vmware.vmci", "SriovEthernetCard", "resource type 99", "no-such-card", "buslogic"} {
		if !strings.Contains(notes(p), want) {
			t.Errorf("the notes do not say %q:\n%s", want, notes(p))
		}
	}
}

// TestOptionalControllers has drives on a controller that can't be had and is
// not required.
func TestOptionalControllers(t *testing.T) {
	s := on(item{typ: ide})
	s.items = append(s.items, item{id: 20, typ: scsi, sub: "buslogic", optional: true}, item{id: 21, typ: cd, parent: "20", place: "0", optional: true})
	p := plan(t, s, deploy.Options{})
	if len(p.Machine.Drives) != 1 || !strings.Contains(notes(p), "left out with what is on it") {
		t.Errorf("the drives are %+v:\n%s", p.Machine.Drives, notes(p))
	}
	s.items = append(s.items, item{id: 22, typ: cd, parent: "20", place: "1"})
	if _, err := deploy.Machines(s.resolve(t), qemu.Models(), deploy.Options{}); !errors.Is(err, hypervisor.ErrUnfit) || !strings.Contains(err.Error(), "no buslogic controller") {
		t.Errorf("a required drive on it: %v", err)
	}
}

// TestHostsThatReadPackages have what only their own platform has judged by
// themselves.
func TestHostsThatReadPackages(t *testing.T) {
	s := on(item{typ: ide})
	s.items = append(s.items, item{id: 20, typ: other, sub: "vmware.pci.passthrough"}, item{id: 21, typ: nic, sub: "SomethingNew", conn: "lan"}, item{id: 22, typ: 34})
	s.more = `<vmw:Config ovf:required="true" vmw:key="warp" vmw:value="1"/>`
	target := qemu.Models()
	target.Driver, target.Imports, target.Families = "vsphere", true, []string{"vmx-19"}
	_, err := deploy.Machines(s.resolve(t), target, deploy.Options{})
	if err == nil || !strings.Contains(err.Error(), "resource type 34") {
		t.Errorf("a GPU of nobody's: %v", err)
	}
	s.items = s.items[:len(s.items)-1]
	if _, err := deploy.Machines(s.resolve(t), target, deploy.Options{}); err != nil {
		t.Errorf("what the host judges itself: %v", err)
	}
	target.Imports = false
	if _, err := deploy.Machines(s.resolve(t), target, deploy.Options{}); err == nil {
		t.Error("a host that makes machines of what it is told has it too")
	}
}

// TestDisksOnBusLogicCanMove is the way out that the reason names.
func TestDiskBus(t *testing.T) {
	s := on(item{typ: scsi, sub: "buslogic"})
	s.items = append(s.items, item{id: 5, typ: disk, parent: "3", place: "1", host: "/disk/blank"}, item{id: 6, typ: ide, addr: "0"}, item{id: 7, typ: cd, parent: "6", place: "0"})
	for _, bus := range []hypervisor.ControllerModel{hypervisor.VirtIOBlk, hypervisor.AHCI, hypervisor.NVMe, hypervisor.VirtIOSCSI, hypervisor.LSISAS} {
		p := plan(t, s, deploy.Options{DiskBus: bus, NIC: hypervisor.VirtIONet})
		models := map[string]hypervisor.ControllerModel{}
		for _, c := range p.Machine.Controllers {
			models[c.ID] = c.Model
		}
		var got []hypervisor.ControllerModel
		for _, d := range p.Machine.Drives {
			got = append(got, models[d.Controller])
		}
		if want := []hypervisor.ControllerModel{bus, bus, hypervisor.IDE}; !slices.Equal(got, want) {
			t.Errorf("drives are on %v, want %v", got, want)
		}
	}
}

// TestPlaces has drives where there is no place for them.
func TestPlaces(t *testing.T) {
	s := system{items: []item{{id: 3, typ: scsi, sub: "lsilogic"}, {id: 4, typ: disk, parent: "3", place: "0", host: "/disk/d1"}}}
	for k := range 8 {
		s.items = append(s.items, item{id: 10 + k, typ: disk, parent: "3", place: fmt.Sprint(k + 8), host: "/disk/blank"})
	}
	s.items = append(s.items, item{id: 30, typ: disk, parent: "3", place: "0", host: "/disk/blank"}, item{id: 31, typ: disk, host: "/disk/blank"})
	p := plan(t, s, deploy.Options{})
	if len(p.Machine.Controllers) != 2 {
		t.Errorf("the controllers are %+v", p.Machine.Controllers)
	}
	if d := p.Machine.Drives[0]; d.Unit != 0 || d.Controller != "3" {
		t.Errorf("a drive that had its place was moved: %+v", d)
	}
	if !strings.Contains(notes(p), "moved to place") {
		t.Errorf("the notes say nothing:\n%s", notes(p))
	}

	// Four channels of IDE, one with Q35's chipset, and a CD-ROM on NVMe.
	many := system{items: []item{{id: 3, typ: ide, addr: "0"}, {id: 4, typ: ide, addr: "1"}, {id: 5, typ: ide, addr: "2"},
		{id: 6, typ: disk, parent: "5", place: "0", host: "/disk/d1"}, {id: 7, typ: sata, sub: "nvme"}, {id: 8, typ: cd, parent: "7", place: "0"}}}
	if p := plan(t, many, deploy.Options{}); !strings.Contains(notes(p), "AHCI controller stands in") {
		t.Errorf("the notes are:\n%s", notes(p))
	}
	secure := on(item{typ: ide})
	secure.more = `<vmw:Config vmw:key="firmware" vmw:value="efi"/><vmw:Config vmw:key="bootOptions.efiSecureBootEnabled" vmw:value="true"/>`
	if p := plan(t, secure, deploy.Options{}); p.Machine.Chipset != hypervisor.Q35 || p.Machine.Controllers[0].Model != hypervisor.AHCI || !p.Machine.Firmware.SecureBoot {
		t.Errorf("Secure Boot gives %+v", p.Machine)
	}
}

func TestFirmware(t *testing.T) {
	probe := func(kind hypervisor.FirmwareKind) func(*ovf.ResolvedDisk) (bootprobe.Result, error) {
		return func(*ovf.ResolvedDisk) (bootprobe.Result, error) {
			return bootprobe.Result{Kind: kind, Reason: "seen"}, nil
		}
	}
	efi := `<vmw:Config vmw:key="firmware" vmw:value="efi"/>`
	for _, c := range []struct {
		name, more string
		opt        deploy.Options
		want       hypervisor.FirmwareKind
		says       string
	}{
		{"silent", "", deploy.Options{}, hypervisor.BIOS, "nothing says"},
		{"vmw", efi, deploy.Options{Probe: probe(hypervisor.BIOS)}, hypervisor.UEFI, "vmw:Config"},
		{"vmw bios", strings.Replace(efi, `"efi"`, `"bios"`, 1), deploy.Options{Probe: probe(hypervisor.UEFI)}, hypervisor.BIOS, "vmw:Config"},
		{"the disk", "", deploy.Options{Probe: probe(hypervisor.UEFI)}, hypervisor.UEFI, "inferred"},
		{"the disk tells nothing", "", deploy.Options{Probe: probe("")}, hypervisor.BIOS, "seen"},
		{"asked", efi, deploy.Options{Firmware: hypervisor.BIOS}, hypervisor.BIOS, "as was asked"},
	} {
		s := on(item{typ: ide})
		s.more = c.more
		p := plan(t, s, c.opt)
		if f := p.Machine.Firmware; f.Kind != c.want || !strings.Contains(f.Reason, c.says) {
			t.Errorf("%s: %+v", c.name, f)
		}
		if !strings.Contains(notes(p), c.says) {
			t.Errorf("%s is not said:\n%s", c.name, notes(p))
		}
	}
	failing := deploy.Options{Probe: func(*ovf.ResolvedDisk) (bootprobe.Result, error) { return bootprobe.Result{}, os.ErrClosed }}
	if _, err := deploy.Machines(on(item{typ: ide}).resolve(t), qemu.Models(), failing); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a disk that can't be read: %v", err)
	}
}

func TestBootOrder(t *testing.T) {
	s := system{items: []item{{id: 3, typ: ide}, {id: 4, typ: cd, parent: "3", place: "0", host: "ovf:/file/cd"}, {id: 5, typ: cd, parent: "3", place: "1"},
		{id: 6, typ: scsi, sub: "pvscsi"}, {id: 7, typ: disk, parent: "6", place: "1", host: "/disk/blank"}, {id: 8, typ: disk, parent: "6", place: "0", host: "/disk/d1"},
		{id: 9, typ: floppy}}}
	p := plan(t, s, deploy.Options{})
	got := map[string]int{}
	for _, d := range p.Machine.Drives {
		got[d.ID] = d.BootOrder
	}
	if diff := cmp.Diff(map[string]int{"7": 1, "8": 2, "4": 3, "5": 0, "9": 0}, got); diff != "" {
		t.Errorf("the order (-want +got):\n%s", diff)
	}
	if f := p.Files["4"]; f == nil || f.Href != "cd.iso" {
		t.Errorf("the CD-ROM is %+v", f)
	}
	if want := []string{"4", "7", "8"}; !slices.Equal(p.DriveIDs(), want) {
		t.Errorf("drives with content %v, want %v", p.DriveIDs(), want)
	}
}

// TestUEFIBootDisk has the disk where the UEFI that is installed has no driver.
func TestUEFIBootDisk(t *testing.T) {
	s := on(item{typ: scsi, sub: "VirtualSCSI"})
	s.items = append(s.items, item{id: 5, typ: disk, parent: "3", place: "1", host: "/disk/blank"})
	s.more = `<vmw:Config vmw:key="firmware" vmw:value="efi"/>`
	p := plan(t, s, deploy.Options{})
	models := map[string]hypervisor.ControllerModel{}
	for _, c := range p.Machine.Controllers {
		models[c.ID] = c.Model
	}
	if got := models[p.Machine.Drives[0].Controller]; got != hypervisor.AHCI {
		t.Errorf("the boot disk is on %s", got)
	}
	if got := models[p.Machine.Drives[1].Controller]; got != hypervisor.PVSCSI {
		t.Errorf("the other disk is on %s", got)
	}
	if !strings.Contains(notes(p), "can't boot from a pvscsi controller") {
		t.Errorf("it is not said:\n%s", notes(p))
	}
	target := qemu.Models()
	delete(target.Controllers, hypervisor.AHCI)
	if _, err := deploy.Machines(s.resolve(t), target, deploy.Options{}); !errors.Is(err, hypervisor.ErrUnfit) || !strings.Contains(err.Error(), "can't boot") {
		t.Errorf("with no controller to boot from: %v", err)
	}
}

func TestAddCDROM(t *testing.T) {
	for name, c := range map[string]struct {
		items []item
		want  string // the drive's ID, "" for one that is added
	}{
		"an empty drive": {[]item{{id: 5, typ: cd, parent: "3", place: "1"}}, "5"},
		"no drive":       {nil, ""},
		"a full one":     {[]item{{id: 5, typ: cd, parent: "3", place: "1", host: "/file/cd"}}, ""},
		"full channels": {[]item{{id: 5, typ: disk, parent: "3", place: "1", host: "/disk/blank"}, {id: 6, typ: ide, addr: "1"},
			{id: 7, typ: disk, parent: "6", place: "0", host: "/disk/blank"}, {id: 8, typ: disk, parent: "6", place: "1", host: "/disk/blank"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := on(item{typ: ide})
			s.items = append(s.items, c.items...)
			p := plan(t, s, deploy.Options{})
			before := len(p.Machine.Drives)
			id, err := p.AddCDROM(qemu.Models(), "environment", "OVF environment")
			if err != nil {
				t.Fatal(err)
			}
			if c.want != "" && (id != c.want || len(p.Machine.Drives) != before) || c.want == "" && len(p.Machine.Drives) != before+1 {
				t.Errorf("it is in the drive %q of %d", id, len(p.Machine.Drives))
			}
			if _, err := qemu.Args(p.Machine, host(p.Machine)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestMediaOfTheExporter has drives whose media are no part of the package.
func TestMediaOfTheExporter(t *testing.T) {
	s := on(item{typ: ide})
	s.items = append(s.items, item{id: 5, typ: cd, parent: "3", place: "1", host: "[datastore1] iso/setup.iso"}, item{id: 6, typ: floppy, host: " "})
	p := plan(t, s, deploy.Options{})
	if len(p.Machine.Drives) != 3 || p.Machine.Drives[1].Capacity != 0 || !strings.Contains(notes(p), "setup.iso") {
		t.Errorf("the drives are %+v:\n%s", p.Machine.Drives, notes(p))
	}
}

func TestSystems(t *testing.T) {
	r := on(item{typ: ide}).resolve(t)
	_, err := deploy.Machines(r, qemu.Models(), deploy.Options{Systems: []string{"other"}})
	var unknown *deploy.UnknownSystemError
	if !errors.As(err, &unknown) || !strings.Contains(err.Error(), "vm") {
		t.Errorf("got %v", err)
	}
	arm := on(item{typ: ide})
	arm.os = `<OperatingSystemSection ovf:id="1" vmw:osType="arm-ubuntu-64Guest"><Info/></OperatingSystemSection>`
	if _, err := deploy.Machines(arm.resolve(t), qemu.Models(), deploy.Options{}); !errors.Is(err, hypervisor.ErrUnfit) || !strings.Contains(err.Error(), "aarch64") {
		t.Errorf("a guest for ARM: %v", err)
	}
}

// TestProcessors has descriptors that say what processors they need.
func TestProcessors(t *testing.T) {
	const pasd = `xmlns:pasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ProcessorAllocationSettingData"`
	needs := func(text string) system {
		s := on(item{typ: ide})
		s.more = `<Item ` + pasd + `><rasd:InstanceID>90</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>1</rasd:VirtualQuantity>` + text + `</Item>`
		return s
	}
	nested := func(required string) system {
		s := on(item{typ: ide})
		s.more = `<vmw:Config ` + required + ` vmw:key="nestedHVEnabled" vmw:value="true"/>`
		return s
	}
	target := qemu.Models()
	target.CPUFeatures = []string{"aes", "sse4-1", "sse3"}
	for _, c := range []struct {
		name     string
		system   system
		features []string
		reason   string // "" where it fits
		note     string
	}{
		{"as it is", needs(`<pasd:InstructionSetExtensionName>DMTF:x86:AES DMTF:x86:SSE41 DMTF:x86:SSE3</pasd:InstructionSetExtensionName>`), []string{"aes", "sse4.1", "pni"}, "", ""},
		{"wished for", needs(`<pasd:InstructionSetExtensionName ovf:required="false">DMTF:x86:AVX2</pasd:InstructionSetExtensionName>`), nil, "", "DMTF:x86:AVX2 is asked for"},
		{"lacking", needs(`<pasd:InstructionSetExtensionName>DMTF:x86:AVX2</pasd:InstructionSetExtensionName>`), nil, "DMTF:x86:AVX2 (line", ""},
		{"unheard of", needs(`<pasd:InstructionSetExtensionName>ACME:x86:WARP</pasd:InstructionSetExtensionName>`), nil, `"ACME:x86:WARP"`, ""},
		{"an old PC", needs(`<pasd:InstructionSet>DMTF:x86:i586</pasd:InstructionSet>`), nil, "", ""},
		{"ARM", needs(`<pasd:InstructionSet>DMTF:ARM:A64</pasd:InstructionSet>`), nil, "the guest is aarch64", ""},
		{"z", needs(`<pasd:ProcessorArchitecture>DMTF:S/390</pasd:ProcessorArchitecture>`), nil, "the guest is s390x", ""},
		{"guests of its own, if it can be", nested(`ovf:required="false"`), nil, "", "guests of its own"},
		{"guests of its own", nested(`ovf:required="true"`), nil, "guests of its own", ""},
		{"a setting", func() system {
			s := on(item{typ: ide})
			s.more = `<vmw:Config ovf:required="true" vmw:key="warp.enabled" vmw:value="true"/><vmw:ExtraConfig vmw:key="hint" vmw:value="1"/>`
			return s
		}(), nil, "warp.enabled", ""},
		{"Secure Boot", func() system {
			s := on(item{typ: ide})
			s.more = `<vmw:Config vmw:key="firmware" vmw:value="efi"/><vmw:Config ovf:required="true" vmw:key="bootOptions.efiSecureBootEnabled" vmw:value="true"/>`
			return s
		}(), nil, "Secure Boot is required", ""},
	} {
		without := *target
		without.Firmware = slices.DeleteFunc(slices.Clone(target.Firmware), func(f hypervisor.FirmwareCapability) bool { return f.SecureBoot })
		planned, err := deploy.Machines(c.system.resolve(t), &without, deploy.Options{})
		switch {
		case c.reason == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.reason != "" && (!errors.Is(err, hypervisor.ErrUnfit) || !strings.Contains(err.Error(), c.reason)):
			t.Errorf("%s: %v, and %q is expected", c.name, err, c.reason)
		case err == nil && !slices.Equal(planned[0].Machine.CPU.Features, c.features):
			t.Errorf("%s: the machine asks for %q", c.name, planned[0].Machine.CPU.Features)
		case !strings.Contains(notes(planned[0]), c.note):
			t.Errorf("%s: the notes do not say %q:\n%s", c.name, c.note, notes(planned[0]))
		}
	}
}

// TestCorpus plans other people's descriptors: each gives machines that QEMU
// can make, or reasons.
func TestCorpus(t *testing.T) {
	root := filepath.Join("..", "..", "shared", "corpus")
	if _, err := os.Stat(root); err != nil {
		t.Skip("the corpus of descriptors is not there:", err)
	}
	var fits, unfit int
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
		r, err := ovf.Resolve(d.Envelope(), ovf.ResolveOptions{})
		if err != nil {
			return nil
		}
		planned, err := deploy.Machines(r, qemu.Models(), deploy.Options{})
		if err != nil {
			var u *hypervisor.UnfitError
			if !errors.As(err, &u) || len(u.Reasons) == 0 {
				t.Errorf("%s: %v", path, err)
			}
			for _, reason := range u.Reasons {
				if reason.Subject == "" || reason.Text == "" {
					t.Errorf("%s: a reason that says nothing: %+v", path, reason)
				}
			}
			unfit++
			return nil
		}
		for _, p := range planned {
			fill(p)
			if _, err := qemu.Args(p.Machine, host(p.Machine)); err != nil {
				t.Errorf("%s: what was planned can't be made: %v", path, err)
			}
		}
		fits++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d fit, %d do not", fits, unfit)
	if fits < unfit {
		t.Errorf("only %d of %d fit", fits, fits+unfit)
	}
}

// TestModelsAreThere asks the QEMU of this machine whether it has what the
// tables name.
func TestModelsAreThere(t *testing.T) {
	testenv.NeedTool(t, "qemu-system-x86_64")
	has, err := qemu.New(qemu.Options{}).Capabilities(t.Context(), "x86_64")
	if err != nil {
		t.Fatal(err)
	}
	for model := range qemu.Models().Controllers {
		if _, ok := has.Controllers[model]; !ok {
			t.Errorf("no %s", model)
		}
	}
	for model := range qemu.Models().NICs {
		if _, ok := has.NICs[model]; !ok {
			t.Errorf("no %s", model)
		}
	}
}

// TestTuning says what a target can't do of what is asked for processors and
// memory.
func TestTuning(t *testing.T) {
	r := system{more: `<Item><rasd:AllocationUnits>hertz * 10^6</rasd:AllocationUnits><rasd:InstanceID>20</rasd:InstanceID><rasd:Limit>2000</rasd:Limit><rasd:Reservation>500</rasd:Reservation>
<rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>1</rasd:VirtualQuantity><rasd:Weight>2000</rasd:Weight></Item>`}.resolve(t)
	for _, test := range []struct {
		caps hypervisor.Capabilities
		want string
	}{
		{hypervisor.Capabilities{}, ""},
		{hypervisor.Capabilities{NoReservations: "it can't"}, "vm: resources: left out: 500 MHz reserved; it can't"},
		{hypervisor.Capabilities{NoTuning: "no groups", NoReservations: "it can't"}, "vm: resources: left out: 500 MHz reserved, at most 2000 MHz, a weight of 2000 for its processors; no groups"},
	} {
		caps := *qemu.Models()
		caps.NoTuning, caps.NoReservations = test.caps.NoTuning, test.caps.NoReservations
		planned, err := deploy.Machines(r, &caps, deploy.Options{})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, n := range planned[0].Notes {
			if n.Subject == "resources" {
				got = n.String()
			}
		}
		if got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}
