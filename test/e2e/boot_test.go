package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ovation-project/ovation/internal/testenv"
	"github.com/ovation-project/ovation/test/appliance"
)

// drivers are the Linux drivers of what a descriptor asks for.
var drivers = map[string]string{
	"ide": "ata_piix", "ahci": "ahci", "lsilogic": "sym53c8xx", "lsisas": "mptsas",
	"pvscsi": "vmw_pvscsi", "virtio-blk": "virtio_blk", "virtio-scsi": "virtio_scsi", "nvme": "nvme",

	"E1000": "e1000", "E1000e": "e1000e", "PCNet32": "pcnet32", "VmxNet3": "vmxnet3", "virtio": "virtio_net",
}

func mac(n int) string { return fmt.Sprintf("00:50:56:00:00:%02x", n) }

// data is a small data disk on a controller, "" for the boot disk's own.
func data(seed int64, controller string) appliance.Disk {
	return appliance.Disk{Size: 4 << 20, Seed: seed, Controller: controller}
}

// TestBoot boots one guest for every storage controller and every network
// card, and for both firmwares, and compares what the guest finds with what
// the descriptor says: CPUs, memory, disks by checksum and driver, network
// cards by MAC and driver.
func TestBoot(t *testing.T) {
	t.Parallel()
	testenv.NeedTool(t, "qemu-system-x86_64")
	const bios, efi, both = appliance.BootBIOS, appliance.BootEFI, appliance.BootBoth
	for _, test := range []struct {
		name     string
		spec     appliance.Spec
		firmware string // what the guest must find
		boot     string // the boot disk's controller, where it is not the Spec's
	}{
		// BIOS boots from every controller.
		{"bios/ide+e1000", appliance.Spec{Boot: bios, Controller: "ide", NICs: []appliance.NIC{{Model: "E1000", MAC: mac(1)}},
			Disks: []appliance.Disk{data(1, ""), data(2, "")}, CDROM: true, CPUs: 2}, "bios", ""},
		{"bios/ahci+e1000e", appliance.Spec{Boot: bios, Controller: "ahci", NICs: []appliance.NIC{{Model: "E1000e", MAC: mac(2)}},
			Disks: []appliance.Disk{data(3, "")}, Firmware: "bios", MemoryMiB: 384}, "bios", ""},
		{"bios/lsilogic+pcnet", appliance.Spec{Boot: bios, Controller: "lsilogic", NICs: []appliance.NIC{{Model: "PCNet32", MAC: mac(3)}},
			Disks: []appliance.Disk{data(4, "")}}, "bios", ""},
		{"bios/lsisas+vmxnet3", appliance.Spec{Boot: bios, Controller: "lsisas", NICs: []appliance.NIC{{Model: "VmxNet3", MAC: mac(4)}},
			Disks: []appliance.Disk{data(5, "")}}, "bios", ""},
		{"bios/pvscsi+vmxnet3x2", appliance.Spec{Boot: bios, Controller: "pvscsi", NICs: []appliance.NIC{{Model: "VmxNet3", MAC: mac(5)}, {Model: "VmxNet3", MAC: mac(6)}},
			Disks: []appliance.Disk{data(6, "")}, CPUs: 4, CoresPerSocket: 2}, "bios", ""},
		{"bios/virtio-blk+virtio", appliance.Spec{Boot: bios, Controller: "virtio-blk", NICs: []appliance.NIC{{Model: "virtio", MAC: mac(7)}},
			Disks: []appliance.Disk{data(7, ""), data(8, "ahci")}}, "bios", ""},
		{"bios/virtio-scsi+virtio", appliance.Spec{Boot: bios, Controller: "virtio-scsi", NICs: []appliance.NIC{{Model: "virtio", MAC: mac(8)}},
			Disks: []appliance.Disk{data(9, "")}}, "bios", ""},
		{"bios/nvme+e1000", appliance.Spec{Boot: bios, Controller: "nvme", NICs: []appliance.NIC{{Model: "E1000", MAC: mac(9)}},
			Disks: []appliance.Disk{data(10, "")}}, "bios", ""},

		// UEFI boots from those that its firmware has drivers for; a guest
		// finds the others behind its own. Where the descriptor is silent
		// the disk tells which firmware it is for.
		{"efi/nvme+all", appliance.Spec{Boot: efi, Firmware: "efi", Controller: "nvme", MemoryMiB: 320,
			Disks: []appliance.Disk{data(11, "lsilogic"), data(12, "lsisas"), data(13, "pvscsi"), data(14, "virtio-blk")},
			NICs: []appliance.NIC{{Model: "E1000", MAC: mac(10)}, {Model: "E1000e", MAC: mac(11)}, {Model: "PCNet32", MAC: mac(12)},
				{Model: "VmxNet3", MAC: mac(13)}, {Model: "virtio", MAC: mac(14)}}}, "efi", ""},
		{"efi/ahci unsaid", appliance.Spec{Boot: efi, Controller: "ahci", NICs: []appliance.NIC{{Model: "VmxNet3", MAC: mac(15)}}, CPUs: 2}, "efi", ""},
		{"efi/virtio-scsi", appliance.Spec{Boot: both, Firmware: "efi", Controller: "virtio-scsi", Disks: []appliance.Disk{data(15, "")}}, "efi", ""},
		{"efi/virtio-blk", appliance.Spec{Boot: efi, Controller: "virtio-blk", NICs: []appliance.NIC{{Model: "E1000e", MAC: mac(16)}}}, "efi", ""},
		// The firmware has no driver for this one: the boot disk moves, and
		// the other stays.
		{"efi/pvscsi", appliance.Spec{Boot: efi, Firmware: "efi", Controller: "pvscsi", Disks: []appliance.Disk{data(16, "")}}, "efi", "ahci"},
		{"efi/ide", appliance.Spec{Boot: efi, Firmware: "efi", Controller: "ide", NICs: []appliance.NIC{{Model: "PCNet32", MAC: mac(17)}}}, "efi", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := build(t, test.spec)
			u := newUser(t)
			if test.boot == "" {
				test.boot = p.Spec.Controller
			}
			checkReport(t, p, boot(t, u, p.OVA), test.firmware, test.boot)
			u.onlyLeft()
		})
	}
}

