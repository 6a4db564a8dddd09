package deflate

import (
	"math/bits"
	"slices"
)

// huffman makes codes; it holds what that works on.
type huffman struct {
	sorted [numLitLen]uint32
	nodes  [numLitLen]uint32
}

// lengths gives each symbol that occurs the length of its code, of limit bits at
// most. There are always two codes, since some decompressors take none that is
// alone.
func (h *huffman) lengths(lens []uint8, freq []uint32, limit int) {
	clear(lens)
	sorted := h.sort(freq)
	n := len(sorted)
	if n < 2 {
		lens[0], lens[1] = 1, 1
		if n == 1 && sorted[0]&symbolMask > 1 {
			lens[1], lens[sorted[0]&symbolMask] = 0, 1
		}
		return
	}
	// Moffat and Katajainen, "In-place calculation of minimum-redundancy codes":
	// the weights become the parents of inner nodes, and those become depths.
	a := h.nodes[:n]
	for i, v := range sorted {
		a[i] = v >> symbolBits
	}
	leaf, root := 0, 0
	for next := range n - 1 {
		weight := uint32(0)
		for range 2 {
			if leaf < n && (root >= next || a[leaf] <= a[root]) {
				weight += a[leaf]
				leaf++
			} else {
				weight += a[root]
				a[root] = uint32(next)
				root++
			}
		}
		a[next] = weight
	}
	a[n-2] = 0
	for i := n - 3; i >= 0; i-- {
		a[i] = a[a[i]] + 1
	}
	// How many leaves there are at each depth; frequencies of 23 bits make no tree
	// deeper than 34.
	var count [64]int
	inner := n - 2
	for depth, free := 0, 1; free > 0; depth++ {
		used := 0
		for inner >= 0 && int(a[inner]) == depth {
			used++
			inner--
		}
		count[depth] = free - used
		free = 2 * used
	}
	shorten(count[:], limit)
	i := 0
	for depth := limit; depth > 0; depth-- {
		for range count[depth] {
			lens[sorted[i]&symbolMask] = uint8(depth)
			i++
		}
	}
}

// shorten brings codes that are longer than limit to it, of which count says how
// many there are of each length; for their sake others get longer, as near to the
// limit as there are.
func shorten(count []int, limit int) {
	used := 0 // of 2^limit codes of the limit
	for n := 1; n < len(count); n++ {
		if n > limit {
			count[limit] += count[n]
			used += count[n]
			count[n] = 0
		} else {
			used += count[n] << (limit - n)
		}
	}
	for ; used > 1<<limit; used-- {
		n := limit - 1
		for count[n] == 0 {
			n--
		}
		// One of length n and one of the limit become two of length n+1.
		count[n]--
		count[n+1] += 2
		count[limit]--
	}
}

// A sorted symbol is its frequency above symbolBits of symbol.
const (
	symbolBits = 9
	symbolMask = 1<<symbolBits - 1
)

// sort gives the symbols that occur, the rarest first.
func (h *huffman) sort(freq []uint32) []uint32 {
	const often = 256 // and more is sorted by comparing
	var next [often + 1]uint16
	for _, f := range freq {
		next[min(f, often)]++
	}
	// From how many there are of each frequency to the place of the first.
	at := uint16(0)
	for f := 1; f <= often; f++ {
		at, next[f] = at+next[f], at
	}
	common := next[often]
	for symbol, f := range freq {
		if f != 0 {
			k := &next[min(f, often)]
			h.sorted[*k] = f<<symbolBits | uint32(symbol)
			*k++
		}
	}
	slices.Sort(h.sorted[common:at])
	return h.sorted[:at]
}

// assign gives each symbol its code, with the bit that comes first lowest (RFC 1951
// section 3.2.2).
func assign(codes []uint16, lens []uint8) {
	var count, next [16]uint16
	for _, n := range lens {
		count[n]++
	}
	count[0] = 0
	code := uint16(0)
	for n := 1; n < len(next); n++ {
		code = (code + count[n-1]) << 1
		next[n] = code
	}
	for i, n := range lens {
		codes[i] = bits.Reverse16(next[n]) >> (16 - n)
		if n != 0 {
			next[n]++
		}
	}
}
