package inflate

import (
	"encoding/binary"
	"io"
)

// What the fast loop may touch in one round beyond where it is: literals and
// a match that is written in strides of up to 16 bytes; and input that is
// taken in eight bytes at a time, three times.
const (
	outMargin = maxMatch + 3 + 32
	inMargin  = 24
)

// block decompresses up to the end of the block.
func (d *decoder) block() error {
	if done, err := d.fast(); done || err != nil {
		return err
	}
	return d.slow()
}

// fast decompresses while both ends are far. It says whether the block has
// ended.
func (d *decoder) fast() (bool, error) {
	src, dst := d.src, d.dst
	pos, out := d.pos, d.out
	buf, cnt := d.buf, uint64(d.cnt)
	lit, dist := &d.litLen, &d.dist
	lastIn, lastOut := len(src)-inMargin, len(dst)-outMargin

	done := false
	var err error
	if pos > lastIn || out > lastOut {
		return false, nil
	}
	buf |= binary.LittleEndian.Uint64(src[pos:]) << (cnt & 63)
	pos += int(63-cnt) >> 3
	cnt |= 56
	e := lit[buf&(1<<litLenBits-1)]
	for {
		if int32(e) < 0 {
			buf >>= e & 63
			cnt -= uint64(e & 63)
			dst[out] = byte(e >> 16)
			out++
			e = lit[buf&(1<<litLenBits-1)]
			if int32(e) < 0 {
				buf >>= e & 63
				cnt -= uint64(e & 63)
				dst[out] = byte(e >> 16)
				out++
				e = lit[buf&(1<<litLenBits-1)]
				if int32(e) < 0 {
					buf >>= e & 63
					cnt -= uint64(e & 63)
					dst[out] = byte(e >> 16)
					out++
					if pos > lastIn || out > lastOut {
						break
					}
					e = lit[buf&(1<<litLenBits-1)]
					buf |= binary.LittleEndian.Uint64(src[pos:]) << (cnt & 63)
					pos += int(63-cnt) >> 3
					cnt |= 56
					continue
				}
			}
		}
		if e&flagSpecial != 0 {
			if e&flagSubtable == 0 {
				done = e&flagEnd != 0
				if !done {
					err = ErrCorrupt
				}
				buf >>= e & 63
				cnt -= uint64(e & 63)
				break
			}
			buf >>= litLenBits
			cnt -= litLenBits
			e = lit[(uint64(e>>16)+buf&(1<<(e>>8&15)-1))&4095]
			if int32(e) < 0 {
				buf >>= e & 63
				cnt -= uint64(e & 63)
				dst[out] = byte(e >> 16)
				out++
				if pos > lastIn || out > lastOut {
					break
				}
				buf |= binary.LittleEndian.Uint64(src[pos:]) << (cnt & 63)
				pos += int(63-cnt) >> 3
				cnt |= 56
				e = lit[buf&(1<<litLenBits-1)]
				continue
			}
			if e&flagSpecial != 0 {
				done = e&flagEnd != 0
				if !done {
					err = ErrCorrupt
				}
				buf >>= e & 63
				cnt -= uint64(e & 63)
				break
			}
		}
		// Two literals of the first table and a length take 22+20 bits.
		length := int(e>>16) + int(buf&(1<<(e&63)-1)>>(e>>8&15))
		buf >>= e & 63
		cnt -= uint64(e & 63)

		if cnt < 28 {
			buf |= binary.LittleEndian.Uint64(src[pos:]) << (cnt & 63)
			pos += int(63-cnt) >> 3
			cnt |= 56
		}
		e = dist[buf&(1<<distBits-1)]
		if e&flagSpecial != 0 {
			if e&flagSubtable == 0 {
				err = ErrCorrupt
				break
			}
			buf >>= distBits
			cnt -= distBits
			e = dist[(uint64(e>>16)+buf&(1<<(e>>8&15)-1))&511]
			if e&flagSpecial != 0 {
				err = ErrCorrupt
				break
			}
		}
		distance := int(e>>16) + int(buf&(1<<(e&63)-1)>>(e>>8&15))
		buf >>= e & 63
		cnt -= uint64(e & 63)

		from := out - distance
		if from < 0 {
			err = ErrCorrupt
			break
		}
		end := out + length
		more := pos <= lastIn && end <= lastOut
		if more {
			buf |= binary.LittleEndian.Uint64(src[pos:]) << (cnt & 63)
			pos += int(63-cnt) >> 3
			cnt |= 56
			e = lit[buf&(1<<litLenBits-1)]
		}
		switch {
		case distance >= 16:
			for {
				*(*[16]byte)(dst[out:]) = *(*[16]byte)(dst[from:])
				out += 16
				from += 16
				if out >= end {
					break
				}
			}
		case distance >= 8:
			for {
				binary.LittleEndian.PutUint64(dst[out:], binary.LittleEndian.Uint64(dst[from:]))
				out += 8
				from += 8
				if out >= end {
					break
				}
			}
		default:
			// What repeats, repeated to eight bytes, of which as many are
			// written at a time as make whole repetitions.
			v := binary.LittleEndian.Uint64(dst[from:]) & (1<<(8*distance&63) - 1)
			for n := 8 * distance; n < 64; n *= 2 {
				v |= v << (n & 63)
			}
			stride := 8 - 8%distance
			for ; out < end; out += stride {
				binary.LittleEndian.PutUint64(dst[out:], v)
			}
		}
		out = end
		if !more {
			break
		}
	}
	d.pos, d.out, d.buf, d.cnt = pos, out, buf, uint(cnt)
	return done, err
}

