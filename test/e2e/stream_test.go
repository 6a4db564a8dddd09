package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ovation-project/ovation/internal/faultserver"
	"github.com/ovation-project/ovation/internal/testenv"
	"github.com/ovation-project/ovation/test/appliance"
)

// lines calls something once, when a text has come by.
type lines struct {
	text bytes.Buffer // not embedded: whoever copies must go through Write
	want string
	do   func()
	once sync.Once
}

func (l *lines) Write(p []byte) (int, error) {
	n, err := l.text.Write(p)
	if strings.Contains(l.String(), l.want) {
		l.once.Do(l.do)
	}
	return n, err
}

func (l *lines) String() string { return l.text.String() }

// streamed runs a package from a server, does something when stderr says so, and
// gives what the guest reported.
func streamed(t *testing.T, u *user, locator, when string, do func(), flags ...string) (*appliance.Report, string) {
	t.Helper()
	var stdout bytes.Buffer
	stderr := &lines{want: when, do: do}
	cmd := u.command(t.Context(), append(append([]string{"run", "--headless", "--timeout", "5m"}, flags...), locator)...)
	cmd.Stdout, cmd.Stderr = &stdout, stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("run %s: %v\n%s%s", locator, err, stderr.String(), tail(stdout.String()))
	}
	report, err := appliance.ParseReport(&stdout)
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	return report, stderr.String()
}

const (
	begun  = "are here; the disks are compared"
	all    = "all of the disks is here, and is what the manifest says"
	proved = "every part of the rest is proved before it is used"
)

