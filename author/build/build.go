// Package build makes a package of a specification: it opens the disks and
// files that the specification names, converts the disks, and writes all of it
// with a descriptor and a manifest.
//
// The same specification with the same files gives the same bytes.
package build

import (
	"cmp"
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/chunkdigest"
	"github.com/ovation-project/ovation/appliance/manifest"
	"github.com/ovation-project/ovation/author/descriptor"
	"github.com/ovation-project/ovation/author/pack"
	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/disk/formats"
)

// Options say how a package is made. The zero value is good.
type Options struct {
	// File is the specification's name for messages, Dir the folder that
	// its sources are in; "" is the current one.
	File, Dir string
	// Format is that of disks whose specification says none: one of
	// Formats. "" is streamOptimized.
	Format string
	// Hash is the manifest's; 0 is SHA-256.
	Hash crypto.Hash
	// NoManifest leaves the manifest out.
	NoManifest bool
	Style      manifest.Style
	// Gzip and ChunkSize are for all files that do not say themselves.
	Gzip      bool
	ChunkSize int64
	// ChunkDigests adds digests of the chunks of all files.
	ChunkDigests bool
	// Signer, where set, signs the manifest.
	Signer pack.Signer
	// When is the time of the files in an archive; the zero time
	// is pack's.
	When time.Time
	// Descriptor changes how the descriptor is written.
	Descriptor descriptor.Options
	// Appliance is how packages are opened that sources are in. Judge, where set,
	// is asked of each: an error refuses it.
	Appliance appliance.Options
	Judge     func(context.Context, *appliance.Package) error
	// Disks are disks that are in no file, such as those of a hypervisor,
	// by the source that a specification names.
	Disks map[string]OpenDisk
	// Workers and Level are convert's.
	Workers, Level int
	TempDir        string
	Note           func(string)
	// Progress, where set, is called when work at a file begins, with the
	// number of bytes to be done, and gives what is told how far it is.
	Progress func(name string, total int64) func(done int64)
}

// OpenDisk opens a disk that is in no file, a disk.Image or a disk.Stream, to
// be read once. It is closed when the package is made, or is not.
type OpenDisk func(ctx context.Context) (src convert.Source, closing func() error, err error)

// format is what a name in a specification stands for.
type format struct {
	name, driver, subformat, uri string
}

// The formats that can be written. vmdk's second form has a URI of its own.
var outputs = []format{
	{"streamOptimized", "vmdk", "streamOptimized", "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"},
	{"vmdk", "vmdk", "monolithicSparse", "http://www.vmware.com/interfaces/specifications/vmdk.html#sparse"},
	{"qcow2", "qcow2", "", ""},
	{"vhd", "vpc", "", ""},
	{"vhdx", "vhdx", "", ""},
	{"vdi", "vdi", "", ""},
	{"raw", "raw", "", ""},
}

// Formats are the names of the formats that disks can be written in.
func Formats() []string {
	var all []string
	for _, f := range outputs {
		if _, err := formats.ByName(f.driver); err == nil {
			all = append(all, f.name)
		}
	}
	return all
}

// ErrFormat says that there is no format of a name.
var ErrFormat = errors.New("not a format that disks are written in")

func formatNamed(name string) (format, disk.Format, error) {
	i := slices.IndexFunc(outputs, func(f format) bool { return strings.EqualFold(f.name, name) })
	if i < 0 {
		i = slices.IndexFunc(outputs, func(f format) bool { return f.driver == name })
	}
	if i >= 0 {
		out := outputs[i]
		if driver, err := formats.ByName(out.driver); err == nil {
			if out.uri == "" {
				out.uri = driver.URIs()[0]
			}
			return out, driver, nil
		}
	}
	return format{}, nil, fmt.Errorf("%q: %w: %s, or keep", name, ErrFormat, strings.Join(Formats(), ", "))
}

// FormatURI gives the URI of a format by its name; "" is streamOptimized.
func FormatURI(name string) (string, error) {
	f, _, err := formatNamed(cmp.Or(name, "streamOptimized"))
	return f.uri, err
}

