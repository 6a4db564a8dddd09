package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/disks"
	"github.com/ovation-project/ovation/author/pack"
	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/compressed"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/disk/formats"
	"github.com/ovation-project/ovation/disk/local"
	"github.com/ovation-project/ovation/internal/spool"
	"github.com/ovation-project/ovation/internal/workdir"
	"github.com/ovation-project/ovation/ovf"
)

// source is a file of this machine, or one in a package (LOCATOR#FILE).
type source struct {
	b    *builder
	name string // as people wrote it
	path string // of a file of this machine
	pkg  *appliance.Package
	href string // in the package
	size int64
	// given is set instead for a disk that is in no file.
	given convert.Source
}

// open finds a source.
func (b *builder) open(ctx context.Context, name string, at spec.Pos) (*source, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := &source{b: b, name: name, path: name}
	if !filepath.IsAbs(name) {
		s.path = filepath.Join(b.opt.Dir, filepath.FromSlash(name))
	}
	st, err := os.Stat(s.path)
	if err == nil {
		if !st.Mode().IsRegular() {
			return nil, b.fail(at, "%s is not a file", name)
		}
		s.size = st.Size()
		return s, nil
	}
	locator, href, inside := cutLast(name, "#")
	if !inside {
		return nil, b.fail(at, "%v%s", err, b.nearest(s.path))
	}
	if !strings.Contains(locator, "://") && !filepath.IsAbs(locator) {
		locator = filepath.Join(b.opt.Dir, filepath.FromSlash(locator))
	}
	if s.pkg = b.packages[locator]; s.pkg == nil {
		if s.pkg, err = appliance.Open(ctx, locator, b.opt.Appliance); err != nil {
			return nil, b.fail(at, "%s: %w", name, err)
		}
		b.packages[locator] = s.pkg
		if err := b.judge(ctx, s.pkg); err != nil {
			return nil, b.fail(at, "%s: %w", name, err)
		}
	}
	s.href = href
	if _, err := s.pkg.StoredNames(ctx, href); err != nil {
		ref, ferr := disks.Find(s.pkg.Document().Envelope(), href)
		if ferr != nil || ref.File.Href == href { // which is what is not there
			return nil, b.fail(at, "%s: %w", name, err)
		}
		s.href = ref.File.Href
	}
	s.size = s.pkg.StoredSize(s.href)
	return s, nil
}

