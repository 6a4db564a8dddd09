package export

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/author/descriptor"
	"github.com/ovation-project/ovation/author/machine"
	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/ovf"
)

// Deployed is what a host keeps of a machine that was deployed from a package.
type Deployed struct {
	// Descriptor is the text of the package's descriptor, nil where it was not
	// kept; Name is its file's name.
	Descriptor []byte
	Name       string
	// Option is the ID of the deployment option that the machine has.
	Option string
	// Volumes are the machine's in the order of its drives, as it was
	// deployed; Environment is the one with the environment document, whose
	// drive is no part of the package.
	Volumes     []hypervisor.VolumeRef
	Environment hypervisor.VolumeRef
}

// origin is a package that machines come from.
type origin struct {
	name    string
	option  string
	text    string
	a       *spec.Appliance
	systems map[string]*spec.Content
}

// origins reads what the hosts keep, by the machines' places; nil is nothing.
func (e *Export) origins() []*origin {
	all := make([]*origin, len(e.open))
	if e.opt.Deployed == nil {
		return all
	}
	same := map[string]*origin{}
	for i, x := range e.open {
		k := x.Kept()
		if k.Record == nil {
			continue
		}
		d, err := e.opt.Deployed(k.Record)
		if err != nil {
			e.unsaid("%s: what the host keeps of its package can't be used: %v", k.Name, err)
			continue
		}
		e.deployed[k.Name] = d
		if d.Descriptor == nil {
			e.unsaid("%s: the host does not keep the descriptor that it was deployed with: its sections are left out", k.Name)
			continue
		}
		key := k.Record.Deployment + "\x00" + d.Option
		if same[key] == nil {
			o, err := e.read(d)
			if err != nil {
				e.unsaid("%s: the descriptor that it was deployed with can't be used: %v", k.Name, err)
				o = &origin{}
			}
			same[key] = o
		}
		if o := same[key]; o.systems[k.Record.System] != nil {
			all[i] = o
		}
	}
	return all
}

func (e *Export) read(d *Deployed) (*origin, error) {
	doc, err := ovf.Parse(d.Descriptor, ovf.ParseOptions{})
	if err != nil {
		return nil, err
	}
	a, report, err := descriptor.Read(doc, descriptor.ReadOptions{KeysOnly: true})
	if err != nil {
		return nil, err
	}
	for _, l := range report.Lost {
		e.unsaid("%s:%s is left out", d.Name, l)
	}
	o := &origin{name: strings.TrimSuffix(d.Name, path.Ext(d.Name)), option: d.Option, text: string(d.Descriptor), a: a, systems: map[string]*spec.Content{}}
	if len(a.Options) > 0 {
		e.unsaid("%s: the deployment options are left out: the hardware is as deployed with %q", o.name, o.option)
	}
	a.Choose(o.option)
	e.withoutFiles(o)
	a.Walk(func(c *spec.Content, collection bool) {
		if !collection {
			o.systems[c.ID] = c
		}
	})
	return o, nil
}

// withoutFiles takes out what is in files of the package: a host has only the
// disks.
func (e *Export) withoutFiles(o *origin) {
	var gone []string
	used := map[string]bool{}
	for _, d := range o.a.Disks {
		used[d.FileID] = true
	}
	for _, f := range o.a.Files {
		if !used[f.ID] {
			gone = append(gone, cmp.Or(f.Name, f.ID))
		}
	}
	if len(gone) > 0 {
		e.unsaid("%s: files of the package that are no disks are left out, the host does not have them: %s", o.name, strings.Join(gone, ", "))
	}
	o.a.Files = nil
	o.a.Languages = slices.DeleteFunc(o.a.Languages, func(l spec.Language) bool { return l.File != "" })
	for i := range o.a.Languages {
		l := &o.a.Languages[i]
		l.Messages = slices.DeleteFunc(l.Messages, func(m spec.MsgEntry) bool { return m.File != "" })
	}
	o.a.Walk(func(c *spec.Content, _ bool) {
		c.EnvFiles = nil
		for i := range c.Products {
			c.Products[i].Icons = nil
		}
		if c.Install != nil {
			e.unsaid("%s: that it installs itself when it is first started is left out: it has", c.ID)
			c.Install = nil
		}
		if c.Boot != nil {
			e.unsaid("%s: the orders of devices to boot from are left out: the devices are the host's", c.ID)
			c.Boot = nil
		}
	})
}

