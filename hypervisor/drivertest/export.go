package drivertest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/ovation-project/ovation/hypervisor"
)

// content reads all of a drive that is being exported.
func content(t *testing.T, e hypervisor.Export, drive string) []byte {
	t.Helper()
	f, err := e.OpenDrive(t.Context(), drive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Format != "raw" {
		t.Fatalf("the host says that the drive is %q", f.Format)
	}
	r := f.Once
	if f.At != nil {
		r = io.NewSectionReader(f.At, 0, f.Size)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (s hostSuite) testExport(t *testing.T, x hypervisor.Exporter) {
	ctx := t.Context()
	if _, err := x.Export(ctx, s.tag+"absent", hypervisor.ExportOptions{}); !errors.Is(err, hypervisor.ErrNotFound) {
		t.Errorf("export of a machine that is not there: %v", err)
	}
	if _, err := x.CleanUp(ctx, s.tag+"absent"); !errors.Is(err, hypervisor.ErrNotFound) {
		t.Errorf("clean up of a machine that is not there: %v", err)
	}
	image := Image("", Hang)
	m := s.machine(t, "export", image)
	g := s.define(t, m)
	e, err := x.Export(ctx, m.Name, hypervisor.ExportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	k := e.Kept()
	if k.Name != m.Name || len(k.Machine.Drives) != 1 {
		t.Fatalf("exports %+v", k.Machine)
	}
	drive := k.Machine.Drives[0].ID
	for range 2 {
		if got := content(t, e, drive); !bytes.Equal(got, image) {
			t.Errorf("the drive reads as %d other bytes", len(got))
		}
	}
	if _, err := e.OpenDrive(ctx, "absent"); !errors.Is(err, hypervisor.ErrNotFound) {
		t.Errorf("a drive that is not there: %v", err)
	}
	if err := e.Unchanged(ctx); err != nil {
		t.Error(err)
	}
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := e.Unchanged(ctx); !errors.Is(err, hypervisor.ErrChanged) {
		t.Errorf("the machine was started meanwhile: %v", err)
	}
	for range 2 {
		if err := e.Close(ctx); err != nil {
			t.Error("Close:", err)
		}
	}
	if _, err := x.Export(ctx, m.Name, hypervisor.ExportOptions{}); !errors.Is(err, hypervisor.ErrRunning) {
		t.Errorf("export of a machine that runs: %v", err)
	}
	if state, err := g.State(ctx); err != nil || state != hypervisor.Running {
		t.Errorf("the machine is %q, %v", state, err)
	}
	if done, err := x.CleanUp(ctx, m.Name); err != nil || len(done) > 0 {
		t.Errorf("clean up where nothing is left: %q, %v", done, err)
	}
}

// store has a Store guest write a byte to its disk.
func store(t *testing.T, console io.ReadWriter, b byte) {
	t.Helper()
	if _, err := console.Write([]byte{b}); err != nil {
		t.Fatal(err)
	}
	var echo [1]byte
	if _, err := io.ReadFull(console, echo[:]); err != nil || echo[0] != b {
		t.Fatalf("wrote %q, got %q, %v", b, echo, err)
	}
}

// stored is what a Store guest wrote, seen from outside.
func stored(image []byte) byte { return image[StoreSector*bootSector] }

// testExportLive exports a guest that writes to its disk meanwhile: in one go,
// by an export that nobody ends, and with a guest that powers off meanwhile.
func (s hostSuite) testExportLive(t *testing.T, x hypervisor.Exporter) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*limit)
	defer cancel()
	m := s.machine(t, "live", Image("ready\n", Store))
	g := s.define(t, m)
	volume := *m.Drives[0].Medium.Volume
	console, err := g.Console()
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(console, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	begin := func() hypervisor.Export {
		t.Helper()
		e, err := x.Export(ctx, m.Name, hypervisor.ExportOptions{Live: true})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	// on says that the machine has its own volume again, and what is in it.
	on := func(want byte) {
		t.Helper()
		k, err := s.h.Lookup(ctx, m.Name)
		if err != nil {
			t.Fatal(err)
		}
		if d := k.Machine.Drives[0].Medium; d == nil || d.Volume == nil || *d.Volume != volume {
			t.Fatalf("the machine's drive is on %+v", d)
		}
		r, err := s.h.OpenVolume(ctx, volume)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		got := make([]byte, 1)
		if _, err := r.ReadAt(got, StoreSector*bootSector); err != nil || got[0] != want {
			t.Errorf("the volume has %q, want %q: %v", got, want, err)
		}
	}

	store(t, console, 'a')
	e := begin()
	store(t, console, 'b')
	drive := e.Kept().Machine.Drives[0].ID
	if got := stored(content(t, e, drive)); got != 'a' {
		t.Errorf("the export has %q, which was written later", got)
	}
	if err := e.Unchanged(ctx); err != nil {
		t.Error(err)
	}
	if err := e.Close(ctx); err != nil {
		t.Fatal(err)
	}
	store(t, console, 'c')
	on('c')

	// Nobody ends it, as if the program was killed: the next one is refused
	// until it is cleaned up.
	begin()
	store(t, console, 'd')
	if e, err := x.Export(ctx, m.Name, hypervisor.ExportOptions{Live: true}); err == nil {
		t.Error("a machine is exported by snapshots twice at once")
		_ = e.Close(ctx)
	}
	if done, err := x.CleanUp(ctx, m.Name); err != nil || len(done) == 0 {
		t.Errorf("clean up: %q, %v", done, err)
	}
	on('d')

	e = begin()
	if _, err := console.Write([]byte{End}); err != nil {
		t.Fatal(err)
	}
	if exit, err := g.Wait(ctx); err != nil || exit.Reason != hypervisor.GuestShutdown {
		t.Errorf("ended with %+v, %v", exit, err)
	}
	if got := stored(content(t, e, drive)); got != 'd' {
		t.Errorf("the export has %q, which was written later", got)
	}
	if err := e.Close(ctx); err != nil {
		t.Fatal(err)
	}
	on(End)
	if state, err := g.State(ctx); err != nil || state != hypervisor.PoweredOff {
		t.Errorf("the machine that powered off is %q, %v", state, err)
	}
}
