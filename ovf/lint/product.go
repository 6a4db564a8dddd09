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
		for _, e := range p.Element().Children {
			if id, at, _ := c.attr(e, "fileRef"); e.Local == "Icon" && c.own(e.Space) && !c.fileIDs[id] {
				c.reportAt("OVF-PROP-014", at, "the Icon's File %q is not there", id)
			}
		}
		for _, q := range p.Properties {
			if first := keys[q.FullKey]; first != nil && q.Key != "" {
				c.report("OVF-PROP-002", q.Element(), "the key %q is that of line %d already", q.FullKey, line(first.Element()))
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
	c.qualifiers(q)
	// An empty default stands for none, which the user has to give.
	if v, at, ok := c.attr(e, "value"); ok && v != "" {
		c.value(q, v, at)
		if q.Password {
			c.reportAt("OVF-PROP-010", at, "property %q is a password with a default", q.Key)
		}
	}
	options := map[string]bool{}
	for _, v := range e.Children {
		if v.Local != "Value" || !c.own(v.Space) {
			continue
		}
		if option, at, ok := c.attr(v, "configuration"); ok && !c.optionIDs[option] {
			c.reportAt("OVF-DEPL-004", at, "property %q: there is no Configuration %q", q.Key, option)
		}
		option, _, _ := c.attr(v, "configuration")
		if options[option] {
			c.report("OVF-PROP-016", v, "property %q: there is a Value for the Configuration %q before this one", q.Key, option)
		}
		options[option] = true
		if value, at, ok := c.attr(v, "value"); !ok {
			c.report("OVF-PROP-015", v, "property %q: the Value for the Configuration %q has no value", q.Key, option)
		} else if value != "" {
			c.value(q, value, at)
		}
	}
}

// value judges a default.
func (c *checker) value(q *ovf.Property, value string, at int) {
	err := q.CheckValue(value)
	switch {
	case err == nil:
	case ovf.KnownType(q.Type, true) && !ovf.KnownType(q.Type, false):
		c.reportAt("OVF-PROP-012", at, "property %q: %v", q.Key, err)
	default:
		c.reportAt("OVF-PROP-005", at, "property %q: %v", q.Key, err)
	}
}

// qualifiers judges what a property says about its values.
func (c *checker) qualifiers(q *ovf.Property) {
	e := q.Element()
	if _, err := ovf.ParseQualifiers(q.VMwareQualifiers); err != nil {
		c.report("OVF-PROP-013", e, "property %q: %v", q.Key, err)
	}
	all, err := ovf.ParseQualifiers(q.Qualifiers)
	_, at, _ := c.attr(e, "qualifiers")
	if err != nil {
		c.reportAt("OVF-PROP-006", at, "property %q: %v", q.Key, err)
		return
	}
	for _, x := range all {
		switch strings.ToLower(x.Name) {
		case "valuemap", "minvalue", "maxvalue": // the latter two are common
		case "minlen", "maxlen":
			if len(x.Args) != 1 || !isCount(x.Args[0]) {
				c.reportAt("OVF-PROP-006", at, "property %q: %s(%s) is no number of characters", q.Key, x.Name, strings.Join(x.Args, ","))
			}
			if base, _, _ := strings.Cut(q.Type, "("); base != "string" && base != "password" && base != "" {
				c.reportAt("OVF-PROP-017", at, "property %q: %s is for strings, and the type is %s", q.Key, x.Name, q.Type)
			}
		default:
			c.reportAt("OVF-PROP-017", at, "property %q: the qualifier %q is not of the standard", q.Key, x.Name)
		}
	}
}
