package qcow2

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/ovation-project/ovation/disk"
)

// header is what an image says of itself, with its extensions.
type header struct {
	version               int
	backingOffset         int64
	backingLength         int64
	clusterBits           uint
	size                  int64
	crypt                 uint32
	l1Size                int64
	l1Offset              int64
	refcountOffset        int64
	refcountClusters      int64
	snapshots             uint32
	snapshotsOffset       int64
	incompatible          uint64
	compatible, autoclear uint64
	refcountOrder         uint
	length                int64
	codec                 disk.Codec
	backingName           string
	backingFormat         string
	dataFile              string
	features              map[uint16]string // names, by kind<<8 | bit
}

func readHeader(f disk.File) (*header, error) {
	b := make([]byte, headerSizeCompression)
	n, err := f.ReadAt(b, 0)
	if n < 8 || string(b[:4]) != magic {
		if err != nil && err != io.EOF {
			return nil, err
		}
		return nil, disk.ErrFormat
	}
	h := &header{version: int(be.Uint32(b[4:])), codec: disk.Deflate, refcountOrder: 4, length: headerSizeV2}
	switch {
	case h.version == 1:
		return nil, unsupported("version 1 (qcow); convert it with qemu-img")
	case h.version != 2 && h.version != 3:
		return nil, unsupported("version %d", h.version)
	case n < headerSizeV2 || h.version == 3 && n < headerSizeV3:
		return nil, corrupt("the header breaks off after %d bytes", n)
	}
	h.backingOffset, h.backingLength = int64(be.Uint64(b[8:])), int64(be.Uint32(b[16:]))
	h.clusterBits = uint(be.Uint32(b[20:]))
	h.size = int64(be.Uint64(b[24:]))
	h.crypt = be.Uint32(b[32:])
	h.l1Size, h.l1Offset = int64(be.Uint32(b[36:])), int64(be.Uint64(b[40:]))
	h.refcountOffset, h.refcountClusters = int64(be.Uint64(b[48:])), int64(be.Uint32(b[56:]))
	h.snapshots, h.snapshotsOffset = be.Uint32(b[60:]), int64(be.Uint64(b[64:]))
	if h.version == 3 {
		h.incompatible, h.compatible, h.autoclear = be.Uint64(b[72:]), be.Uint64(b[80:]), be.Uint64(b[88:])
		h.refcountOrder, h.length = uint(be.Uint32(b[96:])), int64(be.Uint32(b[100:]))
	}
	if h.clusterBits < minClusterBits || h.clusterBits > maxClusterBits {
		return nil, corrupt("clusters of 2^%d bytes", h.clusterBits)
	}
	if h.length < headerSizeV2 || h.version == 3 && h.length < headerSizeV3 || h.length > 1<<h.clusterBits {
		return nil, corrupt("a header of %d bytes", h.length)
	}
	if h.size < 0 || h.size > math.MaxInt64-1<<maxClusterBits {
		return nil, corrupt("a disk of %d bytes", uint64(h.size))
	}
	if h.refcountOrder > 6 {
		return nil, corrupt("reference counts of 2^%d bits", h.refcountOrder)
	}
	if err := h.readExtensions(f); err != nil {
		return nil, err
	}
	return h, h.checkFeatures(b, n)
}

// readExtensions reads the header extensions and the backing image's name.
func (h *header) readExtensions(f disk.File) error {
	end := int64(1) << h.clusterBits
	if h.backingOffset != 0 {
		if h.backingOffset < h.length || h.backingLength > 1023 || h.backingOffset > end-h.backingLength {
			return corrupt("the backing file's name is at %d, %d bytes long", uint64(h.backingOffset), h.backingLength)
		}
		name := make([]byte, h.backingLength)
		if _, err := f.ReadAt(name, h.backingOffset); err != nil {
			return corrupt("the backing file's name cannot be read: %v", err)
		}
		h.backingName = string(name)
		end = h.backingOffset
	}
	h.features = map[uint16]string{}
	for at := h.length; at+8 <= end; {
		var head [8]byte
		if n, err := f.ReadAt(head[:], at); n < len(head) {
			if err == io.EOF { // nothing behind the header: no extensions
				return nil
			}
			return err
		}
		kind, n := be.Uint32(head[:]), int64(be.Uint32(head[4:]))
		if kind == extEnd {
			return nil
		}
		at += 8
		if n > end-at {
			return corrupt("header extension %#x of %d bytes", kind, n)
		}
		switch kind {
		case extBackingName, extDataFile, extFeatureNames:
			b := make([]byte, n)
			if _, err := f.ReadAt(b, at); err != nil {
				return corrupt("header extension %#x cannot be read: %v", kind, err)
			}
			switch kind {
			case extBackingName:
				h.backingFormat = string(b)
			case extDataFile:
				h.dataFile = string(b)
			default:
				for ; len(b) >= 48; b = b[48:] {
					name, _, _ := bytes.Cut(b[2:48], []byte{0})
					h.features[uint16(b[0])<<8|uint16(b[1])] = string(name)
				}
			}
		}
		at += (n + 7) &^ 7
	}
	return nil
}

func (h *header) checkFeatures(b []byte, n int) error {
	if h.incompatible&featureCompression != 0 {
		if h.length < headerSizeCompression || n < headerSizeCompression {
			return corrupt("the header is too short to say how clusters are compressed")
		}
		switch b[104] {
		case 0:
		case 1:
			h.codec = disk.Zstd
		default:
			return unsupported("clusters compressed in way %d", b[104])
		}
	}
	if h.crypt != 0 {
		return unsupported("the image is encrypted; decrypt it with qemu-img convert first")
	}
	known := uint64(featureDirty | featureCorrupt | featureExternalData | featureCompression | featureExtendedL2)
	if other := h.incompatible &^ known; other != 0 {
		var names []string
		for bit := range uint16(64) {
			if other>>bit&1 != 0 {
				name := h.features[bit]
				if name == "" {
					name = fmt.Sprintf("bit %d", bit)
				}
				names = append(names, fmt.Sprintf("%q", name))
			}
		}
		return unsupported("the image needs features that are not known here: %s", strings.Join(names, ", "))
	}
	if h.incompatible&featureExtendedL2 != 0 && h.clusterBits < 14 {
		return corrupt("extended L2 entries with clusters of %d bytes", 1<<h.clusterBits)
	}
	return nil
}
