package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/appliance/manifest"
	"github.com/ovation-project/ovation/author/build"
	"github.com/ovation-project/ovation/author/descriptor"
	"github.com/ovation-project/ovation/author/export"
	"github.com/ovation-project/ovation/author/machine"
	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/lifecycle"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/ovf"
)

// description is machines as a package that is nowhere: a descriptor, and the
// disks where they are. It is a plan.Source.
type description struct {
	locator, name string
	doc           *ovf.Document
	// sources and stored are of the disks, by their ovf:diskId.
	sources map[string]string
	stored  map[string]int64
	layout  *descriptor.Layout
}

func (d *description) Locator() string                 { return d.locator }
func (d *description) DescriptorName() string          { return d.name + ".ovf" }
func (d *description) Document() *ovf.Document         { return d.doc }
func (d *description) Manifest() *manifest.Manifest    { return nil }
func (d *description) ManifestBytes() (string, []byte) { return "", nil }

// exportOptions say how machines are described: as they are, with what their
// guests know them by.
func (m *Migration) exportOptions() export.Options {
	opt := m.opt.Export
	opt.Machine = machine.Options{KeepMAC: true, KeepUUID: true}
	return opt
}

// describe writes the descriptor.
func (m *Migration) describe(ctx context.Context, e *export.Export) (*description, error) {
	d := &description{sources: map[string]string{}, stored: map[string]int64{}}
	kept := e.Kept()
	d.name = deploymentName(kept)
	d.locator = place(m.sources[0].Host.URI(), cmp.Or(d.name, kept[0].Name))
	sizes := m.sizes(e)
	d.layout = &descriptor.Layout{Disks: map[string]descriptor.Disk{}}
	uri, err := build.FormatURI("raw")
	if err != nil {
		return nil, err
	}
	for _, k := range e.Appliance.Disks {
		if k.Source == "" {
			continue
		}
		size := sizes[k.Source]
		if size.capacity == 0 {
			if size.capacity, err = m.measure(ctx, k.Source); err != nil {
				return nil, err
			}
		}
		d.sources[k.ID], d.stored[k.ID] = k.Source, size.stored
		id := cmp.Or(k.FileID, "file-"+k.ID)
		d.layout.Files = append(d.layout.Files, descriptor.File{ID: id, Href: k.Source, Size: -1})
		d.layout.Disks[k.ID] = descriptor.Disk{FileID: id, Capacity: size.capacity, Populated: -1, URI: uri}
	}
	return d, d.render(e.Appliance)
}

// render writes the descriptor of an appliance whose disks are those that there
// are.
func (d *description) render(a *spec.Appliance) error {
	text, err := descriptor.Render(a, d.layout, descriptor.Options{})
	if err != nil {
		return err
	}
	d.doc, err = ovf.Parse(text, ovf.ParseOptions{})
	return err
}

// deploymentName is the name under which the machines are known together at the
// source: their deployment's, where they have one, or that of the only machine.
func deploymentName(kept []*hypervisor.Kept) string {
	name := kept[0].Name
	if len(kept) > 1 {
		name = ""
	}
	if data, err := lifecycle.DataOf(kept[0].Record); err == nil && data.Machines == len(kept) {
		name = cmp.Or(data.Name, name)
	}
	return plan.HostName(name)
}

// place is a machine or a deployment behind the URI of its host.
func place(uri, name string) string {
	base, query, has := strings.Cut(uri, "?")
	base = strings.TrimSuffix(base, "/") + "/" + name
	if has {
		base += "?" + query
	}
	return base
}

// size is how large a disk is, and about how much of it is stored.
type size struct{ capacity, stored int64 }

// sizes are those that the hosts say, by the specification's source.
func (m *Migration) sizes(e *export.Export) map[string]size {
	all := map[string]size{}
	for i := range e.Machines {
		x := &e.Machines[i]
		for _, v := range x.Drives {
			if v.Kind == hypervisor.HardDisk && v.Medium != nil {
				all[x.ID+"/"+v.ID] = size{v.Capacity, v.Stored}
			}
		}
	}
	return all
}

