package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/digitorus/pkcs7"
	"github.com/digitorus/timestamp"
	"github.com/google/go-cmp/cmp"

	"github.com/ovation-project/ovation/appliance/signature"
	"github.com/ovation-project/ovation/internal/testenv"
)

var (
	t2020 = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	t2030 = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	now   = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
)

// party is a certificate with its key.
type party struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

var serial int64

// issue makes a certificate: by itself where by is nil.
func issue(t *testing.T, cn string, by *party, change func(*x509.Certificate)) *party {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial++
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: cn},
		NotBefore: t2020, NotAfter: t2030, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if change != nil {
		change(c)
	}
	parent, signer := c, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &party{cert, key}
}

func authority(c *x509.Certificate) {
	c.IsCA = true
	c.KeyUsage = x509.KeyUsageCertSign
}

func TestAssess(t *testing.T) {
	manifest := []byte("SHA256(a.ovf)= 00\n")
	root := issue(t, "Root", nil, authority)
	middle := issue(t, "Middle", root, authority)
	oldMiddle := issue(t, "Old middle", root, func(c *x509.Certificate) { authority(c); c.NotAfter = now.AddDate(-1, 0, 0) })
	vendor := issue(t, "Vendor", middle, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} })
	expired := issue(t, "Expired", middle, func(c *x509.Certificate) { c.NotAfter = now.AddDate(0, -1, 0) })
	early := issue(t, "Early", middle, func(c *x509.Certificate) { c.NotBefore = now.AddDate(0, 1, 0) })
	server := issue(t, "Server", middle, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	cipher := issue(t, "Cipher", middle, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })
	alone := issue(t, "Alone", nil, nil)
	underOld := issue(t, "Under old", oldMiddle, nil)

	for _, c := range []struct {
		name  string
		chain []*party
		trust *party // as an authority
		pin   *party
		data  string // what is checked instead of the manifest
		want  []Kind
	}{
		{name: "a chain to a trusted root", chain: []*party{vendor, middle}, trust: root},
		{name: "the root is in the file as well", chain: []*party{vendor, middle, root}, trust: root},
		{name: "the middle is trusted", chain: []*party{vendor}, trust: middle},
		{name: "nothing is trusted", chain: []*party{vendor, middle, root}, want: []Kind{UnknownAuthority}},
		{name: "the middle is missing", chain: []*party{vendor}, trust: root, want: []Kind{BrokenChain}},
		{name: "the middle leads on to nothing", chain: []*party{vendor, middle}, trust: alone, want: []Kind{BrokenChain}},
		{name: "pinned", chain: []*party{vendor}, pin: vendor},
		{name: "the middle is pinned", chain: []*party{vendor, middle}, pin: middle},
		{name: "self-signed", chain: []*party{alone}, trust: root, want: []Kind{SelfSigned}},
		{name: "self-signed and pinned", chain: []*party{alone}, pin: alone},
		{name: "self-signed and trusted", chain: []*party{alone}, trust: alone},
		{name: "expired", chain: []*party{expired, middle}, trust: root, want: []Kind{Expired}},
		{name: "expired and unknown", chain: []*party{expired, middle, root}, want: []Kind{UnknownAuthority, Expired}},
		{name: "expired and pinned", chain: []*party{expired}, pin: expired, want: []Kind{Expired}},
		{name: "an expired middle", chain: []*party{underOld, oldMiddle}, trust: root, want: []Kind{Expired}},
		{name: "not yet valid", chain: []*party{early, middle}, trust: root, want: []Kind{NotYetValid}},
		{name: "a server's certificate", chain: []*party{server, middle}, trust: root, want: []Kind{WrongUsage}},
		{name: "a certificate for encryption", chain: []*party{cipher, middle}, trust: root, want: []Kind{WrongUsage}},
		{name: "an altered manifest", chain: []*party{vendor, middle}, trust: root, data: "SHA256(a.ovf)= 01\n", want: []Kind{Mismatch}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var certs []*x509.Certificate
			for _, p := range c.chain {
				certs = append(certs, p.cert)
			}
			sig, err := signature.Sign(rand.Reader, manifest, "a.mf", crypto.SHA256, c.chain[0].key, certs)
			if err != nil {
				t.Fatal(err)
			}
			var s Store
			if c.trust != nil {
				if err := s.AddPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.trust.cert.Raw})); err != nil {
					t.Fatal(err)
				}
			}
			if c.pin != nil {
				s.Pin(FingerprintOf(c.pin.cert))
			}
			data := manifest
			if c.data != "" {
				data = []byte(c.data)
			}
			a := s.Assess(sig, data, now)
			var got []Kind
			for _, p := range a.Problems {
				got = append(got, p.Kind)
				t.Log(p.Text)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if a.Trusted() != (len(c.want) == 0) {
				t.Errorf("Trusted() = %v", a.Trusted())
			}
			if a.Pinned != (c.pin != nil) {
				t.Errorf("Pinned = %v", a.Pinned)
			}
		})
	}
}

