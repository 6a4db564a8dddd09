package spec

import (
	"slices"
	"strconv"

	"github.com/ovation-project/ovation/ovf"
)

// deviceTypes are the names of the kinds of device.
var deviceTypes = []struct {
	name string
	typ  ovf.ResourceType
}{
	{"other", ovf.Other}, {"processor", ovf.Processor}, {"memory", ovf.Memory}, {"ide", ovf.IDEController},
	{"scsi", ovf.SCSIController}, {"fc", ovf.FCHBA}, {"iscsi", ovf.ISCSIHBA}, {"infiniband", ovf.IBHCA},
	{"ethernet", ovf.EthernetAdapter}, {"network", ovf.OtherNetwork}, {"floppy", ovf.FloppyDrive}, {"cdrom", ovf.CDDrive},
	{"dvd", ovf.DVDDrive}, {"disk", ovf.DiskDrive}, {"tape", ovf.TapeDrive}, {"storage", ovf.OtherStorage},
	{"serial", ovf.SerialPort}, {"parallel", ovf.ParallelPort}, {"usb", ovf.USBController}, {"graphics", ovf.GraphicsController},
	{"firewire", ovf.IEEE1394Controller}, {"sound", ovf.SoundCard},
}

// DeviceType gives the resource type that a name, or a number, stands for.
func DeviceType(name string) (ovf.ResourceType, bool) {
	for _, t := range deviceTypes {
		if t.name == name {
			return t.typ, true
		}
	}
	n, err := strconv.ParseUint(name, 10, 16)
	return ovf.ResourceType(n), err == nil
}

// DeviceTypeName gives the name of a resource type: a word, or its number.
func DeviceTypeName(t ovf.ResourceType) string {
	i := slices.IndexFunc(deviceTypes, func(d struct {
		name string
		typ  ovf.ResourceType
	}) bool {
		return d.typ == t
	})
	if i < 0 {
		return strconv.Itoa(int(t))
	}
	return deviceTypes[i].name
}

// DeviceTypes gives all names.
func DeviceTypes() []string {
	var all []string
	for _, t := range deviceTypes {
		all = append(all, t.name)
	}
	return all
}
