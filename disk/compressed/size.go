package compressed

import (
	"bufio"
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
		n, err = xzSize(ctx, f)
	case Zstd:
		return zstdSize(ctx, f)
	default:
		return 0, false, nil
	}
	return n, err == nil, err
}

// Count gives how many bytes the content of a file has, by reading all of it.
func (m Method) Count(ctx context.Context, f disk.File) (int64, error) {
	r, err := m.NewReader(io.NewSectionReader(f, 0, f.Size()), MaxContent)
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

// xzSize sums up the indexes at the ends of a file's streams (sections 2.1.2
// and 4 of the format's description), from the last to the first.
func xzSize(ctx context.Context, f disk.File) (sum int64, err error) {
	bad := func(at int64, what string) (int64, error) {
		return 0, fmt.Errorf("xz: byte %d of the file: %s: %w", at, what, disk.ErrCorrupt)
	}
	const footerSize, headerSize = 12, 12
	footer := make([]byte, footerSize)
	for end := f.Size(); end > 0; {
		if err := ctx.Err(); err != nil {
			return 0, context.Cause(ctx)
		}
		// Padding is of zeroes, four at a time, and only behind a stream.
		if end < footerSize {
			return bad(end, "the stream breaks off")
		}
		if _, err := f.ReadAt(footer, end-footerSize); err != nil && err != io.EOF {
			return 0, err
		}
		if binary.LittleEndian.Uint32(footer[8:]) == 0 {
			end -= 4
			continue
		}
		at := end - footerSize
		if string(footer[10:]) != "YZ" {
			return 0, fmt.Errorf("xz: byte %d of the file: there is no stream footer: the file breaks off: %w: %w", at, io.ErrUnexpectedEOF, disk.ErrCorrupt)
		}
		size := (int64(binary.LittleEndian.Uint32(footer[4:])) + 1) * 4
		begin := at - size
		if begin < headerSize {
			return bad(at, "the index is larger than the file")
		}
		r := bufio.NewReaderSize(io.NewSectionReader(f, begin, size), 16<<10)
		if b, err := r.ReadByte(); err != nil || b != 0 {
			return bad(begin, "there is no index")
		}
		count, err := binary.ReadUvarint(r)
		if err != nil || count > uint64(size) {
			return bad(begin, "the index has a wrong number of records")
		}
		var blocks int64
		for i := range count {
			if i&0xffff == 0 && ctx.Err() != nil {
				return 0, context.Cause(ctx)
			}
			unpadded, err1 := binary.ReadUvarint(r)
			content, err2 := binary.ReadUvarint(r)
			if err1 != nil || err2 != nil || unpadded > uint64(begin) || content > math.MaxInt64 {
				return bad(begin, "the index has a wrong record")
			}
			// A block is padded to four bytes.
			blocks += int64(unpadded+3) &^ 3
			if blocks > begin-headerSize {
				return bad(begin, "the index has larger blocks than the file")
			}
			if sum, err = add(sum, int64(content)); err != nil {
				return 0, err
			}
		}
		end = begin - blocks - headerSize
	}
	return sum, nil
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
