// Package holes asks the file system where a file has holes, and writes what they
// read as where there can be none.
package holes

import (
	"io"

	"github.com/ovation-project/ovation/disk"
)

var zeroes [128 << 10]byte

// Write writes n zero bytes, and says how many were.
func Write(w io.Writer, n int64) (written int64, err error) {
	for written < n {
		k, err := w.Write(zeroes[:min(n-written, int64(len(zeroes)))])
		written += int64(k)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// Run says what the length bytes of f from off on begin with: how many bytes
// of one kind, and whether these are a hole. All is data where f is not a
// disk.LocalFile, and where the system does not tell. It gives at least one
// byte, and no more than length. It moves the position of the file that a
// LocalFile gives.
func Run(f disk.File, off, length int64) (n int64, hole bool) {
	l, ok := f.(disk.LocalFile)
	if !ok {
		return length, false
	}
	file, base := l.Local()
	if file == nil {
		return length, false
	}
	return run(file, base+off, length)
}
