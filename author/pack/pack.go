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
	"hash"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/manifest"
	"github.com/ovation-project/ovation/appliance/ova"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/atomicfile"
	"github.com/ovation-project/ovation/internal/workdir"
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
	// Make, where it is set, makes the file in any order instead of Write.
	Make func(ctx context.Context, out disk.Output, name string) error
	// Gzip compresses the content.
	Gzip bool
	// ChunkSize, where it is above 0, cuts the stored bytes into files of
	// this size, named Name.000000000 and so on.
	ChunkSize int64
	// Kept, where it is set, are the files that the part is stored in already,
	// in the folder that is written: they stay as they are. Those that have
	// no digest are read for it.
	Kept []Stored
}

// Stored is what became of a file.
type Stored struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	Digest []byte `json:"-"`
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

	// Hash is the manifest's; 0 means that there is no manifest.
	Hash  crypto.Hash
	Style manifest.Style
	// Signer, where it is set, signs the manifest.
	Signer Signer
	// Manifest and Certificate, where they are set, are these files and certificate as they
	// are to be, and nothing is made in their place.
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
	return nil
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
		return nil, errors.New("a package without manifest cannot be signed")
	}
	c, err := p.Signer.Sign(ctx, p.Name+".mf", m)
	if err != nil {
		return nil, fmt.Errorf("sign the manifest: %w", err)
	}
	return c, nil
}

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

// stage makes a part's stored bytes in a file without a name, where an archive
// cannot take them as they come: a format that is written in any order, or
// chunks of which nobody knows how many there will be.
func (p *Package) stage(ctx context.Context, part Part, dir string, opt *Options) (Part, func(), error) {
	opt.note("%s is made in %s first: it cannot be put into an archive as it is made", part.Name, dir)
	set := atomicfile.New(ctx, dir, atomicfile.Options{NoSync: true})
	drop := func() { set.Abort() }
	var err error
	if part.Make != nil {
		one := &single{set: set}
		err = part.Make(ctx, one, "staged")
		if err == nil {
			part.Make, part.Size = nil, one.file.Size()
			part.Write = copied(one.file, part.Size)
		}
	}
	if err == nil && part.ChunkSize > 0 && (part.Gzip || part.Size < 0) {
		var f *atomicfile.File
		if f, err = set.CreateFile("packed"); err == nil {
			whole := part
			whole.ChunkSize = 0
			_, err = store(ctx, fileSink{f}, whole)
			part.Gzip, part.Size = false, f.Size()
			part.Write = copied(f, part.Size)
		}
	}
	if err != nil {
		drop()
		return part, nil, fmt.Errorf("%s: %w", part.Name, err)
	}
	return part, drop, nil
}

// single is an Output of one file.
type single struct {
	set  *atomicfile.Set
	file *atomicfile.File
}

func (s *single) Create(name string) (disk.OutputFile, error) {
	if s.file != nil {
		return nil, fmt.Errorf("the disk would be in several files: %w", disk.ErrUnsupported)
	}
	var err error
	s.file, err = s.set.CreateFile(name)
	return s.file, err
}

// fileSink is a sink of one file.
type fileSink struct{ f *atomicfile.File }

func (s fileSink) create(string) (entry, error) { return plainEntry{s.f}, nil }

type plainEntry struct{ *atomicfile.File }

func (e plainEntry) Close() (int64, []byte, error) { return e.Size(), nil, nil }

// Archive writes an archive (.ova) under a name.
func (p *Package) Archive(ctx context.Context, name string, opt Options) ([]Stored, error) {
	set := atomicfile.New(ctx, filepath.Dir(name), atomicfile.Options{Replace: opt.Replace, NoSync: opt.NoSync})
	defer set.Abort()
	f, err := set.CreateFile(filepath.Base(name))
	if err != nil {
		return nil, err
	}
	if opt.TempDir == "" {
		opt.TempDir = filepath.Dir(name)
	}
	stored, err := p.archive(ctx, f, &opt)
	if err == nil {
		err = set.Commit(ctx)
	}
	return stored, err
}

// Stream writes an archive front to back. It is made in a file without a name
// first, since what stands first is known last.
func (p *Package) Stream(ctx context.Context, w io.Writer, opt Options) ([]Stored, error) {
	if opt.TempDir == "" {
		opt.TempDir = workdir.Base()
	}
	return p.Upload(ctx, opt, func(r io.Reader, _ int64) error {
		_, err := Copy(ctx, w, r)
		return err
	})
}

