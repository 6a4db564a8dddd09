// Package descriptor turns a specification into an OVF descriptor, and a
// descriptor into a specification.
//
// It does no I/O: what the descriptor says of files, their sizes and formats,
// is handed over by whoever made them (Layout).
package descriptor

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/ovf"
)

// File is a File element of the References.
type File struct {
	ID, Href string
	// Size is in bytes as stored, less than 0 where it is not known.
	Size        int64
	Compression string
	// ChunkSize is in bytes, 0 for a file in one piece.
	ChunkSize  int64
	Attributes []spec.XMLKey
}

// Disk is what became of a disk of the specification.
type Disk struct {
	FileID string
	// Capacity is in bytes; the specification's own counts where it has one.
	Capacity int64
	// Populated is in bytes, less than 0 where it is not known.
	Populated int64
	// URI is the format's.
	URI string
}

// Layout is what a descriptor says of the files beside it.
type Layout struct {
	Files []File
	// Disks are by the ID of the specification's disk.
	Disks map[string]Disk
	// Text reads the file of a text, by the name that the specification has
	// for it.
	Text func(t spec.Text, file string) (string, error)
}

// Options change what is written. The zero value is good.
type Options struct {
	// File is the specification's name, for messages.
	File string
	// Models are those of devices that are left open; nil is
	// DefaultModels.
	Models *Models
	// PlainHostResource writes /disk/ID for ovf:/disk/ID, as some products
	// of OVF 1.0's time want it.
	PlainHostResource bool
	// CapacityUnits writes capacities with units, as some products want them.
	CapacityUnits bool
}

// Version gives the version that a specification is written in.
func Version(a *spec.Appliance) string {
	if a.Version != "" {
		return a.Version
	}
	second := len(a.Groups) > 0 || slices.ContainsFunc(a.Disks, func(d spec.Disk) bool { return d.Shared })
	a.Walk(func(c *spec.Content, _ bool) {
		second = second || c.EnvFiles != nil || c.Boot != nil || len(c.ScaleOut) > 0 || len(c.Placement) > 0
		for _, p := range c.Products {
			second = second || slices.ContainsFunc(p.Properties, func(p spec.Property) bool { return len(p.Options) > 0 })
		}
	})
	if second {
		return "2.1"
	}
	return "1"
}

type renderer struct {
	file      string
	major     int
	layout    *Layout
	models    Models
	plainHost bool
	units     bool
	plain     bool // defaults are left out, for comparing

	bundles  []spec.Language
	messages int
	ids      map[string]bool
	// failed is an error of a text in a place that returns none.
	failed error
}

func newRenderer(l *Layout, opt Options) *renderer {
	r := &renderer{file: opt.File, major: 1, layout: l, models: DefaultModels(), plainHost: opt.PlainHostResource, units: opt.CapacityUnits, ids: map[string]bool{}}
	if opt.Models != nil {
		r.models = *opt.Models
	}
	return r
}

// languages begins with the texts that have message IDs already.
func (r *renderer) languages(a *spec.Appliance) {
	for _, b := range a.Languages {
		b.Messages = slices.Clone(b.Messages)
		for _, m := range b.Messages {
			r.ids[m.ID] = true
		}
		r.bundles = append(r.bundles, b)
	}
}

// Render writes the descriptor.
func Render(a *spec.Appliance, l *Layout, opt Options) ([]byte, error) {
	r := newRenderer(l, opt)
	version := Version(a)
	if strings.HasPrefix(version, "2") {
		r.major = 2
	}
	r.languages(a)
	root, err := r.envelope(a, version)
	if err = cmp.Or(err, r.failed); err != nil {
		return nil, err
	}
	var b strings.Builder
	b.WriteString("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")
	root.write(&b, 0)
	if bad := strings.IndexFunc(b.String(), notXML); bad >= 0 {
		return nil, &spec.Error{File: opt.File, Text: fmt.Sprintf("a text has the character %U, which XML cannot hold", []rune(b.String()[bad:])[0])}
	}
	if err := r.sound(root, []byte(b.String())); err != nil {
		return nil, err
	}
	return []byte(b.String()), nil
}

