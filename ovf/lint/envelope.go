package lint

import (
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
	c.twice(root, "Envelope", " References ")
	for _, s := range c.env.Sections {
		c.section(s, "envelope")
	}
	c.once(c.env.Sections, ovf.DiskSection, ovf.NetworkSection, ovf.DeploymentOptionSection, ovf.SharedDiskSection, ovf.EncryptionSection)
	ids := c.unique("OVF-ENV-007", "ID")
	c.env.Content.Walk(func(x *ovf.Content) {
		if x.ID == "" {
			c.report("OVF-ENV-006", x.Element(), "the %s has no ID", x.Kind)
		}
		if c.child(x.Element(), "Info") == nil {
			c.report("OVF-ENV-009", x.Element(), "the %s %q has no Info", x.Kind, x.ID)
		}
		if x.Kind == ovf.VirtualSystem && len(x.Children) > 0 {
			c.report("OVF-ENV-011", x.Children[0].Element(), "the VirtualSystem %q holds a %s", x.ID, x.Children[0].Kind)
		}
		c.contentType(x)
		ids(x.ID, x.Element())
	})
}

// contentType judges the xsi:type of a Content element, as 0.9 has it.
func (c *checker) contentType(x *ovf.Content) {
	e := x.Element()
	if e.Local != "Content" {
		return
	}
	for i := range e.Attrs {
		if a := &e.Attrs[i]; a.Local == "type" && a.Prefix != "" {
			_, kind, found := strings.Cut(strings.TrimSpace(a.Value), ":")
			if !found {
				kind = a.Value
			}
			if kind != "VirtualSystem_Type" && kind != "VirtualSystemCollection_Type" {
				c.reportAt("OVF-ENV-010", a.Span.Start, "the Content %q is of the type %q", x.ID, a.Value)
			}
			return
		}
	}
	c.report("OVF-ENV-010", e, "the Content %q does not say its type", x.ID)
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
			switch {
			case s.Known:
			case s.Required:
				c.report("OVF-EXT-004", e, "the section %s of %s, a vendor's own, is required", s.Kind, s.Space)
			default:
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
		c.report(id, e, "the %s stands in %s, where it is not allowed", s.Kind, map[string]string{
			"envelope": "the envelope", "system": "a VirtualSystem", "collection": "a VirtualSystemCollection",
		}[where])
	}
	if c.child(e, "Info") == nil {
		c.report("OVF-SEC-003", e, "the %s has no Info", s.Kind)
	}
	if strings.Contains(later, " "+string(s.Kind)+" ") {
		c.later(e, s.Space, string(s.Kind), s.Required)
	}
	c.twice(e, string(s.Kind), onceChildren[s.Kind])
	c.unknownChildren(s)
}

// isBoolean says whether a text is an xs:boolean.
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
				c.report("OVF-SEC-002", s.Element(), "there is another %s before this one", k)
			}
		}
	}
}

// later are the sections and items that came with OVF 2.x.
const later = " EnvironmentFilesSection BootDeviceSection SharedDiskSection ScaleOutSection PlacementGroupSection" +
	" PlacementSection EncryptionSection StorageItem EthernetPortItem "

// later reports what readers of a descriptor's version cannot know.
func (c *checker) later(e *xmldoc.Element, space, what string, required bool) {
	if space == ovf.NS2 || c.env.Version.Major() != 0 && c.env.Version.Major() != 1 {
		return
	}
	if required {
		c.report("OVF-EXT-005", e, "the %s came with OVF 2.x, is required, and this is a descriptor of OVF %s", what, c.env.Version)
	} else {
		c.report("OVF-EXT-002", e, "the %s came with OVF 2.x, and this is a descriptor of OVF %s", what, c.env.Version)
	}
}

// onceChildren are the elements that a section has once at most.
var onceChildren = map[ovf.SectionKind]string{
	ovf.DiskSection:               " Info ",
	ovf.NetworkSection:            " Info ",
	ovf.DeploymentOptionSection:   " Info ",
	ovf.AnnotationSection:         " Info Annotation ",
	ovf.ProductSection:            " Info Product Vendor Version FullVersion ProductUrl VendorUrl AppUrl ",
	ovf.EulaSection:               " Info License ",
	ovf.OperatingSystemSection:    " Info Description ",
	ovf.InstallSection:            " Info ",
	ovf.VirtualHardwareSection:    " Info System ",
	ovf.StartupSection:            " Info ",
	ovf.ResourceAllocationSection: " Info ",
	ovf.ScaleOutSection:           " Info Description InstanceCount ",
	ovf.PlacementGroupSection:     " Info Description ",
}

// twice reports the second of elements that stand once.
func (c *checker) twice(e *xmldoc.Element, in, once string) {
	for i, k := range e.Children {
		if !c.own(k.Space) || !strings.Contains(once, " "+k.Local+" ") {
			continue
		}
		for _, before := range e.Children[:i] {
			if before.Local == k.Local && c.own(before.Space) {
				c.report("OVF-SEC-004", k, "the %s has another %s in line %d", in, k.Local, line(before))
				return
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
		if !c.own(e.Space) || !strings.Contains(known, " "+e.Local+" ") {
			c.foreign(e, string(s.Kind))
		} else {
			c.unknownIn(e)
		}
	}
}

// knownWithin are the elements of OVF 1.x in the elements of its sections and
// of the References.
var knownWithin = map[string]string{
	"File": " ", "Disk": " ", "Icon": " ", "Network": " Description ", "Configuration": " Label Description ",
	"Property": " Label Description Value ",
}

// unknownIn reports elements of nobody's within an element of a section. What
// 2.x has there depends on its profiles, and is not judged.
func (c *checker) unknownIn(e *xmldoc.Element) {
	known, ok := knownWithin[e.Local]
	if !ok || c.env.Version.Major() > 1 {
		return
	}
	for _, k := range e.Children {
		if !c.own(k.Space) || !strings.Contains(known, " "+k.Local+" ") {
			c.foreign(k, e.Local)
		}
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
	for _, s := range c.env.Sections {
		if s.Kind == ovf.DeploymentOptionSection && c.own(s.Space) && c.child(s.Element(), "Configuration") == nil {
			c.report("OVF-DEPL-007", s.Element(), "the DeploymentOptionSection has no Configuration")
		}
	}
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
		if v, at, ok := c.attr(e, "default"); ok && !isBoolean(v) {
			c.reportAt("OVF-DEPL-006", at, "Configuration %q: ovf:default is %q", o.ID, v)
		}
		if c.child(e, "Description") == nil {
			c.report("OVF-DEPL-008", e, "Configuration %q has no Description", o.ID)
		}
	}
}

func (c *checker) bundles() {
	known := map[string]bool{}
	outside := false
	for _, b := range c.env.Bundles {
		e := b.Element()
		if b.Lang == "" && b.FileRef == "" {
			c.report("OVF-MSG-001", e, "the Strings element does not say its language")
		}
		if b.FileRef != "" {
			outside = true
			if !c.fileIDs[b.FileRef] {
				c.report("OVF-MSG-002", e, "there is no File %q", b.FileRef)
			}
		}
		ids := c.unique("OVF-MSG-005", "msgid")
		for _, m := range e.Children {
			if m.Local != "Msg" {
				continue
			}
			id, _, ok := c.attr(m, "msgid")
			if !ok || id == "" {
				c.report("OVF-MSG-003", m, "the Msg has no msgid")
			}
			ids(id, m)
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
