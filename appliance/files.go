package appliance

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"sort"
	"sync"

	"github.com/ovation-project/ovation/appliance/manifest"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/compressed"
	"github.com/ovation-project/ovation/ovf"
)

// Unverified gives the package's files as they lie, with nothing checked: for
// looking, for formats that need to seek, and for whoever has called Verify.
// Files that it opened are closed by Close.
func (p *Package) Unverified() *Files { return &Files{p: p} }

// Files opens files by the href that the descriptor has for them. It is a
// disk.Files. Chunks are put together; compression (ovf:compression) is left as
// it is.
type Files struct {
	p     *Package
	prove bool
	mu    sync.Mutex
	open  []disk.File
}

// OpenFile opens a file for random access. A file that is not in the package
// gives ErrIncomplete, one that lies elsewhere disk.ErrOutside.
func (f *Files) OpenFile(ctx context.Context, href string) (disk.File, error) {
	pieces, err := f.p.pieces(ctx, href)
	if err != nil {
		return nil, err
	}
	var parts []disk.File
	for _, e := range pieces {
		part, err := f.p.src.open(ctx, e)
		if err != nil {
			return nil, err
		}
		f.mu.Lock()
		f.open = append(f.open, part)
		f.mu.Unlock()
		if f.prove {
			c, err := f.p.chunksOf(ctx, e.Name, part.Size())
			if err != nil {
				return nil, err
			}
			if c != nil {
				part = prove(part, c)
			}
		}
		parts = append(parts, part)
	}
	return Join(parts), nil
}

