package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/manifest"
	"github.com/ovation-project/ovation/author/build"
	"github.com/ovation-project/ovation/author/edit"
	"github.com/ovation-project/ovation/author/pack"
	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/internal/term"
)

// editFlags are what edit is told.
type editFlags struct {
	packageFlags
	machine   string
	forOption string
	set       []string
	cpus      int
	memory    string
	family    string
	firmware  string
	name      string
	product   map[string]*string
	eula      string
	note      string
	networks  []string
	cards     []string

	addDisks, addFiles, addNodes          []string
	removeDisks, removeFiles, removeNodes []string
}

// productFlags are the flags for a product's texts, with their elements.
var productFlags = [][3]string{
	{"product", "Product", "the product's name"},
	{"vendor", "Vendor", "the product's vendor"},
	{"product-version", "Version", "the product's version"},
	{"full-version", "FullVersion", "the product's version in full"},
	{"product-url", "ProductUrl", "the product's home page"},
	{"vendor-url", "VendorUrl", "the vendor's home page"},
	{"app-url", "AppUrl", "where the running application is reached"},
}

func newEditCommand(a *app) *cobra.Command {
	f := editFlags{product: map[string]*string{}}
	c := &cobra.Command{
		Use:   "edit LOCATOR",
		Short: "Change a package: properties, hardware, disks, texts",
		Long: `Change a package, in place or with -o as another one. The descriptor stays byte
for byte as it was outside of what is changed; the manifest and chunk digests
are brought up to date, and a signature, which does not hold any more, is removed
or, with --key, made anew. Disks that are added are converted to streamOptimized
unless --format says otherwise.

Changes are made in this order: removals, texts and hardware, additions. Either
all of them are made or none.`,
		Example: `  ovation edit appliance.ova --set hostname=web1 --memory 8GiB
  ovation edit appliance.ova -o larger.ova --add-disk data=data.qcow2
  ovation edit appliance/ --rename-network 'VM Network=Production' --product-version 1.2
  ovation edit appliance.ova --eula LICENSE.txt --manifest sha512
  ovation edit web.ova -o shop.ova --add-machine db=database.ova`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.edit(c.Context(), args[0], &f, c.Flags().Changed)
		},
	}
	s := c.Flags()
	f.registerContent(s)
	s.Lookup("format").Usage = "format of the disks that are added: " + strings.Join(build.Formats(), ", ")
	s.Lookup("manifest").Usage = "digest algorithm of the manifest: sha1, sha256, sha384, sha512, or none (default: as it is)"
	s.Lookup("output").Usage = "the package to write, as for 'ovation build'; without it the one that is there is changed"
	s.StringVar(&f.machine, "machine", "", "ID of the machine or collection that is meant, where there are several")
	s.StringVar(&f.forOption, "option", "", "deployment option that --set, --cpus and --memory are for")
	s.StringArrayVar(&f.set, "set", nil, "KEY=VALUE: set a property's default (repeatable)")
	s.IntVar(&f.cpus, "cpus", 0, "number of processors")
	s.StringVar(&f.memory, "memory", "", "memory, such as 4GiB")
	s.StringVar(&f.family, "family", "", "virtual hardware family, such as vmx-15")
	s.StringVar(&f.firmware, "firmware", "", "what starts the machine: bios or efi")
	s.StringVar(&f.name, "name", "", "the machine's name")
	for _, p := range productFlags {
		f.product[p[1]] = s.String(p[0], "", p[2])
	}
	s.StringVar(&f.eula, "eula", "", "file with the licence's text")
	s.StringVar(&f.note, "annotation", "", "the note on the machine")
	s.StringArrayVar(&f.networks, "rename-network", nil, "OLD=NEW: give a network another name (repeatable)")
	s.StringArrayVar(&f.cards, "connect", nil, "CARD=NETWORK: connect a network card, by its InstanceID or name, to a network, which is added where it is new (repeatable)")
	s.StringArrayVar(&f.addDisks, "add-disk", nil, "ID=IMAGE, or ID=SIZE for an empty disk (repeatable)")
	s.StringArrayVar(&f.addFiles, "add-file", nil, "ID=FILE: add a file (repeatable)")
	s.StringArrayVar(&f.addNodes, "add-machine", nil, "PACKAGE, or ID=PACKAGE: add what another package describes to the collection (repeatable)")
	s.StringArrayVar(&f.removeDisks, "remove-disk", nil, "ID of a disk to take away (repeatable)")
	s.StringArrayVar(&f.removeFiles, "remove-file", nil, "ID of a file to take away (repeatable)")
	s.StringArrayVar(&f.removeNodes, "remove-machine", nil, "ID of a machine to take out of its collection (repeatable)")
	return c
}

