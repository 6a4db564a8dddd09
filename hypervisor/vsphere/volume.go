package vsphere

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/holes"
	"github.com/ovation-project/ovation/internal/redact"
)

var _ hypervisor.Host = (*Host)(nil)

// notByVolumes is why machines and disks are not made one by one.
const notByVolumes = "vSphere makes machines with their disks, of packages: it is given the package as a whole"

// Define refuses: PrepareImport makes machines.
func (h *Host) Define(context.Context, hypervisor.Machine, hypervisor.Record) (hypervisor.Guest, error) {
	return nil, h.unfit("machine", notByVolumes)
}

// CreateVolume makes a file of a datastore for a medium that is no disk (format
// "iso"), in the folder that this program has there. Disks are refused:
// PrepareImport makes them.
func (h *Host) CreateVolume(ctx context.Context, v hypervisor.VolumeSpec) (hypervisor.Volume, error) {
	if v.Format != "iso" {
		return nil, h.unfit("volume "+v.Name, notByVolumes)
	}
	if v.Name == "" || v.Name == "." || v.Name == ".." || strings.ContainsAny(v.Name, "/\\\x00") {
		return nil, fmt.Errorf("%q is not the name of a volume", v.Name)
	}
	at, err := h.file(ctx, v.VolumeRef)
	if err != nil {
		return nil, err
	}
	switch _, err := at.store.Stat(ctx, at.path); err.(type) {
	case nil:
		return nil, fmt.Errorf("volume %s/%s: %w", v.Pool, v.Name, hypervisor.ErrExists)
	case object.DatastoreNoSuchFileError, object.DatastoreNoSuchDirectoryError:
	default:
		return nil, known(err)
	}
	err = object.NewFileManager(h.client).MakeDirectory(ctx, at.store.Path(volumeFolder), at.datacenter, true)
	if err = known(err); err != nil && !errors.Is(err, hypervisor.ErrExists) {
		return nil, err
	}
	// The file is there from now on, so that it can't be made twice.
	vol := &volume{h: h, spec: v, at: at}
	return vol, vol.put(ctx, strings.NewReader(""), 0)
}

// volumeFolder holds in each datastore the volumes that CreateVolume makes. The
// other files of a datastore are volumes by their paths.
const volumeFolder = "ovation"

// file is one of a datastore.
type file struct {
	datacenter *object.Datacenter
	store      *object.Datastore
	path       string
}

func (h *Host) file(ctx context.Context, v hypervisor.VolumeRef) (*file, error) {
	p, err := h.place(ctx)
	if err != nil {
		return nil, err
	}
	if p.datacenter == nil {
		return nil, h.unfit("datacenter", "name one in the URI")
	}
	var dc mo.Datacenter
	if err := h.get(ctx, *p.datacenter, &dc, "datastore", "name"); err != nil {
		return nil, err
	}
	f := &file{datacenter: object.NewDatacenter(h.client, *p.datacenter), path: v.Name}
	// Where a datastore's files are addressed, the datacenter is named, too.
	f.datacenter.InventoryPath = "/" + p.datacenterName
	for _, r := range dc.Datastore {
		var s mo.Datastore
		if err := h.get(ctx, r, &s, "name"); err != nil {
			return nil, err
		}
		if unescape(s.Name) == v.Pool {
			f.store = object.NewDatastore(h.client, r)
			f.store.InventoryPath, f.store.DatacenterPath = path.Join("/", p.datacenterName, "datastore", s.Name), f.datacenter.InventoryPath
		}
	}
	if f.store == nil {
		return nil, fmt.Errorf("datastore %s: %w", v.Pool, hypervisor.ErrNotFound)
	}
	if !strings.Contains(v.Name, "/") {
		f.path = path.Join(volumeFolder, v.Name)
	}
	return f, nil
}

// RemoveVolume removes a file.
func (h *Host) RemoveVolume(ctx context.Context, v hypervisor.VolumeRef) error {
	f, err := h.file(ctx, v)
	if err != nil {
		return err
	}
	m := f.store.NewFileManager(f.datacenter, true)
	if err := known(m.Delete(ctx, f.path)); err != nil && !errors.Is(err, hypervisor.ErrNotFound) {
		return fmt.Errorf("volume %s/%s: %w", v.Pool, v.Name, err)
	}
	return nil
}

// volume is a new file.
type volume struct {
	h    *Host
	spec hypervisor.VolumeSpec
	at   *file
}

// Ref is the volume's name.
func (v *volume) Ref() hypervisor.VolumeRef { return v.spec.VolumeRef }

