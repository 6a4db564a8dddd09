package codec

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/ovation-project/ovation/disk"
)

// maxZstdWindow bounds what a frame's header may ask for; a unit is 2 MiB at
// most in the formats that know Zstandard.
const maxZstdWindow = 8 << 20

// maxZstdBlock is the most that one block decompresses to (RFC 8878 section
// 3.1.1.2.3).
const maxZstdBlock = 128 << 10

var zstdReader = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(0),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxZstdWindow),
		zstd.WithDecodeAllCapLimit(true))
})

func decompressZstd(dst, src []byte) (n, consumed int, err error) {
	d, err := zstdReader()
	if err != nil {
		return 0, 0, err
	}
	consumed, err = zstdFrameSize(src)
	if err != nil {
		return 0, consumed, err
	}
	out, err := d.DecodeAll(src[:consumed], dst[:0:len(dst)])
	if err == nil {
		return len(out), consumed, nil
	}
	// The decoder does not tell well between a frame that is bad and one
	// for which there is no room: give it the room that a block may want.
	long, longErr := d.DecodeAll(src[:consumed], make([]byte, 0, len(dst)+maxZstdBlock))
	if len(long) > len(dst) && (longErr == nil || errors.Is(longErr, zstd.ErrDecoderSizeExceeded)) {
		return copy(dst, long), consumed, fmt.Errorf("more than %d bytes: %w", len(dst), ErrTooLong)
	}
	return len(out), consumed, fmt.Errorf("zstd frame: %v: %w", err, ErrCorrupt)
}

// zstdFrameSize finds the end of the frame that src begins with by walking
// its blocks (RFC 8878 section 3.1.1): what follows it is not ours.
func zstdFrameSize(src []byte) (int, error) {
	var h zstd.Header
	if err := h.Decode(src); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, fmt.Errorf("zstd header is cut off: %w", err)
		}
		return 0, fmt.Errorf("zstd header: %v: %w", err, ErrCorrupt)
	}
	if h.Skippable {
		return 0, fmt.Errorf("zstd frame holds no data: %w", ErrCorrupt)
	}
	pos := h.HeaderSize
	for last := false; !last; {
		if len(src)-pos < 3 {
			return len(src), fmt.Errorf("zstd frame is cut off: %w", io.ErrUnexpectedEOF)
		}
		b := int(src[pos]) | int(src[pos+1])<<8 | int(src[pos+2])<<16
		pos += 3
		last = b&1 != 0
		size := b >> 3
		switch b >> 1 & 3 {
		case 1: // a run of one byte
			size = 1
		case 3:
			return pos, fmt.Errorf("zstd block has a reserved type: %w", ErrCorrupt)
		}
		if len(src)-pos < size {
			return len(src), fmt.Errorf("zstd frame is cut off: %w", io.ErrUnexpectedEOF)
		}
		pos += size
	}
	if h.HasCheckSum {
		if len(src)-pos < 4 {
			return len(src), fmt.Errorf("zstd checksum is cut off: %w", io.ErrUnexpectedEOF)
		}
		pos += 4
	}
	return pos, nil
}

var zstdWriters [10]struct {
	once sync.Once
	enc  *zstd.Encoder
	err  error
}

// compressZstd appends one frame to dst. Levels are 1 to 9, as for zlib.
func compressZstd(level int, dst, src []byte) ([]byte, error) {
	if level == 0 {
		level = 3
	}
	if level < 1 || level > 9 {
		return dst, fmt.Errorf("compression level %d is not one of 1 to 9: %w", level, disk.ErrUnsupported)
	}
	w := &zstdWriters[level]
	w.once.Do(func() {
		w.enc, w.err = zstd.NewWriter(nil,
			zstd.WithEncoderConcurrency(0),
			zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)),
			zstd.WithEncoderCRC(false),
			zstd.WithZeroFrames(true),
			zstd.WithLowerEncoderMem(true),
			// A window larger than a unit is memory for nothing.
			zstd.WithWindowSize(maxZstdWindow/4))
	})
	if w.err != nil {
		return dst, w.err
	}
	return w.enc.EncodeAll(src, dst), nil
}
