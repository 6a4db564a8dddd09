package main

import (
	"context"
	"errors"

	"github.com/ovation-project/ovation/deploy/fit"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/internal/prompt"
)

// askLicences shows each licence to a person, and has it accepted.
func askLicences(ctx context.Context, to *prompt.Asker, licences []plan.Licence) error {
	for _, l := range plan.Distinct(licences) {
		to.Heading("Licence: " + l.Title())
		if err := to.Page(ctx, l.Text); err != nil {
			return err
		}
		yes, err := to.Confirm(ctx, "Do you accept it?")
		if err != nil {
			return err
		}
		if !yes {
			return errors.New("the licence was not accepted; nothing was done")
		}
	}
	return nil
}

// acceptLicences has the licences of a package accepted; where nobody can be asked
// it fails, and says how they are accepted.
func (a *app) acceptLicences(ctx context.Context, licences []plan.Licence) (err error) {
	if len(licences) == 0 {
		return nil
	}
	to := prompt.New(a.stdin, a.err)
	if to != nil {
		defer func() { err = errors.Join(err, to.Close()) }()
		return askLicences(ctx, to, licences)
	}
	return needError(fit.LicenceNeeds(licences))
}
