package export_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/disks"
	"github.com/ovation-project/ovation/appliance/judge"
	"github.com/ovation-project/ovation/author/build"
	"github.com/ovation-project/ovation/author/export"
	"github.com/ovation-project/ovation/author/machine"
	"github.com/ovation-project/ovation/author/pack"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/drivertest"
	"github.com/ovation-project/ovation/hypervisor/libvirt"
	"github.com/ovation-project/ovation/internal/diskmodel"
	"github.com/ovation-project/ovation/internal/testenv"
	"github.com/ovation-project/ovation/internal/testlibvirt"
	"github.com/ovation-project/ovation/ovf"
	"github.com/ovation-project/ovation/ovf/lint"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const capacity = 8 << 20

// content is what a guest could have on a disk: texts and holes.
func content(seed uint64) []byte {
	b := make([]byte, capacity)
	rnd := rand.New(rand.NewPCG(seed, 7))
	diskmodel.Text(rnd, b[64<<10:900_000])
	diskmodel.Text(rnd, b[5<<20:5<<20+70_000])
	return b
}

// machineOn gives a machine with these volumes.
func machineOn(name string, media ...hypervisor.Medium) hypervisor.Machine {
	m := hypervisor.Machine{
		ID: name, Name: name, Architecture: "x86_64", CPU: hypervisor.CPU{Count: 2}, Memory: hypervisor.Memory{Bytes: 64 << 20},
		Firmware: hypervisor.Firmware{Kind: hypervisor.BIOS}, Controllers: []hypervisor.Controller{{ID: "c", Model: hypervisor.VirtIOBlk}},
		NICs:    []hypervisor.NIC{{ID: "n", Model: hypervisor.VirtIONet, MAC: "52:54:00:12:34:56", Network: "LAN"}},
		Serials: []hypervisor.Serial{{ID: "s"}},
	}
	for i := range media {
		m.Drives = append(m.Drives, hypervisor.Drive{ID: string(rune('a' + i)), Kind: hypervisor.HardDisk, Controller: "c", Unit: i, Medium: &media[i]})
	}
	return m
}

// made builds a package of what is exported.
func made(t testing.TB, e *export.Export, output string, opt build.Options) *appliance.Package {
	t.Helper()
	_, err := e.Build(t.Context(), build.ToFile(output, pack.Options{NoSync: true}), opt)
	check(t, err)
	p, err := appliance.Open(t.Context(), output, appliance.Options{})
	check(t, err)
	t.Cleanup(func() { p.Close() })
	report, err := p.Verify(t.Context(), appliance.VerifyOptions{})
	check(t, err)
	check(t, report.Err())
	for _, f := range judge.Lint(t.Context(), p, lint.Options{}) {
		if f.Severity != lint.Info {
			t.Errorf("%s: %s: %s", f.Pos, f.Rule, f.Text)
		}
	}
	return p
}

// holds wants the disks, in their order, to hold these contents.
func holds(t testing.TB, p *appliance.Package, want ...[]byte) {
	t.Helper()
	all := p.Document().Envelope().Disks
	if len(all) != len(want) {
		t.Fatalf("the package has %d disks, want %d", len(all), len(want))
	}
	for i, d := range all {
		img, err := disks.Open(t.Context(), p, d.ID, disks.Options{})
		check(t, err)
		got, err := io.ReadAll(io.NewSectionReader(img, 0, img.Size()))
		check(t, err)
		if !bytes.Equal(got, want[i]) {
			t.Errorf("disk %s holds %d other bytes than the machine's", d.ID, len(got))
		}
		check(t, img.Close())
	}
}

