package libvirt

import (
	"errors"
	"io"
	"io/fs"
	"regexp"
	"testing"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/drivertest"
	"github.com/ovation-project/ovation/internal/testlibvirt"
)

// TestSystem gives a machine of the system's libvirt its part of the processors,
// and reads and removes what the log daemon wrote, all from elsewhere.
func TestSystem(t *testing.T) {
	d := testlibvirt.StartSystem(t)
	h := open(t, d.TCP, Options{Accel: "tcg"})
	caps, err := h.Capabilities(t.Context(), "x86_64")
	if err != nil {
		t.Fatal(err)
	}
	if caps.NoTuning != "" || caps.NoReservations == "" {
		t.Errorf("tuning: %q, reservations: %q", caps.NoTuning, caps.NoReservations)
	}
	image := drivertest.Image("hello\r\n", drivertest.PowerOff)
	ref := drivertest.Put(t, h, "tuned.img", "raw", image)
	m := drivertest.Machine(t, image)
	m.Name = "tuned"
	m.Drives[0].Medium = &hypervisor.Medium{Format: "raw", Volume: &ref}
	f, err := h.learn(t.Context(), "x86_64")
	if err != nil {
		t.Fatal(err)
	}
	// Nine tenths of what two processors have, which is that much of each.
	m.CPU = hypervisor.CPU{Count: 2, Shares: 2000, LimitHz: f.hostHz / 10 * 18}
	g, err := h.Define(t.Context(), m, hypervisor.Record{Deployment: "d"})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"cpu_shares": "2000", "vcpu_period": "100000", "vcpu_quota": "90000"} {
		has := regexp.MustCompile(key + ` *: (\S+)`).FindStringSubmatch(d.Virsh(t, "schedinfo", "--config", "tuned"))
		if has == nil || has[1] != want && !(key == "vcpu_quota" && has[1] == "89999") {
			t.Errorf("%s is %q, want %s", key, has, want)
		}
	}
	if _, err := g.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	pools := d.Virsh(t, "pool-list", "--all")
	log, _, err := g.(hypervisor.SerialLogger).SerialLog(t.Context(), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(log)
	if err = errors.Join(err, log.Close()); err != nil || string(said) != "hello\r\n" {
		t.Errorf("the log says %q, %v", said, err)
	}
	if err := g.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	folder, err := h.openFolder(t.Context(), systemLogs)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := folder.size(t.Context(), logName("tuned", 0)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its log stays: %d bytes, %v", n, err)
	}
	if err := folder.close(t.Context()); err != nil {
		t.Error(err)
	}
	if now := d.Virsh(t, "pool-list", "--all"); now != pools {
		t.Errorf("the pools were\n%sand are\n%s", pools, now)
	}
}
