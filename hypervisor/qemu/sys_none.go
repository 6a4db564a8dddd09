//go:build !unix

package qemu

import (
	"errors"
	"net"
	"os"
	"syscall"
)

func childAttr() *syscall.SysProcAttr { return nil }

var errNoUnix = errors.New("running QEMU needs a Unix system")

func filePair(string) (*os.File, *os.File, error) { return nil, nil, errNoUnix }

func socketPair(string) (net.Conn, *os.File, error) { return nil, nil, errNoUnix }
