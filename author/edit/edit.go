// Package edit changes packages that are there: their descriptors, which stay
// byte for byte as they were outside of what is changed, and their files.
package edit

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ovation-project/ovation/internal/xmldoc"
	"github.com/ovation-project/ovation/ovf"
)

// ErrNotFound says that what is to be changed is not there.
var ErrNotFound = errors.New("not in the package")

// Descriptor is a descriptor that is being changed, one change after the other.
type Descriptor struct {
	doc *ovf.Document
}

// New begins with a descriptor.
func New(doc *ovf.Document) *Descriptor { return &Descriptor{doc} }

// Document is the descriptor with the changes so far.
func (d *Descriptor) Document() *ovf.Document { return d.doc }

func (d *Descriptor) env() *ovf.Envelope { return d.doc.Envelope() }

func (d *Descriptor) apply(edits ...ovf.Edit) error {
	after, err := d.doc.Apply(edits...)
	if err != nil {
		return err
	}
	d.doc = after
	return nil
}

// on makes an edit of one of an element.
func on(e xmldoc.Edit) ovf.Edit {
	return func(*ovf.Document) ([]xmldoc.Edit, error) { return []xmldoc.Edit{e}, nil }
}

func notFound(what, name string, have []string) error {
	if len(have) == 0 {
		return fmt.Errorf("%s %q: %w: there is none", what, name, ErrNotFound)
	}
	return fmt.Errorf("%s %q: %w; there are %s", what, name, ErrNotFound, strings.Join(have, ", "))
}

// content finds a machine or collection; "" is the only machine.
func (d *Descriptor) content(id string) (*ovf.Content, error) {
	var all, systems []*ovf.Content
	var names []string
	if c := d.env().Content; c != nil {
		c.Walk(func(c *ovf.Content) {
			all = append(all, c)
			names = append(names, c.ID)
			if c.Kind == ovf.VirtualSystem {
				systems = append(systems, c)
			}
		})
	}
	if id == "" {
		if len(systems) == 1 {
			return systems[0], nil
		}
		return nil, fmt.Errorf("say which machine is meant: there are %s", strings.Join(names, ", "))
	}
	for _, c := range all {
		if c.ID == id {
			return c, nil
		}
	}
	return nil, notFound("machine", id, names)
}

// tag gives the prefixes for elements and attributes of OVF's in an element.
func tag(e *xmldoc.Element) (element, attribute string) {
	space := e.Document().Root().Space
	if p, ok := e.PrefixFor(space, false); ok && p != "" {
		element = p + ":"
	}
	if p, ok := e.PrefixFor(space, true); ok && p != "" {
		attribute = p + ":"
	}
	return element, attribute
}

// SetProperty sets a property's default, for one deployment option where that
// is not "". The key is the full one, or its own where only one property has
// it.
func (d *Descriptor) SetProperty(key, option, value string) error {
	var found []*ovf.Property
	var names []string
	if d.env().Content != nil {
		d.env().Content.Walk(func(c *ovf.Content) {
			for _, p := range c.Products {
				for _, x := range p.Properties {
					names = append(names, x.FullKey)
					if x.FullKey == key {
						found = append([]*ovf.Property{x}, found...)
					} else if x.Key == key {
						found = append(found, x)
					}
				}
			}
		})
	}
	if len(found) == 0 {
		return notFound("property", key, names)
	}
	if len(found) > 1 && found[0].FullKey != key {
		var full []string
		for _, x := range found {
			full = append(full, x.FullKey)
		}
		return fmt.Errorf("property %q: say which is meant: %s", key, strings.Join(full, ", "))
	}
	if option != "" && !slices.ContainsFunc(d.env().Options, func(o *ovf.Option) bool { return o.ID == option }) {
		return notFound("deployment option", option, nil)
	}
	return d.apply(ovf.SetPropertyValue(found[0], option, value))
}

// item finds the item of a type that holds for all deployment options, or for
// one.
func item(h *ovf.Hardware, typ ovf.ResourceType, option string) *ovf.Item {
	for _, i := range h.Items {
		if i.ResourceType == typ && (i.Bound == "" || i.Bound == "normal") &&
			(option == "" && len(i.Configurations) == 0 || option != "" && slices.Contains(i.Configurations, option)) {
			return i
		}
	}
	return nil
}

