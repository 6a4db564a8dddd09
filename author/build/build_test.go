package build_test

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	govmomi "github.com/vmware/govmomi/ovf"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/disks"
	"github.com/ovation-project/ovation/appliance/judge"
	"github.com/ovation-project/ovation/author/build"
	"github.com/ovation-project/ovation/author/descriptor"
	"github.com/ovation-project/ovation/author/diff"
	"github.com/ovation-project/ovation/author/pack"
	"github.com/ovation-project/ovation/author/profile"
	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/convert"
	"github.com/ovation-project/ovation/disk/formats"
	"github.com/ovation-project/ovation/disk/local"
	"github.com/ovation-project/ovation/internal/diskmodel"
	"github.com/ovation-project/ovation/internal/testenv"
	"github.com/ovation-project/ovation/ovf"
	"github.com/ovation-project/ovation/ovf/lint"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func content() []byte {
	b := make([]byte, 4<<20)
	diskmodel.Text(rand.New(rand.NewPCG(1, 2)), b[100_000:2_500_000])
	return b
}

// folder makes the sources of the specifications under testdata.
func folder(t testing.TB) string {
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"system.raw": content(), "tools.iso": []byte("a CD, as far as anyone here knows"), "icon.png": []byte("\x89PNG\r\n\x1a\n"), "boot.img": make([]byte, 1440<<10),
		"eula.txt": []byte("You may.\r\n\r\nSecond paragraph <&>.\n"), "eula.de.txt": []byte("Sie dürfen.\n"),
	} {
		check(t, os.WriteFile(filepath.Join(dir, name), data, 0o666))
	}
	return dir
}

func parse(t testing.TB, text string) *spec.Appliance {
	t.Helper()
	a, err := spec.Parse("appliance.yaml", []byte(text))
	check(t, err)
	return a
}

const plain = `
name: plain
networks: [VM Network]
disks:
  - {id: system, source: system.raw}
  - {id: empty, capacity: 1GiB}
files:
  - {id: tools, source: tools.iso}
machine:
  id: vm
  hardware:
    cpus: 2
    memory: 1GiB
    disks: [system, empty]
    cdroms: [{file: tools}]
    cards: [VM Network]
`

// everything is what an OVF 1 package can have; second what came with OVF 2.
func testdata(t testing.TB, name string) string {
	b, err := os.ReadFile(filepath.Join("testdata", name))
	check(t, err)
	return string(b)
}

func open(t testing.TB, path string) *appliance.Package {
	t.Helper()
	p, err := appliance.Open(t.Context(), path, appliance.Options{})
	check(t, err)
	t.Cleanup(func() { p.Close() })
	return p
}

// sound wants a package to be intact, without a finding, and read by govmomi.
func sound(t testing.TB, path string) *appliance.Package {
	t.Helper()
	p := open(t, path)
	report, err := p.Verify(t.Context(), appliance.VerifyOptions{})
	check(t, err)
	check(t, report.Err())
	for _, f := range report.Files {
		if f.State != appliance.OK && f.Name != "" && !strings.HasSuffix(f.Name, ".mf") {
			t.Errorf("%s is %s", f.Name, f.State)
		}
	}
	clean(t, p)
	env, err := govmomi.Unmarshal(bytes.NewReader(p.Document().Bytes()))
	if err != nil {
		t.Errorf("govmomi: %v", err)
	} else if want := p.Document().Envelope(); env.VirtualSystem == nil && env.VirtualSystemCollection == nil || len(env.References) != len(want.References) {
		t.Errorf("govmomi reads %+v", env)
	}
	return p
}

// clean wants a package without a finding, save for what the specification
// itself brings: sections that are nobody's, files that a profile has no use
// for.
func clean(t testing.TB, p *appliance.Package) {
	t.Helper()
	for _, f := range judge.Lint(t.Context(), p, lint.Options{}) {
		if f.Severity != lint.Info {
			t.Errorf("%s: %s: %s", f.Pos, f.Rule, f.Text)
		}
	}
}

// holds wants the first disk to hold the content.
func holds(t testing.TB, p *appliance.Package) {
	t.Helper()
	img, err := disks.Open(t.Context(), p, "system", disks.Options{TempDir: t.TempDir()})
	check(t, err)
	defer img.Close()
	got := make([]byte, img.Size())
	_, err = img.ReadAt(got, 0)
	check(t, err)
	want := content()
	if len(got) < len(want) || !bytes.Equal(got[:len(want)], want) || strings.Trim(string(got[len(want):]), "\x00") != "" {
		t.Error("the disk holds something else")
	}
}