// Unchanged sees whether the files that were opened are still those that they
// were, as far as that can be told: where one is not, what was read of it may not
// be what was proved, and the error is ErrAltered.
func (f *Files) Unchanged() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, part := range f.open {
		if l, ok := part.(interface{ unchanged() error }); ok {
			if err := l.unchanged(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close closes the files that were opened.
func (f *Files) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, part := range f.open {
		closeFile(part)
	}
	f.open = nil
	return nil
}

// joined is several files one behind the other.
type joined struct {
	parts  []disk.File
	starts []int64
	size   int64
}

func join(parts []disk.File) *joined {
	j := &joined{parts: parts}
	for _, p := range parts {
		j.starts = append(j.starts, j.size)
		j.size += p.Size()
	}
	return j
}

func (j *joined) Size() int64 { return j.size }

func (j *joined) ReadAt(b []byte, off int64) (int, error) {
	done := 0
	for done < len(b) {
		at := off + int64(done)
		if at >= j.size || at < 0 {
			return done, io.EOF
		}
		i := sort.Search(len(j.starts), func(i int) bool { return j.starts[i] > at }) - 1
		part := b[done:min(int64(len(b)), int64(done)+j.starts[i]+j.parts[i].Size()-at)]
		n, err := j.parts[i].ReadAt(part, at-j.starts[i])
		done += n
		if n < len(part) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return done, err
		}
	}
	return done, nil
}

// Reader reads a file front to back and proves it by the manifest on the way.
type Reader struct {
	p      *Package
	ctx    context.Context
	href   string
	pieces []Entry
	next   int // the piece that comes after the open one
	body   io.ReadCloser
	hash   hash.Hash
	want   manifest.Digest
	read   int64 // of the open piece
	size   int64
	err    error
}

// OpenReader opens a file for reading front to back. Its Read gives ErrAltered
// where the file's end is reached and its digest is not the manifest's, so that
// whoever reads to io.EOF has read what the manifest names. Of a file that has
// chunk digests nothing is handed on that was not proved by them. Where the
// manifest has no digest for it, Verified says so.
func (p *Package) OpenReader(ctx context.Context, href string) (*Reader, error) {
	pieces, err := p.pieces(ctx, href)
	if err != nil {
		return nil, err
	}
	r := &Reader{p: p, ctx: ctx, href: href, pieces: pieces}
	for _, e := range pieces {
		r.size += e.Size
	}
	return r, nil
}

// Size is the number of bytes that are to come.
func (r *Reader) Size() int64 { return r.size }

// Verified says whether the manifest has a digest for all of the file.
func (r *Reader) Verified() bool {
	for _, e := range r.pieces {
		if _, ok := r.p.digest(e.Name); !ok {
			return false
		}
	}
	return true
}

func (p *Package) digest(name string) (manifest.Digest, bool) {
	if p.manifest == nil {
		return manifest.Digest{}, false
	}
	return p.manifest.Lookup(name)
}

// Read gives the next bytes.
func (r *Reader) Read(b []byte) (int, error) {
	for {
		if r.err != nil {
			return 0, r.err
		}
		if r.body == nil {
			if r.next == len(r.pieces) {
				return 0, io.EOF
			}
			r.err = r.openPiece()
			continue
		}
		n, err := r.body.Read(b)
		if r.hash != nil {
			r.hash.Write(b[:n])
		}
		r.read += int64(n)
		if err != nil {
			r.err = r.closePiece(err)
		}
		if n > 0 {
			return n, nil
		}
	}
}

func (r *Reader) openPiece() error {
	e := r.pieces[r.next]
	r.next++
	body, err := r.p.src.reader(r.ctx, e, 0)
	if err != nil {
		return err
	}
	r.body, r.read, r.hash = body, 0, nil
	chunks, err := r.p.chunksOf(r.ctx, e.Name, e.Size)
	if err != nil {
		return err
	}
	if chunks != nil {
		// The manifest covers the chunks' digests: they are proof enough.
		r.body = &provedReader{ReadCloser: body, chunks: chunks}
		return nil
	}
	var known bool
	if r.want, known = r.p.digest(e.Name); known {
		r.hash = r.want.Hash.New()
	}
	return nil
}

// closePiece ends a piece: whole and as the manifest has it, or with an error.
func (r *Reader) closePiece(cause error) error {
	e := r.pieces[r.next-1]
	r.body.Close()
	r.body = nil
	if errors.Is(cause, ErrAltered) { // which says where
		return cause
	}
	if cause != io.EOF {
		return fmt.Errorf("%s: at byte %d: %w", e.Name, r.read, cause)
	}
	if r.read < e.Size {
		return fmt.Errorf("%s: it ends after %d of %d bytes: %w", e.Name, r.read, e.Size, io.ErrUnexpectedEOF)
	}
	if r.hash != nil && !bytes.Equal(r.hash.Sum(nil), r.want.Sum) {
		return &AlteredError{Name: e.Name, Algorithm: manifest.Name(r.want.Hash), Want: r.want.Sum, Got: r.hash.Sum(nil)}
	}
	return nil
}

// Drain reads what is left, which proves the file where its reader stopped
// early.
func (r *Reader) Drain() error {
	for {
		switch {
		case r.err == io.EOF:
			return nil
		case r.err != nil:
			return r.err
		case r.body == nil && r.next == len(r.pieces):
			return nil
		case r.body == nil:
			r.err = r.openPiece()
			continue
		}
		w := io.Discard
		if r.hash != nil {
			w = r.hash
		}
		n, err := copyCounting(r.ctx, w, r.body, r.pieces[r.next-1].Size-r.read, nil)
		r.read += n
		if err == nil {
			err = io.EOF
		}
		r.err = r.closePiece(err)
	}
}

// Close closes the reader. It proves nothing.
func (r *Reader) Close() error {
	if r.body != nil {
		r.err = errors.New("the reader is closed")
		return r.body.Close()
	}
	return nil
}

// AlteredError is a file whose digest is not the manifest's. It is an
// ErrAltered.
type AlteredError struct {
	Name      string
	Algorithm string
	Want, Got []byte
}

func (e *AlteredError) Error() string {
	return fmt.Sprintf("%s was altered: its %s digest is %x, and the manifest says %x", e.Name, e.Algorithm, e.Got, e.Want)
}

// Unwrap gives ErrAltered.
func (e *AlteredError) Unwrap() error { return ErrAltered }

// Expand gives the content of a file that is stored compressed: by gzip, where
// the descriptor says so, or by any method of disk/compressed where its first
// bytes do. f may be nil. more says that the bytes that come are not the stored
// ones.
func Expand(f *ovf.File, r io.Reader) (content io.Reader, more bool, err error) {
	b := bufio.NewReaderSize(r, 64<<10)
	head, err := b.Peek(compressed.HeadSize)
	if err != nil && err != io.EOF {
		return nil, false, err
	}
	method := compressed.Detect(head)
	said := ""
	if f != nil {
		said = f.Compression
	}
	switch {
	case said == "" || said == "identity" || said == method.String():
		if method == compressed.None {
			return b, false, nil
		}
	case said == "gzip":
		return nil, false, fmt.Errorf("%s: %w: it is said to be compressed by gzip and is not", f.Href, ErrInvalid)
	default:
		return nil, false, fmt.Errorf("%s: compression %q: %w", f.Href, said, disk.ErrUnsupported)
	}
	z, err := method.NewReader(b, compressed.MaxContent)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return z, true, nil
}
