package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/compare"
	"github.com/ovation-project/ovation/internal/term"
)

// diskComparison is what disk compare found.
type diskComparison struct {
	Identical bool `json:"identical"`
	// Offset is the first byte of the disks that differs.
	Offset *int64 `json:"offset,omitempty"`
}

var errDisksDiffer = errors.New("the disks differ")

func newDiskCompareCommand(a *app) *cobra.Command {
	var formatA, formatB string
	var opt compare.Options
	c := &cobra.Command{
		Use:   "compare DISK DISK",
		Short: "Say whether two images hold the same disk",
		Long: `Compare what a guest would see of two disk images, whatever their formats. What
one disk has more than the other must read as zeroes; with --strict the
capacities must be equal. The exit code is 1 where the disks differ.`,
		Example: `  ovation disk compare disk.vmdk disk.qcow2
  ovation disk compare appliance.ova#vmdisk1 disk.raw`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			x, err := a.openImage(c.Context(), args[0], formatA, "")
			if err != nil {
				return err
			}
			defer x.Close()
			y, err := a.openImage(c.Context(), args[1], formatB, "")
			if err != nil {
				return err
			}
			defer y.Close()
			progress := a.newProgress()
			task := progress.Track("compare", max(x.Size(), y.Size()))
			opt.Progress = task.Set
			res, err := compare.Run(c.Context(), x.Image, y.Image, opt)
			task.Done(err)
			progress.Wait()
			if err != nil {
				return fmt.Errorf("compare %s and %s: %w", x.name, y.name, err)
			}
			result := diskComparison{Identical: res.Equal}
			if !res.Equal {
				result.Offset = &res.Offset
			}
			switch {
			case a.json:
				err = a.printJSON(result)
			case res.Equal:
				a.out.Printf("%s\n", a.out.Styled(term.Green, "identical"))
			default:
				a.out.Printf("%s from byte %d on (sector %d)\n", a.out.Styled(term.Red, "different"), res.Offset, res.Offset/disk.SectorSize)
			}
			if err == nil && !res.Equal {
				err = reportedError{errDisksDiffer}
			}
			return err
		},
	}
	formatFlag(c, &formatA, "format-a", "the first image's format, where the file does not show it")
	formatFlag(c, &formatB, "format-b", "the second image's format, where the file does not show it")
	c.Flags().BoolVar(&opt.Strict, "strict", false, "the capacities must be equal")
	c.Flags().IntVar(&opt.Workers, "workers", 0, "how many processors to use (0: all)")
	return c
}
