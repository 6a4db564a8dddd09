// Package digest tells whether two disks hold the same for the guest, without
// having both at hand: a digest of what the guest sees, that does not depend on
// the format, on where the holes are, or on how the disk was written. It is taken
// of an image that is there, or while an image is being written.
//
// The digest is SHA-256 over the disk's size and, in ascending order, the index
// and the content of each block of 1 MiB that is not all zeroes; numbers are 8
// bytes, the highest first, and the last block ends with the disk. So a disk of
// many terabytes that holds little costs little.
package digest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/internal/codec"
)

// Block is the size of the blocks, in bytes.
const Block = 1 << 20

// Sum is a digest.
type Sum [sha256.Size]byte

// String is the digest in hexadecimal.
func (s Sum) String() string { return hex.EncodeToString(s[:]) }

// hasher takes blocks in ascending order.
type hasher struct {
	h    hash.Hash
	size int64
}

func newHasher(size int64) *hasher {
	h := &hasher{sha256.New(), size}
	h.number(size)
	return h
}

func (h *hasher) number(n int64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	h.h.Write(b[:])
}

var zeroes [Block]byte

// block takes one.
func (h *hasher) block(index int64, b []byte) {
	b = b[:min(int64(len(b)), h.size-index*Block)]
	if bytes.Equal(b, zeroes[:len(b)]) {
		return
	}
	h.number(index)
	h.h.Write(b)
}

func (h *hasher) sum() (s Sum) {
	h.h.Sum(s[:0])
	return s
}

// Of reads an image. progress, where set, is told how far it is, in bytes of
// the disk.
func Of(ctx context.Context, img disk.Image, progress func(done int64)) (Sum, error) {
	h := newHasher(img.Size())
	buf := make([]byte, Block)
	for at := int64(0); at < img.Size(); {
		if err := ctx.Err(); err != nil {
			return Sum{}, context.Cause(ctx)
		}
		e, err := img.Extent(ctx, at)
		if err != nil {
			return Sum{}, fmt.Errorf("at byte %d: %w", at, err)
		}
		if end := e.End() / Block * Block; (e.Kind == disk.Hole || e.Kind == disk.Zero) && (end > at || e.End() >= img.Size()) {
			// at is where a block begins, and all of it up to end is zeroes.
			at = end
			if e.End() >= img.Size() {
				break
			}
			continue
		}
		b := buf[:min(Block, img.Size()-at)]
		if _, err := img.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
			return Sum{}, fmt.Errorf("at byte %d: %w", at, err)
		}
		h.block(at/Block, b)
		at += int64(len(b))
		if progress != nil {
			progress(at)
		}
	}
	return h.sum(), nil
}

// maxOpen is how many blocks may be incomplete at a time.
const maxOpen = 32

// Writer is a disk.Writer that takes the digest of what is written by another
// one.
type Writer struct {
	disk.Writer
	h      *hasher
	layout disk.Layout
	open   map[int64][]byte
	free   [][]byte
	past   int64 // the blocks below it are in the digest
	wild   bool
	unit   []byte
}

// NewWriter wraps a writer of a disk of this size.
func NewWriter(w disk.Writer, size int64) *Writer {
	return &Writer{Writer: w, h: newHasher(size), layout: w.Layout(), open: map[int64][]byte{}}
}

// Sum gives the digest after Finish. ok is false where the parts came so much
// out of order that it could not be taken in bounded memory.
func (w *Writer) Sum() (s Sum, ok bool) {
	for len(w.open) > 0 && !w.wild {
		w.lowest()
	}
	return w.h.sum(), !w.wild
}

// lowest puts the open block with the lowest index into the digest.
func (w *Writer) lowest() {
	low := int64(-1)
	for i := range w.open {
		if low < 0 || i < low {
			low = i
		}
	}
	b := w.open[low]
	w.h.block(low, b)
	w.past = low + 1
	delete(w.open, low)
	w.free = append(w.free, b)
}

// take notes what is written.
func (w *Writer) take(b []byte, off int64) {
	for len(b) > 0 && !w.wild {
		index, at := off/Block, off%Block
		n := min(int64(len(b)), Block-at)
		if w.open[index] == nil {
			if index < w.past {
				w.wild = true
				w.open, w.free = nil, nil
				return
			}
			if len(w.open) >= maxOpen {
				w.lowest()
			}
			var block []byte
			if k := len(w.free); k > 0 {
				block, w.free = w.free[k-1], w.free[:k-1]
				clear(block)
			} else {
				block = make([]byte, Block)
			}
			w.open[index] = block
		}
		copy(w.open[index][at:], b[:n])
		b, off = b[n:], off+n
	}
}

// WriteAt writes, and notes what is written.
func (w *Writer) WriteAt(b []byte, off int64) (int, error) {
	n, err := w.Writer.WriteAt(b, off)
	w.take(b[:n], off)
	return n, err
}

// WriteCompressed writes a unit, and notes what is in it.
func (w *Writer) WriteCompressed(off int64, stored []byte) error {
	if !w.wild {
		if w.unit == nil {
			w.unit = make([]byte, w.layout.Unit)
		}
		b := w.unit[:min(w.layout.Unit, w.h.size-off)]
		n, _, err := codec.Decompress(w.layout.Codec, w.unit, stored)
		if err != nil || n < len(b) {
			return errors.Join(fmt.Errorf("the compressed unit at byte %d does not hold %d bytes: %w", off, len(b), disk.ErrCorrupt), err)
		}
		w.take(b, off)
	}
	return w.Writer.WriteCompressed(off, stored)
}
