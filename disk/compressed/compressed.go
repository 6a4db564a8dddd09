// Package compressed reads and writes files that are compressed as a whole, as
// disk images are shipped: disk.img.xz, disk.vmdk.gz, disk.raw.zst. What is
// within is for the disk formats to say; this package knows none of them.
//
// Such a file cannot be seeked in. An image that can be read as it arrives
// (disk.Streamer) is read through NewReader; others have to be unpacked to a
// file first.
package compressed

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"

	"github.com/ovation-project/ovation/disk"
)

// Method is a way in which a whole file is compressed.
type Method uint8

// The methods that are known.
const (
	None  Method = iota
	Gzip         // RFC 1952, of any number of members
	XZ           // the .xz file format 1.2, of any number of streams
	Zstd         // RFC 8878, of any number of frames
	Bzip2        // of any number of streams
)

// String gives the method's usual name.
func (m Method) String() string {
	switch m {
	case None:
		return "none"
	case Gzip:
		return "gzip"
	case XZ:
		return "xz"
	case Zstd:
		return "zstd"
	case Bzip2:
		return "bzip2"
	}
	return fmt.Sprintf("Method(%d)", uint8(m))
}

// HeadSize is how many of a file's first bytes Detect looks at.
const HeadSize = 12

// Detect tells the method by a file's first bytes.
func Detect(head []byte) Method {
	switch {
	case len(head) >= 10 && head[0] == 0x1f && head[1] == 0x8b && head[2] == 8 && head[3]&0xe0 == 0:
		return Gzip
	case len(head) >= 12 && bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return XZ
	case len(head) >= 6 && bytes.HasPrefix(head, []byte(zstdMagic)):
		return Zstd
	case len(head) >= 8 && skippable(head) && head[7] == 0:
		// pzstd and others begin with a frame that is to be skipped, of
		// a few bytes.
		return Zstd
	case len(head) >= 10 && string(head[:3]) == "BZh" && head[3] >= '1' && head[3] <= '9' && string(head[4:10]) == "1AY&SY":
		return Bzip2
	}
	return None
}

const zstdMagic = "\x28\xb5\x2f\xfd"

func skippable(b []byte) bool {
	return b[0]&0xf0 == 0x50 && string(b[1:4]) == "\x2a\x4d\x18"
}

// endings are those of compressed files' names.
var endings = []struct {
	ending string
	method Method
}{
	{".gz", Gzip}, {".gzip", Gzip}, {".xz", XZ}, {".zst", Zstd}, {".zstd", Zstd}, {".bz2", Bzip2},
}

// CutEnding takes the ending off a file's name that says how it is compressed;
// the method is None where there is none.
func CutEnding(name string) (base string, m Method) {
	for _, e := range endings {
		if n := len(name) - len(e.ending); n > 0 && strings.EqualFold(name[n:], e.ending) {
			return name[:n], e.method
		}
	}
	return name, None
}

// maxWindow bounds the memory that a file may ask for to be decompressed: what
// "zstd --long" needs, and twice what "xz -9" does.
const maxWindow = 128 << 20

// MaxContent is the most that NewReader gives where its caller knows no better:
// more than any disk has, and an end to what expands without one.
const MaxContent = 64 << 40

