package migrate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/author/export"
	"github.com/ovation-project/ovation/deploy/inventory"
	"github.com/ovation-project/ovation/deploy/lifecycle"
	"github.com/ovation-project/ovation/hypervisor"
)

// removeSource removes the machines from where they were, when they run at the
// target.
func (r *runner) removeSource(ctx context.Context, out *Result) error {
	for _, m := range out.Plan.Machines {
		k, err := r.target.Lookup(ctx, m.Name)
		if err != nil {
			return err
		}
		state, err := k.State(ctx)
		if err != nil {
			return err
		}
		if state != hypervisor.Running {
			return fmt.Errorf("machine %s does not run at the target, it is %s: the source stays", m.Name, state)
		}
	}
	if err := r.e.Close(ctx); err != nil {
		return err
	}
	var names []string
	for _, s := range r.sources {
		names = append(names, s.Name)
	}
	for i, s := range r.sources {
		k, err := s.Host.Lookup(ctx, s.Name)
		if errors.Is(err, hypervisor.ErrNotFound) {
			continue // with its deployment
		}
		if err != nil {
			return err
		}
		if state, err := k.State(ctx); err != nil || state != hypervisor.PoweredOff {
			return errors.Join(err, fmt.Errorf("machine %s runs at the source again: it stays", s.Name))
		}
		if host, ok := s.Host.(hypervisor.Host); ok && r.From[i].Deployment != "" {
			err = r.removeDeployed(ctx, host, k, out)
		} else {
			err = r.removeForeign(ctx, s, k, names, out)
		}
		if err != nil {
			return fmt.Errorf("it runs at the target; the source: %w", err)
		}
	}
	return nil
}

// removeDeployed removes a machine that this program made, with what it made for
// it, and with the last one what is known of the deployment here.
func (r *runner) removeDeployed(ctx context.Context, host hypervisor.Host, k *hypervisor.Kept, out *Result) error {
	v := &inventory.Inventory{Host: host, Store: r.opt.Store, History: r.opt.History, By: r.opt.By}
	d, _, err := v.Find(ctx, k.Record.Deployment)
	if err != nil {
		return err
	}
	err = v.Remove(ctx, d, lifecycle.Options{Machines: []string{k.Name}, Told: func(e lifecycle.Event) {
		if e.Kind == lifecycle.Stays {
			out.Stays = append(out.Stays, e.Text)
		}
		if r.opt.Told != nil {
			r.opt.Told(e)
		}
	}})
	if err == nil {
		out.Removed = append(out.Removed, k.Name)
	}
	return err
}

// Remover is implemented by sources that remove a machine with its disks by
// themselves. It says what stays, and why.
type Remover interface {
	RemoveMachine(ctx context.Context, name string) (stays []string, err error)
}

// removeForeign removes a machine that somebody else made: its disks, where
// nobody else needs them, and then itself.
func (r *runner) removeForeign(ctx context.Context, s export.Source, k *hypervisor.Kept, going []string, out *Result) error {
	if x, ok := s.Host.(Remover); ok {
		stays, err := x.RemoveMachine(ctx, k.Name)
		out.Stays = append(out.Stays, stays...)
		if err == nil {
			out.Removed = append(out.Removed, k.Name)
		}
		return err
	}
	host, ok := s.Host.(hypervisor.Host)
	if !ok {
		return fmt.Errorf("machine %s: %s removes no machines", k.Name, s.Host.URI())
	}
	all, err := host.List(ctx, true)
	if err != nil {
		return err
	}
	stays := func(what, format string, a ...any) {
		out.Stays = append(out.Stays, fmt.Sprintf("%s of %s: %s", what, k.Name, fmt.Sprintf(format, a...)))
	}
	_, whole := host.(hypervisor.Importer) // machines go with their disks
	for _, d := range k.Machine.Drives {
		switch {
		case d.Medium == nil, whole && d.Kind != hypervisor.HardDisk:
		case d.Medium.Volume == nil:
			stays(d.Medium.Path, "it is in no storage pool")
		case d.Kind != hypervisor.HardDisk || d.ReadOnly:
			stays(d.Medium.Volume.Name, "it is no disk of the machine's own")
		default:
			ref := *d.Medium.Volume
			users, err := r.users(ctx, host, ref, all, going)
			if err != nil {
				return err
			}
			if len(users) > 0 && whole {
				stays("the machine", "its disk %s is needed by %s", ref.Name, strings.Join(users, ", "))
				return nil
			}
			if len(users) > 0 {
				stays(ref.Name, "needed by %s", strings.Join(users, ", "))
				continue
			}
			if whole {
				continue
			}
			if err := host.RemoveVolume(ctx, ref); err != nil {
				return err
			}
		}
	}
	if err := k.Remove(ctx); err != nil {
		return err
	}
	out.Removed = append(out.Removed, k.Name)
	return nil
}

// users are who else needs a volume: machines that stay, and volumes that are
// deltas of it.
func (r *runner) users(ctx context.Context, host hypervisor.Host, ref hypervisor.VolumeRef, all []*hypervisor.Kept, going []string) (users []string, err error) {
	for _, k := range all {
		if slices.Contains(going, k.Name) {
			continue
		}
		for _, d := range k.Machine.Drives {
			for x := d.Medium; x != nil; x = x.Below {
				if x.Volume != nil && *x.Volume == ref && !slices.Contains(users, k.Name) {
					users = append(users, k.Name)
				}
			}
		}
	}
	if x, ok := host.(hypervisor.DeltaFinder); ok {
		deltas, err := x.DeltasOf(ctx, ref)
		if err != nil {
			return nil, err
		}
		users = append(users, deltas...)
	}
	return users, nil
}