// leading is the number that a name such as "2 virtual CPU(s)" begins with.
var leading = regexp.MustCompile(`^[0-9]+`)

// SetCPUs sets a machine's number of processors; option is "" for all
// deployment options that have no number of their own.
func (d *Descriptor) SetCPUs(machine, option string, n int) error {
	if n < 1 {
		return fmt.Errorf("%d processors: a machine has one at least", n)
	}
	return d.setQuantity(machine, option, ovf.Processor, "processors", func(i *ovf.Item) ([]ovf.Edit, error) {
		return quantity(i, strconv.Itoa(n)), nil
	})
}

// SetMemory sets a machine's memory, in bytes.
func (d *Descriptor) SetMemory(machine, option string, n int64) error {
	if n < 1 {
		return fmt.Errorf("%d bytes of memory: a machine has some", n)
	}
	return d.setQuantity(machine, option, ovf.Memory, "memory", func(i *ovf.Item) ([]ovf.Edit, error) {
		units := i.AllocationUnits
		u, err := ovf.ParseUnit(units)
		one := int64(1)
		if err == nil {
			one, err = u.Quantity("1")
		}
		var edits []ovf.Edit
		if err != nil || u.Base != "byte" || one < 1 || n%one != 0 {
			one, units = 1, "byte"
			if n%(1<<20) == 0 {
				one, units = 1<<20, "byte * 2^20"
			}
			edits = append(edits, ovf.SetChildText(i.Node, "AllocationUnits", units))
		}
		if edits != nil { // the number in the name is of the old units
			return append(edits, ovf.SetChildText(i.Node, "VirtualQuantity", strconv.FormatInt(n/one, 10))), nil
		}
		return quantity(i, strconv.FormatInt(n/one, 10)), nil
	})
}

// quantity sets a number, and in the name that begins with the old one too.
func quantity(i *ovf.Item, n string) []ovf.Edit {
	edits := []ovf.Edit{ovf.SetChildText(i.Node, "VirtualQuantity", n)}
	if old := leading.FindString(i.ElementName); old != "" && old == i.VirtualQuantity {
		for _, c := range i.Element().Children {
			if c.Local == "ElementName" || c.Local == "Caption" {
				edits = append(edits, on(c.SetText(n+strings.TrimPrefix(i.ElementName, old))))
				break
			}
		}
	}
	return edits
}

func (d *Descriptor) setQuantity(machine, option string, typ ovf.ResourceType, what string, set func(*ovf.Item) ([]ovf.Edit, error)) error {
	c, err := d.content(machine)
	if err != nil {
		return err
	}
	var edits []ovf.Edit
	for _, h := range c.Hardware {
		if i := item(h, typ, option); i != nil {
			some, err := set(i)
			if err != nil {
				return err
			}
			edits = append(edits, some...)
		}
	}
	if len(edits) == 0 {
		return fmt.Errorf("%s of %s: %w: no item says how much", what, c.ID, ErrNotFound)
	}
	return d.apply(edits...)
}

// RenameNetwork gives a network another name, in all that connects to it.
func (d *Descriptor) RenameNetwork(name, to string) error {
	var edits []ovf.Edit
	var names []string
	for _, n := range d.env().Networks {
		names = append(names, n.Name)
		if n.Name == to {
			return fmt.Errorf("there is a network %q already", to)
		}
		if n.Name == name {
			edits = append(edits, ovf.SetAttr(n.Node, "name", to))
		}
	}
	if len(edits) == 0 {
		return notFound("network", name, names)
	}
	d.items(func(i *ovf.Item) {
		for _, c := range i.Element().Children {
			if c.Local == "Connection" && strings.TrimSpace(c.Text()) == name {
				edits = append(edits, on(c.SetText(to)))
			}
		}
	})
	return d.apply(edits...)
}

func (d *Descriptor) items(f func(*ovf.Item)) {
	if d.env().Content == nil {
		return
	}
	d.env().Content.Walk(func(c *ovf.Content) {
		for _, h := range c.Hardware {
			for _, i := range h.Items {
				f(i)
			}
		}
	})
}