func run(t testing.TB, a *spec.Appliance, dir, name string, opt build.Options) *build.Result {
	t.Helper()
	opt.Dir, opt.File = dir, "appliance.yaml"
	r, err := build.Run(t.Context(), a, build.ToFile(name, pack.Options{NoSync: true}), opt)
	check(t, err)
	return r
}

// TestFormats builds in every format, as an archive and into a folder.
func TestFormats(t *testing.T) {
	for _, format := range build.Formats() {
		for _, into := range []string{"x.ova", "x"} {
			t.Run(format+" "+into, func(t *testing.T) {
				dir := folder(t)
				name := filepath.Join(dir, into)
				run(t, parse(t, plain), dir, name, build.Options{Format: format})
				holds(t, sound(t, name))
				for _, e := range must(os.ReadDir(dir)) {
					if strings.HasPrefix(e.Name(), ".") {
						t.Errorf("%s is left", e.Name())
					}
				}
			})
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestStored stores files compressed, in chunks, and both.
func TestStored(t *testing.T) {
	for _, opt := range []build.Options{
		{Gzip: true}, {ChunkSize: 100_000}, {Gzip: true, ChunkSize: 50_000}, {Gzip: true, ChunkSize: 50_000, Format: "qcow2"},
		{Hash: crypto.SHA1}, {Hash: crypto.SHA384}, {Hash: crypto.SHA512},
	} {
		for _, into := range []string{"x.ova", "x"} {
			t.Run(fmt.Sprintf("gzip %v chunks %d %v %s", opt.Gzip, opt.ChunkSize, opt.Hash, into), func(t *testing.T) {
				dir := folder(t)
				name := filepath.Join(dir, into)
				run(t, parse(t, plain), dir, name, opt)
				holds(t, sound(t, name))
			})
		}
	}
}

// TestReproducible wants the same bytes again, and from standard output.
func TestReproducible(t *testing.T) {
	dir := folder(t)
	for _, text := range []string{plain, testdata(t, "everything.yaml")} {
		var all [][]byte
		for i, workers := range []int{1, 4} {
			name := filepath.Join(t.TempDir(), "x.ova")
			run(t, parse(t, text), dir, name, build.Options{Workers: workers})
			all = append(all, must(os.ReadFile(name)))
			if i > 0 && !bytes.Equal(all[0], all[i]) {
				t.Error("the same specification gave other bytes")
			}
		}
		var out bytes.Buffer
		_, err := build.Run(t.Context(), parse(t, text), build.ToWriter(&out, pack.Options{TempDir: t.TempDir()}), build.Options{Dir: dir})
		check(t, err)
		if !bytes.Equal(out.Bytes(), all[0]) {
			t.Error("front to back it came to other bytes")
		}
	}
}

// TestEverything builds with every key, and the same again from the package's
// own specification.
func TestEverything(t *testing.T) {
	for _, file := range []string{"everything.yaml", "second.yaml"} {
		t.Run(file, func(t *testing.T) {
			dir := folder(t)
			first := filepath.Join(dir, "first.ova")
			run(t, parse(t, testdata(t, file)), dir, first, build.Options{})
			p := sound(t, first)
			holds(t, p)
			if _, err := ovf.Resolve(p.Document().Envelope(), ovf.ResolveOptions{}); err != nil {
				t.Error(err)
			}

			s, report, err := descriptor.Read(p.Document(), descriptor.ReadOptions{Source: func(f *ovf.File) string { return "first.ova#" + f.Href }})
			check(t, err)
			if len(report.Lost) > 0 {
				t.Errorf("lost: %v", report.Lost)
			}
			for _, raw := range report.Raw {
				if !strings.HasPrefix(raw, "ex:") && !strings.HasPrefix(raw, "vbox:") && !strings.HasPrefix(raw, "vmw:") {
					t.Errorf("%s is taken over as XML", raw)
				}
			}
			text, err := s.Marshal()
			check(t, err)
			second := filepath.Join(dir, "second.ova")
			run(t, parse(t, string(text)), dir, second, build.Options{})
			q := sound(t, second)
			holds(t, q)
			same, err := diff.Packages(t.Context(), p, q, diff.Options{All: true})
			check(t, err)
			for _, c := range same.Changes {
				t.Errorf("differs: %+v", c)
			}
			if len(same.Unread) > 0 {
				t.Error(same.Unread)
			}
			if !bytes.Equal(trimmed(p), trimmed(q)) {
				t.Errorf("the descriptors differ:\n%s\n%s", p.Document().Bytes(), q.Document().Bytes())
			}
		})
	}
}

func trimmed(p *appliance.Package) []byte { return bytes.TrimSpace(p.Document().Bytes()) }

// TestTranslations resolves texts in the language that they were given in.
func TestTranslations(t *testing.T) {
	dir := folder(t)
	name := filepath.Join(dir, "x.ova")
	run(t, parse(t, testdata(t, "everything.yaml")), dir, name, build.Options{})
	p := open(t, name)
	r, err := ovf.Resolve(p.Document().Envelope(), ovf.ResolveOptions{Locale: "de"})
	check(t, err)
	var texts []string
	p.Document().Envelope().Content.Walk(func(c *ovf.Content) {
		for _, e := range c.EULAs {
			texts = append(texts, r.Text(e.License))
		}
		for _, x := range r.PropertiesOf(c) {
			texts = append(texts, r.Text(x.Label))
		}
	})
	for _, want := range []string{"Sie dürfen.", "Rechnername"} {
		if !slices.Contains(texts, want) {
			t.Errorf("%q is not among %q", want, texts)
		}
	}
}

// TestProfiles shapes packages for every consumer, and what was shaped for one
// for every other.
func TestProfiles(t *testing.T) {
	dir := folder(t)
	for _, file := range []string{"everything.yaml", "second.yaml"} {
		for _, name := range profile.Names() {
			t.Run(file+" "+name, func(t *testing.T) {
				p, err := profile.Find(name)
				check(t, err)
				a := parse(t, testdata(t, file))
				notes, err := p.Apply(a)
				check(t, err)
				t.Log(notes)
				path := filepath.Join(t.TempDir(), "x.ova")
				run(t, a, dir, path, build.Options{Format: p.Format, Hash: p.Hash, Style: p.Style, Descriptor: descriptor.Options{Models: &p.Models}})
				pkg := open(t, path)
				holds(t, pkg)
				clean(t, pkg)
				env := pkg.Document().Envelope()
				if second := strings.HasPrefix(p.Version, "2"); (env.Version.Major() == 2) != second {
					t.Errorf("OVF %s came out", env.Version)
				}
				for _, c := range env.Content.Systems() {
					for _, h := range c.Hardware {
						for _, i := range h.Items {
							if i.Kind != ovf.RASDItem && env.Version.Major() == 1 {
								t.Errorf("%s: a %s", i.Pos(), i.Kind)
							}
						}
					}
				}
			})
		}
	}
}

// TestErrors wants a place, and nothing left behind.
func TestErrors(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"no source", strings.Replace(plain, "system.raw", "system.vmdk", 1), "appliance.yaml:5:5: "},
		{"a hint", strings.Replace(plain, "system.raw", "system.vmdk", 1), "there is system.raw"},
		{"a folder", strings.Replace(plain, "system.raw", ".", 1), "is not a file"},
		{"capacity", strings.Replace(plain, "source: system.raw", "source: system.raw, capacity: 1GiB", 1), "appliance.yaml:5:5: disk \"system\" has a capacity of 1073741824 bytes, and its source one of 4194304"},
		{"format", strings.Replace(plain, "source: system.raw", "source: system.raw, format: vmkd", 1), `"vmkd": not a format that disks are written in: streamOptimized,`},
		{"licence", plain + "  eulas:\n    - license: {file: none.txt}\n", "appliance.yaml:18:16: "},
		{"character", strings.Replace(plain, "id: vm", `id: vm
  name: "a\x01b"`, 1), "U+0001"},
		{"XML", plain + "  xml:\n    - <a><b></a>\n", "appliance.yaml:18:7: the XML here: "},
		{"prefix", plain + "  xml:\n    - <x:a/>\n", "appliance.yaml:18:7: the XML here: the prefix x is not declared"},
		{"two elements of which one ends the machine", plain + "  xml:\n    - <a/></VirtualSystem><VirtualSystem ovf:id=\"y\">\n", "appliance.yaml:18:7: the XML here: "},
		{"attribute", strings.Replace(plain, "source: tools.iso", "source: tools.iso, attributes: [{name: 'a b', value: c}]", 1), "is none that XML can have"},
		{"names", plain + "  name: x\n" + "", ""},
		{"two names", strings.Replace(plain, "source: tools.iso", "source: tools.iso, name: plain.ovf", 1), "two files would have it"},
		{"escape", strings.Replace(plain, "source: tools.iso", "source: tools.iso, name: ../tools.iso", 1), "not a name for a file of a package"},
		{"altered", strings.Replace(plain, "source: system.raw", "source: 'altered.ova#system.raw'", 1), "altered"},
	} {
		for _, into := range []string{"x.ova", "x"} {
			t.Run(c.name+" "+into, func(t *testing.T) {
				dir := folder(t)
				altered(t, dir)
				a, err := spec.Parse("appliance.yaml", []byte(c.text))
				check(t, err)
				out := t.TempDir()
				_, err = build.Run(t.Context(), a, build.ToFile(filepath.Join(out, into), pack.Options{}), build.Options{Dir: dir, File: "appliance.yaml"})
				if c.want == "" {
					check(t, err)
					return
				}
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v; want %s", err, c.want)
				}
				if left := must(os.ReadDir(out)); len(left) > 0 {
					t.Errorf("%v is left", left)
				}
			})
		}
	}
}

