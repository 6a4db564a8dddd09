package libvirt

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/ovation-project/ovation/hypervisor"
)

var _ hypervisor.Exporter = (*Host)(nil)

// overlayMark is in the names of the files that take what a guest writes while
// it is exported, so that whoever finds one knows where it comes from.
const overlayMark = ".ovation-export-"

var overlayName = regexp.MustCompile(regexp.QuoteMeta(overlayMark) + `[0-9a-f]{8}$`)

// Export begins to read a domain. One that runs gets an external snapshot of
// its disks, without metadata: from then on it writes to files beside them,
// and Close has libvirt put those back into the disks (an active block commit)
// and go on with them.
func (h *Host) Export(ctx context.Context, name string, opt hypervisor.ExportOptions) (hypervisor.Export, error) {
	note := opt.Note
	if note == nil {
		note = func(string) {}
	}
	e := &export{h: h, drives: map[string]source{}, stamps: map[string]stamp{}}
	d, err := ask(ctx, h, func(c *connection) (*libvirtxml.Domain, error) { return e.look(c, name, opt.Live, note) })
	if err == nil && e.live {
		// What is made has to be known here, also when ctx ends meanwhile.
		err = h.call(context.WithoutCancel(ctx), func(c *connection) error { return e.snapshot(c, d, note) })
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			err = errors.Join(err, e.Close(context.WithoutCancel(ctx)))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("machine %s: export: %w", name, err)
	}
	return e, nil
}

// look says what the domain is.
func (e *export) look(c *connection, name string, live bool, note func(string)) (*libvirtxml.Domain, error) {
	dom, err := c.DomainLookupByName(name)
	if err != nil {
		return nil, err
	}
	state, _, err := c.DomainGetState(dom, 0)
	if err != nil {
		return nil, err
	}
	flags := golibvirt.DomainXMLInactive
	if !ended(golibvirt.DomainState(state)) {
		if !live {
			return nil, hypervisor.ErrRunning
		}
		flags, e.live = 0, true
	}
	d, err := domainXML(c, dom, flags)
	if err != nil {
		return nil, err
	}
	e.dom = dom
	if e.kept, err = e.h.keptOf(c, dom, d); err != nil {
		return nil, err
	}
	e.h.sizes(c, dom, e.kept)
	if d.Devices == nil {
		d.Devices = &libvirtxml.DomainDeviceList{}
	}
	e.sources(d)
	if left := overlays(d); len(left) > 0 {
		return nil, fmt.Errorf("it writes to %s, which is of another export: that one is not done yet, or was killed, and then 'ovation export --clean-up' puts it back", left[0].path)
	}
	if saved, err := c.DomainHasManagedSaveImage(dom, 0); err == nil && saved != 0 {
		note(name + ": its memory is saved on the host and not exported: the disks are as if its power had been cut")
	}
	return d, nil
}

func domainXML(c *connection, dom golibvirt.Domain, flags golibvirt.DomainXMLFlags) (*libvirtxml.Domain, error) {
	text, err := c.DomainGetXMLDesc(dom, flags)
	if err != nil {
		return nil, err
	}
	var x libvirtxml.Domain
	return &x, x.Unmarshal(text)
}

// source is where a drive's bytes lie on the host.
type source struct {
	path   string
	volume *hypervisor.VolumeRef
	format string
}

func (s source) String() string {
	if s.volume != nil {
		return s.volume.Pool + "/" + s.volume.Name
	}
	return s.path
}

// stamp tells whether a file was written to.
type stamp struct {
	size    int64
	changed time.Time
}

type export struct {
	h    *Host
	dom  golibvirt.Domain
	live bool
	kept *hypervisor.Kept

	drives map[string]source
	// overlays are the files that the guest writes to meanwhile, by drive.
	overlays map[string]string

	mu     sync.Mutex
	stamps map[string]stamp
	closed bool
}

func (e *export) Kept() *hypervisor.Kept { return e.kept }

