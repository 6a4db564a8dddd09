package freespace

import "golang.org/x/sys/unix"

// SharesBlocks says that a folder's file system can keep two files' same blocks
// once (Btrfs, XFS, …), so that a copy within it may take no room.
func SharesBlocks(dir string) bool {
	var s unix.Statfs_t
	if unix.Statfs(dir, &s) != nil {
		return false
	}
	const (
		bcachefs = 0xca451a4e
		zfs      = 0x2fc12fc1
	)
	switch uint32(s.Type) {
	case unix.BTRFS_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.OCFS2_SUPER_MAGIC, unix.NFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, bcachefs, zfs:
		return true
	}
	return false
}
