package drivertest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ovation-project/ovation/hypervisor"
)

// limit is for a guest of a few instructions on a host that is busy.
const limit = 2 * time.Minute

// Run tests a driver that runs x86 guests with a BIOS. Each test makes a
// machine of its own.
func Run(t *testing.T, d hypervisor.Driver) {
	t.Run("Capabilities", func(t *testing.T) { testCapabilities(t, d) })
	t.Run("Refusal", func(t *testing.T) { testRefusal(t, d) })
	t.Run("GuestPowersOff", func(t *testing.T) { testPowersOff(t, d) })
	t.Run("Console", func(t *testing.T) { testConsole(t, d) })
	t.Run("Kill", func(t *testing.T) { testKill(t, d) })
	t.Run("BeforeAndAfter", func(t *testing.T) { testBeforeAndAfter(t, d) })
	t.Run("ResetLoop", func(t *testing.T) { testResetLoop(t, d) })
}

// Machine is a small machine whose only disk is a file that holds the image.
func Machine(t testing.TB, image []byte) hypervisor.Machine {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	return hypervisor.Machine{
		ID: "test", Name: "drivertest", Architecture: "x86_64",
		CPU: hypervisor.CPU{Count: 1}, Memory: hypervisor.Memory{Bytes: 64 << 20},
		Firmware:    hypervisor.Firmware{Kind: hypervisor.BIOS},
		Controllers: []hypervisor.Controller{{ID: "c", Model: hypervisor.IDE}},
		Drives: []hypervisor.Drive{{ID: "d", Kind: hypervisor.HardDisk, Controller: "c", BootOrder: 1,
			Medium: &hypervisor.Medium{Format: "raw", Path: path, Volatile: true}}},
		Serials: []hypervisor.Serial{{ID: "s"}},
	}
}

// Boot runs a machine to its end and gives what its console said.
func Boot(t testing.TB, d hypervisor.Driver, m hypervisor.Machine) (string, hypervisor.Exit) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	g := create(t, d, m)
	console, err := g.Console()
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	// Reading first shows that nothing is lost when the guest has ended.
	exit, err := g.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(console)
	if err != nil {
		t.Error("console:", err)
	}
	return string(said), exit
}

func create(t testing.TB, d hypervisor.Driver, m hypervisor.Machine) hypervisor.Guest {
	t.Helper()
	g, err := d.Create(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			if err := g.Remove(context.Background()); err != nil {
				t.Error("Remove:", err)
			}
		}
		for _, drive := range m.Drives {
			if drive.Medium != nil && drive.Medium.Path != "" {
				if _, err := os.Stat(drive.Medium.Path); err != nil {
					t.Error("Remove took a medium away:", err)
				}
			}
		}
	})
	return g
}

func testCapabilities(t *testing.T, d hypervisor.Driver) {
	c, err := d.Capabilities(t.Context(), "x86_64")
	if err != nil {
		t.Fatal(err)
	}
	if c.Driver != d.Name() || c.Version == "" || c.Architecture != "x86_64" {
		t.Errorf("does not say what it is: %+v", c)
	}
	if c.MaxCPUs < 1 || len(c.Chipsets) == 0 || len(c.Firmware) == 0 || len(c.Controllers) == 0 || len(c.NICs) == 0 || len(c.Formats) == 0 {
		t.Errorf("gives nothing: %+v", c)
	}
}

func testRefusal(t *testing.T, d hypervisor.Driver) {
	m := Machine(t, Image("", PowerOff))
	m.Controllers = append(m.Controllers, hypervisor.Controller{ID: "strange", Model: "no-such-controller"})
	m.NICs = []hypervisor.NIC{{ID: "nic", Model: "no-such-card", Network: "n"}}
	_, err := d.Create(t.Context(), m)
	var unfit *hypervisor.UnfitError
	if !errors.As(err, &unfit) || !errors.Is(err, hypervisor.ErrUnfit) {
		t.Fatalf("got %v, want an UnfitError", err)
	}
	for _, want := range []string{"no-such-controller", "no-such-card"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the reasons do not name %s: %v", want, err)
		}
	}
	if c, ok := d.(hypervisor.Checker); ok {
		if checked := c.Check(t.Context(), m); checked == nil || checked.Error() != err.Error() {
			t.Errorf("Check gives %v, and Create %v", checked, err)
		}
		m = Machine(t, Image("", PowerOff))
		m.Drives[0].Medium.Path += ".absent"
		if err := c.Check(t.Context(), m); err != nil {
			t.Errorf("a machine whose image is still to be made can't be: %v", err)
		}
	}
}