// SetName sets a machine's name.
func (d *Descriptor) SetName(machine, name string) error {
	c, err := d.content(machine)
	if err != nil {
		return err
	}
	return d.setText(c.Element(), []string{"Info", "Name"}, "Name", name)
}

// setText sets the text of a child, or adds the child behind those that come
// before it in the order.
func (d *Descriptor) setText(e *xmldoc.Element, order []string, name, text string) error {
	prefix, _ := tag(e)
	made := "<" + prefix + name + ">" + xmldoc.EscapeText(text) + "</" + prefix + name + ">"
	var after *xmldoc.Element
	for _, c := range e.Children {
		if c.Local == name && c.Space == e.Space {
			return d.apply(on(c.SetText(text)))
		}
		if at := slices.Index(order, c.Local); at >= 0 && at < slices.Index(order, name) {
			after = c
		}
	}
	if after != nil {
		edit, err := after.InsertAfter(made)
		if err != nil {
			return err
		}
		return d.apply(on(edit))
	}
	if len(e.Children) > 0 {
		edit, err := e.Children[0].InsertBefore(made)
		if err != nil {
			return err
		}
		return d.apply(on(edit))
	}
	return d.apply(on(e.Append(made)))
}

// productOrder is the order of a ProductSection's elements.
var productOrder = []string{"Info", "Product", "Vendor", "Version", "FullVersion", "ProductUrl", "VendorUrl", "AppUrl"}

// SetProduct sets one of a product's texts by its element: Product, Vendor,
// Version, FullVersion, ProductUrl, VendorUrl or AppUrl. It is the product of
// the machine's first ProductSection, which is made where there is none.
func (d *Descriptor) SetProduct(machine, field, text string) error {
	if !slices.Contains(productOrder[1:], field) {
		return fmt.Errorf("a product has no %s: it has %s", field, strings.Join(productOrder[1:], ", "))
	}
	c, err := d.content(machine)
	if err != nil {
		return err
	}
	if len(c.Products) == 0 {
		if err := d.addSection(c, "ProductSection", "What is in this machine", ""); err != nil {
			return err
		}
		if c, err = d.content(machine); err != nil {
			return err
		}
	}
	return d.setText(c.Products[0].Element(), productOrder, field, text)
}

// addSection adds a section to a machine, before its hardware or its members.
func (d *Descriptor) addSection(c *ovf.Content, name, info, inner string) error {
	if d.env().Version == ovf.V09 {
		return fmt.Errorf("a descriptor of OVF 0.9 gets no new sections: convert the package first")
	}
	p, _ := tag(c.Element())
	made := "<" + p + name + "><" + p + "Info>" + xmldoc.EscapeText(info) + "</" + p + "Info>" + inner + "</" + p + name + ">"
	switch {
	case len(c.Hardware) > 0:
		return d.apply(ovf.InsertBefore(c.Hardware[0].Node, made))
	case len(c.Children) > 0:
		return d.apply(ovf.InsertBefore(c.Children[0].Node, made))
	}
	return d.apply(ovf.Append(c.Node, made))
}

// SetEULA sets the text of a machine's, or collection's, first licence, or adds
// one.
func (d *Descriptor) SetEULA(machine, text string) error {
	c, err := d.content(machine)
	if err != nil {
		return err
	}
	if len(c.EULAs) > 0 {
		return d.setText(c.EULAs[0].Element(), []string{"Info", "License"}, "License", text)
	}
	p, _ := tag(c.Element())
	return d.addSection(c, "EulaSection", "The licence", "<"+p+"License>"+xmldoc.EscapeText(text)+"</"+p+"License>")
}

// SetAnnotation sets the text of a machine's first annotation, or adds one.
func (d *Descriptor) SetAnnotation(machine, text string) error {
	c, err := d.content(machine)
	if err != nil {
		return err
	}
	for _, s := range c.Sections {
		if s.Known && s.Kind == ovf.AnnotationSection {
			return d.setText(s.Element(), []string{"Info", "Annotation"}, "Annotation", text)
		}
	}
	p, _ := tag(c.Element())
	return d.addSection(c, "AnnotationSection", "A note on this machine", "<"+p+"Annotation>"+xmldoc.EscapeText(text)+"</"+p+"Annotation>")
}

