package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/adler32"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
)

type inflater struct {
	src bytes.Reader
	r   io.ReadCloser
}

var inflaters = sync.Pool{New: func() any {
	f := new(inflater)
	f.r = flate.NewReader(&f.src)
	return f
}}

// inflateRaw decompresses a deflate stream (RFC 1951).
func inflateRaw(dst, src []byte) (n, consumed int, err error) {
	f := inflaters.Get().(*inflater)
	defer inflaters.Put(f)
	f.src.Reset(src)
	if err := f.r.(flate.Resetter).Reset(&f.src, nil); err != nil {
		return 0, 0, err
	}
	for n < len(dst) && err == nil {
		var m int
		m, err = f.r.Read(dst[n:])
		n += m
	}
	for err == nil {
		var one [1]byte
		var m int
		if m, err = f.r.Read(one[:]); m != 0 {
			return n, len(src) - f.src.Len(), fmt.Errorf("more than %d bytes: %w", len(dst), ErrTooLong)
		}
	}
	consumed = len(src) - f.src.Len()
	var corrupt flate.CorruptInputError
	switch {
	case err == io.EOF:
		return n, consumed, nil
	case errors.As(err, &corrupt):
		return n, consumed, fmt.Errorf("deflate stream is bad at byte %d: %w", int64(corrupt), ErrCorrupt)
	}
	return n, consumed, fmt.Errorf("deflate stream is cut off: %w", err)
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

var deflaters [flate.BestCompression + 1]sync.Pool

// defaultLevel is what level 0 means for deflate and zlib.
const defaultLevel = 6

// deflateRaw appends src's deflate stream to dst.
func deflateRaw(level int, dst, src []byte) ([]byte, error) {
	if level == 0 {
		level = defaultLevel
	}
	if level < 1 || level > flate.BestCompression {
		return dst, fmt.Errorf("compression level %d is not one of 1 to %d", level, flate.BestCompression)
	}
	pool := &deflaters[level]
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
	return binary.BigEndian.AppendUint32(dst, adler32.Checksum(src)), nil
}