// Result is what was made.
type Result struct {
	Name  string        `json:"name"`
	Files []pack.Stored `json:"files"`
	Disks []DiskResult  `json:"disks,omitempty"`
}

// DiskResult is what became of a disk; all numbers are bytes.
type DiskResult struct {
	ID       string `json:"id"`
	File     string `json:"file,omitempty"`
	Format   string `json:"format,omitempty"`
	Capacity int64  `json:"capacity,omitempty"`
	// Kept says that the source's file is in the package as it was.
	Kept bool `json:"kept,omitempty"`
}

type builder struct {
	a        *spec.Appliance
	opt      Options
	packages map[string]*appliance.Package
	pkg      *pack.Package
	layout   *descriptor.Layout
	maxSize  map[string]int64
	result   *Result
	texts    map[string]string
	closing  []func() error
}

func (b *builder) fail(at spec.Pos, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &sourceError{&spec.Error{File: b.opt.File, Pos: at, Text: err.Error()}, err}
}

// sourceError is an error with its place in the specification, that is what
// went wrong as well.
type sourceError struct {
	at    *spec.Error
	cause error
}

func (e *sourceError) Error() string   { return e.at.Error() }
func (e *sourceError) Unwrap() []error { return []error{e.at, e.cause} }

// Output is where a package goes.
type Output func(ctx context.Context, p *pack.Package) ([]pack.Stored, error)

// ToFile writes an archive, or a folder where the name does not end in .ova.
func ToFile(name string, opt pack.Options) Output {
	return func(ctx context.Context, p *pack.Package) ([]pack.Stored, error) {
		if pack.IsArchive(name) {
			return p.Archive(ctx, name, opt)
		}
		return p.Folder(ctx, name, opt)
	}
}

// ToWriter writes an archive front to back.
func ToWriter(w io.Writer, opt pack.Options) Output {
	return func(ctx context.Context, p *pack.Package) ([]pack.Stored, error) { return p.Stream(ctx, w, opt) }
}

// Run makes the package.
func Run(ctx context.Context, a *spec.Appliance, out Output, opt Options) (*Result, error) {
	b := &builder{
		a: a, opt: opt, packages: map[string]*appliance.Package{}, maxSize: map[string]int64{}, texts: map[string]string{},
		layout: &descriptor.Layout{Disks: map[string]descriptor.Disk{}}, result: &Result{Name: a.Name},
	}
	defer b.close()
	b.opt.Descriptor.File = cmp.Or(b.opt.Descriptor.File, opt.File)
	content, _ := a.Content()
	if content == nil {
		return nil, b.fail(spec.Pos{}, "there is no machine and no collection")
	}
	b.result.Name = fileName(cmp.Or(a.Name, content.ID))
	b.pkg = &pack.Package{
		Name: b.result.Name, Hash: cmp.Or(opt.Hash, crypto.SHA256), Style: opt.Style, Signer: opt.Signer, When: opt.When,
		MaxSize: func(name string) int64 { return b.maxSize[name] },
	}
	if opt.NoManifest {
		b.pkg.Hash = 0
	}
	b.layout.Text = b.text
	b.pkg.Descriptor = func(made pack.Made) ([]byte, error) {
		l := *b.layout
		l.Files = slices.Clone(b.layout.Files)
		for i := range l.Files {
			if size, ok := made[l.Files[i].Href]; ok {
				l.Files[i].Size = size
			}
		}
		return descriptor.Render(a, &l, b.opt.Descriptor)
	}
	for i := range a.Disks {
		if err := b.disk(ctx, &a.Disks[i]); err != nil {
			return nil, err
		}
	}
	for i := range a.Files {
		if err := b.file(ctx, &a.Files[i]); err != nil {
			return nil, err
		}
	}
	if a.ChunkDigests || opt.ChunkDigests {
		b.chunkDigests()
	}
	// What is wrong with the descriptor is found before hours of work.
	if _, err := b.pkg.Descriptor(nil); err != nil {
		return nil, err
	}
	var err error
	if b.result.Files, err = out(ctx, b.pkg); err != nil {
		return nil, err
	}
	return b.result, nil
}

