package libvirt

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ovation-project/ovation/hypervisor"
)

// The ports of libvirtd (https://libvirt.org/remote.html).
const (
	portTCP = "16509"
	portTLS = "16514"
)

// dialLimit is how long a connection may take to be there.
const dialLimit = 30 * time.Second

// dial opens the way to the daemon.
func (t *target) dial(ctx context.Context, log *slog.Logger) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	conn, err := func() (net.Conn, error) {
		switch t.transport {
		case overTCP:
			return new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(t.host, cmp.Or(t.port, portTCP)))
		case overTLS:
			return t.dialTLS(ctx)
		case overSSH:
			return t.dialSSH()
		case overExt:
			return dialProgram(exec.Command(t.command)) // #nosec G204: the URI is the user's own
		}
		return t.dialUnix(ctx, log)
	}()
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", hypervisor.ErrUnavailable, t, err)
	}
	return conn, nil
}

// sockets are the places of the daemon's socket, those of the one daemon for
// everything before those of the one for this driver.
func (t *target) sockets() []string {
	if t.socket != "" {
		return []string{t.socket}
	}
	names := []string{"libvirt-sock", map[string]string{"xen": "virtxend-sock"}[t.driver]}
	if names[1] == "" {
		names[1] = "virtqemud-sock"
	}
	switch t.mode {
	case "legacy":
		names = names[:1]
	case "direct":
		names = names[1:]
	}
	dirs := []string{"/run/libvirt", "/var/run/libvirt"}
	if t.session() {
		dirs = []string{filepath.Join(runtimeDir(), "libvirt")}
	}
	var out []string
	for _, name := range names {
		for _, dir := range dirs {
			out = append(out, filepath.Join(dir, name))
		}
	}
	return out
}

func runtimeDir() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return dir
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return os.TempDir()
	}
	return cache
}

func (t *target) dialUnix(ctx context.Context, log *slog.Logger) (net.Conn, error) {
	try := func() (net.Conn, error) {
		var errs []error
		for _, path := range t.sockets() {
			conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
			if err == nil {
				return conn, nil
			}
			errs = append(errs, err)
		}
		return nil, errors.Join(errs...)
	}
	conn, err := try()
	if err == nil {
		return conn, nil
	}
	if t.session() && t.socket == "" && os.Getenv("LIBVIRT_AUTOSTART") != "0" && startSession(log) {
		for wait := 20 * time.Millisecond; wait < 5*time.Second; wait *= 2 {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(wait):
			}
			if conn, err = try(); err == nil {
				return conn, nil
			}
		}
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w; your user may not use it: join the group libvirt, or use qemu:///session", err)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("no libvirt daemon listens: install libvirt-daemon-system (Debian and Ubuntu) or libvirt-daemon-kvm (Fedora and RHEL), or start it: systemctl start libvirtd (%w)", err)
	}
	return nil, err
}

// startSession starts the user's own daemon, as every client of libvirt does;
// it ends itself when nobody uses it.
func startSession(log *slog.Logger) bool {
	for _, name := range []string{"virtqemud", "libvirtd"} {
		for _, dir := range []string{"", "/usr/sbin/", "/usr/local/sbin/"} {
			path, err := exec.LookPath(dir + name)
			if err != nil {
				continue
			}
			cmd := exec.Command(path, "--timeout=120")
			ownSession(cmd)
			if err := cmd.Start(); err != nil {
				log.Warn("can't start the session's libvirt daemon", "program", path, "error", err)
				continue
			}
			go func() { _ = cmd.Wait() }()
			return true
		}
	}
	return false
}

// dialTLS follows https://libvirt.org/kbase/tlscerts.html: after the handshake
// the daemon says in one byte whether it takes the client's certificate.
func (t *target) dialTLS(ctx context.Context) (net.Conn, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.host, InsecureSkipVerify: t.noVerify} // #nosec G402: no_verify=1 was asked for
	type files struct{ ca, cert, key string }
	places := []files{{"/etc/pki/CA/cacert.pem", "/etc/pki/libvirt/clientcert.pem", "/etc/pki/libvirt/private/clientkey.pem"}}
	in := func(dir string) files {
		return files{filepath.Join(dir, "cacert.pem"), filepath.Join(dir, "clientcert.pem"), filepath.Join(dir, "clientkey.pem")}
	}
	if t.pkipath != "" {
		places = []files{in(t.pkipath)}
	} else if home, err := os.UserHomeDir(); err == nil {
		places = append([]files{in(filepath.Join(home, ".pki", "libvirt"))}, places...)
	}
	for _, f := range places {
		pem, err := os.ReadFile(f.ca)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: no certificates in it", f.ca)
		}
		break
	}
	if config.RootCAs == nil && !t.noVerify {
		return nil, fmt.Errorf("no certificate of an authority to know the host by: put it at %s, or name a folder with pkipath=", places[0].ca)
	}
	for _, f := range places {
		cert, err := tls.LoadX509KeyPair(f.cert, f.key)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.cert, err)
		}
		config.Certificates = []tls.Certificate{cert}
		break
	}
	d := tls.Dialer{Config: config}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(t.host, cmp.Or(t.port, portTLS)))
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	_ = conn.SetReadDeadline(deadline)
	var verdict [1]byte
	if _, err := io.ReadFull(conn, verdict[:]); err != nil || verdict[0] != 1 {
		conn.Close()
		return nil, errors.Join(errors.New("the host does not take our certificate (clientcert.pem)"), err)
	}
	_ = conn.SetReadDeadline(time.Time{})
	return conn, nil
}

