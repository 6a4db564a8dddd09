package edit

import (
	"context"
	"crypto"
	"fmt"
	"path/filepath"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/author/pack"
)

// Added is a file that comes into the package.
type Added struct {
	FileID string
	Part   pack.Part
}

// Options say how the changed package is written.
type Options struct {
	// Hash is the manifest's; 0 is that of the manifest that there is.
	Hash crypto.Hash
	// NoManifest leaves the manifest out.
	NoManifest bool
	// Signer, where set, signs the manifest.
	Signer pack.Signer
	// InPlace says that the package is a folder, and written into that
	// folder: files that do not change stay as they are, unread where their
	// digests are known.
	InPlace bool
}

// Package gives the package with the changed descriptor and its files, and the
// names of those stored files that are not of it any more. The manifest is made
// anew; a certificate does not hold any more and is left out.
func Package(ctx context.Context, p *appliance.Package, d *Descriptor, added []Added, opt Options) (pkg *pack.Package, gone []string, err error) {
	pkg, _, err = pack.Of(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	old := map[string]pack.Part{}
	for _, f := range p.Document().Envelope().References {
		part, names, err := pack.PartOf(ctx, p, f)
		if err != nil {
			return nil, nil, err
		}
		if part.Write == nil {
			continue
		}
		if opt.InPlace {
			for _, name := range names {
				part.Kept = append(part.Kept, pack.Stored{Name: name, Size: -1})
			}
		}
		old[f.Href] = part
		gone = append(gone, names...)
	}
	hash := pkg.Hash
	if opt.Hash != 0 {
		pkg.Hash = opt.Hash
	}
	switch {
	case opt.NoManifest:
		pkg.Hash = 0
	case pkg.Hash == 0 && opt.Signer != nil:
		pkg.Hash = crypto.SHA256
	}
	if name, data := p.Certificate(); data != nil && opt.Signer == nil {
		gone = append(gone, name)
	}
	if name, data := p.ManifestBytes(); data != nil && pkg.Hash == 0 {
		gone = append(gone, name)
	}
	pkg.Manifest, pkg.Certificate, pkg.Signer = nil, nil, opt.Signer
	pkg.Parts = nil
	parts := map[string]pack.Part{}
	sizes := map[string]string{} // the file's ID by the part's name
	for _, a := range added {
		parts[a.Part.Name] = a.Part
		sizes[a.Part.Name] = a.FileID
	}
	stays := map[string]bool{}
	for _, f := range d.Document().Envelope().References {
		part, ok := parts[f.Href]
		if !ok {
			if part, ok = old[f.Href]; !ok {
				continue // it lies elsewhere
			}
			for i := range part.Kept {
				k := &part.Kept[i]
				stays[filepath.Base(k.Name)] = true
				if m := p.Manifest(); m != nil && hash == pkg.Hash {
					if digest, ok := m.Lookup(k.Name); ok && digest.Hash == hash {
						k.Digest = digest.Sum
					}
				}
				k.Size = sizeOf(p, k.Name)
			}
		}
		pkg.Parts = append(pkg.Parts, part)
	}
	pkg.Descriptor = func(made pack.Made) ([]byte, error) {
		final := New(d.Document())
		for name, id := range sizes {
			if n, ok := made[name]; ok {
				if err := final.SetFileSize(id, n); err != nil {
					return nil, fmt.Errorf("%s: %w", name, err)
				}
			}
		}
		return final.Document().Bytes(), nil
	}
	var left []string
	for _, name := range gone {
		if !stays[name] {
			left = append(left, name)
		}
	}
	return pkg, left, nil
}

func sizeOf(p *appliance.Package, name string) int64 {
	for _, e := range p.Entries() {
		if e.Name == name {
			return e.Size
		}
	}
	return -1
}
