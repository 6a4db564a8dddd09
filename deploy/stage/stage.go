// Package stage puts the disks of a package in place for machines that run on
// this host: images in a folder, made in one pass over the package's files,
// whose digests are proved on the way.
package stage

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/disk/formats"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/atomicfile"
	"github.com/ovation-project/ovation/internal/freespace"
	"github.com/ovation-project/ovation/ovf"
)

// ErrNoSpace says that the folder's file system has not the room.
var ErrNoSpace = freespace.ErrTooLittle

// Options say where images go and how.
type Options struct {
	// Dir is the folder for the images; it MUST exist. Nothing in it is
	// replaced.
	Dir string
	// Volatile says that the images go with the machines.
	Volatile bool
	// Task, where set, is called for each image that is begun, with the
	// number of bytes that will be read for it. What it returns is told how
	// many are, and how it ended.
	Task func(name string, total int64) Task
	// Note, where set, is called with what a person should know of how it is
	// done.
	Note func(string)
	// Descriptor, where set, is called by Receive with the descriptor before
	// the first file of the package is taken: its error ends the receiving
	// where it would be in vain. Nothing is proved by then.
	Descriptor func(*ovf.Document) error
	// Log gets what is done; nil is nowhere.
	Log *slog.Logger

	// skip leaves out drives that have their images already.
	skip map[*hypervisor.Drive]bool
}

// Task is shown the progress of one image.
type Task interface {
	Set(done int64)
	Done(err error)
}

// format is what QEMU and libvirt take best, and what compressed units can be
// handed on to.
const format = "qcow2"

// All makes the images for the drives of machines, and puts them into the
// drives as media. Where it fails, nothing of it is left.
//
// Each file is compared with its digest in the manifest while it is read; one
// that was altered is an appliance.ErrAltered.
func All(ctx context.Context, pkg *appliance.Package, machines []*deploy.Planned, opt Options) (err error) {
	Place(machines, opt.Dir, opt.Volatile)
	return put(ctx, pkg, machines, opt)
}

// put makes the images that the drives' media name.
func put(ctx context.Context, pkg *appliance.Package, machines []*deploy.Planned, opt Options) (err error) {
	s := newStager(pkg, opt)
	defer func() {
		if err != nil {
			for _, path := range s.made {
				err = errors.Join(err, os.Remove(path))
			}
		}
	}()
	if err := s.space(machines); err != nil {
		return err
	}
	for _, p := range machines {
		for _, id := range p.DriveIDs() {
			if opt.skip[drive(p, id)] {
				continue
			}
			if err := s.drive(ctx, p, id); err != nil {
				return fmt.Errorf("%s: %w", contentID(p, id), err)
			}
		}
	}
	return nil
}

// Place says which images the machines' drives will have, in a folder. It makes
// nothing.
func Place(machines []*deploy.Planned, dir string, volatile bool) {
	names := map[string]bool{}
	for _, p := range machines {
		for _, id := range p.DriveIDs() {
			medium := &hypervisor.Medium{Format: format, Volatile: volatile}
			ending := "." + format
			if p.Files[id] != nil {
				medium.Format, ending = "raw", ".img"
			}
			name := FileName(p.Machine.ID, contentID(p, id))
			for n := 2; names[name+ending]; n++ {
				name = FileName(p.Machine.ID, fmt.Sprint(contentID(p, id), "-", n))
			}
			names[name+ending] = true
			medium.Path = filepath.Join(dir, name+ending)
			drive(p, id).Medium = medium
		}
	}
}

func drive(p *deploy.Planned, id string) *hypervisor.Drive {
	k := slices.IndexFunc(p.Machine.Drives, func(d hypervisor.Drive) bool { return d.ID == id })
	return &p.Machine.Drives[k]
}

// contentID is what the descriptor calls what is in a drive.
func contentID(p *deploy.Planned, id string) string {
	if f := p.Files[id]; f != nil {
		return f.ID
	}
	return p.Disks[id].ID
}

// FileName makes a file's name, less its ending, out of names from a
// descriptor.
func FileName(parts ...string) string {
	const most = 80
	clean := func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '.' {
			return r
		}
		return '-'
	}
	whole := strings.Join(parts, "-")
	name := strings.TrimLeft(strings.Map(clean, whole), ".-")
	name = name[:min(most, len(name))]
	if name != whole || name == "" {
		// Two names that come to the same stay two.
		sum := sha256.Sum256([]byte(whole))
		name = strings.TrimLeft(fmt.Sprintf("%s-%x", name, sum[:4]), "-")
	}
	return name
}

