package lifecycle

import (
	"context"
	"errors"
	"time"

	"github.com/ovation-project/ovation/deploy/secrets"
	"github.com/ovation-project/ovation/hypervisor"
)

// Machine is a machine of a deployment, as its host has it.
type Machine struct {
	*hypervisor.Kept
	// Data is what its record holds.
	Data *Data
}

// String is the machine's name on the host.
func (m *Machine) String() string { return m.Name }

// Found is a deployment as its host has it.
type Found struct {
	// ID is the deployment's, Name what people call it.
	ID, Name           string
	Appliance, Locator string
	Made               time.Time
	By                 string
	// Machines are in the order in which they start.
	Machines []*Machine
	// Missing is how many of its machines are not on the host any more.
	Missing int
	// Unreadable are machines of it whose records can't be read, with why.
	Unreadable map[string]error
}

// EventKind is what happened to a machine.
type EventKind string

// The events.
const (
	Starting EventKind = "starting"
	Started  EventKind = "started"
	Already  EventKind = "already" // it was so before
	Waiting  EventKind = "waiting"
	Late     EventKind = "late" // not ready when its delay was over
	Asked    EventKind = "asked"
	Killed   EventKind = "killed"
	Ended    EventKind = "ended"
	Left     EventKind = "left"  // it is left running or not started
	Stale    EventKind = "stale" // its environment document could not be made anew
	Removed  EventKind = "removed"
	Stays    EventKind = "stays" // a volume that was to be kept, or could not be removed
)

// Event is something that happened on the way.
type Event struct {
	Machine string    `json:"machine,omitempty"`
	Kind    EventKind `json:"event"`
	// Text says more, for people.
	Text string `json:"text,omitempty"`
}

// Options say how machines are started, stopped and removed. The zero value
// will do.
type Options struct {
	// Machines are the machines meant, by name or by the ID of their virtual
	// system; none is the whole deployment.
	Machines []string
	// Secrets are the values of password properties, as secrets.Read gives
	// them; nil is that they are elsewhere.
	Secrets secrets.Values
	// ReadyLimit and Grace replace the times of package sequence.
	ReadyLimit, Grace time.Duration
	// Wait has Start wait for the guests of the last step, too.
	Wait bool
	// Force powers off without asking, what is to be left running as well.
	Force bool
	// KeepVolumes leaves the volumes where they are, when machines are removed.
	KeepVolumes bool
	// Told, where set, is told what happens. It is called by one at a time.
	Told func(Event)
}

var errTODO = errors.New("not there yet")

// Start starts a deployment in its order. Machines that run are left as they
// are. Each machine's environment document is made anew before it starts.
//
// It ends at the first failure: what was started runs, and the error, a
// *sequence.Error[*Machine], says which they are. Starting again goes on from
// there. A deployment that the host does not have is a hypervisor.ErrNotFound.
func Start(ctx context.Context, host hypervisor.Host, deployment string, opt Options) error {
	return errTODO
}

// Stop stops a deployment in the reverse of its order, each machine as its
// descriptor says. It ends as Start does.
func Stop(ctx context.Context, host hypervisor.Host, deployment string, opt Options) error {
	return errTODO
}

// Remove removes a deployment: powers its machines off, removes their volumes,
// then the machines with all that the host keeps of them. Ended at any moment,
// it can be done again, and finishes. A deployment that is not there is no
// error.
func Remove(ctx context.Context, host hypervisor.Host, deployment string, opt Options) error {
	return errTODO
}
