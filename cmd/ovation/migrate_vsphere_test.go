package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ovation-project/ovation/deploy/kept"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/formats"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/drivertest"
	"github.com/ovation-project/ovation/hypervisor/libvirt"
	"github.com/ovation-project/ovation/internal/testlibvirt"
	"github.com/ovation-project/ovation/internal/testvsphere"
)

// defineTwo makes a machine with two disks and two cards on a host.
func defineTwo(t *testing.T, h *libvirt.Host, name string, contents ...[]byte) hypervisor.Machine {
	t.Helper()
	m := drivertest.Machine(t, nil)
	m.ID, m.Name, m.UUID, m.Chipset = name, name, "1d5c3b2a-7e6f-4a5b-8c9d-0e1f2a3b4c5d", hypervisor.I440FX
	m.CPU.Count, m.Memory.Bytes = 2, 192<<20
	m.Controllers = []hypervisor.Controller{{ID: "s", Model: hypervisor.IDE}}
	m.NICs = []hypervisor.NIC{{ID: "a", Model: hypervisor.E1000, MAC: "52:54:00:00:00:71"}, {ID: "b", Model: hypervisor.VMXNET3, MAC: "52:54:00:00:00:72"}}
	m.Drives = nil
	for i, c := range contents {
		ref := drivertest.Put(t, h, name+string(rune('0'+i))+".img", "raw", c)
		m.Drives = append(m.Drives, hypervisor.Drive{ID: ref.Name, Kind: hypervisor.HardDisk, Controller: "s", Unit: i, BootOrder: i + 1, Medium: &hypervisor.Medium{Format: "raw", Volume: &ref}})
	}
	if _, err := h.Define(t.Context(), m, hypervisor.Record{}); err != nil {
		t.Fatal(err)
	}
	return m
}

// text is a disk with something in it.
func text(size int, words string) []byte {
	b := make([]byte, size)
	for at := 0; at < size; at += 256 << 10 {
		copy(b[at:], strings.Repeat(words, 1000))
	}
	return b
}

