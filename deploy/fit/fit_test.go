package fit_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/verdict"
	"github.com/ovation-project/ovation/deploy"
	"github.com/ovation-project/ovation/deploy/fit"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/deploy/portability"
	"github.com/ovation-project/ovation/disk/disktest"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/hypervisor/qemu"
	"github.com/ovation-project/ovation/ovf"
)

const (
	required = `ovf:required="true"`
	optional = `ovf:required="false"`
	uefi     = `<vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi"/>`
	secure   = uefi + `<vmw:Config ovf:required="true" vmw:key="bootOptions.efiSecureBootEnabled" vmw:value="true"/>`
	eula     = `<EulaSection><Info>Terms of Acme</Info><License>All is allowed.</License></EulaSection>`
	options  = `<DeploymentOptionSection><Info/><Configuration ovf:id="large"><Label/><Description/></Configuration><Configuration ovf:id="small"><Label/><Description/></Configuration></DeploymentOptionSection>`
)

func cpus(n int, option string) string {
	return item(1, 3, "", fmt.Sprintf("<rasd:VirtualQuantity>%d</rasd:VirtualQuantity>", n), fmt.Sprintf("ovf:configuration=%q", option))
}

// everywhere that keeps machines, but for the one that has no pool.
var everywhere = []string{"arm", "kvm", "rhel", "small", "vsphere", "xen"}

