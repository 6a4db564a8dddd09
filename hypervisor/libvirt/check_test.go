package libvirt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/drivertest"
)

// TestCheckMakesNothing checks a machine with cards: libvirt would make tap
// devices for those that it translates, and says so where it must not.
func TestCheckMakesNothing(t *testing.T) {
	d := daemon(t)
	h := open(t, d.URI, Options{Accel: "tcg"})
	m := drivertest.Machine(t, drivertest.Image("", drivertest.PowerOff))
	m.NICs = []hypervisor.NIC{{ID: "a", Model: hypervisor.E1000, Network: "n", HostNetwork: NetworkUser}, {ID: "b", Model: hypervisor.VirtIONet, Network: "n", HostNetwork: "bridge:br-none"}}
	if err := h.Check(t.Context(), m); err != nil {
		t.Error(err)
	}
	log, err := os.ReadFile(filepath.Join(d.Dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(log), "virNetDevTap") {
		t.Errorf("the host was to make devices:\n%s", log)
	}
	if all, err := h.List(t.Context(), true); err != nil || len(all) > 0 {
		t.Errorf("machines are there: %v, %v", all, err)
	}
}
