package signature

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/digitorus/timestamp"

	"github.com/ovation-project/ovation/internal/testenv"
)

const content = "SHA256(a.ovf)= e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n"

// openssl runs openssl in dir and gives what it printed.
func openssl(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command(testenv.NeedTool(t, "openssl"), args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func read(t testing.TB, elem ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// newKey makes key.pem and cert.pem in a folder.
func newKey(t testing.TB, kind ...string) string {
	t.Helper()
	dir := t.TempDir()
	openssl(t, dir, append([]string{"req", "-x509", "-nodes", "-days", "30", "-subj", "/CN=Vendor", "-keyout", "key.pem", "-out", "cert.pem", "-newkey"}, kind...)...)
	if err := os.WriteFile(filepath.Join(dir, "a.mf"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

var hashes = []struct {
	name string
	hash crypto.Hash
}{{"SHA1", crypto.SHA1}, {"SHA256", crypto.SHA256}, {"SHA384", crypto.SHA384}, {"SHA512", crypto.SHA512}}

var (
	rsaKey = []string{"rsa:2048"}
	ecKey  = []string{"ec", "-pkeyopt", "ec_paramgen_curve:P-256"}
)

func TestOpensslSignsAndWeCheck(t *testing.T) {
	for _, kind := range [][]string{rsaKey, ecKey} {
		dir := newKey(t, kind...)
		for _, h := range hashes {
			// The standard's recipe: the signature in hexadecimal, then the
			// certificate.
			openssl(t, dir, "dgst", "-"+strings.ToLower(h.name), "-sign", "key.pem", "-out", "sig", "a.mf")
			file := h.name + "(a.mf)= " + hex.EncodeToString(read(t, dir, "sig")) + "\n" + string(read(t, dir, "cert.pem"))
			for _, text := range []string{file, strings.ReplaceAll(file, "\n", "\r\n"), strings.Replace(file, "SHA", "sha-", 1)} {
				s, err := Parse([]byte(text))
				if err != nil {
					t.Fatalf("%s %s: %v\n%s", kind[0], h.name, err, text)
				}
				if err := s.Check([]byte(content)); err != nil {
					t.Errorf("%s %s: %v", kind[0], h.name, err)
				}
				if err := s.Check([]byte(content + "\n")); !errors.Is(err, ErrMismatch) {
					t.Errorf("%s %s over an altered manifest: %v", kind[0], h.name, err)
				}
			}
		}
	}
}

func TestWeSignAndOpensslChecks(t *testing.T) {
	for _, kind := range [][]string{rsaKey, ecKey} {
		dir := newKey(t, kind...)
		id, err := LoadIdentity(nil, read(t, dir, "key.pem"), read(t, dir, "cert.pem"))
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range hashes {
			s, err := Sign(rand.Reader, []byte(content), "a.mf", h.hash, id.Key, id.Chain)
			if err != nil {
				t.Fatal(err)
			}
			again, err := Parse(s.Marshal())
			if err != nil {
				t.Fatal(err)
			}
			if again.Manifest != "a.mf" || again.Hash != h.hash || !bytes.Equal(again.Value, s.Value) {
				t.Errorf("%s: read back as %+v", h.name, again)
			}
			if err := os.WriteFile(filepath.Join(dir, "sig"), s.Value, 0o600); err != nil {
				t.Fatal(err)
			}
			openssl(t, dir, "x509", "-in", "cert.pem", "-noout", "-pubkey", "-out", "pub.pem")
			if out := openssl(t, dir, "dgst", "-"+strings.ToLower(h.name), "-verify", "pub.pem", "-signature", "sig", "a.mf"); !strings.Contains(out, "Verified OK") {
				t.Errorf("%s %s: openssl says %q", kind[0], h.name, out)
			}
		}
	}
}

func TestLoadIdentity(t *testing.T) {
	dir, other := newKey(t, rsaKey...), newKey(t, ecKey...)
	openssl(t, dir, "pkcs8", "-topk8", "-in", "key.pem", "-out", "locked.pem", "-passout", "pass:secret")
	openssl(t, dir, "rsa", "-in", "key.pem", "-traditional", "-aes128", "-out", "old.pem", "-passout", "pass:secret")
	openssl(t, dir, "pkcs12", "-export", "-inkey", "key.pem", "-in", "cert.pem", "-out", "id.p12", "-passout", "pass:secret")
	cert, key := read(t, dir, "cert.pem"), read(t, dir, "key.pem")
	both := append(read(t, other, "cert.pem"), cert...) // the signer's own last
	for _, c := range []struct {
		name     string
		password string
		files    [][]byte
		is       error
		err      string
	}{
		{name: "key and certificate apart", files: [][]byte{key, cert}},
		{name: "certificate first", files: [][]byte{cert, key}},
		{name: "in one file", files: [][]byte{append(append([]byte{}, key...), cert...)}},
		{name: "the signer's certificate last", files: [][]byte{key, both}},
		{name: "PKCS #12", password: "secret", files: [][]byte{read(t, dir, "id.p12")}},
		{name: "PKCS #12, wrong password", password: "no", files: [][]byte{read(t, dir, "id.p12")}, is: ErrPassword},
		{name: "encrypted PKCS #8", password: "secret", files: [][]byte{read(t, dir, "locked.pem"), cert}},
		{name: "encrypted PKCS #8, no password", files: [][]byte{read(t, dir, "locked.pem"), cert}, is: ErrPassword},
		{name: "encrypted PKCS #8, wrong password", password: "no", files: [][]byte{read(t, dir, "locked.pem"), cert}, is: ErrPassword},
		{name: "encrypted in the old way", password: "secret", files: [][]byte{read(t, dir, "old.pem"), cert}, err: "openssl pkcs8 -topk8"},
		{name: "no key", files: [][]byte{cert}, err: "no private key"},
		{name: "no certificate", files: [][]byte{key}, err: "no certificate"},
		{name: "another's certificate", files: [][]byte{key, read(t, other, "cert.pem")}, err: "belongs to the private key"},
		{name: "two keys", files: [][]byte{key, read(t, other, "key.pem"), cert}, err: "more than one"},
		{name: "neither", files: [][]byte{[]byte("hello")}, err: "neither PEM nor PKCS #12"},
	} {
		t.Run(c.name, func(t *testing.T) {
			id, err := LoadIdentity([]byte(c.password), c.files...)
			switch {
			case c.is != nil && !errors.Is(err, c.is), c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Fatalf("error %v", err)
			case c.is != nil || c.err != "":
				if c.password != "" && strings.Contains(err.Error(), c.password) && c.password != "no" {
					t.Errorf("the error tells the password: %v", err)
				}
				return
			case err != nil:
				t.Fatal(err)
			}
			if _, err := Sign(rand.Reader, []byte(content), "a.mf", crypto.SHA256, id.Key, id.Chain); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	dir := newKey(t, ecKey...)
	cert := string(read(t, dir, "cert.pem"))
	twice := stamped(t, dir)
	twice = append(twice, twice[bytes.Index(twice, []byte("-----BEGIN CMS-----")):]...)
	for _, c := range []struct{ name, text, err string }{
		{"nothing", "", "no line ALGORITHM"},
		{"only a certificate", cert, "no line ALGORITHM"},
		{"no certificate", "SHA256(a.mf)= 00\n", "no certificate"},
		{"another line", "hello\n" + cert, "line 1 is not of the form"},
		{"two signatures", "SHA1(a.mf)= 00\nSHA1(b.mf)= 00\n" + cert, "line 2 is a second signature"},
		{"an unknown algorithm", "MD5(a.mf)= 00\n" + cert, `unknown digest algorithm "MD5"`},
		{"not hexadecimal", "SHA1(a.mf)= 0g!\n" + cert, "neither hexadecimal nor base64"},
		{"a private key", "SHA1(a.mf)= 00\n" + cert + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no secret"},
		{"a broken certificate", "SHA1(a.mf)= 00\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "certificate 1"},
		{"a broken stamp", "SHA1(a.mf)= 00\n" + cert + "-----BEGIN CMS-----\nAAAA\n-----END CMS-----\n", "time stamp"},
		{"two stamps", string(twice), "more than one time stamp"},
		{"a large stamp", "SHA1(a.mf)= 00\n" + cert + string(pem.EncodeToMemory(&pem.Block{Type: "CMS", Bytes: make([]byte, MaxStamp+1)})), "at most 65536 are read"},
		{"too large", strings.Repeat(" ", MaxSize+1), "at most"},
	} {
		_, err := Parse([]byte(c.text))
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.err)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	dir := newKey(t, rsaKey...)
	id, err := LoadIdentity(nil, read(t, dir, "key.pem"), read(t, dir, "cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"MD5":           second(Sign(rand.Reader, nil, "a.mf", crypto.MD5, id.Key, id.Chain)),
		"no chain":      second(Sign(rand.Reader, nil, "a.mf", crypto.SHA256, id.Key, nil)),
		"a line break":  second(Sign(rand.Reader, nil, "a\n.mf", crypto.SHA256, id.Key, id.Chain)),
		"an Ed25519key": second(Sign(rand.Reader, nil, "a.mf", crypto.SHA256, ed, id.Chain)),
	} {
		if err == nil {
			t.Errorf("Sign takes %s", name)
		}
	}
}

func second(_ *Signature, err error) error { return err }

// stamped is a certificate file with a time stamp, both by the key in dir.
func stamped(t testing.TB, dir string) []byte {
	t.Helper()
	id, err := LoadIdentity(nil, read(t, dir, "key.pem"), read(t, dir, "cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Sign(rand.Reader, []byte(content), "a.mf", crypto.SHA256, id.Key, id.Chain)
	if err != nil {
		t.Fatal(err)
	}
	ask, err := s.StampRequest()
	if err != nil {
		t.Fatal(err)
	}
	req, err := timestamp.ParseRequest(ask)
	if err != nil {
		t.Fatal(err)
	}
	answer := timestamp.Timestamp{HashAlgorithm: req.HashAlgorithm, HashedMessage: req.HashedMessage, Time: time.Unix(1e9, 0), Policy: []int{1, 2, 3}, SerialNumber: big.NewInt(1), AddTSACertificate: true}
	der, err := answer.CreateResponseWithOpts(id.Chain[0], id.Key, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.AddStamp(der); err != nil {
		t.Fatal(err)
	}
	return s.Marshal()
}

// FuzzStamp is for tokens, which come from strangers like all of the file.
func FuzzStamp(f *testing.F) {
	s, err := Parse(stamped(f, newKey(f, ecKey...)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.Stamp.Token)
	f.Fuzz(func(t *testing.T, token []byte) {
		if len(token) > MaxSize {
			return
		}
		stamp, err := parseStamp(token, s.Value)
		if err == nil && stamp.Signer == nil && len(stamp.Certificates) > 0 {
			t.Error("a stamp with certificates and without a signer")
		}
	})
}

func FuzzParse(f *testing.F) {
	dir := newKey(f, ecKey...)
	cert := string(read(f, dir, "cert.pem"))
	f.Add([]byte("SHA256(a.mf)= 0011\n" + cert))
	f.Add([]byte("SHA1(a (1).mf)= AAAA\r\n\r\n" + cert))
	f.Add([]byte("-----BEGIN CMS-----\nMAA=\n-----END CMS-----"))
	f.Add(stamped(f, dir))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse(data)
		if err != nil {
			return
		}
		_ = s.Check([]byte(content))
		again, err := Parse(s.Marshal())
		if err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		if again.Hash != s.Hash || !bytes.Equal(again.Value, s.Value) || len(again.Certificates) != len(s.Certificates) {
			t.Fatalf("read again as another: %+v, %+v", s, again)
		}
	})
}
