package vhdx

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/disktest"
)

// logID is the log's in the images made here.
var logID = guid{7, 7, 7}

// entryOf makes a log entry of a few updates.
func entryOf(sequence uint64, tail int64, fileSize int, updates ...update) []byte {
	b := make([]byte, (logHeaderSize+len(updates)*descriptorSize+logSector-1)/logSector*logSector)
	copy(b, "loge")
	le.PutUint32(b[12:], uint32(tail))
	le.PutUint64(b[16:], sequence)
	le.PutUint32(b[24:], uint32(len(updates)))
	copy(b[32:], logID[:])
	le.PutUint64(b[48:], uint64(fileSize))
	le.PutUint64(b[56:], uint64(fileSize))
	for i, u := range updates {
		d := b[logHeaderSize+i*descriptorSize:][:descriptorSize]
		le.PutUint64(d[16:], uint64(u.off))
		le.PutUint64(d[24:], sequence)
		if u.data == nil {
			copy(d, "zero")
			le.PutUint64(d[8:], uint64(u.length))
			continue
		}
		copy(d, "desc")
		copy(d[4:8], u.data[logSector-4:])
		copy(d[8:16], u.data[:8])
		s := make([]byte, logSector)
		copy(s, "data")
		le.PutUint32(s[4:], uint32(sequence>>32))
		copy(s[8:], u.data[8:logSector-4])
		le.PutUint32(s[logSector-4:], uint32(sequence))
		b = append(b, s...)
	}
	le.PutUint32(b[8:], uint32(len(b)))
	sign(b)
	return b
}

// unclosed gives an image whose log holds the entries, the first at an offset
// of the log, which is a ring.
func unclosed(b []byte, at int, entries ...[]byte) []byte {
	b = bytes.Clone(b)
	for _, e := range entries {
		for _, c := range e {
			b[logAt+at] = c
			at = (at + 1) % logLength
		}
	}
	for _, h := range []int{header1At, header2At} {
		copy(b[h+48:], logID[:])
		sign(b[h : h+headerSize])
	}
	return b
}

func sectorOf(s string) []byte {
	return []byte(strings.Repeat(s, logSector/len(s)+1)[:logSector])
}

func zeroes(off, length int64) update { return update{off: off, length: length} }
func dataAt(off int64, text string) update {
	return update{off: off, length: logSector, data: sectorOf(text)}
}
func payload(b []byte) (at int64) { return int64(le.Uint64(b[batAt+8:])) >> 20 << 20 }
func table1(b []byte, entry uint64) []byte {
	s := bytes.Clone(b[batAt : batAt+logSector])
	le.PutUint64(s[8:], entry)
	return s
}

func opened(b []byte) (disk.Image, error) {
	return Format{}.Open(context.Background(), disktest.NewMemFile(b), disk.OpenOptions{})
}

// TestReplay has QEMU replay the same logs into the file.
func TestReplay(t *testing.T) {
	b := small(t)
	at, size := payload(b), len(b)
	const end = logLength
	for _, c := range []struct {
		name string
		b    []byte
		want string // of the disk at 1 MiB
		ours bool   // QEMU does something else
	}{
		{"one entry", unclosed(b, 0, entryOf(1, 0, size, dataAt(at, "one"))), "oneone", false},
		{"three in order", unclosed(b, 0,
			entryOf(9, 0, size, dataAt(at, "one")),
			entryOf(10, 0, size, zeroes(at, 8192), dataAt(at+4096, "two")),
			entryOf(11, 0, size, dataAt(at, "three"))), "threethree", false},
		{"zeroes", unclosed(b, 8192, entryOf(3, 8192, size, zeroes(at, 4096))), "\x00\x00", false},
		{"the tail's older entries are written already", unclosed(b, 0,
			entryOf(9, 0, size, dataAt(at, "old")),
			entryOf(10, 8192, size, dataAt(at+4096, "new"))), "data\x00", true}, // QEMU writes them again
		{"round the ring", unclosed(b, end-4096,
			entryOf(5, end-4096, size, dataAt(at, "ring")),
			entryOf(6, end-4096, size, dataAt(at+4096, "more"))), "ringring", true}, // QEMU takes no entry that begins at the end
		{"an older sequence is behind the newest", unclosed(unclosed(b, 65536,
			entryOf(3, 65536, size, dataAt(at, "older"))), 0,
			entryOf(8, 0, size, dataAt(at, "newest"))), "newestnewest", false},
		{"the last entry is torn", unclosed(b, 0,
			entryOf(5, 0, size, dataAt(at, "good")),
			entryOf(6, 0, size, dataAt(at, "torn"))[:4096]), "goodgood", false},
		{"the table", unclosed(b, 0,
			entryOf(5, 0, size, update{off: batAt, length: logSector, data: table1(b, zero)})), "\x00\x00", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := opened(c.b)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 3<<20)
			if _, err := m.ReadAt(got, 0); err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(got[1<<20:], []byte(c.want)) {
				t.Errorf("% q", got[1<<20:1<<20+20])
			}
			if err := disktest.Walk(m, got); err != nil {
				t.Error(err)
			}
			if c.ours {
				return
			}
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "x"), c.b, 0o600); err != nil {
				t.Fatal(err)
			}
			qemuIO(t, dir, "x", "read 0 512")
			disktest.QEMUImg(t, dir, "convert", "-f", "vhdx", "-O", "raw", "x", "raw")
			theirs, err := os.ReadFile(filepath.Join(dir, "raw"))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(theirs, got) {
				t.Errorf("QEMU has % q", theirs[1<<20:1<<20+20])
			}
		})
	}
}

