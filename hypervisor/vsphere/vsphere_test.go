package vsphere

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/testvsphere"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, uri string) *Host {
	t.Helper()
	h, err := Open(t.Context(), uri, Options{})
	check(t, err)
	t.Cleanup(func() { check(t, h.Close()) })
	return h
}

// descriptor is of one machine with disks of one MiB each.
func descriptor(id string, disks ...string) string {
	var refs, list, items strings.Builder
	for i, d := range disks {
		fmt.Fprintf(&refs, `<File ovf:id="f%d" ovf:href="%s"/>`, i, d)
		fmt.Fprintf(&list, `<Disk ovf:diskId="d%d" ovf:fileRef="f%d" ovf:capacity="1048576" ovf:capacityAllocationUnits="byte" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>`, i, i)
		fmt.Fprintf(&items, `<Item><rasd:AddressOnParent>%d</rasd:AddressOnParent><rasd:ElementName>disk%d</rasd:ElementName><rasd:HostResource>ovf:/disk/d%d</rasd:HostResource><rasd:InstanceID>1%d</rasd:InstanceID><rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>`, i, i, i, i)
	}
	return `<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData" xmlns:vmw="http://www.vmware.com/schema/ovf">
<References>` + refs.String() + `</References><DiskSection><Info>Disks</Info>` + list.String() + `</DiskSection>
<NetworkSection><Info>Networks</Info><Network ovf:name="LAN"/></NetworkSection>
<VirtualSystem ovf:id="` + id + `"><Info>A machine</Info><OperatingSystemSection ovf:id="101" vmw:osType="debian12_64Guest"><Info>OS</Info></OperatingSystemSection>
<ProductSection ovf:class="app"><Info>Product</Info><Product>Thing</Product><Property ovf:key="hostname" ovf:type="string" ovf:userConfigurable="true"/><Property ovf:key="secret" ovf:type="string" ovf:password="true" ovf:userConfigurable="true"/></ProductSection>
<VirtualHardwareSection ovf:transport="com.vmware.guestInfo"><Info>Hardware</Info><System><vssd:ElementName>Family</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID><vssd:VirtualSystemType>vmx-13</vssd:VirtualSystemType></System>
<Item><rasd:ElementName>2 CPUs</rasd:ElementName><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>
<Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:ElementName>memory</rasd:ElementName><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>256</rasd:VirtualQuantity></Item>
<Item><rasd:Address>0</rasd:Address><rasd:ElementName>SCSI</rasd:ElementName><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceSubType>VirtualSCSI</rasd:ResourceSubType><rasd:ResourceType>6</rasd:ResourceType></Item>
<Item><rasd:AutomaticAllocation>true</rasd:AutomaticAllocation><rasd:Connection>LAN</rasd:Connection><rasd:ElementName>net</rasd:ElementName><rasd:InstanceID>4</rasd:InstanceID><rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType><rasd:ResourceType>10</rasd:ResourceType></Item>` +
		items.String() + `</VirtualHardwareSection></VirtualSystem></Envelope>`
}

func record(deployment, system string) hypervisor.Record {
	return hypervisor.Record{Deployment: deployment, System: system, Appliance: "Thing 1", Made: time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC),
		Data: json.RawMessage(`{"a":"` + strings.Repeat("x<&>", 50000) + `"}`)}
}

// content is what is sent of a file: its name again and again.
func content(href string) []byte { return bytes.Repeat([]byte(href+"\n"), 20000) }

func opener(_ context.Context, f hypervisor.ImportFile) (*hypervisor.ImportContent, error) {
	b := content(f.Href)
	return &hypervisor.ImportContent{ReadCloser: io.NopCloser(bytes.NewReader(b)), Size: int64(len(b))}, nil
}

func spec(name string, disks ...string) hypervisor.ImportSpec {
	return hypervisor.ImportSpec{Deployment: "dep-" + name, Networks: []hypervisor.ImportNetwork{{Name: "LAN", HostNetwork: "VM Network"}},
		Systems: []hypervisor.ImportSystem{{ID: "vm", Name: name, Descriptor: descriptor("vm", disks...), Record: record("dep-"+name, "vm"),
			Properties: []hypervisor.ImportProperty{{Key: "app.hostname", Value: "web1"}, {Key: "app.secret", Value: "hush-hush"}}}}}
}

func imported(t testing.TB, h *Host, s hypervisor.ImportSpec) {
	t.Helper()
	i, err := h.PrepareImport(t.Context(), s)
	check(t, err)
	check(t, i.Run(t.Context(), opener, hypervisor.ImportOptions{}))
}

// again imports what is there already.
func again(t testing.TB, h *Host, s hypervisor.ImportSpec) error {
	t.Helper()
	i, err := h.PrepareImport(t.Context(), s)
	check(t, err)
	return i.Run(t.Context(), opener, hypervisor.ImportOptions{})
}

