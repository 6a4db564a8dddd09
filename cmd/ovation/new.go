package main

import (
	"context"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/internal/atomicfile"
)

func newNewCommand(a *app) *cobra.Command {
	var name, disk string
	var force bool
	c := &cobra.Command{
		Use:   "new [FILE]",
		Short: "Begin a specification that a package is built from",
		Long: `Write a commented specification, appliance.yaml unless another name is given,
that 'ovation build' makes a package of. FILE - is standard output.`,
		Example: `  ovation new
  ovation new --name shop --disk shop.qcow2 shop.yaml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			file := "appliance.yaml"
			if len(args) > 0 {
				file = args[0]
			}
			text := spec.Template(name, disk)
			if file == "-" {
				_, err := a.out.Write(text)
				return err
			}
			if err := writeFile(c.Context(), file, text, force); err != nil {
				return err
			}
			a.note("%s is written: edit it, then run 'ovation build %s'", file, file)
			return nil
		},
	}
	c.Flags().StringVar(&name, "name", "appliance", "the appliance's name")
	c.Flags().StringVar(&disk, "disk", "disk.qcow2", "the image that its disk is made from")
	c.Flags().BoolVarP(&force, "force", "f", false, "replace an existing file")
	return c
}

// writeFile writes a file that appears when it is complete.
func writeFile(ctx context.Context, name string, data []byte, force bool) error {
	set := atomicfile.New(ctx, filepath.Dir(name), atomicfile.Options{Replace: force})
	defer set.Abort()
	f, err := set.CreateFile(filepath.Base(name))
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	return set.Commit(ctx)
}
