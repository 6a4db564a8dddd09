package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"strings"
	"sync"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/disks"
	"github.com/ovation-project/ovation/appliance/stream"
)

// nbdServed is what nbd serves. A nil one is nothing.
type nbdServed struct {
	images []*nbdImage
	pkg    *appliance.Package // nil for an image that is in none
	// arriving are the files of a package on a web server, nil elsewhere.
	arriving *stream.Stream
	failed   chan error
}

// nbdImage is a disk to be served.
type nbdImage struct {
	*openDisk
	export, description string
}

func (s *nbdServed) close() error {
	if s == nil {
		return nil
	}
	var errs []error
	if s.arriving != nil {
		errs = append(errs, s.arriving.Close())
	}
	for _, i := range s.images {
		errs = append(errs, i.Close())
	}
	if s.pkg != nil {
		errs = append(errs, s.pkg.Close())
	}
	return errors.Join(errs...)
}

// openNBD opens what is to be served. What it has opened it gives with an error
// too.
func (a *app) openNBD(ctx context.Context, name string, f nbdFlags) (*nbdServed, error) {
	locator, id, one := packageDisk(name)
	if !one && !isPackage(name) {
		d, err := a.openImage(ctx, name, f.format, "")
		if err != nil {
			return nil, err
		}
		return &nbdServed{images: []*nbdImage{{openDisk: d}}}, nil
	}
	if !one {
		locator = name
	}
	p, err := a.openPackage(ctx, locator)
	if err != nil {
		return nil, err
	}
	s := &nbdServed{pkg: p, failed: make(chan error, 1)}
	if err := a.admit(p, f.trust); err != nil {
		return s, err
	}
	if p.Remote() {
		opt, err := a.streaming(ctx, p, f.noCache)
		if err != nil {
			return s, err
		}
		opt.Note = func(text string) { a.note("%s", text) }
		opt.Failed = func(err error) { s.failed <- err } // it is called once
		s.arriving = stream.New(ctx, p, opt)
	}
	env := p.Document().Envelope()
	if one {
		ref, err := disks.Find(env, id)
		if err != nil {
			return s, fmt.Errorf("%s: %w", p.Locator(), err)
		}
		if id == "" && ref.Disk != nil {
			id = ref.Disk.ID
		}
		return s, s.open(ctx, a, id, ref.File.Href, f.format)
	}
	for _, d := range env.Disks {
		if d.FileRef == "" {
			a.note("disk %q is in no file and not served: it begins empty", d.ID)
			continue
		}
		ref, err := disks.Find(env, d.ID)
		if err != nil {
			return s, fmt.Errorf("%s: %w", p.Locator(), err)
		}
		if err := s.open(ctx, a, d.ID, ref.File.Href, f.format); err != nil {
			return s, err
		}
	}
	if len(s.images) == 0 {
		return s, fmt.Errorf("%s: %w: it has none", p.Locator(), disks.ErrNoDisk)
	}
	return s, nil
}

// open opens one disk of the package: while it arrives, where that is possible.
func (s *nbdServed) open(ctx context.Context, a *app, id, title, format string) error {
	var img *disks.Image
	err := stream.ErrPacked // where nothing arrives it is as if
	if s.arriving != nil {
		img, err = disks.OpenFrom(ctx, s.pkg, id, s.arriving, a.diskOptions(format, ""))
	}
	if errors.Is(err, stream.ErrPacked) {
		opt := a.diskOptions(format, "")
		opt.Proved = true
		img, err = disks.Open(ctx, s.pkg, id, opt)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.pkg.Locator(), err)
	}
	s.images = append(s.images, &nbdImage{&openDisk{Image: img, name: s.pkg.Locator() + "#" + id, size: img.FileSize,
		close: func() error { return nil }}, id, title})
	return nil
}

// watch ends the serving when a file turns out to be useless, and fetches the rest
// in the background where that is asked for. What it returns waits until the
// serving has ended, and gives what it was ended for.
func (s *nbdServed) watch(ctx context.Context, a *app, fill bool, stop func()) func() error {
	if s.arriving == nil {
		return func() error { return nil }
	}
	var wg sync.WaitGroup
	var useless error
	wg.Go(func() {
		select {
		case useless = <-s.failed:
			stop()
		case <-ctx.Done():
			select {
			case useless = <-s.failed:
			default:
			}
		}
	})
	if fill {
		s.arriving.Hurry()
		wg.Go(func() {
			if err := s.arriving.Fill(ctx); err != nil {
				return // failed says why, unless the serving has ended
			}
			if _, whole := s.arriving.Proved(); whole {
				a.note("all is here, and is what the manifest says: the network is not needed any more")
			} else {
				a.note("all is here: the network is not needed any more")
			}
		})
	}
	return func() error {
		wg.Wait()
		return useless
	}
}

// isPackage says that a name means a package rather than a disk image: a
// folder, or what is called .ova or .ovf.
func isPackage(name string) bool {
	if onWeb(name) {
		u, err := url.Parse(name)
		if err != nil {
			return false
		}
		name = u.Path
	} else if fi, err := os.Stat(name); err == nil && fi.IsDir() {
		return true
	}
	switch strings.ToLower(path.Ext(name)) {
	case ".ova", ".ovf":
		return true
	}
	return false
}
