// Package prompt asks a person at a terminal: for a line, a password, one of
// several, yes or no; and shows long texts page by page. What it shows may come
// from strangers: it is cleaned first.
package prompt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	xterm "golang.org/x/term"

	"github.com/ovation-project/ovation/internal/term"
)

// ErrEnd says that the input ended where an answer was expected.
var ErrEnd = errors.New("the input ended before all was answered")

// maxAnswer bounds a line.
const maxAnswer = 64 << 10

// Asker asks. Its methods are called one at a time.
type Asker struct {
	in    *os.File
	out   *term.Printer
	close func() error
}

// New makes an Asker that reads from in and writes to out, where both are
// terminals; where out is none, it writes to the terminal that controls the
// process. It gives nil where there is nobody to ask. The caller closes it.
func New(in any, out *term.Printer) *Asker {
	keyboard, ok := in.(*os.File)
	if !ok || !term.New(keyboard).IsTerminal() {
		return nil
	}
	if out.IsTerminal() {
		return &Asker{in: keyboard, out: out, close: func() error { return nil }}
	}
	tty, err := os.OpenFile("/dev/tty", os.O_WRONLY, 0)
	if err != nil {
		return nil
	}
	return &Asker{in: keyboard, out: term.New(tty), close: tty.Close}
}

// Close ends it.
func (a *Asker) Close() error { return a.close() }

// Say shows a text.
func (a *Asker) Say(format string, args ...any) {
	a.out.Printf("%s\n", term.CleanText(fmt.Sprintf(format, args...)))
}

// Heading shows a text that others are under.
func (a *Asker) Heading(s string) { a.out.Heading(term.Clean(s)) }

// answer is a line, or why there is none.
type answer struct {
	text string
	err  error
}

// line reads a line. Its end is the end of the reading: no byte behind it is
// taken. Where ctx ends first the reading goes on, and nobody hears of it.
func (a *Asker) line(ctx context.Context) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	done := make(chan answer, 1)
	go func() {
		var text []byte
		b := make([]byte, 1)
		for {
			n, err := a.in.Read(b)
			switch {
			case n == 1 && b[0] == '\n':
				done <- answer{strings.TrimSuffix(string(text), "\r"), nil}
				return
			case n == 1 && len(text) < maxAnswer:
				text = append(text, b[0])
			case errors.Is(err, io.EOF):
				done <- answer{"", ErrEnd}
				return
			case err != nil:
				done <- answer{"", err}
				return
			}
		}
	}()
	select {
	case <-ctx.Done():
		a.out.Printf("\n")
		return "", ctx.Err()
	case got := <-done:
		return got.text, got.err
	}
}

// Ask asks for a line until check takes it; what is wrong with it is shown. A
// bare Enter is preset, where that is not "".
func (a *Asker) Ask(ctx context.Context, question, preset string, check func(string) error) (string, error) {
	for {
		shown := ""
		if preset != "" {
			shown = " [" + preset + "]"
		}
		a.out.Printf("%s%s: ", term.Clean(question), term.Clean(shown))
		text, err := a.line(ctx)
		if err != nil {
			return "", err
		}
		if text == "" {
			text = preset
		}
		if err := check(text); err != nil {
			a.Say("  %v", err)
			continue
		}
		return text, nil
	}
}

// Secret asks for what is not to be seen, twice, until check takes it. A bare
// Enter is asked once.
func (a *Asker) Secret(ctx context.Context, question string, check func(string) error) (string, error) {
	for {
		first, err := a.hidden(ctx, question)
		if err != nil {
			return "", err
		}
		if err := check(first); err != nil {
			a.Say("  %v", err)
			continue
		}
		if first == "" {
			return "", nil
		}
		second, err := a.hidden(ctx, question+", once more")
		if err != nil {
			return "", err
		}
		if first == second {
			return first, nil
		}
		a.Say("  the two are not the same")
	}
}

// hidden reads a line that the terminal does not show.
func (a *Asker) hidden(ctx context.Context, question string) (string, error) {
	fd := int(a.in.Fd())
	was, err := xterm.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("the terminal: %w", err)
	}
	// The question comes when nothing is shown any more, so that no key is.
	show, err := hide(fd)
	if err != nil {
		return "", fmt.Errorf("the terminal: %w", err)
	}
	a.out.Printf("%s: ", term.Clean(question))
	text, err := a.line(ctx)
	show()
	_ = xterm.Restore(fd, was)
	if err == nil {
		a.out.Printf("\n")
	}
	return text, err
}

// Choose asks for one of several, by its number or its text. A bare Enter is
// preset, an index; -1 is none.
func (a *Asker) Choose(ctx context.Context, question string, of []string, preset int) (int, error) {
	for i, s := range of {
		a.out.Printf("  %2d  %s\n", i+1, term.Clean(s))
	}
	chosen, shown := -1, ""
	if preset >= 0 {
		shown = strconv.Itoa(preset + 1)
	}
	_, err := a.Ask(ctx, question, shown, func(text string) error {
		for i, s := range of {
			if s == text {
				chosen = i
				return nil
			}
		}
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 1 || n > len(of) {
			return fmt.Errorf("a number from 1 to %d", len(of))
		}
		chosen = n - 1
		return nil
	})
	return chosen, err
}

// Confirm asks for yes or no; a bare Enter is no.
func (a *Asker) Confirm(ctx context.Context, question string) (bool, error) {
	yes := false
	_, err := a.Ask(ctx, question+" [y/N]", "", func(text string) error {
		switch strings.ToLower(strings.TrimSpace(text)) {
		case "y", "yes":
			yes = true
		case "", "n", "no":
		default:
			return errors.New("y or n")
		}
		return nil
	})
	return yes, err
}

// minPage is the fewest lines of a page.
const minPage = 5

// Page shows a long text, a screen at a time: Enter is the next, q the end of
// it.
func (a *Asker) Page(ctx context.Context, text string) error {
	width, height := a.out.Width(), 24
	if _, h, err := xterm.GetSize(int(a.in.Fd())); err == nil && h > 0 {
		height = h
	}
	var lines []string
	s := bufio.NewScanner(strings.NewReader(term.CleanText(text)))
	s.Buffer(nil, len(text)+1)
	for s.Scan() {
		wrapped := term.Wrap(s.Text(), max(20, width))
		if len(wrapped) == 0 {
			wrapped = []string{""}
		}
		lines = append(lines, wrapped...)
	}
	page := max(minPage, height-2)
	for at := 0; at < len(lines); at += page {
		end := min(len(lines), at+page)
		for _, l := range lines[at:end] {
			a.out.Printf("%s\n", l)
		}
		if end == len(lines) {
			return nil
		}
		a.out.Printf("-- %d of %d lines; Enter shows more, q ends it -- ", end, len(lines))
		key, err := a.line(ctx)
		if err != nil {
			return err
		}
		if strings.EqualFold(strings.TrimSpace(key), "q") {
			return nil
		}
	}
	return nil
}
