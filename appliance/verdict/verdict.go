// Package verdict gives one answer to whether a package may be used: what was
// found of its files, of its signature and of its signer, taken together, and
// what a policy makes of that.
package verdict

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/signature"
	"github.com/ovation-project/ovation/appliance/trust"
)

// ErrUntrusted says that a package is not what the policy asks for.
var ErrUntrusted = errors.New("the package is not trusted")

// Answer is the verdict in a word.
type Answer string

// The answers, the best first.
const (
	// Trusted: every file is as the manifest says, and somebody who is
	// believed signed the manifest.
	Trusted Answer = "trusted"
	// UnknownSigner: intact, and signed by somebody who is not believed.
	UnknownSigner Answer = "signed by an unknown party"
	// Unsigned: intact, and nobody signed it.
	Unsigned Answer = "intact but unsigned"
	// NoManifest: nothing shows that it is intact.
	NoManifest Answer = "without a manifest"
	// Incomplete: a file is missing.
	Incomplete Answer = "incomplete"
	// Altered: a file, the manifest or the signature is not what it was.
	Altered Answer = "altered"
)

// Verdict is an answer with its reasons.
type Verdict struct {
	Answer Answer `json:"answer"`
	// Reasons say why it is no better.
	Reasons []string `json:"reasons,omitempty"`
	// Signer is what was found of the signer, nil without a signature.
	Signer *Signer `json:"signer,omitempty"`
}

// Signer is an assessment with the fingerprint as people write it.
type Signer struct {
	*trust.Assessment
	Fingerprint string `json:"fingerprint"`
}

// String is the verdict on one line.
func (v *Verdict) String() string {
	s := string(v.Answer)
	if v.Signer != nil && v.Answer == Trusted {
		s += fmt.Sprintf(": signed by %s", v.Signer.Subject)
		if !v.Signer.SignedAt.IsZero() {
			s += " on " + v.Signer.SignedAt.UTC().Format(time.DateOnly)
		}
	}
	if len(v.Reasons) > 0 {
		s += ": " + strings.Join(v.Reasons, "; ")
	}
	return s
}

// Evidence is the manifest and the certificate file as they are stored.
type Evidence struct {
	ManifestName    string
	Manifest        []byte
	CertificateName string
	Certificate     []byte
}

// EvidenceOf takes the evidence out of a package.
func EvidenceOf(p *appliance.Package) (e Evidence) {
	e.ManifestName, e.Manifest = p.ManifestBytes()
	e.CertificateName, e.Certificate = p.Certificate()
	return e
}

// Before judges what can be judged before the files are read: the verdict is
// the one that the package has if all of them are as the manifest says.
func Before(e Evidence, store *trust.Store, now time.Time) *Verdict {
	switch {
	case e.ManifestName == "" && e.CertificateName == "":
		return &Verdict{Answer: NoManifest, Reasons: []string{"nothing shows that its files are what its maker wrote"}}
	case e.ManifestName == "":
		return &Verdict{Answer: Incomplete, Reasons: []string{fmt.Sprintf("%s signs a manifest, which is missing", e.CertificateName)}}
	case e.CertificateName == "":
		return &Verdict{Answer: Unsigned}
	}
	sig, err := signature.Parse(e.Certificate)
	if err != nil {
		return &Verdict{Answer: Altered, Reasons: []string{fmt.Sprintf("%s: %v", e.CertificateName, err)}}
	}
	a := store.Assess(sig, e.Manifest, now)
	v := &Verdict{Answer: Trusted, Signer: &Signer{a, a.Fingerprint.String()}}
	switch {
	case a.Has(trust.Mismatch):
		v.Answer = Altered
	case !a.Trusted():
		v.Answer = UnknownSigner
	}
	for _, p := range a.Problems {
		v.Reasons = append(v.Reasons, p.Text)
	}
	return v
}

// Of judges a package whose files were read.
func Of(r *appliance.Report, store *trust.Store, now time.Time) *Verdict {
	v := Before(Evidence{r.Manifest, r.ManifestData, r.Certificate, r.CertificateData}, store, now)
	err := r.Err()
	switch {
	case err == nil:
		return v
	case errors.Is(err, appliance.ErrAltered):
		v.Answer = Altered
	case v.Answer != Altered:
		v.Answer = Incomplete
	}
	var found []string
	for _, f := range r.Files {
		switch f.State {
		case appliance.Altered, appliance.WrongSize, appliance.Unlisted, appliance.Missing:
			found = append(found, f.Detail)
		}
	}
	v.Reasons = append(found, v.Reasons...)
	return v
}
