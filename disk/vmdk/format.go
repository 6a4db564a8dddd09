// Package vmdk reads and writes VMware's virtual disks, as the "Virtual Disk
// Format 5.0" technical note describes them, with what VMware's and
// VirtualBox's products do beside it.
//
// Read are streamOptimized, monolithicSparse, monolithicFlat,
// twoGbMaxExtentSparse, twoGbMaxExtentFlat, vmfs, vmfsSparse (COWD) and
// seSparse, each with a parent below it where there is one. streamOptimized is
// also read as it arrives, without seeking. Written are streamOptimized, to a
// file or to what cannot seek, monolithicSparse, monolithicFlat,
// twoGbMaxExtentSparse, twoGbMaxExtentFlat and vmfs.
package vmdk

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/ovation-project/ovation/disk"
)

var le = binary.LittleEndian

const (
	sector = disk.SectorSize

	sparseMagic   = "KDMV"
	cowdMagic     = "COWD"
	seSparseMagic = 0xcafebabe
	// seSparseVolatileMagic begins the header of what changes.
	seSparseVolatileMagic = 0xcafecafe

	// Flags of the sparse header.
	flagNewlines    = 1 << 0
	flagRedundant   = 1 << 1
	flagZeroGrain   = 1 << 2
	flagCompressed  = 1 << 16
	flagMarkers     = 1 << 17
	compressDeflate = 1

	// gdAtEnd in a header says that the grain directory is given by the
	// footer.
	gdAtEnd = 0xffffffffffffffff

	// Types of markers.
	markerEOS    = 0
	markerGT     = 1
	markerGD     = 2
	markerFooter = 3

	// Bounds of what is believed of a header.
	maxGrain      = 32 << 20 // bytes; VMware's are 64 KiB
	maxGTEs       = 1 << 16
	maxDescriptor = 1 << 20
	maxCapacity   = 1 << 53 // sectors: 2^62 bytes
	maxExtents    = 1 << 14
	defaultGrain  = 64 << 10
	defaultGTEs   = 512
	twoGbExtent   = 2047 << 20
)

// The subformats, by the names of createType.
const (
	streamOptimized      = "streamOptimized"
	monolithicSparse     = "monolithicSparse"
	monolithicFlat       = "monolithicFlat"
	twoGbMaxExtentSparse = "twoGbMaxExtentSparse"
	twoGbMaxExtentFlat   = "twoGbMaxExtentFlat"
	vmfs                 = "vmfs"
)

// Format is the VMDK format.
type Format struct{}

// Name is "vmdk".
func (Format) Name() string { return "vmdk" }

// Subformats are those that can be written.
func (Format) Subformats() []string {
	return []string{streamOptimized, monolithicSparse, monolithicFlat, twoGbMaxExtentSparse, twoGbMaxExtentFlat, vmfs}
}

// Extensions is .vmdk.
func (Format) Extensions() []string { return []string{".vmdk"} }

// URIs are the values of ovf:format in use for VMDK.
func (Format) URIs() []string {
	return []string{
		"http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized",
		"http://www.vmware.com/interfaces/specifications/vmdk.html#sparse",
		"http://www.vmware.com/interfaces/specifications/vmdk.html",
		"http://www.vmware.com/specifications/vmdk.html#streamOptimized",
		"http://www.vmware.com/specifications/vmdk.html#sparse",
		"http://www.vmware.com/specifications/vmdk.html#compressed",
		"http://www.vmware.com/specifications/vmdk.html",
	}
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("vmdk: %s: %w", fmt.Sprintf(format, args...), disk.ErrCorrupt)
}

func unsupported(format string, args ...any) error {
	return fmt.Errorf("vmdk: %s: %w", fmt.Sprintf(format, args...), disk.ErrUnsupported)
}

// header is the sparse header ("KDMV"). Numbers are in bytes.
type header struct {
	version          uint32
	flags            uint32
	capacity         int64
	grain            int64
	descriptorOffset int64
	descriptorSize   int64
	gtes             int64
	gdOffset         int64 // -1 where the footer has it
	rgdOffset        int64 // of the redundant grain directory, 0 for none
	compressed       bool
	// grains is where the first grain's marker is: behind the descriptor,
	// tables and padding.
	grains int64
}

// parseHeader reads a header or a footer. The caller has seen the magic.
func parseHeader(b []byte) (*header, error) {
	h := &header{version: le.Uint32(b[4:]), flags: le.Uint32(b[8:])}
	if h.version < 1 || h.version > 3 {
		return nil, unsupported("version %d of the header", h.version)
	}
	capacity, grain := le.Uint64(b[12:]), le.Uint64(b[20:])
	if capacity > maxCapacity {
		return nil, corrupt("a disk of %d sectors", capacity)
	}
	if grain == 0 || grain > maxGrain/sector || bits.OnesCount64(grain) != 1 {
		return nil, corrupt("grains of %d sectors", grain)
	}
	h.capacity, h.grain = int64(capacity)*sector, int64(grain)*sector
	descriptorOffset, descriptorSize := le.Uint64(b[28:]), le.Uint64(b[36:])
	if descriptorOffset > maxCapacity || descriptorSize > maxDescriptor/sector {
		return nil, corrupt("a descriptor of %d sectors at sector %d", descriptorSize, descriptorOffset)
	}
	h.descriptorOffset, h.descriptorSize = int64(descriptorOffset)*sector, int64(descriptorSize)*sector
	overhead := le.Uint64(b[64:])
	if overhead > maxCapacity {
		return nil, corrupt("the grains begin at sector %d", overhead)
	}
	h.grains = max(sector, h.descriptorOffset+h.descriptorSize, int64(overhead)*sector)
	h.gtes = int64(le.Uint32(b[44:]))
	if h.gtes == 0 || h.gtes > maxGTEs {
		return nil, corrupt("grain tables of %d entries", h.gtes)
	}
	switch gd := le.Uint64(b[56:]); {
	case gd == gdAtEnd:
		h.gdOffset = -1
	case gd > maxCapacity:
		return nil, corrupt("the grain directory is at sector %d", gd)
	default:
		h.gdOffset = int64(gd) * sector
	}
	if rgd := le.Uint64(b[48:]); h.flags&flagRedundant != 0 && rgd <= maxCapacity {
		h.rgdOffset = int64(rgd) * sector
	}
	h.compressed = h.flags&flagCompressed != 0
	if h.compressed && le.Uint16(b[77:]) != compressDeflate {
		return nil, unsupported("grains compressed in way %d", le.Uint16(b[77:]))
	}
	// A transfer in text mode turns these line ends into others.
	if h.flags&flagNewlines != 0 && string(b[73:77]) != "\n \r\n" {
		return nil, corrupt("the file was altered by a transfer in text mode")
	}
	return h, nil
}

// tables is the number of grain tables that the disk needs.
func (h *header) tables() int64 {
	span := h.grain * h.gtes
	return (h.capacity + span - 1) / span
}
