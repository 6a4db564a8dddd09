package plan

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/ovation-project/ovation/appliance/manifest"
	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/lifecycle"
	"github.com/ovation-project/ovation/deploy/secrets"
	"github.com/ovation-project/ovation/deploy/stage"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/ovf"
)

// MACs says what addresses network cards get.
type MACs string

// The choices.
const (
	// KeepMACs takes the descriptor's addresses, where it has any.
	KeepMACs MACs = "keep"
	// NewMACs lets the host choose them all.
	NewMACs MACs = "new"
)

// Options are the choices that make a plan of what deploy.Machines worked out.
type Options struct {
	// ID is the deployment's; "" chooses one. Made is when it was planned,
	// the zero time is now.
	ID   string
	Made time.Time
	// Name is the deployment's, "" is the appliance's own.
	Name string
	// Pool takes the volumes.
	Pool hypervisor.Pool
	// DiskFormat is that of disks, one of the pool's; "" is the best that can
	// be filled without a copy of the disk on the way.
	DiskFormat string
	// Networks leads the descriptor's networks to the host's.
	Networks []Network
	MACs     MACs
	// KeepUUIDs gives the guests the UUIDs that the descriptor says, where it
	// says any; without it each deployment gets its own.
	KeepUUIDs bool
	Locale    string
	// Environments are the drives for environment documents, by the machine;
	// EnvironmentBytes is about how large an image of one is.
	Environments     map[*deploy.Planned]string
	EnvironmentBytes int64
	// By is who deploys, and from where: alice@workstation.
	By          string
	Acceptances []Acceptance
	Trust       string
	// Stored is about how many bytes the disks take where they come from, by
	// their ovf:diskId, where the package's files do not tell.
	Stored map[string]int64
	// Verify has the disks' volumes read back and compared with what was
	// written.
	Verify bool
	// Ready says how guests are asked whether they are ready, by the ID of the
	// virtual system; naming one has it waited for.
	Ready map[string]lifecycle.Probe
	// Provisioning is how the disks are laid out by a host that makes them
	// itself; "" is its choice.
	Provisioning hypervisor.Provisioning
	// IPAllocation and IPProtocol say such a host how guests get addresses, in
	// the words of hypervisor.ImportSpec; "" is the descriptor's.
	IPAllocation, IPProtocol string
	// Start says that the machines are started at the end.
	Start bool
}

// Source is the package that a plan is made for: an *appliance.Package, or what
// stands for one. One that has a method Coming, and answers true, is the beginning
// of an archive whose manifest may be still to come.
type Source interface {
	// Locator is where it is, without credentials where it is no URL.
	Locator() string
	// DescriptorName and Document are the descriptor's.
	DescriptorName() string
	Document() *ovf.Document
	// Manifest is nil where there is none; ManifestBytes are its name and text.
	Manifest() *manifest.Manifest
	ManifestBytes() (string, []byte)
}

// poolError collects why the pool can't take the disks.
type poolError struct{ reasons []hypervisor.Reason }

func (e *poolError) add(subject, format string, a ...any) {
	e.reasons = append(e.reasons, hypervisor.Reason{Subject: subject, Text: fmt.Sprintf(format, a...)})
}

// New makes the plan, and gives what is secret of it, which is not in it.
// machines fit the target, which can give what caps says; they get their names
// on the host, their networks and their volumes. The error is a
// *hypervisor.UnfitError where the pool can't take what they need.
func New(pkg Source, r *ovf.Resolved, machines []*deploy.Planned, target string, caps *hypervisor.Capabilities, opt Options) (*Plan, secrets.Values, error) {
	p := &Plan{APIVersion: APIVersion, ID: opt.ID, Target: target, Made: opt.Made, Locale: opt.Locale,
		Networks: opt.Networks, Acceptances: opt.Acceptances, Package: PackageOf(pkg, r, opt.Trust)}
	if p.ID == "" {
		p.ID = NewID()
	}
	if p.Made.IsZero() {
		p.Made = time.Now()
	}
	p.Made = p.Made.UTC().Truncate(time.Second)
	if r.Option != nil {
		p.Option = r.Option.ID
	}
	for _, n := range r.Notes {
		p.Notes = append(p.Notes, deploy.Note{Subject: fmt.Sprintf("descriptor, line %d", n.Pos.Line), Text: n.Text})
	}
	p.Name = cmp.Or(opt.Name, DefaultName(r, machines))
	p.properties(r)
	if caps.Imports {
		p.Import = &hypervisor.ImportPlan{Placement: hypervisor.Placement{Storage: opt.Pool.Name}, Provisioning: opt.Provisioning, IPAllocation: opt.IPAllocation, IPProtocol: opt.IPProtocol}
		if r.Envelope.Content != nil && r.Envelope.Content.Kind == ovf.VirtualSystemCollection && len(machines) > 1 {
			p.Import.Group = p.Name
		}
	}
	b := &builder{Plan: p, opt: opt, host: map[string]string{}, shared: map[string]int{}}
	for _, n := range opt.Networks {
		b.host[n.Name] = n.Host
	}
	names := unique{}
	for _, m := range machines {
		name := p.Name
		if len(machines) > 1 {
			name = p.Name + "-" + cmp.Or(HostName(m.Machine.ID), "machine")
		}
		b.machine(m, names.name(HostName(name)))
	}
	b.space()
	if len(b.unfit.reasons) > 0 {
		return nil, nil, &hypervisor.UnfitError{Target: target, Reasons: b.unfit.reasons}
	}
	values, err := b.records(pkg, r, machines, caps)
	if err != nil {
		return nil, nil, err
	}
	p.steps(opt.Verify, opt.Start)
	return p, values, p.Check()
}

