package testlibvirt

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/ovation-project/ovation/internal/testenv"
)

// systemScript is the first process in a world of its own: what the system's
// libvirt has its things in is empty there, and goes with it. It waits for the
// processes that others leave: libvirt waits until those that it ends are gone.
const systemScript = `
set -e
for dir in /var/lib/libvirt /var/log/libvirt /var/cache/libvirt /run; do mount -t tmpfs -o mode=755 none "$dir"; done
mkdir -p /var/lib/libvirt/images /var/lib/libvirt/qemu /var/log/libvirt/qemu
mount --bind "$1/etc" /etc/libvirt
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/group" /etc/group
virtlogd -d
"$2" --listen --config /etc/libvirt/libvirtd.conf &
wait
`

// StartSystem starts a daemon that is a system's, with control groups and the log
// daemon, in namespaces of its own: it is reached by TCP only, and its files are
// not seen from outside. The test is skipped where that is not allowed.
func StartSystem(t testing.TB) *Daemon {
	t.Helper()
	libvirtd, virtlogd := find(t, "libvirtd"), find(t, "virtlogd")
	virsh := testenv.NeedTool(t, "virsh")
	testenv.NeedTool(t, "qemu-system-x86_64")
	if os.Getuid() != 0 {
		t.Skip("only root starts a system's libvirt")
	}
	if out, err := exec.Command("unshare", "--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "none", "/mnt").CombinedOutput(); err != nil {
		t.Skipf("namespaces can't be made here: %v %s", err, out)
	}
	dir, err := os.MkdirTemp("", "ovls-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	port := freePort(t)
	first, last := displayPorts(t)
	write(t, filepath.Join(dir, "etc", "libvirtd.conf"), fmt.Sprintf("unix_sock_auth = \"none\"\nlisten_tls = 0\nlisten_tcp = 1\nauth_tcp = \"none\"\nlisten_addr = \"127.0.0.1\"\ntcp_port = \"%d\"\nlog_outputs = \"3:file:%s/log\"\n", port, dir))
	write(t, filepath.Join(dir, "etc", "qemu.conf"), fmt.Sprintf("user = \"root\"\ngroup = \"root\"\nsecurity_driver = \"none\"\nnamespaces = []\nremote_display_port_min = %d\nremote_display_port_max = %d\n", first, last))
	// Debian's libvirt wants the user to be there that its package makes.
	for name, more := range map[string]string{"passwd": "libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin\n", "group": "libvirt-qemu:x:64055:\nkvm:x:64056:\n"} {
		text, err := os.ReadFile(filepath.Join("/etc", name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), string(text)+more)
		if err := os.Chmod(filepath.Join(dir, name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, sub := range []string{"/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt", "/etc/libvirt"} {
		if _, err := os.Stat(sub); errors.Is(err, os.ErrNotExist) {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Remove(sub) })
		}
	}
	cmd := exec.Command("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", systemScript, "sh", dir, libvirtd) // #nosec G204
	cmd.Env = []string{"PATH=" + filepath.Dir(virtlogd) + ":" + os.Getenv("PATH"), "HOME=/root"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		// With its first process goes all that runs in the namespace.
		_ = cmd.Process.Kill()
		<-ended
		groups, _ := filepath.Glob("/sys/fs/cgroup/*/machine")
		for _, g := range groups {
			_ = os.Remove(g) // only where it is empty
		}
		tellLog(t, dir, &said)
	})
	d := &Daemon{Dir: dir, TCP: fmt.Sprintf("qemu+tcp://127.0.0.1:%d/system", port), PoolDir: "/var/lib/libvirt/images"}
	d.URI = d.TCP
	if err := d.begin(t, virsh, ended); err != nil {
		t.Skipf("a system's libvirt can't be started here: %v\n%s", err, said.String())
	}
	return d
}
