package libvirt

import (
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/holes"
)

// The kinds of pool whose volumes are files in a folder.
var folderPools = map[string]bool{"dir": true, "fs": true, "netfs": true, "vstorage": true}

// rawPools are those whose volumes are bytes and have no format.
var rawPools = map[string]bool{"logical": true, "rbd": true, "zfs": true, "disk": true, "sheepdog": true, "iscsi-direct": true}

// Pools are the host's active pools that can make volumes: the one called
// default first, and then those with most room.
func (h *Host) Pools(ctx context.Context) ([]hypervisor.Pool, error) {
	return ask(ctx, h, func(c *connection) ([]hypervisor.Pool, error) {
		pools, _, err := c.ConnectListAllStoragePools(1, golibvirt.ConnectListStoragePoolsActive)
		if err != nil {
			return nil, err
		}
		var out []hypervisor.Pool
		for _, p := range pools {
			x, err := poolXML(c, p)
			if is(err, golibvirt.ErrNoStoragePool) {
				continue // removed a moment ago
			}
			if err != nil {
				return nil, err
			}
			one := hypervisor.Pool{Name: p.Name, Formats: []string{"qcow2", "raw"}}
			switch {
			case folderPools[x.Type]:
				one.Local = h.target.local() && h.target.driver != "test" && x.Target != nil && writableFolder(x.Target.Path)
			case rawPools[x.Type]:
				one.Formats = []string{"raw"}
			default:
				continue // iSCSI, SCSI, multipath: volumes come from elsewhere
			}
			if x.Available != nil {
				one.AvailableBytes = bounded(x.Available.Value)
			}
			if x.Capacity != nil {
				one.CapacityBytes = bounded(x.Capacity.Value)
			}
			out = append(out, one)
		}
		slices.SortStableFunc(out, func(a, b hypervisor.Pool) int {
			first := func(p hypervisor.Pool) int {
				if p.Name == "default" {
					return 0
				}
				return 1
			}
			return cmp.Or(cmp.Compare(first(a), first(b)), cmp.Compare(b.AvailableBytes, a.AvailableBytes), cmp.Compare(a.Name, b.Name))
		})
		return out, nil
	})
}

// NoPool says what to do on a host without a pool. Nothing makes one unasked:
// where disks are to lie is the owner's to say.
func (h *Host) NoPool() string {
	c := "virsh -c " + h.URI() + " "
	return "the host has no active storage pool; make one, for example: " + c + "pool-define-as default dir --target /var/lib/libvirt/images && " +
		c + "pool-build default && " + c + "pool-start default && " + c + "pool-autostart default"
}

