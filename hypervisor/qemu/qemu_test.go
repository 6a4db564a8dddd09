package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/drivertest"
	"github.com/ovation-project/ovation/internal/testenv"
)

func TestDriver(t *testing.T) {
	testenv.NeedTool(t, "qemu-system-x86_64")
	for _, accel := range []string{"tcg", "auto"} {
		t.Run(accel, func(t *testing.T) {
			drivertest.Run(t, New(Options{Accel: accel}))
		})
	}
}

// TestBootsFromEveryController boots with a BIOS from each controller, at its
// last place.
func TestBootsFromEveryController(t *testing.T) {
	testenv.NeedTool(t, "qemu-system-x86_64")
	d := New(Options{})
	caps, err := d.Capabilities(t.Context(), "x86_64")
	if err != nil {
		t.Fatal(err)
	}
	for model, device := range controllers {
		if model == hypervisor.Floppy {
			continue
		}
		for _, unit := range []int{0, max(0, min(device.Units, 16)-1)} {
			t.Run(fmt.Sprint(model, unit), func(t *testing.T) {
				if _, ok := caps.Controllers[model]; !ok {
					t.Skip("this QEMU was built without", device.Name)
				}
				m := drivertest.Machine(t, drivertest.Image("booted", drivertest.PowerOff))
				m.Controllers[0].Model = model
				m.Drives[0].Unit = unit
				if said, exit := drivertest.Boot(t, d, m); said != "booted" || exit.Err() != nil {
					t.Errorf("said %q, ended with %+v", said, exit)
				}
			})
		}
	}
}

func TestBootsFromFloppy(t *testing.T) {
	testenv.NeedTool(t, "qemu-system-x86_64")
	for _, chipset := range []hypervisor.Chipset{hypervisor.I440FX, hypervisor.Q35} {
		image := make([]byte, 1440<<10)
		copy(image, drivertest.Image("floppy", drivertest.PowerOff)[:512])
		m := drivertest.Machine(t, image)
		m.Chipset = chipset
		m.Controllers[0].Model = hypervisor.Floppy
		m.Drives[0].Kind = hypervisor.FloppyDrive
		if said, exit := drivertest.Boot(t, New(Options{}), m); said != "floppy" || exit.Err() != nil {
			t.Errorf("%s: said %q, ended with %+v", chipset, said, exit)
		}
	}
}

// TestBootOrder has two disks, of which the second is to boot.
func TestBootOrder(t *testing.T) {
	testenv.NeedTool(t, "qemu-system-x86_64")
	m := drivertest.Machine(t, drivertest.Image("first", drivertest.PowerOff))
	other := drivertest.Machine(t, drivertest.Image("second", drivertest.PowerOff))
	m.Controllers = append(m.Controllers, hypervisor.Controller{ID: "s", Model: hypervisor.AHCI})
	drive := other.Drives[0]
	drive.ID, drive.Controller, drive.BootOrder = "other", "s", 1
	m.Drives[0].BootOrder = 2
	m.Drives = append(m.Drives, drive)
	if said, _ := drivertest.Boot(t, New(Options{}), m); said != "second" {
		t.Errorf("said %q", said)
	}
}

func TestNothingToBoot(t *testing.T) {
	testenv.NeedTool(t, "qemu-system-x86_64")
	m := drivertest.Machine(t, make([]byte, 1<<20))
	said, exit := drivertest.Boot(t, New(Options{}), m)
	if said != "" || exit.Reason != hypervisor.NothingToBoot || exit.Err() == nil {
		t.Errorf("said %q, ended with %+v", said, exit)
	}
}

// TestAllDevices starts a machine with every device that the tables have: what
// is in them QEMU takes.
func TestAllDevices(t *testing.T) {
	testenv.NeedTool(t, "qemu-system-x86_64")
	caps, err := New(Options{}).Capabilities(t.Context(), "x86_64")
	if err != nil {
		t.Fatal(err)
	}
	try := func(name string, change func(*hypervisor.Machine)) {
		t.Run(name, func(t *testing.T) {
			m := drivertest.Machine(t, drivertest.Image("ok", drivertest.PowerOff))
			change(&m)
			if said, exit := drivertest.Boot(t, New(Options{}), m); said != "ok" || exit.Err() != nil {
				t.Errorf("said %q, ended with %+v", said, exit)
			}
		})
	}
	for s := range caps.Sounds {
		try("sound "+s, func(m *hypervisor.Machine) { m.Sound = s })
	}
	for u := range caps.USB {
		try("usb "+u, func(m *hypervisor.Machine) { m.USB = []string{u} })
	}
	for s := range caps.Displays {
		try("display "+s, func(m *hypervisor.Machine) { m.Display = s })
	}
	testenv.NeedTool(t, "swtpm")
	if len(caps.TPMs) != 2 {
		t.Errorf("TPMs %v can be had", caps.TPMs)
	}
	for _, v := range caps.TPMs {
		try("TPM "+v, func(m *hypervisor.Machine) { m.TPM = &hypervisor.TPM{Version: v} })
	}
	try("cards", func(m *hypervisor.Machine) {
		for n := range caps.NICs {
			m.NICs = append(m.NICs, hypervisor.NIC{ID: string(n), Model: n, Network: "n", Disconnected: len(m.NICs)%2 == 0})
		}
	})
	try("CD-ROMs", func(m *hypervisor.Machine) {
		for i, model := range []hypervisor.ControllerModel{hypervisor.AHCI, hypervisor.PVSCSI, hypervisor.LSILogic} {
			id := fmt.Sprint("cd", i)
			m.Controllers = append(m.Controllers, hypervisor.Controller{ID: id, Model: model})
			m.Drives = append(m.Drives, hypervisor.Drive{ID: id, Kind: hypervisor.CDROM, Controller: id})
		}
	})
	try("names", func(m *hypervisor.Machine) {
		m.Name = `a,b="c" -S {"x":1}` + "\n,sandbox=off"
		m.ID = m.Name
		path := filepath.Join(t.TempDir(), `odd,name"{}:%s`)
		if err := os.Rename(m.Drives[0].Medium.Path, path); err != nil {
			t.Fatal(err)
		}
		m.Drives[0].Medium.Path = path
	})
}

