package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Errors that callers act on. Drivers wrap them with what, where and what to
// do.
var (
	// ErrUnavailable says that the host's hypervisor is not there or can't
	// be used: not installed, too old, not reachable.
	ErrUnavailable = errors.New("the hypervisor is not available")
	// ErrUnfit says that a machine needs what the host can't give. The
	// error is an UnfitError, with every reason.
	ErrUnfit = errors.New("does not fit the target")
	// ErrNotRunning is the answer to what only a running guest can do.
	ErrNotRunning = errors.New("the guest is not running")
)

// Driver makes machines run on one host. It gets machines in which every
// choice is made, and never sees a descriptor. All methods MUST be safe for
// concurrent use.
//
// The tests that every driver passes are in hypervisor/drivertest.
type Driver interface {
	// Name is the driver's short name: qemu.
	Name() string
	// Capabilities asks the host what it can give to machines of an
	// architecture (QEMU's name for it; "" is the host's own). The answer
	// MUST come from the host itself and not from what such hosts usually
	// have. It is ErrUnavailable where there is no such hypervisor.
	Capabilities(ctx context.Context, architecture string) (*Capabilities, error)
	// Create makes the machine, powered off. Its media MUST exist by then,
	// and belong to the machine until it is removed: the guest writes to
	// them. What the driver can't make it MUST refuse with an UnfitError
	// that holds every reason, having made nothing.
	Create(ctx context.Context, m Machine) (Guest, error)
}

// Checker is implemented by drivers and hosts that say whether they could make a
// machine, without making anything.
type Checker interface {
	// Check is nil where Create or Define would make the machine, as far as
	// that can be known: what they would refuse is an UnfitError with every
	// reason. Media need not be there.
	Check(ctx context.Context, m Machine) error
}

// Guest is one machine that a driver made.
type Guest interface {
	// Start powers the machine on. A context that ends later does not stop
	// it.
	Start(ctx context.Context) error
	// Console is the first serial port, with every byte that the guest wrote
	// since it was powered on. A Host that reads a terminal for it may lose
	// what a guest writes in the moment in which it ends. Reading gives io.EOF when the guest ends.
	// Closing it leaves the guest running, and what it writes then is lost;
	// a guest may stall on a console that is open and not read. There is
	// one, and it can be had before Start.
	Console() (io.ReadWriteCloser, error)
	// State says whether the guest runs.
	State(ctx context.Context) (State, error)
	// Wait returns when the guest has ended, or with the context's error.
	// It may be called more than once and by several.
	Wait(ctx context.Context) (Exit, error)
	// Shutdown asks the guest to power off, as by its power button. It does
	// not wait, and a guest may ignore it.
	Shutdown(ctx context.Context) error
	// Kill powers off at once. Killing what does not run is no error.
	Kill(ctx context.Context) error
	// Remove ends the guest if it runs and frees all that Create and Start
	// made. Media stay. Removing twice is no error.
	Remove(ctx context.Context) error
}

// State is what a machine does at a moment.
type State string

// The states.
const (
	PoweredOff State = "off"
	Running    State = "running"
	Paused     State = "paused"
)

// Exit is how a guest ended.
type Exit struct {
	Reason ExitReason `json:"reason"`
	// Detail says more, for people; "" where there is no more to say.
	Detail string `json:"detail,omitempty"`
	// Resets is how often the guest restarted itself.
	Resets int `json:"resets,omitempty"`
}

// Err is nil where the guest ended of its own will or was asked to, else an
// error that says how it ended.
func (e Exit) Err() error {
	if e.Reason == GuestShutdown || e.Reason == HostShutdown {
		return nil
	}
	msg := e.Reason.describe()
	if e.Detail != "" {
		msg += ": " + e.Detail
	}
	return errors.New(msg)
}

// ExitReason is why a guest ended.
type ExitReason string

