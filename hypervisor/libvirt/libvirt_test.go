package libvirt

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/drivertest"
	"github.com/ovation-project/ovation/internal/testlibvirt"
)

func open(t *testing.T, uri string, opt Options) *Host {
	t.Helper()
	if os.Getenv("OVATION_TEST_LOG") != "" {
		opt.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	h, err := Open(t.Context(), uri, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func daemon(t *testing.T) *testlibvirt.Daemon {
	t.Helper()
	return testlibvirt.Start(t, testlibvirt.Options{})
}

func TestHost(t *testing.T) {
	d := daemon(t)
	t.Run("unix", func(t *testing.T) {
		drivertest.RunHost(t, open(t, d.URI, Options{Accel: "tcg"}), drivertest.HostOptions{Guests: true})
	})
	t.Run("tcp", func(t *testing.T) {
		drivertest.RunHost(t, open(t, d.TCP, Options{Accel: "tcg"}), drivertest.HostOptions{Guests: true})
	})
}

// TestLogElsewhere reads and removes logs in a folder that is no pool's: of
// other hosts libvirt shows it for a moment.
func TestLogElsewhere(t *testing.T) {
	d := daemon(t)
	dir := filepath.Join(d.Dir, "data", "logs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"web-serial0.log": "now\n", "web-serial0.log.0": "before\n", "web-serial0.log.1": "long ago\n", "other.log": "theirs\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if os.Getuid() == 0 {
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(d.Dir, "web.xml")
	if err := os.WriteFile(path, fmt.Appendf(nil, `<domain type="qemu"><name>web</name><memory>65536</memory><os><type arch="x86_64">hvm</type></os><devices>
		<serial type="pty"><log file="%s/web-serial0.log" append="off"/></serial></devices></domain>`, dir), 0o644); err != nil {
		t.Fatal(err)
	}
	d.Virsh(t, "define", path)
	pools := d.Virsh(t, "pool-list", "--all")
	const all = "long ago\nbefore\nnow\n"
	for _, uri := range []string{d.URI, d.TCP} {
		g, err := open(t, uri, Options{}).Lookup(t.Context(), "web")
		if err != nil {
			t.Fatal(err)
		}
		for from, at := range map[int64]int64{0: 0, 3: 3, 9: 9, 10: 10, 17: 17, 20: 20, 99: 16} {
			r, got, err := g.Guest.(hypervisor.SerialLogger).SerialLog(t.Context(), 0, from)
			if err != nil {
				t.Fatal(err)
			}
			said, err := io.ReadAll(r)
			if err := errors.Join(err, r.Close()); err != nil || got != at || string(said) != all[at:] {
				t.Errorf("%s from %d: %q from %d, %v", uri, from, said, got, err)
			}
		}
	}
	h := open(t, d.TCP, Options{})
	g, err := h.Lookup(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "other.log" {
		t.Errorf("left: %v, %v", left, err)
	}
	if now := d.Virsh(t, "pool-list", "--all"); now != pools {
		t.Errorf("the pools were\n%sand are\n%s", pools, now)
	}
}
