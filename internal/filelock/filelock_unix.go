//go:build unix

package filelock

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Lock waits for a lock.
func Lock(f *os.File, how How) error { return lock(f, how, 0) }

// Try takes a lock that is free, else it gives ErrHeld. What f had before is
// changed to it.
func Try(f *os.File, how How) error { return lock(f, how, unix.LOCK_NB) }

func lock(f *os.File, how How, flags int) error {
	op := unix.LOCK_EX
	if how == Shared {
		op = unix.LOCK_SH
	}
	for {
		err := unix.Flock(int(f.Fd()), op|flags)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EWOULDBLOCK):
			return ErrHeld
		default:
			return err
		}
	}
}