// The reasons.
const (
	// GuestShutdown is the guest powering off.
	GuestShutdown ExitReason = "guest-shutdown"
	// HostShutdown is Shutdown, heard by the guest, or Kill.
	HostShutdown ExitReason = "host-shutdown"
	// GuestCrashed is a guest that said it panicked.
	GuestCrashed ExitReason = "guest-crashed"
	// ResetLoop is a guest that restarts again and again and gets nowhere.
	ResetLoop ExitReason = "reset-loop"
	// NothingToBoot is a firmware that found nothing to boot from.
	NothingToBoot ExitReason = "nothing-to-boot"
	// HostFailed is the hypervisor failing, or the host running out of
	// something.
	HostFailed ExitReason = "host-failed"
)

func (r ExitReason) describe() string {
	switch r {
	case GuestCrashed:
		return "the guest crashed"
	case ResetLoop:
		return "the guest restarts again and again"
	case NothingToBoot:
		return "the firmware found nothing to boot from"
	case HostFailed:
		return "the hypervisor failed"
	}
	return string(r)
}

// Capabilities is what a host can give to machines of one architecture. It is
// data: it marshals to JSON and back without loss.
type Capabilities struct {
	// Driver and Version name the hypervisor.
	Driver  string `json:"driver"`
	Version string `json:"version"`
	// Architecture is QEMU's name of the guests' architecture.
	Architecture string `json:"architecture"`
	// Acceleration says whether the host's processor runs the guest.
	Acceleration Acceleration `json:"acceleration"`
	// MaxCPUs is the greatest number of virtual CPUs; HostCPUs is how many
	// the host has. MemoryBytes is what the host has for guests now. 0 is
	// not known.
	MaxCPUs     int   `json:"maxCPUs,omitempty"`
	HostCPUs    int   `json:"hostCPUs,omitempty"`
	MemoryBytes int64 `json:"memoryBytes,omitempty"`
	// CPUFeatures are those that a guest's processors can have, by QEMU's
	// names; nil is not known.
	CPUFeatures []string `json:"cpuFeatures,omitempty"`
	// Chipsets are the machine types, the host's own choice first.
	Chipsets []Chipset `json:"chipsets"`
	// Firmware is what the host can boot.
	Firmware []FirmwareCapability `json:"firmware"`
	// The device models; a model that is not in the map can't be had.
	Controllers map[ControllerModel]Device `json:"controllers"`
	NICs        map[NICModel]Device        `json:"nics"`
	Displays    map[string]Device          `json:"displays,omitempty"`
	Sounds      map[string]Device          `json:"sounds,omitempty"`
	USB         map[string]Device          `json:"usb,omitempty"`
	// TPMs are the versions that can be had.
	TPMs []string `json:"tpms,omitempty"`
	// MaxSerials is the number of serial ports, 0 for none.
	MaxSerials int `json:"maxSerials"`
	// Formats are the image formats that the host opens itself, by
	// qemu-img's names, the best first.
	Formats []string `json:"formats"`
	// Networks are the host's networks that a card may be connected to; nil
	// is only the host's own, which needs no name.
	Networks []string `json:"networks,omitempty"`
	// Families are the virtual hardware families that the host is itself, as
	// VirtualSystemType names them.
	Families []string `json:"families,omitempty"`
	// GuestInfo says that guests read variables as VMware's do
	// (com.vmware.guestInfo); the host is a GuestInformer then.
	GuestInfo bool `json:"guestInfo,omitempty"`
	// Imports says that the host is an Importer: it makes machines of packages,
	// with disks of its own, and takes no volumes for disks.
	Imports bool `json:"imports,omitempty"`
	// GivesEnvironment says that the host itself gives guests their OVF
	// environment documents, of properties that it keeps with them.
	GivesEnvironment bool `json:"givesEnvironment,omitempty"`
	// GuestOSes are the host's names of the guest operating systems that it
	// knows; nil where it does not tell them apart.
	GuestOSes []string `json:"guestOSes,omitempty"`
	// CPUBaseline names what all processors of a cluster have in common (an EVC
	// mode), "" where nothing holds them to that.
	CPUBaseline string `json:"cpuBaseline,omitempty"`
	// StoragePolicies are the names of policies that disks may be kept by.
	StoragePolicies []string `json:"storagePolicies,omitempty"`
	// NoTuning says why the host can't give processors and memory by shares,
	// reservations and limits; "" where it can. What a machine asks of those
	// is then left out and no reason to refuse it.
	NoTuning string `json:"noTuning,omitempty"`
	// NoReservations says why it can't reserve any, where it can do the rest
	// of that.
	NoReservations string `json:"noReservations,omitempty"`
}

