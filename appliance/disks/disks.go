// Package disks opens the virtual disks of a package.
//
// There are two ways: Open gives random access and proves nothing, for looking;
// OpenSource gives a disk that is to be converted, and proves every byte of
// its files by the manifest while that goes on: as they arrive, where they come
// over a network.
package disks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/encryption"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/compressed"
	"github.com/ovation-project/ovation/disk/formats"
	"github.com/ovation-project/ovation/internal/workdir"
	"github.com/ovation-project/ovation/ovf"
)

// ErrNoDisk says that a package has no such disk.
var ErrNoDisk = errors.New("no such disk in the package")

// Options change how a disk is opened. The zero value is good.
type Options struct {
	// Format is the format that the image must have; "" is what the
	// descriptor says, or what the file's first bytes show.
	Format string
	// TempDir is where a copy is put of files that have to be seeked in and
	// cannot be; "" is the system's place for large files.
	TempDir string
	// Capacity, where it is not 0, is the disk's by the descriptor, in bytes:
	// what Arriving takes a raw disk to have whose file does not tell its size.
	Capacity int64
	// Proved has Open hand on nothing of a file that has chunk digests before
	// it is proved by them; what differs is appliance.ErrAltered.
	Proved bool
	// Judge, where set, is asked what becomes of an archive that comes once,
	// when all of it has come and is as its manifest says: an error refuses it.
	Judge func(*appliance.Report) error
	// Note, where set, is called with what a person should know: that such
	// a copy is made.
	Note func(string)
}

func (o *Options) note(format string, args ...any) {
	if o.Note != nil {
		o.Note(fmt.Sprintf(format, args...))
	}
}

func (o *Options) tempDir() string {
	if o.TempDir != "" {
		return o.TempDir
	}
	return workdir.Base()
}

// Ref is a disk's place in the descriptor.
type Ref struct {
	// Disk is nil for a file that no Disk element names, such as a CD-ROM.
	Disk *ovf.Disk
	File *ovf.File
}

// Find finds a disk by its ovf:diskId, its file's ID or its file's name. ""
// is the only disk that there is. A disk without a file, which is made empty,
// is not found.
func Find(env *ovf.Envelope, name string) (Ref, error) {
	// Descriptors may have a hundred thousand disks, each of which is looked for.
	if name != "" {
		for _, d := range env.Disks {
			if d.ID != name {
				continue
			}
			f := fileOf(env, d.FileRef)
			switch {
			case d.FileRef == "":
				return Ref{}, fmt.Errorf("%w: disk %q is in no file: it begins empty", ErrNoDisk, name)
			case f == nil:
				return Ref{}, fmt.Errorf("%w: disk %q is in the file %q, which is not among the References", ErrNoDisk, name, d.FileRef)
			}
			return Ref{d, f}, nil
		}
	}
	with := inFiles(env)
	if name == "" && len(with) == 1 {
		return with[0], nil
	}
	if name != "" {
		for _, same := range []func(*ovf.File) bool{
			func(f *ovf.File) bool { return f.ID == name },
			func(f *ovf.File) bool { return f.Href == name },
			func(f *ovf.File) bool { return path.Base(f.Href) == name },
		} {
			for _, r := range with {
				if same(r.File) {
					return r, nil
				}
			}
			for _, f := range env.References {
				if same(f) {
					return Ref{File: f}, nil
				}
			}
		}
	}
	have := "it has none"
	if len(with) > 0 {
		have = "it has " + strings.Join(idsOf(with), ", ")
	}
	if name == "" {
		return Ref{}, fmt.Errorf("%w: name one, %s", ErrNoDisk, have)
	}
	return Ref{}, fmt.Errorf("%w: %q; %s", ErrNoDisk, name, have)
}

func fileOf(env *ovf.Envelope, id string) *ovf.File {
	i := slices.IndexFunc(env.References, func(f *ovf.File) bool { return f.ID == id })
	if i < 0 {
		return nil
	}
	return env.References[i]
}

// inFiles are the disks that are in a file.
func inFiles(env *ovf.Envelope) (with []Ref) {
	byID := make(map[string]*ovf.File, len(env.References))
	for _, f := range env.References {
		if byID[f.ID] == nil {
			byID[f.ID] = f
		}
	}
	for _, d := range env.Disks {
		if f := byID[d.FileRef]; f != nil {
			with = append(with, Ref{d, f})
		}
	}
	return with
}

// idsOf names disks, for errors.
func idsOf(refs []Ref) (ids []string) {
	const most = 20
	for i, r := range refs {
		if i == most {
			return append(ids, fmt.Sprintf("and %d more", len(refs)-most))
		}
		ids = append(ids, fmt.Sprintf("%q", r.Disk.ID))
	}
	return ids
}

// find is Find, and refuses a disk that is encrypted: its bytes look like a raw
// image of noise.
func find(p *appliance.Package, name string) (Ref, error) {
	ref, err := Find(p.Document().Envelope(), name)
	if err != nil {
		return ref, err
	}
	return ref, readable(ref.File)
}

