package vsphere

import (
	"context"
	"crypto/sha1" // #nosec G505 -- vSphere itself names certificates by it
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// CertificateError says that a server's certificate is not trusted, and how it
// could be.
type CertificateError struct {
	// Host is the server's name and port, Thumbprint the SHA-256 of its
	// certificate.
	Host, Thumbprint string
	Err              error
}

// Error says what to do.
func (e *CertificateError) Error() string {
	return fmt.Sprintf("the certificate of %s is not trusted: %v; its SHA-256 thumbprint is %s: where that is the server's own, add ?thumbprint=… to the URI, "+
		"or have its authority trusted by ?cacert=FILE", e.Host, e.Err, e.Thumbprint)
}

// Unwrap gives why.
func (e *CertificateError) Unwrap() error { return e.Err }

// parseThumbprint reads a certificate's SHA-256 or SHA-1 in hexadecimal, with
// colons or without.
func parseThumbprint(s string) ([]byte, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(s), ":", ""))
	if err != nil || len(b) != sha256.Size && len(b) != sha1.Size {
		return nil, fmt.Errorf("%q is not the SHA-256 or SHA-1 of a certificate in hexadecimal", s)
	}
	return b, nil
}

func matches(thumbprint []byte, cert *x509.Certificate) bool {
	short, long := sha1.Sum(cert.Raw), sha256.Sum256(cert.Raw) // #nosec G401
	return subtle.ConstantTimeCompare(thumbprint, long[:]) == 1 || subtle.ConstantTimeCompare(thumbprint, short[:]) == 1
}

func thumbprintOf(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	var parts []string
	for _, b := range sum {
		parts = append(parts, fmt.Sprintf("%02X", b))
	}
	return strings.Join(parts, ":")
}

// dialer makes connections to vCenter and to the hosts that it names, each by
// the system's authorities and the user's, or by a thumbprint.
type dialer struct {
	roots *x509.CertPool // nil is the system's

	mu sync.Mutex
	// pins are thumbprints by host:port. What is pinned is believed by its
	// thumbprint alone.
	pins map[string][]byte
}

func newDialer(authorities string) (*dialer, error) {
	d := &dialer{pins: map[string][]byte{}}
	if authorities == "" {
		return d, nil
	}
	pem, err := os.ReadFile(authorities) // #nosec G304 -- the user names it
	if err != nil {
		return nil, fmt.Errorf("certificate authorities: %w", err)
	}
	if d.roots, err = x509.SystemCertPool(); err != nil {
		d.roots = x509.NewCertPool()
	}
	if !d.roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("certificate authorities: there is no certificate in PEM in %s", authorities)
	}
	return d, nil
}

// withPort is an address with the port that https has where it says none.
func withPort(address string) string {
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	return net.JoinHostPort(strings.Trim(address, "[]"), "443")
}

// pin has a host believed by its certificate. What the user pinned stays.
func (d *dialer) pin(address string, thumbprint []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if address = withPort(address); d.pins[address] == nil {
		d.pins[address] = thumbprint
	}
}

func (d *dialer) pinned(address string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pins[withPort(address)]
}

// handshakeLimit is for a server that takes connections and says nothing.
const handshakeLimit = 30 * time.Second

// dialTLS is an http.Transport's DialTLSContext.
func (d *dialer) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeLimit)
	defer cancel()
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	pin := d.pinned(address)
	config := &tls.Config{RootCAs: d.roots, ServerName: host, MinVersion: tls.VersionTLS12}
	if pin != nil {
		config.InsecureSkipVerify = true // #nosec G402 -- VerifyConnection does
		config.VerifyConnection = func(s tls.ConnectionState) error {
			if cert := s.PeerCertificates[0]; !matches(pin, cert) {
				return &CertificateError{Host: address, Thumbprint: thumbprintOf(cert), Err: errors.New("it is not the one whose thumbprint was given")}
			}
			return nil
		}
	}
	raw, err := (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	joined := &joining{Conn: raw}
	conn := tls.Client(joined, config)
	err = conn.HandshakeContext(ctx)
	var invalid *tls.CertificateVerificationError
	if errors.As(err, &invalid) && len(invalid.UnverifiedCertificates) > 0 {
		err = &CertificateError{Host: address, Thumbprint: thumbprintOf(invalid.UnverifiedCertificates[0]), Err: invalid.Err}
	}
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	return &flushing{Conn: conn, to: joined}, nil
}

// joining joins the records of TLS, which are of 16 KiB, to larger writes while
// it is told to.
type joining struct {
	net.Conn
	mu   sync.Mutex
	hold bool
	b    []byte
}

// Write keeps what is to be joined.
func (j *joining) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.hold {
		return j.Conn.Write(b)
	}
	j.b = append(j.b, b...)
	return len(b), nil
}

// flush writes what was kept.
func (j *joining) flush() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.hold = false
	if len(j.b) == 0 {
		return nil
	}
	_, err := j.Conn.Write(j.b)
	j.b = j.b[:0]
	return err
}

// flushing is a connection whose writes each leave as one.
type flushing struct {
	*tls.Conn
	to *joining
	mu sync.Mutex
}

// Write writes one piece, which is gone when it returns.
func (f *flushing) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.to.mu.Lock()
	f.to.hold = true
	f.to.mu.Unlock()
	n, err := f.Conn.Write(b)
	if flushErr := f.to.flush(); err == nil && flushErr != nil {
		return 0, flushErr
	}
	return n, err
}

// ReadFrom sends in pieces that are larger than io.Copy's.
func (f *flushing) ReadFrom(r io.Reader) (n int64, err error) {
	// Not f itself, which would be asked to read again.
	return io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{r}, make([]byte, transferBuffer))
}
