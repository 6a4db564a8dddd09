package apply

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/ovation-project/ovation/deploy/environment"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/ovf"
)

// Content is what gives the content of a package: stage.Content, or an
// arrival.Arrival for what comes once.
type Content interface {
	CopyDisk(ctx context.Context, d *ovf.ResolvedDisk, create func(context.Context, convert.Source) (disk.Writer, error)) error
	CopyFile(ctx context.Context, f *ovf.File, to io.Writer) error
}

// PackageSource is the Source of the plan that was made of a resolved descriptor
// for a target. The environment documents have the secrets in them that the
// descriptor was resolved with.
func PackageSource(p *plan.Plan, r *ovf.Resolved, target *hypervisor.Capabilities, content Content) Source {
	return &packageSource{p, r, target, content}
}

// Contents are the disks and files of a package that filling the volumes of a plan
// takes, each as often as it does.
func Contents(p *plan.Plan, r *ovf.Resolved) (disks []*ovf.ResolvedDisk, files []*ovf.File) {
	for _, v := range p.Volumes {
		switch v.Content {
		case plan.Disk:
			if d := r.Disks[v.Disk]; d != nil {
				disks = append(disks, d)
			}
		case plan.File:
			if f := fileOf(r, v.File); f != nil {
				files = append(files, f)
			}
		}
	}
	return disks, files
}

func fileOf(r *ovf.Resolved, href string) *ovf.File {
	for _, f := range r.Envelope.References {
		if f.Href == href {
			return f
		}
	}
	return nil
}

type packageSource struct {
	plan     *plan.Plan
	resolved *ovf.Resolved
	target   *hypervisor.Capabilities
	content  Content
}

// CopyDisk finds the disk.
func (s *packageSource) CopyDisk(ctx context.Context, id string, create func(context.Context, convert.Source) (disk.Writer, error)) error {
	d := s.resolved.Disks[id]
	if d == nil {
		return fmt.Errorf("the package has no disk %q", id)
	}
	return s.content.CopyDisk(ctx, d, create)
}

// CopyFile finds the file.
func (s *packageSource) CopyFile(ctx context.Context, href string, to io.Writer) error {
	if f := fileOf(s.resolved, href); f != nil {
		return s.content.CopyFile(ctx, f, to)
	}
	return fmt.Errorf("the package has no file %q", href)
}

// Environment makes the image.
func (s *packageSource) Environment(_ context.Context, machine string) ([]byte, error) {
	m := s.plan.Machine(machine)
	if m == nil {
		return nil, fmt.Errorf("the plan has no machine %q", machine)
	}
	for _, system := range s.resolved.Systems {
		if system.ID == m.ID {
			return environment.Image(environment.Document(s.resolved, system, s.target, s.plan.Locale), time.Now())
		}
	}
	return nil, fmt.Errorf("the package has no virtual system %q", m.ID)
}
