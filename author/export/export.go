// Package export makes packages of machines that a host has: their hardware as
// a specification, and their disks, flattened, as they are at one moment.
//
// It knows no hypervisor: any hypervisor.Host that is a hypervisor.Exporter
// will do. Begin reads the machines; what it gives is built as any other
// specification is, by package build.
package export

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/ovation-project/ovation/author/build"
	"github.com/ovation-project/ovation/author/machine"
	"github.com/ovation-project/ovation/author/pack"
	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/hypervisor"
)

// ErrNoExport says that machines of a host can't be exported.
var ErrNoExport = errors.New("machines of this host can't be exported")

// Host is what an export needs of a host that has machines, besides being a
// hypervisor.Exporter: every hypervisor.Host is one.
type Host interface {
	// URI names the host as people write it, without secrets.
	URI() string
	// Lookup finds a machine by its name on the host.
	Lookup(ctx context.Context, name string) (*hypervisor.Kept, error)
}

// Source is a machine that a host has.
type Source struct {
	Host Host
	// Name is the machine's on the host.
	Name string
}

// Options say how machines are exported. The zero value is good for machines
// that are off.
type Options struct {
	// Live takes machines that run by a snapshot, so that they go on.
	Live bool
	// Shutdown, where above 0, has machines that run power off first, and
	// waits for so long.
	Shutdown time.Duration
	// Machine says how they are described.
	Machine machine.Options
	// Name is the package's, and the collection's where there are several
	// machines; "" is the first machine's.
	Name string
	// Deployed, where set, says what a host keeps of a machine that was
	// deployed, by its record, so that the sections of its descriptor stay.
	Deployed func(*hypervisor.Record) (*Deployed, error)
	// Note, where set, is told what people should know, Warn what the package
	// does not say of a machine.
	Note, Warn func(string)
}

func (o *Options) note(s string) {
	if o.Note != nil {
		o.Note(s)
	}
}

// Export is machines that are being read.
type Export struct {
	// Appliance is the package to build. It may be changed before that.
	Appliance *spec.Appliance
	// Machines are what is exported.
	Machines []hypervisor.Machine
	// Unsaid is what the package does not tell of them.
	Unsaid []string

	opt     Options
	open    []hypervisor.Export
	disks   map[string]build.OpenDisk
	sources map[string]string // a shared disk's ID by where it lies

	deployed map[string]*Deployed // by the machine's name
}

func newExport(from []Source, opt Options) (*Export, error) {
	if len(from) == 0 {
		return nil, errors.New("no machine to export")
	}
	for i, s := range from {
		if slices.ContainsFunc(from[:i], func(o Source) bool { return o.Name == s.Name && o.Host.URI() == s.Host.URI() }) {
			return nil, fmt.Errorf("machine %s is named twice", s.Name)
		}
		if _, ok := s.Host.(hypervisor.Exporter); !ok {
			return nil, fmt.Errorf("%s: %w", s.Host.URI(), ErrNoExport)
		}
	}
	return &Export{opt: opt, disks: map[string]build.OpenDisk{}, sources: map[string]string{}, deployed: map[string]*Deployed{}}, nil
}

// Look describes machines by what their hosts keep of them, and does nothing to
// them: those that run go on. Their disks can't be read from what it gives.
func Look(ctx context.Context, from []Source, opt Options) (*Export, error) {
	e, err := newExport(from, opt)
	if err != nil {
		return nil, err
	}
	for _, s := range from {
		k, err := s.Host.Lookup(ctx, s.Name)
		if err != nil {
			return nil, err
		}
		e.open = append(e.open, looked{k})
	}
	e.describe()
	return e, nil
}

// looked is a machine that is looked at and not read.
type looked struct{ kept *hypervisor.Kept }

func (l looked) Kept() *hypervisor.Kept { return l.kept }
func (l looked) OpenDrive(context.Context, string) (*hypervisor.DriveFile, error) {
	return nil, fmt.Errorf("machine %s: its export was not begun", l.kept.Name)
}
func (l looked) Unchanged(context.Context) error { return nil }
func (l looked) Close(context.Context) error     { return nil }

