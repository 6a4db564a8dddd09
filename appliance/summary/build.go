package summary

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/manifest"
	"github.com/ovation-project/ovation/ovf"
)

// Options choose what of a package is told.
type Options struct {
	// Option is the deployment option; "" is the default one.
	Option string
	// Locale is the language of the texts.
	Locale string
}

// Of looks into a package. It reads nothing of the files but, for a package in
// several languages, the message bundles.
func Of(ctx context.Context, p *appliance.Package, opt Options) (*Summary, error) {
	env := p.Document().Envelope()
	files := p.Unverified()
	defer files.Close()
	b := &builder{p: p, env: env, s: &Summary{
		APIVersion: APIVersion, Locator: p.Locator(), Kind: string(p.Kind()), Descriptor: p.DescriptorName(),
		OVFVersion: string(env.Version), Notes: p.Notes(),
	}}
	var err error
	b.r, err = ovf.Resolve(env, ovf.ResolveOptions{Option: opt.Option, Locale: opt.Locale, Bundle: func(href string) ([]byte, error) {
		return readBundle(ctx, files, href)
	}})
	if err != nil {
		var all *ovf.ResolveError
		if !errors.As(err, &all) {
			return nil, err
		}
		for _, problem := range all.Problems {
			if problem.Pos == (ovf.Pos{}) {
				return nil, err // what was asked for is wrong, not the descriptor
			}
			b.s.Problems = append(b.s.Problems, problem.String())
		}
	}
	b.whole()
	b.files()
	b.disks()
	b.s.Content = b.content(env.Content)
	return b.s, nil
}

func readBundle(ctx context.Context, files *appliance.Files, href string) ([]byte, error) {
	const most = 4 << 20
	f, err := files.OpenFile(ctx, href)
	if err != nil {
		return nil, err
	}
	if f.Size() > most {
		return nil, fmt.Errorf("%s has %d bytes, over the limit of %d for texts", href, f.Size(), most)
	}
	return io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
}

type builder struct {
	s   *Summary
	p   *appliance.Package
	env *ovf.Envelope
	r   *ovf.Resolved // nil where the descriptor cannot be resolved
}

// text gives a message in the language that was asked for.
func (b *builder) text(m ovf.Message) string {
	if b.r == nil {
		return m.Text
	}
	return b.r.Text(m)
}

// whole tells what is of the whole package.
func (b *builder) whole() {
	s := b.s
	s.Manifest, _ = b.p.ManifestBytes()
	if m := b.p.Manifest(); m != nil {
		for _, d := range m.Digests {
			if name := manifest.Name(d.Hash); !slices.Contains(s.Algorithms, name) {
				s.Algorithms = append(s.Algorithms, name)
			}
		}
	}
	s.Certificate, _ = b.p.Certificate()
	b.env.Content.Walk(func(c *ovf.Content) {
		for _, p := range c.Products {
			if p.Product.Text == "" && p.Vendor.Text == "" && p.Version == "" {
				continue
			}
			s.Products = append(s.Products, Product{
				System: c.ID, Product: b.text(p.Product), Vendor: b.text(p.Vendor), Version: p.Version,
				FullVersion: p.FullVersion, ProductURL: p.ProductURL, VendorURL: p.VendorURL,
			})
		}
		for _, e := range c.EULAs {
			s.EULAs = append(s.EULAs, EULA{System: c.ID, Text: b.text(e.License)})
		}
	})
	for _, n := range b.env.Networks {
		s.Networks = append(s.Networks, Network{Name: n.Name, Description: b.text(n.Description)})
	}
	for _, o := range b.env.Options {
		s.Options = append(s.Options, Option{
			ID: o.ID, Label: b.text(o.Label), Description: b.text(o.Description), Default: o.Default,
			Chosen: b.r != nil && b.r.Option == o,
		})
	}
	if b.r == nil {
		return
	}
	for _, n := range b.r.Notes {
		s.Notes = append(s.Notes, n.String())
	}
	for _, u := range b.r.Unknown {
		s.Notes = append(s.Notes, fmt.Sprintf("line %s: the section %s is required and not understood here", u.Pos(), u.Kind))
	}
}

