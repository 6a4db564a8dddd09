package edit

import (
	"cmp"
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/appliance/chunkdigest"
	"github.com/ovation-project/ovation/author/descriptor"
	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/internal/xmldoc"
	"github.com/ovation-project/ovation/ovf"
)

// Joined is what came into a package with a machine of another one.
type Joined struct {
	// ID is the machine's, or the collection's.
	ID string
	// Files are the other package's that came along.
	Files []JoinedFile
	// Notes say what did not, and what has another name now.
	Notes []string
}

// JoinedFile is a file of another package, under its ID and href in this one.
type JoinedFile struct {
	From     *ovf.File
	ID, Href string
}

// AddMachine adds what another package describes, a machine or a collection, as
// the last member of the outermost collection; a package of a single machine
// becomes a collection first. Disks and files of the other one come along, under
// other names where theirs are taken; networks and deployment options of the
// same name are one. id is the ID that it gets, "" its own.
func (d *Descriptor) AddMachine(other *ovf.Document, id string) (*Joined, error) {
	major, ok := descriptor.Major(d.doc)
	if !ok || d.env().Content == nil {
		return nil, fmt.Errorf("a descriptor of OVF 0.9 gets no machines: convert the package first")
	}
	if theirs, _ := descriptor.Major(other); theirs > major {
		return nil, fmt.Errorf("the other package is one of OVF 2 and this is one of OVF 1: convert one of them first")
	}
	a, report, err := descriptor.Read(other, descriptor.ReadOptions{KeysOnly: true})
	if err != nil {
		return nil, err
	}
	j := &joiner{d: d, a: a, out: &Joined{Notes: report.Lost}}
	if len(a.XML) > 0 {
		j.note("sections of the other package that say something of all of it and have no keys are left out")
	}
	if err := j.contents(id); err != nil {
		return nil, err
	}
	j.disks()
	layout := j.files(other.Envelope())
	j.common()
	at := descriptor.Place{Major: major, In: d.doc.Tree().Root(), Messages: j.messages()}
	f, err := descriptor.Fragment(a, layout, at, descriptor.Options{})
	if err != nil {
		return nil, err
	}
	return j.out, d.join(f)
}

// joiner gives another package names that are free in this one.
type joiner struct {
	d   *Descriptor
	a   *spec.Appliance
	out *Joined
}

func (j *joiner) note(format string, args ...any) {
	j.out.Notes = append(j.out.Notes, fmt.Sprintf(format, args...))
}

// names are the names of things that are taken, whatever their case is.
type names map[string]bool

func (n names) has(s string) bool { return n[strings.ToLower(s)] }
func (n names) add(s string)      { n[strings.ToLower(s)] = true }

// free gives a name that is not taken, and takes it. An ending stays.
func (n names) free(s string) string {
	ext := path.Ext(s)
	base, name := strings.TrimSuffix(s, ext), s
	for i := 2; n.has(name); i++ {
		name = fmt.Sprintf("%s-%d%s", base, i, ext)
	}
	n.add(name)
	return name
}

// contents sees that no two machines have one ID.
func (j *joiner) contents(id string) error {
	have := map[string]bool{}
	j.d.env().Content.Walk(func(c *ovf.Content) { have[c.ID] = true })
	top, _ := j.a.Content()
	if top.ID = cmp.Or(id, top.ID); have[top.ID] {
		return fmt.Errorf("there is %s already: give what is added another ID, as ID=PACKAGE", top.ID)
	}
	j.out.ID, have[top.ID] = top.ID, true
	j.a.Walk(func(c *spec.Content, _ bool) {
		for _, m := range c.Contents {
			inner := cmp.Or(m.Machine, m.Collection)
			if inner == nil {
				continue
			}
			old := inner.ID
			for n := 2; have[inner.ID]; n++ {
				inner.ID = fmt.Sprintf("%s-%d", old, n)
			}
			have[inner.ID] = true
			if inner.ID == old {
				continue
			}
			j.note("machine %s is %s here", old, inner.ID)
			if c.Startup != nil {
				for i := range c.Startup.Items {
					if s := &c.Startup.Items[i]; s.ID == old {
						s.ID = inner.ID
					}
				}
			}
		}
	})
	return nil
}

