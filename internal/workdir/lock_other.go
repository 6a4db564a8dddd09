//go:build !unix

package workdir

import (
	"errors"
	"io/fs"
	"os"
)

// lock has no counterpart here: a folder that is asked for without waiting
// counts as held, so that nothing is ever removed that may be in use.
func lock(_ *os.File, wait bool) error {
	if wait {
		return nil
	}
	return errors.ErrUnsupported
}

func owned(fs.FileInfo) bool { return true }
