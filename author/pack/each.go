package pack

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
)

// Each makes the package and gives its files one after the other: descriptor,
// manifest, signature, then the others. Where a size is not known before, all of
// it is made in a file without a name first. put MUST read a file to its end.
func (p *Package) Each(ctx context.Context, put func(ctx context.Context, name string, size int64, r io.Reader) error, opt Options) ([]Stored, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	type result struct {
		stored []Stored
		err    error
	}
	made := make(chan result, 1)
	go func() {
		stored, err := p.Stream(ctx, w, opt)
		_ = w.CloseWithError(err)
		made <- result{stored, err}
	}()
	err := each(ctx, r, put)
	// Whoever writes must not wait for a reader that is gone.
	_ = r.CloseWithError(errors.New("nobody reads on"))
	if err != nil {
		cancel()
	}
	m := <-made
	if err != nil {
		if m.err != nil && errors.Is(err, m.err) {
			return nil, m.err
		}
		return nil, err
	}
	return m.stored, m.err
}

func each(ctx context.Context, r io.Reader, put func(ctx context.Context, name string, size int64, r io.Reader) error) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if err == io.EOF {
			// What is behind the last file belongs to the archive.
			_, err = io.Copy(io.Discard, r)
			return err
		}
		if err != nil {
			return err
		}
		n := &counter{Reader: t}
		if err := put(ctx, h.Name, h.Size, n); err != nil {
			return err
		}
		if n.n != h.Size {
			return fmt.Errorf("%s: %d of %d bytes were read", h.Name, n.n, h.Size)
		}
	}
}

type counter struct {
	io.Reader
	n int64
}

// Read passes bytes on.
func (c *counter) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += int64(n)
	return n, err
}
