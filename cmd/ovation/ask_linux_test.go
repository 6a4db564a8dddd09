package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// screen is a person's terminal: what is typed, and what is shown.
type screen struct {
	t     *testing.T
	ours  *os.File
	its   *os.File
	mu    sync.Mutex
	shown []byte
	typed int // how much had been shown when something was typed last
}

func newScreen(t *testing.T) *screen {
	t.Helper()
	ours, its := terminal(t)
	if err := unix.IoctlSetWinsize(int(its.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 12, Col: 60}); err != nil {
		t.Fatal(err)
	}
	c := &screen{t: t, ours: ours, its: its}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := ours.Read(b)
			c.mu.Lock()
			c.shown = append(c.shown, b[:n]...)
			c.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return c
}

// run starts the program with the terminal as its own.
func (c *screen) run(args ...string) *exec.Cmd {
	c.t.Helper()
	ovation, err := exec.LookPath("ovation")
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.CommandContext(c.t.Context(), ovation, args...)
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+c.t.TempDir(), "TERM=dumb")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.its, c.its, c.its
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

func (c *screen) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.shown)
}

// answer waits until something is shown that was not when it was typed last, and
// types then.
func (c *screen) answer(shown, keys string) {
	c.t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.HasSuffix(strings.TrimRight(c.text()[c.typed:], " \r\n"), shown); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("it does not ask %q:\n%s", shown, c.text())
		}
	}
	c.typed = len(c.text())
	if _, err := c.ours.WriteString(keys); err != nil {
		c.t.Fatal(err)
	}
}

// shows waits until something was shown: what a program wrote last may come
// after its end.
func (c *screen) shows(text string) {
	c.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(c.text(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("it does not show %q:\n%s", text, c.text())
		}
	}
}

// echoes says whether the terminal shows what is typed.
func (c *screen) echoes() bool {
	c.t.Helper()
	t, err := unix.IoctlGetTermios(int(c.its.Fd()), unix.TCGETS)
	if err != nil {
		c.t.Fatal(err)
	}
	return t.Lflag&unix.ECHO != 0
}

// askingPackage has a long licence and a password.
func askingPackage(t *testing.T) string {
	t.Helper()
	var terms strings.Builder
	for n := range 30 {
		fmt.Fprintf(&terms, "Term %d.\n", n+1)
	}
	path := filepath.Join(t.TempDir(), "web.ovf")
	text := `<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
		<VirtualSystem ovf:id="web"><Info/><EulaSection><Info>Terms</Info><License>` + terms.String() + `</License></EulaSection>
		<ProductSection><Info/><Property ovf:key="admin" ovf:type="string" ovf:password="true" ovf:qualifiers="MinLen(8)" ovf:userConfigurable="true"><Label>Password of admin</Label></Property></ProductSection>
		<VirtualHardwareSection><Info/></VirtualHardwareSection></VirtualSystem></Envelope>`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestAskPassword is asked for a password, which is never shown, after a licence
// that has pages.
func TestAskPassword(t *testing.T) {
	c := newScreen(t)
	cmd := c.run("deploy", "--dry-run", "--json", askingPackage(t), "--to", "memory:")
	const hidden, other = "hunter2-secret", "hunter3-secret"
	c.answer("10 of 30 lines; Enter shows more, q ends it --", "\n")
	c.answer("20 of 30 lines; Enter shows more, q ends it --", "q\n")
	if strings.Contains(c.text(), "Term 21.") {
		t.Error("more pages were shown than were asked for")
	}
	c.answer("Do you accept it? [y/N]:", "yes\n")
	for _, step := range [][2]string{{"admin:", "short\n"}, {"admin:", hidden + "\n"}, {"once more:", other + "\n"}, {"admin:", hidden + "\n"}, {"once more:", hidden + "\n"}} {
		c.answer(step[0], step[1])
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, c.text())
	}
	if !c.echoes() {
		t.Error("the terminal shows no keys any more")
	}
	for _, s := range []string{"a password of at least 8 characters", "the value is shorter than 8", "the two are not the same", `"secret": true`, "\n}"} {
		c.shows(s)
	}
	for _, s := range []string{"hunter", "short\r"} {
		if strings.Contains(c.text(), s) {
			t.Errorf("%q was shown:\n%s", s, c.text())
		}
	}
}

// TestAskInterrupted is left by Ctrl-C at each question: the terminal is as it
// was, and nothing was made.
func TestAskInterrupted(t *testing.T) {
	path := askingPackage(t)
	for at := range 3 {
		c := newScreen(t)
		cmd := c.run("deploy", path, "--to", "memory:")
		steps := [][2]string{{"q ends it --", "q\n"}, {"[y/N]:", "y\n"}, {"admin:", "x"}}
		for i, s := range steps[:at+1] {
			if i == at {
				s[1] = "\x03"
			}
			c.answer(s[0], s[1])
		}
		err := cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 1 {
			t.Errorf("exit code %d, %v", code, err)
		}
		c.shows("interrupted")
		if !c.echoes() {
			t.Error("the terminal shows no keys any more")
		}
		if bytes.Contains([]byte(c.text()), []byte("is deployed")) {
			t.Errorf("it was deployed:\n%s", c.text())
		}
	}
}
