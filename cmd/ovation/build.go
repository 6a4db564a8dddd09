package main

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/manifest"
	"github.com/ovation-project/ovation/author/build"
	"github.com/ovation-project/ovation/author/pack"
	"github.com/ovation-project/ovation/author/profile"
	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/hypervisor/vsphere"
	"github.com/ovation-project/ovation/internal/redact"
	"github.com/ovation-project/ovation/internal/term"
)

// packageFlags say how a package is written.
type packageFlags struct {
	output    string
	format    string
	manifest  string
	gzip      bool
	chunkSize string
	force     bool
	noSync    bool
	workers   int
	level     int
	profile   string
	option    string
	chunks    bool
	// remove are files of the folder that go when the package comes.
	remove []string
	keyFlags
	// trust says which packages may be sources.
	trust trustFlags
}

// register registers what holds for packages that are made anew.
func (f *packageFlags) register(s *pflag.FlagSet) {
	f.registerContent(s)
	s.StringVar(&f.profile, "for", "", "shape the package for a consumer: "+strings.Join(profile.Names(), ", "))
	s.BoolVar(&f.gzip, "gzip", false, "compress all files")
	s.StringVar(&f.chunkSize, "chunk-size", "", "cut files into chunks of this size, such as 2GB")
}

// registerContent registers what holds for packages that disks are put into.
func (f *packageFlags) registerContent(s *pflag.FlagSet) {
	f.registerOutput(s)
	s.StringVar(&f.format, "format", "", "format of the disks: "+strings.Join(build.Formats(), ", ")+", or keep")
	s.BoolVar(&f.chunks, "chunks", false, "add digests of every 1 MiB of all files, by which disks are proved while they are streamed")
	f.keyFlags.register(s)
	s.IntVar(&f.level, "level", 0, "compression level of disks, 1 (fast) to 9 (small)")
	s.IntVar(&f.workers, "workers", 0, "how many processors to use (0: all)")
}

// registerOutput registers what holds for all commands that write packages.
func (f *packageFlags) registerOutput(s *pflag.FlagSet) {
	s.StringVarP(&f.output, "output", "o", "", "the package to write: an .ova, a folder, an http(s):// URL to PUT an archive to, vsphere://HOST/LIBRARY/ITEM, or - for standard output")
	s.StringVar(&f.manifest, "manifest", "", "digest algorithm of the manifest: sha1, sha256, sha384, sha512, or none (default sha256)")
	s.BoolVarP(&f.force, "force", "f", false, "replace an existing package")
	s.BoolVar(&f.noSync, "no-sync", false, "do not wait until the package is on the disk")
}

// hash gives the manifest's algorithm, 0 for the default, and whether there is
// to be none.
func (f *packageFlags) hash() (h crypto.Hash, none bool, err error) {
	switch f.manifest {
	case "":
		return 0, false, nil
	case "none":
		return 0, true, nil
	}
	h, ok := manifest.Algorithm(f.manifest)
	if !ok {
		return 0, false, usagef("--manifest is sha1, sha256, sha384, sha512 or none, not %q", f.manifest)
	}
	return h, false, nil
}

// sourceDate is the time that SOURCE_DATE_EPOCH says, the zero time where it
// is not set.
func sourceDate() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n >= 1<<33 {
		return time.Time{}, usagef("SOURCE_DATE_EPOCH is a number of seconds since 1970, not %q", text)
	}
	return time.Unix(n, 0).UTC(), nil
}

func (a *app) packOptions(f *packageFlags) pack.Options {
	return pack.Options{Replace: f.force, NoSync: f.noSync, Remove: f.remove, Note: func(s string) { a.note("%s", s) }}
}

// packageOutput gives where the package goes; name is what it is called where
// no output is given.
func (a *app) packageOutput(f *packageFlags, name string) (build.Output, error) {
	if f.output == "" {
		f.output = name + ".ova"
	}
	if f.output == "-" {
		if a.json {
			return nil, usagef("--json and the package cannot both go to standard output")
		}
		if a.out.IsTerminal() {
			return nil, usagef("a package is not for a terminal: give -o a file, or send standard output to one")
		}
		return build.ToWriter(a.out, a.packOptions(f)), nil
	}
	if strings.HasPrefix(f.output, "http://") || strings.HasPrefix(f.output, "https://") {
		opt, err := a.network.options()
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, p *pack.Package) ([]pack.Stored, error) {
			return p.Put(ctx, opt.Client, f.output, a.packOptions(f))
		}, nil
	}
	if vsphere.IsURI(f.output) {
		return a.toLibrary(f)
	}
	return build.ToFile(f.output, a.packOptions(f)), nil
}

