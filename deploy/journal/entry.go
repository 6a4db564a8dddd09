// Package journal keeps on this machine's disk how far a deployment has come, so
// that whatever a program was killed at is known to the next one: each thing is
// written down before it is made, and after.
//
// A deployment has a folder of its own, which only its user can open, with the
// journal and what else belongs to the deployment. The journal is lines that are
// added at its end; a last line that was not written whole does not count.
package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"github.com/ovation-project/ovation/deploy/plan"
)

// ErrCorrupt says that a journal is not what this program wrote.
var ErrCorrupt = errors.New("the journal is damaged")

// Kind is what an entry says.
type Kind string

// The kinds of entry.
const (
	// Begin comes first, with the plan.
	Begin Kind = "begin"
	// Doing and Done are before and after a step of the plan, Undoing and
	// Undone before and after taking back what it made.
	Doing   Kind = "doing"
	Done    Kind = "done"
	Undoing Kind = "undoing"
	Undone  Kind = "undone"
	// Settled comes with the plan as it turned out when all content had come
	// (plan.Plan.Settles), where the first was made before.
	Settled Kind = "settled"
	// Failed says why a deployment is not finished.
	Failed Kind = "failed"
	// Complete is when all steps are done.
	Complete Kind = "complete"
	// Removed is when nothing is left of it: undone, or removed later.
	Removed Kind = "removed"
)

// Entry is one line of a journal.
type Entry struct {
	Time time.Time `json:"time"`
	Kind Kind      `json:"kind"`
	// Step is the number of a step in the plan, from 0.
	Step int `json:"step,omitempty"`
	// Text says more, for people.
	Text string     `json:"text,omitempty"`
	Plan *plan.Plan `json:"plan,omitempty"`
	// Content is, with Done, what a volume was filled with, where somebody will
	// want to know.
	Content *Content `json:"content,omitempty"`
	// Disks are, with Done, what the disks that were imported hold, by their
	// ovf:diskId, where somebody will want to know.
	Disks map[string]Content `json:"disks,omitempty"`
}

// Content tells what a disk holds.
type Content struct {
	// Bytes is the disk's size, Digest package digest's of it, in hexadecimal.
	Bytes  int64  `json:"bytes"`
	Digest string `json:"digest"`
}

// Bounds of what is read. A plan holds the hardware and the descriptors of its
// machines.
const (
	maxFile = 256 << 20
	maxLine = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sumLength is that of a line's check sum and the space behind it.
const sumLength = 9

// line writes an entry: its check sum, a space, JSON, the end of the line.
func (e Entry) line() ([]byte, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	if len(text) > maxLine {
		return nil, fmt.Errorf("an entry of %d bytes is more than a journal takes", len(text))
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(text, castagnoli), text), nil
}

// State is how far a deployment has come.
type State struct {
	// Plan is nil for a journal that was not begun: nothing was made then.
	Plan *plan.Plan
	// First is the plan that it was begun with, where another took its place,
	// else nil.
	First *plan.Plan
	// Begun are the steps that may have been done, Done those that were; a
	// step that was undone is in neither.
	Begun, Done []bool
	// Contents are what volumes were filled with, by the steps that are done.
	Contents map[int]Content
	// Disks are what the disks that were imported hold, by their ovf:diskId.
	Disks map[string]Content
	// Undoing says that it is being taken back.
	Undoing bool
	// Complete says that all of it was done, Removed that it is gone.
	Complete, Removed bool
	// Failure is why it was not finished, "" where nobody said.
	Failure string
	// Changed is the time of the last entry.
	Changed time.Time
}

// Same says whether a deployment is the one that a plan would make: as it turned
// out, or as it was begun.
func (s *State) Same(p *plan.Plan) bool {
	return s.Plan.Same(p) || s.First != nil && s.First.Same(p)
}

// Unfinished says that it was begun, and neither finished nor taken back.
func (s *State) Unfinished() bool { return s.Plan != nil && !s.Complete && !s.Removed }

// Read reads a journal, and says how many bytes of it count: what is behind them
// was being written when the program died. A journal that holds anything else is
// an ErrCorrupt.
func Read(data []byte) (*State, int64, error) {
	if len(data) > maxFile {
		return nil, 0, fmt.Errorf("%w: %d bytes are more than it can have", ErrCorrupt, len(data))
	}
	s := &State{}
	at := 0
	for n := 1; at < len(data); n++ {
		end := bytes.IndexByte(data[at:], '\n')
		last := end < 0 || at+end+1 == len(data)
		if end < 0 {
			break // torn
		}
		e, err := parse(data[at : at+end])
		if err != nil && last {
			break // torn, with the file as long as it was to be
		}
		if err == nil {
			err = s.add(e)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("%w: line %d, at byte %d: %w", ErrCorrupt, n, at, err)
		}
		at += end + 1
	}
	return s, int64(at), nil
}

func parse(line []byte) (e Entry, err error) {
	if len(line) < sumLength || len(line) > maxLine+sumLength || line[sumLength-1] != ' ' {
		return e, errors.New("not an entry")
	}
	text := line[sumLength:]
	// As it is written, to the letter: what else means the same is damage.
	if sum := fmt.Sprintf("%08x", crc32.Checksum(text, castagnoli)); sum != string(line[:sumLength-1]) {
		return e, errors.New("its check sum is another")
	}
	return e, json.Unmarshal(text, &e)
}

// add takes one entry into account.
func (s *State) add(e Entry) error {
	if (e.Kind == Begin) != (s.Plan == nil) {
		return fmt.Errorf("%q is not what can follow", e.Kind)
	}
	s.Changed = e.Time
	step := func() error {
		if e.Step < 0 || e.Step >= len(s.Begun) {
			return fmt.Errorf("there is no step %d", e.Step)
		}
		return nil
	}
	switch e.Kind {
	case Begin:
		if e.Plan == nil {
			return errors.New("it has no plan")
		}
		if err := e.Plan.Check(); err != nil {
			return err
		}
		s.Plan = e.Plan
		s.Begun, s.Done = make([]bool, len(e.Plan.Steps)), make([]bool, len(e.Plan.Steps))
		s.Contents = map[int]Content{}
	case Settled:
		if e.Plan == nil {
			return errors.New("it has no plan")
		}
		if err := e.Plan.Check(); err != nil {
			return err
		}
		if !e.Plan.Settles(s.Plan) {
			return errors.New("its plan is that of another deployment")
		}
		if s.First == nil {
			s.First = s.Plan
		}
		s.Plan = e.Plan
	case Doing, Undoing:
		if err := step(); err != nil {
			return err
		}
		s.Begun[e.Step], s.Done[e.Step] = true, false
		delete(s.Contents, e.Step)
		s.Undoing = e.Kind == Undoing
	case Done:
		if err := step(); err != nil {
			return err
		}
		s.Begun[e.Step], s.Done[e.Step] = true, true
		if e.Content != nil {
			s.Contents[e.Step] = *e.Content
		}
		if e.Disks != nil {
			s.Disks = e.Disks
		}
	case Undone:
		if err := step(); err != nil {
			return err
		}
		s.Begun[e.Step], s.Done[e.Step] = false, false
	case Failed:
		s.Failure = e.Text
	case Complete:
		if slices.Contains(s.Done, false) {
			return errors.New("it is said to be complete and is not")
		}
		s.Complete, s.Failure = true, ""
	case Removed:
		s.Removed = true
	default:
		return fmt.Errorf("%q is not known", e.Kind)
	}
	return nil
}
