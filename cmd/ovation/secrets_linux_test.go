package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ovation-project/ovation/internal/testlibvirt"
)

// program is a program that a test runs and looks at from outside.
type program struct {
	*exec.Cmd
	dir string
	out *os.File
}

// start begins a program in a folder of its own, with core dumps allowed and
// Go's runtime told to make one of every crash.
func start(t *testing.T, path string, args ...string) *program {
	t.Helper()
	p := &program{dir: t.TempDir()}
	p.Cmd = exec.CommandContext(t.Context(), "sh", "-c", `ulimit -c "$(ulimit -Hc)"; p=$1; shift; exec "$p" "$@"`, "sh", path)
	p.Args = append(p.Args, args...)
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	p.out, p.Dir, p.Stdout, p.Stderr = out, p.dir, out, out
	p.Env = append(os.Environ(), "GOTRACEBACK=crash")
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Process.Kill(); _ = p.Wait() })
	return p
}

// crash ends the program as a fault of its would, and gives the cores it left.
func (p *program) crash(t *testing.T) []string {
	t.Helper()
	if err := p.Process.Signal(syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	_ = p.Wait()
	cores, err := filepath.Glob(filepath.Join(p.dir, "*core*"))
	if err != nil {
		t.Fatal(err)
	}
	return cores
}

// TestSecretsFromOutside looks for a password in all that others on the same
// machine see of a program that has it in memory: its arguments, its
// environment, and what is left of it when it crashes.
func TestSecretsFromOutside(t *testing.T) {
	if cores := start(t, "sleep", "100").crashSoon(t, "sleep"); len(cores) == 0 {
		t.Log("this system keeps no cores where a test finds them: that one has no secrets is not shown")
	}
	const secret = "hunter2-very-secret"
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ovation, err := exec.LookPath("ovation")
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, ovation, "serve", ".", "--listen", "127.0.0.1:0", "--user", "me", "--password-file", password)
	cmdline := p.wait(t, "ovation")
	environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	p.said(t, "http://127.0.0.1:") // it has read the password then
	for _, core := range p.crash(t) {
		t.Errorf("it left %s", core)
	}
	for name, b := range map[string][]byte{"arguments": cmdline, "environment": environment, "output": p.output(t)} {
		if bytes.Contains(b, []byte(secret)) {
			t.Errorf("the password is in its %s: %s", name, b)
		}
	}
	if b := p.output(t); !bytes.Contains(b, []byte("SIGABRT")) {
		t.Errorf("it did not crash: %s", b)
	}
}

func (p *program) output(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile(p.out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// said waits until the program has said something.
func (p *program) said(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !bytes.Contains(p.output(t), []byte(text)); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not say %s: %s", text, p.output(t))
		}
	}
}

// wait waits until the shell has become the program.
func (p *program) wait(t *testing.T, name string) []byte {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		if first, _, _ := bytes.Cut(b, []byte{0}); filepath.Base(string(first)) == name {
			return b
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s did not start: %q", name, b)
		}
	}
}

func (p *program) crashSoon(t *testing.T, name string) []string {
	t.Helper()
	p.wait(t, name)
	return p.crash(t)
}

// TestSecretsOfADeployment deploys to a real daemon with a password property, and
// looks for the password wherever a trace of the deployment is: in what the
// program says, its arguments, plan, journal and history, in the machine's
// definition and the daemon's own files. It is where it has to be: in a file for
// the user alone, and on the medium for the guest, which nobody else reads.
func TestSecretsOfADeployment(t *testing.T) {
	daemon := testlibvirt.Start(t, testlibvirt.Options{})
	ovation, err := exec.LookPath("ovation")
	if err != nil {
		t.Fatal(err)
	}
	const secret = "hunter2-very-secret"
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	for name, text := range map[string]string{"a.ovf": secretDescriptor, "values.txt": "pw=" + secret + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old := syscall.Umask(0o022) // what most people have
	defer syscall.Umask(old)
	run := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), ovation, args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "XDG_STATE_HOME="+state)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("ovation %q: %v\n%s", args, err, out)
		}
		if bytes.Contains(out, []byte(secret)) {
			t.Errorf("ovation %q says the password:\n%s", args, out)
		}
	}
	deploy := []string{"deploy", "a.ovf", "--to", daemon.URI, "--properties-file", "values.txt", "--verbose"}
	run(append(deploy, "--dry-run", "--json")...)
	run(deploy...)
	run(append(deploy, "--json")...) // again: nothing changes
	run("ps", "--on", daemon.URI, "--json", "--verbose")
	run("history", "--json", "--verbose")

	kept := 0
	sees(t, state, func(path string, info os.FileInfo, text []byte) {
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has the mode %v: others can read it", path, info.Mode())
		}
		if !bytes.Contains(text, []byte(secret)) {
			return
		}
		if kept++; filepath.Base(path) != "secrets" {
			t.Errorf("%s holds the password", path)
		}
	})
	if kept != 1 {
		t.Errorf("the password is in %d files of the user's, and one is to have it for the guest", kept)
	}
	for name := range strings.FieldsSeq(daemon.Virsh(t, "list", "--all", "--name")) {
		if xml := daemon.Virsh(t, "dumpxml", "--security-info", name); strings.Contains(xml, secret) {
			t.Errorf("the machine's definition holds the password:\n%s", xml)
		}
	}
	media := 0
	sees(t, daemon.Dir, func(path string, info os.FileInfo, text []byte) {
		if !bytes.Contains(text, []byte(secret)) {
			return
		}
		if !strings.HasPrefix(path, daemon.PoolDir+"/") {
			t.Errorf("%s of the daemon's holds the password", path)
			return
		}
		if media++; info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s, which holds the password for the guest, has the mode %v", path, info.Mode())
		}
	})
	if media != 1 {
		t.Errorf("the password is on %d media for the guest", media)
	}
}

// sees reads all files below a folder.
func sees(t *testing.T, dir string, see func(path string, info os.FileInfo, text []byte)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() && path == dir {
			return err
		}
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if err == nil {
			see(path, info, text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

const secretDescriptor = `<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">
  <References/>
  <DiskSection><Info>D</Info><Disk ovf:diskId="d" ovf:capacity="1048576"/></DiskSection>
  <VirtualSystem ovf:id="a"><Info>A</Info>
    <ProductSection><Info>P</Info><Property ovf:key="pw" ovf:type="string" ovf:password="true" ovf:userConfigurable="true"/></ProductSection>
    <VirtualHardwareSection ovf:transport="iso"><Info>H</Info>
      <Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>1</rasd:VirtualQuantity></Item>
      <Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>64</rasd:VirtualQuantity></Item>
      <Item><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceType>5</rasd:ResourceType></Item>
      <Item><rasd:InstanceID>4</rasd:InstanceID><rasd:ResourceType>17</rasd:ResourceType><rasd:Parent>3</rasd:Parent><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:HostResource>ovf:/disk/d</rasd:HostResource></Item>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
`
