package ovf

import (
	"fmt"
	"slices"
	"strings"
)

// ResolveOptions are the choices that a descriptor leaves open.
type ResolveOptions struct {
	// Option is the deployment option's ID; "" is the default one.
	Option string
	// Properties are values by full key (class.key.instance), or by the bare
	// key where only one property has it.
	Properties map[string]string
	// Locale is the language for texts, such as "de" or "de-DE"; "" is the
	// descriptor's own.
	Locale string
	// Families are the virtual hardware families that the target takes,
	// best first. The section whose family comes first is chosen; where
	// none fits, or none is asked for, the first section.
	Families []string
	// Bundle gives the content of a file that holds messages, or one
	// message as plain text, by its href; nil where there is none to be had.
	// It says how large such a file may be.
	Bundle func(href string) ([]byte, error)
}

// Problem is something wrong at a place in the descriptor, or in the choices
// (no place).
type Problem struct {
	Pos  Pos    `json:"pos"`
	Text string `json:"text"`
	// Choice says that the descriptor is right, and what the caller chose is
	// not.
	Choice bool `json:"-"`
}

// String gives the text with its place.
func (p Problem) String() string {
	if p.Pos == (Pos{}) {
		return p.Text
	}
	return fmt.Sprintf("line %s: %s", p.Pos, p.Text)
}

// ResolveError lists every problem that was found.
type ResolveError struct{ Problems []Problem }

