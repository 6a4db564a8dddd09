package main

import (
	"context"
	"errors"
	"io"
	"runtime/debug"
	"slices"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/trust"
	"github.com/ovation-project/ovation/appliance/verdict"
	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/arrival"
	"github.com/ovation-project/ovation/deploy/fit"
	"github.com/ovation-project/ovation/deploy/stage"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/term"
	"github.com/ovation-project/ovation/internal/workdir"
)

// once is a package that is read once, and used as it comes.
type once struct {
	*arrival.Arrival
	app      *app
	in       io.Closer
	progress *term.Progress // of what is taken; set before Expect
}

// begin reads a package that comes once up to its files. usage is how the command
// is called with one on standard input.
func (a *app) begin(ctx context.Context, locator string, in io.ReadCloser, usage string) (_ *once, err error) {
	if locator == "-" && a.interactive() {
		return nil, errors.Join(usagef("standard input is the terminal, and a package is expected there: curl … | ovation %s", usage), in.Close())
	}
	o := &once{app: a, in: in}
	o.Arrival, err = arrival.Begin(ctx, in, arrival.Options{TempDir: workdir.Base(), Log: a.log,
		Note: func(s string) { a.note("%s", s) },
		Task: func(name string, total int64) stage.Task { return o.progress.Track(name, total) }})
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return o, nil
}

// Close ends the reading.
func (o *once) Close() error { return errors.Join(o.Arrival.Close(), o.in.Close()) }

// onceMemory is what is aimed at while a package arrives, in bytes, less the
// program itself: together they stay below 96 MiB.
const onceMemory = 56 << 20

// boundedMemory keeps to that until what it gives is called: on many processors
// garbage would take more than what is in use.
func boundedMemory() func() {
	before := debug.SetMemoryLimit(onceMemory)
	return func() { debug.SetMemoryLimit(before) }
}

// finish waits until all has come, and judges the package by all of it. What the
// trust policy warns of is said where it was not known before.
func (o *once) finish(ctx context.Context, policy verdict.Policy, store *trust.Store) (*appliance.Package, *fit.Subject, error) {
	pkg, report, err := o.Finish(ctx)
	if err != nil {
		return nil, nil, err
	}
	s, err := fit.Examine(ctx, pkg, fit.ExamineOptions{Policy: policy, Store: store, Report: report})
	if err == nil {
		err = s.Refused()
	}
	if err != nil {
		return nil, nil, err
	}
	if o.Package().Manifest() == nil {
		o.app.warnTrust(s.Trust(), s.Warning())
	}
	s.LookBy(o)
	return pkg, s, nil
}

// said is what a machine's firmware is, and what was said of the machine.
type said struct {
	firmware hypervisor.FirmwareKind
	notes    []deploy.Note
}

// sayAgain says of a machine what turned out otherwise than was said before: all of
// it where it boots otherwise, which much depends on.
func (a *app) sayAgain(id string, was, is said) {
	other := was.firmware != is.firmware
	if other {
		a.note("%s: its disk boots with other firmware than was said, which changes what was decided; once more:", id)
	}
	for _, n := range is.notes {
		if other || !slices.Contains(was.notes, n) {
			a.note("%s", n)
		}
	}
}
