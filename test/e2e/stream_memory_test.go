package e2e

import (
	"archive/tar"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/hypervisor/drivertest"
	"github.com/ovation-project/ovation/internal/testenv"
)

// TestPipeIsBounded runs an appliance from a pipe whose disk is much larger than
// what the program may take of memory, and looks at what it takes: of memory, and
// of the disk, where the guest's images are to be and nothing else.
func TestPipeIsBounded(t *testing.T) {
	t.Parallel()
	testenv.NeedTool(t, "qemu-system-x86_64")
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("nothing tells here how much memory a process takes")
	}
	const (
		most = 96 << 20
		size = 256 << 20
	)
	u := newUser(t)
	// The second disk is noise, which does not become smaller.
	noise := rand.NewChaCha8([32]byte{1})
	raw, err := os.Create(filepath.Join(u.work, "raw"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(raw, noise, size); err != nil {
		t.Fatal(err)
	}
	if err := raw.Close(); err != nil {
		t.Fatal(err)
	}
	u.succeed("disk", "convert", "-q", "--from", "raw", "--level", "1", "--no-sync", "raw", "data.vmdk")
	if err := os.Remove(raw.Name()); err != nil {
		t.Fatal(err)
	}
	u.write("boot.img", drivertest.Image("up and running", drivertest.Hang))
	data, err := os.Stat(filepath.Join(u.work, "data.vmdk"))
	if err != nil {
		t.Fatal(err)
	}
	u.write("a.ovf", fmt.Appendf(nil, `<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">
<References><File ovf:id="b" ovf:href="boot.img"/><File ovf:id="d" ovf:href="data.vmdk"/></References>
<DiskSection><Info/><Disk ovf:diskId="b" ovf:fileRef="b" ovf:capacity="1048576"/>
<Disk ovf:diskId="d" ovf:fileRef="d" ovf:capacity="%d" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/></DiskSection>
<VirtualSystem ovf:id="vm"><Info/><VirtualHardwareSection><Info/>
<Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>5</rasd:ResourceType></Item>
<Item><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:HostResource>ovf:/disk/b</rasd:HostResource><rasd:InstanceID>2</rasd:InstanceID><rasd:Parent>1</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
<Item><rasd:AddressOnParent>1</rasd:AddressOnParent><rasd:HostResource>ovf:/disk/d</rasd:HostResource><rasd:InstanceID>3</rasd:InstanceID><rasd:Parent>1</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
</VirtualHardwareSection></VirtualSystem></Envelope>`, size))

	up := make(chan struct{})
	stdout := &watcher{want: "up and running", seen: up}
	stderr := newWaited()
	cmd := u.command(t.Context(), "run", "--headless", "--accel", "tcg", "--grace", "200ms", "-")
	// More threads than this machine may have processors: each takes memory.
	cmd.Env = append(cmd.Env, "GOMAXPROCS=8")
	cmd.Stdout, cmd.Stderr = stdout, stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(stdin)
	for _, name := range []string{"a.ovf", "boot.img", "data.vmdk"} {
		f, err := os.Open(filepath.Join(u.work, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Size: st.Size(), Mode: 0o644, Format: tar.FormatUSTAR}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, f); err != nil {
			t.Fatalf("%v\n%s", err, stderr)
		}
	}
	// All but the archive's end is there: what it keeps is the images.
	if taken := sizeBelow(t, filepath.Join(u.root, "tmp")); taken > data.Size()+(4<<20) {
		t.Errorf("%d bytes are taken of the disk for images of %d", taken, data.Size())
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-up:
	case err := <-ended:
		t.Fatalf("%v\n%s", err, stderr)
	}
	took := peakMemory(t, cmd.Process.Pid)
	t.Logf("%d MiB at most", took>>20)
	if took > most {
		t.Errorf("it took %d KiB of memory, and may take %d", took>>10, most>>10)
	}
	taken := sizeBelow(t, filepath.Join(u.root, "tmp"))
	if taken > data.Size()+(4<<20) {
		t.Errorf("%d bytes are taken of the disk for images of %d", taken, data.Size())
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-ended
}

// peakMemory is the most memory that a process had, without its children.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	for line := range strings.Lines(string(read(t, fmt.Sprintf("/proc/%d/status", pid)))) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	t.Fatal("the process does not tell")
	return 0
}

// sizeBelow is what the files of a folder have together, in bytes.
func sizeBelow(t *testing.T, dir string) (total int64) {
	t.Helper()
	for _, name := range filesBelow(t, dir) {
		if st, err := os.Stat(filepath.Join(dir, name)); err == nil && st.Mode().IsRegular() {
			total += st.Size()
		}
	}
	return total
}
