package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/deploy/inventory"
	"github.com/ovation-project/ovation/deploy/lifecycle"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/term"
)

func newListCommand(a *app) *cobra.Command {
	var on []string
	c := &cobra.Command{
		Use:     "ps [NAME]",
		Aliases: []string{"list"},
		Short:   "Show what was deployed, and whether it runs",
		Long: `Show the deployments on hosts and their machines: those that --on names, or all
that something was deployed to from here. What others deployed from elsewhere is
shown as well: hosts keep it with the machines.

A deployment that is not finished, since a program was killed or could not take
back what it had made, is shown with what to do about it.`,
		Example: `  ovation ps
  ovation ps --on qemu:///system --on qemu+ssh://root@host/system
  ovation ps shop --json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.listDeployments(c.Context(), on, strings.Join(args, ""))
		},
		ValidArgsFunction: func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return a.completeDeployed(c.Context(), strings.Join(on[:min(1, len(on))], ""))
		},
	}
	c.Flags().StringArrayVar(&on, "on", nil, "a host to ask, such as qemu:///system; again for more (all that are known here)")
	_ = c.RegisterFlagCompletionFunc("on", completeTargets)
	return c
}

// listed is a deployment as ps prints it.
type listed struct {
	ID        string                 `json:"id"`
	Name      string                 `json:"name"`
	Target    string                 `json:"target"`
	State     inventory.State        `json:"state"`
	Advice    string                 `json:"advice,omitempty"`
	Appliance string                 `json:"appliance,omitempty"`
	Locator   string                 `json:"locator,omitempty"`
	Made      time.Time              `json:"made"`
	By        string                 `json:"by,omitempty"`
	Here      bool                   `json:"here"`
	Missing   int                    `json:"missing,omitempty"`
	Machines  []listedMachine        `json:"machines"`
	Accepted  []lifecycle.Acceptance `json:"accepted,omitempty"`
}

type listedMachine struct {
	Name   string           `json:"name"`
	System string           `json:"system"`
	State  hypervisor.State `json:"state"`
	// Step counts from 1, in the order of starting; Manual is one that starts
	// only when it is named.
	Step    int                    `json:"step"`
	Manual  bool                   `json:"manual,omitempty"`
	Volumes []hypervisor.VolumeRef `json:"volumes,omitempty"`
}

func listedOf(d *inventory.Deployment) listed {
	l := listed{ID: d.ID, Name: d.Name, Target: d.Target, State: d.State, Advice: d.Advice(), Appliance: d.Appliance, Locator: d.Locator,
		Made: d.Made, By: d.By, Here: d.Here(), Missing: d.Missing, Machines: []listedMachine{}}
	for _, m := range d.Machines {
		l.Machines = append(l.Machines, listedMachine{Name: m.Name, System: m.Record.System, State: d.States[m.Name],
			Step: m.Data.Start.Step + 1, Manual: m.Data.Start.Manual, Volumes: m.Data.Volumes})
		for _, acceptance := range m.Data.Accepted {
			if !slices.Contains(l.Accepted, acceptance) {
				l.Accepted = append(l.Accepted, acceptance)
			}
		}
	}
	return l
}

func (a *app) listDeployments(ctx context.Context, on []string, name string) error {
	var unread error
	if strings.Contains(name, "://") {
		uri, rest, err := (&hostedFlags{on: strings.Join(on, "")}).target(name)
		if err != nil {
			return err
		}
		on, name = []string{uri}, rest
	}
	if len(on) == 0 {
		states, err := deployedHere()
		on, unread = targetsOf(states), err
		if len(on) == 0 && err == nil && !a.json {
			a.note("nothing was deployed from here; --on asks a host, such as qemu:///system")
		}
	}
	all := make([][]*inventory.Deployment, len(on))
	errs := make([]error, len(on))
	var wg sync.WaitGroup
	for i, uri := range on {
		wg.Go(func() { all[i], errs[i] = a.deploymentsOn(ctx, uri, name) })
	}
	wg.Wait()
	var shown []listed
	for _, some := range all {
		for _, d := range some {
			shown = append(shown, listedOf(d))
		}
	}
	err := errors.Join(append(errs, unread)...)
	if name != "" && len(shown) == 0 && err == nil {
		return fmt.Errorf("no deployment and no machine is called %q: %w", name, hypervisor.ErrNotFound)
	}
	slices.SortStableFunc(shown, func(x, y listed) int { return cmp.Compare(x.Name, y.Name) })
	if a.json {
		return errors.Join(err, a.printJSON(struct {
			APIVersion  string   `json:"apiVersion"`
			Deployments []listed `json:"deployments"`
		}{"ovation/deployments/v1", append([]listed{}, shown...)}))
	}
	a.showListed(shown, name != "")
	return err
}

// deploymentsOn gives those of one host, or the one that is named.
func (a *app) deploymentsOn(ctx context.Context, uri, name string) (all []*inventory.Deployment, err error) {
	v, err := a.inventory(ctx, uri)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, v.Host.Close()) }()
	if name == "" {
		return v.List(ctx)
	}
	d, _, err := v.Find(ctx, name)
	if errors.Is(err, hypervisor.ErrNotFound) {
		return nil, nil // perhaps on another
	}
	if err != nil {
		return nil, err
	}
	return []*inventory.Deployment{d}, nil
}

// showListed prints a table, and of one that was asked for all there is to know.
func (a *app) showListed(all []listed, whole bool) {
	if whole {
		for i, l := range all {
			if i > 0 {
				a.out.Printf("\n")
			}
			a.showOne(l)
		}
		return
	}
	t := term.NewTable("NAME", "STATE", "APPLIANCE", "DEPLOYED", "HOST")
	for _, l := range all {
		t.Row(l.Name, string(l.State), l.Appliance, when(l.Made), l.Target)
		if len(l.Machines) > 1 {
			for _, m := range l.Machines {
				t.Row("  "+m.Name, string(m.State))
			}
		}
	}
	if t.Len() > 0 {
		t.Print(a.out)
	}
	for _, l := range all {
		if l.Advice != "" {
			a.note("%s: %s", l.Name, a.advice(l))
		}
	}
}

// advice is what to do, with the command.
func (a *app) advice(l listed) string {
	if l.State == inventory.Busy {
		return l.Advice
	}
	return fmt.Sprintf("%s (ovation rm %s --on '%s')", l.Advice, l.Name, l.Target)
}

func (a *app) showOne(l listed) {
	a.out.Heading(l.Name)
	facts(a.out, 2, [][2]string{{"State", string(l.State)}, {"Appliance", l.Appliance}, {"From", l.Locator}, {"Deployed", strings.TrimSpace(when(l.Made) + " " + l.By)},
		{"Host", l.Target}, {"ID", l.ID}})
	for _, e := range l.Accepted {
		facts(a.out, 2, [][2]string{{"Accepted", strings.TrimSpace(fmt.Sprintf("%s %s by %s, SHA-256 %s", e.Section, when(e.At), e.By, e.SHA256))}})
	}
	t := term.NewTable("MACHINE", "STATE", ">STEP", "SYSTEM")
	t.Indent = 2
	for _, m := range l.Machines {
		step := fmt.Sprint(m.Step)
		if m.Manual {
			step = "by hand"
		}
		t.Row(m.Name, string(m.State), step, m.System)
	}
	if t.Len() > 0 {
		t.Print(a.out)
	}
	if l.Advice != "" {
		a.note("%s: %s", l.Name, a.advice(l))
	}
}
