// Package filelock locks files among processes. A lock ends with the file being
// closed, and so with the process at the latest.
package filelock

import "errors"

// ErrHeld says that another has the lock.
var ErrHeld = errors.New("the lock is held by another")

// How is how a lock is taken.
type How uint8

// The ways.
const (
	// Exclusive is for one alone.
	Exclusive How = iota
	// Shared is for any number, and nobody Exclusive.
	Shared
)
