package descriptor

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ovation-project/ovation/appliance/chunkdigest"
	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/internal/xmldoc"
	"github.com/ovation-project/ovation/ovf"
)

// FormatName gives the short name of a disk format by its URI, such as qcow2;
// ok is false for a URI that is not known.
type FormatName func(uri string) (name string, ok bool)

// ReadOptions say how a descriptor becomes a specification.
type ReadOptions struct {
	// Source gives what a specification has as the source of a file of the
	// package; nil is the file's name.
	Source func(f *ovf.File) string
	// KeysOnly takes hardware over by its keys, so that it can be shaped,
	// even where they do not say all of it. What they do not say is lost.
	KeysOnly bool
}

// Report says how far a specification says what the descriptor does.
type Report struct {
	// Raw are the elements that are taken over as XML, since there are no
	// keys for all that they say.
	Raw []string
	// Lost is what the specification does not say, with its place.
	Lost []string
}

// Read turns a descriptor into the specification that gives it again. What
// there is no key for is taken over as XML. Descriptors of OVF 0.9 become OVF
// 1.x, whose elements have other names: XML of theirs cannot be taken over, and
// is in the report.
func Read(doc *ovf.Document, opt ReadOptions) (*spec.Appliance, *Report, error) {
	env := doc.Envelope()
	root := env.Element()
	r := &reader{env: env, opt: opt, report: &Report{}, old: env.Version == ovf.V09 || root.Space != ovf.NS1 && root.Space != ovf.NS2, major: 1}
	if opt.Source == nil {
		r.opt.Source = func(f *ovf.File) string { return f.Href }
	}
	a := &spec.Appliance{Language: env.Lang}
	switch env.Version {
	case ovf.V10, ovf.V11, ovf.V20, ovf.V21:
		a.Version = string(env.Version)
	case ovf.V1:
		a.Version = "1"
	case ovf.V2:
		a.Version = "2"
	}
	if root.Space == ovf.NS2 {
		r.major = 2
	} else if !strings.HasPrefix(a.Version, "1") {
		a.Version = "1"
	}
	r.prefixes(a, root)
	r.envelope(a)
	if env.Content == nil {
		return nil, r.report, fmt.Errorf("%w: the descriptor has no virtual system and no collection", ovf.ErrNotOVF)
	}
	for _, c := range env.Others {
		r.lost(c.Node, "a second "+c.Kind.String())
	}
	c := r.content(env.Content)
	if env.Content.Kind == ovf.VirtualSystemCollection {
		a.Collection = c
	} else {
		a.Machine = c
	}
	return a, r.report, nil
}

func (r *reader) envelope(a *spec.Appliance) {
	owner := map[string]*ovf.Disk{}
	for _, d := range r.env.Disks {
		if owner[d.FileRef] == nil {
			owner[d.FileRef] = d
		}
	}
	inDisk := map[string]*ovf.File{}
	for _, f := range r.env.References {
		if d := owner[f.ID]; d != nil && f.ID != "" && inDisk[f.ID] == nil && r.whole(f.Node, "File "+f.ID, &[]spec.RawXML{}, func(w *renderer) (*element, error) {
			return reference(File{ID: f.ID, Href: f.Href, Size: f.Size, Compression: f.Compression, ChunkSize: f.ChunkSize}), nil
		}) {
			inDisk[f.ID] = f
			continue
		}
		if chunkdigest.Is(f) {
			a.ChunkDigests = true
			continue
		}
		a.Files = append(a.Files, r.file(f))
	}
	for _, s := range r.env.Sections {
		r.envelopeSection(a, s, inDisk, owner)
	}
	for _, b := range r.env.Bundles {
		l := spec.Language{Language: b.Lang, File: b.FileRef}
		for _, e := range b.Element().Children {
			m := spec.MsgEntry{Text: strings.TrimSpace(e.Text())}
			for i := range e.Attrs {
				switch at := &e.Attrs[i]; at.Local {
				case "msgid":
					m.ID = at.Value
				case "fileRef":
					m.File = at.Value
				}
			}
			l.Messages = append(l.Messages, m)
		}
		a.Languages = append(a.Languages, l)
	}
}

