// Package signature reads, makes and checks the certificate file of an OVF
// package (DSP0243 1.1.1, clause 5.1): the signature over the manifest, and
// the X.509 certificates to check it with.
//
// A certificate file is text. Its first line has the manner of the manifest's
// own, with the signature in place of a digest, and PEM blocks follow:
//
//	SHA256(appliance.mf)= 7f4b8efb…
//	-----BEGIN CERTIFICATE-----
//	…
//	-----END CERTIFICATE-----
//
// The signature is what "openssl dgst -sha256 -sign key.pem appliance.mf"
// makes, in hexadecimal: PKCS #1 v1.5 for an RSA key, ASN.1 for an ECDSA key.
// The first certificate is the signer's; others, where there are any, lead
// from it to a root. A block of type CMS or PKCS7 that holds an RFC 3161 time
// stamp token over the signature says when it was made.
//
// Package signature says whether a signature is by the key in the
// certificate. Whether that certificate is to be believed is asked of package
// trust.
package signature

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/digitorus/pkcs7"
	"github.com/digitorus/timestamp"

	"github.com/ovation-project/ovation/appliance/manifest"
)

// MaxSize is the largest certificate file that is read, in bytes.
const MaxSize = 1 << 20

// MaxStamp is the largest time stamp token that is read, in bytes. Those of
// authorities have a tenth of it; the time that parsing takes may grow with the
// square of its size.
const MaxStamp = 64 << 10

// maxCertificates bounds a chain.
const maxCertificates = 32

var (
	// ErrFormat says that the bytes are no certificate file.
	ErrFormat = errors.New("not an OVF certificate file")
	// ErrMismatch says that the signature is not by the certificate's key
	// over this manifest: one of the three was altered.
	ErrMismatch = errors.New("the signature does not match the manifest")
	// ErrKey says that the certificate's key is of a kind that nothing can be
	// proved with: the signature may be right or wrong.
	ErrKey = errors.New("signatures by the certificate's key prove nothing")
)

// Signature is the content of a certificate file.
type Signature struct {
	// Hash is the digest algorithm that was signed with.
	Hash crypto.Hash
	// Manifest is the manifest's name as the file gives it.
	Manifest string
	// Value is the signature.
	Value []byte
	// Certificates begin with the signer's.
	Certificates []*x509.Certificate
	// Stamp says when the signature was made, nil where nobody vouches for
	// that.
	Stamp *Stamp
}

// Stamp is an RFC 3161 time stamp over the signature's value. That it belongs
// to the signature, and is by the key of Signer, was checked when it was
// parsed; whether Signer is to be believed was not.
type Stamp struct {
	Time time.Time
	// Signer is the certificate whose key signed the token, nil where that
	// did not come with it: then nothing of the token is checked.
	Signer *x509.Certificate
	// Certificates are all that came with the token. Any may be there:
	// only Signer has to do with the token.
	Certificates []*x509.Certificate
	// Token is the token itself, DER.
	Token []byte
}

// Signer is the certificate that the signature claims to be by.
func (s *Signature) Signer() *x509.Certificate { return s.Certificates[0] }

var firstLine = regexp.MustCompile(`^([A-Za-z0-9-]+)\s*\((.+)\)\s*=\s*(\S+)\s*$`)

