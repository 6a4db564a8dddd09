package codec

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"

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

// defaultLevel is what level 0 means for deflate and zlib, and fastLevel for what
// is compressed already, or encrypted: that gets no smaller by trying hard, and
// takes less than half the time. What is repeated there is found at any level.
const (
	defaultLevel = 6
	fastLevel    = 1
)

// looksRandom says that all bytes are about as frequent as each other, as far as
// a few thousand tell.
func looksRandom(src []byte) bool {
	const step, least = 17, 256 * 8
	n := (len(src) + step - 1) / step
	if n < least {
		return false
	}
	var count [256]int
	for i := 0; i < len(src); i += step {
		count[src[i]]++
	}
	// Two bytes taken at random are the same once in 256 times, where they are
	// random; text has that once in fifteen times.
	same := 0
	for _, c := range count {
		same += c * (c - 1)
	}
	return same < n*(n-1)/180
}

// deflateRaw appends src's deflate stream to dst.
func deflateRaw(level int, dst, src []byte) ([]byte, error) {
	if level < 0 || level > flate.BestCompression {
		return dst, fmt.Errorf("compression level %d is not one of 1 to %d", level, flate.BestCompression)
	}
	given := level
	if level == 0 {
		level = defaultLevel
	}
	random := looksRandom(src)
	if given == 0 && random {
		level = fastLevel
	}
	start := len(dst)
	dst, err := deflate(&deflaters[level], level, dst, src)
	if err != nil || random || len(dst)-start < len(src)-len(src)/16 {
		return dst, err
	}
	// Nothing repeats, as in base64, and the library has kept the bytes as they
	// are; that some of them are more frequent than others can still be used.
	end := len(dst)
	if dst, err = deflate(&coders, flate.HuffmanOnly, dst, src); err != nil {
		return dst, err
	}
	if len(dst)-end < end-start {
		end = start + copy(dst[start:], dst[end:])
	}
	return dst[:end], nil
}

// deflate appends src's deflate stream of a level to dst, by a writer of the
// pool of that level.
func deflate(pool *sync.Pool, level int, dst, src []byte) ([]byte, error) {
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
