package libvirt

import (
	"context"
	"encoding/xml"
	"fmt"
	"path"
	"slices"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/ovation-project/ovation/hypervisor"
)

var _ hypervisor.DeltaFinder = (*Host)(nil)

// DeltasOf looks at all volumes of active pools, which are read anew: a file may
// have come into a pool's folder unseen. What is in no pool libvirt does not
// know.
func (h *Host) DeltasOf(ctx context.Context, ref hypervisor.VolumeRef) ([]string, error) {
	return ask(ctx, h, func(c *connection) ([]string, error) {
		v, err := lookUp(c, ref)
		if err != nil {
			return nil, err
		}
		of, err := c.StorageVolGetPath(v)
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", ref.Name, err)
		}
		pools, _, err := c.ConnectListAllStoragePools(1, golibvirt.ConnectListStoragePoolsActive)
		if err != nil {
			return nil, err
		}
		var deltas []string
		for _, p := range pools {
			if err := c.StoragePoolRefresh(p, 0); err != nil {
				h.log.Debug("the pool was not read again", "pool", p.Name, "error", err)
			}
			volumes, _, err := c.StoragePoolListAllVolumes(p, 1, 0)
			if is(err, golibvirt.ErrNoStoragePool, golibvirt.ErrOperationInvalid) {
				continue // stopped a moment ago
			}
			if err != nil {
				return nil, fmt.Errorf("pool %s: %w", p.Name, err)
			}
			for _, other := range volumes {
				below, err := backing(c, other)
				if is(err, golibvirt.ErrNoStorageVol) {
					continue // removed a moment ago
				}
				if err != nil {
					return nil, fmt.Errorf("volume %s in pool %s: %w", other.Name, p.Name, err)
				}
				if below != "" && path.Clean(below) == path.Clean(of) {
					deltas = append(deltas, p.Name+"/"+other.Name)
				}
			}
		}
		slices.Sort(deltas)
		return deltas, nil
	})
}

// backing is the path of the image that a volume is a delta of, "" for none.
func backing(c *connection, v golibvirt.StorageVol) (string, error) {
	text, err := c.StorageVolGetXMLDesc(v, 0)
	if err != nil {
		return "", err
	}
	var x struct {
		Backing struct {
			Path string `xml:"path"`
		} `xml:"backingStore"`
	}
	err = xml.Unmarshal([]byte(text), &x)
	return x.Backing.Path, err
}
