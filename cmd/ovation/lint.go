package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/judge"
	"github.com/ovation-project/ovation/internal/redact"
	"github.com/ovation-project/ovation/internal/term"
	"github.com/ovation-project/ovation/ovf"
	"github.com/ovation-project/ovation/ovf/lint"
)

// lintFlags are the flags of the command.
type lintFlags struct {
	opt        lint.Options
	format     string
	explain    string
	maxSize    string
	descriptor bool
}

func newLintCommand(a *app) *cobra.Command {
	f := &lintFlags{}
	c := &cobra.Command{
		Use:   "lint LOCATOR...",
		Short: "Judge descriptors and packages by the rules of the standard",
		Long: `Lint judges a descriptor by the rules of the standard, and the files of a package
with it: each finding with its rule, line, column, and what to do about it. Of
several packages, --json prints one document each, and --format sarif one for all.

The exit code is 3 where there is an error, else 0.`,
		Example: `  ovation lint appliance.ova
  ovation lint appliance.ovf --descriptor-only --lax
  ovation lint *.ovf --format sarif > lint.sarif
  ovation lint --explain OVF-DISK-004`,
		Args: func(c *cobra.Command, args []string) error {
			if f.explain != "" {
				return cobra.NoArgs(c, args)
			}
			return cobra.MinimumNArgs(1)(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error {
			if f.explain != "" {
				return a.explainRule(f.explain)
			}
			if a.json {
				f.format = "json"
			}
			switch f.format {
			case "text", "json", "sarif":
			default:
				return usagef("--format is text, json or sarif, not %q", f.format)
			}
			for i, id := range f.opt.Rules {
				f.opt.Rules[i] = strings.ToUpper(id)
			}
			for _, id := range f.opt.Rules {
				if _, ok := lint.Find(id); !ok {
					return usagef("there is no rule %q; docs/lint.md lists them", id)
				}
			}
			return a.lint(c.Context(), args, f)
		},
	}
	c.Flags().StringVar(&f.format, "format", "text", "how findings are printed: text, json or sarif")
	c.Flags().BoolVar(&f.opt.Lax, "lax", false, "turn errors that some products are known to commit into warnings")
	c.Flags().StringArrayVar(&f.opt.Rules, "rule", nil, "apply this rule only (may be given several times)")
	c.Flags().StringVar(&f.explain, "explain", "", "say what the rule with this ID is about")
	c.Flags().StringVar(&f.maxSize, "max-size", "16MiB", "the largest descriptor that is read")
	c.Flags().BoolVar(&f.descriptor, "descriptor-only", false, "look at no file but the descriptor")
	return c
}

func lintLocator(ctx context.Context, locator string, aopt appliance.Options, f *lintFlags) ([]lint.Finding, error) {
	most, err := term.ParseSize(f.maxSize)
	if err != nil || most <= 0 || most > 1<<31-1 {
		return nil, usagef("--max-size: %q is not a size from 1 byte to 2 GiB", f.maxSize)
	}
	if st, err := os.Stat(locator); f.descriptor && err == nil && !st.IsDir() && strings.EqualFold(filepath.Ext(locator), ".ovf") {
		return lintFile(locator, st.Size(), most, f.opt)
	}
	aopt.MaxDescriptor = int(most)
	p, err := appliance.Open(ctx, locator, aopt)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	if f.descriptor {
		return lint.Run(p.Document(), f.opt), nil
	}
	return judge.Lint(ctx, p, f.opt), nil
}

// lintFile judges a descriptor by itself, whatever lies beside it.
func lintFile(path string, size, most int64, opt lint.Options) ([]lint.Finding, error) {
	if size > most {
		return nil, fmt.Errorf("%s: %w: %w; --max-size raises it", path, appliance.ErrInvalid, &ovf.LimitError{What: "size", Limit: int(most)})
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	doc, err := ovf.Parse(data, ovf.ParseOptions{MaxSize: int(most)})
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, appliance.ErrInvalid, err)
	}
	return lint.Run(doc, opt), nil
}

func (a *app) explainRule(id string) error {
	r, ok := lint.Find(strings.ToUpper(id))
	if !ok {
		return usagef("there is no rule %q; docs/lint.md lists them", id)
	}
	if a.json {
		return a.printJSON(r)
	}
	severity := string(r.Severity)
	if r.Lax {
		severity += " (a warning with --lax)"
	}
	a.out.Printf("%s: %s\n\nSeverity: %s\nClause:   %s\n\n%s\n", a.out.Styled(term.Bold, r.ID), r.Title, severity, r.Clause, r.Help)
	return nil
}

// lintResult is the JSON shape of the command.
type lintResult struct {
	APIVersion string         `json:"apiVersion"`
	Locator    string         `json:"locator"`
	Errors     int            `json:"errors"`
	Warnings   int            `json:"warnings"`
	Findings   []lint.Finding `json:"findings"`
}

var errLint = errors.New("the package breaks rules of the standard")

// lint judges each of the locators. One that cannot be opened does not keep the
// others from being judged.
func (a *app) lint(ctx context.Context, locators []string, f *lintFlags) error {
	opt, err := a.packageOptions()
	if err != nil {
		return err
	}
	var all []lintResult
	var failed []error
	errorsIn := 0
	for _, locator := range locators {
		found, err := lintLocator(ctx, locator, opt, f)
		if broken, ok := lint.Broken(err); ok {
			found, err = []lint.Finding{broken}, nil
		}
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			failed = append(failed, err)
			continue
		}
		r := newLintResult(locator, found)
		errorsIn += r.Errors
		switch f.format {
		case "json":
			err = a.printJSON(r)
		case "sarif":
			all = append(all, r)
		default:
			a.printFindings(r)
		}
		if err != nil {
			return err
		}
	}
	if f.format == "sarif" && len(all) > 0 {
		if err := a.printJSON(sarif(all)); err != nil {
			return err
		}
	}
	switch {
	case len(failed) > 0:
		return errors.Join(failed...)
	case errorsIn > 0:
		return reportedError{errLint}
	}
	return nil
}

