package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/spf13/cobra"
	xterm "golang.org/x/term"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/console"
	"github.com/ovation-project/ovation/internal/term"
)

func newConsoleCommand(a *app) *cobra.Command {
	var f hostedFlags
	c := &cobra.Command{
		Use:   "console NAME",
		Short: "Use the serial console of a machine that was deployed",
		Long: `Attach to the first serial port of a machine that runs: on a terminal with the
keyboard, where Ctrl-] leaves and the machine goes on, else as plain lines of
what it says from now on. What it said before is in 'ovation logs'. NAME is the
machine's, or that of a deployment with one machine.

A console has one user: whoever attaches last has it.`,
		Example: `  ovation console web
  ovation console shop-db --on qemu+ssh://root@host/system
  ovation console qemu:///system/web | grep -m1 login:`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.attach(c.Context(), &f, args[0]) },
	}
	f.register(a, c)
	return c
}

func (a *app) attach(ctx context.Context, f *hostedFlags, ref string) (err error) {
	d, err := a.find(ctx, f, ref)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Host.Close()) }()
	m, err := d.one(ref)
	if err != nil {
		return err
	}
	state, err := m.State(ctx)
	switch {
	case err != nil:
		return err
	case state == hypervisor.PoweredOff:
		return fmt.Errorf("machine %s: %w; 'ovation start' starts it, 'ovation logs' has what it said", m.Name, hypervisor.ErrNotRunning)
	}
	c, err := m.Console()
	if viewer, ok := m.Guest.(hypervisor.Viewer); ok && errors.Is(err, errors.ErrUnsupported) {
		return a.screens(ctx, m.Name, viewer, err)
	}
	if err != nil {
		return err
	}
	defer c.Close()
	// Ctrl-C, and what else ends the program, ends the reading.
	defer context.AfterFunc(ctx, func() { c.Close() })()
	keyboard, _ := a.stdin.(*os.File)
	if !a.interactive() || !a.out.IsTerminal() {
		return a.listen(ctx, c)
	}
	a.note("the console of %s; Ctrl-] leaves it", m.Name)
	old, err := xterm.MakeRaw(int(keyboard.Fd()))
	if err != nil {
		return fmt.Errorf("the terminal: %w", err)
	}
	left := false
	var mu sync.Mutex
	go console.Keys(c, keyboard, func() {
		mu.Lock()
		left = true
		mu.Unlock()
		c.Close()
	})
	_, err = io.Copy(a.out, c)
	_ = xterm.Restore(int(keyboard.Fd()), old)
	a.out.Printf("\n")
	mu.Lock()
	defer mu.Unlock()
	switch {
	case left || ctx.Err() != nil:
		return nil
	case err == nil:
		a.note("%s has ended", m.Name)
	}
	return err
}

// screens shows where the screen of a machine is seen whose serial port is not to
// be had, which is why.
func (a *app) screens(ctx context.Context, name string, v hypervisor.Viewer, why error) error {
	all, err := v.Screens(ctx)
	if err != nil {
		return errors.Join(why, err)
	}
	if a.json {
		return a.printJSON(all)
	}
	a.note("%s has no serial console here; its screen is seen at these addresses, each once and soon: they let in whoever has them", name)
	for _, s := range all {
		a.out.Printf("%s  %s\n", s.Kind, term.Clean(s.URL))
	}
	return nil
}

// listen shows what a console says as plain lines, until the guest or the
// program ends.
func (a *app) listen(ctx context.Context, c io.Reader) error {
	plain := console.NewPlain(a.out)
	_, err := io.Copy(plain, c)
	if ctx.Err() != nil {
		err = nil
	}
	return errors.Join(err, plain.Flush())
}