// TestTable has appliances and targets, with the verdict, every reason and the
// level. Targets that are not named are bare and arm's, which fit nothing.
func TestTable(t *testing.T) {
	type row struct {
		name    string
		spec    spec
		choices fit.Choices
		examine fit.ExamineOptions
		level   portability.Level
		// want is by target: the verdict, and for each reason or need its area
		// and a part of its text. "*" is every target that is not named.
		want map[string]string
		// notes are parts of what is said, by target.
		notes map[string]string
		is    error // what the error is where it is unfit, besides ErrUnfit
	}
	const (
		noIDE = "unfit; hardware: has no ide controller"
	)
	for _, r := range []row{
		{name: "a small machine", level: 3, want: map[string]string{"*": "fits", "rhel": noIDE}},
		{name: "AHCI", spec: spec{items: on(20, "AHCI")}, level: 3, want: map[string]string{"*": "fits", "xen": "unfit; hardware: has no ahci controller"}},
		{name: "PVSCSI and VmxNet3, for VMware", spec: spec{families: "vmx-13", items: on(6, "VirtualSCSI") + card(9, "VmxNet3", "lan")}, level: 2,
			want: map[string]string{"*": "fits", "rhel": "unfit; hardware: has no pvscsi; hardware: has no vmxnet3", "xen": "unfit; hardware: has no pvscsi; hardware: has no vmxnet3"}},
		{name: "BusLogic", spec: spec{items: on(6, "buslogic")}, level: 3, want: map[string]string{"*": "unfit; hardware: has no buslogic", "vsphere": "fits"}},
		{name: "BusLogic or LSI Logic", spec: spec{items: on(6, "buslogic lsilogic")}, level: 3,
			want:  map[string]string{"*": "fits", "rhel": "unfit; hardware: has no buslogic", "xen": "unfit; hardware: has no buslogic"},
			notes: map[string]string{"kvm": "LSI 53C895A"}},
		{name: "BusLogic, put elsewhere", spec: spec{items: on(6, "buslogic")}, choices: fit.Choices{Machines: deploy.Options{DiskBus: hypervisor.AHCI}}, level: 3,
			want: map[string]string{"*": "fits", "xen": "unfit; hardware: has no ahci"}},
		{name: "VirtIO", spec: spec{families: "kvm", items: on(6, "virtio-scsi") + card(9, "virtio", "lan")}, level: 2,
			want: map[string]string{"*": "fits", "xen": "unfit; hardware: has no virtio-scsi", "vsphere": "unfit; hardware: has no virtio-scsi; hardware: has no virtio-net"}},
		{name: "what is not required", spec: spec{items: on(20, "AHCI") + item(20, 1, "vmware.vmci", "", optional) + card(9, "no-such-card", "lan", optional) + item(21, 22, "", "", optional)}, level: 3,
			want: map[string]string{"*": "fits", "xen": "unfit; hardware: has no ahci"}, notes: map[string]string{"kvm": "no-such-card", "rhel": "vmware.vmci", "vsphere": "no driver makes it"}},
		{name: "what nobody has", spec: spec{items: on(20, "AHCI") + card(9, "no-such-card", "lan") + item(21, 22, "", "") + item(22, 99, "", "")}, level: 3,
			want: map[string]string{"*": "unfit; hardware: \"no-such-card\" is not a device; hardware: resource type 22 (Parallel Port) can't be had; hardware: resource type 99",
				"xen": "unfit; hardware: \"no-such-card\" is not a device; hardware: resource type 22 (Parallel Port) can't be had; hardware: resource type 99; hardware: has no ahci"}},
		{name: "a device of the host's", spec: spec{families: "vmx-13", items: on(20, "AHCI") + item(20, 1, "vmware.pci.passthrough", "")}, level: 1,
			want: map[string]string{"*": "unfit; hardware: handed through; --force missing-hardware", "xen": "unfit; hardware: handed through; --force missing-hardware; hardware: has no ahci"}},
		{name: "and without it", spec: spec{families: "vmx-13", items: on(20, "AHCI") + item(20, 1, "vmware.pci.passthrough", "")}, level: 1,
			choices: fit.Choices{Force: []portability.Risk{portability.MissingHardware}},
			want:    map[string]string{"*": "fits", "xen": "unfit; hardware: has no ahci"}, notes: map[string]string{"kvm": "left out, as was asked"}},
		{name: "much of everything", spec: spec{cpus: 200, memory: 512 << 10}, level: 3,
			want:  map[string]string{"*": "unfit; hardware: the host has 262144 MiB", "small": "unfit; hardware: 200 are needed, and 2 can be had; hardware: the host has 128 MiB", "rhel": noIDE + "; hardware: the host has 262144 MiB"},
			notes: map[string]string{"kvm": "200, on a host with 64"}},
		{name: "less by choice", spec: spec{cpus: 200, memory: 512 << 10}, choices: fit.Choices{Machines: deploy.Options{CPUs: 1, MemoryBytes: 64 << 20}}, level: 3,
			want: map[string]string{"*": "fits", "rhel": noIDE}},
		{name: "a smaller option", spec: spec{sections: options, hardware: cpus(500, "large") + cpus(1, "small")}, level: 3,
			want: map[string]string{"*": "unfit; hardware: 500 are needed; option: small", "rhel": noIDE + "; hardware: 500 are needed", "small": "unfit; hardware: 500 are needed; option: small"}},
		{name: "the smaller option", spec: spec{sections: options, hardware: cpus(500, "large") + cpus(1, "small")}, choices: fit.Choices{Resolve: ovf.ResolveOptions{Option: "small"}}, level: 3,
			want: map[string]string{"*": "fits", "rhel": noIDE}},
		{name: "UEFI", spec: spec{items: on(20, "AHCI"), hardware: uefi}, level: 3,
			want: map[string]string{"*": "fits", "small": "unfit; hardware: no UEFI firmware is installed", "xen": "unfit; hardware: no UEFI firmware is installed; hardware: has no ahci"}},
		{name: "Secure Boot", spec: spec{items: on(20, "AHCI"), hardware: secure}, level: 2,
			want: map[string]string{"*": "fits", "rhel": "unfit; hardware: Secure Boot is required", "small": "unfit; hardware: Secure Boot is required", "xen": "unfit; hardware: Secure Boot is required; hardware: has no ahci"}},
		{name: "a TPM", spec: spec{items: on(20, "AHCI") + item(20, 1, "vmware.vtpm", "")}, level: 3,
			want: map[string]string{"*": "fits", "small": "unfit; hardware: platform module", "xen": "unfit; hardware: platform module; hardware: has no ahci"}},
		{name: "many serial ports", spec: spec{hardware: item(30, 21, "", "") + item(31, 21, "", "") + item(32, 21, "", "") + item(33, 21, "", "") + item(34, 21, "", "")}, level: 3,
			want: map[string]string{"*": "unfit; hardware: 5 are needed, and 4", "rhel": noIDE + "; hardware: 5 are needed, and 4"}},
		{name: "CPU features", spec: spec{hardware: `<Item><rasd:ElementName>cpu</rasd:ElementName><rasd:InstanceID>40</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>1</rasd:VirtualQuantity>` +
			`<pasd:InstructionSetExtensionName>DMTF:x86:AVX2</pasd:InstructionSetExtensionName></Item>`}, level: 2,
			want: map[string]string{"*": "fits", "small": "unfit; hardware: DMTF:x86:AVX2", "rhel": noIDE}},
		{name: "guests of its own", spec: spec{hardware: `<vmw:Config ovf:required="true" vmw:key="nestedHVEnabled" vmw:value="true"/>`}, level: 2,
			want: map[string]string{"*": "fits", "small": "unfit; hardware: guests of its own", "rhel": noIDE}},
		{name: "another architecture", spec: spec{os: `<OperatingSystemSection ovf:id="1" vmw:osType="arm-ubuntu-64Guest"><Info/></OperatingSystemSection>`}, level: 3,
			want: map[string]string{"*": "unfit; hardware: the guest is aarch64", "arm": "fits", "rhel": noIDE + "; hardware: the guest is aarch64"}},
		{name: "a setting that is required", spec: spec{hardware: `<vmw:ExtraConfig ovf:required="true" vmw:key="warp" vmw:value="9"/>`}, level: 2,
			want: map[string]string{"*": "unfit; hardware: the setting warp", "rhel": noIDE + "; hardware: the setting warp"}},
		{name: "a large disk", spec: spec{disks: `<Disk ovf:diskId="e" ovf:fileRef="g" ovf:capacity="2097152" ovf:format="raw"/>`, references: `<File ovf:id="g" ovf:href="e.img"/>`,
			items: on(5, "") + drive(5, 3, 1, "e"), files: map[string][]byte{"e.img": make([]byte, 2<<20)}}, level: 3,
			want: map[string]string{"*": "fits", "rhel": noIDE, "small": "fits"}},
		{name: "a disk for which there is no room", spec: spec{references: `<File ovf:id="g" ovf:href="e.img" ovf:size="8388608"/>`, disks: `<Disk ovf:diskId="e" ovf:fileRef="g" ovf:capacity="8388608" ovf:format="raw"/>`,
			items: on(5, "") + drive(5, 3, 1, "e"), files: map[string][]byte{"e.img": make([]byte, 8<<20)}}, level: 3,
			want: map[string]string{"*": "fits", "small": "unfit; storage: 9 MiB at least", "rhel": noIDE}},
		{name: "a format that no pool takes", choices: fit.Choices{Plan: plan.Options{DiskFormat: "vhdx"}}, level: 3,
			want: map[string]string{"*": "unfit; storage: does not take the format vhdx", "rhel": noIDE + "; storage: does not take the format vhdx"}},
		{name: "a pool that is not there", choices: fit.Choices{Pool: "fast"}, level: 3,
			want: map[string]string{"*": "unfit; storage: no active storage pool \"fast\"", "rhel": noIDE + "; storage: no active storage pool"}},
		{name: "a disk in a format unheard of", spec: spec{files: map[string][]byte{"d.img": nil}, disks: `<Disk ovf:diskId="e" ovf:fileRef="g" ovf:capacity="1048576" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>`,
			references: `<File ovf:id="g" ovf:href="e.vmdk"/>`, items: item(3, 5, "", "") + drive(4, 3, 0, "e")}, level: 3,
			want: map[string]string{"*": "unfit; integrity: e.vmdk", "rhel": noIDE + "; integrity: e.vmdk"}, is: appliance.ErrIncomplete},
		{name: "a network of the host's", spec: spec{items: on(20, "AHCI") + card(9, "E1000", "lan")}, choices: fit.Choices{Networks: []string{"lan=default"}}, level: 3,
			want: map[string]string{"*": "fits", "vsphere": "unfit; hardware: no network \"default\"", "xen": "unfit; hardware: has no ahci"}},
		{name: "a licence", spec: spec{system: eula}, level: 3, want: map[string]string{"*": "needs; licence: --accept-eula", "rhel": noIDE + "; licence: --accept-eula"}},
		{name: "a licence, accepted", spec: spec{system: eula}, choices: fit.Choices{AcceptLicences: true}, level: 3, want: map[string]string{"*": "fits", "rhel": noIDE}},
		{name: "a section that is required", spec: spec{sections: `<acme:WarpSection><Info/></acme:WarpSection>`, items: on(20, "AHCI")}, level: 2,
			want: map[string]string{"*": "unfit; section: section WarpSection", "xen": "unfit; section: section WarpSection; hardware: has no ahci"}},
		{name: "a section that is not", spec: spec{sections: `<acme:WarpSection ovf:required="false"><Info/></acme:WarpSection>`}, level: 3, want: map[string]string{"*": "fits", "rhel": noIDE}},
		{name: "a suspended machine", spec: spec{families: "vmx-13", references: `<File ovf:id="s" ovf:href="vm.vmss"/>`, items: on(20, "AHCI"), files: map[string][]byte{"vm.vmss": {1}}}, level: 1,
			want:  map[string]string{"*": "unfit; portability: --force lost-state", "vsphere": "fits", "xen": "unfit; portability: --force lost-state; hardware: has no ahci"},
			notes: map[string]string{"vsphere": "not taken over"}},
		{name: "its state left behind", spec: spec{families: "vmx-13", references: `<File ovf:id="s" ovf:href="vm.vmss"/>`, items: on(20, "AHCI"), files: map[string][]byte{"vm.vmss": {1}}}, level: 1,
			choices: fit.Choices{Force: []portability.Risk{portability.LostState}}, want: map[string]string{"*": "fits", "xen": "unfit; hardware: has no ahci"},
			notes: map[string]string{"kvm": "as was asked (--force lost-state)"}},
		{name: "another risk named", spec: spec{families: "vmx-13", system: `<vbox:Machine ovf:required="false" stateFile="a.sav"/>`, items: on(20, "AHCI")}, level: 1,
			choices: fit.Choices{Force: []portability.Risk{portability.MissingHardware}},
			want:    map[string]string{"*": "unfit; portability: --force lost-state", "vsphere": "fits", "xen": "unfit; portability: --force lost-state; hardware: has no ahci"}},
		{name: "not portable enough", spec: spec{families: "vmx-13", items: on(20, "AHCI")}, choices: fit.Choices{MinLevel: portability.ManyFamilies}, level: 2,
			want: map[string]string{"*": "unfit; portability: it is 2, and 3 is asked for", "xen": "unfit; portability: it is 2, and 3 is asked for; hardware: has no ahci"}},
		{name: "portable enough", spec: spec{items: on(20, "AHCI")}, choices: fit.Choices{MinLevel: portability.ManyFamilies}, level: 3,
			want: map[string]string{"*": "fits", "xen": "unfit; hardware: has no ahci"}},
		{name: "two hardware sections", spec: spec{families: "vmx-13", items: on(6, "buslogic"), further: spec{families: "kvm", items: on(20, "virtio-blk") + card(9, "virtio", "lan")}.hardwareSection()}, level: 3,
			want:  map[string]string{"*": "fits", "xen": "unfit; hardware: has no buslogic"},
			notes: map[string]string{"kvm": "for kvm", "small": "for kvm", "vsphere": "for vmx-13"}},
		{name: "unsigned", spec: spec{manifest: true}, examine: fit.ExamineOptions{Policy: verdict.Policy{Unsigned: verdict.Refuse}}, level: 3,
			want: map[string]string{"*": "unfit; security: not trusted", "rhel": noIDE + "; security: not trusted"}, is: verdict.ErrUntrusted},
		{name: "an altered descriptor", spec: spec{manifest: true, altered: []string{"a.ovf"}}, level: 3,
			want: map[string]string{"*": "unfit; integrity: a.ovf", "rhel": noIDE + "; integrity: a.ovf"}, is: appliance.ErrAltered},
		{name: "an altered disk", spec: spec{manifest: true, altered: []string{"d.img"}}, examine: fit.ExamineOptions{Verify: true}, level: 3,
			want: map[string]string{"*": "unfit; integrity: d.img", "rhel": noIDE + "; integrity: d.img"}, is: appliance.ErrAltered},
		{name: "a missing disk", spec: spec{files: map[string][]byte{"d.img": nil}}, level: 3,
			want: map[string]string{"*": "unfit; integrity: d.img", "rhel": noIDE + "; integrity: d.img"}, is: appliance.ErrIncomplete},
		{name: "several machines", spec: spec{items: on(20, "AHCI"), others: `<VirtualSystem ovf:id="db"><Info/>` + spec{items: item(3, 6, "buslogic", "") + drive(4, 3, 0, "d"), memory: 100}.hardwareSection() + `</VirtualSystem>`}, level: 3,
			want: map[string]string{"*": "unfit; hardware: db: ", "vsphere": "fits", "xen": "unfit; hardware: vm: ; hardware: db: "}},
		{name: "one of them", spec: spec{items: on(20, "AHCI"), others: `<VirtualSystem ovf:id="db"><Info/>` + spec{items: item(3, 6, "buslogic", "") + drive(4, 3, 0, "d")}.hardwareSection() + `</VirtualSystem>`}, level: 3,
			choices: fit.Choices{Machines: deploy.Options{Systems: []string{"vm"}}}, want: map[string]string{"*": "fits", "xen": "unfit; hardware: has no ahci"}},
		{name: "properties by CD-ROM", spec: spec{transport: "iso", items: on(6, "virtio-scsi")}, level: 3,
			want: map[string]string{"*": "fits", "xen": "unfit; hardware: has no virtio-scsi", "vsphere": "unfit; hardware: has no virtio-scsi"}},
	} {
		t.Run(r.name, func(t *testing.T) {
			subject := r.spec.examine(t, r.examine)
			all := targets()
			for _, name := range everywhere {
				j, err := subject.OnHost(t.Context(), all[name], r.choices)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				want, ok := r.want[name]
				if !ok {
					want = r.want["*"]
					if name == "arm" && want != "" {
						continue // TestOtherHosts
					}
				}
				compare(t, name, j, want)
				if j.Portability.Level != r.level {
					t.Errorf("the level is %d, want %d: %v", j.Portability.Level, r.level, j.Portability.Reasons)
				}
				if note := r.notes[name]; note != "" && !strings.Contains(notes(j), note) {
					t.Errorf("%s: the notes do not say %q:\n%s", name, note, notes(j))
				}
				if err := j.Err(); r.is != nil && (!errors.Is(err, r.is) || !errors.Is(err, hypervisor.ErrUnfit)) {
					t.Errorf("%s: the error is %v", name, err)
				}
			}
		})
	}
}

