// Package term is how the program talks to a terminal, or to a file or pipe
// where there is none: colours, tables that fit, sizes people can read, text
// from strangers made harmless, and progress of long work.
package term

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"
	xterm "golang.org/x/term"
)

// Style is a way to set off text.
type Style string

// The styles, as ANSI sequences. They carry meaning only beside words that say
// the same, since not every reader sees colours.
const (
	Plain  Style = ""
	Bold   Style = "\x1b[1m"
	Dim    Style = "\x1b[2m"
	Red    Style = "\x1b[31m"
	Green  Style = "\x1b[32m"
	Yellow Style = "\x1b[33m"
)

// Printer writes to one stream. Its zero value is not of use: see New.
type Printer struct {
	w      io.Writer
	width  int
	colour bool
	tty    bool

	mu  sync.Mutex
	err error // the first one
}

// New makes a Printer for w. Where w is a terminal the output is fitted to its
// width and coloured, unless the environment sets NO_COLOR or TERM=dumb;
// elsewhere lines are as long as they are.
func New(w io.Writer) *Printer {
	p := &Printer{w: w}
	f, ok := w.(*os.File)
	if !ok || !xterm.IsTerminal(int(f.Fd())) {
		return p
	}
	p.tty = true
	p.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	p.width = 80
	if w, _, err := xterm.GetSize(int(f.Fd())); err == nil && w > 0 {
		p.width = w
	}
	return p
}

// IsTerminal says whether a person may be watching.
func (p *Printer) IsTerminal() bool { return p.tty }

// Width is the terminal's width in columns, 0 where lines are not bounded.
func (p *Printer) Width() int { return p.width }

// Write passes bytes on as they are.
func (p *Printer) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	if err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.err == nil {
			p.err = err
		}
	}
	return n, err
}

// Err is the first error that writing gave: what a program printed is of no use
// where it did not arrive.
func (p *Printer) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Printf writes a formatted line or part of one.
func (p *Printer) Printf(format string, args ...any) {
	fmt.Fprintf(p, format, args...)
}

// Styled gives s in a style, or as it is where there are no colours.
func (p *Printer) Styled(style Style, s string) string {
	if !p.colour || style == Plain || s == "" {
		return s
	}
	return string(style) + s + "\x1b[0m"
}

// Heading writes a line that begins a part of the output.
func (p *Printer) Heading(s string) {
	fmt.Fprintln(p, p.Styled(Bold, Clean(s)))
}

// Clean makes text that came from a package safe to print on one line: what
// would move the cursor, change colours or reorder the line is shown as an
// escape instead, and so is what is no UTF-8: a terminal of another encoding may
// act on it. Line breaks become spaces.
func Clean(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, unsafeRune) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, "\\x%02x", s[i])
		case r == '\n' || r == '\r' || r == '\t':
			b.WriteByte(' ')
		case unsafeRune(r):
			fmt.Fprintf(&b, "\\u%04x", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// CleanText is Clean for text of several lines: line breaks and tabs stay.
func CleanText(s string) string {
	lines := strings.Split(strings.ReplaceAll(s, "\r\n", "\n"), "\n")
	for i, l := range lines {
		lines[i] = Clean(strings.ReplaceAll(l, "\t", "    "))
	}
	return strings.Join(lines, "\n")
}

// unsafeRune knows control characters, the separators of lines and paragraphs,
// what changes the direction of writing, and invisible marks and tags.
func unsafeRune(r rune) bool {
	return r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x61c ||
		r >= 0x200e && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x206f ||
		r >= 0xfff9 && r <= 0xfffb || r >= 0xe0000 && r <= 0xe007f
}

// CleanJSON is for the text of JSON, of which it changes the spelling and not the
// meaning: what a terminal would act on is escaped.
func CleanJSON(text []byte) []byte {
	// Outside of strings JSON has no such character but breaks of lines.
	unsafe := func(r rune) bool { return r >= 0x7f && unsafeRune(r) }
	if !bytes.ContainsFunc(text, unsafe) {
		return text
	}
	out := make([]byte, 0, len(text)+64)
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case !unsafe(r):
			out = append(out, text[:n]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		text = text[n:]
	}
	return out
}

// Wrap breaks text into lines of at most width columns at spaces; words longer
// than that stay whole. Width 0 does not break.
func Wrap(s string, width int) []string {
	if width <= 0 {
		return []string{s}
	}
	var lines []string
	line, n := "", 0
	for _, w := range strings.Fields(s) {
		ww := runewidth.StringWidth(w)
		if n > 0 && n+1+ww > width {
			lines = append(lines, line)
			line, n = "", 0
		}
		if n > 0 {
			line += " "
			n++
		}
		line += w
		n += ww
	}
	return append(lines, line)
}
