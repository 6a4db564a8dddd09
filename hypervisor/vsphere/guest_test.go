package vsphere

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/testvsphere"
)

// TestPower starts and stops a machine, as drivertest does with those of other
// hosts.
func TestPower(t *testing.T) {
	s := testvsphere.Start(t, testvsphere.Options{})
	h := open(t, s.URI("DC0/host/DC0_C0"))
	imported(t, h, spec("web", "disk.vmdk"))
	ctx := t.Context()
	g, err := h.Lookup(ctx, "web")
	check(t, err)
	is := func(want hypervisor.State) {
		t.Helper()
		if state, err := g.State(ctx); err != nil || state != want {
			t.Errorf("state %q, %v, want %q", state, err, want)
		}
	}
	is(hypervisor.PoweredOff)
	if err := g.Shutdown(ctx); !errors.Is(err, hypervisor.ErrNotRunning) {
		t.Errorf("Shutdown: %v", err)
	}
	check(t, g.Kill(ctx))
	if _, err := g.Wait(ctx); !errors.Is(err, hypervisor.ErrNotRunning) {
		t.Errorf("Wait for what was not started: %v", err)
	}
	for _, stop := range []func(context.Context) error{g.Shutdown, g.Kill} {
		check(t, g.Start(ctx))
		is(hypervisor.Running)
		if err := g.Start(ctx); err == nil {
			t.Error("what runs was started")
		}
		soon, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := g.Wait(soon); !errors.Is(err, context.Canceled) {
			t.Errorf("Wait with a context that ended: %v", err)
		}
		ended := make(chan error, 1)
		go func() {
			exit, err := g.Wait(ctx)
			if err == nil && exit.Reason != hypervisor.HostShutdown {
				err = exit.Err()
			}
			ended <- err
		}()
		check(t, stop(ctx))
		check(t, <-ended)
		is(hypervisor.PoweredOff)
	}
	// No tools run in the simulator's guests.
	if err := g.Guest.(hypervisor.Agent).Ping(ctx); err == nil || !strings.Contains(err.Error(), "tools") {
		t.Errorf("Ping: %v", err)
	}
	if _, err := g.Console(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Console: %v", err)
	}
	screens, err := g.Guest.(hypervisor.Viewer).Screens(ctx)
	check(t, err)
	if len(screens) == 0 || screens[0].Kind != "vmrc" || !strings.HasPrefix(screens[0].URL, "vmrc://clone:") || !strings.Contains(screens[0].URL, "moid=vm-") {
		t.Errorf("%+v", screens)
	}
	check(t, g.Start(ctx))
	check(t, g.Remove(ctx))
	if _, err := g.State(ctx); !errors.Is(err, hypervisor.ErrNotFound) {
		t.Errorf("State of what is gone: %v", err)
	}
	nothing(t, s)
}

// TestSettings changes what is kept with a machine.
func TestSettings(t *testing.T) {
	s := testvsphere.Start(t, testvsphere.Options{})
	h := open(t, s.URI("DC0/host/DC0_C0"))
	imported(t, h, spec("web", "disk.vmdk"))
	ctx := t.Context()
	next := hypervisor.Record{Deployment: "other", System: "vm"}
	check(t, h.SetRecord(ctx, "web", next))
	check(t, h.SetGuestInfo(ctx, "web", "guestinfo.ovfEnv", "<Environment/>"))
	k, err := h.Lookup(ctx, "web")
	check(t, err)
	if k.Record == nil || k.Record.Deployment != "other" {
		t.Errorf("%+v", k.Record)
	}
	vm, err := h.find(ctx, "web")
	check(t, err)
	extra := settings(vm.Config.ExtraConfig)
	if extra["guestinfo.ovfEnv"] != "<Environment/>" || extra[deploymentKey] != "other" || extra[partKey(1)] != "" {
		t.Errorf("%q", extra)
	}
	for _, err := range []error{h.SetRecord(ctx, "absent", next), h.SetGuestInfo(ctx, "absent", "k", "v")} {
		if !errors.Is(err, hypervisor.ErrNotFound) {
			t.Error(err)
		}
	}
	// What can't be read is no record, and no reason not to see the machine.
	check(t, h.reconfigure(ctx, vm.Self, specOf(recordKey, "1", partKey(0), "@")))
	if k, err = h.Lookup(ctx, "web"); err != nil || k.Record != nil {
		t.Errorf("%+v, %v", k.Record, err)
	}
}