// files gives files IDs and hrefs that are free, and the layout of the
// descriptor that they are in.
func (j *joiner) files(theirs *ovf.Envelope) *descriptor.Layout {
	ids, hrefs := names{}, names{}
	for _, f := range j.d.env().References {
		ids.add(f.ID)
		hrefs.add(f.Href)
	}
	renamed := map[string]string{} // IDs
	l := &descriptor.Layout{Disks: map[string]descriptor.Disk{}}
	for _, f := range theirs.References {
		if chunkdigest.Is(f) {
			continue
		}
		at := descriptor.File{ID: ids.free(f.ID), Href: f.Href, Size: -1, Compression: f.Compression, ChunkSize: max(0, f.ChunkSize)}
		if i := slices.IndexFunc(j.a.Files, func(x spec.File) bool { return x.ID == f.ID && x.Name == f.Href }); i >= 0 {
			at.Attributes = j.a.Files[i].Attributes
		}
		if strings.Contains(f.Href, "://") {
			at.Size = f.Size
		} else {
			at.Href = hrefs.free(f.Href)
			j.out.Files = append(j.out.Files, JoinedFile{f, at.ID, at.Href})
		}
		renamed[f.ID] = at.ID
		l.Files = append(l.Files, at)
	}
	to := func(id *string) {
		if *id != "" && renamed[*id] != "" {
			*id = renamed[*id]
		}
	}
	for i := range j.a.Disks {
		k := &j.a.Disks[i]
		to(&k.FileID)
		l.Disks[k.ID] = descriptor.Disk{FileID: k.FileID, Populated: -1}
	}
	for i := range j.a.Languages {
		to(&j.a.Languages[i].File)
		for k := range j.a.Languages[i].Messages {
			to(&j.a.Languages[i].Messages[k].File)
		}
	}
	j.a.Walk(func(c *spec.Content, _ bool) {
		for i := range c.Products {
			for k := range c.Products[i].Icons {
				to(&c.Products[i].Icons[k].File)
			}
		}
		if c.EnvFiles != nil {
			for i := range c.EnvFiles.Files {
				to(&c.EnvFiles.Files[i].File)
			}
		}
		for i := range c.Hardware {
			for k := range c.Hardware[i].Devices {
				to(&c.Hardware[i].Devices[k].File)
			}
		}
	})
	return l
}

// disks gives disks IDs that are free.
func (j *joiner) disks() {
	taken := names{}
	for _, x := range j.d.env().Disks {
		taken.add(x.ID)
	}
	renamed := map[string]string{}
	for i := range j.a.Disks {
		k := &j.a.Disks[i]
		id := taken.free(k.ID)
		if id != k.ID {
			j.note("disk %s is %s here", k.ID, id)
		}
		renamed[k.ID], k.ID = id, id
	}
	for i := range j.a.Disks {
		if k := &j.a.Disks[i]; k.Parent != "" {
			k.Parent = renamed[k.Parent]
		}
	}
	j.a.Walk(func(c *spec.Content, _ bool) {
		for i := range c.Hardware {
			for k := range c.Hardware[i].Devices {
				if v := &c.Hardware[i].Devices[k]; renamed[v.Disk] != "" {
					v.Disk = renamed[v.Disk]
				}
			}
		}
	})
}

// common leaves out what both packages have: networks and deployment options of
// one name. Placement groups are different ones.
func (j *joiner) common() {
	env := j.d.env()
	j.a.Networks = slices.DeleteFunc(j.a.Networks, func(n spec.Network) bool {
		return slices.ContainsFunc(env.Networks, func(o *ovf.Network) bool { return o.Name == n.Name })
	})
	j.a.Options = slices.DeleteFunc(j.a.Options, func(n spec.Option) bool {
		return slices.ContainsFunc(env.Options, func(o *ovf.Option) bool { return o.ID == n.ID })
	})
	if len(env.Options) > 0 {
		for i := range j.a.Options {
			j.a.Options[i].Default = false // there is one
		}
	}
	taken := names{}
	for _, g := range env.PlacementGroups {
		taken.add(g.ID)
	}
	renamed := map[string]string{}
	for i := range j.a.Groups {
		g := &j.a.Groups[i]
		id := taken.free(g.ID)
		renamed[g.ID], g.ID = id, id
	}
	j.a.Walk(func(c *spec.Content, _ bool) {
		for i := range c.Placement {
			if to := renamed[c.Placement[i].Group]; to != "" {
				c.Placement[i].Group = to
			}
		}
	})
}

