// Package freespace sees that a file system has the room before hours are spent
// on filling it.
package freespace

import (
	"errors"
	"fmt"
	"math"
)

// ErrTooLittle says that a file system has not the room.
var ErrTooLittle = errors.New("not enough space")

// Check refuses where the file system of a folder has not want bytes, with both
// figures. It says nothing where the system does not tell: the writes will.
func Check(dir string, want int64) error {
	free, err := Of(dir)
	if err != nil || free >= want {
		return nil
	}
	return fmt.Errorf("%w in %s: at least %s are needed, and %s are free", ErrTooLittle, dir, mib(want), mib(free))
}

// mib rounds up, so that what is too little never reads like enough.
func mib(n int64) string {
	if n < 10<<20 {
		return fmt.Sprintf("%d KiB", (n+1<<10-1)>>10)
	}
	return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20)
}

// Of is how many bytes this user may still write to a folder's file system.
func Of(dir string) (int64, error) {
	blocks, size, err := statfs(dir)
	if err != nil {
		return 0, err
	}
	if size > 0 && blocks > math.MaxInt64/size {
		return math.MaxInt64, nil
	}
	return int64(blocks * size), nil
}
