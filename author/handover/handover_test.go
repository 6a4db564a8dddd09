package handover_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/disks"
	"github.com/ovation-project/ovation/author/build"
	"github.com/ovation-project/ovation/author/handover"
	"github.com/ovation-project/ovation/author/pack"
	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/disk/local"
	"github.com/ovation-project/ovation/disk/vmdk"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/diskmodel"
	"github.com/ovation-project/ovation/ovf"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// content reads the package as deploy does.
type content struct{ p *appliance.Package }

func (c content) CopyDisk(ctx context.Context, d *ovf.ResolvedDisk, create func(context.Context, convert.Source) (disk.Writer, error)) error {
	src, err := disks.OpenSource(ctx, c.p, d.ID, disks.Options{})
	if err != nil {
		return err
	}
	defer src.Close()
	w, err := create(ctx, src.Disk)
	if err != nil {
		return err
	}
	_, err = src.Convert(ctx, w, convert.Options{})
	return err
}

func (c content) CopyFile(ctx context.Context, f *ovf.File, to io.Writer) error {
	r, err := c.p.OpenReader(ctx, f.Href)
	if err != nil {
		return err
	}
	defer r.Close()
	in, _, err := appliance.Expand(f, r)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, in)
	return err
}

const cd = "a CD, as far as anyone here knows"

func bytesOfDisk() []byte {
	b := make([]byte, 1<<20)
	diskmodel.Text(rand.New(rand.NewPCG(3, 4)), b[100_000:600_000])
	return b
}

// built makes a package of a specification whose disks have the source
// disk.raw.
func built(t *testing.T, text string, opt build.Options) string {
	t.Helper()
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "disk.raw"), bytesOfDisk(), 0o600))
	check(t, os.WriteFile(filepath.Join(dir, "tools.iso"), []byte(cd), 0o600))
	a, err := spec.Parse("a.yaml", []byte(text))
	check(t, err)
	opt.Dir = dir
	out := filepath.Join(dir, "out")
	_, err = build.Run(t.Context(), a, build.ToFile(out, pack.Options{NoSync: true}), opt)
	check(t, err)
	return out
}

func open(t *testing.T, folder string) (*appliance.Package, *ovf.Resolved) {
	t.Helper()
	p, err := appliance.Open(t.Context(), folder, appliance.Options{})
	check(t, err)
	t.Cleanup(func() { p.Close() })
	r, err := ovf.Resolve(p.Document().Envelope(), ovf.ResolveOptions{})
	check(t, err)
	return p, r
}

const one = `
version: "VERSION"
name: app
networks: [LAN]
disks: [{id: root, source: disk.raw}]
files: [{id: tools, source: tools.iso}]
machine:
  id: vm
  products: [{class: app, properties: [{key: hostname, userConfigurable: true}]}]
  hardware: {family: FAMILY, memory: 256MiB, disks: [{disk: root}], cdroms: [{file: tools}], cards: [{network: LAN, model: MODEL}]}
`

func oneOf(version, family, model string) string {
	return strings.NewReplacer("VERSION", version, "FAMILY", family, "MODEL", model).Replace(one)
}

// given reads what the host would be given of a file.
func given(t *testing.T, h *handover.Handover, system, href string) ([]byte, int64) {
	t.Helper()
	c, err := h.Open(t.Context(), hypervisor.ImportFile{System: system, Href: href})
	check(t, err)
	b, err := io.ReadAll(c)
	check(t, err)
	check(t, c.Close())
	return b, c.Size
}

// wellMade sees that a descriptor and its files are what vSphere takes, and
// that the disks hold what they should.
func wellMade(t *testing.T, h *handover.Handover, s handover.System) *ovf.Resolved {
	t.Helper()
	doc, err := ovf.Parse([]byte(s.Descriptor), ovf.ParseOptions{})
	check(t, err)
	env := doc.Envelope()
	r, err := ovf.Resolve(env, ovf.ResolveOptions{})
	check(t, err)
	if env.Element().Space != ovf.NS1 || env.Content.Kind != ovf.VirtualSystem || env.Content.ID != s.ID || len(r.Systems) != 1 {
		t.Fatalf("not of one machine in OVF 1:\n%s", s.Descriptor)
	}
	for _, i := range r.Systems[0].Items {
		if i.Kind != ovf.RASDItem {
			t.Errorf("there is a %s", i.Kind)
		}
	}
	for _, d := range env.Disks {
		x := r.Disks[d.ID]
		if x.File == nil {
			continue
		}
		if x.File.Compression != "" || x.File.ChunkSize != 0 || x.Parent != nil || !strings.HasSuffix(x.Format, "#streamOptimized") {
			t.Errorf("disk %s: %s", d.ID, d.XML())
		}
		b, size := given(t, h, s.ID, x.File.Href)
		if size >= 0 && size != int64(len(b)) || x.File.Size >= 0 && x.File.Size != int64(len(b)) {
			t.Errorf("disk %s has %d bytes, said were %d and %d", d.ID, len(b), size, x.File.Size)
		}
		path := filepath.Join(t.TempDir(), "disk.vmdk")
		check(t, os.WriteFile(path, b, 0o600))
		f, err := local.Open(path)
		check(t, err)
		img, err := vmdk.Format{}.Open(t.Context(), f, disk.OpenOptions{})
		check(t, err)
		if in := img.(disk.Informer).Info(); in.Subformat != "streamOptimized" {
			t.Errorf("disk %s is %s", d.ID, in.Subformat)
		}
		got, err := io.ReadAll(io.NewSectionReader(img, 0, img.Size()))
		check(t, err)
		if !bytes.Equal(got, bytesOfDisk()) || x.Capacity != int64(len(got)) {
			t.Errorf("disk %s holds something else", d.ID)
		}
		check(t, errors.Join(img.Close(), f.Close()))
	}
	for _, f := range env.References {
		if strings.HasSuffix(f.Href, ".iso") {
			if b, _ := given(t, h, s.ID, f.Href); string(b) != cd {
				t.Errorf("the CD is %q", b)
			}
		}
	}
	return r
}

