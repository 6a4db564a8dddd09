// Package lint judges OVF descriptors, and packages, by the rules of the
// standard (DSP0243). Each rule has an ID that does not change, the clause that
// it comes from, and a sentence that says what to do; each finding has the
// line and the column.
//
// An error is something that the standard says shall not be and that is
// certain. What the standard wants and the wild does not heed, and what is
// likely but not certain, is a warning; Options.Lax turns those errors into
// warnings that some products are known to commit.
package lint

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/ovation-project/ovation/internal/xmldoc"
	"github.com/ovation-project/ovation/ovf"
)

// Severity says how much a finding weighs.
type Severity string

// The severities.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Info    Severity = "info"
)

// Rule is one rule.
type Rule struct {
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	// Clause is where in DSP0243 1.1.0 (or, where it says so, another
	// document) the rule stands.
	Clause string `json:"clause"`
	// Title says what is judged, Help what to do about a finding.
	Title string `json:"title"`
	Help  string `json:"help"`
	// Lax is set for errors that are warnings in lax mode.
	Lax bool `json:"lax,omitempty"`
}

// Finding is a place that breaks a rule.
type Finding struct {
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	// Pos is the place in the descriptor; the zero Pos is the package.
	Pos  ovf.Pos `json:"pos,omitzero"`
	Text string  `json:"text"`
	Help string  `json:"help"`
}

// Options change what is reported.
type Options struct {
	// Lax turns errors that are common in the wild into warnings.
	Lax bool
	// Rules are the IDs of the rules to apply; none means all.
	Rules []string
	// Package is looked at too where it is set.
	Package Package
}

// Find gives a rule by its ID.
func Find(id string) (Rule, bool) {
	i, ok := slices.BinarySearchFunc(rules, id, func(r Rule, id string) int { return cmp.Compare(r.ID, id) })
	if !ok {
		return Rule{}, false
	}
	return rules[i], true
}

// Rules gives all rules by ID.
func Rules() []Rule { return slices.Clone(rules) }

// maxFindings bounds what is kept of a descriptor that breaks rules a million
// times.
const maxFindings = 10_000

// Run judges a descriptor, and the package where Options have it. The findings
// are in the order of the descriptor.
func Run(doc *ovf.Document, opt Options) []Finding {
	env := doc.Envelope()
	c := &checker{
		doc: doc, env: env, opt: opt,
		fileIDs:   names(env.References, func(f *ovf.File) string { return f.ID }),
		diskIDs:   names(env.Disks, func(d *ovf.Disk) string { return d.ID }),
		networkID: names(env.Networks, func(n *ovf.Network) string { return n.Name }),
		optionIDs: names(env.Options, func(o *ovf.Option) string { return o.ID }),
		groupIDs:  names(env.PlacementGroups, func(g *ovf.PlacementGroup) string { return g.ID }),
	}
	c.general()
	c.references()
	c.disks()
	c.networks()
	c.options()
	c.placementGroups()
	c.bundles()
	c.env.Content.Walk(c.content)
	for _, other := range c.env.Others {
		other.Walk(c.content)
	}
	if opt.Package != nil {
		c.files(opt.Package)
	}
	return c.findings()
}

// Broken gives the finding for a descriptor that ovf.Parse does not read: it is
// not well-formed, or not OVF. ok is false for all other errors.
func Broken(err error) (found Finding, ok bool) {
	id, text := "OVF-XML-003", ""
	var syntax *ovf.SyntaxError
	switch {
	case errors.As(err, &syntax):
		id, text = "OVF-XML-002", syntax.Msg
		found.Pos = ovf.Pos{Line: syntax.Line, Column: syntax.Column}
	case errors.Is(err, ovf.ErrNotOVF):
		text = err.Error()
		found.Pos = ovf.Pos{Line: 1, Column: 1}
	default:
		return Finding{}, false
	}
	rule, _ := Find(id)
	found.Rule, found.Severity, found.Help, found.Text = id, rule.Severity, rule.Help, text
	return found, true
}

