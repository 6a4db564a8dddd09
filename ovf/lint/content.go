package lint

import (
	"slices"
	"strconv"
	"strings"

	"github.com/ovation-project/ovation/internal/xmldoc"
	"github.com/ovation-project/ovation/ovf"
)

// content judges a virtual system or a collection.
func (c *checker) content(x *ovf.Content) {
	where := "system"
	once := []ovf.SectionKind{ovf.AnnotationSection, ovf.OperatingSystemSection, ovf.InstallSection}
	if x.Kind == ovf.VirtualSystemCollection {
		where = "collection"
		once = []ovf.SectionKind{ovf.AnnotationSection, ovf.StartupSection, ovf.ResourceAllocationSection}
		if len(x.Children) == 0 {
			c.report("OVF-ENV-008", x.Element(), "the collection %q holds nothing", x.ID)
		}
	}
	children := names(x.Children, func(child *ovf.Content) string { return child.ID })
	for _, s := range x.Sections {
		c.section(s, where)
		if !c.own(s.Space) {
			continue
		}
		e := s.Element()
		switch s.Kind {
		case ovf.AnnotationSection:
			if c.child(e, "Annotation") == nil {
				c.report("OVF-ANN-001", e, "the AnnotationSection has no Annotation")
			}
		case ovf.EulaSection:
			if c.child(e, "License") == nil {
				c.report("OVF-EULA-001", e, "the EulaSection has no License")
			}
		case ovf.OperatingSystemSection:
			if v, at, ok := c.attr(e, "id"); !ok {
				c.report("OVF-OS-001", e, "the OperatingSystemSection has no ID")
			} else if !isShort(v) {
				c.reportAt("OVF-OS-001", at, "the operating system's ID %q is no whole number from 0 to 65535", v)
			}
		case ovf.InstallSection:
			if v, at, ok := c.attr(e, "initialBootStopDelay"); ok && !isShort(v) {
				c.reportAt("OVF-INST-001", at, "initialBootStopDelay %q is no number of seconds", v)
			}
		case ovf.EnvironmentFilesSection:
			c.environmentFiles(e)
		case ovf.PlacementSection:
			c.placement(e)
		case ovf.ScaleOutSection:
			c.scaleOut(e)
		case ovf.StartupSection:
			c.startup(x, e, children)
		}
	}
	c.once(x.Sections, once...)
	c.products(x)
	for _, h := range x.Hardware {
		c.hardware(h)
	}
	c.families(x)
	if x.Kind == ovf.VirtualSystemCollection {
		c.items(x.Resources, false)
	}
}

func (c *checker) startup(x *ovf.Content, e *xmldoc.Element, known map[string]bool) {
	ids := c.unique("OVF-START-005", "entity")
	for _, i := range e.Children {
		if i.Local != "Item" || !c.own(i.Space) {
			continue
		}
		id, at, ok := c.attr(i, "id")
		if !ok {
			c.report("OVF-START-001", i, "the entry does not say what it is for: it has no ID")
		} else if x.Kind == ovf.VirtualSystemCollection && !known[id] {
			c.reportAt("OVF-START-001", at, "there is no virtual system or collection %q in %q", id, x.ID)
		}
		ids(id, i)
		if v, at, ok := c.attr(i, "order"); !ok {
			c.report("OVF-START-002", i, "the entry for %q has no order", id)
		} else if !isCount(v) {
			c.reportAt("OVF-START-002", at, "the entry for %q has the order %q", id, v)
		}
		if v, at, ok := c.attr(i, "waitingForGuest"); ok && !isBoolean(v) {
			c.reportAt("OVF-START-006", at, "waitingForGuest of %q is %q", id, v)
		}
		for _, name := range []string{"startDelay", "stopDelay"} {
			if v, at, ok := c.attr(i, name); ok && !isCount(v) {
				c.reportAt("OVF-START-003", at, "%s %q of %q is no number of seconds", name, v, id)
			}
		}
		c.action(i, id, "startAction", "powerOn", "none")
		c.action(i, id, "stopAction", "powerOff", "guestShutdown", "none", "suspend")
	}
}

// action judges a startAction or stopAction.
func (c *checker) action(e *xmldoc.Element, id, name string, known ...string) {
	v, at, ok := c.attr(e, name)
	if ok && !slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, v) }) {
		c.reportAt("OVF-START-004", at, "%s %q of %q is not known", name, v, id)
	}
}

// isShort says whether a text is an xs:unsignedShort.
func isShort(v string) bool {
	_, err := strconv.ParseUint(strings.TrimSpace(v), 10, 16)
	return err == nil
}

// isCount says whether a text is a number from 0 on that is not absurd.
func isCount(v string) bool {
	_, err := strconv.ParseUint(strings.TrimSpace(v), 10, 32)
	return err == nil
}
