package migrate_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ovation-project/ovation/author/export"
	"github.com/ovation-project/ovation/deploy/journal"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/formats"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/drivertest"
	"github.com/ovation-project/ovation/internal/diskmodel"
	"github.com/ovation-project/ovation/migrate"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const capacity = 3 << 20

// content is what a guest could have on a disk: texts and holes.
func content(seed uint64) []byte {
	b := make([]byte, capacity)
	rnd := rand.New(rand.NewPCG(seed, 7))
	diskmodel.Text(rnd, b[64<<10:200_000])
	diskmodel.Text(rnd, b[2<<20:2<<20+70_000])
	return b
}

const (
	uuid = "6b1f4e0a-58c1-4d5e-9c1b-1f2e3d4c5b6a"
	mac  = "52:54:00:12:34:56"
)

// define makes a machine of somebody else's with disks of these contents.
func define(t testing.TB, h hypervisor.Host, name string, contents ...[]byte) hypervisor.Guest {
	t.Helper()
	m := hypervisor.Machine{
		ID: name, Name: name, UUID: uuid, Architecture: "x86_64", Chipset: hypervisor.Q35, OS: "linux",
		CPU: hypervisor.CPU{Count: 2, CoresPerSocket: 2}, Memory: hypervisor.Memory{Bytes: 192 << 20},
		Firmware:    hypervisor.Firmware{Kind: hypervisor.UEFI, SecureBoot: true},
		Controllers: []hypervisor.Controller{{ID: "c", Model: hypervisor.VirtIOSCSI}, {ID: "s", Model: hypervisor.AHCI}},
		NICs:        []hypervisor.NIC{{ID: "n", Model: hypervisor.VMXNET3, MAC: mac, Network: "LAN", HostNetwork: "LAN"}},
		Serials:     []hypervisor.Serial{{ID: "s"}}, Display: "virtio", USB: []string{"xhci"},
	}
	for i, c := range contents {
		ref := drivertest.Put(t, h, fmt.Sprintf("%s-%d", name, i), "raw", c)
		m.Drives = append(m.Drives, hypervisor.Drive{ID: fmt.Sprintf("sd%c", 'a'+i), Kind: hypervisor.HardDisk, Controller: "c", Unit: i,
			Capacity: int64(len(c)), Medium: &hypervisor.Medium{Format: "raw", Volume: &ref}})
	}
	m.Drives = append(m.Drives, hypervisor.Drive{ID: "sr0", Kind: hypervisor.CDROM, Controller: "s"})
	g, err := h.Define(t.Context(), m, hypervisor.Record{})
	check(t, err)
	return g
}

// world is two hosts and a place for journals.
type world struct {
	t        testing.TB
	from, to *drivertest.Memory
	store    journal.Store
	notes    []string
	mu       sync.Mutex
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, from: drivertest.NewMemory(), to: drivertest.NewMemory(), store: journal.Store{Dir: filepath.Join(t.TempDir(), "state")}}
	w.from.Name, w.to.Name = "from:///system", "to:///system"
	w.from.NetworkList = append(w.from.NetworkList, hypervisor.Network{Name: "LAN", Kind: "network", Active: true})
	return w
}

func (w *world) options() migrate.Options {
	return migrate.Options{Store: w.store, TempDir: os.TempDir(), Export: export.Options{Note: func(s string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.notes = append(w.notes, s)
	}}}
}

func (w *world) look(opt migrate.Options, names ...string) *migrate.Migration {
	w.t.Helper()
	m, err := migrate.Look(w.t.Context(), w.sources(names...), w.to, opt)
	check(w.t, err)
	return m
}

func (w *world) sources(names ...string) (from []export.Source) {
	for _, n := range names {
		from = append(from, export.Source{Host: w.from, Name: n})
	}
	return from
}

