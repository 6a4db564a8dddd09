package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ovation-project/ovation/deploy/apply"
	"github.com/ovation-project/ovation/deploy/journal"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/hypervisor"
)

// expect lets the files of a package come that is read once.
func (d *deployment) expect() {
	if d.plan.Import == nil { // else it is known when the host says what it asks for
		d.once.Expect(apply.Contents(d.plan, d.resolved))
	}
}

// settle waits until all of a package has come that is read once, and decides again
// by what is known of it then.
func (a *app) settle(ctx context.Context, d *deployment) (*plan.Plan, error) {
	_, s, err := d.once.finish(ctx, d.policy, d.store)
	if err != nil {
		return nil, err
	}
	c := d.choices
	c.Plan.ID, c.Plan.Made = d.plan.ID, d.plan.Made
	j, err := s.OnHost(ctx, d.asked, c)
	if err != nil {
		return nil, judgeError(err)
	}
	if err := j.Err(); err != nil {
		return nil, err
	}
	if !j.Plan.Settles(d.plan) {
		return nil, errors.New("what is on the package's disks asks for other machines than its descriptor: save it to a file, and deploy that")
	}
	for _, n := range j.Plan.Notes {
		if !slices.Contains(d.plan.Notes, n) {
			a.note("%s: %s", n.Subject, n.Text)
		}
	}
	for i, m := range j.Plan.Machines {
		was := d.plan.Machines[i] // which Settles has seen
		a.sayAgain(m.ID, said{was.Firmware.Kind, was.Notes}, said{m.Firmware.Kind, m.Notes})
	}
	return j.Plan, nil
}

// alike says that a deployment may be the one that is planned, whose manifest is
// still to come.
func (d *deployment) alike(s *journal.State) bool {
	return d.plan.Package.ManifestToCome && s.First != nil && s.First.Package.ManifestToCome && s.First.Alike(d.plan)
}

// sameContent reads all of a package that comes once, of which nothing is taken,
// and sees that it is the one that was deployed.
func (d *deployment) sameContent(ctx context.Context, deployed *plan.Plan) error {
	d.once.Expect(nil, nil)
	pkg, _, err := d.once.Finish(ctx)
	if err != nil {
		return err
	}
	if plan.PackageOf(pkg, d.resolved, "").Digest != deployed.Package.Digest {
		return fmt.Errorf("%s has %s already, made of another package: %w; --name gives the deployment another name", deployed.Target, deployed.Name, hypervisor.ErrExists)
	}
	return nil
}
