//go:build !linux && unix

package qemu

import "syscall"

// childAttr makes QEMU a process group of its own, so that the terminal's
// Ctrl-C does not reach it.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