// raw is what a disk in a file holds.
func raw(t *testing.T, format string, file []byte) []byte {
	t.Helper()
	f, err := formats.ByName(format)
	if err != nil {
		t.Fatal(err)
	}
	img, err := f.Open(t.Context(), memoryFile{bytes.NewReader(file)}, disk.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	b := make([]byte, img.Size())
	if _, err := img.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return b
}

type memoryFile struct{ *bytes.Reader }

// TestMigrateVSphere takes a machine from libvirt to vSphere and back, against
// govmomi's simulator: its disks are the same there and here.
func TestMigrateVSphere(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	d := testlibvirt.Start(t, testlibvirt.Options{})
	v := testvsphere.Start(t, testvsphere.Options{})
	h := openLibvirt(t, d.URI)
	contents := [][]byte{text(4<<20, "system"), text(3<<20, "data")}
	was := defineTwo(t, h, "web", contents...)
	cluster := v.URI("DC0/host/DC0_C0")
	web := strings.Replace(cluster, "?", "/web?", 1)

	// What the target does not have is said, with what would help.
	if code, _, said := command(t, "migrate", on(d, "web"), cluster, "--disk-bus", "virtio"); code != 5 || !strings.Contains(said, "--disk-bus") || strings.Contains(said, "InstanceID") {
		t.Errorf("virtio: %d %s", code, said)
	}
	if code, _, said := command(t, "migrate", on(d, "web"), cluster, "--disk-format", "qcow2"); code != 5 || !strings.Contains(said, "disk format") {
		t.Errorf("qcow2: %d %s", code, said)
	}
	shown := ok(t, "migrate", on(d, "web"), cluster, "--dry-run")
	if !strings.Contains(shown, "import") || !strings.Contains(shown, "verify-machine web") || !strings.Contains(shown, "Datastore: ") {
		t.Errorf("dry run: %s", shown)
	}
	if text := ok(t, "ps", "--on", cluster); strings.Contains(text, "web") {
		t.Errorf("the dry run made %s", text)
	}

	// What fails in the middle leaves nothing there.
	var uploads atomic.Int32
	v.Transfer = func(name string, w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet && uploads.Add(1) == 2 {
			http.Error(w, "no more", http.StatusInsufficientStorage)
			return true
		}
		return false
	}
	if code, _, said := command(t, "migrate", on(d, "web"), cluster); code != 1 || !strings.Contains(said, "removed again") {
		t.Errorf("an upload that fails: %d %s", code, said)
	}
	if text := ok(t, "ps", "--on", cluster); strings.Contains(text, "web") {
		t.Errorf("what failed left %s", text)
	}
	v.Transfer = nil

	r := migratedTo(t, on(d, "web"), cluster, "--provisioning", "thin", "--disk-bus", "lsilogic")
	if !r.Verified || len(r.Disks) != 2 || r.Disks[0].Content == nil || r.Disks[0].Bytes != int64(len(contents[0])) {
		t.Errorf("%+v", r)
	}
	host, err := newApp(strings.NewReader(""), io.Discard, io.Discard).openHost(t.Context(), cluster)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	k, err := host.Lookup(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	m := k.Machine
	if m.CPU.Count != 2 || m.Memory.Bytes != 192<<20 || len(m.Drives) != 2 || len(m.NICs) != 2 || !strings.EqualFold(m.UUID, was.UUID) ||
		m.NICs[0].Model != hypervisor.E1000 || m.NICs[1].Model != hypervisor.VMXNET3 || m.NICs[0].MAC != was.NICs[0].MAC || m.NICs[1].MAC != was.NICs[1].MAC {
		t.Errorf("at vSphere it is %+v", m)
	}
	for _, c := range m.Controllers {
		if c.ID == m.Drives[0].Controller && c.Model != hypervisor.LSILogic {
			t.Errorf("its disks are on %s", c.Model)
		}
	}
	if again := migratedTo(t, on(d, "web"), cluster, "--provisioning", "thin", "--disk-bus", "lsilogic"); !again.Existed {
		t.Errorf("once more: %+v", again)
	}
	// The disk that was damaged there is found.
	if code, _, said := command(t, "migrate", web, d.URI, "--network", "no such network"); code != 5 && code != 1 {
		t.Errorf("a network that is not there: %d %s", code, said)
	}

	// Back under another name, with the source removed.
	back := migratedTo(t, web, d.URI, "--name", "back", "--uuid", "new", "--disk-format", "qcow2", "--network", "user", "--start", "--remove-source")
	if !back.Verified || len(back.Disks) != 2 || len(back.Removed) != 1 {
		t.Errorf("%+v", back)
	}
	files := images(t, d)
	for i := range back.Disks {
		if back.Disks[i].Digest != r.Disks[i].Digest {
			t.Errorf("disk %d: %s there, %s back", i, r.Disks[i].Digest, back.Disks[i].Digest)
		}
		if got := raw(t, "qcow2", files[back.Disks[i].Name]); !bytes.Equal(got, contents[i]) {
			t.Errorf("disk %d holds something else", i)
		}
	}
	if text := ok(t, "ps", "--on", cluster); strings.Contains(text, "web") {
		t.Errorf("the source has %s", text)
	}
}

// keptMachine is a folder with a machine of one disk that 'ovation run --keep' left.
func keptMachine(t *testing.T, name string, content []byte) string {
	t.Helper()
	dir := t.TempDir()
	m := hypervisor.Machine{ID: name, Name: name, Architecture: "x86_64", CPU: hypervisor.CPU{Count: 1}, Memory: hypervisor.Memory{Bytes: 64 << 20},
		Firmware: hypervisor.Firmware{Kind: hypervisor.BIOS}, Controllers: []hypervisor.Controller{{ID: "c", Model: hypervisor.LSILogic}},
		NICs: []hypervisor.NIC{{ID: "n", Model: hypervisor.E1000, Network: "LAN", HostNetwork: "user"}},
		Drives: []hypervisor.Drive{{ID: "disk.img", Kind: hypervisor.HardDisk, Controller: "c", Capacity: int64(len(content)),
			Medium: &hypervisor.Medium{Format: "raw", Volume: &hypervisor.VolumeRef{Pool: kept.Pool, Name: "disk.img"}}}}}
	text, err := json.Marshal(map[string]any{"apiVersion": kept.APIVersion, "machines": []any{map[string]any{"machine": m, "record": hypervisor.Record{}, "own": "machine-" + name}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.Mkdir(filepath.Join(dir, "machine-"+name), 0o700),
		os.WriteFile(filepath.Join(dir, "disk.img"), content, 0o600),
		os.WriteFile(filepath.Join(dir, kept.FileName), text, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestMigrateAmongVSphere takes a machine that was run here to one vSphere, and
// from there to another one: off, and as it runs.
func TestMigrateAmongVSphere(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	one, two := testvsphere.Start(t, testvsphere.Options{}), testvsphere.Start(t, testvsphere.Options{})
	content := text(3<<20, "kept")
	a, b := one.URI("DC0/host/DC0_C0"), two.URI("DC0/host/DC0_C0")
	named := func(uri, name string) string { return strings.Replace(uri, "?", "/"+name+"?", 1) }

	first := migratedTo(t, keptMachine(t, "web", content), a)
	if !first.Verified || len(first.Disks) != 1 || first.Disks[0].Bytes != int64(len(content)) {
		t.Fatalf("%+v", first)
	}
	off := migratedTo(t, named(a, "web"), b, "--name", "off")
	if !off.Verified || off.Disks[0].Digest != first.Disks[0].Digest || len(off.Removed) != 0 {
		t.Errorf("off: %+v", off)
	}
	ok(t, "start", "--on", a, "web")
	if code, _, said := command(t, "migrate", named(a, "web"), b, "--name", "running"); code != 1 || !strings.Contains(said, "--live") {
		t.Errorf("a machine that runs: %d %s", code, said)
	}
	live := migratedTo(t, named(a, "web"), b, "--name", "live", "--live", "--uuid", "new", "--mac", "new")
	if !live.Verified || live.Disks[0].Digest != first.Disks[0].Digest {
		t.Errorf("live: %+v", live)
	}
	// What was running goes on, and has no snapshot left.
	if text := ok(t, "ps", "--on", a); !strings.Contains(text, "running") {
		t.Errorf("the source has %s", text)
	}
	moved := migratedTo(t, named(a, "web"), b, "--name", "moved", "--shutdown", "--start", "--remove-source", "--uuid", "new", "--mac", "new")
	if !moved.Verified || len(moved.Removed) != 1 {
		t.Errorf("moved: %+v", moved)
	}
	if text := ok(t, "ps", "--on", a); strings.Contains(text, "web") {
		t.Errorf("the source has %s", text)
	}
	text := ok(t, "ps", "--on", b)
	for _, name := range []string{"off", "live", "moved"} {
		if !strings.Contains(text, name) {
			t.Errorf("the target has no %s: %s", name, text)
		}
	}
}