// Disk makes the part for one more disk of a package whose files begin with
// name, and what the descriptor has to say of it: its populated size when the
// part is written. close frees what the part reads from.
func Disk(ctx context.Context, d spec.Disk, name string, opt Options) (part pack.Part, at func() descriptor.Disk, close func(), err error) {
	b := &builder{
		a: &spec.Appliance{}, opt: opt, packages: map[string]*appliance.Package{}, maxSize: map[string]int64{},
		layout: &descriptor.Layout{Disks: map[string]descriptor.Disk{}}, result: &Result{Name: fileName(name)}, pkg: &pack.Package{},
	}
	if err := b.disk(ctx, &d); err != nil {
		b.close()
		return part, nil, nil, err
	}
	return b.pkg.Parts[0], func() descriptor.Disk { return b.layout.Disks[d.ID] }, b.close, nil
}

func (b *builder) close() {
	for _, c := range b.closing {
		c()
	}
	for _, p := range b.packages {
		p.Close()
	}
}

// fileName makes a name that a file can have anywhere, and that an href needs
// no escapes for.
func fileName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r)) || strings.ContainsRune("-_.", r) {
			return r
		}
		return '-'
	}, s)
	if len(s) > maxName {
		s = s[:maxName]
	}
	return cmp.Or(strings.Trim(s, ".-"), "appliance")
}

// maxName leaves room for the names of disks and endings: an archive holds
// names of 100 bytes.
const maxName = 48

// maxText is the largest text that is read from a file, in bytes.
const maxText = 4 << 20

func (b *builder) text(t spec.Text, name string) (string, error) {
	if s, ok := b.texts[name]; ok {
		return s, nil
	}
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(b.opt.Dir, filepath.FromSlash(name))
	}
	f, err := os.Open(path)
	if err != nil {
		return "", b.fail(t.Pos, "%w%s", err, b.nearest(path))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxText+1))
	if err != nil {
		return "", b.fail(t.Pos, "%w", err)
	}
	if len(data) > maxText || !utf8.Valid(data) {
		return "", b.fail(t.Pos, "%s is not a text in UTF-8 of at most %d bytes", name, maxText)
	}
	b.texts[name] = strings.TrimPrefix(string(data), "\ufeff")
	return b.texts[name], nil
}

// file adds a file that is taken as it is.
func (b *builder) file(ctx context.Context, f *spec.File) error {
	at := descriptor.File{ID: f.ID, Href: f.Name, Size: -1, Compression: f.Compression, ChunkSize: int64(f.ChunkSize), Attributes: f.Attributes}
	if f.Source == "" && strings.Contains(f.Name, "://") {
		if f.Size > 0 {
			at.Size = int64(f.Size)
		}
		b.layout.Files = append(b.layout.Files, at)
		return nil
	}
	src, err := b.open(ctx, cmp.Or(f.Source, f.Name), f.Pos)
	if err != nil {
		return err
	}
	at.Href = cmp.Or(f.Name, src.base())
	part := pack.Part{Name: at.Href, Size: src.size, ChunkSize: at.ChunkSize, Write: b.tracked(at.Href, src.size, src.write)}
	part.Gzip = f.Compression == "gzip" && !f.Stored
	if src.pkg != nil && !f.Stored {
		if ref := src.reference(); ref != nil && ref.Compression == "gzip" {
			part.Size, part.Write = -1, b.tracked(at.Href, -1, src.content)
		}
	}
	b.store(&part, &at)
	return nil
}

// chunkDigests adds the file of chunk digests, under an ID that is free.
func (b *builder) chunkDigests() {
	b.pkg.ChunkDigests = b.result.Name + chunkdigest.Ending
	const id = "chunk-digests"
	at := descriptor.File{ID: id, Href: b.pkg.ChunkDigests, Size: -1}
	for n := 2; slices.ContainsFunc(b.layout.Files, func(f descriptor.File) bool { return f.ID == at.ID }); n++ {
		at.ID = fmt.Sprintf("%s-%d", id, n)
	}
	b.layout.Files = append(b.layout.Files, at)
}

