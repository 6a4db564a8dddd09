// Package inflate decompresses deflate streams (RFC 1951) whose whole input is
// at hand and the size of whose output is known: the grains and clusters of
// disk images. It judges every stream as compress/flate does.
//
// Against a streaming decompressor that saves the window and its copying, and
// the checks for the end of input and output at every symbol: as long as both
// are far enough away, the inner loop goes without.
package inflate

import (
	"encoding/binary"
	"errors"
	"io"
	"math/bits"
	"sync"
)

// Errors of Inflate. A stream that breaks off gives io.ErrUnexpectedEOF.
var (
	// ErrCorrupt says that the input is no deflate stream.
	ErrCorrupt = errors.New("inflate: corrupt deflate stream")
	// ErrShortBuffer says that the stream holds more than dst takes.
	ErrShortBuffer = errors.New("inflate: stream is longer than its buffer")
)

// Inflate decompresses the stream that src begins with into dst. It says how
// many bytes that gave and, where there is no error, how many bytes of src
// the stream takes. Where the stream holds more than dst takes, dst is filled
// and the error is ErrShortBuffer. It writes nothing outside of dst[:n], save
// that bytes of dst behind n may be overwritten.
func Inflate(dst, src []byte) (n, consumed int, err error) {
	d := decoders.Get().(*decoder)
	d.src, d.pos, d.buf, d.cnt = src, 0, 0, 0
	d.dst, d.out = dst, 0
	err = d.run()
	n = d.out
	if err == nil {
		// Whole bytes that were taken in and not used.
		consumed = d.pos - int(d.cnt>>3)
	}
	d.src, d.dst = nil, nil
	decoders.Put(d)
	return n, consumed, err
}

var decoders = sync.Pool{New: func() any { return new(decoder) }}

// The alphabets (RFC 1951 section 3.2.5 and 3.2.7).
const (
	maxLitLen   = 288 // 286 and 287 have codes in fixed blocks and no meaning
	maxDist     = 32  // the same for 30 and 31
	numPrecode  = 19
	maxCodeLen  = 15
	maxMatch    = 258
	endOfBlock  = 256
	litLenBits  = 11 // of the first table
	distBits    = 8
	precodeBits = 7
)

// Table entries. The low byte is how many bits the entry takes in all, extra
// bits included; bits 8 to 11 how many of them are the code itself.
//
//	literal     flagLiteral | byte << 16
//	length      base << 16
//	distance    base << 16
//	subtable    flagSpecial | flagSubtable | start << 16, bits 8 to 11 its width
//	end         flagSpecial | flagEnd
//	no meaning  flagSpecial
const (
	flagLiteral  = 1 << 31
	flagSpecial  = 1 << 15
	flagSubtable = 1 << 14
	flagEnd      = 1 << 13
)

type decoder struct {
	src []byte
	pos int
	// buf holds cnt bits of the input that were not used yet, the next one
	// lowest. What is above them is either zero or what comes next.
	buf uint64
	cnt uint

	dst []byte
	out int

	litLen [4096]uint32 // 2342 are needed at most, and a power of two needs no check
	dist   [512]uint32  // 402
	fixed  bool         // the tables are those of fixed blocks
	pre    [1 << precodeBits]uint32
	lens   [maxLitLen + maxDist]uint8
	sorted [maxLitLen]uint16
}

func (d *decoder) run() error {
	for {
		head, ok := d.take(3)
		if !ok {
			return io.ErrUnexpectedEOF
		}
		var err error
		switch head >> 1 {
		case 0:
			err = d.stored()
		case 1:
			d.setFixed()
			err = d.block()
		case 2:
			if err = d.header(); err == nil {
				err = d.block()
			}
		default:
			err = ErrCorrupt
		}
		if err != nil {
			return err
		}
		if head&1 != 0 {
			// Bits that were looked at ahead are not ours.
			d.buf &= 1<<d.cnt - 1
			return nil
		}
	}
}

// fill takes in bytes until there are 56 bits or no more input.
func (d *decoder) fill() {
	if len(d.src)-d.pos >= 8 {
		d.buf |= binary.LittleEndian.Uint64(d.src[d.pos:]) << (d.cnt & 63)
		d.pos += int(63-d.cnt) >> 3
		d.cnt |= 56
		return
	}
	d.buf &= 1<<d.cnt - 1
	for d.cnt < 56 && d.pos < len(d.src) {
		d.buf |= uint64(d.src[d.pos]) << d.cnt
		d.pos++
		d.cnt += 8
	}
}

