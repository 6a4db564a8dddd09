package apply

import (
	"context"
	"errors"

	"github.com/ovation-project/ovation/deploy/journal"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/hypervisor"
)

// Taken gives the names of a plan's machines that the host has already, so that
// Begin would refuse the plan. Those of the same deployment, which is left as it
// is, and of one that was not finished, which would be taken back, are not among
// them.
func Taken(ctx context.Context, host hypervisor.Host, store journal.Store, p *plan.Plan) (names []string, err error) {
	states, err := store.List()
	if err != nil {
		return nil, err
	}
	own := map[string]bool{}
	for _, s := range states {
		if s.Removed || s.Plan.Target != p.Target {
			continue
		}
		if !s.Complete && s.Plan.Name == p.Name || s.Complete && s.Same(p) {
			for _, m := range s.Plan.Machines {
				own[m.Name] = true
			}
		}
	}
	for _, m := range p.Machines {
		if own[m.Name] {
			continue
		}
		switch _, err := host.Lookup(ctx, m.Name); {
		case err == nil:
			names = append(names, m.Name)
		case !errors.Is(err, hypervisor.ErrNotFound):
			return nil, err
		}
	}
	return names, nil
}
