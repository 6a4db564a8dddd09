package qcow2

import (
	"io"

	"github.com/ovation-project/ovation/disk"
)

// Bounds of a table of internal snapshots (QEMU's are the same, or less).
const (
	maxSnapshots     = 65536
	maxSnapshotTable = 64 << 20
	snapshotHead     = 40
)

var _ disk.StateHolder = (*Image)(nil)

// SavedStates is how many of the internal snapshots hold the run-time state of a
// guest, which was running when they were taken (QEMU's docs/interop/qcow2.txt,
// "Snapshots": vm_state_size).
func (m *Image) SavedStates() (n int, err error) {
	if m.h.snapshots == 0 {
		return 0, nil
	}
	if m.h.snapshots > maxSnapshots {
		return 0, corrupt("%d internal snapshots", m.h.snapshots)
	}
	at := m.h.snapshotsOffset
	if at < 0 || at > m.f.Size() {
		return 0, corrupt("the table of snapshots at %d lies outside of the file", uint64(at))
	}
	end := min(m.f.Size(), at+maxSnapshotTable)
	for range m.h.snapshots {
		var head [snapshotHead + 8]byte
		if got, err := m.f.ReadAt(head[:], at); got < snapshotHead || err != nil && err != io.EOF {
			return n, corrupt("the table of snapshots breaks off at %d", at)
		}
		extra := int64(be.Uint32(head[36:]))
		state := uint64(be.Uint32(head[32:]))
		if extra >= 8 {
			state = be.Uint64(head[snapshotHead:]) // the same, with 64 bits
		}
		if state > 0 {
			n++
		}
		next := at + snapshotHead + extra + int64(be.Uint16(head[12:])) + int64(be.Uint16(head[14:]))
		if next > end {
			return n, corrupt("the table of snapshots is larger than %d bytes, or than the file", maxSnapshotTable)
		}
		at = (next + 7) &^ 7 // the last one need not be filled up
	}
	return n, nil
}
