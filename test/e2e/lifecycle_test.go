package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ovation-project/ovation/internal/testenv"
	"github.com/ovation-project/ovation/test/appliance"
)

// shown is what ps says as JSON.
type shown struct {
	Deployments []struct {
		Name, State, Target, Advice, By string
		Here                            bool
		Machines                        []struct{ Name, State string }
	}
}

func (u *user) ps(args ...string) (s shown) {
	u.t.Helper()
	r := u.succeed(append([]string{"ps", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil {
		u.t.Fatalf("%v\n%s", err, r.stdout)
	}
	return s
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !is(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited too long for " + what)
		}
	}
}

// TestLifecycle deploys a guest and uses it by all the commands that there are
// for that: where it was deployed, and from elsewhere over TCP.
func TestLifecycle(t *testing.T) {
	t.Parallel()
	testenv.NeedTool(t, "qemu-system-x86_64")
	h := startLibvirt(t)
	spec := appliance.Spec{Linger: 600, Properties: []appliance.Property{{Key: "hostname", Value: "web1"}}}
	p := build(t, spec)
	here, there := newUser(t), newUser(t)
	here.succeed("deploy", p.OVA, "--to", h.URI, "--name", "web", "--start")

	h.validXML("web")

	s := here.ps()
	if len(s.Deployments) != 1 || s.Deployments[0].State != "running" || !s.Deployments[0].Here || len(s.Deployments[0].Machines) != 1 {
		t.Fatalf("ps: %+v", s)
	}
	if s := there.ps("--on", h.TCP); len(s.Deployments) != 1 || s.Deployments[0].State != "running" || s.Deployments[0].Here {
		t.Errorf("ps elsewhere: %+v", s)
	}
	if s := there.ps(); len(s.Deployments) != 0 {
		t.Errorf("ps elsewhere, of what was deployed there: %+v", s)
	}

	// What it says, from both places, until its report is whole.
	for _, args := range [][]string{{"logs", "web"}, {"logs", "web", "--on", h.TCP}} {
		u := here
		if len(args) > 2 {
			u = there
		}
		var said string
		eventually(t, "the guest's report", func() bool {
			said = u.succeed(args...).stdout
			return strings.Contains(said, "report=end")
		})
		r, err := appliance.ParseReport(strings.NewReader(said))
		if err != nil || !bytes.Contains(r.Environment, []byte("web1")) {
			t.Errorf("%v: %v\n%s", args, err, said)
		}
	}
	// Completion knows the names.
	for _, args := range [][]string{{"__complete", "stop", ""}, {"__complete", "console", "--on", h.TCP, ""}} {
		if r := there.ovation(args...); strings.HasPrefix(r.stdout, "web\n") != (len(args) > 3) {
			t.Errorf("%v: %s", args, r.stdout)
		}
	}

	// The console is a guest's own: what is typed reaches it, and it goes on
	// when it is left.
	if r := here.succeed("ps", "web"); !strings.Contains(r.stdout, "running") {
		t.Errorf("ps web:\n%s", r.stdout)
	}
	here.fail(exitFailed, []string{"running", "--force"}, "rm", "web")
	here.succeed("stop", "web", "--force")
	here.fail(exitFailed, []string{"not running", "ovation start", "ovation logs"}, "console", "web")
	if r := here.succeed("logs", "web", "-f"); !strings.Contains(r.stdout, "report=end") {
		t.Errorf("what it said before it was stopped:\n%s", r.stdout)
	}

	// Somebody else starts it, and follows what it says.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	there.succeed("start", "web", "--on", h.TCP)
	reported := make(chan struct{})
	following := there.command(ctx, "logs", "web", "-f", "--on", h.URI)
	w := &watcher{want: "report=end", seen: reported}
	following.Stdout = w
	if err := following.Start(); err != nil {
		t.Fatal(err)
	}
	attached := make(chan struct{})
	console := there.command(ctx, "console", "web", "--on", h.TCP)
	console.Stdout = &watcher{want: "report=end", seen: attached}
	if err := console.Start(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []chan struct{}{reported, attached} {
		select {
		case <-c:
		case <-time.After(3 * time.Minute):
			t.Fatalf("the guest's report did not come:\n%s", w.text)
		}
	}
	here.succeed("stop", "web", "--force")
	// Both see its end.
	for _, cmd := range []*exec.Cmd{following, console} {
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %v", cmd.Args[1:], err)
		}
	}

	var acts struct {
		Acts []struct{ What, By string }
	}
	r := there.succeed("history", "--json", "--on", h.TCP)
	if err := json.Unmarshal([]byte(r.stdout), &acts); err != nil {
		t.Fatal(err)
	}
	var what []string
	for _, a := range acts.Acts {
		what = append(what, a.What)
	}
	if d := cmp.Diff([]string{"deployed", "stopped", "started", "stopped"}, what); d != "" {
		t.Error(d)
	}

	there.succeed("rm", "web", "--on", h.TCP)
	if left := h.names(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	if s := here.ps(); len(s.Deployments) != 1 || s.Deployments[0].State != "gone" {
		t.Errorf("ps of what was removed elsewhere: %+v", s)
	}
	here.succeed("rm", "web")
	if s := here.ps(); len(s.Deployments) != 0 {
		t.Errorf("ps: %+v", s)
	}
	if r := here.succeed("history", "web"); !strings.Contains(r.stdout, "removed") {
		t.Errorf("history:\n%s", r.stdout)
	}
	here.onlyLeft()
}
