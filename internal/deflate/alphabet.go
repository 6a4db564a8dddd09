package deflate

import "math/bits"

// The alphabets (RFC 1951 section 3.2.5 to 3.2.7).
const (
	endOfBlock  = 256
	firstLength = 257
	numLitLen   = 286
	numDist     = 30
	numPrecode  = 19
)

// The fixed codes (section 3.2.6) have symbols that stand for nothing.
var (
	fixedLitLens  [numLitLen + 2]uint8
	fixedDistLens [numDist + 2]uint8
)

var (
	// lengthSlot is the symbol of each length, less firstLength, and lengthBase
	// the first length of each.
	lengthSlot [maxMatch + 1]uint8
	lengthBase [numLitLen - firstLength]uint16

	// distBase is the first distance of each symbol, and distExtra how many bits
	// follow it. distSlots is what distSlot looks up.
	distBase  [numDist]uint32
	distExtra [numDist]uint8
	distSlots [512]uint8
)

func init() {
	for i := range fixedLitLens {
		switch {
		case i < 144:
			fixedLitLens[i] = 8
		case i < 256:
			fixedLitLens[i] = 9
		case i < 280:
			fixedLitLens[i] = 7
		default:
			fixedLitLens[i] = 8
		}
	}
	for i := range fixedDistLens {
		fixedDistLens[i] = 5
	}

	length := 3
	for slot := range lengthBase {
		lengthBase[slot] = uint16(length)
		for range 1 << lengthExtra(slot) {
			if length <= maxMatch {
				lengthSlot[length] = uint8(slot)
				length++
			}
		}
		if slot == len(lengthBase)-2 {
			length = maxMatch // which has a symbol of its own
		}
	}

	slotOf := func(d int) uint8 { // of a distance less 1
		if d < 2 {
			return uint8(d)
		}
		n := bits.Len(uint(d)) - 1
		return uint8(2*n + d>>(n-1)&1)
	}
	for d := window - 1; d >= 0; d-- {
		distBase[slotOf(d)] = uint32(d) + 1
	}
	for slot := range distExtra {
		distExtra[slot] = uint8(max(0, slot/2-1))
	}
	for i := range 256 {
		distSlots[i], distSlots[256+i] = slotOf(i), slotOf(i<<7)
	}
}

func lengthExtra(slot int) uint {
	if slot < 8 || slot == len(lengthBase)-1 {
		return 0
	}
	return uint(slot)/4 - 1
}

// distSlot is the symbol of a distance. From 256 on seven bits and more follow a
// symbol, so that the bits above them say which it is.
func distSlot(dist uint16) uint8 {
	d := uint(dist - 1)
	if d < 256 {
		return distSlots[d]
	}
	return distSlots[256+d>>7&0xff]
}
