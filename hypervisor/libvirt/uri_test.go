package libvirt

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/testlibvirt"
)

func TestParseURI(t *testing.T) {
	for _, c := range []struct {
		uri, name, shown string
		transport        transport
	}{
		{"qemu:///system", "qemu:///system", "qemu:///system", overUnix},
		{"qemu:///session", "qemu:///session", "qemu:///session", overUnix},
		{"qemu+unix:///session?socket=/run/x", "qemu:///session", "qemu+unix:///session?socket=%2Frun%2Fx", overUnix},
		{"xen:///", "xen:///system", "xen:///system", overUnix},
		{"xen:///system", "xen:///system", "xen:///system", overUnix},
		{"test:///default", "test:///default", "test:///default", overUnix},
		{"qemu+ssh://root@example.org:2222/system", "qemu:///system", "qemu+ssh://root@example.org:2222/system", overSSH},
		{"qemu+libssh2://example.org/system", "qemu:///system", "qemu+ssh://example.org/system", overSSH},
		{"qemu://example.org/system", "qemu:///system", "qemu://example.org/system", overTLS},
		{"qemu+tls://example.org/system?no_verify=1&pkipath=/x", "qemu:///system", "qemu://example.org/system", overTLS},
		{"qemu+tcp://[2001:db8::1]:16509/system", "qemu:///system", "qemu+tcp://[2001:db8::1]:16509/system", overTCP},
		{"qemu+tcp:///system", "qemu:///system", "qemu+tcp://localhost/system", overTCP},
		{"qemu+ext:///system?command=/x", "qemu:///system", "qemu+ext:///system", overExt},
		{"qemu+ssh://h/session?name=qemu:///system", "qemu:///system", "qemu+ssh://h/system", overSSH},
	} {
		got, err := parseURI(c.uri)
		if err != nil {
			t.Errorf("%s: %v", c.uri, err)
			continue
		}
		if got.name != c.name || got.String() != c.shown || got.transport != c.transport {
			t.Errorf("%s: opens %s over %s, shown as %s", c.uri, got.name, got.transport, got)
		}
		if again, err := parseURI(got.String()); got.transport != overExt && (err != nil || again.String() != got.String() || again.name != got.name) {
			t.Errorf("%s is shown as %s, which is %v, %v", c.uri, got, again, err)
		}
		if !IsURI(c.uri) {
			t.Errorf("%s is nobody's", c.uri)
		}
	}
	for uri, want := range map[string]string{
		"esx://host/":                          "drivers qemu, xen, test",
		"qemu:system":                          "written as",
		"qemu:///other":                        "/system or /session",
		"qemu+unix://host/system":              "no other host",
		"qemu+carrier-pigeon://h/system":       "no transport",
		"qemu+ssh://-oProxyCommand=x/system":   "hyphen",
		"qemu+ssh://-lroot@h/system":           "hyphen",
		"qemu+ssh://u:secret@h/system":         "no passwords",
		"qemu:///system?no_verfiy=1":           "no_verfiy",
		"qemu+ssh://h/system?proxy=socks":      "proxy is",
		"qemu:///system?mode=x":                "mode is",
		"qemu:///system?name=lxc:///":          "another driver",
		"qemu+ext:///system":                   "command=",
		"qemu+ssh://u:secret@h:port/system":    "port",
		"qemu+ssh://u:secret@h/system?x=%zz#f": "written as",
	} {
		_, err := parseURI(uri)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", uri, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: a password is in the error: %v", uri, err)
		}
	}
}

func FuzzURI(f *testing.F) {
	f.Add("qemu+ssh://root@example.org:2222/system?socket=/x&keyfile=/y")
	f.Add("qemu:///session")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := parseURI(s)
		if err != nil {
			return
		}
		if strings.HasPrefix(u.host, "-") || strings.HasPrefix(u.user, "-") {
			t.Errorf("%q is an option of ssh's", s)
		}
		if i := slices.Index(u.sshArgs(), "--"); i < 0 || u.sshArgs()[i+1] != u.host {
			t.Errorf("%q: %q", s, u.sshArgs())
		}
	})
}

