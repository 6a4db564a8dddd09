package deflate

import "math"

const (
	// segmentLen is how much, give or take a match, is judged as a whole when a
	// chunk is divided into blocks, each with codes of its own.
	segmentLen = 1 << 13
	// headerBits is about what the codes of a block take.
	headerBits = 64 * 8
)

// A histogram says how often each symbol occurs.
type histogram struct {
	lit  [numLitLen]uint32
	dist [numDist]uint32
}

// count counts the symbols of sequences that make up src.
func (h *histogram) count(src []byte, sequences []sequence) {
	*h = histogram{}
	lit := (*[endOfBlock]uint32)(h.lit[:])
	for _, q := range sequences {
		for _, b := range src[:q.literals] {
			lit[b]++
		}
		src = src[int(q.literals)+int(q.length):]
		if q.length != 0 {
			h.lit[firstLength+uint(lengthSlot[q.length])]++
			h.dist[distSlot(q.dist)]++
		}
	}
}

func (h *histogram) add(o *histogram) {
	for i, f := range o.lit {
		h.lit[i] += f
	}
	for i, f := range o.dist {
		h.dist[i] += f
	}
}

// bits is about what the symbols take with the best codes, in bits, without what
// takes the same with all codes.
func (h *histogram) bits() int {
	return entropy(h.lit[:]) + entropy(h.dist[:])
}

func entropy(freq []uint32) int {
	total, sum := uint32(0), 0
	for _, f := range freq {
		total += f
		sum += nlogn(f)
	}
	return (nlogn(total) - sum) >> nlognShift
}

// nlogns are n times the binary logarithm of n, for small n, by 2^nlognShift.
var nlogns = func() (t [1 << 12]uint32) {
	for n := 1; n < len(t); n++ {
		t[n] = uint32(float64(n) * math.Log2(float64(n)) * (1 << nlognShift))
	}
	return t
}()

const nlognShift = 4

func nlogn(n uint32) int {
	if n < uint32(len(nlogns)) {
		return int(nlogns[n])
	}
	return int(float64(n) * math.Log2(float64(n)) * (1 << nlognShift))
}

// chunk writes the sequences that make up src, divided into blocks where that
// takes less.
func (c *compressor) chunk(src []byte, sequences []sequence, final bool) {
	var block, segment, both histogram
	blockBits := 0
	for n, pos := 0, 0; n < len(sequences); {
		// The next segment is sequences[n:till], src[pos:end].
		till, end := n, pos
		for till < len(sequences) && end-pos < segmentLen {
			end += int(sequences[till].literals) + int(sequences[till].length)
			till++
		}
		segment.count(src[pos:end], sequences[n:till])
		alone := segment.bits()
		if n == 0 {
			block, blockBits = segment, alone
		} else {
			both = block
			both.add(&segment)
			if together := both.bits(); together <= blockBits+alone+headerBits {
				block, blockBits = both, together
			} else {
				c.block(&block, src[:pos], sequences[:n], false)
				src, sequences = src[pos:], sequences[n:]
				till, end = till-n, end-pos
				block, blockBits = segment, alone
			}
		}
		n, pos = till, end
	}
	c.block(&block, src, sequences, final)
}

// block writes sequences that make up src, and whose symbols h counts, in the way
// that takes least.
func (c *compressor) block(h *histogram, src []byte, sequences []sequence, final bool) {
	k, w := &c.coder, &c.out
	h.lit[endOfBlock] = 1
	k.make(h)
	dynamic := k.header.bits + h.size(k.litLens[:], k.distLens[:])
	fixed := h.size(fixedLitLens[:numLitLen], fixedDistLens[:numDist])
	if 3+min(dynamic, fixed) >= w.storedBits(len(src)) {
		w.stored(src, final)
		return
	}
	w.grow(3 + min(dynamic, fixed))
	head := uint64(0)
	if final {
		head = 1
	}
	if fixed <= dynamic {
		w.put(head|1<<1, 3)
		w.flush()
		k.tables(fixedLitLens[:], fixedDistLens[:])
	} else {
		w.put(head|2<<1, 3)
		w.flush()
		k.header.write(w)
		k.tables(k.litLens[:], k.distLens[:])
	}
	k.write(w, src, sequences)
}

// size is how many bits the symbols take with codes of these lengths, and the bits
// that follow them.
func (h *histogram) size(litLens, distLens []uint8) int {
	n := 0
	for i, f := range h.lit {
		n += int(f) * int(litLens[i])
	}
	for slot := range lengthBase {
		n += int(h.lit[firstLength+slot]) * int(lengthExtra(slot))
	}
	for i, f := range h.dist {
		n += int(f) * (int(distLens[i]) + int(distExtra[i]))
	}
	return n
}