// Path is none: the host is elsewhere.
func (v *volume) Path() string { return "" }

// Filled has nothing to do.
func (v *volume) Filled(context.Context) error { return nil }

func (v *volume) put(ctx context.Context, r io.Reader, size int64) error {
	opt := soap.DefaultUpload
	opt.ContentLength = size
	if err := v.at.store.Upload(ctx, r, v.at.path, &opt); err != nil {
		return fmt.Errorf("volume %s/%s: %w", v.spec.Pool, v.spec.Name, known(err))
	}
	return nil
}

// Upload sends the file. Its size is what the volume was made for.
func (v *volume) Upload(ctx context.Context) (hypervisor.VolumeWriter, error) {
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	u := &upload{w: w, cancel: cancel, left: v.spec.CapacityBytes}
	u.sent.Go(func() {
		u.err = v.put(ctx, r, v.spec.CapacityBytes)
		_ = r.CloseWithError(closed(u.err))
	})
	return u, nil
}

// closed is the error for whoever writes after the upload has ended.
func closed(err error) error {
	if err == nil {
		return io.ErrClosedPipe
	}
	return err
}

type upload struct {
	w      *io.PipeWriter
	cancel context.CancelFunc
	left   int64
	sent   sync.WaitGroup
	err    error // of sending, once that has ended
	ended  bool
}

// Write sends the next bytes.
func (u *upload) Write(b []byte) (int, error) {
	if int64(len(b)) > u.left {
		return 0, errors.New("it is more than the volume was made for")
	}
	n, err := u.w.Write(b)
	u.left -= int64(n)
	return n, err
}

// Skip sends zeroes.
func (u *upload) Skip(n int64) error {
	_, err := holes.Write(u, n)
	return err
}

// Close sends zeroes up to the size that was said, and waits for the host.
func (u *upload) Close() error {
	if u.ended {
		return nil
	}
	err := u.Skip(u.left)
	u.ended = true
	_ = u.w.CloseWithError(err)
	u.sent.Wait()
	u.cancel()
	return errors.Join(err, u.err)
}

// Abort gives up.
func (u *upload) Abort() {
	if u.ended {
		return
	}
	u.ended = true
	u.cancel()
	_ = u.w.CloseWithError(context.Canceled)
	u.sent.Wait()
}

// OpenVolume reads a file by ranges.
func (h *Host) OpenVolume(ctx context.Context, v hypervisor.VolumeRef) (hypervisor.VolumeReader, error) {
	f, err := h.file(ctx, v)
	if err != nil {
		return nil, err
	}
	info, err := f.store.Stat(ctx, f.path)
	switch err.(type) {
	case nil:
	case object.DatastoreNoSuchFileError, object.DatastoreNoSuchDirectoryError:
		return nil, fmt.Errorf("volume %s/%s: %w", v.Pool, v.Name, hypervisor.ErrNotFound)
	default:
		return nil, known(err)
	}
	if strings.HasSuffix(f.path, ".vmdk") {
		return nil, h.unfit("volume "+v.Name, "disks are read by an export of their machine")
	}
	u, ticket, err := f.store.ServiceTicket(ctx, f.path, http.MethodGet)
	if err != nil {
		return nil, known(err)
	}
	return &volumeReader{h: h, ctx: ctx, at: u, ticket: ticket, size: info.GetFileInfo().FileSize}, nil
}

type volumeReader struct {
	h      *Host
	ctx    context.Context // of whoever opened it
	at     *url.URL
	ticket *http.Cookie
	size   int64
}

// Size is the file's.
func (r *volumeReader) Size() int64 { return r.size }

// Format is raw: what is no disk is as it is.
func (r *volumeReader) Format() string { return "raw" }

// Close has nothing to do.
func (r *volumeReader) Close() error { return nil }

// ReadAt asks for a range.
func (r *volumeReader) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("a place before the file")
	}
	want := min(int64(len(b)), r.size-off)
	if want <= 0 {
		return 0, io.EOF
	}
	req, err := http.NewRequestWithContext(r.ctx, http.MethodGet, r.at.String(), nil)
	if err != nil {
		return 0, redact.Cause(err)
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+want-1))
	if r.ticket != nil {
		req.AddCookie(r.ticket)
	}
	res, err := r.h.http.Do(req)
	if err != nil {
		return 0, known(err)
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusPartialContent, res.StatusCode == http.StatusOK && off == 0:
	default:
		return 0, fmt.Errorf("the host answers %s", res.Status)
	}
	n, err := io.ReadFull(res.Body, b[:want])
	if err == nil && want < int64(len(b)) {
		err = io.EOF
	}
	return n, err
}