// messages gives the other package's texts message IDs that are free, and says
// which are taken.
func (j *joiner) messages() map[string]bool {
	taken, all := names{}, map[string]bool{}
	for _, b := range j.d.env().Bundles {
		for _, ids := range []map[string]string{b.Messages, b.Files} {
			for id := range ids {
				taken.add(id)
				all[id] = true
			}
		}
	}
	renamed := map[string]string{}
	for _, l := range j.a.Languages {
		for i := range l.Messages {
			m := &l.Messages[i]
			if renamed[m.ID] == "" {
				renamed[m.ID] = taken.free(m.ID)
			}
			m.ID = renamed[m.ID]
		}
	}
	eachText(reflect.ValueOf(j.a).Elem(), func(t *spec.Text) {
		if to := renamed[t.ID]; to != "" {
			t.ID = to
		}
	})
	return all
}

// eachText calls f for every text of a specification.
func eachText(v reflect.Value, f func(*spec.Text)) {
	if t, ok := v.Addr().Interface().(*spec.Text); ok {
		f(t)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			eachText(v.Elem(), f)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			eachText(v.Field(i), f)
		}
	case reflect.Slice:
		for i := range v.Len() {
			eachText(v.Index(i), f)
		}
	}
}

// sectionOrder is the order of the sections of an envelope that are added to.
var sectionOrder = []string{"References", "DiskSection", "SharedDiskSection", "NetworkSection", "DeploymentOptionSection", "PlacementGroupSection"}

// join puts the pieces into the descriptor, each where the like of it is.
func (d *Descriptor) join(f *descriptor.Fragments) error {
	for _, s := range []struct {
		name, info string
		pieces     []string
	}{
		{"References", "", f.Files}, {"DiskSection", "Virtual disk information", f.Disks},
		{"SharedDiskSection", "Virtual disks that several machines may use at once", f.SharedDisks},
		{"NetworkSection", "The list of logical networks", f.Networks}, {"DeploymentOptionSection", "The deployment options", f.Options},
	} {
		if err := d.into(s.name, s.info, s.pieces); err != nil {
			return err
		}
	}
	for _, g := range f.Groups {
		if err := d.behind("PlacementGroupSection", g); err != nil {
			return err
		}
	}
	if err := d.wrap(); err != nil {
		return err
	}
	if err := d.apply(ovf.Append(d.env().Content.Node, f.Content)); err != nil {
		return err
	}
	for _, l := range f.Languages {
		if err := d.addTexts(l); err != nil {
			return err
		}
	}
	return nil
}

// into puts pieces into a section, which is made where there is none.
func (d *Descriptor) into(section, info string, pieces []string) error {
	if len(pieces) == 0 {
		return nil
	}
	if d.last(section) != nil {
		for _, piece := range pieces {
			if err := d.apply(on(d.last(section).Append(piece))); err != nil {
				return err
			}
		}
		return nil
	}
	p, _ := tag(d.doc.Tree().Root())
	return d.behind(section, fmt.Sprintf("<%[1]s%[2]s>\n  <%[1]sInfo>%[3]s</%[1]sInfo>\n  %[4]s\n</%[1]s%[2]s>", p, section, info, strings.Join(pieces, "\n  ")))
}

// last gives the last of the envelope's sections of a name, nil for none.
func (d *Descriptor) last(section string) (found *xmldoc.Element) {
	root := d.doc.Tree().Root()
	for _, e := range root.Children {
		if e.Is(root.Space, section) {
			found = e
		}
	}
	return found
}

