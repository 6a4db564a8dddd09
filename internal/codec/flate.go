package codec

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"

	"github.com/ovation-project/ovation/internal/deflate"
	"github.com/ovation-project/ovation/internal/inflate"
)

// inflateRaw decompresses a deflate stream (RFC 1951).
func inflateRaw(dst, src []byte) (n, consumed int, err error) {
	n, consumed, err = inflate.Inflate(dst, src)
	switch err {
	case nil:
		return n, consumed, nil
	case inflate.ErrShortBuffer:
		err = fmt.Errorf("more than %d bytes: %w", len(dst), ErrTooLong)
	case io.ErrUnexpectedEOF:
		err = fmt.Errorf("deflate stream is cut off: %w", err)
	default:
		err = fmt.Errorf("deflate stream is bad after %d bytes of content: %w", n, ErrCorrupt)
	}
	return n, consumed, err
}

type deflater struct {
	w   *flate.Writer
	out appender
}

// appender is an io.Writer onto the end of a slice.
type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

// deflaters are those of each level, coders those that find no repetitions.
var (
	deflaters [flate.BestCompression + 1]sync.Pool
	coders    sync.Pool
)

// deflateRaw appends src's deflate stream to dst. Level 0 is our own compressor,
// which is made for units that are at hand as a whole; the others are those of the
// library.
func deflateRaw(level int, dst, src []byte) ([]byte, error) {
	switch {
	case level == 0:
		return deflate.Append(dst, src), nil
	case level < 0 || level > flate.BestCompression:
		return dst, fmt.Errorf("compression level %d is not one of 1 to %d", level, flate.BestCompression)
	}
	start := len(dst)
	dst, err := compress(&deflaters[level], level, dst, src)
	if err != nil || len(dst)-start < len(src)-len(src)/16 {
		return dst, err
	}
	// Nothing repeats, as in base64, and the library has kept the bytes as they
	// are; that some of them are more frequent than others can still be used.
	end := len(dst)
	if dst, err = compress(&coders, flate.HuffmanOnly, dst, src); err != nil {
		return dst, err
	}
	if len(dst)-end < end-start {
		end = start + copy(dst[start:], dst[end:])
	}
	return dst[:end], nil
}

// compress appends src's deflate stream of a level to dst, by a writer of the pool
// of that level.
func compress(pool *sync.Pool, level int, dst, src []byte) ([]byte, error) {
	d, _ := pool.Get().(*deflater)
	if d == nil {
		w, err := flate.NewWriter(nil, level)
		if err != nil {
			return dst, err
		}
		d = &deflater{w: w}
	}
	defer pool.Put(d)
	d.out.b = dst
	d.w.Reset(&d.out)
	if _, err := d.w.Write(src); err != nil {
		return dst, err
	}
	if err := d.w.Close(); err != nil {
		return dst, err
	}
	dst, d.out.b = d.out.b, nil
	return dst, nil
}

// deflateZlib appends src's zlib stream to dst.
func deflateZlib(level int, dst, src []byte) ([]byte, error) {
	// 32 KiB of window; the second byte says the level roughly and makes
	// the pair a multiple of 31, as zlib itself writes them.
	second := byte(0x9c)
	switch {
	case level == 1:
		second = 0x01
	case level > 1 && level < 6:
		second = 0x5e
	case level > 6:
		second = 0xda
	}
	dst, err := deflateRaw(level, append(dst, 0x78, second), src)
	if err != nil {
		return dst, err
	}
	return binary.BigEndian.AppendUint32(dst, adler32(src)), nil
}
