package ovf

import (
	"fmt"
	"math/big"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// CheckValue says why a value is not one for this property: its type, its
// qualifiers (MinLen, MaxLen, ValueMap, and VMware's for addresses and
// ranges) are looked at. The value of a password is in no message.
func (p *Property) CheckValue(value string) error {
	shown := strconv.Quote(value)
	if p.Password {
		shown = "the value"
	}
	if err := checkType(p.Type, value, shown); err != nil {
		return err
	}
	for _, text := range []string{p.Qualifiers, p.VMwareQualifiers} {
		quals, err := ParseQualifiers(text)
		if err != nil {
			continue // lint says so; a deployment can do without
		}
		for _, q := range quals {
			if err := q.check(value, shown); err != nil {
				return err
			}
		}
	}
	return nil
}

// integerTypes are the integers among the standard's property types (DSP0243),
// which are CIM's, and what VMware adds, by name in lower case.
var integerTypes = map[string]struct {
	signed bool
	bits   int
}{
	"uint8": {false, 8}, "uint16": {false, 16}, "uint32": {false, 32}, "uint64": {false, 64},
	"sint8": {true, 8}, "sint16": {true, 16}, "sint32": {true, 32}, "sint64": {true, 64},
	"int": {true, 32}, // VMware's
}

// KnownType says whether a property's type is one of the standard, or of
// VMware's where vendor is set. Types may carry parameters: string(1..8).
func KnownType(name string, vendor bool) bool {
	base, _, _ := strings.Cut(strings.TrimSpace(name), "(")
	switch base {
	case "string", "boolean", "real32", "real64":
		return true
	case "int":
		return vendor
	}
	if _, ok := integerTypes[base]; ok {
		return true
	}
	if !vendor {
		return false
	}
	switch base {
	case "password", "ip", "expression":
		return true
	}
	return strings.HasPrefix(base, "ip:")
}

func checkType(name, value, shown string) error {
	base, params, _ := strings.Cut(strings.ToLower(strings.TrimSpace(name)), "(")
	if t, ok := integerTypes[base]; ok {
		var err error
		if t.signed {
			_, err = strconv.ParseInt(value, 10, t.bits)
		} else {
			_, err = strconv.ParseUint(value, 10, t.bits)
		}
		if err != nil {
			return fmt.Errorf("%s is not a number of type %s", shown, base)
		}
		return checkRange(params, value, shown, "")
	}
	switch base {
	case "boolean":
		switch strings.ToLower(value) {
		case "true", "false":
		default:
			return fmt.Errorf("%s is neither True nor False", shown)
		}
	case "real32", "real64":
		bits := 64
		if base == "real32" {
			bits = 32
		}
		// ParseFloat also takes words (inf) and hexadecimal.
		if _, err := strconv.ParseFloat(value, bits); err != nil || strings.Trim(value, "+-.0123456789eE") != "" {
			return fmt.Errorf("%s is not a number of type %s", shown, base)
		}
	case "string", "password":
		return checkRange(params, value, shown, "characters")
	case "ip":
		if _, err := netip.ParseAddr(value); err != nil && value != "" {
			return fmt.Errorf("%s is not an IP address", shown)
		}
	}
	return nil
}

var rangeParam = regexp.MustCompile(`^\s*(-?\d*)\s*\.\.\s*(-?\d*)\s*\)$`)

// checkRange handles VMware's types with a range, string(1..8) and
// int(1..65535).
func checkRange(params, value, shown, of string) error {
	m := rangeParam.FindStringSubmatch(params)
	if m == nil {
		return nil
	}
	n := int64(len([]rune(value)))
	if of == "" {
		n, _ = strconv.ParseInt(value, 10, 64)
	} else {
		of = " " + of
	}
	if lo, err := strconv.ParseInt(m[1], 10, 64); err == nil && n < lo {
		return fmt.Errorf("%s is below the least allowed, %d%s", shown, lo, of)
	}
	if hi, err := strconv.ParseInt(m[2], 10, 64); err == nil && n > hi {
		return fmt.Errorf("%s is above the most allowed, %d%s", shown, hi, of)
	}
	return nil
}

// decimal reads a decimal number exactly; one of an unreasonable size is none.
func decimal(s string) (*big.Rat, bool) {
	if len(s) > 64 || strings.Trim(s, "+-.0123456789") != "" {
		return nil, false
	}
	return new(big.Rat).SetString(s)
}

// Qualifier is one of a property's qualifiers: MinLen(2), ValueMap{"a","b"}.
type Qualifier struct {
	Name string
	Args []string
}

// ParseQualifiers reads a list of qualifiers in the manner of CIM: names with
// arguments in () or {}, separated by commas or white space. Arguments may be
// in quotes, double or, as VMware writes them, single.
func ParseQualifiers(s string) ([]Qualifier, error) {
	var all []Qualifier
	for rest := strings.TrimLeft(s, ", \t\r\n"); rest != ""; rest = strings.TrimLeft(rest, ", \t\r\n") {
		n := strings.IndexFunc(rest, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == ':')
		})
		if n < 0 {
			n = len(rest)
		}
		if n == 0 {
			return nil, fmt.Errorf("%q is not a qualifier such as MinLen(2)", rest)
		}
		q := Qualifier{Name: rest[:n]}
		rest = strings.TrimLeft(rest[n:], " \t\r\n")
		if rest != "" && (rest[0] == '(' || rest[0] == '{') {
			closing := byte(')')
			if rest[0] == '{' {
				closing = '}'
			}
			var err error
			if q.Args, rest, err = qualifierArgs(rest[1:], closing); err != nil {
				return nil, fmt.Errorf("qualifier %s: %w", q.Name, err)
			}
		}
		all = append(all, q)
	}
	return all, nil
}

