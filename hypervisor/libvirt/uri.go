package libvirt

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/ovation-project/ovation/internal/redact"
)

// transport is how bytes get to the daemon.
type transport string

const (
	overUnix transport = "unix"
	overTCP  transport = "tcp"
	overTLS  transport = "tls"
	overSSH  transport = "ssh"
	overExt  transport = "ext"
)

// target is a connection URI, understood. The syntax is libvirt's own
// (https://libvirt.org/uri.html and https://libvirt.org/remote.html):
// driver[+transport]://[user@][host][:port]/[path][?parameters].
type target struct {
	driver    string // qemu, xen, test
	transport transport
	user      string
	host      string
	port      string
	path      string // /system, /session, /default
	// name is what the daemon is to open.
	name string

	socket, keyfile, command, netcat, pkipath, proxy, mode, knownHosts string
	noVerify, noTTY                                                    bool
}

// session says that the daemon is the user's own, without privileges.
func (t *target) session() bool { return t.path == "/session" }

// local says that the daemon runs on this machine.
func (t *target) local() bool { return t.transport == overUnix }

// drivers are libvirt's drivers for which machines are made here.
var drivers = []string{"qemu", "xen", "test"}

// String is the URI as it is shown: without a password.
func (t *target) String() string {
	u := url.URL{Scheme: t.driver, Host: t.host, Path: t.path}
	if t.host != "" && t.transport != overTLS || t.host == "" && t.transport != overUnix || t.socket != "" && t.transport == overUnix {
		u.Scheme += "+" + string(t.transport)
	}
	if t.port != "" {
		u.Host = net.JoinHostPort(t.host, t.port)
	} else if strings.Contains(t.host, ":") {
		u.Host = "[" + t.host + "]"
	}
	if t.user != "" {
		u.User = url.User(t.user)
	}
	if t.socket != "" {
		u.RawQuery = "socket=" + url.PathEscape(t.socket)
	}
	if u.Host == "" {
		// net/url leaves the slashes out where there is no host.
		rest := u.Path
		if u.RawQuery != "" {
			rest += "?" + u.RawQuery
		}
		return u.Scheme + "://" + rest
	}
	return u.String()
}

// IsURI says whether a string looks like a connection URI of this driver's, so
// that a caller who has several drivers knows whom to ask.
func IsURI(s string) bool {
	scheme, _, ok := strings.Cut(s, "://")
	driver, _, _ := strings.Cut(scheme, "+")
	return ok && slices.Contains(drivers, driver)
}

// parseURI understands a connection URI, or says what is wrong with it.
func parseURI(s string) (*target, error) {
	bad := func(format string, a ...any) (*target, error) {
		return nil, fmt.Errorf("libvirt URI %q: %s", redact.Host(s), fmt.Sprintf(format, a...))
	}
	u, err := redact.Parse(s)
	if err != nil {
		return bad("%v", err)
	}
	if u.Opaque != "" || u.Fragment != "" {
		return bad("it is written as qemu:///system or qemu+ssh://user@host/system")
	}
	t := &target{host: u.Hostname(), port: u.Port(), path: u.Path}
	if u.User != nil {
		t.user = u.User.Username()
		if _, has := u.User.Password(); has {
			return bad("libvirt takes no passwords in URIs; leave it out")
		}
	}
	driver, kind, has := strings.Cut(u.Scheme, "+")
	if !slices.Contains(drivers, driver) {
		return bad("the drivers %s can be used, not %q", strings.Join(drivers, ", "), driver)
	}
	t.driver = driver
	switch {
	case has:
		t.transport = transport(kind)
	case t.host == "":
		t.transport = overUnix
	default:
		t.transport = overTLS
	}
	switch t.transport {
	case overUnix:
		if t.host != "" {
			return bad("a Unix socket is on no other host; qemu+ssh:// gets there")
		}
	case "libssh", "libssh2":
		t.transport = overSSH // by another client, to the same end
	case overTCP, overTLS, overSSH, overExt:
	default:
		return bad("there is no transport %q: unix, ssh, tls, tcp and ext are", kind)
	}
	if (t.transport == overTCP || t.transport == overTLS || t.transport == overSSH) && t.host == "" {
		t.host = "localhost"
	}
	if strings.HasPrefix(t.host, "-") || strings.HasPrefix(t.user, "-") {
		return bad("neither a user nor a host begins with a hyphen")
	}
	switch {
	case t.path == "" || t.path == "/":
		t.path = map[string]string{"test": "/default"}[driver]
		if t.path == "" {
			t.path = "/system"
		}
	case driver == "qemu" && t.path != "/system" && t.path != "/session":
		return bad("the path is /system or /session, not %q", t.path)
	}
	t.name = driver + "://" + t.path
	if err := t.parameters(u); err != nil {
		return bad("%v", err)
	}
	if t.transport == overExt && t.command == "" {
		return bad("the transport ext wants command=PROGRAM")
	}
	return t, nil
}

func (t *target) parameters(u *url.URL) error {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return err
	}
	var unknown []string
	for key, values := range query {
		value := values[len(values)-1]
		flag := value != "" && value != "0"
		switch key {
		case "name":
			if driver, _, _ := strings.Cut(value, ":"); driver != t.driver {
				return fmt.Errorf("name=%s is of another driver", value)
			}
			t.name = value
			if n, err := url.Parse(value); err == nil {
				t.path = n.Path
			}
		case "socket":
			t.socket = value
		case "keyfile":
			t.keyfile = value
		case "command":
			t.command = value
		case "netcat":
			t.netcat = value
		case "pkipath":
			t.pkipath = value
		case "known_hosts":
			t.knownHosts = value
		case "no_verify":
			t.noVerify = flag
		case "known_hosts_verify":
			t.noVerify = t.noVerify || value == "ignore"
		case "no_tty":
			t.noTTY = flag
		case "proxy":
			if !slices.Contains([]string{"auto", "netcat", "native"}, value) {
				return fmt.Errorf("proxy is auto, netcat or native, not %q", value)
			}
			t.proxy = value
		case "mode":
			if !slices.Contains([]string{"auto", "legacy", "direct"}, value) {
				return fmt.Errorf("mode is auto, legacy or direct, not %q", value)
			}
			t.mode = value
		case "sshauth", "tls_priority":
			// Of clients that we are not: OpenSSH and Go know what is safe.
		default:
			unknown = append(unknown, key)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return fmt.Errorf("unknown parameters: %s", strings.Join(unknown, ", "))
	}
	return nil
}
