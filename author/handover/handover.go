// Package handover shapes packages for hosts that read descriptors themselves
// (hypervisor.Importer): it gives a descriptor for each machine, in words that
// the host takes, and the files as the host wants them.
//
// What the host takes as it is, is handed over as it is: the descriptor to the
// last byte, the files with their digests proved on the way. All else, OVF 2,
// other families of hardware, disks of other formats, collections, is
// rewritten by package profile, and disks become streamOptimized VMDK while
// they are sent.
package handover

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/author/descriptor"
	"github.com/ovation-project/ovation/author/profile"
	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/disk/vmdk"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/ovf"
)

// Package is what is handed over: an *appliance.Package, or what stands for one
// whose files lie nowhere (Options.OnlyContent).
type Package interface {
	Locator() string
	DescriptorName() string
	Document() *ovf.Document
}

// Content gives what a package's disks and files hold, proved when it returns
// without error.
type Content interface {
	// CopyDisk writes a disk to what create makes when the disk's size is
	// known.
	CopyDisk(ctx context.Context, d *ovf.ResolvedDisk, create func(context.Context, convert.Source) (disk.Writer, error)) error
	// CopyFile writes a file, unpacked.
	CopyFile(ctx context.Context, f *ovf.File, to io.Writer) error
}

// Task is shown how much of a file was read.
type Task interface {
	Set(done int64)
	Done(err error)
}

// Options say how a package is handed over.
type Options struct {
	// Profile names the consumer; "" is vsphere.
	Profile string
	// Families are the hardware families that the host takes, the latest
	// first; nil is not known.
	Families []string
	// Systems are the IDs of the virtual systems to make; none is all.
	Systems []string
	// Content gives what is not handed over as it lies; OnlyContent says that
	// nothing lies anywhere: the package came once.
	Content     Content
	OnlyContent bool
	// Task, where set, is called for each file that is sent as it lies, with
	// its size.
	Task func(name string, total int64) Task
}

// Handover is a package that can be given to a host.
type Handover struct {
	Systems []System
	// Notes say what differs from the package.
	Notes []string

	pkg Package
	// lies is the package where its files lie somewhere, else nil.
	lies *appliance.Package
	r    *ovf.Resolved
	opt  Options
	// files are what a host asks for, by the system and the href in the
	// descriptor that it is given.
	files map[[2]string]source
}

// System is one virtual system.
type System struct {
	// ID is its ovf:id, Descriptor the text of a descriptor of it alone.
	ID, Descriptor string
}

// source is where a file comes from: one of the two.
type source struct {
	disk *ovf.ResolvedDisk
	file *ovf.File
	// asIs is set for a disk whose file is sent as it lies.
	asIs bool
}

// New shapes a package. Disks that several machines write are an UnfitError:
// such hosts make each machine its own.
func New(ctx context.Context, pkg Package, r *ovf.Resolved, opt Options) (*Handover, error) {
	h := &Handover{pkg: pkg, r: r, opt: opt, files: map[[2]string]source{}}
	h.lies, _ = pkg.(*appliance.Package)
	if h.opt.OnlyContent {
		h.lies = nil
	}
	p, err := profile.Find(cmp.Or(opt.Profile, "vsphere"))
	if err != nil {
		return nil, err
	}
	if latest := latestFamily(opt.Families); latest > 0 {
		p.MaxFamily = latest
	}
	var systems []*ovf.System
	for _, s := range r.Systems {
		if len(opt.Systems) == 0 || slices.Contains(opt.Systems, s.ID) {
			systems = append(systems, s)
		}
	}
	if err := h.alone(systems); err != nil {
		return nil, err
	}
	ready, err := h.readyDisks(ctx, systems)
	if err != nil {
		return nil, err
	}
	for _, s := range systems {
		h.noteSettings(s)
	}
	if why := h.takenAsIs(systems, p, ready); why == "" {
		h.asIs(systems[0], ready)
		return h, nil
	} else if len(systems) == 1 && r.Envelope.Content.Kind == ovf.VirtualSystem {
		h.note("the descriptor is rewritten: %s", why)
	}
	return h, h.rewritten(systems, p, ready)
}