// NewReader gives the content of a compressed file, and checks it against the
// checksums that the file has. A file that is damaged gives disk.ErrCorrupt, as
// does one that breaks off, which is io.ErrUnexpectedEOF as well, and one that
// holds more than limit bytes, before more of them are given; one that needs
// more than 128 MiB of memory gives disk.ErrUnsupported. Errors say after how
// many bytes of the file. Zeroes behind the end are passed over where gzip and
// xz themselves do; anything else there is damage. Close frees memory; it does
// not close r.
func (m Method) NewReader(r io.Reader, limit int64) (io.ReadCloser, error) {
	c := &reader{method: m, limit: limit, in: &source{r: r}}
	var err error
	switch m {
	case Gzip:
		b := bufio.NewReaderSize(c.in, 64<<10)
		c.ahead = b.Buffered
		c.r, err = newGzip(b)
	case XZ:
		c.r, err = xz.NewReader(c.in, maxWindow)
	case Zstd:
		var z *zstd.Decoder
		z, err = zstd.NewReader(c.in, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err == nil {
			c.r, c.close = z, z.Close
		}
	case Bzip2:
		b := bufio.NewReaderSize(c.in, 64<<10)
		c.ahead = b.Buffered
		c.r = bzip2.NewReader(b)
	default:
		return nil, fmt.Errorf("compressed by %v: %w", m, disk.ErrUnsupported)
	}
	if err != nil {
		return nil, c.wrap(err)
	}
	return c, nil
}

// source counts the compressed bytes, and remembers how they ended, to tell
// that from damage.
type source struct {
	r   io.Reader
	n   int64
	err error
}

// Read gives an error never together with bytes: the xz package would take what
// follows the first of several streams for read.
func (s *source) Read(b []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.r.Read(b)
	s.n += int64(n)
	s.err = err
	if n > 0 {
		err = nil
	}
	return n, err
}

type reader struct {
	method Method
	in     *source
	r      io.Reader
	ahead  func() int // how much of what was read is not used yet; may be nil
	close  func()
	limit  int64
	n      int64
	err    error
}

func (c *reader) Read(b []byte) (int, error) {
	if c.err != nil || len(b) == 0 {
		return 0, c.err
	}
	left := int64(len(b))
	if left > c.limit-c.n {
		left = max(c.limit-c.n, 0) + 1 // one more tells that there is more
	}
	n, err := c.r.Read(b[:left])
	c.n += int64(n)
	if c.n > c.limit {
		c.err = fmt.Errorf("%v: the file holds more than the %d bytes that it may: %w", c.method, c.limit, disk.ErrCorrupt)
		return n - 1, c.err
	}
	if err != nil {
		c.err = c.wrap(err)
	}
	return n, c.err
}

func (c *reader) Close() error {
	if c.close != nil {
		c.close()
	}
	c.err = errors.New("read of a closed reader")
	return nil
}

// wrap brings a library's error into the contract's terms.
func (c *reader) wrap(err error) error {
	if err == io.EOF && c.r != nil {
		return err
	}
	at := c.in.n
	if c.ahead != nil {
		at -= int64(c.ahead())
	}
	where := fmt.Sprintf("at about byte %d of the file (%d of its content)", at, c.n)
	broken := err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, xz.ErrBuf)
	kind := disk.ErrCorrupt
	switch {
	case c.in.err != nil && c.in.err != io.EOF && !errors.Is(c.in.err, io.ErrUnexpectedEOF): // not the file's fault
		return fmt.Errorf("%v: %s: %w", c.method, where, c.in.err)
	case broken && c.in.err != nil:
		return fmt.Errorf("%v: the file breaks off %s: %w: %w", c.method, where, io.ErrUnexpectedEOF, disk.ErrCorrupt)
	case errors.Is(err, xz.ErrMemlimit), errors.Is(err, zstd.ErrWindowSizeExceeded):
		return fmt.Errorf("%v: more than %d MiB of memory would be needed to unpack the file: %w", c.method, maxWindow>>20, disk.ErrUnsupported)
	case errors.Is(err, xz.ErrOptions), errors.Is(err, xz.ErrUnsupportedCheck):
		kind = disk.ErrUnsupported
	}
	return fmt.Errorf("%v: %s: %w: %w", c.method, where, err, kind)
}

// gzipReader reads members, and zeroes behind the last one.
type gzipReader struct {
	in *bufio.Reader
	z  *gzip.Reader
}

func newGzip(r *bufio.Reader) (io.Reader, error) {
	g := &gzipReader{in: r}
	var err error
	if g.z, err = gzip.NewReader(g.in); err != nil {
		return nil, err
	}
	g.z.Multistream(false)
	return g, nil
}

var errTrailing = errors.New("something else follows the compressed data")

func (g *gzipReader) Read(b []byte) (int, error) {
	n, err := g.z.Read(b)
	if err != io.EOF {
		return n, err
	}
	for {
		next, err := g.in.Peek(1)
		switch {
		case err != nil:
			return n, err // EOF it is
		case next[0] == 0:
			_, _ = g.in.Discard(1)
			continue
		case next[0] != 0x1f:
			return n, errTrailing
		}
		if err := g.z.Reset(g.in); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return n, err
		}
		g.z.Multistream(false)
		return n, nil
	}
}
