package interop

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/testenv"
)

// spot is a piece of data on a large disk.
type spot struct {
	off  int64
	fill int
}

// spotLength is what each of them is long.
const spotLength = 300 * disk.SectorSize

// spots are pieces at a large disk's ends and at the places where numbers of 31
// and 32 bits end, in bytes and in sectors.
func spots(size int64) []spot {
	var all []spot
	for _, off := range []int64{0, 1<<31 - spotLength/2, 1<<32 - spotLength/2, 1<<40 - spotLength/2, 1<<41 - spotLength/2, size - spotLength} {
		if off >= 0 && off <= size-spotLength {
			all = append(all, spot{off / disk.SectorSize * disk.SectorSize, 1 + len(all)})
		}
	}
	return all
}

// TestLarge converts sparse disks of 2 TiB and more, in which there is next to
// nothing.
func TestLarge(t *testing.T) {
	testenv.NeedTool(t, "qemu-io")
	large := int64(2<<40 + 5*disk.SectorSize)
	variants := []theirs{
		{name: "raw", format: "raw"},
		{name: "qcow2", format: "qcow2"},
		{name: "vhdx", format: "vhdx"},
		{name: "qcow2-extended", format: "qcow2", options: "extended_l2=on"},
		{name: "vmdk-sparse", format: "vmdk", options: "subformat=monolithicSparse"},
		{name: "vmdk-2gb-sparse", format: "vmdk", options: "subformat=twoGbMaxExtentSparse"},
		{name: "vdi", format: "vdi"},
		{name: "vhd", format: "vpc", options: "force_size=on"},
	}
	if !soak {
		variants = variants[:3] // the others take long, QEMU's own part most of it
	}
	for i, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			size := large
			switch v.format {
			case "vpc":
				size = 2040 << 30 // the most that it can have
			case "vhdx":
				size = 3<<40 + 512
			}
			o := original{dir: t.TempDir(), name: "theirs" + v.ending(), format: v.format, raw: "truth.raw"}
			for _, image := range [][3]string{{o.name, v.format, v.options}, {o.raw, "raw", ""}} {
				args := []string{"create", "-q", "-f", image[1]}
				if image[2] != "" {
					args = append(args, "-o", image[2])
				}
				run(t, o.dir, "qemu-img", append(args, image[0], fmt.Sprint(size))...)
				args = []string{"-f", image[1]}
				for _, s := range spots(size) {
					args = append(args, "-c", fmt.Sprintf("write -P %d %d %d", s.fill, s.off, spotLength))
				}
				run(t, o.dir, "qemu-io", append(args, image[0])...)
			}
			m, done := o.open(t, o.name, o.format)
			defer done()
			o.same(t, m, true)
			for k, target := range made() {
				if target.most > 0 && size > target.most || !soak && (target.format == "vdi" || k%4 != i) {
					continue
				}
				t.Run(target.name, func(t *testing.T) { o.thereLarge(t, m, target, size) })
			}
		})
	}
}

// thereLarge is there for a disk of which QEMU cannot read all in reasonable time
// where it does not skip what is not there.
func (o original) thereLarge(t *testing.T, m disk.Image, v ours, size int64) {
	path := v.make(t, m, t.TempDir(), 0)
	if v.mapped {
		run(t, o.dir, "qemu-img", "compare", "-f", v.format, "-F", "raw", path, o.raw)
	} else {
		args := []string{"-r", "-f", v.format}
		for _, s := range spots(size) {
			args = append(args, "-c", fmt.Sprintf("read -P %d %d %d", s.fill, s.off, spotLength))
			if before := s.off - 4096; before >= 0 {
				args = append(args, "-c", fmt.Sprintf("read -P 0 %d 4096", before))
			}
		}
		run(t, o.dir, "qemu-io", append(args, path)...)
	}
	if v.checked && (v.mapped || v.format == "vhdx") {
		run(t, o.dir, "qemu-img", "check", "-q", "-f", v.format, path)
	}
	for _, s := range spots(size) {
		got := make([]byte, spotLength)
		if _, err := m.ReadAt(got, s.off); err != nil || !bytes.Equal(got, bytes.Repeat([]byte{byte(s.fill)}, spotLength)) {
			t.Errorf("at %d: %v", s.off, err)
		}
	}
}
