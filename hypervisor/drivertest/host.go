package drivertest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ovation-project/ovation/hypervisor"
)

// HostOptions say how a host is tested.
type HostOptions struct {
	// Pool is the pool to make volumes in, "" the host's first.
	Pool string
	// Guests says that machines truly run, so that test guests boot.
	Guests bool
}

// RunHost tests a host that keeps x86 machines with a BIOS. What it makes is
// called ovation-drivertest-…, and it removes it.
func RunHost(t *testing.T, h hypervisor.Host, opt HostOptions) {
	pools, err := h.Pools(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(pools) == 0 {
		t.Fatal("the host has no pool to test with")
	}
	s := hostSuite{h: h, pool: cmp.Or(opt.Pool, pools[0].Name), tag: fmt.Sprintf("ovation-drivertest-%x-", time.Now().UnixNano())}
	t.Run("Says", func(t *testing.T) { s.testSays(t, pools) })
	t.Run("Volume", s.testVolume)
	t.Run("VolumePath", s.testVolumePath)
	t.Run("VolumeAborted", s.testVolumeAborted)
	t.Run("VolumeTooLong", s.testVolumeTooLong)
	t.Run("Define", s.testDefine)
	t.Run("DefineRefused", s.testRefused)
	t.Run("Record", s.testRecord)
	t.Run("PowerStates", s.testPowerStates)
	t.Run("ManyAtOnce", s.testManyAtOnce)
	x, exports := h.(hypervisor.Exporter)
	if exports {
		t.Run("Export", func(t *testing.T) { s.testExport(t, x) })
	}
	if exports && opt.Guests {
		t.Run("ExportLive", func(t *testing.T) { s.testExportLive(t, x) })
	}
	if opt.Guests {
		t.Run("GuestPowersOff", s.testGuestPowersOff)
		t.Run("GuestEchoes", s.testGuestEchoes)
		t.Run("SerialLog", s.testSerialLog)
	}
}

type hostSuite struct {
	h         hypervisor.Host
	pool, tag string
}

func (s hostSuite) ref(name string) hypervisor.VolumeRef {
	return hypervisor.VolumeRef{Pool: s.pool, Name: s.tag + name}
}

func (s hostSuite) testSays(t *testing.T, pools []hypervisor.Pool) {
	if s.h.URI() == "" {
		t.Error("the host has no URI")
	}
	c, err := s.h.Capabilities(t.Context(), "x86_64")
	if err != nil {
		t.Fatal(err)
	}
	if c.Driver == "" || c.Version == "" || c.Architecture != "x86_64" || c.MaxCPUs < 1 || len(c.Chipsets) == 0 || len(c.Firmware) == 0 ||
		len(c.Controllers) == 0 || len(c.NICs) == 0 || len(c.Formats) == 0 {
		t.Errorf("gives nothing: %+v", c)
	}
	for _, p := range pools {
		if p.Name == "" || !slices.Contains(p.Formats, "raw") {
			t.Errorf("pool %+v", p)
		}
	}
	if _, err := s.h.Networks(t.Context()); err != nil {
		t.Error(err)
	}
}

// volume makes one that is removed again.
func (s hostSuite) volume(t *testing.T, spec hypervisor.VolumeSpec) hypervisor.Volume {
	t.Helper()
	v, err := s.h.CreateVolume(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			if err := s.h.RemoveVolume(context.Background(), spec.VolumeRef); err != nil {
				t.Error("RemoveVolume:", err)
			}
		}
		if _, err := s.h.OpenVolume(context.Background(), spec.VolumeRef); !errors.Is(err, hypervisor.ErrNotFound) {
			t.Errorf("OpenVolume of what was removed: %v", err)
		}
	})
	if v.Ref() != spec.VolumeRef {
		t.Errorf("asked for %v, got %v", spec.VolumeRef, v.Ref())
	}
	return v
}

