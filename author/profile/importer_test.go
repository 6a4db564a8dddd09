package profile

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/author/descriptor"
	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/ovf"
)

// importers are the rules that products' importers have for descriptors, as
// their sources show: what they refuse, and what they silently take for
// something else.
var importers = map[string]func(*ovf.Envelope) []string{"virtualbox": virtualBox, "proxmox": proxmox}

// virtualBox is VirtualBox's reader (ovfreader.cpp, ApplianceImplImport.cpp of
// versions 6 and 7).
func virtualBox(env *ovf.Envelope) (broken []string) {
	add := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	disks := map[string]bool{}
	for _, d := range env.Disks {
		disks[d.ID] = true
	}
	for _, c := range env.Content.Systems() {
		for _, h := range c.Hardware {
			controllers, kinds := map[string]bool{}, map[string]int{}
			counts := map[ovf.ResourceType]int{}
			for _, i := range h.Items {
				required := !strings.Contains(i.XML(), `required="false"`)
				model := strings.ToLower(strings.Join(i.SubTypes, " "))
				kind := ""
				switch i.ResourceType {
				case 0:
					add("an item without ResourceType")
				case ovf.Processor, ovf.Memory:
					if counts[i.ResourceType]++; counts[i.ResourceType] > 1 {
						add("several items of type %d: the last one counts", i.ResourceType)
					}
					if i.ResourceType == ovf.Memory && !slices.Contains([]string{"MegaBytes", "MB", "byte * 2^20", "GigaBytes", "GB", "byte * 2^30"}, i.AllocationUnits) {
						add("memory in %q", i.AllocationUnits)
					}
				case ovf.IDEController:
					kind = "ide"
				case ovf.SCSIController:
					kind = "scsi"
				case ovf.OtherStorage:
					switch model {
					case "ahci", "vmware.sata.ahci":
						kind = "sata"
					case "virtioscsi", "virtio-scsi":
						kind = "virtio-scsi"
					case "nvme", "vmware.nvme.controller":
						kind = "nvme"
					default:
						add("a storage controller of model %q", model)
					}
				case ovf.EthernetAdapter, ovf.FloppyDrive, ovf.CDDrive, ovf.DiskDrive, ovf.USBController, ovf.SoundCard:
				default:
					if required {
						add("device %s of the unknown type %d is required", i.InstanceID, i.ResourceType)
					}
				}
				if kind != "" {
					controllers[i.InstanceID] = true
					kinds[kind]++
				}
				if len(i.Configurations) > 0 || i.Bound != "" && i.Bound != "normal" {
					add("device %s is for %v and bound %q, which nobody reads", i.InstanceID, i.Configurations, i.Bound)
				}
			}
			for kind, most := range map[string]int{"ide": 4, "scsi": 1, "sata": 1, "virtio-scsi": 1, "nvme": 1} {
				if kinds[kind] > most {
					add("%d controllers of kind %s", kinds[kind], kind)
				}
			}
			for _, i := range h.Items {
				if i.ResourceType == ovf.DiskDrive || i.ResourceType == ovf.CDDrive && i.Parent != "" {
					if !controllers[i.Parent] {
						add("drive %s is on %q, which is no controller", i.InstanceID, i.Parent)
					}
				}
				if i.ResourceType == ovf.DiskDrive && (len(i.HostResources) != 1 || !disks[strings.TrimPrefix(i.HostResources[0], "ovf:/disk/")]) {
					add("drive %s holds %v", i.InstanceID, i.HostResources)
				}
			}
		}
	}
	return broken
}

var (
	proxmoxResource = regexp.MustCompile(`^ovf:/([-0-9A-Za-z._~]+)/([-0-9A-Za-z._~]+)$`)
	proxmoxFileRef  = regexp.MustCompile(`^[-0-9A-Za-z._~/]+$`)
	proxmoxPath     = regexp.MustCompile(`^[a-zA-Z0-9\-.+=_]+$`)
	proxmoxUnits    = regexp.MustCompile(`^byte \* [0-9]+\^[0-9]+$`)
)