// take gives the next n bits, 32 at most.
func (d *decoder) take(n uint) (uint64, bool) {
	if d.cnt < n {
		d.fill()
		if d.cnt < n {
			return 0, false
		}
	}
	v := d.buf & (1<<n - 1)
	d.buf >>= n
	d.cnt -= n
	return v, true
}

// stored copies a block that is not compressed.
func (d *decoder) stored() error {
	// The rest of the byte is left out, whole bytes are given back.
	d.pos -= int(d.cnt >> 3)
	d.buf, d.cnt = 0, 0
	if len(d.src)-d.pos < 4 {
		return io.ErrUnexpectedEOF
	}
	n := int(binary.LittleEndian.Uint16(d.src[d.pos:]))
	if n != int(^binary.LittleEndian.Uint16(d.src[d.pos+2:])) {
		return ErrCorrupt
	}
	d.pos += 4
	from := d.src[d.pos:]
	if len(from) > n {
		from = from[:n]
	}
	m := copy(d.dst[d.out:], from)
	d.out += m
	d.pos += m
	switch {
	case m < len(from):
		return ErrShortBuffer
	case len(from) < n:
		return io.ErrUnexpectedEOF
	}
	return nil
}

func (d *decoder) setFixed() {
	if d.fixed {
		return
	}
	lens := d.lens[:maxLitLen]
	for i := range lens {
		switch {
		case i < 144:
			lens[i] = 8
		case i < 256:
			lens[i] = 9
		case i < 280:
			lens[i] = 7
		default:
			lens[i] = 8
		}
	}
	d.build(d.litLen[:], litLenBits, lens, litLenEntries[:])
	lens = d.lens[:maxDist]
	for i := range lens {
		lens[i] = 5
	}
	d.build(d.dist[:], distBits, lens, distEntries[:])
	d.fixed = true
}

// order is in which the lengths of the code length code come.
var order = [numPrecode]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// header reads a dynamic block's codes (RFC 1951 section 3.2.7).
func (d *decoder) header() error {
	d.fixed = false
	head, ok := d.take(14)
	if !ok {
		return io.ErrUnexpectedEOF
	}
	numLit := int(head&31) + 257
	numDist := int(head>>5&31) + 1
	if numLit > 286 || numDist > 30 {
		return ErrCorrupt
	}
	var pre [numPrecode]uint8
	for i := range int(head>>10) + 4 {
		v, ok := d.take(3)
		if !ok {
			return io.ErrUnexpectedEOF
		}
		pre[order[i]] = uint8(v)
	}
	if !d.build(d.pre[:], precodeBits, pre[:], preEntries[:]) {
		return ErrCorrupt
	}
	n := numLit + numDist
	lens := d.lens[:n]
	for i := 0; i < n; {
		if d.cnt < 14 {
			d.fill()
		}
		e := d.pre[d.buf&(1<<precodeBits-1)]
		used := uint(e & 0xff)
		if used > d.cnt {
			return io.ErrUnexpectedEOF
		}
		if e&flagSpecial != 0 {
			return ErrCorrupt
		}
		code := e >> 8 & 15
		bits := d.buf & (1<<used - 1) >> code
		d.buf >>= used
		d.cnt -= used
		sym := uint8(e >> 16 & 0xff)
		if sym < 16 {
			lens[i] = sym
			i++
			continue
		}
		rep := int(e>>24) + int(bits)
		var v uint8
		if sym == 16 {
			if i == 0 {
				return ErrCorrupt
			}
			v = lens[i-1]
		}
		if rep > n-i {
			return ErrCorrupt
		}
		for j := range lens[i : i+rep] {
			lens[i+j] = v
		}
		i += rep
	}
	if !d.build(d.litLen[:], litLenBits, lens[:numLit], litLenEntries[:]) ||
		!d.build(d.dist[:], distBits, lens[numLit:], distEntries[:]) {
		return ErrCorrupt
	}
	return nil
}

