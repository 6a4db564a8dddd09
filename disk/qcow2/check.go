package qcow2

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/ovation-project/ovation/disk"
)

// Check compares the reference counts with what the tables refer to, and finds
// clusters that are used twice or lie outside of the file.
func (m *Image) Check(ctx context.Context, report func(disk.Fault)) error {
	clusters := (m.f.Size() + m.cluster - 1) >> m.h.clusterBits
	if clusters*4 > 4*disk.DefaultMaxTableBytes {
		return unsupported("a file of %d clusters is too large to check", clusters)
	}
	c := &checker{m: m, refs: make([]uint32, clusters), report: report}
	if err := c.count(ctx); err != nil {
		return err
	}
	if m.h.snapshots > 0 || m.h.autoclear&1 != 0 {
		return nil // snapshots and bitmaps hold references that are not read
	}
	return c.compare(ctx)
}

type checker struct {
	m      *Image
	refs   []uint32
	report func(disk.Fault)
}

// refer counts a reference to a range of the file, and says whether it lies in
// it.
func (c *checker) refer(offset, n int64) bool {
	if offset < 0 || n <= 0 || offset>>c.m.h.clusterBits >= int64(len(c.refs)) {
		return n == 0
	}
	last := (offset + n - 1) >> c.m.h.clusterBits
	for i := offset >> c.m.h.clusterBits; i <= min(last, int64(len(c.refs))-1); i++ {
		c.refs[i]++
	}
	return last < int64(len(c.refs))
}

func (c *checker) count(ctx context.Context) error {
	m := c.m
	c.refer(0, m.cluster)
	c.refer(m.h.l1Offset, m.h.l1Size*8)
	c.refer(m.h.refcountOffset, m.h.refcountClusters<<m.h.clusterBits)
	for l1 := range m.l1 {
		if err := ctx.Err(); err != nil {
			return err
		}
		offset := int64(m.l1[l1] & offsetMask)
		if offset == 0 {
			continue
		}
		c.refer(offset, m.cluster)
		span := m.perL2 << m.h.clusterBits
		t, err := m.table(int64(l1))
		if err != nil {
			c.report(disk.Fault{Offset: int64(l1) * span, Length: min(span, m.h.size-int64(l1)*span), FileOffset: offset, Text: err.Error()})
			continue
		}
		for slot := int64(0); slot < m.perL2; slot++ {
			c.cluster(t[slot*m.entry:], int64(l1)*span+slot<<m.h.clusterBits)
		}
	}
	return nil
}

func (c *checker) cluster(raw []byte, at int64) {
	m := c.m
	e := be.Uint64(raw)
	if e == 0 {
		return
	}
	fault := disk.Fault{Offset: min(at, m.h.size), Length: max(0, min(m.cluster, m.h.size-at))}
	if e&flagCompressed != 0 {
		offset, n := splitCompressed(m.h.clusterBits, e)
		if fault.FileOffset = offset; offset >= m.f.Size() {
			fault.Text = "the compressed cluster lies past the end of the file"
			c.report(fault)
			return
		}
		c.refer(offset, min(n, m.f.Size()-offset))
		return
	}
	host := int64(e & offsetMask)
	if host == 0 || m.data != m.f {
		return
	}
	fault.FileOffset = host
	switch {
	case host%m.cluster != 0:
		fault.Text = "the cluster does not begin where a cluster of the file does"
	case host >= m.f.Size():
		fault.Text = "the cluster lies past the end of the file"
	default:
		c.refer(host, 1)
		return
	}
	c.report(fault)
}

// compare reads the reference counts block by block.
func (c *checker) compare(ctx context.Context) error {
	m := c.m
	bits := uint(1) << m.h.refcountOrder
	perBlock := m.cluster * 8 / int64(bits)
	need := (int64(len(c.refs)) + perBlock - 1) / perBlock
	if m.h.refcountOffset%m.cluster != 0 || m.h.refcountOffset < 0 {
		return corrupt("the reference count table is at %d", uint64(m.h.refcountOffset))
	}
	entries := m.h.refcountClusters << m.h.clusterBits / 8
	if entries < need {
		need = entries
	}
	blocks := make([]int64, need)
	var b [8]byte
	for i := range blocks {
		if _, err := m.f.ReadAt(b[:], m.h.refcountOffset+int64(i)*8); err != nil {
			return corrupt("the reference count table cannot be read: %v", err)
		}
		blocks[i] = int64(be.Uint64(b[:]) &^ (disk.SectorSize - 1))
		if blocks[i] != 0 && !c.refer(blocks[i], m.cluster) {
			c.report(disk.Fault{FileOffset: blocks[i], Text: "a block of reference counts lies past the end of the file"})
			blocks[i] = 0
		}
	}
	block := make([]byte, m.cluster)
	n := int64(0)
	for part := range slices.Chunk(c.refs, int(perBlock)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		clear(block)
		if n < int64(len(blocks)) && blocks[n] != 0 {
			if _, err := m.f.ReadAt(block, blocks[n]); err != nil && err != io.EOF {
				return err
			}
		}
		for j, want := range part {
			c.judge((n*perBlock+int64(j))<<m.h.clusterBits, uint64(want), refcount(block, j, bits))
		}
		n++
	}
	return nil
}

// judge compares the references that were found to a cluster of the file with
// the count that is written. Too low a count costs data as soon as something
// writes; too high a one only space.
func (c *checker) judge(at int64, found, written uint64) {
	switch {
	case found == written:
	case found > written:
		c.report(disk.Fault{FileOffset: at, Text: fmt.Sprintf("%d references to the cluster, %d are counted", found, written)})
	default:
		c.report(disk.Fault{FileOffset: at, Text: fmt.Sprintf("a leak: %d references to the cluster, %d are counted", found, written)})
	}
}

// refcount takes the i-th count out of a block.
func refcount(block []byte, i int, bits uint) uint64 {
	switch bits {
	case 8:
		return uint64(block[i])
	case 16:
		return uint64(be.Uint16(block[i*2:]))
	case 32:
		return uint64(be.Uint32(block[i*4:]))
	case 64:
		return be.Uint64(block[i*8:])
	}
	per := 8 / bits
	return uint64(block[uint(i)/per]>>(uint(i)%per*bits)) & (1<<bits - 1)
}
