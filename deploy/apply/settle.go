package apply

import (
	"context"
	"errors"
	"fmt"

	"github.com/ovation-project/ovation/deploy/journal"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/hypervisor"
)

// takes says that a step takes of what comes once.
func (a *applier) takes(s plan.Step) bool {
	if s.Do == plan.Import {
		return true
	}
	if s.Do != plan.FillVolume {
		return false
	}
	v := a.plan.Volume(*s.Volume)
	return v.Content == plan.Disk || v.Content == plan.File
}

// together has either all or none of what comes once be taken: a program that was
// killed did not come to the end of it.
func (a *applier) together(state journal.State) {
	for i, s := range a.plan.Steps {
		if !state.Done[i] && a.takes(s) {
			for k, s := range a.plan.Steps {
				state.Done[k] = state.Done[k] && !a.takes(s)
			}
			return
		}
	}
}

// settle has the plan settled, where something was taken of what came once. What
// is done by then counts from here on.
func (a *applier) settle(ctx context.Context) error {
	if a.opt.Settle == nil || len(a.unsettled) == 0 {
		return nil
	}
	p, err := a.opt.Settle(ctx)
	if err == nil && p == nil {
		err = errors.New("nobody says what became of the plan")
	}
	if err != nil {
		return err
	}
	if err := a.refit(ctx, p); err != nil {
		return err
	}
	if err := a.j.Add(journal.Entry{Kind: journal.Settled, Plan: p}); err != nil {
		return err
	}
	a.plan = a.j.Plan()
	for _, e := range a.unsettled {
		if err := a.j.Add(e); err != nil {
			return err
		}
	}
	a.unsettled = nil
	return nil
}

// refit gives machines that were imported the firmware that they turned out to
// boot with.
func (a *applier) refit(ctx context.Context, settled *plan.Plan) error {
	if a.plan.Import == nil {
		return nil
	}
	for _, m := range settled.Machines {
		was := a.plan.Machine(m.Name)
		if was == nil || was.Firmware.Kind == m.Firmware.Kind && was.Firmware.SecureBoot == m.Firmware.SecureBoot {
			continue
		}
		h, ok := a.host.(hypervisor.FirmwareSetter)
		if !ok {
			return fmt.Errorf("machine %s boots with %s, and the host can't be told so: --firmware %s says it beforehand", m.Name, m.Firmware.Kind, m.Firmware.Kind)
		}
		if err := h.SetFirmware(ctx, m.Name, m.Firmware); err != nil {
			return fmt.Errorf("machine %s, its firmware: %w", m.Name, err)
		}
	}
	return nil
}
