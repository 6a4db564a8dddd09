// Package spec is the file that a package is authored from: its shape, its
// YAML with places for messages, and its JSON schema.
//
// It says what an appliance is and does nothing with it: package descriptor
// writes it as an OVF descriptor and reads it back from one, package build
// makes a package of it.
package spec

import (
	"errors"
	"fmt"
	"strings"
)

// MaxSize is the largest specification that is read, in bytes.
const MaxSize = 16 << 20

// ErrInvalid says that a specification is not one. It comes as *Errors.
var ErrInvalid = errors.New("not a valid specification")

// Pos is a place in a specification, counted from 1; the zero Pos is none.
type Pos struct {
	Line, Column int
}

// Error is one thing that is wrong with a specification.
type Error struct {
	// File is the name that Parse was given.
	File string
	Pos  Pos
	Text string
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File + ":")
	}
	if e.Pos.Line > 0 {
		fmt.Fprintf(&b, "%d:%d:", e.Pos.Line, e.Pos.Column)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	return b.String() + e.Text
}

// Unwrap gives ErrInvalid.
func (e *Error) Unwrap() error { return ErrInvalid }

// Errors is everything that was found wrong, in the order of the file.
type Errors []*Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the errors.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, one := range e {
		all[i] = one
	}
	return all
}

// Size is a number of bytes: in YAML a number, or one with a unit such as 20GiB.
type Size int64

// Strings is a list of words: in YAML a list, or one text.
type Strings []string

// Content gives the outermost machine or collection, nil where there is none,
// and whether it is a collection.
func (a *Appliance) Content() (c *Content, collection bool) {
	if a.Collection != nil {
		return a.Collection, true
	}
	return a.Machine, false
}

// Machines gives all virtual machines, in their order.
func (a *Appliance) Machines() []*Content {
	var all []*Content
	a.Walk(func(c *Content, collection bool) {
		if !collection {
			all = append(all, c)
		}
	})
	return all
}

// Walk calls f for every machine and collection, the outer ones first.
func (a *Appliance) Walk(f func(c *Content, collection bool)) {
	var walk func(c *Content, collection bool)
	walk = func(c *Content, collection bool) {
		if c == nil {
			return
		}
		f(c, collection)
		for i := range c.Contents {
			walk(c.Contents[i].Machine, false)
			walk(c.Contents[i].Collection, true)
		}
	}
	walk(a.Content())
}
