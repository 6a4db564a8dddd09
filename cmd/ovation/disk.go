package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/formats"
	"github.com/ovation-project/ovation/disk/local"
)

func newDiskCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "disk",
		Short: "Look into virtual disks and convert them",
		Long: `Work with virtual disk images: files on this machine, or disks of a package,
written as LOCATOR#DISK where DISK is the disk's ID or its file's name.`,
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
	name  string // as people wrote it
	size  int64  // of the file
	close func() error
}

func (d *openDisk) Close() error { return errors.Join(d.Image.Close(), d.close()) }

// info is what the image says of itself.
func (d *openDisk) info() disk.Info {
	if i, ok := d.Image.(disk.Informer); ok {
		return i.Info()
	}
	return disk.Info{}
}

// openImage opens a disk image; format is what it must be, "" for what its
// bytes show.
func (a *app) openImage(ctx context.Context, name, format string) (*openDisk, error) {
	if locator, id, ok := packageDisk(name); ok {
		return a.openPackageDisk(ctx, locator, id, format)
	}
	f, err := local.Open(name)
	if err != nil {
		return nil, err
	}
	files, err := local.OpenFolder(filepath.Dir(name))
	if err != nil {
		f.Close()
		return nil, err
	}
	d := &openDisk{name: name, size: f.Size(), close: func() error { return errors.Join(f.Close(), files.Close()) }}
	if d.Image, err = formats.Open(ctx, f, format, disk.OpenOptions{Files: files}); err != nil {
		d.close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return d, nil
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
	_ = c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(formats.Names(), cobra.ShellCompDirectiveNoFileComp))
}
