package main

import (
	"context"
	"io"
	"runtime/debug"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/deploy/stage"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/ovf"
)

// openRun opens the package to run. What can be read once only (standard input,
// a server that sends no parts of files) is received into the folder of the run.
//
// What can be known from the descriptor alone is seen before all has come.
func (a *app) openRun(ctx context.Context, locator string, f runFlags, ropt ovf.ResolveOptions, r *prepared, dir *runFolder) (*appliance.Package, error) {
	pkg, in, err := a.openOnce(ctx, locator)
	if in == nil {
		return pkg, err
	}
	defer in.Close()
	if f.dryRun {
		return nil, usagef("--dry-run needs a package of which the descriptor can be read by itself; save it to a file")
	}
	if locator == "-" && a.interactive() {
		return nil, usagef("standard input is the terminal, and a package is expected there: curl … | ovation run -")
	}
	return a.receive(ctx, in, r, dir, func(doc *ovf.Document) error {
		resolved, err := ovf.Resolve(doc.Envelope(), ropt)
		if err != nil {
			return judgeError(err)
		}
		if f.eula {
			return nil
		}
		return a.acceptLicences(ctx, plan.Licences(resolved, f.systems))
	})
}

func (a *app) receive(ctx context.Context, in io.Reader, r *prepared, folder *runFolder, first func(*ovf.Document) error) (*appliance.Package, error) {
	dir, err := folder.path()
	if err != nil {
		return nil, err
	}
	// On many processors garbage would take more than what is in use.
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(receiveMemory))
	progress := a.newProgress()
	defer progress.Wait()
	r.received, err = stage.Receive(ctx, in, stage.Options{Dir: dir, Log: a.log, Descriptor: first,
		Note: func(s string) { a.note("%s", s) },
		Task: func(name string, total int64) stage.Task { return progress.Track(name, total) }})
	if err != nil {
		return nil, err
	}
	return r.received.Package, nil
}

// receiveMemory is what is aimed at while a package arrives, in bytes, less the
// program itself: together they stay below 96 MiB.
const receiveMemory = 64 << 20

// files gives the package's files from where they are; nil where they are read
// as they lie.
func (r *prepared) files() disk.Files {
	switch {
	case r.received != nil:
		return r.received
	case r.arriving != nil:
		return r.arriving.Stream
	}
	return nil
}