// TestStream boots guests whose disks are still arriving, on networks as they
// are: what each guest finds on its disks is right byte for byte.
func TestStream(t *testing.T) {
	t.Parallel()
	testenv.NeedTool(t, "qemu-system-x86_64")
	p := build(t, small)
	// This one stays up until it is ended.
	staying := small
	staying.Linger = 600
	serve := func(t *testing.T, p *appliance.Package) *faultserver.Server {
		return faultserver.New(t, filepath.Dir(p.OVA))
	}

	t.Run("killed and restarted, with connections that drop", func(t *testing.T) {
		t.Parallel()
		s, u := serve(t, p), newUser(t)
		s.Change(func(f *faultserver.Faults) { f.Drop = 300 << 10 })
		report, said := streamed(t, u, s.URL("small.ova"), begun, func() {
			s.Kill()
			time.AfterFunc(500*time.Millisecond, func() {
				if err := s.Restart(); err != nil {
					t.Error(err)
				}
			})
		})
		checkReport(t, p, report, "bios", "ide")
		if !strings.Contains(said, begun) {
			t.Errorf("it does not say how far it trusts what it starts:\n%s", said)
		}
	})

	t.Run("the network goes for good, then the next run", func(t *testing.T) {
		t.Parallel()
		p := build(t, staying)
		s, u := serve(t, p), newUser(t)
		// The address is signed; the signature is written nowhere.
		r := startRun(t, u, s.URL("small.ova")+"?X-Amz-Signature=hunter2", []string{""})
		r.until(r.stdout, "report=end", 1)
		r.until(r.stderr, all, 1)
		s.Kill()
		r.readsAgain("", p)
		r.off()
		if r := u.succeed("cache", "ls"); strings.Count(r.stdout, "verified") != 2 {
			t.Errorf("the cache:\n%s", r.stdout)
		}
		grep := exec.Command("grep", "-r", "hunter", u.root)
		if out, err := grep.CombinedOutput(); err == nil || strings.Contains(r.stderr.String(), "hunter") {
			t.Errorf("a signature is told: %s\n%s", out, r.stderr)
		}
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
		before := s.Fetched.Load()
		// Before anything but the cache is needed the server goes.
		r = startRun(t, u, s.URL("small.ova"), []string{""})
		r.until(r.stderr, "all of the disks is in the cache", 1)
		s.Kill()
		if n := s.Fetched.Load() - before; n > 1<<20 {
			t.Errorf("%d bytes were fetched again", n)
		}
		r.until(r.stdout, "report=end", 1)
		r.readsAgain("", p)
		r.off()
		u.succeed("cache", "prune", "--all")
	})

	t.Run("a flipped byte", func(t *testing.T) {
		t.Parallel()
		p := build(t, staying)
		s, u := serve(t, p), newUser(t)
		whole := read(t, p.OVA)
		// The last byte of a disk's file is padding, which no format minds.
		disk := read(t, filepath.Join(p.Dir, p.Disks[1].File))
		at := bytes.Index(whole, disk)
		if at < 0 {
			t.Fatal("the archive does not hold the disk")
		}
		s.Change(func(f *faultserver.Faults) { f.Flip, f.FlipAt = "small.ova", int64(at+len(disk)-1) })
		u.fail(exitUntrusted, []string{"altered", "ending the guest"}, "run", "--headless", "--timeout", "5m", s.URL("small.ova"))
		r := u.fail(exitUntrusted, []string{"altered"}, "run", "--headless", "--verify", "before", s.URL("small.ova"))
		if strings.Contains(r.stdout, "report=") {
			t.Error("the guest was started")
		}
		u.succeed("cache", "prune", "--all")
	})

	t.Run("digests of chunks", func(t *testing.T) {
		t.Parallel()
		staying := build(t, staying)
		u, dir := newUser(t), t.TempDir()
		u.succeed("sign", p.OVA, "--chunks", "-o", filepath.Join(dir, "good.ova"))
		u.succeed("sign", staying.OVA, "--chunks", "-o", filepath.Join(dir, "bad.ova"))
		s := faultserver.New(t, dir)
		report, said := streamed(t, u, s.URL("good.ova"), proved, func() {})
		checkReport(t, p, report, "bios", "ide")
		if !strings.Contains(said, proved) {
			t.Errorf("it does not say what it proves:\n%s", said)
		}
		whole, disk := read(t, filepath.Join(dir, "bad.ova")), read(t, filepath.Join(staying.Dir, staying.Disks[1].File))
		at := bytes.Index(whole, disk)
		if at < 0 {
			t.Fatal("the archive does not hold the disk")
		}
		s.Change(func(f *faultserver.Faults) { f.Flip, f.FlipAt = "bad.ova", int64(at+len(disk)-1) })
		u.fail(exitUntrusted, []string{"chunk", "is not what its digest says"}, "run", "--headless", "--timeout", "5m", s.URL("bad.ova"))
		u.succeed("cache", "prune", "--all")
	})

	// Servers that do in the middle what they should not: the guest is ended,
	// with why.
	for _, bad := range []struct {
		name   string
		fault  faultserver.Faults
		flags  []string
		code   int
		says   string
		cached bool // what came before stays
	}{
		{"another file in the middle", faultserver.Faults{Version: "2"}, nil, exitUntrusted, "has changed", true},
		{"wrong ranges", faultserver.Faults{Shift: 512}, []string{"--retries", "2"}, exitFailed, "answers with another range than was asked for", true},
		{"ranges no more", faultserver.Faults{NoRanges: true}, nil, exitFailed, "does not send parts of files", true},
		{"gone for good", faultserver.Faults{Status: 404}, nil, exitFailed, "404", true},
		{"down for long", faultserver.Faults{Status: 503}, []string{"--retries", "2"}, exitFailed, "503 Service Unavailable (tried 3 times)", true},
	} {
		t.Run(bad.name, func(t *testing.T) {
			t.Parallel()
			p := build(t, staying)
			s, u := serve(t, p), newUser(t)
			stderr := &lines{want: begun, do: func() { s.Change(func(f *faultserver.Faults) { *f = bad.fault }) }}
			cmd := u.command(t.Context(), append(append([]string{"run", "--headless", "--timeout", "5m"}, bad.flags...), s.URL("small.ova"))...)
			cmd.Stderr = stderr
			if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != bad.code || !strings.Contains(stderr.String(), bad.says) ||
				!strings.Contains(stderr.String(), "ending the guest") {
				t.Errorf("%v\n%s", err, stderr.String())
			}
		})
	}

	t.Run("slow", func(t *testing.T) {
		t.Parallel()
		s, u := serve(t, p), newUser(t)
		s.Change(func(f *faultserver.Faults) { f.Rate = 4 << 20 })
		report, _ := streamed(t, u, s.URL("small.ova"), begun, func() {}, "--limit-rate", "3MiB")
		checkReport(t, p, report, "bios", "ide")
	})

	t.Run("front to back", func(t *testing.T) {
		t.Parallel()
		s, u := serve(t, p), newUser(t)
		s.Change(func(f *faultserver.Faults) { f.NoRanges = true })
		report, said := streamed(t, u, s.URL("small.ova"), "whole files only", func() {})
		checkReport(t, p, report, "bios", "ide")
		if !strings.Contains(said, "whole files only") {
			t.Errorf("it does not say how it is read:\n%s", said)
		}
		u.onlyLeft()
	})

	t.Run("from a pipe", func(t *testing.T) {
		t.Parallel()
		u := newUser(t)
		ova, err := os.Open(p.OVA)
		if err != nil {
			t.Fatal(err)
		}
		defer ova.Close()
		var stdout, stderr bytes.Buffer
		cmd := u.command(t.Context(), "run", "--headless", "--timeout", "5m", "-")
		// Not the file itself, which could be seeked in.
		cmd.Stdin = struct{ *bytes.Reader }{bytes.NewReader(read(t, p.OVA))}
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s", err, stderr.String())
		}
		report, err := appliance.ParseReport(&stdout)
		if err != nil {
			t.Fatal(err)
		}
		checkReport(t, p, report, "bios", "ide")
		u.onlyLeft()
	})
}
