package pack

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/ovation-project/ovation/appliance/chunkdigest"
	"github.com/ovation-project/ovation/appliance/ova"
)

// flow is an archive that is written front to back with nothing staged, since
// every size in it is known before. Its manifest is the last but for the
// certificate, as the standard has it for archives that are made as they are
// sent, unless it is known before as well.
type flow struct {
	p *Package
	// sizes are those of all files by the names that they are stored under.
	sizes      map[string]int64
	parts      []Stored
	descriptor []byte
	// manifest and certificate are their sizes, 0 for none.
	manifest, certificate int64
}

// flowing gives the archive as one that flows; nil where a size is not known
// before the file is made.
func (p *Package) flowing() (*flow, error) {
	f := &flow{p: p, sizes: map[string]int64{}}
	made := Made{}
	add := func(part Part) {
		rest := part.Size
		for _, s := range expect(part) {
			s.Size = rest
			if part.ChunkSize > 0 {
				s.Size = min(rest, part.ChunkSize)
			}
			rest -= s.Size
			f.parts = append(f.parts, s)
			f.sizes[s.Name] = s.Size
		}
		made[part.Name] = part.Size
	}
	for _, part := range p.Parts {
		if part.Write == nil || part.Gzip || part.Size < 0 || part.Told {
			return nil, nil
		}
		add(part)
	}
	if p.ChunkDigests != "" {
		var names []string
		var sizes []int64
		for _, s := range f.parts {
			names, sizes = append(names, s.Name), append(sizes, s.Size)
		}
		add(Part{Name: p.ChunkDigests, Size: chunkdigest.Size(names, sizes)})
	}
	var err error
	if f.descriptor, err = p.Descriptor(made); err != nil {
		return nil, fmt.Errorf("descriptor: %w", err)
	}
	expected := make([]Stored, len(f.parts))
	for i, s := range f.parts {
		expected[i] = Stored{Name: s.Name, Digest: make([]byte, p.hash().Size())}
	}
	f.manifest = int64(len(p.manifestOf(f.descriptor, expected)))
	f.certificate = int64(len(p.Certificate))
	if p.Certificate == nil && p.Signer != nil {
		if f.manifest == 0 {
			return nil, errUnsigned
		}
		f.certificate = int64(p.Signer.MaxSize())
	}
	return f, nil
}

// size is the archive's, in bytes.
func (f *flow) size() int64 {
	sizes := []int64{int64(len(f.descriptor))}
	for _, s := range f.parts {
		sizes = append(sizes, s.Size)
	}
	for _, n := range []int64{f.manifest, f.certificate} {
		if n > 0 {
			sizes = append(sizes, n)
		}
	}
	return ova.Size(sizes...)
}

type flowSink struct {
	s     *ova.Stream
	sizes map[string]int64
}

func (s flowSink) create(name string) (entry, error) { return s.s.Create(name, s.sizes[name]) }

// write writes the archive. What is found to be altered is found when it was
// written: then the archive does not end.
func (f *flow) write(ctx context.Context, w io.Writer) ([]Stored, error) {
	p := f.p
	when := p.When
	if when.IsZero() {
		when = epoch
	}
	s := ova.NewStream(w, cmp.Or(p.Hash, crypto.SHA256), when)
	var stored []Stored
	add := func(name string, content []byte) error {
		e, err := s.Create(name, int64(len(content)))
		if err != nil {
			return err
		}
		_, err = e.Write(content)
		_, _, closing := e.Close()
		stored = append(stored, Stored{Name: name, Size: int64(len(content))})
		return errors.Join(err, closing)
	}
	seal := func(manifest []byte) error {
		if f.manifest > 0 {
			if err := add(p.Name+".mf", manifest); err != nil {
				return err
			}
		}
		if f.certificate == 0 {
			return nil
		}
		cert, err := p.certificate(ctx, manifest)
		if err == nil {
			cert, err = filled(cert, int(f.certificate))
		}
		if err != nil {
			return err
		}
		return add(p.Name+".cert", cert)
	}
	if err := add(p.Name+".ovf", f.descriptor); err != nil {
		return nil, err
	}
	if p.Manifest != nil {
		if err := seal(p.Manifest); err != nil {
			return nil, err
		}
	}
	var files []Stored
	sink, parts := p.digested(flowSink{s, f.sizes})
	for _, part := range parts {
		some, err := store(ctx, sink, part)
		if err != nil {
			return nil, err
		}
		files = append(files, some...)
	}
	stored = append(stored, files...)
	if err := p.prove(f.descriptor, files); err != nil {
		return nil, err
	}
	if p.Manifest == nil {
		if err := seal(p.manifestOf(f.descriptor, files)); err != nil {
			return nil, err
		}
	}
	return stored, s.Finish()
}

// send has the archive sent on while it is made.
func (f *flow) send(ctx context.Context, send func(body) error) (stored []Stored, err error) {
	var mu sync.Mutex
	var writers sync.WaitGroup
	var readers []*io.PipeReader
	var own error
	err = send(body{f.size(), func() (io.ReadCloser, error) {
		r, w := io.Pipe()
		mu.Lock()
		readers = append(readers, r)
		mu.Unlock()
		writers.Go(func() {
			files, err := f.write(ctx, w)
			_ = w.CloseWithError(err) // it is always nil
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				stored = files
			} else if own == nil && !errors.Is(err, io.ErrClosedPipe) {
				own = err
			}
		})
		return r, nil
	}})
	mu.Lock()
	for _, r := range readers {
		_ = r.Close() // nobody reads any more; it is always nil
	}
	mu.Unlock()
	writers.Wait()
	switch {
	case own != nil:
		return nil, own
	case err == nil && stored == nil:
		err = errors.New("the package was not read to its end")
	}
	return stored, err
}
