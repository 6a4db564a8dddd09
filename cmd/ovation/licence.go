package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ovation-project/ovation/deploy/fit"
	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/internal/term"
	"github.com/ovation-project/ovation/ovf"
)

// acceptLicences has a person at a terminal read the licences of a package and
// accept them; where nobody can be asked it fails, and says how they are
// accepted.
func (a *app) acceptLicences(ctx context.Context, licences []plan.Licence) error {
	var needs []fit.Need
	said := map[*ovf.EULA]bool{}
	for _, l := range licences {
		if said[l.EULA] {
			continue
		}
		said[l.EULA] = true
		if a.interactive() {
			a.err.Printf("\n%s\n\n%s\n\n", term.CleanText(l.Title()), term.CleanText(strings.TrimSpace(l.Text)))
			yes, err := a.ask(ctx, "Do you accept this licence? [y/N] ")
			if err != nil {
				return err
			}
			if !yes {
				return fmt.Errorf("%s: the licence was not accepted", l.Title())
			}
			continue
		}
		needs = append(needs, fit.Need{Area: fit.Licence, Flag: "--accept-eula", Reason: hypervisor.Reason{Subject: l.Title(),
			Text: fmt.Sprintf("it has to be accepted (descriptor, line %d)", l.EULA.Pos().Line)}})
	}
	if len(needs) > 0 {
		return needError(needs)
	}
	return nil
}

// ask puts a question to a person at the terminal. Whatever is neither y nor yes
// is no.
func (a *app) ask(ctx context.Context, question string) (bool, error) {
	a.err.Printf("%s", question)
	answer := make(chan string, 1)
	failed := make(chan error, 1)
	go func() {
		// No more than the line: what follows is somebody else's.
		var line []byte
		b := make([]byte, 1)
		for {
			n, err := a.stdin.Read(b)
			if n > 0 && b[0] == '\n' || errors.Is(err, io.EOF) {
				answer <- string(line)
				return
			}
			if err != nil {
				failed <- err
				return
			}
			line = append(line, b[:n]...)
		}
	}()
	select {
	case line := <-answer:
		line = strings.ToLower(strings.TrimSpace(line))
		return line == "y" || line == "yes", nil
	case err := <-failed:
		return false, fmt.Errorf("reading the answer: %w", err)
	case <-ctx.Done():
		a.err.Printf("\n")
		return false, context.Cause(ctx)
	}
}
