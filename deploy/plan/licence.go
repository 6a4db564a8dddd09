package plan

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ovation-project/ovation/deploy/lifecycle"
	"github.com/ovation-project/ovation/ovf"
)

// Licence is a text that has to be accepted before a virtual system is
// deployed (EulaSection; DSP0243 1.1.0, 9.6).
type Licence struct {
	// System is the ovf:id. A licence of a collection is one of each system in
	// it.
	System string
	// Section is the section's Info.
	Section string
	Text    string
	EULA    *ovf.EULA
}

// Licences are those of the virtual systems that are named, or of all where
// none is, in the resolved locale.
func Licences(r *ovf.Resolved, systems []string) (all []Licence) {
	for _, s := range r.Systems {
		if len(systems) > 0 && !slices.Contains(systems, s.ID) {
			continue
		}
		for _, e := range s.EULAs {
			all = append(all, Licence{System: s.ID, Section: r.Text(e.Info), Text: r.Text(e.License), EULA: e})
		}
	}
	return all
}

// Distinct gives each text once, whichever virtual systems it is of.
func Distinct(licences []Licence) (each []Licence) {
	seen := map[*ovf.EULA]bool{}
	for _, l := range licences {
		if !seen[l.EULA] {
			seen[l.EULA] = true
			each = append(each, l)
		}
	}
	return each
}

// Title names the licence on one line: its Info, or how its text begins.
func (l Licence) Title() string {
	first, _, _ := strings.Cut(strings.TrimSpace(l.Text), "\n")
	return cmp.Or(strings.Join(strings.Fields(l.Section), " "), fmt.Sprintf("%.60s", first), "a licence")
}

// Accept is the record of somebody's acceptance of the text as it is, in the
// locale that it was shown in.
func (l Licence) Accept(locale, by string, at time.Time) Acceptance {
	return Acceptance{System: l.System, Acceptance: lifecycle.Acceptance{Section: l.Section,
		SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(l.Text))), Locale: locale, At: at.UTC().Truncate(time.Second), By: by}}
}
