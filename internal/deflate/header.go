package deflate

// precodeOrder is the order in which the lengths of the precode are written.
var precodeOrder = [numPrecode]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// precodeExtra is how many bits follow a symbol of the precode.
var precodeExtra = [numPrecode]uint8{16: 2, 17: 3, 18: 7}

// A header is what stands before a block with codes of its own (section 3.2.7):
// the lengths of the codes, which are coded in turn, by the precode.
type header struct {
	bits                 int // that write takes
	lits, dists, precode int // how many lengths of each are written

	// items are the symbols of the precode, with what follows them in the high
	// byte, and lens the lengths of its codes.
	items []uint16
	lens  [numPrecode]uint8
}

// make makes the header of codes of these lengths.
func (d *header) make(h *huffman, litLens, distLens []uint8) {
	for d.lits = numLitLen; d.lits > firstLength && litLens[d.lits-1] == 0; d.lits-- {
	}
	for d.dists = numDist; d.dists > 1 && distLens[d.dists-1] == 0; d.dists-- {
	}
	var lens [numLitLen + numDist]uint8
	n := copy(lens[:], litLens[:d.lits])
	n += copy(lens[n:], distLens[:d.dists])

	var freq [numPrecode]uint32
	d.items = d.items[:0]
	add := func(symbol uint8, extra int) {
		freq[symbol]++
		d.items = append(d.items, uint16(symbol)|uint16(extra)<<8)
	}
	for i := 0; i < n; {
		v, run := lens[i], 1
		for i+run < n && lens[i+run] == v {
			run++
		}
		i += run
		if v != 0 {
			add(v, 0)
			run--
		}
		for run >= 3 {
			var most int
			switch {
			case v != 0:
				most = min(run, 6)
				add(16, most-3)
			case run < 11:
				most = run
				add(17, most-3)
			default:
				most = min(run, 138)
				add(18, most-11)
			}
			run -= most
		}
		for range run {
			add(v, 0)
		}
	}
	h.lengths(d.lens[:], freq[:], maxPrecodeBits)
	for d.precode = numPrecode; d.precode > 4 && d.lens[precodeOrder[d.precode-1]] == 0; d.precode-- {
	}
	d.bits = 14 + 3*d.precode
	for symbol, f := range freq {
		d.bits += int(f) * int(d.lens[symbol]+precodeExtra[symbol])
	}
}

// write writes the header, for which w has room.
func (d *header) write(w *bitWriter) {
	w.put(uint64(d.lits-firstLength)|uint64(d.dists-1)<<5|uint64(d.precode-4)<<10, 14)
	w.flush()
	for _, symbol := range precodeOrder[:d.precode] {
		w.put(uint64(d.lens[symbol]), 3)
		w.flush()
	}
	var codes [numPrecode]uint16
	assign(codes[:], d.lens[:])
	for _, item := range d.items {
		symbol := item & 0xff
		w.put(uint64(codes[symbol]), uint(d.lens[symbol]))
		w.put(uint64(item>>8), uint(precodeExtra[symbol]))
		w.flush()
	}
}