// buildOptions turns the flags into options.
func (a *app) buildOptions(f *packageFlags) (build.Options, error) {
	opt := build.Options{Format: f.format, Gzip: f.gzip, ChunkDigests: f.chunks, Workers: f.workers, Level: f.level, Note: func(s string) { a.note("%s", s) }}
	var err error
	if opt.Hash, opt.NoManifest, err = f.hash(); err != nil {
		return opt, err
	}
	if opt.When, err = sourceDate(); err != nil {
		return opt, err
	}
	if opt.Appliance, err = a.packageOptions(); err != nil {
		return opt, err
	}
	opt.Judge = func(ctx context.Context, p *appliance.Package) error {
		if err := a.admit(p, f.trust); err != nil {
			return err
		}
		return whole(ctx, p)
	}
	if f.format != "keep" {
		if _, err := build.FormatURI(f.format); err != nil {
			return opt, usageError{fmt.Errorf("--format: %w", err)}
		}
	}
	if f.level < 0 || f.level > 9 {
		return opt, usagef("--level is 1 to 9, not %d", f.level)
	}
	if f.chunkSize != "" {
		if opt.ChunkSize, err = term.ParseSize(f.chunkSize); err != nil || opt.ChunkSize <= 0 {
			return opt, usagef("--chunk-size is a size such as 2GB, not %q", f.chunkSize)
		}
	}
	return opt, nil
}

// shape applies the profile of --for. What the flags say comes before it.
func (a *app) shape(s *spec.Appliance, f *packageFlags, opt *build.Options) error {
	if f.profile == "" {
		if f.option != "" {
			return usagef("--option is for --for: the deployment option that is left")
		}
		return nil
	}
	p, err := profile.Find(f.profile)
	if err != nil {
		return usageError{err}
	}
	p.Option = f.option
	if f.format != "" {
		p.Format = f.format
	}
	notes, err := p.Apply(s)
	if err != nil {
		return err
	}
	for _, n := range notes {
		a.warn("%s", n)
	}
	opt.Format = p.Format
	opt.Hash = cmp.Or(opt.Hash, p.Hash)
	opt.Style = p.Style
	opt.Descriptor.Models, opt.Descriptor.CapacityUnits = &p.Models, p.CapacityUnits
	return nil
}

