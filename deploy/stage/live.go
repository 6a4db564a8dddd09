package stage

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/stream"
	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/formats"
	"github.com/ovation-project/ovation/disk/nbd"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/atomicfile"
)

// Live are disks that machines use while they are still arriving. It has to be
// closed after the machines have ended, and after the stream that they come from.
type Live struct {
	given  atomic.Int64
	stop   context.CancelFunc
	served sync.WaitGroup
	err    error // of the server, once it has ended
	images []disk.Image
	socket string // its folder, where that is one of its own
}

// served is what is served of a disk. Where its bytes lie is not told: to know
// it, more would have to be fetched than is asked for.
type served interface {
	io.ReaderAt
	Size() int64
}

type given struct {
	served
	n *atomic.Int64
}

// ReadAt reads and counts.
func (g given) ReadAt(b []byte, off int64) (int, error) {
	n, err := g.served.ReadAt(b, off)
	g.n.Add(int64(n))
	return n, err
}

// Stream gives machines their disks while these are arriving: each drive is a
// delta in opt.Dir, which takes what the guest writes, on top of what the stream
// gives, which a server in this process answers from on a Unix socket. What can
// only be read from its start is put in place before, as All does.
func Stream(ctx context.Context, pkg *appliance.Package, machines []*deploy.Planned, from *stream.Stream, opt Options) (l *Live, err error) {
	Place(machines, opt.Dir, true)
	opt.Volatile, opt.skip = true, map[*hypervisor.Drive]bool{}
	l = &Live{}
	defer func(made *Live) { // l is nil by then, where there is an error
		if err != nil {
			err = errors.Join(err, made.Close())
		}
	}(l)
	socket, err := l.place(opt.Dir)
	if err != nil {
		return nil, err
	}
	var exports []nbd.Export
	for _, p := range machines {
		for _, id := range p.DriveIDs() {
			img, err := l.open(ctx, p, id, from)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", contentID(p, id), err)
			}
			if img == nil {
				continue
			}
			name := fmt.Sprint("disk", len(exports))
			exports = append(exports, nbd.Export{Name: name, Image: given{img, &l.given}})
			d := drive(p, id)
			opt.skip[d] = true
			below := &hypervisor.Medium{Format: "raw", Socket: socket, Export: name, Volatile: true}
			if d.ReadOnly || d.Kind != hypervisor.HardDisk {
				d.Medium = below
				continue
			}
			if err := delta(ctx, d.Medium.Path, img.Size()); err != nil {
				return nil, fmt.Errorf("%s: %w", contentID(p, id), err)
			}
			d.Medium.Below = below
		}
	}
	if len(exports) > 0 {
		if err := l.serve(ctx, socket, &nbd.Server{Exports: exports, Log: opt.Log, MaxMemory: servingMemory}); err != nil {
			return nil, err
		}
	}
	return l, put(ctx, NewContent(pkg, opt), machines, opt)
}

// servingMemory bounds what is on its way to the machines, in bytes.
const servingMemory = 32 << 20

// serve begins to answer. Closing ends it, and not ctx: a guest that is asked to
// power off still needs its disks.
func (l *Live) serve(ctx context.Context, socket string, s *nbd.Server) error {
	listener, err := nbd.Listen(ctx, "unix:"+socket)
	if err != nil {
		return err
	}
	ctx, l.stop = context.WithCancel(context.WithoutCancel(ctx))
	l.served.Go(func() { l.err = s.Serve(ctx, listener) })
	return nil
}

// Given is how many bytes the machines have read of their disks.
func (l *Live) Given() int64 { return l.given.Load() }

// place gives the socket's path: systems take only short ones.
func (l *Live) place(dir string) (string, error) {
	const name, most = "nbd", 80
	if path := filepath.Join(dir, name); len(path) <= most {
		return path, nil
	}
	dir, err := os.MkdirTemp("/tmp", "ovation-nbd-")
	l.socket = dir
	return filepath.Join(dir, name), err
}

// open opens what is in a drive; nil where it has to be put in place first.
func (l *Live) open(ctx context.Context, p *deploy.Planned, id string, from *stream.Stream) (served, error) {
	if f := p.Files[id]; f != nil {
		file, err := from.OpenFile(ctx, f.Href)
		if errors.Is(err, stream.ErrPacked) || err == nil && file.Size()%disk.SectorSize != 0 {
			return nil, nil
		}
		return file, err
	}
	d := p.Disks[id]
	if d.File == nil && d.Parent == nil {
		return nil, nil
	}
	img, err := from.Disk(ctx, d.ID)
	if errors.Is(err, stream.ErrPacked) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	l.images = append(l.images, img)
	return img, nil
}

// delta makes an image that holds nothing yet.
func delta(ctx context.Context, path string, size int64) (err error) {
	f, err := formats.ByName(format)
	if err != nil {
		return err
	}
	set := atomicfile.New(ctx, filepath.Dir(path), atomicfile.Options{NoSync: true})
	defer set.Abort()
	opt := disk.CreateOptions{Name: filepath.Base(path), Size: size}
	sum := sha256.Sum256([]byte(opt.Name))
	copy(opt.Identity[:], sum[:])
	w, err := f.Create(ctx, set, opt)
	if err == nil {
		err = w.Finish(ctx)
	}
	if err == nil {
		err = set.Commit(ctx)
	}
	return err
}

// Close ends the serving.
func (l *Live) Close() error {
	var errs []error
	if l.stop != nil {
		l.stop()
		l.served.Wait()
		errs = append(errs, l.err)
	}
	for _, img := range l.images {
		errs = append(errs, img.Close())
	}
	if l.socket != "" {
		errs = append(errs, os.RemoveAll(l.socket))
	}
	l.stop, l.images, l.socket = nil, nil, ""
	return errors.Join(errs...)
}