func readable(f *ovf.File) error {
	if c, sealed := encryption.CipherOf(f); sealed {
		return fmt.Errorf("%s: %w by %s: decrypt the package first", f.Href, encryption.ErrNoKey, c.Name)
	}
	return nil
}

// format is the format that the descriptor says, "" where it says none that is
// known.
func (r Ref) format() string {
	if r.Disk == nil {
		return ""
	}
	if f, ok := formats.ByURI(r.Disk.Format); ok {
		return f.Name()
	}
	return ""
}

// Image is a disk of a package, open for random access.
type Image struct {
	disk.Image
	// FileSize is that of the disk's own file, in bytes, as it is stored.
	FileSize int64
	// Packed is how that file is compressed as a whole.
	Packed compressed.Method

	files  files
	others []io.Closer
}

// Close closes the image and its files.
func (i *Image) Close() error {
	errs := []error{i.Image.Close()}
	for _, o := range i.others {
		errs = append(errs, o.Close())
	}
	return errors.Join(append(errs, i.files.close())...)
}

// Info is what the format says, nothing where it says nothing, and how the file
// is compressed as a whole.
func (i *Image) Info() disk.Info { return formats.PackedInfo(i.Image, i.Packed) }

// Map is the format's.
func (i *Image) Map(ctx context.Context, off int64) (disk.Extent, error) {
	return disk.Map(ctx, i.Image, off)
}

// Check is the format's, where it has one.
func (i *Image) Check(ctx context.Context, report func(disk.Fault)) error {
	if c, ok := i.Image.(disk.Checker); ok {
		return c.Check(ctx, report)
	}
	return nil
}

// Open opens a disk of a package for random access. Nothing of it is proved but
// what opt.Proved asks for.
// Deltas (ovf:parentRef) are opened with what is below them.
func Open(ctx context.Context, p *appliance.Package, name string, opt Options) (*Image, error) {
	ref, err := find(p, name)
	if err != nil {
		return nil, err
	}
	raw := p.Unverified()
	if opt.Proved {
		raw = p.Proved()
	}
	return open(ctx, p, ref, &looking{unpacked{p: p, opt: opt, raw: raw}}, opt)
}

// OpenFrom is Open with the package's files taken from elsewhere, which is where
// they are proved or not. Whoever gives them closes them.
func OpenFrom(ctx context.Context, p *appliance.Package, name string, from disk.Files, opt Options) (*Image, error) {
	ref, err := find(p, name)
	if err != nil {
		return nil, err
	}
	return open(ctx, p, ref, borrowed{from}, opt)
}

// borrowed are files that are somebody else's.
type borrowed struct{ disk.Files }

func (borrowed) verified() bool               { return false }
func (borrowed) finish(context.Context) error { return nil }
func (borrowed) close() error                 { return nil }

// maxParents bounds a chain of deltas.
const maxParents = 64

// open opens a disk and all that is below it; f is closed with the image, or
// where there is none.
func open(ctx context.Context, p *appliance.Package, ref Ref, f files, opt Options) (*Image, error) {
	img := &Image{files: f}
	// From the lowest to the disk itself.
	chain := []Ref{ref}
	for d := ref.Disk; d != nil && d.ParentRef != ""; d = chain[len(chain)-1].Disk {
		if len(chain) == maxParents {
			return nil, errors.Join(fmt.Errorf("disk %q: more than %d disks below one another: %w", ref.Disk.ID, maxParents, disk.ErrUnsupported), f.close())
		}
		parent, err := find(p, d.ParentRef)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("parent of disk %q: %w", d.ID, err), f.close())
		}
		chain = append(chain, parent)
	}
	var below disk.Image
	for i := len(chain) - 1; i >= 0; i-- {
		file, err := f.OpenFile(ctx, chain[i].File.Href)
		if err == nil {
			img.FileSize, img.Packed = file.Size(), compressed.None
			if c, ok := file.(*copied); ok {
				img.FileSize, img.Packed = c.stored, c.method
			}
			below, err = openImage(ctx, file, chain[i], disk.OpenOptions{Files: f, Parent: below}, opt)
		}
		if err != nil {
			for _, o := range img.others {
				o.Close()
			}
			if errors.Is(err, disk.ErrOutside) && !errors.Is(err, appliance.ErrInvalid) {
				err = fmt.Errorf("%w: %w", appliance.ErrInvalid, err)
			}
			return nil, errors.Join(fmt.Errorf("%s: %w", chain[i].File.Href, err), f.close())
		}
		if i > 0 {
			img.others = append([]io.Closer{below}, img.others...)
			below = disk.KeepOpen{Image: below}
		}
	}
	img.Image = below
	return img, nil
}

// openImage opens one image, in the format that is said, where its bytes do
// not show another.
func openImage(ctx context.Context, f disk.File, ref Ref, dopt disk.OpenOptions, opt Options) (disk.Image, error) {
	if opt.Format != "" {
		return formats.Open(ctx, f, opt.Format, dopt)
	}
	if said := ref.format(); said != "" {
		img, err := formats.Open(ctx, f, said, dopt)
		if !errors.Is(err, disk.ErrFormat) {
			return img, err
		}
	}
	return formats.Open(ctx, f, "", dopt)
}
