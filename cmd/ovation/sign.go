package main

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/manifest"
	"github.com/ovation-project/ovation/appliance/signature"
	"github.com/ovation-project/ovation/author/sign"
)

// keyFlags say what packages are signed with.
type keyFlags struct {
	key       string
	certs     []string
	password  string
	authority string
	algorithm string
}

func (f *keyFlags) register(s *pflag.FlagSet) {
	s.StringVar(&f.key, "key", "", "file of the private key to sign with: PEM or PKCS #12")
	s.StringArrayVar(&f.certs, "cert", nil, "file of certificates (PEM) that belong to the key; again for more")
	s.StringVar(&f.password, "password-file", "", "the file whose first line is the key's password")
	s.StringVar(&f.authority, "timestamp", "", "URL of a time stamp authority (RFC 3161), so that the signature outlives its certificate")
	s.StringVar(&f.algorithm, "signature-digest", "", "digest algorithm to sign with: sha1, sha256, sha384, sha512 (default: the manifest's)")
}

// signFlags are what sign is told.
type signFlags struct {
	packageFlags
	keyFlags
	chunks bool
}

func newSignCommand(a *app) *cobra.Command {
	var f signFlags
	c := &cobra.Command{
		Use:   "sign LOCATOR",
		Short: "Sign a package, or add digests of its files' chunks",
		Long: `Sign the manifest of a package: write the certificate file of the standard, with
the signature and the certificates to check it by. A package without a manifest
gets one. The files are proved by the manifest while the package is written; of
a folder only what changes is written, an archive is replaced when the new one
is complete.

The key is PEM (with its certificates in the same file or by --cert) or PKCS #12.
Where it is encrypted, its password is the first line of --password-file, or
asked for; it is never an argument.

--chunks adds a file with a digest of every 1 MiB of all files, which the manifest
and so the signature cover: what is streamed is then proved before it is used,
and 'ovation verify' says where a file is altered. Without --key it only adds
these.`,
		Example: `  ovation sign appliance.ova --key vendor.key --cert vendor.pem --cert ca.pem
  ovation sign folder/ --key vendor.p12 --password-file secret.txt --chunks
  ovation sign appliance.ova -o signed.ova --key vendor.pem --timestamp http://tsa.example.org
  ovation sign appliance.ova --chunks`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.sign(c.Context(), args[0], &f) },
	}
	s := c.Flags()
	f.registerOutput(s)
	s.Lookup("output").Usage = "the package to write; without it the one that is there is changed"
	f.keyFlags.register(s)
	s.BoolVar(&f.chunks, "chunks", false, "add digests of the files' chunks")
	return c
}

// identity reads the key, and asks for its password where it needs one.
func (a *app) identity(f *keyFlags) (*signature.Identity, error) {
	var files [][]byte
	for _, name := range append([]string{f.key}, f.certs...) {
		data, err := readSmall(name)
		if err != nil {
			return nil, usageError{err}
		}
		files = append(files, data)
	}
	var password []byte
	var err error
	if f.password != "" {
		if password, err = a.readPassword(f.password, false); err != nil {
			return nil, err
		}
	}
	id, err := signature.LoadIdentity(password, files...)
	if errors.Is(err, signature.ErrPassword) && f.password == "" {
		if password, err = a.readPassword("", false); err != nil {
			return nil, err
		}
		id, err = signature.LoadIdentity(password, files...)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.key, err)
	}
	return id, nil
}

// signer is what signs a package, nil where --key is not given. made is the
// algorithm of the manifest, 0 for SHA-256.
func (a *app) signer(f *keyFlags, made crypto.Hash) (*sign.Signer, error) {
	if f.key == "" {
		if f.authority != "" || f.algorithm != "" || f.password != "" || len(f.certs) > 0 {
			return nil, usagef("--key is needed: the private key to sign with")
		}
		return nil, nil
	}
	id, err := a.identity(f)
	if err != nil {
		return nil, err
	}
	s := &sign.Signer{Identity: id, Hash: made, Authority: f.authority}
	if f.algorithm != "" {
		var ok bool
		if s.Hash, ok = manifest.Algorithm(f.algorithm); !ok {
			return nil, usagef("--signature-digest is sha1, sha256, sha384 or sha512, not %q", f.algorithm)
		}
	}
	if f.authority != "" {
		opt, err := a.network.options()
		if err != nil {
			return nil, err
		}
		s.Client = opt.Client
	}
	return s, nil
}

func (a *app) sign(ctx context.Context, locator string, f *signFlags) error {
	hash, none, err := f.hash()
	if err != nil {
		return err
	}
	if none {
		return usagef("--manifest none: it is the manifest that is signed")
	}
	inPlace := f.output == ""
	p, err := a.openToChange(ctx, locator, f.output)
	if err != nil {
		return err
	}
	defer p.Close()
	signer, err := a.signer(&f.keyFlags, cmp.Or(hash, hashOf(p)))
	if err != nil {
		return err
	}
	if signer == nil && !f.chunks {
		return usagef("--key is needed: the private key to sign with")
	}
	if err := whole(ctx, p); err != nil {
		return err // nobody signs what was altered
	}
	if _, old := p.Certificate(); old != nil && signer == nil {
		a.warn("the signature does not hold any more and is removed")
	}
	opt := sign.Options{Signer: signer, Hash: hash, Chunks: f.chunks, InPlace: inPlace && p.Kind() == appliance.Folder}
	pkg, gone, err := sign.Package(ctx, p, opt)
	if err != nil {
		return fmt.Errorf("%s: %w", p.Locator(), err)
	}
	if pkg.When, err = sourceDate(); err != nil {
		return err
	}
	return a.writeChanged(ctx, p, pkg, gone, &f.packageFlags, "")
}

// hashOf is the algorithm of a package's manifest, 0 where it has none.
func hashOf(p *appliance.Package) crypto.Hash {
	if m := p.Manifest(); m != nil && len(m.Digests) > 0 {
		return m.Digests[0].Hash
	}
	return 0
}