func (e *export) fail(what string, err error) error {
	return fmt.Errorf("machine %s: %s: %w", e.dom.Name, what, err)
}

// sources notes where the drives' bytes lie.
func (e *export) sources(d *libvirtxml.Domain) {
	for _, v := range e.kept.Machine.Drives {
		if v.Medium != nil && v.Medium.Socket == "" {
			e.drives[v.ID] = source{path: pathOf(d, v.ID), volume: v.Medium.Volume, format: v.Medium.Format}
		}
	}
}

// pathOf is the path of a drive's source in the domain, "" where it has none.
func pathOf(d *libvirtxml.Domain, dev string) string {
	for _, x := range d.Devices.Disks {
		if x.Target == nil || x.Target.Dev != dev || x.Source == nil {
			continue
		}
		switch {
		case x.Source.File != nil:
			return x.Source.File.File
		case x.Source.Block != nil:
			return x.Source.Block.Dev
		}
	}
	return ""
}

// overlay is a file of an export that a domain writes to.
type overlay struct{ dev, path string }

func overlays(d *libvirtxml.Domain) (all []overlay) {
	if d.Devices == nil {
		return nil
	}
	for _, x := range d.Devices.Disks {
		if x.Target != nil && x.Source != nil && x.Source.File != nil && overlayName.MatchString(x.Source.File.File) {
			all = append(all, overlay{x.Target.Dev, x.Source.File.File})
		}
	}
	return all
}

// snapshot makes the domain write to files beside its disks.
func (e *export) snapshot(c *connection, d *libvirtxml.Domain, note func(string)) error {
	var tag [4]byte
	_, _ = rand.Read(tag[:]) // which does not fail
	mark := overlayMark + hex.EncodeToString(tag[:])
	snap := libvirtxml.DomainSnapshot{Name: strings.TrimPrefix(mark, "."), Disks: &libvirtxml.DomainSnapshotDisks{}}
	made := map[string]string{}
	for i := range d.Devices.Disks {
		x := &d.Devices.Disks[i]
		if x.Target == nil {
			continue
		}
		one := libvirtxml.DomainSnapshotDisk{Name: x.Target.Dev, Snapshot: "no"}
		if cmp.Or(x.Device, "disk") == "disk" && x.ReadOnly == nil {
			switch {
			case x.Shareable != nil:
				return fmt.Errorf("the disk %s is one that several machines write, and is at no moment of this one alone: shut the machines down", x.Target.Dev)
			case x.Source == nil || x.Source.File == nil:
				return fmt.Errorf("the disk %s is not in a file, and a snapshot beside it can't be made: shut the machine down", x.Target.Dev)
			}
			file := x.Source.File.File + mark
			made[x.Target.Dev] = file
			one.Snapshot, one.Driver = "external", &libvirtxml.DomainDiskDriver{Type: "qcow2"}
			one.Source = &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: file}}
		}
		snap.Disks.Disks = append(snap.Disks.Disks, one)
	}
	if len(made) == 0 {
		return nil
	}
	text, err := snap.Marshal()
	if err != nil {
		return err
	}
	const flags = golibvirt.DomainSnapshotCreateDiskOnly | golibvirt.DomainSnapshotCreateNoMetadata | golibvirt.DomainSnapshotCreateAtomic
	e.overlays = made
	if agentConnected(d) {
		_, err := c.DomainSnapshotCreateXML(e.dom, text, uint32(flags|golibvirt.DomainSnapshotCreateQuiesce))
		if err == nil {
			note(e.dom.Name + ": the guest's file systems were at rest when its disks were taken")
			return nil
		}
		e.h.log.Debug("the guest agent did not freeze the file systems", "machine", e.dom.Name, "error", err)
	}
	if _, err := c.DomainSnapshotCreateXML(e.dom, text, uint32(flags)); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	note(e.dom.Name + ": no guest agent answers: the disks are as if the guest's power had been cut at this moment")
	return nil
}

