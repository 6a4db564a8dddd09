//go:build !unix

package qemu

import (
	"errors"
	"net"
	"os"
	"syscall"
)

func childAttr() *syscall.SysProcAttr { return nil }

func socketPair(string) (net.Conn, *os.File, error) {
	return nil, nil, errors.New("running QEMU needs a Unix system")
}
