package libvirt

import (
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/ovation-project/ovation/hypervisor"
)

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
