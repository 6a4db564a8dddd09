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

// cloneUnit is what places in files have to be multiples of for their blocks to
// be shared, on most file systems; those with larger blocks refuse, and nothing
// is lost.
const cloneUnit = 4 << 10

// clone has the file system share blocks (Btrfs, XFS, and others that can) and
// says for how many bytes from the start of the range it did. It is tried
// again unless the two files' places make it impossible.
func (f *File) clone(off int64, from *os.File, srcOff, length int64) int64 {
	length &^= cloneUnit - 1
	if f.noClone.Load() || length == 0 || off%cloneUnit != 0 || srcOff%cloneUnit != 0 {
		return 0
	}
	err := unix.IoctlFileCloneRange(int(f.Fd()), &unix.FileCloneRange{
		Src_fd: int64(from.Fd()), Src_offset: uint64(srcOff), Src_length: uint64(length), Dest_offset: uint64(off),
	})
	switch err {
	case nil:
		return length
	case unix.EOPNOTSUPP, unix.EXDEV, unix.ENOTTY, unix.ENOSYS:
		f.noClone.Store(true)
	}
	// What else may be wrong, copying tells.
	return 0
}

// WriteRange shares the blocks of the two files where the file system can, and
// else copies inside the kernel, as disk.RangeWriter says.
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
	if err := context.Cause(f.ctx); err != nil {
		return err
	}
	n := f.clone(off, from, srcOff, length)
	off, srcOff, length = off+n, srcOff+n, length-n
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
