package arrival

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/disks"
	"github.com/ovation-project/ovation/deploy/bootprobe"
	"github.com/ovation-project/ovation/deploy/stage"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/ovf"
)

// taker is somebody who takes a disk or a file as it comes.
type taker struct {
	disk   *ovf.ResolvedDisk
	create stage.Create
	to     io.Writer
	done   chan struct{} // closed when all of it was given
}

// CopyDisk writes a disk to what create makes when its size is known, and returns
// when all of the disk has come: it is not proved then, Finish does that. Where
// ctx ends first, the whole arrival does.
func (a *Arrival) CopyDisk(ctx context.Context, d *ovf.ResolvedDisk, create stage.Create) error {
	switch {
	case d.File == nil && d.Parent == nil:
		w, err := create(ctx, stage.Blank(d.Capacity))
		if err != nil {
			return err
		}
		return w.Finish(ctx)
	case d.Parent == nil && !a.keeps(d.File):
		return a.wait(ctx, d.File, &taker{disk: d, create: create, done: make(chan struct{})})
	}
	files := chain(d)
	if err := a.await(ctx, files); err != nil {
		return err
	}
	err := a.together(ctx, d, create)
	return errors.Join(err, a.release(files))
}

// CopyFile writes a file, unpacked, as it comes. It is proved as CopyDisk's is.
func (a *Arrival) CopyFile(ctx context.Context, f *ovf.File, to io.Writer) error {
	if !a.keeps(f) {
		return a.wait(ctx, f, &taker{to: to, done: make(chan struct{})})
	}
	files := []*ovf.File{f}
	if err := a.await(ctx, files); err != nil {
		return err
	}
	kept, err := a.OpenFile(ctx, f.Href)
	if err == nil {
		err = stage.CopyBounded(to, io.NewSectionReader(kept, 0, kept.Size()), f.Href)
	}
	return errors.Join(err, a.release(files))
}

// LookDisk says what was seen of a disk; of one that has not come, that.
func (a *Arrival) LookDisk(_ context.Context, d *ovf.ResolvedDisk) (stage.Seen, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s, ok := a.seen[d.ID]; ok {
		return s, nil
	}
	return stage.Seen{Size: -1, Boot: bootprobe.Result{Reason: "the disk, which may tell, has not come yet"}}, nil
}

// LookFile says nothing against a file: whether it comes is known at the end.
func (a *Arrival) LookFile(context.Context, *ovf.File) error { return nil }

func (a *Arrival) saw(s stage.Seen, takers ...*ovf.ResolvedDisk) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range takers {
		a.seen[d.ID] = s
	}
}

func (a *Arrival) want(f *ovf.File) *want {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.wants[f.Href]
}

func (a *Arrival) keeps(f *ovf.File) bool {
	w := a.want(f)
	return w != nil && w.keep
}

// wait has a taker wait for its file, until it was given all of it.
func (a *Arrival) wait(ctx context.Context, f *ovf.File, t *taker) error {
	if !a.ask(f, t) {
		return fmt.Errorf("%s: %w", f.Href, ErrPassed)
	}
	// Nobody can do without what one of them was to have. The receiver may be
	// writing for this one, and has stopped when it has ended.
	stop := context.AfterFunc(ctx, func() { a.cancel(context.Cause(ctx)) })
	defer stop()
	select {
	case <-t.done:
		return nil
	case <-a.done:
	}
	select {
	case <-t.done:
		return nil
	default:
		return a.gone(f.Href)
	}
}

// ask is for one more taker of a file; it answers false where nobody expected it.
func (a *Arrival) ask(f *ovf.File, t *taker) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.wants[f.Href]
	if w == nil || w.asked >= w.count {
		return false
	}
	w.asked++
	w.takers <- t
	return true
}

