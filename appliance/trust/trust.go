// Package trust decides whether the signer of an OVF package is to be
// believed: by the system's certificate authorities, by authorities that a
// user names, or by the fingerprint of a certificate.
//
// It says every reason against a signer at once, each with its own Kind, so
// that a person can tell a certificate that has run out from one that nobody
// vouches for.
package trust

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ovation-project/ovation/appliance/signature"
)

// Fingerprint is the SHA-256 digest of a certificate's DER form.
type Fingerprint [sha256.Size]byte

// FingerprintOf gives a certificate's fingerprint.
func FingerprintOf(c *x509.Certificate) Fingerprint { return sha256.Sum256(c.Raw) }

// String gives the fingerprint as openssl does: bytes in hexadecimal with
// colons between.
func (f Fingerprint) String() string {
	parts := make([]string, len(f))
	for i, b := range f {
		parts[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(parts, ":")
}

// ParseFingerprint reads 64 hexadecimal digits, with or without colons, and
// with or without "sha256:" before them.
func ParseFingerprint(s string) (Fingerprint, error) {
	t := strings.ToLower(strings.TrimSpace(s))
	t = strings.TrimPrefix(t, "sha256:")
	b, err := hex.DecodeString(strings.ReplaceAll(t, ":", ""))
	var f Fingerprint
	if err != nil || len(b) != len(f) {
		return f, fmt.Errorf("%q is not a SHA-256 fingerprint: 64 hexadecimal digits are expected, as 'openssl x509 -noout -fingerprint -sha256' prints them", s)
	}
	return Fingerprint(b), nil
}

// Kind is a reason against a signer.
type Kind string

// The reasons against a signer.
const (
	// Mismatch: the signature is not by the certificate's key over this
	// manifest.
	Mismatch Kind = "mismatch"
	// Expired and NotYetValid: the certificate, or one above it, was not
	// valid at the time.
	Expired     Kind = "expired"
	NotYetValid Kind = "not-yet-valid"
	// WrongUsage: the certificate was not issued to sign with.
	WrongUsage Kind = "wrong-usage"
	// SelfSigned: the certificate vouches for itself, and nobody else does.
	SelfSigned Kind = "self-signed"
	// BrokenChain: the certificate of an issuer is missing.
	BrokenChain Kind = "broken-chain"
	// UnknownAuthority: the chain is whole and ends at an authority that is
	// not trusted.
	UnknownAuthority Kind = "unknown-authority"
	// WeakSignature: a certificate is signed in a way that can be forged.
	WeakSignature Kind = "weak-signature"
	// WeakKey: the signer's key is too small, or of a kind that cannot be
	// checked, so that its signatures prove nothing.
	WeakKey Kind = "weak-key"
	// BadStamp: there is a time stamp by an authority that is not trusted;
	// it counts for nothing.
	BadStamp Kind = "bad-time-stamp"
)

// Problem is one reason, with its text for people.
type Problem struct {
	Kind Kind   `json:"kind"`
	Text string `json:"text"`
}

// Assessment is what was found of a signer.
type Assessment struct {
	Subject     string      `json:"subject"`
	Issuer      string      `json:"issuer"`
	Fingerprint Fingerprint `json:"-"`
	NotBefore   time.Time   `json:"notBefore"`
	NotAfter    time.Time   `json:"notAfter"`
	// SignedAt is the time that a trusted time stamp gives, zero without
	// one.
	SignedAt time.Time `json:"signedAt,omitzero"`
	// Pinned is set where a fingerprint, not an authority, is why the
	// signer is trusted.
	Pinned   bool      `json:"pinned,omitempty"`
	Problems []Problem `json:"problems,omitempty"`
}

// Trusted says whether the signer is to be believed: nothing speaks against it
// but perhaps a time stamp that was not needed.
func (a *Assessment) Trusted() bool {
	for _, p := range a.Problems {
		if p.Kind != BadStamp {
			return false
		}
	}
	return true
}

// Has says whether a reason of this kind was found.
func (a *Assessment) Has(k Kind) bool {
	for _, p := range a.Problems {
		if p.Kind == k {
			return true
		}
	}
	return false
}

func (a *Assessment) add(k Kind, format string, args ...any) {
	a.Problems = append(a.Problems, Problem{Kind: k, Text: fmt.Sprintf(format, args...)})
}

// Store holds whom to believe. The zero Store believes nobody.
type Store struct {
	roots *x509.CertPool
	pins  map[Fingerprint]bool
}

// NewStore makes a Store, with the system's authorities or without.
func NewStore(system bool) (*Store, error) {
	s := &Store{roots: x509.NewCertPool()}
	if system {
		pool, err := x509.SystemCertPool()
		if err != nil {
			return nil, fmt.Errorf("read the system's certificate authorities: %w", err)
		}
		s.roots = pool
	}
	return s, nil
}

// AddPEM adds the certificates of a PEM file as authorities.
func (s *Store) AddPEM(data []byte) error {
	n := 0
	for {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return fmt.Errorf("certificate %d: %w", n+1, err)
		}
		s.pool().AddCert(c)
		n++
	}
	if n == 0 {
		return errors.New("there is no PEM certificate in it")
	}
	return nil
}

// Pin believes the certificate with this fingerprint, and what it issued.
func (s *Store) Pin(f Fingerprint) {
	if s.pins == nil {
		s.pins = map[Fingerprint]bool{}
	}
	s.pins[f] = true
}

func (s *Store) pool() *x509.CertPool {
	if s.roots == nil {
		s.roots = x509.NewCertPool()
	}
	return s.roots
}

// Assess checks a signature over the manifest and all that can speak against
// its signer, as of now or as of the time stamp where a trusted one is there.
func (s *Store) Assess(sig *signature.Signature, manifest []byte, now time.Time) *Assessment {
	leaf := sig.Signer()
	a := &Assessment{
		Subject: leaf.Subject.String(), Issuer: leaf.Issuer.String(), Fingerprint: FingerprintOf(leaf),
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
	}
	switch err := sig.Check(manifest); {
	case errors.Is(err, signature.ErrKey):
		a.add(WeakKey, "%v", err)
	case err != nil:
		a.add(Mismatch, "%v", err)
	}
	at := now
	if sig.Stamp != nil {
		if err := s.checkStamp(sig.Stamp, now); err != nil {
			a.add(BadStamp, "the time stamp of %s is not trusted and counts for nothing: %v", sig.Stamp.Time.UTC().Format(time.RFC3339), err)
		} else {
			at, a.SignedAt = sig.Stamp.Time, sig.Stamp.Time
		}
	}
	a.checkUsage(leaf)
	s.checkChain(a, sig.Certificates, at)
	return a
}

func (s *Store) checkStamp(stamp *signature.Stamp, now time.Time) error {
	if stamp.Time.After(now.Add(5 * time.Minute)) {
		return errors.New("it is from the future")
	}
	if stamp.Signer == nil {
		return errors.New("the certificate of its authority is not in it")
	}
	// The standard wants this usage to be named (RFC 3161, 2.3), and a
	// certificate that names none would do for x509.
	if !slices.Contains(stamp.Signer.ExtKeyUsage, x509.ExtKeyUsageTimeStamping) {
		return fmt.Errorf("the certificate of %s is not for time stamps", name(stamp.Signer))
	}
	_, err := stamp.Signer.Verify(x509.VerifyOptions{
		Roots:         s.pool(),
		Intermediates: poolOf(stamp.Certificates),
		CurrentTime:   stamp.Time,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping},
	})
	return err
}