// TestSettingsOfAPackageAreNotOurs imports a package that brings settings by which
// this program knows its machines: it passes for no other deployment, and the
// machine's record is the one that was written.
func TestSettingsOfAPackageAreNotOurs(t *testing.T) {
	s := testvsphere.Start(t, testvsphere.Options{})
	h := open(t, s.URI("DC0/host/DC0_C0"))
	evil := spec("web", "disk.vmdk")
	for _, kv := range [][2]string{{"ovation.deployment", "dep-victim"}, {"Ovation.Deployment", "dep-victim"}, {" ovation.record", "99"}, {"ovation.record.7", "x"}, {"OVATION.record.0", "x"}} {
		// The simulator makes settings of properties.
		evil.Systems[0].Properties = append(evil.Systems[0].Properties, hypervisor.ImportProperty{Key: kv[0], Value: kv[1]})
	}
	imported(t, h, evil)
	vm, err := h.find(t.Context(), "web")
	check(t, err)
	for key, value := range settings(vm.Config.ExtraConfig) {
		if strings.Contains(strings.ToLower(key), "ovation") && (value == "dep-victim" || value == "x" || value == "99") {
			t.Errorf("%q is %q", key, value)
		}
	}
	if extra := settings(vm.Config.ExtraConfig); extra["app.hostname"] != "web1" || extra[deploymentKey] != "dep-web" {
		t.Errorf("%q", extra)
	}
	k, err := h.Lookup(t.Context(), "web")
	check(t, err)
	if k.Record == nil || k.Record.Deployment != "dep-web" {
		t.Errorf("%+v", k.Record)
	}
}

