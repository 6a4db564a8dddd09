// Package chunkdigest reads, makes and uses chunk digests: a file of an OVF
// package that has a SHA-256 digest of every 1 MiB of the package's large
// files. It is an extension of Ovation's, described in docs/chunks.md; other
// programs see one more file of the package.
//
// The file is text. Its first line says what it is; each file follows, with its
// name and size, and a line of 64 hexadecimal digits for each of its chunks:
//
//	ovation-chunks 1 SHA256 1048576
//	file 2097153 disk1.vmdk
//	6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d
//	…
//
// A file's chunks are counted from its start, and the last one may be shorter.
// Names are those under which files are stored: chunks and compression of the
// standard's own (ovf:chunkSize, ovf:compression) are below this.
//
// By themselves the digests prove nothing. They are as good as the manifest's
// digest of this file, and that as good as its signature.
package chunkdigest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"strings"

	"github.com/ovation-project/ovation/internal/xmldoc"
	"github.com/ovation-project/ovation/ovf"
)

const (
	// Unit is the size of a chunk in bytes.
	Unit = 1 << 20
	// MaxSize is the largest file of chunk digests that is read, in bytes:
	// enough for disks of a TiB together.
	MaxSize = 96 << 20
	// Ending is how the file's name ends.
	Ending = ".chunks"

	magic    = "ovation-chunks 1 SHA256 1048576"
	maxFiles = 1 << 16
)

// ErrFormat says that the bytes are no chunk digests. Errors that wrap it name
// the line.
var ErrFormat = errors.New("not a file of chunk digests")

// Is says whether a file of a package is one of chunk digests, by its name and
// by how it is stored: as it is.
func Is(f *ovf.File) bool {
	if e := f.Element(); e != nil && slices.ContainsFunc(e.Children, func(c *xmldoc.Element) bool { return c.Local == "EncryptedData" }) {
		return false
	}
	return strings.HasSuffix(strings.ToLower(f.Href), Ending) && f.Compression == "" && f.ChunkSize == 0 && !strings.Contains(f.Href, "://")
}

// MismatchError is a chunk that is not what it should be.
type MismatchError struct {
	Name string
	// Chunk is the chunk's number from 0, First and Last the bytes of the
	// file that it covers.
	Chunk, First, Last int64
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s: chunk %d (bytes %d to %d) is not what its digest says", e.Name, e.Chunk, e.First, e.Last)
}

// File is the chunk digests of one stored file.
type File struct {
	Name string
	// Size is in bytes.
	Size int64
	Sums [][sha256.Size]byte
}

// List is the content of a file of chunk digests.
type List struct {
	Files []*File
}

// Lookup finds a file by its stored name, nil where there is none.
func (l *List) Lookup(name string) *File {
	for _, f := range l.Files {
		if f.Name == name {
			return f
		}
	}
	return nil
}

// Unit is the size of the chunks.
func (f *File) Unit() int64 { return Unit }

// Prove says nil where b is the whole of a chunk, and a *MismatchError where it
// is anything else.
func (f *File) Prove(chunk int64, b []byte) error {
	first := chunk * Unit
	if chunk < 0 || chunk >= int64(len(f.Sums)) {
		return fmt.Errorf("%s: there is no chunk %d", f.Name, chunk)
	}
	n := min(Unit, f.Size-first)
	if int64(len(b)) != n || sha256.Sum256(b) != f.Sums[chunk] {
		return &MismatchError{f.Name, chunk, first, first + n - 1}
	}
	return nil
}

func chunksOf(size int64) int64 { return size/Unit + min(1, size%Unit) }

// Size is how many bytes Marshal gives for files of these sizes and names.
func Size(names []string, sizes []int64) int64 {
	n := int64(len(magic) + 1)
	for i, name := range names {
		n += int64(len("file ")+len(strconv.FormatInt(sizes[i], 10))+1+len(name)+1) + chunksOf(sizes[i])*(2*sha256.Size+1)
	}
	return n
}

// Marshal gives the file.
func (l *List) Marshal() []byte {
	var b bytes.Buffer
	b.WriteString(magic + "\n")
	for _, f := range l.Files {
		fmt.Fprintf(&b, "file %d %s\n", f.Size, f.Name)
		for i := range f.Sums {
			b.WriteString(hex.EncodeToString(f.Sums[i][:]))
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

// Parse reads the file. What it gives has as many digests for each file as its
// size asks for.
func Parse(data []byte) (*List, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%w: it has %d bytes; at most %d are read", ErrFormat, len(data), MaxSize)
	}
	bad := func(line int, format string, args ...any) error {
		return fmt.Errorf("%w: line %d: %s", ErrFormat, line, fmt.Sprintf(format, args...))
	}
	first, rest, ended := bytes.Cut(data, []byte("\n"))
	if string(first) != magic || !ended {
		return nil, bad(1, "%q is expected", magic)
	}
	l := &List{}
	seen := map[string]bool{}
	var open *File
	var want int64
	n := 1
	for len(rest) > 0 {
		n++
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		if open != nil && int64(len(open.Sums)) < want {
			var sum [sha256.Size]byte
			if len(line) != 2*len(sum) || bytes.ContainsAny(line, "ABCDEF") {
				return nil, bad(n, "a digest of 64 hexadecimal digits is expected")
			}
			if _, err := hex.Decode(sum[:], line); err != nil {
				return nil, bad(n, "%v", err)
			}
			open.Sums = append(open.Sums, sum)
			continue
		}
		text, ok := strings.CutPrefix(string(line), "file ")
		number, name, ok2 := strings.Cut(text, " ")
		size, err := strconv.ParseInt(number, 10, 64)
		switch {
		case !ok || !ok2 || err != nil || size < 0 || strconv.FormatInt(size, 10) != number || name == "" || strings.ContainsRune(name, '\r'):
			return nil, bad(n, `"file SIZE NAME" is expected`)
		case seen[name]:
			return nil, bad(n, "%q stands twice", name)
		case len(l.Files) == maxFiles:
			return nil, bad(n, "more than %d files", maxFiles)
		case chunksOf(size) > int64(len(data))/(2*sha256.Size):
			return nil, bad(n, "%d bytes have more chunks than there are digests", size)
		}
		seen[name] = true
		open, want = &File{Name: name, Size: size}, chunksOf(size)
		l.Files = append(l.Files, open)
	}
	if open != nil && int64(len(open.Sums)) < want {
		return nil, bad(n, "%s has %d digests and needs %d", open.Name, len(open.Sums), want)
	}
	return l, nil
}

// Hasher makes the digests of a file that is written to it.
type Hasher struct {
	file File
	h    hash.Hash
	n    int64 // of the chunk that is open
}

// NewHasher begins a file.
func NewHasher(name string) *Hasher { return &Hasher{file: File{Name: name}, h: sha256.New()} }

// Write takes the file's next bytes. It does not fail.
func (h *Hasher) Write(b []byte) (int, error) {
	total := len(b)
	for len(b) > 0 {
		n := min(int64(len(b)), Unit-h.n)
		h.h.Write(b[:n])
		b, h.n, h.file.Size = b[n:], h.n+n, h.file.Size+n
		if h.n == Unit {
			h.end()
		}
	}
	return total, nil
}

func (h *Hasher) end() {
	var sum [sha256.Size]byte
	h.h.Sum(sum[:0])
	h.file.Sums = append(h.file.Sums, sum)
	h.h.Reset()
	h.n = 0
}

// File gives the digests of what was written. It ends the Hasher.
func (h *Hasher) File() *File {
	if h.n > 0 {
		h.end()
	}
	return &h.file
}
