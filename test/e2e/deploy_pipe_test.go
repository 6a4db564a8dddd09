package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/testenv"
	"github.com/ovation-project/ovation/test/appliance"
)

// sent is a package that is sent through a pipe, by its files in their order.
type sent struct {
	t     *testing.T
	names []string
	files map[string][]byte
}

// sending takes a package's files: the descriptor, the manifest there or at the
// end, the disks.
func sending(t *testing.T, dir string, manifestLast bool) *sent {
	t.Helper()
	s := &sent{t, filesBelow(t, dir), map[string][]byte{}}
	for _, name := range s.names {
		s.files[name] = read(t, filepath.Join(dir, name))
	}
	rank := func(name string) int {
		switch filepath.Ext(name) {
		case ".ovf":
			return 0
		case ".mf":
			if manifestLast {
				return 3
			}
			return 1
		}
		return 2
	}
	slices.SortStableFunc(s.names, func(a, b string) int { return rank(a) - rank(b) })
	return s
}

// archive is all of it, and where the bytes of a file begin.
func (s *sent) archive() (data []byte, at map[string]int) {
	s.t.Helper()
	var b bytes.Buffer
	at = map[string]int{}
	w := tar.NewWriter(&b)
	for _, name := range s.names {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(s.files[name])), Mode: 0o644, Format: tar.FormatUSTAR}); err != nil {
			s.t.Fatal(err)
		}
		at[name] = b.Len()
		if _, err := w.Write(s.files[name]); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		s.t.Fatal(err)
	}
	return b.Bytes(), at
}

// change changes a byte of a file, and what the manifest says of it.
func (s *sent) change(name string) {
	s.t.Helper()
	was := fmt.Sprintf("%x", sha256.Sum256(s.files[name]))
	s.files[name] = bytes.Clone(s.files[name])
	s.files[name][len(s.files[name])/2] ^= 1
	for n, data := range s.files {
		if filepath.Ext(n) == ".mf" {
			s.files[n] = bytes.Replace(data, []byte(was), fmt.Appendf(nil, "%x", sha256.Sum256(s.files[name])), 1)
			if bytes.Equal(s.files[n], data) {
				s.t.Fatalf("the manifest has no digest %s", was)
			}
		}
	}
}

// pipe is the program with something being sent to it.
type pipe struct {
	t      *testing.T
	u      *user
	cmd    *exec.Cmd
	in     io.WriteCloser
	stdout bytes.Buffer
	stderr *waited
}

// pipeTo starts the program. It has more threads than this machine may have
// processors: each takes memory.
func (u *user) pipeTo(args ...string) *pipe {
	u.t.Helper()
	p := &pipe{t: u.t, u: u, cmd: u.command(u.t.Context(), args...), stderr: newWaited()}
	p.cmd.Env = append(p.cmd.Env, "GOMAXPROCS=8")
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, p.stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		u.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		u.t.Fatal(err)
	}
	return p
}

// send sends bytes; that nobody reads them any more is not its failure.
func (p *pipe) send(b []byte) { _, _ = p.in.Write(b) }

// end ends what is sent, and gives how the program ended.
func (p *pipe) end() result {
	p.t.Helper()
	_ = p.in.Close()
	return p.wait()
}

func (p *pipe) wait() result {
	p.t.Helper()
	_ = p.cmd.Wait()
	return result{p.cmd.ProcessState.ExitCode(), p.stdout.String(), p.stderr.String()}
}

// piped sends all at once, and gives how the program ended.
func (u *user) piped(data []byte, args ...string) result {
	u.t.Helper()
	p := u.pipeTo(args...)
	p.send(data)
	return p.end()
}

// temporary is what there is of temporary files with a size, by bytes.
func (u *user) temporary() int64 { return sizeBelow(u.t, filepath.Join(u.root, "tmp")) }