func begin(t testing.TB, opt export.Options, from ...export.Source) *export.Export {
	t.Helper()
	e, err := export.Begin(t.Context(), from, opt)
	check(t, err)
	t.Cleanup(func() {
		if err := e.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return e
}

func TestLibvirt(t *testing.T) {
	qemuImg := testenv.NeedTool(t, "qemu-img")
	d := testlibvirt.Start(t, testlibvirt.Options{})
	host, err := libvirt.Open(t.Context(), d.URI, libvirt.Options{Accel: "tcg"})
	check(t, err)
	defer host.Close()
	far, err := libvirt.Open(t.Context(), d.TCP, libvirt.Options{Accel: "tcg"})
	check(t, err)
	defer far.Close()

	// A raw disk in which the guest wrote what looks like an image that names
	// a file of the host.
	raw := content(1)
	secret := filepath.Join(d.PoolDir, "secret")
	check(t, os.WriteFile(secret, bytes.Repeat([]byte("secret"), 1<<18), 0o644))
	trap := filepath.Join(t.TempDir(), "trap.qcow2")
	run(t, qemuImg, "create", "-q", "-f", "qcow2", "-F", "raw", "-b", secret, trap, "1M")
	head, err := os.ReadFile(trap)
	check(t, err)
	copy(raw, head)

	// A chain: raw below qcow2 below qcow2, by relative names.
	chain := content(2)
	check(t, os.WriteFile(filepath.Join(d.PoolDir, "base.img"), chain, 0o644))
	for _, step := range [][]string{{"base.img", "raw", "middle.qcow2", "1048576"}, {"middle.qcow2", "qcow2", "top.qcow2", "5242880"}} {
		top := filepath.Join(d.PoolDir, step[2])
		cmd := exec.Command(qemuImg, "create", "-q", "-f", "qcow2", "-F", step[1], "-b", step[0], step[2])
		cmd.Dir = d.PoolDir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("qemu-img create: %v\n%s", err, out)
		}
		run(t, testenv.NeedTool(t, "qemu-io"), "-f", "qcow2", "-c", "write -P 0x5a "+step[3]+" 65536", top)
		check(t, os.Chmod(top, 0o644))
		at := map[string]int{"1048576": 1 << 20, "5242880": 5 << 20}[step[3]]
		copy(chain[at:], bytes.Repeat([]byte{0x5a}, 65536))
	}
	d.Virsh(t, "pool-refresh", "default")

	top := hypervisor.VolumeRef{Pool: "default", Name: "top.qcow2"}
	one := drivertest.Put(t, host, "raw.img", "raw", raw)
	web := machineOn("web", hypervisor.Medium{Format: "qcow2", Volume: &top}, hypervisor.Medium{Format: "raw", Volume: &one})
	web.UUID = "9b2f4c1e-6d0a-4f3b-8a57-1c2d3e4f5a6b"
	_, err = host.Define(t.Context(), web, hypervisor.Record{})
	check(t, err)
	boot := drivertest.Image("ready\n", drivertest.Store)
	bootRef := drivertest.Put(t, host, "boot.img", "raw", boot)
	db := machineOn("db", hypervisor.Medium{Format: "raw", Volume: &bootRef})
	db.Drives[0].BootOrder = 1
	guest, err := host.Define(t.Context(), db, hypervisor.Record{})
	check(t, err)

	for name, h := range map[string]hypervisor.Host{"near": host, "far": far} {
		t.Run(name+"/off", func(t *testing.T) {
			e := begin(t, export.Options{}, export.Source{Host: h, Name: "web"})
			p := made(t, e, filepath.Join(t.TempDir(), "web.ova"), build.Options{})
			holds(t, p, chain, raw)
			env := p.Document().Envelope()
			if env.Content.Kind != ovf.VirtualSystem || strings.Contains(string(p.Document().Bytes()), "52:54:00") || strings.Contains(string(p.Document().Bytes()), web.UUID) {
				t.Errorf("what each deployment gets anew is in the package:\n%s", p.Document().Bytes())
			}
		})
		t.Run(name+"/several", func(t *testing.T) {
			e := begin(t, export.Options{Name: "shop", Machine: machine.Options{KeepMAC: true, KeepUUID: true}},
				export.Source{Host: h, Name: "db"}, export.Source{Host: h, Name: "web"})
			p := made(t, e, filepath.Join(t.TempDir(), "shop"), build.Options{Format: "qcow2"})
			holds(t, p, boot, chain, raw)
			text := string(p.Document().Bytes())
			if !strings.Contains(text, "52:54:00:12:34:56") || !strings.Contains(text, web.UUID) {
				t.Errorf("the address or the UUID was to be kept:\n%s", text)
			}
			r, err := ovf.Resolve(p.Document().Envelope(), ovf.ResolveOptions{})
			check(t, err)
			var order []string
			for _, s := range r.Systems {
				order = append(order, s.ID)
			}
			if !slices.Equal(order, []string{"db", "web"}) || r.Systems[0].Startup == nil || r.Systems[1].Startup == nil || r.Systems[0].Startup.Order >= r.Systems[1].Startup.Order {
				t.Errorf("the machines start in the order %v", order)
			}
		})
	}

	t.Run("live", func(t *testing.T) {
		console, err := guest.Console()
		check(t, err)
		defer console.Close()
		check(t, guest.Start(t.Context()))
		_, err = io.ReadFull(console, make([]byte, len("ready\n")))
		check(t, err)
		say := func(b byte) {
			t.Helper()
			_, err := console.Write([]byte{b})
			check(t, err)
			_, err = io.ReadFull(console, make([]byte, 1))
			check(t, err)
		}
		if _, err := export.Begin(t.Context(), []export.Source{{Host: host, Name: "db"}}, export.Options{}); !errors.Is(err, hypervisor.ErrRunning) {
			t.Fatalf("a running machine: %v", err)
		}
		say('1')
		e, err := export.Begin(t.Context(), []export.Source{{Host: host, Name: "db"}, {Host: host, Name: "web"}}, export.Options{Live: true})
		check(t, err)
		say('2')
		p := made(t, e, filepath.Join(t.TempDir(), "live.ova"), build.Options{})
		want := bytes.Clone(boot)
		copy(want[drivertest.StoreSector*512:], bytes.Repeat([]byte("1"), 512))
		holds(t, p, want, chain, raw)
		check(t, e.Close(t.Context()))
		_, err = console.Write([]byte{drivertest.End})
		check(t, err)
		_, err = guest.Wait(t.Context())
		check(t, err)
		copy(want[drivertest.StoreSector*512:], bytes.Repeat([]byte{drivertest.End}, 512))
		e = begin(t, export.Options{}, export.Source{Host: host, Name: "db"})
		holds(t, made(t, e, filepath.Join(t.TempDir(), "after.ova"), build.Options{}), want)
		if left, err := filepath.Glob(filepath.Join(d.PoolDir, "*ovation-export*")); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// TestChanged starts a machine while it is exported: no package comes of it.
func TestChanged(t *testing.T) {
	h := drivertest.NewMemory()
	ref := drivertest.Put(t, h, "a", "raw", content(3))
	g, err := h.Define(t.Context(), machineOn("vm", hypervisor.Medium{Format: "raw", Volume: &ref}), hypervisor.Record{})
	check(t, err)
	e := begin(t, export.Options{}, export.Source{Host: h, Name: "vm"})
	check(t, g.Start(t.Context()))
	output := filepath.Join(t.TempDir(), "vm.ova")
	if _, err := e.Build(t.Context(), build.ToFile(output, pack.Options{}), build.Options{}); !errors.Is(err, hypervisor.ErrChanged) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(output); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a package was made: %v", err)
	}
}

// TestShutdown has a machine power off first.
func TestShutdown(t *testing.T) {
	h := drivertest.NewMemory()
	ref := drivertest.Put(t, h, "a", "raw", content(3))
	g, err := h.Define(t.Context(), machineOn("vm", hypervisor.Medium{Format: "raw", Volume: &ref}), hypervisor.Record{})
	check(t, err)
	check(t, g.Start(t.Context()))
	e := begin(t, export.Options{Shutdown: 1e9}, export.Source{Host: h, Name: "vm"})
	holds(t, made(t, e, filepath.Join(t.TempDir(), "vm.ova"), build.Options{}), content(3))
}

// noExport is a host whose machines can't be exported.
type noExport struct{ hypervisor.Host }

func TestRefused(t *testing.T) {
	h := drivertest.NewMemory()
	ref := drivertest.Put(t, h, "a", "raw", content(3))
	_, err := h.Define(t.Context(), machineOn("vm", hypervisor.Medium{Format: "raw", Volume: &ref}), hypervisor.Record{})
	check(t, err)
	for name, c := range map[string]struct {
		from []export.Source
		want error
	}{
		"no machine":  {nil, nil},
		"absent":      {[]export.Source{{Host: h, Name: "absent"}}, hypervisor.ErrNotFound},
		"no export":   {[]export.Source{{Host: noExport{h}, Name: "vm"}}, export.ErrNoExport},
		"named twice": {[]export.Source{{Host: h, Name: "vm"}, {Host: h, Name: "vm"}}, nil},
	} {
		if _, err := export.Begin(t.Context(), c.from, export.Options{}); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

// TestDeployed exports machines as a host has them after a deployment: the
// descriptor's own sections stay, the hardware is the host's.
func TestDeployed(t *testing.T) {
	text, err := os.ReadFile("testdata/deployed.ovf")
	check(t, err)
	h := drivertest.NewMemory()
	record := func(system string, volumes ...hypervisor.VolumeRef) hypervisor.Record {
		return hypervisor.Record{Deployment: "d1", System: system, Data: must(json.Marshal(volumes))}
	}
	a, b, env := drivertest.Put(t, h, "d1-system", "raw", content(1)), drivertest.Put(t, h, "d1-data", "raw", content(2)), drivertest.Put(t, h, "d1-env.iso", "iso", []byte("CD001"))
	// libvirt has drives in another order.
	front := machineOn("shop-front", hypervisor.Medium{Format: "raw", Volume: &b}, hypervisor.Medium{Format: "raw", Volume: &a})
	front.CPU.Count = 3
	front.Controllers = append(front.Controllers, hypervisor.Controller{ID: "sata", Model: hypervisor.AHCI})
	front.Drives = append(front.Drives, hypervisor.Drive{ID: "env", Kind: hypervisor.CDROM, Controller: "sata", Medium: &hypervisor.Medium{Format: "raw", Volume: &env}})
	front.NICs[0].Network = "default"
	_, err = h.Define(t.Context(), front, record("front", a, b, env))
	check(t, err)
	c := drivertest.Put(t, h, "d1-back", "raw", content(3))
	back := machineOn("shop-back", hypervisor.Medium{Format: "raw", Volume: &c})
	_, err = h.Define(t.Context(), back, record("back", c))
	check(t, err)
	opt := export.Options{Deployed: func(r *hypervisor.Record) (*export.Deployed, error) {
		d := &export.Deployed{Descriptor: text, Name: "shop.ovf", Option: "big", Environment: env}
		return d, json.Unmarshal(r.Data, &d.Volumes)
	}}

	t.Run("all", func(t *testing.T) {
		e := begin(t, opt, export.Source{Host: h, Name: "shop-back"}, export.Source{Host: h, Name: "shop-front"})
		p := made(t, e, filepath.Join(t.TempDir(), "shop.ova"), build.Options{})
		if want := []string{
			"shop: the deployment options are left out", "shop: files of the package that are no disks are left out",
			"front: that it installs itself",
		}; !covers(e.Unsaid, want) {
			t.Errorf("says %q", e.Unsaid)
		}
		doc := string(p.Document().Bytes())
		for _, want := range []string{"<Product>Shop</Product>", "You may.", "ovf:key=\"password\"", "A note.", "strange:thing", "com.vmware.guestInfo", "vmw:key=\"cpuHotAddEnabled\""} {
			if !strings.Contains(doc, want) {
				t.Errorf("%s is gone", want)
			}
		}
		for _, gone := range []string{"DeploymentOptionSection", "icon.png", "InstallSection", "ovf:configuration"} {
			if strings.Contains(doc, gone) {
				t.Errorf("%s is there", gone)
			}
		}
		r, err := ovf.Resolve(p.Document().Envelope(), ovf.ResolveOptions{})
		check(t, err)
		if len(r.Systems) != 2 || r.Systems[0].ID != "front" || r.Systems[0].CPUs != 3 {
			t.Fatalf("systems %+v", r.Systems)
		}
		got := map[string]string{}
		for _, d := range p.Document().Envelope().Disks {
			img, err := disks.Open(t.Context(), p, d.ID, disks.Options{})
			check(t, err)
			data, err := io.ReadAll(io.NewSectionReader(img, 0, img.Size()))
			check(t, err)
			for i := range uint64(4) {
				if bytes.Equal(data, content(i)) {
					got[d.ID] = string(rune('0' + i))
				}
			}
			check(t, img.Close())
		}
		if diff := cmp.Diff(map[string]string{"system": "1", "data": "2", "backdisk": "3"}, got); diff != "" {
			t.Errorf("disks by their IDs:\n%s", diff)
		}
		for _, s := range r.Systems[0].Properties {
			if s.Key == "size" && s.Value != "large" {
				t.Errorf("the property is %q, and was %q by the option", s.Value, "large")
			}
		}
		if strings.Count(doc, "<rasd:ResourceType>15<") != 0 {
			t.Error("the drive of the environment document is in the package")
		}
		if !strings.Contains(doc, "<rasd:Connection>LAN</rasd:Connection>") {
			t.Error("the card is not on its network of the descriptor")
		}
	})
	t.Run("one", func(t *testing.T) {
		e := begin(t, opt, export.Source{Host: h, Name: "shop-back"})
		p := made(t, e, filepath.Join(t.TempDir(), "shop.ova"), build.Options{})
		r, err := ovf.Resolve(p.Document().Envelope(), ovf.ResolveOptions{})
		check(t, err)
		if len(r.Systems) != 1 || r.Systems[0].ID != "back" || !covers(e.Unsaid, []string{"front is left out of shop"}) {
			t.Errorf("systems %+v, says %q", r.Systems, e.Unsaid)
		}
	})
	t.Run("with another", func(t *testing.T) {
		e0 := drivertest.Put(t, h, "other", "raw", content(0))
		_, err := h.Define(t.Context(), machineOn("other", hypervisor.Medium{Format: "raw", Volume: &e0}), hypervisor.Record{})
		check(t, err)
		plain := opt
		plain.Deployed = func(r *hypervisor.Record) (*export.Deployed, error) {
			if r.Deployment == "" {
				return &export.Deployed{}, nil
			}
			return opt.Deployed(r)
		}
		e := begin(t, plain, export.Source{Host: h, Name: "other"}, export.Source{Host: h, Name: "shop-back"})
		p := made(t, e, filepath.Join(t.TempDir(), "two.ova"), build.Options{})
		doc := string(p.Document().Bytes())
		if p.Document().Envelope().Content.Kind != ovf.VirtualSystemCollection || !strings.Contains(doc, `ovf:diskId="backdisk"`) || !covers(e.Unsaid, []string{"shop: what the descriptor says of the collection"}) {
			t.Errorf("not both:\n%s", doc)
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// covers says whether each of some beginnings is one of texts.
func covers(texts, beginnings []string) bool {
	for _, b := range beginnings {
		if !slices.ContainsFunc(texts, func(s string) bool { return strings.HasPrefix(s, b) }) {
			return false
		}
	}
	return true
}
