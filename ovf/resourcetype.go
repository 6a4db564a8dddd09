package ovf

import "fmt"

// resourceTypes are the names of CIM_ResourceAllocationSettingData's values, by
// number.
var resourceTypes = [...]string{
	Other: "Other", ComputerSystem: "Computer System", Processor: "Processor", Memory: "Memory",
	IDEController: "IDE Controller", SCSIController: "Parallel SCSI HBA", FCHBA: "FC HBA", ISCSIHBA: "iSCSI HBA", IBHCA: "IB HCA",
	EthernetAdapter: "Ethernet Adapter", OtherNetwork: "Other Network Adapter", IOSlot: "I/O Slot", IODevice: "I/O Device",
	FloppyDrive: "Floppy Drive", CDDrive: "CD Drive", DVDDrive: "DVD Drive", DiskDrive: "Disk Drive", TapeDrive: "Tape Drive",
	StorageExtent: "Storage Extent", OtherStorage: "Other Storage Device", SerialPort: "Serial Port", ParallelPort: "Parallel Port",
	USBController: "USB Controller", GraphicsController: "Graphics Controller", IEEE1394Controller: "IEEE 1394 Controller",
	PartitionableUnit: "Partitionable Unit", BasePartitionable: "Base Partitionable Unit", Power: "Power", Cooling: "Cooling Capacity",
	EthernetSwitchPort: "Ethernet Switch Port", LogicalDisk: "Logical Disk", StorageVolume: "Storage Volume",
	EthernetConnection: "Ethernet Connection", GPU: "GPU", SoundCard: "Sound Card",
}

// String gives the type's name as CIM has it.
func (t ResourceType) String() string {
	if t > 0 && int(t) < len(resourceTypes) {
		return resourceTypes[t]
	}
	return fmt.Sprintf("Type %d", int(t))
}
