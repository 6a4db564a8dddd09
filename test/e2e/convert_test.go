package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/internal/testenv"
	"github.com/ovation-project/ovation/test/appliance"
)

// small is a package that is quick to read.
var small = appliance.Spec{Name: "small", Disks: []appliance.Disk{{Size: 1 << 20, Seed: 1}}, NICs: []appliance.NIC{{Model: "E1000", MAC: "00:50:56:00:01:00"}}}

// qemuImg runs qemu-img, which must succeed.
func qemuImg(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(testenv.NeedTool(t, "qemu-img"), args...).CombinedOutput(); err != nil {
		t.Errorf("qemu-img %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestPassThrough compares the qcow2 that is made by handing on a VMDK's
// compressed grains with what qemu-img makes of the same VMDK.
func TestPassThrough(t *testing.T) {
	t.Parallel()
	testenv.NeedTool(t, "qemu-img")
	p := build(t, small)
	u := newUser(t)
	for _, d := range p.Disks {
		vmdk := filepath.Join(p.Dir, d.File)
		ours, theirs := d.File+".qcow2", filepath.Join(t.TempDir(), "theirs.qcow2")
		u.succeed("disk", "convert", vmdk, ours)
		ours = filepath.Join(u.work, ours)
		qemuImg(t, "check", ours)
		qemuImg(t, "convert", "-O", "qcow2", vmdk, theirs)
		qemuImg(t, "compare", "-f", "qcow2", "-F", "qcow2", ours, theirs)
		qemuImg(t, "compare", "-f", "qcow2", "-F", "raw", ours, d.Raw)

		// Handed on, not unpacked: about as large as what it was made from.
		made, err := os.Stat(ours)
		if err != nil {
			t.Fatal(err)
		}
		from, err := os.Stat(vmdk)
		if err != nil {
			t.Fatal(err)
		}
		if made.Size() > from.Size()+(1<<20) {
			t.Errorf("%s: %d bytes of VMDK became %d bytes of qcow2", d.File, from.Size(), made.Size())
		}
	}
}

// TestMemory converts a disk of 4 GiB in less than 64 MiB of memory.
func TestMemory(t *testing.T) {
	t.Parallel()
	testenv.NeedTool(t, "qemu-img")
	u := newUser(t)
	dir := t.TempDir()
	raw, vmdk := filepath.Join(dir, "large.raw"), filepath.Join(dir, "large.vmdk")
	sparse(t, raw, 4<<30, 48)
	qemuImg(t, "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, vmdk)
	const most = 64 << 20
	if peak := u.peak("disk", "convert", vmdk, "large.qcow2"); peak > most {
		t.Errorf("converting a disk of 4 GiB took %d KiB of memory, want at most %d KiB", peak>>10, most>>10)
	}
	qemuImg(t, "compare", "-f", "qcow2", "-F", "raw", filepath.Join(u.work, "large.qcow2"), raw)
}

// sparse makes a disk with so many pieces of one MiB spread over it.
func sparse(t *testing.T, path string, size int64, pieces int) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<20)
	state := uint32(1)
	for i := range pieces {
		for j := range block {
			state = state*1664525 + 1013904223
			block[j] = byte(state>>24) & 0x3f
		}
		if _, err := f.WriteAt(block, size/int64(pieces)*int64(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestConvertBadImage gives disk convert what is no sound image.
func TestConvertBadImage(t *testing.T) {
	t.Parallel()
	p := build(t, small)
	u := newUser(t)
	whole := read(t, filepath.Join(p.Dir, p.Disks[1].File))
	u.write("cut.vmdk", whole[:len(whole)/2])
	u.write("there.qcow2", []byte("precious"))
	before := filesBelow(t, u.work)

	u.fail(exitUntrusted, []string{"cut.vmdk"}, "disk", "convert", "cut.vmdk", "out.qcow2")
	u.fail(exitFailed, []string{"nothing.vmdk"}, "disk", "convert", "nothing.vmdk", "out.qcow2")
	u.fail(exitFailed, []string{"there.qcow2", "exists"}, "disk", "convert", filepath.Join(p.Dir, p.Disks[1].File), "there.qcow2")
	u.onlyLeft(before...)
	if got := string(read(t, filepath.Join(u.work, "there.qcow2"))); got != "precious" {
		t.Errorf("a file that was there now holds %q", got)
	}
}