type stager struct {
	pkg  *appliance.Package
	opt  Options
	log  *slog.Logger
	made []string
}

func newStager(pkg *appliance.Package, opt Options) *stager {
	s := &stager{pkg: pkg, opt: opt, log: opt.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s
}

func (s *stager) note(format string, args ...any) {
	if s.opt.Note != nil {
		s.opt.Note(fmt.Sprintf(format, args...))
	}
}

// maxParents bounds a chain of deltas.
const maxParents = 64

// needs is about how many bytes of the folder a disk will take at first: what
// is stored compressed stays so, other content comes to what is populated.
func needs(d *ovf.ResolvedDisk) int64 {
	switch {
	case d.File == nil:
		return 0
	case strings.Contains(strings.ToLower(d.Format), "streamoptimized") && d.File.Size > 0 && d.File.Compression == "":
		return d.File.Size
	case d.PopulatedSize > 0:
		return min(d.PopulatedSize, d.Capacity)
	case d.File.Size > 0 && d.File.Compression == "":
		return min(d.File.Size, max(d.Capacity, d.File.Size))
	}
	return d.Capacity
}

// space sees that there is room before anything is read.
func (s *stager) space(machines []*deploy.Planned) error {
	return checkSpace(s.opt.Dir, machines, s.opt.skip)
}

// Space is ErrNoSpace where a folder's file system has not the room for the
// images of machines, as far as the descriptor tells; All begins with it.
func Space(dir string, machines []*deploy.Planned) error { return checkSpace(dir, machines, nil) }

func checkSpace(dir string, machines []*deploy.Planned, skip map[*hypervisor.Drive]bool) error {
	var want int64
	add := func(n int64) { want = min(want, math.MaxInt64-max(0, n)) + max(0, n) }
	for _, p := range machines {
		for id, d := range p.Disks {
			if skip[drive(p, id)] {
				continue
			}
			for n := 0; d != nil && n <= maxParents; d, n = d.Parent, n+1 {
				add(needs(d))
			}
		}
		for id, f := range p.Files {
			if skip[drive(p, id)] {
				continue
			}
			add(f.Size)
		}
	}
	if err := freespace.Check(dir, want); err != nil {
		return fmt.Errorf("the disks do not fit: %w; TMPDIR or --keep name another folder", err)
	}
	return nil
}

// drive makes the image of one drive.
func (s *stager) drive(ctx context.Context, p *deploy.Planned, id string) error {
	set := atomicfile.New(ctx, s.opt.Dir, atomicfile.Options{NoSync: s.opt.Volatile})
	defer set.Abort()
	path := drive(p, id).Medium.Path
	var err error
	if f := p.Files[id]; f != nil {
		err = s.file(ctx, set, f, filepath.Base(path))
	} else {
		err = s.disk(ctx, set, p.Disks[id], filepath.Base(path))
	}
	if err == nil {
		err = set.Commit(ctx)
	}
	if err == nil {
		s.made = append(s.made, path)
	}
	return err
}

// task begins to show progress.
func (s *stager) task(name string, total int64) Task {
	if s.opt.Task == nil {
		return silent{}
	}
	return s.opt.Task(name, total)
}

type silent struct{}

func (silent) Set(int64)  {}
func (silent) Done(error) {}

// file puts a file into a drive as it is: a CD-ROM's image.
func (s *stager) file(ctx context.Context, set *atomicfile.Set, f *ovf.File, name string) error {
	out, err := set.CreateFile(name)
	if err != nil {
		return err
	}
	return s.copyFile(ctx, f, out)
}

type onlyWriter struct{ io.Writer }

// create begins the image for a source.
func (s *stager) create(ctx context.Context, set *atomicfile.Set, src convert.Source, name string) (disk.Writer, error) {
	f, err := formats.ByName(format)
	if err != nil {
		return nil, err
	}
	opt := disk.CreateOptions{Name: name}
	sum := sha256.Sum256([]byte(name))
	copy(opt.Identity[:], sum[:])
	return f.Create(ctx, set, convert.Suit(ctx, f, src, opt, false))
}

// disk makes a disk's image.
func (s *stager) disk(ctx context.Context, set *atomicfile.Set, d *ovf.ResolvedDisk, name string) error {
	return s.copyDisk(ctx, d, func(ctx context.Context, src convert.Source) (disk.Writer, error) {
		return s.create(ctx, set, src, name)
	})
}
