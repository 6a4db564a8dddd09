//go:build unix

package qemu

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// socketPair gives two ends of a connection that has no name: nobody else can
// find it, and it needs no file.
func socketPair(name string) (ours net.Conn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("a socket for QEMU's %s: %w", name, err)
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	mine := os.NewFile(uintptr(fds[0]), name)
	defer mine.Close()
	theirs = os.NewFile(uintptr(fds[1]), name)
	if ours, err = net.FileConn(mine); err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("a socket for QEMU's %s: %w", name, err)
	}
	return ours, theirs, nil
}
