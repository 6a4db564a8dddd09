package bootprobe

import (
	"bytes"

	"github.com/ovation-project/ovation/disk"
)

// most is how much of a disk says how it boots, in bytes.
const most = 2 << 20

// Beginning keeps the beginning of a disk that passes by, in whatever order it
// comes.
type Beginning struct {
	b []byte
	// size is the disk's.
	size int64
}

// NewBeginning is for a disk of a size in bytes.
func NewBeginning(size int64) *Beginning {
	return &Beginning{make([]byte, max(0, min(most, size))), size}
}

// Wants says whether something of what lies from an offset on is kept.
func (b *Beginning) Wants(off int64) bool { return off < int64(len(b.b)) }

// Take keeps what is of the beginning.
func (b *Beginning) Take(data []byte, off int64) {
	if b.Wants(off) {
		copy(b.b[off:], data)
	}
}

// Probe looks at it. What never came reads as zeroes.
func (b *Beginning) Probe() (Result, error) {
	if b.size < disk.SectorSize {
		return Probe(bytes.NewReader(nil), b.size)
	}
	return Probe(bytes.NewReader(b.b), int64(len(b.b)))
}
