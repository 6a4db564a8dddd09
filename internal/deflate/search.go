package deflate

import (
	"encoding/binary"
	"math/bits"
)

const (
	minMatch = 4 // that is looked for; the format has 3
	maxMatch = 258
	window   = 1 << 15

	// seenBits is the binary logarithm of how many strings are remembered.
	seenBits = 14
	// lazy is the length from which on a match is good enough not to look for one
	// that begins a byte later.
	lazy = 16
	// skipBits says how soon steps get longer where nothing is found.
	skipBits = 6
	// inMatch is the step at which places within a match are remembered.
	inMatch = 2
	// margin is how far from the end matches begin at the latest, as eight bytes
	// are compared at once.
	margin = 8
)

func load32(b []byte, i int) uint32 { return binary.LittleEndian.Uint32(b[i : i+4]) }
func load64(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[i : i+8]) }

// hash is the entry of what the lowest four bytes of v were seen at last: the place
// modulo 2^16, and in the high half the place before that. Those say all that is
// needed, as matches reach back by 2^15 at most, and the bytes there are compared.
func hash(v uint64) uint32 {
	return uint32(v << 32 * 0x9e3779b185ebca87 >> (64 - seenBits))
}

// A candidate is a match that may be: in the high half how many of eight bytes are
// the same, and in the low one the distance, with all bits turned round. So the
// greater one is longer, or as long and nearer.
type candidate uint32

const enough candidate = minMatch << 16

// candidateAt compares v, the eight bytes at s, with those at dist before it. A
// distance that is 0 or beyond the window gives a match of no length, without a
// branch: which way that goes could not be foretold.
func candidateAt(src []byte, s int, dist uint16, v uint64) candidate {
	far := uint64((dist - 1) >> 15)
	same := bits.TrailingZeros64(load64(src, s-int(dist))^v|far) >> 3
	return candidate(same)<<16 | candidate(^dist)
}

func (m candidate) dist() int { return int(^uint16(m)) }

// len is how long the match at s is.
func (m candidate) len(src []byte, s int) int {
	n := int(m >> 16)
	if n < 8 {
		return n
	}
	a := src[s+8 : min(len(src), s+maxMatch)]
	b := src[s+8-m.dist():]
	b = b[:len(a)]
	for len(a) >= 8 && len(b) >= 8 {
		if x := binary.LittleEndian.Uint64(a) ^ binary.LittleEndian.Uint64(b); x != 0 {
			return n + bits.TrailingZeros64(x)>>3
		}
		a, b = a[8:], b[8:]
		n += 8
	}
	for i := range a {
		if i >= len(b) || a[i] != b[i] {
			break
		}
		n++
	}
	return n
}

// look gives the better one of the two places where the bytes at s were last
// seen, and remembers s.
func (c *compressor) look(src []byte, s int) candidate {
	v := load64(src, s)
	e := &c.seen[hash(v)]
	last := *e
	*e = last<<16 | uint32(uint16(s))
	return max(
		candidateAt(src, s, uint16(s)-uint16(last), v),
		candidateAt(src, s, uint16(s)-uint16(last>>16), v))
}

// search finds the sequences of the chunk that begins at from, and says how many
// there are and where the chunk ends.
func (c *compressor) search(from int) (n, to int) {
	src := c.src
	end := min(from+chunkLen, len(src))
	last := len(src) - margin // a match can begin here
	stop := min(end, last+1)  // and not here
	s, next := from, from     // next is the first byte that is in no sequence
	for {
		var m candidate
		for {
			if s >= stop {
				if next >= end {
					return n, next
				}
				c.sequences[n] = sequence{literals: uint32(end - next)}
				return n + 1, end
			}
			if m = c.look(src, s); m >= enough {
				break
			}
			s += 1 + (s-next)>>skipBits
		}
		dist, length := m.dist(), m.len(src, s)
		// There may be a longer one a byte later.
		for length < lazy && s+1 < stop {
			m := c.look(src, s+1)
			l := m.len(src, s+1)
			if l <= length {
				break
			}
			dist, length = m.dist(), l
			s++
		}
		// What is before it may be the same, too.
		for s > next && s > dist && length < maxMatch && src[s-1] == src[s-1-dist] {
			s--
			length++
		}
		c.sequences[n] = sequence{uint32(s - next), uint16(length), uint16(dist)}
		n++
		next = s + length
		for i := s + 2; i < min(next, last+1); i += inMatch {
			e := &c.seen[hash(load64(src, i))]
			*e = *e<<16 | uint32(uint16(i))
		}
		s = next
	}
}
