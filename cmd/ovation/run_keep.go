package main

import (
	"path/filepath"

	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/kept"
	"github.com/ovation-project/ovation/deploy/stage"
)

// keepMachines writes into the folder of --keep what the machines are, so that
// they can be exported and migrated later; nil where nothing is kept.
func (r *prepared) keepMachines(f runFlags, dir string) (*kept.Keeper, error) {
	if f.keep == "" {
		return nil, nil
	}
	environments := map[string]string{}
	for p, e := range r.environments {
		environments[p.System.ID] = e.drive
	}
	return kept.Keep(dir, kept.Machines{Package: r.pkg, Resolved: r.resolved, Planned: r.planned, Target: r.caps, Environments: environments,
		Own: func(p *deploy.Planned) string { return ownFolder(dir, p) }, By: deployer()})
}

// ownFolder is where a machine's own files are, besides its disks.
func ownFolder(dir string, p *deploy.Planned) string {
	return filepath.Join(dir, stage.FileName("machine", p.Machine.ID))
}
