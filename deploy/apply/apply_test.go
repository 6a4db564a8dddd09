package apply

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ovation-project/ovation/deploy/journal"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/disk/digest"
	"github.com/ovation-project/ovation/disk/qcow2"
	"github.com/ovation-project/ovation/disk/raw"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/drivertest"
)

const capacity = 1 << 20

// content is what a disk holds: noise, and holes.
func content(id string) []byte {
	b := make([]byte, capacity)
	for at := 0; at < len(b); at += 128 << 10 {
		copy(b[at:], strings.Repeat(id, 1000))
	}
	return b
}

// source gives disks, a file and documents.
type source struct {
	// fault, where set, is asked before each.
	fault func(what string) error
	// once, where set, is for content that comes once: nobody gets any before
	// all are there who take of it.
	once *sync.WaitGroup
}

// together waits for all that take of what comes once.
func (s *source) together(ctx context.Context) error {
	if s.once == nil {
		return nil
	}
	s.once.Done()
	all := make(chan struct{})
	go func() { s.once.Wait(); close(all) }()
	select {
	case <-all:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *source) ask(what string) error {
	if s.fault == nil {
		return nil
	}
	return s.fault(what)
}

func (s *source) CopyDisk(ctx context.Context, id string, create func(context.Context, convert.Source) (disk.Writer, error)) error {
	if err := errors.Join(s.together(ctx), s.ask("disk "+id)); err != nil {
		return err
	}
	img, err := raw.Format{}.Open(ctx, bytesFile{bytes.NewReader(content(id))}, disk.OpenOptions{})
	if err != nil {
		return err
	}
	w, err := create(ctx, img)
	if err != nil {
		return err
	}
	_, err = convert.Run(ctx, img, w, convert.Options{})
	return err
}

type bytesFile struct{ *bytes.Reader }

func (s *source) CopyFile(ctx context.Context, href string, to io.Writer) error {
	if err := errors.Join(s.together(ctx), s.ask("file "+href)); err != nil {
		return err
	}
	_, err := io.WriteString(to, "content of "+href)
	return err
}

func (s *source) Environment(_ context.Context, machine string) ([]byte, error) {
	return []byte("environment of " + machine), s.ask("environment " + machine)
}

// testPlan has two machines that share a disk, with a disk, a CD-ROM and an
// environment each, and starts them.
func testPlan(format string) *plan.Plan {
	p := &plan.Plan{APIVersion: plan.APIVersion, ID: plan.NewID(), Name: "app", Target: "memory:", Made: time.Now()}
	volume := func(name, format string, v plan.Volume) *hypervisor.VolumeRef {
		v.VolumeSpec = hypervisor.VolumeSpec{VolumeRef: hypervisor.VolumeRef{Pool: "default", Name: name + "-" + p.ID}, Format: format, CapacityBytes: capacity}
		p.Volumes = append(p.Volumes, v)
		return &v.VolumeRef
	}
	quorum := volume("quorum", "raw", plan.Volume{Content: plan.Disk, Disk: "quorum"})
	cd := volume("cd", "iso", plan.Volume{Content: plan.File, File: "cd.iso"})
	for _, name := range []string{"app-web", "app-db"} {
		m := plan.Machine{Machine: hypervisor.Machine{ID: name, Name: name, Architecture: "x86_64", CPU: hypervisor.CPU{Count: 1},
			Controllers: []hypervisor.Controller{{ID: "c", Model: hypervisor.AHCI}}},
			Record: hypervisor.Record{Deployment: p.ID, System: name}}
		for i, ref := range []*hypervisor.VolumeRef{volume(name, format, plan.Volume{Content: plan.Disk, Disk: name}), quorum,
			volume(name+"-env", "iso", plan.Volume{Content: plan.Environment, Machine: name}), cd} {
			m.Drives = append(m.Drives, hypervisor.Drive{ID: fmt.Sprint(i), Kind: hypervisor.HardDisk, Controller: "c", Unit: i,
				Medium: &hypervisor.Medium{Format: "raw", Volume: ref}})
		}
		p.Machines = append(p.Machines, m)
	}
	for _, do := range []plan.Action{plan.CreateVolume, plan.FillVolume} {
		for k := range p.Volumes {
			p.Steps = append(p.Steps, plan.Step{Do: do, Volume: &p.Volumes[k].VolumeRef})
		}
	}
	for _, m := range p.Machines {
		p.Steps = append(p.Steps, plan.Step{Do: plan.Define, Machine: m.Name})
	}
	p.Steps = append(p.Steps, plan.Step{Do: plan.Start})
	return p
}

// verified has the disks of a plan verified.
func verified(p *plan.Plan) *plan.Plan {
	at := slices.IndexFunc(p.Steps, func(s plan.Step) bool { return s.Do == plan.Define })
	for k := range p.Volumes {
		if p.Volumes[k].Content == plan.Disk {
			p.Steps = slices.Insert(p.Steps, at, plan.Step{Do: plan.VerifyVolume, Volume: &p.Volumes[k].VolumeRef})
		}
	}
	return p
}

// world is a host and a place for journals, with things on the host that are
// somebody else's.
type world struct {
	t      fataler
	host   *drivertest.Memory
	store  journal.Store
	others string
	// settle, where set, settles plans of what comes once.
	settle func(first *plan.Plan) (*plan.Plan, error)
}

// source is that of a program that carries a plan out.
func (w *world) source() *source {
	s := &source{}
	if w.settle != nil {
		s.once = &sync.WaitGroup{}
		s.once.Add(4) // the disks and the file of testPlan
	}
	return s
}

type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func newWorld(t fataler, dir string, local bool) *world {
	h := drivertest.NewMemory()
	if local {
		h.Dir = filepath.Join(dir, "pools")
		h.PoolList[0].Local = true
	}
	w := &world{t: t, host: h, store: journal.Store{Dir: filepath.Join(dir, "state")}}
	if _, err := h.CreateVolume(context.Background(), hypervisor.VolumeSpec{VolumeRef: hypervisor.VolumeRef{Pool: "default", Name: "theirs"}, Format: "raw"}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Define(context.Background(), hypervisor.Machine{Name: "theirs"}, hypervisor.Record{Deployment: "theirs"}); err != nil {
		t.Fatal(err)
	}
	w.others = w.names()
	return w
}

// names are all that there is on the host.
func (w *world) names() string {
	w.t.Helper()
	var names []string
	for _, v := range w.host.Volumes() {
		names = append(names, v.Name)
	}
	all, err := w.host.List(context.Background(), true)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, m := range all {
		state, err := m.State(context.Background())
		if err != nil {
			w.t.Fatal(err)
		}
		names = append(names, fmt.Sprint("machine ", m.Name, " ", state))
	}
	return strings.Join(names, "\n")
}

// options start the machines as the plan says.
func (w *world) options(s *source, p *plan.Plan) Options {
	o := Options{Source: s, TempDir: os.TempDir(), Start: func(ctx context.Context) error {
		for _, m := range p.Machines {
			kept, err := w.host.Lookup(ctx, m.Name)
			if err != nil {
				return err
			}
			if state, err := kept.State(ctx); err != nil || state == hypervisor.Running {
				if err != nil {
					return err
				}
				continue
			}
			if err := kept.Start(ctx); err != nil {
				return err
			}
		}
		return nil
	}}
	if w.settle != nil {
		o.Parallel = 1 // which does not keep them from being there together
		o.Settle = func(context.Context) (*plan.Plan, error) { return w.settle(p) }
	}
	return o
}

// nothing sees that all is as it was, on the host and here.
func (w *world) nothing() {
	w.t.Helper()
	if now := w.names(); now != w.others {
		w.t.Fatalf("the host has\n%s\ninstead of\n%s", now, w.others)
	}
	if all, err := w.store.List(); err != nil || len(all) > 0 {
		w.t.Fatalf("journals: %d, %v", len(all), err)
	}
	entries, err := os.ReadDir(w.store.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "lock" {
			w.t.Fatalf("%s is left", e.Name())
		}
	}
}

// whole sees that all of the plan is there.
func (w *world) whole(p *plan.Plan) {
	w.t.Helper()
	ctx := context.Background()
	if n := len(w.host.Volumes()); n != len(p.Volumes)+1 {
		w.t.Fatalf("%d volumes:\n%s", n, w.names())
	}
	for _, v := range p.Volumes {
		r, err := w.host.OpenVolume(ctx, v.VolumeRef)
		if err != nil {
			w.t.Fatal(err)
		}
		want := []byte("content of " + v.File)
		switch v.Content {
		case plan.Environment:
			want = []byte("environment of " + v.Machine)
		case plan.Disk:
			want = content(v.Disk)
		}
		got := make([]byte, r.Size())
		if _, err := r.ReadAt(got, 0); err != nil && !errors.Is(err, io.EOF) {
			w.t.Fatal(err)
		}
		if v.Format == "qcow2" {
			img, err := qcow2.Format{}.Open(ctx, bytesFile{bytes.NewReader(got)}, disk.OpenOptions{})
			if err != nil {
				w.t.Fatal(err)
			}
			got = make([]byte, img.Size())
			if _, err := img.ReadAt(got, 0); err != nil && !errors.Is(err, io.EOF) {
				w.t.Fatal(err)
			}
		}
		got = append(got, make([]byte, max(0, len(want)-len(got)))...) // holes at the end
		if !bytes.Equal(got, want) {
			w.t.Fatalf("volume %s holds something else", v.Name)
		}
	}
	for _, m := range p.Machines {
		kept, err := w.host.Lookup(ctx, m.Name)
		if err != nil {
			w.t.Fatal(err)
		}
		if state, err := kept.State(ctx); err != nil || state != hypervisor.Running || kept.Record.Deployment != p.ID {
			w.t.Fatalf("machine %s: %v, %v", m.Name, state, err)
		}
	}
	states, err := w.store.List()
	if err != nil || len(states) != 1 || !states[0].Complete {
		w.t.Fatalf("journals: %+v, %v", states, err)
	}
}

func (w *world) apply(ctx context.Context, p *plan.Plan, s *source) error {
	w.t.Helper()
	j, err := w.store.Begin(p)
	if err != nil {
		w.t.Fatal(err)
	}
	return Apply(ctx, w.host, j, w.options(s, p))
}

func TestApply(t *testing.T) {
	for _, local := range []bool{true, false} {
		for _, format := range []string{"raw", "qcow2"} {
			t.Run(fmt.Sprint("local ", local, " ", format), func(t *testing.T) {
				w := newWorld(t, t.TempDir(), local)
				p := testPlan(format)
				if err := w.apply(t.Context(), p, &source{}); err != nil {
					t.Fatal(err)
				}
				w.whole(p)
				// Once more changes nothing.
				changes := len(w.host.Changes())
				j, err := w.store.Open(p.ID)
				if err != nil {
					t.Fatal(err)
				}
				if err := Apply(t.Context(), w.host, j, w.options(&source{}, p)); err != nil {
					t.Fatal(err)
				}
				if n := len(w.host.Changes()); n != changes {
					t.Errorf("%v", w.host.Changes()[changes:])
				}
			})
		}
	}
}

// places is how many places for volumes are tried.
func places() int {
	if testing.Short() {
		return 1
	}
	return 2
}

var errTest = errors.New("for the test")

// changes counts what a whole deployment asks of the host.
func changes(t *testing.T, local bool) int {
	w := newWorld(t, t.TempDir(), local)
	n := 0
	w.host.Fault = func(string, bool) error { n++; return nil }
	p := testPlan("raw")
	if err := w.apply(t.Context(), p, &source{}); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestFails has each change fail, before it is made and after: nothing stays.
func TestFails(t *testing.T) {
	for _, local := range []bool{true, false}[:places()] {
		count := changes(t, local)
		if count < 20 {
			t.Fatalf("%d changes only", count)
		}
		for at := range count {
			w := newWorld(t, t.TempDir(), local)
			n := 0
			w.host.Fault = func(string, bool) error {
				if n++; n == at+1 {
					return errTest
				}
				return nil
			}
			err := w.apply(t.Context(), testPlan("raw"), &source{})
			var undone *UndoneError
			if !errors.As(err, &undone) || undone.Left != nil || !errors.Is(err, errTest) {
				t.Fatalf("change %d: %v", at, err)
			}
			w.nothing()
		}
	}
}

// TestSourceFails has each part of the package fail, and be cancelled.
func TestSourceFails(t *testing.T) {
	for _, what := range []string{"disk quorum", "disk app-db", "file cd.iso", "environment app-web"} {
		for _, cancelled := range []bool{false, true} {
			w := newWorld(t, t.TempDir(), true)
			ctx, cancel := context.WithCancel(t.Context())
			err := w.apply(ctx, testPlan("qcow2"), &source{fault: func(s string) error {
				switch {
				case s != what:
					return nil
				case cancelled:
					cancel()
					return ctx.Err()
				}
				return errTest
			}})
			want := errTest
			if cancelled {
				want = context.Canceled
			}
			if !errors.Is(err, want) {
				t.Errorf("%s: %v", what, err)
			}
			w.nothing()
			cancel()
		}
	}
}

// TestTaken meets a machine of somebody else's that has the name: it stays.
func TestTaken(t *testing.T) {
	w := newWorld(t, t.TempDir(), true)
	if _, err := w.host.Define(t.Context(), hypervisor.Machine{Name: "app-db"}, hypervisor.Record{Deployment: "another"}); err != nil {
		t.Fatal(err)
	}
	w.others = w.names()
	if err := w.apply(t.Context(), testPlan("raw"), &source{}); !errors.Is(err, hypervisor.ErrExists) {
		t.Errorf("%v", err)
	}
	w.nothing()
}

// TestLeft has a host that is gone when what was made is to be removed: it is
// said, and known to the next one.
func TestLeft(t *testing.T) {
	w := newWorld(t, t.TempDir(), false)
	w.host.Fault = func(change string, made bool) error {
		if strings.HasPrefix(change, "define") || strings.HasPrefix(change, "remove") {
			return errTest
		}
		return nil
	}
	err := w.apply(t.Context(), testPlan("raw"), &source{})
	var undone *UndoneError
	if !errors.As(err, &undone) || undone.Left == nil || !strings.Contains(err.Error(), "app") {
		t.Fatal(err)
	}
	w.host.Fault = nil
	if gone, err := Recover(t.Context(), w.host, w.store, "app"); err != nil || len(gone) != 1 {
		t.Fatalf("%d, %v", len(gone), err)
	}
	w.nothing()
}

// killed runs a deployment that is killed at one moment: nothing of what comes
// later reaches the host or the journal. at counts the host's changes and, for
// each, the moments before and after.
func killed(w *world, p *plan.Plan, at int, torn int) (died bool) {
	journalPath := filepath.Join(w.store.Folder(p.ID), "journal")
	var mu sync.Mutex
	var saved []byte
	n := 0
	w.host.Fault = func(string, bool) error {
		mu.Lock()
		defer mu.Unlock()
		if n++; n <= at {
			return nil
		}
		if saved == nil {
			var err error
			if saved, err = os.ReadFile(journalPath); err != nil {
				w.t.Fatal(err)
			}
		}
		return errTest // whatever is asked for after that
	}
	err := w.apply(context.Background(), p, w.source())
	w.host.Fault = nil
	if err == nil {
		return false
	}
	// An entry that was being written.
	saved = append(saved, []byte("0123abcd {\"kind\":\"doing\",\"st")[:torn]...)
	if err := os.WriteFile(journalPath, saved, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return true
}

// TestKilled kills a deployment at every moment, and then finishes it or takes
// it back.
func TestKilled(t *testing.T) {
	for _, local := range []bool{true, false}[:places()] {
		for at := range changes(t, local) {
			for _, finish := range []bool{true, false} {
				w := newWorld(t, t.TempDir(), local)
				p := testPlan("raw")
				if at%2 == 0 {
					p = verified(p)
				}
				if !killed(w, p, at, at%20) {
					t.Fatalf("change %d was not reached", at)
				}
				w.recover(finish)
			}
		}
	}
}

// recover is the next program.
func (w *world) recover(finish bool) {
	w.t.Helper()
	if !finish {
		if gone, err := Recover(context.Background(), w.host, w.store, "app"); err != nil || len(gone) != 1 {
			w.t.Fatalf("%d, %v", len(gone), err)
		}
		w.nothing()
		return
	}
	claimed, err := w.store.Claim("memory:", "app")
	if err != nil || len(claimed) != 1 {
		w.t.Fatalf("%d, %v", len(claimed), err)
	}
	p := claimed[0].Plan()
	if err := Apply(context.Background(), w.host, claimed[0], w.options(w.source(), p)); err != nil {
		w.t.Fatal(err)
	}
	w.whole(p)
}

// TestKilledAgain kills the program, and the next ones, at any moments.
func TestKilledAgain(t *testing.T) {
	most := changes(t, false)
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		w := newWorld(rt, dir, rapid.Bool().Draw(rt, "local"))
		p := testPlan(rapid.SampledFrom([]string{"raw", "qcow2"}).Draw(rt, "format"))
		if rapid.Bool().Draw(rt, "verified") {
			p = verified(p)
		}
		if !killed(w, p, rapid.IntRange(0, most-1).Draw(rt, "at"), rapid.IntRange(0, 20).Draw(rt, "torn")) {
			return
		}
		for range rapid.IntRange(0, 3).Draw(rt, "more") {
			// The next one dies, too.
			at, n := rapid.IntRange(0, most).Draw(rt, "then"), 0
			var saved []byte
			path := filepath.Join(w.store.Folder(p.ID), "journal")
			w.host.Fault = func(string, bool) error {
				if n++; n <= at {
					return nil
				}
				if saved == nil {
					saved, _ = os.ReadFile(path)
				}
				return errTest
			}
			claimed, err := w.store.Claim("memory:", "app")
			if err != nil || len(claimed) != 1 {
				rt.Fatalf("%d, %v", len(claimed), err)
			}
			if rapid.Bool().Draw(rt, "undoing") {
				err = Undo(context.Background(), w.host, claimed[0])
			} else {
				opt := w.options(&source{}, claimed[0].Plan())
				opt.Parallel = 1
				err = Apply(context.Background(), w.host, claimed[0], opt)
			}
			w.host.Fault = nil
			if err == nil || len(saved) == 0 {
				break // it came to its end
			}
			if err := os.WriteFile(path, saved, 0o600); err != nil {
				rt.Fatal(err)
			}
		}
		states, err := w.store.List()
		if err != nil {
			rt.Fatal(err)
		}
		switch {
		case len(states) == 0:
			w.nothing()
		case states[0].Complete:
			w.whole(p)
		case states[0].Undoing:
			w.recover(false)
		default:
			w.recover(rapid.Bool().Draw(rt, "finish"))
		}
	})
}

// TestParallel fills two volumes at once, and no more.
func TestParallel(t *testing.T) {
	w := newWorld(t, t.TempDir(), true)
	var mu sync.Mutex
	now, most, calls := 0, 0, 0
	var two sync.WaitGroup
	two.Add(2)
	s := &source{fault: func(string) error {
		mu.Lock()
		now++
		calls++
		most = max(most, now)
		first := calls <= 2
		mu.Unlock()
		if first {
			// Neither goes on before the other has come.
			two.Done()
			two.Wait()
		}
		mu.Lock()
		now--
		mu.Unlock()
		return nil
	}}
	p := testPlan("raw")
	j, err := w.store.Begin(p)
	if err != nil {
		t.Fatal(err)
	}
	opt := w.options(s, p)
	opt.Parallel = 2
	if err := Apply(t.Context(), w.host, j, opt); err != nil {
		t.Fatal(err)
	}
	w.whole(p)
	if most != 2 {
		t.Errorf("%d at once", most)
	}
}

// TestUndoOrder takes back in reverse.
func TestUndoOrder(t *testing.T) {
	w := newWorld(t, t.TempDir(), false)
	p := testPlan("raw")
	w.host.Fault = func(change string, made bool) error {
		if change == "start app-db" {
			return errTest
		}
		return nil
	}
	if err := w.apply(t.Context(), p, &source{}); !errors.Is(err, errTest) {
		t.Fatal(err)
	}
	all := w.host.Changes()
	i := slices.Index(all, "remove app-db")
	if i < 0 || all[i+1] != "remove app-web" || !strings.HasPrefix(all[i+2], "remove-volume default/app-db-env") || !strings.HasPrefix(all[len(all)-1], "remove-volume default/quorum") {
		t.Errorf("%q", all)
	}
}

// altering is a host whose volumes read as something else than what was written.
type altering struct {
	*drivertest.Memory
	volume string
	alter  func([]byte) []byte
}

func (h *altering) OpenVolume(ctx context.Context, ref hypervisor.VolumeRef) (hypervisor.VolumeReader, error) {
	r, err := h.Memory.OpenVolume(ctx, ref)
	if err != nil || !strings.HasPrefix(ref.Name, h.volume) {
		return r, err
	}
	b := make([]byte, r.Size())
	if _, err := r.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return altered{bytes.NewReader(h.alter(b)), r}, nil
}

type altered struct {
	*bytes.Reader
	r hypervisor.VolumeReader
}

func (a altered) Close() error   { return a.r.Close() }
func (a altered) Format() string { return a.r.Format() }

// TestVerify reads volumes back: what differs is found and everything taken
// away, what is only longer by zeroes does not differ.
func TestVerify(t *testing.T) {
	for name, c := range map[string]struct {
		alter func([]byte) []byte
		fails bool
	}{
		"as written":   {func(b []byte) []byte { return b }, false},
		"one bit":      {func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, true},
		"cut":          {func(b []byte) []byte { return b[:len(b)-512] }, true},
		"rounded up":   {func(b []byte) []byte { return append(b, make([]byte, 4096)...) }, false},
		"more behind":  {func(b []byte) []byte { return append(append(b, 1), make([]byte, 4095)...) }, true},
		"much larger":  {func(b []byte) []byte { return append(b, make([]byte, 2<<20)...) }, true},
		"nothing left": {func(b []byte) []byte { return make([]byte, len(b)) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, t.TempDir(), false)
			p := verified(testPlan("raw"))
			j, err := w.store.Begin(p)
			if err != nil {
				t.Fatal(err)
			}
			err = Apply(t.Context(), &altering{w.host, "app-db", c.alter}, j, w.options(&source{}, p))
			if !c.fails {
				if err != nil {
					t.Fatal(err)
				}
				w.whole(p)
				return
			}
			if !errors.Is(err, ErrDiffers) || !strings.Contains(err.Error(), "app-db") {
				t.Fatalf("got %v", err)
			}
			w.nothing()
		})
	}
}

// TestContents has the journal keep what disks hold, and a program that goes on
// believe it.
func TestContents(t *testing.T) {
	for _, local := range []bool{true, false} {
		w := newWorld(t, t.TempDir(), local)
		p := testPlan("raw")
		j, err := w.store.Begin(p)
		if err != nil {
			t.Fatal(err)
		}
		opt := w.options(&source{}, p)
		opt.Digest = true
		if err := Apply(t.Context(), w.host, j, opt); err != nil {
			t.Fatal(err)
		}
		states, err := w.store.List()
		if err != nil || len(states) != 1 {
			t.Fatal(len(states), err)
		}
		n := 0
		for i, s := range p.Steps {
			c, ok := states[0].Contents[i]
			if want := s.Do == plan.FillVolume && p.Volume(*s.Volume).Content == plan.Disk; ok != want {
				t.Errorf("step %s: content %v", s, c)
			} else if ok {
				n++
				img, err := raw.Format{}.Open(t.Context(), bytesFile{bytes.NewReader(content(p.Volume(*s.Volume).Disk))}, disk.OpenOptions{})
				if err != nil {
					t.Fatal(err)
				}
				want, err := digest.Of(t.Context(), img, nil)
				if err != nil || c.Digest != want.String() || c.Bytes != capacity {
					t.Errorf("step %s: %v, want %s, %v", s, c, want, err)
				}
			}
		}
		if n != 3 {
			t.Errorf("%d contents", n)
		}
	}
}

// TestKeep has each change fail, and keeps what was made: the same again goes on,
// and does nothing twice.
func TestKeep(t *testing.T) {
	for at := range changes(t, false) {
		w := newWorld(t, t.TempDir(), false)
		p := testPlan("raw")
		n := 0
		w.host.Fault = func(string, bool) error {
			if n++; n == at+1 {
				return errTest
			}
			return nil
		}
		j, err := w.store.Begin(p)
		if err != nil {
			t.Fatal(err)
		}
		opt := w.options(&source{}, p)
		opt.Keep = true
		err = Apply(t.Context(), w.host, j, opt)
		var kept *KeptError
		if !errors.As(err, &kept) || !errors.Is(err, errTest) || !strings.Contains(err.Error(), "app again goes on") {
			t.Fatalf("change %d: %v", at, err)
		}
		states, err := w.store.List()
		if err != nil || len(states) != 1 || !states[0].Unfinished() || states[0].Failure == "" {
			t.Fatalf("change %d: %+v, %v", at, states, err)
		}
		w.recover(at%3 > 0)
	}
}
