// Package sign signs packages that are there: it writes the certificate file
// (DSP0243 1.1.1, clause 5.1), and with it, where that is asked for, the
// package's chunk digests.
package sign

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/signature"
	"github.com/ovation-project/ovation/author/edit"
	"github.com/ovation-project/ovation/author/pack"
)

// Signer signs manifests. It is a pack.Signer.
type Signer struct {
	Identity *signature.Identity
	// Hash is what is signed with; 0 is SHA-256.
	Hash crypto.Hash
	// Authority, where set, is the URL of a time stamp authority (RFC 3161),
	// which is asked by Client.
	Authority string
	Client    *http.Client
}

var _ pack.Signer = (*Signer)(nil)

// Sign gives the certificate file for a manifest.
func (s *Signer) Sign(ctx context.Context, name string, manifest []byte) ([]byte, error) {
	hash := s.Hash
	if hash == 0 {
		hash = crypto.SHA256
	}
	sig, err := signature.Sign(rand.Reader, manifest, name, hash, s.Identity.Key, s.Identity.Chain)
	if err != nil {
		return nil, err
	}
	if s.Authority != "" {
		if err := s.stamp(ctx, sig); err != nil {
			return nil, fmt.Errorf("time stamp authority %s: %w", s.Authority, err)
		}
	}
	return sig.Marshal(), nil
}

// MaxSize is as many bytes as Sign gives at the most.
func (s *Signer) MaxSize() int {
	n := 2048 // the first line, with the largest of signatures
	for _, c := range s.Identity.Chain {
		n += len(c.Raw)*3/2 + 128
	}
	if s.Authority != "" {
		n += signature.MaxStamp * 3 / 2
	}
	return n
}

func (s *Signer) stamp(ctx context.Context, sig *signature.Signature) error {
	ask, err := sig.StampRequest()
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Authority, bytes.NewReader(ask))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/timestamp-query")
	client := s.Client
	if client == nil {
		client = http.DefaultClient
	}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", answer.Status)
	}
	data, err := io.ReadAll(io.LimitReader(answer.Body, signature.MaxStamp+1))
	if err != nil {
		return err
	}
	if len(data) > signature.MaxStamp {
		return fmt.Errorf("its answer has more than %d bytes", signature.MaxStamp)
	}
	return sig.AddStamp(data)
}

// Options say how a package is signed.
type Options struct {
	// Signer signs; nil, with Chunks, only adds the chunk digests.
	Signer *Signer
	// Hash is the manifest's algorithm where a manifest is made; 0 is that of
	// the manifest that there is, else SHA-256.
	Hash crypto.Hash
	// Chunks adds chunk digests of all files, or makes them anew.
	Chunks bool
	// InPlace says that the package is a folder and written into that
	// folder.
	InPlace bool
}

// Package gives the signed package, to be written. Without Chunks and Hash,
// manifest and files stay as they are, and only the certificate file is new.
// Files are proved by the old manifest while they are read. gone are the names
// of stored files that are not of the package any more.
func Package(ctx context.Context, p *appliance.Package, opt Options) (pkg *pack.Package, gone []string, err error) {
	var signer pack.Signer
	if opt.Signer != nil {
		signer = opt.Signer
	}
	if p.Manifest() != nil && !opt.Chunks && opt.Hash == 0 {
		if pkg, _, err = pack.Of(ctx, p); err != nil {
			return nil, nil, err
		}
		if opt.InPlace {
			keep(p, pkg)
		}
		pkg.Certificate, pkg.Signer = nil, signer
		return pkg, nil, nil
	}
	hash := opt.Hash
	if hash == 0 && p.Manifest() == nil {
		hash = crypto.SHA256
	}
	return edit.Package(ctx, p, edit.New(p.Document()), nil, edit.Options{Hash: hash, Signer: signer, ChunkDigests: opt.Chunks, InPlace: opt.InPlace})
}

// keep leaves the files of a folder that have a digest in its manifest as they
// are.
func keep(p *appliance.Package, pkg *pack.Package) {
	size := map[string]int64{}
	for _, e := range p.Entries() {
		size[e.Name] = e.Size
	}
	for i, part := range pkg.Parts {
		d, ok := p.Manifest().Lookup(part.Name)
		if n, there := size[part.Name]; ok && there && part.ChunkSize == 0 && d.Hash == pkg.Hash {
			pkg.Parts[i].Kept = []pack.Stored{{Name: part.Name, Size: n, Digest: d.Sum}}
		}
	}
}