func qualifierArgs(s string, closing byte) (args []string, rest string, err error) {
	var b strings.Builder
	var quote byte // the one that is open; VMware's are also single
	any := false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case quote != 0 && c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			b.WriteByte(c)
		case c == '"' || c == '\'' && b.Len() == 0:
			quote, any = c, true
		case c == closing || c == ',':
			if any || b.Len() > 0 || c == ',' {
				args = append(args, b.String())
			}
			b.Reset()
			any = false
			if c == closing {
				return args, s[i+1:], nil
			}
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
		default:
			b.WriteByte(c)
		}
	}
	return nil, "", fmt.Errorf("%q is never closed by %c", s, closing)
}

func (q Qualifier) number() (int64, bool) {
	if len(q.Args) != 1 {
		return 0, false
	}
	n, err := strconv.ParseInt(q.Args[0], 10, 64)
	return n, err == nil
}

func (q Qualifier) check(value, shown string) error {
	length := int64(len([]rune(value)))
	switch strings.ToLower(q.Name) {
	case "minlen":
		if n, ok := q.number(); ok && length < n {
			return fmt.Errorf("%s is shorter than %d characters", shown, n)
		}
	case "maxlen":
		if n, ok := q.number(); ok && length > n {
			return fmt.Errorf("%s is longer than %d characters", shown, n)
		}
	case "minvalue", "maxvalue":
		if len(q.Args) != 1 {
			return nil
		}
		limit, ok := decimal(q.Args[0])
		n, isNumber := decimal(value)
		if !ok || !isNumber {
			return nil
		}
		if strings.EqualFold(q.Name, "minvalue") && n.Cmp(limit) < 0 {
			return fmt.Errorf("%s is below the least allowed, %s", shown, q.Args[0])
		}
		if strings.EqualFold(q.Name, "maxvalue") && n.Cmp(limit) > 0 {
			return fmt.Errorf("%s is above the most allowed, %s", shown, q.Args[0])
		}
	case "ip": // VMware's; empty where the platform is to find one
		if _, err := netip.ParseAddr(value); err != nil && value != "" {
			return fmt.Errorf("%s is not an IP address", shown)
		}
	case "valuemap":
		for _, a := range q.Args {
			if a == value {
				return nil
			}
		}
		if len(q.Args) > 0 {
			return fmt.Errorf("%s is none of the allowed values %s", shown, strings.Join(q.Args, ", "))
		}
	}
	return nil
}