// SetFamily sets the virtual hardware family of a machine's only hardware
// section.
func (d *Descriptor) SetFamily(machine, family string) error {
	c, err := d.content(machine)
	if err != nil {
		return err
	}
	if len(c.Hardware) != 1 {
		return fmt.Errorf("machine %s has %d hardware sections, and the family of one can be set", c.ID, len(c.Hardware))
	}
	for _, e := range c.Hardware[0].Element().Children {
		if e.Local != "System" {
			continue
		}
		for _, f := range e.Children {
			if f.Local == "VirtualSystemType" {
				return d.apply(on(f.SetText(family)))
			}
		}
	}
	return fmt.Errorf("the System element of %s: %w", c.ID, ErrNotFound)
}

// SetConfig sets a vmw:Config of a machine's hardware, such as firmware, or adds
// it.
func (d *Descriptor) SetConfig(machine, key, value string) error {
	c, err := d.content(machine)
	if err != nil {
		return err
	}
	if len(c.Hardware) == 0 {
		return fmt.Errorf("the hardware of %s: %w", c.ID, ErrNotFound)
	}
	var edits []ovf.Edit
	for _, h := range c.Hardware {
		var found *xmldoc.Element
		for _, e := range h.Element().Children {
			if k, _ := e.Attr(ovf.NSVMware, "key"); e.Is(ovf.NSVMware, "Config") && k == key {
				found = e
			}
		}
		if found != nil {
			edit, err := found.SetAttr(ovf.NSVMware, "value", value)
			if err != nil {
				return err
			}
			edits = append(edits, on(edit))
			continue
		}
		prefix, declared := h.Element().PrefixFor(ovf.NSVMware, true)
		declaration := ""
		if !declared {
			prefix, declaration = "vmw", ` xmlns:vmw="`+ovf.NSVMware+`"`
		}
		_, a := tag(h.Element())
		edits = append(edits, ovf.Append(h.Node, fmt.Sprintf(`<%s:Config%s %srequired="false" %s:key="%s" %s:value="%s"/>`,
			prefix, declaration, a, prefix, xmldoc.EscapeAttr(key), prefix, xmldoc.EscapeAttr(value))))
	}
	return d.apply(edits...)
}

// fileOf gives the File of an ID.
func (d *Descriptor) fileOf(id string) *ovf.File {
	for _, f := range d.env().References {
		if f.ID == id {
			return f
		}
	}
	return nil
}

// uses says whether an element's subtree, or an attribute in it, refers to a
// file, leaving out some elements.
func (d *Descriptor) uses(id string, except []*xmldoc.Element) bool {
	used := false
	d.doc.Tree().Root().Walk(func(e *xmldoc.Element) bool {
		if slices.Contains(except, e) {
			return false
		}
		for i := range e.Attrs {
			if e.Attrs[i].Local == "fileRef" && e.Attrs[i].Value == id {
				used = true
			}
		}
		if e.Local == "HostResource" && strings.HasSuffix(strings.TrimSpace(e.Text()), "/file/"+id) {
			used = true
		}
		return !used
	})
	return used
}

// RemoveDisk takes a disk away, with the drives that it is in and, where
// nothing else uses it, its file. It gives the hrefs of files that are not part
// of the package any more.
func (d *Descriptor) RemoveDisk(id string) ([]string, error) {
	var names []string
	for _, x := range d.env().Disks {
		names = append(names, x.ID)
		if x.ID == id {
			return d.removeDisks([]*ovf.Disk{x}, nil)
		}
	}
	return nil, notFound("disk", id, names)
}

