package stage_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/stream"
	"github.com/ovation-project/ovation/deploy/stage"
	"github.com/ovation-project/ovation/internal/faultserver"
)

// TestStream gives machines disks that lie on a server, and has qemu-img compare
// what it sees on the sockets, and writes, with what they were made from.
func TestStream(t *testing.T) {
	want := content()
	raw := filepath.Join(t.TempDir(), "want.raw")
	if err := os.WriteFile(raw, want, 0o600); err != nil {
		t.Fatal(err)
	}
	p := newPack(t)
	run(t, "qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, p.path("d.vmdk"))
	p.listed("d.vmdk", "")
	p.disk("d", "d.vmdk", vmdkURI, "")
	p.file("z.gz", zipped(t, want), `ovf:compression="gzip"`)
	p.disk("z", "z.gz", "raw", "")
	p.disk("empty", "", "raw", "")
	p.file("cd.iso", want[:64<<10], "")
	p.drive(15, "ovf:/file/cd.iso")
	_, planned := p.plan()

	server := faultserver.New(t, p.path(""))
	server.Change(func(f *faultserver.Faults) { f.Drop = 60 << 10 })
	pkg, err := appliance.Open(t.Context(), server.URL("a.ovf"), appliance.Options{Retries: 20})
	if err != nil {
		t.Fatal(err)
	}
	defer pkg.Close()
	dir := t.TempDir()
	from := stream.New(t.Context(), pkg, stream.Options{TempDir: t.TempDir(), Failed: func(err error) { t.Errorf("failed: %v", err) }})
	live, err := stage.Stream(t.Context(), pkg, planned, from, stage.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	var socket string
	for _, d := range planned[0].Machine.Drives {
		m := d.Medium
		if m == nil {
			continue
		}
		seen++
		below := m.Below
		if m.Socket != "" {
			below = m
		}
		if below != nil {
			socket = below.Socket
			nbd := "nbd+unix:///" + below.Export + "?socket=" + below.Socket
			if m == below {
				got := filepath.Join(dir, "cd")
				run(t, "qemu-img", "convert", "-f", "raw", "-O", "raw", nbd, got)
				if b, err := os.ReadFile(got); err != nil || string(b) != string(want[:64<<10]) {
					t.Errorf("%s: the CD-ROM holds something else (%v)", d.ID, err)
				}
				continue
			}
			run(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", nbd, raw)
			run(t, "qemu-img", "check", "-f", "qcow2", m.Path)
			continue
		}
		if strings.Contains(m.Path, "empty") {
			continue
		}
		run(t, "qemu-img", "compare", "-f", "qcow2", "-F", "raw", m.Path, raw)
	}
	if seen != 4 || socket == "" {
		t.Errorf("%d drives have media, socket %q", seen, socket)
	}
	if err := from.Close(); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := live.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket is left behind")
	}
}
