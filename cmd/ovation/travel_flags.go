package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/deploy/fit"
	"github.com/ovation-project/ovation/deploy/portability"
)

// travelFlags say how portable a package has to be, and which risks are borne.
type travelFlags struct {
	minLevel int
	force    []string
}

func (f *travelFlags) register(c *cobra.Command) {
	var risks []string
	var about strings.Builder
	for _, r := range portability.Risks() {
		risks = append(risks, string(r))
		fmt.Fprintf(&about, "; %s: %s", r, r.Describe())
	}
	fl := c.Flags()
	fl.IntVar(&f.minLevel, "min-portability", 0, "the lowest portability level (1 to 3) that will do")
	fl.StringSliceVar(&f.force, "force", nil, "bear a risk of a package that was not made for the target (portability level 1)"+about.String())
	completeWith(c, "force", risks)
	completeWith(c, "min-portability", []string{"1", "2", "3"})
}

// choose adds what the flags say to the choices.
func (f *travelFlags) choose(c *fit.Choices) error {
	if f.minLevel < 0 || f.minLevel > int(portability.ManyFamilies) {
		return usagef("--min-portability is a level from 1 to 3, not %d", f.minLevel)
	}
	c.MinLevel = portability.Level(f.minLevel)
	known := map[string]portability.Risk{}
	for _, r := range portability.Risks() {
		known[string(r)] = r
	}
	for _, name := range f.force {
		r, err := word("force", name, known)
		if err != nil {
			return err
		}
		c.Force = append(c.Force, r)
	}
	return nil
}
