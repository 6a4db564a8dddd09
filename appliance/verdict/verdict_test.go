package verdict_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/signature"
	"github.com/ovation-project/ovation/appliance/trust"
	"github.com/ovation-project/ovation/appliance/verdict"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const mf = "SHA256(a.ovf)= e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n"

// signed gives a certificate file for mf, and its signer's fingerprint.
func signed(t *testing.T) ([]byte, trust.Fingerprint) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Vendor"}, NotBefore: now.AddDate(0, -1, 0), NotAfter: now.AddDate(0, 1, 0), KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signature.Sign(rand.Reader, []byte(mf), "a.mf", crypto.SHA256, key, []*x509.Certificate{c})
	if err != nil {
		t.Fatal(err)
	}
	return s.Marshal(), trust.FingerprintOf(c)
}

func TestAnswers(t *testing.T) {
	cert, pin := signed(t)
	nobody, friends := &trust.Store{}, &trust.Store{}
	friends.Pin(pin)
	good := []appliance.FileReport{{Name: "a.ovf", State: appliance.OK}}
	bad := []appliance.FileReport{{Name: "a.ovf", State: appliance.Altered, Detail: "a.ovf was altered"}}
	gone := []appliance.FileReport{{Name: "a.ovf", State: appliance.Missing, Detail: "a.ovf is missing"}}
	for name, c := range map[string]struct {
		manifest string
		cert     []byte
		files    []appliance.FileReport
		store    *trust.Store
		answer   verdict.Answer
		reason   string
	}{
		"trusted":           {mf, cert, good, friends, verdict.Trusted, ""},
		"unknown":           {mf, cert, good, nobody, verdict.UnknownSigner, "signed by itself"},
		"unsigned":          {mf, nil, good, friends, verdict.Unsigned, ""},
		"no manifest":       {"", nil, nil, friends, verdict.NoManifest, "nothing shows"},
		"lost manifest":     {"", cert, good, friends, verdict.Incomplete, "signs a manifest, which is missing"},
		"other manifest":    {mf + "SHA256(b)= " + strings.Repeat("0", 64) + "\n", cert, good, friends, verdict.Altered, "does not match"},
		"not a certificate": {mf, []byte("x"), good, friends, verdict.Altered, "line 1"},
		"altered file":      {mf, cert, bad, friends, verdict.Altered, "a.ovf was altered"},
		"altered, unsigned": {mf, nil, bad, friends, verdict.Altered, "a.ovf was altered"},
		"missing file":      {mf, cert, gone, friends, verdict.Incomplete, "a.ovf is missing"},
		"missing and forged": {mf + "\n\nSHA1(x)= " + strings.Repeat("0", 40), cert, gone, friends, verdict.Altered,
			"does not match"},
	} {
		r := &appliance.Report{Files: c.files, ManifestData: []byte(c.manifest), CertificateData: c.cert}
		if c.manifest != "" {
			r.Manifest = "a.mf"
		}
		if c.cert != nil {
			r.Certificate = "a.cert"
		}
		v := verdict.Of(r, c.store, now)
		if v.Answer != c.answer || !strings.Contains(v.String(), c.reason) {
			t.Errorf("%s: %s", name, v)
		}
	}
}

func TestPolicy(t *testing.T) {
	parse := func(text string) verdict.Policy {
		p, err := verdict.ParsePolicy([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	all := []verdict.Answer{verdict.Trusted, verdict.UnknownSigner, verdict.Unsigned, verdict.NoManifest, verdict.Incomplete, verdict.Altered}
	for _, c := range []struct{ text, want string }{
		{"", ".wwwrr"},
		{"unsigned: refuse", ".wrwrr"},
		{"no-manifest: allow\nunsigned: allow\nunknown-signer: allow", "....rr"},
		{"no-manifest: refuse\nunknown-signer: refuse", ".rwrrr"},
	} {
		got := ""
		for _, a := range all {
			warning, err := parse(c.text).Decide(&verdict.Verdict{Answer: a})
			switch {
			case err != nil && warning == "":
				got += "r"
				is := verdict.ErrUntrusted
				switch a {
				case verdict.Altered:
					is = appliance.ErrAltered
				case verdict.Incomplete:
					is = appliance.ErrIncomplete
				}
				if !errors.Is(err, is) {
					t.Errorf("%s: %v", a, err)
				}
			case warning != "":
				got += "w"
			default:
				got += "."
			}
		}
		if got != c.want {
			t.Errorf("%q: %s, and %s is expected", c.text, got, c.want)
		}
	}
	for _, text := range []string{"unsinged: refuse", "unsigned: never", "- a", "pins: 7", "\x00", "unsigned: warn\n---\nunsigned: refuse", "unsigned: warn\nunsigned: refuse"} {
		if p, err := verdict.ParsePolicy([]byte(text)); err == nil {
			t.Errorf("%q is taken as %+v", text, p)
		}
	}
}

func TestPolicyStore(t *testing.T) {
	no := false
	if _, err := (verdict.Policy{SystemRoots: &no, Pins: []string{"abc"}}).Store(nil); err == nil {
		t.Error("a fingerprint of three digits is taken")
	}
	gone := errors.New("gone")
	if _, err := (verdict.Policy{SystemRoots: &no, Authorities: []string{"x"}}).Store(func(string) ([]byte, error) { return nil, gone }); !errors.Is(err, gone) {
		t.Error(err)
	}
}
