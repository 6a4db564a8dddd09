package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/ovation-project/ovation/hypervisor"
)

// libvirt writes what serial ports say to files, by its log daemon (virtlogd)
// or itself, and begins anew when a machine is powered on. The log daemon keeps
// a file from growing without end: NAME.log becomes NAME.log.0, that NAME.log.1,
// and the oldest goes.

// systemLogs is where the system's libvirt has the logs of QEMU's machines; its
// log daemon may write there under every security policy.
const systemLogs = "/var/log/libvirt/qemu"

// mostBackups bounds how many files one log is looked for in.
const mostBackups = 100

func logName(machine string, port int) string { return fmt.Sprintf("%s-serial%d.log", machine, port) }

// logs says where the host is to keep what the serial ports of a machine say:
// beside libvirt's own logs, or where that is not known, beside the machine's
// first disk; nil where it can't.
func (h *Host) logs(m hypervisor.Machine, places map[hypervisor.VolumeRef]place) func(int) string {
	if h.target.driver != "qemu" {
		return nil
	}
	dir := ""
	switch {
	case !h.target.session():
		dir = systemLogs
	case h.target.local() && h.target.socket == "":
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil
		}
		dir = filepath.Join(cache, "libvirt", "qemu", "log")
	default:
		// Another user's session, whose folders are not known.
		for _, d := range m.Drives {
			if d.Medium != nil && d.Medium.Volume != nil && dir == "" {
				if p := places[*d.Medium.Volume]; p.kind == "file" {
					dir = path.Dir(p.path)
				}
			}
		}
		if dir == "" {
			return nil
		}
	}
	return func(port int) string { return path.Join(dir, logName(m.Name, port)) }
}

// logsOf are the paths of a domain's serial logs, by the port.
func logsOf(x *libvirtxml.Domain) map[int]string {
	logs := map[int]string{}
	if x.Devices == nil {
		return logs
	}
	for i, s := range x.Devices.Serials {
		port := i
		if s.Target != nil && s.Target.Port != nil {
			port = int(*s.Target.Port)
		}
		if s.Log != nil && s.Log.File != "" {
			logs[port] = s.Log.File
		}
	}
	return logs
}

// ownLogs are the logs that this program had libvirt make for the domain.
func (g *guest) ownLogs(c *connection) (own []string) {
	x, err := domainXML(c, g.dom, golibvirt.DomainXMLInactive)
	if err != nil {
		return nil
	}
	for port, p := range logsOf(x) {
		if path.Base(p) == logName(g.dom.Name, port) {
			own = append(own, p)
		}
	}
	return own
}

// SerialLog reads the log of a port: the file itself where this program can,
// else through libvirt.
func (g *guest) SerialLog(ctx context.Context, port int, from int64) (said io.ReadCloser, at int64, err error) {
	logs, err := ask(ctx, g.h, func(c *connection) (map[int]string, error) {
		x, err := domainXML(c, g.dom, 0)
		if err != nil {
			return nil, err
		}
		return logsOf(x), nil
	})
	if err != nil {
		return nil, 0, g.fail("serial log", err)
	}
	name, ok := logs[port]
	if !ok {
		return nil, 0, g.fail("serial log", fmt.Errorf("libvirt keeps none of port %d: %w", port, hypervisor.ErrNotFound))
	}
	if g.h.target.local() {
		said, at, err = readLog(ctx, localFolder{}, name, from)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return said, at, g.logError(err)
		}
	}
	folder, err := g.h.openFolder(ctx, path.Dir(name))
	if err != nil {
		return nil, 0, g.fail("serial log", err)
	}
	said, at, err = readLog(ctx, folder, name, from)
	if err != nil {
		return nil, 0, g.logError(errors.Join(err, folder.close(ctx)))
	}
	return closing{said, func() error { return folder.close(context.WithoutCancel(ctx)) }}, at, nil
}

func (g *guest) logError(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("the machine was not started yet: %w", hypervisor.ErrNotFound)
	}
	return g.fail("serial log", err)
}

// closing does something more when it is closed.
type closing struct {
	io.ReadCloser
	more func() error
}

// Close closes both.
func (c closing) Close() error { return errors.Join(c.ReadCloser.Close(), c.more()) }

// folder is a folder of the host's. What is not there is fs.ErrNotExist.
type folder interface {
	size(ctx context.Context, name string) (int64, error)
	read(ctx context.Context, name string, from int64) (io.ReadCloser, error)
	remove(ctx context.Context, name string) error
}

// readLog reads a log with its older files, from a byte of all of them on.
func readLog(ctx context.Context, f folder, name string, from int64) (io.ReadCloser, int64, error) {
	now, err := f.size(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	names, sizes, before := []string{name}, []int64{now}, int64(0)
	for n := range mostBackups {
		old := fmt.Sprintf("%s.%d", name, n)
		size, err := f.size(ctx, old)
		if err != nil {
			break
		}
		names, sizes = append(names, old), append(sizes, size)
		before += size
	}
	if from > before+now {
		// It is shorter than it was: a new one, or the oldest file went.
		from = before
	}
	skip := from
	var all []io.Reader
	var closers []io.Closer
	for i := len(names) - 1; i >= 0; i-- {
		if skip >= sizes[i] && i > 0 {
			skip -= sizes[i]
			continue
		}
		r, err := f.read(ctx, names[i], skip)
		if err != nil {
			for _, c := range closers {
				_ = c.Close()
			}
			return nil, 0, err
		}
		skip = 0
		all, closers = append(all, r), append(closers, r)
	}
	return &joined{io.MultiReader(all...), closers}, from, nil
}

// joined is several readers, one after the other.
type joined struct {
	io.Reader
	parts []io.Closer
}

// Close closes them all.
func (j *joined) Close() (err error) {
	for _, p := range j.parts {
		err = errors.Join(err, p.Close())
	}
	return err
}

// localFolder is any of this machine's.
type localFolder struct{}

func (localFolder) size(_ context.Context, name string) (int64, error) {
	f, err := os.Open(name) // #nosec G304: the host's own log
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("%s is no regular file", name)
	}
	return info.Size(), nil
}

