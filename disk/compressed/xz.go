package compressed

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"runtime"
	"slices"

	"github.com/mikelolasagasti/xz"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/pipeline"
)

// Sizes of the .xz file format, version 1.2: stream header (section 2.1.1) and
// footer (2.1.2).
const (
	xzHeader = 12
	xzFooter = 12
)

// xzBlock is one block of a file.
type xzBlock struct {
	at       int64 // its first byte in the file
	unpadded int64 // its size without padding
	content  int64
	flags    [2]byte // its stream's: how content is checked
}

// padded is how many bytes a block takes.
func (b *xzBlock) padded() int64 { return (b.unpadded + 3) &^ 3 }

// maxBlocks bounds the memory for a list of blocks; of files with more, only
// the size is told.
const maxBlocks = 1 << 18

// xzIndex reads the indexes at the ends of a file's streams (sections 2.1.2 and
// 4 of the format's description), from the last to the first, and compares
// their checksums. It gives the blocks in order, none where there are too many,
// and the sum of what they hold.
func xzIndex(ctx context.Context, f disk.File) (blocks []xzBlock, sum int64, err error) {
	bad := func(at int64, what string) ([]xzBlock, int64, error) {
		return nil, 0, fmt.Errorf("xz: byte %d of the file: %s: %w", at, what, disk.ErrCorrupt)
	}
	le := binary.LittleEndian
	footer, header := make([]byte, xzFooter), make([]byte, xzHeader)
	var streams [][]xzBlock
	count := 0
	for end := f.Size(); end > 0; {
		if ctx.Err() != nil {
			return nil, 0, context.Cause(ctx)
		}
		if end < xzFooter {
			return bad(end, "the stream breaks off")
		}
		at := end - xzFooter
		if err := readAt(f, footer, at); err != nil {
			return nil, 0, err
		}
		if le.Uint32(footer[8:]) == 0 {
			end -= 4 // padding is of zeroes, four at a time
			continue
		}
		if string(footer[10:]) != "YZ" {
			return nil, 0, fmt.Errorf("xz: byte %d of the file: there is no stream footer: the file breaks off: %w: %w", at, io.ErrUnexpectedEOF, disk.ErrCorrupt)
		}
		if crc32.ChecksumIEEE(footer[4:10]) != le.Uint32(footer) {
			return bad(at, "the stream footer's checksum is wrong")
		}
		size := (int64(le.Uint32(footer[4:])) + 1) * 4
		begin := at - size
		if begin < xzHeader {
			return bad(at, "the index is larger than the file")
		}
		sumOf := crc32.NewIEEE()
		section := io.NewSectionReader(f, begin, size-4)
		r := bufio.NewReaderSize(io.TeeReader(section, sumOf), 16<<10)
		if b, err := r.ReadByte(); err != nil || b != 0 {
			return bad(begin, "there is no index")
		}
		records, err := binary.ReadUvarint(r)
		if err != nil || records > uint64(size) {
			return bad(begin, "the index has a wrong number of records")
		}
		var stream []xzBlock
		var taken int64
		for i := range records {
			if i&0xffff == 0 && ctx.Err() != nil {
				return nil, 0, context.Cause(ctx)
			}
			unpadded, err1 := binary.ReadUvarint(r)
			content, err2 := binary.ReadUvarint(r)
			if err1 != nil || err2 != nil || unpadded == 0 || unpadded > uint64(begin) || content > math.MaxInt64 {
				return bad(begin, "the index has a wrong record")
			}
			b := xzBlock{at: taken, unpadded: int64(unpadded), content: int64(content), flags: [2]byte(footer[8:])}
			if taken += b.padded(); taken > begin-xzHeader {
				return bad(begin, "the index has larger blocks than the file")
			}
			if sum, err = add(sum, b.content); err != nil {
				return nil, 0, err
			}
			if count++; count <= maxBlocks {
				stream = append(stream, b)
			}
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			return nil, 0, err
		}
		if err := readAt(f, header[:4], at-4); err != nil {
			return nil, 0, err
		}
		if le.Uint32(header) != sumOf.Sum32() {
			return bad(begin, "the index's checksum is wrong")
		}
		end = begin - taken - xzHeader
		if err := readAt(f, header, end); err != nil {
			return nil, 0, err
		}
		if !bytes.Equal(header, newXZHeader([2]byte(footer[8:]))) {
			return bad(end, "the stream's header is not that of its footer")
		}
		for i := range stream {
			stream[i].at += end + xzHeader
		}
		streams = append(streams, stream)
	}
	if count > maxBlocks {
		return nil, sum, nil
	}
	slices.Reverse(streams)
	return slices.Concat(streams...), sum, nil
}

func readAt(f disk.File, b []byte, off int64) error {
	if n, err := f.ReadAt(b, off); n < len(b) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return nil
}

func newXZHeader(flags [2]byte) []byte {
	h := append([]byte("\xfd7zXZ\x00"), flags[:]...)
	return binary.LittleEndian.AppendUint32(h, crc32.ChecksumIEEE(flags[:]))
}

// newXZTail makes the index and the footer of a stream of one block.
func newXZTail(b *xzBlock) []byte {
	le := binary.LittleEndian
	index := []byte{0, 1}
	index = binary.AppendUvarint(index, uint64(b.unpadded))
	index = binary.AppendUvarint(index, uint64(b.content))
	for len(index)%4 != 0 {
		index = append(index, 0)
	}
	index = le.AppendUint32(index, crc32.ChecksumIEEE(index))
	rest := le.AppendUint32(nil, uint32(len(index)/4-1))
	rest = append(rest, b.flags[:]...)
	footer := le.AppendUint32(nil, crc32.ChecksumIEEE(rest))
	return append(append(append(index, footer...), rest...), "YZ"...)
}