// Begin begins to read machines, all of them as they are now. It has to be
// closed, also when its context has ended. A machine that runs is
// hypervisor.ErrRunning unless the options say what to do.
func Begin(ctx context.Context, from []Source, opt Options) (e *Export, err error) {
	if e, err = newExport(from, opt); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close(context.WithoutCancel(ctx)))
			e = nil
		}
	}()
	for _, s := range from {
		if opt.Shutdown > 0 {
			if err := PowerOff(ctx, s, opt.Shutdown); err != nil {
				return e, err
			}
		}
	}
	for _, s := range from {
		x, err := s.Host.(hypervisor.Exporter).Export(ctx, s.Name, hypervisor.ExportOptions{Live: opt.Live, Note: opt.note})
		if err != nil {
			return e, err
		}
		e.open = append(e.open, x)
	}
	e.describe()
	return e, nil
}

// PowerOff has a machine power off, and waits until it has.
func PowerOff(ctx context.Context, s Source, limit time.Duration) error {
	k, err := s.Host.Lookup(ctx, s.Name)
	if err != nil {
		return err
	}
	state, err := k.State(ctx)
	if err != nil || state == hypervisor.PoweredOff {
		return err
	}
	if err := k.Shutdown(ctx); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err = k.Wait(within)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return fmt.Errorf("machine %s was asked to power off and has not within %v: %w", s.Name, limit, hypervisor.ErrRunning)
	}
	return err
}

// describe makes the specification.
func (e *Export) describe() {
	origins := e.origins()
	ids, disks := map[string]bool{}, map[string]bool{}
	made := map[string]*spec.Content{} // by system, of the first origin
	a := &spec.Appliance{}
	var contents []spec.Member
	var startup spec.Startup
	one := origins[0] // that all come from
	for i, x := range e.open {
		k, from := x.Kept(), origins[i]
		if from != one {
			one = nil
		}
		m := k.Machine
		system := ""
		if k.Record != nil {
			system = k.Record.System
		}
		m.ID = uniqueID(ids, cmp.Or(system, m.ID, k.Name))
		if from != nil {
			e.asDeployed(&m, e.deployed[k.Name], from.systems[system])
		} else if d := e.deployed[k.Name]; d != nil {
			e.asDeployed(&m, d, nil)
		}
		for _, u := range k.Unsaid {
			e.unsaid("%s: %s", k.Name, u)
		}
		e.leftOut(&m)
		opt := e.opt.Machine
		opt.Native = k.Native
		d := machine.Describe(&m, opt)
		e.Machines = append(e.Machines, m)
		for _, n := range d.Notes {
			e.unsaid("%s", n)
		}
		e.drives(x, &m, d)
		if from != nil {
			from.disksAsWere(d.Disks)
			c := *from.systems[system]
			c.ID = m.ID
			keep(&c, d)
			made[system] = d.Machine
			for _, n := range from.a.Networks {
				d.Networks = slices.DeleteFunc(d.Networks, func(o spec.Network) bool { return o.Name == n.Name })
				d.Networks = append(d.Networks, n)
			}
		}
		for j := range d.Disks {
			disk := &d.Disks[j]
			if disks[disk.ID] {
				id := uniqueID(disks, m.ID+"-"+disk.ID)
				rename(d.Machine, disk.ID, id)
				disk.ID = id
			}
			disks[disk.ID] = true
		}
		a.Disks = append(a.Disks, d.Disks...)
		for _, n := range d.Networks {
			if !slices.ContainsFunc(a.Networks, func(o spec.Network) bool { return o.Name == n.Name }) {
				a.Networks = append(a.Networks, n)
			}
		}
		contents = append(contents, spec.Member{Machine: d.Machine})
		startup.Items = append(startup.Items, spec.StartupItem{ID: m.ID, Order: i + 1})
	}
	if one != nil && len(made) == len(contents) {
		whole := one.a
		whole.Disks, whole.Networks = a.Disks, a.Networks
		whole.Name = cmp.Or(e.opt.Name, one.name, contents[0].Machine.ID)
		if whole.Machine != nil {
			whole.Machine = contents[0].Machine
		} else {
			e.prune(whole.Collection, made)
		}
		e.Appliance = whole
		return
	}
	for _, o := range slices.Compact(origins) {
		if o != nil && o.a.Collection != nil {
			e.unsaid("%s: what the descriptor says of the collection as a whole is left out: machines of others are exported with it", o.name)
		}
	}
	a.Name = cmp.Or(e.opt.Name, contents[0].Machine.ID)
	if len(contents) == 1 {
		a.Machine = contents[0].Machine
	} else {
		a.Collection = &spec.Content{ID: uniqueID(ids, a.Name), Name: spec.Text{Text: a.Name}, Contents: contents, Startup: &startup}
	}
	e.Appliance = a
}

