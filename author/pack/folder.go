package pack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"

	"github.com/ovation-project/ovation/internal/atomicfile"
)

// Recover finishes a change of a package in a folder that was interrupted by the
// end of a program or a machine; done says that there was one.
func Recover(dir string) (done bool, err error) { return atomicfile.Recover(dir) }

// Folder writes the package's files into a folder, which is made where it is
// not there. What is there already, and is the same, is not written. Where files
// are replaced the folder holds the old package or the new one, except while names
// change hands: a program that is killed just then leaves what Recover finishes.
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
	if err := p.room(dir); err != nil {
		return nil, err
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
	sink, parts := p.digested(folderSink{p, set})
	for _, part := range parts {
		some, err := p.folderPart(ctx, set, sink, part, dir, &opt)
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
		if same(filepath.Join(dir, names[i]), contents[i]) {
			err = set.Forget(f)
		} else {
			_, err = f.WriteAt(contents[i], 0)
		}
		if err != nil {
			return nil, err
		}
		stored = append(stored, Stored{Name: names[i], Size: int64(len(contents[i]))})
	}
	for _, name := range opt.Remove {
		if err := set.Remove(filepath.FromSlash(name)); err != nil {
			return nil, err
		}
	}
	return append(stored, files...), set.Commit(ctx)
}

// same says whether a small file is there as it is to be.
func same(path string, content []byte) bool {
	st, err := os.Lstat(path)
	if err != nil || !st.Mode().IsRegular() || st.Size() != int64(len(content)) {
		return false
	}
	b, err := os.ReadFile(path)
	return err == nil && bytes.Equal(b, content)
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

func (p *Package) folderPart(ctx context.Context, set *atomicfile.Set, into sink, part Part, dir string, opt *Options) ([]Stored, error) {
	if part.Kept != nil {
		return p.kept(ctx, into, part)
	}
	if part.Make == nil {
		return store(ctx, into, part)
	}
	if part.Gzip || part.ChunkSize > 0 {
		if part.Write != nil {
			return store(ctx, into, part)
		}
		staged, drop, err := p.stage(ctx, part, dir, opt)
		if err != nil {
			return nil, err
		}
		defer drop()
		return store(ctx, into, staged)
	}
	one := &single{set: set}
	if err := part.Make(ctx, one, part.Name); err != nil {
		return nil, fmt.Errorf("%s: %w", part.Name, err)
	}
	size := one.file.Size()
	if p.Hash == 0 && p.ChunkDigests == "" {
		return []Stored{{Name: part.Name, Size: size}}, nil
	}
	part.Write = copied(one.file, size)
	return store(ctx, instead(into, nowhere{p}), part)
}

// kept leaves a part's files as they are. They are read where something that
// the package needs of them is not known.
func (p *Package) kept(ctx context.Context, into sink, part Part) ([]Stored, error) {
	d, digested := into.(digesting)
	for _, k := range part.Kept {
		if p.Hash != 0 && k.Digest == nil || digested && k.Chunks == nil {
			return store(ctx, instead(into, nowhere{p}), part)
		}
	}
	if digested {
		for _, k := range part.Kept {
			d.list.Files = append(d.list.Files, k.Chunks)
		}
	}
	return part.Kept, nil
}
