package machine_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ovation-project/ovation/author/descriptor"
	"github.com/ovation-project/ovation/author/machine"
	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/qemu"
	"github.com/ovation-project/ovation/ovf"
	"github.com/ovation-project/ovation/ovf/lint"
)

// TestThereAndBack describes machines, and plans machines from the descriptors
// again: they have to be the same.
func TestThereAndBack(t *testing.T) {
	for _, model := range []hypervisor.ControllerModel{
		hypervisor.IDE, hypervisor.AHCI, hypervisor.LSILogic, hypervisor.LSISAS, hypervisor.PVSCSI, hypervisor.VirtIOBlk, hypervisor.VirtIOSCSI, hypervisor.NVMe,
	} {
		t.Run(string(model), func(t *testing.T) {
			m := &hypervisor.Machine{
				ID: "vm", Name: "Machine", Architecture: "x86_64", OS: "debian12",
				CPU:      hypervisor.CPU{Count: 4, CoresPerSocket: 2, ReservationHz: 5e8, LimitHz: 2e9},
				Memory:   hypervisor.Memory{Bytes: 3 << 30, ReservationBytes: 1 << 30},
				Firmware: hypervisor.Firmware{Kind: hypervisor.UEFI, SecureBoot: true},
				Controllers: []hypervisor.Controller{
					{ID: "c0", Model: model},
				},
				Drives: []hypervisor.Drive{
					{ID: "d0", Kind: hypervisor.HardDisk, Controller: "c0", Unit: 0, DiskID: "one", Capacity: 1 << 30},
					{ID: "d1", Kind: hypervisor.HardDisk, Controller: "c0", Unit: 1, Capacity: 2 << 30},
				},
				NICs: []hypervisor.NIC{
					{ID: "n0", Model: hypervisor.VirtIONet, MAC: "52:54:00:00:00:01", Network: "LAN"},
					{ID: "n1", Model: hypervisor.E1000e, MAC: "52:54:00:00:00:02", Network: "LAN", Disconnected: true},
					{ID: "n2", Model: hypervisor.VMXNET3, Network: "WAN"},
				},
				Serials: []hypervisor.Serial{{ID: "s0"}}, TPM: &hypervisor.TPM{Version: "2.0"}, USB: []string{"xhci"}, Display: "qxl", Sound: "ich9",
			}
			// UEFI has no drivers for these to boot from.
			if slices.Contains([]hypervisor.ControllerModel{hypervisor.IDE, hypervisor.LSILogic, hypervisor.LSISAS, hypervisor.PVSCSI}, model) {
				m.Firmware = hypervisor.Firmware{Kind: hypervisor.BIOS}
			}
			d := machine.Describe(m, machine.Options{KeepMAC: true})
			a := &spec.Appliance{Machine: d.Machine, Disks: d.Disks, Networks: d.Networks}
			l := &descriptor.Layout{Disks: map[string]descriptor.Disk{}}
			for _, x := range d.Disks {
				l.Disks[x.ID] = descriptor.Disk{Populated: -1, URI: "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"}
			}
			text, err := descriptor.Render(a, l, descriptor.Options{})
			if err != nil {
				t.Fatal(err)
			}
			doc, err := ovf.Parse(text, ovf.ParseOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range lint.Run(doc, lint.Options{}) {
				t.Errorf("%s: %s: %s", f.Pos, f.Rule, f.Text)
			}
			r, err := ovf.Resolve(doc.Envelope(), ovf.ResolveOptions{})
			if err != nil {
				t.Fatal(err)
			}
			target := qemu.Models()
			target.TPMs = append(target.TPMs, "2.0")
			plans, err := deploy.Machines(r, target, deploy.Options{})
			if err != nil {
				t.Fatal(err)
			}
			got := plans[0].Machine
			// The IDs are the descriptor's, the choices left open the plan's.
			plain := func(m hypervisor.Machine) hypervisor.Machine {
				m.OS, m.Chipset, m.Firmware.Reason, m.UUID = "", "", "", ""
				m.Controllers, m.Drives, m.NICs, m.Serials = slices.Clone(m.Controllers), slices.Clone(m.Drives), slices.Clone(m.NICs), slices.Clone(m.Serials)
				for i := range m.Controllers {
					m.Controllers[i].ID = ""
				}
				for i := range m.Drives {
					d := &m.Drives[i]
					d.ID, d.Controller, d.BootOrder = "", "", 0
					if d.DiskID == "" {
						d.DiskID = "vm-d1"
					}
				}
				for i := range m.NICs {
					m.NICs[i].ID, m.NICs[i].HostNetwork = "", ""
				}
				for i := range m.Serials {
					m.Serials[i].ID = ""
				}
				return m
			}
			if diff := cmp.Diff(plain(*m), plain(got), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("another machine came back:\n%s\n%s", diff, text)
			}
		})
	}
}
