package descriptor

import (
	"cmp"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/internal/xmldoc"
	"github.com/ovation-project/ovation/ovf"
)

// Fragments is an appliance in pieces of XML that can be put into another
// descriptor.
type Fragments struct {
	// Files are File elements, Disks Disk, SharedDisks SharedDisk, Networks
	// Network and Options Configuration elements.
	Files, Disks, SharedDisks, Networks, Options []string
	// Groups are whole sections.
	Groups []string
	// Content is the machine or collection.
	Content string
	// Languages are the texts in further languages.
	Languages []spec.Language
}

// Place says where fragments go.
type Place struct {
	// Major is the version of OVF there, 1 or 2.
	Major int
	// In is the element that they go into: they have the prefixes that hold
	// there.
	In *xmldoc.Element
	// Messages are the message IDs that are in use there.
	Messages map[string]bool
}

// Fragment writes an appliance in pieces. What stands in its envelope as XML is
// in none of them.
func Fragment(a *spec.Appliance, l *Layout, at Place, opt Options) (*Fragments, error) {
	r := newRenderer(l, opt)
	r.major = at.Major
	for id := range at.Messages {
		r.ids[id] = true
	}
	r.languages(a)
	out := &Fragments{}
	spaces := standardPrefixes(at.Major)
	for _, n := range a.Namespaces {
		spaces = append(spaces, [2]string{"xmlns:" + n.Prefix, n.URI})
	}
	add := func(list *[]string, e *element) { *list = append(*list, fragment(e, spaces, at.In)) }
	for _, f := range l.Files {
		add(&out.Files, reference(f))
	}
	for _, d := range a.Disks {
		e, err := r.disk(d)
		if err != nil {
			return nil, err
		}
		if d.Shared {
			e.name = "SharedDisk"
			add(&out.SharedDisks, e)
		} else {
			add(&out.Disks, e)
		}
	}
	networks, err := r.networks(spec.Text{}, a.Networks)
	if err != nil {
		return nil, err
	}
	options, err := r.deploymentOptions(spec.Text{}, a.Options)
	if err != nil {
		return nil, err
	}
	for list, section := range map[*[]string]*element{&out.Networks: networks, &out.Options: options} {
		for _, e := range section.kids {
			if e.name != "Info" {
				add(list, e)
			}
		}
	}
	for i := range a.Groups {
		e, err := r.group(&a.Groups[i])
		if err != nil {
			return nil, err
		}
		add(&out.Groups, e)
	}
	c, collection := a.Content()
	e, err := r.content(c, collection)
	if err = cmp.Or(err, r.failed); err != nil {
		return nil, err
	}
	out.Content = fragment(e, spaces, at.In)
	out.Languages = r.bundles
	return out, nil
}

// Item writes a device as a piece for another descriptor's hardware section.
func Item(d spec.Device, at Place) (string, error) {
	r := newRenderer(&Layout{}, Options{})
	r.major = at.Major
	e, err := r.item(&d)
	if err != nil {
		return "", err
	}
	return fragment(e, standardPrefixes(at.Major), at.In), nil
}

// fragment writes an element with the prefixes that hold in another one, and
// declares those that do not.
func fragment(e *element, spaces [][2]string, in *xmldoc.Element) string {
	space := map[string]string{}
	for _, s := range spaces {
		space[strings.TrimPrefix(strings.TrimPrefix(s[0], "xmlns"), ":")] = s[1]
	}
	need := map[string]bool{}
	there := func(prefix string) bool {
		have, ok := in.Lookup(prefix)
		return ok && have == space[prefix]
	}
	rename := func(name string, attr bool) string {
		prefix, local, ok := strings.Cut(name, ":")
		if !ok {
			prefix, local = "", name
		}
		if prefix == "xml" || prefix == "" && attr || there(prefix) {
			return name
		}
		other, ok := in.PrefixFor(space[prefix], attr)
		if !ok {
			need[prefix] = true
			return name
		}
		if other == "" {
			return local
		}
		return other + ":" + local
	}
	e.walk(func(e *element) {
		if e.raw == "" {
			e.name = rename(e.name, false)
			for i := range e.attrs {
				e.attrs[i][0] = rename(e.attrs[i][0], true)
			}
			return
		}
		for prefix := range space {
			uses := prefix == "" || strings.Contains(e.raw, "<"+prefix+":") || strings.Contains(e.raw, " "+prefix+":")
			need[prefix] = need[prefix] || uses && !there(prefix)
		}
	})
	for _, s := range slices.Backward(spaces) {
		if need[strings.TrimPrefix(strings.TrimPrefix(s[0], "xmlns"), ":")] {
			e.attrs = append([][2]string{s}, e.attrs...)
		}
	}
	var b strings.Builder
	e.write(&b, 0)
	return strings.TrimSpace(b.String())
}

// Major gives the version of OVF that a descriptor is written in, 1 or 2; ok is
// false for one of OVF 0.9, which has other elements.
func Major(doc *ovf.Document) (major int, ok bool) {
	switch doc.Envelope().Element().Space {
	case ovf.NS1:
		return 1, true
	case ovf.NS2:
		return 2, true
	}
	return 0, false
}