func bounded(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

func poolXML(c *connection, p golibvirt.StoragePool) (*libvirtxml.StoragePool, error) {
	text, err := c.StoragePoolGetXMLDesc(p, 0)
	if err != nil {
		return nil, err
	}
	var x libvirtxml.StoragePool
	if err := x.Unmarshal(text); err != nil {
		return nil, fmt.Errorf("pool %s: %w", p.Name, err)
	}
	return &x, nil
}

// writableFolder says whether this program can make files in a folder.
func writableFolder(dir string) bool {
	f, err := os.CreateTemp(dir, ".ovation-probe-*")
	if err != nil {
		return false
	}
	_ = f.Close()
	return os.Remove(f.Name()) == nil
}

// volume looks one up. What is not in libvirt's list may have been put into the
// pool's folder by others: the list is made anew once.
func lookUp(c *connection, ref hypervisor.VolumeRef) (golibvirt.StorageVol, error) {
	p, err := c.StoragePoolLookupByName(ref.Pool)
	if err != nil {
		return golibvirt.StorageVol{}, fmt.Errorf("pool %s: %w", ref.Pool, err)
	}
	v, err := c.StorageVolLookupByName(p, ref.Name)
	if is(err, golibvirt.ErrNoStorageVol) && c.StoragePoolRefresh(p, 0) == nil {
		v, err = c.StorageVolLookupByName(p, ref.Name)
	}
	if err != nil {
		return v, fmt.Errorf("volume %s in pool %s: %w", ref.Name, ref.Pool, err)
	}
	return v, nil
}

// CreateVolume makes one. In a folder, a volume of another format than raw is
// made as an empty file: its bytes come as they are.
func (h *Host) CreateVolume(ctx context.Context, spec hypervisor.VolumeSpec) (hypervisor.Volume, error) {
	if err := checkName(spec.Name); err != nil {
		return nil, fmt.Errorf("volume in pool %s: %w", spec.Pool, err)
	}
	if spec.CapacityBytes < 0 {
		return nil, fmt.Errorf("volume %s: a capacity of %d bytes", spec.Name, spec.CapacityBytes)
	}
	return ask(ctx, h, func(c *connection) (hypervisor.Volume, error) {
		p, err := c.StoragePoolLookupByName(spec.Pool)
		if err != nil {
			return nil, fmt.Errorf("pool %s: %w", spec.Pool, err)
		}
		x, err := poolXML(c, p)
		if err != nil {
			return nil, err
		}
		v := &volume{h: h, spec: spec, folder: folderPools[x.Type]}
		switch {
		case spec.Format == "raw" || spec.Format == "iso":
		case spec.Format != "qcow2":
			return nil, fmt.Errorf("pool %s takes raw and qcow2 volumes, not %q", spec.Pool, spec.Format)
		case !v.folder:
			return nil, fmt.Errorf("pool %s, of the type %s, takes raw volumes only", spec.Pool, x.Type)
		}
		want := libvirtxml.StorageVolume{Name: spec.Name, Capacity: &libvirtxml.StorageVolumeSize{Unit: "bytes", Value: uint64(spec.CapacityBytes)}}
		if v.folder {
			// The file that will come is as long as it is.
			if spec.Format == "qcow2" {
				want.Capacity.Value = 0
			}
			want.Allocation = &libvirtxml.StorageVolumeSize{Unit: "bytes", Value: 0}
			want.Target = &libvirtxml.StorageVolumeTarget{Format: &libvirtxml.StorageVolumeTargetFormat{Type: "raw"}}
		}
		text, err := want.Marshal()
		if err != nil {
			return nil, err
		}
		if v.vol, err = c.StorageVolCreateXML(p, text, 0); err != nil {
			// A file that libvirt does not know of is in the way as well.
			if _, there := lookUp(c, spec.VolumeRef); there == nil {
				err = fmt.Errorf("%w: %w", hypervisor.ErrExists, err)
			}
			return nil, fmt.Errorf("volume %s in pool %s: %w", spec.Name, spec.Pool, err)
		}
		if v.folder && h.target.local() {
			v.openLocally(c)
		}
		return v, nil
	})
}

// volume is a new one.
type volume struct {
	h      *Host
	spec   hypervisor.VolumeSpec
	vol    golibvirt.StorageVol
	folder bool
	path   string
	owner  fs.FileInfo // as libvirt made it
}

// openLocally finds out whether the file can be written here.
func (v *volume) openLocally(c *connection) {
	path, err := c.StorageVolGetPath(v.vol)
	if err != nil {
		return
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0) // #nosec G304: the host's own volume
	if err != nil {
		return
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		v.path, v.owner = path, info
	}
}

func (v *volume) Ref() hypervisor.VolumeRef { return v.spec.VolumeRef }
func (v *volume) Path() string              { return v.path }

// Filled gives the file to whom libvirt made it for, and makes libvirt look at
// it again.
func (v *volume) Filled(ctx context.Context) error {
	if v.path != "" {
		if err := sameOwner(v.path, v.owner); err != nil {
			return fmt.Errorf("volume %s: %w", v.spec.Name, err)
		}
	}
	return v.h.refresh(ctx, v.spec.Pool)
}

// refresh makes libvirt read a pool again. It may be at it already, or another
// volume be on its way: then it does so when that is done.
func (h *Host) refresh(ctx context.Context, pool string) error {
	err := h.call(ctx, func(c *connection) error {
		p, err := c.StoragePoolLookupByName(pool)
		if err != nil {
			return err
		}
		return c.StoragePoolRefresh(p, 0)
	})
	if err != nil && !errors.Is(err, hypervisor.ErrNotFound) && ctx.Err() == nil {
		h.log.DebugContext(ctx, "the pool was not read again", "pool", pool, "error", err)
		return nil
	}
	return err
}

// Upload sends the volume's bytes.
func (v *volume) Upload(ctx context.Context) (hypervisor.VolumeWriter, error) {
	c, err := v.h.connect(ctx)
	if err != nil {
		return nil, err
	}
	const sparse = 1 // VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM
	w := &volumeWriter{ctx: ctx, v: v, sparse: v.folder}
	var flags uint32
	if w.sparse {
		flags = sparse
	}
	w.st, err = c.packets.open(ctx, procStorageVolumeUpload, transferArgs(v.vol, 0, 0, flags), 0)
	if w.sparse && is(err, golibvirt.ErrNoSupport, golibvirt.ErrInvalidArg, golibvirt.ErrOperationInvalid) {
		w.sparse = false
		w.st, err = c.packets.open(ctx, procStorageVolumeUpload, transferArgs(v.vol, 0, 0, 0), 0)
	}
	if err != nil {
		return nil, fmt.Errorf("upload of volume %s: %w", v.spec.Name, known(err))
	}
	return w, nil
}

// abortLimit is how long giving up may take.
const abortLimit = 5 * time.Second

type volumeWriter struct {
	ctx    context.Context
	v      *volume
	st     *stream
	sparse bool
	sent   int64
	done   bool
	mu     sync.Mutex // for Abort, which may come from anywhere
}

func (w *volumeWriter) fail(err error) error {
	return fmt.Errorf("upload of volume %s, at byte %d: %w", w.v.spec.Name, w.sent, known(err))
}

// room keeps what is not a disk's from being written behind it.
func (w *volumeWriter) room(n int64) error {
	switch {
	case w.done:
		return fs.ErrClosed
	case w.ctx.Err() != nil:
		return w.ctx.Err()
	case n < 0 || w.sent > math.MaxInt64-n:
		return fmt.Errorf("%d bytes", n)
	case w.v.spec.Format == "raw" && w.sent+n > w.v.spec.CapacityBytes:
		return fmt.Errorf("%d bytes more are beyond its %d", n, w.v.spec.CapacityBytes)
	}
	return nil
}

func (w *volumeWriter) Write(b []byte) (int, error) {
	if err := w.room(int64(len(b))); err != nil {
		return 0, w.fail(err)
	}
	n, err := w.st.write(b)
	w.sent += int64(n)
	if err != nil {
		return n, w.fail(err)
	}
	return n, nil
}

func (w *volumeWriter) Skip(n int64) error {
	if err := w.room(n); err != nil {
		return w.fail(err)
	}
	if w.sparse {
		if n == 0 {
			return nil
		}
		if err := w.st.hole(n); err != nil {
			return w.fail(err)
		}
		w.sent += n
		return nil
	}
	_, err := holes.Write(w, n)
	return err
}

func (w *volumeWriter) Close() error {
	if w.done {
		return nil
	}
	if w.v.spec.Format == "raw" && w.v.folder && w.sent < w.v.spec.CapacityBytes {
		if err := w.Skip(w.v.spec.CapacityBytes - w.sent); err != nil {
			w.Abort()
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return fs.ErrClosed
	}
	if err := w.st.finish(w.ctx); err != nil {
		w.give()
		return w.fail(err)
	}
	w.done = true
	return w.v.h.refresh(w.ctx, w.v.spec.Pool)
}

func (w *volumeWriter) Abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.done {
		w.give()
	}
}

func (w *volumeWriter) give() {
	w.done = true
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), abortLimit)
	defer cancel()
	w.st.abort(ctx)
}

