package ovf_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ovation-project/ovation/ovf"
)

// TestProcessorKind reads what an item for processors says of their kind, as it
// is found in the wild and as several elements.
func TestProcessorKind(t *testing.T) {
	d := parse(t, `<Envelope xmlns="`+ovf.NS1+`" xmlns:ovf="`+ovf.NS1+`" xmlns:rasd="`+ovf.NSRASD+`" xmlns:vmw="`+ovf.NSVMware+`" xmlns:vbox="`+ovf.NSVBox+`"
 xmlns:pasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ProcessorAllocationSettingData"><References/>
<VirtualSystem ovf:id="vm"><Info/><VirtualHardwareSection><Info/>
<Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><pasd:InstructionSet ovf:required="false">DMTF:x86:64</pasd:InstructionSet>
<pasd:InstructionSetExtensionName ovf:required="false">DMTF:x86:SSE2 DMTF:x86:SSE3</pasd:InstructionSetExtensionName>
<pasd:InstructionSetExtensionName>DMTF:x86:AES</pasd:InstructionSetExtensionName>
<pasd:InstructionSetExtensionStatus>Enabled Disabled</pasd:InstructionSetExtensionStatus><pasd:InstructionSetExtensionStatus>Unknown</pasd:InstructionSetExtensionStatus>
<pasd:InstructionSetExtensionStatus>Disabled Disabled</pasd:InstructionSetExtensionStatus>
<vmw:Config vmw:key="a" vmw:value="b"/><vmw:Config ovf:required="true" vmw:key="c" vmw:value="d"/></Item>
<Item><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>64</rasd:VirtualQuantity></Item>
</VirtualHardwareSection><vbox:Machine ovf:required="false" stateFile="Snapshots/1.sav"/></VirtualSystem></Envelope>`)
	vm := d.Envelope().Content
	items := vm.Hardware[0].Items
	want := &ovf.ProcessorKind{InstructionSet: "DMTF:x86:64", Extensions: []ovf.Extension{{Name: "DMTF:x86:SSE2"}, {Name: "DMTF:x86:SSE3", Disabled: true},
		{Name: "DMTF:x86:AES", Required: true}}}
	if diff := cmp.Diff(want, items[0].Processor); diff != "" {
		t.Errorf("the processors (-want +got):\n%s", diff)
	}
	if items[1].Processor != nil {
		t.Errorf("memory has %+v", items[1].Processor)
	}
	for k, want := range []bool{false, true} {
		if c := items[0].Configs[k]; !c.Required || c.Stated != want {
			t.Errorf("%s: required %v, stated %v", c.Key, c.Required, c.Stated)
		}
	}
	if vm.Machine.StateFile != "Snapshots/1.sav" {
		t.Errorf("the state is in %q", vm.Machine.StateFile)
	}
}