func (h *Handover) note(format string, args ...any) {
	if s := fmt.Sprintf(format, args...); !slices.Contains(h.Notes, s) {
		h.Notes = append(h.Notes, s)
	}
}

// noteSettings says which settings of the host's own a package brings for a
// machine: what the host does by them may be more than what hardware does.
func (h *Handover) noteSettings(s *ovf.System) {
	const most = 20
	var keys []string
	add := func(settings []ovf.Config) {
		for _, c := range settings {
			if !slices.Contains(keys, c.Key) && len(keys) <= most {
				keys = append(keys, c.Key)
			}
		}
	}
	if s.Hardware != nil {
		add(s.Hardware.Extra)
	}
	for _, i := range s.Items {
		add(i.Extra)
	}
	if len(keys) > most {
		keys[most] = "and more"
	}
	if len(keys) > 0 {
		h.note("it sets what is the host's own of machine %s (vmw:ExtraConfig): %s", s.ID, strings.Join(keys, ", "))
	}
}

// familyNumber is the N of vmx-N, 0 for what is none.
func familyNumber(s string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(s, "vmx-"))
	if err != nil || !strings.HasPrefix(s, "vmx-") {
		return 0
	}
	return n
}

func latestFamily(families []string) (latest int) {
	for _, f := range families {
		latest = max(latest, familyNumber(f))
	}
	return latest
}

// uses are the disks and files that a system has in its drives.
func (h *Handover) uses(s *ovf.System) (ids, files []string) {
	for _, i := range s.Items {
		for _, host := range i.HostResources {
			what, name, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(host), "ovf:"), "/"), "/")
			switch {
			case what == "disk" && h.r.Disks[name] != nil && !slices.Contains(ids, name):
				ids = append(ids, name)
			case what == "file" && !slices.Contains(files, name):
				files = append(files, name)
			}
		}
	}
	if s.Hardware != nil {
		// Settings name files as well: nvram has the firmware's variables.
		for _, c := range slices.Concat(s.Hardware.Configs, s.Hardware.Extra) {
			if name, ok := strings.CutPrefix(strings.TrimPrefix(c.Value, "ovf:"), "/file/"); ok && !slices.Contains(files, name) {
				files = append(files, name)
			}
		}
	}
	return ids, files
}

// alone refuses disks that several machines share.
func (h *Handover) alone(systems []*ovf.System) error {
	owner := map[string]string{}
	var reasons []hypervisor.Reason
	for _, s := range systems {
		ids, _ := h.uses(s)
		for _, id := range ids {
			if other := owner[id]; other != "" || h.r.Disks[id].Shared {
				reasons = append(reasons, hypervisor.Reason{Machine: s.ID, Subject: "disk " + id,
					Text: "several machines write it, and the host makes each machine disks of its own"})
			}
			owner[id] = s.ID
		}
	}
	if len(reasons) > 0 {
		return &hypervisor.UnfitError{Target: h.pkg.Locator(), Reasons: reasons}
	}
	return nil
}

// readyDisks are those whose files are what the host wants, by ID.
func (h *Handover) readyDisks(ctx context.Context, systems []*ovf.System) (map[string]bool, error) {
	ready := map[string]bool{}
	for _, s := range systems {
		ids, _ := h.uses(s)
		for _, id := range ids {
			d := h.r.Disks[id]
			if h.lies == nil || d.File == nil || d.Parent != nil || packed(d.File) {
				continue
			}
			var err error
			if ready[id], err = h.streamOptimized(ctx, d.File.Href); err != nil {
				return nil, fmt.Errorf("disk %s: %w", id, err)
			}
		}
	}
	return ready, nil
}

