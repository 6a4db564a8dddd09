package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// Flags that take one of a few words have a map of those to what they mean.

func keys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func words[V any](m map[string]V) string { return strings.Join(keys(m), ", ") }

func word[V any](flag, value string, m map[string]V) (V, error) {
	v, ok := m[value]
	if !ok {
		return v, usagef("--%s is one of %s, not %q", flag, words(m), value)
	}
	return v, nil
}

// completeWith has the shell offer values for a flag, and no files.
func completeWith(c *cobra.Command, flag string, values []string) {
	_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}
