//go:build unix

package libvirt

import (
	"io/fs"
	"os"
	"syscall"
)

// sameOwner gives a file the owner and the mode that another had in its place.
func sameOwner(path string, was fs.FileInfo) error {
	now, err := os.Stat(path)
	if err != nil {
		return err
	}
	if now.Mode().Perm() != was.Mode().Perm() {
		if err := os.Chmod(path, was.Mode().Perm()); err != nil {
			return err
		}
	}
	old, ok1 := was.Sys().(*syscall.Stat_t)
	got, ok2 := now.Sys().(*syscall.Stat_t)
	if ok1 && ok2 && (old.Uid != got.Uid || old.Gid != got.Gid) {
		return os.Chown(path, int(old.Uid), int(old.Gid))
	}
	return nil
}
