package lint

import (
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/ovation-project/ovation/internal/xmldoc"
	"github.com/ovation-project/ovation/ovf"
)

// general judges the envelope as a whole.
func (c *checker) general() {
	tree := c.doc.Tree()
	seen := map[string]bool{}
	for _, u := range tree.Undeclared() {
		if !seen[u.Prefix] {
			seen[u.Prefix] = true
			c.reportAt("OVF-XML-001", u.Offset, "the prefix %q is not declared", u.Prefix)
		}
	}
	root := tree.Root()
	switch root.Space {
	case ovf.NS09, ovf.NS1, ovf.NS2:
	default:
		c.report("OVF-ENV-001", root, "the envelope is in the namespace %q, which is not OVF's", root.Space)
	}
	if v, at, ok := c.attr(root, "version"); ok && !versionFits(root.Space, v) {
		c.reportAt("OVF-ENV-005", at, "ovf:version %q is not of the namespace %s", v, root.Space)
	}
	switch {
	case c.env.Content == nil:
		c.report("OVF-ENV-002", root, "there is neither a VirtualSystem nor a VirtualSystemCollection")
	case len(c.env.Others) > 0:
		c.report("OVF-ENV-002", c.env.Others[0].Element(), "there is a second VirtualSystem or VirtualSystemCollection at the top")
	}
	if c.child(root, "References") == nil {
		c.report("OVF-ENV-003", root, "there is no References element")
	}
	c.order(root)
	for _, s := range c.env.Sections {
		c.section(s, "envelope")
	}
	c.once(c.env.Sections, ovf.DiskSection, ovf.NetworkSection, ovf.DeploymentOptionSection, ovf.SharedDiskSection)
	ids := c.unique("OVF-ENV-007", "ID")
	c.env.Content.Walk(func(x *ovf.Content) {
		if x.ID == "" {
			c.report("OVF-ENV-006", x.Element(), "the %s has no ID", x.Kind)
		}
		ids(x.ID, x.Element())
	})
}

func versionFits(space, version string) bool {
	switch space {
	case ovf.NS09:
		return version == "0.9"
	case ovf.NS1:
		return strings.HasPrefix(version, "1.")
	case ovf.NS2:
		return strings.HasPrefix(version, "2.")
	}
	return true
}

// order sees that References, sections, content and Strings come one after the
// other.
func (c *checker) order(root *xmldoc.Element) {
	last, lastName := 0, ""
	for _, e := range root.Children {
		rank := 1
		switch e.Local {
		case "References":
			rank = 0
		case "VirtualSystem", "VirtualSystemCollection", "Content":
			rank = 2
		case "Strings":
			rank = 3
		}
		if rank < last {
			c.report("OVF-ENV-004", e, "%s comes after %s", e.Local, lastName)
			return
		}
		last, lastName = rank, e.Local
	}
}

// places says where the standard's sections may stand.
var places = map[ovf.SectionKind][]string{
	ovf.DiskSection:               {"envelope"},
	ovf.NetworkSection:            {"envelope"},
	ovf.DeploymentOptionSection:   {"envelope"},
	ovf.SharedDiskSection:         {"envelope"},
	ovf.PlacementGroupSection:     {"envelope"},
	ovf.EncryptionSection:         {"envelope"},
	ovf.AnnotationSection:         {"system", "collection"},
	ovf.ProductSection:            {"system", "collection"},
	ovf.EulaSection:               {"system", "collection"},
	ovf.OperatingSystemSection:    {"system"},
	ovf.InstallSection:            {"system"},
	ovf.VirtualHardwareSection:    {"system"},
	ovf.EnvironmentFilesSection:   {"system"},
	ovf.BootDeviceSection:         {"system"},
	ovf.PlacementSection:          {"system", "collection"},
	ovf.ScaleOutSection:           {"collection"},
	ovf.StartupSection:            {"collection"},
	ovf.ResourceAllocationSection: {"collection"},
}

