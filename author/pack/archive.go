package pack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/ovation-project/ovation/appliance/chunkdigest"
	"github.com/ovation-project/ovation/appliance/ova"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/atomicfile"
	"github.com/ovation-project/ovation/internal/freespace"
	"github.com/ovation-project/ovation/internal/workdir"
)

// stage makes a part's stored bytes in a file without a name, where an archive
// cannot take them as they come: a format that is written in any order, or
// chunks of which nobody knows how many there will be.
func (p *Package) stage(ctx context.Context, part Part, dir string, opt *Options) (Part, func(), error) {
	opt.note("%s is made in %s first: it cannot be put into an archive as it is made", part.Name, dir)
	set := atomicfile.New(ctx, dir, atomicfile.Options{NoSync: true})
	drop := func() { set.Abort() }
	var err error
	if part.Write == nil {
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
	if err := p.room(filepath.Dir(name)); err != nil {
		return nil, err
	}
	stored, err := p.archive(ctx, f, &opt)
	if err == nil {
		err = set.Commit(ctx)
	}
	return stored, err
}

// room sees, before hours of work, whether a folder's file system has room for
// what is known to be written: parts that are compressed or made come to that.
func (p *Package) room(dir string) error {
	var want int64
	for _, part := range p.Parts {
		if part.Size > 0 && !part.Gzip && part.Make == nil && part.Kept == nil {
			want += part.Size
		}
	}
	return freespace.Check(dir, want)
}

// Stream writes an archive front to back. Where every size is known before, its
// files go out as they are made; else it is made in a file without a name first,
// since what stands first is known last.
func (p *Package) Stream(ctx context.Context, w io.Writer, opt Options) ([]Stored, error) {
	return p.send(ctx, opt, func(b body) error {
		r, err := b.open()
		if err != nil {
			return err
		}
		_, err = Copy(ctx, w, r)
		return errors.Join(err, r.Close())
	})
}

// body is an archive that is to be sent: as often as open is called.
type body struct {
	size int64
	open func() (io.ReadCloser, error)
}

// send makes an archive and has it sent on.
func (p *Package) send(ctx context.Context, opt Options, send func(body) error) ([]Stored, error) {
	if err := p.check(maxArchiveName); err != nil {
		return nil, err
	}
	flow, err := p.flowing()
	if err != nil {
		return nil, err
	}
	if flow != nil {
		return flow.send(ctx, send)
	}
	if opt.TempDir == "" {
		opt.TempDir = workdir.Base()
	}
	opt.note("the package is made in %s first: sizes that stand before the disks are known last", opt.TempDir)
	set := atomicfile.New(ctx, opt.TempDir, atomicfile.Options{NoSync: true})
	defer set.Abort()
	f, err := set.CreateFile("package.ova")
	if err != nil {
		return nil, err
	}
	if err := p.room(opt.TempDir); err != nil {
		return nil, err
	}
	stored, err := p.archive(ctx, f, &opt)
	if err != nil {
		return nil, err
	}
	return stored, send(body{f.Size(), func() (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(f, 0, f.Size())), nil
	}})
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
	sink, all := p.digested(archiveSink{w})
	parts := make([]Part, len(all))
	bound := Made{}
	var expected []Stored
	for i, part := range all {
		if part.Write == nil || part.ChunkSize > 0 && (part.Gzip || part.Size < 0) {
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
		if part.Name == p.ChunkDigests {
			bound[part.Name] = chunkdigest.MaxSize
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
		some, err := store(ctx, sink, part)
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
