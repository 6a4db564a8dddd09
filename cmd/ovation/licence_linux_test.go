package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/ovation-project/ovation/hypervisor/drivertest"
	"github.com/ovation-project/ovation/internal/testenv"
)

// TestLicenceAtATerminal has a person read a licence, and say no, and yes. What is
// typed behind the answer is the guest's.
func TestLicenceAtATerminal(t *testing.T) {
	testenv.NeedTool(t, "qemu-system-x86_64")
	dir := guestPackage(t, "ready for keys\n", drivertest.Echo)
	path := filepath.Join(dir, "appliance.ovf")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const licence = "<EulaSection><Info>Terms</Info><License>Do no harm.</License></EulaSection><VirtualHardwareSection"
	text = bytes.Replace(text, []byte("<VirtualHardwareSection"), []byte(licence), 1)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("DISPLAY", "")
	t.Setenv("WAYLAND_DISPLAY", "")
	for answer, want := range map[string]int{"n\n": exitFailed, "\n": exitFailed, "yes\nq": exitOK} {
		person, program := terminal(t)
		code := make(chan int, 1)
		go func() {
			code <- newApp(program, program, program).run(t.Context(), []string{"run", "--accel", "tcg", dir})
		}()
		expect(t, person, "Do no harm.\r\nDo you accept it?")
		if _, err := io.WriteString(person, answer); err != nil {
			t.Fatal(err)
		}
		go io.Copy(io.Discard, person)
		if got := <-code; got != want {
			t.Errorf("answer %q: exit code %d, want %d", answer, got, want)
		}
	}
}
