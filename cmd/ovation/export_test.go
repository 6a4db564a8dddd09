package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/drivertest"
	"github.com/ovation-project/ovation/hypervisor/libvirt"
	"github.com/ovation-project/ovation/internal/testlibvirt"
)

// command runs a command line and gives its exit code and what it said.
func command(t testing.TB, args ...string) (code int, out, said string) {
	t.Helper()
	var o, e bytes.Buffer
	code = newApp(strings.NewReader(""), &o, &e).run(t.Context(), args)
	return code, o.String(), e.String()
}

// ok wants a command line to go well.
func ok(t testing.TB, args ...string) string {
	t.Helper()
	code, out, said := command(t, args...)
	if code != 0 {
		t.Fatalf("ovation %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, said)
	}
	return out
}

// define makes a machine on a host, with one raw disk.
func define(t testing.TB, h hypervisor.Host, name string, image []byte) hypervisor.Guest {
	t.Helper()
	m := drivertest.Machine(t, image)
	m.ID, m.Name = name, name
	ref := drivertest.Put(t, h, name+".img", "raw", image)
	m.Drives[0].Medium = &hypervisor.Medium{Format: "raw", Volume: &ref}
	g, err := h.Define(t.Context(), m, hypervisor.Record{})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func openLibvirt(t testing.TB, uri string) *libvirt.Host {
	t.Helper()
	h, err := libvirt.Open(t.Context(), uri, libvirt.Options{Accel: "tcg"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// on names a machine of a daemon's.
func on(d *testlibvirt.Daemon, name string) string {
	return "qemu+unix:///session/" + name + "?socket=" + d.Socket
}

func TestExport(t *testing.T) {
	d := testlibvirt.Start(t, testlibvirt.Options{})
	h := openLibvirt(t, d.URI)
	define(t, h, "one", drivertest.Image("", drivertest.PowerOff))
	guest := define(t, h, "two", drivertest.Image("ready\n", drivertest.Store))
	dir := t.TempDir()

	ova := filepath.Join(dir, "both.ova")
	out := ok(t, "--json", "export", on(d, "one"), "two", "-o", ova, "--name", "both", "--for", "kvm")
	var report struct {
		APIVersion string
		Name       string
		Files      []struct{ Name string }
		Unsaid     []string
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.APIVersion != "ovation/package/v1" || report.Name != "both" || len(report.Files) != 4 {
		t.Errorf("%v: %s", err, out)
	}
	ok(t, "verify", ova)
	ok(t, "lint", ova)
	if text := ok(t, "inspect", ova); !strings.Contains(text, "both-one-hda.vmdk") || !strings.Contains(text, "both-two-hda.vmdk") {
		t.Errorf("inspect says %s", text)
	}

	console, err := guest.Console()
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	if err := guest.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(console, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	running := filepath.Join(dir, "running.ova")
	if code, _, said := command(t, "export", on(d, "two"), "-o", running); code != 1 || !strings.Contains(said, "the machine is running; --shutdown") {
		t.Errorf("a running machine: %d %s", code, said)
	}
	if _, err := os.Stat(running); err == nil {
		t.Error("a package was made")
	}
	// An export that nobody ended.
	if _, err := h.Export(context.Background(), "two", hypervisor.ExportOptions{Live: true}); err != nil {
		t.Fatal(err)
	}
	if code, _, said := command(t, "export", on(d, "two"), "-o", running, "--live"); code != 1 || !strings.Contains(said, "--clean-up") {
		t.Errorf("after one that was killed: %d %s", code, said)
	}
	if text := ok(t, "export", on(d, "two"), "--clean-up"); !strings.Contains(text, "two.img.ovation-export-") {
		t.Errorf("clean-up says %s", text)
	}
	if text := ok(t, "export", on(d, "two"), "--clean-up"); !strings.Contains(text, "nothing was left") {
		t.Errorf("clean-up says %s", text)
	}
	ok(t, "export", on(d, "two"), "-o", running, "--live")
	ok(t, "verify", running)
	if state, err := guest.State(t.Context()); err != nil || state != hypervisor.Running {
		t.Errorf("the guest is %s, %v", state, err)
	}
	if code, _, said := command(t, "export", on(d, "absent"), "-o", running, "--force"); code != 1 || !strings.Contains(said, `no machine and no deployment called "absent"`) {
		t.Errorf("a machine that is not there: %d %s", code, said)
	}
}
