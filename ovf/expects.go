package ovf

import (
	"fmt"
	"strings"
)

// Choices are the values that a property may have, where its ValueMap lists
// them; nil is any.
func (p *Property) Choices() []string {
	for _, q := range p.qualifiers() {
		if strings.EqualFold(q.Name, "ValueMap") && len(q.Args) > 0 {
			return q.Args
		}
	}
	return nil
}

// qualifiers are those that can be read.
func (p *Property) qualifiers() (all []Qualifier) {
	for _, text := range []string{p.Qualifiers, p.VMwareQualifiers} {
		if quals, err := ParseQualifiers(text); err == nil {
			all = append(all, quals...)
		}
	}
	return all
}

// Required says that a property has to be given a value before the guest can be
// told of it: users set it, and an empty value is none of its type.
func (p *ResolvedProperty) Required() bool {
	return p.UserConfigurable && !p.Set && p.CheckValue("") != nil
}

// Expects says on one line what values a property takes, for people: "a whole
// number from 1 to 255", "text of 2 to 8 characters"; of one that has Choices it
// names those.
func (p *Property) Expects() string {
	if choices := p.Choices(); choices != nil {
		return "one of " + strings.Join(choices, ", ")
	}
	base, params, _ := strings.Cut(strings.ToLower(strings.TrimSpace(p.Type)), "(")
	least, most := "", ""
	if m := rangeParam.FindStringSubmatch(params); m != nil {
		least, most = m[1], m[2]
	}
	for _, q := range p.qualifiers() {
		switch name := strings.ToLower(q.Name); {
		case name == "ip":
			base = "ip"
		case len(q.Args) != 1:
		case name == "minlen" || name == "minvalue":
			least = q.Args[0]
		case name == "maxlen" || name == "maxvalue":
			most = q.Args[0]
		}
	}
	t, whole := integerTypes[base]
	switch {
	case whole:
		lowest, highest := int64(0), int64(1)<<min(t.bits, 32)-1
		if t.signed {
			lowest, highest = -int64(1)<<(min(t.bits, 32)-1), int64(1)<<(min(t.bits, 32)-1)-1
		}
		if least == "" && (!t.signed || t.bits <= 16) {
			least = fmt.Sprint(lowest)
		}
		if most == "" && t.bits <= 16 {
			most = fmt.Sprint(highest)
		}
		return "a whole number" + between(least, most, "")
	case base == "real32" || base == "real64":
		return "a number" + between(least, most, "")
	case base == "boolean":
		return "true or false"
	case base == "ip" || strings.HasPrefix(base, "ip:"):
		return "an IP address"
	}
	what := "text"
	if p.Password || base == "password" {
		what = "a password"
	}
	if least == "" && most == "" {
		return what
	}
	return what + " of" + strings.TrimPrefix(between(least, most, " characters"), " from")
}

// between is a range in words: " from 1 to 8", " from 1 on", " up to 8".
func between(least, most, of string) string {
	switch {
	case least == "" && most == "":
		return ""
	case most == "":
		if of != "" {
			return " at least " + least + of
		}
		return " from " + least + " on"
	case least == "":
		return " up to " + most + of
	}
	return " from " + least + " to " + most + of
}