// TestDeployPipe deploys what comes through a pipe, to libvirt over its socket and
// over TCP, with the manifest first and last. The disks lie in the pool and
// nowhere else, and their guest boots with the firmware that only the disk tells.
func TestDeployPipe(t *testing.T) {
	t.Parallel()
	testenv.NeedTool(t, "qemu-img")
	h := startLibvirt(t)
	empty := h.account()
	bios := build(t, appliance.Spec{Disks: []appliance.Disk{data(51, "ahci")}, Properties: []appliance.Property{{Key: "hostname", Value: "web1"}, {Key: "secret", Value: "hunter2", Password: true}}})
	efi := build(t, appliance.Spec{Boot: appliance.BootEFI, Controller: "ahci"})
	for _, test := range []struct {
		name, uri string
		p         *appliance.Package
		last      bool
		firmware  hypervisor.FirmwareKind
	}{
		{"socket", h.URI, bios, false, hypervisor.BIOS},
		{"TCP", h.TCP, bios, true, hypervisor.BIOS},
		{"UEFI", h.TCP, efi, false, hypervisor.UEFI},
	} {
		t.Run(test.name, func(t *testing.T) {
			u := newUser(t)
			archive, at := sending(t, test.p.Dir, test.last).archive()
			args := []string{"deploy", "-", "--to", test.uri, "--name", "web"}
			// The plan is there when the descriptor is.
			head := at[test.p.Disks[0].File]
			dry := u.pipeTo(append(args, "--dry-run")...)
			dry.send(archive[:head])
			if r := dry.wait(); r.code != exitOK || !strings.Contains(r.stdout, "fill-volume") || !strings.Contains(r.stderr, "the disk, which may tell, has not come yet") {
				t.Errorf("the dry run: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
			}
			_ = dry.in.Close()
			p := u.pipeTo(args...)
			// Of the last disk only a part is there, and nothing lies anywhere
			// but in the pool.
			p.send(archive[:at[test.p.Disks[len(test.p.Disks)-1].File]+100_000])
			eventually(t, "volumes", func() bool { return len(filesBelow(t, h.PoolDir)) >= len(test.p.Disks) })
			if n := u.temporary(); n > 0 {
				t.Errorf("%d bytes are in temporary files", n)
			}
			if n := sizeBelow(t, filepath.Join(u.root, "home")); n > 1<<20 {
				t.Errorf("%d bytes are in the home folder", n)
			}
			p.send(archive[at[test.p.Disks[len(test.p.Disks)-1].File]+100_000:])
			r := p.end()
			u.succeeded(r, args)
			if strings.Contains(r.stdout+r.stderr, "hunter2") {
				t.Errorf("a password is in what is said:\n%s%s", r.stdout, r.stderr)
			}
			if strings.Contains(r.stderr, "copied to") {
				t.Errorf("something was put aside:\n%s", r.stderr)
			}
			kept, err := h.host.Lookup(t.Context(), "web")
			if err != nil {
				t.Fatal(err)
			}
			if kept.Machine.Firmware.Kind != test.firmware || strings.Contains(r.stderr, "other firmware than was said") != (test.firmware == hypervisor.UEFI) {
				t.Errorf("the firmware is %s\n%s", kept.Machine.Firmware.Kind, r.stderr)
			}
			var compared int
			for _, d := range kept.Machine.Drives {
				if d.Medium == nil || d.Medium.Volume == nil || d.Kind != hypervisor.HardDisk {
					continue
				}
				path := filepath.Join(h.PoolDir, d.Medium.Volume.Name)
				qemuImg(t, "compare", "-f", d.Medium.Format, "-F", "raw", path, test.p.Disks[compared].Raw)
				compared++
			}
			if compared != len(test.p.Disks) {
				t.Errorf("%d of %d disks are there", compared, len(test.p.Disks))
			}
			// Once more changes nothing.
			before := h.account()
			again := u.piped(archive, args...)
			if again.code != exitOK || !strings.Contains(again.stderr, "deployed already") {
				t.Errorf("again: exit code %d\n%s", again.code, again.stderr)
			}
			// Another package of the same descriptor is another, also where only
			// its end tells.
			other := sending(t, test.p.Dir, test.last)
			other.change(test.p.Disks[0].File)
			otherData, _ := other.archive()
			if r := u.piped(otherData, args...); r.code != exitFailed || !strings.Contains(r.stderr, "already") || strings.Contains(r.stderr, "deployed already") {
				t.Errorf("another: exit code %d\n%s", r.code, r.stderr)
			}
			if d := cmp.Diff(before, h.account()); d != "" {
				t.Error("deployed again:", d)
			}
			u.succeed("start", "web")
			u.succeed("rm", "web", "--force")
			if d := cmp.Diff(empty, h.account()); d != "" {
				t.Errorf("the host had, has:\n%s", d)
			}
			if left := u.stateLeft(); len(left) > 0 {
				t.Errorf("left here: %q", left)
			}
		})
	}
}

// TestDeployPipeFails has packages come through a pipe that are not to be used,
// and ends it at any moment: nothing of it stays, or the next command takes it
// away.
func TestDeployPipeFails(t *testing.T) {
	t.Parallel()
	h := startLibvirt(t)
	empty := h.account()
	p := build(t, appliance.Spec{Disks: []appliance.Disk{data(61, "ahci")}})
	licensed := build(t, appliance.Spec{EULA: "You may use it."})
	first, last := sending(t, p.Dir, false), sending(t, p.Dir, true)
	whole, at := first.archive()
	wholeLast, atLast := last.archive()
	boot, second := p.Disks[0].File, p.Disks[1].File
	args := []string{"deploy", "-", "--to", h.TCP, "--name", "web"}
	clean := func(t *testing.T, u *user, what string) {
		t.Helper()
		if d := cmp.Diff(empty, h.account()); d != "" {
			t.Errorf("%s: the host had, has:\n%s", what, d)
		}
		if left := u.stateLeft(); len(left) > 0 {
			t.Errorf("%s: left here: %q", what, left)
		}
	}
	flip := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 1
		return b
	}
	t.Run("refused before a disk comes", func(t *testing.T) {
		for _, test := range []struct {
			name string
			s    *sent
			disk string
			code int
			says string
			more []string
		}{
			{"unfit", first, boot, exitUnfit, "memory", []string{"--memory", "900TiB"}},
			{"no such pool", last, boot, exitUnfit, "tape", []string{"--pool", "tape"}},
			{"licence", sending(t, licensed.Dir, false), licensed.Disks[0].File, exitUsage, "--accept-eula", nil},
			{"altered descriptor", &sent{t, first.names, map[string][]byte{first.names[0]: append(bytes.Clone(first.files[first.names[0]]), '\n'),
				first.names[1]: first.files[first.names[1]], boot: first.files[boot], second: first.files[second]}}, boot, exitUntrusted, "altered", nil},
		} {
			u := newUser(t)
			data, at := test.s.archive()
			run := u.pipeTo(append(slices.Clone(args), test.more...)...)
			run.send(data[:at[test.disk]]) // no byte of the disk, and no end
			if r := run.wait(); r.code != test.code || !strings.Contains(r.stderr, test.says) {
				t.Errorf("%s: exit code %d\n%s", test.name, r.code, r.stderr)
			}
			_ = run.in.Close()
			clean(t, u, test.name)
		}
	})
	t.Run("no good", func(t *testing.T) {
		late := &sent{t, []string{boot, first.names[0], first.names[1], second}, first.files}
		lateData, _ := late.archive()
		missing := &sent{t, []string{first.names[0], first.names[1], boot}, first.files}
		missingData, _ := missing.archive()
		for _, test := range []struct {
			name string
			data []byte
			code int
			says string
		}{
			{"altered, manifest first", flip(whole, at[boot]+len(first.files[boot])/2), exitUntrusted, boot},
			{"altered, manifest last", flip(wholeLast, atLast[second]+len(first.files[second])-3), exitUntrusted, second},
			{"cut short", whole[:at[second]+1000], exitInvalid, "cut short"},
			{"a disk is missing", missingData, exitUntrusted, second},
			{"descriptor behind a disk", lateData, exitInvalid, "before the descriptor"},
			{"nothing", nil, exitInvalid, ""},
		} {
			u := newUser(t)
			if r := u.piped(test.data, args...); r.code != test.code || !strings.Contains(r.stderr, test.says) {
				t.Errorf("%s: exit code %d\n%s", test.name, r.code, r.stderr)
			}
			clean(t, u, test.name)
		}
	})
	t.Run("kept", func(t *testing.T) {
		u := newUser(t)
		keep := append(slices.Clone(args), "--on-failure", "keep")
		if r := u.piped(whole[:at[second]+1000], keep...); r.code != exitInvalid || !strings.Contains(r.stderr, "stays") {
			t.Errorf("exit code %d\n%s", r.code, r.stderr)
		}
		if left := filesBelow(t, h.PoolDir); len(left) != 2 {
			t.Errorf("the pool has %q", left)
		}
		r := u.piped(whole, keep...)
		u.succeeded(r, keep)
		if !strings.Contains(r.stderr, "going on with the deployment") {
			t.Errorf("it began anew:\n%s", r.stderr)
		}
		u.checkDeployed(h, p, "kept")
		u.succeed("rm", "web", "--on", h.TCP)
		clean(t, u, "kept")
	})
	t.Run("interrupted", func(t *testing.T) {
		u := newUser(t)
		run := u.pipeTo(args...)
		run.send(whole[:at[second]+100])
		eventually(t, "volumes", func() bool { return len(filesBelow(t, h.PoolDir)) >= 2 })
		if err := run.cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if r := run.wait(); r.code != exitFailed && r.code != 130 {
			t.Errorf("exit code %d\n%s", r.code, r.stderr)
		}
		_ = run.in.Close()
		clean(t, u, "interrupted")
	})
	t.Run("killed", func(t *testing.T) {
		for _, next := range []string{"rm", "again", "other"} {
			u := newUser(t)
			run := u.pipeTo(args...)
			run.send(whole[:at[second]+100])
			eventually(t, "volumes", func() bool { return len(filesBelow(t, h.PoolDir)) >= 2 })
			_ = run.cmd.Process.Kill()
			run.wait()
			_ = run.in.Close()
			switch next {
			case "again":
				u.succeeded(u.piped(whole, args...), args)
				u.checkDeployed(h, p, "again")
			case "other":
				other := append(slices.Clone(args), "--memory", "300MiB")
				u.succeeded(u.piped(wholeLast, other...), other)
				u.checkDeployed(h, p, "other")
			}
			u.succeed("rm", "web", "--on", h.TCP)
			clean(t, u, "killed, "+next)
		}
	})
}