func TestSSHArgs(t *testing.T) {
	u, err := parseURI("qemu+ssh://me@h:2222/system?keyfile=/k&no_verify=1&no_tty=1&known_hosts=/kh")
	if err != nil {
		t.Fatal(err)
	}
	args := strings.Join(u.sshArgs(), " ")
	for _, want := range []string{"-T -e none", "-p 2222", "-l me", "-i /k", "BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/kh", "-- h sh -c ", "virt-ssh-helper", "/run/libvirt/libvirt-sock"} {
		if !strings.Contains(args, want) {
			t.Errorf("no %q in %s", want, args)
		}
	}
	for query, want := range map[string]string{"proxy=native": "exec virt-ssh-helper ", "proxy=netcat": "nc", "netcat=/opt/nc": "/opt/nc", "socket=/x/y": "/x/y"} {
		u, err := parseURI("qemu+ssh://h/system?" + query)
		if err != nil {
			t.Fatal(err)
		}
		script := u.remoteScript()
		if !strings.Contains(script, want) || query != "proxy=native" && strings.Contains(script, "virt-ssh-helper") {
			t.Errorf("%s: %s", query, script)
		}
	}
}

// netcatMarker makes the test program a netcat, of which not every machine has
// one.
const netcatMarker = "OVATION_TEST_NETCAT"

func TestMain(m *testing.M) {
	if os.Getenv(netcatMarker) == "" {
		os.Exit(m.Run())
	}
	i := slices.Index(os.Args, "-U")
	if i < 0 || i+1 >= len(os.Args) {
		os.Exit(1)
	}
	conn, err := net.Dial("unix", os.Args[i+1])
	if err != nil {
		os.Exit(1)
	}
	go func() {
		_, _ = io.Copy(conn, os.Stdin)
		os.Exit(0)
	}()
	_, _ = io.Copy(os.Stdout, conn)
}

// TestSSH goes through a program that takes ssh's place: it runs what ssh would
// have the other side run.
func TestSSH(t *testing.T) {
	d := daemon(t)
	dir := t.TempDir()
	ssh := filepath.Join(dir, "ssh")
	script := "#!/bin/sh\necho \"$@\" >" + dir + "/args\nwhile [ \"$1\" != -- ]; do shift; done\nshift 2\nexport XDG_RUNTIME_DIR=" + filepath.Join(d.Dir, "run") + "\nexec sh -c \"$*\"\n"
	if err := os.WriteFile(ssh, []byte(script), 0o700); err != nil { // #nosec G306
		t.Fatal(err)
	}
	netcat := filepath.Join(dir, "netcat")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(netcat, []byte("#!/bin/sh\n"+netcatMarker+"=1 exec "+self+" \"$@\"\n"), 0o700); err != nil { // #nosec G306
		t.Fatal(err)
	}
	h := open(t, fmt.Sprintf("qemu+ssh://me@somewhere/session?command=%s&netcat=%s&socket=%s", ssh, netcat, d.Socket), Options{Accel: "tcg"})
	pools, err := h.Pools(t.Context())
	if err != nil || len(pools) != 1 || pools[0].Local {
		t.Errorf("pools %+v, %v", pools, err)
	}
	if args, err := os.ReadFile(filepath.Join(dir, "args")); err != nil || !strings.Contains(string(args), "-l me") {
		t.Errorf("ssh was called with %s, %v", args, err)
	}
	// And with libvirt's own program on the other side, which takes root for
	// the system.
	if os.Getuid() != 0 {
		h = open(t, "qemu+ssh://somewhere/session?proxy=native&command="+ssh, Options{Accel: "tcg"})
		if pools, err := h.Pools(t.Context()); err != nil || len(pools) != 1 {
			t.Errorf("pools %+v, %v", pools, err)
		}
	}
	if err := os.WriteFile(ssh, []byte("#!/bin/sh\necho 'Host key verification failed.' >&2\nexit 255\n"), 0o700); err != nil { // #nosec G306
		t.Fatal(err)
	}
	_, err = Open(t.Context(), "qemu+ssh://somewhere/system?command="+ssh, Options{})
	if !errors.Is(err, hypervisor.ErrUnavailable) || !strings.Contains(err.Error(), "Host key verification failed") {
		t.Errorf("when ssh fails: %v", err)
	}
}

