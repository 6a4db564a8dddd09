package vhdx

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/ovation-project/ovation/disk"
)

// Sizes of the log, 2.3.1. A log is read into memory whole.
const (
	logSector       = 4 * kib
	logHeaderSize   = 64
	descriptorSize  = 32
	maxLog          = 64 * mib
	maxUpdates      = 16 << 10
	checksumsBudget = 32 // times the log's length
	maxOffset       = math.MaxInt64 / 4
)

// update is a part of the file that the log holds another content of.
type update struct {
	off, length int64
	data        []byte // nil for zeroes
}

func (u update) end() int64 { return u.off + u.length }

// logEntry is one entry of the log that is whole.
type logEntry struct {
	at, length       int64
	tail             int64
	sequence         uint64
	descriptors      int64 // their number
	data             int64 // where in the entry the first data sector lies
	flushed, lastEnd int64
}

// logReader finds the log's active sequence (2.3.3).
type logReader struct {
	b    []byte // the log
	id   guid
	sum  int64 // bytes that may still be summed up
	seen map[int64]*logEntry
}

// wrapped gives n bytes from off on; the log is a ring.
func (l *logReader) wrapped(off, n int64) []byte {
	if off+n <= int64(len(l.b)) {
		return l.b[off : off+n]
	}
	b := make([]byte, n)
	copy(b[copy(b, l.b[off:]):], l.b)
	return b
}

// entry gives the entry at an offset, nil where there is none that is whole.
func (l *logReader) entry(at int64) (*logEntry, error) {
	if e, ok := l.seen[at]; ok {
		return e, nil
	}
	e, err := l.parse(at)
	l.seen[at] = e
	return e, err
}

func (l *logReader) parse(at int64) (*logEntry, error) {
	h := l.wrapped(at, logSector)
	e := &logEntry{
		at: at, length: int64(le.Uint32(h[8:])), tail: int64(le.Uint32(h[12:])),
		sequence: le.Uint64(h[16:]), descriptors: int64(le.Uint32(h[24:])),
	}
	flushed, lastEnd := le.Uint64(h[48:]), le.Uint64(h[56:])
	e.data = (logHeaderSize + e.descriptors*descriptorSize + logSector - 1) / logSector * logSector
	switch {
	case string(h[:4]) != "loge" || guid(h[32:48]) != l.id || e.sequence == 0,
		e.length < logSector || e.length%logSector != 0 || e.length > int64(len(l.b)) || e.data > e.length,
		e.tail%logSector != 0 || e.tail >= int64(len(l.b)),
		flushed > maxOffset || lastEnd > maxOffset:
		return nil, nil
	}
	e.flushed, e.lastEnd = int64(flushed), int64(lastEnd)
	// Entries may lie in each other in a log that somebody made for that.
	if l.sum -= e.length; l.sum < 0 {
		return nil, corrupt("the log has more entries than it has room for")
	}
	if !sums(l.wrapped(at, e.length)) {
		return nil, nil
	}
	if err := l.updates(e, func(update) error { return nil }); err != nil {
		return nil, nil //nolint:nilerr // it is not whole
	}
	return e, nil
}

var errEntry = errors.New("the entry is not whole")

// updates gives what an entry changes. Data is good until the next one.
func (l *logReader) updates(e *logEntry, each func(update) error) error {
	b := l.wrapped(e.at, e.length)
	rest := b[e.data:]
	data := make([]byte, logSector)
	for i := range e.descriptors {
		d := b[logHeaderSize+i*descriptorSize:][:descriptorSize]
		off, u := le.Uint64(d[16:]), update{length: logSector}
		if off%logSector != 0 || off > maxOffset || le.Uint64(d[24:]) != e.sequence {
			return errEntry
		}
		u.off = int64(off)
		switch string(d[:4]) {
		case "zero":
			n := le.Uint64(d[8:])
			if n%logSector != 0 || n > maxOffset {
				return errEntry
			}
			u.length = int64(n)
		case "desc":
			if len(rest) < logSector {
				return errEntry
			}
			s := rest[:logSector]
			rest = rest[logSector:]
			if string(s[:4]) != "data" || uint64(le.Uint32(s[4:]))<<32|uint64(le.Uint32(s[logSector-4:])) != e.sequence {
				return errEntry
			}
			copy(data, d[8:16])
			copy(data[8:], s[8:logSector-4])
			copy(data[logSector-4:], d[4:8])
			u.data = data
		default:
			return errEntry
		}
		if err := each(u); err != nil {
			return err
		}
	}
	return nil
}

// sequence gives the entries from tail on that were written one after another.
func (l *logReader) sequence(tail int64) ([]*logEntry, error) {
	var entries []*logEntry
	at, used := tail, int64(0)
	for {
		e, err := l.entry(at)
		if err != nil {
			return nil, err
		}
		if e == nil || used+e.length > int64(len(l.b)) || len(entries) > 0 && e.sequence != entries[len(entries)-1].sequence+1 {
			return entries, nil
		}
		entries = append(entries, e)
		used += e.length
		at = (at + e.length) % int64(len(l.b))
		if used == int64(len(l.b)) {
			return entries, nil
		}
	}
}