// vendors are namespaces whose elements are known to be of use to one vendor's
// products and of none to others.
func isVendor(space string) bool {
	return strings.HasPrefix(space, "http://www.vmware.com/") || strings.HasPrefix(space, "http://www.virtualbox.org/") ||
		strings.HasPrefix(space, "http://schemas.citrix.com/") || strings.HasPrefix(space, "http://www.citrix.com/")
}

// isOVF is for namespaces of other versions of OVF, whose sections are known.
func isOVF(space string) bool { return space == ovf.NS09 || space == ovf.NS1 || space == ovf.NS2 }

// section judges what holds for every section.
func (c *checker) section(s *ovf.Section, where string) {
	e := s.Element()
	if v, at, ok := c.attr(e, "required"); ok && !isBoolean(v) {
		c.reportAt("OVF-EXT-003", at, "ovf:required is %q", v)
	}
	allowed, standard := places[s.Kind]
	standard = standard && (c.own(s.Space) || isOVF(s.Space))
	if !standard {
		if !isOVF(s.Space) && !c.own(s.Space) && isVendor(s.Space) {
			if !s.Known {
				c.report("OVF-EXT-002", e, "the section %s is %s, a vendor's own", s.Kind, s.Space)
			}
			return
		}
		if s.Required {
			c.report("OVF-EXT-001", e, "the section %s is not of the standard, and is required", s.Kind)
		} else {
			c.report("OVF-EXT-002", e, "the section %s is not of the standard", s.Kind)
		}
		return
	}
	placed := false
	for _, a := range allowed {
		placed = placed || a == where
	}
	if !placed {
		id := "OVF-SEC-001"
		if s.Kind == ovf.ResourceAllocationSection {
			id = "OVF-RES-001"
		}
		c.report(id, e, "a %s does not stand in %s", s.Kind, map[string]string{
			"envelope": "the envelope", "system": "a VirtualSystem", "collection": "a VirtualSystemCollection",
		}[where])
	}
	if c.child(e, "Info") == nil {
		c.report("OVF-SEC-003", e, "the %s has no Info", s.Kind)
	}
	c.unknownChildren(s)
}

func isBoolean(v string) bool {
	switch strings.TrimSpace(v) {
	case "true", "false", "0", "1":
		return true
	}
	return false
}

// once reports sections of these kinds that come twice.
func (c *checker) once(sections []*ovf.Section, kinds ...ovf.SectionKind) {
	for _, k := range kinds {
		n := 0
		for _, s := range sections {
			if s.Kind != k || !c.own(s.Space) {
				continue
			}
			if n++; n == 2 {
				c.report("OVF-SEC-002", s.Element(), "there is a %s before this one", k)
			}
		}
	}
}

// knownChildren are the elements of the standard in its sections.
var knownChildren = map[ovf.SectionKind]string{
	ovf.DiskSection:               " Info Disk ",
	ovf.SharedDiskSection:         " Info SharedDisk Disk ",
	ovf.NetworkSection:            " Info Network ",
	ovf.DeploymentOptionSection:   " Info Configuration ",
	ovf.AnnotationSection:         " Info Annotation ",
	ovf.ProductSection:            " Info Product Vendor Version FullVersion ProductUrl VendorUrl AppUrl Icon Category Property ",
	ovf.EulaSection:               " Info License ",
	ovf.OperatingSystemSection:    " Info Description ",
	ovf.InstallSection:            " Info ",
	ovf.VirtualHardwareSection:    " Info System Item StorageItem EthernetPortItem ",
	ovf.StartupSection:            " Info Item ",
	ovf.ResourceAllocationSection: " Info Item StorageItem EthernetPortItem ",
	ovf.EnvironmentFilesSection:   " Info File ",
	ovf.ScaleOutSection:           " Info Description InstanceCount ",
	ovf.PlacementGroupSection:     " Info Description ",
	ovf.PlacementSection:          " Info ",
}

