package migrate_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/drivertest"
	"github.com/ovation-project/ovation/migrate"
)

// importer makes the target one that makes machines of packages itself.
func (w *world) importer() *drivertest.Importer {
	return &drivertest.Importer{Memory: w.to, Files: map[string][]hypervisor.ImportFile{
		"web": {{System: "web", Href: "disk1.vmdk", Disk: true}, {System: "web", Href: "disk2.vmdk", Disk: true}}}}
}

// TestImporter takes a machine to a host that makes machines itself: killed at
// every moment, and begun again; failing at every change.
func TestImporter(t *testing.T) {
	begin := func(w *world, start bool) (*migrate.Migration, error) {
		opt := w.options()
		opt.NoVerify, opt.Start = true, start // it keeps no disks
		return migrate.Look(t.Context(), w.sources("web"), w.importer(), opt)
	}
	w := newWorld(t)
	define(t, w.from, "web", content(1), content(2))
	m, err := begin(w, false)
	check(t, err)
	if left := there(t, w.to); len(left) > 0 || m.Plan.Import == nil || len(m.Plan.Import.Machines) != 1 {
		t.Fatalf("looking made %q, the plan is %+v", left, m.Plan.Import)
	}
	n := 0
	w.to.Fault = func(string, bool) error { n++; return nil }
	r, err := m.Run(t.Context())
	check(t, err)
	w.to.Fault = nil
	if len(r.Disks) != 2 || r.Disks[0].Content == nil || r.Disks[0].Content.Bytes != capacity || r.Disks[0].Content.Digest == r.Disks[1].Content.Digest || r.Verified {
		t.Errorf("%+v", r)
	}
	k, err := w.to.Lookup(t.Context(), "web")
	check(t, err)
	if k.Machine.UUID != uuid || k.Machine.NICs[0].MAC != mac || k.Machine.CPU.Count != 2 || len(k.Machine.Serials) != 0 {
		t.Errorf("it is %+v", k.Machine)
	}
	m, err = begin(w, false)
	check(t, err)
	if r, err := m.Run(t.Context()); err != nil || !r.Existed {
		t.Errorf("once more: %+v, %v", r, err)
	}
	if n == 0 {
		t.Fatal("nothing was made")
	}

	for at := range n {
		for _, dies := range []bool{false, true} {
			w := newWorld(t)
			define(t, w.from, "web", content(1), content(2))
			m, err := begin(w, true)
			check(t, err)
			if dies {
				w.killed(m, at)
			} else {
				w.fails(at, true)
				if _, err := m.Run(t.Context()); !errors.Is(err, errTest) {
					t.Fatalf("change %d: %v", at, err)
				}
				w.to.Fault = nil
				w.nothing()
			}
			m, err = begin(w, true)
			check(t, err)
			r, err := m.Run(t.Context())
			if err != nil || len(r.Disks) != 2 || !r.Started {
				t.Fatalf("killed at %d: %+v, %v", at, r, err)
			}
		}
	}

	// What was imported is not what the source has any more.
	w = newWorld(t)
	g := define(t, w.from, "web", content(1), content(2))
	m, err = begin(w, true)
	check(t, err)
	path := filepath.Join(w.store.Folder(m.Plan.ID), "journal")
	var saved []byte
	w.to.Fault = func(change string, made bool) error {
		if strings.HasPrefix(change, "start") {
			if saved == nil {
				saved, _ = os.ReadFile(path)
			}
			return errTest
		}
		if saved != nil {
			return errTest
		}
		return nil
	}
	if _, err := m.Run(t.Context()); err == nil {
		t.Fatal("it was not killed")
	}
	w.to.Fault = nil
	check(t, os.MkdirAll(filepath.Dir(path), 0o700))
	check(t, os.WriteFile(path, saved, 0o600))
	check(t, g.Remove(t.Context()))
	for _, v := range w.from.Volumes() {
		check(t, w.from.RemoveVolume(t.Context(), v))
	}
	define(t, w.from, "web", content(1), content(3))
	at := len(w.to.Changes())
	m, err = begin(w, true)
	check(t, err)
	r, err = m.Run(t.Context())
	check(t, err)
	if now := strings.Join(w.to.Changes()[at:], "\n"); !strings.HasPrefix(now, "remove web\ndefine web") || r.Disks[0].Kept || r.Disks[1].Kept {
		t.Errorf("%s\n%+v", now, r)
	}

	// Disks are the target's own matter.
	opt := w.options()
	opt.DiskFormat, opt.Name = "qcow2", "other"
	if _, err := migrate.Look(t.Context(), w.sources("web"), w.importer(), opt); !errors.Is(err, hypervisor.ErrUnfit) {
		t.Errorf("a format: %v", err)
	}
	// It can't be read back, which is said.
	opt = w.options()
	opt.Name = "other"
	m, err = migrate.Look(t.Context(), w.sources("web"), w.importer(), opt)
	check(t, err)
	if _, err := m.Run(t.Context()); err == nil {
		t.Error("disks that are nowhere were verified")
	}
}
