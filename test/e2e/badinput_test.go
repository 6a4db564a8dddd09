package e2e

import (
	"archive/tar"
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ovation-project/ovation/test/appliance"
)

// anything stands for an exit code where it depends on how much is read.
const anything = -1

// badInputs are locators of what is no sound package.
var badInputs = []struct {
	name string
	// locator makes the input and says where it is.
	locator func(u *user, p *appliance.Package) string
	// The exit codes, and what is said with every one that is no success.
	inspect, verify, run int
	says                 []string
}{
	{"no such file", func(*user, *appliance.Package) string { return "nothing.ova" },
		exitFailed, exitFailed, exitFailed, []string{"nothing.ova"}},
	{"empty file", func(u *user, _ *appliance.Package) string { return u.write("empty.ova", nil) },
		exitInvalid, exitInvalid, exitInvalid, []string{"empty.ova", "empty"}},
	{"not a tar", func(u *user, _ *appliance.Package) string {
		return u.write("noise.ova", bytes.Repeat([]byte("this is no archive\n"), 4000))
	}, exitInvalid, exitInvalid, exitInvalid, []string{"noise.ova"}},
	{"tar without a descriptor", func(u *user, _ *appliance.Package) string {
		return u.write("bare.ova", tarOf(u.t, "readme.txt", "hello"))
	}, exitInvalid, exitInvalid, exitInvalid, []string{"bare.ova", "descriptor"}},
	{"descriptor is no XML", func(u *user, _ *appliance.Package) string {
		return u.write("words.ovf", []byte("just words\n"))
	}, exitInvalid, exitInvalid, exitInvalid, []string{"words.ovf"}},
	{"descriptor breaks off", func(u *user, p *appliance.Package) string {
		text := read(u.t, p.Descriptor)
		return u.write("half.ovf", text[:len(text)/2])
	}, exitInvalid, exitInvalid, exitInvalid, []string{"half.ovf"}},
	{"truncated in a disk", func(u *user, p *appliance.Package) string {
		whole := read(u.t, p.OVA)
		return u.write("cut.ova", whole[:len(whole)/2])
	}, exitInvalid, exitInvalid, exitInvalid, []string{"cut.ova", "disk1.vmdk", "cut short"}},
	{"truncated in the descriptor", func(u *user, p *appliance.Package) string {
		return u.write("stub.ova", read(u.t, p.OVA)[:1024])
	}, exitInvalid, exitInvalid, exitInvalid, []string{"stub.ova"}},
	{"a missing file", func(u *user, p *appliance.Package) string {
		u.unpack(p)
		remove(u.t, filepath.Join(u.work, "small-disk2.vmdk"))
		return "small.ovf"
	}, anything, exitUntrusted, anything, []string{"small-disk2.vmdk"}},
	{"a wrong digest", func(u *user, p *appliance.Package) string {
		u.unpack(p)
		u.damage("small-disk2.vmdk", 4096)
		return "small.ovf"
	}, exitOK, exitUntrusted, exitUntrusted, []string{"small-disk2.vmdk"}},
	{"a wrong digest in an OVA", func(u *user, p *appliance.Package) string {
		bad := read(u.t, p.OVA)
		bad[len(bad)-20000] ^= 1
		return u.write("flipped.ova", bad)
	}, exitOK, exitUntrusted, exitUntrusted, []string{"small-disk2.vmdk"}},
	{"404", func(u *user, _ *appliance.Package) string {
		server := httptest.NewServer(http.NotFoundHandler())
		u.t.Cleanup(server.Close)
		return server.URL + "/gone.ova"
	}, exitFailed, exitFailed, exitFailed, []string{"404", "/gone.ova"}},
	{"nobody listens", func(*user, *appliance.Package) string { return "http://127.0.0.1:1/a.ova" },
		exitFailed, exitFailed, exitFailed, []string{"127.0.0.1:1"}},
}

// TestBadInput gives the program what is no sound package: a clear error, the
// documented exit code, nothing left behind.
func TestBadInput(t *testing.T) {
	t.Parallel()
	p := build(t, small)
	for _, test := range badInputs {
		t.Run(test.name, func(t *testing.T) {
			u := newUser(t)
			locator := test.locator(u, p)
			before := filesBelow(t, u.work)
			u.refuse(test.inspect, test.says, "inspect", locator)
			u.refuse(test.verify, test.says, "verify", locator)
			u.onlyLeft(before...)
		})
	}
}

// refuse runs the program and checks its exit code; says is checked where it
// is to fail.
func (u *user) refuse(code int, says []string, args ...string) result {
	u.t.Helper()
	switch code {
	case anything:
		return u.ovation(args...)
	case exitOK:
		return u.succeed(args...)
	}
	return u.fail(code, says, args...)
}

// TestUsage is what nobody meant to type.
func TestUsage(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.fail(exitUsage, []string{"inspekt"}, "inspekt", "x.ova")
	for _, command := range []string{"inspect", "verify", "run"} {
		u.fail(exitUsage, []string{"usage", command}, command)
		u.fail(exitUsage, []string{"--nonsense"}, command, "--nonsense", "x.ova")
		if r := u.succeed(command, "--help"); !strings.Contains(r.stdout, "Example") {
			t.Errorf("%s --help shows no example:\n%s", command, r.stdout)
		}
	}
	u.onlyLeft()
}