// streamOptimized says whether a file is such a VMDK, by its beginning.
func (h *Handover) streamOptimized(ctx context.Context, href string) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := h.lies.OpenReader(ctx, href)
	if err != nil {
		return false, err
	}
	defer r.Close()
	head := make([]byte, disk.SectorSize)
	if n, err := io.ReadFull(r, head); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && err != io.EOF {
		return false, err
	} else {
		head = head[:n]
	}
	_, err = vmdk.Format{}.OpenStream(ctx, head, io.MultiReader(bytes.NewReader(head), r), r.Size())
	return err == nil, nil
}

// packed says that a file is stored compressed as a whole.
func packed(f *ovf.File) bool { return f.Compression != "" && f.Compression != "identity" }

// takenAsIs says why the host would not take the descriptor as it is, "" where
// it does.
func (h *Handover) takenAsIs(systems []*ovf.System, p *profile.Profile, ready map[string]bool) string {
	env := h.r.Envelope
	if env.Content == nil || env.Content.Kind != ovf.VirtualSystem || len(systems) != 1 || len(env.Others) > 0 {
		return "it is of several machines"
	}
	if env.Element().Space != ovf.NS1 {
		return "the host reads OVF 1"
	}
	s := systems[0]
	if s.Hardware != nil && !slices.ContainsFunc(s.Hardware.SystemTypes, func(t string) bool {
		n := familyNumber(t)
		return n > 0 && (p.MaxFamily == 0 || n <= p.MaxFamily)
	}) {
		return fmt.Sprintf("the host does not know the hardware family %s", cmp.Or(strings.Join(s.Hardware.SystemTypes, " "), "(none)"))
	}
	for _, i := range s.Items {
		if i.Kind != ovf.RASDItem {
			return fmt.Sprintf("the host does not read %s (line %d)", i.Kind, i.Pos().Line)
		}
		for _, t := range i.SubTypes {
			if to := p.SubTypes[strings.ToLower(t)]; to != "" && to != t {
				return fmt.Sprintf("the host does not know %s (line %d)", t, i.Pos().Line)
			}
		}
	}
	ids, files := h.uses(s)
	for _, id := range ids {
		d := h.r.Disks[id]
		if d.File != nil && (!ready[id] || d.File.ChunkSize != 0 || !strings.Contains(strings.ToLower(d.Format), "streamoptimized")) || d.File == nil && d.Parent != nil {
			return fmt.Sprintf("the file of disk %s is not what the host takes: it is converted while it is sent", id)
		}
	}
	for _, f := range env.References {
		if slices.Contains(files, f.ID) && (packed(f) || f.ChunkSize != 0) {
			return fmt.Sprintf("%s is compressed or in pieces: it is unpacked while it is sent", f.Href)
		}
	}
	return ""
}

// asIs hands the descriptor over as it is.
func (h *Handover) asIs(s *ovf.System, ready map[string]bool) {
	h.Systems = []System{{s.ID, string(h.pkg.Document().Bytes())}}
	ids, _ := h.uses(s)
	for _, id := range ids {
		if d := h.r.Disks[id]; d.File != nil {
			h.files[[2]string{s.ID, d.File.Href}] = source{disk: d, asIs: ready[id]}
		}
	}
	for _, f := range h.r.Envelope.References {
		// The host may want others than those in drives, such as the firmware's
		// variables.
		if _, disk := h.files[[2]string{s.ID, f.Href}]; !disk {
			h.files[[2]string{s.ID, f.Href}] = source{file: f}
		}
	}
}