// removeDisks takes disks away, and one machine where gone is set.
func (d *Descriptor) removeDisks(list []*ovf.Disk, gone []*xmldoc.Element) (hrefs []string, err error) {
	except := slices.Clone(gone)
	var edits []ovf.Edit
	for _, x := range list {
		for _, other := range d.env().Disks {
			if other.ParentRef == x.ID && !slices.Contains(list, other) {
				return nil, fmt.Errorf("disk %q is what disk %q is a delta of: remove that first", x.ID, other.ID)
			}
		}
		except = append(except, x.Element())
		d.items(func(i *ovf.Item) {
			holds := slices.ContainsFunc(i.HostResources, func(h string) bool { return strings.HasSuffix(h, "/disk/"+x.ID) })
			if holds && !below(i.Element(), gone) {
				except = append(except, i.Element())
				edits = append(edits, ovf.Remove(i.Node))
			}
		})
	}
	section := map[*xmldoc.Element]int{}
	for _, x := range list {
		section[x.Element().Parent]++
	}
	for _, x := range list {
		s := x.Element().Parent
		rest := 0
		for _, c := range s.Children {
			if c.Local == "Disk" || c.Local == "SharedDisk" {
				rest++
			}
		}
		if rest == section[s] { // nothing would be left in it
			if section[s] > 0 {
				edits = append(edits, on(s.Remove()))
			}
			section[s] = -1
			continue
		}
		if section[s] > 0 {
			edits = append(edits, ovf.Remove(x.Node))
		}
	}
	done := map[string]bool{}
	for _, x := range list {
		if f := d.fileOf(x.FileRef); f != nil && !done[f.ID] && !d.uses(f.ID, except) {
			done[f.ID] = true
			edits = append(edits, ovf.Remove(f.Node))
			hrefs = append(hrefs, f.Href)
		}
	}
	for _, e := range gone {
		edits = append(edits, on(e.Remove()))
	}
	return hrefs, d.apply(edits...)
}

