package main

import (
	"context"
	"fmt"

	"github.com/ovation-project/ovation/disk"
)

// openPackageDisk opens a disk of a package, by its ID or its file's name.
func (a *app) openPackageDisk(_ context.Context, locator, id, _ string) (*openDisk, error) {
	return nil, fmt.Errorf("%s#%s: %w", locator, id, disk.ErrUnsupported)
}
