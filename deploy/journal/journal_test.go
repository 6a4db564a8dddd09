package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/hypervisor"
)

// testPlan is a plan with a volume, a machine and the start of it.
func testPlan(name string) *plan.Plan {
	id := plan.NewID()
	ref := hypervisor.VolumeRef{Pool: "default", Name: "disk-" + id}
	return &plan.Plan{APIVersion: plan.APIVersion, ID: id, Name: name, Target: "memory:", Made: time.Now(),
		Volumes: []plan.Volume{{VolumeSpec: hypervisor.VolumeSpec{VolumeRef: ref, Format: "raw"}, Content: plan.Blank}},
		Machines: []plan.Machine{{Machine: hypervisor.Machine{ID: "vm", Name: name,
			Drives: []hypervisor.Drive{{ID: "1", Medium: &hypervisor.Medium{Format: "raw", Volume: &ref}}}},
			Record: hypervisor.Record{Deployment: id}}},
		Steps: []plan.Step{{Do: plan.CreateVolume, Volume: &ref}, {Do: plan.FillVolume, Volume: &ref}, {Do: plan.Define, Machine: name}, {Do: plan.Start}},
	}
}

func check(t interface {
	Helper()
	Fatal(...any)
}, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRoundTrip(t *testing.T) {
	s := Store{filepath.Join(t.TempDir(), "state", "deployments")}
	p := testPlan("web")
	j, err := s.Begin(p)
	check(t, err)
	for _, e := range []Entry{{Kind: Doing}, {Kind: Done}, {Kind: Doing, Step: 1}, {Kind: Failed, Text: "no"}, {Kind: Undoing, Step: 1}, {Kind: Undone, Step: 1}, {Kind: Undoing}} {
		check(t, j.Add(e))
	}
	for _, e := range []Entry{{Kind: Doing, Step: 4}, {Kind: Undone, Step: -1}, {Kind: Begin, Plan: p}, {Kind: Complete}, {Kind: "else"}} {
		if err := j.Add(e); err == nil {
			t.Errorf("%+v was taken", e)
		}
	}
	if _, err := s.Open(p.ID); !errors.Is(err, ErrBusy) {
		t.Errorf("opened twice: %v", err)
	}
	if _, err := s.Look(p.ID); !errors.Is(err, ErrBusy) {
		t.Errorf("looked while it is going on: %v", err)
	}
	if _, err := s.Claim("memory:", "WEB"); !errors.Is(err, ErrBusy) {
		t.Errorf("claimed while it is going on: %v", err)
	}
	if _, err := s.Begin(testPlan("web")); !errors.Is(err, ErrBusy) {
		t.Errorf("begun twice: %v", err)
	}
	other, err := s.Begin(testPlan("db"))
	check(t, err)
	check(t, other.Close())
	check(t, j.Close())
	for path, mode := range map[string]fs.FileMode{j.Folder(): 0o700, filepath.Join(j.Folder(), fileName): 0o600, s.Dir: 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}

	if st, err := s.Look(p.ID); err != nil || !st.Unfinished() || st.Failure != "no" {
		t.Errorf("looked: %+v, %v", st, err)
	}
	if _, err := s.Look(plan.NewID()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("looked for what is not there: %v", err)
	}
	claimed, err := s.Claim("memory:", "web")
	check(t, err)
	if len(claimed) != 1 {
		t.Fatalf("claimed %d", len(claimed))
	}
	st := claimed[0].State()
	if !st.Unfinished() || !st.Undoing || st.Failure != "no" || fmt.Sprint(st.Begun, st.Done) != "[true false false false] [false false false false]" || !st.Plan.Same(p) {
		t.Errorf("state %+v", st)
	}
	check(t, claimed[0].Add(Entry{Kind: Undone}))
	check(t, claimed[0].Add(Entry{Kind: Removed}))
	check(t, claimed[0].Close())
	if again, err := s.Claim("memory:", "web"); err != nil || len(again) > 0 {
		t.Errorf("claimed %d again, %v", len(again), err)
	}
	// What is gone is swept when the next one begins.
	j, err = s.Begin(testPlan("web"))
	check(t, err)
	if _, err := os.Stat(s.Folder(p.ID)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder is there: %v", err)
	}
	check(t, os.WriteFile(filepath.Join(j.Folder(), "secrets"), []byte("x"), 0o600))
	check(t, j.Remove())
	if all, err := s.List(); err != nil || len(all) != 1 || all[0].Plan.Name != "db" {
		t.Errorf("listed %d, %v", len(all), err)
	}
	if _, err := s.Open("../../etc"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opened: %v", err)
	}
}

// TestTorn cuts a journal at every byte: what was written whole before counts,
// and what is added then follows it.
func TestTorn(t *testing.T) {
	s := Store{t.TempDir()}
	p := testPlan("web")
	j, err := s.Begin(p)
	check(t, err)
	path := filepath.Join(j.Folder(), fileName)
	begun, err := os.ReadFile(path)
	check(t, err)
	check(t, j.Add(Entry{Kind: Doing}))
	check(t, j.Add(Entry{Kind: Done}))
	check(t, j.Close())
	whole, err := os.ReadFile(path)
	check(t, err)
	second := bytes.IndexByte(whole[len(begun):], '\n') + len(begun) + 1
	for n := len(begun) - 5; n <= len(whole); n++ {
		check(t, os.WriteFile(path, whole[:n], 0o600))
		if n < len(begun) {
			continue
		}
		j, err := s.Open(p.ID)
		check(t, err)
		st := j.State()
		if st.Begun[0] != (n >= second) || st.Done[0] != (n == len(whole)) {
			t.Errorf("cut at %d: %+v", n, st)
		}
		check(t, j.Add(Entry{Kind: Doing, Step: 1}))
		check(t, j.Close())
		j, err = s.Open(p.ID)
		check(t, err)
		if !j.State().Begun[1] {
			t.Errorf("cut at %d: what was added is not there", n)
		}
		check(t, j.Close())
	}
	// One that was never begun is nobody's, and is swept.
	check(t, os.WriteFile(path, whole[:len(begun)-5], 0o600))
	if all, err := s.List(); err != nil || len(all) > 0 {
		t.Errorf("listed %d, %v", len(all), err)
	}
	j, err = s.Begin(testPlan("web"))
	check(t, err)
	defer j.Close()
	if _, err := os.Stat(s.Folder(p.ID)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("not swept: %v", err)
	}
}

// TestDamaged changes bytes: the journal is refused, or it is the last line that
// does not count.
func TestDamaged(t *testing.T) {
	var text []byte
	for _, e := range []Entry{{Kind: Begin, Plan: testPlan("web")}, {Kind: Doing}, {Kind: Done}, {Kind: Doing, Step: 1}} {
		line, err := e.line()
		check(t, err)
		text = append(text, line...)
	}
	last := bytes.LastIndexByte(text[:len(text)-1], '\n') + 1
	rapid.Check(t, func(t *rapid.T) {
		at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
		damaged := bytes.Clone(text)
		damaged[at] ^= rapid.ByteRange(1, 255).Draw(t, "bits")
		st, _, err := Read(damaged)
		switch {
		case at >= last-1 && err == nil:
			if !st.Begun[0] || st.Begun[1] {
				t.Fatalf("%+v", st)
			}
		case !errors.Is(err, ErrCorrupt):
			t.Fatalf("byte %d of %d: %v", at, len(text), err)
		}
	})
	for name, c := range map[string]string{"text": "hello\nworld\n", "empty lines": "\n\n", "no plan": strings.Repeat(string(must(Entry{Kind: Begin})), 2)} {
		if _, _, err := Read([]byte(c)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func must(e Entry) []byte {
	line, err := e.line()
	if err != nil {
		panic(err)
	}
	return line
}

func FuzzRead(f *testing.F) {
	p := testPlan("web")
	var text []byte
	for _, e := range []Entry{{Kind: Begin, Plan: p}, {Kind: Doing}, {Kind: Done}, {Kind: Doing, Step: 1}, {Kind: Failed, Text: "x"}, {Kind: Undoing, Step: 1}, {Kind: Removed}} {
		text = append(text, must(e)...)
		f.Add(bytes.Clone(text))
	}
	f.Add(must(Entry{Kind: Doing}))
	f.Add([]byte("00000000 {}\n00000000 {}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		st, whole, err := Read(data)
		if err != nil {
			return
		}
		if whole < 0 || whole > int64(len(data)) {
			t.Fatalf("%d of %d bytes", whole, len(data))
		}
		again, n, err := Read(data[:whole])
		if err != nil || n != whole || (again.Plan == nil) != (st.Plan == nil) {
			t.Fatalf("what counts is read another way: %d, %v", n, err)
		}
		if st.Plan != nil && (len(st.Begun) != len(st.Plan.Steps) || len(st.Done) != len(st.Plan.Steps)) {
			t.Fatal("steps are lost")
		}
	})
}