// TestInterrupted stops the program with Ctrl-C in the middle of its work: a
// server that stops giving in the middle of a disk keeps it there.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	p := build(t, small)
	for _, c := range []struct {
		command func(url string) []string
		signal  os.Signal
	}{
		{func(url string) []string { return []string{"verify", url} }, os.Interrupt},
		{func(url string) []string { return []string{"disk", "convert", url + "#vmdisk1", "out.qcow2"} }, os.Interrupt},
		// What is not complete has no name: nothing is left, whatever ends it.
		{func(url string) []string { return []string{"disk", "convert", url + "#vmdisk1", "out.qcow2"} }, os.Kill},
	} {
		u := newUser(t)
		reached := make(chan struct{})
		u.interrupt(reached, c.signal, io.Discard, c.command(stalling(t, p.OVA, reached))...)
		u.onlyLeft()
	}
}

// interrupt starts the program, waits until reached is closed, and sends the
// program a signal: what Ctrl-C sends, or one that it does not see.
func (u *user) interrupt(reached <-chan struct{}, signal os.Signal, stdout io.Writer, args ...string) {
	u.t.Helper()
	cmd, stderr, done := u.begin(reached, stdout, args...)
	if err := cmd.Process.Signal(signal); err != nil {
		u.t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(time.Minute):
		_ = cmd.Process.Signal(syscall.SIGQUIT) // let it say where it is stuck
		<-done
		u.t.Fatalf("still there a minute after Ctrl-C\n%s", stderr.String())
	}
	if signal == os.Kill {
		return
	}
	if code := cmd.ProcessState.ExitCode(); code != exitFailed {
		u.t.Errorf("exit code %d after Ctrl-C, want %d\n%s", code, exitFailed, stderr.String())
	}
	if !strings.Contains(stderr.String(), "interrupted") {
		u.t.Errorf("stderr does not say that it was interrupted:\n%s", stderr.String())
	}
}

// kill starts the program, waits until reached is closed, and kills it.
func (u *user) kill(reached <-chan struct{}, args ...string) {
	u.t.Helper()
	cmd, _, done := u.begin(reached, io.Discard, args...)
	if err := cmd.Process.Kill(); err != nil {
		u.t.Fatal(err)
	}
	<-done
}

// begin starts the program and waits until reached is closed.
func (u *user) begin(reached <-chan struct{}, stdout io.Writer, args ...string) (cmd *exec.Cmd, stderr *bytes.Buffer, done chan error) {
	u.t.Helper()
	cmd, stderr, done = u.command(u.t.Context(), args...), &bytes.Buffer{}, make(chan error, 1)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Start(); err != nil {
		u.t.Fatal(err)
	}
	go func() { done <- cmd.Wait() }()
	select {
	case <-reached:
	case err := <-done:
		u.t.Fatalf("ended too early: %v\n%s", err, stderr.String())
	case <-time.After(5 * time.Minute):
		_ = cmd.Process.Kill()
		<-done
		u.t.Fatalf("never got to where it was to be interrupted\n%s", stderr.String())
	}
	return cmd, stderr, done
}

// stalling serves a file, and stops when half of its bytes were sent, in however
// many answers: reached is closed there, and the client gets no more until it
// goes away.
func stalling(t *testing.T, path string, reached chan struct{}) string {
	t.Helper()
	whole := read(t, path)
	var once sync.Once
	var left atomic.Int64
	left.Store(int64(len(whole) / 2))
	mux := http.NewServeMux()
	mux.HandleFunc("/a.ova", func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(&stallingWriter{ResponseWriter: w, r: r, left: &left, stall: func() {
			once.Do(func() { close(reached) })
			<-r.Context().Done()
		}}, r, "a.ova", time.Time{}, bytes.NewReader(whole))
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL + "/a.ova"
}

type stallingWriter struct {
	http.ResponseWriter
	r     *http.Request
	left  *atomic.Int64
	stall func()
}

func (w *stallingWriter) Write(p []byte) (int, error) {
	if w.left.Add(-int64(len(p))) <= 0 {
		if err := http.NewResponseController(w.ResponseWriter).Flush(); err != nil {
			return 0, err
		}
		w.stall()
		return 0, w.r.Context().Err()
	}
	return w.ResponseWriter.Write(p)
}

// unpack copies the package's files into the user's folder.
func (u *user) unpack(p *appliance.Package) {
	u.t.Helper()
	if err := os.CopyFS(u.work, os.DirFS(p.Dir)); err != nil {
		u.t.Fatal(err)
	}
}

// damage flips one bit of a file.
func (u *user) damage(name string, at int) {
	u.t.Helper()
	path := filepath.Join(u.work, name)
	data := read(u.t, path)
	data[at] ^= 1
	if err := os.WriteFile(path, data, 0o644); err != nil {
		u.t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func tarOf(t *testing.T, name, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
