// Package archtest keeps the directions of dependency that ARCHITECTURE.md
// draws.
package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/ovation-project/ovation"

// room is a group of packages, and the rooms that it may import from besides
// itself.
type room struct {
	name string
	may  []string
	// alone keeps the packages of the room from knowing each other: a
	// driver no driver, a format no format.
	alone bool
}

var rooms = []room{
	{name: "ovf", may: []string{"internal"}},
	{name: "disk/format", may: []string{"disk", "internal"}, alone: true},
	{name: "disk/tools", may: []string{"disk", "disk/format", "internal"}},
	{name: "disk", may: nil},
	{name: "appliance", may: []string{"ovf", "disk", "disk/format", "disk/tools", "internal"}},
	{name: "hypervisor/driver", may: []string{"hypervisor", "internal"}, alone: true},
	{name: "hypervisor", may: nil},
	{name: "deploy", may: []string{"appliance", "hypervisor", "hypervisor/driver", "ovf", "disk", "disk/format", "disk/tools", "internal"}},
	{name: "author", may: []string{"appliance", "hypervisor", "hypervisor/driver", "ovf", "disk", "disk/format", "disk/tools", "internal"}},
	{name: "migrate", may: []string{"author", "deploy", "appliance", "hypervisor", "ovf", "disk", "disk/format", "disk/tools", "internal"}},
	// The contract of disks is so small that the inner packages speak it.
	{name: "internal", may: []string{"disk"}},
	{name: "cmd", may: []string{"migrate", "author", "deploy", "appliance", "hypervisor", "hypervisor/driver", "ovf", "disk", "disk/format", "disk/tools", "internal"}},
	{name: "test", may: []string{"migrate", "author", "deploy", "appliance", "hypervisor", "hypervisor/driver", "ovf", "disk", "disk/format", "disk/tools", "internal"}},
	{name: "bench", may: []string{"migrate", "author", "deploy", "appliance", "hypervisor", "hypervisor/driver", "ovf", "disk", "disk/format", "disk/tools", "internal", "test"}},
}

type pkg struct {
	ImportPath string
	Imports    []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	d := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// formats are the packages that disk/formats registers.
func formats(pkgs []pkg) []string {
	var found []string
	for _, p := range pkgs {
		if p.ImportPath != module+"/disk/formats" {
			continue
		}
		for _, i := range p.Imports {
			if name, ok := strings.CutPrefix(i, module+"/disk/"); ok {
				found = append(found, "disk/"+name)
			}
		}
	}
	return found
}

// roomOf gives the room of a package, by its path below the module.
func roomOf(path string, formats []string) string {
	top, below, _ := strings.Cut(path, "/")
	switch {
	case slices.Contains(formats, path):
		return "disk/format"
	case top == "disk" && below != "":
		return "disk/tools"
	case top == "hypervisor" && below != "" && below != "drivertest" && below != "qemudevice":
		return "hypervisor/driver"
	}
	return top
}

func TestDirections(t *testing.T) {
	pkgs := list(t)
	if len(pkgs) < 10 {
		t.Fatalf("go list gave %d packages only", len(pkgs))
	}
	formats := formats(pkgs)
	for _, p := range pkgs {
		path := strings.TrimPrefix(p.ImportPath, module+"/")
		name := roomOf(path, formats)
		i := slices.IndexFunc(rooms, func(r room) bool { return r.name == name })
		if i < 0 {
			t.Errorf("package %s is in no room: give it one here and in ARCHITECTURE.md", path)
			continue
		}
		for _, imported := range p.Imports {
			to, ok := strings.CutPrefix(imported, module+"/")
			if !ok {
				continue
			}
			toRoom := roomOf(to, formats)
			// Packages below one driver or format are its own.
			own := strings.HasPrefix(to, path+"/") || strings.HasPrefix(path, to+"/")
			if toRoom == name && (!rooms[i].alone || own) {
				continue
			}
			if !slices.Contains(rooms[i].may, toRoom) {
				t.Errorf("%s imports %s: %s may import from %v only", path, to, name, rooms[i].may)
			}
		}
	}
}

// TestMap sees that ARCHITECTURE.md names every package but the leaves in internal.
func TestMap(t *testing.T) {
	text, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list(t) {
		path := strings.TrimPrefix(p.ImportPath, module+"/")
		if !strings.HasPrefix(path, "internal/") && !strings.Contains(string(text), "`"+path+"`") {
			t.Errorf("ARCHITECTURE.md does not say what %s is for", path)
		}
	}
}

// TestNames keeps away the names that say nothing.
func TestNames(t *testing.T) {
	for _, p := range list(t) {
		for _, part := range strings.Split(p.ImportPath, "/") {
			switch part {
			case "util", "utils", "common", "helper", "helpers", "misc", "shared":
				t.Errorf("package %s: %q says nothing", p.ImportPath, part)
			}
		}
	}
}

// TestFormatsReachNothing keeps disk formats, and what they use, from what opens
// files or connections: an image, which comes from a stranger, gets at another
// file by disk.Files only, and that is its package's.
func TestFormatsReachNothing(t *testing.T) {
	pkgs := map[string][]string{}
	all := list(t)
	for _, p := range all {
		pkgs[p.ImportPath] = p.Imports
	}
	// The contract names the type of an open file, and holes asks about one.
	opened := []string{module + "/disk", module + "/internal/holes"}
	todo := formats(all)
	for i := range todo {
		todo[i] = module + "/" + todo[i]
	}
	seen := map[string]bool{}
	for len(todo) > 0 {
		path := todo[0]
		todo = todo[1:]
		if seen[path] || slices.Contains(opened, path) {
			continue
		}
		seen[path] = true
		for _, imported := range pkgs[path] {
			if strings.HasPrefix(imported, module+"/") {
				todo = append(todo, imported)
			}
			for _, no := range []string{"os", "net", "syscall", "plugin", "unsafe", "golang.org/x/sys"} {
				if imported == no || strings.HasPrefix(imported, no+"/") {
					t.Errorf("%s, which disk formats are made of, imports %s", path, imported)
				}
			}
		}
	}
	if len(seen) < 8 {
		t.Errorf("only %d packages are looked at", len(seen))
	}
}
