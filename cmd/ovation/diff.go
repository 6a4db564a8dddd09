package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/author/diff"
	"github.com/ovation-project/ovation/internal/term"
)

// errPackagesDiffer makes the exit code of diff.
var errPackagesDiffer = errors.New("the packages differ")

// diffReport is what diff prints as JSON.
type diffReport struct {
	APIVersion string `json:"apiVersion"`
	*diff.Report
}

func newDiffCommand(a *app) *cobra.Command {
	var opt diff.Options
	c := &cobra.Command{
		Use:   "diff LOCATOR LOCATOR",
		Short: "Compare two packages as a person would",
		Long: `Say what differs from the first package to the second: machines, hardware,
networks, properties, texts, and what disks and files hold, whatever their
formats. How it is written, prefixes, order and units, does not count.

The exit code is 1 where the packages differ. Values of passwords are not shown.`,
		Example: `  ovation diff old.ova new.ova
  ovation diff appliance.ova https://example.org/appliance.ova --no-content`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return a.diff(c.Context(), args[0], args[1], opt)
		},
	}
	c.Flags().BoolVar(&opt.All, "all", false, "compare Info texts, IDs of files, kinds of items and populated sizes as well")
	c.Flags().BoolVar(&opt.NoContent, "no-content", false, "compare descriptors only, not what disks and files hold")
	c.Flags().IntVar(&opt.Workers, "workers", 0, "how many processors to use (0: all)")
	return c
}

func (a *app) diff(ctx context.Context, first, second string, opt diff.Options) error {
	defer littleGarbage()()
	x, err := a.openPackage(ctx, first)
	if err != nil {
		return err
	}
	defer x.Close()
	y, err := a.openPackage(ctx, second)
	if err != nil {
		return err
	}
	defer y.Close()
	progress := a.newProgress()
	defer progress.Wait()
	var tasks []*term.Task
	opt.Disks = a.diskOptions("", "")
	opt.Progress = func(name string, total int64) func(int64) {
		t := progress.Track(name, total)
		tasks = append(tasks, t)
		return t.Set
	}
	report, err := diff.Packages(ctx, x, y, opt)
	for _, t := range tasks {
		t.Done(err)
	}
	if err != nil {
		return err
	}
	progress.Wait()
	for _, u := range report.Unread {
		a.warn("not compared: %s", u)
	}
	switch {
	case a.json:
		if report.Changes == nil {
			report.Changes = []diff.Change{}
		}
		if err := a.printJSON(diffReport{"ovation/diff/v1", report}); err != nil {
			return err
		}
	case report.Equal():
		a.out.Printf("%s\n", a.out.Styled(term.Green, "no difference"))
	default:
		a.printChanges(report.Changes)
	}
	if !report.Equal() {
		return reportedError{errPackagesDiffer}
	}
	return nil
}

func (a *app) printChanges(changes []diff.Change) {
	for _, c := range changes {
		path := term.Clean(c.Path)
		c.Old, c.New = inLine(c.Old), inLine(c.New)
		switch c.Kind {
		case diff.Added:
			a.out.Printf("%s %s: %s\n", a.out.Styled(term.Green, "+"), path, term.Clean(c.New))
		case diff.Removed:
			a.out.Printf("%s %s: %s\n", a.out.Styled(term.Red, "-"), path, term.Clean(c.Old))
		case diff.Changed:
			if c.Old == "" {
				a.out.Printf("%s %s: %s\n", a.out.Styled(term.Yellow, "~"), path, term.Clean(c.New))
				continue
			}
			a.out.Printf("%s %s: %s -> %s\n", a.out.Styled(term.Yellow, "~"), path, term.Clean(c.Old), term.Clean(c.New))
		}
	}
}

// longText is how much of a text is shown in a line.
const longText = 200

// inLine makes a text one line that is not too long to read.
func inLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > longText {
		return string(r[:longText]) + "…"
	}
	return s
}
