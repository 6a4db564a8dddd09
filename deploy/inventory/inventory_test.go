package inventory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ovation-project/ovation/deploy/apply"
	"github.com/ovation-project/ovation/deploy/history"
	"github.com/ovation-project/ovation/deploy/journal"
	"github.com/ovation-project/ovation/deploy/lifecycle"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/deploy/secrets"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/drivertest"
)

// world is a host, and two places from where it is used.
type world struct {
	t           *testing.T
	host        *drivertest.Memory
	here, there *Inventory
}

func newWorld(t *testing.T) *world {
	h := drivertest.NewMemory()
	at := func(by string) *Inventory {
		dir := t.TempDir()
		return &Inventory{Host: h, Store: journal.Store{Dir: filepath.Join(dir, "deployments")}, History: history.Log{Path: filepath.Join(dir, "history")}, By: by}
	}
	return &world{t, h, at("alice@desk"), at("bob@elsewhere")}
}

// shopPlan has two machines, each with an empty disk; tool starts by hand.
func shopPlan(name string) *plan.Plan {
	p := &plan.Plan{APIVersion: plan.APIVersion, ID: plan.NewID(), Name: name, Target: "memory:", Made: time.Now().UTC().Truncate(time.Second)}
	for _, system := range []string{"db", "web", "tool"} {
		ref := hypervisor.VolumeRef{Pool: "default", Name: system + "-" + p.ID}
		p.Volumes = append(p.Volumes, plan.Volume{VolumeSpec: hypervisor.VolumeSpec{VolumeRef: ref, Format: "raw", CapacityBytes: 1 << 20}, Content: plan.File, File: "x"})
		data := fmt.Sprintf(`{"apiVersion":%q,"name":%q,"machines":3,"by":"alice@desk","start":{"step":%d,"manual":%v},"stop":{},"volumes":[{"pool":"default","name":%q}]}`,
			lifecycle.APIVersion, name, len(p.Machines), system == "tool", ref.Name)
		p.Machines = append(p.Machines, plan.Machine{Machine: hypervisor.Machine{ID: system, Name: name + "-" + system, Architecture: "x86_64", CPU: hypervisor.CPU{Count: 1},
			Controllers: []hypervisor.Controller{{ID: "c", Model: hypervisor.AHCI}},
			Drives:      []hypervisor.Drive{{ID: "1", Kind: hypervisor.HardDisk, Controller: "c", Medium: &hypervisor.Medium{Format: "raw", Volume: &ref}}}},
			Record: hypervisor.Record{Deployment: p.ID, System: system, Appliance: "Shop 1.0", Made: p.Made, Data: []byte(data)}})
	}
	for _, do := range []plan.Action{plan.CreateVolume, plan.FillVolume} {
		for k := range p.Volumes {
			p.Steps = append(p.Steps, plan.Step{Do: do, Volume: &p.Volumes[k].VolumeRef})
		}
	}
	for _, m := range p.Machines {
		p.Steps = append(p.Steps, plan.Step{Do: plan.Define, Machine: m.Name})
	}
	return p
}

// content fills volumes with nothing.
type content struct{}

func (content) CopyDisk(context.Context, string, func(context.Context, convert.Source) (disk.Writer, error)) error {
	return errors.New("there is none")
}
func (content) CopyFile(context.Context, string, io.Writer) error   { return nil }
func (content) Environment(context.Context, string) ([]byte, error) { return nil, nil }

