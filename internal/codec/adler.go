package codec

import "encoding/binary"

const (
	adlerMod = 65521
	// adlerWords is how many words of eight bytes can be summed up before
	// a lane of 16 bits overflows: 255*n*(n-1)/2 is less than 2^16.
	adlerWords = 22
	// adlerBlocks is how many such blocks the sums take before they must be
	// reduced; the limit is generous.
	adlerBlocks = 1 << 10

	lanes16 = 0x00ff00ff00ff00ff
	lanes32 = 0x0000ffff0000ffff
)

// adler32 is the checksum of RFC 1950 section 8.2. It sums up eight bytes at
// a time in lanes of 16 bits, which takes half of the time that hash/adler32
// does.
func adler32(b []byte) uint32 {
	s1, s2 := uint64(1), uint64(0)
	for len(b) >= 8*adlerWords {
		for range min(len(b)/(8*adlerWords), adlerBlocks) {
			// even and odd sum up the bytes of each place; before is the
			// sum of all those sums as each word finds them.
			var even, odd, evenBefore, oddBefore uint64
			for block := b[:8*adlerWords]; len(block) >= 16; block = block[16:] {
				w := binary.LittleEndian.Uint64(block)
				evenBefore += even
				oddBefore += odd
				even += w & lanes16
				odd += w >> 8 & lanes16
				w = binary.LittleEndian.Uint64(block[8:])
				evenBefore += even
				oddBefore += odd
				even += w & lanes16
				odd += w >> 8 & lanes16
			}
			b = b[8*adlerWords:]
			// Each byte counts in s2 as often as there are bytes from it
			// to the end.
			s2 += 8*adlerWords*s1 + 8*(sum16(evenBefore)+sum16(oddBefore)) +
				8*(even&0xffff) + 6*(even>>16&0xffff) + 4*(even>>32&0xffff) + 2*(even>>48) +
				7*(odd&0xffff) + 5*(odd>>16&0xffff) + 3*(odd>>32&0xffff) + odd>>48
			s1 += sum16(even) + sum16(odd)
		}
		s1 %= adlerMod
		s2 %= adlerMod
	}
	for _, v := range b {
		s1 += uint64(v)
		s2 += s1
	}
	return uint32(s2%adlerMod<<16 | s1%adlerMod)
}

// sum16 adds up four lanes of 16 bits.
func sum16(v uint64) uint64 {
	v = v&lanes32 + v>>16&lanes32
	return v&0xffffffff + v>>32
}
