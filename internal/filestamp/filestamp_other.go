//go:build !linux

package filestamp

import (
	"fmt"
	"io/fs"
)

// Of is another one whenever a file holds other bytes, as far as its size
// and time tell.
func Of(fi fs.FileInfo) string {
	return fmt.Sprintf("%x-%x", fi.Size(), fi.ModTime().UnixNano())
}
