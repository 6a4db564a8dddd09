package main

import (
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovation-project/ovation/deploy/lifecycle"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/drivertest"
	"github.com/ovation-project/ovation/internal/testlibvirt"
)

// asDeployed gives a machine the record of a deployment that has its name.
func asDeployed(t *testing.T, h hypervisor.Recorder, name string) {
	t.Helper()
	data, err := json.Marshal(lifecycle.Data{APIVersion: lifecycle.APIVersion, Name: name, Machines: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.SetRecord(t.Context(), name, hypervisor.Record{Deployment: plan.NewID(), System: name, Made: time.Now(), Data: data}); err != nil {
		t.Fatal(err)
	}
}

// TestConsoleAtATerminal types to a guest on a host, leaves it by the escape key,
// comes back, and sees it end.
func TestConsoleAtATerminal(t *testing.T) {
	d := testlibvirt.Start(t, testlibvirt.Options{})
	h := openLibvirt(t, d.URI)
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	g := define(t, h, "web", drivertest.Image("ready\n", drivertest.Echo))
	asDeployed(t, h, "web")
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Each has a terminal of its own: who left reads the old one still.
	attach := func(uri string, talk func(person, program *os.File)) {
		t.Helper()
		atTerminal(t, time.Minute, []string{"console", "web", "--on", uri}, func(person, program *os.File) {
			expect(t, person, "Ctrl-] leaves it")
			talk(person, program)
		})
	}
	typed := func(person, program *os.File, keys string) {
		t.Helper()
		// Until the console is open the terminal shows what is typed itself.
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			now, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
			if err != nil {
				t.Fatal(err)
			}
			if now.Lflag&unix.ECHO == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the keyboard is not the guest's")
			}
		}
		if _, err := io.WriteString(person, keys); err != nil {
			t.Fatal(err)
		}
		expect(t, person, keys)
	}
	attach(d.URI, func(person, program *os.File) {
		typed(person, program, "a\x03b") // Ctrl-C is the guest's
		io.WriteString(person, "\x1d")
	})
	if state, err := g.State(t.Context()); err != nil || state != hypervisor.Running {
		t.Errorf("with its console left the guest is %q, %v", state, err)
	}
	attach(d.TCP, func(person, program *os.File) {
		typed(person, program, "xyz")
		io.WriteString(person, "q") // which the guest ends by
		expect(t, person, "web has ended")
	})
	if code, out, said := command(t, "logs", "web", "--on", d.TCP); code != exitOK || !strings.HasPrefix(out, "ready\n") || !strings.Contains(out, "xyz") {
		t.Errorf("logs: exit code %d, %q, %s", code, out, said)
	}
}
