package qemu

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/ovation-project/ovation/hypervisor"
)

// Firmware is a UEFI in two flash images: its code, and a template of its
// variables, of which every machine gets a copy.
type Firmware struct {
	Code, CodeFormat string
	Vars, VarsFormat string
	// SecureBoot says that the template holds keys, so that only signed
	// loaders start.
	SecureBoot bool
	// SMM says that it needs a machine with system management mode.
	SMM bool
	// Chipsets are the machine types that it runs on.
	Chipsets []hypervisor.Chipset
}

const installUEFI = "install the package ovmf (Debian and Ubuntu) or edk2-ovmf (Fedora, RHEL and Arch)"

// firmwareFolders hold QEMU's firmware descriptors (docs/interop/firmware.json
// in QEMU's sources), the more important ones first; a file hides those of its
// name in the folders after it.
func firmwareFolders() []string {
	var dirs []string
	if config, err := os.UserConfigDir(); err == nil {
		dirs = append(dirs, filepath.Join(config, "qemu", "firmware"))
	}
	return append(dirs, "/etc/qemu/firmware", "/usr/local/share/qemu/firmware", "/usr/share/qemu/firmware")
}

// knownUEFI are places where distributions put it that ship no descriptor.
var knownUEFI = []Firmware{
	{Code: "/usr/share/OVMF/OVMF_CODE_4M.fd", Vars: "/usr/share/OVMF/OVMF_VARS_4M.fd"},
	{Code: "/usr/share/OVMF/OVMF_CODE.fd", Vars: "/usr/share/OVMF/OVMF_VARS.fd"},
	{Code: "/usr/share/edk2/ovmf/OVMF_CODE.fd", Vars: "/usr/share/edk2/ovmf/OVMF_VARS.fd"},
	{Code: "/usr/share/edk2/x64/OVMF_CODE.4m.fd", Vars: "/usr/share/edk2/x64/OVMF_VARS.4m.fd"},
	{Code: "/usr/share/edk2-ovmf/x64/OVMF_CODE.fd", Vars: "/usr/share/edk2-ovmf/x64/OVMF_VARS.fd"},
	{Code: "/usr/share/qemu/ovmf-x86_64-4m-code.bin", Vars: "/usr/share/qemu/ovmf-x86_64-4m-vars.bin"},
	{Code: "/usr/share/qemu/edk2-x86_64-code.fd", Vars: "/usr/share/qemu/edk2-i386-vars.fd"},
}

// firmwareDescriptor is what of a descriptor matters here.
type firmwareDescriptor struct {
	InterfaceTypes []string `json:"interface-types"`
	Mapping        struct {
		Device     string `json:"device"`
		Mode       string `json:"mode"`
		Executable struct {
			Filename string `json:"filename"`
			Format   string `json:"format"`
		} `json:"executable"`
		NVRAMTemplate struct {
			Filename string `json:"filename"`
			Format   string `json:"format"`
		} `json:"nvram-template"`
	} `json:"mapping"`
	Targets []struct {
		Architecture string   `json:"architecture"`
		Machines     []string `json:"machines"`
	} `json:"targets"`
	Features []string `json:"features"`
}

// findFirmware lists the UEFIs for an architecture that are installed, the
// preferred first: those without Secure Boot before those with it.
func findFirmware(folders []string, architecture string) []Firmware {
	files := map[string]string{} // name to the path that counts
	for _, dir := range slices.Backward(folders) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".json") {
				files[e.Name()] = filepath.Join(dir, e.Name())
			}
		}
	}
	names := make([]string, 0, len(files))
	for n := range files {
		names = append(names, n)
	}
	sort.Strings(names)
	var found []Firmware
	for _, n := range names {
		if f, ok := readFirmwareDescriptor(files[n], architecture); ok {
			found = append(found, f)
		}
	}
	if architecture == "x86_64" {
		for _, f := range knownUEFI {
			f.CodeFormat, f.VarsFormat = "raw", "raw"
			f.Chipsets = []hypervisor.Chipset{hypervisor.I440FX, hypervisor.Q35}
			if readable(f.Code) && readable(f.Vars) {
				found = append(found, f)
			}
		}
	}
	slices.SortStableFunc(found, func(a, b Firmware) int { return rank(a) - rank(b) })
	return found
}

func rank(f Firmware) int {
	n := 0
	if f.SecureBoot {
		n += 2
	}
	if f.SMM {
		n++
	}
	return n
}

func readFirmwareDescriptor(name, architecture string) (Firmware, bool) {
	var d firmwareDescriptor
	// An empty file is how an administrator takes a descriptor away.
	text, err := os.ReadFile(name)
	if err != nil || json.Unmarshal(text, &d) != nil {
		return Firmware{}, false
	}
	m := d.Mapping
	if !slices.Contains(d.InterfaceTypes, "uefi") || m.Device != "flash" || m.Mode != "" && m.Mode != "split" {
		return Firmware{}, false
	}
	f := Firmware{
		Code: m.Executable.Filename, CodeFormat: m.Executable.Format,
		Vars: m.NVRAMTemplate.Filename, VarsFormat: m.NVRAMTemplate.Format,
		SMM:        slices.Contains(d.Features, "requires-smm"),
		SecureBoot: slices.Contains(d.Features, "secure-boot") && slices.Contains(d.Features, "enrolled-keys"),
	}
	if !slices.Contains(formats, f.CodeFormat) || !slices.Contains(formats, f.VarsFormat) || !readable(f.Code) || !readable(f.Vars) {
		return Firmware{}, false
	}
	for _, t := range d.Targets {
		if t.Architecture != architecture {
			continue
		}
		for _, pattern := range t.Machines {
			for chipset, name := range map[hypervisor.Chipset]string{hypervisor.I440FX: "pc-i440fx-0", hypervisor.Q35: "pc-q35-0"} {
				if ok, _ := path.Match(pattern, name); ok && !slices.Contains(f.Chipsets, chipset) {
					f.Chipsets = append(f.Chipsets, chipset)
				}
			}
		}
	}
	slices.Sort(f.Chipsets)
	return f, len(f.Chipsets) > 0
}

func readable(name string) bool {
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	return err == nil && info.Mode().IsRegular() && info.Size() > 0
}

// chooseFirmware picks the firmware for a machine; nil where none is needed, or
// none fits.
func chooseFirmware(all []Firmware, m hypervisor.Machine) *Firmware {
	if m.Firmware.Kind != hypervisor.UEFI {
		return nil
	}
	for _, f := range all {
		if f.SecureBoot == m.Firmware.SecureBoot && slices.Contains(f.Chipsets, chipset(m)) {
			return &f
		}
	}
	return nil
}

// copyVars makes a machine's own copy of the variables: of those that came
// with the package, or else of the firmware's template. A copy that is there
// is kept.
func copyVars(f *Firmware, from, to string) error {
	if _, err := os.Lstat(to); err == nil {
		return nil
	}
	if from == "" {
		from = f.Vars
	}
	text, err := readVars(from)
	if err != nil {
		return fmt.Errorf("UEFI variables: %w", err)
	}
	return os.WriteFile(to, text, 0o600)
}

// maxVars bounds a file of variables; real ones are below 1 MiB.
const maxVars = 64 << 20

func readVars(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxVars {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("not a file of UEFI variables")}
	}
	return os.ReadFile(name)
}