func (r *reader) file(f *ovf.File) spec.File {
	x := spec.File{ID: f.ID, Source: r.opt.Source(f), Name: f.Href, Compression: f.Compression, Stored: f.Compression != "" && f.Compression != "identity", Attributes: r.foreign(f.Element(), "id", "href", "size", "compression", "chunkSize")}
	if f.ChunkSize > 0 {
		x.ChunkSize = spec.Size(f.ChunkSize)
	}
	if strings.Contains(f.Href, "://") {
		x.Source = ""
		if f.Size > 0 {
			x.Size = spec.Size(f.Size)
		}
	}
	if x.Source == x.Name {
		x.Source = ""
	}
	if !r.said(f.Node, func(w *renderer) (*element, error) {
		return reference(File{ID: f.ID, Href: f.Href, Size: f.Size, Compression: f.Compression, ChunkSize: f.ChunkSize, Attributes: x.Attributes}), nil
	}) {
		r.lost(f.Node, "some of what file "+f.ID+" says")
	}
	return x
}

func (r *reader) envelopeSection(a *spec.Appliance, s *ovf.Section, inDisk map[string]*ovf.File, owner map[string]*ovf.Disk) {
	e := s.Element()
	kind := s.Kind
	if !s.Known {
		kind = ""
	}
	name := e.Name()
	switch kind {
	case ovf.DiskSection, ovf.SharedDiskSection:
		info := &a.Infos.Disks
		if kind == ovf.SharedDiskSection {
			info = &a.Infos.SharedDisks
		}
		*info = message(s.Info)
		before := len(a.Disks)
		for _, d := range r.env.Disks {
			if d.Element().Parent == e {
				a.Disks = append(a.Disks, r.disk(d, inDisk, owner))
			}
		}
		if len(a.Disks) == before {
			*info = spec.Text{}
			r.section(s.Node, name, &a.XML)
			return
		}
		more, shared := &a.DiskXML, kind == ovf.SharedDiskSection
		if shared {
			more = &a.SharedXML
		}
		if others := r.others(e, "Info", "Disk", "SharedDisk"); others.Text != "" {
			more.Text = strings.TrimSpace(more.Text + "\n" + others.Text)
		}
		if !r.said(s.Node, func(w *renderer) (*element, error) { return w.diskSection(a, a.Disks[before:], shared) }) {
			r.lost(s.Node, "some of what "+name+" says")
		}
	case ovf.NetworkSection:
		before := len(a.Networks)
		a.Infos.Networks = message(s.Info)
		for _, n := range r.env.Networks {
			if n.Element().Parent == e {
				x := spec.Network{Name: n.Name, Description: message(n.Description)}
				x.XML = r.others(n.Element(), "Description")
				a.Networks = append(a.Networks, x)
			}
		}
		if !r.whole(s.Node, name, &a.XML, func(w *renderer) (*element, error) {
			return w.networks(a.Infos.Networks, a.Networks[before:])
		}) {
			a.Networks, a.Infos.Networks = a.Networks[:before], spec.Text{}
		}
	case ovf.DeploymentOptionSection:
		info, options := message(s.Info), []spec.Option{}
		for _, o := range r.env.Options {
			if o.Element().Parent == e {
				options = append(options, spec.Option{ID: o.ID, Label: message(o.Label), Description: message(o.Description), Default: o.Default})
			}
		}
		if r.whole(s.Node, name, &a.XML, func(w *renderer) (*element, error) { return w.deploymentOptions(info, options) }) {
			a.Infos.Options, a.Options = info, append(a.Options, options...)
		}
	case ovf.PlacementGroupSection:
		for _, g := range r.env.PlacementGroups {
			if g.Element() != e {
				continue
			}
			group := spec.Group{ID: g.ID, Policy: g.Policy, Description: message(g.Description), Info: message(s.Info)}
			if r.whole(s.Node, name, &a.XML, func(w *renderer) (*element, error) { return w.group(&group) }) {
				a.Groups = append(a.Groups, group)
			}
		}
	default:
		r.section(s.Node, name, &a.XML)
	}
}