// unknownChildren reports elements of nobody's within a section.
func (c *checker) unknownChildren(s *ovf.Section) {
	known, ok := knownChildren[s.Kind]
	if !ok {
		return
	}
	for _, e := range s.Element().Children {
		if c.own(e.Space) && strings.Contains(known, " "+e.Local+" ") {
			continue
		}
		c.foreign(e, string(s.Kind))
	}
}

// foreign reports an element that the standard does not have.
func (c *checker) foreign(e *xmldoc.Element, in string) {
	if isVendor(e.Space) && !c.own(e.Space) {
		return
	}
	if v, _, ok := c.attr(e, "required"); ok && (strings.TrimSpace(v) == "false" || v == "0") {
		c.report("OVF-EXT-002", e, "the element %s in %s is not of the standard", e.Name(), in)
		return
	}
	c.report("OVF-EXT-001", e, "the element %s in %s is not of the standard, and is required", e.Name(), in)
}

func (c *checker) references() {
	ids, hrefs := c.unique("OVF-REF-003", "ID"), c.unique("OVF-REF-009", "href")
	used := c.usedFiles()
	for _, f := range c.env.References {
		e := f.Element()
		if f.ID == "" {
			c.report("OVF-REF-001", e, "the File %q has no ID", f.Href)
		}
		ids(f.ID, e)
		if f.Href == "" {
			c.report("OVF-REF-002", e, "the File %q has no href", f.ID)
		} else {
			hrefs(f.Href, e)
			c.href(f)
		}
		if v, at, ok := c.attr(e, "size"); ok {
			c.size(f, v, at)
		}
		if v, at, ok := c.attr(e, "compression"); ok {
			switch {
			case v == "identity" && c.env.Version == ovf.V09:
				c.reportAt("OVF-REF-011", at, "File %q: compression %q", f.ID, v)
			case v != "gzip" && v != "identity" && v != "":
				c.reportAt("OVF-REF-006", at, "File %q: compression %q is not known", f.ID, v)
			}
		}
		if v, at, ok := c.attr(e, "chunkSize"); ok {
			if n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64); err != nil || n <= 0 {
				c.reportAt("OVF-REF-007", at, "File %q: chunkSize %q", f.ID, v)
			}
		}
		if f.ID != "" && !used[f.ID] {
			c.report("OVF-REF-010", e, "File %q is not used", f.ID)
		}
	}
}

func (c *checker) href(f *ovf.File) {
	_, at, _ := c.attr(f.Element(), "href")
	u, err := url.Parse(f.Href)
	switch {
	case err != nil && strings.ContainsAny(f.Href, "%"):
		c.reportAt("OVF-REF-012", at, "File %q: href %q is no URI", f.ID, f.Href)
	case err == nil && (u.Scheme != "" || u.Host != ""):
		c.reportAt("OVF-REF-008", at, "File %q is elsewhere: %s", f.ID, f.Href)
	case path.IsAbs(f.Href) || strings.HasPrefix(path.Clean(f.Href), ".."):
		c.reportAt("OVF-REF-008", at, "File %q lies outside of the descriptor's folder: %s", f.ID, f.Href)
	}
}

// size judges ovf:size. Products that do not know a size have been seen to write
// -1 or -2; other negative numbers are overflows.
func (c *checker) size(f *ovf.File, v string, at int) {
	v = strings.TrimSpace(v)
	if _, err := strconv.ParseUint(v, 10, 63); err == nil {
		return
	}
	if n, err := strconv.ParseInt(v, 10, 64); err == nil && n >= -2 {
		c.reportAt("OVF-REF-005", at, "File %q: size %s is negative", f.ID, v)
		return
	}
	if key, ok := ovf.Reference(v); ok && key != "" {
		return
	}
	c.reportAt("OVF-REF-004", at, "File %q: size %q is no number of bytes", f.ID, v)
}

