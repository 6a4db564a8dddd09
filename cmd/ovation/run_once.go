package main

import (
	"context"

	"github.com/ovation-project/ovation/deploy/fit"
	"github.com/ovation-project/ovation/deploy/stage"
)

// openRun opens the package to run. Of what can be read once only (standard input,
// a server that sends no parts of files), that is what stands before its files:
// those become images as they come.
func (a *app) openRun(ctx context.Context, locator string, r *prepared) (closer func() error, err error) {
	pkg, in, err := a.openOnce(ctx, locator)
	if err != nil {
		return nil, err
	}
	r.pkg = pkg
	if in == nil {
		return pkg.Close, nil
	}
	if r.once, err = a.begin(ctx, locator, in, "run -"); err != nil {
		return nil, err
	}
	r.pkg = r.once.Package()
	return r.once.Close, nil
}

// takeIn makes the images of a package that comes once.
func (r *prepared) takeIn(ctx context.Context, opt stage.Options) error {
	defer boundedMemory()()
	r.once.Expect(stage.Contents(r.planned))
	return stage.Arriving(ctx, r.once, r.planned, opt)
}

// prepareAgain decides everything by what is known when all of a package has come,
// and says what turned out otherwise than was said before.
func (a *app) prepareAgain(ctx context.Context, r *prepared, f runFlags, c fit.Choices, forwards []forward) error {
	before := map[string]said{}
	for _, p := range r.planned {
		before[p.Machine.ID] = said{p.Machine.Firmware.Kind, p.Notes}
	}
	if err := a.prepareRun(ctx, r, f, c, forwards); err != nil {
		return err
	}
	for _, p := range r.planned {
		a.sayAgain(p.Machine.ID, before[p.Machine.ID], said{p.Machine.Firmware.Kind, p.Notes})
	}
	return nil
}