// TestReplayGrows has a log that wrote past the end of the file before the
// file grew.
func TestReplayGrows(t *testing.T) {
	b := small(t)
	end := int64(len(b))
	b = unclosed(b, 0, entryOf(5, 0, len(b),
		update{off: batAt, length: logSector, data: table1(b, uint64(end)|fullyPresent)},
		dataAt(end+4096, "new")))
	le.PutUint64(b[logAt+56:], uint64(end)+1<<20)
	sign(b[logAt : logAt+3*logSector])
	m, err := opened(b)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 3<<20)
	if _, err := m.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 3<<20)
	copy(want[1<<20+4096:], sectorOf("new"))
	if !bytes.Equal(got, want) {
		t.Error("the block that the log added is not the one that it wrote")
	}
	if err := disktest.Walk(m, want); err != nil {
		t.Error(err)
	}
}

func TestLogRefused(t *testing.T) {
	b := small(t)
	at, size := payload(b), len(b)
	good := func() []byte { return entryOf(5, 0, size, dataAt(at, "x")) }
	alter := func(f func([]byte)) []byte {
		e := good()
		f(e)
		sign(e)
		return e
	}
	many := make([]update, 100)
	for i := range many {
		many[i] = zeroes(at, 4096)
	}
	for _, c := range []struct {
		name  string
		entry []byte
		want  error
	}{
		{"another log's", alter(func(e []byte) { e[32]++ }), disk.ErrCorrupt},
		{"a wrong checksum", func() []byte { e := good(); e[5]++; return e }(), disk.ErrCorrupt},
		{"no sequence number", entryOf(0, 0, size, dataAt(at, "x")), disk.ErrCorrupt},
		{"a tail that is not there", entryOf(5, 8192, size, dataAt(at, "x")), disk.ErrCorrupt},
		{"a tail past the log", entryOf(5, logLength, size, dataAt(at, "x")), disk.ErrCorrupt},
		{"a length that is odd", alter(func(e []byte) { e[8] = 1 }), disk.ErrCorrupt},
		{"a length past the log", alter(func(e []byte) { e[11] = 1 }), disk.ErrCorrupt},
		{"more descriptors than there is room", alter(func(e []byte) { e[26] = 1 }), disk.ErrCorrupt},
		{"a descriptor of another kind", alter(func(e []byte) { e[64] = 'x' }), disk.ErrCorrupt},
		{"a descriptor of another entry", alter(func(e []byte) { e[64+24]++ }), disk.ErrCorrupt},
		{"an odd offset", alter(func(e []byte) { e[64+16]++ }), disk.ErrCorrupt},
		{"an offset past everything", alter(func(e []byte) { e[64+23] = 0xff }), disk.ErrCorrupt},
		{"data of another entry", alter(func(e []byte) { e[4096+4]++ }), disk.ErrCorrupt},
		{"no data", alter(func(e []byte) { e[4096]++ }), disk.ErrCorrupt},
		{"a file that is cut off", entryOf(5, 0, size+1<<20, dataAt(at, "x")), disk.ErrCorrupt},
	} {
		if _, err := opened(unclosed(b, 0, c.entry)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	var entries [][]byte
	for i := range maxUpdates/100 + 1 {
		entries = append(entries, entryOf(uint64(i+1), 0, size, many...))
	}
	if _, err := opened(unclosed(b, 0, entries...)); !errors.Is(err, disk.ErrUnsupported) {
		t.Errorf("more updates than are kept: %v", err)
	}
}

// TestNestedEntries has an entry at each sector that reaches to the log's end
// and is whole by itself: to sum up each would take as long as the log's length
// squared.
func TestNestedEntries(t *testing.T) {
	b := small(t)
	log := b[logAt : logAt+logLength]
	for at := logLength - logSector; at >= 0; at -= logSector {
		e := entryOf(uint64(at/logSector+1), int64(logLength-logSector), len(b))
		le.PutUint32(e[8:], uint32(logLength-at))
		copy(log[at:], e)
		sign(log[at:])
	}
	if _, err := opened(unclosed(b, 0)); !errors.Is(err, disk.ErrCorrupt) {
		t.Error(err)
	}
}

// TestUpdates lays random updates over a file.
func TestUpdates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 40 * logSector
		base := make([]byte, size)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)) // #nosec G404
		for i := range base {
			base[i] = byte(r.Uint32())
		}
		model := bytes.Clone(base)
		f := &replayed{File: disktest.NewMemFile(base[:30*logSector]), size: size}
		clear(model[30*logSector:])
		for range rapid.IntRange(0, 30).Draw(t, "updates") {
			off := rapid.Int64Range(0, 39).Draw(t, "off") * logSector
			if rapid.Bool().Draw(t, "zero") {
				n := rapid.Int64Range(0, size/logSector-off/logSector).Draw(t, "n") * logSector
				f.put(zeroes(off, n))
				clear(model[off : off+n])
				continue
			}
			u := dataAt(off, rapid.StringMatching(`[a-z]{3}`).Draw(t, "text"))
			f.put(u)
			copy(model[off:], u.data)
		}
		for range 20 {
			off := rapid.Int64Range(0, size-1).Draw(t, "at")
			got := make([]byte, rapid.Int64Range(0, size-off).Draw(t, "length"))
			if n, err := f.ReadAt(got, off); err != nil || n < len(got) || !bytes.Equal(got, model[off:off+int64(len(got))]) {
				t.Fatalf("at %d, %d bytes: %d, %v", off, len(got), n, err)
			}
		}
	})
}
