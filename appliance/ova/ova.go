// Package ova writes archives (OVA: ustar) in one pass: a file's bytes are
// hashed and written as they are made, and its size and digest, which stand
// before it, are filled in when they are known.
package ova

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"

	"github.com/ovation-project/ovation/disk"
)

const (
	block = 512
	// maxUSTAR is the largest file that a ustar header can tell; beyond it,
	// and for names that are not ASCII, the header is GNU tar's, which the
	// readers of OVA know as well.
	maxUSTAR = 1<<33 - 1
	// chunk is how much is hashed and written at once, chunks how many are
	// on their way.
	chunk  = 1 << 20
	chunks = 3
)

// Writer writes one archive, file after file.
type Writer struct {
	out  disk.OutputFile
	hash crypto.Hash
	when time.Time
	end  int64
	open *File
	gaps int
}

// New begins an archive. hash is what digests are made with, when the time that
// all files get.
func New(out disk.OutputFile, hash crypto.Hash, when time.Time) *Writer {
	return &Writer{out: out, hash: hash, when: when}
}

// Gap is room for a file whose content is known only later.
type Gap struct {
	w      *Writer
	name   string
	at     int64
	size   int64
	filled bool
}

// Reserve leaves room for a file of exactly so many bytes.
func (w *Writer) Reserve(name string, size int64) (*Gap, error) {
	if err := w.next(); err != nil {
		return nil, err
	}
	g := &Gap{w: w, name: name, at: w.end, size: size}
	w.end += block + padded(size)
	w.gaps++
	return g, nil
}

// Fill writes the file.
func (g *Gap) Fill(content []byte) error {
	if int64(len(content)) != g.size || g.filled {
		return fmt.Errorf("ova: %s has %d bytes, and there is room for %d once", g.name, len(content), g.size)
	}
	if err := g.w.header(g.name, g.at, g.size); err != nil {
		return err
	}
	g.filled = true
	g.w.gaps--
	_, err := g.w.out.WriteAt(content, g.at+block)
	return err
}

func padded(n int64) int64 { return (n + block - 1) &^ (block - 1) }

func (w *Writer) next() error {
	if w.open != nil {
		return fmt.Errorf("ova: %s is still being written", w.open.name)
	}
	return nil
}

func (w *Writer) header(name string, at, size int64) error {
	b, err := header(name, size, w.when)
	if err != nil {
		return err
	}
	_, err = w.out.WriteAt(b, at)
	return err
}

func header(name string, size int64, when time.Time) ([]byte, error) {
	h := &tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: when.Truncate(time.Second), Format: tar.FormatUSTAR,
	}
	if size > maxUSTAR || strings.ContainsFunc(name, func(r rune) bool { return r >= 0x80 }) {
		h.Format = tar.FormatGNU
	}
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(h); err != nil {
		return nil, fmt.Errorf("ova: %s: %w", name, err)
	}
	if b.Len() != block {
		return nil, fmt.Errorf("ova: the name %q is too long for the archive", name)
	}
	return b.Bytes(), nil
}

// File is the file that is being written. It is an io.Writer.
type File struct {
	w      *Writer
	name   string
	at     int64 // of its header
	size   int64
	buf    []byte
	free   chan []byte
	todo   chan []byte
	done   chan struct{}
	digest hash.Hash
	err    error
}

// Create begins a file. No other can be begun before it is closed.
func (w *Writer) Create(name string) (*File, error) {
	if err := w.next(); err != nil {
		return nil, err
	}
	f := &File{
		w: w, name: name, at: w.end, digest: w.hash.New(),
		free: make(chan []byte, chunks), todo: make(chan []byte, chunks), done: make(chan struct{}),
	}
	for range chunks {
		f.free <- nil // made when they are needed
	}
	go func() {
		defer close(f.done)
		for b := range f.todo {
			f.digest.Write(b)
			f.free <- b
		}
	}()
	w.open = f
	return f, nil
}

// Write adds to the file.
func (f *File) Write(p []byte) (n int, err error) {
	if f.err != nil {
		return 0, f.err
	}
	for n < len(p) {
		if f.buf == nil {
			if f.buf = <-f.free; f.buf == nil {
				f.buf = make([]byte, 0, chunk)
			}
			f.buf = f.buf[:0]
		}
		m := copy(f.buf[len(f.buf):cap(f.buf)], p[n:])
		f.buf = f.buf[:len(f.buf)+m]
		n += m
		if len(f.buf) == cap(f.buf) {
			if f.err = f.flush(); f.err != nil {
				return n, f.err
			}
		}
	}
	return n, nil
}

// flush writes what has gathered, and has it hashed meanwhile.
func (f *File) flush() error {
	b := f.buf
	if len(b) == 0 {
		return nil
	}
	f.buf = nil
	at := f.at + block + f.size
	f.size += int64(len(b))
	f.todo <- b
	_, err := f.w.out.WriteAt(b, at)
	return err
}

// Close ends the file and gives its size and digest.
func (f *File) Close() (size int64, digest []byte, err error) {
	if f.w.open != f {
		return 0, nil, errors.New("ova: the file is closed")
	}
	err = f.err
	if err == nil {
		err = f.flush()
	}
	close(f.todo)
	<-f.done
	f.w.open = nil
	if err == nil {
		err = f.w.header(f.name, f.at, f.size)
	}
	f.w.end = f.at + block + padded(f.size)
	return f.size, f.digest.Sum(nil), err
}

// Finish ends the archive: two empty blocks, and as many as fill up a record of
// 20.
func (w *Writer) Finish(ctx context.Context) error {
	if err := w.next(); err != nil {
		return err
	}
	if w.gaps > 0 {
		return fmt.Errorf("ova: %d files were not filled in", w.gaps)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return w.out.Truncate(whole(w.end))
}

// whole is how long an archive is whose files end at a place.
func whole(end int64) int64 {
	const record = 20 * block
	return (end + 2*block + record - 1) / record * record
}

var _ io.Writer = (*File)(nil)
