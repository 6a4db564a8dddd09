package lint

import (
	"strings"

	"github.com/ovation-project/ovation/ovf"
)

func (c *checker) products(x *ovf.Content) {
	keys := map[string]*ovf.Property{}
	sections := map[[2]string]bool{}
	for _, p := range x.Products {
		k := [2]string{p.Class, p.Instance}
		if sections[k] {
			c.report("OVF-PROP-008", p.Element(), "there is a ProductSection with the same class %q and instance %q before this one", p.Class, p.Instance)
		}
		sections[k] = true
		for _, q := range p.Properties {
			if first := keys[q.FullKey]; first != nil && q.Key != "" {
				c.report("OVF-PROP-002", q.Element(), "the key %q is that of line %d already", q.FullKey, first.Pos().Line)
			}
			keys[q.FullKey] = q
			c.property(q)
		}
	}
}

func (c *checker) property(q *ovf.Property) {
	e := q.Element()
	if q.Key == "" {
		c.report("OVF-PROP-001", e, "the Property has no key")
	}
	if _, at, ok := c.attr(e, "key"); ok && strings.ContainsAny(q.Key, ".:") {
		c.reportAt("OVF-PROP-007", at, "the key %q holds a period or colon", q.Key)
	}
	_, at, ok := c.attr(e, "type")
	switch {
	case !ok:
		c.report("OVF-PROP-003", e, "property %q has no type", q.Key)
	case !ovf.KnownType(q.Type, true):
		c.reportAt("OVF-PROP-004", at, "property %q: the type %q is not known", q.Key, q.Type)
	case !ovf.KnownType(q.Type, false):
		c.reportAt("OVF-PROP-011", at, "property %q: the type %q is a vendor's own", q.Key, q.Type)
	}
	for _, name := range []string{"userConfigurable", "password"} {
		if v, at, ok := c.attr(e, name); ok && !isBoolean(v) {
			c.reportAt("OVF-PROP-009", at, "property %q: ovf:%s is %q", q.Key, name, v)
		}
	}
	for _, text := range []string{q.Qualifiers, q.VMwareQualifiers} {
		if _, err := ovf.ParseQualifiers(text); err != nil {
			c.report("OVF-PROP-006", e, "property %q: %v", q.Key, err)
		}
	}
	// An empty default stands for none, which the user has to give.
	if v, at, ok := c.attr(e, "value"); ok && v != "" {
		if err := q.CheckValue(v); err != nil {
			c.reportAt("OVF-PROP-005", at, "property %q: %v", q.Key, err)
		}
		if q.Password {
			c.reportAt("OVF-PROP-010", at, "property %q is a password with a default", q.Key)
		}
	}
	for _, v := range e.Children {
		if v.Local != "Value" || !c.own(v.Space) {
			continue
		}
		if option, at, ok := c.attr(v, "configuration"); ok && !c.hasOption(option) {
			c.reportAt("OVF-DEPL-004", at, "property %q: there is no Configuration %q", q.Key, option)
		}
		if value, at, ok := c.attr(v, "value"); ok && value != "" {
			if err := q.CheckValue(value); err != nil {
				c.reportAt("OVF-PROP-005", at, "property %q: %v", q.Key, err)
			}
		}
	}
}
