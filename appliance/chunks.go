package appliance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/ovation-project/ovation/appliance/chunkdigest"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/cache"
)

// digests are the package's chunk digests, when they have been read.
type digests struct {
	mu    sync.Mutex
	known bool
	list  *chunkdigest.List
}

// ChunkDigests reads the package's file of chunk digests, and proves it by the
// manifest. It is nil where there is none, or where the manifest has no digest
// of it: then it proves nothing.
func (p *Package) ChunkDigests(ctx context.Context) (*chunkdigest.List, error) {
	p.parts.mu.Lock()
	defer p.parts.mu.Unlock()
	if p.parts.known {
		return p.parts.list, nil
	}
	l, err := p.readDigests(ctx)
	if err == nil {
		p.parts.known, p.parts.list = true, l
	}
	return l, err
}

func (p *Package) readDigests(ctx context.Context) (*chunkdigest.List, error) {
	href := ""
	for _, f := range p.doc.Envelope().References {
		if !chunkdigest.Is(f) {
			continue
		}
		if href != "" {
			return nil, fmt.Errorf("%w: there are several files of chunk digests: %s, %s", ErrInvalid, href, f.Href)
		}
		href = f.Href
	}
	if href == "" {
		return nil, nil
	}
	r, err := p.OpenReader(ctx, href)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if !r.Verified() {
		return nil, nil
	}
	if r.Size() > chunkdigest.MaxSize {
		return nil, fmt.Errorf("%s: %w: it has %d bytes, over the limit of %d", href, ErrInvalid, r.Size(), chunkdigest.MaxSize)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	l, err := chunkdigest.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", href, ErrInvalid, err)
	}
	return l, nil
}

// Chunks proves a stored file's chunks; what differs is ErrAltered.
type Chunks struct{ file *chunkdigest.File }

// ChunksOf gives what proves a stored file's chunks, nil where the list has
// nothing for it. A file whose size is not the list's has chunks that are all
// altered.
func ChunksOf(l *chunkdigest.List, name string, size int64) (*Chunks, error) {
	if l == nil {
		return nil, nil
	}
	f := l.Lookup(name)
	if f == nil {
		return nil, nil
	}
	if f.Size != size {
		return nil, fmt.Errorf("%w: %s has %d bytes, and its chunk digests are of %d", ErrAltered, name, size, f.Size)
	}
	return &Chunks{f}, nil
}

// Unit is the size of the chunks, in bytes.
func (c *Chunks) Unit() int64 { return c.file.Unit() }

// Prove says nil where b is the whole of a chunk, counted from 0.
func (c *Chunks) Prove(chunk int64, b []byte) error {
	if err := c.file.Prove(chunk, b); err != nil {
		return fmt.Errorf("%w: %w", ErrAltered, err)
	}
	return nil
}

// chunksOf gives what proves a stored file's chunks, nil where nothing does.
func (p *Package) chunksOf(ctx context.Context, name string, size int64) (*Chunks, error) {
	if size < 0 || hasSuffixFold(name, chunkdigest.Ending) {
		return nil, nil
	}
	l, err := p.ChunkDigests(ctx)
	if err != nil {
		return nil, err
	}
	return ChunksOf(l, name, size)
}

// Proved gives the package's files so that of each that has chunk digests nothing
// is handed on that was not proved; what differs is ErrAltered. The others are
// as Unverified gives them.
func (p *Package) Proved() *Files { return &Files{p: p, prove: true} }

// keptChunks is how many chunks are remembered of a file that is read here and
// there.
const keptChunks = 8

// proved is a file of which whole chunks are read and proved.
type proved struct {
	disk.File
	chunks *Chunks
	kept   *cache.Cache[int64, []byte]
}

func prove(f disk.File, c *Chunks) *proved {
	return &proved{f, c, cache.New[int64, []byte](keptChunks)}
}

// ReadAt reads and proves.
func (f *proved) ReadAt(b []byte, off int64) (int, error) {
	done := 0
	for done < len(b) {
		at := off + int64(done)
		if at < 0 || at >= f.Size() {
			return done, io.EOF
		}
		n := at / f.chunks.Unit()
		chunk, err := f.kept.Get(n, func() ([]byte, error) { return f.chunk(n) })
		if err != nil {
			return done, err
		}
		done += copy(b[done:], chunk[at-n*f.chunks.Unit():])
	}
	return done, nil
}

func (f *proved) chunk(n int64) ([]byte, error) {
	first := n * f.chunks.Unit()
	b := make([]byte, min(f.chunks.Unit(), f.Size()-first))
	if k, err := f.File.ReadAt(b, first); k < len(b) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return b, f.chunks.Prove(n, b)
}

// provedReader is a file that is read front to back, chunk by chunk.
type provedReader struct {
	io.ReadCloser
	chunks *Chunks
	n      int64
	buf    []byte // of a chunk
	rest   []byte // of it, what was not handed on
}

// Read gives bytes that were proved.
func (r *provedReader) Read(b []byte) (int, error) {
	if len(r.rest) == 0 {
		if r.buf == nil {
			r.buf = make([]byte, r.chunks.Unit())
		}
		k, err := io.ReadFull(r.ReadCloser, r.buf)
		if err != nil && err != io.ErrUnexpectedEOF {
			return 0, err
		}
		if err := r.chunks.Prove(r.n, r.buf[:k]); err != nil {
			return 0, err
		}
		r.n, r.rest = r.n+1, r.buf[:k]
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Damage is a run of a file's bytes that its chunk digests do not fit.
type Damage struct {
	First int64 `json:"first"`
	Last  int64 `json:"last"`
}

// locate reads an altered file again, and says where chunk digests show that
// it is: nil where there are none. Chunks that lie side by side are one run.
func (p *Package) locate(ctx context.Context, e Entry) ([]Damage, error) {
	l, err := p.ChunkDigests(ctx)
	if err != nil || l == nil || l.Lookup(e.Name) == nil {
		return nil, ctx.Err() // digests that are altered themselves locate nothing
	}
	f := l.Lookup(e.Name)
	body, err := p.src.reader(ctx, e, 0)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var all []Damage
	add := func(first, last int64) {
		if n := len(all); n > 0 && all[n-1].Last+1 == first {
			all[n-1].Last = last
			return
		}
		all = append(all, Damage{first, last})
	}
	b := make([]byte, chunkdigest.Unit)
	at := int64(0)
	for i := range int64(len(f.Sums)) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, err := io.ReadFull(body, b[:min(chunkdigest.Unit, f.Size-at)])
		var m *chunkdigest.MismatchError
		if errors.As(f.Prove(i, b[:n]), &m) {
			add(m.First, m.Last)
		}
		at += int64(n)
		if err != nil { // it is cut short: all from here on is gone
			if at < f.Size {
				add(at, f.Size-1)
			}
			break
		}
	}
	if e.Size > f.Size {
		add(f.Size, e.Size-1)
	}
	return all, nil
}
