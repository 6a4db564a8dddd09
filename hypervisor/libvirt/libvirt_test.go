package libvirt

import (
	"log/slog"
	"os"
	"testing"

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