func notes(j *fit.Judgement) string {
	var lines []string
	for _, n := range j.Notes {
		lines = append(lines, n.String())
	}
	for _, m := range j.Machines {
		for _, n := range m.Notes {
			lines = append(lines, n.String())
		}
	}
	return strings.Join(lines, "\n")
}

// compare sees that a judgement is as wanted, with no reason besides: "verdict;
// area: text; area: text".
func compare(t *testing.T, target string, j *fit.Judgement, want string) {
	t.Helper()
	verdict, rest, _ := strings.Cut(want, "; ")
	var have []string
	for _, r := range j.Reasons {
		have = append(have, fmt.Sprintf("%s: %s", r.Area, r.Reason))
	}
	for _, n := range j.Needs {
		have = append(have, fmt.Sprintf("%s: %s %s", n.Area, n.Reason, n.Flag))
	}
	for _, o := range j.OptionsThatFit {
		have = append(have, "option: "+o)
	}
	if string(j.Verdict()) != verdict {
		t.Errorf("%s: the verdict is %s, want %s:\n%s", target, j.Verdict(), want, strings.Join(have, "\n"))
		return
	}
	if (j.Plan != nil) != (verdict != string(fit.Unfit)) {
		t.Errorf("%s: %s, and the plan is there: %v", target, verdict, j.Plan != nil)
	}
	var parts []string
	if rest != "" {
		// A text may have a semicolon in it: what follows is an area.
		for _, p := range strings.Split(rest, "; ") {
			area, _, ok := strings.Cut(p, ":")
			if ok && slices.Contains([]string{"hardware", "storage", "network", "licence", "section", "security", "integrity", "portability", "name", "option", "property"}, area) {
				parts = append(parts, p)
			} else {
				parts[len(parts)-1] += "; " + p
			}
		}
	}
	left := slices.Clone(have)
	for _, p := range parts {
		area, text, _ := strings.Cut(p, ": ")
		i := slices.IndexFunc(left, func(s string) bool { return strings.HasPrefix(s, area+": ") && strings.Contains(s, text) })
		if i < 0 {
			t.Errorf("%s: no reason %q:\n%s", target, p, strings.Join(have, "\n"))
			continue
		}
		left = slices.Delete(left, i, i+1)
	}
	if len(left) > 0 {
		t.Errorf("%s: more reasons than %q:\n%s", target, want, strings.Join(left, "\n"))
	}
}