func (r *reader) disk(d *ovf.Disk, inDisk map[string]*ovf.File, owner map[string]*ovf.Disk) spec.Disk {
	x := spec.Disk{
		ID: d.ID, Capacity: d.Capacity, Units: d.CapacityUnits, Parent: d.ParentRef, Shared: d.Shared, FileID: d.FileRef,
		FormatURI: d.Format, Attributes: r.foreign(d.Element(), "diskId", "fileRef", "capacity", "capacityAllocationUnits", "populatedSize", "format", "parentRef"),
		XML: r.others(d.Element()),
	}
	if n, err := strconv.ParseInt(d.Capacity, 10, 64); err == nil && d.CapacityUnits == "" && strconv.FormatInt(n, 10) == d.Capacity {
		x.Capacity = spec.Size(n).String()
	}
	if d.PopulatedSize >= 0 {
		n := spec.Size(d.PopulatedSize)
		x.Populated = &n
	}
	if f := inDisk[d.FileRef]; f != nil && owner[d.FileRef] == d {
		x.Source, x.File, x.Format, x.Compression = r.opt.Source(f), f.Href, "keep", f.Compression
		if f.ChunkSize > 0 {
			x.ChunkSize = spec.Size(f.ChunkSize)
		}
	}
	return x
}

func (r *reader) content(c *ovf.Content) *spec.Content {
	x := &spec.Content{ID: c.ID, Info: message(c.Info), Name: message(c.Name)}
	products, eulas, hardware := indexed(c.Products), indexed(c.EULAs), indexed(c.Hardware)
	for _, s := range c.Sections {
		e := s.Element()
		what := e.Name()
		kind := s.Kind
		if !s.Known {
			kind = ""
		}
		write := func(render func(*renderer) (*element, error)) bool { return r.whole(s.Node, what, &x.XML, render) }
		plain := func(f func(*renderer) *element) func(*renderer) (*element, error) {
			return func(w *renderer) (*element, error) { return f(w), nil }
		}
		switch {
		case kind == ovf.ProductSection:
			p := r.product(products[e])
			if write(func(w *renderer) (*element, error) { return w.product(&p) }) {
				x.Products = append(x.Products, p)
			}
		case kind == ovf.EulaSection:
			u := spec.EULA{Info: message(s.Info), License: message(eulas[e].License), Required: required(s.Required)}
			if write(func(w *renderer) (*element, error) { return w.eula(&u) }) {
				x.EULAs = append(x.EULAs, u)
			}
		case kind == ovf.AnnotationSection:
			n := spec.Note{Info: message(s.Info), Required: required(s.Required)}
			for _, k := range e.Children {
				if k.Local == "Annotation" {
					n.Text = spec.Text{Text: strings.TrimSpace(k.Text()), ID: attribute(k, "msgid")}
				}
			}
			if write(func(w *renderer) (*element, error) { return w.note(&n) }) {
				x.Annotations = append(x.Annotations, n)
			}
		case kind == ovf.OperatingSystemSection && x.OS == nil && c.OS != nil && c.OS.ID >= 0:
			o := spec.OperatingSystem{
				ID: c.OS.ID, Version: c.OS.Version, Info: message(s.Info), Description: message(c.OS.Description),
				VMware: c.OS.VMwareType, VirtualBox: c.OS.VBoxType, Required: required(s.Required),
			}
			if write(plain(func(w *renderer) *element { return w.operatingSystem(&o) })) {
				x.OS = &o
			}
		case kind == ovf.InstallSection && x.Install == nil:
			i := spec.Install{StopDelay: c.Install.InitialBootStopDelay, Info: message(s.Info), Required: required(s.Required)}
			if write(plain(func(w *renderer) *element { return w.install(&i) })) {
				x.Install = &i
			}
		case kind == ovf.VirtualHardwareSection:
			h := r.hardware(hardware[e])
			if r.opt.KeysOnly && !r.said(s.Node, func(w *renderer) (*element, error) { return w.hardware(x, &h) }) {
				r.lost(s.Node, "some of what "+what+" says has no key, and")
				x.Hardware = append(x.Hardware, h)
			} else if write(func(w *renderer) (*element, error) { return w.hardware(x, &h) }) {
				x.Hardware = append(x.Hardware, h)
			}
		case kind == ovf.ResourceAllocationSection && x.Resources == nil:
			res := spec.Resources{Info: message(s.Info), Required: required(s.Required)}
			for _, i := range c.Resources {
				if i.Element().Parent == e {
					res.Devices = append(res.Devices, r.device(i))
				}
			}
			if write(func(w *renderer) (*element, error) { return w.resources(&res) }) {
				x.Resources = &res
			}
		case kind == ovf.StartupSection && x.Startup == nil:
			u := r.startup(c, s)
			if write(plain(func(w *renderer) *element { return w.startup(&u) })) {
				x.Startup = &u
			}
		case kind == ovf.EnvironmentFilesSection && x.EnvFiles == nil:
			f := spec.EnvironmentFiles{Info: message(s.Info), Required: required(s.Required)}
			for _, k := range c.EnvironmentFiles {
				f.Files = append(f.Files, spec.EnvFile{File: k.FileRef, Path: k.Path})
			}
			if write(plain(func(w *renderer) *element { return w.envFiles(&f) })) {
				x.EnvFiles = &f
			}
		case kind == ovf.BootDeviceSection && x.Boot == nil:
			b := spec.Boot{Info: message(s.Info), Required: required(s.Required)}
			for _, k := range c.BootDevices {
				b.Orders = append(b.Orders, spec.BootOrder{ID: k.InstanceID, Caption: k.Caption, Devices: k.Settings})
			}
			if write(plain(func(w *renderer) *element { return w.boot(&b) })) {
				x.Boot = &b
			}
		case kind == ovf.ScaleOutSection:
			i := slices.IndexFunc(c.ScaleOut, func(o *ovf.ScaleOut) bool { return o.Element() == e })
			o := c.ScaleOut[i]
			out := spec.ScaleOut{ID: o.ID, Info: message(s.Info), Description: message(o.Description), Required: required(s.Required), Min: o.Min, Max: o.Max, Default: o.Default}
			if write(func(w *renderer) (*element, error) { return w.scaleOut(&out) }) {
				x.ScaleOut = append(x.ScaleOut, out)
			}
		case kind == ovf.PlacementSection:
			p := spec.Placement{Group: attribute(e, "group"), Info: message(s.Info), Required: required(s.Required)}
			if write(plain(func(w *renderer) *element {
				return w.section("PlacementSection", p.Info, "", p.Required).attr("ovf:group", p.Group)
			})) {
				x.Placement = append(x.Placement, p)
			}
		case s.Known && s.Space == ovf.NSVMware && c.IPAssignment != nil && c.IPAssignment.Element() == e:
			ip := spec.IPAssignment{Protocols: c.IPAssignment.Protocols, Schemes: c.IPAssignment.Schemes, Info: message(s.Info), Required: required(s.Required)}
			if write(plain(func(w *renderer) *element { return w.ip(&ip) })) {
				if ip.Required == nil {
					yes := true
					ip.Required = &yes
				}
				x.IP = &ip
			}
		default:
			r.section(s.Node, what, &x.XML)
		}
	}
	if r.opt.KeysOnly && c.Machine != nil && strings.HasPrefix(c.Machine.Firmware, "EFI") {
		// Nobody but VirtualBox reads what it says of the firmware.
		for i := range x.Hardware {
			h := &x.Hardware[i]
			h.Firmware = cmp.Or(h.Firmware, "efi")
			if c.Machine.SecureBoot && h.SecureBoot == nil {
				h.SecureBoot = &c.Machine.SecureBoot
			}
		}
	}
	for _, child := range c.Children {
		inner := r.content(child)
		if child.Kind == ovf.VirtualSystemCollection {
			x.Contents = append(x.Contents, spec.Member{Collection: inner})
		} else {
			x.Contents = append(x.Contents, spec.Member{Machine: inner})
		}
	}
	return x
}

