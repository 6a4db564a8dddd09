package serve

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/manifest"
	"github.com/ovation-project/ovation/appliance/summary"
	"github.com/ovation-project/ovation/internal/filestamp"
	"github.com/ovation-project/ovation/internal/term"
)

// IndexVersion is the version of the JSON shape of the index. Fields may be
// added within a version; none change their meaning or go away.
const IndexVersion = "ovation/index/v1"

// Index is what /index.json gives.
type Index struct {
	APIVersion string     `json:"apiVersion"`
	Packages   []*Package `json:"packages"`
}

// Package is one package of the index: an archive or a descriptor.
type Package struct {
	// Name is its place in the folder, Path the URL's path.
	Name string `json:"name"`
	Path string `json:"path"`
	// Size is what the package takes, all of its files together, in bytes.
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
	// ETag is that of the archive or the descriptor.
	ETag string `json:"etag"`
	// Title is the product's name, or that of the virtual system.
	Title   string `json:"title,omitempty"`
	Vendor  string `json:"vendor,omitempty"`
	Version string `json:"version,omitempty"`
	// Capacity is that of all disks, in bytes.
	Capacity int64 `json:"capacity"`
	// Files are the files within the package, the descriptor first.
	Files []File `json:"files,omitempty"`
	// Summary is the URL's path of what "ovation inspect --json" says.
	Summary string `json:"summary,omitempty"`
	// Error says why the package cannot be read; of what is above only
	// Name, Path, Modified, ETag and the size of this file are known then.
	Error string `json:"error,omitempty"`
}

// File is a file within a package.
type File struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
	// Algorithm and Digest are the manifest's (SHA256, in hexadecimal);
	// both are "" where it has none.
	Algorithm string `json:"algorithm,omitempty"`
	Digest    string `json:"digest,omitempty"`
}

// Bounds of one folder, so that an index stays one.
const (
	maxDepth    = 8
	maxVisited  = 100_000
	maxPackages = 10_000
	// opening is how many packages are looked into at once, whoever asks.
	opening = 4
	// maxKnown bounds the descriptors whose packages are remembered, in bytes.
	maxKnown = 64 << 20
)

// packages are those that were looked into.
type packages struct {
	mu   sync.Mutex
	m    map[string]*known
	size int64 // of their descriptors
	// under are those that somebody looks into.
	under map[string]chan struct{}
	// looks counts how often a package was looked into.
	looks int
}

// known is what was seen of one archive or descriptor.
type known struct {
	identity string
	size     int64 // of the descriptor
	pkg      *Package
	summary  *summary.Summary
	// stored are the names of the files that a descriptor refers to.
	stored map[string]bool
}

func isArchive(name string) bool    { return strings.EqualFold(path.Ext(name), ".ova") }
func isDescriptor(name string) bool { return strings.EqualFold(path.Ext(name), ".ovf") }

// isServed says that a file belongs to a package.
func (h *Handler) isServed(ctx context.Context, name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".ova", ".ovf", ".mf", ".cert":
		return true
	}
	dir, base := path.Split(name)
	entries, err := fs.ReadDir(h.root.FS(), path.Clean(dir))
	if err != nil {
		return false
	}
	for _, e := range entries {
		if !isDescriptor(e.Name()) || hidden(e.Name()) {
			continue
		}
		if k, err := h.look(ctx, dir+e.Name()); err == nil && k.stored[base] {
			return true
		}
	}
	return false
}

// find lists the archives and descriptors in the folder and below it.
func (h *Handler) find(ctx context.Context) (names []string, err error) {
	visited := 0
	err = fs.WalkDir(h.root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		switch visited++; {
		case ctx.Err() != nil:
			return ctx.Err()
		case name == ".":
			return err
		case err != nil: // a folder that cannot be read has nothing to serve
			h.log.Debug("list a folder", "name", name, "error", err)
			return nil
		case visited > maxVisited || len(names) >= maxPackages:
			h.log.Warn("the folder is too large: its index is cut", "files", visited, "packages", len(names))
			return fs.SkipAll
		case hidden(name):
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		case e.IsDir():
			if strings.Count(name, "/")+1 >= maxDepth {
				return fs.SkipDir
			}
			return nil
		}
		if _, ok := fileName("/" + name); ok && (isArchive(name) || isDescriptor(name)) {
			names = append(names, name)
		}
		return nil
	})
	return names, err
}

