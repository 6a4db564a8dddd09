package drivertest_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/drivertest"
)

func TestMemory(t *testing.T) {
	drivertest.RunHost(t, drivertest.NewMemory(), drivertest.HostOptions{})
}

func TestMemoryLocalPool(t *testing.T) {
	h := drivertest.NewMemory()
	h.Dir = t.TempDir()
	h.PoolList[0].Local = true
	drivertest.RunHost(t, h, drivertest.HostOptions{})
}

func TestMemoryFault(t *testing.T) {
	h := drivertest.NewMemory()
	died := errors.New("died")
	ctx := context.Background()
	ref := hypervisor.VolumeRef{Pool: "default", Name: "v"}
	spec := hypervisor.VolumeSpec{VolumeRef: ref, Format: "raw", CapacityBytes: 512}
	for _, made := range []bool{false, true} {
		h.Fault = func(change string, after bool) error {
			if change == "create-volume default/v" && after == made {
				return died
			}
			return nil
		}
		if _, err := h.CreateVolume(ctx, spec); !errors.Is(err, died) {
			t.Errorf("got %v", err)
		}
		if there := slices.Contains(h.Volumes(), ref); there != made {
			t.Errorf("the volume is there: %t, want %t", there, made)
		}
	}
	if want := []string{"create-volume default/v"}; !slices.Equal(h.Changes(), want) {
		t.Errorf("changes %q, want %q", h.Changes(), want)
	}
}
