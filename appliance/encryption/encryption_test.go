package encryption

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ovation-project/ovation/internal/testenv"
	"github.com/ovation-project/ovation/ovf"
)

const descriptor = `<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/2" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/2">
  <References>
    <File ovf:id="f" ovf:href="a &amp; b.vmdk" ovf:size="100"/>
    <File ovf:id="g" ovf:href="c.iso"/>
  </References>
  <DiskSection><Info/><Disk ovf:diskId="d" ovf:fileRef="f" ovf:capacity="1048576"/></DiskSection>
  <VirtualSystem ovf:id="a"><Info/></VirtualSystem>
</Envelope>
`

func parse(t testing.TB, text string) *ovf.Document {
	t.Helper()
	d, err := ovf.Parse([]byte(text), ovf.ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestWhatIsEncryptedIsDecrypted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.SampledFrom(ciphers).Draw(t, "cipher")
		n := rapid.OneOf(rapid.IntRange(0, 70), rapid.IntRange(piece-40, piece+40), rapid.IntRange(0, 300_000)).Draw(t, "size")
		key, data := make([]byte, c.KeySize), make([]byte, n)
		rand.Read(key)
		rand.Read(data)
		var sealed, opened bytes.Buffer
		if err := c.Encrypt(&sealed, bytes.NewReader(data), key); err != nil {
			t.Fatal(err)
		}
		if int64(sealed.Len()) != c.Size(int64(n)) {
			t.Fatalf("%d bytes became %d, and Size says %d", n, sealed.Len(), c.Size(int64(n)))
		}
		if err := c.Decrypt(&opened, bytes.NewReader(sealed.Bytes()), key); err != nil || !bytes.Equal(opened.Bytes(), data) {
			t.Fatalf("%s of %d bytes: %v", c.Name, n, err)
		}
		if !c.gcm {
			return
		}
		block, _ := aes.NewCipher(key)
		std, _ := cipher.NewGCM(block)
		if got, err := std.Open(nil, sealed.Bytes()[:nonceSize], sealed.Bytes()[nonceSize:], nil); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("the standard library's GCM of %d bytes: %v", n, err)
		}
		bad := bytes.Clone(sealed.Bytes())
		bad[rapid.IntRange(0, len(bad)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if err := c.Decrypt(&bytes.Buffer{}, bytes.NewReader(bad), key); !errors.Is(err, ErrDecrypt) {
			t.Fatalf("an altered byte: %v", err)
		}
	})
}

// TestOpenSSLDecrypts has OpenSSL derive the key from the section and decrypt.
func TestOpenSSLDecrypts(t *testing.T) {
	openssl := testenv.NeedTool(t, "openssl")
	c, err := CipherByName("aes256-cbc")
	if err != nil {
		t.Fatal(err)
	}
	doc, key, err := Encrypt(parse(t, descriptor), To{Password: []byte("horse staple"), Cipher: c})
	if err != nil {
		t.Fatal(err)
	}
	files, err := Read(doc)
	if err != nil {
		t.Fatal(err)
	}
	salt := hex.EncodeToString(files[0].Keys[0].salt)
	out, err := exec.Command(openssl, "kdf", "-keylen", "32", "-kdfopt", "digest:SHA256", "-kdfopt", "pass:horse staple",
		"-kdfopt", "hexsalt:"+salt, "-kdfopt", "iter:600000", "-binary", "PBKDF2").Output()
	if err != nil || !bytes.Equal(out, key) {
		t.Fatalf("OpenSSL derives another key (%v)", err)
	}
	data := bytes.Repeat([]byte("content "), 20_000)
	var sealed bytes.Buffer
	if err := c.Encrypt(&sealed, bytes.NewReader(data), key); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(openssl, "enc", "-d", "-aes-256-cbc", "-K", hex.EncodeToString(key), "-iv", hex.EncodeToString(sealed.Bytes()[:16]))
	cmd.Stdin = bytes.NewReader(sealed.Bytes()[16:])
	if got, err := cmd.Output(); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("OpenSSL decrypts something else (%v)", err)
	}
}

// only gives the only key that a file may have.
func only(f *File, have Keys) ([]byte, error) {
	keys, err := f.Candidates(have)
	if err != nil {
		return nil, err
	}
	if len(keys) != 1 {
		return nil, fmt.Errorf("%d keys", len(keys))
	}
	return keys[0], nil
}

func recipient(t *testing.T) (*rsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "A <& B"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}