// RemoveVolume removes one. It waits for a while where libvirt is still busy
// with it: whoever filled it may have been killed a moment ago.
func (h *Host) RemoveVolume(ctx context.Context, ref hypervisor.VolumeRef) error {
	remove := func() error {
		return h.call(ctx, func(c *connection) error {
			v, err := lookUp(c, ref)
			if is(err, golibvirt.ErrNoStorageVol) {
				return nil
			}
			if err != nil {
				return err
			}
			err = c.StorageVolDelete(v, 0)
			if is(err, golibvirt.ErrNoStorageVol) {
				return nil
			}
			return err
		})
	}
	var err error
	for wait := 50 * time.Millisecond; wait < 5*time.Second; wait *= 2 {
		if err = remove(); err == nil {
			return nil
		}
		if !is(err, golibvirt.ErrOperationInvalid) {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
	return fmt.Errorf("remove volume %s from pool %s: %w", ref.Name, ref.Pool, err)
}

// volumeXML is what libvirt reads of a volume, less what it may read wrong.
type volumeXML struct {
	Type     string `xml:"type,attr"`
	Capacity uint64 `xml:"capacity"`
	Physical uint64 `xml:"physical"`
	Target   struct {
		Path   string `xml:"path"`
		Format struct {
			Type string `xml:"type,attr"`
		} `xml:"format"`
	} `xml:"target"`
}

// OpenVolume reads a volume's file: itself where this program can, else by
// downloads, in which holes take no time.
func (h *Host) OpenVolume(ctx context.Context, ref hypervisor.VolumeRef) (hypervisor.VolumeReader, error) {
	return ask(ctx, h, func(c *connection) (hypervisor.VolumeReader, error) {
		v, err := lookUp(c, ref)
		if err != nil {
			return nil, err
		}
		// This reads the file's size anew; the text has what is known then.
		if _, _, _, err := c.StorageVolGetInfo(v); err != nil {
			return nil, fmt.Errorf("volume %s: %w", ref.Name, err)
		}
		text, err := c.StorageVolGetXMLDesc(v, 0)
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", ref.Name, err)
		}
		var x volumeXML
		if err := xml.Unmarshal([]byte(text), &x); err != nil {
			return nil, fmt.Errorf("volume %s: %w", ref.Name, err)
		}
		format := cmp.Or(x.Target.Format.Type, "raw")
		if format == "iso" || format == "unknown" || format == "none" || x.Type == "block" {
			format = "raw"
		}
		if h.target.local() && x.Type == "file" {
			if r, err := openFile(x.Target.Path, format); err == nil {
				return r, nil
			}
		}
		size := x.Physical
		if size == 0 {
			size = x.Capacity
		}
		return &volumeReader{ctx: context.WithoutCancel(ctx), h: h, vol: v, size: bounded(size), format: format, sparse: x.Type == "file"}, nil
	})
}

// fileReader is a volume's file on this machine.
type fileReader struct {
	*os.File
	size   int64
	format string
}

func openFile(path, format string) (*fileReader, error) {
	f, err := os.Open(path) // #nosec G304: the host's own volume
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(fmt.Errorf("%s is no regular file", path), err)
	}
	return &fileReader{f, info.Size(), format}, nil
}