func TestImport(t *testing.T) {
	s := testvsphere.Start(t, testvsphere.Options{})
	h := open(t, s.URI("DC0/host/DC0_C0"))
	want := spec("web", "disk1.vmdk", "disk2.vmdk")
	i, err := h.PrepareImport(t.Context(), want)
	check(t, err)
	plan := i.Plan()
	if len(plan.Machines) != 1 || plan.Machines[0].Name != "web" || plan.Machines[0].Hardware != "vmx-13" || plan.Machines[0].CPUs != 2 || len(plan.Machines[0].Files) != 2 {
		t.Errorf("plan %+v", plan)
	}
	if text, _ := json.Marshal(plan); bytes.Contains(text, []byte("hush")) {
		t.Error("the plan has the password in it")
	}
	var sent int64
	check(t, i.Run(t.Context(), opener, hypervisor.ImportOptions{Parallel: 1, Progress: func(_ hypervisor.ImportFile, n int64) { sent = n }}))
	if sent != int64(len(content("disk1.vmdk"))) {
		t.Errorf("told of %d bytes", sent)
	}
	k, err := h.Lookup(t.Context(), "web")
	check(t, err)
	m := k.Machine
	if m.CPU.Count != 2 || m.Memory.Bytes != 256<<20 || len(m.Drives) != 2 || m.Drives[0].Capacity != 1<<20 || len(m.NICs) != 1 ||
		m.NICs[0].Model != hypervisor.VMXNET3 || m.NICs[0].HostNetwork != "VM Network" || m.ID != "vm" {
		t.Errorf("machine %+v", m)
	}
	if m.Controllers[len(m.Controllers)-1].Model != hypervisor.PVSCSI {
		t.Errorf("controllers %+v", m.Controllers)
	}
	if n := k.Native; n.Family != "vmx-13" || n.OS != "debian12_64Guest" || len(n.Products) != 1 || n.Products[0].Class != "app" || n.Products[0].Name != "Thing" ||
		len(n.Products[0].Properties) != 2 || n.Products[0].Properties[0].Key != "hostname" || !n.Products[0].Properties[0].UserConfigurable {
		t.Errorf("native %+v", n)
	}
	for _, s := range k.Native.Settings {
		if strings.HasPrefix(s.Key, "ovation.") {
			t.Errorf("setting %s", s.Key)
		}
	}
	a, _ := json.Marshal(k.Record)
	b, _ := json.Marshal(want.Systems[0].Record)
	if !bytes.Equal(a, b) {
		t.Errorf("another record: %.200s", a)
	}
	if err := again(t, h, want); !errors.Is(err, hypervisor.ErrExists) {
		t.Errorf("again: %v", err)
	}
	all, err := h.List(t.Context(), false)
	check(t, err)
	if len(all) != 1 || all[0].Name != "web" {
		t.Errorf("%d are listed", len(all))
	}
	// What was uploaded is what is exported.
	x, err := h.Export(t.Context(), "web", hypervisor.ExportOptions{})
	check(t, err)
	for n, d := range m.Drives {
		f, err := x.OpenDrive(t.Context(), d.ID)
		check(t, err)
		got, err := io.ReadAll(f.Once)
		check(t, err)
		check(t, f.Close())
		if !bytes.Equal(got, content(fmt.Sprintf("disk%d.vmdk", n+1))) {
			t.Errorf("drive %s gives %d other bytes", d.ID, len(got))
		}
	}
	check(t, x.Unchanged(t.Context()))
	check(t, x.Close(t.Context()))
	check(t, x.Close(t.Context()))
	check(t, k.Remove(t.Context()))
	check(t, k.Remove(t.Context()))
	if _, err := h.Lookup(t.Context(), "web"); !errors.Is(err, hypervisor.ErrNotFound) {
		t.Errorf("after Remove: %v", err)
	}
}

func TestCapabilities(t *testing.T) {
	s := testvsphere.Start(t, testvsphere.Options{})
	c, err := open(t, s.URI("DC0/host/DC0_C0")).Capabilities(t.Context(), "x86_64")
	check(t, err)
	if c.Driver != "vsphere" || c.Version == "" || c.MaxCPUs < 1 || c.MemoryBytes < 1 || len(c.Families) == 0 || !strings.HasPrefix(c.Families[0], "vmx-") ||
		!slices.Contains(c.GuestOSes, string(types.VirtualMachineGuestOsIdentifierDebian12_64Guest)) || !c.GivesEnvironment || len(c.Networks) == 0 || len(c.StoragePolicies) == 0 {
		t.Errorf("%+v", c)
	}
	h := open(t, s.URI(""))
	_, err = h.Capabilities(t.Context(), "x86_64")
	if !errors.Is(err, hypervisor.ErrUnfit) || !strings.Contains(err.Error(), "DC0_C0, DC0_H0") {
		t.Errorf("without a cluster: %v", err)
	}
}

// specOf sets settings, given as keys and values.
func specOf(pairs ...string) (s types.VirtualMachineConfigSpec) {
	for i := 0; i < len(pairs); i += 2 {
		s.ExtraConfig = append(s.ExtraConfig, &types.OptionValue{Key: pairs[i], Value: pairs[i+1]})
	}
	return s
}
