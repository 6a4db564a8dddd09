package vmdk

import (
	"fmt"

	"github.com/ovation-project/ovation/disk"
)

type noGrains struct{}

func (noGrains) perTable() int64                        { return 1 }
func (noGrains) lookup(int64) (disk.Kind, int64, error) { return disk.Hole, 0, nil }
func (noGrains) empty(int64) bool                       { return true }
func (noGrains) metadata(func(int64, int64) bool)       {}

// twoLevel is a grain directory of tables with entries of 32 bits, which
// count sectors: the sparse header's and COWD's way.
type twoLevel struct {
	f         disk.File
	at        int64 // of the directory
	gtes      int64
	directory []uint32
	zeroGrain bool
	id        int
	mem       *memory
}

// newTwoLevel reads a directory of n tables.
func newTwoLevel(f disk.File, at, n, gtes int64, zeroGrain bool, id int, mem *memory) (*twoLevel, error) {
	t := &twoLevel{f: f, at: at, gtes: gtes, zeroGrain: zeroGrain, id: id, mem: mem}
	if err := mem.take(n*4, "a grain directory"); err != nil {
		return nil, err
	}
	if at > f.Size()-n*4 {
		return nil, corrupt("the grain directory at %d, %d bytes long, reaches past the end of the file", at, n*4)
	}
	t.directory = make([]uint32, n)
	var there int64
	err := readWords(f, at, t.directory, func(e uint32) {
		if e != 0 {
			there++
		}
	})
	if err != nil {
		return nil, fmt.Errorf("vmdk: read the grain directory at %d: %w", at, err)
	}
	// Tables that share their bytes would make a walk over them as long as
	// whoever wrote them likes.
	if there*gtes*4 > f.Size() {
		return nil, corrupt("%d grain tables of %d bytes are more than a file of %d bytes holds", there, gtes*4, f.Size())
	}
	return t, nil
}

// readWords reads 32-bit numbers.
func readWords(f disk.File, at int64, words []uint32, each func(uint32)) error {
	b := make([]byte, min(int64(len(words))*4, 64<<10))
	for len(words) > 0 {
		b = b[:min(len(b), len(words)*4)]
		if n, err := f.ReadAt(b, at); n < len(b) {
			return err
		}
		for i := 0; i < len(b); i += 4 {
			words[i/4] = le.Uint32(b[i:])
			each(words[i/4])
		}
		words = words[len(b)/4:]
		at += int64(len(b))
	}
	return nil
}

func (t *twoLevel) perTable() int64 { return t.gtes }

func (t *twoLevel) empty(table int64) bool { return t.directory[table] == 0 }

func (t *twoLevel) metadata(yield func(off, length int64) bool) {
	if !yield(t.at, int64(len(t.directory))*4) {
		return
	}
	for _, e := range t.directory {
		if e != 0 && !yield(int64(e)*sector, t.gtes*4) {
			return
		}
	}
}

func (t *twoLevel) lookup(n int64) (disk.Kind, int64, error) {
	i := n / t.gtes
	if t.empty(i) {
		return disk.Hole, 0, nil
	}
	b, err := t.mem.tables.Get(place{t.id, i}, func() ([]byte, error) {
		at := int64(t.directory[i]) * sector
		if at > t.f.Size()-t.gtes*4 {
			return nil, corrupt("grain table %d at %d reaches past the end of the file", i, at)
		}
		b := make([]byte, t.gtes*4)
		if got, err := t.f.ReadAt(b, at); got < len(b) {
			return nil, fmt.Errorf("vmdk: read the grain table at %d: %w", at, err)
		}
		return b, nil
	})
	if err != nil {
		return disk.Hole, 0, err
	}
	switch e := le.Uint32(b[n%t.gtes*4:]); {
	case e == 0:
		return disk.Hole, 0, nil
	case e == 1 && t.zeroGrain:
		return disk.Zero, 0, nil
	default:
		return disk.Data, int64(e) * sector, nil
	}
}
