// Package judge lints a package as a whole: its descriptor by the rules of
// package lint, and its files beside it.
package judge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/formats"
	"github.com/ovation-project/ovation/ovf/lint"
)

// Lint judges a package. Of disks it reads the headers.
func Lint(ctx context.Context, p *appliance.Package, opt lint.Options) []lint.Finding {
	opt.Package = &view{ctx: ctx, p: p}
	return lint.Run(p.Document(), opt)
}

// view is a package as lint sees it.
type view struct {
	ctx context.Context
	p   *appliance.Package
}

func (v *view) Archive() bool { return v.p.Kind() == appliance.Archive }

func (v *view) Alone() bool { return strings.EqualFold(path.Ext(v.p.Locator()), ".ovf") }

func (v *view) HasManifest() bool { return v.p.Manifest() != nil }

func (v *view) Files() []lint.File {
	manifest, _ := v.p.ManifestBytes()
	certificate, _ := v.p.Certificate()
	known := []string{v.p.DescriptorName(), manifest, certificate}
	for _, f := range v.p.Document().Envelope().References {
		if names, err := v.p.StoredNames(v.ctx, f.Href); err == nil {
			known = append(known, names...)
		}
	}
	var all []lint.File
	for _, e := range v.p.Entries() {
		all = append(all, lint.File{Name: e.Name, Known: slices.Contains(known, e.Name)})
	}
	return all
}

func (v *view) Size(href string) int64 {
	if size := v.p.StoredSize(href); size >= 0 || v.p.Complete() {
		return size
	}
	files := v.p.Unverified()
	defer files.Close()
	f, err := files.OpenFile(v.ctx, href) // on a web server only asking tells
	if err != nil {
		return -1
	}
	return f.Size()
}

func (v *view) Chunks(href string) []int64 {
	var sizes []int64
	for {
		size := v.p.StoredSize(fmt.Sprintf("%s.%09d", href, len(sizes)))
		if size < 0 {
			return sizes
		}
		sizes = append(sizes, size)
	}
}

func (v *view) Header(href string, n int) []byte {
	files := v.p.Unverified() // one at a time: there may be many
	defer files.Close()
	f, err := files.OpenFile(v.ctx, href)
	if err != nil {
		return nil
	}
	b := make([]byte, min(int64(n), f.Size()))
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil
	}
	return b
}

func (v *view) Disk(href string) (format string, capacity int64, ok bool) {
	files := v.p.Unverified()
	defer files.Close()
	f, err := files.OpenFile(v.ctx, href)
	if err != nil {
		return "", 0, false
	}
	m, err := formats.Open(v.ctx, f, "", disk.OpenOptions{Files: files})
	if err != nil {
		return "", 0, false
	}
	defer m.Close()
	if i, ok := m.(disk.Informer); ok {
		format = i.Info().Format
	}
	return format, m.Size(), true
}

func (v *view) FormatOf(uri string) (string, bool) {
	f, ok := formats.ByURI(uri)
	if !ok {
		return "", false
	}
	return f.Name(), true
}