// look gives what is in a package, which is read when it is asked for first,
// and again when it was changed.
func (h *Handler) look(ctx context.Context, name string) (*known, error) {
	fi, err := h.root.Stat(filepath.FromSlash(name))
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	id := filestamp.Of(fi)
	for {
		k, others := h.known.of(name, id)
		if k != nil {
			return k, nil
		}
		if others == nil {
			break
		}
		select { // until another has looked, or given up
		case <-others:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	defer h.known.looked(name)
	select {
	case h.looking <- struct{}{}:
		defer func() { <-h.looking }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	k := &known{identity: id, pkg: &Package{
		Name: name, Path: (&url.URL{Path: "/" + name}).EscapedPath(), Size: fi.Size(), Modified: fi.ModTime().UTC(), ETag: `"` + id + `"`,
	}}
	if err := h.read(ctx, k); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		// Where on this machine the folder is is nobody's business.
		k.pkg.Error = strings.ReplaceAll(strings.ReplaceAll(err.Error(), h.dir+string(filepath.Separator), ""), h.dir, ".")
	}
	h.known.keep(name, k)
	return k, nil
}

// of gives what is known of a package. Where that is nothing, or of another file,
// others ends when somebody else has looked into it; where it is nil, it is the
// caller's to look, and to say by looked that this is done.
func (p *packages) of(name, identity string) (k *known, others <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k := p.m[name]; k != nil && k.identity == identity {
		return k, nil
	}
	if c := p.under[name]; c != nil {
		return nil, c
	}
	if p.under == nil {
		p.under = map[string]chan struct{}{}
	}
	p.under[name] = make(chan struct{})
	return nil, nil
}

func (p *packages) looked(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.under[name])
	delete(p.under, name)
}

func (p *packages) keep(name string, k *known) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looks++
	if old := p.m[name]; old != nil {
		p.size -= old.size
	}
	if p.m == nil || len(p.m) > 2*maxPackages || p.size+k.size > maxKnown {
		p.m, p.size = map[string]*known{}, 0
	}
	p.m[name] = k
	p.size += k.size
}