func TestUEFIStarts(t *testing.T) {
	testenv.NeedTool(t, "qemu-system-x86_64")
	d := New(Options{})
	caps, err := d.Capabilities(t.Context(), "x86_64")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", t.TempDir())
	seen := map[bool]bool{}
	for _, f := range caps.Firmware {
		if f.Kind != hypervisor.UEFI || seen[f.SecureBoot] {
			continue
		}
		seen[f.SecureBoot] = true
		m := drivertest.Machine(t, drivertest.Image("", drivertest.Hang))
		m.Firmware = hypervisor.Firmware{Kind: hypervisor.UEFI, SecureBoot: f.SecureBoot}
		m.Controllers[0].Model = hypervisor.AHCI
		g, err := d.Create(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Start(t.Context()); err != nil {
			t.Error(err)
		}
		console, err := g.Console()
		if err != nil {
			t.Fatal(err)
		}
		// EDK II clears the screen, on the serial port too.
		if _, err := console.Read(make([]byte, 1)); err != nil {
			t.Errorf("%s: %v", f.Path, err)
		}
		if err := g.Remove(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if left, _ := os.ReadDir(os.Getenv("TMPDIR")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestUnavailable(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := New(Options{}).Capabilities(t.Context(), "")
	if hostArchitecture() != "x86_64" {
		t.Skip("for PCs")
	}
	if !errors.Is(err, hypervisor.ErrUnavailable) || !strings.Contains(err.Error(), "qemu-system-x86") {
		t.Errorf("QEMU is not there: %v", err)
	}
	// A program that is no QEMU is said to be none, in its own words.
	fake := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(fake, []byte("#!/bin/sh\necho no such thing >&2; exit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err = New(Options{Binary: fake}).Capabilities(t.Context(), "x86_64")
	if !errors.Is(err, hypervisor.ErrUnavailable) || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("not QEMU: %v", err)
	}
}

func TestOldVersion(t *testing.T) {
	if !older(qemuVersion{Major: 6, Minor: 1, Micro: 9}, minVersion) || older(qemuVersion{Major: 6, Minor: 2}, minVersion) || older(qemuVersion{Major: 10}, minVersion) {
		t.Error("versions compare wrongly")
	}
}

// TestEndsWithItsParent starts a guest from another process, kills that, and
// sees that QEMU is gone.
func TestEndsWithItsParent(t *testing.T) {
	testenv.NeedTool(t, "qemu-system-x86_64")
	const marker = "OVATION_TEST_PARENT"
	if path := os.Getenv(marker); path != "" {
		var m hypervisor.Machine
		text, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(text, &m)
		}
		if err != nil {
			t.Fatal(err)
		}
		d := New(Options{})
		g, err := d.Create(t.Context(), m)
		if err == nil {
			err = g.Start(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("pid %d\n", g.(*guest).proc.cmd.Process.Pid)
		_, _ = g.Wait(context.Background())
		return
	}
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("the kernel ends children with their parents on Linux only")
	}
	m := drivertest.Machine(t, drivertest.Image("", drivertest.Hang))
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "machine.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(os.Args[0], "-test.run=^TestEndsWithItsParent$", "-test.v")
	parent.Env = append(os.Environ(), marker+"="+file)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	for pid == 0 {
		var line string
		if _, err := fmt.Fscanln(out, &line, &pid); errors.Is(err, os.ErrClosed) || err != nil && err.Error() == "EOF" {
			t.Fatal("the parent started no guest")
		}
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	gone := func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(stat), ") Z ")
	}
	for deadline := time.Now().Add(time.Minute); !gone(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("QEMU, process %d, outlives its parent", pid)
		}
	}
}
