// Package hypervisor is the contract between what is to run and what runs it.
//
// A Machine is one virtual machine as a driver is to make it: every choice is
// made (deployment option, properties, firmware, controllers), every number
// is in plain units, and nothing of the descriptor's syntax is left. Package
// deploy makes Machines out of a resolved descriptor; a driver, one package
// below this one each, makes them run and never sees a descriptor.
package hypervisor

import (
	"fmt"
	"net/netip"
)

// Machine is one virtual machine. It is data: it marshals to JSON and back
// without loss.
type Machine struct {
	// ID is the virtual system's ovf:id, Name what people call it.
	ID   string `json:"id"`
	Name string `json:"name"`
	// UUID is the SMBIOS UUID the guest sees; "" lets the driver choose.
	UUID string `json:"uuid,omitempty"`
	// Architecture is QEMU's name of the CPU architecture: x86_64, i386,
	// aarch64.
	Architecture string `json:"architecture"`
	// Chipset is the PC the guest's firmware and drivers know: "" is the
	// driver's choice.
	Chipset Chipset `json:"chipset,omitempty"`
	// OS is the guest operating system, as libosinfo's short id where one is
	// known, else "".
	OS string `json:"os,omitempty"`

	CPU    CPU    `json:"cpu"`
	Memory Memory `json:"memory"`

	Firmware    Firmware     `json:"firmware"`
	Controllers []Controller `json:"controllers,omitempty"`
	Drives      []Drive      `json:"drives,omitempty"`
	NICs        []NIC        `json:"nics,omitempty"`
	Serials     []Serial     `json:"serials,omitempty"`
	TPM         *TPM         `json:"tpm,omitempty"`
	Display     string       `json:"display,omitempty"` // "", "vga", "virtio", "qxl", "vmvga"
	Sound       string       `json:"sound,omitempty"`   // "", "ac97", "ich6", "ich9", "sb16", "ens1370"
	USB         []string     `json:"usb,omitempty"`     // "uhci", "ohci", "ehci", "xhci"
}

// Chipset is the machine type, by QEMU's short names.
type Chipset string

// The chipsets.
const (
	ChipsetAny Chipset = ""
	// I440FX is QEMU's "pc": PCI, a PIIX3 with one IDE controller.
	I440FX Chipset = "pc"
	// Q35 is PCI Express with an AHCI controller on board.
	Q35 Chipset = "q35"
)

// CPU is the processor's shape. Count is the number of virtual CPUs.
type CPU struct {
	Count          int `json:"count"`
	CoresPerSocket int `json:"coresPerSocket,omitempty"`
	// Reservation and Limit are in hertz, 0 for none; Shares is the
	// relative weight, 0 for the host's own.
	ReservationHz int64 `json:"reservationHz,omitempty"`
	LimitHz       int64 `json:"limitHz,omitempty"`
	Shares        int64 `json:"shares,omitempty"`
	// Features are CPU features that the package requires, by QEMU's names.
	Features []string `json:"features,omitempty"`
}

// Memory is in bytes.
type Memory struct {
	Bytes            int64 `json:"bytes"`
	ReservationBytes int64 `json:"reservationBytes,omitempty"`
	LimitBytes       int64 `json:"limitBytes,omitempty"`
	Shares           int64 `json:"shares,omitempty"`
}

// FirmwareKind is BIOS or UEFI.
type FirmwareKind string

// The kinds of firmware, by libvirt's names.
const (
	BIOS FirmwareKind = "bios"
	UEFI FirmwareKind = "efi"
)

// Firmware says what boots the machine and why that was chosen.
type Firmware struct {
	Kind       FirmwareKind `json:"kind"`
	SecureBoot bool         `json:"secureBoot,omitempty"`
	// Reason is where the choice comes from, for people: "vmw:Config
	// firmware=efi", "inferred: the disk has a GPT with an EFI system
	// partition".
	Reason string `json:"reason,omitempty"`
	// NVRAM is the path of variables that came with the package, "" for
	// none.
	NVRAM string `json:"nvram,omitempty"`
}

// ControllerModel is a storage controller that the guest's drivers know.
type ControllerModel string

// The storage controllers.
const (
	IDE        ControllerModel = "ide"        // PIIX3/PIIX4 parallel ATA
	AHCI       ControllerModel = "ahci"       // ICH9 SATA
	LSILogic   ControllerModel = "lsilogic"   // LSI 53C1030 parallel SCSI
	LSISAS     ControllerModel = "lsisas1068" // LSI SAS1068
	BusLogic   ControllerModel = "buslogic"   // BusLogic BT-958
	PVSCSI     ControllerModel = "pvscsi"     // VMware paravirtual SCSI
	VirtIOBlk  ControllerModel = "virtio-blk" // one device a disk
	VirtIOSCSI ControllerModel = "virtio-scsi"
	NVMe       ControllerModel = "nvme"
	Floppy     ControllerModel = "fdc"
	USBMass    ControllerModel = "usb-storage"
)

