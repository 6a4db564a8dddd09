// Package encryption reads and writes packages whose files are encrypted as OVF
// 2.x says (DSP0243 2.1, EncryptionSection) with XML Encryption 1.1: a File
// holds an EncryptedData with the cipher, the section holds how the key is
// come by: derived from a password (PBKDF2) or wrapped with a recipient's RSA
// key.
//
// Nothing here keeps what is decrypted. Keys and passwords are in no error.
package encryption

import (
	"bytes"
	"crypto"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // the standard's default
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/ovation-project/ovation/internal/xmldoc"
	"github.com/ovation-project/ovation/ovf"
)

// Errors that callers act on. They come wrapped.
var (
	// ErrDecrypt says that the key or password is not the file's, or that the
	// file was altered.
	ErrDecrypt = errors.New("it cannot be decrypted: the key or password is not its own, or it was altered")
	// ErrNoKey says that nothing was given that gives a file's key.
	ErrNoKey = errors.New("it is encrypted")
	// ErrUnsupported says that an algorithm is not known here, or refused.
	ErrUnsupported = errors.New("unsupported encryption")
	// ErrInvalid says that the section is not as the standard has it.
	ErrInvalid = errors.New("invalid EncryptionSection")
)

const (
	xenc   = "http://www.w3.org/2001/04/xmlenc#"
	xenc11 = "http://www.w3.org/2009/xmlenc11#"
	dsig   = "http://www.w3.org/2000/09/xmldsig#"
	pkcs5  = "http://www.rsasecurity.com/rsalabs/pkcs/schemas/pkcs-5v2-0#"

	// MaxIterations bounds how long a package may make its reader work.
	MaxIterations = 10_000_000
	// maxTogether bounds it for all the keys of a package.
	maxTogether = 5 * MaxIterations
	// maxCandidates bounds how often a file is read to find its key.
	maxCandidates = 8
	// iterations is what is written, as is usual for PBKDF2 with SHA-256.
	iterations = 600_000
	maxSalt    = 1 << 10
	maxWrapped = 4 << 10
)

// Keys are what the user has. A zero Keys has none.
type Keys struct {
	Password []byte
	Private  []*rsa.PrivateKey
}

// Key is one way to a file's key.
type Key struct {
	// Method is for people: "password (PBKDF2, HMAC-SHA256, 600000
	// iterations)".
	Method string
	// Recipient is the name that the key was wrapped for, where it is given.
	Recipient string

	derived bool
	salt    []byte
	rounds  int
	length  int
	prf     func() hash.Hash

	wrapped   []byte
	oaep, mgf crypto.Hash // 0: PKCS #1 v1.5
	label     []byte
	problem   error // why it cannot be used
	refs      []string

	from, made []byte // the password that a key was derived from, and that
}

// File is a file that is encrypted.
type File struct {
	Href   string
	Cipher Cipher
	// Keys are the ways to its key.
	Keys []*Key

	element *xmldoc.Element
	node    *ovf.File
	problem error
}

