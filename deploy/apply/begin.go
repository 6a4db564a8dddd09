package apply

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ovation-project/ovation/deploy/journal"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/hypervisor"
)

// Begin opens the journal for a plan: that of the same deployment, which a
// program was killed at, or a new one. What else was begun under that name is
// taken back first. A machine's name that is taken is hypervisor.ErrExists. The
// plan to carry out is the journal's. note is told what people should know.
func Begin(ctx context.Context, host hypervisor.Host, store journal.Store, p *plan.Plan, note func(string)) (resume *journal.Journal, err error) {
	journals, err := store.Claim(p.Target, p.Name)
	if err != nil {
		return nil, fmt.Errorf("deployment %s: %w", p.Name, err)
	}
	defer func() {
		if err != nil && resume != nil {
			err = errors.Join(err, resume.Close())
		}
	}()
	for _, j := range journals {
		made := j.Plan().Made.Local().Format(time.DateTime)
		if s := j.State(); resume == nil && !s.Undoing && s.Same(p) {
			note(fmt.Sprintf("going on with the deployment %s, which was begun at %s", j.Plan().ID, made))
			resume = j
			continue
		}
		note(fmt.Sprintf("removing what is left of a deployment that was begun at %s and not finished", made))
		if undoErr := Undo(ctx, host, j); undoErr != nil {
			err = errors.Join(err, undoErr)
		}
	}
	if err != nil || resume != nil {
		return resume, err
	}
	for _, m := range p.Machines {
		if _, err := host.Lookup(ctx, m.Name); err == nil {
			return nil, fmt.Errorf("%s has a machine called %s already: %w; --name gives the deployment another name", p.Target, m.Name, hypervisor.ErrExists)
		} else if !errors.Is(err, hypervisor.ErrNotFound) {
			return nil, err
		}
	}
	return store.Begin(p)
}