func (r *fileReader) Size() int64    { return r.size }
func (r *fileReader) Format() string { return r.format }

// Local lets readers ask the file itself where its holes are.
func (r *fileReader) Local() (*os.File, int64) { return r.File, 0 }

// chunk is how much a download fetches: reads come in order more often than
// not, and each download costs a round trip.
const chunk = 4 << 20

// volumeReader reads by downloads.
type volumeReader struct {
	ctx    context.Context
	h      *Host
	vol    golibvirt.StorageVol
	size   int64
	format string
	sparse bool

	mu    sync.Mutex
	at    int64
	cache []byte
}

func (r *volumeReader) Size() int64    { return r.size }
func (r *volumeReader) Format() string { return r.format }
func (r *volumeReader) Close() error   { return nil }

func (r *volumeReader) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("volume %s: byte %d", r.vol.Name, off)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for n < len(b) {
		if off >= r.size {
			return n, io.EOF
		}
		if off < r.at || off >= r.at+int64(len(r.cache)) {
			at := off - off%chunk
			data, err := r.fetch(at, min(chunk, r.size-at))
			if err != nil {
				return n, fmt.Errorf("volume %s, from byte %d: %w", r.vol.Name, at, known(err))
			}
			r.at, r.cache = at, data
		}
		m := copy(b[n:], r.cache[off-r.at:])
		n, off = n+m, off+int64(m)
	}
	return n, nil
}

// fetch downloads a part. What the file lacks of it is zeroes.
func (r *volumeReader) fetch(at, length int64) ([]byte, error) {
	c, err := r.h.connect(r.ctx)
	if err != nil {
		return nil, err
	}
	var flags uint32
	if r.sparse {
		flags = 1 // VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM
	}
	st, err := c.packets.open(r.ctx, procStorageVolumeDownload, transferArgs(r.vol, uint64(at), uint64(length), flags), 2*chunk)
	if err != nil {
		return nil, err
	}
	data := make([]byte, length)
	got := int64(0)
	for {
		p, err := st.next(r.ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		n := p.hole + int64(len(p.data))
		if n < 0 || n > length-got {
			st.abandon()
			return nil, fmt.Errorf("the host sent more than the %d bytes that were asked for", length)
		}
		copy(data[got:], p.data)
		got += n
	}
	return data, st.finish(r.ctx)
}

// places finds the volumes that a machine names, and what is missing.
func (h *Host) places(ctx context.Context, m hypervisor.Machine) (map[hypervisor.VolumeRef]place, error) {
	return ask(ctx, h, func(c *connection) (map[hypervisor.VolumeRef]place, error) {
		out := map[hypervisor.VolumeRef]place{}
		var errs []error
		for _, d := range m.Drives {
			if d.Medium == nil || d.Medium.Volume == nil {
				continue
			}
			v, err := lookUp(c, *d.Medium.Volume)
			if err != nil {
				errs = append(errs, fmt.Errorf("drive %s: %w", d.ID, known(err)))
				continue
			}
			kind, _, _, err := c.StorageVolGetInfo(v)
			var p place
			if err == nil {
				p.path, err = c.StorageVolGetPath(v)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("drive %s: %w", d.ID, known(err)))
				continue
			}
			switch kind {
			case int8(golibvirt.StorageVolFile):
				p.kind = "file"
			case int8(golibvirt.StorageVolBlock):
				p.kind = "block"
			default:
				p.kind = "volume"
			}
			if !strings.HasPrefix(p.path, "/") {
				p.kind = "volume"
			}
			out[*d.Medium.Volume] = p
		}
		return out, errors.Join(errs...)
	})
}

// volumeAt finds the volume whose file is at a path of the host's.
func volumeAt(c *connection) func(string) (hypervisor.VolumeRef, bool) {
	return func(path string) (hypervisor.VolumeRef, bool) {
		v, err := c.StorageVolLookupByPath(path)
		if err != nil {
			return hypervisor.VolumeRef{}, false
		}
		return hypervisor.VolumeRef{Pool: v.Pool, Name: v.Name}, true
	}
}
