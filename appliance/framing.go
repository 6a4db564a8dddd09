package appliance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// framing looks at what of an archive no digest covers: the headers and the
// padding between the files. Header checksums are archive/tar's work; what is
// left are bytes that readers pass over: padding, which every writer fills with
// zeros, and how a checksum is spelled, which no writer changes midway.
type framing struct {
	form   string // of the checksum fields, "" before the first header
	faults []FileReport
}

const (
	tarBlock = 512
	// maxTrailing is how much may follow the end of an archive: tar fills up
	// to its record size, which is far smaller.
	maxTrailing = 16 << 20
	maxFaults   = 8
)

// archiveName stands for the archive itself in a report.
const archiveName = "(archive)"

func (f *framing) fault(at int64, format string, args ...any) {
	if len(f.faults) < maxFaults {
		detail := fmt.Sprintf("byte %d of the archive %s", at, fmt.Sprintf(format, args...))
		f.faults = append(f.faults, FileReport{Name: archiveName, State: Altered, Size: -1, Offset: at, Detail: detail})
	}
}

// gap reads what lies between two files, or behind the last: from the end of
// one's bytes, at, to the end of r. after names the file before it.
func (f *framing) gap(r io.Reader, at int64, after string) error {
	g := &gapReader{r: r, at: at}
	if err := f.zeros(g, -at&(tarBlock-1), "the padding after "+after); err != nil {
		return gapEnd(err)
	}
	for {
		var block [tarBlock]byte
		start := g.at
		if _, err := io.ReadFull(g, block[:]); err != nil {
			return gapEnd(err)
		}
		if block == [tarBlock]byte{} {
			return gapEnd(f.rest(g))
		}
		f.header(start, block[:])
		switch block[156] {
		case 'x', 'g', 'L', 'K': // a header of its own, whose body archive/tar parses
			size, err := strconv.ParseInt(strings.Trim(string(block[124:136]), " \x00"), 8, 64)
			if err != nil {
				return nil // base 256: nobody writes it here, and archive/tar has judged it
			}
			if _, err := io.CopyN(io.Discard, g, size); err != nil {
				return gapEnd(err)
			}
			if err := f.zeros(g, -size&(tarBlock-1), "the padding of an extended header"); err != nil {
				return gapEnd(err)
			}
		}
	}
}

func gapEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// rest reads what follows the end of an archive.
func (f *framing) rest(g *gapReader) error {
	if err := f.zeros(g, maxTrailing, "what follows the archive's end"); err != nil {
		return err
	}
	if n, err := g.Read(make([]byte, 1)); n == 0 {
		return err
	}
	f.fault(g.at, "is more than %d MiB behind the archive's end", maxTrailing>>20)
	return nil
}

func (f *framing) zeros(g *gapReader, n int64, where string) error {
	buf := make([]byte, min(n, 32<<10))
	for n > 0 {
		at := g.at
		k, err := g.Read(buf[:min(n, int64(len(buf)))])
		if i := bytes.IndexFunc(buf[:k], func(r rune) bool { return r != 0 }); i >= 0 {
			f.fault(at+int64(i), "is not zero, in %s", where)
			_, err := io.CopyN(io.Discard, g, n-int64(k))
			return err
		}
		n -= int64(k)
		if err != nil {
			return err
		}
	}
	return nil
}

// header looks at how a header's checksum is written.
func (f *framing) header(at int64, block []byte) {
	const sum = 148
	field := string(block[sum : sum+8])
	digits := strings.TrimLeft(field, " ")
	form := "zeros"
	if len(digits) < len(field) {
		if form = "spaces"; strings.HasPrefix(digits, "0") {
			form = "both"
		}
	}
	form += strings.TrimLeft(digits, "01234567")
	if f.form == "" {
		f.form = form
	}
	if f.form != form {
		f.fault(at+sum, "begins a checksum that is written in another way than those before it")
	}
}

type gapReader struct {
	r  io.Reader
	at int64
}

func (g *gapReader) Read(b []byte) (int, error) {
	n, err := g.r.Read(b)
	g.at += int64(n)
	return n, err
}

// framing looks at all of an archive that lies somewhere.
func (t *tarball) framing(entries []Entry) ([]FileReport, error) {
	var f framing
	at, after := int64(0), "nothing"
	for _, e := range entries {
		if err := f.gap(io.NewSectionReader(t.f, at, e.Offset-at), at, after); err != nil {
			return nil, err
		}
		at, after = e.Offset+e.Size, e.Name
	}
	err := f.gap(io.NewSectionReader(t.f, at, t.f.Size()-at), at, after)
	return f.faults, err
}