// TestOtherHosts has a host that runs other guests, and one without a pool.
func TestOtherHosts(t *testing.T) {
	s := spec{items: on(5, "") + card(9, "E1000", "lan")}.examine(t, fit.ExamineOptions{})
	all := targets()
	for name, c := range map[string]struct {
		host fit.Host
		opt  fit.Choices
		want string
	}{
		"arm":                  {all["arm"], fit.Choices{}, "unfit; hardware: the guest is x86_64, and libvirt here runs aarch64"},
		"bare":                 {all["bare"], fit.Choices{}, "unfit; storage: no active storage pool"},
		"bare, to be started":  {all["bare"], fit.Choices{Plan: plan.Options{Start: true}}, "unfit; storage: no active storage pool; network: not active"},
		"a network unheard of": {unchecked{all["kvm"]}, fit.Choices{Networks: []string{"dmz"}}, "unfit; network: no network \"dmz\" (--network); it has default"},
		"a network":            {unchecked{all["kvm"]}, fit.Choices{Networks: []string{"lan=default"}}, "fits"},
	} {
		j, err := s.OnHost(t.Context(), c.host, c.opt)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, name, j, c.want)
	}
	j, err := s.OnHost(t.Context(), all["bare"], fit.Choices{})
	if err != nil || !strings.Contains(notes(j), "not active") {
		t.Errorf("that the network is not active is not said: %v\n%s", err, notes(j))
	}
}

