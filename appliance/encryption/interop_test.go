package encryption

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/internal/testenv"
)

// sealedBy is a descriptor of one encrypted file with these keys in its section.
func sealedBy(cipher string, keys ...string) string {
	return `<ovf:Envelope xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/2" xmlns:xenc="` + xenc + `" xmlns:xenc11="` + xenc11 + `" xmlns:ds="` + dsig + `">
<ovf:References><ovf:File ovf:id="x" ovf:href="a.bin"><xenc:EncryptedData Id="e"><xenc:EncryptionMethod Algorithm="` + cipher + `"/>
<xenc:CipherData><xenc:CipherReference URI="a.bin"/></xenc:CipherData></xenc:EncryptedData></ovf:File></ovf:References>
<ovf:EncryptionSection><ovf:Info>i</ovf:Info>` + strings.Join(keys, "") + `</ovf:EncryptionSection>
<ovf:VirtualSystem ovf:id="a"><ovf:Info>a</ovf:Info></ovf:VirtualSystem></ovf:Envelope>`
}

const list = `<xenc:ReferenceList><xenc:DataReference URI="#e"/></xenc:ReferenceList>`

func oldWrap(t *testing.T, to *rsa.PrivateKey, key []byte) string {
	t.Helper()
	//lint:ignore SA1019 what others may have written
	wrapped, err := rsa.EncryptPKCS1v15(rand.Reader, &to.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return `<xenc:EncryptedKey><xenc:EncryptionMethod Algorithm="` + xenc + `rsa-1_5"/><xenc:CipherData><xenc:CipherValue>` +
		base64.StdEncoding.EncodeToString(wrapped) + `</xenc:CipherValue></xenc:CipherData>` + list + `</xenc:EncryptedKey>`
}

func derived(salt string, rounds int) string {
	return fmt.Sprintf(`<xenc11:DerivedKey><xenc11:KeyDerivationMethod Algorithm="%spbkdf2"><xenc11:PBKDF2-params><xenc11:Salt><xenc11:Specified>%s</xenc11:Specified></xenc11:Salt>`+
		`<xenc11:IterationCount>%d</xenc11:IterationCount><xenc11:KeyLength>16</xenc11:KeyLength><xenc11:PRF Algorithm="http://www.w3.org/2001/04/xmldsig-more#hmac-sha256"/></xenc11:PBKDF2-params>`+
		`</xenc11:KeyDerivationMethod>%s</xenc11:DerivedKey>`, xenc11, base64.StdEncoding.EncodeToString([]byte(salt)), rounds, list)
}

// TestSeveralKeys has files that several can open, where nothing shows which key
// is whose: whoever has any of them gets the file's.
func TestSeveralKeys(t *testing.T) {
	alice, _ := recipient(t)
	bob, _ := recipient(t)
	carol, _ := recipient(t)
	c, err := CipherByName("aes128-gcm")
	if err != nil {
		t.Fatal(err)
	}
	content := bytes.Repeat([]byte("content "), 20_000)
	seal := func(key []byte) []byte {
		var b bytes.Buffer
		if err := c.Encrypt(&b, bytes.NewReader(content), key); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	key := make([]byte, 16)
	if _, err := rand.Read(key); err != nil {
		t.Fatal(err)
	}
	wrapped := sealedBy(c.URI, oldWrap(t, alice, key), oldWrap(t, bob, key))
	passwords := sealedBy(c.URI, derived("one salt", 1000), derived("another", 1000))
	second, err := Read(parse(t, passwords))
	if err != nil {
		t.Fatal(err)
	}
	ways, err := second[0].Candidates(Keys{Password: []byte("pw")})
	if err != nil || len(ways) != 2 {
		t.Fatalf("%d keys, %v", len(ways), err)
	}
	for name, test := range map[string]struct {
		descriptor string
		have       Keys
		stored     []byte
		key        []byte // nil where it is not to be had
	}{
		"the first recipient":  {wrapped, Keys{Private: []*rsa.PrivateKey{alice}}, seal(key), key},
		"the second recipient": {wrapped, Keys{Private: []*rsa.PrivateKey{bob}}, seal(key), key},
		"nobody":               {wrapped, Keys{Private: []*rsa.PrivateKey{carol}}, seal(key), nil},
		"the first password":   {passwords, Keys{Password: []byte("pw")}, seal(ways[0]), ways[0]},
		"the second password":  {passwords, Keys{Password: []byte("pw")}, seal(ways[1]), ways[1]},
		"a wrong password":     {passwords, Keys{Password: []byte("no")}, seal(ways[1]), nil},
	} {
		files, err := Read(parse(t, test.descriptor))
		if err != nil {
			t.Fatal(err)
		}
		candidates, err := files[0].Candidates(test.have)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := files[0].Pick(candidates, func(w io.Writer) error { _, err := w.Write(test.stored); return err })
		if test.key == nil {
			if !errors.Is(err, ErrDecrypt) {
				t.Errorf("%s: %x, %v", name, got, err)
			}
		} else if err != nil || !bytes.Equal(got, test.key) {
			t.Errorf("%s: another key, %v", name, err)
		}
	}
	gone := errors.New("gone")
	if _, err := second[0].Pick(ways, func(io.Writer) error { return gone }); !errors.Is(err, gone) {
		t.Errorf("a file that cannot be read: %v", err)
	}
}

// TestKeysThatTakeForever has many keys each of which takes as long as one may.
func TestKeysThatTakeForever(t *testing.T) {
	var many []string
	for i := range 6 {
		many = append(many, derived(fmt.Sprint("salt ", i), MaxIterations))
	}
	if _, err := Read(parse(t, sealedBy(xenc+"aes128-cbc", many...))); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
	many = nil
	for i := range maxCandidates + 1 {
		many = append(many, derived(fmt.Sprint("salt ", i), 1))
	}
	files, err := Read(parse(t, sealedBy(xenc+"aes128-cbc", many...)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := files[0].Candidates(Keys{Password: []byte("pw")}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("%v", err)
	}
}

// xmlsec runs the XML security library's own program in dir.
func xmlsec(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command(testenv.NeedTool(t, "xmlsec1"), args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("xmlsec1 %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func put(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestXMLSecEncrypts has another implementation of XML Encryption encrypt a file
// and wrap its key, with every cipher and in both ways; what it writes is put into
// a package as it is.
func TestXMLSecEncrypts(t *testing.T) {
	testenv.NeedTool(t, "xmlsec1")
	private, cert := recipient(t)
	dir := t.TempDir()
	content := bytes.Repeat([]byte("what the file holds "), 10_000)[:100_001]
	put(t, dir, "content", content)
	put(t, dir, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	value := regexp.MustCompile(`(?s)<CipherValue>(.*?)</CipherValue>`)
	for _, c := range ciphers {
		for _, transport := range []string{"rsa-oaep-mgf1p", "rsa-1_5"} {
			wrapped := fmt.Sprintf(`<EncryptedKey xmlns="%s"><EncryptionMethod Algorithm="%s%s"/><CipherData><CipherValue/></CipherData></EncryptedKey>`, xenc, xenc, transport)
			put(t, dir, "template.xml", fmt.Appendf(nil, `<EncryptedData xmlns="%s"><EncryptionMethod Algorithm="%s"/><KeyInfo xmlns="%s">%s</KeyInfo><CipherData><CipherValue/></CipherData></EncryptedData>`,
				xenc, c.URI, dsig, wrapped))
			xmlsec(t, dir, "--encrypt", "--pubkey-cert-pem", "cert.pem", "--session-key", fmt.Sprint("aes-", c.KeySize*8), "--binary-data", "content", "--output", "out.xml", "template.xml")
			out, err := os.ReadFile(filepath.Join(dir, "out.xml"))
			if err != nil {
				t.Fatal(err)
			}
			values := value.FindAllSubmatch(out, -1)
			if len(values) != 2 {
				t.Fatalf("%d values in\n%s", len(values), out)
			}
			stored, err := binaryText(string(values[1][1]), 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			key := strings.Replace(strings.Replace(wrapped, "<CipherValue/>", string(values[0][0]), 1), "</EncryptedKey>", list+"</EncryptedKey>", 1)
			files, err := Read(parse(t, sealedBy(c.URI, key)))
			if err != nil {
				t.Fatal(err)
			}
			found, err := only(files[0], Keys{Private: []*rsa.PrivateKey{private}})
			if err != nil {
				t.Fatalf("%s, %s: %v", c.Name, transport, err)
			}
			var got bytes.Buffer
			if err := files[0].Cipher.Decrypt(&got, bytes.NewReader(stored), found); err != nil || !bytes.Equal(got.Bytes(), content) {
				t.Errorf("%s, %s: %d bytes, %v", c.Name, transport, got.Len(), err)
			}
		}
	}
}

// TestXMLSecDecrypts has it decrypt a file as it is stored, by the EncryptedData of
// the descriptor, which refers to it.
func TestXMLSecDecrypts(t *testing.T) {
	testenv.NeedTool(t, "xmlsec1")
	_, cert := recipient(t)
	content := bytes.Repeat([]byte("what the file holds "), 10_000)[:100_001]
	for _, c := range ciphers {
		dir := t.TempDir()
		doc, key, err := Encrypt(parse(t, strings.ReplaceAll(descriptor, "a &amp; b.vmdk", "a.vmdk")), To{Recipients: []*x509.Certificate{cert}, Cipher: c})
		if err != nil {
			t.Fatal(err)
		}
		var sealed bytes.Buffer
		if err := c.Encrypt(&sealed, bytes.NewReader(content), key); err != nil {
			t.Fatal(err)
		}
		put(t, dir, "a.vmdk", sealed.Bytes())
		put(t, dir, "key", key)
		text := string(doc.Bytes())
		from, to := strings.Index(text, "<xenc:EncryptedData"), strings.Index(text, "</xenc:EncryptedData>")
		data := text[from:to] + "</xenc:EncryptedData>"
		// Where the key comes from stands elsewhere in a package.
		data = strings.Replace(data, "<xenc:CipherData>", `<ds:KeyInfo xmlns:ds="`+dsig+`"><ds:KeyName>k</ds:KeyName></ds:KeyInfo><xenc:CipherData>`, 1)
		put(t, dir, "data.xml", []byte(data))
		xmlsec(t, dir, "--decrypt", "--aeskey:k", "key", "--output", "out", "data.xml")
		got, err := os.ReadFile(filepath.Join(dir, "out"))
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes, %v", c.Name, len(got), err)
		}
	}
}
