package appliance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/ovation-project/ovation/appliance/manifest"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/ovf"
)

// Provable says whether all that the package is made of can be proved by its
// manifest while it is used: the descriptor, as it was read, is the manifest's,
// and every file that it refers to and that is there has a digest. Where that is
// not so the error is ErrAltered. It is ErrIncomplete where a file of the manifest
// is not there, as far as that is known without asking for it. A package without
// a manifest proves nothing, and gives none.
func (p *Package) Provable(ctx context.Context) error {
	if p.manifest == nil {
		return nil
	}
	if err := p.ProveDescriptor(); err != nil {
		return err
	}
	var lacking []string
	for _, f := range p.doc.Envelope().References {
		name, err := p.undigested(ctx, f)
		if err != nil {
			return err
		}
		if name != "" {
			lacking = append(lacking, noDigest(name))
		}
	}
	if lacking != nil {
		return fmt.Errorf("%w: %s", ErrAltered, strings.Join(lacking, "; "))
	}
	if !p.Complete() {
		return nil
	}
	for _, d := range p.manifest.Digests {
		if _, err := p.resolve(ctx, d.Name); err != nil {
			return fmt.Errorf("%s: %w", p.mfName, err)
		}
	}
	return nil
}

// undigested names the first stored file of a reference that is there and has no
// digest, "" where there is none. A server is asked only for what the manifest
// does not name.
func (p *Package) undigested(ctx context.Context, f *ovf.File) (string, error) {
	for i := int64(0); ; i++ {
		href := f.Href
		if f.ChunkSize > 0 {
			if i > 0 && f.Size >= 0 && i > (f.Size-1)/f.ChunkSize {
				return "", nil
			}
			href = fmt.Sprintf("%s.%09d", f.Href, i)
		}
		_, listed := p.digest(href)
		if plain, err := url.PathUnescape(href); err == nil && !listed {
			_, listed = p.digest(strings.TrimPrefix(plain, "./"))
		}
		switch {
		case listed && f.ChunkSize > 0:
			continue
		case listed:
			return "", nil
		}
		e, err := p.resolve(ctx, href)
		if errors.Is(err, ErrIncomplete) || errors.Is(err, disk.ErrOutside) {
			return "", nil // whoever wants it is told
		}
		if err != nil {
			return "", err
		}
		if _, listed = p.digest(e.Name); listed {
			return "", nil
		}
		return e.Name, nil
	}
}

func noDigest(name string) string { return fmt.Sprintf("%s has no digest in the manifest", name) }

// ProveDescriptor compares the descriptor with the manifest: the very bytes that
// everything is decided from, and not those that are there by now. One that is
// another, or has no digest there, gives ErrAltered; without a manifest there is
// nothing to compare with.
func (p *Package) ProveDescriptor() error {
	if p.manifest == nil {
		return nil
	}
	want, ok := p.digest(p.descName)
	if !ok {
		return fmt.Errorf("%w: %s", ErrAltered, noDigest(p.descName))
	}
	h := want.Hash.New()
	h.Write(p.doc.Bytes())
	if got := h.Sum(nil); !bytes.Equal(got, want.Sum) {
		return &AlteredError{Name: p.descName, Algorithm: manifest.Name(want.Hash), Want: want.Sum, Got: got}
	}
	return nil
}
