package pack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/ovation-project/ovation/appliance/chunkdigest"
	"github.com/ovation-project/ovation/appliance/encryption"
	"github.com/ovation-project/ovation/ovf"
)

// Encrypt has all files of a package encrypted while they are written. doc is
// the descriptor as it is now. The manifest is made anew, of the encrypted
// files, and so are chunk digests, which stay readable: they tell of what is
// stored. A signature ends.
func (p *Package) Encrypt(doc *ovf.Document, to encryption.To) error {
	to.Open = chunkdigest.Is
	sealed, key, err := encryption.Encrypt(doc, to)
	if err != nil {
		return err
	}
	digests := p.renewDigests(doc)
	for i := range p.Parts {
		part := &p.Parts[i]
		if part.Size >= 0 {
			part.Size = to.Cipher.Size(part.Size)
		}
		part.Write = through(part.Name, part.Write, func(w io.Writer, r io.Reader) error { return to.Cipher.Encrypt(w, r, key) })
	}
	p.Descriptor = func(made Made) ([]byte, error) { return digests.told(sealed, made) }
	p.Manifest, p.Certificate = nil, nil
	return nil
}

// Decrypt is the reverse. Every file is proved to be what was encrypted before
// the package has its name, as far as the cipher can prove it.
func (p *Package) Decrypt(doc *ovf.Document, keys encryption.Keys) error {
	files, err := encryption.Read(doc)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("%w: no file of the package is encrypted", encryption.ErrUnsupported)
	}
	digests := p.renewDigests(doc)
	most := map[string]int64{}
	names := map[string]string{} // of the parts, by href
	for _, f := range files {
		part := p.part(f.Href)
		if part == nil {
			return fmt.Errorf("%s: %w: it is not in the package", f.Href, encryption.ErrInvalid)
		}
		candidates, err := f.Candidates(keys)
		if err != nil {
			return err
		}
		stored := part.Size
		part.Size, most[part.Name], names[f.Href] = -1, stored, part.Name
		if over := f.Cipher.Size(0); f.Cipher.Authenticated() && stored >= over {
			part.Size = stored - over
		}
		write := part.Write
		part.Write = func(ctx context.Context, w io.Writer) error {
			key, err := f.Pick(candidates, func(w io.Writer) error { return write(ctx, w) })
			if err != nil {
				return err
			}
			return through(f.Href, write, func(w io.Writer, r io.Reader) error { return f.Cipher.Decrypt(w, r, key) })(ctx, w)
		}
	}
	before := p.MaxSize
	p.MaxSize = func(name string) int64 {
		if n, ok := most[name]; ok {
			return n
		}
		if before != nil {
			return before(name)
		}
		return -1
	}
	p.Descriptor = func(made Made) ([]byte, error) {
		sizes := map[string]int64{}
		for href, name := range names {
			if n, ok := made[name]; ok {
				sizes[href] = n
			}
		}
		plain, err := encryption.Plain(doc, sizes)
		if err != nil {
			return nil, err
		}
		return digests.told(plain, made)
	}
	p.Manifest, p.Certificate = nil, nil
	return nil
}

func (p *Package) part(href string) *Part {
	plain, err := url.PathUnescape(href)
	if err != nil {
		plain = href
	}
	for i := range p.Parts {
		if n := p.Parts[i].Name; n == href || n == plain {
			return &p.Parts[i]
		}
	}
	return nil
}

// through has what write gives changed on its way. Nothing of it is stored.
func through(name string, write func(context.Context, io.Writer) error, change func(io.Writer, io.Reader) error) func(context.Context, io.Writer) error {
	return func(ctx context.Context, w io.Writer) error {
		r, in := io.Pipe()
		done := make(chan error, 1)
		go func() {
			err := write(ctx, in)
			in.CloseWithError(err)
			done <- err
		}()
		err := change(w, r)
		if err != nil {
			err = fmt.Errorf("%s: %w", name, err)
			r.CloseWithError(err)
			if cause := <-done; cause != nil && !errors.Is(err, cause) && !errors.Is(cause, err) {
				err = errors.Join(err, cause)
			}
			return err
		}
		return <-done
	}
}
