package nbd_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ovation-project/ovation/disk/nbd"
	"github.com/ovation-project/ovation/internal/testenv"
)

// tool runs a program and gives what it prints.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), testenv.NeedTool(t, name), args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// exportTwo serves a read-only and a writable disk.
func exportTwo(t *testing.T) (socket string, r, w *memory) {
	r, w = newMemory(6<<20+512, 64<<10, 4), newMemory(6<<20+512, 64<<10, 5)
	return serve(t, &nbd.Server{Exports: []nbd.Export{
		{Name: "disk 1", Description: "the system", Image: r}, {Name: "w", Image: w, Target: w},
	}}), r, w
}

func uri(socket, export string) string {
	return nbd.URI(&net.UnixAddr{Name: socket, Net: "unix"}, export, false)
}

func TestNbdinfo(t *testing.T) {
	socket, r, _ := exportTwo(t)
	var info struct {
		Protocol   string
		TLS        bool
		Structured bool
		Exports    []struct {
			Name        string   `json:"export-name"`
			Description string   `json:"description"`
			Contexts    []string `json:"contexts"`
			ReadOnly    bool     `json:"is_read_only"`
			Multi       bool     `json:"can_multi_conn"`
			Trim        bool     `json:"can_trim"`
			Cache       bool     `json:"can_cache"`
			DF          bool     `json:"can_df"`
			Size        int64    `json:"export-size"`
			Preferred   int64    `json:"block_size_preferred"`
		}
	}
	out := tool(t, "nbdinfo", "--list", "--json", uri(socket, ""))
	if err := json.Unmarshal([]byte(out), &info); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if info.Protocol != "newstyle-fixed" || info.TLS || !info.Structured || len(info.Exports) != 2 {
		t.Fatalf("%+v", info)
	}
	a, b := info.Exports[0], info.Exports[1]
	if a.Name != "disk 1" || a.Description != "the system" || !a.ReadOnly || !a.Multi || a.Trim || !a.Cache || !a.DF ||
		a.Size != r.Size() || a.Preferred != 64<<10 || len(a.Contexts) != 1 || a.Contexts[0] != "base:allocation" {
		t.Errorf("%+v", a)
	}
	if b.Name != "w" || b.ReadOnly || b.Multi || !b.Trim {
		t.Errorf("%+v", b)
	}
	if got := tool(t, "nbdinfo", "--size", uri(socket, "disk 1")); strings.TrimSpace(got) != strconv.FormatInt(r.Size(), 10) {
		t.Errorf("size %s", got)
	}
	var runs []struct{ Offset, Length, Type int64 }
	out = tool(t, "nbdinfo", "--map", "--json", uri(socket, "disk 1"))
	if err := json.Unmarshal([]byte(out), &runs); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	at := int64(0)
	for _, x := range runs {
		if x.Offset != at {
			t.Errorf("a run at %d, want %d", x.Offset, at)
		}
		want := map[int64]int64{0: 3, 1: 2, 2: 0, 3: 0}[int64(r.kinds[at/r.block])]
		if x.Type != want {
			t.Errorf("type %d at %d, want %d", x.Type, at, want)
		}
		at += x.Length
	}
	if at != r.Size() {
		t.Errorf("the map ends at %d", at)
	}
}

func TestNbdcopy(t *testing.T) {
	socket, r, w := exportTwo(t)
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	tool(t, "nbdcopy", "--connections=4", uri(socket, "disk 1"), out)
	if b := must[[]byte](t)(os.ReadFile(out)); !bytes.Equal(b, r.b) {
		t.Error("the copy differs")
	}
	tool(t, "nbdcopy", "--flush", uri(socket, "disk 1"), uri(socket, "w"))
	if got, syncs := w.snapshot(); !bytes.Equal(got, r.b) || syncs == 0 {
		t.Errorf("the copy to the server differs, or was not flushed (%d)", syncs)
	}
	in := newMemory(r.Size(), 64<<10, 99)
	if err := os.WriteFile(out, in.b, 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, "nbdcopy", out, uri(socket, "w"))
	if got, _ := w.snapshot(); !bytes.Equal(got, in.b) {
		t.Error("the file's copy to the server differs")
	}
}