// there are the names of all that a host has.
func there(t testing.TB, h *drivertest.Memory) []string {
	t.Helper()
	var names []string
	for _, v := range h.Volumes() {
		names = append(names, v.Name)
	}
	all, err := h.List(context.Background(), true)
	check(t, err)
	for _, m := range all {
		state, err := m.State(context.Background())
		check(t, err)
		names = append(names, fmt.Sprint("machine ", m.Name, " ", state))
	}
	return names
}

// nothing sees that nothing is at the target, nor here.
func (w *world) nothing() {
	w.t.Helper()
	if left := there(w.t, w.to); len(left) > 0 {
		w.t.Fatalf("the target has %q", left)
	}
	if all, err := w.store.List(); err != nil || len(all) > 0 {
		w.t.Fatalf("journals: %d, %v", len(all), err)
	}
}

// holds sees that the disks of a machine at the target have these contents.
func (w *world) holds(name string, contents ...[]byte) *hypervisor.Kept {
	w.t.Helper()
	k, err := w.to.Lookup(w.t.Context(), name)
	check(w.t, err)
	var hard []hypervisor.Drive
	for _, d := range k.Machine.Drives {
		if d.Kind == hypervisor.HardDisk {
			hard = append(hard, d)
		}
	}
	if len(hard) != len(contents) {
		w.t.Fatalf("%d disks of %d", len(hard), len(contents))
	}
	for i, d := range hard {
		r, err := w.to.OpenVolume(w.t.Context(), *d.Medium.Volume)
		check(w.t, err)
		f, err := formats.ByName(d.Medium.Format)
		check(w.t, err)
		img, err := f.Open(w.t.Context(), r, disk.OpenOptions{})
		check(w.t, err)
		got := make([]byte, img.Size())
		if _, err := img.ReadAt(got, 0); err != nil && !errors.Is(err, io.EOF) {
			w.t.Fatal(err)
		}
		if !bytes.Equal(got, contents[i]) {
			w.t.Fatalf("disk %d holds something else", i)
		}
	}
	return k
}

// TestMigrate takes a machine along: what is shown is what is made, the disks
// and what the guest is known by are the same, and nothing happens at the source.
func TestMigrate(t *testing.T) {
	for _, format := range []string{"", "qcow2"} {
		t.Run("format "+format, func(t *testing.T) {
			w := newWorld(t)
			define(t, w.from, "web", content(1), content(2))
			before, changes := there(t, w.from), len(w.from.Changes())
			opt := w.options()
			opt.DiskFormat = format
			m := w.look(opt, "web")
			w.nothing()
			if got := len(w.to.Changes()); got != 0 {
				t.Errorf("looking changed %v", w.to.Changes())
			}
			r, err := m.Run(t.Context())
			check(t, err)
			if !r.Plan.Same(m.Plan) || r.Existed || !r.Verified || r.Started || len(r.Disks) != 2 || r.Disks[0].Content == nil || len(r.Removed) > 0 {
				t.Errorf("result %+v", r)
			}
			k := w.holds("web", content(1), content(2))
			if want := m.Plan.Machine("web").Machine; cmp.Diff(want, k.Machine) != "" {
				t.Errorf("planned, made: %s", cmp.Diff(want, k.Machine))
			}
			x := k.Machine
			if x.UUID != uuid || x.NICs[0].MAC != mac || x.Chipset != hypervisor.Q35 || x.CPU.Count != 2 || x.CPU.CoresPerSocket != 2 || x.Memory.Bytes != 192<<20 ||
				x.Firmware.Kind != hypervisor.UEFI || !x.Firmware.SecureBoot || x.NICs[0].Model != hypervisor.VMXNET3 || x.NICs[0].HostNetwork != "default" {
				t.Errorf("machine %+v", x)
			}
			if k.Record.Locator != "from:///system/web" {
				t.Errorf("record %+v", k.Record)
			}
			var got []string
			for _, c := range m.Changes {
				got = append(got, c.String())
			}
			want := []string{
				"web: network card 1: vmxnet3, 52:54:00:12:34:56, on LAN → vmxnet3, 52:54:00:12:34:56, on default",
			}
			if format == "qcow2" {
				want = slices.Insert(want, 0, "web: disk sda: virtio-scsi 0:0, raw in pool default → virtio-scsi 0:0, qcow2 in pool default",
					"web: disk sdb: virtio-scsi 0:1, raw in pool default → virtio-scsi 0:1, qcow2 in pool default")
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("changes: %s", d)
			}
			if len(w.from.Changes()) != changes || cmp.Diff(before, there(t, w.from)) != "" {
				t.Errorf("at the source: %v", w.from.Changes()[changes:])
			}
			// Once more sends nothing.
			at := len(w.to.Changes())
			r, err = w.look(opt, "web").Run(t.Context())
			check(t, err)
			if !r.Existed || len(w.to.Changes()) != at || len(r.Disks) != 2 {
				t.Errorf("again: %+v, %v", r, w.to.Changes()[at:])
			}
		})
	}
}