// rewritten writes a descriptor for each system.
func (h *Handover) rewritten(systems []*ovf.System, p *profile.Profile, ready map[string]bool) error {
	for _, s := range systems {
		// Shaping changes what it is given.
		a, report, err := descriptor.Read(h.pkg.Document(), descriptor.ReadOptions{KeysOnly: true})
		if err != nil {
			return err
		}
		for _, l := range report.Lost {
			h.note("%s:%s is left out", h.pkg.DescriptorName(), l)
		}
		i := slices.IndexFunc(a.Machines(), func(c *spec.Content) bool { return c.ID == s.ID })
		if i < 0 {
			return fmt.Errorf("the descriptor has no virtual system %q", s.ID)
		}
		one := h.only(a, a.Machines()[i], s)
		notes, err := p.Apply(one)
		if err != nil {
			return err
		}
		for _, n := range notes {
			h.note("%s", n)
		}
		text, err := descriptor.Render(one, h.layout(one, s, ready), descriptor.Options{File: h.pkg.DescriptorName(), Models: &p.Models})
		if err != nil {
			return fmt.Errorf("the descriptor for machine %s: %w", s.ID, err)
		}
		h.Systems = append(h.Systems, System{s.ID, string(text)})
	}
	return nil
}

// only leaves of an appliance one machine, with what it uses, and with the
// properties of the collection that it is directly in: its guest is told of
// those as well.
func (h *Handover) only(a *spec.Appliance, c *spec.Content, s *ovf.System) *spec.Appliance {
	if s.Parent != nil {
		a.Walk(func(x *spec.Content, collection bool) {
			if collection && x.ID == s.Parent.ID {
				for _, p := range x.Products {
					if len(p.Properties) > 0 {
						c.Products = append(c.Products, p)
					}
				}
			}
		})
	}
	ids, files := h.uses(s)
	a.Machine, a.Collection = c, nil
	a.Disks = slices.DeleteFunc(a.Disks, func(d spec.Disk) bool { return !slices.Contains(ids, d.ID) })
	a.Files = slices.DeleteFunc(a.Files, func(f spec.File) bool { return !slices.Contains(files, f.ID) && !iconOf(c, f.ID) })
	return a
}

func iconOf(c *spec.Content, id string) bool {
	return slices.ContainsFunc(c.Products, func(p spec.Product) bool {
		return slices.ContainsFunc(p.Icons, func(i spec.Icon) bool { return i.File == id })
	})
}

// layout says what files there are beside a rewritten descriptor.
func (h *Handover) layout(a *spec.Appliance, s *ovf.System, ready map[string]bool) *descriptor.Layout {
	l := &descriptor.Layout{Disks: map[string]descriptor.Disk{}}
	const uri = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
	for i := range a.Disks {
		d := &a.Disks[i]
		from := h.r.Disks[d.ID]
		at := descriptor.Disk{Capacity: from.Capacity, Populated: -1, URI: uri}
		// What is read through its parent is the whole disk; and the capacity
		// is worked out.
		d.Parent, d.Capacity, d.Units = "", strconv.FormatInt(from.Capacity, 10), ""
		if from.Capacity > 0 && from.Capacity%1024 == 0 {
			d.Capacity, d.Units = descriptor.CapacityInUnits(from.Capacity) // as VMware's own products write it
		}
		if from.File != nil || from.Parent != nil {
			at.FileID = cmp.Or(d.FileID, "file-"+d.ID)
			file := descriptor.File{ID: at.FileID, Href: cmp.Or(d.File, d.ID+".vmdk"), Size: -1}
			if ready[d.ID] {
				file.Size = from.File.Size
			}
			l.Files = append(l.Files, file)
			h.files[[2]string{s.ID, file.Href}] = source{disk: from, asIs: ready[d.ID]}
		}
		l.Disks[d.ID] = at
	}
	for _, f := range a.Files {
		i := slices.IndexFunc(h.r.Envelope.References, func(x *ovf.File) bool { return x.ID == f.ID })
		if i < 0 {
			continue
		}
		from := h.r.Envelope.References[i]
		file := descriptor.File{ID: f.ID, Href: from.Href, Size: from.Size}
		if packed(from) {
			file.Size = -1
		}
		l.Files = append(l.Files, file)
		h.files[[2]string{s.ID, file.Href}] = source{file: from}
	}
	return l
}