// usedFiles finds the IDs of files that something refers to.
func (c *checker) usedFiles() map[string]bool {
	used := map[string]bool{}
	c.doc.Tree().Root().Walk(func(e *xmldoc.Element) bool {
		for i := range e.Attrs {
			if e.Attrs[i].Local == "fileRef" {
				used[e.Attrs[i].Value] = true
			}
		}
		if e.Local == "HostResource" {
			if kind, id, ok := hostResource(e.Text()); ok && kind == "file" {
				used[id] = true
			}
		}
		return true
	})
	return used
}

// hostResource reads ovf:/disk/ID and its variants.
func hostResource(s string) (kind, id string, ok bool) {
	s = strings.TrimSpace(s)
	if len(s) >= 4 && strings.EqualFold(s[:4], "ovf:") {
		s = s[4:]
	}
	s = strings.TrimLeft(s, "/")
	kind, id, ok = strings.Cut(s, "/")
	return kind, id, ok && (kind == "disk" || kind == "file") && id != ""
}

func (c *checker) disks() {
	ids := c.unique("OVF-DISK-002", "diskId")
	files := map[string]bool{}
	for _, f := range c.env.References {
		files[f.ID] = true
	}
	disks := map[string]*ovf.Disk{}
	for _, d := range c.env.Disks {
		if disks[d.ID] == nil {
			disks[d.ID] = d
		}
	}
	taken := map[string]*ovf.Disk{}
	for _, d := range c.env.Disks {
		e := d.Element()
		if d.ID == "" {
			c.report("OVF-DISK-001", e, "the Disk has no diskId")
		}
		ids(d.ID, e)
		c.capacity(d)
		if d.FileRef != "" {
			_, at, _ := c.attr(e, "fileRef")
			if !files[d.FileRef] {
				c.reportAt("OVF-DISK-007", at, "Disk %q: there is no File %q", d.ID, d.FileRef)
			}
			if first := taken[d.FileRef]; first != nil && !d.Shared && !first.Shared {
				c.reportAt("OVF-DISK-008", at, "Disk %q has the File %q, which is the content of Disk %q", d.ID, d.FileRef, first.ID)
			}
			taken[d.FileRef] = d
		}
		if _, _, ok := c.attr(e, "format"); !ok {
			c.report("OVF-DISK-009", e, "Disk %q has no format", d.ID)
		}
		if d.ParentRef != "" {
			_, at, _ := c.attr(e, "parentRef")
			switch {
			case disks[d.ParentRef] == nil:
				c.reportAt("OVF-DISK-010", at, "Disk %q: there is no Disk %q", d.ID, d.ParentRef)
			case loops(disks, d):
				c.reportAt("OVF-DISK-011", at, "Disk %q is a delta of itself", d.ID)
			}
		}
	}
}

// loops says whether a disk's parents lead back to it.
func loops(disks map[string]*ovf.Disk, d *ovf.Disk) bool {
	up := disks[d.ParentRef]
	for range disks {
		if up == nil {
			return false
		}
		if up == d {
			return true
		}
		up = disks[up.ParentRef]
	}
	return false
}

