package ovf

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/ovation-project/ovation/internal/xmldoc"
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

// StartStep is what starts together.
type StartStep struct {
	Systems []*System
	// Delay is for how many seconds to wait before the next step.
	Delay int
	// WaitFor are the systems, of the step or of one before it, whose guests
	// are to be waited for: the wait may end as soon as all of them say that
	// they are ready.
	WaitFor []*System
}

// StartOrder gives the virtual systems in the order in which they start, as the
// StartupSections of their collections have it (DSP0243 1.1.0, 9.7): by order,
// those of one order together, a collection as a whole in its place. Those
// without an order start with the first step; those with startAction "none",
// and what is in them, are left out.
func (r *Resolved) StartOrder() []StartStep {
	systems := make(map[*Content]*System, len(r.Systems))
	for _, s := range r.Systems {
		systems[s.Content] = s
	}
	return startSteps(r.Envelope.Content, systems)
}

func startSteps(c *Content, systems map[*Content]*System) []StartStep {
	if c == nil {
		return nil
	}
	if c.Kind == VirtualSystem {
		return []StartStep{{Systems: []*System{systems[c]}}}
	}
	items := make(map[string]*StartupItem, len(c.Startup))
	for _, i := range c.Startup {
		items[i.ID] = i
	}
	byOrder := map[int][]*Content{}
	for _, child := range c.Children {
		order := 0
		if i := items[child.ID]; i != nil {
			if i.StartAction == "none" {
				continue
			}
			order = i.Order
		}
		byOrder[order] = append(byOrder[order], child)
	}
	var steps []StartStep
	orders := slices.Sorted(maps.Keys(byOrder))
	anytime := byOrder[0] // 0 is whenever it suits: with what is first
	if len(orders) > 0 && orders[0] == 0 {
		orders = orders[1:]
	}
	for n := 0; n < len(orders) || n == 0 && len(anytime) > 0; n++ {
		var together []StartStep
		var last StartStep
		if n < len(orders) {
			for _, child := range byOrder[orders[n]] {
				steps := startSteps(child, systems)
				together = mergeSteps(together, steps)
				i := items[child.ID]
				last.Delay = max(last.Delay, i.StartDelay)
				if i.WaitingForGuest && len(steps) > 0 {
					// A collection is ready when what it starts last is.
					last.WaitFor = append(last.WaitFor, steps[len(steps)-1].Systems...)
				}
			}
			if len(together) > 0 {
				end := &together[len(together)-1]
				end.Delay = max(end.Delay, last.Delay)
				end.WaitFor = union(end.WaitFor, last.WaitFor)
			}
		}
		if n == 0 {
			for _, child := range anytime {
				together = mergeSteps(together, startSteps(child, systems))
			}
		}
		steps = append(steps, together...)
	}
	return steps
}

// union puts those of b that a does not have behind a.
func union(a, b []*System) []*System {
	have := make(map[*System]bool, len(a)+len(b))
	for _, s := range a {
		have[s] = true
	}
	for _, s := range b {
		if !have[s] {
			have[s] = true
			a = append(a, s)
		}
	}
	return a
}

