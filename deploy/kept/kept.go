// Package kept is machines that were run here and whose disks stayed in a
// folder: beside the images a file says what the machines are, so that they can
// be exported and migrated as those of a host can.
//
// The file is locked for as long as the machines run.
package kept

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/lifecycle"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/atomicfile"
	"github.com/ovation-project/ovation/internal/filelock"
	"github.com/ovation-project/ovation/ovf"
)

// FileName is that of the file that says what is in a folder.
const FileName = "ovation-machines.json"

// APIVersion names the file's shape.
const APIVersion = "ovation/kept-machines/v1"

// ErrNone says that there are no kept machines in a folder.
var ErrNone = errors.New("no machines were kept there")

// content is what the file holds.
type content struct {
	APIVersion string    `json:"apiVersion"`
	Machines   []machine `json:"machines"`
}

// machine is one machine. Its media are volumes of the pool that the folder is,
// by the names of their files.
type machine struct {
	Machine hypervisor.Machine `json:"machine"`
	Record  hypervisor.Record  `json:"record"`
	// Own is the folder with what else is the machine's, "" for none.
	Own string `json:"own,omitempty"`
}

// Pool is the name of the folder as a pool.
const Pool = "folder"

// Machines are what Keep writes down.
type Machines struct {
	// Package and Resolved are what the machines are of.
	Package  plan.Source
	Resolved *ovf.Resolved
	// Planned are the machines, with the paths of their media.
	Planned []*deploy.Planned
	// Target is what runs them, Environments the drives that carry their
	// environment documents, by the ID of the virtual system; what is in those
	// is not kept.
	Target       *hypervisor.Capabilities
	Environments map[string]string
	// Own gives the folder with what else is a machine's, below the folder.
	Own func(*deploy.Planned) string
	// By is who ran them, and where: alice@workstation.
	By string
}

// Keeper holds machines as running until it is closed, or the program ends.
type Keeper struct{ lock *os.File }

// Close says that they have ended. A nil one is of machines that are not kept.
func (k *Keeper) Close() error {
	if k == nil {
		return nil
	}
	return k.lock.Close()
}

// Keep writes down what machines are in a folder, before they are started. All
// their media have to be in it, but the environment documents. Passwords are not
// written.
func Keep(dir string, m Machines) (*Keeper, error) {
	descriptor, err := lifecycle.NewDescriptor(m.Package.DescriptorName(), m.Package.Document())
	if err != nil {
		return nil, err
	}
	p := plan.PackageOf(m.Package, m.Resolved, "")
	d := lifecycle.Deployment{ID: plan.NewID(), Name: plan.DefaultName(m.Resolved, m.Planned), Appliance: p.Appliance, Locator: p.Locator,
		Made: time.Now().UTC().Truncate(time.Second), By: m.By, Target: m.Target, Descriptor: descriptor, Environments: m.Environments}
	var planned []*deploy.Planned
	c := content{APIVersion: APIVersion}
	for _, x := range m.Planned {
		one := *x
		one.Machine.Drives = slices.Clone(x.Machine.Drives)
		withoutEnvironment(&one, m.Environments[x.System.ID])
		for i := range one.Machine.Drives {
			if err := inFolder(dir, &one.Machine.Drives[i]); err != nil {
				return nil, fmt.Errorf("machine %s: %w", one.Machine.ID, err)
			}
		}
		planned = append(planned, &one)
		k := machine{Machine: one.Machine}
		if m.Own != nil {
			if k.Own, err = within(dir, m.Own(x)); err != nil {
				return nil, fmt.Errorf("machine %s: %w", one.Machine.ID, err)
			}
		}
		c.Machines = append(c.Machines, k)
	}
	records, _, err := lifecycle.Records(d, m.Resolved, planned)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for i := range c.Machines {
		c.Machines[i].Record = records[i]
		x := &c.Machines[i].Machine
		x.Name = plan.HostName(x.ID)
		for n := 2; x.Name == "" || names[x.Name]; n++ {
			x.Name = fmt.Sprintf("machine-%d", n)
		}
		names[x.Name] = true
	}
	if err := write(dir, c); err != nil {
		return nil, err
	}
	return hold(dir)
}