// TestRunPipeKnowsBefore has run judge what comes through a pipe by what stands
// before its disks.
func TestRunPipeKnowsBefore(t *testing.T) {
	t.Parallel()
	testenv.NeedTool(t, "qemu-system-x86_64")
	p, licensed := build(t, small), build(t, appliance.Spec{EULA: "You may use it."})
	for _, test := range []struct {
		name string
		p    *appliance.Package
		code int
		says string
		more []string
	}{
		{"dry run", p, exitOK, "the disk, which may tell, has not come yet", []string{"--dry-run"}},
		{"unfit", p, exitUnfit, "CPUs", []string{"--cpus", "100000"}},
		{"licence", licensed, exitUsage, "--accept-eula", nil},
	} {
		u := newUser(t)
		data, at := sending(t, test.p.Dir, false).archive()
		run := u.pipeTo(append([]string{"run", "--headless", "-"}, test.more...)...)
		run.send(data[:at[test.p.Disks[0].File]])
		if r := run.wait(); r.code != test.code || !strings.Contains(r.stderr, test.says) {
			t.Errorf("%s: exit code %d\n%s", test.name, r.code, r.stderr)
		}
		_ = run.in.Close()
		u.onlyLeft()
	}
}

// TestDeployPipeIsBounded has a disk come through a pipe that is much larger than
// what the program may take of memory, and that does not become smaller: nothing
// of it lies anywhere but in the pool, and it is written there once.
func TestDeployPipeIsBounded(t *testing.T) {
	t.Parallel()
	testenv.NeedTool(t, "qemu-img")
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("nothing tells here how much memory a process takes")
	}
	const (
		most = 96 << 20
		size = 128 << 20
	)
	h := startLibvirt(t)
	u := newUser(t)
	raw, err := os.Create(filepath.Join(u.root, "raw"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(raw, rand.NewChaCha8([32]byte{2}), size); err != nil {
		t.Fatal(err)
	}
	if err := raw.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	u.succeed("disk", "convert", "-q", "--from", "raw", "--level", "1", "--no-sync", raw.Name(), filepath.Join(dir, "disk.vmdk"))
	write(t, filepath.Join(dir, "a.ovf"), fmt.Sprintf(`<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">
<References><File ovf:id="d" ovf:href="disk.vmdk"/></References>
<DiskSection><Info/><Disk ovf:diskId="d" ovf:fileRef="d" ovf:capacity="%d" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/></DiskSection>
<VirtualSystem ovf:id="vm"><Info/><VirtualHardwareSection><Info/>
<Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>5</rasd:ResourceType></Item>
<Item><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:HostResource>ovf:/disk/d</rasd:HostResource><rasd:InstanceID>2</rasd:InstanceID><rasd:Parent>1</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
</VirtualHardwareSection></VirtualSystem></Envelope>`, size))
	archive, _ := sending(t, dir, false).archive()
	for _, uri := range []string{h.URI, h.TCP} {
		run := u.pipeTo("deploy", "-", "--to", uri, "--name", "big")
		run.send(archive[:len(archive)-512]) // all of the disk, and not the end
		took := peakMemory(t, run.cmd.Process.Pid)
		t.Logf("%s: %d MiB at most", uri, took>>20)
		if took > most {
			t.Errorf("it took %d KiB of memory, and may take %d", took>>10, most>>10)
		}
		if n := u.temporary(); n > 0 {
			t.Errorf("%d bytes are in temporary files", n)
		}
		if n := sizeBelow(t, filepath.Join(u.root, "home")); n > 1<<20 {
			t.Errorf("%d bytes are in the home folder", n)
		}
		run.send(archive[len(archive)-512:])
		r := run.end()
		u.succeeded(r, []string{"deploy"})
		volumes := filesBelow(t, h.PoolDir)
		if len(volumes) != 1 {
			t.Fatalf("the pool has %q", volumes)
		}
		qemuImg(t, "compare", "-F", "raw", filepath.Join(h.PoolDir, volumes[0]), raw.Name())
		u.succeed("rm", "big", "--on", uri)
	}
}
