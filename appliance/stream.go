package appliance

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/ovation-project/ovation/disk"
)

// Stream is an archive that arrives once, front to back.
type Stream struct {
	tr    *tar.Reader
	count *countingReader
	seen  map[string]bool
	frame framing
	last  string // the file before, for what is said of its padding
}

// StreamFile is the file that is arriving. Its bytes are good until the next
// call of Stream.Next.
type StreamFile struct {
	Entry
	io.Reader
}

// NewStream reads an archive from r.
func NewStream(r io.Reader) *Stream {
	c := &countingReader{r: r}
	return &Stream{tr: tar.NewReader(c), count: c, seen: map[string]bool{}, last: "nothing"}
}

// countingReader counts, and keeps what comes from an offset on: what lies
// between two files.
type countingReader struct {
	r    io.Reader
	n    int64
	from int64
	kept []byte
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	if end := c.n + int64(n); end > c.from {
		c.kept = append(c.kept, b[max(0, c.from-c.n):n]...)
	}
	c.n += int64(n)
	return n, err
}

// keep begins to keep anew, from an offset on.
func (c *countingReader) keep(from int64) { c.from, c.kept = from, c.kept[:0] }

// Next gives the next file, io.EOF after the last. What is left of the one
// before is passed over. Names and kinds of files are judged as Open does.
func (s *Stream) Next(ctx context.Context) (*StreamFile, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := s.tr.Next()
		gap := io.Reader(bytes.NewReader(s.count.kept))
		if err == io.EOF { // the rest has not been read yet
			gap = io.MultiReader(gap, s.count.r)
		}
		if gapErr := s.frame.gap(gap, s.count.from, s.last); gapErr != nil {
			return nil, gapErr
		}
		s.count.keep(s.count.n)
		switch {
		case err == io.EOF && len(s.seen) == 0:
			return nil, fmt.Errorf("%w: there is nothing in it", ErrInvalid)
		case err == io.EOF:
			return nil, io.EOF
		case errors.Is(err, io.ErrUnexpectedEOF):
			return nil, fmt.Errorf("%w: the archive was cut short at byte %d", ErrInvalid, s.count.n)
		case err != nil:
			return nil, tarError(err, s.count.n, len(s.seen))
		}
		e, ok, err := tarEntry(h)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		if s.seen[e.Name] {
			return nil, fmt.Errorf("%w: it holds %q twice", ErrInvalid, e.Name)
		}
		if s.seen[e.Name] = true; len(s.seen) > maxEntries {
			return nil, fmt.Errorf("%w: the archive holds more than %d files", ErrInvalid, maxEntries)
		}
		e.Offset = s.count.n
		if e.Size > math.MaxInt64-e.Offset {
			return nil, fmt.Errorf("%w: the archive was cut short: %s has %d bytes", ErrInvalid, e.Name, e.Size)
		}
		s.count.keep(e.Offset + e.Size)
		s.last = e.Name
		return &StreamFile{e, streamBody{s.tr, s.count}}, nil
	}
}

// streamBody says where an archive breaks off.
type streamBody struct {
	r     io.Reader
	count *countingReader
}

func (b streamBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w: the archive was cut short at byte %d", ErrInvalid, b.count.n)
	}
	return n, err
}

// noSource is the place of a package that has passed by.
type noSource struct{}

var errPassed = errors.New("the archive has passed by: it can be read once only")

func (noSource) list(context.Context) ([]Entry, error)                       { return nil, errPassed }
func (noSource) open(context.Context, Entry) (disk.File, error)              { return nil, errPassed }
func (noSource) close() error                                                { return nil }
func (noSource) reader(context.Context, Entry, int64) (io.ReadCloser, error) { return nil, errPassed }
