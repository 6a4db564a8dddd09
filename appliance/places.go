package appliance

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/atomicfile"
	"github.com/ovation-project/ovation/internal/filestamp"
	"github.com/ovation-project/ovation/internal/httprange"
)

// maxEntries bounds how many files a package may hold.
const maxEntries = 100_000

func (p *Package) openPath(locator string, opt Options) error {
	st, err := os.Stat(locator)
	if err != nil {
		return err
	}
	if st.IsDir() || isDescriptorName(locator) {
		dir := locator
		if !st.IsDir() {
			dir, p.descName = filepath.Split(locator)
			if dir == "" {
				dir = "."
			}
		} else if opt.Descriptor != "" {
			p.descName = opt.Descriptor
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			return err
		}
		in := &folder{root: root}
		p.kind, p.src = Folder, in
		if atomicfile.Interrupted(dir) {
			p.notes = append(p.notes, "a change of the package was interrupted, or goes on: 'ovation sign' and 'ovation edit' finish it, and until then files may not fit each other")
		}
		if !st.IsDir() {
			p.src = &beside{folder: in, descriptor: p.descName}
		}
		return nil
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s: %w: it is neither a file nor a folder", locator, ErrInvalid)
	}
	f, err := os.Open(locator)
	if err != nil {
		return err
	}
	p.kind, p.src = Archive, &tarball{f: &localFile{f, 0, st.Size(), filestamp.Of(st)}}
	return nil
}

// localFile is a part of an open file.
type localFile struct {
	*os.File
	from, size int64
	stamp      string // of the file, when the package was opened
}

// unchanged sees whether the file is still the one that it was.
func (l *localFile) unchanged() error {
	st, err := l.File.Stat()
	if err == nil && filestamp.Of(st) != l.stamp {
		err = changed(filepath.Base(l.File.Name()))
	}
	return err
}

// changed is the error for a file of which parts were read before it was changed,
// and parts after.
func changed(name string) error {
	return fmt.Errorf("%s was changed while it was read: %w", name, ErrAltered)
}

func (l *localFile) Size() int64 { return l.size }

func (l *localFile) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off > l.size {
		return 0, io.EOF
	}
	short := int64(len(b)) > l.size-off
	if short {
		b = b[:l.size-off]
	}
	n, err := l.File.ReadAt(b, l.from+off)
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

func (l *localFile) Local() (*os.File, int64) { return l.File, l.from }

// folder is a local folder. Nothing outside of it can be opened, whatever links
// there are.
type folder struct {
	root *os.Root

	mu     sync.Mutex
	stamps map[string]string // of the files that were opened, by name
}