// records adds what the host keeps with the machines.
func (b *builder) records(pkg Source, r *ovf.Resolved, machines []*deploy.Planned, caps *hypervisor.Capabilities) (secrets.Values, error) {
	descriptor, err := lifecycle.NewDescriptor(pkg.DescriptorName(), pkg.Document())
	if err != nil {
		return nil, err
	}
	d := lifecycle.Deployment{ID: b.ID, Name: b.Name, Appliance: b.Package.Appliance, Locator: b.Package.Locator, Made: b.Made, By: b.opt.By,
		Locale: b.Locale, Target: caps, Accepted: map[string][]lifecycle.Acceptance{}, Descriptor: descriptor, Environments: map[string]string{}, Ready: b.opt.Ready}
	for _, a := range b.Acceptances {
		d.Accepted[a.System] = append(d.Accepted[a.System], a.Acceptance)
	}
	for m, drive := range b.opt.Environments {
		d.Environments[m.System.ID] = drive
	}
	records, values, err := lifecycle.Records(d, r, machines)
	if err != nil {
		return nil, err
	}
	for k := range b.Machines {
		b.Machines[k].Record = records[k]
	}
	return values, nil
}

// DefaultName is the name of a deployment that nobody gave one: the virtual
// system's, or that of the collection that holds all.
func DefaultName(r *ovf.Resolved, machines []*deploy.Planned) string {
	var of []string
	if len(machines) == 1 {
		of = append(of, machines[0].Machine.Name, machines[0].Machine.ID)
	}
	if c := r.Envelope.Content; c != nil {
		of = append(of, r.Text(c.Name), c.ID)
	}
	for _, s := range of {
		if name := HostName(s); name != "" {
			return name
		}
	}
	return "appliance"
}

// PackageOf says which package it is.
func PackageOf(pkg Source, r *ovf.Resolved, trust string) Package {
	sum := sha256.New()
	sum.Write(pkg.Document().Bytes())
	_, manifest := pkg.ManifestBytes()
	fmt.Fprintf(sum, "\x00%d\x00", len(manifest))
	sum.Write(manifest)
	p := Package{Locator: withoutCredentials(pkg.Locator()), Digest: fmt.Sprintf("%x", sum.Sum(nil)), HasManifest: pkg.Manifest() != nil, Trust: trust}
	if c, ok := pkg.(interface{ Coming() bool }); ok {
		p.ManifestToCome = c.Coming() && !p.HasManifest
	}
	r.Envelope.Content.Walk(func(c *ovf.Content) {
		for _, product := range c.Products {
			if name := strings.TrimSpace(r.Text(product.Product) + " " + cmp.Or(product.FullVersion, product.Version)); p.Appliance == "" {
				p.Appliance = name
			}
		}
	})
	return p
}