// TestRunning has machines that run: they are refused, shut down, or go on.
func TestRunning(t *testing.T) {
	w := newWorld(t)
	g := define(t, w.from, "web", content(1))
	check(t, g.Start(t.Context()))
	changes := len(w.from.Changes())
	if _, err := w.look(w.options(), "web").Run(t.Context()); !errors.Is(err, hypervisor.ErrRunning) {
		t.Fatalf("got %v", err)
	}
	w.nothing()
	live := w.options()
	live.Export.Live, live.Name = true, "copy"
	if _, err := w.look(live, "web").Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.holds("copy", content(1))
	if now := w.from.Changes()[changes:]; len(now) > 0 {
		t.Errorf("the machine that went on: %v", now)
	}
	down := w.options()
	down.Export.Shutdown, down.Start = time.Minute, true
	r, err := w.look(down, "web").Run(t.Context())
	check(t, err)
	if !r.Started {
		t.Errorf("%+v", r)
	}
	k := w.holds("web", content(1))
	if state, err := k.State(t.Context()); err != nil || state != hypervisor.Running {
		t.Errorf("at the target it is %s, %v", state, err)
	}
	if state, err := g.State(t.Context()); err != nil || state != hypervisor.PoweredOff {
		t.Errorf("at the source it is %s, %v", state, err)
	}
	// The copy has the UUID, so that this one had to get another.
	if k.Machine.UUID == uuid {
		t.Error("two machines have one UUID")
	}
}