func TestAsItIs(t *testing.T) {
	folder := built(t, oneOf("1.1", "vmx-13", "VmxNet3"), build.Options{})
	p, r := open(t, folder)
	h, err := handover.New(t.Context(), p, r, handover.Options{Families: []string{"vmx-19", "vmx-13"}, Content: content{p}})
	check(t, err)
	if len(h.Systems) != 1 || h.Systems[0].Descriptor != string(p.Document().Bytes()) || len(h.Notes) > 0 {
		t.Errorf("it was rewritten: %q", h.Notes)
	}
	wellMade(t, h, h.Systems[0])
	stored, err := os.ReadFile(filepath.Join(folder, "app-root.vmdk"))
	check(t, err)
	if b, size := given(t, h, "vm", "app-root.vmdk"); !bytes.Equal(b, stored) || size != int64(len(stored)) {
		t.Error("the file is another")
	}
	if _, err := h.Open(t.Context(), hypervisor.ImportFile{System: "vm", Href: "../secret"}); err == nil {
		t.Error("a file that is none was opened")
	}
	// What was altered is not handed over whole.
	stored[len(stored)/2] ^= 1
	check(t, os.WriteFile(filepath.Join(folder, "app-root.vmdk"), stored, 0o600))
	c, err := h.Open(t.Context(), hypervisor.ImportFile{System: "vm", Href: "app-root.vmdk"})
	check(t, err)
	if _, err := io.Copy(io.Discard, c); !errors.Is(err, appliance.ErrAltered) {
		t.Errorf("%v", err)
	}
	check(t, c.Close())
	check(t, os.WriteFile(filepath.Join(folder, "app-root.vmdk"), stored[:len(stored)-1], 0o600))
	p, r = open(t, folder)
	h, err = handover.New(t.Context(), p, r, handover.Options{Content: content{p}})
	check(t, err)
	if _, err := h.Open(t.Context(), hypervisor.ImportFile{System: "vm", Href: "app-root.vmdk"}); !errors.Is(err, appliance.ErrAltered) {
		t.Errorf("%v", err)
	}
}

// TestSettingsAreSaid has a package that brings settings of the host's own, which
// is said whether it is rewritten or not.
func TestSettingsAreSaid(t *testing.T) {
	for _, version := range []string{"1.1", "2.1"} {
		text := strings.Replace(oneOf(version, "vmx-13", "VmxNet3"), "hardware: {", "hardware: {extraConfig: [{key: isolation.tools.copy.disable, value: 'FALSE'}, {key: serial0.fileName, value: /etc/passwd}], ", 1)
		p, r := open(t, built(t, text, build.Options{}))
		h, err := handover.New(t.Context(), p, r, handover.Options{Families: []string{"vmx-13"}, Content: content{p}})
		check(t, err)
		if all := strings.Join(h.Notes, "\n"); !strings.Contains(all, "isolation.tools.copy.disable, serial0.fileName") {
			t.Errorf("version %s: %q", version, all)
		}
	}
}

