package edit

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/chunkdigest"
	"github.com/ovation-project/ovation/author/pack"
	"github.com/ovation-project/ovation/ovf"
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
	// ChunkDigests adds digests of the chunks of all files, in a file of
	// their own. Those of a package that has them are brought up to date in
	// any case.
	ChunkDigests bool
	// InPlace says that the package is a folder, and written into that
	// folder: files that do not change stay as they are, unread where their
	// digests are known.
	InPlace bool
}

// Package gives the package with the changed descriptor and its files, and the
// names of those stored files that are not of it any more. The manifest is made
// anew, and so are chunk digests; a certificate does not hold any more and is
// left out.
func Package(ctx context.Context, p *appliance.Package, d *Descriptor, added []Added, opt Options) (pkg *pack.Package, gone []string, err error) {
	pkg, _, err = pack.Of(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	d, digests, err := d.withDigests(strings.TrimSuffix(p.DescriptorName(), path.Ext(p.DescriptorName()))+chunkdigest.Ending, opt.ChunkDigests)
	if err != nil {
		return nil, nil, err
	}
	known := &chunkdigest.List{} // of files that stay
	if opt.InPlace && digests != "" {
		if l, err := p.ChunkDigests(ctx); err == nil && l != nil {
			known = l
		} else if ctx.Err() != nil {
			return nil, nil, err
		}
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
		if f.ID == digests && digests != "" {
			pkg.ChunkDigests = f.Href
			if part, ok := old[f.Href]; ok {
				pkg.ChunkDigests = part.Name
			}
			sizes[pkg.ChunkDigests], stays[pkg.ChunkDigests] = f.ID, true
			continue
		}
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
				if c := known.Lookup(k.Name); c != nil && c.Size == k.Size {
					k.Chunks = c
				}
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

// digestsID is the ID of the File of chunk digests.
const digestsID = "chunk-digests"

// withDigests gives the descriptor with the File of chunk digests as the last
// of the References, where the standard wants it, since it is made of those
// before it; name is what it is called where add asks for one and there is none.
// The ID that is given is "" where there is none.
func (d *Descriptor) withDigests(name string, add bool) (*Descriptor, string, error) {
	d = New(d.doc)
	id, others := "", 0
	var last *ovf.File
	for _, f := range d.env().References {
		switch last = f; {
		case strings.Contains(f.Href, "://"):
		case chunkdigest.Is(f):
			id, name = f.ID, f.Href
		default:
			others++
		}
	}
	switch {
	case others == 0 && id != "":
		_, err := d.RemoveFile(id)
		return d, "", err
	case others == 0 && add:
		return nil, "", errors.New("there is no file in the package to make chunk digests of")
	case id != "" && last.ID == id:
		return d, id, nil
	case id != "":
		if _, err := d.RemoveFile(id); err != nil {
			return nil, "", err
		}
	case !add:
		return d, "", nil
	default:
		id = digestsID
		for n := 2; d.fileOf(id) != nil; n++ {
			id = fmt.Sprintf("%s-%d", digestsID, n)
		}
	}
	return d, id, d.AddFile(id, name)
}
