package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/deploy/history"
	"github.com/ovation-project/ovation/deploy/inventory"
	"github.com/ovation-project/ovation/deploy/journal"
	"github.com/ovation-project/ovation/deploy/lifecycle"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/hypervisor"
)

// hostedFlags say which host has what a command is about.
type hostedFlags struct{ on string }

const onUsage = "the host that has it, such as qemu:///system or qemu+ssh://user@host/system (where it was deployed from here, that is known)"

func (f *hostedFlags) register(a *app, c *cobra.Command) {
	c.Flags().StringVar(&f.on, "on", "", onUsage)
	_ = c.RegisterFlagCompletionFunc("on", completeTargets)
	c.ValidArgsFunction = func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.completeDeployed(c.Context(), f.on)
	}
}

// completeTargets offers the hosts that something was deployed to from here.
func completeTargets(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	states, _ := deployedHere()
	return targetsOf(states), cobra.ShellCompDirectiveNoFileComp
}

// completionLimit is how long a shell waits for the names on a host.
const completionLimit = 3 * time.Second

// completeOf offers what a host has, where a flag names one.
func (a *app) completeOf(uri *string, names func(context.Context, hypervisor.Host) []string) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		if *uri == "" || c.Context() == nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(c.Context(), completionLimit)
		defer cancel()
		host, err := a.openHost(ctx, *uri)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer host.Close()
		return names(ctx, host), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeDeployed offers names: those of the host that is named, else what was
// deployed from here.
func (a *app) completeDeployed(ctx context.Context, on string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if on == "" {
		states, _ := deployedHere()
		for _, s := range states {
			names = append(names, s.Plan.Name)
			for _, m := range s.Plan.Machines {
				names = append(names, m.Name)
			}
		}
	} else if ctx != nil {
		ctx, cancel := context.WithTimeout(ctx, completionLimit)
		defer cancel()
		if host, err := a.openHost(ctx, on); err == nil {
			defer host.Close()
			found, _ := lifecycle.List(ctx, host)
			for _, f := range found {
				names = append(names, f.Name)
				for _, m := range f.Machines {
					names = append(names, m.Name)
				}
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
}

// deployedHere are the journals of what was deployed from here and not removed.
func deployedHere() ([]*journal.State, error) {
	store, err := journal.Default()
	if err != nil {
		return nil, err
	}
	states, err := store.List()
	return slices.DeleteFunc(states, func(s *journal.State) bool { return s.Removed }), err
}

// targetsOf are the hosts of deployments, by name.
func targetsOf(states []*journal.State) []string {
	var targets []string
	for _, s := range states {
		targets = append(targets, s.Plan.Target)
	}
	slices.Sort(targets)
	return slices.Compact(targets)
}

// target finds the host that has what a name means: URI/NAME says so itself, and
// so does --on; what was deployed from here is known.
func (f *hostedFlags) target(ref string) (uri, name string, err error) {
	if strings.Contains(ref, "://") {
		if f.on != "" {
			return "", "", usagef("%q names its host already: leave --on out", withoutSecrets(ref))
		}
		return cutMachine(ref)
	}
	if f.on != "" {
		return f.on, ref, nil
	}
	states, err := deployedHere()
	var meant []*journal.State
	for _, means := range []func(*plan.Plan) bool{
		func(p *plan.Plan) bool { return p.ID == ref || p.Name == ref },
		func(p *plan.Plan) bool { return p.Machine(ref) != nil },
		func(p *plan.Plan) bool { return len(ref) >= lifecycle.MinPrefix && strings.HasPrefix(p.ID, ref) },
	} {
		for _, s := range states {
			if means(s.Plan) {
				meant = append(meant, s)
			}
		}
		if len(meant) > 0 {
			break
		}
	}
	switch targets := targetsOf(meant); {
	case len(targets) == 1:
		return targets[0], ref, nil
	case len(targets) > 1:
		return "", "", usagef("%s is on several hosts: --on says which: %s", ref, strings.Join(targets, ", "))
	case err != nil:
		return "", "", err
	}
	return "", "", usagef("nothing called %q was deployed from here; --on names the host that has it, such as qemu:///system", ref)
}

// inventory opens a host with what this machine knows of it.
func (a *app) inventory(ctx context.Context, uri string) (*inventory.Inventory, error) {
	v := &inventory.Inventory{By: deployer()}
	var err error
	if v.Store, err = journal.Default(); err != nil {
		return nil, err
	}
	if v.History, err = history.Default(); err != nil {
		return nil, err
	}
	v.Host, err = a.openHost(ctx, uri)
	return v, err
}

// found is a deployment that a command is about, or a machine of it.
type found struct {
	*inventory.Inventory
	*inventory.Deployment
	// machine is "" for all of it.
	machine string
}

// find finds what a name means. The caller closes the host.
func (a *app) find(ctx context.Context, f *hostedFlags, ref string) (*found, error) {
	uri, name, err := f.target(ref)
	if err != nil {
		return nil, err
	}
	v, err := a.inventory(ctx, uri)
	if err != nil {
		return nil, err
	}
	d, machine, err := v.Find(ctx, name)
	if err != nil {
		return nil, errors.Join(err, v.Host.Close())
	}
	return &found{v, d, machine}, nil
}

// one is the machine that a command is about that takes one only.
func (f *found) one(ref string) (*lifecycle.Machine, error) {
	switch {
	case f.machine != "":
		return f.Machine(f.machine), nil
	case len(f.Machines) == 1:
		return f.Machines[0], nil
	case len(f.Machines) == 0:
		return nil, fmt.Errorf("%s has no machine: %w: %s", f.Name, hypervisor.ErrNotFound, f.Advice())
	}
	var names []string
	for _, m := range f.Machines {
		names = append(names, m.Name)
	}
	return nil, usagef("%s has several machines; name one of them: %s", ref, strings.Join(names, ", "))
}

// operated is what start, stop and rm print as JSON.
type operated struct {
	APIVersion string            `json:"apiVersion"`
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Target     string            `json:"target"`
	Events     []lifecycle.Event `json:"events"`
}

// operate does something with a deployment, and says what happens.
func (a *app) operate(ctx context.Context, f *hostedFlags, ref string, opt lifecycle.Options, do func(*found, lifecycle.Options) error) (err error) {
	found, err := a.find(ctx, f, ref)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, found.Host.Close()) }()
	if found.machine != "" {
		if len(opt.Machines) > 0 {
			return usagef("%s is a machine: --machine is for those of a deployment", ref)
		}
		opt.Machines = []string{found.machine}
	}
	for _, name := range opt.Machines {
		if found.Machine(name) == nil {
			return usagef("%s has no machine %q", found.Name, name)
		}
	}
	result := operated{APIVersion: "ovation/operation/v1", ID: found.ID, Name: found.Name, Target: found.Target, Events: []lifecycle.Event{}}
	opt.Told = func(e lifecycle.Event) {
		result.Events = append(result.Events, e)
		a.tellEvent(e)
	}
	err = do(found, opt)
	if err != nil && ctx.Err() != nil {
		// What was done until then stays done.
		err = fmt.Errorf("interrupted: %v", err)
	}
	if a.json {
		err = errors.Join(err, a.printJSON(result))
	}
	return err
}

// tellEvent says what happens to a machine.
func (a *app) tellEvent(e lifecycle.Event) {
	text := string(e.Kind)
	if e.Text != "" {
		text += ": " + e.Text
	}
	if e.Machine != "" {
		text = e.Machine + ": " + text
	}
	a.note("%s", text)
}

// when is a time for people.
func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04")
}
