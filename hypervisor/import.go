package hypervisor

import (
	"context"
	"io"
)

// Importer is implemented by hosts that read descriptors themselves, such as
// vSphere: they are given the text and the choices, say what they will make of
// it, and then take the files. Such a host need not make disks as volumes
// (Host.CreateVolume), nor machines of them (Host.Define): it refuses that with
// an UnfitError.
type Importer interface {
	// PrepareImport has the host judge a package, and makes nothing. What the
	// host can't make is an UnfitError with every reason. Whether names are
	// taken is Run's to say.
	PrepareImport(ctx context.Context, spec ImportSpec) (Import, error)
	// UndoImport takes away what an import made whose program was killed, by
	// the names that its plan has: the machines with records of that
	// deployment, and their group where nothing else is in it. What is not
	// there, or is not the deployment's, is no error.
	UndoImport(ctx context.Context, plan ImportPlan, deployment string) error
}

// ImportSpec is what is to be made of a package, with every choice made.
type ImportSpec struct {
	// Deployment is that of the systems' records.
	Deployment string
	// Group, where not "", is what the group is called that holds the
	// machines, if the host can have one.
	Group string
	// Systems become a machine each.
	Systems []ImportSystem
	// Option is the deployment option, "" the descriptor's own choice; Locale
	// the language of its texts.
	Option, Locale string
	// Networks says where the descriptors' networks lead.
	Networks []ImportNetwork
	// Storage is the name of the Pool that gets the disks, "" the host's
	// choice.
	Storage string
	// Provisioning is how disks are laid out, "" the host's choice.
	Provisioning Provisioning
	// IPAllocation is how guests get addresses (dhcpPolicy, transientPolicy,
	// fixedPolicy, fixedAllocatedPolicy), IPProtocol IPv4 or IPv6; "" is the
	// descriptor's.
	IPAllocation, IPProtocol string
}

// Provisioning is how a host lays out disks.
type Provisioning string

// The ways.
const (
	Thin             Provisioning = "thin"
	Thick            Provisioning = "thick"
	EagerZeroedThick Provisioning = "eagerZeroedThick"
)

// ImportSystem is one virtual system.
type ImportSystem struct {
	// ID is its ovf:id, Name what the machine is called on the host.
	ID, Name string
	// Descriptor is the text of a descriptor of this one virtual system.
	Descriptor string
	// Properties are values by their full key, class.key.instance. They are
	// kept from logs and errors: passwords are among them.
	Properties []ImportProperty
	// Record is what the host keeps with the machine.
	Record Record
	// Start is its place in the order in which the group starts.
	Start ImportStart
	// Machine, where set, is the hardware as it was worked out: its
	// processors, memory and firmware take the place of what the host makes of
	// the descriptor.
	Machine *Machine
}

// ImportProperty is one property's value.
type ImportProperty struct{ Key, Value string }

// ImportStart is a machine's place in the order of its group, as a host keeps
// it that starts groups itself.
type ImportStart struct {
	// Order counts from 1; 0 is that it is not started with the group.
	Order int
	// DelaySeconds is between this and the next.
	DelaySeconds int
	// WaitForGuest ends the delay when the guest says that it is ready.
	WaitForGuest bool
	// Shutdown has the guest asked to power off, instead of cutting its power;
	// StopDelaySeconds is how long it may take.
	Shutdown         bool
	StopDelaySeconds int
}

// ImportNetwork connects a network of the descriptor, by its name, to one of
// the host's.
type ImportNetwork struct {
	Name        string `json:"name"`
	HostNetwork string `json:"hostNetwork"`
}

// Placement is where a host puts machines, by the host's own names.
type Placement struct {
	Datacenter string `json:"datacenter,omitempty"`
	Folder     string `json:"folder,omitempty"`
	// Pool is what gives processors and memory, Host one machine to run on.
	Pool string `json:"resourcePool,omitempty"`
	Host string `json:"host,omitempty"`
	// Storage is the name of the Pool that gets the disks, StoragePolicy that
	// of what they are kept by.
	Storage       string `json:"storage,omitempty"`
	StoragePolicy string `json:"storagePolicy,omitempty"`
}

