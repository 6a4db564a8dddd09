package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ovation-project/ovation/author/build"
	"github.com/ovation-project/ovation/author/export"
	"github.com/ovation-project/ovation/deploy/kept"
	"github.com/ovation-project/ovation/deploy/lifecycle"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/term"
)

// sourceFlags say how machines are read from hosts.
type sourceFlags struct {
	live     bool
	shutdown bool
	wait     time.Duration
	mac      string
	uuid     string
	settings []string
}

func (f *sourceFlags) register(s *pflag.FlagSet) {
	s.BoolVar(&f.live, "live", false, "take machines that run by a snapshot of their disks, and let them go on")
	s.BoolVar(&f.shutdown, "shutdown", false, "ask machines that run to power off first")
	s.DurationVar(&f.wait, "wait", 5*time.Minute, "for how long to wait until they have")
	s.StringVar(&f.mac, "mac", "new", "addresses of network cards: new ones at each deployment, or keep")
	s.StringArrayVar(&f.settings, "extra-config", nil, "settings of vSphere's to take along (extraConfig), as a pattern such as 'disk.*'; again for more. They may be secret")
	s.StringVar(&f.uuid, "uuid", "new", "the UUIDs that guests see: new ones at each deployment, or keep")
}

// options turns the flags into options.
func (f *sourceFlags) options() (export.Options, error) {
	opt := export.Options{Live: f.live}
	for _, p := range f.settings {
		if _, err := path.Match(p, ""); err != nil {
			return opt, usagef("--extra-config %q: %w", p, err)
		}
	}
	opt.Machine.Settings = f.settings
	if f.live && f.shutdown {
		return opt, usagef("--live and --shutdown: machines either go on or power off")
	}
	if f.wait <= 0 {
		return opt, usagef("--wait is a time such as 5m, not %v", f.wait)
	}
	if f.shutdown {
		opt.Shutdown = f.wait
	}
	for _, p := range []struct {
		flag, value string
		keep        *bool
	}{{"mac", f.mac, &opt.Machine.KeepMAC}, {"uuid", f.uuid, &opt.Machine.KeepUUID}} {
		switch p.value {
		case "new":
		case "keep":
			*p.keep = true
		default:
			return opt, usagef("--%s is new or keep, not %q", p.flag, p.value)
		}
	}
	return opt, nil
}

type exportFlags struct {
	packageFlags
	sourceFlags
	name    string
	cleanUp bool
}

func newExportCommand(a *app) *cobra.Command {
	var f exportFlags
	c := &cobra.Command{
		Use:   "export URI/NAME|FOLDER [URI/NAME|NAME]...",
		Short: "Make a package of machines that a host has",
		Long: `Make a package of machines of a libvirt host: their hardware as a descriptor,
their disks flattened, with holes left out. Behind the host's URI stands the name
of a machine, or of what 'ovation deploy' made, and then its descriptor's own
sections are kept. A folder of 'ovation run --keep' is its machines. Further names without a URI are on the same host. Several
machines become a collection that starts in the order in which they are named.

A machine that runs is refused, unless --shutdown has it power off first, or
--live takes it by a snapshot: the guest goes on, at rest for a moment where its
agent answers, and what it writes meanwhile is put back into its disks at the
end. After an export that was killed, --clean-up does that.

What a package does not say of a machine is warned of.`,
		Example: `  ovation export qemu:///system/web -o web.ova
  ovation export qemu:///system/web db cache -o shop.ova --name shop
  ovation export qemu+ssh://host/system/web -o web/ --live --format qcow2
  ovation export qemu:///system/web -o web.ova --shutdown --for vsphere --mac keep
  ovation export ./kept -o web.ova
  ovation export qemu:///system/web --clean-up`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.export(c.Context(), args, &f) },
	}
	f.packageFlags.register(c.Flags())
	f.sourceFlags.register(c.Flags())
	c.Flags().StringVar(&f.name, "name", "", "the package's name, and that of the collection of several machines")
	c.Flags().BoolVar(&f.cleanUp, "clean-up", false, "undo on the host what an export with --live left that was killed, and do no more")
	return c
}

// machines finds what command lines name: machines, or all machines of a
// deployment, in the order in which they start, or those in a folder of 'ovation
// run --keep'. What was opened is closed by closing, also after an error.
func (a *app) machines(ctx context.Context, refs []string) (all []export.Source, closing func(), err error) {
	hosts, folders := map[string]hypervisor.Host{}, []*kept.Folder{}
	closing = func() {
		for _, h := range hosts {
			_ = h.Close()
		}
		for _, f := range folders {
			_ = f.Close()
		}
	}
	last := ""
	for _, ref := range refs {
		uri, name := last, ref
		if path, machine, ok := cutKept(ref, last != ""); ok {
			f, err := kept.Open(path)
			if err != nil {
				return nil, closing, err
			}
			folders = append(folders, f)
			for _, n := range f.Names() {
				if machine == "" || machine == n {
					all = append(all, export.Source{Host: f, Name: n})
				}
			}
			continue
		}
		if strings.Contains(ref, "://") || last == "" {
			if uri, name, err = cutMachine(ref); err != nil {
				return nil, closing, err
			}
		}
		last = uri
		host := hosts[uri]
		if host == nil {
			if host, err = a.openHost(ctx, uri); err != nil {
				return nil, closing, err
			}
			hosts[uri] = host
		}
		found, err := machinesOn(ctx, host, name)
		if err != nil {
			return nil, closing, err
		}
		all = append(all, found...)
	}
	return all, closing, nil
}

