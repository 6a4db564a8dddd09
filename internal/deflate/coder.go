package deflate

import "encoding/binary"

const (
	// Codes are shorter than the 15 bits that they may have, so that four
	// literals, or a match with its extra bits, fit between two flushes.
	maxCodeBits    = 14
	maxPrecodeBits = 7
)

// A code is what is written for a symbol: the bits, and in the highest byte how
// many they are.
type code uint32

func makeCode(bits uint32, n uint8) code { return code(bits) | code(n)<<24 }
func (c code) bits() uint64              { return uint64(c & 0xffffff) }
func (c code) len() uint                 { return uint(c >> 24) }

// A coder holds the codes of a block.
type coder struct {
	litLens  [numLitLen]uint8
	distLens [numDist]uint8
	header   header
	huffman  huffman

	// The codes of literals and of the end of the block, those of lengths with
	// the bits that follow, and those of the symbols of distances.
	literals  [endOfBlock + 1]code
	lengths   [maxMatch + 1]code
	distances [numDist]code
}

// make makes the codes that are best for what h has counted, and their header.
func (k *coder) make(h *histogram) {
	k.huffman.lengths(k.litLens[:], h.lit[:], maxCodeBits)
	k.huffman.lengths(k.distLens[:], h.dist[:], maxCodeBits)
	k.header.make(&k.huffman, k.litLens[:], k.distLens[:])
}

// tables makes what write looks up from the lengths of the codes.
func (k *coder) tables(litLens, distLens []uint8) {
	var bits [numLitLen + 2]uint16
	assign(bits[:len(litLens)], litLens)
	for i := range k.literals {
		k.literals[i] = makeCode(uint32(bits[i]), litLens[i])
	}
	for slot, base := range lengthBase {
		n, extra := litLens[firstLength+slot], lengthExtra(slot)
		for i := range uint32(1) << extra {
			// The last length but one of this table has a symbol of its own.
			if l := uint32(base) + i; l < maxMatch || extra == 0 {
				k.lengths[l] = makeCode(uint32(bits[firstLength+slot])|i<<n, n+uint8(extra))
			}
		}
	}
	assign(bits[:len(distLens)], distLens)
	for i := range k.distances {
		k.distances[i] = makeCode(uint32(bits[i]), distLens[i])
	}
}

// atMost takes none, one, two or three literals of three.
var atMost = [4][3]code{{}, {^code(0)}, {^code(0), ^code(0)}, {^code(0), ^code(0), ^code(0)}}

// write writes the symbols of sequences that make up src, for which w has room. The
// state of w is kept in variables, which the compiler keeps in registers.
func (k *coder) write(w *bitWriter, src []byte, sequences []sequence) {
	b, pos, buf, n := w.b, w.pos, w.buf, w.n
	literals := (*[endOfBlock]code)(k.literals[:])
	at := 0
	for _, q := range sequences {
		rest := int(q.literals)
		for ; rest >= 4; rest -= 4 {
			v := load32(src, at)
			at += 4
			c0, c1, c2, c3 := literals[uint8(v)], literals[uint8(v>>8)], literals[uint8(v>>16)], literals[v>>24]
			// Two pairs, and then both: so the steps that wait for each other are few.
			lo, loLen := c0.bits()|c1.bits()<<(c0.len()&63), c0.len()+c1.len()
			hi, hiLen := c2.bits()|c3.bits()<<(c2.len()&63), c2.len()+c3.len()
			buf |= (lo | hi<<(loLen&63)) << (n & 63)
			n += loLen + hiLen
			binary.LittleEndian.PutUint64(b[pos:pos+8], buf)
			pos += int(n >> 3)
			buf >>= n & 56
			n &= 7
		}
		if q.length == 0 {
			for _, p := range src[at : at+rest] {
				c := literals[p]
				buf |= c.bits() << (n & 63)
				n += c.len()
			}
			break
		}
		// Up to three literals; the match that follows has four bytes at least, so
		// that they can be read.
		take := &atMost[rest&3]
		v := load32(src, at)
		c0, c1, c2 := literals[uint8(v)]&take[0], literals[uint8(v>>8)]&take[1], literals[uint8(v>>16)]&take[2]
		lo, loLen := c0.bits()|c1.bits()<<(c0.len()&63), c0.len()+c1.len()
		buf |= (lo | c2.bits()<<(loLen&63)) << (n & 63)
		n += loLen + c2.len()
		binary.LittleEndian.PutUint64(b[pos:pos+8], buf)
		pos += int(n >> 3)
		buf >>= n & 56
		n &= 7
		at += rest + int(q.length)

		slot := distSlot(q.dist)
		length, dist := k.lengths[q.length], k.distances[slot]
		lo, loLen = length.bits()|dist.bits()<<(length.len()&63), length.len()+dist.len()
		buf |= (lo | uint64(uint32(q.dist)-distBase[slot])<<(loLen&63)) << (n & 63)
		n += loLen + uint(distExtra[slot])
		binary.LittleEndian.PutUint64(b[pos:pos+8], buf)
		pos += int(n >> 3)
		buf >>= n & 56
		n &= 7
	}
	w.pos, w.buf, w.n = pos, buf, n
	w.flush()
	end := k.literals[endOfBlock]
	w.put(end.bits(), end.len())
	w.flush()
}
