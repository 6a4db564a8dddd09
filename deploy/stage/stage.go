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
	"sync"

	"golang.org/x/sync/errgroup"

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
func All(ctx context.Context, pkg *appliance.Package, machines []*deploy.Planned, opt Options) error {
	Place(machines, opt.Dir, opt.Volatile)
	return put(ctx, NewContent(pkg, opt), machines, opt)
}

// put makes the images that the drives' media name, one after the other.
func put(ctx context.Context, c *Content, machines []*deploy.Planned, opt Options) error {
	m := &maker{opt: opt, content: c}
	return m.all(machines, func(each []image) error {
		for _, i := range each {
			if err := m.make(ctx, i); err != nil {
				return err
			}
		}
		return nil
	})
}

// Giver gives what disks and files of a package hold.
type Giver interface {
	CopyDisk(ctx context.Context, d *ovf.ResolvedDisk, create Create) error
	CopyFile(ctx context.Context, f *ovf.File, to io.Writer) error
}

// Arriving is All for what comes once, in an order of its own: all images are
// begun at once, and each is made when its content comes. Whoever gives that says
// whether it is proved.
func Arriving(ctx context.Context, from Giver, machines []*deploy.Planned, opt Options) error {
	Place(machines, opt.Dir, opt.Volatile)
	m := &maker{opt: opt, content: from}
	return m.all(machines, func(each []image) error {
		g, ctx := errgroup.WithContext(ctx)
		for _, i := range each {
			g.Go(func() error { return m.make(ctx, i) })
		}
		return g.Wait()
	})
}

// Contents are the disks and files that the images of machines are made of, each
// as often as it is.
func Contents(machines []*deploy.Planned) (disks []*ovf.ResolvedDisk, files []*ovf.File) {
	for _, p := range machines {
		for _, id := range p.DriveIDs() {
			if f := p.Files[id]; f != nil {
				files = append(files, f)
			} else {
				disks = append(disks, p.Disks[id])
			}
		}
	}
	return disks, files
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

// Space is ErrNoSpace where a folder's file system has not the room for the
// images of machines, as far as the descriptor tells; All and Arriving begin with
// it.
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

// maker makes images.
type maker struct {
	opt     Options
	content Giver
	mu      sync.Mutex
	made    []string
}

// image is one to be made.
type image struct {
	p  *deploy.Planned
	id string // of the drive
}

// all makes all images by do; where it fails, none is left.
func (m *maker) all(machines []*deploy.Planned, do func([]image) error) (err error) {
	defer func() {
		if err != nil {
			for _, path := range m.made {
				err = errors.Join(err, os.Remove(path))
			}
		}
	}()
	if err := checkSpace(m.opt.Dir, machines, m.opt.skip); err != nil {
		return err
	}
	var each []image
	for _, p := range machines {
		for _, id := range p.DriveIDs() {
			if !m.opt.skip[drive(p, id)] {
				each = append(each, image{p, id})
			}
		}
	}
	return do(each)
}

// make makes one.
func (m *maker) make(ctx context.Context, i image) error {
	set := atomicfile.New(ctx, m.opt.Dir, atomicfile.Options{NoSync: m.opt.Volatile})
	defer set.Abort()
	path := drive(i.p, i.id).Medium.Path
	name := filepath.Base(path)
	var err error
	if f := i.p.Files[i.id]; f != nil {
		// A CD-ROM's image, as it is.
		var out *atomicfile.File
		if out, err = set.CreateFile(name); err == nil {
			err = m.content.CopyFile(ctx, f, out)
		}
	} else {
		err = m.content.CopyDisk(ctx, i.p.Disks[i.id], func(ctx context.Context, src convert.Source) (disk.Writer, error) {
			return create(ctx, set, src, name)
		})
	}
	if err == nil {
		err = set.Commit(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", contentID(i.p, i.id), err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.made = append(m.made, path)
	return nil
}

type onlyWriter struct{ io.Writer }

// create begins the image for a source.
func create(ctx context.Context, set *atomicfile.Set, src convert.Source, name string) (disk.Writer, error) {
	f, err := formats.ByName(format)
	if err != nil {
		return nil, err
	}
	opt := disk.CreateOptions{Name: name}
	sum := sha256.Sum256([]byte(name))
	copy(opt.Identity[:], sum[:])
	return f.Create(ctx, set, convert.Suit(ctx, f, src, opt, false))
}
