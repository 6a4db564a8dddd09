package ovf

import (
	"strconv"
	"strings"

	"github.com/ovation-project/ovation/internal/xmldoc"
)

// reader turns elements into the typed view. It goes by namespaces, never by
// prefixes, and forgives what is found in the wild: attributes without a
// prefix, names in other spellings, a namespace that is nobody's.
type reader struct{ root string }

// own says whether a namespace is OVF's as far as this descriptor goes.
func (r *reader) own(space string) bool {
	switch space {
	case NS1, NS2, NS09, r.root, "":
		return true
	}
	return strings.HasPrefix(space, xmldoc.UndeclaredSpace+"ovf")
}

// attr gives an attribute of OVF's, with a prefix or without.
func (r *reader) attr(e *xmldoc.Element, name string) (string, bool) {
	for i := range e.Attrs {
		if a := &e.Attrs[i]; a.Local == name && r.own(a.Space) {
			return strings.TrimSpace(a.Value), true
		}
	}
	return "", false
}

func (r *reader) get(e *xmldoc.Element, name string) string {
	v, _ := r.attr(e, name)
	return v
}

// boolean reads an xs:boolean and gives otherwise for all else.
func (r *reader) boolean(e *xmldoc.Element, name string, otherwise bool) bool {
	switch r.get(e, name) {
	case "true", "1":
		return true
	case "false", "0":
		return false
	}
	return otherwise
}

