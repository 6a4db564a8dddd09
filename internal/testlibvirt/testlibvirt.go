// Package testlibvirt starts a libvirt daemon of its own for tests: nothing of
// it is where a daemon of this machine's has its own, and nothing stays.
package testlibvirt

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ovation-project/ovation/internal/testenv"
)

// Daemon is a libvirtd that runs until its test ends: a session's, without
// privileges.
type Daemon struct {
	// URI connects over its Unix socket, TCP over the loopback interface.
	URI, TCP string
	// TLS does so too, where Options.TLS was set, and wants a client's
	// certificate.
	TLS string
	// Dir is a folder that the daemon and its guests can read.
	Dir string
	// Socket is the Unix socket.
	Socket string
	// PoolDir is the folder of the pool called default.
	PoolDir string
}

// Options say how a daemon is started.
type Options struct {
	// PKI is a folder with cacert.pem, servercert.pem and serverkey.pem for
	// TLS; "" is none.
	PKI string
}

// startLimit is for a daemon on a machine that is busy: it asks each QEMU that
// is installed what it can do.
const startLimit = 2 * time.Minute

// Start starts a daemon with one pool of storage, called default. Where the
// tests run as root, the daemon runs as nobody, since root's would be the one
// of the system. The test is skipped where libvirt is not installed.
func Start(t testing.TB, opt Options) *Daemon {
	t.Helper()
	libvirtd := find(t, "libvirtd")
	virsh := testenv.NeedTool(t, "virsh")
	testenv.NeedTool(t, "qemu-system-x86_64")

	// Not TempDir's: nobody may enter it, and sockets have short names.
	dir, err := os.MkdirTemp("", "ovlv-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	d := &Daemon{Dir: dir, Socket: filepath.Join(dir, "run", "libvirt", "libvirt-sock"), PoolDir: filepath.Join(dir, "pool")}
	port, tlsPort := freePort(t), freePort(t)
	first, last := displayPorts(t)
	config := fmt.Sprintf("unix_sock_auth = \"none\"\nlisten_tls = 0\nlisten_tcp = 1\nauth_tcp = \"none\"\nlisten_addr = \"127.0.0.1\"\ntcp_port = \"%d\"\n"+
		"max_clients = 200\nmax_anonymous_clients = 200\nlog_outputs = \"3:file:%s/log\"\n", port, dir)
	if opt.PKI != "" {
		for _, name := range []string{"cacert.pem", "servercert.pem", "serverkey.pem"} {
			text, err := os.ReadFile(filepath.Join(opt.PKI, name))
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, name), string(text))
		}
		config = strings.Replace(config, "listen_tls = 0", fmt.Sprintf("listen_tls = 1\ntls_port = \"%d\"\nauth_tls = \"none\"\nca_file = \"%s/cacert.pem\"\ncert_file = \"%s/servercert.pem\"\nkey_file = \"%s/serverkey.pem\"", tlsPort, dir, dir, dir), 1)
		d.TLS = fmt.Sprintf("qemu+tls://localhost:%d/session", tlsPort)
	}
	write(t, filepath.Join(dir, "libvirtd.conf"), config)
	// No log daemon: it would be one process more that has to go. The guests
	// have the daemon's capabilities, which are none but where drop says so.
	write(t, filepath.Join(dir, "c", "libvirt", "qemu.conf"), fmt.Sprintf("stdio_handler = \"file\"\nclear_emulator_capabilities = 0\nremote_display_port_min = %d\nremote_display_port_max = %d\n", first, last))
	for _, sub := range []string{"run", "cache", "data", "pool"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}

	cmd := exec.Command(libvirtd, "--listen", "--config", filepath.Join(dir, "libvirtd.conf"), "--pid-file", filepath.Join(dir, "run", "pid")) // #nosec G204
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "XDG_RUNTIME_DIR=" + filepath.Join(dir, "run"), "XDG_CONFIG_HOME=" + filepath.Join(dir, "c"),
		"XDG_CACHE_HOME=" + filepath.Join(dir, "cache"), "XDG_DATA_HOME=" + filepath.Join(dir, "data"), "TMPDIR=/tmp"}
	cmd.Dir = dir
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	drop(t, cmd, dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		killGuests(filepath.Join(dir, "run", "libvirt", "qemu"))
		tellLog(t, dir, &said)
	})

	d.URI = "qemu+unix:///session?socket=" + d.Socket
	d.TCP = fmt.Sprintf("qemu+tcp://127.0.0.1:%d/session", port)
	if err := d.begin(t, virsh, ended); err != nil {
		t.Fatalf("libvirtd ended: %v\n%s", err, said.String())
	}
	return d
}

// begin waits until the daemon answers, and gives it a pool; or says how it ended.
func (d *Daemon) begin(t testing.TB, virsh string, ended chan error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	for {
		out, err := exec.CommandContext(ctx, virsh, "-c", d.URI, "pool-list").CombinedOutput() // #nosec G204
		if err == nil {
			break
		}
		select {
		case err := <-ended:
			ended <- err
			return cmp.Or(err, errors.New("without an error"))
		case <-ctx.Done():
			t.Fatalf("libvirtd does not answer: %s", strings.TrimSpace(string(out)))
		case <-time.After(50 * time.Millisecond):
		}
	}
	d.Virsh(t, "pool-define-as", "default", "dir", "--target", d.PoolDir)
	d.Virsh(t, "pool-start", "default")
	return nil
}

// tellLog shows what a daemon said, where the test failed.
func tellLog(t testing.TB, dir string, said *bytes.Buffer) {
	t.Helper()
	if t.Failed() {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		t.Logf("libvirtd: %s\n%s", said.String(), log[max(0, len(log)-4000):])
	}
}

// Virsh runs virsh on the daemon and gives what it says.
func (d *Daemon) Virsh(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("virsh", append([]string{"-c", d.URI}, args...)...).CombinedOutput() // #nosec G204
	if err != nil {
		t.Fatalf("virsh %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// find looks where daemons are, too.
func find(t testing.TB, name string) string {
	t.Helper()
	for _, path := range []string{"/usr/sbin/" + name, "/usr/local/sbin/" + name} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return testenv.NeedTool(t, name)
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// displayPorts are the ports for the guests' displays, which no other test's
// daemon has: two that look for a free one at once find the same. The port
// before them is held to mark them as taken.
func displayPorts(t testing.TB) (first, last int) {
	t.Helper()
	const lowest, each, ranges = 6000, 32, 800 // below those that systems give out
	start := rand.IntN(ranges)
	for i := range ranges {
		mark := lowest + (start+i)%ranges*each
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", mark)); err == nil {
			t.Cleanup(func() { l.Close() })
			return mark + 1, mark + each - 1
		}
	}
	t.Fatal("no ports for displays are free")
	return 0, 0
}

// killGuests ends guests that outlive the daemon, as they are made to, and what
// runs for them.
func killGuests(dir string) {
	_ = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".pid") && e.Name() != "driver.pid" {
			text, _ := os.ReadFile(path) // #nosec G304
			if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && pid > 1 {
				if p, err := os.FindProcess(pid); err == nil {
					_ = p.Kill()
				}
			}
		}
		return nil
	})
}