// sound sees that XML, names and prefixes that the specification brings make a
// descriptor that can be read.
func (r *renderer) sound(root *element, text []byte) error {
	var found error
	root.walk(func(e *element) {
		if e.raw == "" || found != nil {
			return
		}
		around := &element{name: root.name, attrs: root.attrs, kids: []*element{{name: "within", kids: []*element{e}}}}
		var b strings.Builder
		around.write(&b, 0)
		if err := wellFormed([]byte(b.String())); err != nil {
			found = &spec.Error{File: r.file, Pos: e.pos, Text: fmt.Sprintf("the XML here: %v", err)}
		}
	})
	if found != nil {
		return found
	}
	if err := wellFormed(text); err != nil {
		return &spec.Error{File: r.file, Text: fmt.Sprintf("the name of an attribute, a field or a namespace is none that XML can have: %v", err)}
	}
	return nil
}

func wellFormed(text []byte) error {
	doc, err := ovf.Parse(text, ovf.ParseOptions{})
	if err != nil {
		var syntax *ovf.SyntaxError
		if errors.As(err, &syntax) {
			return errors.New(syntax.Msg)
		}
		return err
	}
	if bad := doc.Tree().Undeclared(); len(bad) > 0 {
		return fmt.Errorf("the prefix %s is not declared: declare it with xmlns:%s, or under namespaces", bad[0].Prefix, bad[0].Prefix)
	}
	return nil
}

// notXML says whether a character cannot be in an XML document.
func notXML(c rune) bool {
	return c < 0x20 && c != '\t' && c != '\n' && c != '\r' || c == 0xfffe || c == 0xffff
}

// standardPrefixes are declared in every descriptor.
func standardPrefixes(major int) [][2]string {
	ns := ovf.NS1
	if major == 2 {
		ns = ovf.NS2
	}
	return [][2]string{
		{"xmlns", ns}, {"xmlns:ovf", ns}, {"xmlns:cim", ovf.NSCommon}, {"xmlns:rasd", ovf.NSRASD}, {"xmlns:vssd", ovf.NSVSSD},
		{"xmlns:sasd", ovf.NSSASD}, {"xmlns:epasd", ovf.NSEPASD}, {"xmlns:vmw", ovf.NSVMware}, {"xmlns:vbox", ovf.NSVBox},
		{"xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance"},
	}
}

func (r *renderer) envelope(a *spec.Appliance, version string) (*element, error) {
	root := el("Envelope")
	root.attrs = standardPrefixes(r.major)
	if r.major == 1 {
		// What came with OVF 2 is left out of what reads OVF 1 only.
		root.attrs = slices.DeleteFunc(root.attrs, func(a [2]string) bool { return a[0] == "xmlns:sasd" || a[0] == "xmlns:epasd" })
	}
	for _, n := range a.Namespaces {
		root.attrs = append(root.attrs, [2]string{"xmlns:" + n.Prefix, n.URI})
	}
	if strings.Contains(version, ".") {
		root.attr("ovf:version", version)
	}
	root.attr("xml:lang", a.Language)
	refs := el("References")
	for _, f := range r.layout.Files {
		refs.add(reference(f))
	}
	root.add(refs)
	if err := r.disks(root, a); err != nil {
		return nil, err
	}
	if len(a.Networks) > 0 {
		s, err := r.networks(a.Infos.Networks, a.Networks)
		if err != nil {
			return nil, err
		}
		root.add(s)
	}
	if err := r.options(root, a); err != nil {
		return nil, err
	}
	for _, x := range a.XML {
		root.rawXML(x)
	}
	c, collection := a.Content()
	if c == nil {
		return nil, &spec.Error{File: r.file, Text: "there is no machine and no collection"}
	}
	content, err := r.content(c, collection)
	if err != nil {
		return nil, err
	}
	root.add(content)
	for _, b := range r.bundles {
		e := el("Strings").attr("xml:lang", b.Language).attr("ovf:fileRef", b.File)
		for _, m := range b.Messages {
			e.kids = append(e.kids, &element{name: "Msg", attrs: el("", "ovf:msgid", m.ID, "ovf:fileRef", m.File).attrs, text: m.Text})
		}
		root.add(e)
	}
	return root, nil
}

func (r *renderer) networks(info spec.Text, list []spec.Network) (*element, error) {
	s := r.section("NetworkSection", info, "The list of logical networks", nil)
	for _, n := range list {
		e := el("Network", "ovf:name", n.Name)
		if err := r.message(e, "Description", n.Description, ""); err != nil {
			return nil, err
		}
		s.add(e.rawXML(n.XML))
	}
	return s, nil
}

