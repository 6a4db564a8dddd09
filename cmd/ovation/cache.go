package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/appliance/cache"
	"github.com/ovation-project/ovation/internal/term"
)

func newCacheCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "cache",
		Short: "See and clear what was kept of packages on web servers",
		Long: `What run fetches of packages on web servers stays in $XDG_CACHE_HOME/ovation
(~/.cache/ovation) for the next time.`,
	}
	asGroup(c)
	c.AddCommand(newCacheListCommand(a), newCachePruneCommand(a))
	return c
}

func newCacheListCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Short:   "List the files that are kept",
		Example: "  ovation cache ls\n  ovation cache ls --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := cache.Dir()
			if err != nil {
				return err
			}
			files, err := cache.Open(dir).List(c.Context())
			if err != nil {
				return err
			}
			return a.showCached(dir, files, "")
		},
	}
}

func newCachePruneCommand(a *app) *cobra.Command {
	var unused, size string
	var all, dryRun bool
	c := &cobra.Command{
		Use:   "prune",
		Short: "Remove files that were not used for long, or are too many",
		Long: `Remove files from the cache: those that were not used for longer than --unused,
and of the rest those that were used longest ago until what is left fits in
--max-size. Without flags that is all that was not used for 30 days. What a
guest is using stays.`,
		Example: "  ovation cache prune\n  ovation cache prune --unused 7d --max-size 20GiB\n  ovation cache prune --all --dry-run",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			opt := cache.PruneOptions{Keep: -1, DryRun: dryRun}
			switch {
			case all && (unused != "" || size != ""):
				return usagef("--all leaves nothing to choose: give it alone")
			case all:
				opt.Keep = 0
			case unused == "" && size == "":
				unused = "30d"
			}
			var err error
			if unused != "" {
				if opt.Unused, err = parseAge(unused); err != nil {
					return usagef("--unused is a time such as 30d or 12h, not %q", unused)
				}
			}
			if size != "" {
				if opt.Keep, err = term.ParseSize(size); err != nil {
					return usagef("--max-size: %w", err)
				}
			}
			dir, err := cache.Dir()
			if err != nil {
				return err
			}
			removed, err := cache.Open(dir).Prune(c.Context(), opt)
			if err != nil {
				return err
			}
			verb := "removed"
			if dryRun {
				verb = "would remove"
			}
			return a.showCached(dir, removed, verb)
		},
	}
	c.Flags().StringVar(&unused, "unused", "", "remove what was not used for so long, such as 30d or 12h")
	c.Flags().StringVar(&size, "max-size", "", "remove until so much is left, such as 20GiB")
	c.Flags().BoolVar(&all, "all", false, "remove all")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "tell what would be removed, and remove nothing")
	return c
}

// parseAge reads a duration, in days too.
func parseAge(s string) (time.Duration, error) {
	var d time.Duration
	var err error
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n int
		n, err = strconv.Atoi(days)
		if n > 36500 {
			err = strconv.ErrRange
		}
		d = time.Duration(n) * 24 * time.Hour
	} else {
		d, err = time.ParseDuration(s)
	}
	if err == nil && d <= 0 {
		err = strconv.ErrRange
	}
	return d, err
}

// showCached prints files of the cache; verb says what was done with them, ""
// where they are listed.
func (a *app) showCached(dir string, files []cache.Info, verb string) error {
	var total int64
	for _, f := range files {
		total += f.Present
	}
	if a.json {
		return a.printJSON(struct {
			APIVersion string       `json:"apiVersion"`
			Dir        string       `json:"dir"`
			Bytes      int64        `json:"bytes"`
			Files      []cache.Info `json:"files"`
		}{"ovation/cache/v1", dir, total, append([]cache.Info{}, files...)})
	}
	t := term.NewTable("FILE", ">HERE", ">SIZE", "STATE", "USED", "FROM")
	for _, f := range files {
		state := "partial"
		switch {
		case f.InUse:
			state = "in use"
		case f.Verified:
			state = "verified"
		case f.Size > 0 && f.Present == f.Size:
			state = "complete"
		}
		t.Row(f.Name, term.Size(f.Present), term.Size(f.Size), state, f.Used.Format("2006-01-02 15:04"), f.Locator)
	}
	if len(files) > 0 {
		t.Print(a.out)
	}
	summary := fmt.Sprintf("%d files, %s, in %s", len(files), term.Size(total), dir)
	if verb != "" {
		summary = fmt.Sprintf("%s %d files, %s", verb, len(files), term.Size(total))
	}
	a.out.Printf("%s\n", term.Clean(summary))
	return nil
}
