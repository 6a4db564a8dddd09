package appliance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ovation-project/ovation/ovf"
)

// WholeFile is a file of the descriptor's References that is arriving.
type WholeFile struct {
	Ref *ovf.File
	// Size is the number of bytes as it is stored, all chunks together; -1
	// where nothing tells before the last has come.
	Size int64
	io.Reader
}

// chunkNumber is how many digits the number of a chunk has.
const chunkNumber = 9

// joiner makes whole files of those that are stored. A file in chunks is taken
// by a goroutine of its own, which reads what comes.
type joiner struct {
	take func(ctx context.Context, f *WholeFile) error
	refs map[string]*ovf.File // by the name of the file, or of its chunks less the number
	came map[*ovf.File]bool
	cur  *piecewise
}

// piecewise is a file in chunks that is arriving.
type piecewise struct {
	ref  *ovf.File
	next int // the chunk that comes next
	w    *io.PipeWriter
	done chan error
}

// file is given one stored file.
func (j *joiner) file(ctx context.Context, doc *ovf.Document, f *StreamFile) error {
	if j.refs == nil {
		j.refer(doc.Envelope())
	}
	ref, chunk := j.find(f.Name)
	if j.cur != nil && (ref != j.cur.ref || chunk != j.cur.next) {
		if err := j.finish(nil); err != nil {
			return err
		}
	}
	if ref == nil {
		return nil // nobody needs it
	}
	if j.cur == nil {
		if j.came[ref] || chunk > 0 {
			return fmt.Errorf("%s: %w: it does not follow the part before it, so that it cannot be used as it arrives", f.Name, ErrInvalid)
		}
		j.came[ref] = true
		if ref.ChunkSize <= 0 {
			if err := j.take(ctx, &WholeFile{ref, f.Size, f}); err != nil {
				return fmt.Errorf("%s: %w", ref.Href, err)
			}
			return nil
		}
		r, w := io.Pipe()
		j.cur = &piecewise{ref: ref, w: w, done: make(chan error, 1)}
		go func(cur *piecewise) {
			err := j.take(ctx, &WholeFile{ref, ref.Size, r})
			if err == nil {
				// What nobody reads is passed over.
				_, err = io.Copy(io.Discard, r)
			}
			_ = r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
			cur.done <- err
		}(j.cur)
	}
	j.cur.next++
	_, err := io.Copy(struct{ io.Writer }{j.cur.w}, struct{ io.Reader }{f})
	if errors.Is(err, io.ErrClosedPipe) {
		err = j.finish(nil) // which says why nobody reads any more
	}
	return err
}

// finish ends the file that is arriving.
func (j *joiner) finish(cause error) error {
	cur := j.cur
	if cur == nil {
		return nil
	}
	j.cur = nil
	_ = cur.w.CloseWithError(cause) // nil is the end
	if err := <-cur.done; err != nil && cause == nil {
		return fmt.Errorf("%s: %w", cur.ref.Href, err)
	}
	return nil
}

func (j *joiner) refer(env *ovf.Envelope) {
	j.refs, j.came = map[string]*ovf.File{}, map[*ovf.File]bool{}
	for _, f := range env.References {
		name := f.Href
		if f.ChunkSize > 0 {
			name += "."
		} else {
			name = strings.TrimPrefix(name, "./")
		}
		if j.refs[name] == nil {
			j.refs[name] = f
		}
	}
}

// find gives the reference that a stored file is, or is a chunk of.
func (j *joiner) find(name string) (ref *ovf.File, chunk int) {
	if f := j.refs[name]; f != nil && f.ChunkSize <= 0 {
		return f, 0
	}
	if len(name) <= chunkNumber {
		return nil, 0
	}
	stem, number := name[:len(name)-chunkNumber], name[len(name)-chunkNumber:]
	f := j.refs[stem]
	if f == nil || f.ChunkSize <= 0 {
		return nil, 0
	}
	for _, c := range number {
		if c < '0' || c > '9' {
			return nil, 0
		}
		chunk = chunk*10 + int(c-'0')
	}
	return f, chunk
}
