package libvirt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/ovation-project/ovation/hypervisor"
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
