package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/disks"
	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/disk/formats"
	"github.com/ovation-project/ovation/disk/local"
	"github.com/ovation-project/ovation/internal/atomicfile"
	"github.com/ovation-project/ovation/internal/replay"
	"github.com/ovation-project/ovation/ovf"
)

// Received is a package that arrived once, with its disks made into images on
// the way. It is a disk.Files of those.
type Received struct {
	// Package knows the descriptor and the manifest; its files have passed by.
	Package *appliance.Package

	opt   Options
	log   *stager
	mu    sync.Mutex
	files map[string]string // paths of what came, by href
	ready map[string]bool   // hrefs of files that are images for drives already
	open  []io.Closer
}

// Receive reads an archive once, front to back, and makes the disks in it into
// images in opt.Dir as they arrive: nothing else of it is stored but the other
// files that the descriptor names, and the disks that cannot be converted in the
// order in which they come, which is said. Every file is compared with the
// manifest; where one was altered nothing is left.
func Receive(ctx context.Context, r io.Reader, opt Options) (_ *Received, err error) {
	opt.Volatile = true
	v := &Received{opt: opt, log: newStager(nil, opt), files: map[string]string{}, ready: map[string]bool{}}
	in := &incoming{Received: v}
	defer func() {
		err = errors.Join(err, in.finish(err))
		if err != nil {
			err = errors.Join(err, v.remove())
		}
	}()
	pkg, report, err := appliance.Receive(ctx, r, appliance.ReceiveOptions{File: in.take})
	if err == nil {
		err = in.finish(nil)
	}
	// Damage that comes of an alteration is the alteration.
	if report != nil && report.Err() != nil {
		return nil, report.Err()
	}
	if err != nil {
		return nil, err
	}
	v.Package = pkg
	return v, nil
}