// altered makes a package in which one byte of the disk is another than the
// manifest says.
func altered(t *testing.T, dir string) {
	run(t, parse(t, strings.Replace(plain, "source: system.raw", "source: system.raw, format: keep, file: system.raw", 1)), dir, filepath.Join(dir, "altered.ova"), build.Options{})
	path := filepath.Join(dir, "altered.ova")
	b := must(os.ReadFile(path))
	at := bytes.Index(b, content()[200_000:200_100])
	if at < 0 {
		t.Fatal("the disk is not in the package")
	}
	b[at] ^= 1
	check(t, os.WriteFile(path, b, 0o666))
}

// TestGiven builds from a disk that is in no file.
func TestGiven(t *testing.T) {
	dir := folder(t)
	f, err := local.Open(filepath.Join(dir, "system.raw"))
	check(t, err)
	defer f.Close()
	closed := 0
	opt := build.Options{Disks: map[string]build.OpenDisk{"domain/vda": func(ctx context.Context) (convert.Source, func() error, error) {
		img, err := formats.Open(ctx, f, "raw", disk.OpenOptions{})
		return img, func() error { closed++; return img.Close() }, err
	}}}
	name := filepath.Join(dir, "x.ova")
	run(t, parse(t, strings.Replace(plain, "system.raw", "domain/vda", 1)), dir, name, opt)
	holds(t, sound(t, name))
	if closed != 1 {
		t.Errorf("the disk was closed %d times", closed)
	}
}

