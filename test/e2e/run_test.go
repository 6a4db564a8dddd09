package e2e

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ovation-project/ovation/internal/testenv"
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
		u.interrupt(reached, io.Discard, "run", "--headless", url)
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
		u.interrupt(up, &watcher{want: "report=end", seen: up}, "run", "--headless", p.OVA)
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
	checkReport(t, p, boot(t, u, server.URL+"/small.ova"), "bios")
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
	u.interrupt(reached, &watcher{want: "report=end", seen: up}, "run", "--headless", "--forward", strconv.Itoa(port)+":80", p.OVA)
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
