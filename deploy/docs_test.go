package deploy_test

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/libvirt"
	"github.com/ovation-project/ovation/hypervisor/qemu"
	"github.com/ovation-project/ovation/hypervisor/vsphere"
	"github.com/ovation-project/ovation/ovf"
)

// drivers are the columns of the page: what each makes of a device.
var drivers = []struct {
	title string
	gives *hypervisor.Capabilities
	// serial and tpm are the driver's names of what has no models.
	serial, tpm string
}{
	{"QEMU (`-device`)", qemu.Models(), "isa-serial", "tpm-crb"},
	{"libvirt with QEMU", libvirt.Models(false), "serial", "tpm-crb"},
	{"libvirt with Xen", libvirt.Models(true), "serial", "tpm-crb"},
	{"vSphere", vsphere.Models(), "VirtualSerialPort", "VirtualTPM"},
}

const hardwareHead = `# Which hardware becomes which device

This page is made from the program's own tables: ` + "`go generate ./deploy`" + ` writes it anew.

A descriptor lists its virtual hardware as items with a ` + "`ResourceType`" + ` (a number of
CIM_ResourceAllocationSettingData) and a ` + "`ResourceSubType`" + ` (a vendor's word for the model;
case does not count). Where an item names several subtypes, the first is taken that the
target has. The same holds for OVF 2's ` + "`StorageItem`" + ` and ` + "`EthernetPortItem`" + `. What a target
has it says itself: a driver's column is what it makes where the host was built with
everything, and an empty field is what it can't make. A subtype of a controller or card
that is not in the table is not known, and is treated as what can't be had.

A package that requires what can't be had (` + "`ovf:required`" + `, which is true unless said
otherwise) does not fit, and every such item is named before anything is made
([fit.md](fit.md)). What is not required is left out, and that is said too.

`

const hardwareFoot = `
A disk keeps its place on its controller; where the device has fewer places than the one
it stands for (an LSI Logic of QEMU's has seven), disks move to one that is free, on one
more controller if need be, and that is said. Where the firmware can't boot from a
controller, the disk that boots goes on an AHCI one. ` + "`--disk-bus`" + ` and ` + "`--nic`" + ` give all disks
and all cards another model.

vSphere is given the package itself, and makes the machines of it: what only VMware's own
products have is left to it.

Beside the items these settings are read: ` + "`vmw:Config`" + ` with ` + "`firmware`" + `,
` + "`bootOptions.efiSecureBootEnabled`" + `, ` + "`uuid`" + ` and ` + "`nestedHVEnabled`" + `, and of ` + "`vbox:Machine`" + ` its firmware,
Secure Boot, TPM and UUID. Any other ` + "`vmw:Config`" + ` or ` + "`vmw:ExtraConfig`" + ` that says
` + "`ovf:required=\"true\"`" + ` is a reason against the target; those that do not say so are passed over.

The families are those whose products have the device, which decides the portability
level ([fit.md](fit.md#portability)).
`

// hardwarePage writes the page: every resource type, in the order of its number.
func hardwarePage(w io.Writer) {
	fmt.Fprint(w, hardwareHead)
	head, line := "| type | subtypes | device |", "| --- | --- | --- |"
	for _, d := range drivers {
		head, line = head+" "+d.title+" |", line+" --- |"
	}
	fmt.Fprintf(w, "%s Linux driver | families | what differs, or why there is none |\n%s --- | --- | --- |\n", head, line)
	rows := deploy.Devices()
	for t := ovf.Other; t <= ovf.SoundCard; t++ {
		name := fmt.Sprintf("%d, %s", t, t)
		empty := strings.Repeat(" |", len(drivers)+2)
		switch t {
		case ovf.Processor:
			fmt.Fprintf(w, "| %s | any | processors |%s all | count, `vmw:CoresPerSocket`, shares, limit and reservation as the item says; `InstructionSet` and `InstructionSetExtensionName` (CIM_ProcessorAllocationSettingData) are asked of the target |\n", name, empty[:len(empty)-2])
			continue
		case ovf.Memory:
			fmt.Fprintf(w, "| %s | any | memory |%s all | size, shares, limit and reservation as the item says |\n", name, empty[:len(empty)-2])
			continue
		}
		var some []deploy.Device
		for _, d := range rows {
			if d.Type == t {
				some = append(some, d)
			}
		}
		slices.SortStableFunc(some, func(a, b deploy.Device) int { return cmp.Compare(min(1, len(a.SubTypes)), min(1, len(b.SubTypes))) })
		if len(some) == 0 {
			fmt.Fprintf(w, "| %s | any | none |%s  | not known |\n", name, empty)
		}
		for _, d := range some {
			hardwareRow(w, name, d)
		}
	}
	fmt.Fprint(w, hardwareFoot)
}

