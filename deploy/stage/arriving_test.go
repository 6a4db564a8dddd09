package stage_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/arrival"
	"github.com/ovation-project/ovation/deploy/bootprobe"
	"github.com/ovation-project/ovation/deploy/stage"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/qemu"
	"github.com/ovation-project/ovation/internal/testenv"
	"github.com/ovation-project/ovation/ovf"
)

// archive packs the folder, the descriptor first, the manifest second or last.
func (p *pack) archive(manifestLast bool) []byte {
	p.t.Helper()
	names := left(p.t, p.dir)
	rank := func(name string) int {
		switch {
		case name == "a.ovf":
			return 0
		case name == "a.mf" && manifestLast:
			return 3
		case name == "a.mf":
			return 1
		}
		return 2
	}
	slices.SortStableFunc(names, func(a, b string) int { return rank(a) - rank(b) })
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names {
		data, err := os.ReadFile(p.path(name))
		if err == nil {
			err = w.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: 0o644, Format: tar.FormatUSTAR})
		}
		if err == nil {
			_, err = w.Write(data)
		}
		if err != nil {
			p.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		p.t.Fatal(err)
	}
	return b.Bytes()
}

// arrive puts the disks of an archive in place as it arrives, and gives what was
// noted and, in machines, what was planned when all had come.
func arrive(t *testing.T, r io.Reader, dir string) (planned []*deploy.Planned, notes []string, err error) {
	t.Helper()
	a, err := arrival.Begin(t.Context(), r, arrival.Options{TempDir: dir, Note: func(s string) { notes = append(notes, s) }})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	plan := func() []*deploy.Planned {
		r, err := ovf.Resolve(a.Package().Document().Envelope(), ovf.ResolveOptions{})
		if err != nil {
			t.Fatal(err)
		}
		planned, err := deploy.Machines(r, qemu.Models(), deploy.Options{Probe: func(d *ovf.ResolvedDisk) (bootprobe.Result, error) {
			seen, err := a.LookDisk(t.Context(), d)
			return seen.Boot, err
		}})
		if err != nil {
			t.Fatal(err)
		}
		return planned
	}
	planned = plan()
	if reason := planned[0].Machine.Firmware.Reason; !strings.Contains(reason, "has not come yet") {
		t.Errorf("before the disk came the firmware was known: %s", reason)
	}
	a.Expect(stage.Contents(planned))
	if err := stage.Arriving(t.Context(), a, planned, stage.Options{Dir: dir, Volatile: true}); err != nil {
		return nil, notes, err
	}
	if _, _, err := a.Finish(t.Context()); err != nil {
		for _, name := range left(t, dir) {
			os.Remove(filepath.Join(dir, name)) // the caller's, as it was not proved
		}
		return nil, notes, err
	}
	planned = plan()
	stage.Place(planned, dir, true)
	return planned, notes, nil
}

// arrives has the package arrive once, and compares what is put in place.
func arrives(t *testing.T, p *pack, raw string, spooled bool) {
	t.Helper()
	for _, manifestLast := range []bool{false, true} {
		dir := t.TempDir()
		planned, notes, err := arrive(t, iotest.HalfReader(bytes.NewReader(p.archive(manifestLast))), dir)
		if err != nil {
			t.Fatal(err)
		}
		path := planned[0].Machine.Drives[0].Medium.Path
		run(t, "qemu-img", "compare", "-f", "qcow2", "-F", "raw", path, raw)
		run(t, "qemu-img", "check", "-f", "qcow2", path)
		if f := planned[0].Machine.Firmware; f.Kind != hypervisor.BIOS || !strings.Contains(f.Reason, "boot code") {
			t.Errorf("the firmware is %+v", f)
		}
		if names := left(t, dir); len(names) != 1 {
			t.Errorf("the folder holds %q", names)
		}
		if (len(notes) > 0) != spooled {
			t.Errorf("notes %q", notes)
		}
	}
}

