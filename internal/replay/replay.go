// Package replay reads what comes once from its start again.
package replay

import (
	"bytes"
	"io"
)

// Reader remembers what is read until it is told to forget.
type Reader struct {
	r    io.Reader
	seen bytes.Buffer
	done bool
}

// New reads r.
func New(r io.Reader) *Reader { return &Reader{r: r} }

// Read reads on.
func (p *Reader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if !p.done {
		p.seen.Write(b[:n])
	}
	return n, err
}

// Forget frees what was remembered; from here on nothing is.
func (p *Reader) Forget() { p.done, p.seen = true, bytes.Buffer{} }

// Again gives all from the start on. The Reader is not to be used after that.
func (p *Reader) Again() io.Reader {
	p.done = true
	return io.MultiReader(bytes.NewReader(p.seen.Bytes()), p.r)
}
