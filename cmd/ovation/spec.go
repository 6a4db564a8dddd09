package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/author/descriptor"
	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/ovf"
)

func newSpecCommand(a *app) *cobra.Command {
	var output string
	var force bool
	c := &cobra.Command{
		Use:   "spec LOCATOR",
		Short: "Turn a package into the specification that builds it",
		Long: `Write the specification that 'ovation build' makes an equal package of: the
descriptor in YAML, with the package's own disks and files as sources. What
there is no key for stands in it as XML.`,
		Example: `  ovation spec appliance.ova > appliance.yaml
  ovation spec appliance.ova -o appliance.yaml && ovation build appliance.yaml -o again.ova`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.spec(c.Context(), args[0], output, force)
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "-", "the file to write, - for standard output")
	c.Flags().BoolVarP(&force, "force", "f", false, "replace an existing file")
	return c
}

func (a *app) spec(ctx context.Context, locator, output string, force bool) error {
	defer littleGarbage()()
	p, err := a.openPackage(ctx, locator)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.ProveDescriptor(); err != nil {
		return fmt.Errorf("%s: %w", p.Locator(), err)
	}
	dir := "."
	if output != "-" {
		dir = filepath.Dir(output)
	}
	s, report, err := specOf(p, dir, false)
	if err != nil {
		return err
	}
	for _, l := range report.Lost {
		a.warn("%s:%s is not in the specification", p.DescriptorName(), l)
	}
	text, err := s.Marshal()
	if err != nil {
		return fmt.Errorf("%s: %w", p.DescriptorName(), err)
	}
	if output == "-" {
		_, err := a.out.Write(text)
		return err
	}
	return writeFile(ctx, output, text, force)
}

// specOf gives the specification of a package, with sources as they are found
// from a folder; keysOnly is descriptor.Read's.
func specOf(p *appliance.Package, dir string, keysOnly bool) (*spec.Appliance, *descriptor.Report, error) {
	locator := p.Locator()
	if !strings.Contains(locator, "://") {
		if abs, err := filepath.Abs(locator); err == nil {
			locator = abs
			if base, err := filepath.Abs(dir); err == nil {
				if rel, err := filepath.Rel(base, abs); err == nil && !strings.HasPrefix(rel, "..") {
					locator = rel
				}
			}
		}
	}
	s, report, err := descriptor.Read(p.Document(), descriptor.ReadOptions{KeysOnly: keysOnly, Source: func(f *ovf.File) string { return locator + "#" + f.Href }})
	if err != nil {
		return nil, report, err
	}
	s.Name = strings.TrimSuffix(p.DescriptorName(), filepath.Ext(p.DescriptorName()))
	return s, report, nil
}
