//go:build !unix

package stage

import "errors"

func freeSpace(string) (int64, error) { return 0, errors.ErrUnsupported }
