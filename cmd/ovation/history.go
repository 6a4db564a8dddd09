package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/deploy/history"
	"github.com/ovation-project/ovation/deploy/lifecycle"
	"github.com/ovation-project/ovation/internal/term"
)

func newHistoryCommand(a *app) *cobra.Command {
	var f hostedFlags
	c := &cobra.Command{
		Use:   "history [NAME]",
		Short: "Show what was done with deployments, and by whom",
		Long: `Show what was done with deployments: when they were made, started, stopped and
removed, by whom, and what failed and why. What was done from here is known here,
also of what is gone. With --on, or behind a host's URI, it is also what others
did with what that host has: the last of it is kept with the machines.`,
		Example: `  ovation history
  ovation history shop
  ovation history --on qemu+ssh://root@host/system --json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.history(c.Context(), f.on, strings.Join(args, ""))
		},
	}
	f.register(a, c)
	return c
}

func (a *app) history(ctx context.Context, on, name string) error {
	if strings.Contains(name, "://") {
		var err error
		if on, name, err = (&hostedFlags{on: on}).target(name); err != nil {
			return err
		}
	}
	var lines []history.Line
	log, err := history.Default()
	switch {
	case err != nil:
		return err
	case on != "":
		lines, err = a.historyOn(ctx, on)
	default:
		lines, err = log.List()
	}
	if err != nil {
		return err
	}
	if name != "" {
		lines = slices.DeleteFunc(lines, func(l history.Line) bool {
			return l.Name != name && !slices.Contains(l.Machines, name) && !(len(name) >= lifecycle.MinPrefix && strings.HasPrefix(l.Deployment, name))
		})
	}
	if a.json {
		return a.printJSON(struct {
			APIVersion string         `json:"apiVersion"`
			Acts       []history.Line `json:"acts"`
		}{"ovation/history/v1", append([]history.Line{}, lines...)})
	}
	t := term.NewTable("TIME", "DEPLOYMENT", "WHAT", "BY", "HOST", "")
	for _, l := range lines {
		t.Row(l.Time.Local().Format("2006-01-02 15:04:05"), l.Name, string(l.What), l.By, l.Target, strings.TrimSpace(strings.Join(l.Machines, ", ")+" "+l.Text))
	}
	if t.Len() > 0 {
		t.Print(a.out)
	}
	return nil
}

// historyOn is what was done with the deployments of a host.
func (a *app) historyOn(ctx context.Context, on string) (lines []history.Line, err error) {
	v, err := a.inventory(ctx, on)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, v.Host.Close()) }()
	return v.Acts(ctx)
}
