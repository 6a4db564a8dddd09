package drivertest

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ovation-project/ovation/hypervisor"
)

// Importer is a Memory that is given packages as a whole. It reads no
// descriptors: a machine has the hardware that its system comes with, and Files
// are asked for.
type Importer struct {
	*Memory
	// Files are what it asks for of each virtual system, by the ovf:id.
	Files map[string][]hypervisor.ImportFile
	// Refuses, where set, are its reasons against any package.
	Refuses []hypervisor.Reason
}

var _ hypervisor.Importer = (*Importer)(nil)

// Capabilities are Memory's, of a host that imports.
func (h *Importer) Capabilities(ctx context.Context, architecture string) (*hypervisor.Capabilities, error) {
	c, err := h.Memory.Capabilities(ctx, architecture)
	if err == nil {
		c.Imports, c.Families = true, []string{"vmx-19"}
	}
	return c, err
}

// PrepareImport refuses what Refuses says.
func (h *Importer) PrepareImport(_ context.Context, spec hypervisor.ImportSpec) (hypervisor.Import, error) {
	if len(h.Refuses) > 0 {
		return nil, &hypervisor.UnfitError{Target: h.URI(), Reasons: h.Refuses}
	}
	i := &memoryImport{h: h, spec: spec, plan: hypervisor.ImportPlan{Group: spec.Group, Networks: spec.Networks, Provisioning: spec.Provisioning, IPAllocation: spec.IPAllocation, IPProtocol: spec.IPProtocol,
		Placement: hypervisor.Placement{Storage: spec.Storage}}}
	for _, s := range spec.Systems {
		i.plan.Machines = append(i.plan.Machines, hypervisor.ImportMachine{Name: s.Name, System: s.ID, Files: h.Files[s.ID]})
	}
	return i, nil
}

type memoryImport struct {
	h    *Importer
	spec hypervisor.ImportSpec
	plan hypervisor.ImportPlan
}

// Plan is what Run makes.
func (i *memoryImport) Plan() hypervisor.ImportPlan { return i.plan }

// Run makes machines, and reads their files.
func (i *memoryImport) Run(ctx context.Context, open hypervisor.OpenImportFile, _ hypervisor.ImportOptions) error {
	for _, m := range i.plan.Machines {
		if _, err := i.h.Lookup(ctx, m.Name); err == nil {
			return fmt.Errorf("machine %s: %w", m.Name, hypervisor.ErrExists)
		}
	}
	err := i.machines(ctx, open)
	if err == nil {
		return nil
	}
	if left := i.h.UndoImport(context.WithoutCancel(ctx), i.plan, i.spec.Deployment); left != nil {
		return &hypervisor.ImportLeftError{Err: err, Left: left}
	}
	return err
}

func (i *memoryImport) machines(ctx context.Context, open hypervisor.OpenImportFile) error {
	for k, s := range i.spec.Systems {
		m := hypervisor.Machine{ID: s.ID, Architecture: "x86_64", CPU: hypervisor.CPU{Count: 1}, Memory: hypervisor.Memory{Bytes: 1 << 20}}
		if s.Machine != nil {
			m = *s.Machine
		}
		m.Name = s.Name
		if _, err := i.h.Define(ctx, m, s.Record); err != nil {
			return err
		}
		for _, f := range i.plan.Machines[k].Files {
			c, err := open(ctx, f)
			if err != nil {
				return fmt.Errorf("%s: %w", f.Href, err)
			}
			_, err = io.Copy(io.Discard, c)
			if err = errors.Join(err, c.Close(), ctx.Err()); err != nil {
				return fmt.Errorf("%s: %w", f.Href, err)
			}
		}
	}
	return nil
}

// UndoImport removes the machines of a deployment.
func (h *Importer) UndoImport(ctx context.Context, plan hypervisor.ImportPlan, deployment string) error {
	var errs []error
	for _, m := range plan.Machines {
		k, err := h.Lookup(ctx, m.Name)
		if errors.Is(err, hypervisor.ErrNotFound) {
			continue
		}
		if err == nil && k.Record != nil && k.Record.Deployment == deployment {
			err = k.Remove(ctx)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
