package inventory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ovation-project/ovation/deploy/apply"
	"github.com/ovation-project/ovation/deploy/history"
	"github.com/ovation-project/ovation/deploy/journal"
	"github.com/ovation-project/ovation/deploy/lifecycle"
	"github.com/ovation-project/ovation/deploy/secrets"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/workdir"
)

// ErrUnfinished says that a deployment is not finished, so that its machines are
// not to be started.
var ErrUnfinished = errors.New("the deployment is not finished")

func (d *Deployment) finished() error {
	if d.State == Unfinished || d.State == Busy {
		return fmt.Errorf("%s: %w: %s", d.Name, ErrUnfinished, d.Advice())
	}
	return nil
}

func (v *Inventory) act(what history.What, machines []string) history.Act {
	return history.Act{Time: time.Now().UTC(), What: what, By: v.By, Machines: machines}
}

// Start starts a deployment, or those of its machines that opt names, with the
// secrets that are here.
func (v *Inventory) Start(ctx context.Context, d *Deployment, opt lifecycle.Options) error {
	if err := d.finished(); err != nil {
		return err
	}
	if opt.Secrets == nil {
		var err error
		if opt.Secrets, err = secrets.Read(v.Store.Folder(d.ID)); err != nil {
			return err
		}
	}
	return v.operate(ctx, d, opt, history.Started, "start", lifecycle.Start)
}

// operate does something with a deployment's machines, and notes that it was done,
// or how it failed.
func (v *Inventory) operate(ctx context.Context, d *Deployment, opt lifecycle.Options, what history.What, verb string,
	do func(context.Context, hypervisor.Host, string, lifecycle.Options) error) error {
	act := v.act(what, opt.Machines)
	opt.Act = &act
	err := do(ctx, v.Host, d.ID, opt)
	if err != nil {
		act.What, act.Text = history.Failed, verb+": "+err.Error()
	}
	v.note(d, act, opt.Told)
	return err
}

// Stop stops a deployment, or those of its machines that opt names.
func (v *Inventory) Stop(ctx context.Context, d *Deployment, opt lifecycle.Options) error {
	if d.State == Gone {
		return fmt.Errorf("%s: %w: %s", d.Name, hypervisor.ErrNotFound, d.Advice())
	}
	return v.operate(ctx, d, opt, history.Stopped, "stop", lifecycle.Stop)
}

// Remove removes a deployment, or those of its machines that opt names: from the
// host, and from this machine's journals with the secrets. One that is not
// finished is taken back. Machines that run are a hypervisor.ErrRunning, unless
// opt.Force is set. Ended at any moment it can be done again, and finishes.
func (v *Inventory) Remove(ctx context.Context, d *Deployment, opt lifecycle.Options) error {
	if err := d.unused(opt); err != nil {
		return err
	}
	// A program that was killed may have left a copy of a disk here.
	if _, err := workdir.Sweep(""); err != nil {
		return err
	}
	j, err := v.journalOf(d)
	if err != nil {
		return err
	}
	act := v.act(history.Removed, opt.Machines)
	if j != nil {
		if state := j.State(); state.Unfinished() {
			if opt.KeepVolumes || len(opt.Machines) > 0 {
				return errors.Join(fmt.Errorf("%s: %w: it can be removed as a whole only, with its volumes", d.Name, ErrUnfinished), j.Close())
			}
			if err := apply.Undo(ctx, v.Host, j); err != nil {
				return err
			}
			act.What = history.Undone
			v.note(d, act, opt.Told)
			return nil
		}
	}
	if err := lifecycle.Remove(ctx, v.Host, d.ID, opt); err != nil {
		if j != nil {
			err = errors.Join(err, j.Close())
		}
		return err
	}
	v.note(d, act, opt.Told)
	if j == nil {
		return nil
	}
	if d.staying(opt.Machines) > 0 {
		return j.Close()
	}
	return errors.Join(j.Add(journal.Entry{Kind: journal.Removed}), j.Remove())
}

// unused sees that no machine runs that would be removed.
func (d *Deployment) unused(opt lifecycle.Options) error {
	if opt.Force {
		return nil
	}
	var run []string
	for _, m := range d.Machines {
		meant := len(opt.Machines) == 0 || slices.Contains(opt.Machines, m.Name) || slices.Contains(opt.Machines, m.Record.System)
		if meant && d.States[m.Name] != hypervisor.PoweredOff {
			run = append(run, m.Name)
		}
	}
	if len(run) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w: %s", d.Name, hypervisor.ErrRunning, strings.Join(run, ", "))
}

// staying is how many machines there are when those that are named are removed;
// none is all.
func (d *Deployment) staying(removed []string) int {
	if len(removed) == 0 {
		return 0
	}
	n := len(d.Unreadable)
	for _, m := range d.Machines {
		if !slices.Contains(removed, m.Name) && !slices.Contains(removed, m.Record.System) {
			n++
		}
	}
	return n
}