// TestArrivingSeveral has two drives with one disk, an empty one, a CD-ROM, a delta
// and what is below it, and a file that nobody needs.
func TestArrivingSeveral(t *testing.T) {
	p := newPack(t)
	want := content()
	p.file("d", want, "")
	p.disk("one", "d", "raw", "")
	p.drive(17, "ovf:/disk/one")
	p.disk("empty", "", "raw", "")
	p.file("cd.iso", want[:4096], "")
	p.drive(15, "ovf:/file/cd.iso")
	p.file("readme.txt", []byte("nobody needs this"), "")
	// The delta comes before what it is a delta of.
	below := filepath.Join(t.TempDir(), "below.raw")
	if err := os.WriteFile(below, want, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "qemu-img", "create", "-f", "qcow2", "-b", below, "-F", "raw", p.path("a-delta"))
	run(t, "qemu-io", "-c", "write -P 7 2M 64k", p.path("a-delta"))
	p.listed("a-delta", "")
	p.file("e-base", want, "")
	p.disks = append(p.disks, fmt.Sprintf(`<Disk ovf:diskId="base" ovf:fileRef="e-base" ovf:capacity="%d" ovf:format="raw"/>`, capacity))
	p.disk("delta", "a-delta", "http://www.gnome.org/~markmc/qcow-image-format.html", `ovf:parentRef="base"`)
	p.plan()
	changed := bytes.Clone(want)
	copy(changed[2<<20:], bytes.Repeat([]byte{7}, 64<<10))
	changedRaw := filepath.Join(t.TempDir(), "changed")
	if err := os.WriteFile(changedRaw, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	planned, notes, err := arrive(t, bytes.NewReader(p.archive(true)), dir)
	if err != nil {
		t.Fatal(err)
	}
	is := func(path, raw string) bool {
		return exec.Command(testenv.NeedTool(t, "qemu-img"), "compare", "-f", "qcow2", "-F", "raw", path, raw).Run() == nil
	}
	same, deltas, cds := 0, 0, 0
	for _, d := range planned[0].Machine.Drives {
		switch {
		case d.Medium == nil:
		case d.Medium.Format == "raw":
			if b, err := os.ReadFile(d.Medium.Path); err != nil || !bytes.Equal(b, want[:4096]) {
				t.Errorf("the CD-ROM is another: %v", err)
			}
			cds++
		case is(d.Medium.Path, p.path("d")):
			same++
		case is(d.Medium.Path, changedRaw):
			deltas++
		}
	}
	if same != 2 || deltas != 1 || cds != 1 {
		t.Errorf("%d drives have the disk, %d the delta, %d a CD-ROM", same, deltas, cds)
	}
	if len(notes) != 2 {
		t.Errorf("notes %q", notes)
	}
	if names := left(t, dir); len(names) != 5 {
		t.Errorf("the folder holds %q", names)
	}
}

// TestArrivingFails has archives that are not to be used: nothing is left of
// them.
func TestArrivingFails(t *testing.T) {
	p := newPack(t)
	p.file("a", content(), "")
	p.file("b", zipped(t, content()), "")
	p.disk("a", "a", "raw", "")
	p.disk("b", "b", "raw", "")
	p.plan()
	whole := p.archive(true)
	inA, inB := bytes.Index(whole, content()[1<<20:1<<20+4096]), bytes.Index(whole, zipped(t, content())[:100])
	flip := func(at int) []byte {
		b := bytes.Clone(whole)
		b[at] ^= 1
		return b
	}
	late := func() []byte {
		p := newPack(t)
		p.file("a", content(), "")
		p.disk("a", "a", "raw", "")
		p.plan()
		if err := os.Rename(p.path("a.ovf"), p.path("z.ovf")); err != nil {
			t.Fatal(err)
		}
		return p.archive(false)
	}
	for name, c := range map[string]struct {
		archive []byte
		want    error
	}{
		"altered":             {flip(inA), appliance.ErrAltered},
		"altered, compressed": {flip(inB + 2000), nil},
		"cut in a disk":       {whole[:inA], appliance.ErrInvalid},
		"cut in the manifest": {whole[:len(whole)-1024-400], nil},
		"no archive":          {[]byte(strings.Repeat("nothing", 1000)), appliance.ErrInvalid},
		"nothing":             {nil, appliance.ErrInvalid},
		"descriptor last":     {late(), appliance.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			_, _, err := arrive(t, bytes.NewReader(c.archive), dir)
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if names := left(t, dir); len(names) != 0 {
				t.Errorf("left behind: %q", names)
			}
		})
	}
	if _, _, err := arrive(t, iotest.TimeoutReader(bytes.NewReader(whole)), t.TempDir()); !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("a reader that fails: %v", err)
	}
}