// TestChoicesThatCanNotBe are errors, and no judgement of the package.
func TestChoicesThatCanNotBe(t *testing.T) {
	s := spec{items: on(5, "") + card(9, "E1000", "lan")}.examine(t, fit.ExamineOptions{})
	var network *plan.UnknownNetworkError
	var system *deploy.UnknownSystemError
	var resolve *ovf.ResolveError
	for _, c := range []struct {
		choices fit.Choices
		as      any
	}{
		{fit.Choices{Networks: []string{"wan=default"}}, &network},
		{fit.Choices{Machines: deploy.Options{Systems: []string{"db"}}}, &system},
		{fit.Choices{Resolve: ovf.ResolveOptions{Option: "huge"}}, &resolve},
	} {
		if j, err := s.OnHost(t.Context(), targets()["kvm"], c.choices); !errors.As(err, c.as) {
			t.Errorf("%+v: %v, %v", c.choices, j, err)
		}
	}
}

// TestNames has a host that has a machine of the name.
func TestNames(t *testing.T) {
	s := spec{}.examine(t, fit.ExamineOptions{})
	taken := func(names ...string) fit.Choices {
		return fit.Choices{Taken: func(context.Context, *plan.Plan) ([]string, error) { return names, nil }}
	}
	j, err := s.OnHost(t.Context(), targets()["kvm"], taken("machine"))
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "taken", j, "needs; name: name machine: the host has a machine of that name already: another name has to be chosen --name")
	if j, err = s.OnHost(t.Context(), targets()["kvm"], taken()); err != nil {
		t.Fatal(err)
	}
	compare(t, "free", j, "fits")
}

