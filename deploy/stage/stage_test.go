package stage_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/bootprobe"
	"github.com/ovation-project/ovation/deploy/stage"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/drivertest"
	"github.com/ovation-project/ovation/hypervisor/qemu"
	"github.com/ovation-project/ovation/internal/testenv"
	"github.com/ovation-project/ovation/ovf"
)

const (
	capacity = 4 << 20
	vmdkURI  = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
)

// pack is a package being made in a folder.
type pack struct {
	t     *testing.T
	dir   string
	files []string // File elements
	disks []string // Disk elements
	items []string
	mf    strings.Builder
}

func newPack(t *testing.T) *pack { return &pack{t: t, dir: t.TempDir()} }

func (p *pack) path(name string) string { return filepath.Join(p.dir, name) }

// file adds a file; attributes are those of its File element.
func (p *pack) file(name string, data []byte, attributes string) {
	p.t.Helper()
	if err := os.WriteFile(p.path(name), data, 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.listed(name, attributes)
}

func (p *pack) listed(name, attributes string) {
	p.t.Helper()
	data, err := os.ReadFile(p.path(name))
	if err != nil {
		p.t.Fatal(err)
	}
	p.files = append(p.files, fmt.Sprintf(`<File ovf:id="%s" ovf:href="%[1]s" %s/>`, name, attributes))
	fmt.Fprintf(&p.mf, "SHA256(%s)= %x\n", name, sha256.Sum256(data))
}

// disk adds a disk and the drive for it.
func (p *pack) disk(id, fileRef, format, attributes string) {
	if fileRef != "" {
		fileRef = fmt.Sprintf(`ovf:fileRef="%s"`, fileRef)
	}
	p.disks = append(p.disks, fmt.Sprintf(`<Disk ovf:diskId="%s" %s ovf:capacity="%d" ovf:format="%s" %s/>`, id, fileRef, capacity, format, attributes))
	p.drive(17, "ovf:/disk/"+id)
}

func (p *pack) drive(typ int, host string) {
	n := len(p.items)
	p.items = append(p.items, fmt.Sprintf(`<Item><rasd:AddressOnParent>%d</rasd:AddressOnParent><rasd:ElementName>drive</rasd:ElementName><rasd:HostResource>%s</rasd:HostResource><rasd:InstanceID>%d</rasd:InstanceID><rasd:Parent>3</rasd:Parent><rasd:ResourceType>%d</rasd:ResourceType></Item>`, n, host, 10+n, typ))
}

// plan writes the descriptor and the manifest, and plans the machine.
func (p *pack) plan() (*appliance.Package, []*deploy.Planned) {
	p.t.Helper()
	text := `<Envelope xmlns="` + ovf.NS1 + `" xmlns:ovf="` + ovf.NS1 + `" xmlns:rasd="` + ovf.NSRASD + `"><References>` + strings.Join(p.files, "") +
		`</References><DiskSection><Info/>` + strings.Join(p.disks, "") + `</DiskSection><VirtualSystem ovf:id="vm"><Info/><VirtualHardwareSection><Info/>` +
		`<Item><rasd:ElementName>c</rasd:ElementName><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceSubType>pvscsi</rasd:ResourceSubType><rasd:ResourceType>6</rasd:ResourceType></Item>` +
		strings.Join(p.items, "") + `</VirtualHardwareSection></VirtualSystem></Envelope>`
	if err := os.WriteFile(p.path("a.ovf"), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	fmt.Fprintf(&p.mf, "SHA256(a.ovf)= %x\n", sha256.Sum256([]byte(text)))
	if err := os.WriteFile(p.path("a.mf"), []byte(p.mf.String()), 0o600); err != nil {
		p.t.Fatal(err)
	}
	pkg, err := appliance.Open(p.t.Context(), p.path("a.ovf"), appliance.Options{})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { pkg.Close() })
	r, err := ovf.Resolve(pkg.Document().Envelope(), ovf.ResolveOptions{})
	if err != nil {
		p.t.Fatal(err)
	}
	planned, err := deploy.Machines(r, qemu.Models(), deploy.Options{Probe: func(d *ovf.ResolvedDisk) (bootprobe.Result, error) {
		seen, err := stage.Look(p.t.Context(), pkg, nil, d)
		return seen.Boot, err
	}})
	if err != nil {
		p.t.Fatal(err)
	}
	return pkg, planned
}

func left(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func run(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	out, err := exec.Command(testenv.NeedTool(t, name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return out
}

func zipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// content is what a disk holds: a boot sector, and data here and there.
func content() []byte {
	b := make([]byte, capacity)
	copy(b, drivertest.Image("hello", drivertest.PowerOff))
	for i := 1 << 20; i < 1<<20+100<<10; i++ {
		b[i] = byte(i >> 3)
	}
	return b
}

// TestAll puts each kind of disk in place, and has qemu-img compare it with
// what it was made from.
func TestAll(t *testing.T) {
	want := content()
	scratch := t.TempDir()
	raw := filepath.Join(scratch, "want.raw")
	if err := os.WriteFile(raw, want, 0o600); err != nil {
		t.Fatal(err)
	}
	image := func(t *testing.T, p *pack, name string, args ...string) {
		t.Helper()
		run(t, "qemu-img", append(append([]string{"convert", "-f", "raw"}, args...), raw, p.path(name))...)
	}
	for name, c := range map[string]struct {
		make     func(t *testing.T, p *pack)
		firmware string
		spooled  bool // where it comes once
	}{
		"raw": {func(t *testing.T, p *pack) { p.file("d", want, ""); p.disk("d", "d", "raw", "") }, "boot code", false},
		"gzip": {func(t *testing.T, p *pack) {
			p.file("d.gz", zipped(t, want), `ovf:compression="gzip"`)
			p.disk("d", "d.gz", "raw", "")
		}, "compressed as a whole", false},
		"silent gzip of a VMDK": {func(t *testing.T, p *pack) {
			image(t, p, "x", "-O", "vmdk", "-o", "subformat=streamOptimized")
			data, err := os.ReadFile(p.path("x"))
			if err != nil {
				t.Fatal(err)
			}
			os.Remove(p.path("x"))
			p.file("d.vmdk", zipped(t, data), "")
			p.disk("d", "d.vmdk", vmdkURI, "")
		}, "compressed as a whole", false},
		"streamOptimized": {func(t *testing.T, p *pack) {
			image(t, p, "d.vmdk", "-O", "vmdk", "-o", "subformat=streamOptimized")
			p.listed("d.vmdk", "")
			p.disk("d", "d.vmdk", vmdkURI, "")
		}, "boot code", false},
		"sparse VMDK": {func(t *testing.T, p *pack) {
			image(t, p, "d.vmdk", "-O", "vmdk")
			p.listed("d.vmdk", "")
			p.disk("d", "d.vmdk", "http://www.vmware.com/interfaces/specifications/vmdk.html#sparse", "")
		}, "boot code", true},
		"qcow2": {func(t *testing.T, p *pack) {
			image(t, p, "d.qcow2", "-O", "qcow2")
			p.listed("d.qcow2", "")
			p.disk("d", "d.qcow2", "http://www.gnome.org/~markmc/qcow-image-format.html", "")
		}, "boot code", true},
		"chunks": {func(t *testing.T, p *pack) {
			const chunk = 1 << 20
			for i := 0; i*chunk < len(want); i++ {
				name := fmt.Sprintf("d.%09d", i)
				if err := os.WriteFile(p.path(name), want[i*chunk:(i+1)*chunk], 0o600); err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&p.mf, "SHA256(%s)= %x\n", name, sha256.Sum256(want[i*chunk:(i+1)*chunk]))
			}
			p.files = append(p.files, fmt.Sprintf(`<File ovf:id="d" ovf:href="d" ovf:chunkSize="%d"/>`, chunk))
			p.disk("d", "d", "raw", "")
		}, "boot code", false},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPack(t)
			c.make(t, p)
			pkg, planned := p.plan()
			dir := t.TempDir()
			if err := stage.All(t.Context(), pkg, planned, stage.Options{Dir: dir, Volatile: true}); err != nil {
				t.Fatal(err)
			}
			m := planned[0].Machine.Drives[0].Medium
			if m == nil || m.Format != "qcow2" || filepath.Dir(m.Path) != dir || !m.Volatile {
				t.Fatalf("the medium is %+v", m)
			}
			if out := run(t, "qemu-img", "compare", "-f", "qcow2", "-F", "raw", m.Path, raw); !bytes.Contains(out, []byte("identical")) {
				t.Errorf("the image is another: %s", out)
			}
			run(t, "qemu-img", "check", "-f", "qcow2", m.Path)
			if f := planned[0].Machine.Firmware; f.Kind != hypervisor.BIOS || !strings.Contains(f.Reason, c.firmware) {
				t.Errorf("the firmware is %+v", f)
			}
			if names := left(t, dir); len(names) != 1 {
				t.Errorf("the folder holds %q", names)
			}
			t.Run("arriving", func(t *testing.T) { arrives(t, p, raw, c.spooled) })
		})
	}
}

// TestBlankAndCDROM has a disk without a file, and a file that is no disk.
func TestBlankAndCDROM(t *testing.T) {
	p := newPack(t)
	iso := bytes.Repeat([]byte("cd"), 5000)
	p.file("cd.iso", iso, "")
	p.disk("blank", "", "x", "")
	p.drive(15, "ovf:/file/cd.iso")
	pkg, planned := p.plan()
	dir := t.TempDir()
	if err := stage.All(t.Context(), pkg, planned, stage.Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	drives := planned[0].Machine.Drives
	if out := run(t, "qemu-img", "info", "-f", "qcow2", drives[0].Medium.Path); !bytes.Contains(out, []byte(fmt.Sprint(capacity, " bytes"))) {
		t.Errorf("the empty disk is\n%s", out)
	}
	if m := drives[1].Medium; m == nil || m.Format != "raw" {
		t.Fatalf("the CD-ROM is %+v", m)
	}
	if got, err := os.ReadFile(drives[1].Medium.Path); err != nil || !bytes.Equal(got, iso) {
		t.Errorf("the CD-ROM is another: %v", err)
	}
}

// TestFails has packages that are not to be put in place: nothing is left, of
// the disks that were good neither.
func TestFails(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, p *pack)
		want  error
	}{
		"altered": {func(t *testing.T, p *pack) {
			if err := os.WriteFile(p.path("b"), bytes.Repeat([]byte{1}, capacity), 0o600); err != nil {
				t.Fatal(err)
			}
		}, appliance.ErrAltered},
		"missing": {func(t *testing.T, p *pack) {
			if err := os.Remove(p.path("b")); err != nil {
				t.Fatal(err)
			}
		}, appliance.ErrIncomplete},
		"cut short": {func(t *testing.T, p *pack) {
			if err := os.Truncate(p.path("b"), capacity/2); err != nil {
				t.Fatal(err)
			}
		}, appliance.ErrAltered},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPack(t)
			p.file("a", content(), "")
			p.file("b", content(), fmt.Sprintf(`ovf:size="%d"`, capacity))
			p.disk("a", "a", "raw", "")
			p.disk("b", "b", "raw", "")
			pkg, planned := p.plan()
			c.spoil(t, p)
			pkg.Close()
			pkg, err := appliance.Open(t.Context(), p.path("a.ovf"), appliance.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer pkg.Close()
			dir := t.TempDir()
			if err := stage.All(t.Context(), pkg, planned, stage.Options{Dir: dir}); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if names := left(t, dir); len(names) != 0 {
				t.Errorf("left behind: %q", names)
			}
		})
	}
}

