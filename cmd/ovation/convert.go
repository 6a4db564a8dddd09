package main

import (
	"bytes"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/appliance"
)

func newConvertCommand(a *app) *cobra.Command {
	var f packageFlags
	c := &cobra.Command{
		Use:   "convert LOCATOR",
		Short: "Turn a package into one that a product takes",
		Long: `Turn any package into one for a consumer: the version of OVF, kinds of items,
hardware family, models of devices, format of the disks, algorithm and spelling
of the manifest. docs/profiles.md says what each profile does and why.

Disks that are in the format already are copied as they are. A signature does
not hold for the new package and is left out; --key signs that. Chunk digests
are made anew.`,
		Example: `  ovation convert appliance.ova -o for-vbox.ova --for virtualbox
  ovation convert https://example.org/appliance.ova -o appliance/ --for proxmox
  ovation convert old.ova -o new.ova --for vsphere --manifest sha512`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.convert(c.Context(), args[0], &f)
		},
	}
	f.register(c.Flags())
	f.registerOption(c.Flags())
	f.trust.registerPolicy(c.Flags())
	return c
}

func (a *app) convert(ctx context.Context, locator string, f *packageFlags) error {
	defer littleGarbage()()
	if f.output == "" {
		return usagef("--output is needed: the package to write")
	}
	if f.profile == "" {
		return usagef("--for is needed: whom the package is for")
	}
	opt, err := a.buildOptions(f)
	if err != nil {
		return err
	}
	p, err := a.openPackage(ctx, locator)
	if err != nil {
		return err
	}
	defer p.Close()
	judge := opt.Judge
	if err := judge(ctx, p); err != nil {
		return err
	}
	// The package is opened again for its files, and may be another by then.
	opt.Judge = func(ctx context.Context, again *appliance.Package) error {
		_, was := p.ManifestBytes()
		if _, is := again.ManifestBytes(); !bytes.Equal(is, was) || !bytes.Equal(again.Document().Bytes(), p.Document().Bytes()) {
			return fmt.Errorf("%s: %w: it was replaced by another while it was converted", p.Locator(), appliance.ErrAltered)
		}
		return judge(ctx, again)
	}
	s, report, err := specOf(p, ".", true)
	if err != nil {
		return err
	}
	for _, l := range report.Lost {
		a.warn("%s:%s is left out", p.DescriptorName(), l)
	}
	if _, certificate := p.Certificate(); certificate != nil && f.key == "" {
		a.warn("the signature of %s does not hold for another package and is left out", p.Locator())
	}
	if p.Manifest() == nil {
		a.note("%s has no manifest: it is converted unproved", p.Locator())
	}
	if err := a.shape(s, f, &opt); err != nil {
		return err
	}
	return a.buildPackage(ctx, s, f, opt)
}
