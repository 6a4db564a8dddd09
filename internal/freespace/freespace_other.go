//go:build !unix

package freespace

import "errors"

func statfs(string) (blocks, size uint64, err error) { return 0, 0, errors.ErrUnsupported }
