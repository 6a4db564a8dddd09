package main

import (
	"encoding/json"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/drivertest"
	"github.com/ovation-project/ovation/internal/testenv"
	"github.com/ovation-project/ovation/internal/testlibvirt"
	"github.com/ovation-project/ovation/migrate"
)

// twoHosts are two libvirt daemons, and a home for journals.
func twoHosts(t *testing.T) (from, to *testlibvirt.Daemon) {
	t.Helper()
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	return testlibvirt.Start(t, testlibvirt.Options{}), testlibvirt.Start(t, testlibvirt.Options{})
}

// images are the files of the disks in a daemon's pool, by the volume's name.
func images(t *testing.T, d *testlibvirt.Daemon) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	entries, err := os.ReadDir(d.PoolDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".log") {
			continue // what a guest said
		}
		if all[e.Name()], err = os.ReadFile(filepath.Join(d.PoolDir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// migratedTo reads what migrate says as JSON.
func migratedTo(t *testing.T, args ...string) (r migrated) {
	t.Helper()
	out := ok(t, append([]string{"--json", "migrate"}, args...)...)
	if err := json.Unmarshal([]byte(out), &r); err != nil || r.APIVersion != "ovation/migration/v1" {
		t.Fatalf("%v: %s", err, out)
	}
	return r
}

// TestMigrate takes machines from one libvirt to another: off, running, by a
// snapshot, and to where they were.
func TestMigrate(t *testing.T) {
	from, to := twoHosts(t)
	a, b := openLibvirt(t, from.URI), openLibvirt(t, to.URI)
	image := drivertest.Image("ready\n", drivertest.Store)
	guest := define(t, a, "two", image)

	// What is shown is what is made.
	var shown migrationPlan
	if err := json.Unmarshal([]byte(ok(t, "--json", "migrate", "--dry-run", on(from, "two"), to.TCP)), &shown); err != nil || shown.APIVersion != "ovation/migration-plan/v1" {
		t.Fatal(err)
	}
	if left := images(t, to); len(left) > 0 {
		t.Errorf("the dry run made %v", left)
	}
	r := migratedTo(t, on(from, "two"), to.TCP)
	if !r.Verified || len(r.Disks) != 1 || r.Disks[0].Content == nil || r.Disks[0].Bytes != int64(len(image)) || r.Name != "two" {
		t.Errorf("%+v", r)
	}
	kept, err := b.Lookup(t.Context(), "two")
	if err != nil {
		t.Fatal(err)
	}
	was, err := a.Lookup(t.Context(), "two")
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.ReplaceAll(shown.Plan.Volumes[0].Name, shown.Plan.ID, r.ID); want != r.Disks[0].Name || kept.Machine.Drives[0].Medium.Volume.Name != want {
		t.Errorf("the volume %s was shown, %s made", want, r.Disks[0].Name)
	}
	if kept.Machine.UUID != was.Machine.UUID || kept.Machine.Chipset != was.Machine.Chipset || len(kept.Machine.NICs) != len(was.Machine.NICs) {
		t.Errorf("it was %+v, and is %+v", was.Machine, kept.Machine)
	}
	if got := images(t, to)[r.Disks[0].Name]; string(got) != string(image) {
		t.Error("its disk holds something else")
	}
	if r := migratedTo(t, on(from, "two"), to.TCP); !r.Existed {
		t.Errorf("once more: %+v", r)
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
	if code, _, said := command(t, "migrate", on(from, "two"), to.TCP, "--name", "other", "--uuid", "new"); code != 1 || !strings.Contains(said, "the machine is running; --shutdown") {
		t.Errorf("a running machine: %d %s", code, said)
	}
	if code, _, said := command(t, "migrate", on(from, "two"), to.TCP, "--name", "other", "--shutdown", "--grace", "1s"); code != 1 || !strings.Contains(said, "asked to power off and has not") || strings.Contains(said, "--shutdown has it") {
		t.Errorf("a guest that does not power off: %d %s", code, said)
	}
	if text := ok(t, "migrate", on(from, "two"), to.URI, "--name", "other", "--dry-run", "--live"); !strings.Contains(text, " is running, and goes on") || !strings.Contains(text, "What changes") {
		t.Errorf("dry run: %s", text)
	}
	r = migratedTo(t, on(from, "two"), to.URI, "--name", "other", "--live", "--uuid", "new", "--mac", "new", "--disk-format", "qcow2")
	if !r.Verified || r.Machines[0] != "other" {
		t.Errorf("%+v", r)
	}
	if state, err := guest.State(t.Context()); err != nil || state != hypervisor.Running {
		t.Errorf("the guest is %s, %v", state, err)
	}
	if got := images(t, from); len(got) != 1 {
		t.Errorf("the source has files %q", slices.Collect(maps.Keys(got)))
	}

	// And back, with the source removed.
	if err := guest.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	var origin migrate.Origin
	r = migratedTo(t, on(to, "other"), from.URI, "--start", "--remove-source")
	if len(r.From) == 1 {
		origin = r.From[0]
	}
	if len(r.Removed) != 1 || !r.Started || origin.Name != "other" || origin.Deployment == "" {
		t.Errorf("%+v", r)
	}
	back, err := a.Lookup(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	if state, err := back.State(t.Context()); err != nil || state != hypervisor.Running {
		t.Errorf("it is %s, %v", state, err)
	}
	if got := images(t, to); len(got) != 1 {
		t.Errorf("what is removed leaves %d files", len(got))
	}
	if err := back.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}

	// Of a machine whose disk another volume is a delta of, the disk stays; a
	// delta is whole at the target.
	define(t, a, "base", image)
	delta := filepath.Join(from.PoolDir, "top.qcow2")
	if out, err := exec.Command(testenv.NeedTool(t, "qemu-img"), "create", "-q", "-f", "qcow2", "-F", "raw", "-b", filepath.Join(from.PoolDir, "base.img"), delta).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img: %v\n%s", err, out)
	}
	if err := os.Chmod(delta, 0o666); err != nil {
		t.Fatal(err)
	}
	r = migratedTo(t, on(from, "base"), to.URI, "--start", "--remove-source")
	if _, there := images(t, from)["base.img"]; !there || len(r.Removed) != 1 || len(r.Stays) != 1 || !strings.Contains(r.Stays[0], "needed by default/top.qcow2") {
		t.Errorf("removed %q, stays %q", r.Removed, r.Stays)
	}
	top := hypervisor.VolumeRef{Pool: "default", Name: "top.qcow2"}
	m := drivertest.Machine(t, image)
	m.ID, m.Name = "top", "top"
	m.Drives[0].Medium = &hypervisor.Medium{Format: "qcow2", Volume: &top}
	if _, err := a.Define(t.Context(), m, hypervisor.Record{}); err != nil {
		t.Fatal(err)
	}
	r = migratedTo(t, on(from, "top"), to.TCP)
	if got := images(t, to)[r.Disks[0].Name]; string(got) != string(image) || !r.Verified {
		t.Error("what was a delta is not whole")
	}

	// A name that is taken, machines that are not there.
	if code, _, said := command(t, "migrate", on(from, "two"), from.URI); code != 1 || !strings.Contains(said, "--name gives this one another name") {
		t.Errorf("to where it is: %d %s", code, said)
	}
	if code, _, said := command(t, "migrate", on(from, "absent"), to.URI); code != 1 || !strings.Contains(said, `no machine and no deployment called "absent"`) {
		t.Errorf("a machine that is not there: %d %s", code, said)
	}
}