// measure opens a disk to see how large it is, where the host did not say. Only a
// machine that is off can be read without doing something to it.
func (m *Migration) measure(ctx context.Context, source string) (_ int64, err error) {
	opt := m.exportOptions()
	opt.Live, opt.Shutdown, opt.Note, opt.Warn = false, 0, nil, nil
	e, err := export.Begin(ctx, m.sources, opt)
	if err != nil {
		return 0, fmt.Errorf("disk %s: its host does not say how large it is: %w", source, err)
	}
	defer func() { err = errors.Join(err, e.Close(context.WithoutCancel(ctx))) }()
	src, closing, err := e.OpenDisk(ctx, source)
	if err != nil {
		return 0, err
	}
	return src.Size(), closing()
}

// properties are the values that the guests have been told, as far as users may
// set them, and those that were given now.
func (m *Migration) properties(doc *ovf.Document, kept []*hypervisor.Kept, p *prepared) map[string]string {
	told := map[string]string{}
	for _, k := range kept {
		data, err := lifecycle.DataOf(k.Record)
		if err != nil || data.Environment == nil {
			continue
		}
		var values map[string]string
		if m.opt.Secrets != nil && len(data.Environment.Secrets) > 0 {
			all, err := m.opt.Secrets(k.Record.Deployment)
			if err != nil {
				p.unsaid = append(p.unsaid, fmt.Sprintf("%s: the values of its passwords can't be read: %v", k.Name, err))
			}
			values = all[k.Record.System]
		}
		for _, q := range data.Environment.Document.Properties {
			value := q.Value
			if slices.Contains(data.Environment.Secrets, q.Key) {
				value = values[q.Key]
				if _, given := m.opt.Properties[q.Key]; value == "" && !given {
					p.unsaid = append(p.unsaid, fmt.Sprintf("%s: the value of the password %s is not known on this machine: --property sets it", k.Name, q.Key))
				}
			}
			if value != "" {
				told[q.Key] = value
			}
		}
	}
	values := map[string]string{}
	doc.Envelope().Content.Walk(func(c *ovf.Content) {
		for _, product := range c.Products {
			for _, q := range product.Properties {
				if value, ok := told[q.FullKey]; ok && q.UserConfigurable {
					values[q.FullKey] = value
				}
			}
		}
	})
	for key, value := range m.opt.Properties {
		values[key] = value
	}
	return values
}

// acceptances are the licences that were accepted for the machines.
func acceptances(kept []*hypervisor.Kept) []plan.Acceptance {
	var all []plan.Acceptance
	for _, k := range kept {
		if data, err := lifecycle.DataOf(k.Record); err == nil {
			for _, a := range data.Accepted {
				all = append(all, plan.Acceptance{System: k.Record.System, Acceptance: a})
			}
		}
	}
	return all
}

// probes say how the machines' guests have been asked whether they are ready.
func probes(kept []*hypervisor.Kept) map[string]lifecycle.Probe {
	all := map[string]lifecycle.Probe{}
	for _, k := range kept {
		if data, err := lifecycle.DataOf(k.Record); err == nil && data.Start.Ready != (lifecycle.Probe{}) {
			all[k.Record.System] = data.Start.Ready
		}
	}
	return all
}

// inDescriptor is where in a descriptor a device stands.
var inDescriptor = regexp.MustCompile(` \(InstanceID [^()]*\)| \(vmw:Config [^()]*\)`)

// plainly takes out of messages what they say of a descriptor: nobody has it.
func (m *Migration) plainly(err error) error {
	var unfit *hypervisor.UnfitError
	if !errors.As(err, &unfit) {
		return err
	}
	out := &hypervisor.UnfitError{Target: unfit.Target}
	for _, r := range unfit.Reasons {
		r.Subject, r.Text = inDescriptor.ReplaceAllString(r.Subject, ""), inDescriptor.ReplaceAllString(r.Text, "")
		out.Reasons = append(out.Reasons, r)
	}
	return out
}

func plainNotes(notes []deploy.Note) []deploy.Note {
	var out []deploy.Note
	for _, n := range notes {
		if strings.HasSuffix(n.Text, ": the descriptor says so (vmw:Config firmware)") {
			continue // as the machine was
		}
		n.Subject, n.Text = inDescriptor.ReplaceAllString(n.Subject, ""), inDescriptor.ReplaceAllString(n.Text, "")
		out = append(out, n)
	}
	return out
}
