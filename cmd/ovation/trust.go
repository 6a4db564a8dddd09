package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/trust"
	"github.com/ovation-project/ovation/appliance/verdict"
)

// trustFlags say whom to believe.
type trustFlags struct {
	policy          string
	authorities     []string
	pins            []string
	requireSigned   bool
	requireManifest bool
}

// trustPolicyEnv names a policy file that no flag does.
const trustPolicyEnv = "OVATION_TRUST_POLICY"

func (t *trustFlags) register(f *pflag.FlagSet) {
	f.StringVar(&t.policy, "trust-policy", "", "file that says whom to trust and what to refuse ($"+trustPolicyEnv+"; else trust.yaml in the user's folder of settings)")
	f.StringArrayVar(&t.authorities, "trust", nil, "file of certificates (PEM) whose signatures to trust, and to ask for; again for more")
	f.StringArrayVar(&t.pins, "pin", nil, "SHA-256 fingerprint of a certificate whose signatures to trust, and to ask for; again for more")
	f.BoolVar(&t.requireSigned, "require-signed", false, "refuse what nobody who is trusted has signed")
	f.BoolVar(&t.requireManifest, "require-manifest", false, "refuse what has no manifest")
}

// resolve reads the policy, to which the flags add.
func (t *trustFlags) resolve() (verdict.Policy, *trust.Store, error) {
	p, dir, err := t.read()
	if err != nil {
		return p, nil, err
	}
	for i, name := range p.Authorities {
		if !filepath.IsAbs(name) {
			p.Authorities[i] = filepath.Join(dir, name)
		}
	}
	p.Authorities = append(p.Authorities, t.authorities...)
	p.Pins = append(p.Pins, t.pins...)
	if t.requireManifest {
		p.NoManifest = verdict.Refuse
	}
	// Whoever names a signer wants that signer's packages, and not those from
	// which the signature was taken away.
	if t.requireSigned || len(t.authorities)+len(t.pins) > 0 {
		p.NoManifest, p.Unsigned, p.UnknownSigner = verdict.Refuse, verdict.Refuse, verdict.Refuse
	}
	store, err := p.Store(readSmall)
	if err != nil {
		return p, nil, usageError{fmt.Errorf("whom to trust: %w", err)}
	}
	return p, store, nil
}

// read finds the policy file, and says in which folder it lies.
func (t *trustFlags) read() (p verdict.Policy, dir string, err error) {
	name := cmp.Or(t.policy, os.Getenv(trustPolicyEnv))
	asked := name != ""
	if !asked {
		settings, err := os.UserConfigDir()
		if err != nil {
			return p, "", nil // nobody has settings here
		}
		name = filepath.Join(settings, "ovation", "trust.yaml")
	}
	data, err := readSmall(name)
	if errors.Is(err, fs.ErrNotExist) && !asked {
		return p, "", nil
	}
	if err == nil {
		p, err = verdict.ParsePolicy(data)
	}
	if err != nil {
		return p, "", usageError{fmt.Errorf("trust policy %s: %w", name, err)}
	}
	return p, filepath.Dir(name), nil
}

// registerPolicy is for commands that hand on what is in a package: what nobody
// who is trusted signed is refused where the policy file says so, and else not
// spoken of.
func (t *trustFlags) registerPolicy(f *pflag.FlagSet) {
	f.StringVar(&t.policy, "trust-policy", "", "file that says which packages to refuse ($"+trustPolicyEnv+"; else trust.yaml in the user's folder of settings)")
}

// admit refuses a package that the policy refuses, and one whose descriptor or
// signature was altered.
func (a *app) admit(pkg *appliance.Package, t trustFlags) error {
	policy, store, err := t.resolve()
	if err != nil {
		return err
	}
	_, err = policy.Decide(verdict.Before(verdict.EvidenceOf(pkg), store, time.Now()))
	if err == nil {
		err = pkg.ProveDescriptor()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", pkg.Locator(), err)
	}
	return nil
}

// whole refuses a package of which another is to be made, with a manifest of its
// own, where something was altered: nothing would show it any more. It may be
// anybody's.
func whole(ctx context.Context, pkg *appliance.Package) error {
	_, err := verdict.Policy{}.Decide(verdict.Before(verdict.EvidenceOf(pkg), &trust.Store{}, time.Now()))
	if err == nil {
		err = pkg.Provable(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", pkg.Locator(), err)
	}
	return nil
}