// TestRank has one package and several targets.
func TestRank(t *testing.T) {
	s := spec{families: "vmx-13", items: on(6, "lsilogic") + card(9, "E1000", "lan")}.examine(t, fit.ExamineOptions{})
	all := targets()
	slow := host("slow", roomy())
	slow.Gives.Acceleration = hypervisor.Acceleration{Kind: "tcg", Reason: "there is no /dev/kvm"}
	var judged []*fit.Judgement
	for _, h := range []fit.Host{all["xen"], slow, all["rhel"], all["kvm"], all["vsphere"]} {
		j, err := s.OnHost(t.Context(), h, fit.Choices{})
		if err != nil {
			t.Fatal(err)
		}
		judged = append(judged, j)
	}
	judged = append(judged[:1:1], append([]*fit.Judgement{{Target: "gone", Unreachable: hypervisor.ErrUnavailable}}, judged[1:]...)...)
	fit.Rank(judged)
	var order []string
	for _, j := range judged {
		order = append(order, j.Target)
	}
	if want := []string{"vsphere", "kvm", "slow", "xen", "rhel", "gone"}; !slices.Equal(order, want) {
		t.Errorf("the order is %q, want %q", order, want)
	}
	if fit.Best(judged) != fit.Fits || fit.Best(judged[3:]) != fit.Unfit || fit.Best(judged[5:]) != fit.Unknown || fit.Best(nil) != fit.Unknown {
		t.Error("the best verdict is another one")
	}
}