// proxmox is the importer of Proxmox VE (PVE::GuestImport::OVF of version 8),
// which leaves out with a warning what breaks these rules.
func proxmox(env *ovf.Envelope) (broken []string) {
	add := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	if env.Content.Kind != ovf.VirtualSystem {
		return nil // it is said that this one has to be taken apart
	}
	files, disks := map[string]*ovf.File{}, map[string]*ovf.Disk{}
	for _, f := range env.References {
		files[f.ID] = f
	}
	for _, d := range env.Disks {
		disks[d.ID] = d
	}
	for _, h := range env.Content.Hardware {
		counts := map[ovf.ResourceType]int{}
		controllers := map[string]string{}
		for _, i := range h.Items {
			counts[i.ResourceType]++
			if name := map[ovf.ResourceType]string{ovf.IDEController: "ide", ovf.SCSIController: "scsi", ovf.OtherStorage: "sata"}[i.ResourceType]; name != "" {
				controllers[i.InstanceID] = name
			}
			if i.ResourceType == ovf.Memory && i.AllocationUnits != "byte * 2^20" && !strings.HasPrefix(i.VirtualQuantity, "$") {
				add("memory of %s %s is taken as MiB", i.VirtualQuantity, i.AllocationUnits)
			}
		}
		if counts[ovf.Processor] > 1 || counts[ovf.Memory] > 1 {
			add("the digits of %d and %d items are put behind one another", counts[ovf.Processor], counts[ovf.Memory])
		}
		used := map[string]bool{}
		for _, i := range h.Items {
			if i.ResourceType != ovf.DiskDrive || len(i.HostResources) == 0 {
				continue
			}
			m := proxmoxResource.FindStringSubmatch(strings.Join(i.HostResources, ""))
			if m == nil {
				add("drive %s holds %v", i.InstanceID, i.HostResources)
				continue
			}
			d := disks[m[2]]
			if d == nil || d.FileRef == "" {
				continue // an empty disk is left out in any case
			}
			if !proxmoxFileRef.MatchString(d.FileRef) || files[d.FileRef] == nil || !proxmoxPath.MatchString(files[d.FileRef].Href) && !strings.Contains(files[d.FileRef].Href, "/") {
				add("disk %s is in the file %q", d.ID, d.FileRef)
			}
			if !proxmoxUnits.MatchString(d.CapacityUnits) && !strings.HasPrefix(d.Capacity, "$") {
				add("the capacity of disk %s is in %q", d.ID, d.CapacityUnits)
			}
			at := controllers[i.Parent] + i.AddressOnParent
			slot, err := strconv.Atoi(i.AddressOnParent)
			if most := map[string]int{"ide": 4, "scsi": 31, "sata": 6}[controllers[i.Parent]]; err != nil || slot >= most {
				add("drive %s is at %q", i.InstanceID, at)
			}
			if used[at] {
				add("two drives are at %s", at)
			}
			used[at] = true
		}
	}
	return broken
}

// crowded has all that these importers stumble over.
const crowded = `
version: "1"
options: [{id: small}, {id: large, default: true}]
networks: [n]
disks:
  - {id: "the system", source: "x.ova#a b.vmdk", file: "a b.vmdk", fileID: "file 1", capacity: "1", units: GigaBytes, format: keep}
  - {id: a, source: a, file: a.vmdk, fileID: fa, capacity: "3000000"}
  - {id: b, source: b, file: b.vmdk, fileID: fb, capacity: 1GiB}
  - {id: c, source: c, file: c.vmdk, fileID: fc, capacity: 1GiB}
  - {id: d, source: d, file: d.vmdk, fileID: fd, capacity: 1GiB}
machine:
  id: vm
  hardware:
    devices:
      - {type: processor, id: "1", quantity: "2", units: hertz * 10^6}
      - {type: processor, id: "1", quantity: "4", units: hertz * 10^6, options: large}
      - {type: processor, id: "1", quantity: "1", units: hertz * 10^6, bound: min}
      - {type: memory, id: "2", quantity: "4", units: byte * 2^30, reservation: "2"}
      - {type: memory, id: "2", quantity: "1", units: byte * 2^30, options: small}
      - {type: scsi, id: "3", subtypes: [lsilogic], address: "0"}
      - {type: scsi, id: "4", subtypes: [VirtualSCSI], address: "1"}
      - {type: storage, id: "5", subtypes: [vmware.sata.ahci]}
      - {type: storage, id: "6", subtypes: [AHCI]}
      - {type: disk, id: "7", parent: "3", slot: "0", disk: the system}
      - {type: disk, id: "8", parent: "4", slot: "0", disk: a}
      - {type: disk, id: "9", parent: "5", slot: "0", disk: b}
      - {type: disk, id: "10", parent: "6", slot: "0", disk: c}
      - {type: disk, id: "11", parent: "6", slot: "1", disk: d, options: small}
      - {type: dvd, id: "12", parent: "5", slot: "3"}
      - {type: serial, id: "13"}
      - {type: graphics, id: "14", required: false}
      - {type: ethernet, id: "15", networks: [n], subtypes: [VmxNet3, E1000]}
`