func (b *builder) files() {
	for _, f := range b.env.References {
		out := File{ID: f.ID, Href: f.Href, Size: f.Size, Compression: f.Compression, ChunkSize: max(0, f.ChunkSize)}
		if stored := b.p.StoredSize(f.Href); stored >= 0 {
			out.Size = stored
		} else if b.p.Complete() {
			out.Missing, out.Size = true, -1
		}
		b.s.Files = append(b.s.Files, out)
	}
}

func (b *builder) disks() {
	byID := make(map[string]File, len(b.s.Files))
	for _, f := range b.s.Files {
		if _, twice := byID[f.ID]; !twice {
			byID[f.ID] = f
		}
	}
	for _, d := range b.env.Disks {
		out := Disk{ID: d.ID, Capacity: -1, FileSize: -1, PopulatedSize: d.PopulatedSize, Format: d.Format, Parent: d.ParentRef, Shared: d.Shared}
		if b.r != nil && b.r.Disks[d.ID] != nil {
			out.Capacity = b.r.Disks[d.ID].Capacity
		}
		if f, ok := byID[d.FileRef]; ok && d.FileRef != "" {
			out.Href, out.FileSize = f.Href, f.Size
		}
		b.s.Disks = append(b.s.Disks, out)
	}
}

func (b *builder) content(c *ovf.Content) *Content {
	if c == nil {
		return nil
	}
	out := &Content{Kind: c.Kind.String(), ID: c.ID, Name: b.text(c.Name), Info: b.text(c.Info)}
	var notes []string
	for _, a := range c.Annotations {
		notes = append(notes, b.text(a))
	}
	out.Annotation = strings.Join(notes, "\n")
	for _, p := range c.Products {
		for _, q := range p.Properties {
			out.Properties = append(out.Properties, b.property(c, q))
		}
	}
	for _, i := range c.Startup {
		out.Startup = append(out.Startup, Startup{ID: i.ID, Order: i.Order, StartDelay: i.StartDelay, WaitingForGuest: i.WaitingForGuest})
	}
	for _, child := range c.Children {
		out.Children = append(out.Children, b.content(child))
	}
	if c.Kind == ovf.VirtualSystem {
		out.System = b.system(c)
	}
	return out
}

func (b *builder) property(c *ovf.Content, q *ovf.Property) Property {
	out := Property{
		Key: q.FullKey, Type: q.Type, Label: b.text(q.Label), Description: b.text(q.Description), Category: b.text(q.Category),
		Qualifiers: q.Qualifiers, Value: q.Value, HasValue: q.HasValue, UserConfigurable: q.UserConfigurable, Password: q.Password,
	}
	if b.r != nil {
		for _, v := range b.r.PropertiesOf(c) {
			if v.Property == q {
				out.Value, out.HasValue = v.Value, v.Set
			}
		}
	}
	if out.Password {
		out.Value = ""
	}
	return out
}

func (b *builder) system(c *ovf.Content) *System {
	out := &System{MemoryBytes: -1}
	if c.OS != nil {
		out.OS, out.OSID = b.text(c.OS.Description), max(0, c.OS.ID)
		if out.OS == "" {
			out.OS = c.OS.VMwareType
		}
	}
	if b.r == nil {
		return out
	}
	for _, s := range b.r.Systems {
		if s.Content != c {
			continue
		}
		out.CPUs, out.CoresPerSocket, out.MemoryBytes = s.CPUs, s.CoresPerSocket, s.MemoryBytes
		if s.Hardware != nil {
			out.Families, out.Transports = s.Hardware.SystemTypes, s.Hardware.Transports
			out.Firmware, _ = s.Hardware.Config("firmware")
		}
		if out.Firmware == "" && c.Machine != nil {
			out.Firmware = strings.ToLower(c.Machine.Firmware)
		}
		for _, i := range s.Items {
			out.Items = append(out.Items, Item{
				InstanceID: i.InstanceID, Name: i.ElementName, ResourceType: int(i.ResourceType), Kind: i.ResourceType.String(),
				SubTypes: i.SubTypes, Quantity: max(0, i.Quantity), Parent: i.Parent, Address: i.AddressOnParent,
				Connections: i.Connections, Resources: i.HostResources, Required: i.Required,
			})
		}
	}
	return out
}
