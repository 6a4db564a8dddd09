package build_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/ovation-project/ovation/author/build"
)

// TestHoles leaves the holes of a raw disk in a folder.
func TestHoles(t *testing.T) {
	dir := folder(t)
	const size = 64 << 20
	check(t, os.Truncate(filepath.Join(dir, "system.raw"), size))
	name := filepath.Join(dir, "x")
	run(t, parse(t, plain), dir, name, build.Options{Format: "raw"})
	holds(t, sound(t, name))
	st := must(os.Stat(filepath.Join(name, "plain-system.img")))
	if taken := st.Sys().(*syscall.Stat_t).Blocks * 512; st.Size() != size || taken > 16<<20 {
		t.Errorf("a disk of %d bytes is a file of %d, which takes %d", size, st.Size(), taken)
	}
}