// indexed gives values by the element that they were read from.
func indexed[T interface{ Element() *xmldoc.Element }](list []T) map[*xmldoc.Element]T {
	m := make(map[*xmldoc.Element]T, len(list))
	for _, x := range list {
		m[x.Element()] = x
	}
	return m
}

func attribute(e *xmldoc.Element, local string) string {
	for i := range e.Attrs {
		if e.Attrs[i].Local == local {
			return e.Attrs[i].Value
		}
	}
	return ""
}

func (r *reader) product(p *ovf.Product) spec.Product {
	x := spec.Product{
		Class: p.Class, Instance: p.Instance, Required: required(p.Required), Info: message(p.Info), Product: message(p.Product), Vendor: message(p.Vendor),
		Version: p.Version, FullVersion: p.FullVersion, ProductURL: p.ProductURL, VendorURL: p.VendorURL, AppURL: p.AppURL,
		Attributes: r.foreign(p.Element(), "class", "instance"),
	}
	for _, i := range p.Icons {
		x.Icons = append(x.Icons, spec.Icon{File: i.FileRef, Type: i.MimeType, Width: i.Width, Height: i.Height})
	}
	for _, q := range p.Properties {
		y := spec.Property{
			Key: q.Key, Type: q.Type, Options: q.Configurations, UserConfigurable: q.UserConfigurable,
			Password:   q.Password && attribute(q.Element(), "password") != "",
			Qualifiers: q.Qualifiers, VMware: q.VMwareQualifiers, Label: message(q.Label), Description: message(q.Description), Category: message(q.Category),
			Attributes: r.foreign(q.Element(), "key", "type", "value", "userConfigurable", "password", "qualifiers", "vmw:qualifiers"),
		}
		if q.HasValue {
			y.Default = &q.Value
		}
		for _, v := range q.Values {
			y.Values = append(y.Values, spec.PerValue{Option: v.Option, Value: v.Value})
		}
		x.Properties = append(x.Properties, y)
	}
	x.XML = r.others(p.Element(), "Info", "Product", "Vendor", "Version", "FullVersion", "ProductUrl", "VendorUrl", "AppUrl", "Icon", "Category", "Property")
	return x
}

func (r *reader) startup(c *ovf.Content, s *ovf.Section) spec.Startup {
	u := spec.Startup{Info: message(s.Info), Required: required(s.Required)}
	for _, i := range c.Startup {
		e := i.Element()
		if e.Parent != s.Element() {
			continue
		}
		x := spec.StartupItem{ID: i.ID, Order: i.Order, StartAction: i.StartAction, StopAction: i.StopAction,
			Attributes: r.foreign(e, "id", "order", "startDelay", "waitingForGuest", "startAction", "stopDelay", "stopAction")}
		if attribute(e, "startDelay") != "" {
			x.StartDelay = &i.StartDelay
		}
		if attribute(e, "stopDelay") != "" {
			x.StopDelay = &i.StopDelay
		}
		if i.WaitingForGuest {
			x.WaitForGuest = &i.WaitingForGuest
		}
		u.Items = append(u.Items, x)
	}
	u.XML = r.others(s.Element(), "Info", "Item")
	return u
}
