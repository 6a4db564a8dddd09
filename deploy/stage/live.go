package stage

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/stream"
	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/formats"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/atomicfile"
)

// Live are disks that machines use while they are still arriving. It has to be
// closed after the machines have ended.
type Live struct {
	server *server
	images []disk.Image
	socket string // its folder, where that is one of its own
}

// Stream gives machines their disks while these are arriving: each drive is a
// delta in opt.Dir, which takes what the guest writes, on top of what the stream
// gives, which a server in this process answers from on a Unix socket. What can
// only be read from its start is put in place before, as All does.
func Stream(ctx context.Context, pkg *appliance.Package, machines []*deploy.Planned, from *stream.Stream, opt Options) (l *Live, err error) {
	Place(machines, opt.Dir, true)
	opt.Volatile, opt.skip = true, map[*hypervisor.Drive]bool{}
	l = &Live{}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	socket, err := l.place(opt.Dir)
	if err != nil {
		return nil, err
	}
	exports := map[string]image{}
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
			exports[name] = img
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
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	l.server = serve(listener, exports)
	return l, put(ctx, pkg, machines, opt)
}

// Given is how many bytes the machines have read of their disks.
func (l *Live) Given() int64 { return l.server.given.Load() }

// place gives the socket's path: systems take only short ones.
func (l *Live) place(dir string) (string, error) {
	const name, most = "nbd", 100
	if path := filepath.Join(dir, name); len(path) <= most {
		return path, nil
	}
	dir, err := os.MkdirTemp("/tmp", "ovation-nbd-")
	l.socket = dir
	return filepath.Join(dir, name), err
}

// open opens what is in a drive; nil where it has to be put in place first.
func (l *Live) open(ctx context.Context, p *deploy.Planned, id string, from *stream.Stream) (image, error) {
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
	if l.server != nil {
		errs = append(errs, l.server.Close())
	}
	for _, img := range l.images {
		errs = append(errs, img.Close())
	}
	if l.socket != "" {
		errs = append(errs, os.RemoveAll(l.socket))
	}
	l.server, l.images, l.socket = nil, nil, ""
	return errors.Join(errs...)
}
