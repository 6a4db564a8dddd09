package kept

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/filelock"
)

var _ hypervisor.Exporter = (*Folder)(nil)

// Folder is a folder with kept machines. They can be looked at, exported and
// removed; what starts a machine is elsewhere.
type Folder struct {
	path string
	root *os.Root

	mu sync.Mutex
	c  content
}

// Open opens a folder. It is ErrNone where nothing was kept.
func Open(path string) (*Folder, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	c, err := read(root)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(c.Machines) == 0 {
		err = fmt.Errorf("%s: %w: 'ovation run --keep' does that", path, ErrNone)
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return &Folder{path: path, root: root, c: c}, nil
}

// Close closes the folder.
func (f *Folder) Close() error { return f.root.Close() }

// URI is the folder's path.
func (f *Folder) URI() string { return f.path }

// Names are the machines' names.
func (f *Folder) Names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for _, m := range f.c.Machines {
		names = append(names, m.Machine.Name)
	}
	return names
}

// Lookup gives a machine as it was run.
func (f *Folder) Lookup(_ context.Context, name string) (*hypervisor.Kept, error) {
	m, err := f.machine(name)
	if err != nil {
		return nil, err
	}
	k := &hypervisor.Kept{Guest: &guest{f, name}, Name: name, Machine: m.Machine, Record: &m.Record}
	for i := range k.Machine.Drives {
		d := &k.Machine.Drives[i]
		d.Capacity = 0 // the image says
		if d.Medium == nil {
			continue
		}
		if info, err := f.root.Stat(filepath.FromSlash(d.Medium.Volume.Name)); err == nil {
			d.Stored = info.Size()
		}
	}
	for i := range k.Machine.NICs {
		n := &k.Machine.NICs[i]
		n.HostNetwork, n.Forwards = "", nil // those of the run
	}
	return k, nil
}

// machine gives a copy of one.
func (f *Folder) machine(name string) (m machine, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range f.c.Machines {
		if x.Machine.Name != name {
			continue
		}
		text, err := json.Marshal(x)
		if err == nil {
			err = json.Unmarshal(text, &m)
		}
		return m, err
	}
	return m, fmt.Errorf("machine %s in %s: %w", name, f.path, hypervisor.ErrNotFound)
}

// running says whether the machines run: whoever runs them has the lock.
func (f *Folder) running() (bool, error) {
	lock, err := f.root.Open(FileName)
	if err != nil {
		return false, err
	}
	defer lock.Close()
	switch err := filelock.Try(lock, filelock.Shared); {
	case errors.Is(err, filelock.ErrHeld):
		return true, nil
	case err != nil:
		return false, err
	}
	return false, nil
}

// ErrElsewhere says that a machine is in the hands of the program that runs it.
var ErrElsewhere = errors.New("it belongs to the program that runs it: end it there (Ctrl-] on its terminal, or Ctrl-C)")

// guest is a kept machine.
type guest struct {
	f    *Folder
	name string
}

func (g *guest) fail(what string, err error) error {
	return fmt.Errorf("machine %s in %s: %s: %w", g.name, g.f.path, what, err)
}

func (g *guest) State(context.Context) (hypervisor.State, error) {
	running, err := g.f.running()
	switch {
	case err != nil:
		return "", err
	case running:
		return hypervisor.Running, nil
	}
	return hypervisor.PoweredOff, nil
}

func (g *guest) Start(context.Context) error {
	return g.fail("start", errors.New("a folder starts nothing; migrate it to a host that does"))
}

func (g *guest) Console() (io.ReadWriteCloser, error) { return nil, g.fail("console", ErrElsewhere) }
func (g *guest) Shutdown(context.Context) error       { return g.fail("shut down", ErrElsewhere) }
func (g *guest) Kill(context.Context) error           { return g.fail("power off", ErrElsewhere) }

// pause is how often a running machine is looked at.
const pause = 200 * time.Millisecond

func (g *guest) Wait(ctx context.Context) (hypervisor.Exit, error) {
	for {
		running, err := g.f.running()
		if err != nil || !running {
			return hypervisor.Exit{Reason: hypervisor.HostShutdown}, err
		}
		select {
		case <-ctx.Done():
			return hypervisor.Exit{}, ctx.Err()
		case <-time.After(pause):
		}
	}
}

func (g *guest) Remove(ctx context.Context) error {
	_, err := g.f.RemoveMachine(ctx, g.name)
	return err
}

