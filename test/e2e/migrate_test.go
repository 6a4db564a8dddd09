package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ovation-project/ovation/deploy/journal"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/testenv"
	"github.com/ovation-project/ovation/test/appliance"
)

// moved is what migrate says as JSON.
type moved struct {
	ID       string
	Existed  bool
	Verified bool
	Removed  []string
	Disks    []struct {
		hypervisor.VolumeRef
		Disk, Digest string
		Bytes        int64
		Kept         bool
	}
}

func (u *user) migrate(args ...string) (m moved) {
	u.t.Helper()
	r := u.succeed(append([]string{"migrate", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(r.stdout), &m); err != nil {
		u.t.Fatalf("%v\n%s", err, r.stdout)
	}
	return m
}

// gate is a way to a TCP server that can be closed: nothing reaches the server
// then, and nobody is told.
type gate struct {
	address string
	// shut is asked before each piece.
	shut   atomic.Pointer[func() bool]
	closed chan struct{}
	once   sync.Once
}

func newGate(t *testing.T, to string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	g := &gate{address: l.Addr().String(), closed: make(chan struct{})}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			go func() { _, _ = io.Copy(in, out); in.Close() }()
			go func() { defer out.Close(); g.pass(in, out) }()
		}
	}()
	return g
}

func (g *gate) pass(in io.Reader, out io.Writer) {
	b := make([]byte, 64<<10)
	for {
		n, err := in.Read(b)
		if shut := g.shut.Load(); shut != nil && (*shut)() {
			g.once.Do(func() { close(g.closed) })
			_, _ = io.Copy(io.Discard, in) // until the program is gone
			return
		}
		if _, wrong := out.Write(b[:n]); err != nil || wrong != nil {
			return
		}
	}
}

// filled says whether a journal of a user's has a disk that is complete.
func (u *user) filled() bool {
	store := journal.Store{Dir: filepath.Join(u.root, "home", ".local", "state", "ovation", "deployments")}
	all, err := store.List()
	if err != nil {
		return false
	}
	for _, s := range all {
		for i, step := range s.Plan.Steps {
			if step.Do == plan.FillVolume && s.Done[i] && !s.Complete && s.Plan.Volume(*step.Volume).Content == plan.Disk {
				return true
			}
		}
	}
	return false
}

