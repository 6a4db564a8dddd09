package signature

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/youmark/pkcs8"
	"software.sslmate.com/src/go-pkcs12"
)

// ErrPassword says that a key is encrypted and that the password is missing or
// wrong.
var ErrPassword = errors.New("the key's password is missing or wrong")

// Identity is what a package is signed with.
type Identity struct {
	Key crypto.Signer
	// Chain begins with the key's own certificate.
	Chain []*x509.Certificate
}

// LoadIdentity reads a key and its certificates from the content of files: PEM
// (one file with both, or a key and certificates apart, in any order) or
// PKCS #12. Password opens an encrypted one; it may be nil. The certificate
// that belongs to the key is put first.
func LoadIdentity(password []byte, files ...[]byte) (*Identity, error) {
	id := &Identity{}
	for _, data := range files {
		load := id.loadPEM
		if !bytes.Contains(data, []byte("-----BEGIN ")) {
			load = id.loadPKCS12
		}
		if err := load(data, password); err != nil {
			return nil, err
		}
	}
	if id.Key == nil {
		return nil, errors.New("there is no private key in what was given; PEM and PKCS #12 are read")
	}
	if len(id.Chain) == 0 {
		return nil, errors.New("there is no certificate in what was given; it belongs into the package beside the signature")
	}
	return id, id.order()
}

func (id *Identity) loadPKCS12(data, password []byte) error {
	key, cert, chain, err := pkcs12.DecodeChain(data, string(password))
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		return ErrPassword
	case err != nil:
		return fmt.Errorf("neither PEM nor PKCS #12: %w", err)
	}
	id.Chain = append(append(id.Chain, cert), chain...)
	return id.setKey(key)
}

func (id *Identity) loadPEM(data, password []byte) error {
	for {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			return nil
		}
		if b.Type == "CERTIFICATE" {
			c, err := x509.ParseCertificate(b.Bytes)
			if err != nil {
				return err
			}
			id.Chain = append(id.Chain, c)
			continue
		}
		key, err := parseKey(b, password)
		if err != nil {
			return err
		}
		if key == nil {
			continue
		}
		if err := id.setKey(key); err != nil {
			return err
		}
	}
}

// parseKey gives nil for a block that is no key.
func parseKey(b *pem.Block, password []byte) (any, error) {
	if b.Headers["DEK-Info"] != "" {
		return nil, errors.New("the key is encrypted in OpenSSL's old way, which is not safe and not read; convert it with 'openssl pkcs8 -topk8 -in old.pem -out new.pem'")
	}
	switch b.Type {
	case "PRIVATE KEY":
		return x509.ParsePKCS8PrivateKey(b.Bytes)
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(b.Bytes)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(b.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		if len(password) == 0 {
			return nil, ErrPassword
		}
		key, err := pkcs8.ParsePKCS8PrivateKey(b.Bytes, password)
		if err != nil {
			return nil, fmt.Errorf("%w (%w)", ErrPassword, err)
		}
		return key, nil
	}
	return nil, nil
}

func (id *Identity) setKey(key any) error {
	s, ok := key.(crypto.Signer)
	if !ok {
		return fmt.Errorf("a key of type %T cannot sign", key)
	}
	if id.Key != nil {
		return errors.New("there is more than one private key in what was given")
	}
	id.Key = s
	return nil
}

func (id *Identity) order() error {
	for i, c := range id.Chain {
		if same, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); ok && same.Equal(id.Key.Public()) {
			copy(id.Chain[1:i+1], id.Chain[:i])
			id.Chain[0] = c
			return nil
		}
	}
	return errors.New("none of the certificates belongs to the private key")
}
