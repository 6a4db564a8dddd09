package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/compressed"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/disk/formats"
	"github.com/ovation-project/ovation/internal/atomicfile"
	"github.com/ovation-project/ovation/internal/freespace"
	"github.com/ovation-project/ovation/internal/readahead"
	"github.com/ovation-project/ovation/internal/replay"
	"github.com/ovation-project/ovation/internal/spool"
	"github.com/ovation-project/ovation/internal/term"
)

// diskConvertFlags are what disk convert is told.
type diskConvertFlags struct {
	from, to  string
	disk      string
	subformat string
	compress  bool
	decided   bool // --compress was given, either way
	codec     string
	unit      string
	level     int
	force     bool
	unchecked bool
	noSync    bool
	// packed is how the destination is compressed as a whole.
	packed compressed.Method
	// noSpaceCheck leaves it to the writes to find out.
	noSpaceCheck bool
	trust        trustFlags
	workers      int
}

// diskConversion is what disk convert did; all numbers are bytes.
type diskConversion struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	Format      string `json:"format"`
	Subformat   string `json:"subformat"`
	Capacity    int64  `json:"capacity"`
	// FileSize is that of the image's first file.
	FileSize int64 `json:"fileSize"`
	// FileCompression is how that file is compressed as a whole.
	FileCompression string `json:"fileCompression,omitempty"`
	// Of the disk, so much was handed on compressed as it was, compressed
	// anew, written as it is, and copied by the system.
	Passed     int64 `json:"passed"`
	Compressed int64 `json:"compressed"`
	Written    int64 `json:"written"`
	Cloned     int64 `json:"cloned"`
}

func newDiskConvertCommand(a *app) *cobra.Command {
	var f diskConvertFlags
	c := &cobra.Command{
		Use:   "convert SOURCE DESTINATION",
		Short: "Convert a disk image to another format",
		Long: `Convert a disk image. The destination's format is that of its name's ending
unless --to says it. The destination appears under its name only when it is
complete.

Compressed blocks are handed on as they are where both formats store them
alike, as VMDK's streamOptimized and qcow2 do: unless --compress=false says
otherwise, such a conversion makes a compressed image.

SOURCE is a file, which may be compressed as a whole (disk.img.xz), the URL of
one, a disk of a package (LOCATOR#DISK), or - for standard input. What comes over
a network or a pipe is converted as it arrives where the format allows.
DESTINATION - writes to standard output, in the formats that can be written front
to back.`,
		Example: `  ovation disk convert disk.vmdk disk.qcow2
  ovation disk convert disk.qcow2 disk.vmdk --subformat streamOptimized
  ovation disk convert appliance.ova#vmdisk1 disk.raw
  curl -s https://example.org/appliance.ova | ovation disk convert - disk.qcow2 --disk vmdisk1
  ovation disk convert https://example.org/disk.img.xz disk.qcow2
  cat disk.vmdk | ovation disk convert - disk.qcow2`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			f.decided = c.Flags().Changed("compress")
			return a.convertDisk(c.Context(), args[0], args[1], f)
		},
	}
	formatFlag(c, &f.from, "from", "the source's format, where the file does not show it")
	c.Flags().StringVar(&f.disk, "disk", "", "the disk of a package that SOURCE is, as LOCATOR#DISK names it; for - too")
	formatFlag(c, &f.to, "to", "the destination's format")
	c.Flags().StringVar(&f.subformat, "subformat", "", "the destination's subformat, such as streamOptimized")
	c.Flags().BoolVar(&f.compress, "compress", false, "store compressed blocks; without this flag, if the source's can be handed on")
	c.Flags().StringVar(&f.codec, "codec", "", "how blocks are compressed, where the format has a choice (deflate, zstd)")
	c.Flags().StringVar(&f.unit, "unit", "", "block size of the destination, such as 64KiB")
	c.Flags().IntVar(&f.level, "level", 0, "compression level, 1 (fast) to 9 (small)")
	c.Flags().BoolVarP(&f.force, "force", "f", false, "replace an existing destination")
	c.Flags().BoolVar(&f.unchecked, "unchecked", false, "do not decompress blocks that are handed on to see if they are intact")
	c.Flags().BoolVar(&f.noSync, "no-sync", false, "do not wait until the destination is on the disk")
	c.Flags().BoolVar(&f.noSpaceCheck, "no-space-check", false, "begin even where there seems to be too little room for the destination")
	c.Flags().IntVar(&f.workers, "workers", 0, "how many processors to use (0: all)")
	f.trust.registerPolicy(c.Flags())
	return c
}