// Import is a package that a host would take. Nothing was made.
type Import interface {
	// Plan is what Run will make.
	Plan() ImportPlan
	// Run makes the machines, powered off, and fills them with the files that
	// open gives. It is all or nothing: with any error, that of a context that
	// ended included, what was made is gone, or the error is an
	// *ImportLeftError. A name that is taken is ErrExists, and changes nothing.
	// It may be called once.
	Run(ctx context.Context, open OpenImportFile, opt ImportOptions) error
}

// ImportLeftError says that an import failed and that not all of it could be
// taken away again.
type ImportLeftError struct {
	// Err is why it failed, Left why something stays.
	Err, Left error
}

// Error says both.
func (e *ImportLeftError) Error() string {
	return e.Err.Error() + "; and what had been made could not be removed: " + e.Left.Error()
}

// Unwrap gives both.
func (e *ImportLeftError) Unwrap() []error { return []error{e.Err, e.Left} }

// ImportPlan is what an import will make. It is data: it marshals to JSON and
// back without loss.
type ImportPlan struct {
	// Group is the group (a vApp) that holds the machines, "" where they are in
	// none.
	Group        string          `json:"group,omitempty"`
	Machines     []ImportMachine `json:"machines"`
	Placement    Placement       `json:"placement"`
	Provisioning Provisioning    `json:"provisioning,omitempty"`
	// IPAllocation and IPProtocol are ImportSpec's.
	IPAllocation string          `json:"ipAllocation,omitempty"`
	IPProtocol   string          `json:"ipProtocol,omitempty"`
	Networks     []ImportNetwork `json:"networks,omitempty"`
	// Warnings are the host's own about the package.
	Warnings []string `json:"warnings,omitempty"`
}

// ImportMachine is one machine that will be made.
type ImportMachine struct {
	Name string `json:"name"`
	// System is its ovf:id.
	System string `json:"system"`
	// Hardware and OS are the host's names of the hardware version and of the
	// guest's operating system.
	Hardware    string       `json:"hardware,omitempty"`
	OS          string       `json:"os,omitempty"`
	CPUs        int          `json:"cpus,omitempty"`
	MemoryBytes int64        `json:"memoryBytes,omitempty"`
	Firmware    string       `json:"firmware,omitempty"`
	Files       []ImportFile `json:"files,omitempty"`
}

// ImportFile is a file that the host wants.
type ImportFile struct {
	// System is the ovf:id of the virtual system it is for, ID the host's own
	// name of the device, Href the file's in the descriptor.
	System string `json:"system"`
	ID     string `json:"id"`
	Href   string `json:"href"`
	// Size is the descriptor's word, in bytes, 0 where it has none.
	Size int64 `json:"size,omitempty"`
	// Disk is set for a disk, and not for the image of a CD-ROM or the like.
	Disk bool `json:"disk,omitempty"`
}

// OpenImportFile opens a file to be sent. It may be called for several files at
// once.
type OpenImportFile func(ctx context.Context, f ImportFile) (*ImportContent, error)

// ImportContent is the content of a file: disks are VMDK, streamOptimized. A
// Read that gives any error but io.EOF, such as one of a digest that is not the
// manifest's, undoes the import.
type ImportContent struct {
	io.ReadCloser
	// Size is the number of bytes, -1 where it is not known before.
	Size int64
}

// ImportOptions change how files are sent.
type ImportOptions struct {
	// Parallel is how many files are sent at once, 0 the driver's choice.
	Parallel int
	// Progress, where set, is told how many bytes were sent of a file. It may
	// be called from several goroutines.
	Progress func(f ImportFile, bytes int64)
	// Note, where set, is told what people should know.
	Note func(string)
}