// take is given a file that is arriving.
func (a *Arrival) take(ctx context.Context, f *appliance.WholeFile) error {
	w := a.want(f.Ref)
	if w == nil {
		return nil
	}
	if f.Ref.Size >= 0 && f.Size >= 0 && f.Ref.Size != f.Size {
		return fmt.Errorf("it has %d bytes, and the descriptor says %d: %w", f.Size, f.Ref.Size, appliance.ErrAltered)
	}
	if w.keep {
		return a.store(ctx, w, f)
	}
	takers := make([]*taker, w.count)
	for i := range takers {
		select {
		case takers[i] = <-w.takers:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	a.one.Lock()
	defer a.one.Unlock()
	task := stage.Begin(a.opt.Task, f.Ref.Href, f.Size)
	in := stage.Follow(f, task)
	var err error
	if w.disk {
		err = a.giveDisk(ctx, f, in, takers)
	} else {
		err = giveFile(f, in, takers)
	}
	task.Done(err)
	if err != nil {
		return err
	}
	for _, t := range takers {
		close(t.done)
	}
	return nil
}

func giveFile(f *appliance.WholeFile, in io.Reader, takers []*taker) error {
	content, _, err := appliance.Expand(f.Ref, in)
	if err != nil {
		return err
	}
	var to []io.Writer
	for _, t := range takers {
		to = append(to, t.to)
	}
	return stage.CopyBounded(io.MultiWriter(to...), content, f.Ref.Href)
}

// giveDisk gives a disk to all that take it, in one pass.
// An image, which is a copy of what came, is read for one behind the other.
func (a *Arrival) giveDisk(ctx context.Context, f *appliance.WholeFile, in io.Reader, takers []*taker) (err error) {
	how := a.diskOptions()
	how.Capacity = takers[0].disk.Capacity
	src, closing, err := disks.Arriving(ctx, a.known.Document().Envelope(), refOf(takers[0].disk), in, f.Size, how)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closing()) }()
	var of []*ovf.ResolvedDisk
	for _, t := range takers {
		of = append(of, t.disk)
	}
	opt := convert.Options{Trusted: a.proves(f.Ref)}
	if img, ok := src.(disk.Image); ok {
		seen, err := stage.See(img)
		if err != nil {
			return err
		}
		a.saw(seen, of...)
		for _, t := range takers {
			w, err := t.create(ctx, img)
			if err == nil {
				err = a.convert(ctx, img, t.disk, w, opt)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	fan := &fan{first: bootprobe.NewBeginning(src.Size())}
	for _, t := range takers {
		w, err := t.create(ctx, src)
		if err == nil {
			err = fan.add(w)
		}
		if err != nil {
			return err
		}
	}
	if err := a.convert(ctx, src, takers[0].disk, fan.writer(), opt); err != nil {
		return err
	}
	boot, err := fan.first.Probe()
	if err != nil {
		return err
	}
	a.saw(stage.Seen{Boot: boot, Size: src.Size()}, of...)
	return nil
}

// refOf is a disk's place in the descriptor.
func refOf(d *ovf.ResolvedDisk) disks.Ref { return disks.Ref{Disk: d.Disk, File: d.File} }

func (a *Arrival) diskOptions() disks.Options {
	return disks.Options{TempDir: a.opt.TempDir, Note: a.opt.Note}
}

// proves says that the manifest, which has come, will prove a file.
func (a *Arrival) proves(f *ovf.File) bool {
	m := a.known.Manifest()
	if m == nil {
		return false
	}
	_, listed := m.Lookup(f.Href)
	return listed
}

// convert copies a disk to a writer.
func (a *Arrival) convert(ctx context.Context, src convert.Source, d *ovf.ResolvedDisk, w disk.Writer, opt convert.Options) error {
	if src.Size() != d.Capacity {
		a.log.WarnContext(ctx, "the image has another capacity than the descriptor says", "disk", d.ID, "image", src.Size(), "descriptor", d.Capacity)
	}
	stats, err := convert.Run(ctx, src, w, opt)
	if errors.Is(err, disk.ErrNeedsSeek) {
		// Nobody is to try it anew.
		return fmt.Errorf("disk %s: it comes in an order in which it can't be passed on, and can't be read again; save the package to a file: %v", d.ID, err)
	}
	if err != nil {
		return err
	}
	a.log.InfoContext(ctx, "passed on a disk", "disk", d.ID, "passed", stats.Passed, "compressed", stats.Compressed, "written", stats.Written, "cloned", stats.Cloned)
	return nil
}

// store keeps what is in a file.
func (a *Arrival) store(ctx context.Context, w *want, f *appliance.WholeFile) error {
	task := stage.Begin(a.opt.Task, f.Ref.Href, f.Size)
	kept, err := disks.Keep(ctx, a.known.Document().Envelope(), f.Ref, stage.Follow(f, task), a.diskOptions())
	task.Done(err)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	w.file = kept
	close(w.kept)
	return nil
}

// await waits until files are kept.
func (a *Arrival) await(ctx context.Context, files []*ovf.File) error {
	stop := context.AfterFunc(ctx, func() { a.cancel(context.Cause(ctx)) })
	defer stop()
	for _, f := range files {
		w := a.want(f)
		if w == nil {
			return fmt.Errorf("%s: %w", f.Href, ErrPassed)
		}
		select {
		case <-w.kept:
			continue
		case <-a.done:
		}
		select {
		case <-w.kept:
		default:
			return a.gone(f.Href)
		}
	}
	return nil
}

// together gives a disk that is put together of files that were kept.
func (a *Arrival) together(ctx context.Context, d *ovf.ResolvedDisk, create stage.Create) (err error) {
	a.one.Lock()
	defer a.one.Unlock()
	img, err := disks.OpenFrom(ctx, a.known, d.ID, a, a.diskOptions())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	seen, err := stage.See(img.Image)
	if err != nil {
		return err
	}
	a.saw(seen, d)
	w, err := create(ctx, img)
	if err != nil {
		return err
	}
	return a.convert(ctx, img, d, w, convert.Options{})
}

// OpenFile opens what was kept of a file. It makes an Arrival a disk.Files.
func (a *Arrival) OpenFile(_ context.Context, href string) (disk.File, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.wants[href]
	if w == nil || w.file == nil {
		return nil, fmt.Errorf("%q: %w", href, disk.ErrOutside)
	}
	return w.file, nil
}

// release frees files of which nobody needs what was kept any more.
func (a *Arrival) release(files []*ovf.File) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for _, f := range files {
		if w := a.wants[f.Href]; w != nil {
			if w.users--; w.users == 0 {
				errs = append(errs, w.drop())
			}
		}
	}
	return errors.Join(errs...)
}