// Parse reads a certificate file. The signature's value may be hexadecimal, as
// all tools write it, or base64.
func Parse(data []byte) (*Signature, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%w: it has %d bytes; at most %d are read", ErrFormat, len(data), MaxSize)
	}
	s := &Signature{}
	rest := bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	found := false
	for n := 1; len(rest) > 0 && !bytes.HasPrefix(rest, []byte("-----BEGIN")); n++ {
		line, after, _ := bytes.Cut(rest, []byte("\n"))
		rest = after
		text := strings.TrimSpace(string(line))
		if text == "" {
			continue
		}
		m := firstLine.FindStringSubmatch(text)
		if m == nil {
			return nil, fmt.Errorf("%w: line %d is not of the form ALGORITHM(manifest)= signature", ErrFormat, n)
		}
		if found {
			return nil, fmt.Errorf("%w: line %d is a second signature; one is expected", ErrFormat, n)
		}
		found = true
		hash, ok := manifest.Algorithm(m[1])
		if !ok {
			return nil, fmt.Errorf("%w: line %d: unknown digest algorithm %q; SHA1, SHA256, SHA384 and SHA512 are known", ErrFormat, n, m[1])
		}
		value, err := decodeValue(m[3])
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: the signature is neither hexadecimal nor base64", ErrFormat, n)
		}
		s.Hash, s.Manifest, s.Value = hash, m[2], value
	}
	if !found {
		return nil, fmt.Errorf("%w: there is no line ALGORITHM(manifest)= signature", ErrFormat)
	}
	if err := s.parseBlocks(rest); err != nil {
		return nil, err
	}
	return s, nil
}

func decodeValue(text string) ([]byte, error) {
	if v, err := hex.DecodeString(text); err == nil {
		return v, nil
	}
	return base64.StdEncoding.DecodeString(text)
}

func (s *Signature) parseBlocks(rest []byte) error {
	for {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		switch block.Type {
		case "CERTIFICATE":
			if len(s.Certificates) == maxCertificates {
				return fmt.Errorf("%w: more than %d certificates", ErrFormat, maxCertificates)
			}
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return fmt.Errorf("%w: certificate %d: %w", ErrFormat, len(s.Certificates)+1, err)
			}
			s.Certificates = append(s.Certificates, c)
		case "CMS", "PKCS7":
			if s.Stamp != nil {
				return fmt.Errorf("%w: more than one time stamp", ErrFormat)
			}
			stamp, err := parseStamp(block.Bytes, s.Value)
			if err != nil {
				return fmt.Errorf("%w: time stamp: %w", ErrFormat, err)
			}
			s.Stamp = stamp
		case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY":
			return fmt.Errorf("%w: it holds a private key, which is now no secret: replace the key, and sign again", ErrFormat)
		}
	}
	if len(s.Certificates) == 0 {
		return fmt.Errorf("%w: there is no certificate after the signature", ErrFormat)
	}
	return nil
}

// tstInfo is the type of content that a time stamp token has (RFC 3161, 2.4.2).
var tstInfo = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}

// parseStamp reads a token and checks that it is over value, and signed by the
// key of the certificate that it names.
func parseStamp(token, value []byte) (stamp *Stamp, err error) {
	defer malformed(&err)
	if len(token) > MaxStamp {
		return nil, fmt.Errorf("it has %d bytes; at most %d are read", len(token), MaxStamp)
	}
	t, err := timestamp.Parse(token)
	if err != nil {
		return nil, err
	}
	switch t.HashAlgorithm {
	case crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512:
	default:
		return nil, fmt.Errorf("digest algorithm %v is not taken", t.HashAlgorithm)
	}
	if !bytes.Equal(digest(t.HashAlgorithm, value), t.HashedMessage) {
		return nil, errors.New("it is not over this signature")
	}
	stamp = &Stamp{Time: t.Time, Certificates: t.Certificates, Token: token}
	if len(t.Certificates) == 0 {
		return stamp, nil
	}
	p, err := pkcs7.Parse(token)
	if err != nil {
		return nil, err
	}
	// What the authority signed has to be a time stamp, and nothing else that
	// can be read as one.
	var kind asn1.ObjectIdentifier
	if err := p.UnmarshalSignedAttribute(pkcs7.OIDAttributeContentType, &kind); err != nil || !kind.Equal(tstInfo) {
		return nil, errors.New("what is signed is not a time stamp")
	}
	if stamp.Signer = p.GetOnlySigner(); stamp.Signer == nil {
		return nil, fmt.Errorf("it has %d signers, and one is expected", len(p.Signers))
	}
	return stamp, nil
}

