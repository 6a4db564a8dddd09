package lint

import (
	"strconv"
	"strings"

	"github.com/ovation-project/ovation/ovf"
)

func (c *checker) disks() {
	ids := c.unique("OVF-DISK-002", "diskId")
	disks := map[string]*ovf.Disk{}
	for _, d := range c.env.Disks {
		if disks[d.ID] == nil {
			disks[d.ID] = d
		}
	}
	taken := map[string]*ovf.Disk{}
	circles := circles(disks, func(d *ovf.Disk) string { return d.ParentRef })
	for _, d := range c.env.Disks {
		e := d.Element()
		if d.ID == "" {
			c.report("OVF-DISK-001", e, "the Disk has no diskId")
		}
		ids(d.ID, e)
		c.capacity(d)
		if d.FileRef != "" {
			_, at, _ := c.attr(e, "fileRef")
			if !c.fileIDs[d.FileRef] {
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
			case circles[d.ID]:
				c.reportAt("OVF-DISK-011", at, "Disk %q is a delta of itself", d.ID)
			}
		}
	}
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
	if c.properties == nil {
		c.properties = map[string]bool{}
		c.env.Content.Walk(func(x *ovf.Content) {
			for _, p := range x.Products {
				for _, q := range p.Properties {
					c.properties[q.Key], c.properties[q.FullKey] = true, true
				}
			}
		})
	}
	return c.properties[key]
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
