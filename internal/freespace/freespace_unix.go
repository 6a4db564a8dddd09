//go:build unix

package freespace

import "golang.org/x/sys/unix"

func statfs(dir string) (blocks, size uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, err
	}
	return uint64(max(s.Bavail, 0)), uint64(s.Bsize), nil
}