// Controller is one storage controller. ID is unique in the machine; drives
// refer to it.
type Controller struct {
	ID    string          `json:"id"`
	Model ControllerModel `json:"model"`
	// Index orders controllers of one model, from 0 (OVF's Address).
	Index int `json:"index"`
}

// DriveKind says what a drive is.
type DriveKind string

// The kinds of drive.
const (
	HardDisk    DriveKind = "disk"
	CDROM       DriveKind = "cdrom"
	FloppyDrive DriveKind = "floppy"
)

// Drive is a disk, a CD-ROM or a floppy drive at a place on a controller.
type Drive struct {
	ID         string    `json:"id"`
	Kind       DriveKind `json:"kind"`
	Controller string    `json:"controller"`
	// Unit is the place on the controller (OVF's AddressOnParent): for IDE
	// 0 or 1, for SCSI the target.
	Unit int `json:"unit"`
	// DiskID is the descriptor's ovf:diskId for a disk, "" otherwise.
	DiskID string `json:"diskId,omitempty"`
	// Capacity is in bytes, 0 for media that have none yet.
	Capacity int64 `json:"capacity,omitempty"`
	// Stored is about how many bytes the medium takes where it is, as a host
	// says it of a machine that it has; 0 is not known.
	Stored int64 `json:"stored,omitempty"`
	// Medium is where the driver finds the bytes; nil is an empty drive.
	Medium *Medium `json:"medium,omitempty"`
	// BootOrder is 1 for what boots first, 0 for what does not boot.
	BootOrder int  `json:"bootOrder,omitempty"`
	ReadOnly  bool `json:"readOnly,omitempty"`
	// Shared is set for a disk that several machines write at once.
	Shared bool `json:"shared,omitempty"`
}

// Medium is an image that a driver can open itself.
type Medium struct {
	// Format is qemu-img's name for it: qcow2, raw.
	Format string `json:"format"`
	// Path is a local file; Socket, where set instead, is the Unix socket
	// of an NBD server, with Export the export's name.
	Path   string `json:"path,omitempty"`
	Socket string `json:"socket,omitempty"`
	Export string `json:"export,omitempty"`
	// Volume, where set instead, is a volume of a pool of the host's.
	Volume *VolumeRef `json:"volume,omitempty"`
	// Below, where set, is the image that this one is a delta of, whatever
	// its own header says: what it does not hold is read from there. Nothing
	// is written to it.
	Below *Medium `json:"below,omitempty"`
	// Volatile is set where nobody keeps the bytes after the guest, so that
	// they need not survive a crash of the host.
	Volatile bool `json:"volatile,omitempty"`
}

// NICModel is a network card that the guest's drivers know.
type NICModel string

// The network cards.
const (
	E1000     NICModel = "e1000"
	E1000e    NICModel = "e1000e"
	PCnet     NICModel = "pcnet"
	VMXNET3   NICModel = "vmxnet3"
	VirtIONet NICModel = "virtio-net"
	RTL8139   NICModel = "rtl8139"
	NE2000    NICModel = "ne2k_pci"
)

// NIC is one network card.
type NIC struct {
	ID    string   `json:"id"`
	Model NICModel `json:"model"`
	// MAC is in the usual form, "" lets the driver choose.
	MAC string `json:"mac,omitempty"`
	// Network is the name of the descriptor's network, HostNetwork what it
	// is connected to on the target.
	Network     string `json:"network"`
	HostNetwork string `json:"hostNetwork,omitempty"`
	// Disconnected is set where the card exists and its cable is not
	// plugged in.
	Disconnected bool `json:"disconnected,omitempty"`
	// Forwards are ports of the host that lead to the guest, where the host
	// network is one that has such.
	Forwards []Forward `json:"forwards,omitempty"`
}

// Forward leads a port of the host to a port of the guest.
type Forward struct {
	// Protocol is tcp or udp.
	Protocol string `json:"protocol"`
	// HostAddress is the host's address to listen on; the zero Addr is the
	// loopback address.
	HostAddress netip.Addr `json:"hostAddress,omitzero"`
	HostPort    uint16     `json:"hostPort"`
	GuestPort   uint16     `json:"guestPort"`
}

// String is the form that people write: tcp:127.0.0.1:2222:22.
func (f Forward) String() string {
	host := fmt.Sprint(f.HostPort)
	if f.HostAddress.IsValid() {
		host = netip.AddrPortFrom(f.HostAddress, f.HostPort).String()
	}
	return fmt.Sprintf("%s:%s:%d", f.Protocol, host, f.GuestPort)
}

// Serial is one serial port. The first one is the console.
type Serial struct {
	ID string `json:"id"`
}

// TPM is a trusted platform module.
type TPM struct {
	Version string `json:"version"` // "1.2" or "2.0"
}