// slow decompresses symbol by symbol and looks at both ends each time.
func (d *decoder) slow() error {
	for {
		e, err := d.symbol(d.litLen[:], litLenBits)
		if err != nil {
			return err
		}
		if int32(e) < 0 {
			if d.out >= len(d.dst) {
				return ErrShortBuffer
			}
			d.dst[d.out] = byte(e >> 16)
			d.out++
			continue
		}
		if e&flagEnd != 0 {
			return nil
		}
		length := int(e >> 16)
		if e, err = d.symbol(d.dist[:], distBits); err != nil {
			return err
		}
		distance := int(e >> 16)
		if distance > d.out {
			return ErrCorrupt
		}
		to := d.dst[d.out:min(d.out+length, len(d.dst))]
		if distance >= len(to) {
			copy(to, d.dst[d.out-distance:])
		} else {
			from := d.dst[d.out-distance : d.out-distance+len(to)]
			for i := range to {
				to[i] = from[i]
			}
		}
		d.out += len(to)
		if len(to) < length {
			return ErrShortBuffer
		}
	}
}

// symbol takes the next symbol with its extra bits; the top half of what it
// gives is the value.
func (d *decoder) symbol(table []uint32, width uint) (uint32, error) {
	if d.cnt < 28 {
		d.fill()
	}
	e := table[d.buf&(1<<width-1)]
	if e&(flagLiteral|flagSubtable) == flagSubtable {
		if d.cnt < width {
			return 0, io.ErrUnexpectedEOF
		}
		d.buf >>= width
		d.cnt -= width
		e = table[uint64(e>>16)+d.buf&(1<<(e>>8&15)-1)]
	}
	used := uint(e & 0xff)
	if used > d.cnt {
		return 0, io.ErrUnexpectedEOF
	}
	value := uint32(d.buf & (1<<used - 1) >> (e >> 8 & 15))
	d.buf >>= used
	d.cnt -= used
	switch {
	case int32(e) < 0:
		return e, nil
	case e&flagSpecial == 0:
		return e + value<<16, nil
	case e&flagEnd != 0:
		return e, nil
	}
	return 0, ErrCorrupt
}
