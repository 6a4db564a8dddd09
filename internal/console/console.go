// Package console is how a guest's serial port is shown: to a person at a
// terminal, key by key, or as plain lines to whatever reads the output.
package console

import (
	"bytes"
	"io"
	"sync"
)

// Plain makes a guest's output harmless for a terminal and plain for a
// program: escape sequences, carriage returns and other control characters are
// left out; line feeds and tabs stay. Text of any encoding passes.
type Plain struct {
	w     io.Writer
	state state
	seen  int  // of the sequence
	c2    bool // the byte before may begin a control character in UTF-8
	out   []byte
}

type state uint8

const (
	text      state = iota
	escape          // after ESC
	sequence        // in ESC [ …, which ends with a letter
	str             // in ESC ] … and the like, which end with BEL or ESC \
	strEscape       // after ESC in such
)

// A sequence that is longer than this is none: what follows is shown again.
const maxSequence = 4096

// NewPlain makes a Plain that writes to w.
func NewPlain(w io.Writer) *Plain { return &Plain{w: w} }

// Write writes what of b is plain.
func (p *Plain) Write(b []byte) (int, error) {
	p.out = p.out[:0]
	for _, c := range b {
		p.put(c)
	}
	if len(p.out) > 0 {
		if _, err := p.w.Write(p.out); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// Flush writes what was held back, when no more will come.
func (p *Plain) Flush() error {
	if !p.c2 {
		return nil
	}
	p.c2 = false
	_, err := p.w.Write([]byte{0xc2})
	return err
}

func (p *Plain) put(c byte) {
	if p.state != text {
		if p.seen++; p.seen > maxSequence || c == '\n' || c == 0x18 || c == 0x1a {
			p.state = text // it breaks off
		}
	}
	switch p.state {
	case text:
		p.putText(c)
	case escape:
		switch {
		case c == '[':
			p.state = sequence
		case c == ']' || c == 'P' || c == '_' || c == '^' || c == 'X':
			p.state = str
		case c == 0x1b || c >= 0x20 && c <= 0x2f:
			// another beginning, or more to come before its end
		default:
			p.state = text
		}
	case sequence:
		if c >= 0x40 && c <= 0x7e {
			p.state = text
		} else if c == 0x1b {
			p.state = escape
		}
	case str:
		if c == 0x07 {
			p.state = text
		} else if c == 0x1b {
			p.state = strEscape
		}
	case strEscape:
		p.state = str
		if c == '\\' {
			p.state = text
		}
	}
}

func (p *Plain) putText(c byte) {
	if p.c2 {
		p.c2 = false
		if c >= 0x80 && c <= 0x9f {
			return // a control character of the second half
		}
		p.out = append(p.out, 0xc2)
	}
	switch {
	case c == 0x1b:
		p.state, p.seen = escape, 0
	case c == '\n' || c == '\t' || c >= 0x20 && c != 0x7f && c != 0xc2:
		p.out = append(p.out, c)
	case c == 0xc2:
		p.c2 = true
	}
}

// Prefixed writes whole lines, each with a prefix, so that several can share
// one output. Writers that share an output share a Mutex.
type Prefixed struct {
	W      io.Writer
	Prefix string
	Mu     *sync.Mutex
	line   []byte
}

// maxLine is when a line is written though it has not ended.
const maxLine = 16 << 10

// Write writes the lines that b completes.
func (p *Prefixed) Write(b []byte) (int, error) {
	p.line = append(p.line, b...)
	for {
		i := bytes.IndexByte(p.line, '\n')
		if i < 0 && len(p.line) < maxLine {
			return len(b), nil
		}
		if i < 0 {
			i = len(p.line) - 1
		}
		if err := p.emit(p.line[:i+1]); err != nil {
			return 0, err
		}
		p.line = p.line[i+1:]
	}
}

// Flush writes a last line that has no end.
func (p *Prefixed) Flush() error {
	if len(p.line) == 0 {
		return nil
	}
	line := p.line
	p.line = nil
	return p.emit(line)
}

func (p *Prefixed) emit(line []byte) error {
	out := append([]byte(p.Prefix), bytes.TrimSuffix(line, []byte("\n"))...)
	p.Mu.Lock()
	defer p.Mu.Unlock()
	_, err := p.W.Write(append(out, '\n'))
	return err
}

// Escape is the key that leaves a console, Ctrl-], as in telnet and virsh.
const Escape = 0x1d

// Keys passes what is typed to a guest, until the input ends or a write fails.
// The escape key is not passed on: pressed is called for it, each time.
func Keys(guest io.Writer, keyboard io.Reader, pressed func()) {
	b := make([]byte, 256)
	for {
		n, err := keyboard.Read(b)
		keys := b[:n]
		for {
			i := bytes.IndexByte(keys, Escape)
			if i < 0 {
				break
			}
			if _, err := guest.Write(keys[:i]); err != nil && i > 0 {
				return
			}
			pressed()
			keys = keys[i+1:]
		}
		if len(keys) > 0 {
			if _, err := guest.Write(keys); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
