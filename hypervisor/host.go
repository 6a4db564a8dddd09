package hypervisor

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"
)

// Errors of hosts that keep machines.
var (
	// ErrExists says that a name is taken. Nothing was changed.
	ErrExists = errors.New("exists already")
	// ErrNotFound says that there is no such machine, pool or volume.
	ErrNotFound = errors.New("not found")
)

// Host keeps machines: what it is given stays when the program has ended, and
// other programs see it.
//
// Whatever a method makes has a name that the caller chose before, so that a
// caller can write down what it is about to make, and can undo it after it was
// killed at any moment: making what exists is ErrExists and changes nothing,
// removing what is gone is no error. All methods MUST be safe for concurrent
// use. The tests that every host passes are in hypervisor/drivertest, and a
// host in memory for the tests of callers.
type Host interface {
	// URI names the host as people write it, without secrets:
	// qemu:///system.
	URI() string
	// Capabilities is Driver's.
	Capabilities(ctx context.Context, architecture string) (*Capabilities, error)
	// Pools are the places for volumes, the one to take where nobody chose
	// first.
	Pools(ctx context.Context) ([]Pool, error)
	// Networks are what a card's HostNetwork may name, the one to take where
	// nobody chose first.
	Networks(ctx context.Context) ([]Network, error)

	// CreateVolume makes an empty volume that is to be filled.
	CreateVolume(ctx context.Context, v VolumeSpec) (Volume, error)
	// RemoveVolume removes a volume, half filled or whole.
	RemoveVolume(ctx context.Context, ref VolumeRef) error
	// OpenVolume reads a volume's file as it lies in the pool, for export.
	// Size is its bytes. It is ErrNotFound where there is none.
	OpenVolume(ctx context.Context, ref VolumeRef) (VolumeReader, error)

	// Define makes a machine, powered off, that keeps the record with it.
	// Its media name volumes, or paths and sockets that the host can open.
	// What the host can't make is an UnfitError with every reason.
	Define(ctx context.Context, m Machine, r Record) (Guest, error)
	// Lookup finds a machine by the name that Define gave it (Machine.Name).
	Lookup(ctx context.Context, name string) (*Kept, error)
	// List gives the machines that have a record, whoever made them; all
	// makes it every machine of the host.
	List(ctx context.Context, all bool) ([]*Kept, error)
	// Close ends the connection. Machines stay.
	Close() error
}

// Pool is a place for volumes.
type Pool struct {
	Name string `json:"name"`
	// AvailableBytes is what can still be written, CapacityBytes the whole;
	// 0 is not known.
	AvailableBytes int64 `json:"availableBytes,omitempty"`
	CapacityBytes  int64 `json:"capacityBytes,omitempty"`
	// Formats are the formats of volumes that it takes, the best first, by
	// qemu-img's names.
	Formats []string `json:"formats"`
	// Local says that this program reads and writes its volumes as files.
	Local bool `json:"local,omitempty"`
}

// Network is what a network card may be connected to.
type Network struct {
	Name string `json:"name"`
	// Kind is network, bridge, portgroup, or user: the hypervisor's own way
	// out, which needs no privileges.
	Kind   string `json:"kind"`
	Active bool   `json:"active"`
}

// VolumeRef names a volume. Both names are the host's own.
type VolumeRef struct {
	Pool string `json:"pool"`
	Name string `json:"name"`
}

// VolumeSpec is a volume to make.
type VolumeSpec struct {
	VolumeRef
	// Format is one of the pool's, or "iso" for media that are no disks.
	Format string `json:"format"`
	// CapacityBytes is what the guest sees.
	CapacityBytes int64 `json:"capacityBytes"`
}

// Volume is a new volume, still empty. It is filled in one of two ways: where
// Path is not "", by writing that file; everywhere by Upload. It belongs to
// whoever made it until a machine is defined with it; RemoveVolume takes it
// away.
type Volume interface {
	Ref() VolumeRef
	// Path is the file that this program may replace or write, "" where the
	// host is elsewhere or keeps it from us.
	Path() string
	// Upload sends the bytes of the volume's file in order: for a volume of
	// format raw the disk's own, holes left out by Skip.
	Upload(ctx context.Context) (VolumeWriter, error)
	// Filled tells the host that the file at Path is complete.
	Filled(ctx context.Context) error
}

// VolumeWriter takes a volume's bytes in order.
type VolumeWriter interface {
	io.Writer
	// Skip leaves n bytes a hole.
	Skip(n int64) error
	// Close says that all is there, and reports what went wrong on the way.
	Close() error
	// Abort gives up. It may follow Close, and then does nothing.
	Abort()
}

// VolumeReader reads a volume's file.
type VolumeReader interface {
	io.ReaderAt
	io.Closer
	Size() int64
	// Format is qemu-img's name of what the file holds.
	Format() string
}

// Record is what a host keeps with a machine, so that any copy of this program
// on any other host knows where it comes from. It holds no secrets.
type Record struct {
	// Deployment is the same for all machines of one deployment.
	Deployment string `json:"deployment"`
	// System is the ovf:id of the machine's virtual system.
	System string `json:"system"`
	// Appliance is the product's name and version, for people; Locator is
	// where the package came from, without credentials.
	Appliance string    `json:"appliance,omitempty"`
	Locator   string    `json:"locator,omitempty"`
	Made      time.Time `json:"made"`
	// Data is the deployer's own.
	Data json.RawMessage `json:"data,omitempty"`
}

// Kept is a machine that a host has.
type Kept struct {
	Guest
	// Name is the machine's name on the host.
	Name string
	// Record is nil for a machine that somebody else made.
	Record *Record
	// Machine is the hardware as the host has it now, as far as it can be
	// said in our terms, its media with their volumes; Unsaid names what
	// can't.
	Machine Machine
	Unsaid  []string
	// Native is what the host says in words of its own kind, nil where it has
	// no others than Machine's.
	Native *Native
}

// Agent is implemented by guests whose host can ask a program within the
// guest.
type Agent interface {
	// Ping is nil when the guest's agent answers.
	Ping(ctx context.Context) error
}

// SerialLogger is implemented by guests whose host keeps what they say on their
// serial ports.
type SerialLogger interface {
	// SerialLog gives what the guest said on a port, counted from 0, since it
	// was powered on last, from a byte on. at is the byte that the answer
	// begins with: another than from where the host has dropped what was there
	// (0 where the guest was powered on anew). It is ErrNotFound where the
	// host keeps nothing of that port.
	SerialLog(ctx context.Context, port int, from int64) (said io.ReadCloser, at int64, err error)
}

// Recorder is implemented by hosts that can change a record that they keep.
type Recorder interface {
	SetRecord(ctx context.Context, name string, r Record) error
}

// FirmwareSetter is implemented by hosts that can give a machine that is powered
// off other firmware, as long as it was never started.
type FirmwareSetter interface {
	SetFirmware(ctx context.Context, name string, f Firmware) error
}

// DeltaFinder is implemented by hosts on which a volume may be below others.
type DeltaFinder interface {
	// DeltasOf names the volumes, and files where they are none, that are
	// deltas of a volume: without it they hold nothing of use.
	DeltasOf(ctx context.Context, ref VolumeRef) ([]string, error)
}

// GuestInformer is implemented by hosts that give a guest variables, which it
// reads without a device of its own: Capabilities.GuestInfo.
type GuestInformer interface {
	// SetGuestInfo sets a variable of a machine that is powered off, such as
	// guestinfo.ovfEnv.
	SetGuestInfo(ctx context.Context, name, key, value string) error
}
