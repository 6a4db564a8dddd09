package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// program is a program that a test runs and looks at from outside.
type program struct {
	*exec.Cmd
	dir string
	out *os.File
}

// start begins a program in a folder of its own, with core dumps allowed and
// Go's runtime told to make one of every crash.
func start(t *testing.T, path string, args ...string) *program {
	t.Helper()
	p := &program{dir: t.TempDir()}
	p.Cmd = exec.CommandContext(t.Context(), "sh", "-c", `ulimit -c "$(ulimit -Hc)"; p=$1; shift; exec "$p" "$@"`, "sh", path)
	p.Args = append(p.Args, args...)
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	p.out, p.Dir, p.Stdout, p.Stderr = out, p.dir, out, out
	p.Env = append(os.Environ(), "GOTRACEBACK=crash")
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Process.Kill(); _ = p.Wait() })
	return p
}

// crash ends the program as a fault of its would, and gives the cores it left.
func (p *program) crash(t *testing.T) []string {
	t.Helper()
	if err := p.Process.Signal(syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	_ = p.Wait()
	cores, err := filepath.Glob(filepath.Join(p.dir, "*core*"))
	if err != nil {
		t.Fatal(err)
	}
	return cores
}

// TestSecretsFromOutside looks for a password in all that others on the same
// machine see of a program that has it in memory: its arguments, its
// environment, and what is left of it when it crashes.
func TestSecretsFromOutside(t *testing.T) {
	if cores := start(t, "sleep", "100").crashSoon(t, "sleep"); len(cores) == 0 {
		t.Log("this system keeps no cores where a test finds them: that one has no secrets is not shown")
	}
	const secret = "hunter2-very-secret"
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ovation, err := exec.LookPath("ovation")
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, ovation, "serve", ".", "--listen", "127.0.0.1:0", "--user", "me", "--password-file", password)
	cmdline := p.wait(t, "ovation")
	environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	p.said(t, "http://127.0.0.1:") // it has read the password then
	for _, core := range p.crash(t) {
		t.Errorf("it left %s", core)
	}
	for name, b := range map[string][]byte{"arguments": cmdline, "environment": environment, "output": p.output(t)} {
		if bytes.Contains(b, []byte(secret)) {
			t.Errorf("the password is in its %s: %s", name, b)
		}
	}
	if b := p.output(t); !bytes.Contains(b, []byte("SIGABRT")) {
		t.Errorf("it did not crash: %s", b)
	}
}

func (p *program) output(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile(p.out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// said waits until the program has said something.
func (p *program) said(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !bytes.Contains(p.output(t), []byte(text)); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not say %s: %s", text, p.output(t))
		}
	}
}

// wait waits until the shell has become the program.
func (p *program) wait(t *testing.T, name string) []byte {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		if first, _, _ := bytes.Cut(b, []byte{0}); filepath.Base(string(first)) == name {
			return b
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s did not start: %q", name, b)
		}
	}
}

func (p *program) crashSoon(t *testing.T, name string) []string {
	t.Helper()
	p.wait(t, name)
	return p.crash(t)
}