// asDeployed brings a machine into the shape that it has in its package: the
// drive with the environment document is none of it, the disks are in its
// order and have its IDs, and the cards are on its networks.
func (e *Export) asDeployed(m *hypervisor.Machine, d *Deployed, c *spec.Content) {
	m.Drives = slices.Clone(m.Drives)
	m.NICs = slices.Clone(m.NICs)
	if d.Environment.Name != "" {
		m.Drives = slices.DeleteFunc(m.Drives, func(v hypervisor.Drive) bool {
			return v.Medium != nil && v.Medium.Volume != nil && *v.Medium.Volume == d.Environment
		})
		m.Controllers = slices.DeleteFunc(slices.Clone(m.Controllers), func(k hypervisor.Controller) bool {
			return !slices.ContainsFunc(m.Drives, func(v hypervisor.Drive) bool { return v.Controller == k.ID })
		})
	}
	order := func(v hypervisor.Drive) int {
		if v.Kind == hypervisor.HardDisk && v.Medium != nil && v.Medium.Volume != nil {
			if i := slices.Index(d.Volumes, *v.Medium.Volume); i >= 0 {
				return i
			}
		}
		return len(d.Volumes)
	}
	slices.SortStableFunc(m.Drives, func(a, b hypervisor.Drive) int { return cmp.Compare(order(a), order(b)) })
	if c == nil || len(c.Hardware) == 0 {
		return
	}
	disks, networks := was(&c.Hardware[0], d.Option)
	var hard []*hypervisor.Drive
	for i := range m.Drives {
		if m.Drives[i].Kind == hypervisor.HardDisk {
			hard = append(hard, &m.Drives[i])
		}
	}
	// Disks that came later are behind those that were deployed.
	for i := range min(len(hard), len(disks)) {
		if order(*hard[i]) < len(d.Volumes) || len(hard) == len(disks) {
			hard[i].DiskID = disks[i]
		}
	}
	if len(networks) == len(m.NICs) {
		for i := range m.NICs {
			m.NICs[i].Network = networks[i]
		}
	}
}

// was gives the disks and networks of a machine's devices in the descriptor.
func was(h *spec.Hardware, option string) (disks, networks []string) {
	devices, err := descriptor.Expand(h, descriptor.DefaultModels())
	if err != nil {
		return nil, nil
	}
	for _, d := range devices {
		if d.Bound != "" || len(d.Options) > 0 && !slices.Contains(d.Options, option) {
			continue
		}
		switch typ, _ := spec.DeviceType(d.Type); {
		case typ == ovf.DiskDrive && d.Disk != "":
			disks = append(disks, d.Disk)
		case typ == ovf.EthernetAdapter && len(d.Connections) > 0:
			networks = append(networks, d.Connections[0])
		}
	}
	return disks, networks
}

// keep gives a description the sections of the descriptor.
func keep(c *spec.Content, d *machine.Description) {
	out := *c
	made := d.Machine.Hardware[0]
	if len(c.Hardware) > 0 {
		h := c.Hardware[0]
		made.ID, made.Info, made.Required, made.Family, made.System = h.ID, h.Info, h.Required, h.Family, h.System
		made.Transport, made.Extra, made.XML, made.Attributes = h.Transport, h.Extra, h.XML, h.Attributes
		configs := slices.DeleteFunc(slices.Clone(h.Configs), func(x spec.Config) bool {
			return slices.ContainsFunc(made.Configs, func(y spec.Config) bool { return y.Key == x.Key })
		})
		made.Configs = append(configs, made.Configs...)
	}
	out.Hardware = []spec.Hardware{made}
	d.Machine = &out
}

// prune leaves out of a collection what is not exported.
func (e *Export) prune(c *spec.Content, made map[string]*spec.Content) {
	gone := map[string]bool{}
	var members []spec.Member
	for _, m := range c.Contents {
		switch {
		case m.Collection != nil:
			e.prune(m.Collection, made)
			if len(m.Collection.Contents) == 0 {
				gone[m.Collection.ID] = true
				continue
			}
		case m.Machine != nil:
			if m.Machine = made[m.Machine.ID]; m.Machine == nil {
				continue
			}
		}
		members = append(members, m)
	}
	for _, m := range c.Contents {
		if m.Machine != nil && made[m.Machine.ID] == nil {
			e.unsaid("%s is left out of %s: it is not exported", m.Machine.ID, c.ID)
			gone[m.Machine.ID] = true
		}
	}
	c.Contents = members
	if c.Startup != nil {
		c.Startup.Items = slices.DeleteFunc(c.Startup.Items, func(s spec.StartupItem) bool { return gone[s.ID] })
		if len(c.Startup.Items) == 0 {
			c.Startup = nil
		}
	}
}

// disksAsWere gives disks what their package says of them besides their bytes.
func (o *origin) disksAsWere(disks []spec.Disk) {
	for i := range disks {
		j := slices.IndexFunc(o.a.Disks, func(d spec.Disk) bool { return d.ID == disks[i].ID })
		if j >= 0 {
			disks[i].XML, disks[i].Attributes = o.a.Disks[j].XML, o.a.Disks[j].Attributes
			disks[i].Shared = disks[i].Shared || o.a.Disks[j].Shared
		}
	}
}

// uniqueID gives an ID that is not taken, and takes it.
func uniqueID(taken map[string]bool, id string) string {
	free := id
	for n := 2; taken[free]; n++ {
		free = fmt.Sprintf("%s-%d", id, n)
	}
	taken[free] = true
	return free
}
