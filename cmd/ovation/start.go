package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/deploy/lifecycle"
	"github.com/ovation-project/ovation/hypervisor"
)

// machineUsage is of the flag that names parts of a deployment.
const machineUsage = "a machine of it, by its name or the ID of its virtual system, instead of all; again for more"

func newStartCommand(a *app) *cobra.Command {
	var f hostedFlags
	var opt lifecycle.Options
	c := &cobra.Command{
		Use:   "start NAME",
		Short: "Start what was deployed, in its order",
		Long: `Start the machines of a deployment in the order that its descriptor says, with
its delays and waits for guests. NAME is the deployment's, a beginning of its
ID, or that of one of its machines, which is then started alone; behind the
host's URI (qemu:///system/shop) or with --on it is one of any host, whoever
deployed it.

Each machine is told its environment document anew. Passwords in it are known
only where it was deployed: elsewhere the document stays as it is.

What runs is left alone; after a failure, starting again goes on.`,
		Example: `  ovation start shop
  ovation start shop --machine db --wait
  ovation start web --on qemu+ssh://root@host/system`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if opt.ReadyLimit < 0 {
				return usagef("--timeout is a time such as 10m, not %v", opt.ReadyLimit)
			}
			return a.operate(c.Context(), &f, args[0], opt, func(d *found, opt lifecycle.Options) error {
				return d.Start(c.Context(), d.Deployment, opt)
			})
		},
	}
	f.register(a, c)
	c.Flags().StringArrayVar(&opt.Machines, "machine", nil, machineUsage)
	c.Flags().BoolVar(&opt.Wait, "wait", false, "wait until the guests of the last step, too, say that they are ready")
	c.Flags().DurationVar(&opt.ReadyLimit, "timeout", 0, "the longest wait for a guest to be ready, where the descriptor gives no delay (5m)")
	return c
}

func newStopCommand(a *app) *cobra.Command {
	var f hostedFlags
	var opt lifecycle.Options
	c := &cobra.Command{
		Use:   "stop NAME",
		Short: "Stop what was deployed, in the reverse of its order",
		Long: `Stop the machines of a deployment in the reverse of the order in which they
start, each as the descriptor says: guests are asked to power off, and powered
off where they do not in time; machines that the descriptor leaves running are
left. NAME is as in 'ovation start'.`,
		Example: `  ovation stop shop
  ovation stop shop --grace 5m
  ovation stop shop-web --force
  ovation stop qemu:///system/shop --machine web`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if opt.Grace < 0 {
				return usagef("--grace is a time such as 5m, not %v", opt.Grace)
			}
			return a.operate(c.Context(), &f, args[0], opt, func(d *found, opt lifecycle.Options) error {
				return d.Stop(c.Context(), d.Deployment, opt)
			})
		},
	}
	f.register(a, c)
	c.Flags().StringArrayVar(&opt.Machines, "machine", nil, machineUsage)
	c.Flags().BoolVar(&opt.Force, "force", false, "power off at once, all of it")
	c.Flags().DurationVar(&opt.Grace, "grace", 0, fmt.Sprintf("how long a guest may take to power off (%v)", 90*time.Second))
	return c
}

func newRemoveCommand(a *app) *cobra.Command {
	var f hostedFlags
	var opt lifecycle.Options
	c := &cobra.Command{
		Use:     "rm NAME",
		Aliases: []string{"remove", "undeploy"},
		Short:   "Remove what was deployed: machines, volumes and all",
		Long: `Remove a deployment: its machines, with their volumes and whatever the host
keeps beside them, and what is known of it here. NAME is as in 'ovation start'.
Machines that run are powered off with --force only.

A deployment that a program was killed at is taken back. Removing can be
interrupted at any moment: doing it again finishes it.`,
		Example: `  ovation rm shop
  ovation rm shop --force
  ovation rm web --keep-volumes
  ovation rm qemu+ssh://root@host/system/shop`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			err := a.operate(c.Context(), &f, args[0], opt, func(d *found, opt lifecycle.Options) error {
				return d.Remove(c.Context(), d.Deployment, opt)
			})
			if errors.Is(err, hypervisor.ErrRunning) {
				err = fmt.Errorf("%w; 'ovation stop' stops it, --force powers it off", err)
			}
			return err
		},
	}
	f.register(a, c)
	c.Flags().StringArrayVar(&opt.Machines, "machine", nil, machineUsage)
	c.Flags().BoolVar(&opt.Force, "force", false, "power off what runs, and remove machines whose records can't be read")
	c.Flags().BoolVar(&opt.KeepVolumes, "keep-volumes", false, "leave the disks where they are")
	return c
}
