//go:build !linux

package serve

import (
	"fmt"
	"io/fs"
)

// identity is another one whenever a file holds other bytes, as far as its size
// and time tell.
func identity(fi fs.FileInfo) string {
	return fmt.Sprintf("%x-%x", fi.Size(), fi.ModTime().UnixNano())
}