func below(e *xmldoc.Element, of []*xmldoc.Element) bool {
	for ; e != nil; e = e.Parent {
		if slices.Contains(of, e) {
			return true
		}
	}
	return false
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

// RemoveFile takes a file away that nothing refers to. It gives its href.
func (d *Descriptor) RemoveFile(id string) (string, error) {
	var names []string
	for _, f := range d.env().References {
		names = append(names, f.ID)
	}
	f := d.fileOf(id)
	if f == nil {
		return "", notFound("file", id, names)
	}
	if d.uses(id, []*xmldoc.Element{f.Element()}) {
		return "", fmt.Errorf("file %q is in use: remove the disk, or what else refers to it, first", id)
	}
	return f.Href, d.apply(ovf.Remove(f.Node))
}

// references gives the References element.
func (d *Descriptor) references() (*xmldoc.Element, error) {
	for _, e := range d.doc.Tree().Root().Children {
		if e.Local == "References" {
			return e, nil
		}
	}
	return nil, fmt.Errorf("the References element: %w", ErrNotFound)
}

// AddFile adds a File element. Its size is set by SetFileSize.
func (d *Descriptor) AddFile(id, href string) error {
	for _, f := range d.env().References {
		if f.ID == id || f.Href == href {
			return fmt.Errorf("there is a file %s in %s already", f.ID, f.Href)
		}
	}
	refs, err := d.references()
	if err != nil {
		return err
	}
	p, a := tag(refs)
	return d.apply(on(refs.Append(fmt.Sprintf(`<%sFile %sid="%s" %shref="%s"/>`, p, a, xmldoc.EscapeAttr(id), a, xmldoc.EscapeAttr(href)))))
}

// SetFileSize sets a file's size in bytes.
func (d *Descriptor) SetFileSize(id string, n int64) error {
	f := d.fileOf(id)
	if f == nil {
		return notFound("file", id, nil)
	}
	return d.apply(ovf.SetAttr(f.Node, "size", strconv.FormatInt(n, 10)))
}

// Disk is a disk that is added.
type Disk struct {
	ID, FileID, Href string
	// Capacity is in bytes, Format the URI.
	Capacity int64
	Format   string
}

// AddDisk adds a disk to a machine, behind its last one.
func (d *Descriptor) AddDisk(machine string, x Disk) error {
	c, err := d.content(machine)
	if err != nil {
		return err
	}
	if len(c.Hardware) != 1 || d.env().Version == ovf.V09 {
		return fmt.Errorf("machine %s: a disk is added to a machine of OVF 1 or 2 with one hardware section: convert the package first", c.ID)
	}
	for _, other := range d.env().Disks {
		if other.ID == x.ID {
			return fmt.Errorf("there is a disk %q already", x.ID)
		}
	}
	spot, err := free(c.Hardware[0])
	if err != nil {
		return fmt.Errorf("machine %s: %w", c.ID, err)
	}
	if x.FileID != "" {
		if err := d.AddFile(x.FileID, x.Href); err != nil {
			return err
		}
	}
	root := d.doc.Tree().Root()
	p, a := tag(root)
	ref := ""
	if x.FileID != "" {
		ref = fmt.Sprintf(` %sfileRef="%s"`, a, xmldoc.EscapeAttr(x.FileID))
	}
	made := fmt.Sprintf(`<%sDisk %sdiskId="%s"%s %scapacity="%d" %sformat="%s"/>`, p, a, xmldoc.EscapeAttr(x.ID), ref, a, x.Capacity, a, xmldoc.EscapeAttr(x.Format))
	var edits []ovf.Edit
	for _, s := range d.env().Sections {
		if s.Known && s.Kind == ovf.DiskSection && edits == nil {
			edits = append(edits, ovf.Append(s.Node, made))
		}
	}
	if edits == nil {
		refs, err := d.references()
		if err != nil {
			return err
		}
		edit, err := refs.InsertAfter("<" + p + "DiskSection><" + p + "Info>Virtual disk information</" + p + "Info>" + made + "</" + p + "DiskSection>")
		if err != nil {
			return err
		}
		edits = append(edits, on(edit))
	}
	c, err = d.content(machine)
	if err != nil {
		return err
	}
	edit, err := driveItem(c.Hardware[0], x.ID, spot)
	if err != nil {
		return err
	}
	return d.apply(append(edits, edit)...)
}

// place is where a new drive goes.
type place struct {
	id, parent string
	slot       int
	like       *ovf.Item // the drive that it is written like
}

// free finds room beside the last disk drive.
func free(h *ovf.Hardware) (place, error) {
	var p place
	highest := 0
	for _, i := range h.Items {
		if n, err := strconv.Atoi(i.InstanceID); err == nil {
			highest = max(highest, n)
		}
		if i.ResourceType == ovf.DiskDrive && i.Bound == "" {
			p.like = i
		}
	}
	if p.like == nil {
		return p, errors.New("it has no disk drive that a new one could be put beside")
	}
	p.id, p.parent = strconv.Itoa(highest+1), p.like.Parent
	room := 1 << 10
	for _, i := range h.Items {
		if i.InstanceID == p.parent && i.ResourceType == ovf.IDEController {
			room = 2
		}
		if i.InstanceID == p.parent && i.ResourceType == ovf.SCSIController {
			room = 16
		}
		if n, err := strconv.Atoi(i.AddressOnParent); err == nil && i.Parent == p.parent {
			p.slot = max(p.slot, n+1)
		}
	}
	if p.slot == 7 && room == 16 {
		p.slot++ // the controller's own
	}
	if p.slot >= room {
		return p, fmt.Errorf("there is no room on the controller %s", p.parent)
	}
	return p, nil
}

// driveItem writes a drive, like the one that it is put beside.
func driveItem(h *ovf.Hardware, disk string, at place) (ovf.Edit, error) {
	var like *ovf.Item
	for _, i := range h.Items {
		if i.InstanceID == at.like.InstanceID && i.ResourceType == ovf.DiskDrive && i.Bound == "" {
			like = i
		}
	}
	if like == nil {
		return nil, errors.New("the drive to put the new one beside is gone")
	}
	e := like.Element()
	prefix := ""
	for _, c := range e.Children {
		if c.Local == "InstanceID" {
			prefix = cmp.Or(c.Prefix, "")
		}
	}
	if prefix != "" {
		prefix += ":"
	}
	var b strings.Builder
	name := e.Name()
	fmt.Fprintf(&b, "<%s>", name)
	for _, f := range [][2]string{
		{"AddressOnParent", strconv.Itoa(at.slot)}, {"ElementName", "Disk " + disk}, {"HostResource", "ovf:/disk/" + disk},
		{"InstanceID", at.id}, {"Parent", at.parent}, {"ResourceType", strconv.Itoa(int(ovf.DiskDrive))},
	} {
		if f[1] != "" {
			fmt.Fprintf(&b, "<%s%s>%s</%s%s>", prefix, f[0], xmldoc.EscapeText(f[1]), prefix, f[0])
		}
	}
	fmt.Fprintf(&b, "</%s>", name)
	return ovf.InsertAfter(like.Node, b.String()), nil
}
