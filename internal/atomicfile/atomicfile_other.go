//go:build !linux

package atomicfile

import (
	"errors"
	"os"
)

func createUnnamed(_, _ string) (*File, error) { return nil, errors.ErrUnsupported }

func linkUnnamed(*os.File, string) error { return errors.ErrUnsupported }

func startWriteback(*os.File, int64, int64) {}
