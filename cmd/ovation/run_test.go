package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ovation-project/ovation/hypervisor/drivertest"
	"github.com/ovation-project/ovation/internal/testenv"
)

// guest writes a disk image whose boot sector says something: guest FILE
// MESSAGE poweroff|restart|hang|nothing.
func guest(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: guest FILE MESSAGE poweroff|restart|hang|nothing")
	}
	message, err := strconv.Unquote(`"` + args[1] + `"`)
	ts.Check(err)
	image := make([]byte, 1<<20)
	if args[2] != "nothing" {
		then, ok := map[string]drivertest.Then{"poweroff": drivertest.PowerOff, "restart": drivertest.Restart, "hang": drivertest.Hang}[args[2]]
		if !ok {
			ts.Fatalf("guest: %q is no end", args[2])
		}
		image = drivertest.Image(message, then)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), image, 0o666))
}

// writeManifest makes the manifest of a descriptor: manifest DESCRIPTOR FILE….
func writeManifest(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: manifest DESCRIPTOR FILE…")
	}
	var text strings.Builder
	for _, name := range args {
		data, err := os.ReadFile(ts.MkAbs(name))
		ts.Check(err)
		fmt.Fprintf(&text, "SHA256(%s)= %x\n", filepath.Base(name), sha256.Sum256(data))
	}
	ts.Check(os.WriteFile(ts.MkAbs(strings.TrimSuffix(args[0], ".ovf")+".mf"), []byte(text.String()), 0o666))
}

// empty checks that a folder holds nothing, or is not there.
func empty(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: empty FOLDER")
	}
	if entries, _ := os.ReadDir(ts.MkAbs(args[0])); len(entries) > 0 {
		ts.Fatalf("%s holds %v", args[0], entries)
	}
}

// needTool fails where nothing may be skipped for want of a program; elsewhere
// the script goes on, and skips its rest itself.
func needTool(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		if _, err := exec.LookPath(name); err != nil && os.Getenv("CI") == "true" {
			ts.Fatalf("%s is needed and not there; 'make test' installs what the tests need", name)
		}
	}
}

// guestPackage is a package for tests that are no scripts: a folder with a guest.
func guestPackage(t *testing.T, message string, then drivertest.Then) string {
	t.Helper()
	script, err := os.ReadFile("testdata/script/run.txtar")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := bytes.Cut(script, []byte("-- one/appliance.ovf --\n"))
	text, _, _ = bytes.Cut(text, []byte("-- two/"))
	dir := t.TempDir()
	for name, data := range map[string][]byte{"appliance.ovf": text, "disk.img": drivertest.Image(message, then)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestRunInterrupted cancels while the guest runs, as Ctrl-C does: the guest
// ends though it hears no power button, and nothing is left.
func TestRunInterrupted(t *testing.T) {
	testenv.NeedTool(t, "qemu-system-x86_64")
	dir := guestPackage(t, "up and running\n", drivertest.Hang)
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, in := io.Pipe()
	var stderr bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- newApp(strings.NewReader(""), in, &stderr).run(ctx, []string{"run", "--accel", "tcg", "--grace", "200ms", dir})
		in.Close()
	}()
	line := make([]byte, len("up and running\n"))
	if _, err := io.ReadFull(out, line); err != nil || string(line) != "up and running\n" {
		t.Fatalf("got %q, %v\n%s", line, err, stderr.String())
	}
	cancel()
	go io.Copy(io.Discard, out)
	if got := <-code; got != exitFailed {
		t.Errorf("exit code %d\n%s", got, stderr.String())
	}
	if !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("stderr is\n%s", stderr.String())
	}
	if left, _ := os.ReadDir(temp); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestRunRemovesWhatAKilledRunLeft finds a folder of a run that was killed.
func TestRunRemovesWhatAKilledRunLeft(t *testing.T) {
	testenv.NeedTool(t, "qemu-system-x86_64")
	dir := guestPackage(t, "fine\n", drivertest.PowerOff)
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	left := filepath.Join(temp, fmt.Sprintf("ovation-%d", os.Getuid()), "work-0001")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	if code := newApp(strings.NewReader(""), &stdout, &stderr).run(t.Context(), []string{"run", "--accel", "tcg", dir}); code != exitOK {
		t.Fatalf("exit code %d\n%s", code, stderr.String())
	}
	if stdout.String() != "fine\n" || !strings.Contains(stderr.String(), "removed what an earlier run left behind") {
		t.Errorf("stdout %q, stderr\n%s", stdout.String(), stderr.String())
	}
	if rest, _ := os.ReadDir(temp); len(rest) > 0 {
		t.Errorf("left behind: %v", rest)
	}
}

// TestRunWithoutQEMU names what to install.
func TestRunWithoutQEMU(t *testing.T) {
	dir := guestPackage(t, "", drivertest.PowerOff)
	t.Setenv("PATH", t.TempDir())
	var stdout, stderr bytes.Buffer
	code := newApp(strings.NewReader(""), &stdout, &stderr).run(t.Context(), []string{"run", dir})
	if code != exitFailed || stdout.Len() > 0 || !strings.Contains(stderr.String(), "install the package qemu-system-x86") {
		t.Errorf("exit code %d, stderr\n%s", code, stderr.String())
	}
}

func TestParseForward(t *testing.T) {
	for in, want := range map[string]string{
		"2222:22": "tcp:2222:22", "tcp:2222:22": "tcp:2222:22", "udp:53:53": "udp:53:53",
		"0.0.0.0:80:8080": "tcp:0.0.0.0:80:8080", "udp:10.0.0.1:1:2": "udp:10.0.0.1:1:2",
	} {
		if f, err := parseForward(in); err != nil || f.Forward.String() != want || f.system != "" {
			t.Errorf("%q gives %v, %v", in, f, err)
		}
	}
	if f, err := parseForward("web=tcp:80:8080"); err != nil || f.system != "web" || f.GuestPort != 8080 {
		t.Errorf("a system's gives %+v, %v", f, err)
	}
	for _, in := range []string{"", "22", ":22", "22:", "0:22", "65536:22", "a:b", "1:2:3:4", "::1:80:80", "x:80:80", "sctp:1:2", "-1:2"} {
		if f, err := parseForward(in); err == nil {
			t.Errorf("%q gives %v", in, f)
		}
	}
}

func TestShellQuoted(t *testing.T) {
	if got, want := shellQuoted([]string{"a", "", "b c", "it's", `{"x":1}`}), `a '' 'b c' 'it'\''s' '{"x":1}'`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