// withoutCredentials leaves out of a URL what may be one.
func withoutCredentials(locator string) string {
	u, err := url.Parse(locator)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return locator
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

func (p *Plan) properties(r *ovf.Resolved) {
	r.Envelope.Content.Walk(func(c *ovf.Content) {
		for _, v := range r.PropertiesOf(c) {
			one := Property{Key: v.FullKey, System: v.System, Secret: v.Password, Set: v.Set}
			if !one.Secret {
				one.Value = v.Value
			}
			p.Properties = append(p.Properties, one)
		}
	})
}

type builder struct {
	*Plan
	opt    Options
	host   map[string]string // networks
	shared map[string]int    // volumes that machines share, by what is in them
	unfit  poolError
	want   int64 // what the pool must have at least
}

func (b *builder) machine(from *deploy.Planned, name string) {
	m := Machine{Machine: from.Machine, Notes: slices.Clone(from.Notes)}
	note := func(subject, format string, a ...any) {
		m.Notes = append(m.Notes, deploy.Note{Machine: m.ID, Subject: subject, Text: fmt.Sprintf(format, a...)})
	}
	m.Name = name
	if m.UUID != "" && !b.opt.KeepUUIDs {
		// The same package may be there already.
		note("UUID", "a new one; the descriptor's is %s", m.UUID)
		m.UUID = ""
	}
	if len(m.Serials) == 0 && b.Import == nil {
		m.Serials = []hypervisor.Serial{{ID: "console"}}
	}
	for k := range m.NICs {
		n := &m.NICs[k]
		n.HostNetwork = b.host[n.Network]
		if b.opt.MACs == NewMACs {
			n.MAC = ""
		}
	}
	if b.Import != nil {
		b.imported(from, &m)
		return
	}
	for k := range m.Drives {
		d := &m.Drives[k]
		var ref *hypervisor.VolumeRef
		switch {
		case d.ID == b.opt.Environments[from]:
			ref = b.environment(m.Name, d)
		case from.Files[d.ID] != nil:
			ref = b.file(from.Files[d.ID], m.Name, d)
		case from.Disks[d.ID] != nil:
			ref = b.disk(from.Disks[d.ID], m.Name, d)
		default:
			d.Medium = nil // an empty drive
			continue
		}
		v := b.Volume(*ref)
		d.Medium = &hypervisor.Medium{Format: v.Format, Volume: ref}
		if v.Format == "iso" {
			d.Medium.Format = "raw"
		}
		if d.Shared && v.Content == Disk {
			note("disk "+d.DiskID, "several machines write it: one volume, %s", v.Format)
		}
	}
	from.Machine = m.Machine
	m.Machine = clone(m.Machine)
	b.Machines = append(b.Machines, m)
}

// imported adds a machine that the host makes of the package.
func (b *builder) imported(from *deploy.Planned, m *Machine) {
	for k := range m.Drives {
		d := &m.Drives[k]
		d.Medium = nil
		if x := from.Disks[d.ID]; x != nil {
			b.room(max(0, min(x.Capacity, sizeOf(x))))
		}
	}
	b.Import.Machines = append(b.Import.Machines, hypervisor.ImportMachine{Name: m.Name, System: m.ID})
	from.Machine = m.Machine
	m.Machine = clone(m.Machine)
	b.Machines = append(b.Machines, *m)
}

// sizeOf is how much of the package is read for a disk.
func sizeOf(x *ovf.ResolvedDisk) (n int64) {
	for up, k := x, 0; up != nil && k < maxParents; up, k = up.Parent, k+1 {
		if up.File != nil {
			n += max(0, up.File.Size)
		}
	}
	return n
}

// room adds to what the pool must have, without overflowing.
func (b *builder) room(n int64) { b.want = min(b.want, math.MaxInt64-n) + n }

// volume adds one, or the use of one that is there.
func (b *builder) volume(v Volume, name, ending string, key string, use Use) *hypervisor.VolumeRef {
	if at, ok := b.shared[key]; ok && key != "" {
		b.Volumes[at].Uses = append(b.Volumes[at].Uses, use)
		return &b.Volumes[at].VolumeRef
	}
	v.Pool = b.opt.Pool.Name
	names := unique{}
	for _, other := range b.Volumes {
		names[strings.ToLower(other.Name)] = true
	}
	base := stage.FileName(name) + "-" + b.ID
	v.Name = base + ending
	for n := 2; names[strings.ToLower(v.Name)]; n++ {
		v.Name = fmt.Sprintf("%s-%d%s", base, n, ending)
	}
	v.Uses = []Use{use}
	if key != "" {
		b.shared[key] = len(b.Volumes)
	}
	b.Volumes = append(b.Volumes, v)
	return &hypervisor.VolumeRef{Pool: v.Pool, Name: v.Name}
}

func (b *builder) environment(machine string, d *hypervisor.Drive) *hypervisor.VolumeRef {
	const unit = 1 << 20
	size := (max(1, b.opt.EnvironmentBytes) + unit - 1) / unit * unit
	d.Capacity, d.ReadOnly = 0, true
	return b.volume(Volume{VolumeSpec: hypervisor.VolumeSpec{Format: "iso", CapacityBytes: size}, Content: Environment, Machine: machine},
		machine+"-ovf-env", ".iso", "", Use{machine, d.ID})
}

// file is a file that goes in as it is. Those that nobody writes are there once.
func (b *builder) file(f *ovf.File, machine string, d *hypervisor.Drive) *hypervisor.VolumeRef {
	key, name := "", machine
	if d.ReadOnly {
		key, name = "file "+f.Href, b.Name
	}
	size := max(0, f.Size)
	if f.Compression != "" {
		size = 0 // not known before it is unpacked
	}
	ending := path.Ext(f.Href)
	if ending == "" || len(ending) > 5 || stage.FileName("x"+ending) != "x"+ending {
		ending = ".img"
	}
	return b.volume(Volume{VolumeSpec: hypervisor.VolumeSpec{Format: "iso", CapacityBytes: size}, Content: File, File: f.Href, ReadBytes: max(0, f.Size)},
		name+"-"+f.ID, ending, key, Use{machine, d.ID})
}

func (b *builder) disk(x *ovf.ResolvedDisk, machine string, d *hypervisor.Drive) *hypervisor.VolumeRef {
	key, name := "", machine
	if d.Shared {
		key, name = "disk "+x.ID, b.Name
	}
	v := Volume{VolumeSpec: hypervisor.VolumeSpec{Format: b.format(x, d.Shared), CapacityBytes: x.Capacity}, Content: Disk, Disk: x.ID}
	if x.File == nil && x.Parent == nil {
		v.Content = Blank
	} else if x.File != nil {
		v.File = x.File.Href
	}
	v.ReadBytes = sizeOf(x)
	if v.ReadBytes == 0 {
		v.ReadBytes = max(0, b.opt.Stored[x.ID])
	}
	if v.CapacityBytes%disk.SectorSize != 0 {
		v.CapacityBytes += disk.SectorSize - v.CapacityBytes%disk.SectorSize
	}
	ending := "." + v.Format
	if v.Format == "raw" {
		ending = ".img"
	}
	return b.volume(v, name+"-"+x.ID, ending, key, Use{machine, d.ID})
}

// maxParents bounds a chain of deltas.
const maxParents = 64

// format is that of a disk's volume. What goes to another host is sent in the
// order in which the disk has it, which of the formats raw alone can be written
// in.
func (b *builder) format(x *ovf.ResolvedDisk, shared bool) string {
	pool, asked := b.opt.Pool, b.opt.DiskFormat
	subject := "disk " + x.ID
	has := func(f string) bool { return slices.Contains(pool.Formats, f) }
	switch {
	case asked != "" && !has(asked):
		b.unfit.add(subject, "pool %s does not take the format %s (--disk-format): it takes %s", pool.Name, asked, strings.Join(pool.Formats, ", "))
		return asked
	case shared && !has("raw"):
		b.unfit.add(subject, "several machines write it, which needs a raw volume: pool %s takes %s", pool.Name, strings.Join(pool.Formats, ", "))
		return "raw"
	case shared:
		return "raw"
	case asked != "":
		return asked
	case pool.Local && len(pool.Formats) > 0:
		return pool.Formats[0]
	case has("raw") || len(pool.Formats) == 0:
		return "raw"
	}
	return pool.Formats[0]
}

// space sees that the pool has the room.
func (b *builder) space() {
	for _, v := range b.Volumes {
		n := v.CapacityBytes
		switch v.Content {
		case Blank:
			n = 0
		case Disk:
			// Holes take no room, and what is compressed stays so in some
			// formats: what is read is the least that will be written.
			n = min(n, v.ReadBytes)
		}
		b.room(n)
	}
	if have := b.opt.Pool.AvailableBytes; have > 0 && b.want > have {
		b.unfit.add("pool "+b.opt.Pool.Name, "the disks take %d MiB at least, and %d MiB are free; --pool names another", b.want>>20, have>>20)
	}
}

// clone makes a copy that shares nothing.
func clone(m hypervisor.Machine) hypervisor.Machine {
	text, err := json.Marshal(m)
	var c hypervisor.Machine
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		panic(fmt.Sprintf("plan: a machine is data: %v", err))
	}
	return c
}
