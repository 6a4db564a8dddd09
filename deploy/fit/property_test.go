package fit_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/trust"
	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/apply"
	"github.com/ovation-project/ovation/deploy/fit"
	"github.com/ovation-project/ovation/deploy/journal"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/deploy/portability"
	"github.com/ovation-project/ovation/deploy/stage"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/drivertest"
	"github.com/ovation-project/ovation/hypervisor/qemu"
)

// mostly draws the first value, and now and then one of the others.
func mostly[V any](t *rapid.T, what string, usual V, others ...V) V {
	if rapid.IntRange(0, 9).Draw(t, what+" is usual") > 0 {
		return usual
	}
	return rapid.SampledFrom(others).Draw(t, what)
}

// anySpec draws an appliance with anything in it that decides whether it fits.
func anySpec(t *rapid.T) spec {
	controllers := []struct {
		typ int
		sub string
	}{{5, ""}, {5, "PIIX4"}, {6, ""}, {6, "lsilogicsas"}, {6, "buslogic"}, {6, "VirtualSCSI"}, {6, "virtio-scsi"}, {20, "AHCI"}, {20, "nvme"}, {20, "virtio"}, {6, "someother lsilogic"}}
	required := func() string { return rapid.SampledFrom([]string{"", optional, optional}).Draw(t, "required") }
	var s spec
	s.families = rapid.SampledFrom([]string{"", "vmx-13", "kvm", "xen-3", "vmx-07 virtualbox-2.2"}).Draw(t, "families")
	s.cpus, s.memory = mostly(t, "CPUs", 2, 1, 3, 300), mostly(t, "memory", 64, 200, 1<<20)
	for k := range rapid.IntRange(1, 3).Draw(t, "controllers") {
		c := mostly(t, "controller", controllers[7], controllers...)
		if rapid.Bool().Draw(t, "usual controllers") {
			c = rapid.SampledFrom(controllers).Draw(t, "controller")
		}
		id := 10 + 20*k
		s.items += item(id, c.typ, c.sub, fmt.Sprintf("<rasd:Address>%d</rasd:Address>", k), required())
		for n := range rapid.IntRange(0, 4).Draw(t, "drives") {
			place := rapid.IntRange(0, 16).Draw(t, "place")
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				s.items += item(id+1+n, 15, "", fmt.Sprintf(`<rasd:AddressOnParent>%d</rasd:AddressOnParent><rasd:Parent>%d</rasd:Parent>`, place, id))
			case 1:
				s.items += drive(id+1+n, id, place, "d")
			default:
				s.items += drive(id+1+n, id, place, "blank")
			}
		}
	}
	s.disks = `<Disk ovf:diskId="blank" ovf:capacity="2097152" ovf:format="raw"/>`
	for k := range rapid.IntRange(0, 5).Draw(t, "cards") {
		s.items += card(100+k, mostly(t, "card", "E1000", "", "VmxNet3", "virtio", "Flexible", "PCNet32", "SriovEthernetCard", "no-such"),
			rapid.SampledFrom([]string{"lan", "wan"}).Draw(t, "network"), required())
	}
	for k := range rapid.IntRange(0, 3).Draw(t, "others") {
		typ := mostly(t, "type", 21, 14, 22, 23, 24, 34, 35, 99)
		s.items += item(200+k, typ, rapid.SampledFrom([]string{"", "vmware.usb.xhci", "virtio", "hdaudio"}).Draw(t, "subtype"), "", required())
	}
	s.hardware = mostly(t, "hardware", "", uefi, secure, `<vmw:Config ovf:required="true" vmw:key="nestedHVEnabled" vmw:value="true"/>`, `<vmw:Config ovf:required="true" vmw:key="warp" vmw:value="1"/>`)
	s.transport = rapid.SampledFrom([]string{"", "iso", "com.vmware.guestInfo"}).Draw(t, "transport")
	s.system = mostly(t, "system", "", eula, `<vbox:Machine ovf:required="false" stateFile="x.sav"/>`)
	s.sections = mostly(t, "sections", "", options, options, options, `<acme:X><Info/></acme:X>`)
	if s.sections == options {
		s.hardware += cpus(2, "small") + cpus(400, "large")
	}
	if rapid.Bool().Draw(t, "two sections") {
		s.further = spec{families: "kvm", items: on(20, "AHCI")}.hardwareSection()
	}
	s.manifest = rapid.Bool().Draw(t, "manifest")
	return s
}