// withoutEnvironment takes the environment document out of a machine: it goes
// with the run, passwords may be in it. So does its drive, unless it is one of
// the descriptor's.
func withoutEnvironment(p *deploy.Planned, drive string) {
	i := slices.IndexFunc(p.Machine.Drives, func(d hypervisor.Drive) bool { return d.ID == drive && drive != "" })
	if i < 0 {
		return
	}
	if slices.ContainsFunc(p.System.Items, func(x *ovf.ResolvedItem) bool { return x.InstanceID == drive }) {
		p.Machine.Drives[i].Medium = nil
		return
	}
	on := p.Machine.Drives[i].Controller
	p.Machine.Drives = slices.Delete(p.Machine.Drives, i, i+1)
	if !slices.ContainsFunc(p.Machine.Drives, func(d hypervisor.Drive) bool { return d.Controller == on }) {
		p.Machine.Controllers = slices.DeleteFunc(slices.Clone(p.Machine.Controllers), func(c hypervisor.Controller) bool { return c.ID == on })
	}
}

// within is a path as it is from a folder, which it has to be in.
func within(dir, path string) (string, error) {
	name, err := filepath.Rel(dir, path)
	if err == nil && !filepath.IsLocal(name) {
		err = fmt.Errorf("%s is not in %s", path, dir)
	}
	return filepath.ToSlash(name), err
}

// inFolder names a drive's medium as a file of the folder.
func inFolder(dir string, d *hypervisor.Drive) error {
	if d.Medium == nil {
		return nil
	}
	if d.Medium.Socket != "" || d.Medium.Below != nil {
		return fmt.Errorf("what is in drive %s is not whole in %s", d.ID, dir)
	}
	name, err := within(dir, d.Medium.Path)
	if err != nil {
		return err
	}
	medium := *d.Medium
	medium.Path, medium.Volume = "", &hypervisor.VolumeRef{Pool: Pool, Name: name}
	d.Medium = &medium
	return nil
}

func write(dir string, c content) error {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	set := atomicfile.New(context.Background(), dir, atomicfile.Options{Replace: true})
	defer set.Abort()
	f, err := set.CreateFile(FileName)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(text, '\n')); err != nil {
		return err
	}
	return set.Commit(context.Background())
}

// hold locks the file for machines that are about to run.
func hold(dir string) (*Keeper, error) {
	f, err := os.Open(filepath.Join(dir, FileName)) // #nosec G304
	if err != nil {
		return nil, err
	}
	if err := filelock.Try(f, filelock.Exclusive); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", f.Name(), err), f.Close())
	}
	return &Keeper{f}, nil
}

// maxFile bounds what is read of the file: it holds descriptors.
const maxFile = 64 << 20

func read(root *os.Root) (content, error) {
	var c content
	f, err := root.Open(FileName)
	if err != nil {
		return c, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("more than %d bytes", maxFile)
	}
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err == nil && c.APIVersion != APIVersion {
		err = fmt.Errorf("its apiVersion is %q, and this program knows %s", c.APIVersion, APIVersion)
	}
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return c, fmt.Errorf("%s: %w", FileName, err)
	}
	return c, nil
}

// check sees that names differ, and that nothing leads out of the folder: the
// file may have come with it from anywhere.
func (c *content) check() error {
	names := map[string]bool{}
	for i := range c.Machines {
		m := &c.Machines[i].Machine
		if m.Name == "" || names[m.Name] || m.Name != plan.HostName(m.Name) {
			return fmt.Errorf("machine %q has no name, or that of another, or one that no host takes", m.Name)
		}
		names[m.Name] = true
		if own := c.Machines[i].Own; own != "" && !(filepath.IsLocal(own) && own != "." && !strings.Contains(own, `\`)) {
			return fmt.Errorf("machine %s: %q is not in the folder", m.Name, own)
		}
		for _, d := range m.Drives {
			if d.Medium == nil {
				continue
			}
			v := d.Medium.Volume
			if v == nil || v.Pool != Pool || d.Medium.Path != "" || d.Medium.Socket != "" || d.Medium.Below != nil ||
				!filepath.IsLocal(v.Name) || v.Name == FileName || strings.Contains(v.Name, `\`) {
				return fmt.Errorf("machine %s, drive %s: its medium is no file of the folder", m.Name, d.ID)
			}
		}
	}
	return nil
}