func hardwareRow(w io.Writer, name string, d deploy.Device) {
	var subs, families, differs []string
	for _, s := range d.SubTypes {
		subs = append(subs, "`"+s+"`")
	}
	for _, f := range d.Families {
		families = append(families, f.String())
	}
	if d.Differs != "" || d.None != "" {
		differs = append(differs, d.Differs+d.None)
	}
	device, guest, columns := "none", "", ""
	for _, driver := range drivers {
		var made hypervisor.Device
		device, made = deviceOf(d, driver.gives, driver.serial, driver.tpm)
		columns += " " + made.Name + " |"
		guest = cmp.Or(guest, made.GuestDriver)
		if made.Substitute != "" && !slices.Contains(differs, made.Substitute) {
			differs = append(differs, made.Substitute)
		}
	}
	kind := "any"
	switch {
	case len(d.SubTypes) > 0:
		kind = strings.Join(subs, ", ")
	case d.Type == ovf.Other || d.Drive == "" && !d.Serial && d.None == "":
		kind = "none said"
	}
	if len(families) == 0 && d.None == "" {
		families = []string{"all"}
	}
	if d.None != "" {
		device = "none: refused where it is required, else left out"
		if slices.Contains(d.Families, deploy.VMware) {
			columns = strings.TrimSuffix(columns, "  |") + " as vSphere reads it |"
		}
	}
	fmt.Fprintf(w, "| %s | %s | %s |%s %s | %s | %s |\n", name, kind, device, columns, guest, strings.Join(families, ", "), strings.Join(differs, "; "))
}

// deviceOf is the model that an item becomes, and what a driver makes of it.
func deviceOf(d deploy.Device, gives *hypervisor.Capabilities, serial, tpm string) (model string, made hypervisor.Device) {
	switch {
	case d.Controller != "":
		return string(d.Controller), gives.Controllers[d.Controller]
	case d.NIC != "":
		return string(d.NIC), gives.NICs[d.NIC]
	case d.Sound != "":
		return d.Sound, gives.Sounds[d.Sound]
	case d.USB != "":
		return "USB " + d.USB, gives.USB[d.USB]
	case d.Display != "":
		return d.Display, gives.Displays[d.Display]
	case d.Drive != "":
		return string(d.Drive), hypervisor.Device{Name: "by its controller"}
	case d.Serial:
		return "serial port", hypervisor.Device{Name: serial, GuestDriver: "8250"}
	case d.TPM != "":
		return "TPM " + d.TPM, hypervisor.Device{Name: tpm, GuestDriver: "tpm_crb"}
	}
	return "none", hypervisor.Device{}
}

// TestDocs sees that the page is what the tables say. With UPDATE_DOCS set it is
// written.
func TestDocs(t *testing.T) {
	const path = "../docs/hardware.md"
	var want bytes.Buffer
	hardwarePage(&want)
	if os.Getenv("UPDATE_DOCS") != "" {
		if err := os.WriteFile(path, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want.Bytes()) {
		t.Fatalf("%s is stale: run 'go generate ./deploy'", path)
	}
}

// TestEveryTypeIsKnown sees that whatever CIM's type an item has, the table says
// what becomes of it, and that what no driver makes says why.
func TestEveryTypeIsKnown(t *testing.T) {
	for n := ovf.Other; n <= ovf.SoundCard; n++ {
		if n == ovf.Processor || n == ovf.Memory {
			continue
		}
		if found := deploy.LookUp(n, nil); len(found) == 0 {
			t.Errorf("an item of the type %d (%s) is not in the table", n, n)
		}
	}
	seen := map[string]bool{}
	for _, d := range deploy.Devices() {
		model, _ := deviceOf(d, qemu.Models(), "", "")
		if (model == "none") != (d.None != "") {
			t.Errorf("%d %q becomes %q, and says %q of why", d.Type, d.SubTypes, model, d.None)
		}
		for _, s := range append([]string{""}, d.SubTypes...) {
			key := fmt.Sprint(d.Type, strings.ToLower(s))
			if s == "" && len(d.SubTypes) > 0 {
				continue
			}
			if seen[key] {
				// The same word twice in one row, in another spelling, is for people.
				if !slices.ContainsFunc(d.SubTypes, func(o string) bool { return o != s && strings.EqualFold(o, s) }) {
					t.Errorf("%d %q is in two rows", d.Type, s)
				}
			}
			seen[key] = true
		}
	}
}