// read looks into a package.
func (h *Handler) read(ctx context.Context, k *known) (err error) {
	p, err := appliance.Open(ctx, filepath.Join(h.dir, filepath.FromSlash(k.pkg.Name)), appliance.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	k.size = int64(len(p.Document().Bytes()))
	k.stored = map[string]bool{}
	for _, f := range p.Document().Envelope().References {
		names, err := p.StoredNames(ctx, f.Href)
		if err != nil {
			continue // the package lacks it
		}
		for _, n := range names {
			k.stored[n] = true
		}
	}
	s, err := summary.Of(ctx, p, summary.Options{})
	if err != nil {
		return err
	}
	s.Locator = k.pkg.Name
	k.summary = s
	k.pkg.Summary = k.pkg.Path + "?summary"
	for _, x := range s.Products {
		if k.pkg.Title == "" {
			k.pkg.Title, k.pkg.Vendor = x.Product, x.Vendor
			if k.pkg.Version = x.FullVersion; x.FullVersion == "" {
				k.pkg.Version = x.Version
			}
		}
	}
	if k.pkg.Title == "" && s.Content != nil {
		if k.pkg.Title = s.Content.Name; k.pkg.Title == "" {
			k.pkg.Title = s.Content.ID
		}
	}
	for _, d := range s.Disks {
		k.pkg.Capacity += max(d.Capacity, 0)
	}
	manifestName, _ := p.ManifestBytes()
	certificate, _ := p.Certificate()
	size := int64(0)
	for _, e := range p.Entries() {
		if e.Name != p.DescriptorName() && e.Name != manifestName && e.Name != certificate && !k.stored[e.Name] {
			continue // a folder may hold other files
		}
		f := File{Name: e.Name, Size: e.Size}
		size += max(e.Size, 0)
		if m := p.Manifest(); m != nil {
			if d, ok := m.Lookup(e.Name); ok {
				f.Algorithm, f.Digest = manifest.Name(d.Hash), hex.EncodeToString(d.Sum)
			}
		}
		if e.Name == p.DescriptorName() {
			k.pkg.Files = slices.Insert(k.pkg.Files, 0, f)
		} else {
			k.pkg.Files = append(k.pkg.Files, f)
		}
	}
	if isDescriptor(k.pkg.Name) {
		k.pkg.Size = size
	}
	return nil
}

// Index lists the packages in the folder and below it.
func (h *Handler) Index(ctx context.Context) (*Index, error) {
	names, err := h.find(ctx)
	if err != nil {
		return nil, err
	}
	found := make([]*Package, len(names))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(opening)
	for i, name := range names {
		g.Go(func() error {
			k, err := h.look(ctx, name)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err == nil { // else it is a link out of the folder, or gone
				found[i] = k.pkg
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return &Index{IndexVersion, slices.DeleteFunc(found, func(p *Package) bool { return p == nil })}, nil
}

func (h *Handler) serveIndex(a *answer, r *http.Request, asJSON bool) {
	index, err := h.Index(r.Context())
	if err != nil {
		h.log.Error("make the index", "error", err)
		http.Error(a, "the index cannot be made", http.StatusInternalServerError)
		return
	}
	page, data, err := h.index.of(index)
	if err != nil {
		h.log.Error("make the index", "error", err)
		http.Error(a, "the index cannot be made", http.StatusInternalServerError)
		return
	}
	if asJSON {
		serveBytes(a, r, "application/json", data)
		return
	}
	serveBytes(a, r, "text/html; charset=utf-8", page)
}

// rendered is the index as it was given last: all who ask for the same get the same
// bytes, however many they are and however slowly they take them.
type rendered struct {
	mu         sync.Mutex
	packages   []*Package
	page, data []byte
}

func (v *rendered) of(index *Index) (html, data []byte, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	// What is known of a package is another value when it was looked into again.
	if v.page != nil && slices.Equal(v.packages, index.Packages) {
		return v.page, v.data, nil
	}
	var b bytes.Buffer
	if err := page.Execute(&b, index); err != nil {
		return nil, nil, err
	}
	data, err = json.MarshalIndent(index, "", "  ")
	if err != nil {
		return nil, nil, err
	}
	v.packages, v.page, v.data = index.Packages, b.Bytes(), append(data, '\n')
	return v.page, v.data, nil
}

// serveSummary says what is in a package.
func (h *Handler) serveSummary(a *answer, r *http.Request, name string) {
	if !isArchive(name) && !isDescriptor(name) {
		http.NotFound(a, r)
		return
	}
	k, err := h.look(r.Context(), name)
	switch {
	case err != nil:
		http.NotFound(a, r)
	case k.summary == nil:
		http.Error(a, k.pkg.Error, http.StatusUnprocessableEntity)
	default:
		h.serveJSON(a, r, k.summary)
	}
}

func (h *Handler) serveJSON(a *answer, r *http.Request, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		h.log.Error("write JSON", "error", err)
		http.Error(a, "this cannot be written as JSON", http.StatusInternalServerError)
		return
	}
	serveBytes(a, r, "application/json", append(b, '\n'))
}

// serveBytes answers with what was made just now.
func serveBytes(a *answer, r *http.Request, contentType string, b []byte) {
	sum := sha256.Sum256(b)
	a.Header().Set("Content-Type", contentType)
	a.Header().Set("ETag", `"`+hex.EncodeToString(sum[:16])+`"`)
	a.Header().Set("Cache-Control", "no-cache")
	http.ServeContent(a, r, "", time.Time{}, bytes.NewReader(b))
}

var page = template.Must(template.New("index").Funcs(template.FuncMap{"size": term.Size}).Parse(`<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Virtual appliances</title>
<style>
body { font: 1em/1.5 sans-serif; margin: 2em }
table { border-collapse: collapse }
th, td { text-align: left; padding: .2em 1em .2em 0; vertical-align: top }
td.n, th.n { text-align: right }
.e { color: #a00 }
</style>
<h1>Virtual appliances</h1>
{{if .Packages}}<table>
<tr><th>Package<th>What it is<th>Version<th class=n>Size<th class=n>Disks<th>Changed
{{range .Packages}}<tr><td><a href="{{.Path}}">{{.Name}}</a>
<td>{{if .Error}}<span class=e>{{.Error}}</span>{{else}}<a href="{{.Summary}}">{{.Title}}</a>{{with .Vendor}}, {{.}}{{end}}{{end}}
<td>{{.Version}}<td class=n>{{size .Size}}<td class=n>{{if not .Error}}{{size .Capacity}}{{end}}<td>{{.Modified.Format "2006-01-02 15:04"}} UTC
{{end}}</table>
{{else}}<p>There are no packages here.</p>
{{end}}<p>For programs: <a href="/index.json">index.json</a>.</p>
</html>
`))