func (d *folder) list(context.Context) ([]Entry, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var entries []Entry
	for {
		some, err := f.ReadDir(256)
		for _, e := range some {
			if st, err := d.root.Stat(e.Name()); err == nil && st.Mode().IsRegular() {
				entries = append(entries, Entry{Name: e.Name(), Size: st.Size()})
			}
		}
		if len(entries) > maxEntries {
			return nil, fmt.Errorf("%w: the folder holds more than %d files", ErrInvalid, maxEntries)
		}
		if err == io.EOF || len(some) == 0 {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return distinct(entries), nil
}

// distinct leaves out names that differ from an earlier one in case only: a
// folder may hold files that are not the package's.
func distinct(entries []Entry) []Entry {
	seen := map[string]bool{}
	out := entries[:0]
	for _, e := range entries {
		if k := strings.ToLower(e.Name); !seen[k] && checkName(e.Name) == nil {
			seen[k] = true
			out = append(out, e)
		}
	}
	return out
}

func (d *folder) open(_ context.Context, e Entry) (disk.File, error) {
	// Should it have become a pipe since it was listed, opening must not wait.
	f, err := d.root.OpenFile(filepath.FromSlash(e.Name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w: not a plain file", e.Name, ErrInvalid)
	}
	if err == nil {
		err = d.same(e.Name, filestamp.Of(st))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &localFile{f, 0, st.Size(), filestamp.Of(st)}, nil
}

// same sees whether a file is the one that was opened under its name before: what
// is proved by one must not be used of another.
func (d *folder) same(name, stamp string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stamps == nil {
		d.stamps = map[string]string{}
	}
	if was, ok := d.stamps[name]; ok && was != stamp {
		return changed(name)
	}
	d.stamps[name] = stamp
	return nil
}

func (d *folder) reader(ctx context.Context, e Entry, off int64) (io.ReadCloser, error) {
	f, err := d.open(ctx, e)
	if err != nil {
		return nil, err
	}
	return sectionOf(f, off), nil
}

func (d *folder) close() error { return d.root.Close() }

// beside is a folder of which one descriptor was named: the package is that and
// what it names, and the folder may hold what it will.
type beside struct {
	*folder
	descriptor string
	known      bool // the entries are all that there are
}

func (d *beside) list(ctx context.Context) ([]Entry, error) {
	e, err := d.probe(ctx, d.descriptor)
	if err != nil {
		return nil, err
	}
	if e == nil {
		return nil, fmt.Errorf("%s: %w: not a plain file", d.descriptor, ErrInvalid)
	}
	return []Entry{*e}, nil
}

func (d *beside) probe(_ context.Context, name string) (*Entry, error) {
	if d.known {
		return nil, nil
	}
	st, err := d.root.Stat(filepath.FromSlash(name))
	if err != nil || !st.Mode().IsRegular() {
		return nil, nil // links that lead out of the folder among them
	}
	return &Entry{Name: name, Size: st.Size()}, nil
}

func (d *beside) spellings(name string) []string {
	ext := path.Ext(name)
	return []string{name, strings.TrimSuffix(name, ext) + strings.ToUpper(ext)}
}

// section reads a file from an offset on and closes it.
type section struct {
	io.Reader
	f disk.File
}

func sectionOf(f disk.File, off int64) io.ReadCloser {
	return section{io.NewSectionReader(f, off, f.Size()-off), f}
}

func (s section) Close() error {
	if c, ok := s.f.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// tarball is an OVA: a tar file, here or on a server.
type tarball struct{ f disk.File }

func (t *tarball) list(ctx context.Context) ([]Entry, error) {
	size := t.f.Size()
	r := io.NewSectionReader(t.f, 0, size)
	tr := tar.NewReader(r)
	var entries []Entry
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := tr.Next()
		if err == io.EOF {
			if len(entries) == 0 && size > 0 && !t.isTar() {
				return nil, fmt.Errorf("%w: it is neither a descriptor nor a tar file", ErrInvalid)
			}
			break
		}
		at, _ := r.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, tarError(err, at, len(entries))
		}
		e, ok, err := tarEntry(h)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		if e.Offset = at; e.Size > size-at {
			return nil, fmt.Errorf("%w: the archive ends at byte %d, and %s, which begins at %d, has %d bytes: it was cut short",
				ErrInvalid, size, e.Name, at, e.Size)
		}
		if entries = append(entries, e); len(entries) > maxEntries {
			return nil, fmt.Errorf("%w: the archive holds more than %d files", ErrInvalid, maxEntries)
		}
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("%w: there is nothing in it", ErrInvalid)
	}
	return entries, nil
}

// isTar looks for the magic number.
func (t *tarball) isTar() bool {
	b := make([]byte, 512)
	n, _ := t.f.ReadAt(b, 0)
	return n == len(b) && bytes.HasPrefix(b[257:], []byte("ustar"))
}

// tarError says what is wrong with an archive.
func tarError(err error, at int64, entries int) error {
	switch {
	case errors.Is(err, tar.ErrHeader) && entries == 0:
		return fmt.Errorf("%w: it is neither a descriptor nor a tar file", ErrInvalid)
	case errors.Is(err, tar.ErrHeader):
		return fmt.Errorf("%w: the archive's header before byte %d is damaged", ErrInvalid, at)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: the archive was cut short near byte %d", ErrInvalid, at)
	}
	return err
}

// tarEntry judges one header; ok is false for what is passed over.
func tarEntry(h *tar.Header) (e Entry, ok bool, err error) {
	refuse := func(what string) (Entry, bool, error) {
		return Entry{}, false, fmt.Errorf("%w: %q is %s; an archive may hold plain files only", ErrInvalid, h.Name, what)
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return refuse("a sparse file")
		}
	}
	switch h.Typeflag {
	case tar.TypeReg, '\x00', '7':
	case tar.TypeDir, tar.TypeXGlobalHeader:
		return Entry{}, false, nil
	case tar.TypeLink, tar.TypeSymlink:
		return refuse("a link")
	case tar.TypeChar, tar.TypeBlock:
		return refuse("a device")
	case tar.TypeFifo:
		return refuse("a FIFO")
	case tar.TypeGNUSparse:
		return refuse("a sparse file")
	default:
		return refuse(fmt.Sprintf("of type %q", h.Typeflag))
	}
	name := h.Name
	for strings.HasPrefix(name, "./") {
		name = strings.TrimPrefix(name, "./")
	}
	if h.Size < 0 {
		return Entry{}, false, fmt.Errorf("%w: %q has a negative size", ErrInvalid, name)
	}
	return Entry{Name: name, Size: h.Size}, true, checkName(name)
}

func (t *tarball) open(_ context.Context, e Entry) (disk.File, error) {
	if l, ok := t.f.(*localFile); ok {
		return tarMember{&localFile{l.File, e.Offset, e.Size, l.stamp}}, nil
	}
	return io.NewSectionReader(t.f, e.Offset, e.Size), nil
}

// tarMember is a file in a local archive; it stays open with the archive.
type tarMember struct{ *localFile }

func (tarMember) Close() error { return nil }

func (t *tarball) reader(ctx context.Context, e Entry, off int64) (io.ReadCloser, error) {
	if h, ok := t.f.(*httprange.File); ok {
		return h.Reader(ctx, e.Offset+off, e.Size-off), nil
	}
	return io.NopCloser(io.NewSectionReader(t.f, e.Offset+off, e.Size-off)), nil
}

func (t *tarball) close() error {
	if c, ok := t.f.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// webFolder is a descriptor on a web server, with the files beside it. What
// there is is known only by asking for it.
type webFolder struct {
	ctx        context.Context
	opt        Options
	base       *url.URL
	descriptor *httprange.File
}

func (w *webFolder) list(context.Context) ([]Entry, error) {
	return []Entry{{Name: path.Base(w.base.Path), Size: w.descriptor.Size()}}, nil
}

func (w *webFolder) address(name string) string {
	u := *w.base
	u.Path, u.RawPath = path.Join(path.Dir(u.Path), name), ""
	return u.String()
}

func (*webFolder) spellings(name string) []string { return []string{name} }

// probe asks whether a file is there.
func (w *webFolder) probe(ctx context.Context, name string) (*Entry, error) {
	f, err := httprange.Open(ctx, w.opt.Client, w.address(name), w.opt.ranges())
	var status *httprange.StatusError
	if errors.As(err, &status) && (status.Code == http.StatusNotFound || status.Code == http.StatusForbidden || status.Code == http.StatusGone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &Entry{Name: name, Size: f.Size()}, nil
}

func (w *webFolder) file(ctx context.Context, e Entry) (*httprange.File, error) {
	if e.Name == path.Base(w.base.Path) {
		return w.descriptor, nil
	}
	return httprange.Open(ctx, w.opt.Client, w.address(e.Name), w.opt.ranges())
}

func (w *webFolder) open(_ context.Context, e Entry) (disk.File, error) { return w.file(w.ctx, e) }

func (w *webFolder) reader(ctx context.Context, e Entry, off int64) (io.ReadCloser, error) {
	f, err := w.file(ctx, e)
	if err != nil {
		return nil, err
	}
	return f.Reader(ctx, off, f.Size()-off), nil
}

func (w *webFolder) close() error { return nil }
