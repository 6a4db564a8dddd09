package qemu

import "github.com/ovation-project/ovation/hypervisor/qemudevice"

// Architectures are QEMU's names of the guests that this driver makes, and of
// the programs that run them. A 64-bit PC runs 32-bit guests as well.
var architectures = map[string][]string{
	"x86_64": {"qemu-system-x86_64"},
	"i386":   {"qemu-system-x86_64", "qemu-system-i386"},
}

// The device models that the driver makes. What a given QEMU was built without
// is left out of its capabilities. Nobody changes them.
var (
	table       = qemudevice.All()
	controllers = table.Controllers
	nics        = table.NICs
	displays    = table.Displays
	sounds      = table.Sounds
	usbs        = table.USB
)

// withCodec are the sound cards that are silent without one more device.
var withCodec = map[string]string{"ich6": "hda-duplex", "ich9": "hda-duplex"}

// The host networks of a QEMU without privileges.
const (
	// NetworkUser leads out through the host, and in by forwards only.
	NetworkUser = "user"
	// NetworkIsolated leads nowhere but to forwards.
	NetworkIsolated = "isolated"
)

// formats are the images that a drive may be on, the best first.
var formats = []string{"qcow2", "raw"}