// TestDelta converts a disk that is a delta of another one: it holds all then,
// and is no delta any more.
func TestDelta(t *testing.T) {
	qemuImg := testenv.NeedTool(t, "qemu-img")
	dir := folder(t)
	sh := func(args ...string) {
		t.Helper()
		cmd := exec.Command(qemuImg, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	sh("convert", "-O", "qcow2", "system.raw", "base.qcow2")
	sh("create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "delta.qcow2")
	text := strings.Replace(plain, "{id: system, source: system.raw}", "{id: base, source: base.qcow2, format: keep}\n  - {id: system, source: delta.qcow2, format: keep, parent: base}", 1)
	first := filepath.Join(dir, "first.ova")
	run(t, parse(t, text), dir, first, build.Options{})
	p := open(t, first)
	holds(t, p)
	s, _, err := descriptor.Read(p.Document(), descriptor.ReadOptions{Source: func(f *ovf.File) string { return "first.ova#" + f.Href }})
	check(t, err)
	same := filepath.Join(dir, "same.ova")
	run(t, s, dir, same, build.Options{})
	holds(t, open(t, same))

	vsphere, err := profile.Find("vsphere")
	check(t, err)
	_, err = vsphere.Apply(s)
	check(t, err)
	shaped := filepath.Join(dir, "shaped.ova")
	run(t, s, dir, shaped, build.Options{})
	q := sound(t, shaped)
	holds(t, q)
	for _, d := range q.Document().Envelope().Disks {
		if d.ParentRef != "" {
			t.Errorf("disk %s is still a delta of %s", d.ID, d.ParentRef)
		}
	}
}

// TestPlainAgain stores files compressed and in chunks, and converts the
// package to one in which they are not.
func TestPlainAgain(t *testing.T) {
	dir := folder(t)
	run(t, parse(t, plain), dir, filepath.Join(dir, "packed.ova"), build.Options{Gzip: true, ChunkSize: 100_000})
	p := open(t, filepath.Join(dir, "packed.ova"))
	read := func() *spec.Appliance {
		s, _, err := descriptor.Read(p.Document(), descriptor.ReadOptions{Source: func(f *ovf.File) string { return "packed.ova#" + f.Href }})
		check(t, err)
		return s
	}
	run(t, read(), dir, filepath.Join(dir, "same.ova"), build.Options{})
	q := sound(t, filepath.Join(dir, "same.ova"))
	holds(t, q)
	if a, b := p.Entries(), q.Entries(); len(a) != len(b) {
		t.Errorf("%d files became %d", len(a), len(b))
	}
	vsphere, err := profile.Find("vsphere")
	check(t, err)
	s := read()
	_, err = vsphere.Apply(s)
	check(t, err)
	run(t, s, dir, filepath.Join(dir, "plain"), build.Options{})
	holds(t, sound(t, filepath.Join(dir, "plain")))
	iso, err := os.ReadFile(filepath.Join(dir, "plain", "tools.iso"))
	check(t, err)
	if string(iso) != "a CD, as far as anyone here knows" {
		t.Errorf("the CD holds %q", iso)
	}
}

// TestExists leaves alone what is there.
func TestExists(t *testing.T) {
	dir := folder(t)
	name := filepath.Join(dir, "x.ova")
	check(t, os.WriteFile(name, []byte("mine"), 0o666))
	_, err := build.Run(t.Context(), parse(t, plain), build.ToFile(name, pack.Options{}), build.Options{Dir: dir})
	if !errors.Is(err, fs.ErrExist) || string(must(os.ReadFile(name))) != "mine" {
		t.Errorf("got %v", err)
	}
	run2 := func() error {
		_, err := build.Run(t.Context(), parse(t, plain), build.ToFile(name, pack.Options{Replace: true}), build.Options{Dir: dir})
		return err
	}
	check(t, run2())
	holds(t, sound(t, name))
}

func TestCancelled(t *testing.T) {
	dir := folder(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	out := t.TempDir()
	_, err := build.Run(ctx, parse(t, plain), build.ToFile(filepath.Join(out, "x.ova"), pack.Options{}), build.Options{Dir: dir})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if left := must(os.ReadDir(out)); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

type signer struct{ err error }

func (s signer) MaxSize() int { return 100 }
func (s signer) Sign(_ context.Context, name string, m []byte) ([]byte, error) {
	return fmt.Appendf(nil, "%s has %d bytes\n", name, len(m)), s.err
}

func TestSigner(t *testing.T) {
	for _, into := range []string{"x.ova", "x"} {
		dir := folder(t)
		name := filepath.Join(dir, into)
		run(t, parse(t, plain), dir, name, build.Options{Signer: signer{}})
		p := open(t, name)
		_, m := p.ManifestBytes()
		certificate, data := p.Certificate()
		if want := fmt.Sprintf("plain.mf has %d bytes", len(m)); certificate != "plain.cert" || strings.TrimSpace(string(data)) != want {
			t.Errorf("%s holds %q; want %q", certificate, data, want)
		}
		bad := errors.New("no key")
		out := filepath.Join(t.TempDir(), into)
		_, err := build.Run(t.Context(), parse(t, plain), build.ToFile(out, pack.Options{}), build.Options{Dir: dir, Signer: signer{bad}})
		if _, serr := os.Stat(out); !errors.Is(err, bad) || serr == nil {
			t.Errorf("got %v, %v", err, serr)
		}
	}
}

func ExampleRun() {
	a, err := spec.Parse("appliance.yaml", []byte("machine:\n  id: vm\n  hardware: {cpus: 1, memory: 1GiB}\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	var ova bytes.Buffer
	r, err := build.Run(context.Background(), a, build.ToWriter(&ova, pack.Options{}), build.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range r.Files {
		fmt.Println(f.Name)
	}
	// Output:
	// vm.ovf
	// vm.mf
}
