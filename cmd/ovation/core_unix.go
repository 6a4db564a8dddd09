//go:build unix

package main

import "syscall"

// noCore keeps what is in memory, passwords and keys among it, out of core
// dumps: of this program, and of those that it starts.
func noCore() {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &limit); err != nil {
		return // nothing that could be done about it
	}
	limit.Cur = 0
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &limit)
}
