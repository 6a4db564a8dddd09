package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/deploy/lifecycle"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/console"
)

type logsFlags struct {
	hostedFlags
	port   int
	follow bool
	raw    bool
}

func newLogsCommand(a *app) *cobra.Command {
	var f logsFlags
	c := &cobra.Command{
		Use:   "logs NAME",
		Short: "Show what a machine said on its serial console",
		Long: `Show what a machine that was deployed said on its first serial port since it was
powered on last, whether it still runs or not. NAME is the machine's, or that of
a deployment with one machine. Escape sequences are left out.

libvirt's log daemon keeps the last 8 MiB of it (max_size and max_backups in
/etc/libvirt/virtlogd.conf). Xen's machines have no such log.`,
		Example: `  ovation logs web
  ovation logs shop-db --follow
  ovation logs web --on qemu+ssh://root@host/system | tail -20`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.logs(c.Context(), &f, args[0]) },
	}
	f.register(a, c)
	c.Flags().IntVar(&f.port, "port", 1, "the serial port, counted from 1")
	c.Flags().BoolVarP(&f.follow, "follow", "f", false, "go on with what it says, until it is powered off")
	c.Flags().BoolVar(&f.raw, "raw", false, "every byte as it was")
	return c
}

// followPause is how often a log is looked at for more.
const followPause = 500 * time.Millisecond

func (a *app) logs(ctx context.Context, f *logsFlags, ref string) (err error) {
	if f.port < 1 {
		return usagef("--port counts from 1")
	}
	d, err := a.find(ctx, &f.hostedFlags, ref)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Host.Close()) }()
	m, err := d.one(ref)
	if err != nil {
		return err
	}
	logger, ok := m.Guest.(hypervisor.SerialLogger)
	if !ok {
		return fmt.Errorf("%s keeps no logs of serial ports", d.Target)
	}
	var out io.Writer = a.out
	if !f.raw {
		plain := console.NewPlain(a.out)
		defer func() { err = errors.Join(err, plain.Flush()) }()
		out = plain
	}
	return a.copyLog(ctx, m, logger, f, out)
}

// copyLog shows a log, and follows it.
func (a *app) copyLog(ctx context.Context, m *lifecycle.Machine, logger hypervisor.SerialLogger, f *logsFlags, out io.Writer) error {
	next := int64(0)
	for {
		state := hypervisor.PoweredOff
		if f.follow {
			var err error
			if state, err = m.State(ctx); err != nil {
				return err
			}
		}
		said, at, err := logger.SerialLog(ctx, f.port-1, next)
		if err != nil {
			return err
		}
		if at != next {
			a.note("(it was powered on anew, or what it said is not kept any more)")
		}
		n, err := io.Copy(out, said)
		next = at + n
		if err = errors.Join(err, said.Close()); err != nil {
			return err
		}
		// What it said last is there when it has ended.
		if state == hypervisor.PoweredOff {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followPause):
		}
	}
}
