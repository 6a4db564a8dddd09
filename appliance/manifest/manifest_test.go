package manifest

import (
	"bytes"
	"crypto"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestSpellings(t *testing.T) {
	one, two := sha1.Sum([]byte("a")), sha256.Sum256([]byte("a"))
	s1, s2 := hex.EncodeToString(one[:]), hex.EncodeToString(two[:])
	for _, line := range []string{
		"SHA1(a b.ovf)= " + s1, "SHA1 (a b.ovf) = " + s1, "SHA-1(a b.ovf)=" + s1, "sha1(a b.ovf)= " + strings.ToUpper(s1),
		"\xef\xbb\xbfSHA1(a b.ovf)= " + s1 + "\r\n\r\n", "\n\nSHA1( a b.ovf )= " + s1 + "  \n", "SHA1(a b.ovf)= " + s1 + "\r",
	} {
		m, err := Parse([]byte(line))
		if err != nil {
			t.Errorf("%q: %v", line, err)
			continue
		}
		if d, ok := m.Lookup("a b.ovf"); !ok || d.Hash != crypto.SHA1 || !bytes.Equal(d.Sum, one[:]) {
			t.Errorf("%q is read as %+v", line, m.Digests)
		}
	}
	for _, name := range []string{"SHA256", "SHA-256", "SHA2-256", "sha256", "Sha2-256"} {
		m, err := Parse([]byte(name + "(x (1).vmdk)= " + s2))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d, ok := m.Lookup("x (1).vmdk"); !ok || d.Hash != crypto.SHA256 {
			t.Errorf("%s is read as %+v", name, m.Digests)
		}
	}
	for _, name := range []string{"SHA384", "SHA2-512", "SHA-512"} {
		if _, ok := Algorithm(name); !ok {
			t.Errorf("%s is not known", name)
		}
	}
}

func TestRefused(t *testing.T) {
	sum := strings.Repeat("0", 40)
	for _, c := range []struct{ in, err string }{
		{"", "no digest"},
		{"\n \n", "no digest"},
		{"hello", "line 1: ALGORITHM(file)= digest is expected"},
		{"\nMD5(a)= " + sum, `line 2: unknown digest algorithm "MD5"`},
		{"SHA1(a) " + sum, "= is expected"},
		{"SHA1(a)= " + sum[1:], "40 hexadecimal digits"},
		{"SHA256(a)= " + sum, "64 hexadecimal digits"},
		{"SHA1(a)= " + sum[1:] + "g", "40 hexadecimal digits"},
		{"SHA1()= " + sum, "no file is named"},
		{"SHA1(/etc/passwd)= " + sum, "not the name of a file"},
		{"SHA1(a/../../b)= " + sum, "leads out of the package"},
		{`SHA1(a\b)= ` + sum, "not the name of a file"},
		{"SHA1(a)= " + sum + "\r\nSHA1(a)= " + sum, `line 2: "a" has a digest in line 1 already`},
		{strings.Repeat(" ", MaxSize+1), "at most"},
	} {
		_, err := Parse([]byte(c.in))
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%.40q: error %v, want one with %q", c.in, err, c.err)
		}
	}
}

func TestWrittenAndReadIsTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &Manifest{}
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-zäé()= .-]*[a-z]\)?`), 1, 5, rapid.ID).Draw(t, "names")
		for i, name := range names {
			name = strings.TrimSpace(name)
			if _, twice := m.Lookup(name); twice {
				t.Skip()
			}
			h := rapid.SampledFrom([]crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512}).Draw(t, "hash")
			m.Digests = append(m.Digests, Digest{Name: name, Hash: h, Sum: bytes.Repeat([]byte{byte(i)}, h.Size()), Line: i + 1})
		}
		got, err := Parse(m.Marshal(Style{Hyphen: rapid.Bool().Draw(t, "hyphen"), NoSpace: rapid.Bool().Draw(t, "space")}))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m.Digests, got.Digests); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("SHA1(a.ovf)= " + strings.Repeat("0", 40) + "\r\nSHA2-256(b (1))=" + strings.Repeat("A", 64)))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Parse(data)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		for _, d := range m.Digests {
			if checkName(d.Name) != nil || len(d.Sum) != d.Hash.Size() {
				t.Fatalf("%+v", d)
			}
		}
	})
}

func ExampleParse() {
	m, err := Parse([]byte("SHA-1(a.ovf)= da39a3ee5e6b4b0d3255bfef95601890afd80709\r\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s", m.Marshal(Style{}))
	// Output: SHA1(a.ovf)= da39a3ee5e6b4b0d3255bfef95601890afd80709
}
