// Package fit judges whether a package can be deployed to a target, and makes
// the plan where it can: hardware, storage, networks, licences, required
// sections, and whether the package is trusted and intact. It is the one
// judgement that there is: what asks whether a package fits and what deploys it
// or runs it ask here, so that nothing fails later for a reason that could have
// been known before.
//
// Every reason is found before it gives up, with what would help. Nothing is
// made, and nothing of the package is proved but its descriptor, unless that is
// asked for.
package fit

import (
	"fmt"
	"strings"

	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/deploy/portability"
	"github.com/ovation-project/ovation/deploy/secrets"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/ovf"
)

// Area is what a reason is about.
type Area string

// The areas.
const (
	// Security: the signer, as the trust policy has it.
	Security Area = "security"
	// Integrity: files that are missing, altered or damaged.
	Integrity Area = "integrity"
	// Section: a section that is required and not understood.
	Section Area = "section"
	// Hardware: processors, memory, firmware and devices.
	Hardware Area = "hardware"
	// Storage: disks' formats, and the room for them.
	Storage Area = "storage"
	// Network: what the network cards are connected to.
	Network Area = "network"
	// Licence: terms that are to be accepted.
	Licence Area = "licence"
	// Property: values that the guests are to be told.
	Property Area = "property"
	// Name: what the machines are called on the target.
	Name Area = "name"
	// Portability: the level that is asked for, and what a package of level 1
	// was not made for.
	Portability Area = "portability"
)

// Reason is one thing that keeps a package from a target.
type Reason struct {
	Area Area `json:"area"`
	hypervisor.Reason
	// cause is the library's error, nil where the package is merely unfit.
	cause error
}

// Need is something that the user has to add before a package that fits can be
// deployed.
type Need struct {
	Area Area `json:"area"`
	hypervisor.Reason
	// Flag is how the program is told, such as --accept-eula.
	Flag string `json:"flag,omitempty"`
}

// Verdict is a judgement in a word.
type Verdict string

// The verdicts, the best first.
const (
	// Fits: with these choices it can be deployed.
	Fits Verdict = "fits"
	// Needs: it fits, and the user has to add something first.
	Needs Verdict = "needs"
	// Unfit: there are reasons against it.
	Unfit Verdict = "unfit"
	// Unknown: the target could not be asked.
	Unknown Verdict = "unknown"
)

// Judgement is what came of judging a package for one target.
type Judgement struct {
	// Target is the target as people write it, without secrets.
	Target string
	// Reasons are all that speak against it, Needs what the user has to add.
	Reasons []Reason
	Needs   []Need
	// Unreachable is why the target could not be asked, nil where it could.
	Unreachable error

	// Notes are what a person should know beside the machines' own notes.
	Notes []deploy.Note

	Capabilities *hypervisor.Capabilities
	Resolved     *ovf.Resolved
	// Portability is the package's level, for the deployment option and the
	// virtual systems that were judged; MadeFor says that the target is of a
	// family that it is made for.
	Portability *portability.Assessment
	MadeFor     bool
	// Machines are the machines as far as they could be worked out.
	Machines []*deploy.Planned
	// Environments are the CD-ROM drives that carry the guests' environment
	// documents, by machine; a machine without one is not in it.
	Environments map[*deploy.Planned]string
	// Licences are those of the machines.
	Licences []plan.Licence
	// Networks and Pool are the host's that were chosen; a driver that keeps
	// nothing has none.
	Networks []plan.Network
	Pool     string
	// Plan is what deploying will do, with Secrets, which are not in it; nil
	// where there are reasons against it, or the target keeps nothing.
	Plan    *plan.Plan
	Secrets secrets.Values
	// OptionsThatFit are the other deployment options for which there would be
	// no reasons, where there are some for the one that was judged.
	OptionsThatFit []string
}

// Verdict is the judgement in a word.
func (j *Judgement) Verdict() Verdict {
	switch {
	case j.Unreachable != nil:
		return Unknown
	case len(j.Reasons) > 0:
		return Unfit
	case len(j.Needs) > 0:
		return Needs
	}
	return Fits
}

// Differences counts what the guests get otherwise than the descriptor says.
func (j *Judgement) Differences() (n int) {
	for _, m := range j.Machines {
		for _, note := range m.Notes {
			if note.Differs {
				n++
			}
		}
	}
	return n
}

// Err is nil where nothing speaks against the package; what the user has to add
// does not. The error is hypervisor.ErrUnfit and, where the package is not
// trusted or not intact, what package appliance and package verdict say of that.
func (j *Judgement) Err() error {
	if j.Unreachable != nil {
		return j.Unreachable
	}
	if len(j.Reasons) == 0 {
		return nil
	}
	return &Error{Target: j.Target, Reasons: j.Reasons, Options: j.OptionsThatFit}
}

// Error says why a package does not fit a target, with every reason.
type Error struct {
	Target  string
	Reasons []Reason
	// Options are the deployment options that would fit.
	Options []string
}

// Error lists the reasons, one a line where there are several.
func (e *Error) Error() string {
	if len(e.Reasons) == 1 && e.Reasons[0].cause != nil {
		return e.Reasons[0].cause.Error()
	}
	all := &hypervisor.UnfitError{Target: e.Target}
	for _, r := range e.Reasons {
		all.Reasons = append(all.Reasons, r.Reason)
	}
	text := all.Error()
	if len(e.Options) > 0 {
		text += fmt.Sprintf("\nwith --option it would fit: %s", strings.Join(e.Options, ", "))
	}
	return text
}

// Is makes errors.Is find hypervisor.ErrUnfit.
func (e *Error) Is(target error) bool { return target == hypervisor.ErrUnfit }

// Unwrap gives the libraries' errors.
func (e *Error) Unwrap() []error {
	var causes []error
	for _, r := range e.Reasons {
		if r.cause != nil {
			causes = append(causes, r.cause)
		}
	}
	return causes
}
