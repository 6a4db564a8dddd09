package deploy

import (
	"slices"
	"strings"
)

// Family is a family of virtual hardware: what the products of one line have in
// common, whatever their versions.
type Family string

// The families that are known. Any other VirtualSystemType is a family of its
// own, by its name in small letters.
const (
	VMware     Family = "vmware"
	VirtualBox Family = "virtualbox"
	QEMU       Family = "qemu"
	Xen        Family = "xen"
	HyperV     Family = "hyper-v"
)

// familyNames is how VirtualSystemTypes begin, in small letters.
var familyNames = []struct {
	begins string
	family Family
}{
	{"vmx", VMware}, {"vmware", VMware}, {"esx", VMware},
	{"virtualbox", VirtualBox}, {"vbox", VirtualBox},
	{"kvm", QEMU}, {"qemu", QEMU}, {"dmtf:kvm", QEMU}, {"proxmox", QEMU}, {"ovirt", QEMU}, {"rhev", QEMU}, {"pc-q35", QEMU}, {"pc-i440fx", QEMU},
	{"xen", Xen}, {"dmtf:xen", Xen}, {"citrix", Xen},
	{"hyperv", HyperV}, {"hyper-v", HyperV}, {"microsoft", HyperV},
}

// FamilyOf is the family of a VirtualSystemType, such as vmx-13.
func FamilyOf(systemType string) Family {
	name := strings.ToLower(strings.TrimSpace(systemType))
	for _, f := range familyNames {
		if strings.HasPrefix(name, f.begins) {
			return f.family
		}
	}
	return Family(name)
}

// FamiliesOf are the families of several VirtualSystemTypes, each once.
func FamiliesOf(systemTypes []string) (families []Family) {
	for _, t := range systemTypes {
		if f := FamilyOf(t); f != "" && !slices.Contains(families, f) {
			families = append(families, f)
		}
	}
	return families
}

// String is the family's name as people write it.
func (f Family) String() string {
	names := map[Family]string{VMware: "VMware", VirtualBox: "VirtualBox", QEMU: "QEMU and KVM", Xen: "Xen", HyperV: "Hyper-V"}
	if name, ok := names[f]; ok {
		return name
	}
	return string(f)
}
