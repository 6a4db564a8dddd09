package e2e

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ovation-project/ovation/internal/testenv"
	"github.com/ovation-project/ovation/ovf/ovfenv"
	"github.com/ovation-project/ovation/test/appliance"
)

// TestRunBadInput is the same for run, which starts none of it.
func TestRunBadInput(t *testing.T) {
	t.Parallel()
	testenv.NeedTool(t, "qemu-system-x86_64")
	p := build(t, small)
	for _, test := range badInputs {
		t.Run(test.name, func(t *testing.T) {
			u := newUser(t)
			locator := test.locator(u, p)
			before := filesBelow(t, u.work)
			r := u.refuse(test.run, test.says, "run", "--headless", "--timeout", "1m", locator)
			if r.code == exitOK || strings.Contains(r.stdout, "report=") {
				t.Errorf("it was started, exit code %d:\n%s", r.code, tail(r.stdout))
			}
			u.onlyLeft(before...)
		})
	}
}

// TestNoQEMU runs where no QEMU is installed.
func TestNoQEMU(t *testing.T) {
	t.Parallel()
	p := build(t, small)
	u := newUser(t)
	u.path = t.TempDir()
	u.fail(exitFailed, []string{"qemu", "install"}, "run", "--headless", p.OVA)
	u.onlyLeft()
}

// TestRunInterrupted stops run with Ctrl-C.
func TestRunInterrupted(t *testing.T) {
	t.Parallel()
	p := build(t, small)

	t.Run("run, while it is fetched", func(t *testing.T) {
		t.Parallel()
		testenv.NeedTool(t, "qemu-system-x86_64")
		u := newUser(t)
		reached := make(chan struct{})
		url := stalling(t, p.OVA, reached)
		u.interrupt(reached, os.Interrupt, io.Discard, "run", "--headless", "--verify", "before", url)
		u.onlyLeft()
	})
	t.Run("run, while the guest is up", func(t *testing.T) {
		t.Parallel()
		testenv.NeedTool(t, "qemu-system-x86_64")
		spec := small
		spec.Linger = 600
		p := build(t, spec)
		u := newUser(t)
		up := make(chan struct{})
		u.interrupt(up, os.Interrupt, &watcher{want: "report=end", seen: up}, "run", "--headless", p.OVA)
		u.onlyLeft()
	})
}

// watcher closes seen when want has come by.
type watcher struct {
	want string
	seen chan<- struct{}
	text []byte
	done bool
}

func (w *watcher) Write(p []byte) (int, error) {
	w.text = append(w.text, p...)
	if !w.done && bytes.Contains(w.text, []byte(w.want)) {
		w.done = true
		close(w.seen)
	}
	return len(p), nil
}

// TestRunHTTP boots from an OVA on a web server.
func TestRunHTTP(t *testing.T) {
	t.Parallel()
	testenv.NeedTool(t, "qemu-system-x86_64")
	p := build(t, small)
	server := httptest.NewServer(http.FileServer(http.Dir(filepath.Dir(p.OVA))))
	t.Cleanup(server.Close)
	u := newUser(t)
	checkReport(t, p, boot(t, u, server.URL+"/small.ova"), "bios", "ide")
	u.onlyLeft()
}

// TestRunFlags gives the guest another machine than the descriptor's, and keeps
// its disks.
func TestRunFlags(t *testing.T) {
	t.Parallel()
	testenv.NeedTool(t, "qemu-system-x86_64")
	p := build(t, small)
	u := newUser(t)
	r := boot(t, u, p.Descriptor, "--cpus", "2", "--memory", "320MiB", "--disk-bus", "virtio", "--nic", "vmxnet3", "--keep", "kept")
	// What the flags say is as good as if the descriptor had said it.
	q := *p
	q.Spec.CPUs, q.Spec.MemoryMiB, q.Spec.Controller = 2, 320, "virtio-blk"
	q.Spec.Disks = []appliance.Disk{{Size: 1 << 20, Controller: "virtio-blk"}}
	q.Spec.NICs = []appliance.NIC{{Model: "VmxNet3", MAC: small.NICs[0].MAC}}
	checkReport(t, &q, r, "bios", "virtio-blk")

	kept, err := filepath.Glob(filepath.Join(u.work, "kept", "*.qcow2"))
	if err != nil || len(kept) != 2 {
		t.Fatalf("--keep kept %q, want two disks (%v)", filesBelow(t, u.work), err)
	}
	for _, image := range kept {
		qemuImg(t, "check", image)
	}
}

// TestRunEnvironment gives the guest its properties, on a CD-ROM.
func TestRunEnvironment(t *testing.T) {
	t.Parallel()
	testenv.NeedTool(t, "qemu-system-x86_64")
	spec := small
	spec.Properties = []appliance.Property{{Key: "greeting", Value: "hello"}, {Key: "name", Value: "<unset>"}, {Key: "secret", Value: "", Password: true}}
	p := build(t, spec)
	u := newUser(t)
	r := boot(t, u, p.OVA, "--property", `name=a "b" & <c>`)
	env, err := ovfenv.Parse(r.Environment)
	if err != nil {
		t.Fatalf("the environment that the guest found: %v\n%s", err, r.Environment)
	}
	got := map[string]string{}
	for _, property := range env.Properties {
		got[property.Key] = property.Value
	}
	want := map[string]string{"greeting": "hello", "name": `a "b" & <c>`, "secret": ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("properties (-want +guest):\n%s\n%s", diff, r.Environment)
	}
	u.onlyLeft()
}

// TestForward reaches into a running guest.
func TestForward(t *testing.T) {
	t.Parallel()
	testenv.NeedTool(t, "qemu-system-x86_64")
	spec := small
	spec.Linger = 600
	p := build(t, spec)
	u := newUser(t)
	port := freePort(t)
	up := make(chan struct{})
	got := make(chan string, 1)
	reached := make(chan struct{})
	go func() {
		defer close(reached)
		select {
		case <-up:
		case <-t.Context().Done():
			return
		}
		client := &http.Client{Timeout: 30 * time.Second}
		resp, err := client.Get("http://127.0.0.1:" + strconv.Itoa(port) + "/")
		if err != nil {
			got <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			got <- err.Error()
			return
		}
		got <- string(body)
	}()
	u.interrupt(reached, os.Interrupt, &watcher{want: "report=end", seen: up}, "run", "--headless", "--forward", strconv.Itoa(port)+":80", p.OVA)
	if body := <-got; !strings.Contains(body, "hello from the test appliance") {
		t.Errorf("the guest's server said %q", body)
	}
	u.onlyLeft()
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