func TestCancelled(t *testing.T) {
	p := newPack(t)
	p.file("a", content(), "")
	p.disk("a", "a", "raw", "")
	pkg, planned := p.plan()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if err := stage.All(ctx, pkg, planned, stage.Options{Dir: dir}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if names := left(t, dir); len(names) != 0 {
		t.Errorf("left behind: %q", names)
	}
}

// TestNoSpace has a disk that no file system has room for.
func TestNoSpace(t *testing.T) {
	p := newPack(t)
	p.file("a", content(), "")
	p.disk("a", "a", "raw", "")
	pkg, planned := p.plan()
	for _, d := range planned[0].Disks {
		d.PopulatedSize, d.Capacity = 1<<60, 1<<60
	}
	err := stage.All(t.Context(), pkg, planned, stage.Options{Dir: t.TempDir()})
	if !errors.Is(err, stage.ErrNoSpace) || !strings.Contains(err.Error(), "TMPDIR") {
		t.Errorf("got %v", err)
	}
}

// TestOutside has an image that names a file outside of its package.
func TestOutside(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, content(), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newPack(t)
	p.file("d.vmdk", []byte("# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\nRW 8192 FLAT \""+secret+"\" 0\n"), "")
	p.disk("d", "d.vmdk", vmdkURI, "")
	p.file("boot", content(), "")
	pkg, err := func() (pkg *appliance.Package, err error) {
		text := `<Envelope xmlns="` + ovf.NS1 + `" xmlns:ovf="` + ovf.NS1 + `"><References>` + strings.Join(p.files, "") + `</References><DiskSection><Info/>` +
			strings.Join(p.disks, "") + `</DiskSection><VirtualSystem ovf:id="vm"><Info/></VirtualSystem></Envelope>`
		if err := os.WriteFile(p.path("a.ovf"), []byte(text), 0o600); err != nil {
			return nil, err
		}
		return appliance.Open(t.Context(), p.path("a.ovf"), appliance.Options{})
	}()
	if err != nil {
		t.Fatal(err)
	}
	defer pkg.Close()
	r, err := ovf.Resolve(pkg.Document().Envelope(), ovf.ResolveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	planned := []*deploy.Planned{{Machine: hypervisor.Machine{ID: "vm", Drives: []hypervisor.Drive{{ID: "1", Kind: hypervisor.HardDisk}}},
		Disks: map[string]*ovf.ResolvedDisk{"1": r.Disks["d"]}}}
	dir := t.TempDir()
	if err := stage.All(t.Context(), pkg, planned, stage.Options{Dir: dir}); !errors.Is(err, disk.ErrOutside) {
		t.Errorf("got %v", err)
	}
	if names := left(t, dir); len(names) != 0 {
		t.Errorf("left behind: %q", names)
	}
}

func TestFileName(t *testing.T) {
	for _, c := range []struct {
		in   []string
		want string
	}{{[]string{"vm", "disk1"}, "vm-disk1"}, {[]string{"a.b_C"}, "a.b_C"}} {
		if got := stage.FileName(c.in...); got != c.want {
			t.Errorf("%q gives %q, want %q", c.in, got, c.want)
		}
	}
	seen := map[string]string{}
	for _, s := range []string{"../../etc/passwd", "..", ".hidden", "-rf", "a b", "a-b", "a/b", "", "\x00", strings.Repeat("x", 500), strings.Repeat("x", 501), "Ünï"} {
		got := stage.FileName(s)
		if got == "" || got != filepath.Base(got) || strings.HasPrefix(got, ".") || strings.HasPrefix(got, "-") || len(got) > 100 {
			t.Errorf("%.20q gives %q", s, got)
		}
		if other, twice := seen[got]; twice {
			t.Errorf("%.20q and %.20q both give %q", s, other, got)
		}
		seen[got] = s
	}
}