// build makes the table of the code whose symbols have these lengths. It says
// false where that is no code: one with too many words, or with too few,
// unless it has none or a single one of one bit.
func (d *decoder) build(table []uint32, width uint, lens []uint8, entries []uint32) bool {
	var count [maxCodeLen + 1]int
	for _, l := range lens {
		count[l&15]++
	}
	count[0] = 0
	longest := uint(maxCodeLen)
	for longest > 0 && count[longest] == 0 {
		longest--
	}
	words := 0
	for l := uint(1); l <= longest; l++ {
		words = words<<1 + count[l]
	}
	if words != 1<<longest {
		if longest != 0 && (longest != 1 || words != 1) {
			return false
		}
		// What has no symbol takes one bit and has no meaning.
		first := table[:1<<width]
		for i := range first {
			first[i] = flagSpecial | 1
		}
		if longest == 1 {
			for sym, l := range lens {
				if l == 1 {
					for i := 0; i < len(first); i += 2 {
						first[i] = entries[sym] + 1<<8 + 1
					}
				}
			}
		}
		return true
	}

	// Symbols by length, and in their order within each.
	var next [maxCodeLen + 2]int
	for l := 1; l <= maxCodeLen; l++ {
		next[l+1] = next[l] + count[l]
	}
	sorted := &d.sorted
	for sym, l := range lens {
		if l != 0 {
			sorted[next[l]] = uint16(sym)
			next[l]++
		}
	}

	// The table doubles from one length of codes to the next: each word,
	// read from its last bit to its first, is an index, and what is
	// behind it repeats. Words of more than width bits follow.
	i := 0
	size := 1
	code := 0
	for l := uint(1); l <= min(longest, width); l++ {
		if l > 1 || i > 0 {
			copy(table[size:2*size], table[:size])
		}
		size *= 2
		for range count[l] {
			table[code] = entries[sorted[i]] + uint32(l<<8|l)
			i++
			code = following(code, size)
		}
	}
	for ; size < 1<<width; size *= 2 {
		copy(table[size:2*size], table[:size])
	}
	end := size
	var sub []uint32
	prefix := -1
	for l := width + 1; l <= longest; l++ {
		for left := count[l]; left > 0; left-- {
			if p := code & (1<<width - 1); p != prefix {
				// The words that share their first bits fill a table that
				// is as wide as the longest of them needs.
				prefix = p
				w := l - width
				room := 1<<w - left
				for room > 0 && w+width < longest {
					w++
					room = room<<1 - count[w+width]
				}
				sub = table[end : end+1<<w]
				table[p] = flagSpecial | flagSubtable | uint32(end)<<16 | uint32(w)<<8 | uint32(width)
				end += 1 << w
			}
			e := entries[sorted[i]] + uint32((l-width)<<8|(l-width))
			for j := code >> width; j < len(sub); j += 1 << (l - width) {
				sub[j] = e
			}
			i++
			code = following(code, 1<<l)
		}
	}
	return true
}

// following gives the next word of a code of so many words of one length,
// both words with their bits reversed.
func following(code, size int) int {
	// Adding one from the highest bit down: the ones there become zeroes,
	// and the first zero one.
	zeroes := ^code & (size - 1)
	if zeroes == 0 {
		return 0
	}
	top := 1 << (bits.Len(uint(zeroes)) - 1)
	return code&(top-1) | top
}

// Static parts of the entries, by symbol.
var (
	litLenEntries = makeLitLenEntries()
	distEntries   = makeDistEntries()
	preEntries    = makePreEntries()
)

func makeLitLenEntries() (t [maxLitLen]uint32) {
	for i := range 256 {
		t[i] = flagLiteral | uint32(i)<<16
	}
	t[endOfBlock] = flagSpecial | flagEnd
	base := uint32(3)
	for i := range 28 {
		extra := uint32(max(0, i/4-1))
		t[257+i] = base<<16 | extra
		base += 1 << extra
	}
	t[285] = maxMatch << 16
	t[286], t[287] = flagSpecial, flagSpecial
	return t
}

func makeDistEntries() (t [maxDist]uint32) {
	base := uint32(1)
	for i := range 30 {
		extra := uint32(max(0, i/2-1))
		t[i] = base<<16 | extra
		base += 1 << extra
	}
	t[30], t[31] = flagSpecial, flagSpecial
	return t
}

// makePreEntries puts what a repetition begins with into the top byte.
func makePreEntries() (t [numPrecode]uint32) {
	for i := range 16 {
		t[i] = uint32(i) << 16
	}
	t[16] = 3<<24 | 16<<16 | 2
	t[17] = 3<<24 | 17<<16 | 3
	t[18] = 11<<24 | 18<<16 | 7
	return t
}