// boot runs the package and gives what the guest reported.
func boot(t *testing.T, u *user, locator string, flags ...string) *appliance.Report {
	t.Helper()
	args := append([]string{"run", "--headless", "--timeout", "5m"}, flags...)
	r := u.succeed(append(args, locator)...)
	report, err := appliance.ParseReport(strings.NewReader(r.stdout))
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, tail(r.stdout), r.stderr)
	}
	return report
}

// machine is what the package and the guest must agree on.
type machine struct {
	Firmware   string
	CPUs       int
	MemoryMiB  int64
	Disks      []string
	NICs       []string
	CDROMs     int
	Sockets    int
	CoresShape int
}

// checkReport compares them. The boot disk is to be found on that controller.
func checkReport(t *testing.T, p *appliance.Package, r *appliance.Report, firmware, boot string) {
	t.Helper()
	want := machine{Firmware: firmware, CPUs: p.Spec.CPUs, MemoryMiB: p.Spec.MemoryMiB}
	got := machine{Firmware: r.Firmware, CPUs: r.CPUs, MemoryMiB: r.MemoryMiB}
	if cores := p.Spec.CoresPerSocket; cores > 0 {
		want.Sockets, want.CoresShape = p.Spec.CPUs/cores, cores
		got.Sockets, got.CoresShape = r.Sockets, r.Cores
	}
	if p.Spec.CDROM {
		want.CDROMs, got.CDROMs = 1, len(r.CDROMs)
	}
	for i, d := range p.Disks {
		controller := boot
		if i > 0 {
			controller = p.Spec.Disks[i-1].Controller
		}
		want.Disks = append(want.Disks, fmt.Sprint(drivers[controller], " ", d.Capacity, " ", d.SHA256))
	}
	for _, d := range r.Disks {
		got.Disks = append(got.Disks, fmt.Sprint(d.Driver, " ", d.Size, " ", d.SHA256))
	}
	for _, n := range p.Spec.NICs {
		want.NICs = append(want.NICs, drivers[n.Model]+" "+n.MAC)
	}
	for _, n := range r.NICs {
		got.NICs = append(got.NICs, n.Driver+" "+n.MAC)
	}
	// The kernel names devices in the order in which it finds them.
	for _, list := range [][]string{want.Disks, got.Disks, want.NICs, got.NICs} {
		slices.Sort(list)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the guest found another machine than the descriptor describes (-descriptor +guest):\n%s\n%s", diff, strings.Join(r.Lines, "\n"))
	}
}
