package main

import (
	"context"
	"crypto"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/appliance/manifest"
	"github.com/ovation-project/ovation/author/pack"
)

func newPackCommand(a *app) *cobra.Command {
	var f packageFlags
	c := &cobra.Command{
		Use:   "pack FOLDER",
		Short: "Make an archive of a package in a folder",
		Long: `Put a package that lies in a folder into an archive: the descriptor first, then
the manifest and the certificate, then the files as in the References. All is
as it was; a manifest is made where there is none, or where --manifest asks for
another, which ends a signature.

Files are proved by the manifest while they are copied.`,
		Example: `  ovation pack appliance/ -o appliance.ova
  ovation pack appliance/appliance.ovf -o appliance.ova --manifest sha256`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.repack(c.Context(), args[0], &f, ".ova")
		},
	}
	f.registerOutput(c.Flags())
	return c
}

func newUnpackCommand(a *app) *cobra.Command {
	var f packageFlags
	c := &cobra.Command{
		Use:   "unpack LOCATOR",
		Short: "Put the files of an archive into a folder",
		Long: `Put the files of a package into a folder, as they are. They are proved by the
manifest while they are copied, and none is there under its name before all of
them are.`,
		Example: `  ovation unpack appliance.ova -o appliance/`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.repack(c.Context(), args[0], &f, "")
		},
	}
	f.registerOutput(c.Flags())
	return c
}

func (a *app) repack(ctx context.Context, locator string, f *packageFlags, ending string) error {
	hash, none, err := f.hash()
	if err != nil {
		return err
	}
	when, err := sourceDate()
	if err != nil {
		return err
	}
	p, err := a.openPackage(ctx, locator)
	if err != nil {
		return err
	}
	defer p.Close()
	pkg, left, err := pack.Of(ctx, p)
	if err != nil {
		return err
	}
	for _, name := range left {
		a.warn("%s is left out: the descriptor does not refer to it", name)
	}
	pkg.When = when
	switch {
	case none:
		hash = 0
	case f.manifest == "" && pkg.Hash == 0:
		hash = crypto.SHA256
	}
	if f.manifest != "" || pkg.Manifest == nil {
		if pkg.Certificate != nil {
			a.warn("the signature of %s does not hold for another manifest and is left out", p.Locator())
		}
		pkg.Manifest, pkg.Certificate, pkg.Hash, pkg.Style = nil, nil, hash, manifest.Style{}
	}
	if f.output == "" {
		f.output = strings.TrimSuffix(filepath.Base(p.DescriptorName()), filepath.Ext(p.DescriptorName())) + ending
	}
	out, err := a.packageOutput(f, "")
	if err != nil {
		return err
	}
	return a.writePackage(ctx, pkg, f, out)
}
