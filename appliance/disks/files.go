package disks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/compressed"
	"github.com/ovation-project/ovation/internal/freespace"
	"github.com/ovation-project/ovation/internal/spool"
	"github.com/ovation-project/ovation/ovf"
)

// files gives a package's files for random access.
type files interface {
	disk.Files
	// verified says whether all that was opened is being proved.
	verified() bool
	// finish waits until all that was opened is proved.
	finish(ctx context.Context) error
	close() error
}

// remote says that reading a file twice means to fetch it twice.
func remote(p *appliance.Package) bool {
	return p.Whole() || strings.HasPrefix(p.Locator(), "http://") || strings.HasPrefix(p.Locator(), "https://")
}

func reference(p *appliance.Package, href string) *ovf.File {
	for _, f := range p.Document().Envelope().References {
		if f.Href == href {
			return f
		}
	}
	return nil
}

// unpacked opens files as they lie, and copies of those that are compressed.
type unpacked struct {
	p   *appliance.Package
	opt Options
	raw *appliance.Files

	mu    sync.Mutex
	temps []*copied
}

func (u *unpacked) close() error {
	var errs []error
	for _, t := range u.temps {
		errs = append(errs, t.Close())
	}
	return errors.Join(append(errs, u.raw.Close())...)
}

// copied is a copy of a file's content.
type copied struct {
	*spool.File
	stored int64 // the size of the file in the package
	method compressed.Method
}

// packed says whether a file is stored compressed.
func (u *unpacked) packed(ctx context.Context, f disk.File, href string) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	_, more, err := appliance.Expand(reference(u.p, href), io.NewSectionReader(f, 0, f.Size()))
	return more, err
}

// copy reads a file to its end, which proves it where the manifest has it. f is
// the file as it is stored.
func (u *unpacked) copy(ctx context.Context, f disk.File, href string) (c *copied, verified bool, err error) {
	head, err := compressed.Head(f)
	if err != nil {
		return nil, false, err
	}
	r, err := u.p.OpenReader(ctx, href)
	if err != nil {
		return nil, false, err
	}
	defer r.Close()
	c = &copied{stored: r.Size()}
	content, more, err := appliance.Expand(reference(u.p, href), r)
	dir := u.opt.tempDir()
	switch {
	case err != nil:
		return nil, false, err
	case more:
		c.method = compressed.Detect(head)
		content = Bound(u.p.Document().Envelope(), href, content)
		u.opt.note("%s is unpacked to %s first: it is stored compressed by %v", href, dir, c.method)
	default:
		u.opt.note("%s is copied to %s first: it has to be read in another order than it comes", href, dir)
		if err := freespace.Check(dir, r.Size()); err != nil {
			return nil, false, err
		}
	}
	if c.File, err = spool.Copy(ctx, dir, content); err != nil {
		return nil, false, err
	}
	if err := drain(ctx, r); err != nil {
		return nil, false, errors.Join(err, c.Close())
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.temps = append(u.temps, c)
	return c, r.Verified(), nil
}

// drain reads to the end, with a buffer that spares calls and fits the
// processor's cache.
func drain(ctx context.Context, r io.Reader) error {
	buf := make([]byte, 256<<10)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := r.Read(buf); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// looking proves nothing.
type looking struct{ unpacked }

func (l *looking) verified() bool               { return false }
func (l *looking) finish(context.Context) error { return nil }

func (l *looking) OpenFile(ctx context.Context, href string) (disk.File, error) {
	f, err := l.raw.OpenFile(ctx, href)
	if err != nil {
		return nil, err
	}
	more, err := l.packed(ctx, f, href)
	if err != nil || !more {
		return f, err
	}
	c, _, err := l.copy(ctx, f, href)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// proving has each file that is opened read from start to end beside its use,
// and compared with the manifest. Files that are far away are copied first.
type proving struct {
	unpacked
	ctx    context.Context
	cancel context.CancelFunc

	wg   sync.WaitGroup
	once map[string]bool
	all  bool // everything so far is in the manifest
	errs []error
}

func newProving(ctx context.Context, p *appliance.Package, opt Options) *proving {
	v := &proving{unpacked: unpacked{p: p, opt: opt, raw: p.Unverified()}, once: map[string]bool{}, all: true}
	v.ctx, v.cancel = context.WithCancel(ctx)
	return v
}

func (v *proving) OpenFile(ctx context.Context, href string) (disk.File, error) {
	f, err := v.raw.OpenFile(ctx, href)
	if err != nil {
		return nil, err
	}
	more, err := v.packed(ctx, f, href)
	if err != nil {
		return nil, err
	}
	if more || remote(v.p) {
		c, ok, err := v.copy(ctx, f, href)
		if err != nil {
			return nil, err
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		v.all = v.all && ok
		return c, nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.once[href] {
		return f, nil
	}
	v.once[href] = true
	r, err := v.p.OpenReader(v.ctx, href)
	if err != nil {
		return nil, err
	}
	if !r.Verified() {
		v.all = false
		return f, r.Close()
	}
	v.wg.Go(func() {
		defer r.Close()
		if err := r.Drain(); err != nil {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.errs = append(v.errs, fmt.Errorf("%s: %w", href, err))
		}
	})
	return f, nil
}

func (v *proving) verified() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.all
}

func (v *proving) finish(ctx context.Context) error {
	stop := context.AfterFunc(ctx, v.cancel)
	defer stop()
	v.wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.errs) == 0 && v.all {
		// It was proved beside its use: both have read the same.
		return v.raw.Unchanged()
	}
	return errors.Join(v.errs...)
}

func (v *proving) close() error {
	v.cancel()
	v.wg.Wait()
	return v.unpacked.close()
}
