package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ovation-project/ovation/internal/faultserver"
	"github.com/ovation-project/ovation/internal/testenv"
	"github.com/ovation-project/ovation/test/appliance"
)

// running is a run of the program whose guests stay up and do what they are
// asked for at a forwarded port.
type running struct {
	t              *testing.T
	cmd            *exec.Cmd
	ports          map[string]int // by machine
	stdout, stderr *waited
	ended          chan error
}

// waited is output that somebody waits for.
type waited struct {
	write chan []byte
	ask   chan func(string) bool
}

func newWaited() *waited {
	w := &waited{make(chan []byte), make(chan func(string) bool)}
	go func() {
		var text []byte
		var waiting []func(string) bool
		for {
			select {
			case p := <-w.write:
				text = append(text, p...)
			case f := <-w.ask:
				waiting = append(waiting, f)
			}
			var still []func(string) bool
			for _, f := range waiting {
				if !f(string(text)) {
					still = append(still, f)
				}
			}
			waiting = still
		}
	}()
	return w
}

// Write takes output.
func (w *waited) Write(p []byte) (int, error) {
	w.write <- bytes.Clone(p)
	return len(p), nil
}

// String is what came so far.
func (w *waited) String() string {
	got := make(chan string, 1)
	w.ask <- func(text string) bool { got <- text; return true }
	return <-got
}

// for waits until a text has come so often.
func (r *running) until(w *waited, text string, times int) {
	r.t.Helper()
	came := make(chan struct{})
	w.ask <- func(all string) bool {
		if strings.Count(all, text) < times {
			return false
		}
		close(came)
		return true
	}
	select {
	case <-came:
	case err := <-r.ended:
		r.t.Fatalf("it ended (%v) and did not say %q\n%s\n%s", err, text, r.stderr, tail(r.stdout.String()))
	case <-time.After(4 * time.Minute):
		r.t.Fatalf("it does not say %q\n%s\n%s", text, r.stderr, tail(r.stdout.String()))
	}
}

// startRun runs a package, with port 80 of each machine forwarded; "" is the only
// one.
func startRun(t *testing.T, u *user, locator string, machines []string, flags ...string) *running {
	t.Helper()
	r := &running{t: t, ports: map[string]int{}, stdout: newWaited(), stderr: newWaited(), ended: make(chan error, 1)}
	args := append([]string{"run", "--headless", "--timeout", "5m"}, flags...)
	for _, m := range machines {
		r.ports[m] = freePort(t)
		forward := fmt.Sprintf("%d:80", r.ports[m])
		if m != "" {
			forward = m + "=" + forward
		}
		args = append(args, "--forward", forward)
	}
	r.cmd = u.command(t.Context(), append(args, locator)...)
	r.cmd.Stdout, r.cmd.Stderr = r.stdout, r.stderr
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { r.ended <- r.cmd.Wait() }()
	return r
}

// get asks a machine.
func (r *running) get(machine, path string) string {
	r.t.Helper()
	client := &http.Client{Timeout: time.Minute}
	resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/%s", r.ports[machine], path))
	if err != nil {
		r.t.Fatalf("%v\n%s\n%s", err, r.stderr, tail(r.stdout.String()))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(body)
}

// readsAgain has a machine read its disks, past what it remembers of them.
func (r *running) readsAgain(machine string, p *appliance.Package) {
	r.t.Helper()
	sums := r.get(machine, "cgi-bin/disks")
	for _, d := range p.Disks {
		if !strings.Contains(sums, d.SHA256) {
			r.t.Errorf("%s reads disks other than %s now:\n%s", machine, d.SHA256, sums)
		}
	}
}

// off powers the machines off, and waits for the end.
func (r *running) off() {
	r.t.Helper()
	for m := range r.ports {
		r.get(m, "cgi-bin/off")
	}
	if err := <-r.ended; err != nil {
		r.t.Errorf("%v\n%s", err, r.stderr)
	}
}

// TestStreamCollection boots two machines from the URL of a descriptor whose
// files are in chunks. They see each other. When their disks are here the server
// goes for good, and they read them again.
func TestStreamCollection(t *testing.T) {
	t.Parallel()
	testenv.NeedTool(t, "qemu-system-x86_64")
	spec := small
	spec.Linger = 600
	p := build(t, spec)
	u := newUser(t)
	u.write("appliance.yaml", fmt.Appendf(nil, `
name: shop
networks: [LAN, Other]
disks:
  - {id: web, source: %[1]q}
  - {id: db, source: %[1]q}
  - {id: data, source: %[2]q}
collection:
  id: shop
  startup: {items: [{id: db, order: 1, startDelay: 1}, {id: web, order: 2}]}
  contents:
    - machine: {id: web, hardware: {cpus: 1, memory: 256MiB, disks: [{disk: web, controller: ide}, {disk: data, controller: ide}], cards: [{network: LAN, model: E1000, mac: "00:50:56:00:01:01"}]}}
    - machine: {id: db, hardware: {cpus: 1, memory: 256MiB, disks: [{disk: db, controller: ide}, {disk: data, controller: ide}], cards: [{network: LAN, model: E1000, mac: "00:50:56:00:01:02"}]}}
`, p.Disks[0].Raw, p.Disks[1].Raw))
	u.succeed("build", "-o", "shop", "--chunk-size", "3MB", "--no-sync")
	if chunks, err := filepath.Glob(filepath.Join(u.work, "shop", "*.000000001")); err != nil || len(chunks) < 2 {
		t.Fatalf("no chunks: %v, %v", chunks, err)
	}
	s := faultserver.New(t, filepath.Join(u.work, "shop"))
	s.Change(func(f *faultserver.Faults) { f.Rate, f.Drop = 8<<20, 2<<20 })
	r := startRun(t, u, s.URL("shop.ovf"), []string{"web", "db"})
	r.until(r.stdout, "report=end", 2)
	r.until(r.stderr, all, 1)
	s.Kill()
	if !strings.Contains(r.stderr.String(), `on network "LAN" db, web see each other`) {
		t.Errorf("it does not say who sees whom:\n%s", r.stderr)
	}

	// Each fetches from the other: at addresses that differ.
	address := map[string]string{}
	for _, id := range []string{"web", "db"} {
		var own strings.Builder
		for line := range strings.Lines(r.stdout.String()) {
			if text, ok := strings.CutPrefix(line, id+" | "); ok {
				own.WriteString(text)
			}
		}
		report, err := appliance.ParseReport(strings.NewReader(own.String()))
		if err != nil {
			t.Fatal(err)
		}
		q := *p
		q.Spec.NICs = []appliance.NIC{{Model: "E1000", MAC: map[string]string{"web": "00:50:56:00:01:01", "db": "00:50:56:00:01:02"}[id]}}
		checkReport(t, &q, report, "bios", "ide")
		address[id] = report.NICs[0].Address
	}
	if address["web"] == address["db"] {
		t.Errorf("both have the address %s", address["web"])
	}
	for one, other := range map[string]string{"web": "db", "db": "web"} {
		want := r.get(other, "addresses")
		if got := r.get(one, "cgi-bin/get?"+address[other]+"/addresses"); got != want || want == "" {
			t.Errorf("%s gets %q from %s at %s, want %q", one, got, other, address[other], want)
		}
		r.readsAgain(one, p)
	}
	r.off()
	u.succeed("cache", "prune", "--all")
}
