// Package codec compresses and decompresses the units of disk images: whole
// buffers in, whole buffers out, a grain or a cluster at a time.
//
// All functions are safe for concurrent use.
package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ovation-project/ovation/disk"
)

// Errors that callers act on; they come wrapped, with what was found.
var (
	// ErrCorrupt says that the bytes are no valid stream of the codec, or
	// that their checksum is wrong. A stream that breaks off gives
	// io.ErrUnexpectedEOF instead.
	ErrCorrupt = errors.New("compressed data is corrupt")
	// ErrTooLong says that the stream holds more than the destination
	// takes. What fits has been decompressed.
	ErrTooLong = errors.New("compressed data is longer than its unit")
)

// zlib's frame around a deflate stream (RFC 1950).
const (
	zlibHeader  = 2
	zlibTrailer = 4
)

// Decompress decompresses the stream that src begins with into dst, and says
// how many bytes that gave (n, which is less than len(dst) where the stream
// ends before) and how many bytes of src the stream took. What follows the
// stream in src is ignored. A stream that holds more than dst takes gives
// ErrTooLong. Zlib's Adler-32 and Zstandard's checksum
// are checked.
func Decompress(c disk.Codec, dst, src []byte) (n, consumed int, err error) {
	switch c {
	case disk.NoCodec:
		n = copy(dst, src)
		if n < len(src) {
			return n, n, fmt.Errorf("%d bytes for a unit of %d: %w", len(src), len(dst), ErrTooLong)
		}
		return n, n, nil
	case disk.Deflate:
		return inflateRaw(dst, src)
	case disk.Zlib:
		return decompressZlib(dst, src)
	case disk.Zstd:
		return decompressZstd(dst, src)
	}
	return 0, 0, fmt.Errorf("codec %v: %w", c, disk.ErrUnsupported)
}

func decompressZlib(dst, src []byte) (n, consumed int, err error) {
	if err := checkZlibHeader(src); err != nil {
		return 0, 0, err
	}
	n, used, err := inflateRaw(dst, src[zlibHeader:])
	consumed = zlibHeader + used
	if err != nil {
		return n, consumed, err
	}
	if len(src) < consumed+zlibTrailer {
		return n, consumed, fmt.Errorf("zlib trailer is cut off: %w", io.ErrUnexpectedEOF)
	}
	want := binary.BigEndian.Uint32(src[consumed:])
	consumed += zlibTrailer
	if got := adler32(dst[:n]); got != want {
		return n, consumed, fmt.Errorf("Adler-32 is %08x and should be %08x: %w", got, want, ErrCorrupt)
	}
	return n, consumed, nil
}

// checkZlibHeader judges the header as RFC 1950 section 2.2 says.
func checkZlibHeader(src []byte) error {
	if len(src) < zlibHeader {
		return fmt.Errorf("zlib header is cut off: %w", io.ErrUnexpectedEOF)
	}
	h := binary.BigEndian.Uint16(src)
	switch {
	case h>>8&0xf != 8 || h>>12 > 7 || h%31 != 0:
		return fmt.Errorf("%04x is no zlib header: %w", h, ErrCorrupt)
	case h&0x20 != 0:
		return fmt.Errorf("zlib stream wants a preset dictionary: %w", ErrCorrupt)
	}
	return nil
}

// CanTranscode says whether Transcode can turn units of one codec into units
// of the other.
func CanTranscode(from, to disk.Codec) bool {
	if from == disk.NoCodec || to == disk.NoCodec {
		return false
	}
	return from == to || from == disk.Zlib && to == disk.Deflate
}

// Transcode turns a compressed unit from one codec to another without
// decompressing it, where that is possible; the result is a part of stored.
// Nothing of the content is checked, the checksum that is dropped least of
// all: whoever hands a unit on so knows by other means that it is intact, or
// says that it was not verified.
func Transcode(from, to disk.Codec, stored []byte) ([]byte, bool) {
	switch {
	case !CanTranscode(from, to):
		return nil, false
	case from == to:
		return stored, true
	}
	// Zlib to deflate: the header and the trailer go.
	if len(stored) <= zlibHeader+zlibTrailer || checkZlibHeader(stored) != nil {
		return nil, false
	}
	return stored[zlibHeader : len(stored)-zlibTrailer], true
}

// Compress appends src, compressed, to dst. Level is 1 (fast) to 9 (small);
// 0 is the codec's default. The same input gives the same bytes. The result
// may be longer than src.
func Compress(c disk.Codec, level int, dst, src []byte) ([]byte, error) {
	switch c {
	case disk.NoCodec:
		return append(dst, src...), nil
	case disk.Deflate:
		return deflateRaw(level, dst, src)
	case disk.Zlib:
		return deflateZlib(level, dst, src)
	case disk.Zstd:
		return compressZstd(level, dst, src)
	}
	return dst, fmt.Errorf("codec %v: %w", c, disk.ErrUnsupported)
}