func TestRefused(t *testing.T) {
	w := newWorld(t)
	define(t, w.from, "web", content(1))
	small := *must(w.from.Capabilities(t.Context(), ""))
	small.MaxCPUs, small.NICs = 1, nil
	for name, c := range map[string]struct {
		change func(*migrate.Options)
		want   error
		says   string
	}{
		"both":           {func(o *migrate.Options) { o.Export.Live, o.Export.Shutdown = true, time.Second }, migrate.ErrUsage, "goes on"},
		"live, removed":  {func(o *migrate.Options) { o.Export.Live, o.RemoveSource, o.Start = true, true, true }, migrate.ErrUsage, "lost"},
		"not started":    {func(o *migrate.Options) { o.RemoveSource = true }, migrate.ErrUsage, "run at the target"},
		"no such pool":   {func(o *migrate.Options) { o.Pool = "fast" }, hypervisor.ErrUnfit, "fast"},
		"no such format": {func(o *migrate.Options) { o.DiskFormat = "vdi" }, hypervisor.ErrUnfit, "vdi"},
		"unfit":          {func(*migrate.Options) { w.to.Gives = &small }, hypervisor.ErrUnfit, "network card"},
	} {
		opt := w.options()
		w.to.Gives = nil
		c.change(&opt)
		_, err := migrate.Look(t.Context(), w.sources("web"), w.to, opt)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "InstanceID") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	w.to.Gives = nil
	if _, err := migrate.Look(t.Context(), w.sources("absent"), w.to, w.options()); !errors.Is(err, hypervisor.ErrNotFound) {
		t.Errorf("absent: %v", err)
	}
	// A name that is taken.
	_, err := w.to.Define(t.Context(), hypervisor.Machine{Name: "web"}, hypervisor.Record{})
	check(t, err)
	if _, err := migrate.Look(t.Context(), w.sources("web"), w.to, w.options()); !errors.Is(err, hypervisor.ErrExists) {
		t.Errorf("taken: %v", err)
	}
	// On the same host it needs a name, and is another machine.
	if _, err := migrate.Look(t.Context(), w.sources("web"), w.from, w.options()); !errors.Is(err, hypervisor.ErrExists) {
		t.Errorf("to where it is: %v", err)
	}
	opt := w.options()
	opt.Name = "web2"
	m, err := migrate.Look(t.Context(), w.sources("web"), w.from, opt)
	check(t, err)
	_, err = m.Run(t.Context())
	check(t, err)
	k, err := w.from.Lookup(t.Context(), "web2")
	check(t, err)
	if k.Machine.UUID == uuid {
		t.Error("two machines of one host have one UUID")
	}
	var said bool
	for _, n := range m.Plan.Machines[0].Notes {
		said = said || strings.Contains(n.Text, "the same address")
	}
	if !said {
		t.Errorf("notes %v", m.Plan.Machines[0].Notes)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var errTest = errors.New("for the test")

// fails has the target fail at a change.
func (w *world) fails(at int, undoes bool) {
	n := 0
	w.to.Fault = func(string, bool) error {
		if n++; n == at+1 || n > at && !undoes {
			return errTest
		}
		return nil
	}
}

// count is how many changes a whole migration makes at the target.
func count(t testing.TB, start bool) int {
	w := newWorld(t)
	define(t, w.from, "web", content(1), content(2))
	n := 0
	w.to.Fault = func(string, bool) error { n++; return nil }
	opt := w.options()
	opt.Start = start
	_, err := w.look(opt, "web").Run(t.Context())
	check(t, err)
	return n
}

// TestFails has each change at the target fail: nothing stays there, and the
// source, which ran, runs again.
func TestFails(t *testing.T) {
	n := count(t, true)
	if n < 10 {
		t.Fatalf("%d changes only", n)
	}
	for at := range n - 1 { // a machine that runs is started, whatever was said of it
		w := newWorld(t)
		g := define(t, w.from, "web", content(1), content(2))
		check(t, g.Start(t.Context()))
		before := there(t, w.from)
		w.fails(at, true)
		opt := w.options()
		opt.Start, opt.Export.Shutdown, opt.RemoveSource = true, time.Minute, true
		if _, err := w.look(opt, "web").Run(t.Context()); !errors.Is(err, errTest) {
			t.Fatalf("change %d: %v", at, err)
		}
		w.to.Fault = nil
		w.nothing()
		if d := cmp.Diff(before, there(t, w.from)); d != "" {
			t.Fatalf("change %d: the source: %s", at, d)
		}
	}
}

// TestKeep leaves what arrived where it fails, and goes on from there.
func TestKeep(t *testing.T) {
	w := newWorld(t)
	g := define(t, w.from, "web", content(1), content(2))
	check(t, g.Start(t.Context()))
	opt := w.options()
	opt.Start, opt.Export.Shutdown, opt.KeepOnFailure = true, time.Minute, true
	w.to.Fault = func(change string, made bool) error {
		if strings.HasPrefix(change, "define") {
			return errTest
		}
		return nil
	}
	if _, err := w.look(opt, "web").Run(t.Context()); !errors.Is(err, errTest) {
		t.Fatalf("got %v", err)
	}
	w.to.Fault = nil
	if state, err := g.State(t.Context()); err != nil || state != hypervisor.PoweredOff {
		t.Errorf("the source is %s, %v", state, err)
	}
	before := len(w.to.Changes())
	r, err := w.look(opt, "web").Run(t.Context())
	check(t, err)
	if d := cmp.Diff([]string{"define web", "start web"}, w.to.Changes()[before:]); d != "" || !r.Disks[0].Kept || !r.Disks[1].Kept {
		t.Errorf("%s, %+v", d, r.Disks)
	}
	w.holds("web", content(1), content(2))
}

// killed runs a migration that is killed at one moment: nothing of what comes
// later reaches the target or the journal.
func (w *world) killed(m *migrate.Migration, at int) {
	w.t.Helper()
	journalPath := filepath.Join(w.store.Folder(m.Plan.ID), "journal")
	var mu sync.Mutex
	var saved []byte
	n := 0
	w.to.Fault = func(string, bool) error {
		mu.Lock()
		defer mu.Unlock()
		if n++; n <= at {
			return nil
		}
		if saved == nil {
			saved, _ = os.ReadFile(journalPath)
		}
		return errTest
	}
	_, err := m.Run(w.t.Context())
	w.to.Fault = nil
	if err == nil || saved == nil {
		w.t.Fatalf("change %d was not reached: %v", at, err)
	}
	check(w.t, os.MkdirAll(filepath.Dir(journalPath), 0o700)) // it took nothing back
	check(w.t, os.WriteFile(journalPath, saved, 0o600))
}

// filled are the volumes that a journal says are filled.
func (w *world) filled() (refs []hypervisor.VolumeRef) {
	all, err := w.store.List()
	check(w.t, err)
	for _, s := range all {
		for i, step := range s.Plan.Steps {
			if step.Do == plan.FillVolume && s.Done[i] {
				refs = append(refs, *step.Volume)
			}
		}
	}
	return refs
}

// TestKilled kills a migration at every moment, and begins it again: what was
// whole is not sent again. The source is as it was, or has changed.
func TestKilled(t *testing.T) {
	resumed := 0
	for at := range count(t, true) - 1 {
		for _, changed := range []bool{false, true} {
			w := newWorld(t)
			g := define(t, w.from, "web", content(1), content(2))
			opt := w.options()
			opt.Start = true
			m := w.look(opt, "web")
			w.killed(m, at)
			before := w.filled()
			want := [][]byte{content(1), content(2)}
			if changed {
				check(t, g.Remove(t.Context()))
				for _, v := range w.from.Volumes() {
					check(t, w.from.RemoveVolume(t.Context(), v))
				}
				want[1] = content(3)
				define(t, w.from, "web", want...)
			}
			changes := len(w.to.Changes())
			r, err := w.look(opt, "web").Run(t.Context())
			if err != nil {
				t.Fatalf("killed at %d, changed %v: %v", at, changed, err)
			}
			w.holds("web", want...)
			if !r.Verified || !r.Started {
				t.Errorf("result %+v", r)
			}
			now := w.to.Changes()[changes:]
			for _, ref := range before {
				again := slices.Contains(now, "create-volume default/"+ref.Name)
				if !changed && again {
					t.Errorf("killed at %d: %s was whole and made again: %v", at, ref.Name, now)
				}
			}
			if !changed {
				kept := 0
				for _, d := range r.Disks {
					if d.Kept {
						kept++
					}
				}
				resumed += kept
				if kept != len(before) {
					t.Errorf("killed at %d: kept %v of %v", at, r.Disks, before)
				}
			}
			if n := len(w.to.Volumes()); n != 2 {
				t.Errorf("killed at %d, changed %v: %d volumes: %v", at, changed, n, w.to.Volumes())
			}
			if all, err := w.store.List(); err != nil || len(all) != 1 || !all[0].Complete {
				t.Errorf("journals %v, %v", all, err)
			}
		}
	}
	if resumed == 0 {
		t.Error("nothing was ever kept")
	}
}

// TestChanged migrates a machine again whose disks have changed since.
func TestChanged(t *testing.T) {
	w := newWorld(t)
	g := define(t, w.from, "web", content(1))
	_, err := w.look(w.options(), "web").Run(t.Context())
	check(t, err)
	check(t, g.Remove(t.Context()))
	check(t, w.from.RemoveVolume(t.Context(), hypervisor.VolumeRef{Pool: "default", Name: "web-0"}))
	define(t, w.from, "web", content(2))
	before := there(t, w.to)
	_, err = w.look(w.options(), "web").Run(t.Context())
	if !errors.Is(err, hypervisor.ErrExists) || !strings.Contains(err.Error(), "have changed since") {
		t.Errorf("got %v", err)
	}
	if d := cmp.Diff(before, there(t, w.to)); d != "" {
		t.Errorf("the target: %s", d)
	}
}

// TestRemoveSource removes the machine when it runs at the target; what others
// need stays.
func TestRemoveSource(t *testing.T) {
	w := newWorld(t)
	define(t, w.from, "web", content(1), content(2))
	iso := drivertest.Put(t, w.from, "cd", "iso", []byte("CD001"))
	k, err := w.from.Lookup(t.Context(), "web")
	check(t, err)
	other := k.Machine
	other.Name, other.UUID = "other", ""
	other.Drives = []hypervisor.Drive{k.Machine.Drives[1], {ID: "cd", Kind: hypervisor.CDROM, Controller: "s", Medium: &hypervisor.Medium{Format: "raw", Volume: &iso}}}
	_, err = w.from.Define(t.Context(), other, hypervisor.Record{})
	check(t, err)
	opt := w.options()
	opt.RemoveSource, opt.Start = true, true
	r, err := w.look(opt, "web").Run(t.Context())
	check(t, err)
	w.holds("web", content(1), content(2))
	if d := cmp.Diff([]string{"cd", "web-1", "machine other off"}, there(t, w.from)); d != "" {
		t.Errorf("the source has %s", d)
	}
	if cmp.Diff([]string{"web"}, r.Removed) != "" || len(r.Stays) != 1 || !strings.Contains(r.Stays[0], "other") {
		t.Errorf("removed %q, stays %q", r.Removed, r.Stays)
	}
}

// TestRemoveLater removes the source by the same command later, unless it has
// run meanwhile.
func TestRemoveLater(t *testing.T) {
	w := newWorld(t)
	define(t, w.from, "web", content(1))
	_, err := w.look(w.options(), "web").Run(t.Context())
	check(t, err)
	opt := w.options()
	opt.RemoveSource, opt.Start = true, true
	r, err := w.look(opt, "web").Run(t.Context())
	check(t, err)
	if !r.Existed || !r.Started || len(r.Removed) != 1 {
		t.Errorf("%+v", r)
	}
	if left := there(t, w.from); len(left) > 0 {
		t.Errorf("the source has %q", left)
	}
	k := w.holds("web", content(1))
	if state, err := k.State(t.Context()); err != nil || state != hypervisor.Running {
		t.Errorf("at the target it is %s, %v", state, err)
	}
}

// TestAltered has a target that keeps something else than what it was sent.
func TestAltered(t *testing.T) {
	w := newWorld(t)
	define(t, w.from, "web", content(1))
	m, err := migrate.Look(t.Context(), w.sources("web"), &altering{w.to}, w.options())
	check(t, err)
	if _, err := m.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "does not hold what was written") {
		t.Errorf("got %v", err)
	}
	w.nothing()
	opt := w.options()
	opt.NoVerify = true
	m, err = migrate.Look(t.Context(), w.sources("web"), &altering{w.to}, opt)
	check(t, err)
	r, err := m.Run(t.Context())
	if err != nil || r.Verified {
		t.Errorf("not verified: %+v, %v", r, err)
	}
}

type altering struct{ *drivertest.Memory }

func (h *altering) OpenVolume(ctx context.Context, ref hypervisor.VolumeRef) (hypervisor.VolumeReader, error) {
	r, err := h.Memory.OpenVolume(ctx, ref)
	return flipped{r}, err
}

type flipped struct{ hypervisor.VolumeReader }

func (f flipped) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.VolumeReader.ReadAt(b, off)
	if at := int64(100_000); off <= at && at < off+int64(n) {
		b[at-off] ^= 4
	}
	return n, err
}
