package migrate

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ovation-project/ovation/author/descriptor"
	"github.com/ovation-project/ovation/author/export"
	"github.com/ovation-project/ovation/author/handover"
	"github.com/ovation-project/ovation/author/machine"
	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/apply"
	"github.com/ovation-project/ovation/deploy/journal"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/disk/digest"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/ovf"
)

// prepareImport has a target that makes machines of packages itself judge what it
// would be given: a descriptor of the machines as they were fitted to it.
func (m *Migration) prepareImport(ctx context.Context, e *export.Export, d *description, machines []*deploy.Planned, properties map[string]string, p *prepared) (err error) {
	if m.opt.DiskFormat != "" {
		return &hypervisor.UnfitError{Target: m.target.URI(), Reasons: []hypervisor.Reason{{Subject: "disk format",
			Text: fmt.Sprintf("the target makes its disks itself, and not as %s", m.opt.DiskFormat)}}}
	}
	h := *d
	p.handed = &h
	h.layout = &descriptor.Layout{Disks: d.layout.Disks}
	for i, f := range d.layout.Files {
		f.Href = fmt.Sprintf("disk%d.vmdk", i+1) // as what it is sent
		h.layout.Files = append(h.layout.Files, f)
	}
	refit(e.Appliance, machines)
	if err := p.handed.render(e.Appliance); err != nil {
		return err
	}
	if p.handedResolved, err = ovf.Resolve(p.handed.doc.Envelope(), ovf.ResolveOptions{Properties: properties}); err != nil {
		return err
	}
	given, i, err := m.handOver(ctx, p, p.plan, nil)
	if err != nil {
		return err
	}
	made := i.Plan()
	p.plan.Import = &made
	for _, n := range given.Notes {
		p.plan.Notes = append(p.plan.Notes, deploy.Note{Subject: "hardware", Text: inDescriptor.ReplaceAllString(n, "")})
	}
	for _, w := range made.Warnings {
		p.plan.Notes = append(p.plan.Notes, deploy.Note{Subject: m.target.URI(), Text: w})
	}
	return nil
}

// refit gives the machines of an appliance the hardware that they will have.
func refit(a *spec.Appliance, machines []*deploy.Planned) {
	a.Walk(func(c *spec.Content, collection bool) {
		i := slices.IndexFunc(machines, func(x *deploy.Planned) bool { return x.Machine.ID == c.ID })
		if collection || i < 0 || len(c.Hardware) == 0 {
			return
		}
		was, will := c.Hardware[0], machine.Describe(&machines[i].Machine, machine.Options{KeepMAC: true, KeepUUID: true}).Machine.Hardware[0]
		was.Devices, was.Firmware, was.SecureBoot = will.Devices, will.Firmware, will.SecureBoot
		was.Configs = slices.DeleteFunc(slices.Clone(was.Configs), func(x spec.Config) bool { return x.Key == "uuid" })
		was.Configs = append(was.Configs, will.Configs...)
		c.Hardware = []spec.Hardware{was}
	})
}

// handOver shapes what the target is given, for a plan that has its ID.
func (m *Migration) handOver(ctx context.Context, p *prepared, of *plan.Plan, content handover.Content) (*handover.Handover, hypervisor.Import, error) {
	host, ok := m.target.(hypervisor.Importer)
	if !ok {
		return nil, nil, fmt.Errorf("%s takes no machines as a whole", m.target.URI())
	}
	h, err := handover.New(ctx, p.handed, p.handedResolved, handover.Options{Families: p.caps.Families, Content: content, OnlyContent: true})
	if err != nil {
		return nil, nil, err
	}
	texts := map[string]string{}
	for _, s := range h.Systems {
		texts[s.ID] = s.Descriptor
	}
	spec, err := of.ImportSpec(p.handedResolved, texts)
	if err != nil {
		return nil, nil, err
	}
	i, err := host.PrepareImport(ctx, spec)
	return h, i, err
}

// importAll has the target make the machines, with the disks as they are read.
func (r *runner) importAll(ctx context.Context, p *plan.Plan) error {
	r.mu.Lock()
	clear(r.sent)
	r.mu.Unlock()
	h, i, err := r.handOver(ctx, r.p, p, r)
	if err != nil {
		return err
	}
	return i.Run(ctx, h.Open, hypervisor.ImportOptions{Note: r.opt.Export.Note})
}

// watched is a disk whose digest is taken while it is sent.
type watched struct {
	*digest.Writer
	size int64
}

func (r *runner) watch(id string, src convert.Source, w disk.Writer) disk.Writer {
	d := &watched{digest.NewWriter(w, src.Size()), src.Size()}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent[id] = d
	return d
}

// imported are what the disks hold that were sent.
func (r *runner) imported() map[string]journal.Content {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[string]journal.Content{}
	for id, w := range r.sent {
		if sum, ok := w.Sum(); ok {
			all[id] = journal.Content{Bytes: w.size, Digest: sum.String()}
		}
	}
	return all
}

// verifyMachine reads the disks of a machine back from a target that made it
// itself.
func (r *runner) verifyMachine(ctx context.Context, m *plan.Machine, disks map[string]journal.Content) (err error) {
	x, ok := r.target.(hypervisor.Exporter)
	if !ok {
		return errors.New("the target does not give back what it was sent: --no-verify leaves this out")
	}
	e, err := x.Export(ctx, m.Name, hypervisor.ExportOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close(context.WithoutCancel(ctx))) }()
	kept := e.Kept()
	want, got := hard(&m.Machine), hard(&kept.Machine)
	if len(want) != len(got) {
		return fmt.Errorf("%w: it has %d disks, and %d were sent", apply.ErrDiffers, len(got), len(want))
	}
	for i, d := range want {
		if _, filled := r.p.sources[d.DiskID]; !filled {
			continue
		}
		c, ok := disks[d.DiskID]
		if !ok {
			return fmt.Errorf("disk %s: what was sent came in no order, and there is no digest of it to compare with", d.DiskID)
		}
		if err := r.verifyDrive(ctx, e, got[i].ID, c); err != nil {
			return fmt.Errorf("disk %s: %w", d.DiskID, err)
		}
	}
	return nil
}

func (r *runner) verifyDrive(ctx context.Context, e hypervisor.Export, drive string, want journal.Content) (err error) {
	f, err := e.OpenDrive(ctx, drive)
	if err != nil {
		return err
	}
	src, closing, err := export.Open(ctx, f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closing()) }()
	if src.Size() < want.Bytes {
		return fmt.Errorf("%w: it has %d bytes, and %d were sent", apply.ErrDiffers, src.Size(), want.Bytes)
	}
	sum, err := r.digest(ctx, "verify "+f.Name, src, want.Bytes)
	if errors.Is(err, errBehind) || err == nil && sum.String() != want.Digest {
		return errors.Join(apply.ErrDiffers, err)
	}
	return err
}