// TestLive reads a machine that runs by a snapshot, which goes again.
func TestLive(t *testing.T) {
	s := testvsphere.Start(t, testvsphere.Options{})
	h := open(t, s.URI("DC0/host/DC0_C0"))
	imported(t, h, spec("web", "disk.vmdk"))
	ctx := t.Context()
	k, err := h.Lookup(ctx, "web")
	check(t, err)
	check(t, k.Start(ctx))
	if _, err := h.Export(ctx, "web", hypervisor.ExportOptions{}); !errors.Is(err, hypervisor.ErrRunning) {
		t.Errorf("without Live: %v", err)
	}
	var notes []string
	x, err := h.Export(ctx, "web", hypervisor.ExportOptions{Live: true, Note: func(s string) { notes = append(notes, s) }})
	check(t, err)
	if len(notes) != 1 || !strings.Contains(notes[0], "power had been cut") {
		t.Errorf("%q", notes)
	}
	f, err := x.OpenDrive(ctx, k.Machine.Drives[0].ID)
	check(t, err)
	got, err := io.ReadAll(f.Once)
	check(t, err)
	check(t, f.Close())
	if !bytes.Equal(got, content("disk.vmdk")) {
		t.Errorf("%d other bytes", len(got))
	}
	if _, err := x.OpenDrive(ctx, "none"); !errors.Is(err, hypervisor.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if _, err := h.Export(ctx, "web", hypervisor.ExportOptions{Live: true}); err == nil || !strings.Contains(err.Error(), "another export") {
		t.Errorf("a second export: %v", err)
	}
	// One that was killed is cleaned up.
	done, err := h.CleanUp(ctx, "web")
	check(t, err)
	if len(done) != 1 || !strings.HasPrefix(done[0], snapshotMark) {
		t.Errorf("%q", done)
	}
	check(t, x.Close(ctx))
	if done, err = h.CleanUp(ctx, "web"); err != nil || len(done) != 0 {
		t.Errorf("%q, %v", done, err)
	}
	// A snapshot that can't be exported does not stay.
	s.Call = fault("ExportSnapshot", "Timedout")
	if _, err := h.Export(ctx, "web", hypervisor.ExportOptions{Live: true}); err == nil {
		t.Error("it was exported")
	}
	s.Call = nil
	if left, err := h.snapshots(ctx, k.Guest.(*guest).vm); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// TestExportFails wants errors that say where.
func TestExportFails(t *testing.T) {
	s := testvsphere.Start(t, testvsphere.Options{})
	h := open(t, s.URI("DC0/host/DC0_C0"))
	imported(t, h, spec("web", "disk.vmdk"))
	ctx := t.Context()
	x, err := h.Export(ctx, "web", hypervisor.ExportOptions{})
	check(t, err)
	drive := x.Kept().Machine.Drives[0].ID
	s.Transfer = func(_ string, w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "no", http.StatusForbidden)
		return true
	}
	if _, err := x.OpenDrive(ctx, drive); err == nil || !strings.Contains(err.Error(), "403") || strings.Contains(err.Error(), "/nfc/") {
		t.Errorf("%v", err)
	}
	s.Transfer = func(_ string, w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte("short"))
		return true
	}
	f, err := x.OpenDrive(ctx, drive)
	check(t, err)
	if _, err := io.ReadAll(f.Once); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a download that is cut: %v", err)
	}
	check(t, f.Close())
	check(t, x.Kept().Start(ctx))
	if err := x.Unchanged(ctx); !errors.Is(err, hypervisor.ErrChanged) {
		t.Errorf("%v", err)
	}
	check(t, x.Close(ctx))
	if _, err := h.Export(ctx, "absent", hypervisor.ExportOptions{}); !errors.Is(err, hypervisor.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

// TestVolume keeps files that are no disks in a datastore.
func TestVolume(t *testing.T) {
	s := testvsphere.Start(t, testvsphere.Options{})
	h := open(t, s.URI("DC0/host/DC0_C0"))
	ctx := t.Context()
	want := bytes.Repeat([]byte("an image "), 10000)
	ref := hypervisor.VolumeRef{Pool: "LocalDS_0", Name: "env.iso"}
	make := hypervisor.VolumeSpec{VolumeRef: ref, Format: "iso", CapacityBytes: int64(len(want) + 5000)}
	v, err := h.CreateVolume(ctx, make)
	check(t, err)
	if _, err := h.CreateVolume(ctx, make); !errors.Is(err, hypervisor.ErrExists) {
		t.Errorf("again: %v", err)
	}
	w, err := v.Upload(ctx)
	check(t, err)
	_, err = w.Write(want)
	check(t, err)
	check(t, w.Skip(1000))
	check(t, w.Close())
	w.Abort()
	r, err := h.OpenVolume(ctx, ref)
	check(t, err)
	got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	check(t, err)
	if r.Size() != make.CapacityBytes || !bytes.HasPrefix(got, want) || bytes.Trim(got[len(want):], "\x00") != nil && len(bytes.Trim(got[len(want):], "\x00")) > 0 {
		t.Errorf("%d bytes, and others", r.Size())
	}
	part := [100]byte{}
	if n, err := r.ReadAt(part[:], 50); n != 100 || err != nil || !bytes.Equal(part[:], want[50:150]) {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := r.ReadAt(part[:], r.Size()-10); n != 10 || !errors.Is(err, io.EOF) {
		t.Errorf("%d, %v", n, err)
	}
	check(t, r.Close())
	w, err = v.Upload(ctx)
	check(t, err)
	if _, err := w.Write([]byte(strings.Repeat("x", int(make.CapacityBytes)+1))); err == nil {
		t.Error("more was taken than the volume was made for")
	}
	w.Abort()
	check(t, h.RemoveVolume(ctx, ref))
	check(t, h.RemoveVolume(ctx, ref))
	if _, err := h.OpenVolume(ctx, ref); !errors.Is(err, hypervisor.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if _, err := h.CreateVolume(ctx, hypervisor.VolumeSpec{VolumeRef: hypervisor.VolumeRef{Pool: "none", Name: "x"}, Format: "iso"}); !errors.Is(err, hypervisor.ErrNotFound) {
		t.Errorf("%v", err)
	}
	for _, name := range []string{"", "..", "../x", "a/b"} {
		if _, err := h.CreateVolume(ctx, hypervisor.VolumeSpec{VolumeRef: hypervisor.VolumeRef{Pool: "LocalDS_0", Name: name}, Format: "iso"}); err == nil {
			t.Errorf("a volume called %q was made", name)
		}
	}
	if _, err := h.CreateVolume(ctx, hypervisor.VolumeSpec{VolumeRef: ref, Format: "raw", CapacityBytes: 512}); !errors.Is(err, hypervisor.ErrUnfit) {
		t.Errorf("a disk: %v", err)
	}
	if _, err := h.Define(ctx, hypervisor.Machine{}, hypervisor.Record{}); !errors.Is(err, hypervisor.ErrUnfit) {
		t.Errorf("a machine: %v", err)
	}
}

// TestSessionLost goes on with another.
func TestSessionLost(t *testing.T) {
	s := testvsphere.Start(t, testvsphere.Options{})
	h := open(t, s.URI("DC0/host/DC0_C0"))
	imported(t, h, spec("web", "disk.vmdk"))
	for range 2 {
		check(t, s.EndSessions(t.Context()))
		if _, err := h.Lookup(t.Context(), "web"); err != nil {
			t.Fatal(err)
		}
	}
	check(t, s.EndSessions(t.Context()))
	h.login.Lock()
	h.credential.Password = "another"
	h.login.Unlock()
	if _, err := h.Lookup(t.Context(), "web"); !errors.Is(err, hypervisor.ErrUnavailable) || !strings.Contains(err.Error(), "does not accept") {
		t.Errorf("%v", err)
	}
}