func agentConnected(d *libvirtxml.Domain) bool {
	return slices.ContainsFunc(d.Devices.Channels, func(x libvirtxml.DomainChannel) bool {
		return x.Target != nil && x.Target.VirtIO != nil && x.Target.VirtIO.Name == agentChannel && x.Target.VirtIO.State == "connected"
	})
}

// OpenDrive opens what a drive holds.
func (e *export) OpenDrive(ctx context.Context, drive string) (*hypervisor.DriveFile, error) {
	s, ok := e.drives[drive]
	if !ok {
		return nil, e.fail("drive "+drive, fmt.Errorf("its medium: %w", hypervisor.ErrNotFound))
	}
	f, err := e.open(ctx, s)
	if err != nil {
		return nil, e.fail("drive "+drive, err)
	}
	return f, nil
}

func (e *export) open(ctx context.Context, s source) (*hypervisor.DriveFile, error) {
	out := &hypervisor.DriveFile{Name: s.String(), Format: s.format}
	if s.format == "qcow2" {
		out.Below = func(ctx context.Context, name, format string) (*hypervisor.DriveFile, error) {
			return e.below(ctx, s, name, format)
		}
	}
	if s.path != "" && e.h.target.local() {
		if f, err := openMedium(s.path, s.format); err == nil {
			if !e.live {
				e.stamp(s.path, f)
			}
			out.At, out.Size, out.Close = f, f.size, f.Close
			return out, nil
		}
	}
	if s.volume == nil {
		ref, err := ask(ctx, e.h, func(c *connection) (hypervisor.VolumeRef, error) {
			if ref, ok := volumeAt(c)(s.path); ok {
				return ref, nil
			}
			// It may have come into a pool's folder unseen.
			return e.h.findByFolder(c, s.path)
		})
		if err != nil {
			return nil, err
		}
		s.volume = &ref
	}
	r, err := e.h.OpenVolume(ctx, *s.volume)
	if err != nil {
		return nil, err
	}
	out.At, out.Size, out.Close = r, r.Size(), r.Close
	return out, nil
}

