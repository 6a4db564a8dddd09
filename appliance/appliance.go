// Package appliance is an OVF package as a whole: the descriptor, the manifest,
// the certificate and the files, wherever they lie: in a folder, in a tar file
// (OVA), on a web server.
//
// Opening a package reads the descriptor and what stands beside it, and no
// file. There are two doors to the files' bytes: readers that prove what they
// read by the manifest's digests, and Unverified, which says what it is. A
// package comes from a stranger: names that lead out of it, links, devices and
// names that stand twice are refused when it is opened.
package appliance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/appliance/manifest"
	"github.com/ovation-project/ovation/appliance/remote"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/httprange"
	"github.com/ovation-project/ovation/internal/redact"
	"github.com/ovation-project/ovation/ovf"
)

// Errors that callers act on. They come wrapped.
var (
	// ErrInvalid says that what was opened is no OVF package.
	ErrInvalid = errors.New("not a valid OVF package")
	// ErrAltered says that a file is not the one that the manifest names.
	ErrAltered = errors.New("the package was altered")
	// ErrIncomplete says that a file of the package is missing.
	ErrIncomplete = errors.New("the package is incomplete")
	// ErrChanged says that a file on a web server is not the one any more
	// that was opened.
	ErrChanged = httprange.ErrChanged
	// ErrNoRanges says that a web server sends whole files only: such a
	// package can be read once, by Fetch and what reads streams.
	ErrNoRanges = httprange.ErrNoRanges
)

// Kind says how a package is stored.
type Kind string

// The kinds of package.
const (
	Folder  Kind = "folder"
	Archive Kind = "ova"
)

// Entry is one stored file.
type Entry struct {
	Name string `json:"name"`
	// Size is in bytes, -1 where it is not known before it is asked for.
	Size int64 `json:"size"`
	// Offset is where its bytes begin in an archive.
	Offset int64 `json:"offset,omitempty"`
}

// Options change how a package is opened. The zero value is good.
type Options struct {
	// Client is for packages on a web server; nil is that of remote.New
	// without options.
	Client *http.Client
	// Retries is how often in a row a request that got nowhere is made
	// again; 0 is a number that bears with a server for about half a minute,
	// and less than 0 is never.
	Retries int
	// Trouble, where set, is called with why a web server could not be read
	// from several times in a row, before it is asked again. It may be called
	// concurrently.
	Trouble func(error)
	// MaxDescriptor is the largest descriptor that is read, in bytes; 0 is
	// ovf.DefaultMaxSize.
	MaxDescriptor int
	// Descriptor names the descriptor of a folder that holds several.
	Descriptor string
	// Place, where set, opens places of kinds that this package does not know.
	// Files that have to be read in any order, which those do not give, are
	// copied into a temporary folder first; Note, where set, is told so.
	Place OpenPlace
	Note  func(string)
}

// Package is an open package. Its methods are safe for concurrent use.
type Package struct {
	locator  string
	address  string // the URL with its credentials, "" where there is none
	kind     Kind
	src      source
	entries  []Entry
	byName   map[string]Entry
	descName string
	doc      *ovf.Document
	manifest *manifest.Manifest
	mfBytes  []byte
	mfName   string
	certName string
	cert     []byte
	notes    []string
	chunked  map[string]*ovf.File // by href
	declared map[string]*ovf.File // all the References, by href
	parts    digests
	coming   bool
}

// prober is a source whose files are known only by asking for them.
type prober interface {
	// probe gives nil for a file that is not there.
	probe(ctx context.Context, name string) (*Entry, error)
	// spellings are the names under which a file may stand that belongs to
	// the descriptor.
	spellings(name string) []string
}

// source is a place that holds files.
type source interface {
	// list gives the files in their order.
	list(ctx context.Context) ([]Entry, error)
	// open gives a file for random access; what it returns may be an
	// io.Closer.
	open(ctx context.Context, e Entry) (disk.File, error)
	// reader reads a part of a file front to back.
	reader(ctx context.Context, e Entry, off int64) (io.ReadCloser, error)
	close() error
}

