package cache

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Entry is the local copy of one file. Its methods are safe for concurrent use.
type Entry struct {
	dir  string // "" for one that has no name
	file File
	data *os.File
	list *os.File // nil where nothing is kept
	lock *os.File

	flushing sync.Mutex // one at a time
	mu       sync.Mutex
	l        *list
	dirty    map[int64]bool // words of the list that are not stored
	flushed  time.Time
}

// flushEvery is how often the list is brought up to date: what is lost when the
// machine stops has to be fetched again.
const flushEvery = 5 * time.Second

// Temporary makes an entry of no cache: it is gone when it is closed. dir is
// the folder for its bytes.
func Temporary(dir string, f File) (*Entry, error) {
	data, err := os.CreateTemp(dir, "fetched-")
	if err != nil {
		return nil, err
	}
	// It needs no name; where a system wants one, Close removes it.
	_ = os.Remove(data.Name())
	l, err := newList(f)
	if err == nil {
		err = data.Truncate(f.Size)
	}
	if err != nil {
		return nil, errors.Join(err, data.Close())
	}
	return &Entry{file: f, data: data, l: l}, nil
}

// openEntry opens what is in a folder. What does not fit the file is thrown
// away, which write allows.
func openEntry(dir string, f File, write bool) (*Entry, error) {
	e := &Entry{dir: dir, file: f, dirty: map[int64]bool{}, flushed: time.Now()}
	var err error
	flags := os.O_RDONLY
	if write {
		flags = os.O_RDWR | os.O_CREATE
	}
	if e.data, err = os.OpenFile(filepath.Join(dir, dataName), flags, 0o600); err != nil {
		if !write {
			err = errors.Join(ErrBusy, err)
		}
		return nil, err
	}
	if e.list, err = os.OpenFile(filepath.Join(dir, blocksName), flags, 0o600); err != nil {
		return nil, errors.Join(err, e.data.Close())
	}
	if err := e.load(write); err != nil {
		return nil, errors.Join(err, e.data.Close(), e.list.Close())
	}
	return e, nil
}

// load reads the list, or begins a new one.
func (e *Entry) load(write bool) error {
	l, err := readList(e.list.Name())
	st, statErr := e.data.Stat()
	if statErr != nil {
		return statErr
	}
	source := sum(e.file.Source)
	if err == nil && st.Size() == e.file.Size && l.size == e.file.Size && l.block == e.file.Block && (l.verified || l.source == source) {
		e.l = l
		return nil
	}
	if !write {
		return ErrBusy
	}
	// The list goes before the bytes do.
	if e.l, err = newList(e.file); err != nil {
		return err
	}
	e.l.source = source
	for _, step := range []func() error{
		func() error { return e.list.Truncate(0) },
		e.list.Sync,
		func() error { return e.data.Truncate(0) },
		func() error { return e.data.Truncate(e.file.Size) },
		func() error { return e.list.Truncate(listHead + int64(len(e.l.words))*8) },
		func() error { return e.writeHead() },
		e.about,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (e *Entry) about() error {
	b, err := json.Marshal(e.file)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(e.dir, aboutName), append(b, '\n'), 0o600)
}

// Size is the file's.
func (e *Entry) Size() int64 { return e.file.Size }

// Block is the size of the blocks, in bytes; the last may be shorter.
func (e *Entry) Block() int64 { return e.file.Block }

// Dir is the folder that the bytes are in, "" for a temporary entry.
func (e *Entry) Dir() string { return e.dir }

// Kept says whether the entry outlives its being closed.
func (e *Entry) Kept() bool { return e.dir != "" }

// ReadAt reads bytes that are here.
func (e *Entry) ReadAt(b []byte, off int64) (int, error) { return e.data.ReadAt(b, off) }

// WriteAt stores bytes. They count when Add is told.
func (e *Entry) WriteAt(b []byte, off int64) (int, error) {
	if off < 0 || off > e.file.Size-int64(len(b)) {
		return 0, io.ErrShortWrite
	}
	return e.data.WriteAt(b, off)
}

// Has says whether a block is here.
func (e *Entry) Has(n int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.l.has(n)
}

// Add says that a block was stored.
func (e *Entry) Add(n int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.l.words[n/64] |= 1 << (n % 64)
	if e.list != nil {
		e.dirty[n/64] = true
	}
}

// Present is how many bytes are here.
func (e *Entry) Present() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.l.present()
}

// Verified says that the whole was compared with its digest.
func (e *Entry) Verified() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.l.verified
}

// SetVerified says that the whole, which is here, was compared with its
// digest: it is taken from any source from now on.
func (e *Entry) SetVerified() error {
	if err := e.Flush(); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.l.present() != e.file.Size {
		return fmt.Errorf("%d of %d bytes are here", e.l.present(), e.file.Size)
	}
	if e.l.verified || e.list == nil {
		e.l.verified = true
		return nil
	}
	e.l.verified = true
	return errors.Join(e.writeHead(), e.list.Sync())
}

