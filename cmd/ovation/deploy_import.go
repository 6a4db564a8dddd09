package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/ovation-project/ovation/author/handover"
	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/deploy/stage"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/term"
	"github.com/ovation-project/ovation/internal/workdir"
	"github.com/ovation-project/ovation/ovf"
)

// provisionings are the words of --provisioning.
var provisionings = map[string]hypervisor.Provisioning{"host": "", "thin": hypervisor.Thin, "thick": hypervisor.Thick, "eager": hypervisor.EagerZeroedThick}

// ipAllocations and ipProtocols are the words of --ip-allocation and
// --ip-protocol.
var (
	ipAllocations = map[string]string{"package": "", "dhcp": "dhcpPolicy", "transient": "transientPolicy", "fixed": "fixedPolicy", "fixed-allocated": "fixedAllocatedPolicy"}
	ipProtocols   = map[string]string{"package": "", "ipv4": "IPv4", "ipv6": "IPv6"}
)

// handOver shapes the package for a host that reads descriptors itself, and has
// the host judge it.
func (a *app) handOver(ctx context.Context, d *deployment, r *ovf.Resolved, p *plan.Plan, progress *term.Progress) (*handover.Handover, hypervisor.Import, error) {
	host, ok := d.host.(hypervisor.Importer)
	if !ok {
		return nil, nil, errors.New("the host takes no packages as a whole")
	}
	caps, err := d.host.Capabilities(ctx, "")
	if err != nil {
		return nil, nil, err
	}
	opt := handover.Options{Families: caps.Families, OnlyContent: d.once != nil}
	for _, m := range p.Machines {
		opt.Systems = append(opt.Systems, m.ID)
	}
	if d.once != nil {
		opt.Content = d.once
	} else {
		opt.Content = stage.NewContent(d.pkg, a.stageOptions(workdir.Base(), progress))
	}
	if progress != nil {
		opt.Task = func(name string, total int64) handover.Task { return progress.Track(name, total) }
	}
	h, err := handover.New(ctx, d.pkg, r, opt)
	if err != nil {
		return nil, nil, err
	}
	texts := map[string]string{}
	for _, s := range h.Systems {
		texts[s.ID] = s.Descriptor
	}
	spec, err := p.ImportSpec(r, texts)
	if err != nil {
		return nil, nil, err
	}
	i, err := host.PrepareImport(ctx, spec)
	return h, i, err
}

// prepareImport completes a plan with what the host would make.
func (a *app) prepareImport(d *deployment) func(context.Context, *ovf.Resolved, *plan.Plan) error {
	return func(ctx context.Context, r *ovf.Resolved, p *plan.Plan) error {
		h, i, err := a.handOver(ctx, d, r, p, nil)
		if err != nil {
			return err
		}
		for _, n := range h.Notes {
			p.Notes = append(p.Notes, deploy.Note{Subject: "package", Text: n})
		}
		made := i.Plan()
		for _, w := range made.Warnings {
			p.Notes = append(p.Notes, deploy.Note{Subject: d.host.URI(), Text: w})
		}
		p.Import = &made
		return nil
	}
}

// showImport shows what a host makes of a package, and where.
func (a *app) showImport(i *hypervisor.ImportPlan) {
	t := term.NewTable("MACHINE", "HARDWARE", "GUEST", ">CPUS", ">MEMORY", "FIRMWARE")
	for _, m := range i.Machines {
		t.Row(m.Name, m.Hardware, m.OS, fmt.Sprint(m.CPUs), term.Size(m.MemoryBytes), m.Firmware)
	}
	t.Print(a.out)
	a.out.Printf("\n")
	at := i.Placement
	for _, x := range [][2]string{{"Datacenter", at.Datacenter}, {"Folder", at.Folder}, {"Resource pool", at.Pool}, {"Host", at.Host},
		{"Datastore", at.Storage}, {"Storage policy", at.StoragePolicy}, {"Disks", string(i.Provisioning)}, {"Addresses", i.IPAllocation}, {"IP protocol", i.IPProtocol}, {"vApp", i.Group}} {
		if x[1] != "" {
			a.out.Printf("%s: %s\n", x[0], term.Clean(x[1]))
		}
	}
	a.out.Printf("\n")
}

// runImport is the step of a plan that has the host make the machines. What the
// plan says was decided before; the host is asked anew, for the deployment that
// the journal has.
func (a *app) runImport(d *deployment, progress *term.Progress) func(context.Context, *plan.Plan) error {
	return func(ctx context.Context, p *plan.Plan) error {
		h, i, err := a.handOver(ctx, d, d.resolved, p, progress)
		if err != nil {
			return err
		}
		opt := hypervisor.ImportOptions{Note: func(s string) { a.note("%s", s) }}
		if d.once != nil {
			disks, files := h.Takes(i.Plan())
			d.once.Expect(disks, files)
			opt.Parallel = max(1, len(disks)+len(files)) // which comes first nobody knows
		}
		return i.Run(ctx, h.Open, opt)
	}
}