// TestLocal judges for the QEMU of this computer, by its tables.
func TestLocal(t *testing.T) {
	l := fit.Local{Driver: tables{qemu.Models()}, Network: "user"}
	j, err := spec{items: on(6, "lsilogic") + card(9, "E1000", "lan"), system: eula, transport: "iso"}.examine(t, fit.ExamineOptions{}).OnLocal(t.Context(), l, fit.Choices{})
	if err != nil {
		t.Fatal(err)
	}
	if j.Verdict() != fit.Needs || len(j.Needs) != 1 || j.Plan != nil || j.Target != "qemu" {
		t.Errorf("%s: %v %v", j.Verdict(), j.Reasons, j.Needs)
	}
	m := j.Machines[0]
	if m.Machine.NICs[0].HostNetwork != "user" || len(m.Machine.Serials) != 1 || j.Environments[m] == "" {
		t.Errorf("the machine is %+v", m.Machine)
	}
	// A driver that can say more is asked.
	l.Driver = refusing{tables{qemu.Models()}}
	if j, err = (spec{}).examine(t, fit.ExamineOptions{}).OnLocal(t.Context(), l, fit.Choices{}); err != nil {
		t.Fatal(err)
	}
	if j.Verdict() != fit.Unfit || !strings.Contains(j.Err().Error(), "on second thoughts") {
		t.Errorf("what the driver says is no reason: %v", j.Err())
	}
}

func TestExaminedOnce(t *testing.T) {
	s := spec{manifest: true, altered: []string{"a.ovf"}}.examine(t, fit.ExamineOptions{})
	if err := s.Refused(); !errors.Is(err, appliance.ErrAltered) {
		t.Errorf("an altered package: %v", err)
	}
	s = spec{manifest: true}.examine(t, fit.ExamineOptions{})
	if err := s.Refused(); err != nil || s.Trust().Answer != verdict.Unsigned || s.Warning() == "" {
		t.Errorf("an unsigned package: %v, %v, %q", err, s.Trust(), s.Warning())
	}
}

// TestSnapshotOfARunningMachine has a disk whose image holds one.
func TestSnapshotOfARunningMachine(t *testing.T) {
	dir := t.TempDir()
	disktest.QEMUImg(t, dir, "create", "-f", "qcow2", "d.qcow2", "1M")
	image, err := os.ReadFile(filepath.Join(dir, "d.qcow2"))
	if err != nil {
		t.Fatal(err)
	}
	// The table of snapshots is put at the end (QEMU's docs/interop/qcow2.txt).
	binary.BigEndian.PutUint32(image[60:], 1)
	binary.BigEndian.PutUint64(image[64:], uint64(len(image)))
	entry := make([]byte, 40)
	binary.BigEndian.PutUint32(entry[32:], 4096) // vm_state_size
	s := spec{files: map[string][]byte{"d.img": append(image, entry...)}, families: "vmx-13"}.examine(t, fit.ExamineOptions{})
	j, err := s.OnHost(t.Context(), targets()["kvm"], fit.Choices{})
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "as it is", j, "unfit; portability: disk d: its image holds a snapshot of the guest as it ran")
	if j, err = s.OnHost(t.Context(), targets()["kvm"], fit.Choices{Force: portability.Risks()}); err != nil {
		t.Fatal(err)
	}
	compare(t, "forced", j, "fits")
}