// FlushSometimes is Flush where the last was a while ago.
func (e *Entry) FlushSometimes() error {
	e.mu.Lock()
	due := e.list != nil && time.Since(e.flushed) > flushEvery
	e.mu.Unlock()
	if !due {
		return nil
	}
	return e.Flush()
}

// Flush stores the bytes safely, and then lists them.
func (e *Entry) Flush() error {
	if e.list == nil {
		return nil
	}
	e.flushing.Lock()
	defer e.flushing.Unlock()
	e.mu.Lock()
	e.flushed = time.Now()
	words := map[int64]uint64{}
	for w := range e.dirty {
		words[w] = e.l.words[w]
	}
	clear(e.dirty)
	e.mu.Unlock()
	if len(words) == 0 {
		return nil
	}
	err := e.data.Sync()
	for w, bits := range words {
		if err == nil {
			_, err = e.list.WriteAt(binary.LittleEndian.AppendUint64(nil, bits), listHead+w*8)
		}
	}
	if err != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		for w := range words {
			e.dirty[w] = true
		}
	}
	return err
}

// Close stores what is to be stored.
func (e *Entry) Close() error {
	err := errors.Join(e.Flush(), e.data.Close())
	if e.list != nil {
		err = errors.Join(err, e.list.Close())
	}
	if e.lock != nil {
		err = errors.Join(err, e.lock.Close())
	}
	return err
}

// Drop closes the entry and removes it: it holds what it should not.
func (e *Entry) Drop() error {
	if e.dir == "" {
		return e.Close()
	}
	e.mu.Lock()
	clear(e.dirty)
	e.mu.Unlock()
	return errors.Join(removeEntry(e.dir), e.Close())
}

// list is which blocks are here.
type list struct {
	size, block int64
	source      [32]byte
	verified    bool
	words       []uint64
}

const (
	listMagic = "OVABLKS1"
	// listHead is where the bits begin, in 64-bit little-endian words.
	listHead = 128
	headUsed = 8 + 8 + 8 + 32 + 1
	// maxBlocks bounds the list: 16 TiB in blocks of 64 KiB.
	maxBlocks = 1 << 28
)

func newList(f File) (*list, error) {
	if f.Size < 0 || f.Block < 512 || f.Block&(f.Block-1) != 0 || f.Size/f.Block >= maxBlocks {
		return nil, fmt.Errorf("%d bytes in blocks of %d: %w", f.Size, f.Block, errors.ErrUnsupported)
	}
	n := (f.Size + f.Block - 1) / f.Block
	return &list{size: f.Size, block: f.Block, words: make([]uint64, (n+63)/64)}, nil
}

func (l *list) has(n int64) bool { return l.words[n/64]>>(n%64)&1 == 1 }

func (l *list) present() int64 {
	var n int64
	for _, w := range l.words {
		n += int64(bits.OnesCount64(w))
	}
	n *= l.block
	if l.size > 0 && l.has((l.size-1)/l.block) {
		n -= (l.block - l.size%l.block) % l.block
	}
	return n
}

func (e *Entry) writeHead() error {
	b := make([]byte, listHead)
	copy(b, listMagic)
	binary.LittleEndian.PutUint64(b[8:], uint64(e.l.size))
	binary.LittleEndian.PutUint64(b[16:], uint64(e.l.block))
	copy(b[24:], e.l.source[:])
	if e.l.verified {
		b[56] = 1
	}
	binary.LittleEndian.PutUint32(b[headUsed:], crc32.ChecksumIEEE(b[:headUsed]))
	_, err := e.list.WriteAt(b, 0)
	return err
}

var errList = errors.New("the list of blocks is damaged")

// readList reads a list of blocks.
func readList(path string) (*list, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	head := make([]byte, listHead)
	if _, err := io.ReadFull(f, head); err != nil {
		return nil, errList
	}
	l, err := parseHead(head, st.Size())
	if err != nil {
		return nil, err
	}
	if err := binary.Read(f, binary.LittleEndian, l.words); err != nil {
		return nil, errList
	}
	if n := (l.size + l.block - 1) / l.block; n%64 != 0 && l.words[len(l.words)-1]>>(n%64) != 0 {
		return nil, errList // blocks past the end
	}
	if l.verified && l.present() != l.size {
		return nil, errList
	}
	return l, nil
}

// parseHead reads the head of a list that has so many bytes.
func parseHead(b []byte, stored int64) (*list, error) {
	if string(b[:8]) != listMagic || binary.LittleEndian.Uint32(b[headUsed:]) != crc32.ChecksumIEEE(b[:headUsed]) {
		return nil, errList
	}
	f := File{Size: int64(binary.LittleEndian.Uint64(b[8:])), Block: int64(binary.LittleEndian.Uint64(b[16:]))}
	if f.Size < 0 || f.Block <= 0 || (stored-listHead)*8 < f.Size/f.Block {
		return nil, errList
	}
	l, err := newList(f)
	if err != nil || stored != listHead+int64(len(l.words))*8 {
		return nil, errList
	}
	l.source = [32]byte(b[24:56])
	l.verified = b[56] == 1
	return l, nil
}