// TestOpenSSLUnwraps has OpenSSL unwrap a key with the recipient's own.
func TestOpenSSLUnwraps(t *testing.T) {
	openssl := testenv.NeedTool(t, "openssl")
	private, cert := recipient(t)
	c, _ := CipherByName("aes128-gcm")
	doc, key, err := Encrypt(parse(t, descriptor), To{Recipients: []*x509.Certificate{cert}, Cipher: c})
	if err != nil {
		t.Fatal(err)
	}
	files, err := Read(doc)
	if err != nil {
		t.Fatal(err)
	}
	if k := files[1].Keys[0]; k.Recipient != cert.Subject.String() {
		t.Errorf("the recipient is %q", k.Recipient)
	}
	path := filepath.Join(t.TempDir(), "key.der")
	if err := os.WriteFile(path, x509.MarshalPKCS1PrivateKey(private), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(openssl, "pkeyutl", "-decrypt", "-inkey", path, "-keyform", "DER",
		"-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256", "-pkeyopt", "rsa_mgf1_md:sha256")
	cmd.Stdin = bytes.NewReader(files[0].Keys[0].wrapped)
	if got, err := cmd.Output(); err != nil || !bytes.Equal(got, key) {
		t.Errorf("OpenSSL unwraps another key (%v)", err)
	}
	for _, f := range files {
		if got, err := only(f, Keys{Private: []*rsa.PrivateKey{private}}); err != nil || !bytes.Equal(got, key) {
			t.Errorf("%s: another key: %v", f.Href, err)
		}
	}
	other, _ := recipient(t)
	if _, err := only(files[0], Keys{Private: []*rsa.PrivateKey{other}, Password: []byte("x")}); !errors.Is(err, ErrNoKey) {
		t.Errorf("another's key: %v", err)
	}
}

func TestDescriptorThereAndBack(t *testing.T) {
	c, _ := CipherByName("aes256-gcm")
	before := parse(t, descriptor)
	doc, key, err := Encrypt(before, To{Password: []byte("secret"), Cipher: c})
	if err != nil {
		t.Fatal(err)
	}
	if f := doc.Envelope().References[0]; f.Size != c.Size(100) {
		t.Errorf("ovf:size is %d", f.Size)
	}
	again := parse(t, string(doc.Bytes()))
	files, err := Read(again)
	if err != nil || len(files) != 2 || files[0].Href != "a & b.vmdk" {
		t.Fatalf("%v, %v", files, err)
	}
	if got, err := only(files[0], Keys{Password: []byte("secret")}); err != nil || !bytes.Equal(got, key) {
		t.Errorf("another key: %v", err)
	}
	if _, err := only(files[0], Keys{}); !errors.Is(err, ErrNoKey) || !strings.Contains(err.Error(), "PBKDF2, HMAC-SHA256, 600000") {
		t.Errorf("no key: %v", err)
	}
	plain, err := Plain(again, map[string]int64{"a & b.vmdk": 100})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(plain.Bytes()), "ncrypt") {
		t.Errorf("something is left of it:\n%s", plain.Bytes())
	}
	if _, _, err := Encrypt(again, To{Password: []byte("x"), Cipher: c}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("twice: %v", err)
	}
}

// example is the shape of the standard's own example.
const example = `<ovf:Envelope xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/2" xmlns:xenc="http://www.w3.org/2001/04/xmlenc#" xmlns:xenc11="http://www.w3.org/2009/xmlenc11#" xmlns:p="http://www.rsasecurity.com/rsalabs/pkcs/schemas/pkcs-5v2-0#">
<ovf:References><ovf:File ovf:id="x" ovf:href="Ref-109.vhd"><xenc:EncryptedData Id="first.vhd" Type="http://www.w3.org/2001/04/xmlenc#Element">
<xenc:EncryptionMethod Algorithm="CIPHER"/><xenc:CipherData><xenc:CipherReference URI="Ref-109.vhd"/></xenc:CipherData></xenc:EncryptedData></ovf:File></ovf:References>
<ovf:EncryptionSection><ovf:Info>i</ovf:Info><xenc11:DerivedKey><xenc11:KeyDerivationMethod Algorithm="http://www.rsasecurity.com/rsalabs/pkcs/schemas/pkcs-5#pbkdf2"/>
<p:PBKDF2-params><Salt><Specified>AAECAwQFBgc=</Specified></Salt><IterationCount>ROUNDS</IterationCount><KeyLength>16</KeyLength><PRF Algorithm="http://www.w3.org/2001/04/xmldsig-more#hmac-sha256"/></p:PBKDF2-params>
<xenc:ReferenceList><xenc:DataReference URI="#first.vhd"/></xenc:ReferenceList></xenc11:DerivedKey></ovf:EncryptionSection>
<ovf:VirtualSystem ovf:id="a"><ovf:Info>a</ovf:Info></ovf:VirtualSystem></ovf:Envelope>`

func TestTheStandardsShape(t *testing.T) {
	key := func(cipher, rounds string) ([]byte, error) {
		files, err := Read(parse(t, strings.NewReplacer("CIPHER", cipher, "ROUNDS", rounds).Replace(example)))
		if err != nil {
			t.Fatal(err)
		}
		return only(files[0], Keys{Password: []byte("pw")})
	}
	if k, err := key(xenc+"aes128-cbc", "4096"); err != nil || len(k) != 16 {
		t.Errorf("a key of %d bytes, %v", len(k), err)
	}
	if _, err := key(xenc+"aes128-cbc", "2000000000"); !errors.Is(err, ErrInvalid) {
		t.Errorf("iterations without end: %v", err)
	}
	if _, err := key(xenc+"tripledes-cbc", "4096"); !errors.Is(err, ErrUnsupported) {
		t.Errorf("an unknown cipher: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(example)
	f.Add(descriptor)
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ovf.Parse([]byte(text), ovf.ParseOptions{})
		if err != nil {
			return
		}
		files, err := Read(d)
		if err != nil {
			return
		}
		for _, file := range files {
			_, _ = file.Candidates(Keys{})
		}
	})
}
