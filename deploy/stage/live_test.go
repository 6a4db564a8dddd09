package stage_test

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/stream"
	"github.com/ovation-project/ovation/deploy/stage"
	"github.com/ovation-project/ovation/internal/faultserver"
)

// TestStream gives machines disks that lie on a server, and has qemu-img compare
// what it sees on the sockets, and writes, with what they were made from.
func TestStream(t *testing.T) {
	want := content()
	raw := filepath.Join(t.TempDir(), "want.raw")
	if err := os.WriteFile(raw, want, 0o600); err != nil {
		t.Fatal(err)
	}
	p := newPack(t)
	run(t, "qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, p.path("d.vmdk"))
	p.listed("d.vmdk", "")
	p.disk("d", "d.vmdk", vmdkURI, "")
	p.file("z.gz", zipped(t, want), `ovf:compression="gzip"`)
	p.disk("z", "z.gz", "raw", "")
	p.disk("empty", "", "raw", "")
	p.file("cd.iso", want[:64<<10], "")
	p.drive(15, "ovf:/file/cd.iso")
	_, planned := p.plan()

	server := faultserver.New(t, p.path(""))
	server.Change(func(f *faultserver.Faults) { f.Drop = 60 << 10 })
	pkg, err := appliance.Open(t.Context(), server.URL("a.ovf"), appliance.Options{Retries: 20})
	if err != nil {
		t.Fatal(err)
	}
	defer pkg.Close()
	dir := t.TempDir()
	from := stream.New(t.Context(), pkg, stream.Options{TempDir: t.TempDir(), Failed: func(err error) { t.Errorf("failed: %v", err) }})
	live, err := stage.Stream(t.Context(), pkg, planned, from, stage.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	var socket string
	for _, d := range planned[0].Machine.Drives {
		m := d.Medium
		if m == nil {
			continue
		}
		seen++
		below := m.Below
		if m.Socket != "" {
			below = m
		}
		if below != nil {
			socket = below.Socket
			nbd := "nbd+unix:///" + below.Export + "?socket=" + below.Socket
			if m == below {
				got := filepath.Join(dir, "cd")
				run(t, "qemu-img", "convert", "-f", "raw", "-O", "raw", nbd, got)
				if b, err := os.ReadFile(got); err != nil || string(b) != string(want[:64<<10]) {
					t.Errorf("%s: the CD-ROM holds something else (%v)", d.ID, err)
				}
				continue
			}
			run(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", nbd, raw)
			run(t, "qemu-img", "check", "-f", "qcow2", m.Path)
			continue
		}
		if strings.Contains(m.Path, "empty") {
			continue
		}
		run(t, "qemu-img", "compare", "-f", "qcow2", "-F", "raw", m.Path, raw)
	}
	if seen != 4 || socket == "" {
		t.Errorf("%d drives have media, socket %q", seen, socket)
	}
	misbehave(t, socket)
	if err := from.Close(); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := live.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket is left behind")
	}
}

// misbehave says what no client should, and sees that the server goes on.
func misbehave(t *testing.T, socket string) {
	t.Helper()
	option := func(opt, n uint32, data ...byte) []byte {
		b := append([]byte{0, 0, 0, 3}, "IHAVEOPT"...)
		b = binary.BigEndian.AppendUint32(b, opt)
		b = binary.BigEndian.AppendUint32(b, n)
		return append(b, data...)
	}
	request := func(cmd uint16, off uint64, n uint32) []byte {
		b := option(1, 5, []byte("disk0")...)
		b = binary.BigEndian.AppendUint32(b, 0x25609513)
		b = binary.BigEndian.AppendUint16(b, 0)
		b = binary.BigEndian.AppendUint16(b, cmd)
		b = binary.BigEndian.AppendUint64(b, 7)
		b = binary.BigEndian.AppendUint64(b, off)
		return binary.BigEndian.AppendUint32(b, n)
	}
	const past, all = 1 << 63, 1<<32 - 1
	for _, said := range [][]byte{
		nil, []byte("GET / HTTP/1.1\r\n\r\n and so on"), option(7, all), option(7, 6, 255, 255, 255, 255, 0, 0), option(99, 0),
		option(1, 4, []byte("none")...), request(0, past, 512), request(0, 0, all), request(0, capacity, 1), request(4, 0, 512), request(1, 0, 512),
	} {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(said); err != nil {
			t.Error(err)
		}
		if err := c.(*net.UnixConn).CloseWrite(); err != nil {
			t.Error(err)
		}
		if _, err := io.Copy(io.Discard, io.LimitReader(c, 1<<20)); err != nil {
			t.Logf("%q: %v", said, err)
		}
		c.Close()
	}
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(request(0, 510, 2)); err != nil {
		t.Fatal(err)
	}
	// Greeting, the export's size and flags, 124 zeroes less, and the answer.
	b := make([]byte, 18+10+16+2)
	if _, err := io.ReadFull(c, b); err != nil || b[len(b)-2] != 0x55 || b[len(b)-1] != 0xaa {
		t.Errorf("%x, %v", b, err)
	}
}