func (c *checker) capacity(d *ovf.Disk) {
	e := d.Element()
	v, at, ok := c.attr(e, "capacity")
	if !ok || strings.TrimSpace(v) == "" {
		c.report("OVF-DISK-003", e, "Disk %q has no capacity", d.ID)
		return
	}
	unit, _ := ovf.ParseUnit("byte")
	if u, uat, ok := c.attr(e, "capacityAllocationUnits"); ok {
		var err error
		unit, err = ovf.ParseUnit(u)
		switch {
		case err != nil || unit.Base != "byte":
			c.reportAt("OVF-DISK-005", uat, "Disk %q: %q is no unit of bytes", d.ID, u)
			return
		case !unit.Standard:
			c.reportAt("OVF-DISK-006", uat, "Disk %q: %q is not a programmatic unit", d.ID, u)
		}
	}
	size := int64(-1)
	if key, ok := ovf.Reference(v); ok {
		if !c.hasProperty(key) {
			c.reportAt("OVF-DISK-014", at, "Disk %q: there is no property %q", d.ID, key)
		}
	} else if n, err := unit.Quantity(v); err == nil && n > 0 {
		size = n
	} else {
		c.reportAt("OVF-DISK-004", at, "Disk %q: the capacity %q is no number of bytes above zero", d.ID, v)
	}
	if v, at, ok := c.attr(e, "populatedSize"); ok {
		n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		switch {
		case err != nil || n < 0:
			c.reportAt("OVF-DISK-012", at, "Disk %q: populatedSize %q", d.ID, v)
		case size >= 0 && n > size:
			c.reportAt("OVF-DISK-013", at, "Disk %q: populatedSize %d is more than the capacity %d", d.ID, n, size)
		}
	}
}

func (c *checker) hasProperty(key string) bool {
	found := false
	c.env.Content.Walk(func(x *ovf.Content) {
		for _, p := range x.Products {
			for _, q := range p.Properties {
				found = found || q.Key == key || q.FullKey == key
			}
		}
	})
	return found
}

func (c *checker) networks() {
	names := c.unique("OVF-NET-002", "name")
	for _, n := range c.env.Networks {
		if n.Name == "" {
			c.report("OVF-NET-001", n.Element(), "the Network has no name")
		}
		names(n.Name, n.Element())
	}
}

func (c *checker) options() {
	ids := c.unique("OVF-DEPL-002", "ID")
	defaults := 0
	for _, o := range c.env.Options {
		e := o.Element()
		if o.ID == "" {
			c.report("OVF-DEPL-001", e, "the Configuration has no ID")
		}
		ids(o.ID, e)
		if o.Default {
			if defaults++; defaults == 2 {
				c.report("OVF-DEPL-003", e, "Configuration %q is a second default", o.ID)
			}
		}
		if o.Label.Text == "" {
			c.report("OVF-DEPL-005", e, "Configuration %q has no Label", o.ID)
		}
	}
}

func (c *checker) hasOption(id string) bool {
	for _, o := range c.env.Options {
		if o.ID == id {
			return true
		}
	}
	return false
}

func (c *checker) bundles() {
	files := map[string]bool{}
	for _, f := range c.env.References {
		files[f.ID] = true
	}
	known := map[string]bool{}
	outside := false
	for _, b := range c.env.Bundles {
		e := b.Element()
		if b.Lang == "" && b.FileRef == "" {
			c.report("OVF-MSG-001", e, "the Strings element does not say its language")
		}
		if b.FileRef != "" {
			outside = true
			if !files[b.FileRef] {
				c.report("OVF-MSG-002", e, "there is no File %q", b.FileRef)
			}
		}
		for _, m := range e.Children {
			if m.Local != "Msg" {
				continue
			}
			id, _, ok := c.attr(m, "msgid")
			if !ok || id == "" {
				c.report("OVF-MSG-003", m, "the Msg has no msgid")
			}
			known[id] = true
		}
	}
	if outside || len(c.env.Bundles) == 0 {
		return // what a file holds is not known here
	}
	c.doc.Tree().Root().Walk(func(e *xmldoc.Element) bool {
		if e.Local == "Strings" {
			return false
		}
		if id, at, ok := c.attr(e, "msgid"); ok && !known[id] {
			c.reportAt("OVF-MSG-004", at, "there is no message %q in any language", id)
		}
		return true
	})
}

// bytesOf works out a capacity that is a number.
func (c *checker) bytesOf(value, units string) (int64, bool) {
	if units == "" {
		units = "byte"
	}
	unit, err := ovf.ParseUnit(units)
	if err != nil || unit.Base != "byte" {
		return 0, false
	}
	n, err := unit.Quantity(value)
	return n, err == nil
}
