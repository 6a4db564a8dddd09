package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// tlsFlags say how a server proves who it is.
type tlsFlags struct{ cert, key, ca string }

// register adds the flags; clients may have to prove who they are as well,
// where withCA is set.
func (t *tlsFlags) register(c *cobra.Command, withCA bool) {
	c.Flags().StringVar(&t.cert, "tls-cert", "", "serve by TLS with this certificate (PEM, with those between it and its authority)")
	c.Flags().StringVar(&t.key, "tls-key", "", "the certificate's private key (PEM)")
	if withCA {
		c.Flags().StringVar(&t.ca, "tls-ca", "", "let in only clients with a certificate of these authorities (PEM)")
	}
}

// config reads what the flags name; nil where there is to be no TLS.
func (t *tlsFlags) config() (*tls.Config, error) {
	if t.cert == "" && t.key == "" && t.ca == "" {
		return nil, nil
	}
	if t.cert == "" || t.key == "" {
		return nil, usagef("TLS needs both --tls-cert and --tls-key")
	}
	pair, err := tls.LoadX509KeyPair(t.cert, t.key)
	if err != nil {
		return nil, fmt.Errorf("read the certificate %s and its key: %w", t.cert, err)
	}
	c := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if t.ca != "" {
		pem, err := os.ReadFile(t.ca)
		if err != nil {
			return nil, err
		}
		c.ClientCAs = x509.NewCertPool()
		if !c.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate", t.ca)
		}
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return c, nil
}