func TestQEMU(t *testing.T) {
	socket, r, w := exportTwo(t)
	dir := t.TempDir()
	raw, qcow := filepath.Join(dir, "raw"), filepath.Join(dir, "qcow2")
	if err := os.WriteFile(raw, r.b, 0o600); err != nil {
		t.Fatal(err)
	}
	from := uri(socket, "disk 1")
	tool(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", from, qcow)
	tool(t, "qemu-img", "compare", "-f", "qcow2", "-F", "raw", qcow, raw)
	tool(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", from, raw)
	out := tool(t, "qemu-img", "map", "--output=json", "-f", "raw", from)
	var runs []struct {
		Start, Length int64
		Zero          bool
	}
	if err := json.Unmarshal([]byte(out), &runs); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	zero := int64(0)
	for _, x := range runs {
		if x.Zero {
			zero += x.Length
		}
	}
	want := int64(0)
	for i, k := range r.kinds {
		if k <= 1 {
			want += min(r.block, r.Size()-int64(i)*r.block)
		}
	}
	if zero != want {
		t.Errorf("%d bytes are zeroes, want %d", zero, want)
	}

	to := uri(socket, "w")
	tool(t, "qemu-img", "convert", "-n", "-f", "qcow2", "-O", "raw", qcow, to)
	if got, _ := w.snapshot(); !bytes.Equal(got, r.b) {
		t.Error("converting to the server gave something else")
	}
	io := tool(t, "qemu-io", "-f", "raw", "-c", "write -P 0x5a 1000 70000", "-c", "read -P 0x5a 1000 70000",
		"-c", "write -z 4096 8192", "-c", "read -P 0 4096 8192", "-c", "discard 65536 65536", "-c", "flush",
		"-c", "read -P 0x5a 1000 3096", to)
	if strings.Contains(io, "failed") {
		t.Error(io)
	}
	after := bytes.Clone(r.b)
	copy(after[1000:], bytes.Repeat([]byte{0x5a}, 70000))
	clear(after[4096 : 4096+8192])
	clear(after[65536 : 2*65536])
	// qemu-io counts in sectors: what it wrote beside is what was there.
	if got, _ := w.snapshot(); !bytes.Equal(got, after) {
		t.Error("after qemu-io the disk differs")
	}
	refused := exec.CommandContext(t.Context(), testenv.NeedTool(t, "qemu-io"), "-f", "raw", "-c", "write 0 512", from)
	if out, err := refused.CombinedOutput(); err == nil {
		t.Errorf("a write to what is read-only: %s", out)
	}
}

func TestNbdClientLists(t *testing.T) {
	testenv.NeedTool(t, "nbd-client")
	m := newMemory(1<<20, 4096, 1)
	l := must[net.Listener](t)(nbd.Listen(t.Context(), "tcp:127.0.0.1:0"))
	start(t, &nbd.Server{Exports: []nbd.Export{{Name: "one", Image: m}, {Name: "two", Image: m}}}, l)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	out := tool(t, "nbd-client", "-l", "127.0.0.1", port)
	if !strings.Contains(out, "\none\ntwo\n") {
		t.Errorf("%q", out)
	}
}

// TestFourClients has other people's programs read at once.
func TestFourClients(t *testing.T) {
	socket, r, _ := exportTwo(t)
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 4 {
		out := filepath.Join(dir, strconv.Itoa(i))
		wg.Go(func() {
			if i%2 == 0 {
				tool(t, "nbdcopy", uri(socket, "disk 1"), out)
			} else {
				tool(t, "qemu-img", "convert", "-f", "raw", "-O", "raw", uri(socket, "disk 1"), out)
			}
			if b, err := os.ReadFile(out); err != nil || !bytes.Equal(b, r.b) {
				t.Errorf("client %d: the copy differs (%v)", i, err)
			}
		})
	}
	wg.Wait()
}

// certificates makes an authority, and one certificate that is good for a
// server at localhost and for a client, as the files that libnbd and QEMU want.
func certificates(t *testing.T) (dir string, pool *x509.CertPool, cert tls.Certificate) {
	t.Helper()
	dir, pool = t.TempDir(), x509.NewCertPool()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	ca := must[*x509.Certificate](t)(x509.ParseCertificate(der))
	pool.AddCert(ca)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	leafKey := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	leafDER := must[[]byte](t)(x509.CreateCertificate(rand.Reader, leaf, ca, leafKey.Public(), key))
	keyDER := must[[]byte](t)(x509.MarshalPKCS8PrivateKey(leafKey))
	caPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leafDER})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	for name, b := range map[string][]byte{"ca-cert.pem": caPEM, "client-cert.pem": certPEM, "client-key.pem": keyPEM} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, pool, must[tls.Certificate](t)(tls.X509KeyPair(certPEM, keyPEM))
}

