package qemu

import "syscall"

// childAttr makes QEMU a process group of its own, so that the terminal's
// Ctrl-C does not reach it, and ends it with the thread that started it.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
