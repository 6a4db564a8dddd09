// Package filestamp tells by what the system knows of a file whether it was
// changed: as finely as the system takes times, which is a few milliseconds on
// most.
package filestamp