// size reads a number of bytes; -1 is none.
func (r *reader) size(e *xmldoc.Element, name string) int64 {
	n, err := strconv.ParseInt(r.get(e, name), 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// number reads a small count, such as seconds; 0 where it is not one.
func (r *reader) number(e *xmldoc.Element, name string) int {
	n, err := strconv.ParseInt(r.get(e, name), 10, 32)
	if err != nil || n < 0 {
		return 0
	}
	return int(n)
}

func (r *reader) message(e *xmldoc.Element) Message {
	return Message{Text: strings.TrimSpace(e.Text()), MsgID: r.get(e, "msgid")}
}

// child gives an OVF element in e, nil where there is none.
func (r *reader) child(e *xmldoc.Element, name string) *xmldoc.Element {
	for _, c := range e.Children {
		if c.Local == name && r.own(c.Space) {
			return c
		}
	}
	return nil
}

func (r *reader) childMessage(e *xmldoc.Element, name string) Message {
	if c := r.child(e, name); c != nil {
		return r.message(c)
	}
	return Message{}
}

func readEnvelope(root *xmldoc.Element) *Envelope {
	r := &reader{root: root.Space}
	env := &Envelope{Node: Node{root}, Version: r.version(root)}
	env.Lang, _ = root.Attr(nsXML, "lang")
	for _, e := range root.Children {
		switch {
		case e.Local == "Strings" && (r.own(e.Space) || e.Space == nsStrings):
			env.Bundles = append(env.Bundles, r.bundle(e))
		case !r.own(e.Space):
			env.Sections = append(env.Sections, r.section(e))
		case e.Local == "References":
			env.References = append(env.References, r.references(e)...)
		case r.isContent(e):
			c := r.content(e)
			if env.Content == nil {
				env.Content = c
			} else {
				env.Others = append(env.Others, c)
			}
		default:
			s := r.section(e)
			env.Sections = append(env.Sections, s)
			r.envelopeSection(env, s)
		}
	}
	return env
}

func (r *reader) version(root *xmldoc.Element) Version {
	said := Version(r.get(root, "version"))
	switch root.Space {
	case NS09:
		return V09
	case NS1:
		if said == V10 || said == V11 {
			return said
		}
		return V1
	case NS2:
		if said == V20 || said == V21 {
			return said
		}
		return V2
	}
	switch said {
	case V09, V10, V11, V20, V21:
		return said
	}
	return VersionUnknown
}

// xsiType gives the name in xsi:type without prefix and "_Type", as 0.9 has
// it.
func xsiType(e *xmldoc.Element) (space, name string) {
	v, ok := e.Attr(nsXSI, "type")
	if !ok {
		return "", ""
	}
	prefix, local, found := strings.Cut(strings.TrimSpace(v), ":")
	if !found {
		prefix, local = "", prefix
	}
	space, _ = e.Lookup(prefix)
	return space, strings.TrimSuffix(local, "_Type")
}

func (r *reader) isContent(e *xmldoc.Element) bool {
	return e.Local == "VirtualSystem" || e.Local == "VirtualSystemCollection" || e.Local == "Content"
}

func (r *reader) section(e *xmldoc.Element) *Section {
	s := &Section{Node: Node{e}, Kind: SectionKind(e.Local), Space: e.Space, Required: true}
	if e.Local == "Section" && r.own(e.Space) {
		if space, name := xsiType(e); name != "" {
			s.Kind, s.Space = SectionKind(name), space
		}
	}
	s.Info = r.childMessage(e, "Info")
	s.Required = r.boolean(e, "required", true)
	s.Known = r.known(s)
	return s
}

// vendorSections are those that this package reads though the standard does
// not know them.
var vendorSections = map[[2]string]bool{
	{NSVMware, "IpAssignmentSection"}: true,
	{NSVBox, "Machine"}:               true,
}

var standardSections = map[SectionKind]bool{
	DiskSection: true, NetworkSection: true, ResourceAllocationSection: true, AnnotationSection: true,
	ProductSection: true, EulaSection: true, StartupSection: true, DeploymentOptionSection: true,
	OperatingSystemSection: true, InstallSection: true, VirtualHardwareSection: true,
	EnvironmentFilesSection: true, BootDeviceSection: true, SharedDiskSection: true, ScaleOutSection: true,
	PlacementGroupSection: true, PlacementSection: true, EncryptionSection: true,
}

func (r *reader) known(s *Section) bool {
	return r.own(s.Space) && standardSections[s.Kind] || vendorSections[[2]string{s.Space, string(s.Kind)}]
}

func (r *reader) references(e *xmldoc.Element) []*File {
	var files []*File
	for _, c := range e.Children {
		if c.Local != "File" || !r.own(c.Space) {
			continue
		}
		f := &File{Node: Node{c}, ID: r.get(c, "id"), Href: r.get(c, "href"), Size: r.size(c, "size"), Compression: r.get(c, "compression")}
		if _, ok := r.attr(c, "chunkSize"); ok {
			f.ChunkSize = r.size(c, "chunkSize")
		}
		files = append(files, f)
	}
	return files
}

func (r *reader) bundle(e *xmldoc.Element) *Bundle {
	b := &Bundle{Node: Node{e}, FileRef: r.get(e, "fileRef")}
	b.Lang, _ = e.Attr(nsXML, "lang")
	b.Messages, b.Files = r.messages(e)
	return b
}

// messages reads Msg elements: their texts, and the files that hold those
// which are not there.
func (r *reader) messages(e *xmldoc.Element) (texts, files map[string]string) {
	texts, files = map[string]string{}, map[string]string{}
	for _, c := range e.Children {
		if c.Local != "Msg" {
			continue
		}
		if id := r.get(c, "msgid"); id != "" {
			texts[id] = strings.TrimSpace(c.Text())
			if ref := r.get(c, "fileRef"); ref != "" {
				files[id] = ref
			}
		}
	}
	return texts, files
}

func (r *reader) envelopeSection(env *Envelope, s *Section) {
	if !r.own(s.Space) {
		return
	}
	e := s.elem
	switch s.Kind {
	case DiskSection, SharedDiskSection:
		for _, c := range e.Children {
			if c.Local != "Disk" && c.Local != "SharedDisk" || !r.own(c.Space) {
				continue
			}
			d := r.disk(c)
			if s.Kind == SharedDiskSection {
				d.Shared = true
				env.SharedDisks = append(env.SharedDisks, d)
			}
			env.Disks = append(env.Disks, d)
		}
	case NetworkSection:
		for _, c := range e.Children {
			if c.Local == "Network" && r.own(c.Space) {
				env.Networks = append(env.Networks, &Network{Node: Node{c}, Name: r.get(c, "name"), Description: r.childMessage(c, "Description")})
			}
		}
	case DeploymentOptionSection:
		for _, c := range e.Children {
			if c.Local == "Configuration" && r.own(c.Space) {
				env.Options = append(env.Options, &Option{
					Node: Node{c}, ID: r.get(c, "id"), Default: r.boolean(c, "default", false),
					Label: r.childMessage(c, "Label"), Description: r.childMessage(c, "Description"),
				})
			}
		}
	case PlacementGroupSection:
		env.PlacementGroups = append(env.PlacementGroups, &PlacementGroup{
			Node: Node{e}, ID: r.get(e, "id"), Policy: r.get(e, "policy"), Description: r.childMessage(e, "Description"),
		})
	}
}

func (r *reader) disk(e *xmldoc.Element) *Disk {
	return &Disk{
		Node: Node{e}, ID: r.get(e, "diskId"), FileRef: r.get(e, "fileRef"),
		Capacity: r.get(e, "capacity"), CapacityUnits: r.get(e, "capacityAllocationUnits"),
		PopulatedSize: r.size(e, "populatedSize"), Format: r.get(e, "format"), ParentRef: r.get(e, "parentRef"),
	}
}

func (r *reader) content(e *xmldoc.Element) *Content {
	c := &Content{Node: Node{e}, ID: r.get(e, "id")}
	kind := e.Local
	if kind == "Content" {
		_, kind = xsiType(e)
	}
	if kind == "VirtualSystemCollection" {
		c.Kind = VirtualSystemCollection
	}
	for _, e := range e.Children {
		switch {
		case !r.own(e.Space):
			s := r.section(e)
			c.Sections = append(c.Sections, s)
			r.vendorSection(c, s)
		case e.Local == "Info":
			c.Info = r.message(e)
		case e.Local == "Name":
			c.Name = r.message(e)
		case r.isContent(e):
			c.Children = append(c.Children, r.content(e))
		default:
			s := r.section(e)
			c.Sections = append(c.Sections, s)
			if r.own(s.Space) {
				r.contentSection(c, s)
			}
		}
	}
	return c
}

func (r *reader) contentSection(c *Content, s *Section) {
	e := s.elem
	switch s.Kind {
	case ProductSection:
		c.Products = append(c.Products, r.product(s))
	case EulaSection:
		c.EULAs = append(c.EULAs, &EULA{Node: s.Node, Info: s.Info, License: r.childMessage(e, "License"), Required: s.Required})
	case AnnotationSection:
		c.Annotations = append(c.Annotations, r.childMessage(e, "Annotation"))
	case OperatingSystemSection:
		if c.OS == nil {
			c.OS = r.operatingSystem(e)
		}
	case VirtualHardwareSection:
		c.Hardware = append(c.Hardware, r.hardware(s))
	case ResourceAllocationSection:
		for _, i := range e.Children {
			if r.isItem(i) {
				c.Resources = append(c.Resources, r.item(i))
			}
		}
	case StartupSection:
		for _, i := range e.Children {
			if i.Local == "Item" && r.own(i.Space) {
				c.Startup = append(c.Startup, &StartupItem{
					Node: Node{i}, ID: r.get(i, "id"), Order: r.number(i, "order"),
					StartDelay: r.number(i, "startDelay"), StopDelay: r.number(i, "stopDelay"),
					WaitingForGuest: r.boolean(i, "waitingForGuest", false),
					StartAction:     r.get(i, "startAction"), StopAction: r.get(i, "stopAction"),
				})
			}
		}
	case InstallSection:
		c.Install = &Install{Node: s.Node, InitialBootStopDelay: r.number(e, "initialBootStopDelay")}
	case EnvironmentFilesSection:
		for _, f := range e.Children {
			if f.Local == "File" && r.own(f.Space) {
				c.EnvironmentFiles = append(c.EnvironmentFiles, EnvironmentFile{FileRef: r.get(f, "fileRef"), Path: r.get(f, "path")})
			}
		}
	case BootDeviceSection:
		for _, b := range e.Children {
			if strings.HasSuffix(b.Local, "BootConfigSetting") {
				c.BootDevices = append(c.BootDevices, bootDevice(b))
			}
		}
	case ScaleOutSection:
		out := &ScaleOut{Node: s.Node, ID: r.get(e, "id"), Description: r.childMessage(e, "Description")}
		if n := r.child(e, "InstanceCount"); n != nil {
			out.Min, out.Max, out.Default = r.get(n, "minimum"), r.get(n, "maximum"), r.get(n, "default")
		}
		c.ScaleOut = append(c.ScaleOut, out)
	case PlacementSection:
		c.Placement = append(c.Placement, r.get(e, "group"))
	}
}

func bootDevice(e *xmldoc.Element) *BootDevice {
	b := &BootDevice{Node: Node{e}}
	e.Walk(func(c *xmldoc.Element) bool {
		switch {
		case c.Parent == e && c.Local == "Caption":
			b.Caption = strings.TrimSpace(c.Text())
		case c.Parent == e && c.Local == "InstanceID":
			b.InstanceID = strings.TrimSpace(c.Text())
		case c.Local == "InstanceID":
			b.Settings = append(b.Settings, strings.TrimSpace(c.Text()))
		}
		return true
	})
	return b
}

func (r *reader) vendorSection(c *Content, s *Section) {
	e := s.elem
	switch {
	case e.Is(NSVMware, "IpAssignmentSection"):
		ip := &IPAssignment{Node: s.Node}
		ip.Protocols, _ = e.Attr(NSVMware, "protocols")
		ip.Schemes, _ = e.Attr(NSVMware, "schemes")
		c.IPAssignment = ip
	case e.Is(NSVBox, "Machine"):
		c.Machine = vboxMachine(e)
	}
}

func vboxMachine(e *xmldoc.Element) *VBoxMachine {
	m := &VBoxMachine{Node: Node{e}}
	m.UUID, _ = e.Attr("", "uuid")
	m.UUID = strings.Trim(m.UUID, "{}")
	m.Name, _ = e.Attr("", "name")
	m.OSType, _ = e.Attr("", "OSType")
	m.StateFile, _ = e.Attr("", "stateFile")
	e.Walk(func(c *xmldoc.Element) bool {
		kind, _ := c.Attr("", "type")
		switch c.Local {
		case "Snapshot":
			return false // what the machine was, not what it is
		case "Firmware":
			m.Firmware = strings.ToUpper(kind)
		case "TrustedPlatformModule":
			if kind != "None" {
				m.TPM = kind
			}
		case "Chipset":
			m.Chipset = strings.ToUpper(kind)
		case "SecureBoot":
			on, _ := c.Attr("", "enabled")
			m.SecureBoot = on == "true"
		}
		return true
	})
	return m
}

func (r *reader) product(s *Section) *Product {
	e := s.elem
	p := &Product{Node: s.Node, Class: r.get(e, "class"), Instance: r.get(e, "instance"), Required: s.Required, Info: s.Info}
	var category Message
	for _, c := range e.Children {
		if !r.own(c.Space) {
			continue
		}
		switch c.Local {
		case "Product":
			p.Product = r.message(c)
		case "Vendor":
			p.Vendor = r.message(c)
		case "Version":
			p.Version = strings.TrimSpace(c.Text())
		case "FullVersion":
			p.FullVersion = strings.TrimSpace(c.Text())
		case "ProductUrl":
			p.ProductURL = strings.TrimSpace(c.Text())
		case "VendorUrl":
			p.VendorURL = strings.TrimSpace(c.Text())
		case "AppUrl":
			p.AppURL = strings.TrimSpace(c.Text())
		case "Icon":
			p.Icons = append(p.Icons, Icon{
				FileRef: r.get(c, "fileRef"), MimeType: r.get(c, "mimeType"),
				Width: r.number(c, "width"), Height: r.number(c, "height"),
			})
		case "Category":
			category = r.message(c)
		case "Property":
			p.Properties = append(p.Properties, r.property(p, category, c))
		}
	}
	return p
}

func (r *reader) property(p *Product, category Message, e *xmldoc.Element) *Property {
	x := &Property{
		Node: Node{e}, Key: r.get(e, "key"), Type: r.get(e, "type"), Qualifiers: r.get(e, "qualifiers"),
		Configurations: splitList(r.get(e, "configuration")), UserConfigurable: r.boolean(e, "userConfigurable", false), Password: r.boolean(e, "password", false),
		Label: r.childMessage(e, "Label"), Description: r.childMessage(e, "Description"), Category: category,
	}
	if base, _, _ := strings.Cut(x.Type, "("); strings.TrimSpace(base) == "password" { // VMware's type
		x.Password = true
	}
	x.FullKey = FullKey(p.Class, x.Key, p.Instance)
	x.VMwareQualifiers, _ = e.Attr(NSVMware, "qualifiers")
	for i := range e.Attrs {
		if a := &e.Attrs[i]; a.Local == "value" && r.own(a.Space) {
			x.Value, x.HasValue = a.Value, true // white space counts here
		}
		if a := &e.Attrs[i]; a.Local == "password" && a.Space == NSVMware && a.Value == "true" {
			x.Password = true
		}
	}
	for _, c := range e.Children {
		if c.Local == "Value" && r.own(c.Space) {
			x.Values = append(x.Values, PropertyValue{Option: r.get(c, "configuration"), Value: r.get(c, "value")})
		}
	}
	return x
}

// FullKey is a property's key with the class and the instance of its
// ProductSection, as DSP0243 builds it: class.key.instance.
func FullKey(class, key, instance string) string {
	if class != "" {
		key = class + "." + key
	}
	if instance != "" {
		key += "." + instance
	}
	return key
}
