//go:build !linux

package testlibvirt

import (
	"os/exec"
	"testing"
)

func drop(t testing.TB, _ *exec.Cmd, _ string) {
	t.Helper()
	t.Skip("libvirt's daemon is for Linux")
}
