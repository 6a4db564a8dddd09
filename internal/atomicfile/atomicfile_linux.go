package atomicfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/ovation-project/ovation/disk"
)

// createUnnamed opens a file that has no name (O_TMPFILE), or answers
// errors.ErrUnsupported where the file system has no such thing or it could
// get no name later.
func createUnnamed(dir, path string) (*File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o666)
	switch err {
	case nil:
	case unix.EOPNOTSUPP, unix.EISDIR, unix.EINVAL:
		return nil, errors.ErrUnsupported
	default:
		return nil, &os.PathError{Op: "create", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	if _, err := os.Stat(procName(f)); err != nil {
		f.Close()
		return nil, errors.ErrUnsupported
	}
	return &File{File: f, path: path}, nil
}

func procName(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

func linkUnnamed(f *os.File, path string) error {
	err := unix.Linkat(unix.AT_FDCWD, procName(f), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return &os.PathError{Op: "create", Path: path, Err: err}
	}
	return nil
}

// startWriteback does not wait, and that it fails does not matter.
func startWriteback(f *os.File, off, length int64) {
	conn, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) {
		_ = unix.SyncFileRange(int(fd), off, length, unix.SYNC_FILE_RANGE_WRITE)
	})
}

// copyStep bounds what one system call copies, so that a cancelled context is
// seen in time.
const copyStep = 16 << 20

// WriteRange copies inside the kernel, which shares the blocks where the file
// system can, as disk.RangeWriter says.
func (f *File) WriteRange(off int64, src disk.File, srcOff, length int64) error {
	local, ok := src.(disk.LocalFile)
	if !ok {
		return disk.ErrUnsupported
	}
	from, base := local.Local()
	if from == nil {
		return disk.ErrUnsupported
	}
	srcOff += base
	for length > 0 {
		if err := context.Cause(f.ctx); err != nil {
			return err
		}
		n, err := unix.CopyFileRange(int(from.Fd()), &srcOff, int(f.Fd()), &off, int(min(length, copyStep)), 0)
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
			continue
		case err == unix.EXDEV, err == unix.EINVAL, err == unix.ENOSYS, err == unix.EOPNOTSUPP, err == unix.EPERM, err == unix.EBADF:
			return fmt.Errorf("copy within the system: %w: %w", err, disk.ErrUnsupported)
		case err != nil:
			return &os.PathError{Op: "copy_file_range", Path: f.path, Err: err}
		case n == 0:
			return fmt.Errorf("%s ends at byte %d: %w", from.Name(), srcOff, io.ErrUnexpectedEOF)
		}
		length -= int64(n)
	}
	return nil
}