// stamped gives a signature by signer with a time stamp of at by tsa.
func stamped(t *testing.T, signer, tsa *party, chain []*x509.Certificate, at time.Time) *signature.Signature {
	t.Helper()
	sig, err := signature.Sign(rand.Reader, []byte("manifest"), "a.mf", crypto.SHA256, signer.key, chain)
	if err != nil {
		t.Fatal(err)
	}
	ask, err := sig.StampRequest()
	if err != nil {
		t.Fatal(err)
	}
	req, err := timestamp.ParseRequest(ask)
	if err != nil {
		t.Fatal(err)
	}
	answer := timestamp.Timestamp{
		HashAlgorithm: req.HashAlgorithm, HashedMessage: req.HashedMessage, Time: at,
		Policy: []int{1, 2, 3}, SerialNumber: big.NewInt(1), AddTSACertificate: true,
	}
	der, err := answer.CreateResponseWithOpts(tsa.cert, tsa.key, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if err := sig.AddStamp(der); err != nil {
		t.Fatal(err)
	}
	again, err := signature.Parse(sig.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func stamping(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping} }

// TestAStampIsBelievedForItsSignerOnly has somebody with an old key of a vendor's
// stamp signatures himself, and put the certificate of an authority that is
// believed beside his own.
func TestAStampIsBelievedForItsSignerOnly(t *testing.T) {
	root := issue(t, "Root", nil, authority)
	expired := issue(t, "Expired", root, func(c *x509.Certificate) { c.NotAfter = now.AddDate(-1, 0, 0) })
	tsa := issue(t, "TSA", root, stamping)
	forger := issue(t, "TSA", nil, stamping)
	plain := issue(t, "Vendor", root, nil) // for anything, time stamps not named
	var s Store
	s.pool().AddCert(root.cert)
	chain := []*x509.Certificate{expired.cert}
	when := now.AddDate(-2, 0, 0)
	forged := stamped(t, expired, forger, chain, when)
	for name, token := range map[string][]byte{
		"beside the authority's":          sealed(t, forged.Stamp.Token, tstInfo, forger, tsa.cert),
		"by a certificate for all things": sealed(t, forged.Stamp.Token, tstInfo, plain, nil),
	} {
		sig, err := replaceToken(forged, token)
		if err != nil {
			t.Fatal(err)
		}
		if sig.Stamp.Signer == nil || sig.Stamp.Signer.Equal(tsa.cert) {
			t.Errorf("%s: the stamp is taken to be by %v", name, sig.Stamp.Signer)
		}
		if a := s.Assess(sig, []byte("manifest"), now); a.Trusted() || !a.Has(Expired) || !a.Has(BadStamp) {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

var tstInfo = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}

// sealed has somebody sign what is in a token, with another's certificate before
// his own.
func sealed(t *testing.T, token []byte, kind asn1.ObjectIdentifier, by *party, before *x509.Certificate) []byte {
	t.Helper()
	p, err := pkcs7.Parse(token)
	if err != nil {
		t.Fatal(err)
	}
	sd, err := pkcs7.NewSignedData(p.Content)
	if err != nil {
		t.Fatal(err)
	}
	sd.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	sd.SetContentType(kind)
	if before != nil {
		sd.AddCertificate(before)
	}
	if err := sd.AddSigner(by.cert, by.key, pkcs7.SignerInfoConfig{}); err != nil {
		t.Fatal(err)
	}
	der, err := sd.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// replaceToken reads a certificate file with another token in it.
func replaceToken(sig *signature.Signature, token []byte) (*signature.Signature, error) {
	other := *sig
	other.Stamp = &signature.Stamp{Token: token}
	return signature.Parse(other.Marshal())
}

// TestATokenIsATimeStamp has an authority sign the same bytes as something else.
func TestATokenIsATimeStamp(t *testing.T) {
	root := issue(t, "Root", nil, authority)
	vendor, tsa := issue(t, "Vendor", root, nil), issue(t, "TSA", root, stamping)
	sig := stamped(t, vendor, tsa, []*x509.Certificate{vendor.cert}, now)
	if _, err := replaceToken(sig, sealed(t, sig.Stamp.Token, pkcs7.OIDData, tsa, nil)); !errors.Is(err, signature.ErrFormat) {
		t.Errorf("data that can be read as a time stamp is taken for one: %v", err)
	}
}

// TestOpenSSLStamps has OpenSSL be the authority.
func TestOpenSSLStamps(t *testing.T) {
	openssl := testenv.NeedTool(t, "openssl")
	root := issue(t, "Root", nil, authority)
	vendor := issue(t, "Vendor", root, nil)
	tsa := issue(t, "TSA", root, func(c *x509.Certificate) {
		// Critical, as the standard has it and OpenSSL asks for.
		usage, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
		if err != nil {
			t.Fatal(err)
		}
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: usage}}
	})
	sig, err := signature.Sign(rand.Reader, []byte("manifest"), "a.mf", crypto.SHA256, vendor.key, []*x509.Certificate{vendor.cert})
	if err != nil {
		t.Fatal(err)
	}
	ask, err := sig.StampRequest()
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalECPrivateKey(tsa.key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"ask": ask, "serial": []byte("01\n"),
		"tsa.pem":  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tsa.cert.Raw}),
		"tsa.key":  pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key}),
		"root.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.cert.Raw}),
		"config": []byte("[tsa]\ndefault_tsa = here\n[here]\nserial = serial\ncrypto_device = builtin\nsigner_cert = tsa.pem\nsigner_key = tsa.key\n" +
			"signer_digest = sha256\ndefault_policy = 1.2.3.4\ndigests = sha256\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command(openssl, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
	}
	run("ts", "-reply", "-queryfile", "ask", "-config", "config", "-out", "answer")
	answer, err := os.ReadFile(filepath.Join(dir, "answer"))
	if err != nil {
		t.Fatal(err)
	}
	if err := sig.AddStamp(answer); err != nil {
		t.Fatal(err)
	}
	again, err := signature.Parse(sig.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	var s Store
	s.pool().AddCert(root.cert)
	if a := s.Assess(again, []byte("manifest"), time.Now()); !a.Trusted() || time.Since(a.SignedAt) > time.Hour || a.SignedAt.IsZero() {
		t.Errorf("%+v", a)
	}
	// And it is OpenSSL's again when it has been in the certificate file.
	if err := os.WriteFile(filepath.Join(dir, "token"), again.Stamp.Token, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "value"), again.Value, 0o600); err != nil {
		t.Fatal(err)
	}
	run("ts", "-verify", "-data", "value", "-in", "token", "-token_in", "-CAfile", "root.pem")
}

