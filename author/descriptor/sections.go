package descriptor

import (
	"fmt"
	"strconv"

	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/internal/term"
)

func parseCapacity(s string) (int64, error) { return term.ParseSize(s) }

func optionalInt(n *int) string {
	if n == nil {
		return ""
	}
	return strconv.Itoa(*n)
}

func positive(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// sections writes what has no hardware in it.
func (r *renderer) sections(e *element, c *spec.Content) error {
	if c.OS != nil {
		e.add(r.operatingSystem(c.OS))
	}
	if c.Install != nil {
		e.add(r.install(c.Install))
	}
	for i := range c.Products {
		s, err := r.product(&c.Products[i])
		if err != nil {
			return err
		}
		e.add(s)
	}
	for i := range c.EULAs {
		s, err := r.eula(&c.EULAs[i])
		if err != nil {
			return err
		}
		e.add(s)
	}
	for i := range c.Annotations {
		s, err := r.note(&c.Annotations[i])
		if err != nil {
			return err
		}
		e.add(s)
	}
	if c.Startup != nil {
		e.add(r.startup(c.Startup))
	}
	if c.EnvFiles != nil {
		e.add(r.envFiles(c.EnvFiles))
	}
	if c.Boot != nil {
		e.add(r.boot(c.Boot))
	}
	for i := range c.ScaleOut {
		s, err := r.scaleOut(&c.ScaleOut[i])
		if err != nil {
			return err
		}
		e.add(s)
	}
	for i := range c.Placement {
		p := &c.Placement[i]
		e.add(r.section("PlacementSection", p.Info, "The placement group of this machine", p.Required).attr("ovf:group", p.Group))
	}
	if c.IP != nil {
		e.add(r.ip(c.IP))
	}
	return nil
}

func (r *renderer) operatingSystem(o *spec.OperatingSystem) *element {
	s := r.section("OperatingSystemSection", o.Info, "The guest operating system", o.Required)
	s.attr("ovf:id", strconv.Itoa(o.ID)).attr("ovf:version", o.Version).attr("vmw:osType", o.VMware)
	_ = r.message(s, "Description", o.Description, "")
	if o.VirtualBox != "" {
		s.kids = append(s.kids, &element{name: "vbox:OSType", attrs: [][2]string{{"ovf:required", "false"}}, text: o.VirtualBox})
	}
	return s
}

func (r *renderer) install(i *spec.Install) *element {
	s := r.section("InstallSection", i.Info, "The guest installs itself when it is first started", i.Required)
	return s.attr("ovf:initialBootStopDelay", positive(i.StopDelay))
}

func (r *renderer) note(n *spec.Note) (*element, error) {
	s := r.section("AnnotationSection", n.Info, "A note on this machine", n.Required)
	return s, r.message(s, "Annotation", n.Text, "")
}

func (r *renderer) eula(u *spec.EULA) (*element, error) {
	s := r.section("EulaSection", u.Info, "The licence", u.Required)
	return s, r.message(s, "License", u.License, "")
}

func (r *renderer) product(p *spec.Product) (*element, error) {
	s := r.section("ProductSection", p.Info, "What is in this machine, and how it is set up", p.Required)
	s.attr("ovf:class", p.Class).attr("ovf:instance", p.Instance).further(p.Attributes)
	if err := r.message(s, "Product", p.Product, ""); err != nil {
		return nil, err
	}
	if err := r.message(s, "Vendor", p.Vendor, ""); err != nil {
		return nil, err
	}
	s.leaf("Version", p.Version).leaf("FullVersion", p.FullVersion)
	s.leaf("ProductUrl", p.ProductURL).leaf("VendorUrl", p.VendorURL).leaf("AppUrl", p.AppURL)
	for _, i := range p.Icons {
		s.add(el("Icon", "ovf:fileRef", i.File, "ovf:height", positive(i.Height), "ovf:width", positive(i.Width), "ovf:mimeType", i.Type))
	}
	var last spec.Text
	for i := range p.Properties {
		x := &p.Properties[i]
		if c := x.Category; !c.IsZero() && (c.Text != last.Text || c.ID != last.ID || c.File != last.File) {
			if err := r.message(s, "Category", c, ""); err != nil {
				return nil, err
			}
			last = c
		}
		e, err := r.property(x)
		if err != nil {
			return nil, err
		}
		s.add(e)
	}
	return s.rawXML(p.XML), nil
}

func (r *renderer) property(x *spec.Property) (*element, error) {
	typ := x.Type
	if typ == "" && !r.plain {
		typ = "string"
	}
	e := el("Property", "ovf:key", x.Key, "ovf:type", typ)
	if x.Default != nil {
		e.attrs = append(e.attrs, [2]string{"ovf:value", *x.Default})
	}
	if x.UserConfigurable {
		e.attr("ovf:userConfigurable", "true")
	}
	if x.Password {
		e.attr("ovf:password", "true")
	}
	e.attr("ovf:qualifiers", x.Qualifiers).attr("vmw:qualifiers", x.VMware)
	for i, o := range x.Options {
		if i == 0 {
			e.attrs = append(e.attrs, [2]string{"ovf:configuration", o})
		} else {
			e.attrs[len(e.attrs)-1][1] += " " + o
		}
	}
	e.further(x.Attributes)
	if err := r.message(e, "Label", x.Label, ""); err != nil {
		return nil, err
	}
	if err := r.message(e, "Description", x.Description, ""); err != nil {
		return nil, err
	}
	for _, v := range x.Values {
		value := el("Value")
		value.attrs = append(value.attrs, [2]string{"ovf:value", v.Value})
		e.add(value.attr("ovf:configuration", v.Option))
	}
	return e.rawXML(x.XML), nil
}

func (r *renderer) startup(u *spec.Startup) *element {
	s := r.section("StartupSection", u.Info, "The order in which the machines start and stop", u.Required)
	for _, i := range u.Items {
		s.add(el("Item", "ovf:id", i.ID, "ovf:order", strconv.Itoa(i.Order), "ovf:startDelay", optionalInt(i.StartDelay),
			"ovf:waitingForGuest", boolAttr(i.WaitForGuest), "ovf:startAction", i.StartAction,
			"ovf:stopDelay", optionalInt(i.StopDelay), "ovf:stopAction", i.StopAction).further(i.Attributes))
	}
	return s.rawXML(u.XML)
}

func (r *renderer) envFiles(f *spec.EnvironmentFiles) *element {
	s := r.section("EnvironmentFilesSection", f.Info, "Files for the guest", f.Required)
	for _, x := range f.Files {
		s.add(el("File", "ovf:fileRef", x.File, "ovf:path", x.Path))
	}
	return s
}

func (r *renderer) boot(b *spec.Boot) *element {
	s := r.section("BootDeviceSection", b.Info, "Orders of devices to boot from", b.Required)
	for i, o := range b.Orders {
		id := o.ID
		if id == "" && !r.plain {
			id = fmt.Sprintf("boot%d", i+1)
		}
		e := el("cim:CIM_BootConfigSetting").leaf("cim:Caption", o.Caption).leaf("cim:InstanceID", id)
		for _, d := range o.Devices {
			e.add(el("cim:CIM_BootSourceSetting").leaf("cim:InstanceID", d))
		}
		s.add(e)
	}
	return s
}

func (r *renderer) scaleOut(o *spec.ScaleOut) (*element, error) {
	s := r.section("ScaleOutSection", o.Info, "How many of this machine there may be", o.Required)
	s.attr("ovf:id", o.ID)
	if err := r.message(s, "Description", o.Description, ""); err != nil {
		return nil, err
	}
	count := el("InstanceCount", "ovf:default", o.Default, "ovf:minimum", o.Min, "ovf:maximum", o.Max)
	if len(count.attrs) > 0 {
		s.add(count)
	}
	return s, nil
}

func (r *renderer) ip(p *spec.IPAssignment) *element {
	required := p.Required
	if required == nil && !r.plain {
		no := false
		required = &no
	}
	s := r.section("vmw:IpAssignmentSection", p.Info, "How addresses may be assigned", required)
	return s.attr("vmw:protocols", p.Protocols).attr("vmw:schemes", p.Schemes)
}

func (r *renderer) resources(x *spec.Resources) (*element, error) {
	s := r.section("ResourceAllocationSection", x.Info, "What the collection may take together", x.Required)
	expanded, err := Expand(&spec.Hardware{Devices: x.Devices}, r.models)
	if err != nil {
		return nil, err
	}
	for i := range expanded {
		e, err := r.item(&expanded[i])
		if err != nil {
			return nil, err
		}
		s.add(e)
	}
	return s, nil
}
