// Package pack writes a package from its parts: as an archive, into a folder,
// or front to back. The descriptor, the manifest and the signature come first,
// as the standard has them, though they are known last. Nothing has its final
// name before it is complete.
package pack

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/chunkdigest"
	"github.com/ovation-project/ovation/appliance/manifest"
	"github.com/ovation-project/ovation/disk"
)

// epoch is the time that files of an archive get where nobody says another: the
// earliest that all file systems can tell.
var epoch = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// Part is a file of the package besides the descriptor, the manifest and the
// signature.
type Part struct {
	// Name is the href: a base name.
	Name string
	// Size is that of what Write gives, less than 0 where that is not known
	// before.
	Size int64
	// Write gives the content, front to back.
	Write func(ctx context.Context, w io.Writer) error
	// Make, where it is set, makes the file in any order, with holes where it
	// has some. Without Write it is the only way, and an archive needs a
	// temporary file for it.
	Make func(ctx context.Context, out disk.Output, name string) error
	// Told says that the descriptor tells more of the part than its size, which
	// is known only when it is written.
	Told bool
	// Gzip compresses the content.
	Gzip bool
	// ChunkSize, where it is above 0, cuts the stored bytes into files of
	// this size, named Name.000000000 and so on.
	ChunkSize int64
	// Kept, where it is set, are the files that the part is stored in already,
	// in the folder that is written: they stay as they are. Those that have
	// no digest, or no chunk digests where the package has them, are read
	// for it.
	Kept []Stored
}

// Stored is what became of a file.
type Stored struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	Digest []byte `json:"-"`
	// Chunks are its chunk digests, where they are known.
	Chunks *chunkdigest.File `json:"-"`
}

// Made is what became of the parts: their stored sizes by name, chunks
// together.
type Made map[string]int64

// Signer makes the certificate file.
type Signer interface {
	// Sign gives the file for a manifest, whose name is given too.
	Sign(ctx context.Context, name string, manifest []byte) ([]byte, error)
	// MaxSize is as many bytes as Sign gives at the most: an archive keeps
	// room for it, and what is left over is filled up with line ends.
	MaxSize() int
}

// Package is what is to be written.
type Package struct {
	// Name is that of the descriptor and the manifest, without ending.
	Name string
	// Descriptor gives the descriptor when the sizes of all files are known.
	// It is asked before that as well, with what is known and sizes that no
	// file will have more digits than: in an archive it stands first.
	Descriptor func(made Made) ([]byte, error)
	// MaxSize is the most that a part can come to, by name, for those whose
	// size is not known.
	MaxSize func(name string) int64
	Parts   []Part
	// ChunkDigests, where it is set, is the name of a file with digests of the
	// chunks of all parts (package chunkdigest). It is made while they are
	// written, and is the last of the files.
	ChunkDigests string

	// Hash is the manifest's; 0 means that there is no manifest.
	Hash  crypto.Hash
	Style manifest.Style
	// Signer, where it is set, signs the manifest.
	Signer Signer
	// Manifest and Certificate, where they are set, are these files as they are
	// to be, and nothing is made in their place.
	Manifest, Certificate []byte
	// When is the time that all files of an archive get; the zero time is the
	// first of January 1980, so that the same input gives the same bytes.
	When time.Time
}

// Options change how a package is written.
type Options struct {
	// Replace allows what is there under the name to be replaced.
	Replace bool
	// NoSync leaves out waiting until all is on the disk.
	NoSync bool
	// TempDir is where a file is put that has to be made before it can be
	// packed; "" is the output's folder.
	TempDir string
	// Note, where set, is told what people should know.
	Note func(string)
	// Remove are files of the folder that is written which go when the
	// package's come. Only Folder takes them.
	Remove []string
}

func (o *Options) note(format string, args ...any) {
	if o.Note != nil {
		o.Note(fmt.Sprintf(format, args...))
	}
}

// ErrName says that a file cannot have the name that it is to have.
var ErrName = errors.New("not a name for a file of a package")

// The longest names in bytes: those of an archive's entries, and those of a
// folder's files with what is set before and behind them meanwhile.
const (
	maxArchiveName = 100
	maxFolderName  = 200
)

// check judges the names, before hours of work.
func (p *Package) check(longest int) error {
	seen := map[string]bool{}
	for _, name := range p.names() {
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\\\x00\n\r") || len(name) > longest {
			return fmt.Errorf("%q: %w: it is a plain name of at most %d bytes", name, ErrName, longest)
		}
		if key := strings.ToLower(name); seen[key] {
			return fmt.Errorf("%q: %w: two files would have it", name, ErrName)
		} else {
			seen[key] = true
		}
	}
	return p.digestsFit()
}

func (p *Package) names() []string {
	names := []string{p.Name + ".ovf", p.Name + ".mf", p.Name + ".cert"}
	for _, part := range p.Parts {
		if part.ChunkSize > 0 {
			names = append(names, part.Name+".000000000")
		} else {
			names = append(names, part.Name)
		}
	}
	if p.ChunkDigests != "" {
		names = append(names, p.ChunkDigests)
	}
	return names
}

// sink takes files, one after the other.
type sink interface {
	create(name string) (entry, error)
}

