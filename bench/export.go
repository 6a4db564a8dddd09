package main

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/ovation-project/ovation/internal/testlibvirt"
)

// buildSpec is what the raw disk is built with.
const buildSpec = `name: bench
disks: [{id: disk, source: disk.raw}]
machine:
  id: bench
  hardware: {cpus: 1, memory: 256MiB, disks: [disk]}
`

// domain is a machine of libvirt's that has the raw disk.
const domain = `<domain type='qemu'><name>bench</name><memory unit='MiB'>256</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s'/><target dev='vda' bus='virtio'/></disk></devices></domain>`

// export makes a package of a machine that libvirt has, which is off.
func (b *bench) export(ctx context.Context) (err error) {
	host := &host{}
	defer host.end()
	defer func() {
		switch r := recover().(type) {
		case nil:
		case failure:
			err = r.error
		default:
			panic(r)
		}
	}()
	d := testlibvirt.Start(host, testlibvirt.Options{})
	file := b.path("domain.xml")
	if err := os.WriteFile(file, fmt.Appendf(nil, domain, b.path("disk.raw")), 0o666); err != nil {
		return err
	}
	d.Virsh(host, "define", file)
	machine := "qemu+unix:///session/bench?socket=" + d.Socket
	return b.compare(ctx, comparison{
		name:  "export: a libvirt machine that is off, to an OVA",
		ours:  command{b.ovation, "export", "-q", machine, "-o", b.path("out", "ours.ova")},
		rival: []rival{b.byHand(b.path("disk.raw"))},
		made:  b.path("out", "ours.ova"), reference: b.path("out", "theirs.ova"), maxSize: 1.05,
	})
}

// host is what a daemon for tests belongs to, where there is no test. What it
// does not have is not asked for.
type host struct {
	testing.TB
	cleanup []func()
}

// failure is how a host ends what goes on.
type failure struct{ error }

func (h *host) Helper()                        {}
func (h *host) Failed() bool                   { return false }
func (h *host) Logf(string, ...any)            {}
func (h *host) Cleanup(f func())               { h.cleanup = append(h.cleanup, f) }
func (h *host) Error(args ...any)              { fmt.Fprintln(os.Stderr, args...) }
func (h *host) Fatal(args ...any)              { panic(failure{fmt.Errorf("%s", fmt.Sprintln(args...))}) }
func (h *host) Fatalf(text string, a ...any)   { panic(failure{fmt.Errorf(text, a...)}) }
func (h *host) Skipf(text string, args ...any) { h.Fatalf(text, args...) }

func (h *host) end() {
	for i := len(h.cleanup) - 1; i >= 0; i-- {
		h.cleanup[i]()
	}
}