func reference(f File) *element {
	e := el("File", "ovf:id", f.ID, "ovf:href", f.Href)
	if f.Size >= 0 {
		e.attr("ovf:size", strconv.FormatInt(f.Size, 10))
	}
	e.attr("ovf:compression", f.Compression)
	if f.ChunkSize > 0 {
		e.attr("ovf:chunkSize", strconv.FormatInt(f.ChunkSize, 10))
	}
	return e.further(f.Attributes)
}

func (r *renderer) disks(root *element, a *spec.Appliance) error {
	for _, shared := range []bool{false, true} {
		s, err := r.diskSection(a, a.Disks, shared)
		if err != nil {
			return err
		}
		if len(s.kids) > 1 {
			root.add(s)
		}
	}
	return nil
}

// diskSection writes those disks that are shared, or those that are not.
func (r *renderer) diskSection(a *spec.Appliance, disks []spec.Disk, shared bool) (*element, error) {
	name, info, otherwise, more := "DiskSection", a.Infos.Disks, "Virtual disk information", a.DiskXML
	if shared {
		name, info, otherwise, more = "SharedDiskSection", a.Infos.SharedDisks, "Virtual disks that several machines may use at once", a.SharedXML
	}
	s := r.section(name, info, otherwise, nil)
	for _, d := range disks {
		if d.Shared != shared {
			continue
		}
		e, err := r.disk(d)
		if err != nil {
			return nil, err
		}
		if shared {
			e.name = "SharedDisk"
		}
		s.add(e)
	}
	return s.rawXML(more), nil
}

func (r *renderer) disk(d spec.Disk) (*element, error) {
	at := r.layout.Disks[d.ID]
	capacity, units := d.Capacity, d.Units
	if units == "" && capacity != "" && !strings.HasPrefix(capacity, "$") {
		n, err := parseCapacity(capacity)
		if err != nil {
			return nil, &spec.Error{File: r.file, Pos: d.Pos, Text: fmt.Sprintf("capacity of disk %q: %v", d.ID, err)}
		}
		if at.Capacity > 0 && n != at.Capacity {
			return nil, &spec.Error{File: r.file, Pos: d.Pos, Text: fmt.Sprintf("disk %q has a capacity of %d bytes, and its source one of %d: leave capacity out, or correct it", d.ID, n, at.Capacity)}
		}
		capacity = strconv.FormatInt(n, 10)
	}
	if capacity == "" {
		capacity = strconv.FormatInt(at.Capacity, 10)
	}
	if n, err := strconv.ParseInt(capacity, 10, 64); r.units && units == "" && err == nil {
		capacity, units = CapacityInUnits(n)
	}
	e := el("Disk", "ovf:diskId", d.ID, "ovf:fileRef", cmp.Or(at.FileID, d.FileID), "ovf:capacity", capacity, "ovf:capacityAllocationUnits", units,
		"ovf:parentRef", d.Parent)
	switch {
	case d.Populated != nil:
		e.attr("ovf:populatedSize", strconv.FormatInt(int64(*d.Populated), 10))
	case at.Populated >= 0 && at.FileID != "" && !r.plain:
		e.attr("ovf:populatedSize", strconv.FormatInt(at.Populated, 10))
	}
	e.attr("ovf:format", cmp.Or(d.FormatURI, at.URI))
	return e.further(d.Attributes).rawXML(d.XML), nil
}

func (r *renderer) options(root *element, a *spec.Appliance) error {
	if len(a.Options) > 0 {
		s, err := r.deploymentOptions(a.Infos.Options, a.Options)
		if err != nil {
			return err
		}
		root.add(s)
	}
	for i := range a.Groups {
		s, err := r.group(&a.Groups[i])
		if err != nil {
			return err
		}
		root.add(s)
	}
	return nil
}

func (r *renderer) deploymentOptions(info spec.Text, options []spec.Option) (*element, error) {
	s := r.section("DeploymentOptionSection", info, "The deployment options", nil)
	for _, o := range options {
		e := el("Configuration", "ovf:id", o.ID)
		if o.Default {
			e.attr("ovf:default", "true")
		}
		if err := r.message(e, "Label", o.Label, o.ID); err != nil {
			return nil, err
		}
		if err := r.message(e, "Description", o.Description, cmp.Or(o.Label.Text, o.ID)); err != nil {
			return nil, err
		}
		s.add(e)
	}
	return s, nil
}

