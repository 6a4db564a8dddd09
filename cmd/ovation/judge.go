package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/verdict"
	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/fit"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/ovf"
)

// examine judges a package before anything of it is used, and says what people
// should know of it; it fails where the package is not trusted or not intact.
func (a *app) examine(ctx context.Context, pkg *appliance.Package, opt fit.ExamineOptions) (*fit.Subject, error) {
	s, err := fit.Examine(ctx, pkg, opt)
	if err != nil {
		return nil, err
	}
	if err := s.Refused(); err != nil {
		return nil, err
	}
	warning := s.Warning()
	if warning != "" && s.Trust().Answer == verdict.Unsigned {
		// That it is intact nobody knows yet.
		warning = "nobody signed the package: its manifest shows what was altered on the way, and not who made it"
	}
	a.warnTrust(s.Trust(), warning)
	return s, nil
}

// warnTrust says what the trust policy warns of.
func (a *app) warnTrust(v *verdict.Verdict, warning string) {
	switch {
	case warning != "" && v.Answer == verdict.Unsigned && a.quiet:
		// Most packages are: who wants no notes knows.
	case warning != "":
		a.warn("%s", warning)
	}
}

// needError says what the user has to add.
func needError(needs []fit.Need) error {
	var lines []string
	for _, n := range needs {
		how := n.Flag + " does that"
		switch n.Area {
		case fit.Licence:
			how = "'ovation inspect --eula' shows it, and " + n.Flag + " accepts it"
		case fit.Property:
			how = n.Flag + " gives it, and so does --properties-file"
		}
		lines = append(lines, fmt.Sprintf("%s: %s; %s", n.Subject, n.Text, how))
	}
	return usagef("%s", strings.Join(lines, "\n"))
}

// judgeError tells choices that can't be from descriptors that can't.
func judgeError(err error) error {
	var system *deploy.UnknownSystemError
	var network *plan.UnknownNetworkError
	var resolve *ovf.ResolveError
	switch {
	case errors.As(err, &system):
		return usageError{err}
	case errors.As(err, &network):
		return usagef("--network: %w", err)
	case errors.As(err, &resolve):
		return resolveError(resolve)
	}
	return err
}

// resolveError tells a choice that can't be from a descriptor that can't.
func resolveError(err *ovf.ResolveError) error {
	if !slices.ContainsFunc(err.Problems, func(p ovf.Problem) bool { return p.Pos != ovf.Pos{} && !p.Choice }) {
		return usageError{err}
	}
	return fmt.Errorf("%w: %w", appliance.ErrInvalid, err)
}