func poolOf(certs []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}

// checkUsage wants a certificate that may sign: one that restricts its usage
// has to name digital signatures, and code signing where it has an extended
// list.
func (a *Assessment) checkUsage(leaf *x509.Certificate) {
	if leaf.KeyUsage != 0 && leaf.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0 {
		a.add(WrongUsage, "the certificate's key usage does not allow digital signatures")
	}
	if len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) == 0 {
		return
	}
	for _, u := range leaf.ExtKeyUsage {
		if u == x509.ExtKeyUsageAny || u == x509.ExtKeyUsageCodeSigning {
			return
		}
	}
	a.add(WrongUsage, "the certificate was issued for other purposes than code signing")
}

func (s *Store) checkChain(a *Assessment, certs []*x509.Certificate, at time.Time) {
	roots := s.pool().Clone()
	for _, c := range certs {
		if s.pins[FingerprintOf(c)] {
			roots.AddCert(c)
		}
	}
	verify := func(when time.Time) ([][]*x509.Certificate, error) {
		return certs[0].Verify(x509.VerifyOptions{
			Roots:         roots,
			Intermediates: poolOf(certs[1:]),
			KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
			CurrentTime:   when,
		})
	}
	// One way to an authority that holds is enough.
	chains, err := verify(at)
	if err != nil {
		// Whether another holds is asked for a time when it was valid, so that
		// "expired" does not hide that nobody vouches for it.
		chains, err = verify(whenValid(certs, at))
	}
	checked := certs
	if err != nil {
		a.explain(certs, err)
	} else {
		checked = chains[0]
		a.Pinned = slices.ContainsFunc(checked, func(c *x509.Certificate) bool { return s.pins[FingerprintOf(c)] })
	}
	for _, c := range checked {
		who := name(c)
		if at.After(c.NotAfter) {
			a.add(Expired, "the certificate of %s expired on %s", who, c.NotAfter.UTC().Format(time.DateOnly))
		}
		if at.Before(c.NotBefore) {
			a.add(NotYetValid, "the certificate of %s is not valid before %s", who, c.NotBefore.UTC().Format(time.DateOnly))
		}
	}
}

