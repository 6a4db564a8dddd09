package migrate_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ovation-project/ovation/author/export"
	"github.com/ovation-project/ovation/deploy/kept"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/filelock"
	"github.com/ovation-project/ovation/migrate"
)

// keptFolder is a folder with a machine of two raw disks, and what else is its.
func keptFolder(t testing.TB, contents ...[]byte) string {
	t.Helper()
	dir := t.TempDir()
	m := hypervisor.Machine{ID: "web", Name: "web", Architecture: "x86_64", CPU: hypervisor.CPU{Count: 1}, Memory: hypervisor.Memory{Bytes: 64 << 20},
		Firmware: hypervisor.Firmware{Kind: hypervisor.BIOS}, Controllers: []hypervisor.Controller{{ID: "c", Model: hypervisor.AHCI}},
		NICs: []hypervisor.NIC{{ID: "n", Model: hypervisor.E1000, Network: "LAN", HostNetwork: "user", Forwards: []hypervisor.Forward{{Protocol: "tcp", HostPort: 2222, GuestPort: 22}}}}}
	for i, c := range contents {
		name := "disk" + string(rune('0'+i)) + ".img"
		check(t, os.WriteFile(filepath.Join(dir, name), c, 0o600))
		m.Drives = append(m.Drives, hypervisor.Drive{ID: name, Kind: hypervisor.HardDisk, Controller: "c", Unit: i, Capacity: 1,
			Medium: &hypervisor.Medium{Format: "raw", Volume: &hypervisor.VolumeRef{Pool: kept.Pool, Name: name}}})
	}
	check(t, os.MkdirAll(filepath.Join(dir, "machine-web"), 0o700))
	text, err := json.Marshal(map[string]any{"apiVersion": kept.APIVersion, "machines": []any{map[string]any{"machine": m, "record": hypervisor.Record{}, "own": "machine-web"}}})
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, kept.FileName), text, 0o600))
	return dir
}

// TestKept takes a machine that was run here to a host, and removes what was
// left of it here.
func TestKept(t *testing.T) {
	w := newWorld(t)
	dir := keptFolder(t, content(1), content(2))
	f, err := kept.Open(dir)
	check(t, err)
	defer f.Close()
	from := []export.Source{{Host: f, Name: "web"}}

	// As long as it runs it is not read.
	lock, err := os.Open(filepath.Join(dir, kept.FileName))
	check(t, err)
	check(t, filelock.Try(lock, filelock.Exclusive))
	for _, change := range []func(*migrate.Options){func(*migrate.Options) {}, func(o *migrate.Options) { o.Export.Live = true }, func(o *migrate.Options) { o.Export.Shutdown = time.Minute }} {
		opt := w.options()
		change(&opt)
		m, err := migrate.Look(t.Context(), from, w.to, opt)
		if err == nil {
			_, err = m.Run(t.Context())
		}
		if err == nil || !errors.Is(err, hypervisor.ErrRunning) && !errors.Is(err, kept.ErrElsewhere) {
			t.Errorf("while it runs: %v", err)
		}
	}
	w.nothing()
	check(t, lock.Close())

	opt := w.options()
	opt.Start, opt.RemoveSource = true, true
	m, err := migrate.Look(t.Context(), from, w.to, opt)
	check(t, err)
	r, err := m.Run(t.Context())
	check(t, err)
	k := w.holds("web", content(1), content(2))
	if n := k.Machine.NICs[0]; n.HostNetwork != "default" || len(n.Forwards) > 0 || !r.Verified || len(r.Removed) != 1 || len(r.Stays) != 0 {
		t.Errorf("%+v, %+v", n, r)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the folder is still there")
	}
}

// TestKeptHostile opens folders whose file leads elsewhere.
func TestKeptHostile(t *testing.T) {
	for _, change := range [][2]string{
		{`"name":"disk0.img"}`, `"name":"../../etc/shadow"}`},
		{`"name":"disk0.img"}`, `"name":"/etc/shadow"}`},
		{`"name":"disk0.img"}`, `"name":"` + kept.FileName + `"}`},
		{`"pool":"folder"`, `"pool":"default"`},
		{`"format":"raw"`, `"format":"raw","path":"/etc/shadow"`},
		{`"own":"machine-web"`, `"own":".."`},
		{`"own":"machine-web"`, `"own":"."`},
		{`"id":"web","name":"web"`, `"id":"web","name":"../web"`},
		{`"apiVersion":"ovation/kept-machines/v1"`, `"apiVersion":"ovation/kept-machines/v2"`},
	} {
		dir := keptFolder(t, content(1))
		path := filepath.Join(dir, kept.FileName)
		text, err := os.ReadFile(path)
		check(t, err)
		if !strings.Contains(string(text), change[0]) {
			t.Fatalf("%s is not in %s", change[0], text)
		}
		check(t, os.WriteFile(path, []byte(strings.Replace(string(text), change[0], change[1], 1)), 0o600))
		if f, err := kept.Open(dir); err == nil {
			f.Close()
			t.Errorf("%s was taken", change[1])
		}
	}
	// A link is no way out either, and a folder without machines is none.
	w := newWorld(t)
	dir := keptFolder(t, content(1))
	secret := filepath.Join(t.TempDir(), "secret")
	check(t, os.WriteFile(secret, content(3), 0o600))
	check(t, os.Remove(filepath.Join(dir, "disk0.img")))
	check(t, os.Symlink(secret, filepath.Join(dir, "disk0.img")))
	f, err := kept.Open(dir)
	check(t, err)
	defer f.Close()
	if _, err := migrate.Look(t.Context(), []export.Source{{Host: f, Name: "web"}}, w.to, w.options()); err == nil {
		t.Error("a link out of the folder was followed")
	}
	if _, err := kept.Open(t.TempDir()); !errors.Is(err, kept.ErrNone) {
		t.Errorf("an empty folder: %v", err)
	}
}
