package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/disks"
	"github.com/ovation-project/ovation/appliance/verdict"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
)

func (a *app) diskOptions(format, tempDir string) disks.Options {
	return disks.Options{Format: format, TempDir: tempDir, Note: func(s string) { a.note("%s", s) }}
}

// openPackageDisk opens a disk of a package, by its ID or its file's name.
func (a *app) openPackageDisk(ctx context.Context, locator, id, format, dir string) (*openDisk, error) {
	p, err := a.openPackage(ctx, locator)
	if err != nil {
		return nil, err
	}
	img, err := disks.Open(ctx, p, id, a.diskOptions(format, dir))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", p.Locator(), err), p.Close())
	}
	return &openDisk{Image: img, name: p.Locator() + "#" + id, size: img.FileSize, close: p.Close}, nil
}

// openPackageSource opens a disk of a package to be converted, and proved on
// the way.
func (a *app) openPackageSource(ctx context.Context, locator, id, tempDir string, f diskConvertFlags) (*diskSource, error) {
	p, in, err := a.openOnce(ctx, locator)
	if err != nil {
		return nil, err
	}
	opt := a.diskOptions(f.from, tempDir)
	if in != nil {
		policy, store, err := f.trust.resolve()
		if err != nil {
			return nil, errors.Join(err, in.Close())
		}
		opt.Judge = func(r *appliance.Report) error {
			_, err := policy.Decide(verdict.Of(r, store, time.Now()))
			return err
		}
		src, err := disks.OpenArriving(ctx, in, id, opt)
		if err != nil {
			return nil, errors.Join(err, in.Close())
		}
		return &diskSource{disk: src.Disk, run: src.Convert, close: func() error { return errors.Join(src.Close(), in.Close()) }}, nil
	}
	if err := a.admit(p, f.trust); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	src, err := disks.OpenSource(ctx, p, id, opt)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", p.Locator(), err), p.Close())
	}
	if !src.Verified {
		a.note("the manifest of %s does not tell the digest of this disk: it is converted unproved", p.Locator())
	}
	return &diskSource{
		disk: src.Disk,
		run: func(ctx context.Context, w disk.Writer, opt convert.Options) (convert.Stats, error) {
			return src.Convert(ctx, w, opt)
		},
		close: func() error { return errors.Join(src.Close(), p.Close()) },
	}, nil
}