// explain says in words of its own why x509 found no chain.
func (a *Assessment) explain(certs []*x509.Certificate, err error) {
	for _, c := range certs {
		switch c.SignatureAlgorithm {
		case x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1, x509.MD5WithRSA, x509.MD2WithRSA:
			if !selfIssued(c) {
				a.add(WeakSignature, "the certificate of %s is signed with %v, which can be forged; pin its fingerprint to trust it all the same", name(c), c.SignatureAlgorithm)
				return
			}
		}
	}
	if len(certs) == 1 && selfIssued(certs[0]) {
		a.add(SelfSigned, "the certificate of %s is signed by itself; trust it by its fingerprint (%s) or as an authority", name(certs[0]), FingerprintOf(certs[0]))
		return
	}
	last := certs[0]
	for climbed := true; climbed && !selfIssued(last); {
		climbed = false
		for _, c := range certs[1:] {
			if bytes.Equal(c.RawSubject, last.RawIssuer) && c != last && last.CheckSignatureFrom(c) == nil {
				last, climbed = c, true
				break
			}
		}
	}
	var unknown x509.UnknownAuthorityError
	switch {
	case !errors.As(err, &unknown) && !errors.As(err, new(x509.CertificateInvalidError)):
		a.add(BrokenChain, "%v", err)
	case !selfIssued(last):
		a.add(BrokenChain, "the certificate of %s was issued by %s, which is neither in the package nor trusted here", name(last), last.Issuer)
	case errors.As(err, &unknown):
		a.add(UnknownAuthority, "the signer's certificate leads to %s, which is not trusted here (fingerprint %s)", name(last), FingerprintOf(last))
	default:
		a.add(BrokenChain, "%v", err)
	}
}

func selfIssued(c *x509.Certificate) bool { return bytes.Equal(c.RawIssuer, c.RawSubject) }

func name(c *x509.Certificate) string {
	if c.Subject.CommonName != "" {
		return fmt.Sprintf("%q", c.Subject.CommonName)
	}
	return fmt.Sprintf("%q", c.Subject.String())
}

// whenValid gives the time nearest to at when all the certificates were valid,
// or when the first was if there is no such time.
func whenValid(certs []*x509.Certificate, at time.Time) time.Time {
	from, to := certs[0].NotBefore, certs[0].NotAfter
	for _, c := range certs[1:] {
		lo, hi := from, to
		if c.NotBefore.After(lo) {
			lo = c.NotBefore
		}
		if c.NotAfter.Before(hi) {
			hi = c.NotAfter
		}
		if !lo.After(hi) {
			from, to = lo, hi
		}
	}
	switch {
	case at.Before(from):
		return from
	case at.After(to):
		return to
	}
	return at
}
