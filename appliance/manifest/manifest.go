// Package manifest reads and writes the manifest of an OVF package (DSP0243
// 1.1.1, clause 5.1): a digest for each file, one a line,
//
//	SHA256(appliance.ovf)= 237de026fb285b85528901da058475e56034da95
//
// in every spelling found in the wild: SHA1 or SHA-1, SHA2-256 as OpenSSL 3
// writes it, upper or lower case, with and without spaces, with any line ends
// and a byte order mark.
package manifest

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" // the standard's first algorithm
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"strings"
)

// MaxSize is the largest manifest that is read, in bytes.
const MaxSize = 16 << 20

// ErrFormat says that the bytes are no manifest. A *SyntaxError says where.
var ErrFormat = errors.New("not a manifest")

// SyntaxError is what is wrong with a manifest, and in which line, counted from
// 1. It is an ErrFormat.
type SyntaxError struct {
	Line int
	Msg  string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Msg) }

// Unwrap gives ErrFormat.
func (e *SyntaxError) Unwrap() error { return ErrFormat }

// Algorithms are the digest algorithms with their names in a manifest.
var algorithms = []struct {
	name string
	hash crypto.Hash
}{
	{"SHA1", crypto.SHA1},
	{"SHA256", crypto.SHA256},
	{"SHA384", crypto.SHA384},
	{"SHA512", crypto.SHA512},
}

// Name gives an algorithm's name as the standard writes it, "" for one that a
// manifest cannot have.
func Name(h crypto.Hash) string {
	for _, a := range algorithms {
		if a.hash == h {
			return a.name
		}
	}
	return ""
}

// Algorithm finds an algorithm by any of its spellings.
func Algorithm(name string) (crypto.Hash, bool) {
	plain := strings.ReplaceAll(strings.ToUpper(name), "-", "")
	if len(plain) == len("SHA2256") { // OpenSSL 3's SHA2-256
		plain = strings.Replace(plain, "SHA2", "SHA", 1)
	}
	for _, a := range algorithms {
		if a.name == plain {
			return a.hash, true
		}
	}
	return 0, false
}

// Digest is one line.
type Digest struct {
	Name string
	Hash crypto.Hash
	Sum  []byte
	Line int
}

// Manifest is a list of digests in their order.
type Manifest struct {
	Digests []Digest
	// lines are the Digests by name, of a manifest that was parsed.
	lines map[string]int
}

// Lookup gives the digest of a file.
func (m *Manifest) Lookup(name string) (Digest, bool) {
	if m.lines != nil {
		if i, ok := m.lines[name]; ok && i < len(m.Digests) && m.Digests[i].Name == name {
			return m.Digests[i], true
		}
	}
	if len(m.lines) != len(m.Digests) { // changed since, or made by hand
		for _, d := range m.Digests {
			if d.Name == name {
				return d, true
			}
		}
	}
	return Digest{}, false
}

// Parse reads a manifest. A file that is named twice, and names that lead out
// of the package, are refused.
func Parse(data []byte) (*Manifest, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%w: it has %d bytes; at most %d are read", ErrFormat, len(data), MaxSize)
	}
	m := &Manifest{lines: map[string]int{}}
	seen := map[string]int{}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	data = bytes.ReplaceAll(bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n"))
	n := 0
	for line := range bytes.SplitSeq(data, []byte("\n")) {
		n++
		text := strings.Trim(string(line), " ") // and no other white space: nobody writes it, and damage makes it
		if text == "" {
			continue
		}
		d, err := parseLine(text)
		if err != nil {
			return nil, &SyntaxError{n, err.Error()}
		}
		d.Line = n
		if first, twice := seen[d.Name]; twice {
			return nil, &SyntaxError{n, fmt.Sprintf("%q has a digest in line %d already", d.Name, first)}
		}
		seen[d.Name] = n
		m.lines[d.Name] = len(m.Digests)
		m.Digests = append(m.Digests, d)
	}
	if len(m.Digests) == 0 {
		return nil, fmt.Errorf("%w: there is no digest in it", ErrFormat)
	}
	return m, nil
}

func parseLine(text string) (Digest, error) {
	var d Digest
	name, rest, ok := strings.Cut(text, "(")
	// The file's name may hold parentheses itself: the last one counts.
	end := strings.LastIndex(rest, ")")
	if !ok || end < 0 {
		return d, errors.New("ALGORITHM(file)= digest is expected")
	}
	if d.Hash, ok = Algorithm(strings.Trim(name, " ")); !ok || mixedCase(name) && mixedCase(strings.TrimLeft(name, "S")) {
		return d, fmt.Errorf("unknown digest algorithm %q; SHA1, SHA256, SHA384 and SHA512 are known", strings.TrimSpace(name))
	}
	d.Name = strings.Trim(rest[:end], " ")
	if err := checkName(d.Name); err != nil {
		return d, err
	}
	sum, ok := strings.CutPrefix(strings.Trim(rest[end+1:], " "), "=")
	if !ok {
		return d, errors.New("= is expected after the file's name")
	}
	var err error
	if mixedCase(sum) {
		return d, errors.New("the digest is written in capital and in small letters, which no program does: the manifest is damaged")
	}
	if d.Sum, err = hex.DecodeString(strings.Trim(sum, " ")); err != nil || len(d.Sum) != d.Hash.Size() {
		return d, fmt.Errorf("a %s digest is %d hexadecimal digits", Name(d.Hash), 2*d.Hash.Size())
	}
	return d, nil
}

// mixedCase says that letters of both cases are in a word. A single bit makes
// one of the other.
func mixedCase(s string) bool { return s != strings.ToUpper(s) && s != strings.ToLower(s) }

func checkName(name string) error {
	if name == "" {
		return errors.New("no file is named")
	}
	if path.IsAbs(name) || strings.ContainsAny(name, "\\\x00") || len(name) > 4096 {
		return fmt.Errorf("%q is not the name of a file in the package", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return fmt.Errorf("%q leads out of the package", name)
		}
	}
	return nil
}

// Style says how lines are written.
type Style struct {
	// Hyphen writes SHA-1 for SHA1, as the standard's own example of a
	// manifest and some consumers have it.
	Hyphen bool
	// NoSpace leaves out the space before the digest.
	NoSpace bool
}

// Marshal writes the manifest.
func (m *Manifest) Marshal(style Style) []byte {
	var b bytes.Buffer
	for _, d := range m.Digests {
		name := Name(d.Hash)
		if style.Hyphen {
			name = "SHA-" + strings.TrimPrefix(name, "SHA")
		}
		space := " "
		if style.NoSpace {
			space = ""
		}
		fmt.Fprintf(&b, "%s(%s)=%s%s\n", name, d.Name, space, hex.EncodeToString(d.Sum))
	}
	return b.Bytes()
}
