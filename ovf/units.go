package ovf

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// ErrUnit says that a unit is not understood.
var ErrUnit = errors.New("not a unit")

// Unit is a programmatic unit as DSP0004, annex C, defines them and OVF uses
// them: a base unit and exact factors, such as "byte * 2^30" or
// "hertz * 10^6".
type Unit struct {
	// Base is the base unit's name: "byte", "hertz", "count", ….
	Base string
	// Standard is false for units that are found in the wild and are not
	// programmatic, such as "MegaBytes".
	Standard bool
	factor   *big.Rat
}

// maxExponent bounds what a unit can ask to be worked out.
const maxExponent = 128

// wildUnits are spellings outside of the standard, in lower case.
var wildUnits = map[string]struct {
	base  string
	shift uint
	hz    int64
}{
	"bytes": {base: "byte"}, "b": {base: "byte"},
	"kilobytes": {base: "byte", shift: 10}, "kilobyte": {base: "byte", shift: 10}, "kb": {base: "byte", shift: 10}, "kib": {base: "byte", shift: 10},
	"megabytes": {base: "byte", shift: 20}, "megabyte": {base: "byte", shift: 20}, "mb": {base: "byte", shift: 20}, "mib": {base: "byte", shift: 20},
	"gigabytes": {base: "byte", shift: 30}, "gigabyte": {base: "byte", shift: 30}, "gb": {base: "byte", shift: 30}, "gib": {base: "byte", shift: 30},
	"terabytes": {base: "byte", shift: 40}, "terabyte": {base: "byte", shift: 40}, "tb": {base: "byte", shift: 40}, "tib": {base: "byte", shift: 40},
	"hz": {base: "hertz", hz: 1}, "khz": {base: "hertz", hz: 1e3}, "kilohertz": {base: "hertz", hz: 1e3},
	"mhz": {base: "hertz", hz: 1e6}, "megahertz": {base: "hertz", hz: 1e6}, "ghz": {base: "hertz", hz: 1e9}, "gigahertz": {base: "hertz", hz: 1e9},
}

// ParseUnit reads a unit: a base unit followed by any number of factors
// "* N", "/ N", "* B^E" or "/ B^E". Spellings found in the wild are read too
// and are not Standard. An error is ErrUnit.
func ParseUnit(s string) (Unit, error) {
	text := strings.TrimSpace(s)
	u := Unit{Standard: true, factor: big.NewRat(1, 1)}
	if len(text) > 256 {
		return Unit{}, fmt.Errorf("%w: it has %d characters", ErrUnit, len(text))
	}
	end := strings.IndexAny(text, "*/")
	if end < 0 {
		end = len(text)
	}
	base := strings.Join(strings.Fields(text[:end]), " ")
	u.Base = strings.ToLower(base)
	if w, ok := wildUnits[u.Base]; ok {
		u.Base = w.base
		if w.hz > 0 {
			u.factor.SetInt64(w.hz)
		} else {
			u.factor.SetInt64(1 << w.shift)
		}
	}
	if !isUnitName(u.Base) {
		return Unit{}, fmt.Errorf("%w: %q does not begin with a base unit such as byte or hertz", ErrUnit, s)
	}
	if u.Base != base {
		u.Standard = false
	}
	for rest := text[end:]; rest != ""; {
		op := rest[0]
		rest = rest[1:]
		end := strings.IndexAny(rest, "*/")
		if end < 0 {
			end = len(rest)
		}
		f, err := parseFactor(rest[:end])
		if err != nil {
			return Unit{}, fmt.Errorf("%w: %q: %w", ErrUnit, s, err)
		}
		rest = rest[end:]
		if op == '/' {
			f.Inv(f)
		}
		if u.factor.Mul(u.factor, f); u.factor.Num().BitLen() > 4*maxExponent || u.factor.Denom().BitLen() > 4*maxExponent {
			return Unit{}, fmt.Errorf("%w: %q is beyond all measure", ErrUnit, s)
		}
	}
	return u, nil
}

func isUnitName(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != ' ' && c != '-' && (c < 'a' || c > 'z') {
			return false
		}
	}
	return s != ""
}

// parseFactor reads N or B^E; it is never zero.
func parseFactor(s string) (*big.Rat, error) {
	base, exp, power := strings.Cut(strings.TrimSpace(s), "^")
	b, err := strconv.ParseUint(strings.TrimSpace(base), 10, 63)
	if err != nil || b == 0 {
		return nil, fmt.Errorf("%q is not a factor such as 1024 or 2^20", strings.TrimSpace(s))
	}
	f := new(big.Rat).SetInt64(int64(b))
	if !power {
		return f, nil
	}
	e, err := strconv.ParseInt(strings.TrimSpace(exp), 10, 16)
	if err != nil || e > maxExponent || e < -maxExponent || b > 1<<16 {
		return nil, fmt.Errorf("%q is not a power such as 2^20", strings.TrimSpace(s))
	}
	n := new(big.Int).Exp(big.NewInt(int64(b)), big.NewInt(max(e, -e)), nil)
	f.SetInt(n)
	if e < 0 {
		f.Inv(f)
	}
	return f, nil
}

// ErrRange says that a quantity is no whole number of base units, or more than
// can be counted.
var ErrRange = errors.New("out of range")

// Quantity gives a number of this unit in base units: the value is a decimal
// number as it is written in the descriptor, not negative.
func (u Unit) Quantity(value string) (int64, error) {
	value = strings.TrimSpace(value)
	if value == "" || len(value) > 64 || strings.Trim(value, "0123456789.") != "" {
		return 0, fmt.Errorf("%q is not a number", value)
	}
	n, ok := new(big.Rat).SetString(value)
	if !ok {
		return 0, fmt.Errorf("%q is not a number", value)
	}
	n.Mul(n, u.factor)
	if !n.IsInt() {
		return 0, fmt.Errorf("%w: %s %s is not a whole number of units of one %s", ErrRange, value, u, u.Base)
	}
	if !n.Num().IsInt64() {
		return 0, fmt.Errorf("%w: %s %s is more than can be counted", ErrRange, value, u)
	}
	return n.Num().Int64(), nil
}

// String gives the unit with its factor worked out.
func (u Unit) String() string {
	if u.factor == nil || u.factor.IsInt() && u.factor.Num().IsInt64() && u.factor.Num().Int64() == 1 {
		return u.Base
	}
	return u.Base + " * " + u.factor.RatString()
}