// pki makes an authority, and certificates for localhost and a client.
func pki(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var ca *x509.Certificate
	var caKey *ecdsa.PrivateKey
	for i, name := range []string{"ca", "server", "client"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, BasicConstraintsValid: true, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
		if ca == nil {
			c.IsCA, c.KeyUsage, c.ExtKeyUsage, c.DNSNames, c.IPAddresses = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil, nil, nil
			ca, caKey = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, ca, &key.PublicKey, caKey)
		if err != nil {
			t.Fatal(err)
		}
		keyDER, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		write(name+"cert.pem", "CERTIFICATE", der)
		write(name+"key.pem", "PRIVATE KEY", keyDER)
	}
	return dir
}

func TestTLS(t *testing.T) {
	dir := pki(t)
	d := testlibvirt.Start(t, testlibvirt.Options{PKI: dir})
	h := open(t, d.TLS+"?pkipath="+dir, Options{Accel: "tcg"})
	if _, err := h.Pools(t.Context()); err != nil {
		t.Error(err)
	}
	// A host that the authority does not vouch for, and a client that the host
	// does not know.
	stranger := pki(t)
	for _, uri := range []string{d.TLS + "?pkipath=" + stranger, d.TLS + "?no_verify=1&pkipath=" + stranger, d.TLS + "?pkipath=" + t.TempDir()} {
		if h, err := Open(t.Context(), uri, Options{}); !errors.Is(err, hypervisor.ErrUnavailable) {
			t.Errorf("%s: %v", uri, err)
			if err == nil {
				h.Close()
			}
		}
	}
}

func TestUnreachable(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// One who speaks something else, and one who says nothing more.
	replies := make(chan []byte, 2)
	replies <- []byte("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n")
	replies <- nil
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write(<-replies)
			if len(replies) == 0 {
				conn.Close()
				continue
			}
			go func() { _, _ = io.Copy(io.Discard, conn) }()
		}
	}()
	for _, uri := range []string{"qemu+unix:///system?socket=" + filepath.Join(dir, "absent"), "qemu+unix:///system?socket=" + filepath.Join(dir, "s"),
		"qemu+unix:///system?socket=" + filepath.Join(dir, "s"), "qemu+ext:///system?command=" + filepath.Join(dir, "absent")} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if _, err := Open(ctx, uri, Options{}); !errors.Is(err, hypervisor.ErrUnavailable) {
			t.Errorf("%s: %v", uri, err)
		}
		cancel()
	}
}

// FuzzPackets gives the splitter what a hostile daemon could send.
func FuzzPackets(f *testing.F) {
	packet := func(serial byte, kind, status byte, payload string) []byte {
		b := []byte{0, 0, 0, byte(28 + len(payload)), 0x20, 0, 0x80, 0x86, 0, 0, 0, 1, 0, 0, 0, 209, 0, 0, 0, kind, 0x40, 0, 0, serial, 0, 0, 0, status}
		return append(b, payload...)
	}
	f.Add(slices.Concat(packet(1, 1, 0, ""), packet(1, 3, 2, "data"), packet(1, 6, 2, "\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00"), packet(1, 3, 2, ""), packet(1, 3, 0, "")))
	f.Add(slices.Concat(packet(1, 1, 1, "\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x03abc\x00")))
	f.Add([]byte{0, 0, 0, 1})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		here, there := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, there) }()
		go func() {
			_, _ = there.Write(b)
			there.Close()
		}()
		s := newSplitter(here)
		defer s.Close()
		go func() { _, _ = io.Copy(io.Discard, s) }()
		st, err := s.open(t.Context(), procStorageVolumeDownload, nil, 1<<20)
		if err != nil {
			return
		}
		var got bytes.Buffer
		for {
			p, err := st.next(t.Context())
			if err != nil {
				return
			}
			got.Write(p.data)
			if got.Len() > len(b) || p.hole < 0 {
				t.Fatal("more came than was sent")
			}
		}
	})
}
