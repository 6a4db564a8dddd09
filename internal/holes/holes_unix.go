//go:build linux || darwin || freebsd

package holes

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func run(f *os.File, at, length int64) (int64, bool) {
	data, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO): // no data from here on
		// Nor is there behind the end of a file that was cut meanwhile,
		// and that is no hole.
		st, err := f.Stat()
		return length, err == nil && at+length <= st.Size()
	case err != nil:
		return length, false
	case data > at:
		return min(length, data-at), true
	}
	if hole, err := unix.Seek(int(f.Fd()), at, unix.SEEK_HOLE); err == nil && hole > at {
		length = min(length, hole-at)
	}
	return length, false
}
