// Package history keeps on this machine's disk what was done with deployments,
// also of those that are gone: lines that are added at the end of one file, which
// does not grow without bounds.
package history

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ovation-project/ovation/internal/atomicfile"
	"github.com/ovation-project/ovation/internal/filelock"
	"github.com/ovation-project/ovation/internal/statedir"
)

// What is what was done.
type What string

// What there is.
const (
	// Deployed is all of it made; Failed a deployment, or a start, that did
	// not come to its end, with why.
	Deployed What = "deployed"
	Failed   What = "failed"
	// Undone is the taking back of what a program had left that was killed.
	Undone  What = "undone"
	Started What = "started"
	Stopped What = "stopped"
	Removed What = "removed"
)

// Act is one thing that was done with a deployment.
type Act struct {
	Time time.Time `json:"time"`
	What What      `json:"what"`
	// By is who did it, and from where: alice@workstation.
	By string `json:"by,omitempty"`
	// Machines are those that were meant, by their names on the host; none is
	// all.
	Machines []string `json:"machines,omitempty"`
	// Text says more, for people.
	Text string `json:"text,omitempty"`
}

// Line is an act with the deployment that it was done with.
type Line struct {
	// Deployment is the ID, Name what people call it, Target the host's URI.
	Deployment string `json:"deployment"`
	Name       string `json:"name"`
	Target     string `json:"target"`
	Act
}

// mostBytes is how long the file grows; then the older half of it goes.
const mostBytes = 4 << 20

// Log is the file.
type Log struct{ Path string }

// Default is the user's own: ovation/history in $XDG_STATE_HOME, or in
// ~/.local/state.
func Default() (Log, error) {
	path, err := statedir.Path("history")
	return Log{Path: path}, err
}

// Add writes a line.
func (l Log) Add(line Line) (err error) {
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	f, err := l.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if size > mostBytes {
		return l.halve(f, size, text)
	}
	// A line that was torn by the end of a program must not spoil this one.
	if last := make([]byte, 1); size > 0 {
		if _, err := f.ReadAt(last, size-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			text = append([]byte{'\n'}, text...)
		}
	}
	_, err = f.Write(append(text, '\n'))
	return err
}

// open opens the file to add to it, and locks it.
func (l Log) open() (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(l.Path), 0o700); err != nil {
		return nil, err
	}
	for {
		f, err := os.OpenFile(l.Path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return nil, err
		}
		if err := filelock.Lock(f, filelock.Exclusive); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", l.Path, err), f.Close())
		}
		mine, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if now, err := os.Stat(l.Path); err == nil && os.SameFile(mine, now) {
			return f, nil
		}
		// Another has put a shorter one in its place meanwhile.
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
}

// halve puts a file in place that has the newer half, and one line more.
func (l Log) halve(f *os.File, size int64, line []byte) error {
	rest := make([]byte, size-size/2)
	if _, err := f.ReadAt(rest, size/2); err != nil {
		return err
	}
	if _, after, ok := bytes.Cut(rest, []byte("\n")); ok {
		rest = after
	}
	if len(rest) > 0 && rest[len(rest)-1] != '\n' {
		rest = append(rest, '\n')
	}
	ctx := context.Background()
	set := atomicfile.New(ctx, filepath.Dir(l.Path), atomicfile.Options{Replace: true})
	defer set.Abort()
	shorter, err := set.CreateFile(filepath.Base(l.Path))
	if err != nil {
		return err
	}
	if err := shorter.Chmod(0o600); err != nil {
		return err
	}
	if _, err := shorter.Write(slices.Concat(rest, line, []byte{'\n'})); err != nil {
		return err
	}
	return set.Commit(ctx)
}

// List gives the lines, the oldest first. What is no line is left out.
func (l Log) List() ([]Line, error) {
	f, err := os.Open(l.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := filelock.Lock(f, filelock.Shared); err != nil {
		return nil, fmt.Errorf("%s: %w", l.Path, err)
	}
	text, err := io.ReadAll(io.LimitReader(f, 2*mostBytes))
	if err != nil {
		return nil, err
	}
	var all []Line
	for part := range bytes.Lines(text) {
		var line Line
		if json.Unmarshal(part, &line) == nil && line.Deployment != "" && line.What != "" {
			all = append(all, line)
		}
	}
	return all, nil
}