// Upload makes an archive in a file without a name, and hands its bytes and
// their number to whoever sends them on.
func (p *Package) Upload(ctx context.Context, opt Options, send func(r io.Reader, size int64) error) ([]Stored, error) {
	if opt.TempDir == "" {
		opt.TempDir = workdir.Base()
	}
	opt.note("the package is made in %s first: its manifest, which stands before the disks, is known last", opt.TempDir)
	set := atomicfile.New(ctx, opt.TempDir, atomicfile.Options{NoSync: true})
	defer set.Abort()
	f, err := set.CreateFile("package.ova")
	if err != nil {
		return nil, err
	}
	stored, err := p.archive(ctx, f, &opt)
	if err != nil {
		return nil, err
	}
	return stored, send(io.NewSectionReader(f, 0, f.Size()), f.Size())
}

type archiveSink struct{ w *ova.Writer }

func (s archiveSink) create(name string) (entry, error) { return s.w.Create(name) }

func (p *Package) archive(ctx context.Context, out disk.OutputFile, opt *Options) ([]Stored, error) {
	if err := p.check(maxArchiveName); err != nil {
		return nil, err
	}
	when := p.When
	if when.IsZero() {
		when = epoch
	}
	w := ova.New(out, p.hash(), when)
	parts := make([]Part, len(p.Parts))
	bound := Made{}
	var expected []Stored
	for i, part := range p.Parts {
		if part.Make != nil || part.ChunkSize > 0 && (part.Gzip || part.Size < 0) {
			staged, drop, err := p.stage(ctx, part, opt.TempDir, opt)
			if err != nil {
				return nil, err
			}
			defer drop()
			part = staged
		}
		parts[i] = part
		bound[part.Name] = part.Size
		if part.Gzip || part.Size < 0 {
			bound[part.Name] = p.bound(part)
		}
		expected = append(expected, expect(part)...)
	}
	reserved, err := p.Descriptor(bound)
	if err != nil {
		return nil, err
	}
	descriptor, err := w.Reserve(p.Name+".ovf", int64(len(reserved)))
	if err != nil {
		return nil, err
	}
	var m, c *ova.Gap
	if p.Hash != 0 || p.Manifest != nil {
		for i := range expected {
			expected[i].Digest = make([]byte, p.hash().Size())
		}
		if m, err = w.Reserve(p.Name+".mf", int64(len(p.manifestOf(reserved, expected)))); err != nil {
			return nil, err
		}
	}
	size := len(p.Certificate)
	if p.Certificate == nil && p.Signer != nil {
		size = p.Signer.MaxSize()
	}
	if size > 0 {
		if c, err = w.Reserve(p.Name+".cert", int64(size)); err != nil {
			return nil, err
		}
	}
	made := Made{}
	var files []Stored
	for _, part := range parts {
		some, err := store(ctx, archiveSink{w}, part)
		if err != nil {
			return nil, err
		}
		made[part.Name] = total(some)
		files = append(files, some...)
	}
	text, err := p.Descriptor(made)
	if err == nil {
		text, err = filled(text, len(reserved))
	}
	if err != nil {
		return nil, fmt.Errorf("descriptor: %w", err)
	}
	if err := descriptor.Fill(text); err != nil {
		return nil, err
	}
	stored := []Stored{{Name: p.Name + ".ovf", Size: int64(len(text))}}
	if err := p.prove(text, files); err != nil {
		return nil, err
	}
	manifest := p.manifestOf(text, files)
	if m != nil {
		if err := m.Fill(manifest); err != nil {
			return nil, err
		}
		stored = append(stored, Stored{Name: p.Name + ".mf", Size: int64(len(manifest))})
	}
	if c != nil {
		cert, err := p.certificate(ctx, manifest)
		if err == nil {
			cert, err = filled(cert, size)
		}
		if err != nil {
			return nil, err
		}
		if err := c.Fill(cert); err != nil {
			return nil, err
		}
		stored = append(stored, Stored{Name: p.Name + ".cert", Size: int64(len(cert))})
	}
	return append(stored, files...), w.Finish(ctx)
}

// filled fills a text up with line ends, which say nothing where it ends.
func filled(text []byte, size int) ([]byte, error) {
	if len(text) > size {
		return nil, fmt.Errorf("it came to %d bytes, and there is room for %d", len(text), size)
	}
	return append(text[:len(text):len(text)], bytes.Repeat([]byte("\n"), size-len(text))...), nil
}

// bound is more than a part can come to.
func (p *Package) bound(part Part) int64 {
	n := part.Size
	if n < 0 && p.MaxSize != nil {
		n = p.MaxSize(part.Name)
	}
	if n <= 0 {
		n = 1 << 50
	}
	return 2*n + 1<<24
}

// expect gives the names that a part of known size will have.
func expect(part Part) []Stored {
	if part.ChunkSize <= 0 {
		return []Stored{{Name: part.Name}}
	}
	var all []Stored
	for i := int64(0); i == 0 || i*part.ChunkSize < part.Size; i++ {
		all = append(all, Stored{Name: fmt.Sprintf("%s.%09d", part.Name, i)})
	}
	return all
}