// behind puts a section behind those that come before it.
func (d *Descriptor) behind(section, text string) error {
	for i := slices.Index(sectionOrder, section); i >= 0; i-- {
		if e := d.last(sectionOrder[i]); e != nil {
			edit, err := e.InsertAfter(text)
			if err != nil {
				return err
			}
			return d.apply(on(edit))
		}
	}
	return fmt.Errorf("the References element: %w", ErrNotFound)
}

// wrap makes a package of a single machine a collection of that.
func (d *Descriptor) wrap() error {
	c := d.env().Content
	if c.Kind == ovf.VirtualSystemCollection {
		return nil
	}
	e := c.Element()
	p, a := tag(e)
	at := e.Outer()
	before := d.doc.Tree().Text()[:at.Start]
	line := "\n" + before[len(strings.TrimRight(before, " \t")):]
	start := fmt.Sprintf("<%[1]sVirtualSystemCollection %[2]sid=\"%[3]s-collection\">%[4]s<%[1]sInfo>A collection of virtual machines</%[1]sInfo>%[4]s", p, a, xmldoc.EscapeAttr(c.ID), line)
	return d.apply(on(xmldoc.Edit{Span: xmldoc.Span{Start: at.Start, End: at.Start}, New: start}),
		on(xmldoc.Edit{Span: xmldoc.Span{Start: at.End, End: at.End}, New: line + "</" + p + "VirtualSystemCollection>"}))
}

// addTexts adds texts in a language to those that there are, or as a new
// bundle.
func (d *Descriptor) addTexts(l spec.Language) error {
	root := d.doc.Tree().Root()
	p, a := tag(root)
	attr := func(name, value string) string {
		if value == "" {
			return ""
		}
		return fmt.Sprintf(` %s%s="%s"`, a, name, xmldoc.EscapeAttr(value))
	}
	var list []string
	for _, m := range l.Messages {
		list = append(list, "<"+p+"Msg"+attr("msgid", m.ID)+attr("fileRef", m.File)+">"+xmldoc.EscapeText(m.Text)+"</"+p+"Msg>")
	}
	for _, b := range d.env().Bundles {
		if l.File == "" && b.FileRef == "" && b.Lang == l.Language {
			for i := range list {
				b := d.env().Bundles[slices.IndexFunc(d.env().Bundles, func(o *ovf.Bundle) bool { return o.FileRef == "" && o.Lang == l.Language })]
				if err := d.apply(ovf.Append(b.Node, list[i])); err != nil {
					return err
				}
			}
			return nil
		}
	}
	text := "<" + p + "Strings xml:lang=\"" + xmldoc.EscapeAttr(l.Language) + "\"" + attr("fileRef", l.File) + ">\n"
	for _, m := range list {
		text += "  " + m + "\n"
	}
	return d.apply(on(root.Append(text + "</" + p + "Strings>")))
}

// RemoveMachine takes a member out of a collection, with its place in the order
// of starting and the disks that only it has.
func (d *Descriptor) RemoveMachine(id string) ([]string, error) {
	c, err := d.content(id)
	if err != nil {
		return nil, err
	}
	if c == d.env().Content {
		return nil, fmt.Errorf("%s is all that there is in the package", c.ID)
	}
	mine, others := map[string]bool{}, map[string]bool{}
	d.env().Content.Walk(func(x *ovf.Content) {
		into := others
		if below(x.Element(), []*xmldoc.Element{c.Element()}) {
			into = mine
		}
		for _, h := range x.Hardware {
			for _, i := range h.Items {
				for _, r := range i.HostResources {
					if _, disk, ok := strings.Cut(r, "/disk/"); ok {
						into[disk] = true
					}
				}
			}
		}
	})
	var list []*ovf.Disk
	for _, x := range d.env().Disks {
		if mine[x.ID] && !others[x.ID] {
			list = append(list, x)
		}
	}
	gone := []*xmldoc.Element{c.Element()}
	d.env().Content.Walk(func(x *ovf.Content) {
		for _, s := range x.Startup {
			if s.ID == id && !below(s.Element(), gone[:1]) {
				gone = append(gone, s.Element())
			}
		}
	})
	return d.removeDisks(list, gone)
}