// active gives the entries to replay, the oldest first.
func (l *logReader) active() ([]*logEntry, error) {
	var best []*logEntry
	for at := int64(0); at < int64(len(l.b)); {
		entries, err := l.sequence(at)
		if err != nil {
			return nil, err
		}
		step := int64(logSector)
		if n := len(entries); n > 0 {
			head := entries[n-1]
			from := slices.IndexFunc(entries, func(e *logEntry) bool { return e.at == head.tail })
			if from >= 0 {
				if len(best) == 0 || head.sequence > best[len(best)-1].sequence {
					best = entries[from:]
				}
				step = 0
				for _, e := range entries {
					step += e.length
				}
			}
		}
		at += step
	}
	if len(best) == 0 {
		return nil, corrupt("the file was not closed, and its log is not whole")
	}
	return best, nil
}

// replayed is a file as it would be were its log written back.
type replayed struct {
	disk.File
	size    int64
	updates []update // by offset, none over another
}

// replay reads the log at an offset and gives the file with its updates.
func replay(f disk.File, at, length int64, id guid) (*replayed, error) {
	switch {
	case length > maxLog:
		return nil, unsupported("a log of %d bytes to replay; the most is %d", length, maxLog)
	case length < mib || length%mib != 0 || at < mib || at%mib != 0 || at > f.Size()-length:
		return nil, corrupt("the log of %d bytes at %d", length, at)
	}
	l := &logReader{b: make([]byte, length), id: id, sum: checksumsBudget * length, seen: map[int64]*logEntry{}}
	if n, err := f.ReadAt(l.b, at); n < len(l.b) {
		return nil, fmt.Errorf("vhdx: read the log: %w", err)
	}
	entries, err := l.active()
	if err != nil {
		return nil, err
	}
	head := entries[len(entries)-1]
	if f.Size() < head.flushed {
		return nil, corrupt("the file of %d bytes is cut off: its log knew it with %d", f.Size(), head.flushed)
	}
	r := &replayed{File: f, size: max(f.Size(), head.lastEnd)}
	total := 0
	for _, e := range entries {
		err := l.updates(e, func(u update) error {
			if total++; total > maxUpdates {
				return unsupported("a log of more than %d updates", maxUpdates)
			}
			u.data = bytes.Clone(u.data)
			r.put(u)
			r.size = max(r.size, u.end())
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return r, nil
}

// put lays an update over those that are there.
func (r *replayed) put(u update) {
	if u.length == 0 {
		return
	}
	first, _ := slices.BinarySearchFunc(r.updates, u.off, func(v update, off int64) int { return cmp.Compare(v.end(), off+1) })
	last := first
	var rest []update
	for ; last < len(r.updates) && r.updates[last].off < u.end(); last++ {
		if v := r.updates[last]; v.off < u.off {
			rest = append(rest, v.part(v.off, u.off))
		}
		if v := r.updates[last]; v.end() > u.end() {
			rest = append(rest, v.part(u.end(), v.end()))
		}
	}
	rest = append(rest, u)
	slices.SortFunc(rest, func(a, b update) int { return cmp.Compare(a.off, b.off) })
	r.updates = slices.Replace(r.updates, first, last, rest...)
}

func (u update) part(from, to int64) update {
	p := update{off: from, length: to - from}
	if u.data != nil {
		p.data = u.data[from-u.off : to-u.off]
	}
	return p
}

// Size is what the file has grown to.
func (r *replayed) Size() int64 { return r.size }

// ReadAt reads the file below, zeroes behind its end, and the updates over it.
func (r *replayed) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off >= r.size {
		return 0, io.EOF
	}
	whole := b
	b = b[:min(int64(len(b)), r.size-off)]
	n := 0
	if have := r.File.Size() - off; have > 0 {
		var err error
		if n, err = r.File.ReadAt(b[:min(int64(len(b)), have)], off); err != nil && err != io.EOF {
			return n, err
		}
	}
	clear(b[n:])
	end := off + int64(len(b))
	i, _ := slices.BinarySearchFunc(r.updates, off, func(v update, off int64) int { return cmp.Compare(v.end(), off+1) })
	for ; i < len(r.updates) && r.updates[i].off < end; i++ {
		u := r.updates[i].part(max(off, r.updates[i].off), min(end, r.updates[i].end()))
		if dst := b[u.off-off:][:u.length]; u.data == nil {
			clear(dst)
		} else {
			copy(dst, u.data)
		}
	}
	if len(b) < len(whole) {
		return len(b), io.EOF
	}
	return len(b), nil
}
