package pack

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/ovation-project/ovation/appliance/chunkdigest"
	"github.com/ovation-project/ovation/ovf"
)

// digested gives the parts with the file of chunk digests behind them, and the
// sink that takes the digests of what goes into another one; without
// ChunkDigests, both as they are.
func (p *Package) digested(into sink) (sink, []Part) {
	if p.ChunkDigests == "" {
		return into, p.Parts
	}
	list := &chunkdigest.List{}
	own := Part{Name: p.ChunkDigests, Size: -1, Write: func(_ context.Context, w io.Writer) error {
		data := list.Marshal()
		if len(data) > chunkdigest.MaxSize {
			return tooLarge(int64(len(data)))
		}
		_, err := w.Write(data)
		return err
	}}
	return digesting{into, list, p.ChunkDigests}, append(p.Parts[:len(p.Parts):len(p.Parts)], own)
}

func tooLarge(n int64) error {
	return fmt.Errorf("the chunk digests would have %d bytes, and at most %d are read: the package is too large for them", n, chunkdigest.MaxSize)
}

// renewed is the File of chunk digests that are made anew: its ID and the part's
// name, "" where there is none.
type renewed struct{ id, name string }

// renewDigests has the chunk digests that a package has made anew, of what its
// other parts become.
func (p *Package) renewDigests(doc *ovf.Document) (r renewed) {
	for _, f := range doc.Envelope().References {
		part := p.part(f.Href)
		if !chunkdigest.Is(f) || part == nil {
			continue
		}
		r = renewed{f.ID, part.Name}
		p.ChunkDigests = part.Name
		p.Parts = slices.DeleteFunc(p.Parts, func(x Part) bool { return x.Name == r.name })
	}
	return r
}

// told gives the descriptor with their size.
func (r renewed) told(doc *ovf.Document, made Made) ([]byte, error) {
	for _, f := range doc.Envelope().References {
		if n, ok := made[r.name]; ok && r.name != "" && f.ID == r.id {
			out, err := doc.Apply(ovf.SetAttr(f.Node, "size", strconv.FormatInt(n, 10)))
			if err != nil {
				return nil, err
			}
			return out.Bytes(), nil
		}
	}
	return doc.Bytes(), nil
}

// digestsFit sees, before hours of work, whether there are too many chunks in
// the parts whose size is known.
func (p *Package) digestsFit() error {
	if p.ChunkDigests == "" {
		return nil
	}
	var names []string
	var sizes []int64
	for _, part := range p.Parts {
		if part.Size > 0 && !part.Gzip {
			names, sizes = append(names, part.Name), append(sizes, part.Size)
		}
	}
	if n := chunkdigest.Size(names, sizes); n > chunkdigest.MaxSize {
		return tooLarge(n)
	}
	return nil
}

// digesting is a sink that takes the chunk digests of all files but its own.
type digesting struct {
	sink
	list *chunkdigest.List
	own  string
}

func (d digesting) create(name string) (entry, error) {
	e, err := d.sink.create(name)
	if err != nil || name == d.own {
		return e, err
	}
	return &digestingEntry{e, chunkdigest.NewHasher(name), d.list}, nil
}

type digestingEntry struct {
	entry
	chunks *chunkdigest.Hasher
	list   *chunkdigest.List
}

func (e *digestingEntry) Write(b []byte) (int, error) {
	n, err := e.entry.Write(b)
	_, _ = e.chunks.Write(b[:n]) // does not fail
	return n, err
}

func (e *digestingEntry) Close() (int64, []byte, error) {
	e.list.Files = append(e.list.Files, e.chunks.File())
	return e.entry.Close()
}

// instead is a sink with another one where its files go.
func instead(s, other sink) sink {
	if d, ok := s.(digesting); ok {
		d.sink = other
		return d
	}
	return other
}
