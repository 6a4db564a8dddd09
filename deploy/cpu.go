package deploy

import (
	"cmp"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/ovf"
)

// architectures are QEMU's names for the instruction sets of
// CIM_ProcessorAllocationSettingData, by how they begin. A 64-bit PC runs the
// guests of all the older ones.
var architectures = []struct{ begins, name string }{
	{"DMTF:x86", "x86_64"}, {"DMTF:ARM:A32", "arm"}, {"DMTF:ARM", "aarch64"}, {"DMTF:IA-64", "ia64"}, {"DMTF:Power", "ppc64"},
	{"DMTF:S/390", "s390x"}, {"DMTF:PA-RISC", "hppa"}, {"DMTF:MIPS64", "mips64"}, {"DMTF:MIPS", "mips"}, {"DMTF:Alpha", "alpha"},
	{"DMTF:SPARC", "sparc64"}, {"DMTF:68k", "m68k"}, {"DMTF:AS/400", "as400"},
}

// extensions are QEMU's names of the CPU features that DMTF's names of
// instruction set extensions stand for.
var extensions = map[string]string{
	"3DNow": "3dnow", "3DNowExt": "3dnowext", "ABM": "abm", "AES": "aes", "AVX": "avx", "AVX2": "avx2", "BMI": "bmi1", "CX16": "cx16",
	"F16C": "f16c", "FSGSBASE": "fsgsbase", "LWP": "lwp", "MMX": "mmx", "PCLMUL": "pclmulqdq", "RDRND": "rdrand", "SSE2": "sse2",
	"SSE3": "pni", "SSSE3": "ssse3", "SSE4A": "sse4a", "SSE41": "sse4.1", "SSE42": "sse4.2", "FMA3": "fma", "FMA4": "fma4", "XOP": "xop",
	"TBM": "tbm", "VT-x": "vmx", "EPT": "vmx", "SVM": "svm",
}

// x86Extension begins the names of those of a PC.
const x86Extension = "DMTF:x86:"

// instructionSet is the architecture that the system's processors say, "" where
// they do not.
func instructionSet(s *ovf.System) string {
	for _, i := range s.Items {
		if i.ResourceType != ovf.Processor || i.Processor == nil {
			continue
		}
		for _, said := range []string{i.Processor.InstructionSet, i.Processor.Architecture} {
			for _, a := range architectures {
				if len(said) >= len(a.begins) && strings.EqualFold(said[:len(a.begins)], a.begins) {
					return a.name
				}
			}
		}
	}
	return ""
}

// CPUFeature is an instruction set extension that a descriptor asks for.
type CPUFeature struct {
	// Says is the descriptor's name of it, Name QEMU's; "" is one that is not
	// known here.
	Says, Name string
	Required   bool
	Item       *ovf.Item
}

// CPUFeatures are the features that items for processors ask for, each once.
func CPUFeatures(items []*ovf.Item) (features []CPUFeature) {
	seen := map[string]bool{}
	for _, i := range items {
		if i.ResourceType != ovf.Processor || i.Processor == nil {
			continue
		}
		for _, e := range i.Processor.Extensions {
			if e.Disabled || seen[e.Name] {
				continue
			}
			seen[e.Name] = true
			f := CPUFeature{Says: e.Name, Required: e.Required && i.Required, Item: i}
			if len(e.Name) > len(x86Extension) && strings.EqualFold(e.Name[:len(x86Extension)], x86Extension) {
				for name, qemu := range extensions {
					if strings.EqualFold(name, e.Name[len(x86Extension):]) {
						f.Name = qemu
					}
				}
			}
			features = append(features, f)
		}
	}
	return features
}

// NestedVirtualization says whether a hardware section asks for guests that run
// guests (vmw:Config nestedHVEnabled), and whether it has to be given.
func NestedVirtualization(h *ovf.Hardware) (asked, required bool) {
	for _, c := range h.Configs {
		if c.Key == "nestedHVEnabled" && strings.EqualFold(strings.TrimSpace(c.Value), "true") {
			return true, c.Required && c.Stated
		}
	}
	return false, false
}

// cpuFeatures asks for the features that are required, and says which can't be
// had.
func (p *Planned) cpuFeatures() {
	var items []*ovf.Item
	for _, i := range p.System.Items {
		items = append(items, i.Item)
	}
	p.features = CPUFeatures(items)
}

// fitCPU sees that the target's processors have what is asked of them.
func (p *Planned) fitCPU(target *hypervisor.Capabilities) {
	const subject = "CPU features"
	for _, f := range p.features {
		switch {
		case f.Name == "" && f.Required:
			p.refuse(subject, "%q (line %d) is required and not known here", f.Says, f.Item.Pos().Line)
		case f.Name == "" || !target.KnowsCPUFeatures():
			if f.Required && f.Name != "" {
				p.require(f.Name)
			}
		case target.HasCPUFeature(f.Name):
			if f.Required {
				p.require(f.Name)
			}
		case f.Required:
			p.refuse(subject, "%s (line %d) is required, and the processors that %s gives here do not have it", f.Says, f.Item.Pos().Line, target.Driver)
		default:
			p.differ(subject, "%s is asked for, and the processors that %s gives here do not have it", f.Says, target.Driver)
		}
	}
	asked, required := NestedVirtualization(p.System.Hardware)
	if !asked || !target.KnowsCPUFeatures() || target.HasCPUFeature("vmx") || target.HasCPUFeature("svm") {
		return
	}
	const text = "the guest is to run guests of its own (vmw:Config nestedHVEnabled), which the processors that %s gives here can't"
	if required {
		p.refuse("nested virtualization", text, target.Driver)
	} else {
		p.differ("nested virtualization", text, target.Driver)
	}
}

// configsKnown are the vmw:Config keys that are acted on.
var configsKnown = map[string]bool{"firmware": true, "bootOptions.efiSecureBootEnabled": true, "uuid": true, "nestedHVEnabled": true}

// configs refuses settings of VMware's that the descriptor says are required,
// and that are not understood here. Those of which it says nothing are hints.
func (p *Planned) configs() {
	refuse := func(subject string, all ...[]ovf.Config) {
		for _, configs := range all {
			for _, c := range configs {
				if c.Stated && c.Required && !configsKnown[c.Key] {
					p.refuse(subject, "the setting %s (line %d) is required (ovf:required) and not understood", c.Key, c.Pos().Line)
				}
			}
		}
	}
	refuse("vmw:Config", p.System.Hardware.Configs, p.System.Hardware.Extra)
	for _, i := range p.System.Items {
		refuse(cmp.Or(p.subjects[i.InstanceID], i.ElementName, "vmw:Config"), i.Configs, i.Extra)
	}
}

// require has the machine ask for a CPU feature, so that a host that lacks it
// says so.
func (p *Planned) require(feature string) {
	if !slices.Contains(p.Machine.CPU.Features, feature) {
		p.Machine.CPU.Features = append(p.Machine.CPU.Features, feature)
	}
}