// findings gives what was found in the order of the descriptor.
func (c *checker) findings() []Finding {
	slices.SortStableFunc(c.found, func(a, b place) int { return cmp.Compare(a.offset, b.offset) })
	all := make([]Finding, len(c.found))
	for i, f := range c.found {
		all[i] = f.Finding
		if f.offset >= 0 {
			all[i].Pos.Line, all[i].Pos.Column = c.doc.Tree().Position(f.offset)
		}
	}
	return all
}

// place is a finding whose line and column are not worked out yet.
type place struct {
	Finding
	offset int // -1 for the package
}

// names collects the names of things that others refer to.
func names[T any](all []T, name func(T) string) map[string]bool {
	set := make(map[string]bool, len(all))
	for _, x := range all {
		set[name(x)] = true
	}
	delete(set, "")
	return set
}

// checker is one run.
type checker struct {
	doc   *ovf.Document
	env   *ovf.Envelope
	opt   Options
	found []place

	// The names that others may refer to.
	fileIDs, diskIDs, networkID, optionIDs, groupIDs map[string]bool
	properties                                       map[string]bool // made when first asked for
}

// report adds a finding at an element; e may be nil for the package.
func (c *checker) report(id string, e *xmldoc.Element, format string, args ...any) {
	at := -1
	if e != nil {
		at = e.Start.Start
	}
	c.reportAt(id, at, format, args...)
}

func (c *checker) reportAt(id string, offset int, format string, args ...any) {
	rule, ok := Find(id)
	if !ok {
		panic("lint: rule " + id + " is not in the table")
	}
	if len(c.opt.Rules) > 0 && !slices.Contains(c.opt.Rules, id) || len(c.found) >= maxFindings {
		return
	}
	f := Finding{Rule: id, Severity: rule.Severity, Text: fmt.Sprintf(format, args...), Help: rule.Help}
	if c.opt.Lax && rule.Lax && f.Severity == Error {
		f.Severity = Warning
	}
	c.found = append(c.found, place{f, offset})
}

// attr gives one of OVF's attributes with its place.
func (c *checker) attr(e *xmldoc.Element, name string) (value string, offset int, ok bool) {
	for i := range e.Attrs {
		if a := &e.Attrs[i]; a.Local == name && c.own(a.Space) {
			return a.Value, a.Span.Start, true
		}
	}
	return "", e.Start.Start, false
}

// own says whether a namespace is OVF's in this descriptor.
func (c *checker) own(space string) bool {
	switch space {
	case ovf.NS1, ovf.NS2, ovf.NS09, "", c.doc.Tree().Root().Space:
		return true
	}
	return len(space) > len(xmldoc.UndeclaredSpace) && space[:len(xmldoc.UndeclaredSpace)] == xmldoc.UndeclaredSpace
}

// child gives an OVF element in e.
func (c *checker) child(e *xmldoc.Element, name string) *xmldoc.Element {
	for _, k := range e.Children {
		if k.Local == name && c.own(k.Space) {
			return k
		}
	}
	return nil
}

// line is where an element begins.
func line(e *xmldoc.Element) int { return e.Document().Line(e.Start.Start) }

// unique reports keys that come twice.
func (c *checker) unique(id string, what string) func(key string, e *xmldoc.Element) {
	seen := map[string]*xmldoc.Element{}
	return func(key string, e *xmldoc.Element) {
		if key == "" {
			return
		}
		if first := seen[key]; first != nil {
			c.report(id, e, "the %s %q is that of line %d already", what, key, line(first))
			return
		}
		seen[key] = e
	}
}

// circles finds the things that are, by what each says is above it, above
// themselves. Each is looked at once.
func circles[T any](all map[string]T, above func(T) string) map[string]bool {
	const (
		onTheWay = 1
		done     = 2
	)
	found := map[string]bool{}
	state := make(map[string]int, len(all))
	for id := range all {
		var way []string
		for state[id] == 0 {
			x, ok := all[id]
			if !ok {
				break
			}
			state[id] = onTheWay
			way = append(way, id)
			id = above(x)
		}
		if state[id] == onTheWay {
			for i := len(way) - 1; i >= 0; i-- {
				found[way[i]] = true
				if way[i] == id {
					break
				}
			}
		}
		for _, w := range way {
			state[w] = done
		}
	}
	return found
}