// RemoveMachine removes a machine with its disks, and the folder with the last
// one where nothing else is in it. It says what stays, and why.
func (f *Folder) RemoveMachine(_ context.Context, name string) (stays []string, err error) {
	m, err := f.machine(name)
	if errors.Is(err, hypervisor.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	held, err := hold(f.path)
	if errors.Is(err, filelock.ErrHeld) {
		return nil, fmt.Errorf("machine %s in %s: %w: %w", name, f.path, hypervisor.ErrRunning, ErrElsewhere)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	f.mu.Lock()
	defer f.mu.Unlock()
	rest := slices.DeleteFunc(slices.Clone(f.c.Machines), func(x machine) bool { return x.Machine.Name == name })
	needed := map[string]string{}
	for _, x := range rest {
		for _, d := range x.Machine.Drives {
			if d.Medium != nil {
				needed[d.Medium.Volume.Name] = x.Machine.Name
			}
		}
	}
	for _, d := range m.Machine.Drives {
		if d.Medium == nil {
			continue
		}
		file := d.Medium.Volume.Name
		if who := needed[file]; who != "" {
			stays = append(stays, fmt.Sprintf("%s: needed by %s", file, who))
			continue
		}
		if err := f.root.Remove(filepath.FromSlash(file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return stays, err
		}
	}
	if m.Own != "" {
		if err := f.root.RemoveAll(filepath.FromSlash(m.Own)); err != nil {
			return stays, err
		}
	}
	f.c.Machines = rest
	if len(rest) > 0 {
		return stays, write(f.path, f.c)
	}
	if err := f.root.Remove(FileName); err != nil {
		return stays, err
	}
	if err := os.Remove(f.path); err != nil {
		stays = append(stays, fmt.Sprintf("%s: other files are in it", f.path))
	}
	return stays, nil
}

// Export begins to read a machine that does not run.
func (f *Folder) Export(_ context.Context, name string, opt hypervisor.ExportOptions) (hypervisor.Export, error) {
	k, err := f.Lookup(context.Background(), name)
	if err != nil {
		return nil, err
	}
	// As long as it is read nobody removes it.
	lock, err := f.root.Open(FileName)
	if err != nil {
		return nil, err
	}
	if err := filelock.Try(lock, filelock.Shared); err != nil {
		if errors.Is(err, filelock.ErrHeld) {
			err = fmt.Errorf("machine %s in %s: %w, and there are no snapshots of it: %w", name, f.path, hypervisor.ErrRunning, ErrElsewhere)
		}
		return nil, errors.Join(err, lock.Close())
	}
	return &export{f: f, kept: k, lock: lock, stamps: map[string]stamp{}}, nil
}

// CleanUp has nothing to do: an export leaves nothing.
func (f *Folder) CleanUp(_ context.Context, name string) ([]string, error) {
	_, err := f.machine(name)
	return nil, err
}

type stamp struct {
	size    int64
	changed time.Time
}

type export struct {
	f    *Folder
	kept *hypervisor.Kept
	lock *os.File
	once sync.Once

	mu     sync.Mutex
	stamps map[string]stamp
}

func (e *export) Kept() *hypervisor.Kept { return e.kept }

func (e *export) Close(context.Context) (err error) {
	e.once.Do(func() { err = e.lock.Close() })
	return err
}

// OpenDrive opens an image. Its header may name no other file: what is in the
// folder is whole.
func (e *export) OpenDrive(_ context.Context, drive string) (*hypervisor.DriveFile, error) {
	i := slices.IndexFunc(e.kept.Machine.Drives, func(d hypervisor.Drive) bool { return d.ID == drive && d.Medium != nil })
	if i < 0 {
		return nil, fmt.Errorf("machine %s: drive %s: its medium: %w", e.kept.Name, drive, hypervisor.ErrNotFound)
	}
	medium := e.kept.Machine.Drives[i].Medium
	file, err := e.f.root.Open(filepath.FromSlash(medium.Volume.Name))
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", file.Name())
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.stamps[medium.Volume.Name]; !ok {
		e.stamps[medium.Volume.Name] = stamp{info.Size(), info.ModTime()}
	}
	return &hypervisor.DriveFile{Name: medium.Volume.Name, Format: medium.Format, At: image{file, info.Size()}, Size: info.Size(), Close: file.Close}, nil
}

// image is an image's file, whose holes the system knows.
type image struct {
	*os.File
	size int64
}

func (i image) Size() int64              { return i.size }
func (i image) Local() (*os.File, int64) { return i.File, 0 }

// Unchanged sees whether the files are as they were.
func (e *export) Unchanged(context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, was := range e.stamps {
		info, err := e.f.root.Stat(filepath.FromSlash(name))
		if err != nil {
			return err
		}
		if info.Size() != was.size || !info.ModTime().Equal(was.changed) {
			return fmt.Errorf("machine %s: %s: %w", e.kept.Name, name, hypervisor.ErrChanged)
		}
	}
	return nil
}