// dictionary gives the memory that a block's header (section 3.1) asks for.
func (b *xzBlock) dictionary(f disk.File) (int64, error) {
	head := make([]byte, min(1024, b.unpadded))
	if err := readAt(f, head, b.at); err != nil {
		return 0, err
	}
	errHeader := fmt.Errorf("xz: byte %d of the file: the block's header is wrong: %w", b.at, disk.ErrCorrupt)
	size := (int(head[0]) + 1) * 4
	if size > len(head) || size < 8 {
		return 0, errHeader
	}
	r := bytes.NewReader(head[2 : size-4])
	next := func() (v uint64) {
		v, err := binary.ReadUvarint(r)
		if err != nil {
			v = math.MaxUint64
		}
		return v
	}
	for bit := byte(0x40); bit != 0; bit <<= 1 { // the sizes, where they are given
		if head[1]&bit != 0 {
			next()
		}
	}
	for range int(head[1]&3) + 1 {
		id, length := next(), next()
		if length > uint64(r.Len()) {
			return 0, errHeader
		}
		properties := make([]byte, length)
		_, _ = r.Read(properties)
		if id != 0x21 { // LZMA2
			continue
		}
		if length != 1 || properties[0] > 40 {
			return 0, errHeader
		}
		bits := properties[0]
		return int64(2|bits&1) << (bits/2 + 11), nil
	}
	return 0, errHeader
}

// parallelMemory bounds what the blocks take that are unpacked at once.
const parallelMemory = 128 << 20

// Open is NewReader for a file that can be read anywhere: the blocks of an xz
// file that has several, as "xz -T0" makes them, are unpacked in parallel, where
// they are not too large for that. The caller closes the reader, which ends the
// work, as the end of ctx does.
func (m Method) Open(ctx context.Context, f disk.File, limit int64) (io.ReadCloser, error) {
	whole := func() (io.ReadCloser, error) { return m.NewReader(io.NewSectionReader(f, 0, f.Size()), limit) }
	if m != XZ || runtime.GOMAXPROCS(0) == 1 {
		return whole()
	}
	blocks, sum, err := xzIndex(ctx, f)
	if err != nil || len(blocks) < 2 || sum > limit {
		return whole() // which says what is wrong, and gives what is before it
	}
	var each, dictionary int64
	for i := range blocks {
		d, err := blocks[i].dictionary(f)
		if err != nil {
			return whole()
		}
		each, dictionary = max(each, blocks[i].content), max(dictionary, d)
	}
	if each+dictionary > parallelMemory/2 {
		return whole()
	}
	slots := min(int(parallelMemory/(each+dictionary+1<<20)), runtime.GOMAXPROCS(0)+1)
	return newParallel(ctx, f, blocks, slots, uint32(dictionary)), nil
}

// parallel is an xz file whose blocks are unpacked at once.
type parallel struct {
	*io.PipeReader
	cancel context.CancelFunc
	ended  chan struct{}
}

// Close ends the work.
func (p *parallel) Close() error {
	p.cancel()
	err := p.PipeReader.Close()
	<-p.ended
	return err
}

// slot is the memory for one block.
type slot struct {
	block   *xzBlock
	content int64 // where its content begins
	z       *xz.Reader
	buf     []byte
}

func newParallel(ctx context.Context, f disk.File, blocks []xzBlock, slots int, dictionary uint32) io.ReadCloser {
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	p := &parallel{PipeReader: r, cancel: cancel, ended: make(chan struct{})}
	// Nobody reads any more where the context has ended.
	context.AfterFunc(ctx, func() { w.CloseWithError(context.Cause(ctx)) })
	next, content := 0, int64(0)
	go func() {
		defer close(p.ended)
		err := pipeline.Run(ctx, make([]slot, slots), max(1, slots-1),
			func(_ context.Context, s *slot) error {
				if next == len(blocks) {
					return io.EOF
				}
				s.block, s.content = &blocks[next], content
				content += s.block.content
				next++
				return nil
			},
			func(_ context.Context, s *slot) error { return s.unpack(f, dictionary) },
			func(s *slot) error {
				_, err := w.Write(s.buf)
				return err
			})
		w.CloseWithError(err)
	}()
	return p
}

// unpack reads a block as if it were the only one of a file.
func (s *slot) unpack(f disk.File, dictionary uint32) error {
	b := s.block
	in := &source{n: b.at - xzHeader, r: io.MultiReader(bytes.NewReader(newXZHeader(b.flags)), io.NewSectionReader(f, b.at, b.padded()), bytes.NewReader(newXZTail(b)))}
	c := &reader{method: XZ, limit: MaxContent, in: in, n: s.content}
	var err error
	if s.z == nil {
		s.z, err = xz.NewReader(in, max(dictionary, 1))
	} else {
		err = s.z.Reset(in)
	}
	if err != nil {
		s.z = nil
		return c.wrap(err)
	}
	c.r = s.z
	s.buf = slices.Grow(s.buf[:0], int(b.content))[:b.content]
	if _, err := io.ReadFull(c, s.buf); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF { // io.ReadFull's own
			err = fmt.Errorf("xz: byte %d of the file: the block holds less than the index says: %w", b.at, disk.ErrCorrupt)
		}
		return err
	}
	// The end is where the checksum is.
	switch n, err := c.Read(make([]byte, 1)); {
	case err == io.EOF && n == 0:
		return nil
	case err != nil && err != io.EOF:
		return err
	}
	return fmt.Errorf("xz: byte %d of the file: the block holds more than the index says: %w", b.at, disk.ErrCorrupt)
}