func shaped(t *testing.T, name, option, text string) (*ovf.Envelope, []string) {
	t.Helper()
	p, err := Find(name)
	if err != nil {
		t.Fatal(err)
	}
	p.Option = option
	a, err := spec.Parse("a.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	notes, err := p.Apply(a)
	if err != nil {
		t.Fatal(err)
	}
	l := &descriptor.Layout{Disks: map[string]descriptor.Disk{}}
	for _, d := range a.Disks {
		l.Files = append(l.Files, descriptor.File{ID: d.FileID, Href: d.File, Size: 1})
		l.Disks[d.ID] = descriptor.Disk{FileID: d.FileID, Populated: -1}
	}
	out, err := descriptor.Render(a, l, descriptor.Options{Models: &p.Models, CapacityUnits: p.CapacityUnits})
	if err != nil {
		t.Fatal(err)
	}
	doc, err := ovf.Parse(out, ovf.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ovf.Resolve(doc.Envelope(), ovf.ResolveOptions{}); err != nil {
		t.Error(err)
	}
	return doc.Envelope(), notes
}

// TestImporters shapes a machine that breaks their rules everywhere.
func TestImporters(t *testing.T) {
	doc, _ := shaped(t, "dmtf", "", crowded)
	for name, rules := range importers {
		if broken := rules(doc); len(broken) < 4 {
			t.Errorf("%s: the test is too tame: %q", name, broken)
		}
		env, notes := shaped(t, name, "", crowded)
		for _, b := range rules(env) {
			t.Errorf("%s: %s", name, b)
		}
		if !slices.ContainsFunc(notes, func(s string) bool { return strings.Contains(s, "large is taken") }) {
			t.Errorf("%s: says %q", name, notes)
		}
		r, err := ovf.Resolve(env, ovf.ResolveOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s := r.Systems[0]
		if s.CPUs != 4 || s.MemoryBytes != 4<<30 || s.Memory.Reservation != 2<<30 || len(env.Options) > 0 || len(env.Disks) != 4 {
			t.Errorf("%s: %d processors, %d bytes of memory of which %d are reserved, %d disks", name, s.CPUs, s.MemoryBytes, s.Memory.Reservation, len(env.Disks))
		}
		small, _ := shaped(t, name, "small", crowded)
		if r, err = ovf.Resolve(small, ovf.ResolveOptions{}); err != nil || r.Systems[0].CPUs != 2 || r.Systems[0].MemoryBytes != 1<<30 || len(small.Disks) != 5 {
			t.Errorf("%s: small is %v, %+v", name, err, r.Systems[0])
		}
	}
	p, err := Find("proxmox")
	if err != nil {
		t.Fatal(err)
	}
	p.Option = "huge"
	a, err := spec.Parse("a.yaml", []byte(crowded))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply(a); err == nil || !strings.Contains(err.Error(), `no deployment option "huge": there are small, large`) {
		t.Errorf("got %v", err)
	}
}

// TestTooMany refuses more drives than an importer takes.
func TestTooMany(t *testing.T) {
	var b strings.Builder
	b.WriteString("disks:\n")
	for i := range 7 {
		fmt.Fprintf(&b, "  - {id: d%d, capacity: 1GiB}\n", i)
	}
	b.WriteString("machine:\n  id: vm\n  hardware:\n    devices:\n      - {type: storage, id: '1', subtypes: [AHCI]}\n      - {type: storage, id: '2', subtypes: [AHCI]}\n")
	for i := range 7 {
		fmt.Fprintf(&b, "      - {type: disk, id: '%d', parent: '%d', slot: '%d', disk: d%d}\n", 10+i, 1+i/4, i%4, i)
	}
	a, err := spec.Parse("a.yaml", []byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Find("proxmox")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply(a); err == nil || !strings.Contains(err.Error(), "more drives than the 1 controllers") {
		t.Errorf("got %v", err)
	}
}