// pair takes KEY=VALUE apart.
func pair(flag, text string) (key, value string, err error) {
	key, value, ok := strings.Cut(text, "=")
	if !ok || key == "" {
		return "", "", usagef("--%s is KEY=VALUE, not %q", flag, text)
	}
	return key, value, nil
}

// texts makes the changes that need no files.
func (f *editFlags) texts(d *edit.Descriptor, changed func(string) bool) error {
	for _, id := range f.removeNodes {
		if _, err := d.RemoveMachine(id); err != nil {
			return err
		}
	}
	for _, id := range f.removeDisks {
		if _, err := d.RemoveDisk(id); err != nil {
			return err
		}
	}
	for _, id := range f.removeFiles {
		if _, err := d.RemoveFile(id); err != nil {
			return err
		}
	}
	for _, text := range f.set {
		key, value, err := pair("set", text)
		if err == nil {
			err = d.SetProperty(key, f.forOption, value)
		}
		if err != nil {
			return err
		}
	}
	for _, text := range f.networks {
		name, to, err := pair("rename-network", text)
		if err == nil {
			err = d.RenameNetwork(name, to)
		}
		if err != nil {
			return err
		}
	}
	for _, text := range f.cards {
		card, network, err := pair("connect", text)
		if err == nil {
			err = d.Connect(f.machine, card, network)
		}
		if err != nil {
			return err
		}
	}
	if changed("cpus") {
		if err := d.SetCPUs(f.machine, f.forOption, f.cpus); err != nil {
			return err
		}
	}
	if changed("memory") {
		n, err := term.ParseSize(f.memory)
		if err != nil {
			return usagef("--memory: %w", err)
		}
		if err := d.SetMemory(f.machine, f.forOption, n); err != nil {
			return err
		}
	}
	if changed("family") {
		if err := d.SetFamily(f.machine, f.family); err != nil {
			return err
		}
	}
	if changed("firmware") {
		if f.firmware != "bios" && f.firmware != "efi" {
			return usagef("--firmware is bios or efi, not %q", f.firmware)
		}
		if err := d.SetConfig(f.machine, "firmware", f.firmware); err != nil {
			return err
		}
	}
	if changed("name") {
		if err := d.SetName(f.machine, f.name); err != nil {
			return err
		}
	}
	for _, p := range productFlags {
		if changed(p[0]) {
			if err := d.SetProduct(f.machine, p[1], *f.product[p[1]]); err != nil {
				return err
			}
		}
	}
	if changed("eula") {
		text, err := readText(f.eula)
		if err != nil {
			return err
		}
		if err := d.SetEULA(f.machine, text); err != nil {
			return err
		}
	}
	if changed("annotation") {
		return d.SetAnnotation(f.machine, f.note)
	}
	return nil
}

// maxEditText is the largest text that is read for a descriptor, in bytes.
const maxEditText = 4 << 20

func readText(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxEditText+1))
	if err != nil {
		return "", err
	}
	if len(b) > maxEditText {
		return "", fmt.Errorf("%s has more than %d bytes", name, maxEditText)
	}
	return strings.TrimSpace(strings.ReplaceAll(string(b), "\r\n", "\n")), nil
}