// Open opens the package at a locator: a folder with one descriptor, an .ovf or
// an .ova file, or the URL of either, or what Options.Place knows.
func Open(ctx context.Context, locator string, opt Options) (*Package, error) {
	p := &Package{locator: locator}
	var err error
	if opt.Client, err = client(opt); err != nil {
		return nil, err
	}
	if opt.Place != nil {
		place, shown, err := opt.Place(ctx, locator)
		if err != nil {
			return nil, err
		}
		if place != nil {
			return openPlace(ctx, place, shown, opt)
		}
	}
	if isURL(locator) {
		p.locator, p.address = redact.URL(locator), locator
		err = p.openURL(ctx, locator, opt)
	} else {
		err = p.openPath(locator, opt)
	}
	if err != nil {
		return nil, err
	}
	if err := p.load(ctx, opt); err != nil {
		p.src.close()
		return nil, fmt.Errorf("%s: %w", p.locator, err)
	}
	return p, nil
}

func client(opt Options) (*http.Client, error) {
	if opt.Client != nil {
		return opt.Client, nil
	}
	return remote.New(remote.Options{})
}

func (o Options) ranges() httprange.Options {
	return httprange.Options{Retries: o.Retries, Trouble: o.Trouble}
}

// Fetch asks a web server for a whole package that is read once, front to back,
// where it sends no parts of files (ErrNoRanges).
func Fetch(ctx context.Context, locator string, opt Options) (io.ReadCloser, error) {
	c, err := client(opt)
	if err != nil {
		return nil, err
	}
	r, _, err := httprange.Stream(ctx, c, locator, opt.ranges())
	return r, err
}

func isURL(s string) bool {
	return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")
}

func hasSuffixFold(s, suffix string) bool {
	return len(s) >= len(suffix) && strings.EqualFold(s[len(s)-len(suffix):], suffix)
}

func isDescriptorName(name string) bool { return hasSuffixFold(name, ".ovf") }

func (p *Package) openURL(ctx context.Context, locator string, opt Options) error {
	u, err := url.Parse(locator)
	if err != nil {
		return fmt.Errorf("%s: %w", p.locator, redact.Cause(err))
	}
	f, err := httprange.Open(ctx, opt.Client, locator, opt.ranges())
	if err != nil {
		return err
	}
	if isDescriptorName(u.Path) {
		p.kind = Folder
		p.src = &webFolder{ctx: ctx, opt: opt, base: u, descriptor: f}
		p.descName = path.Base(u.Path)
		return nil
	}
	p.kind = Archive
	p.src = &tarball{f: f}
	return nil
}

func (p *Package) load(ctx context.Context, opt Options) error {
	entries, err := p.src.list(ctx)
	if err != nil {
		return err
	}
	if err := p.index(entries); err != nil {
		return err
	}
	if err := p.findDescriptor(); err != nil {
		return err
	}
	maxSize := opt.MaxDescriptor
	if maxSize == 0 {
		maxSize = ovf.DefaultMaxSize
	}
	data, err := p.readSmall(ctx, p.descName, int64(maxSize))
	if err != nil {
		return err
	}
	doc, err := ovf.Parse(data, ovf.ParseOptions{MaxSize: maxSize})
	if err != nil {
		return fmt.Errorf("%s: %w: %w", p.descName, ErrInvalid, err)
	}
	p.doc = doc
	p.refer()
	if err := p.loadManifest(ctx); err != nil {
		return err
	}
	return p.gather(ctx)
}

// refer takes in which files the descriptor refers to.
func (p *Package) refer() {
	p.chunked, p.declared = map[string]*ovf.File{}, map[string]*ovf.File{}
	for _, f := range p.doc.Envelope().References {
		if p.declared[f.Href] == nil {
			p.declared[f.Href] = f
		}
		if f.ChunkSize > 0 {
			p.chunked[f.Href] = f
		}
	}
}

