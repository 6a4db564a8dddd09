package stage_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/stage"
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

func planReceived(t *testing.T, v *stage.Received) []*deploy.Planned {
	t.Helper()
	r, err := ovf.Resolve(v.Package.Document().Envelope(), ovf.ResolveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	planned, err := deploy.Machines(r, qemu.Models(), deploy.Options{Probe: stage.Probe(t.Context(), v.Package, v)})
	if err != nil {
		t.Fatal(err)
	}
	return planned
}

// receives has the package arrive once, and compares what is put in place.
func receives(t *testing.T, p *pack, raw, firmware string) {
	t.Helper()
	for _, manifestLast := range []bool{false, true} {
		dir := t.TempDir()
		v, err := stage.Receive(t.Context(), iotest.HalfReader(bytes.NewReader(p.archive(manifestLast))), stage.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		planned := planReceived(t, v)
		if err := v.All(t.Context(), planned); err != nil {
			t.Fatal(err)
		}
		path := planned[0].Machine.Drives[0].Medium.Path
		run(t, "qemu-img", "compare", "-f", "qcow2", "-F", "raw", path, raw)
		run(t, "qemu-img", "check", "-f", "qcow2", path)
		if names := left(t, dir); len(names) != 1 {
			t.Errorf("the folder holds %q", names)
		}
	}
}

// TestReceiveSeveral has two drives with one disk, an empty one, a CD-ROM, and a
// file that nobody needs.
func TestReceiveSeveral(t *testing.T) {
	p := newPack(t)
	want := content()
	p.file("d", want, "")
	p.disk("one", "d", "raw", "")
	p.drive(17, "ovf:/disk/one")
	p.disk("empty", "", "raw", "")
	p.file("cd.iso", want[:4096], "")
	p.drive(15, "ovf:/file/cd.iso")
	p.file("readme.txt", []byte("nobody needs this"), "")
	p.plan()
	dir := t.TempDir()
	v, err := stage.Receive(t.Context(), bytes.NewReader(p.archive(true)), stage.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	planned := planReceived(t, v)
	if err := v.All(t.Context(), planned); err != nil {
		t.Fatal(err)
	}
	raw := p.path("d")
	same, cds := 0, 0
	for _, d := range planned[0].Machine.Drives {
		switch {
		case d.Medium == nil:
		case d.Medium.Format == "raw":
			if b, err := os.ReadFile(d.Medium.Path); err != nil || !bytes.Equal(b, want[:4096]) {
				t.Errorf("the CD-ROM is another: %v", err)
			}
			cds++
		case exec.Command(testenv.NeedTool(t, "qemu-img"), "compare", "-f", "qcow2", "-F", "raw", d.Medium.Path, raw).Run() == nil:
			same++
		}
	}
	if same != 2 || cds != 1 {
		t.Errorf("%d drives have the disk, %d a CD-ROM", same, cds)
	}
	if names := left(t, dir); len(names) != 4 {
		t.Errorf("the folder holds %q", names)
	}
}

// TestReceiveFails has archives that are not to be used: nothing is left of
// them.
func TestReceiveFails(t *testing.T) {
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
			_, err := stage.Receive(t.Context(), bytes.NewReader(c.archive), stage.Options{Dir: dir})
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if names := left(t, dir); len(names) != 0 {
				t.Errorf("left behind: %q", names)
			}
		})
	}
	if _, err := stage.Receive(t.Context(), iotest.TimeoutReader(bytes.NewReader(whole)), stage.Options{Dir: t.TempDir()}); !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("a reader that fails: %v", err)
	}
}