// TestARenewedAuthority has a package carry the certificate of an authority that
// has run out since, whose new one is trusted here.
func TestARenewedAuthority(t *testing.T) {
	root := issue(t, "Root", nil, authority)
	renewed := &party{cert: root.cert, key: root.key}
	old := *root.cert
	old.NotAfter, old.SerialNumber = now.AddDate(0, -1, 0), big.NewInt(4711)
	der, err := x509.CreateCertificate(rand.Reader, &old, &old, root.key.Public(), root.key)
	if err != nil {
		t.Fatal(err)
	}
	ranOut, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	vendor := issue(t, "Vendor", root, nil)
	sig, err := signature.Sign(rand.Reader, []byte("manifest"), "a.mf", crypto.SHA256, vendor.key, []*x509.Certificate{vendor.cert, ranOut})
	if err != nil {
		t.Fatal(err)
	}
	var s Store
	s.pool().AddCert(ranOut)
	if a := s.Assess(sig, []byte("manifest"), now); a.Trusted() || !a.Has(Expired) {
		t.Errorf("only the old one is trusted: %+v", a)
	}
	s.pool().AddCert(renewed.cert)
	if a := s.Assess(sig, []byte("manifest"), now); !a.Trusted() {
		t.Errorf("the new one is trusted too: %+v", a)
	}
}