// KnowsCPUFeatures says whether the host told which CPU features there are.
func (c *Capabilities) KnowsCPUFeatures() bool { return c.CPUFeatures != nil }

// HasCPUFeature says whether a CPU feature is among those that the host told.
// Features are written in several ways (sse4.1, sse4-1, sse4_1), and some have
// two names.
func (c *Capabilities) HasCPUFeature(name string) bool {
	for _, f := range c.CPUFeatures {
		if plainFeature(f) == plainFeature(name) {
			return true
		}
	}
	return false
}

func plainFeature(name string) string {
	name = strings.NewReplacer(".", "-", "_", "-").Replace(strings.ToLower(name))
	if other, ok := featureAliases[name]; ok {
		return other
	}
	return name
}

// featureAliases are the features that have two names.
var featureAliases = map[string]string{"sse3": "pni", "pclmuldq": "pclmulqdq", "ffxsr": "fxsr-opt", "i64": "lm", "xd": "nx", "lzcnt": "abm"}

// Acceleration is how a guest's instructions run.
type Acceleration struct {
	// Kind is kvm, esxi, or tcg (software emulation).
	Kind string `json:"kind"`
	// Reason is why it is not the faster one; "" where it is.
	Reason string `json:"reason,omitempty"`
}

// FirmwareCapability is one kind of firmware that a host has.
type FirmwareCapability struct {
	Kind       FirmwareKind `json:"kind"`
	SecureBoot bool         `json:"secureBoot,omitempty"`
	// Chipsets are the machine types that it runs on.
	Chipsets []Chipset `json:"chipsets"`
	// Path is where it lies, "" where the host knows.
	Path string `json:"path,omitempty"`
}

// Device is what a host gives where a machine names a device model.
type Device struct {
	// Name is the host's own name of the device.
	Name string `json:"name"`
	// GuestDriver is the Linux driver that takes the device, as a help to
	// people.
	GuestDriver string `json:"guestDriver,omitempty"`
	// Substitute says what differs for the guest where the device is not the
	// model that was named but stands in for it; "" where it is the model.
	Substitute string `json:"substitute,omitempty"`
	// Max is how many of it a machine may have, 0 for as many as fit.
	Max int `json:"max,omitempty"`
	// Units is the number of places on a controller, 0 where that has no
	// meaning.
	Units int `json:"units,omitempty"`
	// Chipsets are the machine types that have it; nil is all.
	Chipsets []Chipset `json:"chipsets,omitempty"`
	// BootsWith are the kinds of firmware that can boot from it; nil is all.
	BootsWith []FirmwareKind `json:"bootsWith,omitempty"`
}

// Reason is one thing that keeps a machine from a host.
type Reason struct {
	// Machine is the machine's ID, "" for the whole package.
	Machine string `json:"machine,omitempty"`
	// Subject is what needs it: "SCSI controller 0 (Item 5, line 88)".
	Subject string `json:"subject"`
	// Text says what is needed and not to be had, and what would help.
	Text string `json:"text"`
}

// String is the reason on one line, whatever names are in it.
func (r Reason) String() string {
	s := r.Subject + ": " + r.Text
	if r.Machine != "" {
		s = r.Machine + ": " + s
	}
	return strings.NewReplacer("\r\n", " ", "\n", " ", "\r", " ").Replace(s)
}

// UnfitError says that machines need what the host can't give, with every
// reason there is. It is ErrUnfit.
type UnfitError struct {
	Target  string
	Reasons []Reason
}

// Error lists the reasons, one a line where there are several.
func (e *UnfitError) Error() string {
	if len(e.Reasons) == 1 {
		return fmt.Sprintf("%v, %s: %s", ErrUnfit, e.Target, e.Reasons[0])
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%v, %s, for %d reasons:", ErrUnfit, e.Target, len(e.Reasons))
	for _, r := range e.Reasons {
		b.WriteString("\n  " + r.String())
	}
	return b.String()
}

// Is makes errors.Is find ErrUnfit.
func (e *UnfitError) Is(target error) bool { return target == ErrUnfit }
