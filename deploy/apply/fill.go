package apply

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/disk/formats"
	"github.com/ovation-project/ovation/disk/local"
	"github.com/ovation-project/ovation/disk/raw"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/atomicfile"
	"github.com/ovation-project/ovation/internal/workdir"
)

// fill puts into a volume what belongs there: straight into its file where this
// program can write that, else over the connection to the host.
func (a *applier) fill(ctx context.Context, v *plan.Volume) error {
	to := a.volume(v.VolumeRef)
	if to == nil {
		return errors.New("it was not made by this program")
	}
	if to.Path() != "" {
		return a.write(ctx, v, to)
	}
	err := a.send(ctx, v, to)
	if errors.Is(err, disk.ErrNeedsSeek) {
		err = a.sendCopy(ctx, v)
	}
	return err
}

// write writes a volume's file in its place: it is not taken for a disk before
// the journal says that it is filled.
func (a *applier) write(ctx context.Context, v *plan.Volume, to hypervisor.Volume) (err error) {
	f, err := atomicfile.Existing(ctx, to.Path())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := a.content(ctx, v, f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return to.Filled(ctx)
}

// content writes what belongs into a volume to a file.
func (a *applier) content(ctx context.Context, v *plan.Volume, f *atomicfile.File) error {
	switch v.Content {
	case plan.Environment:
		image, err := a.opt.Source.Environment(ctx, v.Machine)
		if err == nil {
			_, err = f.Write(image)
		}
		return err
	case plan.File:
		return a.opt.Source.CopyFile(ctx, v.File, f)
	}
	return a.opt.Source.CopyDisk(ctx, v.Disk, func(ctx context.Context, src convert.Source) (disk.Writer, error) {
		format, err := formats.ByName(v.Format)
		if err != nil {
			return nil, err
		}
		opt := disk.CreateOptions{Name: v.Name}
		sum := sha256.Sum256([]byte(v.Name))
		copy(opt.Identity[:], sum[:])
		w, err := format.Create(ctx, only{f}, convert.Suit(ctx, format, src, opt, false))
		return a.watch(v, src, w), err
	})
}

// only is the place for an image of one file.
type only struct{ f *atomicfile.File }

// Create gives the file.
func (o only) Create(string) (disk.OutputFile, error) { return o.f, nil }

// send sends a volume's bytes as they are read. It is a disk.ErrNeedsSeek where
// they come in another order.
func (a *applier) send(ctx context.Context, v *plan.Volume, to hypervisor.Volume) error {
	if (v.Content == plan.Disk || v.Content == plan.Blank) && v.Format != "raw" {
		return fmt.Errorf("a disk of the format %s: %w", v.Format, disk.ErrNeedsSeek)
	}
	u := &upload{ctx: ctx, to: to}
	defer u.abort()
	var err error
	switch v.Content {
	case plan.Environment:
		var image []byte
		if image, err = a.opt.Source.Environment(ctx, v.Machine); err == nil {
			_, err = u.Write(image)
		}
	case plan.File:
		err = a.opt.Source.CopyFile(ctx, v.File, u)
	default:
		err = a.opt.Source.CopyDisk(ctx, v.Disk, func(ctx context.Context, src convert.Source) (disk.Writer, error) {
			w, err := u.begin()
			if err != nil {
				return nil, err
			}
			out, err := stream(ctx, v, src, w)
			return a.watch(v, src, out), err
		})
	}
	if err != nil {
		return err
	}
	return u.close()
}

// upload sends to a volume, from when there is something to send: what comes once
// may come late.
type upload struct {
	ctx context.Context
	to  hypervisor.Volume
	w   hypervisor.VolumeWriter // nil before
}

func (u *upload) begin() (hypervisor.VolumeWriter, error) {
	if u.w != nil {
		return u.w, nil
	}
	w, err := u.to.Upload(u.ctx)
	if err == nil {
		u.w = w
	}
	return w, err
}

// Write sends.
func (u *upload) Write(b []byte) (int, error) {
	w, err := u.begin()
	if err != nil {
		return 0, err
	}
	return w.Write(b)
}

func (u *upload) close() error {
	w, err := u.begin() // of a file that is empty, too
	if err != nil {
		return err
	}
	return w.Close()
}

func (u *upload) abort() {
	if u.w != nil {
		u.w.Abort()
	}
}

// stream begins a raw disk that is sent.
func stream(ctx context.Context, v *plan.Volume, src convert.Source, w hypervisor.VolumeWriter) (disk.Writer, error) {
	if src.Size() > v.CapacityBytes {
		return nil, fmt.Errorf("the image is of %d bytes, and the descriptor says %d: it does not go into its volume", src.Size(), v.CapacityBytes)
	}
	return raw.Format{}.CreateStream(ctx, w, disk.CreateOptions{Name: v.Name, Size: src.Size()})
}

// sendCopy makes the volume's file here first, and sends it then.
func (a *applier) sendCopy(ctx context.Context, v *plan.Volume) (err error) {
	dir, _, err := workdir.New(a.opt.TempDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Remove()) }()
	if a.opt.Note != nil {
		a.opt.Note(fmt.Sprintf("disk %s is put into %s first, and sent then: as %s it can't be sent in the order in which it is read", v.Disk, dir.Path(), v.Format))
	}
	path := filepath.Join(dir.Path(), "volume")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	f, err := atomicfile.Existing(ctx, path)
	if err != nil {
		return err
	}
	if err := errors.Join(a.content(ctx, v, f), f.Close()); err != nil {
		return err
	}
	// Something of it may have been sent before.
	if err := a.host.RemoveVolume(ctx, v.VolumeRef); err != nil {
		return err
	}
	to, err := a.host.CreateVolume(ctx, v.VolumeSpec)
	if err != nil {
		return err
	}
	in, err := local.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	img, err := raw.Format{}.Open(ctx, in, disk.OpenOptions{})
	if err != nil {
		return err
	}
	w, err := to.Upload(ctx)
	if err != nil {
		return err
	}
	defer w.Abort()
	out, err := raw.Format{}.CreateStream(ctx, w, disk.CreateOptions{Name: v.Name, Size: img.Size()})
	if err != nil {
		return err
	}
	if _, err := convert.Run(ctx, img, out, convert.Options{}); err != nil {
		return err
	}
	return w.Close()
}