func TestTLS(t *testing.T) {
	dir, pool, cert := certificates(t)
	m := newMemory(3<<20, 64<<10, 1)
	l := must[net.Listener](t)(nbd.Listen(t.Context(), "tcp:127.0.0.1:0"))
	start(t, &nbd.Server{
		Exports: []nbd.Export{{Name: "one", Image: m}},
		TLS:     &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool},
	}, l)

	// In the clear nothing is told.
	c := must[*client](t)(hello(must[net.Conn](t)(net.Dial("tcp", l.Addr().String()))))
	for _, code := range []uint32{3, 6, 7, 8, 10, 77} {
		r := must[[]optReply](t)(c.option(code, nil))
		if len(r) != 1 || r[0].kind != 1<<31|5 {
			t.Errorf("option %d in the clear: %v", code, r)
		}
	}
	// What is sent with STARTTLS, in the clear, is not taken for what comes
	// after it.
	both := append([]byte("IHAVEOPT\x00\x00\x00\x05\x00\x00\x00\x00"), "IHAVEOPT\x00\x00\x00\x08\x00\x00\x00\x00"...)
	must[int](t)(c.c.Write(both))
	if n, err := c.c.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes came after a STARTTLS with more behind it", n)
	}
	c.c.Close()

	// The same client by TLS.
	c = must[*client](t)(hello(must[net.Conn](t)(net.Dial("tcp", l.Addr().String()))))
	defer c.c.Close()
	if r := must[[]optReply](t)(c.option(5, nil)); r[0].kind != 1 {
		t.Fatalf("STARTTLS: %v", r)
	}
	c.c = tls.Client(c.c, &tls.Config{RootCAs: pool, ServerName: "localhost", Certificates: []tls.Certificate{cert}})
	if err := c.negotiate("one"); err != nil {
		t.Fatal(err)
	}
	if err := c.goTo("one"); err != nil {
		t.Fatal(err)
	}
	if res := must[result](t)(c.do(0, 0, 0, 3<<20, nil)); !bytes.Equal(res.data, m.b) {
		t.Error("a read by TLS differs")
	}

	_, port, _ := net.SplitHostPort(l.Addr().String())
	out := filepath.Join(dir, "out")
	tool(t, "nbdcopy", "nbds://localhost:"+port+"/one?tls-certificates="+dir, out)
	if b, err := os.ReadFile(out); err != nil || !bytes.Equal(b, m.b) {
		t.Errorf("a copy by TLS differs (%v)", err)
	}
	tool(t, "qemu-img", "convert", "--object", "tls-creds-x509,id=t,endpoint=client,dir="+dir, "--image-opts", "-O", "raw",
		"driver=nbd,host=localhost,port="+port+",export=one,tls-creds=t", out+"2")
	if b, err := os.ReadFile(out + "2"); err != nil || !bytes.Equal(b, m.b) {
		t.Errorf("QEMU's copy by TLS differs (%v)", err)
	}
}