func TestRewritten(t *testing.T) {
	for name, c := range map[string]struct {
		text     string
		opt      build.Options
		families []string
		note     string
		family   string
	}{
		"OVF 2":       {oneOf("2.1", "vmx-13", "VmxNet3"), build.Options{}, nil, "OVF 1", "vmx-13"},
		"qcow2":       {oneOf("1.1", "vmx-13", "VmxNet3"), build.Options{Format: "qcow2"}, nil, "disk root", "vmx-13"},
		"sparse VMDK": {oneOf("1.1", "vmx-13", "VmxNet3"), build.Options{Format: "vmdk"}, nil, "disk root", "vmx-13"},
		"gzip":        {oneOf("1.1", "vmx-13", "VmxNet3"), build.Options{Gzip: true}, nil, "disk root", "vmx-13"},
		"pieces":      {oneOf("1.1", "vmx-13", "VmxNet3"), build.Options{ChunkSize: 10_000}, nil, "disk root", "vmx-13"},
		"family":      {oneOf("1.1", "virtualbox-2.2", "E1000"), build.Options{}, nil, "virtualbox-2.2", "vmx-13"},
		"later":       {oneOf("1.1", "vmx-20", "E1000"), build.Options{}, []string{"vmx-14", "vmx-13"}, "vmx-20", "vmx-14"},
		"models":      {oneOf("1.1", "vmx-13", "virtio-net"), build.Options{}, nil, "virtio-net", "vmx-13"},
	} {
		t.Run(name, func(t *testing.T) {
			p, r := open(t, built(t, c.text, c.opt))
			h, err := handover.New(t.Context(), p, r, handover.Options{Families: c.families, Content: content{p}})
			check(t, err)
			if !strings.Contains(strings.Join(h.Notes, "\n"), c.note) {
				t.Errorf("%q is not in %q", c.note, h.Notes)
			}
			made := wellMade(t, h, h.Systems[0])
			if got := made.Systems[0].Hardware.SystemTypes; !slices.Equal(got, []string{c.family}) {
				t.Errorf("families %q", got)
			}
			if len(made.Systems[0].Properties) != 1 {
				t.Errorf("properties %v", made.Systems[0].Properties)
			}
		})
	}
}

const shop = `
version: "1.1"
name: shop
networks: [LAN]
disks: [{id: a, source: disk.raw}, {id: b, source: disk.raw}]
files: [{id: tools, source: tools.iso}]
options: [{id: small, default: true}, {id: large}]
collection:
  id: shop
  products: [{class: shop, properties: [{key: domain, userConfigurable: true}]}, {product: The shop}]
  startup: {items: [{id: db, order: 1}, {id: web, order: 2}]}
  contents:
    - machine: {id: web, hardware: {family: vmx-13, memory: 256MiB, disks: [{disk: a}], cards: [{network: LAN}], perOption: [{option: large, memory: 1GiB}]}}
    - machine: {id: db, products: [{class: db, properties: [{key: name}]}], hardware: {family: vmx-13, memory: 256MiB, disks: [{disk: b}], cdroms: [{file: tools}]}}
`

func TestCollection(t *testing.T) {
	p, r := open(t, built(t, shop, build.Options{}))
	h, err := handover.New(t.Context(), p, r, handover.Options{Content: content{p}})
	check(t, err)
	if len(h.Systems) != 2 || h.Systems[0].ID != "web" || h.Systems[1].ID != "db" {
		t.Fatalf("%v", h.Systems)
	}
	for i, want := range []struct {
		disk, properties string
		files            int
	}{{"a", "shop.domain", 1}, {"b", "db.name shop.domain", 2}} {
		m := wellMade(t, h, h.Systems[i])
		var keys []string
		for _, q := range m.Systems[0].Properties {
			keys = append(keys, q.FullKey)
		}
		if len(m.Disks) != 1 || m.Disks[want.disk] == nil || strings.Join(keys, " ") != want.properties || len(m.Envelope.References) != want.files || len(m.Envelope.Options) != 2 {
			t.Errorf("%s: disks %v, properties %q, %d files", h.Systems[i].ID, m.Disks, keys, len(m.Envelope.References))
		}
	}
	// One of them alone.
	h, err = handover.New(t.Context(), p, r, handover.Options{Systems: []string{"db"}, Content: content{p}})
	check(t, err)
	if len(h.Systems) != 1 || h.Systems[0].ID != "db" {
		t.Errorf("%v", h.Systems)
	}
}

func TestShared(t *testing.T) {
	for _, text := range []string{
		strings.Replace(shop, "{disk: b}", "{disk: a}", 1),
		strings.Replace(strings.Replace(shop, "{id: a, source: disk.raw}", "{id: a, source: disk.raw, shared: true}", 1), `"1.1"`, `"2.1"`, 1),
	} {
		p, r := open(t, built(t, text, build.Options{}))
		if _, err := handover.New(t.Context(), p, r, handover.Options{Content: content{p}}); !errors.Is(err, hypervisor.ErrUnfit) || !strings.Contains(err.Error(), "disk a") {
			t.Errorf("%v", err)
		}
	}
}

// TestGivenUp ends the making of a file that nobody reads on.
func TestGivenUp(t *testing.T) {
	p, r := open(t, built(t, oneOf("1.1", "vmx-13", "VmxNet3"), build.Options{Format: "qcow2"}))
	h, err := handover.New(t.Context(), p, r, handover.Options{Content: content{p}})
	check(t, err)
	for href := range map[string]bool{"app-root.vmdk": true} {
		c, err := h.Open(t.Context(), hypervisor.ImportFile{System: "vm", Href: href})
		check(t, err)
		_, err = io.CopyN(io.Discard, c, 10)
		check(t, err)
		check(t, c.Close())
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("it goes on")
		}
	}
}
