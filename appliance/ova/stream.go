package ova

import (
	"crypto"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"
)

// Stream writes an archive front to back, where the size of every file is known
// before it is written.
type Stream struct {
	w    io.Writer
	hash crypto.Hash
	when time.Time
	n    int64
	open *StreamFile
}

// NewStream begins an archive. hash is what digests are made with, when the time
// that all files get.
func NewStream(w io.Writer, hash crypto.Hash, when time.Time) *Stream {
	return &Stream{w: w, hash: hash, when: when}
}

// Size is how long an archive of files of these sizes is, in bytes.
func Size(sizes ...int64) int64 {
	end := int64(0)
	for _, n := range sizes {
		end += block + padded(n)
	}
	return whole(end)
}

// StreamFile is the file that is being written.
type StreamFile struct {
	s      *Stream
	name   string
	size   int64
	n      int64
	digest hash.Hash
}

// Create begins a file of exactly so many bytes. No other can be begun before it
// is closed.
func (s *Stream) Create(name string, size int64) (*StreamFile, error) {
	if s.open != nil {
		return nil, fmt.Errorf("ova: %s is still being written", s.open.name)
	}
	b, err := header(name, size, s.when)
	if err == nil {
		err = s.write(b)
	}
	if err != nil {
		return nil, err
	}
	s.open = &StreamFile{s: s, name: name, size: size, digest: s.hash.New()}
	return s.open, nil
}

func (s *Stream) write(b []byte) error {
	n, err := s.w.Write(b)
	s.n += int64(n)
	return err
}

// ErrSize says that a file has not as many bytes as was said before.
var ErrSize = errors.New("it has another size than when it was begun")

// Write adds to the file.
func (f *StreamFile) Write(b []byte) (int, error) {
	if f.n+int64(len(b)) > f.size {
		return 0, fmt.Errorf("ova: %s: %w: more than %d bytes", f.name, ErrSize, f.size)
	}
	n, err := f.s.w.Write(b)
	f.digest.Write(b[:n])
	f.n += int64(n)
	f.s.n += int64(n)
	return n, err
}

// Close ends the file and gives its size and digest.
func (f *StreamFile) Close() (size int64, digest []byte, err error) {
	if f.s.open != f {
		return 0, nil, errors.New("ova: the file is closed")
	}
	f.s.open = nil
	if f.n != f.size {
		return 0, nil, fmt.Errorf("ova: %s: %w: %d bytes of %d", f.name, ErrSize, f.n, f.size)
	}
	return f.n, f.digest.Sum(nil), f.s.write(make([]byte, padded(f.size)-f.size))
}

// Finish ends the archive.
func (s *Stream) Finish() error {
	if s.open != nil {
		return fmt.Errorf("ova: %s is still being written", s.open.name)
	}
	return s.write(make([]byte, whole(s.n)-s.n))
}

var _ io.Writer = (*StreamFile)(nil)
