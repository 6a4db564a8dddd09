package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/term"
)

// diskInfo is what disk info says of an image.
type diskInfo struct {
	Name      string `json:"name"`
	Format    string `json:"format"`
	Subformat string `json:"subformat,omitempty"`
	// Capacity is what a guest sees, FileSize the file's, both in bytes.
	Capacity int64 `json:"capacity"`
	FileSize int64 `json:"fileSize"`
	// Populated is how much of the capacity is stored, in bytes of the
	// disk; Stored is how many bytes of the files that takes, which is left
	// out where it would have to be gathered from all over a file on a server.
	Populated int64  `json:"populated"`
	Stored    *int64 `json:"stored,omitempty"`
	// Unit is the size of the blocks, in bytes; Codec how they are
	// compressed.
	Unit    int64             `json:"unit,omitempty"`
	Packed  string            `json:"fileCompression,omitempty"` // of the file as a whole
	Codec   string            `json:"codec,omitempty"`
	Parent  string            `json:"parent,omitempty"`
	Files   []string          `json:"files,omitempty"`
	Details map[string]string `json:"details,omitempty"`
	// Notes are what is passed over, or was not as it should be.
	Notes []string `json:"notes,omitempty"`
}

func newDiskInfoCommand(a *app) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "info DISK...",
		Short: "Say what a disk image is",
		Example: `  ovation disk info disk.vmdk
  ovation disk info --json appliance.ova#vmdisk1`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var infos []diskInfo
			for _, name := range args {
				i, err := a.diskInfo(c.Context(), name, format)
				if err != nil {
					return err
				}
				infos = append(infos, i)
			}
			if a.json {
				return a.printJSON(infos)
			}
			for i, info := range infos {
				if i > 0 {
					a.out.Printf("\n")
				}
				info.print(a.out)
			}
			return nil
		},
	}
	formatFlag(c, &format, "format", "the format, where the file does not show it")
	return c
}

func (a *app) diskInfo(ctx context.Context, name, format string) (diskInfo, error) {
	d, err := a.openImage(ctx, name, format, "")
	if err != nil {
		return diskInfo{}, err
	}
	defer d.Close()
	i := d.info()
	info := diskInfo{
		Name: d.name, Format: i.Format, Subformat: i.Subformat, Capacity: d.Size(), FileSize: d.size,
		Unit: i.Unit, Packed: i.Packed, Parent: i.Parent, Files: i.Files, Details: i.Details, Notes: i.Notes,
	}
	if i.Codec != disk.NoCodec {
		info.Codec = i.Codec.String()
	}
	stored, known := int64(0), true
	err = walk(ctx, d.Size(), d.run, func(e disk.Extent) error {
		if e.Kind == disk.Data || e.Kind == disk.Compressed {
			info.Populated += e.Length
			stored += e.FileLength
			known = known && (e.Kind == disk.Data || e.File != nil)
		}
		return nil
	})
	if known {
		info.Stored = &stored
	}
	if err != nil {
		return diskInfo{}, fmt.Errorf("%s: %w", d.name, err)
	}
	return info, nil
}

// run gives the run that holds off: of a disk on a server, without fetching
// something at each compressed block.
func (d *openDisk) run(ctx context.Context, off int64) (disk.Extent, error) {
	if d.far() {
		return disk.Map(ctx, d.Image, off)
	}
	return d.Extent(ctx, off)
}

// walk goes over the extents of an image of a size, as run gives them.
func walk(ctx context.Context, size int64, run func(context.Context, int64) (disk.Extent, error), visit func(disk.Extent) error) error {
	for off := int64(0); off < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		e, err := run(ctx, off)
		if err == io.EOF {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		if e.End() <= off {
			return fmt.Errorf("extent at byte %d of the disk is %d+%d", off, e.Offset, e.Length)
		}
		if err := visit(e); err != nil {
			return err
		}
		off = e.End()
	}
	return nil
}

func (i diskInfo) print(out *term.Printer) {
	out.Heading(i.Name)
	t := term.NewTable("", "")
	t.Indent = 2
	format := i.Format
	if i.Subformat != "" && i.Subformat != i.Format {
		format += ", " + i.Subformat
	}
	t.Row("Format", format)
	t.Row("Capacity", exactSize(i.Capacity))
	t.Row("File size", exactSize(i.FileSize))
	if i.Packed != "" {
		t.Row("File compressed by", i.Packed)
	}
	t.Row("Populated", exactSize(i.Populated))
	if i.Unit > 0 {
		t.Row("Block size", exactSize(i.Unit))
	}
	if i.Codec != "" {
		t.Row("Compression", i.Codec)
	}
	if i.Parent != "" {
		t.Row("Parent", i.Parent)
	}
	for _, f := range i.Files {
		t.Row("File", f)
	}
	for _, k := range slices.Sorted(maps.Keys(i.Details)) {
		t.Row(k, i.Details[k])
	}
	for _, n := range i.Notes {
		t.Row("Note", n)
	}
	t.Print(out)
}

// exactSize is a size for people, with its bytes.
func exactSize(n int64) string {
	if n < 1024 {
		return term.Size(n)
	}
	return fmt.Sprintf("%s (%d bytes)", term.Size(n), n)
}
