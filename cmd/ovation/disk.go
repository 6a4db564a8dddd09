package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/compressed"
	"github.com/ovation-project/ovation/disk/formats"
	"github.com/ovation-project/ovation/disk/local"
	"github.com/ovation-project/ovation/internal/spool"
	"github.com/ovation-project/ovation/internal/workdir"
)

func newDiskCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "disk",
		Short: "Look into virtual disks and convert them",
		Long: `Work with virtual disk images: files on this machine or a web server, or disks of
a package, written as LOCATOR#DISK where DISK is the disk's ID or its file's name.`,
		Example: `  ovation disk info appliance.ova#vmdisk1
  ovation disk convert disk.vmdk disk.qcow2
  ovation disk check disk.qcow2`,
	}
	asGroup(c)
	for _, sub := range []func(*app) *cobra.Command{newDiskInfoCommand, newDiskConvertCommand, newDiskMapCommand, newDiskCheckCommand, newDiskCompareCommand} {
		c.AddCommand(sub(a))
	}
	return c
}

// openDisk is a disk image that was opened for a command.
type openDisk struct {
	disk.Image
	name  string // as people wrote it, without secrets
	size  int64  // of the file
	close func() error
}

func (d *openDisk) Close() error { return errors.Join(d.Image.Close(), d.close()) }

// far says whether the image is read from a server.
func (d *openDisk) far() bool { return onWeb(d.name) }

// info is what the image says of itself.
func (d *openDisk) info() disk.Info {
	if i, ok := d.Image.(disk.Informer); ok {
		return i.Info()
	}
	return disk.Info{}
}

// openImage opens a disk image; format is what it must be, "" for what its
// bytes show. dir is where copies are put of what has to be unpacked, "" for
// the system's place for large files.
func (a *app) openImage(ctx context.Context, name, format, dir string) (*openDisk, error) {
	if locator, id, ok := packageDisk(name); ok {
		return a.openPackageDisk(ctx, locator, id, format, dir)
	}
	if onWeb(name) {
		return a.openWebImage(ctx, name, format, dir)
	}
	f, files, err := openLocal(name)
	if err != nil {
		return nil, err
	}
	if format, err = a.packedFormat(f, name, format); err != nil {
		return nil, errors.Join(err, f.Close(), files.Close())
	}
	return a.openFile(ctx, f, name, format, dir, files, func() error { return errors.Join(f.Close(), files.Close()) })
}

// openLocal opens a file and the folder that it is in.
func openLocal(name string) (*local.File, *local.Folder, error) {
	f, err := local.Open(name)
	if err != nil {
		return nil, nil, err
	}
	files, err := local.OpenFolder(filepath.Dir(name))
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, files, nil
}

// openFile opens the image that a file holds. close is called when the image is
// closed, or there is none.
func (a *app) openFile(ctx context.Context, f disk.File, name, format, dir string, files disk.Files, close func() error) (*openDisk, error) {
	d := &openDisk{name: name, size: f.Size(), close: close}
	if dir == "" {
		dir = workdir.Base()
	}
	var err error
	if d.Image, err = formats.Open(ctx, f, format, disk.OpenOptions{Files: files, Spool: a.spooler(name, dir)}); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), close())
	}
	return d, nil
}

// spooler keeps copies of what is in compressed files in a folder.
func (a *app) spooler(name, dir string) func(context.Context, io.Reader, string) (disk.File, error) {
	return func(ctx context.Context, r io.Reader, why string) (disk.File, error) {
		a.note("%s is unpacked to %s first: %s", name, dir, why)
		f, err := spool.Copy(ctx, dir, r)
		if err != nil {
			return nil, err
		}
		return f, nil
	}
}

// packedFormat is the format to ask for in a file where raw was asked for: a
// file whose bytes and whose name say that it is compressed is not meant as it
// is.
func (a *app) packedFormat(f disk.File, name, format string) (string, error) {
	if format != "raw" {
		return format, nil
	}
	head, err := compressed.Head(f)
	if err != nil {
		return "", err
	}
	m := compressed.Detect(head)
	base, said := compressed.CutEnding(name)
	switch {
	case m == compressed.None:
	case m == said:
		return format + name[len(base):], nil
	default:
		a.note("%s looks as if it were compressed by %v, and is taken as it is since it is said to be raw", name, m)
	}
	return format, nil
}

// packageDisk splits LOCATOR#DISK. A file that has such a name is a file.
func packageDisk(name string) (locator, id string, ok bool) {
	i := strings.LastIndexByte(name, '#')
	if i < 0 {
		return "", "", false
	}
	if _, err := os.Lstat(name); err == nil {
		return "", "", false
	}
	return name[:i], name[i+1:], true
}

// formatFlag adds a flag that names the format that an image must have.
func formatFlag(c *cobra.Command, p *string, name, usage string) {
	c.Flags().StringVar(p, name, "", usage+" ("+strings.Join(formats.Names(), ", ")+")")
	completeWith(c, name, formats.Names())
}