// entry is a file that is being written.
type entry interface {
	io.Writer
	Close() (size int64, digest []byte, err error)
}

// store writes one part's stored bytes.
func store(ctx context.Context, s sink, part Part) ([]Stored, error) {
	c := &chunks{sink: s, name: part.Name, size: part.ChunkSize}
	var w io.Writer = c
	var z *gzip.Writer
	if part.Gzip {
		z = gzip.NewWriter(c)
		w = z
	}
	err := part.Write(ctx, w)
	if err == nil && z != nil {
		err = z.Close()
	}
	if err = errors.Join(err, c.end()); err != nil {
		return nil, fmt.Errorf("%s: %w", part.Name, err)
	}
	return c.done, nil
}

// chunks cuts what is written into files.
type chunks struct {
	sink sink
	name string
	size int64

	open entry
	left int64
	done []Stored
}

func (c *chunks) begin() error {
	name := c.name
	if c.size > 0 {
		name = fmt.Sprintf("%s.%09d", c.name, len(c.done))
	}
	var err error
	c.open, err = c.sink.create(name)
	c.left = c.size
	c.done = append(c.done, Stored{Name: name})
	return err
}

func (c *chunks) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if c.open != nil && c.size > 0 && c.left == 0 {
			if err := c.end(); err != nil {
				return n, err
			}
		}
		if c.open == nil {
			if err := c.begin(); err != nil {
				return n, err
			}
		}
		some := p
		if c.size > 0 {
			some = p[:min(int64(len(p)), c.left)]
		}
		m, err := c.open.Write(some)
		n += m
		c.left -= int64(m)
		if err != nil {
			return n, err
		}
		p = p[m:]
	}
	return n, nil
}

// end closes the file that is open; a part without bytes is an empty file.
func (c *chunks) end() error {
	if c.open == nil {
		if len(c.done) > 0 {
			return nil
		}
		if err := c.begin(); err != nil {
			return err
		}
	}
	last := &c.done[len(c.done)-1]
	var err error
	last.Size, last.Digest, err = c.open.Close()
	c.open = nil
	return err
}

func total(all []Stored) (n int64) {
	for _, s := range all {
		n += s.Size
	}
	return n
}

// prove compares the files with a manifest that is kept as it was.
func (p *Package) prove(descriptor []byte, files []Stored) error {
	if p.Manifest == nil {
		return nil
	}
	m, err := manifest.Parse(p.Manifest)
	if err != nil {
		return err
	}
	h := p.hash().New()
	h.Write(descriptor)
	for _, f := range append([]Stored{{Name: p.Name + ".ovf", Digest: h.Sum(nil)}}, files...) {
		if want, ok := m.Lookup(f.Name); ok && want.Hash == p.hash() && !bytes.Equal(want.Sum, f.Digest) {
			return fmt.Errorf("%s: %w", f.Name, &appliance.AlteredError{Name: f.Name, Algorithm: manifest.Name(want.Hash), Want: want.Sum, Got: f.Digest})
		}
	}
	return nil
}

// manifestOf writes the manifest for a descriptor and the files.
func (p *Package) manifestOf(descriptor []byte, files []Stored) []byte {
	if p.Manifest != nil || p.Hash == 0 {
		return p.Manifest
	}
	h := p.Hash.New()
	h.Write(descriptor)
	m := manifest.Manifest{Digests: []manifest.Digest{{Name: p.Name + ".ovf", Hash: p.Hash, Sum: h.Sum(nil)}}}
	for _, f := range files {
		m.Digests = append(m.Digests, manifest.Digest{Name: f.Name, Hash: p.Hash, Sum: f.Digest})
	}
	return m.Marshal(p.Style)
}

func (p *Package) certificate(ctx context.Context, m []byte) ([]byte, error) {
	if p.Certificate != nil || p.Signer == nil {
		return p.Certificate, nil
	}
	if len(m) == 0 {
		return nil, errUnsigned
	}
	c, err := p.Signer.Sign(ctx, p.Name+".mf", m)
	if err != nil {
		return nil, fmt.Errorf("sign the manifest: %w", err)
	}
	return c, nil
}

var errUnsigned = errors.New("a package without manifest cannot be signed")

func (p *Package) hash() crypto.Hash {
	if p.Hash == 0 {
		return crypto.SHA256
	}
	return p.Hash
}

// copied gives the Write of a file's bytes.
func copied(f io.ReaderAt, size int64) func(context.Context, io.Writer) error {
	return func(ctx context.Context, w io.Writer) error {
		n, err := Copy(ctx, w, io.NewSectionReader(f, 0, size))
		if err == nil && n != size {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
}

// Copy copies until ctx ends.
func Copy(ctx context.Context, w io.Writer, r io.Reader) (n int64, err error) {
	buf := make([]byte, 256<<10)
	for {
		if err := context.Cause(ctx); err != nil {
			return n, err
		}
		m, err := r.Read(buf)
		if m > 0 {
			k, werr := w.Write(buf[:m])
			n += int64(k)
			if werr != nil {
				return n, werr
			}
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// IsArchive says whether a name is that of an archive, and not of a folder.
func IsArchive(name string) bool { return strings.EqualFold(path.Ext(name), ".ova") }
