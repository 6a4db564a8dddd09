package vmdk

import (
	"github.com/ovation-project/ovation/disk"
)

// openCOWD opens a vmfsSparse extent.
func openCOWD(f disk.File, b []byte, mem *memory) (*sparse, error) {
	sectors, grain := int64(le.Uint32(b[12:])), int64(le.Uint32(b[16:]))
	gd, n := int64(le.Uint32(b[20:]))*sector, int64(le.Uint32(b[24:]))
	const gtes = 4096
	if v := le.Uint32(b[4:]); v != 1 {
		return nil, unsupported("version %d of a vmfsSparse extent", v)
	}
	if grain == 0 || grain > maxGrain/sector {
		return nil, corrupt("grains of %d sectors", grain)
	}
	span := grain * gtes
	if need := (sectors + span - 1) / span; n < need {
		return nil, corrupt("a grain directory of %d entries for a disk that needs %d", n, need)
	} else {
		n = need
	}
	s := &sparse{f: f, capacity: sectors * sector, grain: grain * sector, mem: mem, id: mem.extent(), front: cowdHeader}
	t, err := newTwoLevel(f, gd, n, gtes, false, s.id, mem)
	s.grains = t
	return s, err
}

// cowdHeader is the size of COWD's header.
const cowdHeader = 4 * sector