// openMedium is openFile for what may be a block device.
func openMedium(name, format string) (*fileReader, error) {
	if f, err := openFile(name, format); err == nil {
		return f, nil
	}
	f, err := os.Open(name) // #nosec G304: the host's own disk
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	var size int64
	if err == nil && info.Mode()&os.ModeDevice != 0 && info.Mode()&os.ModeCharDevice == 0 {
		size, err = f.Seek(0, 2)
	} else if err == nil {
		err = fmt.Errorf("%s is neither a file nor a block device", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &fileReader{f, size, format}, nil
}

// findByFolder finds the pool whose folder a file lies in, and makes libvirt
// look there.
func (h *Host) findByFolder(c *connection, file string) (hypervisor.VolumeRef, error) {
	ref, err := poolOfFolder(c, file)
	if err != nil {
		return ref, err
	}
	_, err = lookUp(c, ref)
	return ref, err
}

func poolOfFolder(c *connection, file string) (hypervisor.VolumeRef, error) {
	none := fmt.Errorf("%s is in no storage pool of the host, and can't be read from here: make a pool of its folder (virsh pool-create-as NAME dir --target %s)", file, path.Dir(file))
	pools, _, err := c.ConnectListAllStoragePools(1, golibvirt.ConnectListStoragePoolsActive)
	if err != nil {
		return hypervisor.VolumeRef{}, err
	}
	for _, p := range pools {
		x, err := poolXML(c, p)
		if err == nil && folderPools[x.Type] && x.Target != nil && path.Clean(x.Target.Path) == path.Dir(path.Clean(file)) {
			return hypervisor.VolumeRef{Pool: p.Name, Name: path.Base(file)}, nil
		}
	}
	return hypervisor.VolumeRef{}, none
}

// below opens the image that one is a delta of. Its name is a path, from the
// folder of the image where it is not absolute. A format that is not said is
// raw: to guess one would let a guest choose.
func (e *export) below(ctx context.Context, above source, name, format string) (*hypervisor.DriveFile, error) {
	name = strings.TrimPrefix(name, "file:")
	if strings.Contains(name, ":") && !strings.HasPrefix(name, "/") && !strings.HasPrefix(name, "./") {
		return nil, fmt.Errorf("%s is a delta of %q, which is not a file: bring the whole disk into one file first (virsh blockpull)", above, name)
	}
	if format == "" {
		return nil, fmt.Errorf("%s does not say which format the image %q below it has: tell it with 'qemu-img rebase -u -F FORMAT -b %s'", above, name, name)
	}
	if !path.IsAbs(name) {
		at := above.path
		if at == "" {
			found, err := ask(ctx, e.h, func(c *connection) (string, error) {
				v, err := lookUp(c, *above.volume)
				if err != nil {
					return "", err
				}
				return c.StorageVolGetPath(v)
			})
			if err != nil {
				return nil, err
			}
			at = found
		}
		name = path.Join(path.Dir(at), name)
	}
	return e.open(ctx, source{path: name, format: format})
}

// stamp notes what a file of a machine that is off looks like.
func (e *export) stamp(name string, f *fileReader) {
	info, err := f.Stat()
	if err != nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.stamps[name]; !ok {
		e.stamps[name] = stamp{info.Size(), info.ModTime()}
	}
}

// Unchanged sees whether the machine that was off still is, and its files are
// as they were. A live one writes elsewhere.
func (e *export) Unchanged(ctx context.Context) error {
	if e.live {
		return nil
	}
	state, err := e.kept.State(ctx)
	if err != nil {
		return err
	}
	if state != hypervisor.PoweredOff {
		return e.fail("it was started", hypervisor.ErrChanged)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, was := range e.stamps {
		info, err := os.Stat(name)
		if err != nil {
			return e.fail("its disk", err)
		}
		if info.Size() != was.size || !info.ModTime().Equal(was.changed) {
			return e.fail(name, hypervisor.ErrChanged)
		}
	}
	return nil
}

// Close undoes the snapshot.
func (e *export) Close(ctx context.Context) error {
	e.mu.Lock()
	closed := e.closed
	e.closed = true
	e.mu.Unlock()
	if closed || len(e.overlays) == 0 {
		return nil
	}
	_, err := e.h.putBack(ctx, e.dom)
	if err != nil {
		err = fmt.Errorf("machine %s: the guest still writes to files beside its disks, whose names end in %sNNNNNNNN, and loses nothing: 'ovation export --clean-up' puts them back: %w", e.dom.Name, overlayMark, err)
	}
	return err
}

// CleanUp puts back what a killed export left.
func (h *Host) CleanUp(ctx context.Context, name string) ([]string, error) {
	dom, err := ask(ctx, h, func(c *connection) (golibvirt.Domain, error) { return c.DomainLookupByName(name) })
	if err != nil {
		return nil, fmt.Errorf("machine %s: %w", name, err)
	}
	done, err := h.putBack(ctx, dom)
	if err != nil {
		return done, fmt.Errorf("machine %s: clean up: %w", name, err)
	}
	return done, nil
}

// putBack has libvirt write what is in a domain's overlays into its disks, and
// removes them. A domain that is off meanwhile is started for that without
// running: only QEMU does such work.
func (h *Host) putBack(ctx context.Context, dom golibvirt.Domain) (done []string, err error) {
	started := false
	defer func() {
		if started {
			err = errors.Join(err, h.call(context.WithoutCancel(ctx), func(c *connection) error { return c.DomainDestroy(dom) }))
		}
	}()
	for {
		var d *libvirtxml.Domain
		off := false
		err := h.call(ctx, func(c *connection) error {
			state, _, err := c.DomainGetState(dom, 0)
			if err != nil {
				return err
			}
			off = ended(golibvirt.DomainState(state))
			flags := golibvirt.DomainXMLFlags(0)
			if off {
				flags = golibvirt.DomainXMLInactive
			}
			d, err = domainXML(c, dom, flags)
			return err
		})
		if errors.Is(err, hypervisor.ErrNotFound) {
			return done, fmt.Errorf("the domain did not stay after its end (it is transient): 'qemu-img commit FILE' brings each file that ends in %sNNNNNNNN back into its disk: %w", overlayMark, err)
		}
		if err != nil {
			return done, err
		}
		left := overlays(d)
		if len(left) == 0 {
			return done, nil
		}
		if off {
			if started {
				return done, errors.New("the domain ended again")
			}
			err := h.call(ctx, func(c *connection) error {
				_, err := c.DomainCreateWithFlags(dom, uint32(golibvirt.DomainStartPaused))
				return err
			})
			if err != nil {
				return done, fmt.Errorf("start without running: %w", err)
			}
			started = true
			continue
		}
		if err := h.commit(ctx, dom, left[0].dev); err != nil {
			return done, fmt.Errorf("disk %s: %w", left[0].dev, err)
		}
		done = append(done, left[0].path)
		if err := h.removeFile(ctx, left[0].path); err != nil {
			return done, fmt.Errorf("%s is not needed any more and stays: %w", left[0].path, err)
		}
	}
}

// jobPause is how often a block job is looked at.
const jobPause = 50 * time.Millisecond

// activeCommit is libvirt's number for the job (VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT).
const activeCommit = 4

// commit brings what is in a disk's overlay into the image below it, and has
// the domain go on with that.
func (h *Host) commit(ctx context.Context, dom golibvirt.Domain, dev string) error {
	begun := false
	for {
		type seen struct {
			job   bool
			ready bool
			over  bool
		}
		now, err := ask(ctx, h, func(c *connection) (seen, error) {
			var s seen
			found, typ, _, _, _, err := c.DomainGetBlockJobInfo(dom, dev, 0)
			if err != nil {
				return s, err
			}
			if found != 0 && typ != activeCommit {
				return s, errors.New("another job is at work on it: wait for its end")
			}
			d, err := domainXML(c, dom, 0)
			if err != nil {
				return s, err
			}
			s.job, s.over = found != 0, true
			for _, o := range overlays(d) {
				s.over = s.over && o.dev != dev
			}
			for _, x := range d.Devices.Disks {
				if x.Target != nil && x.Target.Dev == dev && x.Mirror != nil {
					s.ready = x.Mirror.Ready == "yes"
				}
			}
			return s, nil
		})
		switch {
		case err != nil:
			return err
		case now.over:
			return nil
		case now.ready:
			err := h.call(ctx, func(c *connection) error { return c.DomainBlockJobAbort(dom, dev, golibvirt.DomainBlockJobAbortPivot) })
			if err != nil && !is(err, golibvirt.ErrBlockCopyActive, golibvirt.ErrOperationInvalid) {
				return err
			}
		case !now.job && begun:
			return errors.New("bringing what the guest wrote meanwhile back into the disk failed; see libvirt's log on the host")
		case !now.job:
			begun = true
			err := h.call(ctx, func(c *connection) error {
				return c.DomainBlockCommit(dom, dev, nil, nil, 0, golibvirt.DomainBlockCommitActive|golibvirt.DomainBlockCommitShallow)
			})
			if err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(jobPause):
		}
	}
}

// removeFile removes a file of the host's: itself, or by its pool.
func (h *Host) removeFile(ctx context.Context, name string) error {
	gone := h.target.local() && os.Remove(name) == nil
	ref, err := ask(ctx, h, func(c *connection) (hypervisor.VolumeRef, error) { return poolOfFolder(c, name) })
	switch {
	case gone && err == nil:
		return h.refresh(ctx, ref.Pool)
	case gone:
		return nil
	case err != nil:
		return err
	}
	if err := h.refresh(ctx, ref.Pool); err != nil {
		return err
	}
	return h.RemoveVolume(ctx, ref)
}