func (e *Export) unsaid(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	if slices.Contains(e.Unsaid, s) {
		return
	}
	e.Unsaid = append(e.Unsaid, s)
	if e.opt.Warn != nil {
		e.opt.Warn(s)
	}
}

// leftOut names what a package does not take along.
func (e *Export) leftOut(m *hypervisor.Machine) {
	if m.Firmware.NVRAM != "" {
		e.unsaid("%s: the firmware's variables (boot entries, Secure Boot keys of the owner's) are not in a package: the target makes new ones", m.Name)
		m.Firmware.NVRAM = ""
	}
	if m.TPM != nil {
		e.unsaid("%s: what the TPM holds is not in a package: secrets that the guest sealed with it are lost", m.Name)
	}
	for _, d := range m.Drives {
		if d.Kind != hypervisor.HardDisk && d.Medium != nil {
			e.unsaid("%s: the medium in drive %s is left out: the drive is empty", m.Name, d.ID)
		}
	}
}

// drives gives the description's disks their sources. A disk that several
// machines share is one.
func (e *Export) drives(x hypervisor.Export, m *hypervisor.Machine, d *machine.Description) {
	next := 0
	for _, v := range m.Drives {
		if v.Kind != hypervisor.HardDisk {
			continue
		}
		if next >= len(d.Disks) {
			return
		}
		k := &d.Disks[next]
		next++
		if v.Medium == nil {
			continue
		}
		if v.Shared {
			k.Shared = true
			at := place(v.Medium)
			if id, ok := e.sources[at]; ok {
				rename(d.Machine, k.ID, id)
				next--
				d.Disks = slices.Delete(d.Disks, next, next+1)
				continue
			}
			e.sources[at] = k.ID
		}
		drive := v.ID
		e.disks[k.Source] = func(ctx context.Context) (convert.Source, func() error, error) {
			f, err := x.OpenDrive(ctx, drive)
			if err != nil {
				return nil, nil, err
			}
			return Open(ctx, f)
		}
	}
}

func place(m *hypervisor.Medium) string {
	if m.Volume != nil {
		return m.Volume.Pool + "\x00" + m.Volume.Name
	}
	return m.Path
}

func rename(c *spec.Content, from, to string) {
	for i := range c.Hardware {
		for j := range c.Hardware[i].Devices {
			if v := &c.Hardware[i].Devices[j]; v.Disk == from {
				v.Disk = to
			}
		}
	}
}

// Build makes the package. opt.Disks is set here. Machines that were off have
// to stay so until it is made, else it is hypervisor.ErrChanged.
func (e *Export) Build(ctx context.Context, out build.Output, opt build.Options) (*build.Result, error) {
	opt.Disks = e.disks
	return build.Run(ctx, e.Appliance, func(ctx context.Context, p *pack.Package) ([]pack.Stored, error) {
		for i := range p.Parts {
			// Nothing is known to be of one moment before it is read.
			part := &p.Parts[i]
			if write := part.Write; write != nil {
				part.Write = func(ctx context.Context, w io.Writer) error {
					return errors.Join(write(ctx, w), e.Unchanged(ctx))
				}
			}
			if create := part.Make; create != nil {
				part.Make = func(ctx context.Context, o disk.Output, name string) error {
					return errors.Join(create(ctx, o, name), e.Unchanged(ctx))
				}
			}
		}
		return out(ctx, p)
	}, opt)
}

// Kept are the machines as their hosts have them, as they were when the export
// began, in the order in which they were named.
func (e *Export) Kept() []*hypervisor.Kept {
	kept := make([]*hypervisor.Kept, len(e.open))
	for i, x := range e.open {
		kept[i] = x.Kept()
	}
	return kept
}

// OpenDisk opens what a disk holds, by the source that the specification has for
// it: a disk.Image, or a disk.Stream to be read once. What was read counts only
// when Unchanged says so.
func (e *Export) OpenDisk(ctx context.Context, source string) (src convert.Source, closing func() error, err error) {
	open := e.disks[source]
	if open == nil {
		return nil, nil, fmt.Errorf("disk %s: %w", source, hypervisor.ErrNotFound)
	}
	return open(ctx)
}

// Unchanged is hypervisor.ErrChanged where what was read so far was written to
// meanwhile.
func (e *Export) Unchanged(ctx context.Context) error {
	for _, x := range e.open {
		if err := x.Unchanged(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Close ends the reading, and undoes what was done on the hosts for it.
func (e *Export) Close(ctx context.Context) error {
	var errs []error
	for _, x := range e.open {
		errs = append(errs, x.Close(ctx))
	}
	return errors.Join(errs...)
}