// sshArgs are the arguments of the ssh program, which honours the user's own
// configuration, agent and known hosts.
func (t *target) sshArgs() []string {
	args := []string{"-T", "-e", "none"}
	if t.port != "" {
		args = append(args, "-p", t.port)
	}
	if t.user != "" {
		args = append(args, "-l", t.user)
	}
	if t.keyfile != "" {
		args = append(args, "-i", t.keyfile)
	}
	if t.noTTY {
		args = append(args, "-o", "BatchMode=yes", "-o", "NumberOfPasswordPrompts=0")
	}
	if t.noVerify {
		args = append(args, "-o", "StrictHostKeyChecking=no")
	}
	if t.knownHosts != "" {
		args = append(args, "-o", "UserKnownHostsFile="+t.knownHosts)
	}
	return append(args, "--", t.host, "sh -c "+shellQuote(t.remoteScript()))
}

// remoteScript connects the daemon's socket on the other side: by libvirt's own
// program for that, or by netcat.
func (t *target) remoteScript() string {
	native := "exec virt-ssh-helper " + shellQuote(t.name)
	var socket string
	switch {
	case t.socket != "":
		socket = shellQuote(t.socket)
	case t.session():
		socket = `"${XDG_RUNTIME_DIR:-$HOME/.cache}/libvirt/libvirt-sock"`
	default:
		socket = "/run/libvirt/libvirt-sock"
	}
	nc := shellQuote(cmp.Or(t.netcat, "nc"))
	// Some netcats stay when their input has ended unless told to quit.
	netcat := "if " + nc + ` -q 2>&1 | grep -q "requires an argument"; then exec ` + nc + " -q0 -U " + socket + "; else exec " + nc + " -U " + socket + "; fi"
	switch {
	case t.proxy == "native":
		return native
	case t.proxy == "netcat" || t.netcat != "" || t.socket != "":
		return netcat
	}
	return "if command -v virt-ssh-helper >/dev/null 2>&1; then " + native + "; else " + netcat + "; fi"
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func (t *target) dialSSH() (net.Conn, error) {
	program := cmp.Or(t.command, "ssh")
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, fmt.Errorf("the program %s is needed to get there: %w", program, err)
	}
	return dialProgram(exec.Command(path, t.sshArgs()...)) // #nosec G204: the URI is the user's own
}

// programConn is a connection through a program's standard input and output.
type programConn struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    io.ReadCloser
	stderr *tail
	// said is closed when the program says nothing more.
	said  chan struct{}
	close sync.Once
}

// sayLimit is how long is waited for a program that has ended its connection to
// say why: a child of it may keep the pipe open for good.
const sayLimit = time.Second

func dialProgram(cmd *exec.Cmd) (net.Conn, error) {
	c := &programConn{cmd: cmd, stderr: &tail{}, said: make(chan struct{})}
	var err error
	if c.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if c.out, err = cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	says, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(c.said)
		_, _ = io.Copy(c.stderr, says)
	}()
	return c, nil
}

// Read gives what the program says, and at its end why it ended.
func (c *programConn) Read(b []byte) (int, error) {
	n, err := c.out.Read(b)
	return n, c.why(err)
}

func (c *programConn) Write(b []byte) (int, error) {
	n, err := c.in.Write(b)
	return n, c.why(err)
}

// why puts the program's own words in the place of a broken pipe.
func (c *programConn) why(err error) error {
	if err == nil {
		return nil
	}
	select {
	case <-c.said:
	case <-time.After(sayLimit):
	}
	if text := c.stderr.String(); text != "" {
		return fmt.Errorf("%s: %s", filepath.Base(c.cmd.Path), text)
	}
	return err
}

func (c *programConn) Close() error {
	c.close.Do(func() {
		_ = c.in.Close()
		_ = c.cmd.Process.Kill()
		_ = c.out.Close()
		_ = c.cmd.Wait()
	})
	return nil
}

// There are no deadlines and no addresses; nobody asks for them.

func (c *programConn) LocalAddr() net.Addr              { return programAddr{c.cmd.Path} }
func (c *programConn) RemoteAddr() net.Addr             { return programAddr{c.cmd.Path} }
func (c *programConn) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (c *programConn) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (c *programConn) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

type programAddr struct{ path string }

func (programAddr) Network() string  { return "program" }
func (a programAddr) String() string { return a.path }

// tail keeps the last lines of what a program says.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailSize = 2 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if extra := len(t.text) - tailSize; extra > 0 {
		t.text = append(t.text[:0], t.text[extra:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := bytes.Split(bytes.TrimSpace(t.text), []byte("\n"))
	for i := range lines {
		lines[i] = bytes.TrimSpace(lines[i])
	}
	return string(bytes.Join(lines, []byte("; ")))
}
