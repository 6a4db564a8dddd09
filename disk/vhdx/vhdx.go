// Package vhdx reads and writes virtual hard disks of version 2 as [MS-VHDX]
// describes them: fixed and dynamic, and differencing ones for reading. A log
// that a crash left behind is replayed in memory; the file is not touched.
package vhdx

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/ovation-project/ovation/disk"
)

var (
	le         = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// Places and sizes, [MS-VHDX] 2.1 and 2.2.
const (
	magic       = "vhdxfile"
	kib         = 1 << 10
	mib         = 1 << 20
	headerSize  = 4 * kib
	regionSize  = 64 * kib
	header1At   = 64 * kib
	header2At   = 128 * kib
	region1At   = 192 * kib
	region2At   = 256 * kib
	maxEntries  = 2047 // of a region or metadata table
	entrySize   = 32
	maxCapacity = 64 << 40
	// bitmapSize is that of a sector bitmap block, which says of
	// sectorsPerChunk sectors whether they are in this file.
	bitmapSize      = mib
	sectorsPerChunk = 1 << 23
)

// States of a block, 2.5.1.
const (
	notPresent       = 0
	undefined        = 1
	zero             = 2
	unmapped         = 3
	unmappedDraft    = 5 // of version 0.95
	fullyPresent     = 6
	partiallyPresent = 7
	bitmapPresent    = 6
)

// guid is as it is stored: the first three fields with their lowest byte first.
type guid [16]byte

// parseGUID reads {XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX}, braces or not.
func parseGUID(s string) (g guid, ok bool) {
	s = strings.TrimSuffix(strings.TrimPrefix(s, "{"), "}")
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return g, false
	}
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != len(g) {
		return g, false
	}
	copy(g[:], b)
	return g.swapped(), true
}

// swapped turns the first three fields round.
func (g guid) swapped() guid {
	g[0], g[1], g[2], g[3] = g[3], g[2], g[1], g[0]
	g[4], g[5] = g[5], g[4]
	g[6], g[7] = g[7], g[6]
	return g
}

func (g guid) String() string {
	b := g.swapped()
	return fmt.Sprintf("{%x-%x-%x-%x-%x}", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func known(s string) guid {
	g, ok := parseGUID(s)
	if !ok {
		panic("not a GUID: " + s)
	}
	return g
}

// Regions (2.2.3.2), metadata items (2.6.2) and the parent locator (2.6.2.6.3).
var (
	batRegion      = known("2DC27766-F623-4200-9D64-115E9BFD4A08")
	metadataRegion = known("8B7CA206-4790-4B9A-B8FE-575F050F886E")

	fileParameters = known("CAA16737-FA36-4D43-B3B6-33F0AA44E76B")
	diskSize       = known("2FA54224-CD1B-4876-B211-5DBED83BF4B8")
	diskID         = known("BECA12AB-B2E6-4523-93EF-C309E000C746")
	logicalSector  = known("8141BF1D-A96F-4709-BA47-F233A8FAAB5F")
	physicalSector = known("CDA348C7-445D-4471-9CC9-E9885251C556")
	parentLocator  = known("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C")

	vhdxLocator = known("B04AEFB7-D19E-4A81-B789-25B8E9445913")
)

// Flags of a metadata table's entry, and of the file parameters.
const (
	isVirtualDisk = 2
	isRequired    = 4

	leaveAllocated = 1
	hasParent      = 2
)

// Format is the VHDX format.
type Format struct{}

// Name is "vhdx".
func (Format) Name() string { return "vhdx" }

// Subformats are dynamic and fixed.
func (Format) Subformats() []string { return []string{"dynamic", "fixed"} }

// Extensions are .vhdx and, for differencing disks of checkpoints, .avhdx.
func (Format) Extensions() []string { return []string{".vhdx", ".avhdx"} }

// URIs are the values of ovf:format in use for VHDX.
func (Format) URIs() []string {
	return []string{
		"https://learn.microsoft.com/en-us/openspecs/windows_protocols/ms-vhdx",
		"http://technet.microsoft.com/en-us/library/hh831446.aspx",
	}
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("vhdx: %s: %w", fmt.Sprintf(format, args...), disk.ErrCorrupt)
}

func unsupported(format string, args ...any) error {
	return fmt.Errorf("vhdx: %s: %w", fmt.Sprintf(format, args...), disk.ErrUnsupported)
}

// checksum is the CRC-32C of a structure whose bytes 4 to 7, where it stands,
// count as zero.
func checksum(b []byte) uint32 {
	c := crc32.Update(0, castagnoli, b[:4])
	c = crc32.Update(c, castagnoli, make([]byte, 4))
	return crc32.Update(c, castagnoli, b[8:])
}

// sums says that a structure's checksum is right.
func sums(b []byte) bool { return le.Uint32(b[4:]) == checksum(b) }

// sign sets a structure's checksum.
func sign(b []byte) { le.PutUint32(b[4:], checksum(b)) }

// layout is how a disk's blocks stand in the table.
type layout struct {
	capacity, block, sector int64
}

// ratio is the number of payload blocks to a sector bitmap block, whose entry
// follows theirs.
func (l layout) ratio() int64 { return sectorsPerChunk * l.sector / l.block }

func (l layout) blocks() int64 { return (l.capacity + l.block - 1) / l.block }

// entry is the index of a block's entry.
func (l layout) entry(block int64) int64 { return block + block/l.ratio() }

// bitmap is the index of the entry of the sector bitmap block for a block.
func (l layout) bitmap(block int64) int64 {
	chunk := block / l.ratio()
	return (chunk+1)*l.ratio() + chunk
}

// entries is the number of entries that a disk takes.
func (l layout) entries(differencing bool) int64 {
	switch n := l.blocks(); {
	case n == 0:
		return 0
	case differencing:
		return l.bitmap(n-1) + 1
	default:
		return l.entry(n-1) + 1
	}
}