func newBuildCommand(a *app) *cobra.Command {
	var f packageFlags
	c := &cobra.Command{
		Use:   "build [FILE]",
		Short: "Make a package from a specification",
		Long: `Make a package from a specification in YAML, appliance.yaml unless another name
is given. 'ovation new' writes one to begin with.

Disks of any format that ovation reads are converted to --format, which is
streamOptimized unless the specification says otherwise for a disk. The package
is an archive where the output's name ends in .ova, else a folder. It appears
under its name only when it is complete.

The same input gives the same bytes. Files of an archive get the time of
SOURCE_DATE_EPOCH, or the first of January 1980.`,
		Example: `  ovation build
  ovation build shop.yaml -o shop.ova --manifest sha512
  ovation build shop.yaml -o shop/ --format qcow2
  ovation build shop.yaml -o shop.ova --for virtualbox
  ovation build shop.yaml -o shop.ova --chunks --key vendor.key --cert vendor.pem
  ovation build shop.yaml -o - | ssh host 'cat > shop.ova'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			file := "appliance.yaml"
			if len(args) > 0 {
				file = args[0]
			}
			return a.build(c.Context(), file, &f)
		},
	}
	f.register(c.Flags())
	f.registerOption(c.Flags())
	f.trust.registerPolicy(c.Flags())
	return c
}

// registerOption registers the flag that leaves one deployment option.
func (f *packageFlags) registerOption(s *pflag.FlagSet) {
	s.StringVar(&f.option, "option", "", "with --for: the deployment option to leave, where one is left (default: the default one)")
}

func (a *app) build(ctx context.Context, file string, f *packageFlags) error {
	s, dir, err := a.readSpec(file)
	if err != nil {
		return err
	}
	opt, err := a.buildOptions(f)
	if err != nil {
		return err
	}
	opt.File, opt.Dir = file, dir
	if err := a.shape(s, f, &opt); err != nil {
		return err
	}
	return a.buildPackage(ctx, s, f, opt)
}

// buildPackage makes a package and tells what it made.
func (a *app) buildPackage(ctx context.Context, s *spec.Appliance, f *packageFlags, opt build.Options) error {
	defer littleGarbage()()
	name := s.Name
	if c, _ := s.Content(); name == "" && c != nil {
		name = c.ID
	}
	out, err := a.packageOutput(f, filepath.Base(name))
	if err != nil {
		return err
	}
	if err := a.signs(f, &opt); err != nil {
		return err
	}
	result, err := a.built(&opt, func() (*build.Result, error) { return build.Run(ctx, s, out, opt) })
	if err != nil || f.output == "-" {
		return err
	}
	if a.json {
		return a.printJSON(packageReport(f.output, result))
	}
	a.tellFiles(f.output, result.Files)
	return nil
}

// signs has a package signed where --key says with what.
func (a *app) signs(f *packageFlags, opt *build.Options) error {
	s, err := a.signer(&f.keyFlags, opt.Hash)
	if err != nil || s == nil {
		return err
	}
	if opt.NoManifest {
		return usagef("--manifest none: it is the manifest that is signed")
	}
	opt.Signer = s
	return nil
}

// built shows the progress of a build.
func (a *app) built(opt *build.Options, run func() (*build.Result, error)) (*build.Result, error) {
	progress := a.newProgress()
	defer progress.Wait()
	var tasks []*term.Task
	opt.Progress = func(name string, total int64) func(int64) {
		t := progress.Track(name, total)
		tasks = append(tasks, t)
		return func(n int64) { t.Set(n) }
	}
	result, err := run()
	for _, t := range tasks {
		t.Done(err)
	}
	return result, err
}

// writtenPackage is what commands that write packages print as JSON.
type writtenPackage struct {
	APIVersion string `json:"apiVersion"`
	Output     string `json:"output"`
	*build.Result
}

func packageReport(output string, r *build.Result) writtenPackage {
	return writtenPackage{"ovation/package/v1", withoutSecrets(output), r}
}

// withoutSecrets leaves out of a URL what may be a credential or a signature.
func withoutSecrets(output string) string {
	if u, err := url.Parse(output); err == nil && u.Host != "" {
		u.User, u.RawQuery = nil, ""
		return u.String()
	}
	return redact.Host(output)
}

// tellFiles says what a package holds.
func (a *app) tellFiles(output string, files []pack.Stored) {
	var size int64
	for _, s := range files {
		size += s.Size
	}
	a.out.Printf("%s: %d files, %s\n", term.Clean(withoutSecrets(output)), len(files), term.Size(size))
}

// readSpec reads a specification and gives the folder that its sources are in.
func (a *app) readSpec(file string) (*spec.Appliance, string, error) {
	var data []byte
	var err error
	dir := "."
	if file == "-" {
		file = "standard input"
		data, err = io.ReadAll(io.LimitReader(a.stdin, spec.MaxSize+1))
	} else {
		var f *os.File
		if f, err = os.Open(file); err == nil {
			data, err = io.ReadAll(io.LimitReader(f, spec.MaxSize+1))
			f.Close()
		}
		dir = filepath.Dir(file)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("specification: %w; 'ovation new %s' writes one to begin with", err, file)
	}
	if err != nil {
		return nil, "", fmt.Errorf("specification: %w", err)
	}
	s, err := spec.Parse(file, data)
	return s, dir, err
}

// writePackage writes a package that is made of parts, and tells what it
// holds.
func (a *app) writePackage(ctx context.Context, pkg *pack.Package, f *packageFlags, out build.Output) error {
	progress := a.newProgress()
	defer progress.Wait()
	for i := range pkg.Parts {
		write, name, size := pkg.Parts[i].Write, pkg.Parts[i].Name, pkg.Parts[i].Size
		if write == nil {
			continue // it tells by itself how far it is
		}
		pkg.Parts[i].Write = func(ctx context.Context, w io.Writer) error {
			task := progress.Track(name, size)
			err := write(ctx, &countingWriter{w, task})
			task.Done(err)
			return err
		}
	}
	files, err := out(ctx, pkg)
	if err != nil {
		return err
	}
	progress.Wait()
	switch {
	case f.output == "-":
	case a.json:
		return a.printJSON(packageReport(f.output, &build.Result{Name: pkg.Name, Files: files}))
	default:
		a.tellFiles(f.output, files)
	}
	return nil
}

// countingWriter shows how far a file is.
type countingWriter struct {
	io.Writer
	task *term.Task
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.task.Add(int64(n))
	return n, err
}
