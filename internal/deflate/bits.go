package deflate

import (
	"encoding/binary"
	"slices"
)

const (
	// flushLen is how much a flush may write behind what counts.
	flushLen  = 8
	maxStored = 1<<16 - 1
)

// A bitWriter appends bits, the lowest first, to a buffer that is made large
// enough before.
type bitWriter struct {
	b   []byte // to its capacity
	pos int    // where the next byte goes
	buf uint64
	n   uint // bits in buf, at most 7 after a flush
}

func (w *bitWriter) start(dst []byte) {
	*w = bitWriter{b: dst[:cap(dst)], pos: len(dst)}
}

// grow makes room for n bits.
func (w *bitWriter) grow(n int) {
	if need := (int(w.n)+n+7)/8 + flushLen; need > len(w.b)-w.pos {
		b := slices.Grow(w.b[:w.pos], need)
		w.b = b[:cap(b)]
	}
}

// put appends bits; 56 can be put after a flush.
func (w *bitWriter) put(bits uint64, n uint) {
	w.buf |= bits << (w.n & 63)
	w.n += n
}

// flush writes all whole bytes.
func (w *bitWriter) flush() {
	binary.LittleEndian.PutUint64(w.b[w.pos:], w.buf)
	w.pos += int(w.n >> 3)
	w.buf >>= w.n & 56
	w.n &= 7
}

// align fills up the last byte.
func (w *bitWriter) align() {
	w.n = (w.n + 7) &^ 7
	w.flush()
}

// stored appends blocks that hold p as it is (RFC 1951 section 3.2.4).
func (w *bitWriter) stored(p []byte, final bool) {
	w.grow(w.storedBits(len(p)))
	for {
		n := min(len(p), maxStored)
		head := uint64(0)
		if final && n == len(p) {
			head = 1
		}
		w.put(head, 3)
		w.align()
		w.put(uint64(uint16(n))|uint64(^uint16(n))<<16, 32)
		w.flush()
		w.pos += copy(w.b[w.pos:], p[:n])
		p = p[n:]
		if len(p) == 0 {
			return
		}
	}
}

// storedBits is how many bits stored takes for n bytes.
func (w *bitWriter) storedBits(n int) int {
	first := (int(w.n)+3+7)&^7 - int(w.n)
	blocks := max(1, (n+maxStored-1)/maxStored)
	return first + 8*(blocks-1) + 32*blocks + 8*n
}

// finish ends the stream and gives the buffer back.
func (w *bitWriter) finish() []byte {
	w.grow(0)
	w.align()
	b := w.b[:w.pos]
	w.b = nil
	return b
}