// gather adds to the entries of one descriptor's folder what it and its manifest
// name. What else lies there is not the package's.
func (p *Package) gather(ctx context.Context) error {
	d, ok := p.src.(*beside)
	if !ok {
		return nil
	}
	var names []string
	for _, f := range p.doc.Envelope().References {
		if f.ChunkSize <= 0 {
			names = append(names, f.Href)
			continue
		}
		pieces, err := p.pieces(ctx, f.Href)
		if err != nil && !errors.Is(err, ErrIncomplete) {
			return err
		}
		for _, e := range pieces {
			names = append(names, e.Name)
		}
	}
	if p.manifest != nil {
		for _, f := range p.manifest.Digests {
			names = append(names, f.Name)
		}
	}
	entries := p.entries
	seen := map[string]bool{}
	for _, e := range entries {
		seen[e.Name] = true
	}
	for _, name := range names {
		e, err := p.resolve(ctx, name)
		if err == nil && !seen[e.Name] {
			seen[e.Name] = true
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	d.known = true
	return p.index(distinct(entries))
}

// index takes the entries in, and refuses what no package may hold.
func (p *Package) index(entries []Entry) error {
	p.byName = make(map[string]Entry, len(entries))
	folded := make(map[string]string, len(entries))
	for _, e := range entries {
		if err := checkName(e.Name); err != nil {
			return err
		}
		if other, twice := folded[strings.ToLower(e.Name)]; twice {
			if other == e.Name {
				return fmt.Errorf("%w: it holds %q twice", ErrInvalid, e.Name)
			}
			return fmt.Errorf("%w: it holds %q and %q, which are one file where case does not count", ErrInvalid, other, e.Name)
		}
		folded[strings.ToLower(e.Name)] = e.Name
		p.byName[e.Name] = e
	}
	p.entries = entries
	return nil
}

// checkName refuses names that lead out of a folder, on any system.
func checkName(name string) error {
	bad := func(why string) error { return fmt.Errorf("%w: the name %q %s", ErrInvalid, name, why) }
	switch {
	case name == "":
		return fmt.Errorf("%w: a file without a name", ErrInvalid)
	case len(name) > 4096:
		return fmt.Errorf("%w: a name of %d bytes", ErrInvalid, len(name))
	case strings.ContainsAny(name, "\x00\r\n"):
		return bad("holds characters that no name may have")
	case strings.Contains(name, `\`):
		return bad(`holds \, which leads elsewhere on some systems`)
	case path.IsAbs(name):
		return bad("is absolute")
	case len(name) > 1 && name[1] == ':':
		return bad("begins with a drive letter")
	case path.Clean(name) != name || name == ".." || strings.HasPrefix(name, "../"):
		return bad("leads out of the package or is not written plainly")
	}
	return nil
}

func (p *Package) findDescriptor() error {
	if p.descName != "" {
		return nil
	}
	var found []string
	for i, e := range p.entries {
		if isDescriptorName(e.Name) {
			found = append(found, e.Name)
			if i > 0 && p.kind == Archive && len(found) == 1 {
				p.notes = append(p.notes, fmt.Sprintf("the descriptor %s is not the first file of the archive: it cannot be read as a stream", e.Name))
			}
		}
	}
	switch len(found) {
	case 0:
		return fmt.Errorf("%w: there is no descriptor (.ovf) in it; it holds %s", ErrInvalid, p.holds())
	case 1:
		p.descName = found[0]
		return nil
	}
	if p.kind == Folder {
		return fmt.Errorf("%w: there are several descriptors in it, %s: name one", ErrInvalid, strings.Join(found, ", "))
	}
	return fmt.Errorf("%w: there are several descriptors in it: %s", ErrInvalid, strings.Join(found, ", "))
}

// holds names what the package holds, for errors.
func (p *Package) holds() string {
	const most = 8
	var names []string
	for _, e := range p.entries {
		if len(names) == most {
			names = append(names, fmt.Sprintf("and %d more", len(p.entries)-most))
			break
		}
		names = append(names, e.Name)
	}
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

// readSmall reads a whole file that has to be small.
func (p *Package) readSmall(ctx context.Context, name string, most int64) ([]byte, error) {
	e, ok := p.byName[name]
	if !ok {
		return nil, p.missing(name)
	}
	if _, ok := p.src.(*placed); ok {
		return p.readWhole(ctx, e, most)
	}
	f, err := p.src.open(ctx, e)
	if err != nil {
		return nil, err
	}
	defer closeFile(f)
	if f.Size() > most {
		return nil, fmt.Errorf("%s: %w: it has %d bytes, over the limit of %d", name, ErrInvalid, f.Size(), most)
	}
	b := make([]byte, f.Size())
	if n, err := f.ReadAt(b, 0); n < len(b) {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}

func closeFile(f disk.File) {
	if c, ok := f.(io.Closer); ok {
		c.Close()
	}
}

// loadManifest finds the manifest and the certificate beside the descriptor:
// the same name with another ending, or the only one there is.
func (p *Package) loadManifest(ctx context.Context) error {
	var err error
	if p.mfName, err = p.beside(ctx, ".mf"); err != nil {
		return err
	}
	if p.certName, err = p.beside(ctx, ".cert"); err != nil {
		return err
	}
	if p.mfName != "" {
		if p.mfBytes, err = p.readSmall(ctx, p.mfName, manifest.MaxSize); err != nil {
			return err
		}
		if err := p.parseManifest(); err != nil {
			return err
		}
	}
	if p.certName != "" {
		if p.cert, err = p.readSmall(ctx, p.certName, 1<<20); err != nil {
			return err
		}
	}
	return nil
}

// parseManifest reads the manifest, and refuses one with a digest of itself, or of
// the certificate, which is made from it.
func (p *Package) parseManifest() (err error) {
	if p.manifest, err = manifest.Parse(p.mfBytes); err != nil {
		return fmt.Errorf("%s: %w: %w", p.mfName, ErrInvalid, err)
	}
	for _, own := range []string{p.mfName, p.certName} {
		if d, ok := p.manifest.Lookup(own); ok && own != "" {
			return fmt.Errorf("%s: %w: line %d gives a digest of %s, which cannot be", p.mfName, ErrInvalid, d.Line, own)
		}
	}
	return nil
}

// besideName is the name that a manifest or certificate has.
func besideName(descriptor, ending string) string {
	return strings.TrimSuffix(descriptor, path.Ext(descriptor)) + ending
}

// only is for an archive of which none has that name: one of another name does.
func only(names []string, ending string) (string, error) {
	switch len(names) {
	case 0:
		return "", nil
	case 1:
		return names[0], nil
	}
	return "", fmt.Errorf("%w: it holds several files %s: %s", ErrInvalid, ending, strings.Join(names, ", "))
}

func (p *Package) beside(ctx context.Context, ending string) (string, error) {
	want := besideName(p.descName, ending)
	if _, ok := p.byName[want]; ok {
		return want, nil
	}
	if w, ok := p.src.(prober); ok {
		for _, name := range w.spellings(want) {
			e, err := w.probe(ctx, name)
			if err != nil {
				return "", err
			}
			if e != nil {
				return e.Name, p.index(append(p.entries, *e))
			}
		}
		return "", nil
	}
	var found []string
	for _, e := range p.entries {
		if hasSuffixFold(e.Name, ending) {
			found = append(found, e.Name)
		}
	}
	if p.kind == Archive {
		return only(found, ending)
	}
	if len(found) == 1 && strings.EqualFold(found[0], want) {
		return found[0], nil
	}
	return "", nil
}

// Locator is where the package lies, without credentials.
func (p *Package) Locator() string { return p.locator }

// Remote says whether the package lies on a web server.
func (p *Package) Remote() bool { return p.address != "" }

// Kind says how the package is stored.
func (p *Package) Kind() Kind { return p.kind }

// Entries are the stored files in their order.
func (p *Package) Entries() []Entry { return append([]Entry(nil), p.entries...) }

// Document is the descriptor.
func (p *Package) Document() *ovf.Document { return p.doc }

// DescriptorName is the descriptor's file name.
func (p *Package) DescriptorName() string { return p.descName }

// Manifest is the manifest, nil where there is none.
func (p *Package) Manifest() *manifest.Manifest { return p.manifest }

// ManifestBytes is the manifest as it is stored, with its name.
func (p *Package) ManifestBytes() (name string, data []byte) { return p.mfName, p.mfBytes }

// Certificate is the certificate file as it is stored, nil where there is none.
func (p *Package) Certificate() (name string, data []byte) { return p.certName, p.cert }

// Notes are what a person should know of how the package is stored.
func (p *Package) Notes() []string { return append([]string(nil), p.notes...) }

// Close closes the package and the files that were opened from it.
func (p *Package) Close() error { return p.src.close() }

// missing is the error for a file that is not there: it names what is there
// and what comes nearest.
func (p *Package) missing(href string) error {
	const most = 1000 // to look through for each file that is missing
	near := ""
	for _, e := range p.entries[:min(most, len(p.entries))] {
		if strings.EqualFold(e.Name, href) || strings.EqualFold(path.Base(e.Name), path.Base(href)) || plain(e.Name) == plain(href) {
			near = fmt.Sprintf(" (%q comes nearest)", e.Name)
			break
		}
	}
	return fmt.Errorf("%w: it does not hold %q; it holds %s%s", ErrIncomplete, href, p.holds(), near)
}

// plain takes out what names often differ in.
func plain(name string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == '_' || r == '-' || r == '+' {
			return -1
		}
		return r
	}, strings.ToLower(name))
}

// outside is an href that leads out of the package, which no package may have.
func outside(href, why string) error {
	return fmt.Errorf("%w: %q: %w%s", ErrInvalid, href, disk.ErrOutside, why)
}

// resolve finds the entry for an href of the descriptor. Names may be written
// with or without percent escapes.
func (p *Package) resolve(ctx context.Context, href string) (Entry, error) {
	if e, ok := p.byName[href]; ok {
		return e, nil
	}
	if u, err := url.Parse(href); err == nil && (u.Scheme != "" && len(u.Scheme) > 1 || u.Host != "") {
		return Entry{}, outside(href, ": files of other places are not fetched")
	}
	name, err := url.PathUnescape(href)
	if err != nil {
		name = href
	}
	name = strings.TrimPrefix(name, "./")
	if err := checkName(name); err != nil {
		return Entry{}, outside(href, "")
	}
	if e, ok := p.byName[name]; ok {
		return e, nil
	}
	if w, ok := p.src.(prober); ok {
		if e, err := w.probe(ctx, name); err != nil || e != nil {
			if err != nil {
				return Entry{}, err
			}
			return *e, nil
		}
	}
	return Entry{}, p.missing(href)
}

// StoredSize is how many bytes an href's file has as it is stored, its chunks
// together; -1 where it is not there or, on a web server, was not asked for.
func (p *Package) StoredSize(href string) int64 {
	if p.chunked[href] == nil {
		name, err := url.PathUnescape(href)
		if err != nil {
			name = href
		}
		for _, n := range []string{href, strings.TrimPrefix(name, "./")} {
			if e, ok := p.byName[n]; ok {
				return e.Size
			}
		}
		return -1
	}
	total, found := int64(0), false
	for i := 0; ; i++ {
		e, ok := p.byName[fmt.Sprintf("%s.%09d", href, i)]
		if !ok {
			break
		}
		total, found = total+e.Size, true
	}
	if !found {
		return -1
	}
	return total
}

// StoredNames gives the names of the stored files that make up an href: one, or
// its chunks.
func (p *Package) StoredNames(ctx context.Context, href string) ([]string, error) {
	pieces, err := p.pieces(ctx, href)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range pieces {
		names = append(names, e.Name)
	}
	return names, nil
}

// Complete says whether Entries are all the files that there are: of a folder
// on a web server nobody tells, and of an archive that is still coming not yet.
func (p *Package) Complete() bool {
	_, web := p.src.(*webFolder)
	return !web && !p.coming
}

// Coming says that this is the beginning of an archive that arrives once: what is
// not known of it, the manifest too, may still come.
func (p *Package) Coming() bool { return p.coming }

// pieces are the stored files that make up an href: one, or its chunks.
func (p *Package) pieces(ctx context.Context, href string) ([]Entry, error) {
	f := p.chunked[href]
	if f == nil {
		e, err := p.resolve(ctx, href)
		return []Entry{e}, err
	}
	var all []Entry
	left := f.Size
	for i := 0; ; i++ {
		e, err := p.resolve(ctx, fmt.Sprintf("%s.%09d", href, i))
		if err != nil {
			if i > 0 && f.Size < 0 && errors.Is(err, ErrIncomplete) {
				return all, nil // without a size the last chunk is where they end
			}
			return nil, err
		}
		all = append(all, e)
		if e.Size > f.ChunkSize {
			return nil, fmt.Errorf("%s: %w: the chunk has %d bytes, and chunks have %d", e.Name, ErrInvalid, e.Size, f.ChunkSize)
		}
		if want := min(f.ChunkSize, left); f.Size >= 0 && e.Size >= 0 && e.Size != want {
			return nil, fmt.Errorf("%s: %w: the chunk has %d bytes, and %d are needed for the %d of %s", e.Name, ErrAltered, e.Size, want, f.Size, href)
		}
		if e.Size < f.ChunkSize || f.Size >= 0 && left <= f.ChunkSize {
			return all, nil
		}
		left -= e.Size
	}
}