// machinesOn finds a machine of a host, or all machines of a deployment.
func machinesOn(ctx context.Context, host hypervisor.Host, name string) ([]export.Source, error) {
	_, err := host.Lookup(ctx, name)
	if err == nil {
		return []export.Source{{Host: host, Name: name}}, nil
	}
	if !errors.Is(err, hypervisor.ErrNotFound) {
		return nil, err
	}
	found, lost := lifecycle.Find(ctx, host, name)
	if errors.Is(lost, hypervisor.ErrNotFound) {
		return nil, fmt.Errorf("%s has no machine and no deployment called %q: %w", host.URI(), name, err)
	}
	if lost != nil {
		return nil, lost
	}
	var all []export.Source
	for _, m := range found.Machines {
		all = append(all, export.Source{Host: host, Name: m.Name})
	}
	return all, nil
}

// cutKept tells a folder with kept machines, or one of them as FOLDER/NAME, from
// what is behind the URI of a host. A name alone is a machine where named says
// that a host was named before.
func cutKept(ref string, named bool) (folder, machine string, ok bool) {
	if strings.Contains(ref, "://") || named && !strings.ContainsAny(ref, `/\`) {
		return "", "", false
	}
	if info, err := os.Stat(ref); err == nil && info.IsDir() {
		return ref, "", true
	}
	dir, name := filepath.Split(ref)
	if dir == "" {
		return "", "", false
	}
	if f, err := kept.Open(dir); err == nil {
		defer f.Close()
		if slices.Contains(f.Names(), name) {
			return dir, name, true
		}
	}
	return "", "", false
}

func (a *app) export(ctx context.Context, refs []string, f *exportFlags) (err error) {
	defer littleGarbage()()
	opt, err := f.options()
	if err != nil {
		return err
	}
	if f.output == "" && !f.cleanUp {
		return usagef("--output is needed: the package to write")
	}
	b, err := a.buildOptions(&f.packageFlags)
	if err != nil {
		return err
	}
	from, closing, err := a.machines(ctx, refs)
	defer closing()
	if err != nil {
		return err
	}
	if f.cleanUp {
		return a.cleanUp(ctx, from)
	}
	opt.Name, opt.Note, opt.Warn = f.name, func(s string) { a.note("%s", s) }, func(s string) { a.warn("%s", s) }
	opt.Deployed = deployed
	e, err := export.Begin(ctx, from, opt)
	if err != nil {
		if errors.Is(err, hypervisor.ErrRunning) && !f.live {
			err = fmt.Errorf("%w; --shutdown has it power off first, --live lets it go on", err)
		}
		return err
	}
	defer func() {
		// Whatever happened, the guests get their disks back.
		err = errors.Join(err, e.Close(context.WithoutCancel(ctx)))
	}()
	if err := a.shape(e.Appliance, &f.packageFlags, &b); err != nil {
		return err
	}
	out, err := a.packageOutput(&f.packageFlags, filepath.Base(e.Appliance.Name))
	if err != nil {
		return err
	}
	if err := a.signs(&f.packageFlags, &b); err != nil {
		return err
	}
	result, err := a.built(&b, func() (*build.Result, error) { return e.Build(ctx, out, b) })
	if err != nil || f.output == "-" {
		return err
	}
	if a.json {
		return a.printJSON(exportReport{packageReport(f.output, result), e.Unsaid})
	}
	a.tellFiles(f.output, result.Files)
	return nil
}

// exportReport is what export prints as JSON.
type exportReport struct {
	writtenPackage
	// Unsaid is what the package does not tell of the machines.
	Unsaid []string `json:"unsaid,omitempty"`
}

// deployed says what the host keeps of a machine that was deployed.
func deployed(r *hypervisor.Record) (*export.Deployed, error) {
	data, err := lifecycle.DataOf(r)
	if err != nil {
		return nil, err
	}
	text, err := data.Descriptor.Text()
	if err != nil {
		return nil, err
	}
	d := &export.Deployed{Descriptor: text, Option: data.Option, Volumes: data.Volumes}
	if data.Descriptor != nil {
		d.Name = data.Descriptor.Name
	}
	if data.Environment != nil {
		d.Environment = data.Environment.Volume
	}
	return d, nil
}

// cleanUp undoes what exports left that were killed.
func (a *app) cleanUp(ctx context.Context, from []export.Source) error {
	type cleaned struct {
		Machine string   `json:"machine"`
		Done    []string `json:"done"`
	}
	var all []cleaned
	for _, s := range from {
		x, ok := s.Host.(hypervisor.Exporter)
		if !ok {
			return fmt.Errorf("%s: %w", s.Host.URI(), export.ErrNoExport)
		}
		done, err := x.CleanUp(ctx, s.Name)
		if err != nil {
			return err
		}
		all = append(all, cleaned{s.Name, done})
		if a.json {
			continue
		}
		if len(done) == 0 {
			a.out.Printf("%s: nothing was left\n", term.Clean(s.Name))
		}
		for _, d := range done {
			a.out.Printf("%s: what was in %s is in its disk\n", term.Clean(s.Name), term.Clean(d))
		}
	}
	if a.json {
		return a.printJSON(all)
	}
	return nil
}
