package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/encryption"
	"github.com/ovation-project/ovation/author/pack"
)

// maxSecret bounds files of keys, certificates and passwords.
const maxSecret = 1 << 20

func newEncryptCommand(a *app) *cobra.Command {
	var f packageFlags
	var password, cipher string
	var recipients []string
	c := &cobra.Command{
		Use:   "encrypt LOCATOR",
		Short: "Encrypt the files of a package",
		Long: `Encrypt all files of a package as OVF 2.x and XML Encryption have it: for those
who know a password, or for those who have the RSA key of a certificate. The
descriptor stays readable. The manifest is made anew, of the encrypted files.

The password is the first line of a file, or asked for; it is never an argument.`,
		Example: `  ovation encrypt appliance.ova -o sealed.ova --password-file secret.txt
  ovation encrypt appliance.ova -o sealed.ova --recipient alice.pem --recipient bob.pem
  ovation encrypt appliance.ova -o sealed.ova --cipher aes128-cbc`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			kind, err := encryption.CipherByName(cipher)
			if err != nil {
				return usageError{err}
			}
			if f.output == "" {
				return usagef("--output is needed: the package to write")
			}
			if password != "" && len(recipients) > 0 {
				return usagef("--password-file and --recipient cannot both be given")
			}
			to := encryption.To{Cipher: kind}
			for _, path := range recipients {
				cert, err := readCertificate(path)
				if err != nil {
					return err
				}
				to.Recipients = append(to.Recipients, cert)
			}
			if len(recipients) == 0 {
				if to.Password, err = a.readPassword(password, true); err != nil {
					return err
				}
			}
			return a.recrypt(c.Context(), args[0], &f, func(p *pack.Package, s *appliance.Package) error { return p.Encrypt(s.Document(), to) })
		},
	}
	f.registerOutput(c.Flags())
	c.Flags().StringVar(&password, "password-file", "", "the file whose first line is the password")
	c.Flags().StringArrayVar(&recipients, "recipient", nil, "a certificate (PEM) whose RSA key may decrypt; can be repeated")
	c.Flags().StringVar(&cipher, "cipher", "aes256-gcm", "aes128-, aes192- or aes256-, with -gcm or -cbc")
	return c
}

func newDecryptCommand(a *app) *cobra.Command {
	var f packageFlags
	var password, key string
	c := &cobra.Command{
		Use:   "decrypt LOCATOR",
		Short: "Decrypt the files of a package",
		Long: `Decrypt the files of a package that are encrypted as OVF 2.x has it. The package
has its name only when all of them were proved: by the manifest, which has the
digests of the encrypted files, and with GCM by their tags.`,
		Example: `  ovation decrypt sealed.ova -o appliance.ova --password-file secret.txt
  ovation decrypt sealed.ova -o appliance/ --key alice.key`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if f.output == "" || f.output == "-" {
				return usagef("--output is needed, a file or folder: what is decrypted is proved at its end only")
			}
			var keys encryption.Keys
			if key != "" {
				k, err := readKey(key)
				if err != nil {
					return err
				}
				keys.Private = append(keys.Private, k)
			}
			if key == "" || password != "" {
				var err error
				if keys.Password, err = a.readPassword(password, false); err != nil {
					return err
				}
			}
			return a.recrypt(c.Context(), args[0], &f, func(p *pack.Package, s *appliance.Package) error { return p.Decrypt(s.Document(), keys) })
		},
	}
	f.registerOutput(c.Flags())
	c.Flags().StringVar(&password, "password-file", "", "the file whose first line is the password")
	c.Flags().StringVar(&key, "key", "", "the file (PEM) of the recipient's RSA key")
	return c
}

// recrypt writes a package anew, with its files changed.
func (a *app) recrypt(ctx context.Context, locator string, f *packageFlags, change func(*pack.Package, *appliance.Package) error) error {
	hash, none, err := f.hash()
	if err != nil {
		return err
	}
	p, err := a.openPackage(ctx, locator)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := whole(ctx, p); err != nil {
		return err
	}
	pkg, left, err := pack.Of(ctx, p)
	if err != nil {
		return err
	}
	for _, name := range left {
		a.warn("%s is left out: the descriptor does not refer to it", name)
	}
	if pkg.Certificate != nil {
		a.warn("the signature of %s does not hold for another manifest and is left out", p.Locator())
	}
	if err := change(pkg, p); err != nil {
		return fmt.Errorf("%s: %w", p.Locator(), err)
	}
	if pkg.When, err = sourceDate(); err != nil {
		return err
	}
	switch {
	case none:
		pkg.Hash = 0
	case hash != 0:
		pkg.Hash = hash
	case pkg.Hash == 0:
		pkg.Hash = crypto.SHA256
	}
	out, err := a.packageOutput(f, "")
	if err != nil {
		return err
	}
	return a.writePackage(ctx, pkg, f, out)
}

// readPassword reads the first line of a file, or asks on the terminal.
func (a *app) readPassword(path string, twice bool) ([]byte, error) {
	if path != "" {
		data, err := readSmall(path)
		if err != nil {
			return nil, err
		}
		line, _, _ := bytes.Cut(data, []byte("\n"))
		if line = bytes.TrimSuffix(line, []byte("\r")); len(line) == 0 {
			return nil, fmt.Errorf("%s: its first line is empty, and ought to be the password", path)
		}
		return line, nil
	}
	in, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil, usagef("a password is needed: give --password-file, or run in a terminal")
	}
	ask := func(what string) ([]byte, error) {
		fmt.Fprint(os.Stderr, what)
		defer fmt.Fprintln(os.Stderr)
		return term.ReadPassword(int(in.Fd()))
	}
	password, err := ask("Password: ")
	if err != nil || !twice {
		return password, err
	}
	again, err := ask("Again: ")
	if err == nil && !bytes.Equal(password, again) {
		err = errors.New("the two are not the same")
	}
	return password, err
}

func readSmall(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > maxSecret {
		return nil, fmt.Errorf("%s: it has %d bytes, over the limit of %d", path, st.Size(), maxSecret)
	}
	return os.ReadFile(filepath.Clean(path))
}

func readCertificate(path string) (*x509.Certificate, error) {
	data, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	b, _ := pem.Decode(data)
	if b == nil || b.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%s: a certificate in PEM is expected", path)
	}
	cert, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return cert, nil
}

func readKey(path string) (*rsa.PrivateKey, error) {
	data, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	b, _ := pem.Decode(data)
	if b == nil {
		return nil, fmt.Errorf("%s: a private key in PEM is expected", path)
	}
	if b.Type == "RSA PRIVATE KEY" {
		if k, err := x509.ParsePKCS1PrivateKey(b.Bytes); err == nil {
			return k, nil
		}
	}
	if k, err := x509.ParsePKCS8PrivateKey(b.Bytes); err == nil {
		if k, ok := k.(*rsa.PrivateKey); ok {
			return k, nil
		}
	}
	return nil, fmt.Errorf("%s: an RSA key that is not encrypted is expected", path) // nothing of the key in the text
}