// store adds a part with its File element.
func (b *builder) store(part *pack.Part, at *descriptor.File) {
	if b.opt.Gzip && at.Compression == "" {
		part.Gzip, at.Compression = true, "gzip"
	}
	if b.opt.ChunkSize > 0 && at.ChunkSize == 0 {
		part.ChunkSize, at.ChunkSize = b.opt.ChunkSize, b.opt.ChunkSize
	}
	b.pkg.Parts = append(b.pkg.Parts, *part)
	b.layout.Files = append(b.layout.Files, *at)
}

// tracked shows how far the writing of a file is.
func (b *builder) tracked(name string, size int64, write func(context.Context, io.Writer) error) func(context.Context, io.Writer) error {
	if b.opt.Progress == nil {
		return write
	}
	return func(ctx context.Context, w io.Writer) error {
		return write(ctx, &counting{w: w, tell: b.opt.Progress(name, size)})
	}
}

type counting struct {
	w    io.Writer
	n    int64
	tell func(int64)
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	c.tell(c.n)
	return n, err
}

// disk adds a disk.
func (b *builder) disk(ctx context.Context, d *spec.Disk) error {
	want := cmp.Or(d.Format, b.opt.Format, "streamOptimized")
	result := DiskResult{ID: d.ID, Format: want}
	if d.Source == "" {
		at := descriptor.Disk{Populated: -1, URI: d.FormatURI, FileID: d.FileID}
		if at.URI == "" && want != "keep" {
			out, _, err := formatNamed(want)
			if err != nil {
				return b.fail(d.Pos, "disk %q: %w", d.ID, err)
			}
			at.URI = out.uri
		}
		b.layout.Disks[d.ID] = at
		b.result.Disks = append(b.result.Disks, result)
		return nil
	}
	var src *source
	if open := b.opt.Disks[d.Source]; open != nil {
		if want == "keep" {
			return b.fail(d.Pos, "disk %q is in no file and cannot be kept as it is: name a format", d.ID)
		}
		img, closing, err := open(ctx)
		if err != nil {
			return b.fail(d.Pos, "disk %q: %w", d.ID, err)
		}
		b.closing = append(b.closing, closing)
		src = &source{b: b, name: d.Source, given: img}
	} else {
		var err error
		if src, err = b.open(ctx, d.Source, d.Pos); err != nil {
			return err
		}
	}
	var err error
	at := descriptor.Disk{FileID: cmp.Or(d.FileID, "file-"+d.ID), Populated: -1, URI: d.FormatURI}
	file := descriptor.File{ID: at.FileID, Size: -1, Compression: d.Compression, ChunkSize: int64(d.ChunkSize)}
	var part pack.Part
	if want == "keep" {
		part, err = b.kept(ctx, d, src, &at)
		result.Kept, result.Format = true, ""
	} else {
		part, err = b.converted(ctx, d, src, want, &at, &result)
	}
	if err != nil {
		return b.fail(d.Pos, "disk %q: %w", d.ID, err)
	}
	file.Href = part.Name
	part.ChunkSize = file.ChunkSize
	b.store(&part, &file)
	b.layout.Disks[d.ID] = at
	result.File, result.Capacity = part.Name, at.Capacity
	b.result.Disks = append(b.result.Disks, result)
	return nil
}

// kept takes the source's file as it is.
func (b *builder) kept(ctx context.Context, d *spec.Disk, src *source, at *descriptor.Disk) (pack.Part, error) {
	name := cmp.Or(d.File, src.base())
	part := pack.Part{Name: name, Size: src.size, Write: b.tracked(name, src.size, src.write)}
	if d.Capacity != "" && at.URI != "" {
		return part, nil
	}
	img, closing, err := src.look(ctx)
	if err != nil {
		return part, err
	}
	defer closing()
	in := info(img)
	if in.Parent != "" && d.Parent == "" || len(in.Files) > 0 {
		return part, fmt.Errorf("%s is in several files and cannot be kept as it is: leave format out, or name another", src.name)
	}
	at.Capacity = img.Size()
	if at.URI == "" {
		at.URI = uriOf(in)
	}
	return part, nil
}