// additions adds disks and files. closing frees what their parts read from.
func (f *editFlags) additions(ctx context.Context, d *edit.Descriptor, name string, opt build.Options) (added []edit.Added, closing func(), err error) {
	var all []func()
	closing = func() {
		for _, c := range all {
			c()
		}
	}
	for _, text := range f.addDisks {
		id, image, err := pair("add-disk", text)
		if err != nil {
			return nil, closing, err
		}
		x := spec.Disk{ID: id, Source: image}
		if n, err := term.ParseSize(image); err == nil {
			if _, err := os.Stat(image); errors.Is(err, fs.ErrNotExist) {
				x.Source, x.Capacity = "", strconv.FormatInt(n, 10)
			}
		}
		if x.Source == "" {
			n, _ := strconv.ParseInt(x.Capacity, 10, 64)
			uri, err := build.FormatURI(f.format)
			if err != nil {
				return nil, closing, err
			}
			if err := d.AddDisk(f.machine, edit.Disk{ID: id, Capacity: n, Format: uri}); err != nil {
				return nil, closing, err
			}
			continue
		}
		part, at, end, err := build.Disk(ctx, x, name, opt)
		if err != nil {
			return nil, closing, err
		}
		all = append(all, end)
		disk := at()
		if err := d.AddDisk(f.machine, edit.Disk{ID: id, FileID: disk.FileID, Href: part.Name, Capacity: disk.Capacity, Format: disk.URI}); err != nil {
			return nil, closing, err
		}
		added = append(added, edit.Added{FileID: disk.FileID, Part: part})
	}
	for _, text := range f.addFiles {
		id, file, err := pair("add-file", text)
		if err != nil {
			return nil, closing, err
		}
		st, err := os.Stat(file)
		if err != nil {
			return nil, closing, err
		}
		base := filepath.Base(file)
		if err := d.AddFile(id, base); err != nil {
			return nil, closing, err
		}
		added = append(added, edit.Added{FileID: id, Part: pack.Part{Name: base, Size: st.Size(), Write: func(ctx context.Context, w io.Writer) error {
			f, err := os.Open(file)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = pack.Copy(ctx, w, f)
			return err
		}}})
	}
	return added, closing, nil
}

func (a *app) edit(ctx context.Context, locator string, f *editFlags, changed func(string) bool) error {
	opt, err := a.buildOptions(&f.packageFlags)
	if err != nil {
		return err
	}
	inPlace := f.output == ""
	p, err := a.openToChange(ctx, locator, f.output)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := whole(ctx, p); err != nil {
		return err
	}
	d := edit.New(p.Document())
	if err := f.texts(d, changed); err != nil {
		return fmt.Errorf("%s: %w", p.DescriptorName(), err)
	}
	name := strings.TrimSuffix(p.DescriptorName(), filepath.Ext(p.DescriptorName()))
	added, closing, err := f.additions(ctx, d, name, opt)
	defer closing()
	if err != nil {
		return fmt.Errorf("%s: %w", p.DescriptorName(), err)
	}
	for _, text := range f.addNodes {
		more, end, err := a.addMachine(ctx, d, text)
		defer end()
		if err != nil {
			return fmt.Errorf("--add-machine %s: %w", text, err)
		}
		added = append(added, more...)
	}
	if len(added) == 0 && string(d.Document().Bytes()) == string(p.Document().Bytes()) && f.manifest == "" && f.key == "" && !f.chunks && inPlace {
		a.note("nothing is changed")
		return nil
	}
	opt.Hash = cmp.Or(opt.Hash, hashOf(p))
	if err := a.signs(&f.packageFlags, &opt); err != nil {
		return err
	}
	folder := p.Kind() == appliance.Folder
	pkg, gone, err := edit.Package(ctx, p, d, added, edit.Options{
		Hash: opt.Hash, NoManifest: opt.NoManifest, Signer: opt.Signer, ChunkDigests: f.chunks, InPlace: inPlace && folder,
	})
	if err != nil {
		return err
	}
	pkg.When = opt.When
	if f.manifest != "" {
		pkg.Style = manifest.Style{} // as the standard has it, and everybody reads it
	}
	if _, certificate := p.Certificate(); certificate != nil && opt.Signer == nil {
		a.warn("the signature does not hold any more and is removed")
	}
	return a.writeChanged(ctx, p, pkg, gone, &f.packageFlags, name)
}

// addMachine adds what another package describes. closing frees what its files
// are read from.
func (a *app) addMachine(ctx context.Context, d *edit.Descriptor, text string) (added []edit.Added, closing func(), err error) {
	id, locator := "", text
	if before, after, ok := strings.Cut(text, "="); ok && !strings.ContainsAny(before, "/\\:") {
		id, locator = before, after
	}
	p, err := a.openPackage(ctx, locator)
	if err != nil {
		return nil, func() {}, err
	}
	closing = func() { p.Close() }
	j, err := d.AddMachine(p.Document(), id)
	if err != nil {
		return nil, closing, err
	}
	for _, n := range j.Notes {
		a.warn("%s: %s", p.DescriptorName(), n)
	}
	for _, f := range j.Files {
		part, _, err := pack.PartOf(ctx, p, f.From)
		if err != nil {
			return nil, closing, err
		}
		part.Name = f.Href
		added = append(added, edit.Added{FileID: f.ID, Part: part})
	}
	return added, closing, nil
}