func (e *ResolveError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Resolved is what a descriptor comes to for one set of choices.
type Resolved struct {
	Envelope *Envelope
	// Option is the deployment option, nil where the descriptor has none.
	Option *Option
	// Systems are the virtual systems, in document order.
	Systems []*System
	// Disks are the package's disks with their capacities worked out, by
	// ID.
	Disks map[string]*ResolvedDisk
	// Unknown are the required sections that are not understood, wherever
	// they are.
	Unknown []*Section
	// Notes are things that a person should know: a unit that is missing,
	// a text that is not there in the language.
	Notes []Problem

	texts      texts
	properties map[*Content][]*ResolvedProperty
}

// PropertiesOf gives the properties of a virtual system's or collection's own
// sections, with their values.
func (r *Resolved) PropertiesOf(c *Content) []*ResolvedProperty { return r.properties[c] }

// Text gives a message in the locale that was asked for, or as it stands in
// the descriptor.
func (r *Resolved) Text(m Message) string { return r.texts.get(m) }

// ResolvedDisk is a disk with its capacity in bytes.
type ResolvedDisk struct {
	*Disk
	Capacity int64
	// File is where its content lies, nil for an empty disk.
	File *File
	// Parent is the disk that this one is a delta of.
	Parent *ResolvedDisk
}

// System is a virtual system as it is to be.
type System struct {
	*Content
	// Parent is the collection that it is directly in, nil where it is in
	// none. Path are the IDs of all that it is in, outermost first.
	Parent *Content
	Path   []string
	// Hardware is the section that was chosen, nil where there is none.
	Hardware *Hardware
	// CPUs is the number of virtual processors, CoresPerSocket 0 where it
	// is not said.
	CPUs           int
	CoresPerSocket int
	CPU            Allocation // reservation and limit in hertz
	MemoryBytes    int64
	Memory         Allocation // in bytes
	// Items are the hardware items that are there for the option, each
	// once, in the order of the descriptor; processors and memory are
	// among them.
	Items []*ResolvedItem
	// Properties are those that the guest sees: the system's and those of
	// the collection that it is directly in.
	Properties []*ResolvedProperty
	// EULAs are those of the system and of the collections it is in.
	EULAs []*EULA
	// Startup is the system's entry in the StartupSection of its
	// collection, nil where there is none.
	Startup *StartupItem
}

// Allocation is what a resource is guaranteed, held to, and weighs; -1 is not
// said.
type Allocation struct {
	Reservation, Limit, Weight int64
}

// ResolvedItem is an item with its numbers.
type ResolvedItem struct {
	*Item
	// Quantity is VirtualQuantity in base units (bytes, or a count); -1
	// where it is not said.
	Quantity int64
	// Min and Max are the range that the descriptor gives with ovf:bound,
	// -1 where there is none.
	Min, Max   int64
	Allocation Allocation
}

// ResolvedProperty is a property with its value.
type ResolvedProperty struct {
	*Property
	Value string
	// Set is false where neither the descriptor nor the caller gives a
	// value.
	Set bool
	// Given is set where the value is the caller's.
	Given bool
	// System is the ID of the content whose section the property is in.
	System string
}

// Resolve works out what each virtual system is to be. It has no effect and
// depends on nothing but its arguments. Everything that is wrong is found
// before it gives up; the error is a *ResolveError.
func Resolve(env *Envelope, opt ResolveOptions) (*Resolved, error) {
	r := &resolver{env: env, opt: opt, textFiles: map[string]textFile{}, out: &Resolved{Envelope: env, Disks: map[string]*ResolvedDisk{}}}
	r.files = make(map[string]*File, len(env.References))
	for _, f := range env.References {
		if r.files[f.ID] == nil {
			r.files[f.ID] = f
		}
	}
	r.out.texts = r.readTexts()
	r.chooseOption()
	r.properties()
	r.disks()
	r.unknown(env.Sections)
	if env.Content == nil {
		r.fail(env.Pos(), "there is neither a VirtualSystem nor a VirtualSystemCollection in the descriptor")
	}
	r.content(env.Content, nil)
	if r.inherited > maxInherited {
		r.fail(env.Pos(), "the systems together share more than %d properties and licences with their collections", maxInherited)
	}
	if len(r.problems) > 0 {
		return nil, &ResolveError{r.problems}
	}
	return r.out, nil
}

type resolver struct {
	env      *Envelope
	opt      ResolveOptions
	out      *Resolved
	problems []Problem
	props    map[string]*ResolvedProperty // by full key
	bare     map[string][]*ResolvedProperty
	files    map[string]*File // by ID
	// textFiles are the files with texts that were asked for, by href.
	textFiles map[string]textFile
	// inherited counts the properties and licences that systems share with
	// their collections.
	inherited int
}

// maxInherited bounds what all systems together take over from the collections
// that they are in: a short descriptor can ask for the product of the two.
const maxInherited = 1 << 20

func (r *resolver) fail(at Pos, format string, args ...any) {
	r.problems = append(r.problems, Problem{Pos: at, Text: fmt.Sprintf(format, args...)})
}

// wrong is fail for a choice of the caller's.
func (r *resolver) wrong(at Pos, format string, args ...any) {
	r.fail(at, format, args...)
	r.problems[len(r.problems)-1].Choice = true
}

func (r *resolver) note(at Pos, format string, args ...any) {
	r.out.Notes = append(r.out.Notes, Problem{Pos: at, Text: fmt.Sprintf(format, args...)})
}

func (r *resolver) chooseOption() {
	ids := make([]string, 0, len(r.env.Options))
	for _, o := range r.env.Options {
		ids = append(ids, o.ID)
		if r.opt.Option == "" && o.Default && r.out.Option == nil || r.opt.Option != "" && o.ID == r.opt.Option {
			r.out.Option = o
		}
	}
	switch {
	case r.opt.Option != "" && len(ids) == 0:
		r.fail(Pos{}, "there is no deployment option %q: the descriptor has none", r.opt.Option)
	case r.opt.Option != "" && r.out.Option == nil:
		r.fail(Pos{}, "there is no deployment option %q; the descriptor has %s", r.opt.Option, strings.Join(ids, ", "))
	case r.out.Option == nil && len(ids) > 0:
		r.out.Option = r.env.Options[0] // DSP0243: the first is the default
	}
}

// option is the chosen option's ID, "" for none.
func (r *resolver) option() string {
	if r.out.Option == nil {
		return ""
	}
	return r.out.Option.ID
}

func (r *resolver) disks() {
	for _, d := range r.env.Disks {
		out := &ResolvedDisk{Disk: d, File: r.files[d.FileRef]}
		if d.FileRef != "" && out.File == nil {
			r.fail(d.Pos(), "disk %q is in the file %q, which is not among the References", d.ID, d.FileRef)
		}
		var err error
		if out.Capacity, err = r.capacity(d); err != nil {
			r.fail(d.Pos(), "disk %q: %v", d.ID, err)
		}
		if r.out.Disks[d.ID] == nil {
			r.out.Disks[d.ID] = out
		} else {
			r.fail(d.Pos(), "there are two disks with the ID %q", d.ID)
		}
	}
	for _, d := range r.env.Disks {
		if d.ParentRef == "" {
			continue
		}
		child, parent := r.out.Disks[d.ID], r.out.Disks[d.ParentRef]
		if parent == nil {
			r.fail(d.Pos(), "disk %q is a delta of %q, which is not in the descriptor", d.ID, d.ParentRef)
			continue
		}
		if child.Disk == d { // not the second of two with one ID
			child.Parent = parent
		}
	}
	r.endless()
}

// endless finds disks that are deltas of themselves, at any remove, and cuts
// them loose. Each disk is looked at once.
func (r *resolver) endless() {
	const walking, done = 1, 2
	state := make(map[*ResolvedDisk]int, len(r.out.Disks))
	for _, d := range r.env.Disks {
		var path []*ResolvedDisk
		for at := r.out.Disks[d.ID]; at != nil && state[at] != done; at = at.Parent {
			if state[at] == walking {
				r.fail(at.Pos(), "disk %q is a delta of itself", at.ID)
				at.Parent = nil
				break
			}
			state[at] = walking
			path = append(path, at)
		}
		for _, at := range path {
			state[at] = done
		}
	}
}

func (r *resolver) capacity(d *Disk) (int64, error) {
	unit, _ := ParseUnit("byte")
	if d.CapacityUnits != "" {
		var err error
		if unit, err = ParseUnit(d.CapacityUnits); err != nil {
			return 0, err
		}
	}
	if unit.Base != "byte" {
		return 0, fmt.Errorf("its capacity is in %q, which is no unit of bytes", d.CapacityUnits)
	}
	n, err := r.quantity(d.Capacity, unit)
	if err != nil {
		return 0, fmt.Errorf("its capacity: %w", err)
	}
	return n, nil
}

func (r *resolver) unknown(sections []*Section) {
	for _, s := range sections {
		if s.Required && !s.Known {
			r.out.Unknown = append(r.out.Unknown, s)
		}
	}
}

// collection is a collection and what its systems get from it, worked out
// once for all of them.
type collection struct {
	*Content
	path    []string // its own ID is the last
	eulas   []*EULA
	startup map[string]*StartupItem
}

// content resolves what is in c; in is the collection that it is in, nil for
// the outermost content.
func (r *resolver) content(c *Content, in *collection) {
	if c == nil {
		return
	}
	r.unknown(c.Sections)
	if c.Kind == VirtualSystem {
		r.system(c, in)
		return
	}
	here := &collection{Content: c, startup: make(map[string]*StartupItem, len(c.Startup))}
	if in != nil {
		here.path, here.eulas = slices.Clone(in.path), in.eulas
	}
	here.path = append(here.path, c.ID)
	here.eulas = join(r, here.eulas, c.EULAs)
	for _, item := range c.Startup {
		here.startup[item.ID] = item
	}
	for _, child := range c.Children {
		r.content(child, here)
	}
}

// join gives what is above and what is own in one list, which must not be
// changed: where either is empty it is the other itself.
func join[T any](r *resolver, above, own []T) []T {
	if len(above) == 0 {
		return own
	}
	if len(own) == 0 {
		return above
	}
	if r.inherited += len(above); r.inherited > maxInherited {
		return own // Resolve says so
	}
	return append(slices.Clip(above), own...)
}
