//go:build unix

package libvirt

import (
	"os/exec"
	"syscall"
)

// ownSession keeps the terminal's Ctrl-C from a daemon that outlives us.
func ownSession(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}
