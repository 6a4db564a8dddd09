package main

import "runtime/debug"

// littleGarbage has less garbage gather while disks are on their way, until what it
// gives is called: a quarter of what is in use. That is a few large buffers,
// which are looked through in no time, so that the program stays well below
// 64 MiB for the same processor time. Specifications of large descriptors take
// it, too, which are compared with what they give again, piece by piece.
func littleGarbage() func() {
	before := debug.SetGCPercent(25)
	return func() { debug.SetGCPercent(before) }
}
