// Package holes asks the file system where a file has holes.
package holes

import "github.com/ovation-project/ovation/disk"

// Run says what the length bytes of f from off on begin with: how many bytes
// of one kind, and whether these are a hole. All is data where f is not a
// disk.LocalFile, and where the system does not tell. It gives at least one
// byte, and no more than length. It moves the position of the file that a
// LocalFile gives.
func Run(f disk.File, off, length int64) (n int64, hole bool) {
	l, ok := f.(disk.LocalFile)
	if !ok {
		return length, false
	}
	file, base := l.Local()
	if file == nil {
		return length, false
	}
	return run(file, base+off, length)
}
