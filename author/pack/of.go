package pack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/manifest"
	"github.com/ovation-project/ovation/ovf"
)

// Of gives the parts of a package as they are, to be written elsewhere:
// descriptor, manifest and certificate as well. Files are proved by the
// manifest while they are copied; files that the descriptor does not refer to
// are left out and named.
func Of(ctx context.Context, p *appliance.Package) (pkg *Package, left []string, err error) {
	name := p.DescriptorName()
	pkg = &Package{Name: strings.TrimSuffix(name, path.Ext(name))}
	descriptor := p.Document().Bytes()
	pkg.Descriptor = func(Made) ([]byte, error) { return descriptor, nil }
	known := map[string]bool{name: true}
	var manifestName, certificateName string
	manifestName, pkg.Manifest = p.ManifestBytes()
	certificateName, pkg.Certificate = p.Certificate()
	known[manifestName], known[certificateName] = true, true
	if m := p.Manifest(); m != nil && len(m.Digests) > 0 {
		pkg.Hash = m.Digests[0].Hash
		pkg.Style = styleOf(string(pkg.Manifest))
	}
	for _, f := range p.Document().Envelope().References {
		part, names, err := PartOf(ctx, p, f)
		if err != nil {
			return nil, nil, err
		}
		if part.Write == nil || known[part.Name] {
			continue // it lies elsewhere, or is referred to twice
		}
		known[part.Name] = true
		for _, n := range names {
			known[n] = true
		}
		pkg.Parts = append(pkg.Parts, part)
	}
	for _, e := range p.Entries() {
		if !known[e.Name] {
			left = append(left, e.Name)
		}
	}
	return pkg, left, nil
}

// PartOf gives a file of a package, with the names that it is stored under. A
// file that lies elsewhere has no Write.
func PartOf(ctx context.Context, p *appliance.Package, f *ovf.File) (Part, []string, error) {
	part := Part{Name: f.Href, Size: -1}
	if strings.Contains(f.Href, "://") {
		return part, nil, nil
	}
	names, err := p.StoredNames(ctx, f.Href)
	if err != nil {
		return part, nil, err
	}
	if f.ChunkSize > 0 {
		part.ChunkSize = f.ChunkSize
		part.Name = strings.TrimSuffix(names[0], ".000000000")
	} else if len(names) == 1 {
		part.Name = names[0]
	} else {
		return part, nil, fmt.Errorf("%s is stored in %d chunks, and the descriptor does not say how large they are", f.Href, len(names))
	}
	href := f.Href
	part.Size = p.StoredSize(href)
	part.Write = func(ctx context.Context, w io.Writer) error {
		r, err := p.OpenReader(ctx, href)
		if err != nil {
			return err
		}
		_, err = Copy(ctx, w, r)
		return errors.Join(err, r.Close())
	}
	return part, names, nil
}

// styleOf says how a manifest is spelt.
func styleOf(text string) manifest.Style {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	name, _, _ := strings.Cut(line, "(")
	return manifest.Style{Hyphen: strings.HasPrefix(strings.ToUpper(name), "SHA-"), NoSpace: strings.Contains(line, ")=") && !strings.Contains(line, ")= ")}
}
