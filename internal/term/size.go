package term

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size gives a number of bytes for people, in binary units: "512 B",
// "1.5 GiB". Whole numbers have no fraction.
func Size(n int64) string {
	if n < 0 {
		return "unknown"
	}
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), ""
	for _, unit = range []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"} {
		f /= 1024
		if f < 1023.95 {
			break
		}
	}
	s := strconv.FormatFloat(f, 'f', 1, 64)
	return strings.TrimSuffix(s, ".0") + " " + unit
}

// ParseSize reads a number of bytes as people write it: a number with a
// binary (KiB, MiB, GiB, TiB), decimal (kB, MB, GB, TB) or QEMU-like (k, M, G,
// T: binary) unit, or plain bytes. Fractions are taken where they come to
// whole bytes.
func ParseSize(s string) (int64, error) {
	t := strings.TrimSpace(s)
	unit := strings.TrimLeft(t, "0123456789.")
	num := t[:len(t)-len(unit)]
	unit = strings.TrimSpace(unit)
	mult, ok := sizeUnits[strings.ToLower(unit)]
	f, err := strconv.ParseFloat(num, 64)
	if !ok || err != nil || math.IsInf(f, 0) {
		return 0, fmt.Errorf("%q is not a size: write a number and a unit, such as 512MiB, 2G or 1.5GiB", s)
	}
	if n, err := strconv.ParseInt(num, 10, 64); err == nil {
		if n > math.MaxInt64/mult {
			return 0, fmt.Errorf("%q is more bytes than can be counted", s)
		}
		return n * mult, nil
	}
	v := f * float64(mult)
	if v >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is more bytes than can be counted", s)
	}
	if v != math.Trunc(v) {
		return 0, fmt.Errorf("%q is not a whole number of bytes", s)
	}
	return int64(v), nil
}

var sizeUnits = map[string]int64{
	"": 1, "b": 1,
	"k": 1 << 10, "kib": 1 << 10, "kb": 1e3,
	"m": 1 << 20, "mib": 1 << 20, "mb": 1e6,
	"g": 1 << 30, "gib": 1 << 30, "gb": 1e9,
	"t": 1 << 40, "tib": 1 << 40, "tb": 1e12,
}