// Read gives the encrypted files of a descriptor, none where none is. What is
// not understood of one gives an error only when its key is asked for.
func Read(doc *ovf.Document) ([]*File, error) {
	var files []*File
	var keys []*Key
	var err error
	nodes := map[string]*ovf.File{}
	for _, f := range doc.Envelope().References {
		nodes[f.ID] = f
	}
	root := doc.Tree().Root()
	root.Walk(func(e *xmldoc.Element) bool {
		switch {
		case err != nil:
			return false
		case e.Is(xenc, "EncryptedData") && e.Parent != nil && e.Parent.Local == "File":
			f := readFile(e, nodes)
			if f == nil {
				err = fmt.Errorf("%w: line %d: EncryptedData of no file", ErrInvalid, line(e))
				return false
			}
			files = append(files, f)
			return false
		case e.Local == "DerivedKey" && (e.Space == xenc11 || e.Space == xenc):
			keys = append(keys, readDerived(e))
			return false
		case e.Is(xenc, "EncryptedKey"):
			keys = append(keys, readWrapped(e))
			return false
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	if len(files) > 0 && len(keys)*len(files) > 1_000_000 {
		return nil, fmt.Errorf("%w: %d keys for %d files", ErrInvalid, len(keys), len(files))
	}
	together := 0
	for _, k := range keys {
		if k.problem != nil {
			continue
		}
		if together += k.rounds; together > maxTogether {
			return nil, fmt.Errorf("%w: the keys are derived by more than %d iterations together", ErrInvalid, maxTogether)
		}
	}
	for _, f := range files {
		id, _ := f.element.Attr("", "Id")
		for _, k := range keys {
			for _, ref := range k.refs {
				if ref == id || ref == f.node.ID || ref == f.Href {
					f.Keys = append(f.Keys, k)
					break
				}
			}
		}
	}
	return files, nil
}

func line(e *xmldoc.Element) int { n, _ := e.Position(); return n }

// child finds an element by its local name at any depth: producers differ in
// where they put parameters, and in their namespace.
func child(e *xmldoc.Element, local string) *xmldoc.Element {
	var found *xmldoc.Element
	e.Walk(func(x *xmldoc.Element) bool {
		if found == nil && x != e && x.Local == local {
			found = x
		}
		return found == nil
	})
	return found
}

func text(e *xmldoc.Element, local string) string {
	if c := child(e, local); c != nil {
		return strings.TrimSpace(c.Text())
	}
	return ""
}

func algorithm(e *xmldoc.Element, local string) string {
	if c := child(e, local); c != nil {
		a, _ := c.Attr("", "Algorithm")
		return a
	}
	return ""
}

func binaryText(s string, most int) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil || len(b) == 0 || len(b) > most {
		return nil, fmt.Errorf("%w: base64 of 1 to %d bytes is expected", ErrInvalid, most)
	}
	return b, nil
}

// CipherOf says whether a file is encrypted, and how. One that is not known has
// its URI for a name.
func CipherOf(f *ovf.File) (c Cipher, encrypted bool) {
	e := f.Element()
	if e == nil {
		return c, false
	}
	for _, child := range e.Children {
		if child.Is(xenc, "EncryptedData") {
			return cipherOf(child), true
		}
	}
	return c, false
}

func cipherOf(e *xmldoc.Element) Cipher {
	uri := algorithm(e, "EncryptionMethod")
	for _, c := range ciphers {
		if c.URI == uri {
			return c
		}
	}
	return Cipher{Name: uri, URI: uri}
}

func readFile(e *xmldoc.Element, nodes map[string]*ovf.File) *File {
	var node *ovf.File
	for _, a := range e.Parent.Attrs {
		if a.Local == "id" {
			node = nodes[a.Value]
		}
	}
	if node == nil {
		return nil
	}
	f := &File{Href: node.Href, element: e, node: node, Cipher: cipherOf(e)}
	if f.Cipher.KeySize == 0 {
		f.problem = fmt.Errorf("%s: cipher %q: %w", f.Href, f.Cipher.URI, ErrUnsupported)
	}
	if r := child(e, "CipherReference"); r != nil {
		to, _ := r.Attr("", "URI")
		if plain, err := url.PathUnescape(to); to != f.Href && (err != nil || plain != f.Href) {
			f.problem = fmt.Errorf("%s: line %d: %w: the CipherReference names another file, %q", f.Href, line(r), ErrInvalid, to)
		}
	}
	return f
}

func references(e *xmldoc.Element) (ids []string) {
	e.Walk(func(x *xmldoc.Element) bool {
		if x.Local == "DataReference" {
			uri, _ := x.Attr("", "URI")
			ids = append(ids, strings.TrimPrefix(uri, "#"))
		}
		return true
	})
	return ids
}

func readDerived(e *xmldoc.Element) *Key {
	k := &Key{derived: true, refs: references(e), Method: "password"}
	bad := func(format string, args ...any) *Key {
		k.problem = fmt.Errorf("line %d: "+format, append([]any{line(e)}, args...)...)
		return k
	}
	if m := algorithm(e, "KeyDerivationMethod"); !strings.HasSuffix(m, "#pbkdf2") {
		return bad("key derivation %q: %w", m, ErrUnsupported)
	}
	var err error
	if k.salt, err = binaryText(text(e, "Specified"), maxSalt); err != nil {
		return bad("salt: %w", err)
	}
	if k.rounds, err = strconv.Atoi(text(e, "IterationCount")); err != nil || k.rounds < 1 || k.rounds > MaxIterations {
		return bad("%w: an IterationCount of 1 to %d is expected", ErrInvalid, MaxIterations)
	}
	if s := text(e, "KeyLength"); s != "" {
		if k.length, err = strconv.Atoi(s); err != nil || k.length != 16 && k.length != 24 && k.length != 32 {
			return bad("%w: a KeyLength of 16, 24 or 32 is expected", ErrInvalid)
		}
	}
	prf := strings.ToLower(algorithm(e, "PRF"))
	name := ""
	switch _, algorithm, _ := strings.Cut(prf, "#"); algorithm {
	case "", "hmac-sha1":
		k.prf, name = sha1.New, "HMAC-SHA1"
	case "hmac-sha256":
		k.prf, name = sha256.New, "HMAC-SHA256"
	case "hmac-sha512":
		k.prf, name = sha512.New, "HMAC-SHA512"
	default:
		return bad("pseudorandom function %q: %w", prf, ErrUnsupported)
	}
	k.Method = fmt.Sprintf("password (PBKDF2, %s, %d iterations)", name, k.rounds)
	return k
}

func readWrapped(e *xmldoc.Element) *Key {
	k := &Key{refs: references(e), Recipient: text(e, "KeyName"), oaep: crypto.SHA1, mgf: crypto.SHA1}
	if k.Recipient == "" {
		k.Recipient, _ = e.Attr("", "Recipient")
	}
	var err error
	if k.wrapped, err = binaryText(text(e, "CipherValue"), maxWrapped); err != nil {
		k.problem = fmt.Errorf("line %d: wrapped key: %w", line(e), err)
	}
	digests := map[string]crypto.Hash{"": crypto.SHA1, "sha1": crypto.SHA1, "sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512}
	digest := func(uri, prefix string) crypto.Hash {
		_, name, _ := strings.Cut(uri, "#")
		h, ok := digests[strings.TrimPrefix(name, prefix)]
		if !ok {
			k.problem = fmt.Errorf("line %d: digest %q: %w", line(e), uri, ErrUnsupported)
		}
		return h
	}
	switch m := algorithm(e, "EncryptionMethod"); m {
	case xenc + "rsa-oaep-mgf1p":
		k.Method, k.oaep = "RSA-OAEP", digest(algorithm(e, "DigestMethod"), "")
	case xenc11 + "rsa-oaep":
		k.Method, k.oaep, k.mgf = "RSA-OAEP", digest(algorithm(e, "DigestMethod"), ""), digest(algorithm(e, "MGF"), "mgf1")
	case xenc + "rsa-1_5":
		k.Method, k.oaep = "RSA PKCS #1 v1.5, which is weak", 0
	default:
		k.problem = fmt.Errorf("line %d: key transport %q: %w", line(e), m, ErrUnsupported)
	}
	if p := text(e, "OAEPparams"); p != "" {
		if k.label, err = binaryText(p, maxSalt); err != nil {
			k.problem = fmt.Errorf("line %d: OAEPparams: %w", line(e), err)
		}
	}
	return k
}

// Candidates gives the keys that a file may have by what the user has: one, as a
// rule. There are several where the package has keys of several passwords, or keys
// that are wrapped in the old way, of which nothing shows whose they are: Pick
// finds which is the file's. The error is ErrNoKey where there is none, and says
// what would lead to one.
func (f *File) Candidates(have Keys) ([][]byte, error) {
	if f.problem != nil {
		return nil, f.problem
	}
	var all [][]byte
	var methods []string
	var problems []error
	for _, k := range f.Keys {
		if !slices.Contains(methods, k.Method) {
			methods = append(methods, k.Method)
		}
		if k.problem != nil {
			problems = append(problems, k.problem)
			continue
		}
		if k.derived {
			key, err := k.derive(have.Password, f.Cipher.KeySize)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f.Href, err)
			}
			if key != nil {
				all = append(all, key)
			}
			continue
		}
		for _, private := range have.Private {
			key := k.unwrap(private, f.Cipher.KeySize)
			if key != nil && k.oaep != 0 {
				return [][]byte{key}, nil // nobody else's can be unwrapped
			}
			if key != nil {
				all = append(all, key)
			}
		}
	}
	if len(all) > maxCandidates {
		return nil, fmt.Errorf("%s: %w: %d keys may be its own, and at most %d are tried", f.Href, ErrUnsupported, len(all), maxCandidates)
	}
	if len(all) > 0 {
		return all, nil
	}
	if len(methods) == 0 {
		methods = []string{"a key that the descriptor does not tell of"}
	}
	return nil, errors.Join(append([]error{fmt.Errorf("%s: %w, and needs: %s", f.Href, ErrNoKey, strings.Join(methods, " or "))}, problems...)...)
}

// Pick finds which of the candidates is a file's key. Where there are several, the
// file, which read writes, is read for each until one decrypts it.
func (f *File) Pick(candidates [][]byte, read func(io.Writer) error) ([]byte, error) {
	if len(candidates) == 1 {
		return candidates[0], nil
	}
	for _, key := range candidates {
		r, w := io.Pipe()
		done := make(chan error, 1)
		go func() {
			err := read(w)
			w.CloseWithError(err)
			done <- err
		}()
		err := f.Cipher.Decrypt(io.Discard, r, key)
		r.CloseWithError(ErrDecrypt) // ends read, where it has not
		if cause := <-done; cause != nil && !errors.Is(cause, ErrDecrypt) {
			return nil, cause
		}
		if err == nil {
			return key, nil
		}
		if !errors.Is(err, ErrDecrypt) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s: %w", f.Href, ErrDecrypt)
}

// derive gives the key that a password leads to, nil without one. It takes its
// time, once for all files.
func (k *Key) derive(password []byte, size int) ([]byte, error) {
	if password == nil {
		return nil, nil
	}
	if k.length != 0 {
		size = k.length
	}
	if k.made == nil || !bytes.Equal(k.from, password) || len(k.made) != size {
		key, err := pbkdf2.Key(k.prf, string(password), k.salt, k.rounds, size)
		if err != nil {
			return nil, fmt.Errorf("PBKDF2: %w", ErrUnsupported)
		}
		k.from, k.made = bytes.Clone(password), key
	}
	return k.made, nil
}

// unwrap gives nil where the key was wrapped for another.
func (k *Key) unwrap(private *rsa.PrivateKey, size int) []byte {
	if k.oaep == 0 {
		// A random key where the padding is wrong, so that nobody learns
		// of it by trying.
		key := make([]byte, size)
		//lint:ignore SA1019 it is read, for packages that are there, and never written
		if _, err := rand.Read(key); err != nil || rsa.DecryptPKCS1v15SessionKey(nil, private, k.wrapped, key) != nil {
			return nil
		}
		return key
	}
	key, err := private.Decrypt(nil, k.wrapped, &rsa.OAEPOptions{Hash: k.oaep, MGFHash: k.mgf, Label: k.label})
	if err != nil {
		return nil
	}
	return key
}

// To says for whom files are encrypted: those who know the password, or those
// who have one of the certificates' keys.
type To struct {
	Password   []byte
	Recipients []*x509.Certificate
	Cipher     Cipher
	// Open, where set, says which files stay as they are.
	Open func(*ovf.File) bool
}

// Encrypt gives the descriptor of a package all of whose files are encrypted, but
// those that to.Open leaves out, and their key. The files' own bytes are encrypted by the cipher with it.
// ovf:size becomes that of the encrypted files.
func Encrypt(doc *ovf.Document, to To) (*ovf.Document, []byte, error) {
	if already, err := Read(doc); err != nil || len(already) > 0 {
		if err == nil {
			err = fmt.Errorf("%w: it is encrypted already", ErrUnsupported)
		}
		return nil, nil, err
	}
	env := doc.Envelope()
	var edits []ovf.Edit
	var refs strings.Builder
	for i, f := range env.References {
		if to.Open != nil && to.Open(f) {
			continue
		}
		if f.ChunkSize != 0 {
			return nil, nil, fmt.Errorf("%s: %w: files in chunks are not encrypted", f.Href, ErrUnsupported)
		}
		id := fmt.Sprintf("encrypted-%d", i+1)
		edits = append(edits, ovf.Append(f.Node, fmt.Sprintf(`<xenc:EncryptedData xmlns:xenc="%s" Id="%s"><xenc:EncryptionMethod Algorithm="%s"/>`+
			`<xenc:CipherData><xenc:CipherReference URI="%s"/></xenc:CipherData></xenc:EncryptedData>`, xenc, id, to.Cipher.URI, xmldoc.EscapeAttr(f.Href))))
		if f.Size >= 0 {
			edits = append(edits, ovf.SetAttr(f.Node, "size", strconv.FormatInt(to.Cipher.Size(f.Size), 10)))
		}
		fmt.Fprintf(&refs, `<xenc:DataReference URI="#%s"/>`, id)
	}
	if len(edits) == 0 {
		return nil, nil, fmt.Errorf("%w: the package has no files", ErrUnsupported)
	}
	list := "<xenc:ReferenceList>" + refs.String() + "</xenc:ReferenceList>"
	key, ways, err := to.keys(list)
	if err != nil {
		return nil, nil, err
	}
	root := doc.Tree().Root()
	prefix, ok := root.PrefixFor(root.Space, false)
	if prefix != "" {
		prefix += ":"
	}
	if !ok {
		prefix = ""
	}
	section := fmt.Sprintf(`<%[1]sEncryptionSection xmlns:xenc="%[2]s" xmlns:xenc11="%[3]s" xmlns:ds="%[4]s"><%[1]sInfo>How the files are encrypted</%[1]sInfo>%[5]s</%[1]sEncryptionSection>`,
		prefix, xenc, xenc11, dsig, ways)
	edits = append(edits, func(d *ovf.Document) ([]xmldoc.Edit, error) {
		for _, e := range d.Tree().Root().Children {
			if e.Local == "References" {
				edit, err := e.InsertAfter(section)
				return []xmldoc.Edit{edit}, err
			}
		}
		return nil, fmt.Errorf("%w: there are no References", ErrInvalid)
	})
	out, err := doc.Apply(edits...)
	return out, key, err
}

func (to To) keys(list string) (key []byte, xml string, err error) {
	if (to.Password != nil) == (len(to.Recipients) > 0) {
		return nil, "", fmt.Errorf("%w: either a password or recipients are needed", ErrUnsupported)
	}
	if to.Password != nil {
		if len(to.Password) == 0 {
			return nil, "", fmt.Errorf("%w: an empty password", ErrUnsupported)
		}
		salt := make([]byte, 16)
		if _, err := rand.Read(salt); err != nil {
			return nil, "", err
		}
		key, err := pbkdf2.Key(sha256.New, string(to.Password), salt, iterations, to.Cipher.KeySize)
		return key, fmt.Sprintf(`<xenc11:DerivedKey><xenc11:KeyDerivationMethod Algorithm="%spbkdf2"><xenc11:PBKDF2-params><xenc11:Salt><xenc11:Specified>%s</xenc11:Specified></xenc11:Salt>`+
			`<xenc11:IterationCount>%d</xenc11:IterationCount><xenc11:KeyLength>%d</xenc11:KeyLength><xenc11:PRF Algorithm="http://www.w3.org/2001/04/xmldsig-more#hmac-sha256"/>`+
			`</xenc11:PBKDF2-params></xenc11:KeyDerivationMethod>%s</xenc11:DerivedKey>`,
			xenc11, base64.StdEncoding.EncodeToString(salt), iterations, to.Cipher.KeySize, list), err
	}
	key = make([]byte, to.Cipher.KeySize)
	if _, err := rand.Read(key); err != nil {
		return nil, "", err
	}
	var b strings.Builder
	for _, c := range to.Recipients {
		public, ok := c.PublicKey.(*rsa.PublicKey)
		if !ok {
			return nil, "", fmt.Errorf("%s: %w: its key is not an RSA key", c.Subject, ErrUnsupported)
		}
		wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public, key, nil)
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", c.Subject, err)
		}
		fmt.Fprintf(&b, `<xenc:EncryptedKey><xenc:EncryptionMethod Algorithm="%srsa-oaep"><ds:DigestMethod Algorithm="%ssha256"/><xenc11:MGF Algorithm="%smgf1sha256"/></xenc:EncryptionMethod>`+
			`<ds:KeyInfo><ds:KeyName>%s</ds:KeyName></ds:KeyInfo><xenc:CipherData><xenc:CipherValue>%s</xenc:CipherValue></xenc:CipherData>%s</xenc:EncryptedKey>`,
			xenc11, xenc, xenc11, xmldoc.EscapeText(c.Subject.String()), base64.StdEncoding.EncodeToString(wrapped), list)
	}
	return key, b.String(), nil
}

// Plain gives the descriptor without what encryption added to it. sizes are
// those of the files when they are decrypted, by href; -1 for one that is not
// known, whose ovf:size goes.
func Plain(doc *ovf.Document, sizes map[string]int64) (*ovf.Document, error) {
	files, err := Read(doc)
	if err != nil {
		return nil, err
	}
	var edits []ovf.Edit
	for _, f := range files {
		if n, ok := sizes[f.Href]; ok && n >= 0 {
			edits = append(edits, ovf.SetAttr(f.node.Node, "size", strconv.FormatInt(n, 10)))
		} else if f.node.Size >= 0 {
			edits = append(edits, ovf.RemoveAttr(f.node.Node, "size"))
		}
	}
	edits = append(edits, func(d *ovf.Document) ([]xmldoc.Edit, error) {
		var out []xmldoc.Edit
		for _, f := range files {
			out = append(out, f.element.Remove())
		}
		for _, e := range d.Tree().Root().Children {
			if e.Local == string(ovf.EncryptionSection) {
				out = append(out, e.Remove())
			}
		}
		return out, nil
	})
	return doc.Apply(edits...)
}
