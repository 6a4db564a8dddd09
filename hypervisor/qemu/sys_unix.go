//go:build unix

package qemu

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// filePair gives two ends of a connection that has no name: nobody else can
// find it, and it needs no file.
func filePair(name string) (mine, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("a socket for QEMU's %s: %w", name, err)
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	return os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name), nil
}

// socketPair is filePair with one end for this program.
func socketPair(name string) (ours net.Conn, theirs *os.File, err error) {
	mine, theirs, err := filePair(name)
	if err != nil {
		return nil, nil, err
	}
	defer mine.Close()
	if ours, err = net.FileConn(mine); err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("a socket for QEMU's %s: %w", name, err)
	}
	return ours, theirs, nil
}
