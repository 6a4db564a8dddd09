package plan

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// idLength makes it unlikely beyond all doubt that two deployments come to the
// same ID: 80 bits.
const idLength = 16

// NewID chooses a deployment's ID: small letters and digits.
func NewID() string { return strings.ToLower(rand.Text()[:idLength]) }

// ValidID says whether s can be an ID that NewID made. It is the name of a
// folder, too.
func ValidID(s string) bool {
	return len(s) == idLength && !strings.ContainsFunc(s, func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= '2' && r <= '7') })
}

// mostName is how many bytes a machine's name may have: hosts make names of
// files out of it.
const mostName = 100

// CheckName says why a name can't be that of a deployment.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("a name is needed")
	case len(name) > mostName:
		return fmt.Errorf("%d bytes are too long for a name; %d are the most", len(name), mostName)
	case name != HostName(name):
		return fmt.Errorf("%q has a character that hosts do not take in names; %q would do", name, HostName(name))
	}
	return nil
}

// HostName makes a name that every host takes for a machine out of one from a
// descriptor: letters of any script, digits, and . _ - within; "" where nothing
// of it can stay.
func HostName(s string) string {
	var b strings.Builder
	gap := false
	for _, r := range s {
		if r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) || r == '.' || r == '_' || r == '-') {
			if gap && b.Len() > 0 {
				b.WriteByte('-')
			}
			gap = false
			b.WriteRune(r)
		} else {
			gap = true
		}
	}
	name := strings.TrimLeft(b.String(), ".-")
	if len(name) > mostName {
		sum := sha256.Sum256([]byte(s))
		cut := mostName - 9
		for !utf8.RuneStart(name[cut]) {
			cut--
		}
		name = fmt.Sprintf("%s-%x", name[:cut], sum[:4])
	}
	return name
}

// unique makes a name one that nobody else has.
type unique map[string]bool

func (u unique) name(s string) string {
	name := s
	// Some hosts take two names that differ in case only for one.
	for n := 2; u[strings.ToLower(name)]; n++ {
		name = fmt.Sprintf("%s-%d", s, n)
	}
	u[strings.ToLower(name)] = true
	return name
}
