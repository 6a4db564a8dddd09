package compressed

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"

	"github.com/ovation-project/ovation/disk"
)

// Size gives how many bytes the content of a file has, without unpacking it;
// ok is false where the file does not tell: gzip and bzip2 never do. It is what
// the file says, and no more to be believed than that.
func (m Method) Size(ctx context.Context, f disk.File) (n int64, ok bool, err error) {
	switch m {
	case XZ:
		_, n, err = xzIndex(ctx, f)
	case Zstd:
		return zstdSize(ctx, f)
	default:
		return 0, false, nil
	}
	return n, err == nil, err
}

// Count gives how many bytes the content of a file has, by reading all of it.
func (m Method) Count(ctx context.Context, f disk.File) (int64, error) {
	r, err := m.Open(ctx, f, MaxContent)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	buf := make([]byte, 256<<10)
	var n int64
	for {
		if err := ctx.Err(); err != nil {
			return n, context.Cause(ctx)
		}
		m, err := r.Read(buf)
		n += int64(m)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

func add(sum, n int64) (int64, error) {
	if n < 0 || sum > MaxContent-n {
		return 0, fmt.Errorf("the file says that it holds more than %d bytes: %w", int64(MaxContent), disk.ErrUnsupported)
	}
	return sum + n, nil
}

// zstdSize goes from frame to frame and block to block.
func zstdSize(ctx context.Context, f disk.File) (sum int64, ok bool, err error) {
	head := make([]byte, zstd.HeaderMaxSize)
	for at := int64(0); at < f.Size(); {
		n, err := f.ReadAt(head, at)
		if err != nil && err != io.EOF {
			return 0, false, err
		}
		short := func() (int64, bool, error) {
			return 0, false, fmt.Errorf("zstd: byte %d of the file: the frame breaks off: %w: %w", at, io.ErrUnexpectedEOF, disk.ErrCorrupt)
		}
		var h zstd.Header
		switch err := h.Decode(head[:n]); {
		case err == io.ErrUnexpectedEOF || err == io.EOF:
			return short()
		case err != nil:
			return 0, false, fmt.Errorf("zstd: byte %d of the file: %w: %w", at, err, disk.ErrCorrupt)
		}
		if h.Skippable {
			at += int64(h.HeaderSize) + int64(h.SkippableSize)
			continue
		}
		if !h.HasFCS || h.FrameContentSize > math.MaxInt64 {
			return 0, false, nil
		}
		if sum, err = add(sum, int64(h.FrameContentSize)); err != nil {
			return 0, false, err
		}
		at += int64(h.HeaderSize)
		for last := false; !last; {
			if err := ctx.Err(); err != nil {
				return 0, false, context.Cause(ctx)
			}
			b := make([]byte, 4)
			if _, err := io.ReadFull(io.NewSectionReader(f, at, 3), b[:3]); err != nil {
				return short()
			}
			v := binary.LittleEndian.Uint32(b)
			last = v&1 != 0
			at += 3
			if kind := v >> 1 & 3; kind == 1 {
				at++ // one byte, again and again
			} else {
				at += int64(v >> 3)
			}
		}
		if h.HasCheckSum {
			at += 4
		}
		if at > f.Size() {
			return short()
		}
	}
	return sum, true, nil
}

// Head reads as much of a file as Detect needs.
func Head(f disk.File) ([]byte, error) {
	head := make([]byte, HeadSize)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return bytes.Clone(head[:n]), nil
}
