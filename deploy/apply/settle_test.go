package apply

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/ovation-project/ovation/deploy/journal"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/hypervisor"
)

// settled is a plan as it turned out: a machine boots with UEFI.
func settled(t fataler, first *plan.Plan) *plan.Plan {
	t.Helper()
	text, err := json.Marshal(first)
	if err != nil {
		t.Fatal(err)
	}
	p := &plan.Plan{}
	if err := json.Unmarshal(text, p); err != nil {
		t.Fatal(err)
	}
	p.Machines[0].Firmware.Kind = hypervisor.UEFI
	p.Package.Digest = "that of all of it"
	return p
}

// TestSettle has content that comes once: all that take of it do so at once, none
// of it counts before all has come, and the machines are as they turned out.
func TestSettle(t *testing.T) {
	for _, local := range []bool{true, false} {
		w := newWorld(t, t.TempDir(), local)
		first := testPlan("raw")
		first.Package.Digest = "that of the beginning"
		asked := 0
		w.settle = func(p *plan.Plan) (*plan.Plan, error) {
			asked++
			states, err := w.store.List()
			if err != nil {
				return nil, err
			}
			for i, s := range states[0].Plan.Steps {
				taken := s.Do == plan.FillVolume && p.Volume(*s.Volume).Content != plan.Environment
				if taken && (!states[0].Begun[i] || states[0].Done[i]) {
					t.Errorf("%s: begun %v, done %v", s, states[0].Begun[i], states[0].Done[i])
				}
				if s.Do == plan.Define && states[0].Begun[i] {
					t.Errorf("%s was begun before", s)
				}
			}
			return settled(t, p), nil
		}
		if err := w.apply(t.Context(), first, w.source()); err != nil {
			t.Fatal(err)
		}
		w.whole(first)
		kept, err := w.host.Lookup(t.Context(), first.Machines[0].Name)
		if err != nil {
			t.Fatal(err)
		}
		if asked != 1 || kept.Machine.Firmware.Kind != hypervisor.UEFI {
			t.Errorf("settled %d times, the firmware is %q", asked, kept.Machine.Firmware.Kind)
		}
		state, err := w.store.Look(first.ID)
		if err != nil {
			t.Fatal(err)
		}
		if state.First == nil || !state.Same(first) || !state.Same(settled(t, first)) || state.Plan.Same(first) {
			t.Errorf("the journal has %+v", state)
		}
		// Of a package whose manifest was to come nobody knows which it was.
		state.First.Package.ManifestToCome = true
		if state.Same(state.First) || !state.First.Alike(state.First) {
			t.Error("a package that is not known is the same as another")
		}
	}
}

// TestSettleFails has what came be no good, or something else be made of it than
// was begun.
func TestSettleFails(t *testing.T) {
	for name, settle := range map[string]func(*plan.Plan) (*plan.Plan, error){
		"no good": func(*plan.Plan) (*plan.Plan, error) { return nil, errTest },
		"another": func(*plan.Plan) (*plan.Plan, error) { return testPlan("raw"), nil },
		"other steps": func(p *plan.Plan) (*plan.Plan, error) {
			p = settled(t, p)
			p.Steps = slices.DeleteFunc(p.Steps, func(s plan.Step) bool { return s.Do == plan.Start })
			return p, nil
		},
		"no plan": func(*plan.Plan) (*plan.Plan, error) { return nil, nil },
	} {
		w := newWorld(t, t.TempDir(), false)
		w.settle = settle
		p := testPlan("raw")
		undone := (*UndoneError)(nil)
		if err := w.apply(t.Context(), p, w.source()); !errors.As(err, &undone) || undone.Left != nil {
			t.Errorf("%s: %v", name, err)
		}
		w.nothing()
	}
}

// TestSettleKilled kills a deployment of what comes once at every moment: the next
// program takes all of it again, or nothing.
func TestSettleKilled(t *testing.T) {
	settle := func(p *plan.Plan) (*plan.Plan, error) { return settled(t, p), nil }
	for at := range changes(t, false) {
		if testing.Short() && at%4 != 0 {
			continue
		}
		w := newWorld(t, t.TempDir(), false)
		w.settle = settle
		if !killed(w, testPlan("raw"), at, at%20) {
			t.Fatalf("change %d was not reached", at)
		}
		w.recover(at%3 != 0)
	}
	// It is killed between what says that the volumes are filled.
	w := newWorld(t, t.TempDir(), false)
	w.settle = settle
	p := testPlan("raw")
	j, err := w.store.Begin(p)
	if err != nil {
		t.Fatal(err)
	}
	once := w.options(w.source(), p)
	once.Settle = func(context.Context) (*plan.Plan, error) {
		s := settled(t, p)
		i := slices.IndexFunc(p.Steps, func(s plan.Step) bool { return s.Do == plan.FillVolume })
		return nil, errors.Join(errTest, j.Add(journal.Entry{Kind: journal.Settled, Plan: s}), j.Add(journal.Entry{Kind: journal.Done, Step: i}))
	}
	once.Keep = true
	if err := Apply(t.Context(), w.host, j, once); !errors.As(err, new(*KeptError)) {
		t.Fatal(err)
	}
	w.recover(true)
}

// firmwareHost is a host that imports and can change firmware.
type firmwareHost struct {
	hypervisor.Host
	hypervisor.Importer
	set map[string]hypervisor.FirmwareKind
}

func (h *firmwareHost) SetFirmware(_ context.Context, name string, f hypervisor.Firmware) error {
	h.set[name] = f.Kind
	return nil
}

// TestSettleImport has machines that a host made of a package turn out to boot with
// other firmware.
func TestSettleImport(t *testing.T) {
	for _, able := range []bool{true, false} {
		w := newImportWorld(t)
		p := importPlan()
		j, err := w.store.Begin(p)
		if err != nil {
			t.Fatal(err)
		}
		opt := w.options()
		opt.Settle = func(context.Context) (*plan.Plan, error) { return settled(t, p), nil }
		h := &firmwareHost{w.host, w.host, map[string]hypervisor.FirmwareKind{}}
		var host hypervisor.Host = h
		if !able {
			host = w.host
		}
		err = Apply(t.Context(), host, j, opt)
		if !able {
			if err == nil {
				t.Error("the firmware can't be changed, and no error")
			}
			w.has("theirs")
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(h.set) != 1 || h.set[p.Machines[0].Name] != hypervisor.UEFI {
			t.Errorf("%v", h.set)
		}
		w.has("app-db", "app-web", "theirs")
	}
}