func (localFolder) read(_ context.Context, name string, from int64) (io.ReadCloser, error) {
	f, err := os.Open(name) // #nosec G304: the host's own log
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (localFolder) remove(_ context.Context, name string) error { return os.Remove(name) }

// poolFolder is a folder of the host's that libvirt shows as a storage pool.
type poolFolder struct {
	h    *Host
	pool string
}

// folderPool begins the names of pools that are there for a moment.
const folderPool = "ovation-folder-"

// openFolder has libvirt show a folder: in a pool that it has of it, or in one
// that goes when the folder is closed. A program that was killed may leave such
// a pool; it is used, and goes then. Removing a pool leaves files alone.
func (h *Host) openFolder(ctx context.Context, dir string) (*poolFolder, error) {
	name, err := ask(ctx, h, func(c *connection) (string, error) {
		if ref, err := poolOfFolder(c, path.Join(dir, "x")); err == nil {
			return ref.Pool, nil
		}
		x := libvirtxml.StoragePool{Type: "dir", Name: folderPool + randomUUID()[:8], Target: &libvirtxml.StoragePoolTarget{Path: dir}}
		text, err := x.Marshal()
		if err != nil {
			return "", err
		}
		_, err = c.StoragePoolCreateXML(text, 0)
		if err == nil {
			return x.Name, nil
		}
		// Another may have been quicker.
		if ref, again := poolOfFolder(c, path.Join(dir, "x")); again == nil {
			return ref.Pool, nil
		}
		return "", fmt.Errorf("the host's folder %s: %w", dir, err)
	})
	if err != nil {
		return nil, err
	}
	if err := h.refresh(ctx, name); err != nil {
		return nil, err
	}
	return &poolFolder{h, name}, nil
}

func (f *poolFolder) close(ctx context.Context) error {
	if !strings.HasPrefix(f.pool, folderPool) {
		return nil
	}
	err := f.h.call(ctx, func(c *connection) error {
		p, err := c.StoragePoolLookupByName(f.pool)
		if err != nil {
			return err
		}
		return c.StoragePoolDestroy(p)
	})
	if errors.Is(err, hypervisor.ErrNotFound) {
		return nil
	}
	return err
}

// volume finds a file; libvirt's list is not made anew for each that is not
// there.
func (f *poolFolder) volume(c *connection, name string) (golibvirt.StorageVol, error) {
	p, err := c.StoragePoolLookupByName(f.pool)
	if err != nil {
		return golibvirt.StorageVol{}, err
	}
	v, err := c.StorageVolLookupByName(p, path.Base(name))
	if is(err, golibvirt.ErrNoStorageVol) {
		err = fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return v, err
}

func (f *poolFolder) size(ctx context.Context, name string) (int64, error) {
	return ask(ctx, f.h, func(c *connection) (int64, error) {
		v, err := f.volume(c, name)
		if err != nil {
			return 0, err
		}
		_, size, _, err := c.StorageVolGetInfo(v)
		return bounded(size), err
	})
}

func (f *poolFolder) read(ctx context.Context, name string, from int64) (io.ReadCloser, error) {
	size, err := f.size(ctx, name)
	if err != nil {
		return nil, err
	}
	v, err := ask(ctx, f.h, func(c *connection) (golibvirt.StorageVol, error) { return f.volume(c, name) })
	if err != nil {
		return nil, err
	}
	r := &volumeReader{ctx: ctx, h: f.h, vol: v, size: size, format: "raw"}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(r, from, max(0, size-from)), r}, nil
}

func (f *poolFolder) remove(ctx context.Context, name string) error {
	return f.h.call(ctx, func(c *connection) error {
		v, err := f.volume(c, name)
		if err != nil {
			return err
		}
		return c.StorageVolDelete(v, 0)
	})
}

// removeLog removes a log with its older files. What is not there is no error.
func (h *Host) removeLog(ctx context.Context, name string) error {
	if h.target.local() {
		err := removeAll(ctx, localFolder{}, name)
		if err == nil {
			if ref, err := ask(ctx, h, func(c *connection) (hypervisor.VolumeRef, error) { return poolOfFolder(c, name) }); err == nil {
				return h.refresh(ctx, ref.Pool)
			}
			return nil
		}
		h.log.DebugContext(ctx, "a log can't be removed from here", "error", err)
	}
	folder, err := h.openFolder(ctx, path.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(removeAll(ctx, folder, name), folder.close(context.WithoutCancel(ctx)))
}

func removeAll(ctx context.Context, f folder, name string) error {
	err := f.remove(ctx, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for n := range mostBackups {
		err := f.remove(ctx, fmt.Sprintf("%s.%d", name, n))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return err
		}
	}
	return nil
}