func (r *renderer) group(g *spec.Group) (*element, error) {
	s := r.section("PlacementGroupSection", g.Info, "A group of machines to place together or apart", nil)
	s.attr("ovf:id", g.ID).attr("ovf:policy", g.Policy)
	return s, r.message(s, "Description", g.Description, "")
}

// section begins a section with its Info.
func (r *renderer) section(name string, info spec.Text, otherwise string, required *bool) *element {
	s := el(name)
	s.attr("ovf:required", boolAttr(required))
	_ = r.message(s, "Info", info, otherwise) // noted in r.failed
	return s
}

// message adds an element with a text for people, and notes its translations.
// otherwise is the text where there is none; where that is empty too there is
// no element.
func (r *renderer) message(e *element, name string, t spec.Text, otherwise string) error {
	text, err := r.text(t, t.Text, t.File)
	if err != nil {
		r.failed = cmp.Or(r.failed, err)
		return err
	}
	if t.Text == "" && t.File == "" && t.ID == "" {
		if r.plain {
			otherwise = ""
		}
		text = otherwise
	}
	id := t.ID
	if id == "" && len(t.Translations) > 0 {
		for id = ""; id == "" || r.ids[id]; {
			r.messages++
			id = fmt.Sprintf("msg.%d", r.messages)
		}
		r.ids[id] = true
	}
	if text == "" && id == "" {
		return nil
	}
	e.kids = append(e.kids, &element{name: name, attrs: el("", "ovf:msgid", id).attrs, text: text})
	for _, tr := range t.Translations {
		s, err := r.text(t, tr.Text, tr.File)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(r.bundles, func(b spec.Language) bool { return b.Language == tr.Language && b.File == "" })
		if i < 0 {
			r.bundles = append(r.bundles, spec.Language{Language: tr.Language})
			i = len(r.bundles) - 1
		}
		r.bundles[i].Messages = append(r.bundles[i].Messages, spec.MsgEntry{ID: id, Text: s})
	}
	return nil
}

func (r *renderer) text(t spec.Text, text, file string) (string, error) {
	if file == "" {
		return text, nil
	}
	if r.layout.Text == nil {
		return "", &spec.Error{File: r.file, Pos: t.Pos, Text: fmt.Sprintf("the text of %s cannot be read here", file)}
	}
	s, err := r.layout.Text(t, file)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(strings.ReplaceAll(s, "\r\n", "\n")), nil
}

func (r *renderer) content(c *spec.Content, collection bool) (*element, error) {
	e := el("VirtualSystem")
	info := "A virtual machine"
	if collection {
		e.name, info = "VirtualSystemCollection", "A collection of virtual machines"
	}
	e.attr("ovf:id", c.ID)
	if err := r.message(e, "Info", c.Info, info); err != nil {
		return nil, err
	}
	if err := r.message(e, "Name", c.Name, ""); err != nil {
		return nil, err
	}
	if err := r.sections(e, c); err != nil {
		return nil, err
	}
	for i := range c.Hardware {
		s, err := r.hardware(c, &c.Hardware[i])
		if err != nil {
			return nil, err
		}
		e.add(s)
	}
	if c.Resources != nil {
		s, err := r.resources(c.Resources)
		if err != nil {
			return nil, err
		}
		e.add(s)
	}
	for _, x := range c.XML {
		e.rawXML(x)
	}
	for _, m := range c.Contents {
		inner, nested := m.Machine, false
		if m.Collection != nil {
			inner, nested = m.Collection, true
		}
		if inner == nil {
			continue
		}
		child, err := r.content(inner, nested)
		if err != nil {
			return nil, err
		}
		e.add(child)
	}
	return e, nil
}

// CapacityInUnits writes a number of bytes in the largest of 2^10, 2^20 and so
// on that it is whole in.
func CapacityInUnits(n int64) (quantity, units string) {
	power := 0
	if n > 0 {
		power = min(bits.TrailingZeros64(uint64(n))/10*10, 40)
	}
	return strconv.FormatInt(n>>power, 10), fmt.Sprintf("byte * 2^%d", power)
}