func testPowersOff(t *testing.T, d hypervisor.Driver) {
	said, exit := Boot(t, d, Machine(t, Image("hello from the guest\r\n", PowerOff)))
	if said != "hello from the guest\r\n" {
		t.Errorf("the console said %q", said)
	}
	if exit.Reason != hypervisor.GuestShutdown || exit.Err() != nil {
		t.Errorf("ended with %+v", exit)
	}
}

func testConsole(t *testing.T, d hypervisor.Driver) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	g := create(t, d, Machine(t, Image("ready\n", Echo)))
	console, err := g.Console()
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	ready := make([]byte, len("ready\n"))
	if _, err := io.ReadFull(console, ready); err != nil {
		t.Fatal(err)
	}
	if state, err := g.State(ctx); err != nil || state != hypervisor.Running {
		t.Errorf("state %q, %v", state, err)
	}
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
	if exit, err := g.Wait(ctx); err != nil || exit.Reason != hypervisor.GuestShutdown {
		t.Errorf("ended with %+v, %v", exit, err)
	}
	if rest, err := io.ReadAll(console); err != nil || len(rest) != 0 {
		t.Errorf("after the end: %q, %v", rest, err)
	}
}

func testKill(t *testing.T, d hypervisor.Driver) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	g := create(t, d, Machine(t, Image("up", Hang)))
	console, err := g.Console()
	if err != nil {
		t.Fatal(err)
	}
	starting, stop := context.WithCancel(ctx)
	if err := g.Start(starting); err != nil {
		t.Fatal(err)
	}
	stop() // which is not to stop the guest
	if _, err := io.ReadFull(console, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	soon, cancelWait := context.WithCancel(ctx)
	cancelWait()
	if _, err := g.Wait(soon); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait with a context that ended: %v", err)
	}
	if err := g.Shutdown(ctx); err != nil {
		t.Error("Shutdown:", err)
	}
	if state, err := g.State(ctx); err != nil || state != hypervisor.Running {
		t.Errorf("a guest that hears no power button is %q, %v", state, err)
	}
	for range 2 {
		if err := g.Kill(ctx); err != nil {
			t.Error("Kill:", err)
		}
	}
	if exit, err := g.Wait(ctx); err != nil || exit.Reason != hypervisor.HostShutdown || exit.Err() != nil {
		t.Errorf("ended with %+v, %v", exit, err)
	}
}

func testBeforeAndAfter(t *testing.T, d hypervisor.Driver) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	g := create(t, d, Machine(t, Image("", PowerOff)))
	off := func() {
		t.Helper()
		if state, err := g.State(ctx); err != nil || state != hypervisor.PoweredOff {
			t.Errorf("state %q, %v", state, err)
		}
		if err := g.Shutdown(ctx); !errors.Is(err, hypervisor.ErrNotRunning) {
			t.Errorf("Shutdown: %v", err)
		}
		if err := g.Kill(ctx); err != nil {
			t.Errorf("Kill: %v", err)
		}
	}
	off()
	if _, err := g.Wait(ctx); !errors.Is(err, hypervisor.ErrNotRunning) {
		t.Errorf("Wait for what was not started: %v", err)
	}
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if exit, err := g.Wait(ctx); err != nil || exit.Reason != hypervisor.GuestShutdown {
			t.Errorf("ended with %+v, %v", exit, err)
		}
	}
	off()
}

func testResetLoop(t *testing.T, d hypervisor.Driver) {
	said, exit := Boot(t, d, Machine(t, Image("again ", Restart)))
	if exit.Reason != hypervisor.ResetLoop || exit.Err() == nil || exit.Resets < 2 {
		t.Errorf("ended with %+v", exit)
	}
	if n := strings.Count(said, "again "); n < 2 || !bytes.HasPrefix([]byte(said), []byte("again again ")) {
		t.Errorf("the console said %q", said)
	}
}