func newLintResult(locator string, found []lint.Finding) lintResult {
	if strings.Contains(locator, "://") {
		locator = redact.URL(locator)
	}
	r := lintResult{APIVersion: "ovation/lint/v1", Locator: locator, Findings: append([]lint.Finding{}, found...)}
	for _, f := range found {
		switch f.Severity {
		case lint.Error:
			r.Errors++
		case lint.Warning:
			r.Warnings++
		}
	}
	return r
}

func (a *app) printFindings(r lintResult) {
	styles := map[lint.Severity]term.Style{lint.Error: term.Red, lint.Warning: term.Yellow, lint.Info: term.Dim}
	for _, f := range r.Findings {
		if a.quiet && f.Severity != lint.Error {
			continue
		}
		where := term.Clean(r.Locator)
		if f.Pos != (ovf.Pos{}) {
			where += ":" + f.Pos.String()
		}
		a.out.Printf("%s: %s: %s [%s]\n    %s\n", where, a.out.Styled(styles[f.Severity], string(f.Severity)), term.Clean(f.Text), f.Rule, f.Help)
	}
	a.note("%d errors, %d warnings", r.Errors, r.Warnings)
}

// sarif gives the findings in the Static Analysis Results Interchange Format,
// version 2.1.0 (OASIS).
func sarif(all []lintResult) any {
	type object = map[string]any
	levels := map[lint.Severity]string{lint.Error: "error", lint.Warning: "warning", lint.Info: "note"}
	rules, results := []object{}, []object{}
	index := map[string]int{}
	for _, one := range all {
		uri := one.Locator
		if !strings.Contains(uri, "://") {
			uri = (&url.URL{Path: filepath.ToSlash(uri)}).String()
		}
		for _, f := range one.Findings {
			if _, ok := index[f.Rule]; !ok {
				r, _ := lint.Find(f.Rule)
				index[f.Rule] = len(rules)
				rules = append(rules, object{
					"id": r.ID, "shortDescription": object{"text": r.Title}, "help": object{"text": r.Help},
					"fullDescription":      object{"text": r.Title + " (" + r.Clause + ")"},
					"defaultConfiguration": object{"level": levels[r.Severity]},
				})
			}
			place := object{"artifactLocation": object{"uri": uri}}
			if f.Pos != (ovf.Pos{}) {
				place["region"] = object{"startLine": f.Pos.Line, "startColumn": f.Pos.Column}
			}
			results = append(results, object{
				"ruleId": f.Rule, "ruleIndex": index[f.Rule], "level": levels[f.Severity],
				"message":   object{"text": f.Text + ". " + f.Help},
				"locations": []object{{"physicalLocation": place}},
			})
		}
	}
	return object{
		"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0",
		"runs": []object{{
			"tool":    object{"driver": object{"name": "ovation", "version": programVersion(), "rules": rules}},
			"results": results, "columnKind": "unicodeCodePoints",
		}},
	}
}
