package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/internal/term"
)

// version is set by the linker; without it the module's own is taken.
var version string

// app is what every command shares: where it reads and writes, and what the
// global flags say.
type app struct {
	stdin io.Reader
	// out is for results, err for everything said on the way. Progress and
	// logs never go to out.
	out, err *term.Printer
	log      *slog.Logger

	network  networkFlags
	json     bool
	quiet    bool
	verbose  bool
	progress string
}

func newApp(stdin io.Reader, stdout, stderr io.Writer) *app {
	a := &app{stdin: stdin, out: term.New(stdout), err: term.New(stderr), log: slog.New(slog.DiscardHandler)}
	a.network.trouble.through(func(text string) { a.note("%s", text) })
	return a
}

// commandGroup is what the help shows under one heading.
type commandGroup struct {
	title    string
	commands []func(*app) *cobra.Command
}

// groups are the program's commands, by what people want of them.
var groups = []commandGroup{
	{"Look into packages", []func(*app) *cobra.Command{
		newInspectCommand,
		newVerifyCommand,
		newLintCommand,
		newDiffCommand,
	}},
	{"Run packages", []func(*app) *cobra.Command{
		newRunCommand,
		newCacheCommand,
	}},
	{"Machines on hosts that keep them", []func(*app) *cobra.Command{
		newFitCommand,
		newDeployCommand,
		newListCommand,
		newStartCommand,
		newStopCommand,
		newConsoleCommand,
		newLogsCommand,
		newRemoveCommand,
		newHistoryCommand,
		newExportCommand,
		newMigrateCommand,
	}},
	{"Make and change packages", []func(*app) *cobra.Command{
		newNewCommand,
		newBuildCommand,
		newSpecCommand,
		newEditCommand,
		newConvertCommand,
		newPackCommand,
		newUnpackCommand,
		newSignCommand,
		newEncryptCommand,
		newDecryptCommand,
	}},
	{"Disks, and packages for others", []func(*app) *cobra.Command{
		newDiskCommand,
		newNBDCommand,
		newServeCommand,
	}},
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "ovation",
		Short: "Work with virtual appliances: OVF and OVA packages",
		Long: `Ovation takes a virtual appliance from wherever it lies, proves that it is
intact, fits it to the machine that is to run it, and makes it run there.

A LOCATOR is a folder with a descriptor, an .ovf, an .ova, or the http(s)://
URL of either.

Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 the package is invalid,
4 not trusted or not intact, 5 does not fit the target.`,
		Version:       programVersion(),
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return a.configure()
		},
	}
	asGroup(root)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetIn(a.stdin)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w\nSee '%s --help'", err, c.CommandPath())}
	})
	f := root.PersistentFlags()
	f.BoolVar(&a.json, "json", false, "print the result as JSON")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "no progress and no notes, only results and errors")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "log what is done on stderr")
	f.StringVar(&a.progress, "progress", "auto", "progress of long work: auto, plain or none")
	a.network.register(f)
	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.title, Title: g.title + ":"})
		for _, newCommand := range g.commands {
			c := newCommand(a)
			c.GroupID = g.title
			root.AddCommand(c)
		}
	}
	asUsageErrors(root)
	return root
}

// asGroup makes a command that only holds others: alone it shows its help, and
// a name that it does not hold is an error, with those that are like it.
func asGroup(c *cobra.Command) {
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		msg := fmt.Sprintf("unknown command %q for %q", args[0], c.CommandPath())
		if like := c.SuggestionsFor(args[0]); len(like) > 0 {
			msg += "; did you mean " + strings.Join(like, " or ") + "?"
		}
		return errors.New(msg)
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	c.SuggestionsMinimumDistance = 2
}

// asUsageErrors makes wrong arguments of any command an error of usage.
func asUsageErrors(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usageError{fmt.Errorf("%w\nUsage: %s", err, c.UseLine())}
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		asUsageErrors(sub)
	}
}

func (a *app) configure() error {
	switch a.progress {
	case "auto", "plain", "none":
	default:
		return usagef("--progress is auto, plain or none, not %q", a.progress)
	}
	if a.verbose {
		a.log = slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return nil
}

// run executes one command line and gives the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = a.out.Err() // what nobody could read was not done
	}
	if err == nil {
		return exitOK
	}
	code := exitCode(err)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		a.err.Printf("ovation: %s\n", "interrupted; nothing was left half-made")
		return exitFailed
	}
	if !errors.As(err, new(reportedError)) {
		a.err.Printf("%s %s\n", a.err.Styled(term.Red, "ovation:"), term.CleanText(err.Error()))
		if text := advice(err); text != "" {
			a.err.Printf("%s\n", text)
		}
	}
	return code
}

// note tells people something beside the result.
func (a *app) note(format string, args ...any) {
	if !a.quiet {
		a.err.Printf("%s\n", term.CleanText(fmt.Sprintf(format, args...)))
	}
}

// warn tells people what they should act on.
func (a *app) warn(format string, args ...any) {
	a.err.Printf("%s %s\n", a.err.Styled(term.Yellow, "warning:"), term.CleanText(fmt.Sprintf(format, args...)))
}

// newProgress begins to show progress on stderr; nil where none is wanted.
func (a *app) newProgress() *term.Progress {
	switch {
	case a.quiet || a.progress == "none":
		return nil
	case a.progress == "plain":
		return term.NewProgress(term.New(struct{ io.Writer }{a.err}))
	}
	return term.NewProgress(a.err)
}

// printJSON writes a result for programs. People may look at it on a terminal.
func (a *app) printJSON(v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := a.out.Write(term.CleanJSON(b.Bytes()))
	return err
}

func programVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(unknown)"
}

// interactive says whether a question can be asked.
func (a *app) interactive() bool {
	f, ok := a.stdin.(*os.File)
	return ok && term.New(f).IsTerminal() && a.err.IsTerminal()
}
