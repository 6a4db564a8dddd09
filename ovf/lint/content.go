package lint

import (
	"strconv"
	"strings"

	"github.com/ovation-project/ovation/internal/xmldoc"
	"github.com/ovation-project/ovation/ovf"
)

// content judges a virtual system or a collection.
func (c *checker) content(x *ovf.Content) {
	where := "system"
	once := []ovf.SectionKind{ovf.OperatingSystemSection, ovf.InstallSection, ovf.BootDeviceSection}
	if x.Kind == ovf.VirtualSystemCollection {
		where = "collection"
		once = []ovf.SectionKind{ovf.StartupSection, ovf.ResourceAllocationSection}
		if len(x.Children) == 0 {
			c.report("OVF-ENV-008", x.Element(), "the collection %q holds nothing", x.ID)
		}
	}
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
			} else if n, err := strconv.ParseUint(strings.TrimSpace(v), 10, 16); err != nil {
				c.reportAt("OVF-OS-001", at, "the operating system's ID %q is no number (%d)", v, n)
			}
		case ovf.StartupSection:
			c.startup(x, e)
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

func (c *checker) startup(x *ovf.Content, e *xmldoc.Element) {
	ids := c.unique("OVF-START-005", "entity")
	known := map[string]bool{}
	for _, child := range x.Children {
		known[child.ID] = true
	}
	for _, i := range e.Children {
		if i.Local != "Item" || !c.own(i.Space) {
			continue
		}
		id, at, _ := c.attr(i, "id")
		if x.Kind == ovf.VirtualSystemCollection && !known[id] {
			c.reportAt("OVF-START-001", at, "there is no virtual system or collection %q in %q", id, x.ID)
		}
		ids(id, i)
		if v, at, ok := c.attr(i, "order"); !ok {
			c.report("OVF-START-002", i, "the entry for %q has no order", id)
		} else if !isCount(v) {
			c.reportAt("OVF-START-002", at, "the entry for %q has the order %q", id, v)
		}
		for _, name := range []string{"startDelay", "stopDelay"} {
			if v, at, ok := c.attr(i, name); ok && !isCount(v) {
				c.reportAt("OVF-START-003", at, "%s %q of %q is no number of seconds", name, v, id)
			}
		}
		for name, actions := range map[string]string{"startAction": " powerOn none ", "stopAction": " powerOff guestShutdown none suspend "} {
			if v, at, ok := c.attr(i, name); ok && !strings.Contains(strings.ToLower(actions), " "+strings.ToLower(v)+" ") {
				c.reportAt("OVF-START-004", at, "%s %q of %q is not known", name, v, id)
			}
		}
	}
}

// isCount says whether a text is a number from 0 on that is not absurd.
func isCount(v string) bool {
	_, err := strconv.ParseUint(strings.TrimSpace(v), 10, 32)
	return err == nil
}
