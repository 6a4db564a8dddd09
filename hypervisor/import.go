package hypervisor

import (
	"context"
	"io"
)

// Importer is implemented by hosts that read descriptors themselves, such as
// vSphere: they are given the text and the choices, say what they will make of
// it, and then take the files.
type Importer interface {
	// PrepareImport has the host judge a package, and makes nothing. What the
	// host can't make is an UnfitError with every reason, a name that is taken
	// ErrExists.
	PrepareImport(ctx context.Context, spec ImportSpec) (Import, error)
}

// ImportSpec is a package with every choice made.
type ImportSpec struct {
	// Descriptor is the text of the package's descriptor.
	Descriptor string
	// Name is what the machine, or the group of machines, is called on the
	// host. Systems are the descriptor's virtual systems, in its order.
	Name    string
	Systems []ImportSystem
	// Option is the deployment option, "" the descriptor's own choice; Locale
	// the language of its texts.
	Option, Locale string
	// Properties are values by their full key, class.key.instance. They are
	// kept from logs and errors: passwords are among them.
	Properties []ImportProperty
	// Networks says where the descriptor's networks lead.
	Networks []ImportNetwork
	// Placement is where things go; the host chooses what is "".
	Placement Placement
	// Provisioning is how disks are laid out: thin, thick or eagerZeroedThick;
	// "" is the host's choice.
	Provisioning string
	// IPAllocation is how guests get addresses (dhcpPolicy, transientPolicy,
	// fixedPolicy, fixedAllocatedPolicy), IPProtocol IPv4 or IPv6; "" is the
	// descriptor's.
	IPAllocation, IPProtocol string
	// Note is kept with each machine for people to read; "" is the
	// descriptor's own.
	Note string
}

// ImportSystem is one virtual system of the descriptor.
type ImportSystem struct {
	// ID is its ovf:id, Name its Name element's text.
	ID, Name string
	// Record is what the host keeps with its machine.
	Record Record
}

// ImportProperty is one property's value.
type ImportProperty struct{ Key, Value string }

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
	// Storage is the name of a Pool that gets the disks.
	Storage string `json:"storage,omitempty"`
}

// Import is a package that a host would take. Nothing was made.
type Import interface {
	// Plan is what Run will make.
	Plan() ImportPlan
	// Run makes the machines, powered off, and fills them with the files that
	// open gives. It is all or nothing: with any error, that of a context that
	// ended included, what was made is gone. It may be called once.
	Run(ctx context.Context, open OpenImportFile, opt ImportOptions) (*Imported, error)
}

// ImportPlan is data: it marshals to JSON and back without loss.
type ImportPlan struct {
	// Target is the host, without secrets.
	Target string `json:"target"`
	// Group is the group (a vApp) that holds the machines, "" for a single
	// machine that is in none.
	Group     string          `json:"group,omitempty"`
	Machines  []ImportMachine `json:"machines"`
	Placement Placement       `json:"placement"`
	Networks  []ImportNetwork `json:"networks,omitempty"`
	Files     []ImportFile    `json:"files,omitempty"`
	// Warnings are the host's own about the package.
	Warnings []string `json:"warnings,omitempty"`
}

// ImportMachine is one machine that will be made.
type ImportMachine struct {
	Name string `json:"name"`
	// System is its ovf:id, "" where the host's answer does not tell.
	System string `json:"system,omitempty"`
	// Hardware and OS are the host's names of the hardware version and of the
	// guest's operating system.
	Hardware    string   `json:"hardware,omitempty"`
	OS          string   `json:"os,omitempty"`
	CPUs        int      `json:"cpus,omitempty"`
	MemoryBytes int64    `json:"memoryBytes,omitempty"`
	Firmware    string   `json:"firmware,omitempty"`
	Disks       []int64  `json:"diskBytes,omitempty"`
	NICs        []string `json:"nics,omitempty"`
	// Start is its place in the order of starting, 0 where there is none.
	Start int `json:"start,omitempty"`
}

// ImportFile is a file that the host wants.
type ImportFile struct {
	// ID is the host's own, Href the file's in the descriptor.
	ID   string `json:"id"`
	Href string `json:"href"`
	// Size is the descriptor's word, in bytes, 0 where it has none.
	Size int64 `json:"size,omitempty"`
	// Disk is set for a disk, and not for the image of a CD-ROM or the like.
	Disk bool `json:"disk,omitempty"`
}

// OpenImportFile opens a file to be sent. It may be called for several files at
// once.
type OpenImportFile func(ctx context.Context, f ImportFile) (*ImportContent, error)

// ImportContent is the content of a file. A Read that gives any error but
// io.EOF, such as one of a digest that is not the manifest's, undoes the
// import.
type ImportContent struct {
	io.ReadCloser
	// Size is the number of bytes, -1 where it is not known before.
	Size int64
}

// ImportOptions change how files are sent.
type ImportOptions struct {
	// Parallel is how many files are sent at once, 0 the driver's choice.
	Parallel int
	// Progress, where set, is told of bytes that were sent of a file. It may
	// be called from several goroutines.
	Progress func(f ImportFile, bytes int64)
	// Note, where set, is told what people should know.
	Note func(string)
}

// Imported is what an import made.
type Imported struct {
	// Group is the group's name, "" where there is none.
	Group string
	// Machines are in the order of the plan's.
	Machines []*Kept
	// Undo takes all of it away again.
	Undo func(ctx context.Context) error
}