// TestMigrate takes a machine that was deployed from one libvirt to another and
// back: shown first, killed in the middle and begun again. The guest reports the
// same at each place, and its disks are the same, bit by bit.
func TestMigrate(t *testing.T) {
	t.Parallel()
	testenv.NeedTool(t, "qemu-system-x86_64")
	testenv.NeedTool(t, "qemu-img")
	here, there := startLibvirt(t), startLibvirt(t)
	p := build(t, appliance.Spec{Controller: "ahci", CPUs: 2, CoresPerSocket: 2, MemoryMiB: 320, Disks: []appliance.Disk{{Size: 4 << 20, Seed: 51, Controller: "pvscsi"}},
		NICs:       []appliance.NIC{{Model: "VmxNet3", MAC: mac(51)}, {Model: "virtio", MAC: mac(52)}},
		Properties: []appliance.Property{{Key: "hostname", Value: "web1"}, {Key: "secret", Value: "hunter2", Password: true}}})
	u := newUser(t)
	u.succeed("deploy", p.OVA, "--to", here.URI, "--name", "web", "--uuid", "keep", "--property", "hostname=shop7", "--property", "secret=hunter3")
	first := here.report("web")
	source := here.names()

	server, err := url.Parse(there.TCP)
	if err != nil {
		t.Fatal(err)
	}
	g := newGate(t, server.Host)
	to := "qemu+tcp://" + g.address + "/session"
	from := "qemu+unix:///session/web?socket=" + here.Socket

	var shown struct{ Plan *plan.Plan }
	r := u.succeed("migrate", from, to, "--dry-run", "--json")
	if err := json.Unmarshal([]byte(r.stdout), &shown); err != nil {
		t.Fatal(err)
	}
	if left := there.names(); len(left) > 0 {
		t.Fatalf("the dry run made %q", left)
	}

	// Killed when one disk is complete.
	shut := u.filled
	g.shut.Store(&shut)
	killed := u.command(t.Context(), "migrate", from, to)
	var said bytes.Buffer
	killed.Stderr = &said
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-g.closed:
	case <-t.Context().Done():
		t.Fatal("no disk was ever complete")
	}
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := killed.Wait(); err == nil {
		t.Fatal("it was not killed")
	}
	if strings.Contains(said.String(), "hunter") {
		t.Errorf("a password is in what is said:\n%s", said.String())
	}
	if d := cmp.Diff(source, here.names()); d != "" {
		t.Errorf("the source: %s", d)
	}

	// The same again goes on, and makes what was shown.
	g.shut.Store(nil)
	m := u.migrate(from, to)
	kept := 0
	for _, d := range m.Disks {
		if d.Kept {
			kept++
		}
	}
	if kept == 0 || !m.Verified || len(m.Disks) != 2 {
		t.Errorf("migrated: %+v", m)
	}
	var names []string
	for _, v := range shown.Plan.Volumes {
		names = append(names, strings.ReplaceAll(v.Name, shown.Plan.ID, m.ID))
	}
	names = append(names, "machine web")
	slices.Sort(names)
	if d := cmp.Diff(names, there.names()); d != "" {
		t.Error("shown, made:", d)
	}
	for i, disk := range p.Disks {
		qemuImg(t, "compare", "-f", "raw", "-F", "raw", filepath.Join(there.PoolDir, m.Disks[i].Name), disk.Raw)
	}
	there.validXML("web")
	if d := cmp.Diff(source, here.names()); d != "" {
		t.Errorf("the source: %s", d)
	}
	second := there.report("web")

	// And back, where it was removed meanwhile.
	u.succeed("rm", "web", "--on", here.URI)
	back := u.migrate("qemu+tcp://"+g.address+"/session/web", here.URI, "--disk-format", "qcow2")
	for i := range back.Disks {
		if back.Disks[i].Digest != m.Disks[i].Digest || back.Disks[i].Bytes != m.Disks[i].Bytes {
			t.Errorf("disk %s: it was %+v, and is %+v", p.Disks[i].Raw, m.Disks[i], back.Disks[i])
		}
		qemuImg(t, "compare", "-f", "qcow2", "-F", "raw", filepath.Join(here.PoolDir, back.Disks[i].Name), p.Disks[i].Raw)
	}
	third := here.report("web")

	a, told := sight(t, first)
	if !slices.Contains(told, "hostname=shop7") || !slices.Contains(told, "secret=hunter3") {
		t.Errorf("the guest was told %q", told)
	}
	for place, r := range map[string]*appliance.Report{"at the target": second, "back": third} {
		b, toldAgain := sight(t, r)
		if diff := cmp.Diff(a, b); diff != "" {
			t.Errorf("the guest found another machine %s:\n%s", place, diff)
		}
		if diff := cmp.Diff(told, toldAgain); diff != "" {
			t.Errorf("the guest was told something else %s:\n%s", place, diff)
		}
	}
	here.remove("web")
	there.remove("web")
	for _, h := range []*libvirtHost{here, there} {
		if left := h.names(); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
	}
	if entries, err := os.ReadDir(u.work); err != nil && !errors.Is(err, os.ErrNotExist) || len(entries) > 0 {
		t.Errorf("the working folder: %v, %v", entries, err)
	}
}

// TestMigrateKept takes a machine that was run with QEMU to libvirt, and as a
// package elsewhere: the guest finds the same disks and cards.
func TestMigrateKept(t *testing.T) {
	t.Parallel()
	testenv.NeedTool(t, "qemu-system-x86_64")
	h := startLibvirt(t)
	p := build(t, appliance.Spec{Controller: "ahci", CPUs: 2, Disks: []appliance.Disk{data(61, "virtio-blk")}, NICs: []appliance.NIC{{Model: "E1000", MAC: mac(61)}},
		Properties: []appliance.Property{{Key: "hostname", Value: "web1"}}})
	u := newUser(t)
	checkReport(t, p, boot(t, u, p.OVA, "--keep", "kept", "--property", "hostname=kept7"), "bios", "ahci")
	m := u.migrate("kept", h.URI, "--name", "web")
	if !m.Verified || len(m.Disks) != 2 {
		t.Errorf("%+v", m)
	}
	r := h.report("web")
	checkReport(t, p, r, "bios", "ahci")
	if _, told := sight(t, r); !slices.Contains(told, "hostname=kept7") {
		t.Errorf("the guest was told %q", told)
	}
	u.succeed("export", "kept", "-o", "kept.ova", "--mac", "keep")
	u.succeed("verify", "kept.ova")
	checkReport(t, p, boot(t, u, "kept.ova"), "bios", "ahci")
	h.remove("web")
	if left := h.names(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
