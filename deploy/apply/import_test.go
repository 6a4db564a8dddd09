package apply

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ovation-project/ovation/deploy/journal"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/drivertest"
)

// importWorld is a host that is given packages as a whole, with a machine that
// is somebody else's and has a name of the plan's.
type importWorld struct {
	*testing.T
	host  *drivertest.Importer
	store journal.Store
	open  hypervisor.OpenImportFile
}

func newImportWorld(t *testing.T) *importWorld {
	w := &importWorld{T: t, store: journal.Store{Dir: t.TempDir()}, open: func(_ context.Context, f hypervisor.ImportFile) (*hypervisor.ImportContent, error) {
		return &hypervisor.ImportContent{ReadCloser: io.NopCloser(strings.NewReader(f.Href)), Size: int64(len(f.Href))}, nil
	}}
	w.host = &drivertest.Importer{Memory: drivertest.NewMemory(), Files: map[string][]hypervisor.ImportFile{"app-web": {{Href: "web.vmdk"}}, "app-db": {{Href: "db.vmdk"}}}}
	if _, err := w.host.Define(t.Context(), hypervisor.Machine{Name: "theirs"}, hypervisor.Record{Deployment: "other"}); err != nil {
		t.Fatal(err)
	}
	return w
}

func importPlan() *plan.Plan {
	p := &plan.Plan{APIVersion: plan.APIVersion, ID: plan.NewID(), Name: "app", Target: "memory:", Made: time.Now(), Import: &hypervisor.ImportPlan{Group: "app"}}
	for _, name := range []string{"app-web", "app-db"} {
		p.Machines = append(p.Machines, plan.Machine{Machine: hypervisor.Machine{ID: name, Name: name, CPU: hypervisor.CPU{Count: 1}},
			Record: hypervisor.Record{Deployment: p.ID, System: name}})
		p.Import.Machines = append(p.Import.Machines, hypervisor.ImportMachine{Name: name, System: name})
	}
	p.Steps = []plan.Step{{Do: plan.Import}, {Do: plan.Start}}
	return p
}

func (w *importWorld) options() Options {
	return Options{
		Import: func(ctx context.Context, p *plan.Plan) error {
			spec := hypervisor.ImportSpec{Deployment: p.ID, Group: p.Import.Group}
			for i := range p.Machines {
				spec.Systems = append(spec.Systems, hypervisor.ImportSystem{ID: p.Machines[i].ID, Name: p.Machines[i].Name, Record: p.Machines[i].Record})
			}
			i, err := w.host.PrepareImport(ctx, spec)
			if err != nil {
				return err
			}
			return i.Run(ctx, w.open, hypervisor.ImportOptions{})
		},
		Start: func(ctx context.Context) error {
			for _, name := range []string{"app-web", "app-db"} {
				k, err := w.host.Lookup(ctx, name)
				if err != nil {
					return err
				}
				if state, err := k.State(ctx); err != nil || state != hypervisor.PoweredOff {
					return err
				}
				if err := k.Start(ctx); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// has sees which machines there are.
func (w *importWorld) has(want ...string) {
	w.Helper()
	all, err := w.host.List(context.Background(), true)
	if err != nil {
		w.Fatal(err)
	}
	var names []string
	for _, k := range all {
		names = append(names, k.Name)
	}
	if got := strings.Join(names, " "); got != strings.Join(want, " ") {
		w.Errorf("there are %s, want %s", got, want)
	}
}

func TestImport(t *testing.T) {
	w := newImportWorld(t)
	p := importPlan()
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	j, err := Begin(t.Context(), w.host, w.store, p, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := Apply(t.Context(), w.host, j, w.options()); err != nil {
		t.Fatal(err)
	}
	w.has("app-db", "app-web", "theirs")
	states, err := w.store.List()
	if err != nil || len(states) != 1 || !states[0].Complete {
		t.Errorf("%v, %v", states, err)
	}
	for _, bad := range []func(*plan.Plan){
		func(p *plan.Plan) { p.Import = nil },
		func(p *plan.Plan) { p.Import.Machines = p.Import.Machines[1:] },
		func(p *plan.Plan) { p.Import.Machines[0].Name = "other" },
		func(p *plan.Plan) { p.Steps = append(p.Steps, plan.Step{Do: plan.Import}) },
	} {
		p := importPlan()
		bad(p)
		if err := p.Check(); !errors.Is(err, plan.ErrInvalid) {
			t.Errorf("%v", err)
		}
	}
}

// TestImportFails leaves nothing, and says why.
func TestImportFails(t *testing.T) {
	w := newImportWorld(t)
	w.open = func(_ context.Context, f hypervisor.ImportFile) (*hypervisor.ImportContent, error) {
		if f.Href == "db.vmdk" {
			return nil, errTest
		}
		return &hypervisor.ImportContent{ReadCloser: io.NopCloser(strings.NewReader("x")), Size: 1}, nil
	}
	j, err := w.store.Begin(importPlan())
	if err != nil {
		t.Fatal(err)
	}
	var undone *UndoneError
	if err := Apply(t.Context(), w.host, j, w.options()); !errors.Is(err, errTest) || !errors.As(err, &undone) || undone.Left != nil {
		t.Errorf("%v", err)
	}
	w.has("theirs")
	if left, err := os.ReadDir(w.store.Dir); err != nil || len(left) > 1 { // the lock
		t.Errorf("%v, %v", left, err)
	}
}

// TestImportKilled kills a deployment at every change that the host sees, and
// then has it finished, or taken back.
func TestImportKilled(t *testing.T) {
	for _, finish := range []bool{true, false} {
		for at := 0; ; at++ {
			w := newImportWorld(t)
			p := importPlan()
			j, err := w.store.Begin(p)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(w.store.Folder(p.ID), "journal")
			var saved []byte
			n := 0
			w.host.Fault = func(string, bool) error {
				if n++; n <= at {
					return nil
				}
				if saved == nil {
					saved, _ = os.ReadFile(path)
				}
				return errTest // whatever is asked for after that
			}
			err = Apply(t.Context(), w.host, j, w.options())
			w.host.Fault = nil
			if err == nil {
				if at < 8 {
					t.Errorf("only %d changes", at)
				}
				break
			}
			// It died then, and took nothing back.
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, saved, 0o600)); err != nil {
				t.Fatal(err)
			}
			if !finish {
				if gone, err := Recover(t.Context(), w.host, w.store, "app"); err != nil || len(gone) != 1 {
					t.Fatalf("at %d: %d, %v", at, len(gone), err)
				}
				w.has("theirs")
				continue
			}
			claimed, err := w.store.Claim("memory:", "app")
			if err != nil || len(claimed) != 1 {
				t.Fatalf("at %d: %d, %v", at, len(claimed), err)
			}
			if err := Apply(t.Context(), w.host, claimed[0], w.options()); err != nil {
				t.Fatalf("at %d: %v", at, err)
			}
			w.has("app-db", "app-web", "theirs")
		}
	}
}