// remove takes away what was made.
func (v *Received) remove() error {
	var errs []error
	for _, path := range v.files {
		if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Close closes the files that were opened.
func (v *Received) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	var errs []error
	for _, c := range v.open {
		errs = append(errs, c.Close())
	}
	v.open = nil
	return errors.Join(errs...)
}

// OpenFile opens what was made of a file.
func (v *Received) OpenFile(_ context.Context, href string) (disk.File, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	path, ok := v.files[href]
	if !ok {
		return nil, fmt.Errorf("%w: %q did not come", appliance.ErrIncomplete, href)
	}
	f, err := local.Open(path)
	if err != nil {
		return nil, err
	}
	v.open = append(v.open, f)
	return f, nil
}

// All is the package's All for what was received.
func (v *Received) All(ctx context.Context, machines []*deploy.Planned) (err error) {
	Place(machines, v.opt.Dir, v.opt.Volatile)
	uses := map[string]int{}
	each := func(do func(href string, p *deploy.Planned, id string) error) error {
		for _, p := range machines {
			for _, id := range p.DriveIDs() {
				href := ""
				if f := p.Files[id]; f != nil {
					href = f.Href
				} else if d := p.Disks[id]; d.File != nil && d.Parent == nil {
					href = d.File.Href
				}
				if err := do(href, p, id); err != nil {
					return fmt.Errorf("%s: %w", contentID(p, id), err)
				}
			}
		}
		return nil
	}
	_ = each(func(href string, _ *deploy.Planned, _ string) error { uses[href]++; return nil })
	var moved []string
	defer func() {
		// What other drives were made from is not needed any more.
		err = errors.Join(err, v.Close())
		if err != nil {
			for _, path := range moved {
				err = errors.Join(err, os.Remove(path))
			}
		}
		err = errors.Join(err, v.remove())
	}()
	return each(func(href string, p *deploy.Planned, id string) error {
		path := drive(p, id).Medium.Path
		if uses[href]--; uses[href] == 0 && v.ready[href] {
			if err := os.Rename(v.files[href], path); err != nil {
				return err
			}
			moved = append(moved, path)
			return nil
		}
		if err := v.make(ctx, p, id, path); err != nil {
			return err
		}
		moved = append(moved, path)
		return nil
	})
}

// make makes the image of one drive from what came.
func (v *Received) make(ctx context.Context, p *deploy.Planned, id, path string) error {
	set := atomicfile.New(ctx, v.opt.Dir, atomicfile.Options{NoSync: true})
	defer set.Abort()
	name := filepath.Base(path)
	var err error
	if f := p.Files[id]; f != nil {
		var out *atomicfile.File
		if out, err = set.CreateFile(name); err == nil {
			err = v.CopyFile(ctx, f, out)
		}
	} else {
		err = v.CopyDisk(ctx, p.Disks[id], func(ctx context.Context, src convert.Source) (disk.Writer, error) {
			return v.log.create(ctx, set, src, name)
		})
	}
	if err == nil {
		err = set.Commit(ctx)
	}
	return err
}

// CopyFile is Content's, of what was received and proved then.
func (v *Received) CopyFile(ctx context.Context, f *ovf.File, to io.Writer) error {
	v.mu.Lock()
	path, ok := v.files[f.Href]
	v.mu.Unlock()
	if !ok {
		return fmt.Errorf("%w: %q did not come", appliance.ErrIncomplete, f.Href)
	}
	in, err := os.Open(path) // #nosec G304: made by this
	if err != nil {
		return err
	}
	defer in.Close()
	if err := ctx.Err(); err != nil {
		return err
	}
	return copyBounded(to, in, f.Href)
}

// CopyDisk is Content's, of what was received and proved then.
func (v *Received) CopyDisk(ctx context.Context, d *ovf.ResolvedDisk, create Create) (err error) {
	if d.File == nil && d.Parent == nil {
		w, err := create(ctx, blank(d.Capacity))
		if err != nil {
			return err
		}
		return w.Finish(ctx)
	}
	img, err := disks.OpenFrom(ctx, v.Package, d.ID, v, disks.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	w, err := create(ctx, img)
	if err != nil {
		return err
	}
	_, err = convert.Run(ctx, img, w, convert.Options{Trusted: true})
	return err
}

// incoming takes files as they arrive. The chunks of a file are put together.
type incoming struct {
	*Received
	cur  *whole
	seen bool // the descriptor was shown
}

// whole is a file that is arriving.
type whole struct {
	ref  *ovf.File
	next int // the chunk that comes next
	w    *io.PipeWriter
	done chan error
}

// take is given one stored file.
func (in *incoming) take(ctx context.Context, doc *ovf.Document, f *appliance.StreamFile) error {
	if !in.seen && in.opt.Descriptor != nil {
		if err := in.opt.Descriptor(doc); err != nil {
			return err
		}
	}
	in.seen = true
	ref, chunk := find(doc.Envelope(), f.Name)
	if in.cur != nil && (ref != in.cur.ref || chunk != in.cur.next) {
		if err := in.finish(nil); err != nil {
			return err
		}
	}
	if ref == nil {
		return nil // nobody needs it
	}
	if in.cur == nil {
		if _, twice := in.files[ref.Href]; twice || chunk > 0 {
			return fmt.Errorf("%s: %w: it does not follow the part before it, so that it cannot be used as it arrives", f.Name, appliance.ErrInvalid)
		}
		size := f.Size
		if ref.ChunkSize > 0 {
			size = ref.Size
		}
		r, w := io.Pipe()
		in.cur = &whole{ref: ref, w: w, done: make(chan error, 1)}
		path := filepath.Join(in.opt.Dir, FileName("received", ref.Href))
		in.mu.Lock()
		in.files[ref.Href] = path
		in.mu.Unlock()
		cur := in.cur
		go func() {
			err := in.store(ctx, doc.Envelope(), ref, r, size, path)
			r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
			cur.done <- err
		}()
	}
	in.cur.next++
	task := in.log.task(f.Name, f.Size)
	_, err := io.Copy(onlyWriter{in.cur.w}, &counted{r: f, task: task})
	if errors.Is(err, io.ErrClosedPipe) {
		err = in.finish(nil) // which says why nobody reads any more
	}
	task.Done(err)
	return err
}

// finish ends the file that is arriving.
func (in *incoming) finish(cause error) error {
	cur := in.cur
	if cur == nil {
		return nil
	}
	in.cur = nil
	cur.w.CloseWithError(cause) // nil is the end
	if err := <-cur.done; err != nil && cause == nil {
		return fmt.Errorf("%s: %w", cur.ref.Href, err)
	}
	return nil
}

// find gives the reference that a stored file is, or is a chunk of.
func find(env *ovf.Envelope, name string) (ref *ovf.File, chunk int) {
	for _, f := range env.References {
		if f.ChunkSize <= 0 {
			if f.Href == name || strings.TrimPrefix(f.Href, "./") == name {
				return f, 0
			}
			continue
		}
		if number, ok := strings.CutPrefix(name, f.Href+"."); ok && len(number) == 9 {
			n := 0
			if _, err := fmt.Sscanf(number, "%09d", &n); err == nil && fmt.Sprintf("%09d", n) == number {
				return f, n
			}
		}
	}
	return nil, 0
}

// store makes an image of a disk as it arrives, and a copy of any other file.
func (v *Received) store(ctx context.Context, env *ovf.Envelope, ref *ovf.File, r io.Reader, size int64, path string) error {
	set := atomicfile.New(ctx, filepath.Dir(path), atomicfile.Options{NoSync: true})
	defer set.Abort()
	isDisk, delta := false, false
	for _, d := range env.Disks {
		if d.FileRef == ref.ID {
			isDisk = true
			delta = delta || d.ParentRef != ""
			for _, other := range env.Disks {
				delta = delta || other.ParentRef == d.ID
			}
		}
	}
	content, packed, err := appliance.Expand(ref, r)
	if err != nil {
		return err
	}
	if packed {
		size, content = -1, disks.Bound(env, ref.Href, content)
	}
	name := filepath.Base(path)
	seen := replay.New(content)
	var s disk.Stream
	if isDisk && !delta {
		if s, err = formats.OpenStream(ctx, seen, size); err != nil && !errors.Is(err, disk.ErrNeedsSeek) {
			return err
		}
	}
	if s != nil {
		seen.Forget()
		if err := v.convert(ctx, set, s, name); err != nil {
			return err
		}
	} else {
		if isDisk {
			v.log.note("%s is kept as it comes first: it has to be read in another order", ref.Href)
		}
		out, err := set.CreateFile(name)
		if err != nil {
			return err
		}
		if _, err := io.Copy(onlyWriter{out}, seen.Again()); err != nil {
			return err
		}
	}
	// What is behind it belongs to the file.
	if _, err := io.Copy(io.Discard, onlyReader{r}); err != nil {
		return err
	}
	if err := set.Commit(ctx); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ready[ref.Href] = s != nil || !isDisk
	return nil
}

func (v *Received) convert(ctx context.Context, set *atomicfile.Set, s disk.Stream, name string) error {
	w, err := v.log.create(ctx, set, s, name)
	if err != nil {
		return err
	}
	_, err = convert.Run(ctx, s, w, convert.Options{})
	return err
}

type onlyReader struct{ io.Reader }