func anyChoices(t *rapid.T) fit.Choices {
	return fit.Choices{
		Machines: deploy.Options{DiskBus: rapid.SampledFrom([]hypervisor.ControllerModel{"", "", hypervisor.AHCI, hypervisor.VirtIOBlk, hypervisor.IDE}).Draw(t, "disk bus"),
			NIC: rapid.SampledFrom([]hypervisor.NICModel{"", "", hypervisor.E1000}).Draw(t, "card"), CPUs: rapid.SampledFrom([]int{0, 1}).Draw(t, "CPUs"),
			MemoryBytes: rapid.SampledFrom([]int64{0, 64 << 20}).Draw(t, "memory")},
		MinLevel:       mostly[portability.Level](t, "level", 0, 2, 3),
		Force:          rapid.SampledFrom([][]portability.Risk{nil, portability.Risks()}).Draw(t, "force"),
		AcceptLicences: rapid.Bool().Draw(t, "accepted"),
		Plan:           plan.Options{DiskFormat: mostly(t, "format", "", "raw", "vhdx")},
	}
}

// TestWhatFitsIsDeployed draws appliances, choices and targets: what fits can
// be deployed and made by QEMU, what does not says why, and the options that are
// said to fit do.
func TestWhatFitsIsDeployed(t *testing.T) {
	base := t.TempDir()
	n := 0
	verdicts := map[fit.Verdict]int{}
	rapid.Check(t, func(t *rapid.T) {
		n++
		dir := filepath.Join(base, fmt.Sprint(n))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		anySpec(t).writeTo(t, dir)
		pkg, err := appliance.Open(t.Context(), dir, appliance.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer pkg.Close()
		subject, err := fit.Examine(t.Context(), pkg, fit.ExamineOptions{Store: &trust.Store{}})
		if err != nil {
			t.Fatal(err)
		}
		c := anyChoices(t)
		all := targets()
		var names []string
		for name := range all {
			names = append(names, name)
		}
		slices.Sort(names)
		h := all[mostly(t, "target", "kvm", names...)]
		j, err := subject.OnHost(t.Context(), h, c)
		if err != nil {
			t.Fatal(err)
		}
		verdicts[j.Verdict()]++
		switch j.Verdict() {
		case fit.Fits:
			deployPlan(t, pkg, h, j, filepath.Join(base, fmt.Sprint(n, "-journal")))
		case fit.Unfit:
			for _, r := range j.Reasons {
				if r.Area == "" || r.Subject == "" || r.Text == "" {
					t.Errorf("a reason that says nothing: %+v", r)
				}
			}
		}
		for _, o := range j.OptionsThatFit {
			other := c
			other.Resolve.Option = o
			if k, err := subject.OnHost(t.Context(), h, other); err != nil || len(k.Reasons) > 0 {
				t.Errorf("the option %s is said to fit: %v, %v", o, err, k.Reasons)
			}
		}
		local(t, subject, c)
	})
	t.Logf("verdicts: %v", verdicts)
}

// deployPlan carries a plan out.
func deployPlan(t *rapid.T, pkg *appliance.Package, h *drivertest.Memory, j *fit.Judgement, dir string) {
	defer os.RemoveAll(dir)
	note := func(string) {}
	store := journal.Store{Dir: dir}
	started, err := apply.Begin(t.Context(), h, store, j.Plan, note)
	if err != nil {
		t.Fatal(err)
	}
	content := stage.NewContent(pkg, stage.Options{Dir: dir})
	if err := apply.Apply(t.Context(), h, started, apply.Options{Source: apply.PackageSource(j.Plan, j.Resolved, j.Capabilities, content), Note: note}); err != nil {
		t.Fatalf("what fits can't be deployed to %s: %v", h.URI(), err)
	}
	if taken, err := apply.Taken(t.Context(), h, store, j.Plan); err != nil || len(taken) > 0 {
		t.Errorf("the deployment's own names are taken: %q, %v", taken, err)
	}
	if taken, err := apply.Taken(t.Context(), h, journal.Store{Dir: dir + "-other"}, j.Plan); err != nil || len(taken) != len(j.Plan.Machines) {
		t.Errorf("another's names are not taken: %q, %v", taken, err)
	}
}

// local sees that QEMU makes what fits it.
func local(t *rapid.T, subject *fit.Subject, c fit.Choices) {
	j, err := subject.OnLocal(t.Context(), fit.Local{Driver: tables{qemu.Models()}, Network: "user"}, c)
	if err != nil {
		t.Fatal(err)
	}
	if j.Verdict() != fit.Fits {
		return
	}
	for _, m := range j.Machines {
		x := m.Machine
		for k := range x.Drives {
			if d := &x.Drives[k]; m.Disks[d.ID] != nil || m.Files[d.ID] != nil {
				d.Medium = &hypervisor.Medium{Format: "raw", Path: "/" + d.ID}
			}
		}
		where := qemu.Host{Accel: "tcg", ConsoleFD: 4, MonitorFD: 3}
		if x.Firmware.Kind == hypervisor.UEFI {
			where.Firmware, where.NVRAM = &qemu.Firmware{Code: "c", CodeFormat: "raw", Vars: "v", VarsFormat: "raw"}, "n"
		}
		if _, err := qemu.Args(x, where); err != nil {
			t.Errorf("what fits can't be made by QEMU: %v", err)
		}
	}
}
