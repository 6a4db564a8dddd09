package verdict

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/trust"
)

// Action is what is done about a package.
type Action string

// The actions.
const (
	Allow  Action = "allow"
	Warn   Action = "warn"
	Refuse Action = "refuse"
)

// Policy says whom to believe, and what to do about packages that nobody who is
// believed signed. What was altered or is incomplete is always refused.
type Policy struct {
	// NoManifest, Unsigned and UnknownSigner are for those answers; "" is
	// Warn.
	NoManifest    Action `yaml:"no-manifest"`
	Unsigned      Action `yaml:"unsigned"`
	UnknownSigner Action `yaml:"unknown-signer"`
	// SystemRoots believes the system's certificate authorities; nil is yes.
	SystemRoots *bool `yaml:"system-roots"`
	// Authorities are files of certificates (PEM).
	Authorities []string `yaml:"authorities"`
	// Pins are SHA-256 fingerprints of certificates.
	Pins []string `yaml:"pins"`
}

// ParsePolicy reads a policy file, YAML with the keys that Policy names. A key
// that it does not know is an error: a policy that is misspelt would else allow
// what it is to refuse.
func ParsePolicy(data []byte) (Policy, error) {
	var p Policy
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(&p); err != nil && !errors.Is(err, io.EOF) {
		return p, fmt.Errorf("not a trust policy: %w", err)
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return p, errors.New("not a trust policy: there are two documents in it, and only one would count")
	}
	for key, a := range map[string]Action{"no-manifest": p.NoManifest, "unsigned": p.Unsigned, "unknown-signer": p.UnknownSigner} {
		switch a {
		case "", Allow, Warn, Refuse:
		default:
			return p, fmt.Errorf("not a trust policy: %s is allow, warn or refuse, not %q", key, string(a))
		}
	}
	return p, nil
}

// Store gives those whom the policy believes; read reads a file of authorities.
func (p Policy) Store(read func(name string) ([]byte, error)) (*trust.Store, error) {
	s, err := trust.NewStore(p.SystemRoots == nil || *p.SystemRoots)
	if err != nil {
		return nil, err
	}
	for _, name := range p.Authorities {
		data, err := read(name)
		if err != nil {
			return nil, err
		}
		if err := s.AddPEM(data); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, text := range p.Pins {
		f, err := trust.ParseFingerprint(text)
		if err != nil {
			return nil, err
		}
		s.Pin(f)
	}
	return s, nil
}

// Decide gives what to warn of, "" for nothing, or the error that refuses the
// package: appliance.ErrAltered, appliance.ErrIncomplete or ErrUntrusted.
func (p Policy) Decide(v *Verdict) (warning string, err error) {
	action := Allow
	switch v.Answer {
	case Altered:
		return "", fmt.Errorf("%w: %s", appliance.ErrAltered, strings.Join(v.Reasons, "; "))
	case Incomplete:
		return "", fmt.Errorf("%w: %s", appliance.ErrIncomplete, strings.Join(v.Reasons, "; "))
	case NoManifest:
		action = p.NoManifest
	case Unsigned:
		action = p.Unsigned
	case UnknownSigner:
		action = p.UnknownSigner
	}
	said := "the package is " + v.String()
	if v.Answer == NoManifest {
		said = "the package has no manifest: " + strings.Join(v.Reasons, "; ")
	}
	switch action {
	case Allow:
		return "", nil
	case Refuse:
		return "", fmt.Errorf("%w: %s", ErrUntrusted, strings.Replace(said, "the package", "it", 1))
	}
	return said, nil
}
