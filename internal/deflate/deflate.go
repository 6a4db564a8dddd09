// Package deflate compresses buffers whose whole content is at hand, the grains
// and clusters of disk images, to deflate streams (RFC 1951).
//
// Against a streaming compressor that saves the window and its copying, the table
// of where a string was seen holds places of two bytes and so stays in the nearest
// caches, and the size of a block is known to the bit before it is written, so
// that writing it needs no checks. There is one level, with about the size that
// zlib's default gives.
package deflate

import "sync"

// Append appends the deflate stream of src to dst. The same src gives the same
// bytes. Nothing but dst is allocated, and that grows where its capacity is below
// what the stream takes and a few bytes more. Any number of calls may run at once.
func Append(dst, src []byte) []byte {
	c := compressors.Get().(*compressor)
	defer compressors.Put(c)
	return c.append(dst, src)
}

// MaxLen is the length of the longest stream that n bytes can give: where nothing
// makes them smaller they are stored as they are, with five bytes before each
// 65,535 of them and each end of what is compressed at once.
func MaxLen(n int) int { return n + 10*(n/segmentLen+1) }

var compressors = sync.Pool{New: func() any { return new(compressor) }}

const (
	// chunkLen is how much is searched for matches before it is written, give or
	// take a match, and maxSequences how many they can be.
	chunkLen     = 1 << 16
	maxSequences = (chunkLen+maxMatch)/minMatch + 1
)

// A sequence is some literals and the match that follows them. At the end of a
// chunk the match can be missing; its length is 0 then.
type sequence struct {
	literals     uint32
	length, dist uint16
}

type compressor struct {
	src       []byte
	out       bitWriter
	seen      [1 << seenBits]uint32
	sequences [maxSequences]sequence
	coder     coder
}

func (c *compressor) append(dst, src []byte) []byte {
	c.src = src
	c.out.start(dst)
	c.run()
	c.src = nil
	return c.out.finish()
}

func (c *compressor) run() {
	// What another input left behind would give other matches, if never wrong ones.
	clear(c.seen[:])
	if len(c.src) == 0 {
		c.out.stored(nil, true)
	}
	for from := 0; from < len(c.src); {
		n, to := c.search(from)
		c.chunk(c.src[from:to], c.sequences[:n], to == len(c.src))
		from = to
	}
}