// mergeSteps lets two sequences run side by side.
func mergeSteps(a, b []StartStep) []StartStep {
	for n, step := range b {
		if n == len(a) {
			a = append(a, StartStep{})
		}
		a[n].Systems = append(a[n].Systems, step.Systems...)
		a[n].Delay = max(a[n].Delay, step.Delay)
		a[n].WaitFor = append(a[n].WaitFor, step.WaitFor...)
	}
	return a
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

// properties finds every property's value.
func (r *resolver) properties() {
	r.props = map[string]*ResolvedProperty{}
	r.out.properties = map[*Content][]*ResolvedProperty{}
	r.bare = map[string][]*ResolvedProperty{}
	full := map[string][]*ResolvedProperty{}
	var all []*ResolvedProperty
	r.env.Content.Walk(func(c *Content) {
		for _, product := range c.Products {
			for _, p := range product.Properties {
				v := r.defaultValue(p)
				v.System = c.ID
				all = append(all, v)
				if r.applies(p.Configurations) { // ${key} finds the others too
					r.out.properties[c] = append(r.out.properties[c], v)
				}
				r.bare[p.Key] = append(r.bare[p.Key], v)
				full[p.FullKey] = append(full[p.FullKey], v)
				if r.props[p.FullKey] == nil {
					r.props[p.FullKey] = v
				}
			}
		}
	})
	for _, key := range sortedKeys(r.opt.Properties) {
		value := r.opt.Properties[key]
		found := full[key]
		if len(found) == 0 {
			found = r.bare[key]
			if len(found) > 1 && found[0].FullKey != found[len(found)-1].FullKey {
				r.fail(Pos{}, "property %q could be %s or %s: give the whole key", key, found[0].FullKey, found[1].FullKey)
				continue
			}
		}
		if len(found) == 0 {
			r.fail(Pos{}, "there is no property %q in the descriptor%s", key, nearest(key, all))
			continue
		}
		for _, v := range found {
			if !v.UserConfigurable {
				r.wrong(v.Pos(), "property %s is not for users to set (ovf:userConfigurable)", v.FullKey)
				continue
			}
			if err := v.CheckValue(value); err != nil {
				r.wrong(v.Pos(), "property %s: %v", v.FullKey, err)
				continue
			}
			v.Value, v.Set, v.Given = value, true, true
		}
	}
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// nearest names keys that may have been meant.
func nearest(key string, all []*ResolvedProperty) string {
	for _, v := range all {
		if strings.EqualFold(v.FullKey, key) || strings.EqualFold(v.Key, key) {
			return fmt.Sprintf("; did you mean %s?", v.FullKey)
		}
	}
	if len(all) == 0 {
		return ", which has none"
	}
	return ""
}

func (r *resolver) defaultValue(p *Property) *ResolvedProperty {
	v := &ResolvedProperty{Property: p, Value: p.Value, Set: p.HasValue}
	for _, o := range p.Values {
		if o.Option == "" && !v.Set || o.Option != "" && o.Option == r.option() {
			v.Value, v.Set = o.Value, true
		}
	}
	return v
}

// quantity reads a number, or a reference ${key} to a property that holds it as
// DSP0243 has it for capacities. The value of a password is in no error.
func (r *resolver) quantity(text string, u Unit) (int64, error) {
	key, ok := Reference(text)
	if !ok {
		return u.Quantity(text)
	}
	v, err := r.referred(text, key)
	if err != nil {
		return 0, err
	}
	n, err := u.Quantity(v.Value)
	if err != nil && v.Password {
		return 0, fmt.Errorf("the value of property %s is not a number that can be counted in this unit", v.FullKey)
	}
	return n, err
}

// referred is the property that ${key} stands for; it has a value.
func (r *resolver) referred(text, key string) (*ResolvedProperty, error) {
	v := r.props[key]
	if v == nil {
		// The bare key, where class and instance are left out.
		if same := r.bare[key]; len(same) > 0 {
			v = same[0]
			for _, other := range same[1:] {
				if other.FullKey != v.FullKey {
					return nil, fmt.Errorf("%s could be the property %s or %s: give the whole key", text, v.FullKey, other.FullKey)
				}
			}
		}
	}
	switch {
	case v == nil:
		return nil, fmt.Errorf("%s refers to a property that the descriptor does not have", text)
	case !v.Set:
		return nil, fmt.Errorf("%s has no value: set property %s", text, v.FullKey)
	}
	return v, nil
}

// Reference takes the key out of ${key}.
func Reference(text string) (key string, ok bool) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(text), "${")
	if !ok || !strings.HasSuffix(rest, "}") {
		return "", false
	}
	return strings.TrimSuffix(rest, "}"), true
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

func (r *resolver) system(c *Content, in *collection) {
	s := &System{
		Content: c, MemoryBytes: -1,
		CPU: Allocation{-1, -1, -1}, Memory: Allocation{-1, -1, -1},
		EULAs: c.EULAs, Properties: r.out.properties[c],
	}
	if in != nil {
		s.Parent, s.Path, s.Startup = in.Content, in.path, in.startup[c.ID]
		s.EULAs = join(r, in.eulas, c.EULAs)
		s.Properties = join(r, r.out.properties[in.Content], s.Properties)
	}
	if s.Hardware = r.chooseHardware(c); s.Hardware != nil {
		r.items(s)
	}
	r.out.Systems = append(r.out.Systems, s)
}

func (r *resolver) chooseHardware(c *Content) *Hardware {
	for _, family := range r.opt.Families {
		for _, h := range c.Hardware {
			for _, t := range h.SystemTypes {
				if strings.EqualFold(t, family) {
					return h
				}
			}
		}
	}
	if len(c.Hardware) == 0 {
		return nil
	}
	return c.Hardware[0]
}

// items chooses, for each InstanceID, the item that is for the option, with
// the ranges that go with it.
func (r *resolver) items(s *System) {
	type group struct{ normal, low, high *Item }
	groups := map[string]*group{}
	var order []string
	for n, i := range s.Hardware.Items {
		if !r.applies(i.Configurations) {
			continue
		}
		id := i.InstanceID
		if id == "" {
			id = fmt.Sprintf("\x00%d", n) // an item without ID is by itself
		}
		g := groups[id]
		if g == nil {
			g = &group{}
			groups[id] = g
			order = append(order, id)
		}
		slot := &g.normal
		switch i.Bound {
		case "min":
			slot = &g.low
		case "max":
			slot = &g.high
		}
		switch {
		case *slot == nil || moreSpecific(i, *slot):
			*slot = i // an item for this option goes before one for all
		case moreSpecific(*slot, i):
		default:
			r.fail(i.Pos(), "there are two items with the InstanceID %q for the same deployment option", i.InstanceID)
		}
	}
	for _, id := range order {
		g := groups[id]
		base := g.normal
		if base == nil { // a range without its middle
			if base = g.low; base == nil {
				base = g.high
			}
		}
		item := r.item(base)
		item.Min, item.Max = -1, -1
		if g.low != nil {
			item.Min = r.item(g.low).Quantity
		}
		if g.high != nil {
			item.Max = r.item(g.high).Quantity
		}
		if item.Max >= 0 && item.Min > item.Max {
			r.fail(base.Pos(), "the range of item %q goes from %d down to %d", base.InstanceID, item.Min, item.Max)
		}
		s.Items = append(s.Items, item)
		r.sum(s, item)
	}
}

// moreSpecific says whether a is for fewer deployment options than b; an item
// that names none is for all.
func moreSpecific(a, b *Item) bool {
	if len(a.Configurations) == 0 || len(b.Configurations) == 0 {
		return len(a.Configurations) > 0 && len(b.Configurations) == 0
	}
	return len(a.Configurations) < len(b.Configurations)
}

// applies says whether what is for these deployment options, none meaning all,
// is for the chosen one.
func (r *resolver) applies(options []string) bool {
	return len(options) == 0 || slices.Contains(options, r.option())
}

// item works out an item's numbers.
func (r *resolver) item(i *Item) *ResolvedItem {
	out := &ResolvedItem{Item: i, Quantity: -1, Allocation: Allocation{-1, -1, -1}}
	unit, _ := ParseUnit("count")
	var err error
	if i.AllocationUnits != "" {
		if unit, err = ParseUnit(i.AllocationUnits); err != nil {
			r.fail(i.Pos(), "item %q (%s): AllocationUnits: %v", i.InstanceID, i.ElementName, err)
			return out
		}
	} else if i.ResourceType == Memory && i.VirtualQuantity != "" {
		unit, _ = ParseUnit("byte * 2^20")
		r.note(i.Pos(), "item %q (%s) gives no AllocationUnits; its memory is taken to be in MiB", i.InstanceID, i.ElementName)
	}
	if i.ResourceType == Memory && unit.Base != "byte" {
		r.fail(i.Pos(), "item %q (%s): memory in %q, which is no unit of bytes", i.InstanceID, i.ElementName, i.AllocationUnits)
		return out
	}
	read := func(what, text string, u Unit, to *int64) {
		if text == "" {
			return
		}
		if *to, err = r.quantity(text, u); err != nil {
			r.fail(i.Pos(), "item %q (%s): %s: %v", i.InstanceID, i.ElementName, what, err)
			*to = -1
		}
	}
	// For processors AllocationUnits is the unit of reservation and limit;
	// the quantity is a count, unless its own unit says otherwise.
	quantity := unit
	if i.ResourceType != Memory && unit.Base != "byte" {
		quantity, _ = ParseUnit("count")
	}
	read("VirtualQuantity", i.VirtualQuantity, quantity, &out.Quantity)
	if i.Limit != "-1" { // vSphere's "no limit"
		read("Limit", i.Limit, unit, &out.Allocation.Limit)
	}
	read("Reservation", i.Reservation, unit, &out.Allocation.Reservation)
	count, _ := ParseUnit("count")
	read("Weight", i.Weight, count, &out.Allocation.Weight)
	return out
}

func (r *resolver) sum(s *System, i *ResolvedItem) {
	switch i.ResourceType {
	case Processor:
		n := i.Quantity
		if n < 0 {
			n = 1
		}
		if n == 0 || n > 1<<16 {
			r.fail(i.Pos(), "item %q: %s is no number of processors", i.InstanceID, i.VirtualQuantity)
			return
		}
		s.CPUs += int(n)
		s.CPU = i.Allocation
		if i.CoresPerSocket != "" {
			cores, err := strconv.ParseUint(i.CoresPerSocket, 10, 16)
			if err != nil || cores == 0 {
				r.fail(i.Pos(), "item %q: %q is no number of cores per socket", i.InstanceID, i.CoresPerSocket)
				return
			}
			s.CoresPerSocket = int(cores)
		}
	case Memory:
		if i.Quantity < 0 {
			return
		}
		have := max(s.MemoryBytes, 0)
		if i.Quantity > math.MaxInt64-have {
			r.fail(i.Pos(), "item %q: more memory than can be counted", i.InstanceID)
			return
		}
		s.MemoryBytes = have + i.Quantity
		s.Memory = i.Allocation
	}
}

// texts are messages by msgid, in the languages that were asked for, best
// first.
type texts []map[string]string

func (t texts) get(m Message) string {
	if m.MsgID != "" {
		for _, bundle := range t {
			if s, ok := bundle[m.MsgID]; ok {
				return s
			}
		}
	}
	return m.Text
}

// readTexts puts the bundles for the locale in order: the language with its
// region first, then the language.
func (r *resolver) readTexts() texts {
	want := strings.ToLower(strings.ReplaceAll(r.opt.Locale, "_", "-"))
	want, _, _ = strings.Cut(want, ".") // as in LANG: de_DE.UTF-8
	language, _, _ := strings.Cut(want, "-")
	var exact, near, fallback texts
	for _, b := range r.env.Bundles {
		lang := strings.ToLower(b.Lang)
		base, _, _ := strings.Cut(lang, "-")
		own := strings.EqualFold(b.Lang, r.env.Lang) || b.Lang == ""
		if base != language && !own {
			continue
		}
		m := r.bundle(b)
		switch {
		case want != "" && lang == want:
			exact = append(exact, m)
		case want != "" && base == language:
			near = append(near, m)
		case own:
			fallback = append(fallback, m)
		}
	}
	return append(append(exact, near...), fallback...)
}

// maxTextFiles bounds how many files a descriptor can have read for its texts.
const maxTextFiles = 256

// textFile gets a file that holds texts. A file is asked for once, however
// often it is named.
func (r *resolver) textFile(ref string) ([]byte, error) {
	f := r.files[ref]
	switch {
	case f == nil:
		return nil, fmt.Errorf("file %q is not among the References", ref)
	case r.opt.Bundle == nil:
		return nil, fmt.Errorf("file %q is not to be had", ref)
	}
	if got, ok := r.textFiles[f.Href]; ok {
		return got.data, got.err
	}
	if len(r.textFiles) == maxTextFiles {
		return nil, fmt.Errorf("it is in more than %d files", maxTextFiles)
	}
	var got textFile
	got.data, got.err = r.opt.Bundle(f.Href)
	r.textFiles[f.Href] = got
	return got.data, got.err
}

// textFile is what came of asking for a file.
type textFile struct {
	data []byte
	err  error
}

// bundle gives the messages of a Strings element: those in its file, over
// those the ones that stand in the descriptor, and each that has a file of its
// own (ovf:fileRef of Msg, 2.x) from there.
func (r *resolver) bundle(b *Bundle) map[string]string {
	messages, files := map[string]string{}, map[string]string{}
	if b.FileRef != "" {
		data, err := r.textFile(b.FileRef)
		if err == nil {
			var root *xmldoc.Element
			if root, err = bundleRoot(data); err == nil {
				messages, files = bundleMessages(root)
			}
		}
		if err != nil {
			r.note(b.Pos(), "the texts in %q cannot be read: %v", b.Lang, err)
		}
	}
	maps.Copy(messages, b.Messages)
	maps.Copy(files, b.Files)
	for _, id := range sortedKeys(files) {
		data, err := r.textFile(files[id])
		if err != nil {
			r.note(b.Pos(), "the text %q in %q cannot be read: %v", id, b.Lang, err)
			continue
		}
		messages[id] = plainText(data)
	}
	return messages
}

// plainText is a text file, such as a licence, without a byte order mark.
func plainText(data []byte) string {
	return strings.TrimSpace(strings.TrimPrefix(strings.ToValidUTF8(string(data), "\ufffd"), "\ufeff"))
}

// ParseBundle reads a message bundle (DSP0243, clause 10): a Strings element
// with Msg elements, in a file of its own. Texts that the bundle leaves to
// further files are not among them.
func ParseBundle(data []byte) (map[string]string, error) {
	root, err := bundleRoot(data)
	if err != nil {
		return nil, err
	}
	messages, _ := bundleMessages(root)
	return messages, nil
}

func bundleRoot(data []byte) (*xmldoc.Element, error) {
	tree, err := xmldoc.Parse(data, xmldoc.Limits{})
	if err != nil {
		return nil, err
	}
	if tree.Root().Local != "Strings" {
		return nil, fmt.Errorf("a message bundle begins with <Strings>, not <%s>", tree.Root().Name())
	}
	return tree.Root(), nil
}

func bundleMessages(root *xmldoc.Element) (messages, files map[string]string) {
	return (&reader{root: root.Space}).messages(root)
}
