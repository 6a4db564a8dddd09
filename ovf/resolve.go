package ovf

import (
	"fmt"
	"math"
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
	// Bundle gives the content of a file that holds messages, by its href;
	// nil where there is none to be had.
	Bundle func(href string) ([]byte, error)
}

// Problem is something wrong at a place in the descriptor, or in the choices
// (no place).
type Problem struct {
	Pos  Pos    `json:"pos"`
	Text string `json:"text"`
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
	// Path are the IDs of the collections that it is in, outermost first.
	Path []string
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
	r := &resolver{env: env, opt: opt, out: &Resolved{Envelope: env, Disks: map[string]*ResolvedDisk{}}}
	r.out.texts = r.readTexts()
	r.chooseOption()
	r.properties()
	r.disks()
	r.unknown(env.Sections)
	if env.Content == nil {
		r.fail(env.Pos(), "there is neither a VirtualSystem nor a VirtualSystemCollection in the descriptor")
	}
	r.content(env.Content, nil)
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
}

func (r *resolver) fail(at Pos, format string, args ...any) {
	r.problems = append(r.problems, Problem{at, fmt.Sprintf(format, args...)})
}

func (r *resolver) note(at Pos, format string, args ...any) {
	r.out.Notes = append(r.out.Notes, Problem{at, fmt.Sprintf(format, args...)})
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
	bare := map[string][]*ResolvedProperty{}
	var all []*ResolvedProperty
	r.env.Content.Walk(func(c *Content) {
		for _, product := range c.Products {
			for _, p := range product.Properties {
				v := r.defaultValue(p)
				v.System = c.ID
				all = append(all, v)
				r.out.properties[c] = append(r.out.properties[c], v)
				bare[p.Key] = append(bare[p.Key], v)
				if r.props[p.FullKey] == nil {
					r.props[p.FullKey] = v
				}
			}
		}
	})
	for _, key := range sortedKeys(r.opt.Properties) {
		value := r.opt.Properties[key]
		var found []*ResolvedProperty
		for _, v := range all {
			if v.FullKey == key {
				found = append(found, v)
			}
		}
		if len(found) == 0 {
			found = bare[key]
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
				r.fail(v.Pos(), "property %s is not for users to set (ovf:userConfigurable)", v.FullKey)
				continue
			}
			if err := v.CheckValue(value); err != nil {
				r.fail(v.Pos(), "property %s: %v", v.FullKey, err)
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

// expand gives text with ${key} replaced, as DSP0243 has it for capacities.
func (r *resolver) expand(text string) (string, error) {
	key, ok := Reference(text)
	if !ok {
		return text, nil
	}
	v := r.props[key]
	if v == nil {
		for _, p := range sortedProps(r.props) {
			if p.Key == key {
				v = p
				break
			}
		}
	}
	switch {
	case v == nil:
		return "", fmt.Errorf("%s refers to a property that the descriptor does not have", text)
	case !v.Set:
		return "", fmt.Errorf("%s has no value: set property %s", text, v.FullKey)
	}
	return v.Value, nil
}

func sortedProps(m map[string]*ResolvedProperty) []*ResolvedProperty {
	all := make([]*ResolvedProperty, 0, len(m))
	for _, v := range m {
		all = append(all, v)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].FullKey < all[j].FullKey })
	return all
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
	files := map[string]*File{}
	for _, f := range r.env.References {
		if files[f.ID] == nil {
			files[f.ID] = f
		}
	}
	for _, d := range r.env.Disks {
		out := &ResolvedDisk{Disk: d, File: files[d.FileRef]}
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
		for up := parent; up != nil; up = up.Parent {
			if up == child {
				r.fail(d.Pos(), "disk %q is a delta of itself", d.ID)
				parent = nil
				break
			}
		}
		child.Parent = parent
	}
}

func (r *resolver) capacity(d *Disk) (int64, error) {
	text, err := r.expand(d.Capacity)
	if err != nil {
		return 0, err
	}
	unit := Unit{Base: "byte"}
	if d.CapacityUnits != "" {
		if unit, err = ParseUnit(d.CapacityUnits); err != nil {
			return 0, err
		}
	} else if unit, err = ParseUnit("byte"); err != nil {
		return 0, err
	}
	if unit.Base != "byte" {
		return 0, fmt.Errorf("its capacity is in %q, which is no unit of bytes", d.CapacityUnits)
	}
	n, err := unit.Quantity(text)
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

// content resolves what is in c; above are the collections that it is in.
func (r *resolver) content(c *Content, above []*Content) {
	if c == nil {
		return
	}
	r.unknown(c.Sections)
	if c.Kind == VirtualSystem {
		r.system(c, above)
		return
	}
	inside := append(append([]*Content(nil), above...), c)
	for _, child := range c.Children {
		r.content(child, inside)
	}
}

func (r *resolver) system(c *Content, above []*Content) {
	s := &System{
		Content: c, MemoryBytes: -1,
		CPU: Allocation{-1, -1, -1}, Memory: Allocation{-1, -1, -1},
	}
	for _, up := range above {
		s.Path = append(s.Path, up.ID)
		s.EULAs = append(s.EULAs, up.EULAs...)
	}
	if len(above) > 0 {
		s.Properties = append(s.Properties, r.out.properties[above[len(above)-1]]...)
	}
	s.EULAs = append(s.EULAs, c.EULAs...)
	s.Properties = append(s.Properties, r.out.properties[c]...)
	if len(above) > 0 {
		for _, item := range above[len(above)-1].Startup {
			if item.ID == c.ID {
				s.Startup = item
			}
		}
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
		if !r.applies(i) {
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

func (r *resolver) applies(i *Item) bool {
	if len(i.Configurations) == 0 {
		return true
	}
	for _, c := range i.Configurations {
		if c == r.option() {
			return true
		}
	}
	return false
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
		if text, err = r.expand(text); err == nil {
			*to, err = u.Quantity(text)
		}
		if err != nil {
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

func (r *resolver) bundle(b *Bundle) map[string]string {
	if b.FileRef == "" {
		return b.Messages
	}
	var href string
	for _, f := range r.env.References {
		if f.ID == b.FileRef {
			href = f.Href
		}
	}
	if href == "" || r.opt.Bundle == nil {
		r.note(b.Pos(), "the texts in %q are not here: file %q is not to be had", b.Lang, b.FileRef)
		return b.Messages
	}
	data, err := r.opt.Bundle(href)
	if err == nil {
		var m map[string]string
		if m, err = ParseBundle(data); err == nil {
			for k, v := range b.Messages {
				m[k] = v
			}
			return m
		}
	}
	r.note(b.Pos(), "the texts in %q cannot be read: %v", b.Lang, err)
	return b.Messages
}

// ParseBundle reads a message bundle (DSP0243, clause 10): a Strings element
// with Msg elements, in a file of its own.
func ParseBundle(data []byte) (map[string]string, error) {
	tree, err := xmldoc.Parse(data, xmldoc.Limits{})
	if err != nil {
		return nil, err
	}
	if tree.Root().Local != "Strings" {
		return nil, fmt.Errorf("a message bundle begins with <Strings>, not <%s>", tree.Root().Name())
	}
	return (&reader{root: tree.Root().Space}).messages(tree.Root()), nil
}
