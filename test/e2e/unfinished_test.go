package e2e

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ovation-project/ovation/internal/testenv"
	"github.com/ovation-project/ovation/test/appliance"
)

// contents are the files below a folder, with what they hold.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, name := range filesBelow(t, dir) {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
			all[name] = fmt.Sprintf("%x", sha256.Sum256(read(t, path)))
		} else {
			all[name] = "a folder"
		}
	}
	return all
}

// unchanged wants a folder to be as it was.
func unchanged(t *testing.T, what, dir string, before map[string]string) {
	t.Helper()
	after := contents(t, dir)
	for name, sum := range after {
		switch was, ok := before[name]; {
		case !ok:
			t.Errorf("%s: %s is left", what, name)
		case was != sum:
			t.Errorf("%s: %s is another", what, name)
		}
	}
	for name := range before {
		if after[name] == "" {
			t.Errorf("%s: %s is gone", what, name)
		}
	}
}

// TestWriterKilled kills whatever writes packages while it writes: what was there is
// as it was, what was not there is not there, and the same once more goes well.
func TestWriterKilled(t *testing.T) {
	t.Parallel()
	p := build(t, small)
	u := newUser(t)
	u.succeed("convert", "-q", p.OVA, "-o", "there.ova", "--for", "kvm")
	u.succeed("unpack", "-q", "there.ova", "-o", "folder")
	u.write("appliance.yaml", nil)
	for _, c := range []struct {
		name   string
		output string
		args   []string // URL stands for where the other package lies
	}{
		{"build", "new.ova", []string{"build"}},
		{"build over another", "there.ova", []string{"build", "--force"}},
		{"build in any order", "new.ova", []string{"build", "--format", "qcow2"}},
		{"build a folder", "new", []string{"build"}},
		{"build a folder in any order", "new", []string{"build", "--format", "qcow2"}},
		{"build chunks", "new", []string{"build", "--chunk-size", "100kB"}},
		{"convert", "new.ova", []string{"convert", "URL", "--for", "virtualbox"}},
		{"convert into a folder", "new", []string{"convert", "URL", "--for", "dmtf", "--format", "qcow2"}},
		{"unpack", "new", []string{"unpack", "URL"}},
		{"edit elsewhere", "new.ova", []string{"edit", "URL", "--cpus", "2"}},
		{"edit in place", "", []string{"edit", "there.ova", "--cpus", "2", "--add-disk", "more=URL#vmdisk1"}},
		{"edit a folder in place", "", []string{"edit", "folder", "--cpus", "2", "--remove-disk", "vmdisk2", "--add-disk", "more=URL#vmdisk1"}},
		{"put together in place", "", []string{"edit", "folder", "--add-machine", "other=URL"}},
	} {
		with := func(url string) []string {
			u.write("appliance.yaml", fmt.Appendf(nil, "name: new\ndisks: [{id: d, source: \"%s#vmdisk1\"}]\nmachine: {id: new, hardware: {cpus: 1, memory: 256MiB, disks: [d]}}\n", url))
			var args []string
			for _, a := range c.args {
				args = append(args, strings.ReplaceAll(a, "URL", url))
			}
			if c.output != "" {
				args = append(args, "-o", c.output)
			}
			return args
		}
		reached := make(chan struct{})
		args := with(stalling(t, p.OVA, reached))
		before := contents(t, u.work)
		u.kill(reached, args...)
		// An empty folder for what was to be there tells nobody anything.
		if c.output == "new" {
			if left := filesBelow(t, filepath.Join(u.work, "new")); len(left) > 0 {
				t.Errorf("%s: %q is left", c.name, left)
			}
			if err := os.Remove(filepath.Join(u.work, "new")); err != nil {
				t.Error(err)
			}
		}
		unchanged(t, c.name, u.work, before)

		args = with(p.OVA)
		u.succeed(args...)
		output := c.output
		if output == "" {
			output = args[1]
		}
		u.succeed("verify", "-q", output)
		if strings.HasPrefix(output, "new") {
			if err := os.RemoveAll(filepath.Join(u.work, output)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestExportKilled kills the export of a machine that runs: its guest goes on,
// no package is there, and the next one says what to do.
func TestExportKilled(t *testing.T) {
	testenv.NeedTool(t, "qemu-system-x86_64")
	h := startLibvirt(t)
	p := build(t, appliance.Spec{Name: "linger", Linger: 600, Disks: []appliance.Disk{{Size: 96 << 20, Seed: 51}}})
	u := newUser(t)
	u.succeed("deploy", p.OVA, "--to", h.URI, "--name", "linger", "--disk-format", "raw")
	kept, err := h.host.Lookup(t.Context(), "linger")
	if err != nil {
		t.Fatal(err)
	}
	console, err := kept.Console()
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	if err := kept.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := appliance.ParseReport(console); err != nil {
		t.Fatal(err)
	}
	machine := "qemu+unix:///session/linger?socket=" + h.Socket
	export := []string{"export", machine, "-o", "live.ova", "--live", "--no-sync"}

	cmd := u.command(t.Context(), append(export, "--level", "9", "--workers", "1")...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Minute); !writes(cmd.Process.Pid, u.work, 1<<20); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing is written")
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the export was over before it was killed")
	}
	u.onlyLeft()
	running := func() {
		t.Helper()
		if out := h.Virsh(t, "domstate", "linger"); strings.TrimSpace(out) != "running" {
			t.Errorf("the machine is %s", out)
		}
	}
	running()
	u.fail(exitFailed, []string{"--clean-up"}, export...)
	u.onlyLeft()
	u.succeed("export", machine, "--clean-up")
	running()
	u.succeed(export...)
	running()
	u.succeed("verify", "-q", "live.ova")
	for i, d := range p.Disks {
		if i > 0 {
			u.succeed("disk", "compare", "live.ova#"+fmt.Sprintf("vmdisk%d", i+1), d.Raw)
		}
	}
	if left, err := filepath.Glob(filepath.Join(h.PoolDir, "*ovation-export*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// writes says whether a process has a file open in a folder that has so many
// bytes.
func writes(pid int, dir string, size int64) bool {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		to, err := os.Readlink(fd)
		if err != nil || !strings.HasPrefix(to, dir+"/") {
			continue
		}
		if st, err := os.Stat(fd); err == nil && st.Size() >= size {
			return true
		}
	}
	return false
}