// options turns the flags into what the format is to make.
func (f *diskConvertFlags) options(dst string) (disk.Format, disk.CreateOptions, error) {
	opt := disk.CreateOptions{Name: filepath.Base(dst), Subformat: f.subformat, Compress: f.compress, Level: f.level}
	base, packed := compressed.CutEnding(dst)
	format, ok := formats.ByExtension(base)
	if f.to != "" {
		var err error
		if format, err = formats.ByName(f.to); err != nil {
			return nil, opt, usageError{err}
		}
	} else if !ok {
		return nil, opt, usagef("the ending of %q is of no known format: give --to %s", dst, strings.Join(formats.Names(), "|"))
	}
	if packed != compressed.None && !packed.CanWrite() {
		return nil, opt, usagef("files that are compressed by %v are not written: convert to standard output, and pipe that through a program that does", packed)
	}
	f.packed = packed
	switch f.codec {
	case "":
	case disk.Deflate.String():
		opt.Codec, opt.Compress = disk.Deflate, true
	case disk.Zstd.String():
		opt.Codec, opt.Compress = disk.Zstd, true
	default:
		return nil, opt, usagef("--codec is deflate or zstd, not %q", f.codec)
	}
	if f.subformat != "" && !slices.Contains(format.Subformats(), f.subformat) {
		return nil, opt, usagef("--subformat of %s is %s, not %q", format.Name(), strings.Join(format.Subformats(), ", "), f.subformat)
	}
	if f.level < 0 || f.level > 9 {
		return nil, opt, usagef("--level is 1 to 9, not %d", f.level)
	}
	if f.unit != "" {
		var err error
		if opt.Unit, err = term.ParseSize(f.unit); err != nil {
			return nil, opt, usagef("--unit: %w", err)
		}
	}
	return format, opt, nil
}

func (a *app) convertDisk(ctx context.Context, source, destination string, f diskConvertFlags) (err error) {
	defer littleGarbage()()
	if f.disk != "" {
		source += "#" + f.disk
	}
	format, opt, err := f.options(destination)
	if err != nil {
		return err
	}
	if destination == "-" && a.json {
		return usagef("--json and the image cannot both go to standard output")
	}
	dir := filepath.Dir(destination)
	set := atomicfile.New(ctx, dir, atomicfile.Options{Replace: f.force, NoSync: f.noSync})
	defer set.Abort()

	src, err := a.openSource(ctx, source, dir, f)
	if err != nil {
		return err
	}
	defer src.close()
	opt = convert.Suit(ctx, format, src.disk, opt, f.decided)
	// Identifiers come from what is known before anything is read, so that
	// the same command makes the same bytes.
	seed := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d", filepath.Base(source), opt.Name, opt.Size))
	copy(opt.Identity[:], seed[:])

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := a.create(ctx, set, format, f.packed, destination, opt)
	if err != nil {
		err = fmt.Errorf("%s: %w", destination, err)
		if errors.Is(err, disk.ErrUnsupported) && (f.unit != "" || f.codec != "" || f.compress || destination == "-" || f.packed != compressed.None) {
			err = usageError{err}
		}
		return err
	}

	if destination != "-" && f.packed == compressed.None && !f.noSpaceCheck {
		if err := checkSpace(ctx, dir, src.disk, w); err != nil {
			return fmt.Errorf("convert %s: %w", source, err)
		}
	}

	progress := a.newProgress()
	defer progress.Wait()
	name := opt.Name
	if destination == "-" {
		name = "standard output"
	}
	task := progress.Track(name, src.disk.Size())
	stats, err := src.run(ctx, w, convert.Options{
		Workers: f.workers, Level: f.level, Trusted: f.unchecked,
		Progress: func(p convert.Progress) { task.Set(p.Done) },
	})
	result := diskConversion{
		Source: source, Destination: destination, Format: format.Name(), Subformat: opt.Subformat, Capacity: opt.Size,
		Passed: stats.Passed, Compressed: stats.Compressed, Written: stats.Written, Cloned: stats.Cloned,
	}
	if err == nil && destination != "-" {
		err = set.Commit(ctx)
	}
	task.Done(err)
	if err != nil {
		return fmt.Errorf("convert %s: %w", source, err)
	}
	if destination == "-" {
		return nil
	}
	st, err := os.Stat(destination)
	if err != nil {
		return err
	}
	result.FileSize = st.Size()
	if f.packed != compressed.None {
		result.FileCompression = f.packed.String()
	}
	if result.Subformat == "" {
		result.Subformat = format.Subformats()[0]
	}
	if a.json {
		return a.printJSON(result)
	}
	progress.Wait()
	a.out.Printf("%s: %s, %s of disk in %s\n", term.Clean(destination), result.Format, term.Size(result.Capacity), term.Size(result.FileSize))
	return nil
}

// create begins the destination.
func (a *app) create(ctx context.Context, set *atomicfile.Set, format disk.Format, packed compressed.Method, destination string, opt disk.CreateOptions) (disk.Writer, error) {
	switch {
	case destination == "-":
		s, ok := format.(disk.StreamCreator)
		if !ok {
			return nil, fmt.Errorf("%s cannot be written to standard output: it is not written front to back: %w", format.Name(), disk.ErrUnsupported)
		}
		return s.CreateStream(ctx, a.out, opt)
	case packed != compressed.None:
		f, err := set.CreateFile(opt.Name)
		if err != nil {
			return nil, err
		}
		opt.Name, _ = compressed.CutEnding(opt.Name) // the image's own
		return formats.CreatePacked(ctx, format, f, packed, opt)
	}
	return format.Create(ctx, set, opt)
}