// uriOf gives the URI of an image's format.
func uriOf(in disk.Info) string {
	for _, f := range outputs {
		if f.driver == in.Format && (f.subformat == in.Subformat || f.subformat == "") && f.uri != "" {
			return f.uri
		}
	}
	if driver, err := formats.ByName(in.Format); err == nil {
		if in.Format == "vmdk" {
			return outputs[1].uri
		}
		return driver.URIs()[0]
	}
	return ""
}

// converted has the source converted, or taken as it is where it is in the
// format already.
func (b *builder) converted(ctx context.Context, d *spec.Disk, src *source, want string, at *descriptor.Disk, result *DiskResult) (pack.Part, error) {
	out, driver, err := formatNamed(want)
	if err != nil {
		return pack.Part{}, err
	}
	in, capacity, err := src.header(ctx)
	if err != nil {
		return pack.Part{}, err
	}
	at.Capacity, at.URI = capacity, cmp.Or(at.URI, out.uri)
	name := cmp.Or(d.File, b.result.Name+"-"+fileName(d.ID)+driver.Extensions()[0])
	b.maxSize[name] = capacity
	gz := d.Compression == "gzip"
	delta := d.Parent != ""
	if delta {
		// What is read through its parent is the whole disk.
		d.Parent = ""
		if b.opt.Note != nil {
			b.opt.Note(fmt.Sprintf("disk %s was a delta, and holds all of its content now", d.ID))
		}
	}
	same := !delta && in.Format == out.driver && (out.subformat == "" || in.Subformat == out.subformat) && in.Parent == "" && len(in.Files) == 0 && out.name != "raw"
	if same {
		if same, err = src.plain(ctx); err != nil {
			return pack.Part{}, err
		}
	}
	if same {
		result.Kept = true
		return pack.Part{Name: name, Size: src.size, Gzip: gz, Write: b.tracked(name, src.size, src.write)}, nil
	}
	create := disk.CreateOptions{Name: name, Subformat: out.subformat, Level: b.opt.Level}
	seed := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d", b.result.Name, d.ID, capacity))
	copy(create.Identity[:], seed[:])
	run := func(ctx context.Context, begin func(disk.CreateOptions) (disk.Writer, error)) error {
		img, err := src.image(ctx)
		if err != nil {
			return err
		}
		defer img.close()
		w, err := begin(convert.Suit(ctx, driver, img.disk, create, false))
		if err != nil {
			return err
		}
		opt := convert.Options{Workers: b.opt.Workers, Level: b.opt.Level}
		if b.opt.Progress != nil {
			tell := b.opt.Progress(name, capacity)
			opt.Progress = func(p convert.Progress) { tell(p.Done) }
		}
		stats, err := img.run(ctx, w, opt)
		if err != nil {
			return err
		}
		made := b.layout.Disks[d.ID]
		made.Populated = stats.Passed + stats.Compressed + stats.Written + stats.Cloned
		b.layout.Disks[d.ID] = made
		return nil
	}
	part := pack.Part{Name: name, Size: -1, Gzip: gz, Told: true}
	// The digits of the populated size are as many as the capacity's, until
	// it is known.
	at.Populated = capacity
	s, streams := driver.(disk.StreamCreator)
	if streams = streams && out.name != "vmdk"; streams {
		part.Write = func(ctx context.Context, w io.Writer) error {
			return run(ctx, func(opt disk.CreateOptions) (disk.Writer, error) { return s.CreateStream(ctx, w, opt) })
		}
	}
	switch {
	case out.name == "raw": // with holes where it is a file of its own
		part.Size = (capacity + disk.SectorSize - 1) &^ (disk.SectorSize - 1)
	case streams:
		return part, nil
	}
	part.Make = func(ctx context.Context, o disk.Output, name string) error {
		return run(ctx, func(opt disk.CreateOptions) (disk.Writer, error) {
			opt.Name = name
			return driver.Create(ctx, o, opt)
		})
	}
	return part, nil
}
