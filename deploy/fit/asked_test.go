package fit_test

import (
	"context"
	"errors"
	"testing"

	"github.com/ovation-project/ovation/deploy/fit"
	"github.com/ovation-project/ovation/hypervisor"
)

// counting is a host that has less room each time it is asked, and counts that.
type counting struct {
	fit.Host
	asked map[string]int
	fails error
}

func (c *counting) count(what string) error {
	c.asked[what]++
	return c.fails
}

func (c *counting) URI() string    { return "counting:" }
func (c *counting) NoPool() string { return "make one" }

func (c *counting) Capabilities(_ context.Context, architecture string) (*hypervisor.Capabilities, error) {
	return &hypervisor.Capabilities{Driver: architecture}, c.count("capabilities " + architecture)
}

func (c *counting) Pools(context.Context) ([]hypervisor.Pool, error) {
	err := c.count("pools")
	return []hypervisor.Pool{{Name: "default", AvailableBytes: int64(100 - c.asked["pools"])}}, err
}

func (c *counting) Networks(context.Context) ([]hypervisor.Network, error) {
	return []hypervisor.Network{{Name: "default"}}, c.count("networks")
}

type checking struct{ *counting }

func (c checking) Check(context.Context, hypervisor.Machine) error { return c.count("check") }

// TestAsked asks a host again and again: it is asked each thing once, and what
// fails again.
func TestAsked(t *testing.T) {
	c := &counting{asked: map[string]int{}, fails: errors.New("not now")}
	h := fit.Asked(checking{c})
	ask := func() (errs []error, room int64) {
		_, err := h.Capabilities(t.Context(), "x86_64")
		errs = append(errs, err)
		pools, err := h.Pools(t.Context())
		errs = append(errs, err)
		if err == nil {
			room = pools[0].AvailableBytes
			pools[0].Name = "changed by who asks"
		}
		_, err = h.Networks(t.Context())
		return append(errs, err), room
	}
	if errs, _ := ask(); errs[0] == nil || errs[1] == nil || errs[2] == nil {
		t.Errorf("%v", errs)
	}
	c.fails = nil
	for range 3 {
		if errs, room := ask(); errors.Join(errs...) != nil || room != 98 {
			t.Errorf("%v, %d bytes", errs, room)
		}
	}
	if c.asked["pools"] != 2 || c.asked["networks"] != 2 || c.asked["capabilities x86_64"] != 2 {
		t.Errorf("%v", c.asked)
	}
	// Whether a machine can be made is another question each time.
	for range 2 {
		if err := h.(hypervisor.Checker).Check(t.Context(), hypervisor.Machine{}); err != nil {
			t.Error(err)
		}
	}
	if c.asked["check"] != 2 || h.URI() != "counting:" || h.(interface{ NoPool() string }).NoPool() != "make one" {
		t.Errorf("%v", c.asked)
	}
	if _, ok := fit.Asked(c).(hypervisor.Checker); ok {
		t.Error("what can't be asked can be asked")
	}
}