// checkSpace refuses a conversion for which there is no room.
func checkSpace(ctx context.Context, dir string, src convert.Source, w disk.Writer) error {
	need, err := convert.Needs(ctx, src, w)
	if err != nil {
		return err
	}
	if !freespace.SharesBlocks(dir) {
		need.Stored += need.Cloned
	}
	if err := freespace.Check(dir, need.Stored); err != nil {
		return fmt.Errorf("%w (--no-space-check tries all the same)", err)
	}
	return nil
}

// diskSource is what disk convert reads from.
type diskSource struct {
	disk  convert.Source
	run   func(context.Context, disk.Writer, convert.Options) (convert.Stats, error)
	close func() error
}

// plainSource is a source of which nobody knows what it should be.
func plainSource(src convert.Source, closing func() error) *diskSource {
	return &diskSource{
		disk: src,
		run: func(ctx context.Context, w disk.Writer, opt convert.Options) (convert.Stats, error) {
			return convert.Run(ctx, src, w, opt)
		},
		close: closing,
	}
}

// openSource opens a source, by seeking where that is possible. dir is where a
// copy may be put of what has to be seeked in and cannot be.
func (a *app) openSource(ctx context.Context, name, dir string, f diskConvertFlags) (*diskSource, error) {
	format := f.from
	if locator, id, ok := packageDisk(name); ok {
		return a.openPackageSource(ctx, locator, id, dir, f)
	}
	if onWeb(name) {
		return a.openWebSource(ctx, name, format, dir)
	}
	if name != "-" {
		file, files, err := openLocal(name)
		if err != nil {
			return nil, err
		}
		return a.openFileSource(ctx, file, name, format, dir, files, func() error { return errors.Join(file.Close(), files.Close()) })
	}
	return a.openArriving(ctx, incoming{r: a.stdin, size: -1, name: "standard input"}, format, dir)
}

// incoming is an image that comes once.
type incoming struct {
	r    io.Reader
	size int64 // -1 where it is not known
	name string
	// stop ends the reading, and is nil for what cannot be made to: a
	// terminal, or a pipe, whose writer must not find it closed.
	stop func()
}

// openArriving opens a source that comes once.
func (a *app) openArriving(ctx context.Context, from incoming, format, dir string) (*diskSource, error) {
	ahead := readahead.New(ctx, from.r, 3, 256<<10)
	in := replay.New(ahead)
	end := func() error {
		if from.stop != nil {
			from.stop()
			return ahead.Close()
		}
		if ctx.Err() == nil {
			_, _ = io.Copy(io.Discard, in)
		}
		return nil
	}
	s, err := formats.OpenStreamAs(ctx, in, format, func() (int64, error) { return from.size, nil })
	if err == nil {
		in.Forget()
		return plainSource(s, end), nil
	}
	if !errors.Is(err, disk.ErrNeedsSeek) {
		return nil, errors.Join(fmt.Errorf("%s: %w", from.name, err), end())
	}
	a.note("%s is copied to %s first: an image of its format cannot be converted as it arrives", from.name, dir)
	if err := freespace.Check(dir, from.size); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", from.name, err), end())
	}
	f, err := spool.Copy(ctx, dir, in.Again())
	if err := errors.Join(err, end()); err != nil {
		return nil, fmt.Errorf("%s: %w", from.name, err)
	}
	if f.Size() == 0 {
		// Whatever should have written to us did not.
		return nil, errors.Join(fmt.Errorf("%s is empty", from.name), f.Close())
	}
	return a.openFileSource(ctx, f, from.name, format, dir, nil, f.Close)
}

// openFileSource opens what a file holds: one that is compressed as a whole is
// unpacked on the way, where its image can be read so. close is called when the
// source is closed, or there is none.
func (a *app) openFileSource(ctx context.Context, f disk.File, name, format, dir string, files disk.Files, close func() error) (*diskSource, error) {
	format, err := a.packedFormat(f, name, format)
	if err != nil {
		return nil, errors.Join(err, close())
	}
	s, err := formats.OpenPacked(ctx, f, format, func(what string) { a.note("%s: %s", name, what) })
	if err == nil {
		return plainSource(s, func() error {
			var err error
			if c, ok := s.(io.Closer); ok {
				err = c.Close()
			}
			return errors.Join(err, close())
		}), nil
	}
	if !errors.Is(err, disk.ErrFormat) && !errors.Is(err, disk.ErrNeedsSeek) {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), close())
	}
	d, err := a.openFile(ctx, f, name, format, dir, files, close)
	if err != nil {
		return nil, err
	}
	for _, n := range d.info().Notes {
		a.note("%s: %s", name, n)
	}
	return plainSource(d.Image, d.Close), nil
}