// malformed makes an error of a panic: the library that reads tokens looks for
// lengths behind the end of one that is cut short.
func malformed(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("it is malformed: %v", r)
	}
}

func digest(h crypto.Hash, data []byte) []byte {
	w := h.New()
	w.Write(data)
	return w.Sum(nil)
}

// Marshal gives the certificate file.
func (s *Signature) Marshal() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s(%s)= %s\n", manifest.Name(s.Hash), s.Manifest, hex.EncodeToString(s.Value))
	for _, c := range s.Certificates {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	if s.Stamp != nil {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CMS", Bytes: s.Stamp.Token}))
	}
	return b.Bytes()
}

// minRSABits is the size below which a key can be found out with a computer that
// many have, and which crypto/rsa does not take.
const minRSABits = 1024

// Check says whether the signature is by the signer's key over a manifest; if
// not, the error is ErrMismatch. It is ErrKey where the key says nothing.
func (s *Signature) Check(signed []byte) error {
	sum := digest(s.Hash, signed)
	switch key := s.Signer().PublicKey.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits {
			return fmt.Errorf("%w: it has %d bits, so that anybody can have made them", ErrKey, bits)
		}
		if err := rsa.VerifyPKCS1v15(key, s.Hash, sum, s.Value); err != nil {
			return fmt.Errorf("%w: %w", ErrMismatch, err)
		}
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(key, sum, s.Value) {
			return fmt.Errorf("%w: ECDSA verification failed", ErrMismatch)
		}
	default:
		return fmt.Errorf("%w here: it is a %v key, and those of RSA and ECDSA can be checked", ErrKey, s.Signer().PublicKeyAlgorithm)
	}
	return nil
}

// Sign signs a manifest. The chain begins with the certificate of key; name is
// the manifest's file name. Hash should be the one that the manifest's digests
// have: consumers expect no other.
func Sign(rand io.Reader, content []byte, name string, hash crypto.Hash, key crypto.Signer, chain []*x509.Certificate) (*Signature, error) {
	if manifest.Name(hash) == "" {
		return nil, fmt.Errorf("digest algorithm %v has no name in OVF; use SHA1, SHA256, SHA384 or SHA512", hash)
	}
	if strings.ContainsAny(name, "\r\n") || name == "" {
		return nil, fmt.Errorf("manifest name %q cannot stand in a certificate file", name)
	}
	if len(chain) == 0 {
		return nil, errors.New("there is no certificate to sign with")
	}
	switch pub := key.Public().(type) {
	case *rsa.PublicKey:
	case *ecdsa.PublicKey:
	default:
		return nil, fmt.Errorf("a key of type %T cannot sign an OVF package; use an RSA or ECDSA key", pub)
	}
	if same, ok := chain[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !same.Equal(key.Public()) {
		return nil, fmt.Errorf("the key does not belong to the certificate of %s", chain[0].Subject)
	}
	value, err := key.Sign(rand, digest(hash, content), hash)
	if err != nil {
		return nil, fmt.Errorf("sign the manifest: %w", err)
	}
	return &Signature{Hash: hash, Manifest: name, Value: value, Certificates: chain}, nil
}

// StampRequest is what to send to a time stamp authority (RFC 3161), as
// application/timestamp-query.
func (s *Signature) StampRequest() ([]byte, error) {
	return timestamp.CreateRequest(bytes.NewReader(s.Value), &timestamp.RequestOptions{Hash: crypto.SHA256, Certificates: true})
}

// AddStamp takes the authority's answer.
func (s *Signature) AddStamp(response []byte) (err error) {
	defer malformed(&err)
	t, err := timestamp.ParseResponse(response)
	if err != nil {
		return fmt.Errorf("time stamp response: %w", err)
	}
	stamp, err := parseStamp(t.RawToken, s.Value)
	if err != nil {
		return fmt.Errorf("time stamp response: %w", err)
	}
	s.Stamp = stamp
	return nil
}
