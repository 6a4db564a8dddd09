package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ovation-project/ovation/internal/faultserver"
	"github.com/ovation-project/ovation/test/appliance"
)

// wireRate is that of the server: 100 Mbit/s.
const wireRate = 100e6 / 8

// stream starts an appliance from a slow server, while its disks are arriving,
// and after they were fetched and converted.
func (b *bench) stream(ctx context.Context) error {
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		fmt.Printf("\nStarting from a server: left out, qemu-system-x86_64 is not there\n")
		return nil
	}
	if err := b.clean(); err != nil {
		return err
	}
	size, err := b.bootable(ctx)
	if err != nil {
		return err
	}
	server, err := faultserver.Start(b.path("out"))
	if err != nil {
		return err
	}
	defer server.Kill()
	server.Change(func(f *faultserver.Faults) { f.Rate = wireRate })
	fmt.Printf("\nStarting an appliance of %d MiB from a server with 100 Mbit/s, to the guest's first line:\n", size>>20)

	ours, fetched, read, err := b.streamed(ctx, server)
	if err != nil {
		return err
	}
	theirs, err := b.fetched(ctx, server)
	if err != nil {
		return err
	}
	fmt.Printf("  %-46s  %8.2f s\n", "ovation run URL", ours.Seconds())
	fmt.Printf("  %-46s  %8.2f s  %7.3f  goal 0.10: %s\n", "download, qemu-img convert, boot", theirs.Seconds(), ours.Seconds()/theirs.Seconds(), b.verdict(ours <= theirs/10))
	ratio := float64(fetched) / float64(read)
	fmt.Printf("  %-46s  %5.1f MiB of %.1f MiB  %5.2f  goal 1.50: %s\n", "fetched by then, of what the guest had read",
		float64(fetched)/(1<<20), float64(read)/(1<<20), ratio, b.verdict(ratio <= 1.5))
	return nil
}

// bootable makes an archive of the test appliance's boot disk and of the disk of
// the other comparisons.
func (b *bench) bootable(ctx context.Context) (int64, error) {
	builder, err := appliance.New(ctx)
	if err != nil {
		return 0, err
	}
	boot, err := builder.Build(ctx, appliance.Spec{Name: "bench-boot", Controller: "ahci"})
	if err != nil {
		return 0, err
	}
	if err := copyFile(boot.Dir+"/"+boot.Disks[0].File, b.path("out", "boot.vmdk")); err != nil {
		return 0, err
	}
	if err := os.Link(b.path("disk.vmdk"), b.path("out", "disk.vmdk")); err != nil {
		return 0, err
	}
	size, err := sizeOf(b.path("disk.vmdk"))
	if err != nil {
		return 0, err
	}
	text := string(descriptor("disk.vmdk", size, b.capacity))
	uri := "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
	item := func(unit, id int, disk string) string {
		return fmt.Sprintf("<Item><rasd:AddressOnParent>%d</rasd:AddressOnParent><rasd:ElementName>Disk</rasd:ElementName><rasd:HostResource>ovf:/disk/%s</rasd:HostResource><rasd:InstanceID>%d</rasd:InstanceID><rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>", unit, disk, id)
	}
	text = strings.Replace(text, "<References>", "<References><File ovf:id=\"boot\" ovf:href=\"boot.vmdk\"/>", 1)
	text = strings.Replace(text, "<Info>Virtual disks</Info>", fmt.Sprintf("<Info>Virtual disks</Info><Disk ovf:diskId=\"boot\" ovf:fileRef=\"boot\" ovf:capacity=\"%d\" ovf:format=\"%s\"/>", boot.Disks[0].Capacity, uri), 1)
	text = strings.Replace(text, "<rasd:AddressOnParent>0<", "<rasd:AddressOnParent>1<", 1)
	// What comes first boots first.
	at := strings.LastIndex(text, "      <Item>")
	text = text[:at] + item(0, 9, "boot") + text[at:]
	if err := os.WriteFile(b.path("out", "appliance.ovf"), []byte(text), 0o666); err != nil {
		return 0, err
	}
	manifest := fmt.Sprintf("SHA256(appliance.ovf)= %x\n", sha256.Sum256([]byte(text)))
	for _, name := range []string{"boot.vmdk", "disk.vmdk"} {
		sum, err := sha256File(b.path("out", name))
		if err != nil {
			return 0, err
		}
		manifest += fmt.Sprintf("SHA256(%s)= %s\n", name, sum)
	}
	if err := os.WriteFile(b.path("out", "appliance.mf"), []byte(manifest), 0o666); err != nil {
		return 0, err
	}
	tar := exec.CommandContext(ctx, "tar", "--format=ustar", "-C", b.path("out"), "-cf", b.path("out", "appliance.ova"), "appliance.ovf", "appliance.mf", "boot.vmdk", "disk.vmdk")
	if out, err := tar.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("tar: %w\n%s", err, out)
	}
	for _, name := range []string{"boot.vmdk", "disk.vmdk"} {
		if err := os.Remove(b.path("out", name)); err != nil {
			return 0, err
		}
	}
	return sizeOf(b.path("out", "appliance.ova"))
}

