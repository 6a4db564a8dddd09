package lint

import (
	"strconv"
	"strings"

	"github.com/ovation-project/ovation/internal/xmldoc"
	"github.com/ovation-project/ovation/ovf"
)

// environmentFiles judges the files of an EnvironmentFilesSection.
func (c *checker) environmentFiles(e *xmldoc.Element) {
	for _, f := range e.Children {
		if f.Local != "File" || !c.own(f.Space) {
			continue
		}
		id, at, _ := c.attr(f, "fileRef")
		if !c.fileIDs[id] {
			c.reportAt("OVF-ENVF-001", at, "there is no File %q", id)
		}
		if v, _, _ := c.attr(f, "path"); strings.TrimSpace(v) == "" {
			c.report("OVF-ENVF-002", f, "File %q has no path", id)
		}
	}
}

// placementGroups judges the envelope's PlacementGroupSections.
func (c *checker) placementGroups() {
	ids := c.unique("OVF-PLACE-003", "ID")
	for _, g := range c.env.PlacementGroups {
		e := g.Element()
		if g.ID == "" {
			c.report("OVF-PLACE-002", e, "the PlacementGroupSection has no ID")
		}
		ids(g.ID, e)
		_, at, _ := c.attr(e, "policy")
		for _, word := range strings.Fields(g.Policy) {
			if word != "affinity" && word != "availability" {
				c.reportAt("OVF-PLACE-004", at, "group %q: the policy %q is not known", g.ID, word)
			}
		}
	}
}

// placement judges a PlacementSection.
func (c *checker) placement(e *xmldoc.Element) {
	if group, at, _ := c.attr(e, "group"); !c.groupIDs[strings.TrimSpace(group)] {
		c.reportAt("OVF-PLACE-001", at, "there is no PlacementGroupSection %q", group)
	}
}

// scaleOut judges the counts of a ScaleOutSection.
func (c *checker) scaleOut(e *xmldoc.Element) {
	count := c.child(e, "InstanceCount")
	if count == nil {
		return
	}
	values := map[string]uint64{}
	for _, name := range []string{"minimum", "default", "maximum"} {
		v, at, ok := c.attr(count, name)
		if !ok {
			continue
		}
		if _, reference := ovf.Reference(v); reference {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(v), 10, 32)
		if err != nil || n == 0 {
			c.reportAt("OVF-SCALE-001", at, "the %s count is %q", name, v)
			continue
		}
		values[name] = n
	}
	for _, pair := range [][2]string{{"minimum", "default"}, {"default", "maximum"}, {"minimum", "maximum"}} {
		low, okLow := values[pair[0]]
		high, okHigh := values[pair[1]]
		if okLow && okHigh && low > high {
			c.report("OVF-SCALE-002", count, "the %s count %d is more than the %s count %d", pair[0], low, pair[1], high)
			return
		}
	}
}
