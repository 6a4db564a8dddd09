package hypervisor

import (
	"context"
	"errors"
	"io"
)

// Errors of exporting.
var (
	// ErrRunning says that a machine runs, and that what its disks hold is not
	// of one moment: it has to be shut down, or exported live.
	ErrRunning = errors.New("the machine is running")
	// ErrChanged says that what was read was written to meanwhile, and is of
	// no one moment.
	ErrChanged = errors.New("the machine's disks were written to meanwhile")
)

// Exporter is implemented by hosts that give what a machine's disks hold.
type Exporter interface {
	// Export begins to read a machine, by its name on the host, as it is at
	// one moment. One that is not powered off is ErrRunning unless
	// opt.Live is set; the guest then goes on, and what it writes is not in
	// the export.
	//
	// Whatever is made on the host for that is taken away by Close. What
	// stays after the program was killed has a name that says where it comes
	// from, and CleanUp takes it away.
	Export(ctx context.Context, name string, opt ExportOptions) (Export, error)
	// CleanUp takes away what an export of a machine left behind that was
	// killed, and says what that was; nil is nothing. It MUST NOT be called
	// while the machine is being exported.
	CleanUp(ctx context.Context, name string) ([]string, error)
}

// ExportOptions change how a machine is read.
type ExportOptions struct {
	// Live takes a machine that runs by a snapshot.
	Live bool
	// Note, where set, is told what people should know: whether the guest's
	// file systems were at rest, for one.
	Note func(string)
}

// Export is a machine that is being read. Its methods are safe for concurrent
// use.
type Export interface {
	// Kept is the machine as it was when the export began.
	Kept() *Kept
	// OpenDrive opens the stored bytes of a drive by its ID. It is
	// ErrNotFound where the drive has no medium. Where the host gives them
	// only once, from their start, it may be called again to begin anew.
	OpenDrive(ctx context.Context, drive string) (*DriveFile, error)
	// Unchanged is ErrChanged where what was read so far was written to
	// meanwhile: a machine that was off was started.
	Unchanged(ctx context.Context) error
	// Close ends the export and undoes what was done for it: the guest of a
	// live export writes to its own disks again. Closing twice is no error.
	Close(ctx context.Context) error
}

// DriveFile is a drive's stored bytes, in a format that this program reads.
type DriveFile struct {
	// Name is the file's or volume's, for messages.
	Name string
	// Format is qemu-img's name of what the bytes are. It is the host's
	// word, and never guessed by what a guest may have written: a raw disk
	// whose guest wrote another format's header to it is raw.
	Format string
	// At, where set, reads at any place; it is safe for concurrent use, and
	// Size is its length. Once, where set instead, gives the bytes from the
	// start, one time; Size is -1 where it is not known.
	At   io.ReaderAt
	Once io.Reader
	Size int64
	// Capacity is what the guest sees, in bytes; 0 where only the bytes tell.
	Capacity int64
	// Below opens the image that this one is a delta of, by the name and
	// the format ("" where it is not said) that this one's header gives; nil
	// where there can't be one.
	Below func(ctx context.Context, name, format string) (*DriveFile, error)
	// Close ends the reading.
	Close func() error
}
