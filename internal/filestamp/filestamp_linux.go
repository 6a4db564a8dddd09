package filestamp

import (
	"fmt"
	"io/fs"
	"syscall"
)

// Of is another one whenever a file is another one, or holds other bytes:
// the time of the last change of its inode cannot be set back.
func Of(fi fs.FileInfo) string {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprintf("%x-%x-%x-%x", st.Ino, fi.Size(), fi.ModTime().UnixNano(), st.Ctim.Nano())
	}
	return fmt.Sprintf("%x-%x", fi.Size(), fi.ModTime().UnixNano())
}
