package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ovation-project/ovation/internal/testenv"
	"github.com/ovation-project/ovation/test/appliance"
)

// killsEnv is how many moments TestKilled kills the program at.
const killsEnv = "OVATION_KILLS"

// kills is 8, or what the environment says.
func kills(t *testing.T) int {
	t.Helper()
	text := os.Getenv(killsEnv)
	if text == "" {
		return 8
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", killsEnv, err)
	}
	return n
}

// account is all that there is on the host: machines, what its pool has as
// libvirt knows it and as it lies there, its networks and pools.
func (h *libvirtHost) account() []string {
	h.t.Helper()
	all := h.names()
	h.Virsh(h.t, "pool-refresh", "default")
	for _, list := range []string{"vol-list default", "pool-list --all --name", "net-list --all --name"} {
		for line := range strings.Lines(h.Virsh(h.t, strings.Fields(list)...)) {
			if f := strings.Fields(line); len(f) > 0 && f[0] != "Name" && !strings.HasPrefix(f[0], "---") {
				all = append(all, strings.Fields(list)[0]+" "+f[0])
			}
		}
	}
	slices.Sort(all)
	return all
}

// entries is how many lines the user's journals have.
func (u *user) entries() int {
	n := 0
	paths, _ := filepath.Glob(filepath.Join(u.root, "home", ".local", "state", "ovation", "deployments", "*", "journal"))
	for _, p := range paths {
		text, _ := os.ReadFile(p)
		n += bytes.Count(text, []byte("\n"))
	}
	return n
}

// stateLeft is what is known here of deployments: nothing when all are gone.
func (u *user) stateLeft() (left []string) {
	u.t.Helper()
	for _, name := range filesBelow(u.t, filepath.Join(u.root, "home")) {
		if base := filepath.Base(name); base != "lock" && base != "history" && !strings.HasSuffix(filepath.Join("/", name), "/.local/state/ovation/deployments") &&
			name != ".local" && name != ".local/state" && name != ".local/state/ovation" {
			left = append(left, name)
		}
	}
	return left
}

// killAt starts the program and kills it when the journals have so many lines
// and a while has gone by; it may have ended before.
func (u *user) killAt(lines int, pause time.Duration, args ...string) {
	u.t.Helper()
	cmd := u.command(context.Background(), args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		u.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	for deadline := time.Now().Add(5 * time.Minute); u.entries() < lines; {
		select {
		case <-ended:
			return
		case <-time.After(500 * time.Microsecond):
		}
		if time.Now().After(deadline) {
			u.t.Errorf("ovation %v does not come to its end", args)
			break
		}
	}
	time.Sleep(pause)
	_ = cmd.Process.Kill()
	<-ended
}

// TestKilled kills deployments, and removals, at random moments. The next
// command finishes what was begun or takes it back, and everything on the host
// and here is accounted for.
func TestKilled(t *testing.T) {
	t.Parallel()
	testenv.NeedTool(t, "qemu-img")
	h := startLibvirt(t)
	p := build(t, appliance.Spec{Linger: 600, Disks: []appliance.Disk{data(41, "ahci")}, Properties: []appliance.Property{{Key: "hostname", Value: "web1"}, {Key: "secret", Value: "hunter2", Password: true}}})
	empty := h.account()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	// How long a deployment is, in lines of its journal.
	u := newUser(t)
	deploy := func(uri string, flags ...string) []string {
		return append([]string{"deploy", p.OVA, "--to", uri, "--name", "web"}, flags...)
	}
	u.succeed(deploy(h.URI, "--start")...)
	most := u.entries()
	u.succeed("rm", "web", "--force", "--on", h.URI)
	if most < 10 || len(u.stateLeft()) > 0 {
		t.Fatalf("%d lines in the journal, left %q", most, u.stateLeft())
	}

	uris := []string{h.URI, h.TCP}
	flags := [][]string{{"--start"}, nil, {"--disk-format", "raw"}, {"--disk-format", "qcow2"}}
	for n := range kills(t) {
		uri, with := uris[n%2], flags[random.IntN(len(flags))]
		lines, pause := random.IntN(most+1), time.Duration(random.IntN(30))*time.Millisecond
		next := random.IntN(4)
		what := fmt.Sprintf("moment %d: killed at line %d and %v, to %s %v, then %d", n, lines, pause, uri, with, next)
		args := deploy(uri, with...)
		if next == 3 {
			// It is the removal that is killed.
			u.succeed(args...)
			u.killAt(0, time.Duration(random.IntN(400))*time.Millisecond, "rm", "web", "--force", "--on", uri)
		} else {
			u.killAt(lines, pause, args...)
		}
		switch next {
		case 0: // the same again
			u.succeed(args...)
			u.checkDeployed(h, p, what)
		case 1: // another one of that name
			r := u.ovation(append(args, "--memory", "300MiB")...)
			if r.code != exitOK {
				// The one before had come to its end.
				if s := u.ps("--on", uri); len(s.Deployments) != 1 || s.Deployments[0].State == "unfinished" {
					t.Errorf("%s: exit code %d, %+v\n%s", what, r.code, s, r.stderr)
				}
			}
			u.checkDeployed(h, p, what)
		}
		// Where it was killed before anything was written down, there is
		// nothing to remove.
		if r := u.ovation("rm", "web", "--force", "--on", uri); r.code != exitOK && !strings.Contains(r.stderr, "not found") {
			t.Errorf("%s: rm: %s", what, r.stderr)
		}
		if d := cmp.Diff(empty, h.account()); d != "" {
			t.Fatalf("%s: the host had, has:\n%s", what, d)
		}
	}
	// What was begun and not written down goes with the next deployment.
	u.succeed(deploy(h.URI)...)
	u.succeed("rm", "web")
	if left := u.stateLeft(); len(left) > 0 {
		t.Errorf("left here: %q", left)
	}
	if d := cmp.Diff(empty, h.account()); d != "" {
		t.Errorf("the host had, has:\n%s", d)
	}
}

// checkDeployed sees that there is one deployment, whole.
func (u *user) checkDeployed(h *libvirtHost, p *appliance.Package, what string) {
	u.t.Helper()
	s := u.ps("--on", h.URI)
	if len(s.Deployments) != 1 || s.Deployments[0].State != "off" && s.Deployments[0].State != "running" {
		u.t.Fatalf("%s: ps: %+v", what, s)
	}
	kept, err := h.host.Lookup(u.t.Context(), "web")
	if err != nil {
		u.t.Fatalf("%s: %v", what, err)
	}
	files := filesBelow(u.t, h.PoolDir)
	for _, d := range kept.Machine.Drives {
		if d.Medium == nil || d.Medium.Volume == nil || !slices.Contains(files, d.Medium.Volume.Name) {
			u.t.Errorf("%s: drive %s has nothing in it: %+v", what, d.ID, d.Medium)
		}
	}
	if s.Deployments[0].State == "off" {
		// The disk that was not booted from is as in the package.
		i := slices.IndexFunc(files, func(f string) bool { return strings.HasPrefix(f, "web-vmdisk2-") })
		if i < 0 {
			u.t.Fatalf("%s: the pool has %q", what, files)
		}
		qemuImg(u.t, "compare", filepath.Join(h.PoolDir, files[i]), p.Disks[1].Raw)
	}
}
