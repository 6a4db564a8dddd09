package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovation-project/ovation/hypervisor/drivertest"
	"github.com/ovation-project/ovation/internal/testenv"
)

// terminal gives a pseudo-terminal: what a person holds, and what a program
// is given.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no terminals here:", err)
	}
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Skip("no terminals here:", err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Skip("no terminals here:", err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here:", err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

// expect reads until the text has come.
func expect(t *testing.T, r io.Reader, text string) {
	t.Helper()
	var got []byte
	b := make([]byte, 1024)
	for !bytes.Contains(got, []byte(text)) {
		n, err := r.Read(b)
		got = append(got, b[:n]...)
		if err != nil {
			t.Fatalf("%v; the terminal shows\n%s", err, got)
		}
	}
}

// atTerminal runs a command at a terminal of its own, has talk be the person in
// front of it, and sees that the command ends well within limit, and gives the
// terminal back as it was.
func atTerminal(t *testing.T, limit time.Duration, args []string, talk func(person, program *os.File)) {
	t.Helper()
	person, program := terminal(t)
	before, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	code := make(chan int, 1)
	go func() { code <- newApp(program, program, program).run(t.Context(), args) }()
	talk(person, program)
	go io.Copy(io.Discard, person)
	select {
	case got := <-code:
		if got != exitOK {
			t.Errorf("exit code %d", got)
		}
	case <-time.After(limit):
		t.Fatal("it does not end")
	}
	after, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	if *before != *after {
		t.Error("the terminal is not given back as it was")
	}
}

// TestRunAtATerminal types to a guest, and leaves it by the escape key.
func TestRunAtATerminal(t *testing.T) {
	testenv.NeedTool(t, "qemu-system-x86_64")
	for name, c := range map[string]struct {
		then drivertest.Then
		talk func(t *testing.T, tty *os.File)
	}{
		"typing": {drivertest.Echo, func(t *testing.T, tty *os.File) {
			// Ctrl-C is the guest's too.
			io.WriteString(tty, "a\x03b")
			expect(t, tty, "a\x03b")
			io.WriteString(tty, "q")
		}},
		"leaving": {drivertest.Hang, func(t *testing.T, tty *os.File) {
			io.WriteString(tty, "\x1d")
			expect(t, tty, "asking the guest to power off")
			io.WriteString(tty, "\x1d")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := guestPackage(t, "ready for keys\n", c.then)
			temp := t.TempDir()
			t.Setenv("TMPDIR", temp)
			t.Setenv("DISPLAY", "")
			t.Setenv("WAYLAND_DISPLAY", "")
			atTerminal(t, 2*time.Minute, []string{"run", "--accel", "tcg", dir}, func(person, _ *os.File) {
				expect(t, person, "ready for keys")
				c.talk(t, person)
			})
			if left, _ := os.ReadDir(temp); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}
