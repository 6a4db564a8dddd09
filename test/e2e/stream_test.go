package e2e

import (
	"bytes"
	"os"
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
	// These stay up: one until what has to come has come, the other until it
	// is ended.
	waiting, staying := small, small
	waiting.Linger, staying.Linger = 4, 600
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
		p := build(t, waiting)
		s, u := serve(t, p), newUser(t)
		report, said := streamed(t, u, s.URL("small.ova"), all, s.Kill)
		checkReport(t, p, report, "bios", "ide")
		if !strings.Contains(said, all) {
			t.Fatalf("the disks were not all fetched while the guest ran:\n%s", said)
		}
		if r := u.succeed("cache", "ls"); strings.Count(r.stdout, "verified") != 2 {
			t.Errorf("the cache:\n%s", r.stdout)
		}
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
		before := s.Fetched.Load()
		report, said = streamed(t, u, s.URL("small.ova"), "the cache", func() {})
		checkReport(t, p, report, "bios", "ide")
		if n := s.Fetched.Load() - before; n > 1<<20 || !strings.Contains(said, "all of the disks is in the cache") {
			t.Errorf("%d bytes were fetched again\n%s", n, said)
		}
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

	t.Run("another file in the middle", func(t *testing.T) {
		t.Parallel()
		p := build(t, staying)
		s, u := serve(t, p), newUser(t)
		stderr := &lines{want: begun, do: func() { s.Change(func(f *faultserver.Faults) { f.Version = "2" }) }}
		cmd := u.command(t.Context(), "run", "--headless", "--timeout", "5m", s.URL("small.ova"))
		cmd.Stderr = stderr
		if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != exitUntrusted || !strings.Contains(stderr.String(), "has changed") {
			t.Errorf("%v\n%s", err, stderr.String())
		}
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