func (w *world) deploy(p *plan.Plan) {
	w.t.Helper()
	j, err := w.here.Store.Begin(p)
	if err == nil {
		err = secrets.Keep(j.Folder(), secrets.Values{"web": {"password": "hunter2"}})
	}
	if err == nil {
		err = apply.Apply(w.t.Context(), w.host, j, apply.Options{Source: content{}})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// states are what an inventory shows.
func (w *world) states(v *Inventory) string {
	w.t.Helper()
	all, err := v.List(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	var s []string
	for _, d := range all {
		s = append(s, fmt.Sprintf("%s %s here=%v", d.Name, d.State, d.Here()))
	}
	return strings.Join(s, ", ")
}

func (w *world) find(v *Inventory, name string) (*Deployment, string) {
	w.t.Helper()
	d, machine, err := v.Find(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	return d, machine
}

func (w *world) nothingHere() {
	w.t.Helper()
	if v := w.host.Volumes(); len(v) > 0 {
		w.t.Errorf("volumes are left: %v", v)
	}
	entries, err := os.ReadDir(w.here.Store.Dir)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "lock" {
			w.t.Errorf("%s is left", e.Name())
		}
	}
}

func acts(t *testing.T, v *Inventory) (all []string) {
	t.Helper()
	lines, err := v.Acts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		all = append(all, fmt.Sprint(l.Name, " ", l.What, " ", l.By, " ", strings.Join(l.Machines, ",")))
	}
	return all
}

// TestLife goes through all that becomes of a deployment, by two people on two
// machines.
func TestLife(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.deploy(shopPlan("shop"))
	if got, want := w.states(w.here), "shop off here=true"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := w.states(w.there), "shop off here=false"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	d, machine := w.find(w.there, "shop-db")
	if machine != "shop-db" || d.Name != "shop" {
		t.Errorf("found %q of %s", machine, d.Name)
	}
	if err := w.there.Start(ctx, d, lifecycle.Options{Machines: []string{machine}}); err != nil {
		t.Fatal(err)
	}
	if got, want := w.states(w.here), "shop partly here=true"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	d, machine = w.find(w.here, "shop")
	if machine != "" {
		t.Errorf("found %q", machine)
	}
	if err := w.here.Start(ctx, d, lifecycle.Options{}); err != nil {
		t.Fatal(err)
	}
	if got, want := w.states(w.there), "shop running here=false"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	d, _ = w.find(w.there, d.ID[:5])
	if err := w.there.Remove(ctx, d, lifecycle.Options{}); !errors.Is(err, hypervisor.ErrRunning) || !strings.Contains(err.Error(), "shop-db, shop-web") {
		t.Errorf("what runs was removed: %v", err)
	}
	if err := w.there.Stop(ctx, d, lifecycle.Options{Force: true}); err != nil {
		t.Fatal(err)
	}
	want := []string{"shop deployed alice@desk ", "shop started bob@elsewhere shop-db", "shop started alice@desk ", "shop stopped bob@elsewhere "}
	for _, v := range []*Inventory{w.here, w.there} {
		if d := cmp.Diff(want, acts(t, v)); d != "" {
			t.Error(d)
		}
	}
	// Elsewhere it is removed: here is left what is known here.
	d, _ = w.find(w.there, "shop")
	if err := w.there.Remove(ctx, d, lifecycle.Options{}); err != nil {
		t.Fatal(err)
	}
	if got, want := w.states(w.here), "shop gone here=true"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	d, _ = w.find(w.here, "shop")
	if d.Advice() == "" {
		t.Error("nothing is advised")
	}
	if err := w.here.Stop(ctx, d, lifecycle.Options{}); !errors.Is(err, hypervisor.ErrNotFound) {
		t.Errorf("what is gone was stopped: %v", err)
	}
	if err := w.here.Remove(ctx, d, lifecycle.Options{}); err != nil {
		t.Fatal(err)
	}
	w.nothingHere()
	if _, _, err := w.here.Find(ctx, "shop"); !errors.Is(err, hypervisor.ErrNotFound) {
		t.Errorf("it is found: %v", err)
	}
	if got := acts(t, w.here); !slices.Contains(got, "shop removed alice@desk ") {
		t.Errorf("the history: %v", got)
	}
}

// TestRemovePart removes a machine, and then the others.
func TestRemovePart(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.deploy(shopPlan("shop"))
	w.deploy(shopPlan("other"))
	d, _ := w.find(w.here, "shop")
	if err := w.here.Remove(ctx, d, lifecycle.Options{Machines: []string{"web"}}); err != nil {
		t.Fatal(err)
	}
	if got, want := w.states(w.here), "other off here=true, shop incomplete here=true"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for _, name := range []string{"shop", "other"} {
		d, _ = w.find(w.here, name)
		if err := w.here.Remove(ctx, d, lifecycle.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	w.nothingHere()
}

// TestUnfinished kills deployments at every step: they are shown, not started,
// and removed without a trace. While a program is at one, it is left alone.
func TestUnfinished(t *testing.T) {
	ctx := t.Context()
	for at := range len(shopPlan("shop").Steps) {
		w := newWorld(t)
		p := shopPlan("shop")
		j, err := w.here.Store.Begin(p)
		if err != nil {
			t.Fatal(err)
		}
		// What a program does up to there, and the step that it died in.
		for i, s := range p.Steps[:at+1] {
			if err := j.Add(journal.Entry{Kind: journal.Doing, Step: i}); err != nil {
				t.Fatal(err)
			}
			switch s.Do {
			case plan.CreateVolume:
				_, err = w.host.CreateVolume(ctx, p.Volume(*s.Volume).VolumeSpec)
			case plan.Define:
				m := p.Machine(s.Machine)
				_, err = w.host.Define(ctx, m.Machine, m.Record)
			}
			if err == nil && i < at {
				err = j.Add(journal.Entry{Kind: journal.Done, Step: i})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if got, want := w.states(w.here), "shop busy here=true"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		d, _ := w.find(w.here, "shop")
		if err := w.here.Remove(ctx, d, lifecycle.Options{}); !errors.Is(err, journal.ErrBusy) {
			t.Errorf("removed while it is made: %v", err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if got, want := w.states(w.here), "shop unfinished here=true"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		d, _ = w.find(w.here, "shop")
		if err := w.here.Start(ctx, d, lifecycle.Options{}); !errors.Is(err, ErrUnfinished) {
			t.Errorf("started: %v", err)
		}
		if err := w.here.Remove(ctx, d, lifecycle.Options{KeepVolumes: true}); !errors.Is(err, ErrUnfinished) {
			t.Errorf("a part of it was removed: %v", err)
		}
		if err := w.here.Remove(ctx, d, lifecycle.Options{}); err != nil {
			t.Fatal(err)
		}
		w.nothingHere()
		if got, want := w.states(w.here), ""; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
