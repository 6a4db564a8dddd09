package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/digitorus/timestamp"
	"github.com/google/go-cmp/cmp"

	"github.com/ovation-project/ovation/appliance/signature"
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

// stamped gives a signature by signer with a time stamp of at.
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

func TestATimeStampCountsWhenItsAuthorityIsTrusted(t *testing.T) {
	root := issue(t, "Root", nil, authority)
	expired := issue(t, "Expired", root, func(c *x509.Certificate) { c.NotAfter = now.AddDate(-1, 0, 0) })
	stamping := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping} }
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