// judge refuses a package of which something could be used that its manifest does
// not tell of: the new one would hide it.
func (b *builder) judge(ctx context.Context, p *appliance.Package) error {
	if err := p.Provable(ctx); err != nil {
		return err
	}
	if b.opt.Judge == nil {
		return nil
	}
	return b.opt.Judge(ctx, p)
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// nearest names a file beside one that is not there.
func (b *builder) nearest(missing string) string {
	entries, err := os.ReadDir(filepath.Dir(missing))
	if err != nil {
		return ""
	}
	for _, e := range entries {
		if strings.EqualFold(e.Name(), filepath.Base(missing)) || strings.TrimSuffix(e.Name(), path.Ext(e.Name())) == strings.TrimSuffix(filepath.Base(missing), filepath.Ext(missing)) {
			return fmt.Sprintf("; there is %s", e.Name())
		}
	}
	return ""
}

// base is the source's own name.
func (s *source) base() string {
	if s.pkg != nil {
		return path.Base(s.href)
	}
	return filepath.Base(s.path)
}

// content copies what is in a file, which in a package may be stored
// compressed.
func (s *source) content(ctx context.Context, w io.Writer) error {
	r, err := s.pkg.OpenReader(ctx, s.href)
	if err != nil {
		return err
	}
	defer r.Close()
	content, more, err := appliance.Expand(s.reference(), r)
	if err != nil {
		return err
	}
	if _, err := pack.Copy(ctx, w, content); err != nil || !more {
		return err
	}
	return r.Drain()
}

// reference is the File element of a source in a package.
func (s *source) reference() *ovf.File {
	for _, f := range s.pkg.Document().Envelope().References {
		if f.Href == s.href {
			return f
		}
	}
	return nil
}

// write copies the stored bytes, and proves those of a package.
func (s *source) write(ctx context.Context, w io.Writer) error {
	if s.pkg == nil {
		f, err := os.Open(s.path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = pack.Copy(ctx, w, f)
		return err
	}
	r, err := s.pkg.OpenReader(ctx, s.href)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = pack.Copy(ctx, w, r)
	return err
}

// image is an open disk, and how it is converted.
type image struct {
	disk  convert.Source
	info  disk.Info
	run   func(context.Context, disk.Writer, convert.Options) (convert.Stats, error)
	close func() error
}

// image opens the disk that a source holds, to be converted.
func (s *source) image(ctx context.Context) (*image, error) {
	if s.given != nil {
		return &image{disk: s.given, close: func() error { return nil }, run: func(ctx context.Context, w disk.Writer, opt convert.Options) (convert.Stats, error) {
			return convert.Run(ctx, s.given, w, opt)
		}}, nil
	}
	if s.pkg != nil {
		src, err := disks.OpenSource(ctx, s.pkg, s.href, disks.Options{TempDir: s.b.opt.TempDir, Note: s.b.opt.Note})
		if err != nil {
			return nil, err
		}
		return &image{disk: src.Disk, run: src.Convert, close: src.Close}, nil
	}
	img, closing, err := s.look(ctx)
	if err != nil {
		return nil, err
	}
	return &image{disk: img, info: info(img), close: closing, run: func(ctx context.Context, w disk.Writer, opt convert.Options) (convert.Stats, error) {
		return convert.Run(ctx, img, w, opt)
	}}, nil
}

func info(img disk.Image) disk.Info {
	if i, ok := img.(disk.Informer); ok {
		return i.Info()
	}
	return disk.Info{}
}

// header gives what the disk's header says, and its capacity in bytes.
func (s *source) header(ctx context.Context) (disk.Info, int64, error) {
	if s.given != nil {
		return disk.Info{}, s.given.Size(), nil
	}
	img, closing, err := s.look(ctx)
	if err != nil {
		return disk.Info{}, 0, err
	}
	in, capacity := info(img), img.Size()
	return in, capacity, closing()
}

// look opens the disk for its header.
func (s *source) look(ctx context.Context) (disk.Image, func() error, error) {
	if s.pkg != nil {
		img, err := disks.Open(ctx, s.pkg, s.href, disks.Options{TempDir: s.b.opt.TempDir, Note: s.b.opt.Note})
		if err != nil {
			return nil, nil, err
		}
		return img, img.Close, nil
	}
	f, err := local.Open(s.path)
	if err != nil {
		return nil, nil, err
	}
	files, err := local.OpenFolder(filepath.Dir(s.path))
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	img, err := formats.Open(ctx, f, "", disk.OpenOptions{Files: files, Spool: s.spool})
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%s: %w", s.name, err), f.Close(), files.Close())
	}
	return img, func() error { return errors.Join(img.Close(), f.Close(), files.Close()) }, nil
}

// spool unpacks an image that is compressed as a whole and has to be seeked in.
func (s *source) spool(ctx context.Context, r io.Reader, why string) (disk.File, error) {
	dir := cmp.Or(s.b.opt.TempDir, workdir.Base())
	if s.b.opt.Note != nil {
		s.b.opt.Note(fmt.Sprintf("%s is unpacked to %s first: %s", s.name, dir, why))
	}
	f, err := spool.Copy(ctx, dir, r)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// plain says whether the source's stored bytes are the image itself, and not
// a compressed form of it.
func (s *source) plain(ctx context.Context) (bool, error) {
	if s.pkg == nil {
		f, err := local.Open(s.path)
		if err != nil {
			return false, err
		}
		defer f.Close()
		head, err := compressed.Head(f)
		return compressed.Detect(head) == compressed.None, err
	}
	files := s.pkg.Unverified()
	defer files.Close()
	f, err := files.OpenFile(ctx, s.href)
	if err != nil {
		return false, err
	}
	_, more, err := appliance.Expand(s.reference(), io.NewSectionReader(f, 0, f.Size()))
	return !more, err
}
