package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/check"
	"github.com/ovation-project/ovation/internal/term"
)

// diskFault is one fault that disk check found. Sectors are of 512 bytes.
type diskFault struct {
	FirstSector int64  `json:"firstSector"`
	Sectors     int64  `json:"sectors"`
	FileOffset  int64  `json:"fileOffset"`
	Text        string `json:"text"`
}

// diskCheck is what disk check says of an image.
type diskCheck struct {
	Name   string `json:"name"`
	Format string `json:"format"`
	Intact bool   `json:"intact"`
	// Units is how many compressed units were decompressed, Stored how
	// many bytes of the files were looked at.
	Units  int   `json:"units"`
	Stored int64 `json:"stored"`
	// Unproved is how many of these bytes have no checksum in the image.
	Unproved int64 `json:"unproved"`
	// Notes are what of the image was passed over, or is not as it should be.
	Notes []string `json:"notes,omitempty"`
	// LostSectors is how much of the disk cannot be read, in sectors.
	LostSectors int64       `json:"lostSectors"`
	Faults      []diskFault `json:"faults"`
	// FaultCount is the number of faults; Faults may hold fewer.
	FaultCount int `json:"faultCount"`
	// Error says why the image could not be looked into.
	Error string `json:"error,omitempty"`
	err   error
}

func newDiskCheckCommand(a *app) *cobra.Command {
	var format string
	var most, workers int
	c := &cobra.Command{
		Use:   "check DISK...",
		Short: "Look for damage in disk images",
		Long: `Check disk images: their structure, and the content and checksum of every
compressed block. Each fault is said with the sectors of the disk that it costs,
and so is how much of the data the format has no checksum of: most have none of
data that is not compressed, and qcow2 has none at all. The exit code is 4 where an
image is damaged.`,
		Example: `  ovation disk check disk.vmdk
  ovation disk check --json appliance.ova#vmdisk1`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			damaged := 0
			var all []diskCheck
			for _, name := range args {
				r, err := a.checkDisk(c.Context(), name, format, most, workers)
				if err != nil {
					return err
				}
				if !r.Intact {
					damaged++
				}
				if a.json {
					all = append(all, r)
				} else {
					r.print(a.out)
				}
			}
			if a.json {
				if err := a.printJSON(all); err != nil {
					return err
				}
			}
			if damaged > 0 {
				return reportedError{fmt.Errorf("%d of %d images: %w", damaged, len(args), disk.ErrCorrupt)}
			}
			return nil
		},
	}
	formatFlag(c, &format, "format", "the format, where the file does not show it")
	c.Flags().IntVar(&most, "max-faults", 1000, "list no more faults than so many an image")
	c.Flags().IntVar(&workers, "workers", 0, "how many processors to use (0: all)")
	return c
}

func (a *app) checkDisk(ctx context.Context, name, format string, most, workers int) (diskCheck, error) {
	d, err := a.openImage(ctx, name, format, "")
	if err != nil {
		return diskCheck{}, err
	}
	defer d.Close()
	r := diskCheck{Name: d.name, Format: d.info().Format, Notes: d.info().Notes, Faults: []diskFault{}}
	progress := a.newProgress()
	defer progress.Wait()
	task := progress.Track(d.name, d.Size())
	res, err := check.Run(ctx, d.Image, check.Options{Workers: workers, Progress: task.Set}, func(f disk.Fault) {
		if len(r.Faults) < most {
			r.Faults = append(r.Faults, diskFault{f.Offset / disk.SectorSize, (f.Length + disk.SectorSize - 1) / disk.SectorSize, f.FileOffset, f.Text})
		}
	})
	task.Done(err)
	if err != nil {
		return r, fmt.Errorf("%s: %w", d.name, err)
	}
	r.Intact, r.FaultCount = res.Faults == 0, res.Faults
	r.Units, r.Stored, r.Unproved = res.Units, res.Stored, res.Unproved
	r.LostSectors = (res.Lost + disk.SectorSize - 1) / disk.SectorSize
	return r, nil
}

// unproved says what the image itself does not show.
func (r diskCheck) unproved() string {
	if r.Unproved == 0 {
		return ""
	}
	return fmt.Sprintf("; %s of its data have no checksum, and only a digest shows whether they were altered", term.Size(r.Unproved))
}

func (r diskCheck) print(out *term.Printer) {
	name := term.Clean(r.Name)
	if r.err != nil {
		out.Printf("%s: %s\n", name, out.Styled(term.Red, "not looked into"))
		return
	}
	if r.Intact {
		out.Printf("%s: %s, %d compressed blocks read%s\n", name, out.Styled(term.Green, "intact"), r.Units, r.unproved())
		r.printNotes(out)
		return
	}
	out.Printf("%s: %s, %d faults, %d sectors lost\n", name, out.Styled(term.Red, "damaged"), r.FaultCount, r.LostSectors)
	for _, f := range r.Faults {
		where := "no sector lost"
		if f.Sectors > 0 {
			where = fmt.Sprintf("sectors %d to %d", f.FirstSector, f.FirstSector+f.Sectors-1)
		}
		out.Printf("  %s (byte %d of the file): %s\n", where, f.FileOffset, term.Clean(f.Text))
	}
	if n := r.FaultCount - len(r.Faults); n > 0 {
		out.Printf("  and %d more\n", n)
	}
	r.printNotes(out)
}

func (r diskCheck) printNotes(out *term.Printer) {
	for _, n := range r.Notes {
		out.Printf("  %s %s\n", out.Styled(term.Yellow, "note:"), term.Clean(n))
	}
}