// untilLine runs a command until it prints a line, and ends it then. spoke is
// called when it has.
func untilLine(ctx context.Context, cmd *exec.Cmd, spoke func()) (time.Duration, error) {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	took := time.Since(start)
	if spoke != nil {
		spoke()
	}
	stop := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	defer stop.Stop()
	_ = cmd.Process.Signal(syscall.SIGTERM)
	time.Sleep(100 * time.Millisecond)
	_ = cmd.Process.Signal(syscall.SIGTERM) // at once
	go func() { _, _ = io.Copy(io.Discard, out) }()
	_ = cmd.Wait() // it was ended
	if err != nil || line == "" {
		return took, fmt.Errorf("%s: it printed nothing: %w", cmd.Path, err)
	}
	return took, ctx.Err()
}

var speaks = regexp.MustCompile(`the guest speaks.* read=(\d+)`)

func (b *bench) streamed(ctx context.Context, server *faultserver.Server) (took time.Duration, fetched, read int64, err error) {
	cmd := exec.CommandContext(ctx, b.ovation, "run", "-v", "--headless", "--no-cache", "--accel", "tcg", server.URL("appliance.ova"))
	var said syncBuffer
	cmd.Stderr = &said
	server.Fetched.Store(0)
	took, err = untilLine(ctx, cmd, func() { fetched = server.Fetched.Load() })
	if err != nil {
		return took, 0, 0, fmt.Errorf("%w\n%s", err, said.String())
	}
	m := speaks.FindStringSubmatch(said.String())
	if m == nil {
		return took, 0, 0, errors.New("it does not say what the guest has read")
	}
	read, err = strconv.ParseInt(m[1], 10, 64)
	return took, fetched, read, err
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// fetched does what people do without.
func (b *bench) fetched(ctx context.Context, server *faultserver.Server) (time.Duration, error) {
	start := time.Now()
	dir := b.path("out", "theirs")
	if err := os.Mkdir(dir, 0o777); err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL("appliance.ova"), nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	f, err := os.Create(dir + "/appliance.ova")
	if err != nil {
		return 0, err
	}
	if _, err := io.Copy(f, resp.Body); err != nil {
		return 0, errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return 0, err
	}
	for _, c := range []command{
		{"tar", "-C", dir, "-xf", dir + "/appliance.ova"},
		{"qemu-img", "convert", "-O", "qcow2", dir + "/boot.vmdk", dir + "/boot.qcow2"},
		{"qemu-img", "convert", "-O", "qcow2", dir + "/disk.vmdk", dir + "/disk.qcow2"},
	} {
		if out, err := exec.CommandContext(ctx, c[0], c[1:]...).CombinedOutput(); err != nil {
			return 0, fmt.Errorf("%s: %w\n%s", c[0], err, out)
		}
	}
	before := time.Since(start)
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-nodefaults", "-accel", "tcg", "-cpu", "max,la57=off", "-m", "256", "-display", "none", "-serial", "stdio",
		"-device", "ahci,id=sata", "-drive", "if=none,id=d0,file="+dir+"/boot.qcow2", "-device", "ide-hd,drive=d0,bus=sata.0,bootindex=1",
		"-drive", "if=none,id=d1,file="+dir+"/disk.qcow2", "-device", "ide-hd,drive=d1,bus=sata.1")
	boot, err := untilLine(ctx, cmd, nil)
	return before + boot, err
}