// Takes are the package's disks and files that the host asks for, each as often as
// it does: what Options.Content gives where nothing lies anywhere.
func (h *Handover) Takes(i hypervisor.ImportPlan) (disks []*ovf.ResolvedDisk, files []*ovf.File) {
	for _, m := range i.Machines {
		for _, f := range m.Files {
			switch s := h.files[[2]string{f.System, f.Href}]; {
			case s.disk != nil:
				disks = append(disks, s.disk)
			case s.file != nil:
				files = append(files, s.file)
			}
		}
	}
	return disks, files
}

// Open opens a file that the host asks for. It is a hypervisor.OpenImportFile.
func (h *Handover) Open(ctx context.Context, f hypervisor.ImportFile) (*hypervisor.ImportContent, error) {
	s, ok := h.files[[2]string{f.System, f.Href}]
	if !ok {
		return nil, fmt.Errorf("%s: the host asks for it, and the descriptor has no such file", f.Href)
	}
	if s.asIs {
		return h.whole(ctx, s.disk.File)
	}
	if s.file != nil && !packed(s.file) && h.lies != nil {
		return h.whole(ctx, s.file)
	}
	return h.made(ctx, s)
}

// whole reads a file as it lies, proved when its end is read.
func (h *Handover) whole(ctx context.Context, f *ovf.File) (*hypervisor.ImportContent, error) {
	r, err := h.lies.OpenReader(ctx, f.Href)
	if err != nil {
		return nil, err
	}
	if f.Size >= 0 && r.Size() >= 0 && f.Size != r.Size() {
		return nil, errors.Join(fmt.Errorf("it has %d bytes, and the descriptor says %d: %w", r.Size(), f.Size, appliance.ErrAltered), r.Close())
	}
	t := &told{Reader: r}
	if h.opt.Task != nil {
		t.task = h.opt.Task(f.Href, r.Size())
	}
	return &hypervisor.ImportContent{ReadCloser: t, Size: r.Size()}, nil
}

// told tells a task how much was read.
type told struct {
	*appliance.Reader
	task Task
	n    int64
	err  error
}

// Read passes bytes on.
func (t *told) Read(b []byte) (int, error) {
	n, err := t.Reader.Read(b)
	t.n += int64(n)
	if t.task != nil {
		t.task.Set(t.n)
	}
	if err != nil && err != io.EOF {
		t.err = err
	}
	return n, err
}

// Close ends the reading.
func (t *told) Close() error {
	if t.task != nil {
		err := t.err
		if err == nil && t.n < t.Size() {
			err = context.Canceled
		}
		t.task.Done(err)
		t.task = nil
	}
	return t.Reader.Close()
}

// made makes what is sent while it is sent. What comes once may come late: nothing
// is begun to be sent before.
func (h *Handover) made(ctx context.Context, s source) (*hypervisor.ImportContent, error) {
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.CloseWithError(h.write(ctx, s, w))
	}()
	end := func() {
		cancel()
		_ = r.CloseWithError(context.Canceled)
		<-done
	}
	first := make([]byte, 1)
	n, err := io.ReadFull(r, first)
	if err != nil && err != io.EOF {
		end()
		return nil, err
	}
	return &hypervisor.ImportContent{Size: -1, ReadCloser: &making{io.MultiReader(bytes.NewReader(first[:n]), r), end}}, nil
}

type making struct {
	io.Reader
	end func()
}

// Close ends the making.
func (m *making) Close() error {
	m.end()
	return nil
}

func (h *Handover) write(ctx context.Context, s source, w io.Writer) error {
	if s.file != nil {
		return h.opt.Content.CopyFile(ctx, s.file, w)
	}
	return h.opt.Content.CopyDisk(ctx, s.disk, func(ctx context.Context, src convert.Source) (disk.Writer, error) {
		opt := disk.CreateOptions{Name: s.disk.ID + ".vmdk", Subformat: "streamOptimized"}
		sum := sha256.Sum256([]byte(opt.Name))
		copy(opt.Identity[:], sum[:])
		return vmdk.Format{}.CreateStream(ctx, w, convert.Suit(ctx, vmdk.Format{}, src, opt, false))
	})
}
