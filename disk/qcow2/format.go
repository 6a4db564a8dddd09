// Package qcow2 reads and writes QEMU's copy-on-write images, versions 2 and 3,
// as the qcow2 specification in QEMU's documentation (docs/interop/qcow2.txt)
// describes them.
//
// All of both versions is read but encryption: any size of clusters, clusters
// compressed by zlib and zstd, subclusters (extended L2 entries), any width of
// reference counts, backing images and external data files. Internal snapshots
// and dirty bitmaps are passed over. Images are written as version 3, with
// plain clusters or compressed ones.
package qcow2

import (
	"encoding/binary"

	"github.com/ovation-project/ovation/disk"
)

const (
	magic        = "QFI\xfb"
	headerSizeV2 = 72
	headerSizeV3 = 104
	// headerSizeCompression is that of a header that says how clusters are
	// compressed.
	headerSizeCompression = 112

	minClusterBits     = 9
	maxClusterBits     = 21
	defaultClusterBits = 16

	// Flags of L1 and L2 entries.
	flagCopied     = 1 << 63
	flagCompressed = 1 << 62
	flagZero       = 1 << 0
	offsetMask     = 0x00fffffffffffe00

	// Bits of incompatible_features.
	featureDirty        = 1 << 0
	featureCorrupt      = 1 << 1
	featureExternalData = 1 << 2
	featureCompression  = 1 << 3
	featureExtendedL2   = 1 << 4

	// Header extensions.
	extEnd          = 0
	extBackingName  = 0xe2792aca
	extFeatureNames = 0x6803f857
	extDataFile     = 0x44415441
)

var be = binary.BigEndian

// Format is the qcow2 format.
type Format struct{}

// Name is "qcow2".
func (Format) Name() string { return "qcow2" }

// Subformats is none but the format itself.
func (Format) Subformats() []string { return []string{"qcow2"} }

// Extensions is .qcow2.
func (Format) Extensions() []string { return []string{".qcow2"} }

// URIs are the values of ovf:format in use for qcow2.
func (Format) URIs() []string {
	return []string{
		"http://www.gnome.org/~markmc/qcow-image-format.html",
		"http://git.qemu.org/?p=qemu.git;a=blob;f=docs/specs/qcow2.txt;hb=HEAD",
		"https://www.gnome.org/~markmc/qcow-image-format.html",
	}
}

// compressedEntry makes the L2 entry of a compressed cluster that takes n bytes
// from offset.
func compressedEntry(clusterBits uint, offset, n int64) uint64 {
	x := 62 - (clusterBits - 8)
	sectors := (offset+n-1)/disk.SectorSize - offset/disk.SectorSize
	return flagCompressed | uint64(sectors)<<x | uint64(offset)
}

// splitCompressed gives where the bytes of a compressed cluster lie, and how
// many there may be.
func splitCompressed(clusterBits uint, entry uint64) (offset, n int64) {
	x := 62 - (clusterBits - 8)
	offset = int64(entry & (1<<x - 1))
	sectors := int64(entry>>x)&(1<<(clusterBits-8)-1) + 1
	return offset, sectors*disk.SectorSize - offset%disk.SectorSize
}
