package edit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ovation-project/ovation/author/descriptor"
	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/internal/xmldoc"
	"github.com/ovation-project/ovation/ovf"
)

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

// AddDisk adds a disk to a machine: behind its last one, or where there is room
// for it on a controller; where there is none, with a controller of its own.
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
	spot := free(c.Hardware[0])
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
	drive, err := d.drive(c.Hardware[0], x.ID, spot)
	if err != nil {
		return err
	}
	return d.apply(append(edits, drive...)...)
}

// place is where a new drive goes.
type place struct {
	id, parent string
	slot       int
	like       *ovf.Item // the drive that it is written like, nil for none
	// controller is one that has to be made for it, in front of it.
	controller *spec.Device
}

// room is how many drives a controller takes, and the place that is its own.
func room(c *ovf.Item) (units, own int) {
	model := strings.ToLower(strings.Join(c.SubTypes, " "))
	switch {
	case c.ResourceType == ovf.IDEController:
		return 2, -1
	case c.ResourceType == ovf.SCSIController && !strings.Contains(model, "virtio"):
		return 16, 7
	case c.ResourceType == ovf.SCSIController:
		return 16, -1
	case c.ResourceType == ovf.OtherStorage && strings.Contains(model, "nvme"):
		return 15, -1
	case c.ResourceType == ovf.OtherStorage && (strings.Contains(model, "ahci") || strings.Contains(model, "sata")):
		return 30, -1
	}
	return 0, -1
}

// free finds room for a drive: beside the last disk drive, on another
// controller, or on a new one.
func free(h *ovf.Hardware) place {
	var p place
	highest, scsi := 0, 0
	var controllers []*ovf.Item
	for _, i := range h.Items {
		if n, err := strconv.Atoi(i.InstanceID); err == nil {
			highest = max(highest, n)
		}
		if i.Bound != "" && i.Bound != "normal" {
			continue
		}
		if units, _ := room(i); units > 0 {
			controllers = append(controllers, i)
		}
		if i.ResourceType == ovf.SCSIController {
			scsi++
		}
		if i.ResourceType == ovf.DiskDrive {
			p.like = i
		}
	}
	p.id = strconv.Itoa(highest + 1)
	last := func(parent string) (slot int) {
		for _, i := range h.Items {
			if n, err := strconv.Atoi(i.AddressOnParent); err == nil && i.Parent == parent {
				slot = max(slot, n+1)
			}
		}
		return slot
	}
	if p.like != nil {
		at := slices.IndexFunc(controllers, func(c *ovf.Item) bool { return c.InstanceID == p.like.Parent })
		if at < 0 { // nobody knows how many it takes
			p.parent, p.slot = p.like.Parent, last(p.like.Parent)
			return p
		}
		controllers = slices.Concat(controllers[at:], controllers[:at])
	}
	for _, c := range controllers {
		units, own := room(c)
		slot := last(c.InstanceID)
		if slot == own {
			slot++
		}
		if slot < units {
			p.parent, p.slot = c.InstanceID, slot
			return p
		}
	}
	name := fmt.Sprintf("SCSI controller %d", scsi)
	p.controller = &spec.Device{Type: spec.DeviceTypeName(ovf.SCSIController), ID: p.id, Name: &name, SubTypes: []string{"lsilogic"}, Address: strconv.Itoa(scsi)}
	p.parent, p.id = p.id, strconv.Itoa(highest+2)
	return p
}

// drive gives the edits that put a drive, and its controller where it needs
// one, into hardware.
func (d *Descriptor) drive(h *ovf.Hardware, disk string, p place) ([]ovf.Edit, error) {
	name := "Disk " + disk
	pieces := []spec.Device{{Type: spec.DeviceTypeName(ovf.DiskDrive), ID: p.id, Name: &name, Disk: disk, Parent: p.parent, Slot: strconv.Itoa(p.slot)}}
	if p.controller != nil {
		pieces = append([]spec.Device{*p.controller}, pieces...)
	}
	after := h.Node
	for _, i := range h.Items {
		if p.like == nil || i.InstanceID == p.like.InstanceID && i.ResourceType == ovf.DiskDrive {
			after = i.Node
		}
	}
	major, _ := descriptor.Major(d.doc)
	var text []string
	for _, x := range pieces {
		if p.like != nil && x.Disk != "" {
			x.Element = string(p.like.Kind)
		}
		t, err := descriptor.Item(x, descriptor.Place{Major: major, In: h.Element()})
		if err != nil {
			return nil, err
		}
		text = append(text, t)
	}
	if len(h.Items) == 0 {
		return []ovf.Edit{ovf.Append(h.Node, strings.Join(text, "\n"))}, nil
	}
	return []ovf.Edit{ovf.InsertAfter(after, strings.Join(text, "\n"))}, nil
}