// Folder writes the package's files into a folder, which is made where it is
// not there.
func (p *Package) Folder(ctx context.Context, dir string, opt Options) (stored []Stored, err error) {
	if err := p.check(maxFolderName); err != nil {
		return nil, err
	}
	switch mkdir := os.Mkdir(dir, 0o777); {
	case mkdir == nil:
		defer func() {
			if err != nil {
				os.Remove(dir) // empty: nothing has a name yet
			}
		}()
	case !errors.Is(mkdir, os.ErrExist):
		return nil, mkdir
	}
	set := atomicfile.New(ctx, dir, atomicfile.Options{Replace: opt.Replace, NoSync: opt.NoSync})
	defer set.Abort()
	// What is created first gets its name last.
	names := []string{p.Name + ".ovf"}
	if p.Hash != 0 || p.Manifest != nil {
		names = append(names, p.Name+".mf")
	}
	if p.Certificate != nil || p.Signer != nil {
		names = append(names, p.Name+".cert")
	}
	var first []*atomicfile.File
	for _, name := range names {
		f, err := set.CreateFile(name)
		if err != nil {
			return nil, err
		}
		first = append(first, f)
	}
	made := Made{}
	var files []Stored
	for _, part := range p.Parts {
		some, err := p.folderPart(ctx, set, part, dir, &opt)
		if err != nil {
			return nil, err
		}
		made[part.Name] = total(some)
		files = append(files, some...)
	}
	text, err := p.Descriptor(made)
	if err != nil {
		return nil, fmt.Errorf("descriptor: %w", err)
	}
	if err := p.prove(text, files); err != nil {
		return nil, err
	}
	contents := [][]byte{text}
	m := p.manifestOf(text, files)
	if m != nil {
		contents = append(contents, m)
	}
	c, err := p.certificate(ctx, m)
	if err != nil {
		return nil, err
	}
	if c != nil {
		contents = append(contents, c)
	}
	for i, f := range first {
		if _, err := f.WriteAt(contents[i], 0); err != nil {
			return nil, err
		}
		stored = append(stored, Stored{Name: names[i], Size: int64(len(contents[i]))})
	}
	return append(stored, files...), set.Commit(ctx)
}

type folderSink struct {
	p   *Package
	set *atomicfile.Set
}

func (s folderSink) create(name string) (entry, error) {
	f, err := s.set.CreateFile(name)
	if err != nil {
		return nil, err
	}
	return &folderEntry{file: f, readEntry: readEntry{digest: s.p.hash().New()}}, nil
}

type folderEntry struct {
	file *atomicfile.File
	readEntry
}

func (e *folderEntry) Write(b []byte) (int, error) {
	n, err := e.file.Write(b)
	if _, herr := e.readEntry.Write(b[:n]); err == nil {
		err = herr
	}
	return n, err
}

// nowhere is a sink that only reads what it is given.
type nowhere struct{ p *Package }

func (n nowhere) create(string) (entry, error) { return &readEntry{digest: n.p.hash().New()}, nil }

type readEntry struct {
	digest hash.Hash
	size   int64
}

func (e *readEntry) Write(b []byte) (int, error) {
	e.size += int64(len(b))
	return e.digest.Write(b)
}

func (e *readEntry) Close() (int64, []byte, error) { return e.size, e.digest.Sum(nil), nil }

func (p *Package) folderPart(ctx context.Context, set *atomicfile.Set, part Part, dir string, opt *Options) ([]Stored, error) {
	if part.Kept != nil {
		for _, k := range part.Kept {
			if k.Digest == nil && p.Hash != 0 {
				return store(ctx, nowhere{p}, part)
			}
		}
		return part.Kept, nil
	}
	if part.Make == nil {
		return store(ctx, folderSink{p, set}, part)
	}
	if part.Gzip || part.ChunkSize > 0 {
		staged, drop, err := p.stage(ctx, part, dir, opt)
		if err != nil {
			return nil, err
		}
		defer drop()
		return store(ctx, folderSink{p, set}, staged)
	}
	one := &single{set: set}
	if err := part.Make(ctx, one, part.Name); err != nil {
		return nil, fmt.Errorf("%s: %w", part.Name, err)
	}
	h := p.hash().New()
	size := one.file.Size()
	if p.Hash != 0 {
		if _, err := Copy(ctx, h, io.NewSectionReader(one.file, 0, size)); err != nil {
			return nil, fmt.Errorf("%s: %w", part.Name, err)
		}
	}
	return []Stored{{Name: part.Name, Size: size, Digest: h.Sum(nil)}}, nil
}

// IsArchive says whether a name is that of an archive, and not of a folder.
func IsArchive(name string) bool { return strings.EqualFold(path.Ext(name), ".ova") }
