package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/ovation-project/ovation/deploy/fit"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/prompt"
	"github.com/ovation-project/ovation/ovf"
)

// eachLicence gives every licence once, whichever machines it is of.
func eachLicence(licences []plan.Licence) (each []plan.Licence) {
	seen := map[*ovf.EULA]bool{}
	for _, l := range licences {
		if !seen[l.EULA] {
			seen[l.EULA] = true
			each = append(each, l)
		}
	}
	return each
}

// askLicences shows each licence to a person, and has it accepted.
func askLicences(ctx context.Context, to *prompt.Asker, licences []plan.Licence) error {
	for _, l := range eachLicence(licences) {
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
	var needs []fit.Need
	for _, l := range eachLicence(licences) {
		needs = append(needs, fit.Need{Area: fit.Licence, Flag: "--accept-eula", Reason: hypervisor.Reason{Subject: l.Title(),
			Text: fmt.Sprintf("it has to be accepted (descriptor, line %d)", l.EULA.Pos().Line)}})
	}
	return needError(needs)
}
