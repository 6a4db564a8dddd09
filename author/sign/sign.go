// Package sign signs packages that are there: it writes the certificate file
// (DSP0243 1.1.1, clause 5.1), and with it, where that is asked for, the
// package's chunk digests.
package sign

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/chunkdigest"
	"github.com/ovation-project/ovation/appliance/signature"
	"github.com/ovation-project/ovation/author/edit"
	"github.com/ovation-project/ovation/author/pack"
	"github.com/ovation-project/ovation/ovf"
)

// maxStamp bounds a time stamp authority's answer, in bytes.
const maxStamp = 64 << 10

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
		n += maxStamp * 3 / 2
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
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxStamp+1))
	if err != nil {
		return err
	}
	if len(data) > maxStamp {
		return fmt.Errorf("its answer has more than %d bytes", maxStamp)
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
	// Progress, where set, is given how many bytes were read for the chunk
	// digests.
	Progress func(n int64)
}

// Package gives the signed package, to be written. Without Chunks and Hash,
// manifest and files stay as they are, and only the certificate file is new.
// Files are proved by the old manifest while they are read. gone are the names
// of stored files that are not of the package any more.
func Package(ctx context.Context, p *appliance.Package, opt Options) (pkg *pack.Package, gone []string, err error) {
	doc := p.Document()
	var added []edit.Added
	var descriptor *edit.Descriptor
	if opt.Chunks {
		if descriptor, added, err = chunks(ctx, p, opt.Progress); err != nil {
			return nil, nil, err
		}
	}
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
	if descriptor == nil {
		descriptor = edit.New(doc)
	}
	hash := opt.Hash
	if hash == 0 && p.Manifest() == nil {
		hash = crypto.SHA256
	}
	return edit.Package(ctx, p, descriptor, added, edit.Options{Hash: hash, Signer: signer, InPlace: opt.InPlace})
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

// chunks reads all files of the package and makes the file of their chunk
// digests.
func chunks(ctx context.Context, p *appliance.Package, progress func(int64)) (*edit.Descriptor, []edit.Added, error) {
	d := edit.New(p.Document())
	l := &chunkdigest.List{}
	if err := room(p); err != nil {
		return nil, nil, err
	}
	for _, f := range p.Document().Envelope().References {
		if strings.Contains(f.Href, "://") {
			continue
		}
		if hasEnding(f.Href) { // of an earlier time
			if _, err := d.RemoveFile(f.ID); err != nil {
				return nil, nil, err
			}
			continue
		}
		files, err := digest(ctx, p, f, progress)
		if err != nil {
			return nil, nil, err
		}
		l.Files = append(l.Files, files...)
	}
	if len(l.Files) == 0 {
		return nil, nil, errors.New("there is no file in the package to make chunk digests of")
	}
	data := l.Marshal()
	name := strings.TrimSuffix(p.DescriptorName(), path.Ext(p.DescriptorName())) + chunkdigest.Ending
	id := "chunk-digests"
	for n := 2; taken(p.Document().Envelope(), id); n++ {
		id = fmt.Sprintf("chunk-digests-%d", n)
	}
	if err := d.AddFile(id, name); err != nil {
		return nil, nil, err
	}
	part := pack.Part{Name: name, Size: int64(len(data)), Write: func(_ context.Context, w io.Writer) error {
		_, err := w.Write(data)
		return err
	}}
	return d, []edit.Added{{FileID: id, Part: part}}, nil
}

// room sees, before hours of reading, whether there are too many chunks.
func room(p *appliance.Package) error {
	var names []string
	var sizes []int64
	for _, e := range p.Entries() {
		names, sizes = append(names, e.Name), append(sizes, max(0, e.Size))
	}
	if n := chunkdigest.Size(names, sizes); n > chunkdigest.MaxSize {
		return fmt.Errorf("the chunk digests would have about %d bytes, and at most %d are read: the package is too large for them", n, chunkdigest.MaxSize)
	}
	return nil
}

func hasEnding(href string) bool {
	return strings.HasSuffix(strings.ToLower(href), chunkdigest.Ending)
}

func taken(env *ovf.Envelope, id string) bool {
	for _, f := range env.References {
		if f.ID == id && !hasEnding(f.Href) {
			return true
		}
	}
	return false
}

// digest reads what a reference is stored as: one file, or its chunks (ovf:
// chunkSize), each with digests of its own.
func digest(ctx context.Context, p *appliance.Package, f *ovf.File, progress func(int64)) ([]*chunkdigest.File, error) {
	names, err := p.StoredNames(ctx, f.Href)
	if err != nil {
		return nil, err
	}
	r, err := p.OpenReader(ctx, f.Href)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var all []*chunkdigest.File
	for i, name := range names {
		h := chunkdigest.NewHasher(name)
		var from io.Reader = r
		if i < len(names)-1 {
			from = io.LimitReader(r, f.ChunkSize)
		}
		if _, err := pack.Copy(ctx, &counting{h, progress}, from); err != nil {
			return nil, err
		}
		all = append(all, h.File())
	}
	return all, nil
}

type counting struct {
	w        io.Writer
	progress func(int64)
}

func (c *counting) Write(b []byte) (int, error) {
	if c.progress != nil {
		c.progress(int64(len(b)))
	}
	return c.w.Write(b)
}