func (s hostSuite) upload(t *testing.T, name string, data []byte) hypervisor.VolumeRef {
	t.Helper()
	v := s.volume(t, hypervisor.VolumeSpec{VolumeRef: s.ref(name), Format: "raw", CapacityBytes: int64(len(data))})
	send(t, v, data)
	return v.Ref()
}

// Put makes a volume in the pool default, which holds data.
func Put(t testing.TB, h hypervisor.Host, name, format string, data []byte) hypervisor.VolumeRef {
	t.Helper()
	v, err := h.CreateVolume(t.Context(), hypervisor.VolumeSpec{VolumeRef: hypervisor.VolumeRef{Pool: "default", Name: name}, Format: format, CapacityBytes: int64(len(data))})
	if err != nil {
		t.Fatal(err)
	}
	send(t, v, data)
	return v.Ref()
}

func send(t testing.TB, v hypervisor.Volume, data []byte) {
	t.Helper()
	w, err := v.Upload(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// holds compares what a volume has with what it should have.
func (s hostSuite) holds(t *testing.T, ref hypervisor.VolumeRef, want []byte) {
	t.Helper()
	r, err := s.h.OpenVolume(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.Format() != "raw" || r.Size() != int64(len(want)) {
		t.Errorf("%s of %d bytes, want raw of %d", r.Format(), r.Size(), len(want))
	}
	got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the volume does not hold what was written (%d of %d bytes, %v)", len(got), len(want), err)
	}
	part := make([]byte, 100)
	if at := len(want)/2 - 50; at > 0 {
		if n, err := r.ReadAt(part, int64(at)); n != len(part) || err != nil || !bytes.Equal(part, want[at:at+100]) {
			t.Errorf("ReadAt %d: %d bytes, %v", at, n, err)
		}
	}
	if n, err := r.ReadAt(part, r.Size()); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("ReadAt the end: %d, %v", n, err)
	}
}

func (s hostSuite) testVolume(t *testing.T) {
	ctx := t.Context()
	want := make([]byte, 5<<20)
	for i := range want[:70000] {
		want[i] = byte(i*7 + i>>9)
	}
	copy(want[3<<20:], bytes.Repeat([]byte("the end of a hole "), 1000))
	spec := hypervisor.VolumeSpec{VolumeRef: s.ref("vol"), Format: "raw", CapacityBytes: int64(len(want))}
	v := s.volume(t, spec)
	if _, err := s.h.CreateVolume(ctx, spec); !errors.Is(err, hypervisor.ErrExists) {
		t.Errorf("making it again: %v", err)
	}
	w, err := v.Upload(ctx)
	if err != nil {
		t.Fatal(err)
	}
	steps := []func() error{
		func() error { _, err := w.Write(want[:70000]); return err },
		func() error { return w.Skip(3<<20 - 70000) },
		func() error { _, err := w.Write(want[3<<20 : 3<<20+18000]); return err },
		func() error { return w.Skip(2<<20 - 18000) },
		w.Close,
	}
	for i, step := range steps {
		if err := step(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	w.Abort()
	s.holds(t, v.Ref(), want)

	nowhere := hypervisor.VolumeSpec{VolumeRef: hypervisor.VolumeRef{Pool: s.tag + "no-pool", Name: "v"}, Format: "raw", CapacityBytes: 512}
	if _, err := s.h.CreateVolume(ctx, nowhere); !errors.Is(err, hypervisor.ErrNotFound) {
		t.Errorf("in a pool that is not there: %v", err)
	}
	if _, err := s.h.OpenVolume(ctx, s.ref("absent")); !errors.Is(err, hypervisor.ErrNotFound) {
		t.Errorf("opening what is not there: %v", err)
	}
	if err := s.h.RemoveVolume(ctx, s.ref("absent")); err != nil {
		t.Errorf("removing what is not there: %v", err)
	}
	for _, name := range []string{"", "..", "../x", "a/b"} {
		bad := hypervisor.VolumeSpec{VolumeRef: hypervisor.VolumeRef{Pool: s.pool, Name: name}, Format: "raw", CapacityBytes: 512}
		if _, err := s.h.CreateVolume(ctx, bad); err == nil {
			t.Errorf("a volume called %q was made", name)
		}
	}
}

func (s hostSuite) testVolumePath(t *testing.T) {
	want := bytes.Repeat([]byte("written as a file "), 1000)
	want = append(want, make([]byte, 1<<16-len(want)%512)...)
	v := s.volume(t, hypervisor.VolumeSpec{VolumeRef: s.ref("path"), Format: "raw", CapacityBytes: int64(len(want))})
	if v.Path() == "" {
		t.Skip("the host takes volumes by Upload only")
	}
	if err := os.WriteFile(v.Path(), want, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := v.Filled(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.holds(t, v.Ref(), want)
}

func (s hostSuite) testVolumeAborted(t *testing.T) {
	v := s.volume(t, hypervisor.VolumeSpec{VolumeRef: s.ref("aborted"), Format: "raw", CapacityBytes: 1 << 20})
	w, err := v.Upload(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	w.Abort()
	w.Abort()
	// The volume is there, half filled, until it is removed, and can be filled
	// again.
	if w, err = v.Upload(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Abort()
}

func (s hostSuite) testVolumeTooLong(t *testing.T) {
	v := s.volume(t, hypervisor.VolumeSpec{VolumeRef: s.ref("toolong"), Format: "raw", CapacityBytes: 1 << 20})
	w, err := v.Upload(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for range 64 {
		if _, err = w.Write(make([]byte, 1<<16)); err != nil {
			return
		}
	}
	if err := w.Close(); err == nil {
		t.Error("4 MiB were taken by a volume of one")
	}
}

// machine is a small one that boots the image from a volume.
func (s hostSuite) machine(t *testing.T, name string, image []byte) hypervisor.Machine {
	t.Helper()
	m := Machine(t, image)
	m.Name = s.tag + name
	ref := s.upload(t, name+".raw", image)
	m.Drives[0].Capacity = int64(len(image))
	m.Drives[0].Medium = &hypervisor.Medium{Format: "raw", Volume: &ref}
	return m
}

func (s hostSuite) record() hypervisor.Record {
	return hypervisor.Record{Deployment: s.tag + "deployment", System: "vm<1>&\"é", Appliance: "A & B <1.0> \x00\t]]> ünï", Locator: "https://example.org/a.ova?x=1&y=2",
		Made: time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC), Data: json.RawMessage(`{"a":[1,"<&>\u0001"]}`)}
}

func (s hostSuite) define(t *testing.T, m hypervisor.Machine) hypervisor.Guest {
	t.Helper()
	g, err := s.h.Define(t.Context(), m, s.record())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			if err := g.Remove(context.Background()); err != nil {
				t.Error("Remove:", err)
			}
		}
		s.absent(t, m.Name)
		for _, d := range m.Drives {
			if d.Medium != nil && d.Medium.Volume != nil {
				r, err := s.h.OpenVolume(context.Background(), *d.Medium.Volume)
				if err != nil {
					t.Error("Remove took a medium away:", err)
					continue
				}
				r.Close()
			}
		}
	})
	return g
}

func (s hostSuite) absent(t *testing.T, name string) {
	t.Helper()
	if _, err := s.h.Lookup(context.Background(), name); !errors.Is(err, hypervisor.ErrNotFound) {
		t.Errorf("Lookup of %s, which is not there: %v", name, err)
	}
}

func (s hostSuite) testDefine(t *testing.T) {
	ctx := t.Context()
	m := s.machine(t, "define", Image("", PowerOff))
	m.UUID = "9b2f4c1e-6d0a-4f3b-8a57-1c2d3e4f5a6b"
	m.NICs = []hypervisor.NIC{{ID: "n", Model: hypervisor.E1000, MAC: "52:54:00:12:34:56", Network: "LAN", Disconnected: true}}
	s.absent(t, m.Name)
	s.define(t, m)

	k, err := s.h.Lookup(ctx, m.Name)
	if err != nil {
		t.Fatal(err)
	}
	got := k.Machine
	switch {
	case k.Name != m.Name || got.Name != m.Name || !strings.EqualFold(got.UUID, m.UUID) || got.Architecture != m.Architecture:
		t.Errorf("not the machine that was defined: %+v", got)
	case got.CPU.Count != m.CPU.Count || got.Memory.Bytes != m.Memory.Bytes || got.Firmware.Kind != m.Firmware.Kind:
		t.Errorf("other hardware than was defined: %+v", got)
	case len(got.Drives) != 1 || got.Drives[0].Medium == nil || got.Drives[0].Medium.Volume == nil || *got.Drives[0].Medium.Volume != *m.Drives[0].Medium.Volume:
		t.Errorf("other drives than were defined: %+v", got.Drives)
	case len(got.NICs) != 1 || got.NICs[0].Model != hypervisor.E1000 || got.NICs[0].MAC != m.NICs[0].MAC || !got.NICs[0].Disconnected:
		t.Errorf("other network cards than were defined: %+v", got.NICs)
	}
	if state, err := k.State(ctx); err != nil || state != hypervisor.PoweredOff {
		t.Errorf("state %q, %v", state, err)
	}

	again := m
	again.UUID, again.CPU.Count = "", 2
	if _, err := s.h.Define(ctx, again, hypervisor.Record{Deployment: "other"}); !errors.Is(err, hypervisor.ErrExists) {
		t.Errorf("defining it again: %v", err)
	}
	if k, err = s.h.Lookup(ctx, m.Name); err != nil || k.Machine.CPU.Count != m.CPU.Count || k.Record == nil || k.Record.Deployment != s.record().Deployment {
		t.Errorf("what was there was changed: %+v, %v", k, err)
	}
}

func (s hostSuite) testRefused(t *testing.T) {
	m := s.machine(t, "refused", Image("", PowerOff))
	m.Controllers = append(m.Controllers, hypervisor.Controller{ID: "strange", Model: "no-such-controller"})
	m.NICs = []hypervisor.NIC{{ID: "nic", Model: "no-such-card", Network: "n"},
		{ID: "nic2", Model: hypervisor.E1000, Network: "n", HostNetwork: s.tag + "no-such-network"}}
	_, err := s.h.Define(t.Context(), m, s.record())
	var unfit *hypervisor.UnfitError
	if !errors.As(err, &unfit) {
		t.Fatalf("got %v, want an UnfitError", err)
	}
	for _, want := range []string{"no-such-controller", "no-such-card", "no-such-network"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the reasons do not name %s: %v", want, err)
		}
	}
	if c, ok := s.h.(hypervisor.Checker); ok {
		if checked := c.Check(t.Context(), m); checked == nil || checked.Error() != err.Error() {
			t.Errorf("Check gives %v, and Define %v", checked, err)
		}
	}
	s.absent(t, m.Name)

	m = s.machine(t, "novolume", Image("", PowerOff))
	gone := s.ref("absent")
	m.Drives[0].Medium.Volume = &gone
	if c, ok := s.h.(hypervisor.Checker); ok {
		if err := c.Check(t.Context(), m); err != nil {
			t.Errorf("a machine whose volume is still to be made can't be: %v", err)
		}
		s.absent(t, m.Name)
	}
	if _, err := s.h.Define(t.Context(), m, s.record()); !errors.Is(err, hypervisor.ErrNotFound) {
		t.Errorf("with a volume that is not there: %v", err)
	}
	s.absent(t, m.Name)
}

func sameRecord(t *testing.T, got *hypervisor.Record, want hypervisor.Record) {
	t.Helper()
	if got == nil {
		t.Error("the machine has no record")
		return
	}
	g, err1 := json.Marshal(*got)
	w, err2 := json.Marshal(want)
	if err1 != nil || err2 != nil || !bytes.Equal(g, w) {
		t.Errorf("the record is\n%s, want\n%s (%v, %v)", g, w, err1, err2)
	}
}

func (s hostSuite) testRecord(t *testing.T) {
	ctx := t.Context()
	m := s.machine(t, "record", Image("", PowerOff))
	s.define(t, m)
	find := func() *hypervisor.Kept {
		t.Helper()
		list, err := s.h.List(ctx, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range list {
			if k.Record == nil {
				t.Errorf("%s has no record and is listed", k.Name)
			}
			if k.Name == m.Name {
				return k
			}
		}
		t.Fatal("the machine is not listed")
		return nil
	}
	sameRecord(t, find().Record, s.record())
	if all, err := s.h.List(ctx, true); err != nil || !slices.ContainsFunc(all, func(k *hypervisor.Kept) bool { return k.Name == m.Name }) {
		t.Errorf("the machine is not among all: %v", err)
	}
	recorder, ok := s.h.(hypervisor.Recorder)
	if !ok {
		return
	}
	next := s.record()
	next.Appliance, next.Data = "another", json.RawMessage(`{"accepted":true}`)
	if err := recorder.SetRecord(ctx, m.Name, next); err != nil {
		t.Fatal(err)
	}
	sameRecord(t, find().Record, next)
	if err := recorder.SetRecord(ctx, s.tag+"absent", next); !errors.Is(err, hypervisor.ErrNotFound) {
		t.Errorf("SetRecord of what is not there: %v", err)
	}
}

func (s hostSuite) testPowerStates(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	m := s.machine(t, "power", Image("", Hang))
	g := s.define(t, m)
	k, err := s.h.Lookup(ctx, m.Name)
	if err != nil {
		t.Fatal(err)
	}
	is := func(want hypervisor.State) {
		t.Helper()
		for _, g := range []hypervisor.Guest{g, k} {
			if state, err := g.State(ctx); err != nil || state != want {
				t.Errorf("state %q, %v, want %q", state, err, want)
			}
		}
	}
	is(hypervisor.PoweredOff)
	if err := g.Shutdown(ctx); !errors.Is(err, hypervisor.ErrNotRunning) {
		t.Errorf("Shutdown: %v", err)
	}
	if err := g.Kill(ctx); err != nil {
		t.Errorf("Kill: %v", err)
	}
	if _, err := g.Wait(ctx); !errors.Is(err, hypervisor.ErrNotRunning) {
		t.Errorf("Wait for what was not started: %v", err)
	}
	// Twice, since what a host keeps is started again and again.
	for range 2 {
		starting, stop := context.WithCancel(ctx)
		if err := g.Start(starting); err != nil {
			t.Fatal(err)
		}
		stop()
		is(hypervisor.Running)
		if err := k.Start(ctx); err == nil {
			t.Error("what runs was started")
		}
		soon, cancelWait := context.WithCancel(ctx)
		cancelWait()
		if _, err := k.Wait(soon); !errors.Is(err, context.Canceled) {
			t.Errorf("Wait with a context that ended: %v", err)
		}
		ended := make(chan error, 1)
		go func() {
			exit, err := g.Wait(ctx)
			if err == nil && exit.Reason != hypervisor.HostShutdown {
				err = fmt.Errorf("ended with %+v", exit)
			}
			ended <- err
		}()
		for range 2 {
			if err := k.Kill(ctx); err != nil {
				t.Error("Kill:", err)
			}
		}
		if err := <-ended; err != nil {
			t.Error("Wait:", err)
		}
		is(hypervisor.PoweredOff)
	}
	// Removing ends what runs.
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := k.Remove(ctx); err != nil {
		t.Error(err)
	}
	s.absent(t, m.Name)
}

func (s hostSuite) testManyAtOnce(t *testing.T) {
	const n = 6
	m := s.machine(t, "many", Image("", PowerOff))
	var wg sync.WaitGroup
	made := make([]hypervisor.Guest, n)
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() {
			one := m
			one.Name = fmt.Sprintf("%s-%d", m.Name, i/2) // each name twice
			made[i], errs[i] = s.h.Define(t.Context(), one, s.record())
		})
	}
	wg.Wait()
	for i := 0; i < n; i += 2 {
		if (errs[i] == nil) == (errs[i+1] == nil) || !errors.Is(cmp.Or(errs[i], errs[i+1]), hypervisor.ErrExists) {
			t.Errorf("two of one name at once: %v and %v", errs[i], errs[i+1])
		}
	}
	for _, g := range made {
		if g != nil {
			if err := g.Remove(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
}

func (s hostSuite) testGuestPowersOff(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	const hello = "hello from the guest\r\n"
	g := s.define(t, s.machine(t, "boot", Image(hello, Echo)))
	console, err := g.Console()
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, len(hello))
	if _, err := io.ReadFull(console, said); err != nil || string(said) != hello {
		t.Fatalf("the console said %q, %v", said, err)
	}
	if _, err := console.Write([]byte{End}); err != nil {
		t.Fatal(err)
	}
	exit, err := g.Wait(ctx)
	if err != nil || exit.Reason != hypervisor.GuestShutdown {
		t.Errorf("ended with %+v, %v", exit, err)
	}
	if rest, err := io.ReadAll(console); err != nil || len(rest) > 0 {
		t.Errorf("then the console said %q, %v", rest, err)
	}
}

// testSerialLog reads what a guest said when it has ended, twice, and what a
// machine said that was never started.
func (s hostSuite) testSerialLog(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	const says = "hello from the guest\r\n"
	g := s.define(t, s.machine(t, "log", Image(says, PowerOff)))
	logger, ok := g.(hypervisor.SerialLogger)
	if !ok {
		t.Skip("the host keeps no logs of serial ports")
	}
	if _, _, err := logger.SerialLog(ctx, 0, 0); !errors.Is(err, hypervisor.ErrNotFound) {
		t.Errorf("before the start: %v", err)
	}
	for range 2 {
		if err := g.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := g.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		for from, want := range map[int64]int64{0: 0, 6: 6, int64(len(says)): int64(len(says)), 1 << 40: 0} {
			log, at, err := logger.SerialLog(ctx, 0, from)
			if err != nil {
				t.Fatal(err)
			}
			said, err := io.ReadAll(log)
			if err = errors.Join(err, log.Close()); err != nil || at != want || string(said) != says[want:] {
				t.Errorf("from %d: %q from %d on, %v", from, said, at, err)
			}
		}
	}
	if _, _, err := logger.SerialLog(ctx, 3, 0); !errors.Is(err, hypervisor.ErrNotFound) {
		t.Errorf("a port that is not there: %v", err)
	}
}

func (s hostSuite) testGuestEchoes(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	m := s.machine(t, "echo", Image("ready\n", Echo))
	g := s.define(t, m)
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
	if err := console.Close(); err != nil {
		t.Error(err)
	}
	if state, err := g.State(ctx); err != nil || state != hypervisor.Running {
		t.Errorf("with its console closed the guest is %q, %v", state, err)
	}
	// Somebody else, later.
	k, err := s.h.Lookup(ctx, m.Name)
	if err != nil {
		t.Fatal(err)
	}
	if console, err = k.Console(); err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	for _, c := range []byte("abc") {
		if _, err := console.Write([]byte{c}); err != nil {
			t.Fatal(err)
		}
		echo := make([]byte, 1)
		if _, err := io.ReadFull(console, echo); err != nil || echo[0] != c {
			t.Fatalf("wrote %q, got %q, %v", c, echo, err)
		}
	}
	if _, err := console.Write([]byte{End}); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(console); err != nil || len(rest) != 0 {
		t.Errorf("after the end: %q, %v", rest, err)
	}
	if exit, err := k.Wait(ctx); err != nil || exit.Reason != hypervisor.GuestShutdown {
		t.Errorf("ended with %+v, %v", exit, err)
	}
}