// TestKeysThatProveNothing has signatures of which nobody can say whether they
// are right: that is not the same as a package that was altered.
func TestKeysThatProveNothing(t *testing.T) {
	n := new(big.Int).Lsh(big.NewInt(1), 767)
	small := &rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: 65537}
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := issue(t, "Root", nil, authority)
	for name, public := range map[string]any{"768 bits": small, "Ed25519": ed} {
		c := &x509.Certificate{SerialNumber: big.NewInt(9), Subject: pkix.Name{CommonName: "Vendor"}, NotBefore: t2020, NotAfter: t2030}
		der, err := x509.CreateCertificate(rand.Reader, c, root.cert, public, root.key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		var s Store
		s.pool().AddCert(root.cert)
		s.Pin(FingerprintOf(cert))
		sig := &signature.Signature{Hash: crypto.SHA256, Manifest: "a.mf", Value: make([]byte, 96), Certificates: []*x509.Certificate{cert}}
		if a := s.Assess(sig, []byte("manifest"), now); a.Trusted() || !a.Has(WeakKey) || a.Has(Mismatch) {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

func TestATimeStampCountsWhenItsAuthorityIsTrusted(t *testing.T) {
	root := issue(t, "Root", nil, authority)
	expired := issue(t, "Expired", root, func(c *x509.Certificate) { c.NotAfter = now.AddDate(-1, 0, 0) })
	tsa := issue(t, "TSA", root, stamping)
	stranger := issue(t, "Stranger", nil, stamping)
	var s Store
	s.pool().AddCert(root.cert)
	chain := []*x509.Certificate{expired.cert}
	when := now.AddDate(-2, 0, 0)

	if a := s.Assess(stamped(t, expired, tsa, chain, when), []byte("manifest"), now); !a.Trusted() || !a.SignedAt.Equal(when) {
		t.Errorf("signed while the certificate was valid: %+v", a)
	}
	if a := s.Assess(stamped(t, expired, tsa, chain, now.AddDate(0, -1, 0)), []byte("manifest"), now); a.Trusted() || !a.Has(Expired) {
		t.Errorf("signed after the certificate expired: %+v", a)
	}
	if a := s.Assess(stamped(t, expired, stranger, chain, when), []byte("manifest"), now); a.Trusted() || !a.Has(Expired) || !a.Has(BadStamp) {
		t.Errorf("stamped by a stranger: %+v", a)
	}
	if a := s.Assess(stamped(t, expired, tsa, chain, now.AddDate(1, 0, 0)), []byte("manifest"), now); !a.Has(BadStamp) {
		t.Errorf("stamped in the future: %+v", a)
	}
}

func TestParseFingerprint(t *testing.T) {
	f := Fingerprint(bytes.Repeat([]byte{0xab}, 32))
	for _, in := range []string{f.String(), strings.ReplaceAll(f.String(), ":", ""), "sha256:" + strings.ToLower(f.String())} {
		if got, err := ParseFingerprint(in); err != nil || got != f {
			t.Errorf("ParseFingerprint(%q) = %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "ab", strings.Repeat("g", 64), strings.Repeat("ab", 20)} {
		if _, err := ParseFingerprint(in); err == nil {
			t.Errorf("ParseFingerprint(%q) takes it", in)
		}
	}
}
