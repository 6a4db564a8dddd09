package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ovation-project/ovation/internal/workdir"
)

// runFolder is the folder for the disks of a run, made when it is first asked
// for.
type runFolder struct {
	app  *app
	keep string // where it is to stay, "" where it goes with the run
	// started says that guests have used what is in it.
	started bool

	dir     string
	work    *workdir.Dir // nil where the folder stays
	secrets *workdir.Dir // beside a folder that stays
	existed bool
}

// path makes the folder.
func (d *runFolder) path() (string, error) {
	if d.dir != "" {
		return d.dir, nil
	}
	if d.keep == "" {
		w, err := d.volatile()
		if err != nil {
			return "", err
		}
		d.work, d.dir = w, w.Path()
		return d.dir, nil
	}
	dir, err := filepath.Abs(d.keep)
	if err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	d.existed = err == nil
	switch {
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("--keep: %w", err)
	case len(entries) > 0:
		return "", usagef("--keep %s: the folder is not empty, and nothing in it is to be lost", d.keep)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("--keep: %w", err)
	}
	d.dir = dir
	return dir, nil
}

// volatile makes a folder that goes with the run.
func (d *runFolder) volatile() (*workdir.Dir, error) {
	w, removed, err := workdir.New("")
	if err != nil {
		return nil, err
	}
	for _, path := range removed {
		d.app.note("removed what an earlier run left behind: %s", path)
	}
	return w, nil
}

// secret gives the folder for what goes with the run even where the rest stays.
func (d *runFolder) secret() (string, error) {
	if d.keep == "" {
		return d.path()
	}
	if d.secrets == nil {
		w, err := d.volatile()
		if err != nil {
			return "", err
		}
		d.secrets = w
	}
	return d.secrets.Path(), nil
}

// close takes away what is not to stay: everything, or, of a folder that was
// asked for, what was made in it unless guests were started.
func (d *runFolder) close() (err error) {
	if d.secrets != nil {
		err = d.secrets.Remove()
	}
	switch {
	case d.dir == "":
		return err
	case d.work != nil:
		return errors.Join(err, d.work.Remove())
	case d.started:
		d.app.note("the disks are in %s; 'ovation export' makes a package of what is there, 'ovation migrate' takes it to a host", d.dir)
		return err
	}
	made, readErr := os.ReadDir(d.dir)
	err = errors.Join(err, readErr)
	for _, e := range made {
		err = errors.Join(err, os.RemoveAll(filepath.Join(d.dir, e.Name())))
	}
	if !d.existed {
		err = errors.Join(err, os.Remove(d.dir))
	}
	return err
}
